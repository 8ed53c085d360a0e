//! What a sampling server wants: one rate for everything, or one for each operation.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value as Json;

use super::{Randomness, RateLimit, Threshold, Verdict};

/// Operations that are told apart; a server that names more is believed for the first ones.
const MAX_OPERATIONS: usize = 2000;

/// A server's answer.
#[derive(Clone, Debug)]
pub(crate) struct Strategy {
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

impl Share {
    fn new(probability: f64) -> Self {
        Self { threshold: Threshold::from_probability(probability.min(1.0)), at_least: None }
    }

    fn at_least(mut self, per_second: f64) -> Self {
        self.at_least = (per_second > 0.0).then(|| Arc::new(RateLimit::new(per_second)));
        self
    }
}

impl Strategy {
    pub(super) fn probability(rate: f64) -> Self {
        Self { default: Share::new(rate), operations: HashMap::new() }
    }

    fn rate_limit(per_second: f64) -> Self {
        Self { default: Share::default().at_least(per_second), operations: HashMap::new() }
    }

    fn per_operation(default: f64, at_least: f64, each: impl Iterator<Item = (String, f64)>) -> Self {
        let share = |rate| Share::new(rate).at_least(at_least);
        let operations = each.take(MAX_OPERATIONS).map(|(operation, rate)| (operation, share(rate))).collect();
        Self { default: share(default), operations }
    }

    /// `None` when it cannot be read. Clients look at the fields that are there: the type is a number in older servers,
    /// a name in newer ones.
    pub(crate) fn from_json(answer: &[u8]) -> Option<Self> {
        let answer: Json = serde_json::from_slice(answer).ok()?;
        let per_operation = &answer["operationSampling"];
        if let Some(default) = per_operation["defaultSamplingProbability"].as_f64() {
            let at_least = per_operation["defaultLowerBoundTracesPerSecond"].as_f64().unwrap_or(0.0);
            let list = per_operation["perOperationStrategies"].as_array().map(Vec::as_slice).unwrap_or_default();
            let each = list.iter().filter_map(|entry| {
                let rate = entry["probabilisticSampling"]["samplingRate"].as_f64()?;
                Some((entry["operation"].as_str()?.to_owned(), rate))
            });
            return Some(Self::per_operation(default, at_least, each));
        }
        if let Some(rate) = answer["rateLimitingSampling"]["maxTracesPerSecond"].as_f64() {
            return Some(Self::rate_limit(rate));
        }
        Some(Self::probability(answer["probabilisticSampling"]["samplingRate"].as_f64()?))
    }

    /// Of `jaeger.api_v2`.
    #[cfg(feature = "grpc")]
    pub(crate) fn from_message(bytes: &[u8]) -> Option<Self> {
        use prost::Message;
        let answer = Answer::decode(bytes).ok()?;
        if let Some(found) = answer.per_operation {
            let each = found.each.into_iter().filter_map(|one| Some((one.operation, one.probability?.rate)));
            return Some(Self::per_operation(found.default, found.at_least, each));
        }
        match answer.rate_limit {
            Some(limit) => Some(Self::rate_limit(f64::from(limit.per_second))),
            None => Some(Self::probability(answer.probability?.rate)),
        }
    }

    pub(super) fn decide(&self, randomness: Randomness, operation: &str) -> Verdict {
        let share = self.operations.get(operation).unwrap_or(&self.default);
        match share.threshold.map_or(Verdict::Drop, |threshold| Verdict::of(threshold, randomness)) {
            Verdict::Drop => share.at_least.as_ref().map_or(Verdict::Drop, |limit| limit.decide()),
            kept => kept,
        }
    }
}

/// <https://github.com/jaegertracing/jaeger-idl/blob/main/proto/api_v2/sampling.proto>
#[cfg(feature = "grpc")]
mod message {
    /// `SamplingStrategyParameters`
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Question {
        #[prost(string, tag = "1")]
        pub(crate) service: String,
    }

