//! Probabilities that bring each operation to a number of traces a second, computed from the roots that arrive, as
//! Jaeger's adaptive sampling does.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use spanwise_wire::sampling::{Operations, Sampler, Strategy};

use super::Source;
use crate::arrivals::Seen;
use crate::config::units::GoDuration;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdaptiveConfig {
    /// Traces a second that each operation shall send.
    pub target_samples_per_second: f64,
    /// Of operations that were not seen yet.
    pub initial_sampling_probability: f64,
    /// No operation falls below it.
    pub min_sampling_probability: f64,
    /// Traces a second that a client sends of every operation, however small its probability.
    pub min_samples_per_second: f64,
    /// How often probabilities are computed anew.
    pub calculation_interval: GoDuration,
    /// Deviation from the target that changes nothing, as a share of it.
    pub delta_tolerance: f64,
}

impl Default for AdaptiveConfig {
    fn default() -> Self {
        Self {
            target_samples_per_second: 1.0,
            initial_sampling_probability: 0.001,
            min_sampling_probability: 1e-5,
            min_samples_per_second: 1.0 / 60.0,
            calculation_interval: GoDuration::seconds(60),
            delta_tolerance: 0.3,
        }
    }
}

impl AdaptiveConfig {
    pub fn check(&self) -> Result<(), String> {
        let probability = |value: f64| value > 0.0 && value <= 1.0;
        if self.target_samples_per_second.is_nan() || self.target_samples_per_second <= 0.0 {
            return Err("source.adaptive: target_samples_per_second must be positive".to_owned());
        }
        if !probability(self.initial_sampling_probability) || !probability(self.min_sampling_probability) {
            return Err("source.adaptive: probabilities must be above 0 and at most 1".to_owned());
        }
        if self.calculation_interval.0.is_zero() {
            return Err("source.adaptive: calculation_interval must be positive".to_owned());
        }
        Ok(())
    }
}

/// Growth in one step: a quiet minute is no reason to send everything in the next.
const GROWTH: f64 = 1.5;
/// Steps without a trace after which an operation is forgotten.
const FORGET_AFTER: u32 = 60;

struct Operation {
    probability: f64,
    idle: u32,
}

pub(super) struct Adaptive {
    config: AdaptiveConfig,
    services: RwLock<BTreeMap<String, BTreeMap<String, Operation>>>,
}

impl Adaptive {
    pub fn new(config: AdaptiveConfig) -> Self {
        Self { config, services: RwLock::default() }
    }

    pub fn interval(&self) -> Duration {
        self.config.calculation_interval.0
    }

    /// Takes the roots of the last interval into account.
    pub fn adjust(&self, seen: BTreeMap<(String, String), Seen>, interval: Duration) {
        let mut services = self.services.write();
        let seconds = interval.as_secs_f64().max(1e-3);
        for (service, operations) in services.iter_mut() {
            for (name, operation) in operations.iter_mut() {
                let seen = seen.get(&(service.clone(), name.clone()));
                operation.idle = if seen.is_some() { 0 } else { operation.idle + 1 };
                operation.probability = self.next(operation.probability, seen, seconds);
            }
            operations.retain(|_, operation| operation.idle < FORGET_AFTER);
        }
        services.retain(|_, operations| !operations.is_empty());
        for ((service, name), seen) in &seen {
            let operations = services.entry(service.clone()).or_default();
            operations.entry(name.clone()).or_insert_with(|| Operation {
                probability: self.next(self.config.initial_sampling_probability, Some(seen), seconds),
                idle: 0,
            });
        }
    }

    fn next(&self, probability: f64, seen: Option<&Seen>, seconds: f64) -> f64 {
        let config = &self.config;
        let target = config.target_samples_per_second;
        let wanted = match seen {
            None => probability * GROWTH,
            // Every root said how it was sampled: the true rate is known, and one step is enough.
            Some(seen) if seen.unweighted == 0 => target * seconds / seen.true_count.max(1e-9),
            Some(seen) => {
                let rate = seen.sampled as f64 / seconds;
                match (rate - target).abs() <= target * config.delta_tolerance {
                    true => probability,
                    false => (probability * target / rate).min(probability * GROWTH),
                }
            }
        };
        wanted.clamp(config.min_sampling_probability, 1.0)
    }
}

impl Source for Adaptive {
    fn strategy(&self, service: &str) -> Strategy {
        let services = self.services.read();
        let each = services.get(service).map_or_else(Vec::new, |operations| {
            operations.iter().map(|(name, operation)| (name.clone(), operation.probability)).collect()
        });
        let default_probability = self.config.initial_sampling_probability;
        let operations = Operations {
            default_probability,
            lower_bound_per_second: self.config.min_samples_per_second,
            upper_bound_per_second: 0.0,
            each,
        };
        Strategy { sampler: Sampler::Probabilistic(default_probability), operations: Some(operations) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(sampled: u64, unweighted: u64, true_count: f64) -> BTreeMap<(String, String), Seen> {
        BTreeMap::from([(("shop".to_owned(), "GET /".to_owned()), Seen { sampled, unweighted, true_count })])
    }

    fn probability(adaptive: &Adaptive) -> Option<f64> {
        adaptive.strategy("shop").operations?.each.first().map(|(_, probability)| *probability)
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn clients_that_obey_are_brought_to_the_target() {
        let adaptive = Adaptive::new(AdaptiveConfig { initial_sampling_probability: 0.5, ..AdaptiveConfig::default() });
        assert_eq!(adaptive.strategy("shop").operations.unwrap().default_probability, 0.5);
        // 100 requests a second; clients sample with what they were told.
        let mut told = 0.5;
        for _ in 0..20 {
            let sampled = (100.0 * 60.0 * told) as u64;
            adaptive.adjust(seen(sampled, sampled, sampled as f64), MINUTE);
            told = probability(&adaptive).unwrap();
        }
        assert!((0.007..=0.013).contains(&told), "{told}");
        // A hundredth of the load: it grows by half a step at a time.
        adaptive.adjust(seen(1, 1, 1.0), MINUTE);
        assert_eq!(probability(&adaptive), Some(told * GROWTH));
    }

    #[test]
    fn a_known_true_rate_is_reached_in_one_step() {
        let adaptive = Adaptive::new(AdaptiveConfig::default());
        adaptive.adjust(seen(600, 0, 60_000.0), MINUTE);
        assert_eq!(probability(&adaptive), Some(0.001));
        adaptive.adjust(seen(60, 0, 60.0), MINUTE);
        assert_eq!(probability(&adaptive), Some(1.0));
    }

    #[test]
    fn what_is_idle_for_long_is_forgotten() {
        let adaptive = Adaptive::new(AdaptiveConfig::default());
        adaptive.adjust(seen(1, 1, 1.0), MINUTE);
        for _ in 0..FORGET_AFTER {
            assert!(probability(&adaptive).is_some());
            adaptive.adjust(BTreeMap::new(), MINUTE);
        }
        assert_eq!(probability(&adaptive), None);
    }
}
