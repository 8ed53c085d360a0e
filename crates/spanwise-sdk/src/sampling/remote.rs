//! Sampling as a Jaeger-compatible server wants it: `OTEL_TRACES_SAMPLER=jaeger_remote`.
//!
//! <https://www.jaegertracing.io/docs/latest/architecture/sampling/#remote-sampling>

use std::sync::{Arc, RwLock};
use std::time::Duration;

use super::strategy::Strategy;
use super::{Randomness, Verdict};

pub(crate) const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// Where to ask, how often, and what holds until there is an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct RemoteOptions {
    /// Such as `http://localhost:5778/sampling` or, by gRPC, `http://localhost:5779`. Without a path both are tried.
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

impl RemoteSampler {
    pub(crate) fn new(options: RemoteOptions) -> Self {
        let strategy = Strategy::probability(options.initial_rate);
        Self { options, strategy: Arc::new(RwLock::new(strategy)) }
    }

    pub(crate) fn options(&self) -> &RemoteOptions {
        &self.options
    }

    /// What holds from now on.
    pub(crate) fn set(&self, strategy: Strategy) {
        if let Ok(mut current) = self.strategy.write() {
            *current = strategy;
        }
    }

    pub(super) fn decide(&self, randomness: Randomness, operation: &str) -> Verdict {
        self.strategy.read().map_or(Verdict::Drop, |strategy| strategy.decide(randomness, operation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn what_held_last_holds_on() {
        use crate::sampling::Threshold;
        let half = Randomness::parse("80000000000000").unwrap();
        let sampler = RemoteSampler::new(RemoteOptions { initial_rate: 1.0, ..RemoteOptions::default() });
        assert_eq!(sampler.decide(half, "x"), Verdict::Keep(Some(Threshold::ALWAYS)));
        sampler.clone().set(Strategy::probability(0.25));
        assert_eq!(sampler.decide(half, "x"), Verdict::Drop);
    }
}