    /// `SamplingStrategyResponse`, without its type, which says nothing that its fields do not.
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Answer {
        #[prost(message, optional, tag = "2")]
        pub(crate) probability: Option<Probability>,
        #[prost(message, optional, tag = "3")]
        pub(crate) rate_limit: Option<RateLimit>,
        #[prost(message, optional, tag = "4")]
        pub(crate) per_operation: Option<PerOperation>,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(crate) struct Probability {
        #[prost(double, tag = "1")]
        pub(crate) rate: f64,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(crate) struct RateLimit {
        #[prost(int32, tag = "1")]
        pub(crate) per_second: i32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct PerOperation {
        #[prost(double, tag = "1")]
        pub(crate) default: f64,
        #[prost(double, tag = "2")]
        pub(crate) at_least: f64,
        #[prost(message, repeated, tag = "3")]
        pub(crate) each: Vec<Operation>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Operation {
        #[prost(string, tag = "1")]
        pub(crate) operation: String,
        #[prost(message, optional, tag = "2")]
        pub(crate) probability: Option<Probability>,
    }
}

#[cfg(feature = "grpc")]
use message::Answer;
#[cfg(feature = "grpc")]
pub(super) use message::Question;

#[cfg(test)]
mod tests {
    use super::*;

    /// Kept at 50 %, not at 25 %.
    fn middle() -> Randomness {
        Randomness::parse("80000000000000").unwrap()
    }

    #[track_caller]
    fn check(strategy: Option<Strategy>, expected: &[(&str, Verdict)]) {
        let strategy = strategy.unwrap();
        for (operation, verdict) in expected {
            assert_eq!(strategy.decide(middle(), operation), *verdict, "{operation}");
        }
    }

    fn half() -> Verdict {
        Verdict::Keep(Threshold::from_probability(0.5))
    }

    const ONE_THEN_NONE: [(&str, Verdict); 2] = [("x", Verdict::Keep(None)), ("x", Verdict::Drop)];

    #[test]
    fn answers_in_json() {
        let json = |text: &str| Strategy::from_json(text.as_bytes());
        let half_of_all = r#"{"strategyType":"PROBABILISTIC","probabilisticSampling":{"samplingRate":0.5}}"#;
        check(json(half_of_all), &[("x", half())]);
        check(json(r#"{"strategyType":1,"rateLimitingSampling":{"maxTracesPerSecond":1}}"#), &ONE_THEN_NONE);
        let per_operation = r#"{"operationSampling":{"defaultSamplingProbability":0.25,"defaultLowerBoundTracesPerSecond":0,
            "perOperationStrategies":[{"operation":"GET /","probabilisticSampling":{"samplingRate":0.5}}]}}"#;
        check(json(per_operation), &[("x", Verdict::Drop), ("GET /", half())]);
        check(json(r#"{"probabilisticSampling":{"samplingRate":0}}"#), &[("x", Verdict::Drop)]);
        for broken in ["[1", "{}", "null", r#"{"probabilisticSampling":{"samplingRate":"x"}}"#] {
            assert!(json(broken).is_none(), "{broken}");
        }
    }

    #[cfg(feature = "grpc")]
    #[test]
    fn answers_as_messages() {
        use super::message::{Operation, PerOperation, Probability, RateLimit};
        use prost::Message;
        let read = |answer: Answer| Strategy::from_message(&answer.encode_to_vec());
        let probability = Some(Probability { rate: 0.5 });
        check(read(Answer { probability, ..Answer::default() }), &[("x", half())]);
        let limit = Some(RateLimit { per_second: 1 });
        check(read(Answer { rate_limit: limit, probability, ..Answer::default() }), &ONE_THEN_NONE);
        let each = vec![Operation { operation: "GET /".into(), probability }];
        let per_operation = Some(PerOperation { default: 0.25, at_least: 0.0, each });
        check(read(Answer { per_operation, ..Answer::default() }), &[("x", Verdict::Drop), ("GET /", half())]);
        assert!(Strategy::from_message(&[]).is_none());
        for broken in [&b"\x12"[..], b"\x12\xff\xff\xff\xff\xff", b"\x12\x09\x09\x00"] {
            assert!(Strategy::from_message(broken).is_none(), "{broken:?}");
        }
    }
}
