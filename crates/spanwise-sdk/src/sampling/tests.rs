use std::collections::HashMap;

use opentelemetry::Context;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, TraceContextExt, TraceFlags, TraceId, TraceState};
use opentelemetry_sdk::trace::{SamplingDecision, ShouldSample};

use super::*;
use crate::propagation::ContextPropagator;

/// Its last seven bytes are 0x80…: kept at 50 %, not at 25 %.
const TRACE: TraceId = TraceId::from_bytes([1, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0]);

fn probability(probability: f64) -> Root {
    Root::Probability(Threshold::from_probability(probability).unwrap())
}

fn remote(is_sampled: bool, state: &str) -> Context {
    let span_id = SpanId::from_bytes([0, 0, 0, 0, 0, 0, 0, 1]);
    let flags = TraceFlags::default().with_sampled(is_sampled);
    let context = SpanContext::new(TRACE, span_id, flags, true, state.parse::<TraceState>().unwrap());
    Context::new().with_remote_span_context(context)
}

/// `+` or `-`, and the state.
#[track_caller]
fn check(sampler: &HeadSampler, parent: &Context, expected: &str) {
    let result = sampler.should_sample(Some(parent), TRACE, "name", &SpanKind::Server, &[], &[]);
    let sign = if result.decision == SamplingDecision::RecordAndSample { "+" } else { "-" };
    assert_eq!(format!("{sign} {}", result.trace_state.header()).trim_end(), expected);
}

#[test]
fn roots_note_their_threshold() {
    let root = Context::new();
    check(&HeadSampler::parent_based(Root::AlwaysOn), &root, "+");
    check(&HeadSampler::parent_based(probability(1.0)), &root, "+ ot=th:0");
    check(&HeadSampler::parent_based(Root::AlwaysOff), &root, "-");
    check(&HeadSampler::parent_based(probability(0.5)), &root, "+ ot=th:8");
    check(&HeadSampler::parent_based(probability(0.25)), &root, "-");
    check(&HeadSampler::parent_based(Root::RateLimit(RateLimit::new(5.0).into())), &root, "+");
    check(&HeadSampler::parent_based(Root::RateLimit(RateLimit::new(0.0).into())), &root, "-");
}

#[test]
fn parents_are_followed() {
    let sampler = HeadSampler::parent_based(Root::AlwaysOff);
    check(&sampler, &remote(true, ""), "+");
    check(&sampler, &remote(true, "a=1,ot=th:8"), "+ a=1,ot=th:8");
    check(&sampler, &remote(false, "a=1"), "- a=1");
    // A threshold that contradicts the decision is not believed; randomness and unknown keys are kept.
    check(&sampler, &remote(true, "ot=th:c"), "+");
    check(&sampler, &remote(false, "ot=th:8;x:y"), "- ot=x:y");
    check(&sampler, &remote(true, "ot=th:c;rv:d0000000000000"), "+ ot=th:c;rv:d0000000000000");
}

#[test]
fn independent_decisions_use_the_same_randomness() {
    let sampler = HeadSampler::independent(probability(0.5));
    check(&sampler, &remote(false, ""), "+ ot=th:8");
    check(&sampler, &remote(true, "ot=th:0;rv:7fffffffffffff"), "- ot=rv:7fffffffffffff");
    check(&HeadSampler::independent(probability(0.25)), &remote(true, "a=1,ot=th:8"), "- a=1");
    check(&HeadSampler::independent(Root::AlwaysOn), &remote(true, "a=1,ot=th:8"), "+ a=1");
}

#[test]
fn a_decision_that_is_left_open_is_made_here() {
    let propagator = ContextPropagator::new(spanwise_propagate::Propagator::new([spanwise_propagate::Format::B3]));
    let with = |value: &str| {
        let headers = HashMap::from([("b3".to_string(), value.to_string())]);
        propagator.extract_with_context(&Context::new(), &headers)
    };
    let ids = format!("{TRACE}-0000000000000001");
    let sampler = HeadSampler::parent_based(probability(0.5));
    check(&sampler, &with(&ids), "+ ot=th:8");
    check(&HeadSampler::parent_based(Root::AlwaysOff), &with(&ids), "-");
    check(&sampler, &with(&format!("{ids}-0")), "-");
    check(&HeadSampler::parent_based(Root::AlwaysOff), &with(&format!("{ids}-d")), "+");
    // Without ids: the trace that begins here.
    check(&sampler, &with("0"), "-");
    check(&HeadSampler::parent_based(Root::AlwaysOff), &with("d"), "+");
}
