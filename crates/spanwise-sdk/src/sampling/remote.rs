//! Sampling as a Jaeger-compatible server wants it: `OTEL_TRACES_SAMPLER=jaeger_remote`.
//!
//! <https://www.jaegertracing.io/docs/latest/architecture/sampling/#remote-sampling>

use std::collections::HashMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use serde_json::Value as Json;

use super::{Randomness, RateLimit, Threshold, Verdict};

/// Operations that are told apart; a server that names more is believed for the first ones.
const MAX_OPERATIONS: usize = 2000;
pub(crate) const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// Where to ask, how often, and what holds until there is an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct RemoteOptions {
    /// Such as `http://localhost:5778/sampling`; `/sampling` is added to an address without a path.
    pub endpoint: String,
    /// Time between two questions.
    pub interval: Duration,
    /// The share of traces to record before the first answer.
    pub initial_rate: f64,
}

impl Default for RemoteOptions {
    fn default() -> Self {
        let endpoint = "http://localhost:5778/sampling".into();
        Self { endpoint, interval: Duration::from_secs(60), initial_rate: 0.001 }
    }
}

impl RemoteOptions {
    /// Reads `OTEL_TRACES_SAMPLER_ARG`: `endpoint=http://…,pollingIntervalMs=5000,initialSamplingRate=0.25`.
    ///
    /// # Errors
    /// What is wrong with the first part that cannot be read.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut options = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').ok_or_else(|| format!("cannot read {part:?}: no '='"))?;
            match key.trim() {
                "endpoint" => options.endpoint = value.trim().into(),
                "pollingIntervalMs" => {
                    let interval = value.trim().parse().ok().filter(|ms| *ms > 0);
                    options.interval = Duration::from_millis(interval.ok_or_else(|| format!("cannot read {part:?}"))?);
                }
                "initialSamplingRate" => {
                    let rate = value.trim().parse().ok().filter(|rate| (0.0..=1.0).contains(rate));
                    options.initial_rate = rate.ok_or_else(|| format!("cannot read {part:?}: not between 0 and 1"))?;
                }
                other => {
                    return Err(format!(
                        "cannot use {other:?}: known are endpoint, pollingIntervalMs, initialSamplingRate"
                    ));
                }
            }
        }
        Ok(options)
    }
}

/// Follows the server's latest answer; while there is none, or the server is away, what held last holds on.
#[derive(Clone, Debug)]
pub struct RemoteSampler {
    options: RemoteOptions,
    strategy: Arc<RwLock<Strategy>>,
}

/// A server's answer.
#[derive(Clone, Debug)]
struct Strategy {
    default: Share,
    operations: HashMap<String, Share>,
}

/// A rate for one operation.
#[derive(Clone, Debug, Default)]
struct Share {
    /// `None` records nothing.
    threshold: Option<Threshold>,
    /// Recorded beyond that, so that rare operations are seen at all.
    at_least: Option<Arc<RateLimit>>,
}

impl RemoteSampler {
    pub(crate) fn new(options: RemoteOptions) -> Self {
        let default = Share::new(options.initial_rate);
        let strategy = Strategy { default, operations: HashMap::new() };
        Self { options, strategy: Arc::new(RwLock::new(strategy)) }
    }

    pub(crate) fn options(&self) -> &RemoteOptions {
        &self.options
    }

    /// Takes a server's answer; `false` when it cannot be read, and nothing changes.
    pub(crate) fn update(&self, answer: &[u8]) -> bool {
        let Some(strategy) = Strategy::parse(answer) else { return false };
        if let Ok(mut current) = self.strategy.write() {
            *current = strategy;
        }
        true
    }

    pub(super) fn decide(&self, randomness: Randomness, operation: &str) -> Verdict {
        let Ok(strategy) = self.strategy.read() else { return Verdict::Drop };
        let share = strategy.operations.get(operation).unwrap_or(&strategy.default);
        match share.threshold.map_or(Verdict::Drop, |threshold| Verdict::of(threshold, randomness)) {
            Verdict::Drop => share.at_least.as_ref().map_or(Verdict::Drop, |limit| limit.decide()),
            kept => kept,
        }
    }
}

