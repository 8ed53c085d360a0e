//! Jaeger's file of strategies: <https://www.jaegertracing.io/docs/latest/sampling/#file-based-sampling-configuration>.

use std::collections::BTreeMap;

use serde::Deserialize;
use spanwise_wire::sampling::{Operations, Sampler, Strategy};

/// What Jaeger does without a default strategy.
const DEFAULT_PROBABILITY: f64 = 0.001;

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct File {
    default_strategy: Option<ServiceRule>,
    service_strategies: Vec<ServiceRule>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct ServiceRule {
    service: String,
    #[serde(flatten)]
    rule: Rule,
    operation_strategies: Vec<OperationRule>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct OperationRule {
    operation: String,
    #[serde(flatten)]
    rule: Rule,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct Rule {
    #[serde(rename = "type")]
    kind: String,
    param: f64,
}

impl Rule {
    /// `None` where nothing is said.
    fn sampler(&self) -> Result<Option<Sampler>, String> {
        match self.kind.as_str() {
            "" => Ok(None),
            "probabilistic" if (0.0..=1.0).contains(&self.param) => Ok(Some(Sampler::Probabilistic(self.param))),
            "probabilistic" => Err(format!("a probability is from 0 to 1, not {}", self.param)),
            "ratelimiting" if self.param >= 0.0 && self.param.fract() == 0.0 && self.param <= f64::from(i32::MAX) => {
                Ok(Some(Sampler::RateLimiting(self.param as i32)))
            }
            "ratelimiting" => Err(format!("traces a second are a whole number, not {}", self.param)),
            other => Err(format!("unknown type of strategy {other:?}: probabilistic and ratelimiting are known")),
        }
    }
}

/// Strategies by service.
#[derive(Debug)]
pub(super) struct Strategies {
    default: Strategy,
    services: BTreeMap<String, Strategy>,
}

impl Strategies {
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: File = serde_json::from_str(text).map_err(|error| format!("cannot read strategies: {error}"))?;
        let nothing = ServiceRule::default();
        let rule = file.default_strategy.as_ref().unwrap_or(&nothing);
        let default = strategy(rule, &Strategy::probabilistic(DEFAULT_PROBABILITY))?;
        let services = file
            .service_strategies
            .iter()
            .map(|rule| match rule.service.is_empty() {
                true => Err("a strategy of service_strategies has no service".to_owned()),
                false => Ok((rule.service.clone(), strategy(rule, &default)?)),
            })
            .collect::<Result<_, String>>()?;
        Ok(Self { default, services })
    }

    pub fn of(&self, service: &str) -> Strategy {
        self.services.get(service).unwrap_or(&self.default).clone()
    }
}

/// A rule with the default's behind it: its sampler where the rule names none, its operations where they are not the
/// rule's own.
fn strategy(rule: &ServiceRule, default: &Strategy) -> Result<Strategy, String> {
    let sampler = rule.rule.sampler()?.unwrap_or(default.sampler);
    let mut each: BTreeMap<String, f64> = BTreeMap::new();
    each.extend(default.operations.iter().flat_map(|operations| operations.each.iter().cloned()));
    for own in &rule.operation_strategies {
        match own.rule.sampler()? {
            // As Jaeger: only probabilities apply to single operations.
            Some(Sampler::Probabilistic(rate)) => drop(each.insert(own.operation.clone(), rate)),
            Some(Sampler::RateLimiting(_)) => {
                return Err(format!("operation {:?}: only probabilistic applies to operations", own.operation));
            }
            None => return Err(format!("operation {:?} has no type", own.operation)),
        }
    }
    let default_probability = match (sampler, default.sampler) {
        (Sampler::Probabilistic(rate), _) | (_, Sampler::Probabilistic(rate)) => rate,
        _ => DEFAULT_PROBABILITY,
    };
    let each: Vec<_> = each.into_iter().collect();
    let operations = (!each.is_empty()).then(|| Operations { default_probability, each, ..Operations::default() });
    Ok(Strategy { sampler, operations })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{
        "service_strategies": [
            {"service": "foo", "type": "probabilistic", "param": 0.8, "operation_strategies": [
                {"operation": "op1", "type": "probabilistic", "param": 0.2}]},
            {"service": "bar", "type": "ratelimiting", "param": 5}],
        "default_strategy": {"type": "probabilistic", "param": 0.5, "operation_strategies": [
            {"operation": "/health", "type": "probabilistic", "param": 0.0}]}}"#;

    #[test]
    fn a_service_has_its_own_rules_over_the_default() {
        let strategies = Strategies::parse(FILE).unwrap();
        let foo = strategies.of("foo");
        assert_eq!(foo.sampler, Sampler::Probabilistic(0.8));
        let operations = foo.operations.unwrap();
        assert_eq!(operations.default_probability, 0.8);
        assert_eq!(operations.each, [("/health".to_owned(), 0.0), ("op1".to_owned(), 0.2)]);
        let bar = strategies.of("bar");
        assert_eq!(bar.sampler, Sampler::RateLimiting(5));
        assert_eq!(bar.operations.unwrap().default_probability, 0.5);
        assert_eq!(strategies.of("other").sampler, Sampler::Probabilistic(0.5));
        assert_eq!(Strategies::parse("{}").unwrap().of("x"), Strategy::probabilistic(DEFAULT_PROBABILITY));
    }

    #[test]
    fn rules_that_cannot_be_are_named() {
        for (text, part) in [
            ("[", "cannot read"),
            (r#"{"default_strategy":{"type":"probabilistic","param":1.5}}"#, "from 0 to 1"),
            (r#"{"default_strategy":{"type":"ratelimiting","param":0.5}}"#, "whole number"),
            (r#"{"default_strategy":{"type":"adaptive","param":1}}"#, "unknown type"),
            (r#"{"service_strategies":[{"type":"probabilistic","param":1}]}"#, "no service"),
            (
                r#"{"default_strategy":{"operation_strategies":[{"operation":"o","type":"ratelimiting","param":1}]}}"#,
                "operations",
            ),
        ] {
            let error = Strategies::parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
