//! Google Cloud.
//!
//! <https://cloud.google.com/trace/docs/trace-context#legacy-http-header>

use super::Line;
use crate::carrier::{Field, one};
use crate::hex::{self, Case};
use crate::text::{decimal, split_once};
use crate::{Decision, Extract, Inject, Parent, SpanContext, SpanId, TraceId, TraceState};

pub(crate) const HEADER: &str = "x-cloud-trace-context";

pub(crate) fn extract(carrier: &(impl Extract + ?Sized)) -> Option<Parent> {
    match one(carrier, HEADER, parse) {
        Field::One(parent) => Some(parent),
        _ => None,
    }
}

/// `{32 hex}[/{decimal}[;o={number}]]`; a span of 0 means that there is none.
fn parse(value: &[u8]) -> Option<Parent> {
    let (ids, decision) = match split_once(value, b';') {
        None => (value, Decision::Defer),
        Some((ids, options)) => {
            let options = decimal(options.strip_prefix(b"o=")?)?;
            (ids, Decision::from_sampled(options & 1 != 0))
        }
    };
    let (trace_id, span_id) = match split_once(ids, b'/') {
        None => (ids, 0),
        Some((trace_id, span_id)) => (trace_id, decimal(span_id)?),
    };
    let trace_id = TraceId::from_bytes(hex::decode(trace_id, Case::Any)?)?;
    Some(match SpanId::from_u64(span_id) {
        Some(span_id) => {
            Parent::Span(SpanContext { trace_id, span_id, decision, random: false, state: TraceState::EMPTY })
        }
        None => Parent::Trace { trace_id, decision },
    })
}

pub(crate) fn inject(span: &SpanContext, carrier: &mut (impl Inject + ?Sized)) {
    let line = Line::<57>::new().hex(span.trace_id.as_bytes()).text("/").decimal(span.span_id.to_u64());
    let line = line.text(match span.decision {
        Decision::Defer => "",
        Decision::Deny => ";o=0",
        Decision::Accept | Decision::Debug => ";o=1",
    });
    carrier.set(HEADER, line.as_str());
}