impl Share {
    fn new(probability: f64) -> Self {
        Self { threshold: Threshold::from_probability(probability.min(1.0)), at_least: None }
    }

    fn at_least(mut self, per_second: Option<f64>) -> Self {
        self.at_least = per_second.filter(|rate| *rate > 0.0).map(|rate| Arc::new(RateLimit::new(rate)));
        self
    }
}

impl Strategy {
    /// Clients look at the fields that are there: the type is a number in older servers, a name in newer ones.
    fn parse(answer: &[u8]) -> Option<Self> {
        let answer: Json = serde_json::from_slice(answer).ok()?;
        let only = |default| Some(Self { default, operations: HashMap::new() });
        let per_operation = &answer["operationSampling"];
        if let Some(default) = per_operation["defaultSamplingProbability"].as_f64() {
            let lower = per_operation["defaultLowerBoundTracesPerSecond"].as_f64();
            let list = per_operation["perOperationStrategies"].as_array().map(Vec::as_slice).unwrap_or_default();
            let operations = list.iter().take(MAX_OPERATIONS).filter_map(|entry| {
                let rate = entry["probabilisticSampling"]["samplingRate"].as_f64()?;
                Some((entry["operation"].as_str()?.to_owned(), Share::new(rate).at_least(lower)))
            });
            return Some(Self { default: Share::new(default).at_least(lower), operations: operations.collect() });
        }
        if let Some(rate) = answer["rateLimitingSampling"]["maxTracesPerSecond"].as_f64() {
            return only(Share::default().at_least(Some(rate)));
        }
        only(Share::new(answer["probabilisticSampling"]["samplingRate"].as_f64()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kept at 50 %, not at 25 %.
    fn middle() -> Randomness {
        Randomness::parse("80000000000000").unwrap()
    }

    #[test]
    fn options() {
        let options =
            RemoteOptions::parse("endpoint=http://h:5778,pollingIntervalMs=5000, initialSamplingRate=0.25").unwrap();
        assert_eq!(options.endpoint, "http://h:5778");
        assert_eq!((options.interval, options.initial_rate), (Duration::from_secs(5), 0.25));
        assert_eq!(RemoteOptions::parse(""), Ok(RemoteOptions::default()));
        for broken in ["x", "pollingIntervalMs=0", "initialSamplingRate=2", "colour=red"] {
            assert!(RemoteOptions::parse(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn answers() {
        let sampler = RemoteSampler::new(RemoteOptions { initial_rate: 1.0, ..RemoteOptions::default() });
        let half = Verdict::Keep(Threshold::from_probability(0.5));
        assert_eq!(sampler.decide(middle(), "x"), Verdict::Keep(Some(Threshold::ALWAYS)));
        assert!(sampler.update(br#"{"strategyType":"PROBABILISTIC","probabilisticSampling":{"samplingRate":0.5}}"#));
        assert_eq!(sampler.decide(middle(), "x"), half);
        // What cannot be read changes nothing.
        for broken in [&b"[1"[..], b"{}", b"null", br#"{"probabilisticSampling":{"samplingRate":"x"}}"#] {
            assert!(!sampler.update(broken));
        }
        assert_eq!(sampler.decide(middle(), "x"), half);
        assert!(sampler.update(br#"{"strategyType":1,"rateLimitingSampling":{"maxTracesPerSecond":1}}"#));
        assert_eq!([0; 2].map(|_| sampler.decide(middle(), "x")), [Verdict::Keep(None), Verdict::Drop]);
        assert!(sampler.update(
            br#"{"operationSampling":{"defaultSamplingProbability":0.25,"defaultLowerBoundTracesPerSecond":0,
            "perOperationStrategies":[{"operation":"GET /","probabilisticSampling":{"samplingRate":0.5}}]}}"#
        ));
        assert_eq!((sampler.decide(middle(), "x"), sampler.decide(middle(), "GET /")), (Verdict::Drop, half));
        assert!(sampler.update(br#"{"probabilisticSampling":{"samplingRate":0}}"#));
        assert_eq!(sampler.decide(middle(), "x"), Verdict::Drop);
    }
}
