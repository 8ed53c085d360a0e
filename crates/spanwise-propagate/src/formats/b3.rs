//! B3, in one header and in several.
//!
//! <https://github.com/openzipkin/b3-propagation>

use super::Line;
use crate::carrier::{Field, one};
use crate::hex::{self, Case};
use crate::{Decision, Extract, Inject, Parent, SpanContext, SpanId, TraceId, TraceState};

pub(crate) const SINGLE: &str = "b3";
pub(crate) const TRACE_ID: &str = "x-b3-traceid";
pub(crate) const SPAN_ID: &str = "x-b3-spanid";
pub(crate) const SAMPLED: &str = "x-b3-sampled";
pub(crate) const FLAGS: &str = "x-b3-flags";

/// The single header wins; when it is absent or broken, the others are read.
pub(crate) fn extract(carrier: &(impl Extract + ?Sized)) -> Option<Parent> {
    match one(carrier, SINGLE, parse_single) {
        Field::One(parent) => Some(parent),
        _ => extract_multi(carrier),
    }
}

/// `{trace}-{span}[-{state}[-{parent}]]` or `{state}`.
fn parse_single(value: &[u8]) -> Option<Parent> {
    if let Some(decision) = state(value) {
        return Some(Parent::Decision(decision));
    }
    let mut parts = value.split(|byte| *byte == b'-');
    let trace_id = trace_id(parts.next()?)?;
    let span_id = span_id(parts.next()?)?;
    let decision = parts.next().map_or(Some(Decision::Defer), state)?;
    if let Some(parent) = parts.next() {
        span_id_digits(parent)?;
    }
    parts.next().is_none().then(|| found(trace_id, span_id, decision))
}

fn extract_multi(carrier: &(impl Extract + ?Sized)) -> Option<Parent> {
    let sampled = match one(carrier, SAMPLED, multi_state) {
        Field::Absent => Decision::Defer,
        Field::One(decision) => decision,
        Field::Broken => return None,
    };
    let decision = match one(carrier, FLAGS, |value| Some(value == b"1")) {
        Field::One(true) => Decision::Debug,
        _ => sampled,
    };
    match (one(carrier, TRACE_ID, trace_id), one(carrier, SPAN_ID, span_id)) {
        (Field::One(trace_id), Field::One(span_id)) => Some(found(trace_id, span_id, decision)),
        (Field::Absent, Field::Absent) if decision != Decision::Defer => Some(Parent::Decision(decision)),
        _ => None,
    }
}

pub(crate) fn inject_single(span: &SpanContext, carrier: &mut (impl Inject + ?Sized)) {
    let line = Line::<51>::new().hex(span.trace_id.as_bytes()).text("-").hex(span.span_id.as_bytes());
    let line = line.text(match span.decision {
        Decision::Defer => "",
        Decision::Deny => "-0",
        Decision::Accept => "-1",
        Decision::Debug => "-d",
    });
    carrier.set(SINGLE, line.as_str());
}

pub(crate) fn inject_multi(span: &SpanContext, carrier: &mut (impl Inject + ?Sized)) {
    carrier.set(TRACE_ID, Line::<32>::new().hex(span.trace_id.as_bytes()).as_str());
    carrier.set(SPAN_ID, Line::<16>::new().hex(span.span_id.as_bytes()).as_str());
    // Debug implies acceptance, so that the other header is not sent with it.
    match span.decision {
        Decision::Deny => carrier.set(SAMPLED, "0"),
        Decision::Accept => carrier.set(SAMPLED, "1"),
        Decision::Defer | Decision::Debug => carrier.remove(SAMPLED),
    }
    if span.decision == Decision::Debug { carrier.set(FLAGS, "1") } else { carrier.remove(FLAGS) }
}

fn found(trace_id: TraceId, span_id: SpanId, decision: Decision) -> Parent {
    Parent::Span(SpanContext { trace_id, span_id, decision, random: false, state: TraceState::EMPTY })
}

fn state(value: &[u8]) -> Option<Decision> {
    match value {
        b"0" => Some(Decision::Deny),
        b"1" => Some(Decision::Accept),
        b"d" => Some(Decision::Debug),
        _ => None,
    }
}

/// Older tracers wrote words here.
pub(super) fn multi_state(value: &[u8]) -> Option<Decision> {
    match value {
        b"0" | b"false" => Some(Decision::Deny),
        b"1" | b"true" => Some(Decision::Accept),
        _ => None,
    }
}

fn trace_id(value: &[u8]) -> Option<TraceId> {
    match value.len() {
        32 => TraceId::from_bytes(hex::decode(value, Case::Lower)?),
        16 => TraceId::from_halves(0, u64::from_be_bytes(hex::decode(value, Case::Lower)?)),
        _ => None,
    }
}

fn span_id(value: &[u8]) -> Option<SpanId> {
    SpanId::from_bytes(span_id_digits(value)?)
}

fn span_id_digits(value: &[u8]) -> Option<[u8; 8]> {
    hex::decode(value, Case::Lower)
}
