//! Jaeger's own headers.
//!
//! <https://www.jaegertracing.io/sdk-migration/#propagation-format>

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;

use super::Line;
use crate::carrier::{Field, one};
use crate::hex::{self, Case};
use crate::limits::BAGGAGE_MEMBERS;
use crate::text::{split_once, trim_blanks};
use crate::{Baggage, Decision, Extract, Inject, Parent, SpanContext, SpanId, TraceId, TraceState, percent};

pub(crate) const HEADER: &str = "uber-trace-id";
const DEBUG_ID: &str = "jaeger-debug-id";
const BAGGAGE: &str = "jaeger-baggage";
const BAGGAGE_PREFIX: &str = "uberctx-";

pub(crate) fn extract(carrier: &(impl Extract + ?Sized)) -> Option<Parent> {
    if let Field::One(span) = one(carrier, HEADER, parse) {
        return Some(Parent::Span(span));
    }
    // A user's wish to see this one request.
    match one(carrier, DEBUG_ID, |value| (!value.is_empty()).then_some(())) {
        Field::One(()) => Some(Parent::Decision(Decision::Debug)),
        _ => None,
    }
}

/// `{trace}:{span}:{parent}:{flags}`; the colons may arrive encoded.
///
/// The debug flag only counts as sampled: OpenTelemetry for Python sets it on every sampled span.
fn parse(value: &[u8]) -> Option<SpanContext> {
    let decoded = if value.contains(&b'%') { Cow::Owned(percent::decode(value).into_bytes()) } else { value.into() };
    let mut parts = decoded.split(|byte| *byte == b':');
    let trace_id = TraceId::from_bytes(hex::decode_padded(parts.next()?, Case::Any)?)?;
    let span_id = SpanId::from_bytes(hex::decode_padded(parts.next()?, Case::Any)?)?;
    hex::decode_padded::<8>(parts.next()?, Case::Any)?;
    let [flags] = hex::decode_padded(parts.next()?, Case::Any)?;
    if parts.next().is_some() {
        return None;
    }
    let decision = Decision::from_sampled(flags & 3 != 0);
    Some(SpanContext { trace_id, span_id, decision, random: false, state: TraceState::EMPTY })
}

pub(crate) fn inject(span: &SpanContext, carrier: &mut (impl Inject + ?Sized)) {
    let line = Line::<54>::new().hex(span.trace_id.as_bytes()).text(":").hex(span.span_id.as_bytes()).text(":0:");
    let line = line.text(match span.decision {
        Decision::Defer | Decision::Deny => "0",
        Decision::Accept => "1",
        Decision::Debug => "3",
    });
    carrier.set(HEADER, line.as_str());
}

pub(crate) fn extract_baggage(carrier: &(impl Extract + ?Sized), baggage: &mut Baggage) {
    extract_prefixed(carrier, BAGGAGE_PREFIX, baggage);
    if let Field::One(text) = one(carrier, BAGGAGE, |value| core::str::from_utf8(value).ok().map(String::from)) {
        for member in text.as_bytes().split(|byte| *byte == b',').take(BAGGAGE_MEMBERS) {
            if let Some((key, value)) = split_once(member, b'=')
                && let Ok(key) = core::str::from_utf8(trim_blanks(key))
            {
                baggage.insert(key, &percent::decode(trim_blanks(value)), "");
            }
        }
    }
}

pub(crate) fn inject_baggage(baggage: &Baggage, carrier: &mut (impl Inject + ?Sized)) {
    inject_prefixed(baggage, carrier, BAGGAGE_PREFIX);
}

/// Entries whose name starts with `prefix`: the rest is the key.
pub(super) fn extract_prefixed(carrier: &(impl Extract + ?Sized), prefix: &str, baggage: &mut Baggage) {
    let mut left = BAGGAGE_MEMBERS;
    carrier.entries(&mut |name, value| {
        let Some((start, key)) = name.split_at_checked(prefix.len()) else { return };
        if left > 0 && start.eq_ignore_ascii_case(prefix) && value.len() <= crate::limits::BAGGAGE_BYTES {
            left -= 1;
            baggage.insert(key, &percent::decode(trim_blanks(value)), "");
        }
    });
}

pub(super) fn inject_prefixed(baggage: &Baggage, carrier: &mut (impl Inject + ?Sized), prefix: &str) {
    for entry in baggage.iter() {
        let mut value = String::new();
        percent::push_encoded(&mut value, &entry.value, percent::is_baggage_octet);
        carrier.set_dynamic(&format!("{prefix}{}", entry.key), &value);
    }
}
