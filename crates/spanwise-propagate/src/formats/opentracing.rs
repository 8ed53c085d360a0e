//! The headers of the OpenTracing "basic" tracers. Trace ids of 64 bits are written.
//!
//! <https://github.com/opentracing/basictracer-python>, OpenTelemetry's `ottrace` propagator

use super::jaeger::{extract_prefixed, inject_prefixed};
use super::{Line, b3};
use crate::carrier::{Field, one};
use crate::hex::{self, Case};
use crate::{Baggage, Decision, Extract, Inject, Parent, SpanContext, SpanId, TraceId, TraceState};

pub(crate) const TRACE_ID: &str = "ot-tracer-traceid";
pub(crate) const SPAN_ID: &str = "ot-tracer-spanid";
pub(crate) const SAMPLED: &str = "ot-tracer-sampled";
const BAGGAGE_PREFIX: &str = "ot-baggage-";

pub(crate) fn extract(carrier: &(impl Extract + ?Sized)) -> Option<Parent> {
    let Field::One(trace_id) = one(carrier, TRACE_ID, trace_id) else { return None };
    let Field::One(span_id) = one(carrier, SPAN_ID, |value| SpanId::from_bytes(hex::decode_padded(value, Case::Any)?))
    else {
        return None;
    };
    let decision = match one(carrier, SAMPLED, b3::multi_state) {
        Field::Absent => Decision::Defer,
        Field::One(decision) => decision,
        Field::Broken => return None,
    };
    Some(Parent::Span(SpanContext { trace_id, span_id, decision, random: false, state: TraceState::EMPTY }))
}

pub(crate) fn inject(span: &SpanContext, carrier: &mut (impl Inject + ?Sized)) {
    carrier.set(TRACE_ID, Line::<16>::new().hex(&span.trace_id.low().to_be_bytes()).as_str());
    carrier.set(SPAN_ID, Line::<16>::new().hex(span.span_id.as_bytes()).as_str());
    match span.decision {
        Decision::Defer => carrier.remove(SAMPLED),
        Decision::Deny => carrier.set(SAMPLED, "false"),
        Decision::Accept | Decision::Debug => carrier.set(SAMPLED, "true"),
    }
}

pub(crate) fn extract_baggage(carrier: &(impl Extract + ?Sized), baggage: &mut Baggage) {
    extract_prefixed(carrier, BAGGAGE_PREFIX, baggage);
}

pub(crate) fn inject_baggage(baggage: &Baggage, carrier: &mut (impl Inject + ?Sized)) {
    inject_prefixed(baggage, carrier, BAGGAGE_PREFIX);
}

fn trace_id(value: &[u8]) -> Option<TraceId> {
    match value.len() {
        1..=16 => TraceId::from_bytes(hex::decode_padded(value, Case::Any)?),
        32 => TraceId::from_bytes(hex::decode(value, Case::Any)?),
        _ => None,
    }
}
