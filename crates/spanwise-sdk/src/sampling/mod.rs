//! Head sampling: which traces are recorded, decided where they begin and followed everywhere else.
//!
//! Probabilities are consistent (`ot=th:…`): what a service keeps, every service with a higher rate keeps too, and each
//! kept span says how many it stands for.

pub(crate) mod ask;
mod ot;
mod rate;
mod remote;
mod rules;
mod strategy;
mod threshold;

use std::sync::Arc;

use opentelemetry::trace::{Link, SpanKind, TraceContextExt, TraceId, TraceState};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SamplingDecision, SamplingResult, ShouldSample};

pub use rate::RateLimit;
pub use remote::{RemoteOptions, RemoteSampler};
pub use rules::{Rule, Rules};
pub use threshold::{Randomness, Threshold};

use crate::propagation::Inherited;
use ot::OtState;

/// What is decided where no parent decides.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Root {
    /// Everything. As everywhere, no threshold is noted: `traceidratio` of 1 does that.
    AlwaysOn,
    /// Nothing.
    AlwaysOff,
    /// A share of the traces, consistently.
    Probability(Threshold),
    /// At most so many traces a second. Their weight is unknown, so they carry none.
    RateLimit(Arc<RateLimit>),
    /// By the name, kind and attributes of the first span.
    Rules(Arc<Rules>),
    /// What a Jaeger-compatible server says.
    Remote(RemoteSampler),
}

/// The sampler of this SDK.
#[derive(Clone, Debug)]
pub struct HeadSampler {
    root: Root,
    follows_parent: bool,
}

impl HeadSampler {
    /// Follows the parent's decision where there is a parent; `root` decides for new traces, and where the caller left
    /// the decision open.
    pub fn parent_based(root: Root) -> Self {
        Self { root, follows_parent: true }
    }

    pub(crate) fn follows_parents(&self) -> bool {
        self.follows_parent
    }

    /// Decides for every span by itself, whatever the parent's decision was.
    pub fn independent(root: Root) -> Self {
        Self { root, follows_parent: false }
    }
}

/// What a root sampler says of a trace.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    Drop,
    /// Kept, with the threshold that it passed; without one its weight is unknown.
    Keep(Option<Threshold>),
}

impl Verdict {
    fn of(threshold: Threshold, randomness: Randomness) -> Self {
        if threshold.keeps(randomness) { Self::Keep(Some(threshold)) } else { Self::Drop }
    }
}

impl Root {
    fn decide(&self, randomness: Randomness, name: &str, kind: &SpanKind, attributes: &[KeyValue]) -> Verdict {
        match self {
            Self::AlwaysOn => Verdict::Keep(None),
            Self::AlwaysOff => Verdict::Drop,
            Self::Probability(threshold) => Verdict::of(*threshold, randomness),
            Self::RateLimit(limit) => limit.decide(),
            Self::Rules(rules) => rules.pick(name, kind, attributes).decide(randomness, name, kind, attributes),
            Self::Remote(remote) => remote.decide(randomness, name),
        }
    }
}

impl ShouldSample for HeadSampler {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        _links: &[Link],
    ) -> SamplingResult {
        let span = parent.map(TraceContextExt::span);
        let context = span.as_ref().map(|span| span.span_context()).filter(|context| context.is_valid());
        let inherited = parent.and_then(|parent| parent.get::<Inherited>());
        let state = context.map_or(&TraceState::NONE, |context| context.trace_state());
        if let Some(context) = context.filter(|context| {
            // The caller's caller may have left the decision to us; below our own spans it is made.
            let is_open = context.is_remote() && inherited.is_some_and(|inherited| inherited.is_deferred(trace_id));
            self.follows_parent && !is_open
        }) {
            return follow(context.trace_flags().is_sampled(), trace_id, state);
        }
        // A decision that came without ids (`b3: 0`) is for the trace that begins here.
        if let Some(sampled) = inherited.filter(|_| context.is_none() && self.follows_parent).and_then(Inherited::order)
        {
            let decision = if sampled { SamplingDecision::RecordAndSample } else { SamplingDecision::Drop };
            return SamplingResult { decision, attributes: Vec::new(), trace_state: TraceState::NONE };
        }
        // The usual cases, without a look at the randomness.
        match self.root {
            Root::AlwaysOn if state.get("ot").is_none() => return result(true, state.clone()),
            Root::AlwaysOff if state.get("ot").is_none() => return result(false, state.clone()),
            _ => {}
        }
        let mut ot = OtState::read(state);
        let randomness = ot.randomness.unwrap_or_else(|| Randomness::of_trace_id(trace_id.to_bytes()));
        let (is_sampled, threshold) = match self.root.decide(randomness, name, kind, attributes) {
            Verdict::Drop => (false, None),
            Verdict::Keep(threshold) => (true, threshold),
        };
        ot.threshold = threshold;
        result(is_sampled, ot.write(state))
    }
}

/// The parent's decision, and its threshold as far as it can be believed.
fn follow(is_sampled: bool, trace_id: TraceId, state: &TraceState) -> SamplingResult {
    if state.get("ot").is_none() {
        return result(is_sampled, state.clone());
    }
    let mut ot = OtState::read(state);
    let randomness = ot.randomness.unwrap_or_else(|| Randomness::of_trace_id(trace_id.to_bytes()));
    if ot.threshold.is_none_or(|threshold| is_sampled && threshold.keeps(randomness)) {
        return result(is_sampled, state.clone());
    }
    ot.threshold = None;
    result(is_sampled, ot.write(state))
}

fn result(is_sampled: bool, trace_state: TraceState) -> SamplingResult {
    let decision = if is_sampled { SamplingDecision::RecordAndSample } else { SamplingDecision::Drop };
    SamplingResult { decision, attributes: Vec::new(), trace_state }
}

#[cfg(test)]
mod tests;
