//! Jaeger's remote sampling: what a client asks and what it is answered, in protobuf and in JSON.
//! Shapes: <https://github.com/jaegertracing/jaeger-idl/blob/main/proto/api_v2/sampling.proto>.

use serde_json::{Value as Json, json};

use crate::encode::{put_len_field, put_message, put_tag, put_uint};
use crate::view::{FieldValue, Fields};

/// How a service shall sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Strategy {
    pub sampler: Sampler,
    /// Rules of single operations; only beside a probabilistic sampler.
    pub operations: Option<Operations>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sampler {
    /// From 0 to 1.
    Probabilistic(f64),
    /// Traces a second.
    RateLimiting(i32),
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Operations {
    /// For operations that are not named.
    pub default_probability: f64,
    /// At least this many traces a second of every operation.
    pub lower_bound_per_second: f64,
    pub upper_bound_per_second: f64,
    /// Operation and probability.
    pub each: Vec<(String, f64)>,
}

impl Strategy {
    pub fn probabilistic(rate: f64) -> Self {
        Self { sampler: Sampler::Probabilistic(rate), operations: None }
    }

    /// A `SamplingStrategyResponse`.
    pub fn to_proto(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self.sampler {
            Sampler::Probabilistic(rate) => put_message(&mut out, 2, |out| put_double(out, 1, rate)),
            Sampler::RateLimiting(rate) => {
                put_uint(&mut out, 1, 1);
                put_message(&mut out, 3, |out| put_uint(out, 1, u64::try_from(rate).unwrap_or(0)));
            }
        }
        if let Some(operations) = &self.operations {
            put_message(&mut out, 4, |out| {
                put_double(out, 1, operations.default_probability);
                put_double(out, 2, operations.lower_bound_per_second);
                for (operation, rate) in &operations.each {
                    put_message(out, 3, |out| {
                        put_len_field(out, 1, operation.as_bytes());
                        put_message(out, 2, |out| put_double(out, 1, *rate));
                    });
                }
                put_double(out, 4, operations.upper_bound_per_second);
            });
        }
        out
    }

    /// As Jaeger's HTTP endpoint writes it.
    pub fn to_json(&self) -> Json {
        let mut out = match self.sampler {
            Sampler::Probabilistic(rate) => {
                json!({"strategyType": "PROBABILISTIC", "probabilisticSampling": {"samplingRate": rate}})
            }
            Sampler::RateLimiting(rate) => {
                json!({"strategyType": "RATE_LIMITING", "rateLimitingSampling": {"maxTracesPerSecond": rate}})
            }
        };
        if let Some(operations) = &self.operations {
            let each: Vec<Json> = operations
                .each
                .iter()
                .map(|(operation, rate)| {
                    json!({"operation": operation, "probabilisticSampling": {"samplingRate": rate}})
                })
                .collect();
            out["operationSampling"] = json!({
                "defaultSamplingProbability": operations.default_probability,
                "defaultLowerBoundTracesPerSecond": operations.lower_bound_per_second,
                "perOperationStrategies": each,
                "defaultUpperBoundTracesPerSecond": operations.upper_bound_per_second,
            });
        }
        out
    }
}

fn put_double(out: &mut Vec<u8>, number: u32, value: f64) {
    if value != 0.0 {
        put_tag(out, number, 1);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

/// `service_name` of a `SamplingStrategyParameters`; invalid UTF-8 is repaired.
pub fn asked_service(request: &[u8]) -> String {
    let last = Fields::new(request).filter(|field| field.number == 1).last();
    match last.map(|field| field.value) {
        Some(FieldValue::Len(name)) => String::from_utf8_lossy(name).into_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_what_jaegers_clients_read() {
        let operations = Operations {
            default_probability: 0.5,
            lower_bound_per_second: 0.1,
            upper_bound_per_second: 0.0,
            each: vec![("GET /".to_owned(), 0.25)],
        };
        let strategy = Strategy { sampler: Sampler::Probabilistic(0.5), operations: Some(operations) };
        let json = strategy.to_json();
        assert_eq!(json["probabilisticSampling"]["samplingRate"], 0.5);
        assert_eq!(json["operationSampling"]["perOperationStrategies"][0]["operation"], "GET /");
        let proto = strategy.to_proto();
        let numbers: Vec<_> = Fields::new(&proto).map(|field| field.number).collect();
        assert_eq!(numbers, [2, 4]);
        let inner = Fields::new(&proto).find(|field| field.number == 4).unwrap().value.bytes();
        let rate = Fields::new(inner).find(|field| field.number == 1).unwrap().value.uint();
        assert_eq!(f64::from_bits(rate), 0.5);
        let limited = Strategy { sampler: Sampler::RateLimiting(5), operations: None };
        assert_eq!(limited.to_proto(), [0x08, 1, 0x1a, 2, 0x08, 5]);
        assert_eq!(limited.to_json()["strategyType"], "RATE_LIMITING");
    }

    #[test]
    fn the_asked_service_is_read() {
        assert_eq!(asked_service(&[0x0a, 4, b's', b'h', b'o', b'p']), "shop");
        assert_eq!(asked_service(&[]), "");
        assert_eq!(asked_service(&[0x0a, 200, 1]), "");
    }
}
