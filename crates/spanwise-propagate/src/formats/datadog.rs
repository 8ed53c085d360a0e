//! Datadog's headers. What they carry beyond ids travels as the `dd` member of the trace state, in the form that
//! Datadog's own tracers give it there: it survives a hop through W3C headers and comes out again.
//!
//! Trace ids are decimal and of 64 bits; the upper half is the tag `_dd.p.tid`.

use alloc::string::String;

use super::Line;
use crate::carrier::{Field, one};
use crate::hex::{self, Case};
use crate::limits::{DATADOG_TAGS, TRACESTATE_PART};
use crate::text::decimal;
use crate::{Decision, Extract, Inject, Parent, SpanContext, SpanId, TraceId, TraceState};

pub(crate) const TRACE_ID: &str = "x-datadog-trace-id";
pub(crate) const PARENT_ID: &str = "x-datadog-parent-id";
pub(crate) const PRIORITY: &str = "x-datadog-sampling-priority";
pub(crate) const ORIGIN: &str = "x-datadog-origin";
pub(crate) const TAGS: &str = "x-datadog-tags";

const MEMBER: &str = "dd";
const TAG_PREFIX: &str = "_dd.p.";
const HIGH_BITS: &str = "tid";

pub(crate) fn extract(carrier: &(impl Extract + ?Sized)) -> Option<Parent> {
    let Field::One(low) = one(carrier, TRACE_ID, decimal) else { return None };
    let tags = match one(carrier, TAGS, |value| core::str::from_utf8(value).ok().map(String::from)) {
        Field::One(tags) if tags.len() <= DATADOG_TAGS => tags,
        _ => String::new(),
    };
    let high = propagated(&tags).find(|(key, _)| *key == HIGH_BITS);
    let high = high.and_then(|(_, value)| hex::decode(value.as_bytes(), Case::Lower)).map_or(0, u64::from_be_bytes);
    let trace_id = TraceId::from_halves(high, if low == 0 { return None } else { low })?;
    let (decision, priority) = match one(carrier, PRIORITY, priority) {
        Field::One(priority) => (Decision::from_sampled(priority > 0), Some(priority)),
        _ => (Decision::Defer, None),
    };
    let span_id = match one(carrier, PARENT_ID, decimal) {
        Field::One(id) => SpanId::from_u64(id),
        Field::Absent => None,
        Field::Broken => return None,
    };
    let Some(span_id) = span_id else { return Some(Parent::Trace { trace_id, decision }) };
    let origin = match one(carrier, ORIGIN, |value| core::str::from_utf8(value).ok().map(String::from)) {
        Field::One(origin) => origin,
        _ => String::new(),
    };
    let state = state(priority, &origin, &tags);
    Some(Parent::Span(SpanContext { trace_id, span_id, decision, random: false, state }))
}

fn priority(value: &[u8]) -> Option<i8> {
    match value {
        b"-1" => Some(-1),
        b"0" => Some(0),
        b"1" => Some(1),
        b"2" => Some(2),
        _ => None,
    }
}

/// The tags that travel, without their prefix.
fn propagated(tags: &str) -> impl Iterator<Item = (&str, &str)> {
    tags.split(',').filter_map(|tag| tag.trim().strip_prefix(TAG_PREFIX)?.split_once('='))
}

/// `s:2;o:rum;t.dm:-4`; what does not fit a member is left out.
fn state(priority: Option<i8>, origin: &str, tags: &str) -> TraceState {
    let mut member = String::new();
    let mut add = |key: &str, value: &str| {
        let separator = usize::from(!member.is_empty());
        if value.is_empty() || member.len() + separator + key.len() + 1 + value.len() > TRACESTATE_PART {
            return;
        }
        if separator == 1 {
            member.push(';');
        }
        member.extend(key.chars().map(|c| if is_plain(c) && !matches!(c, ':' | '=') { c } else { '_' }));
        member.push(':');
        member.extend(value.chars().map(|c| match c {
            '=' => '~',
            c if is_plain(c) => c,
            _ => '_',
        }));
    };
    if let Some(priority) = priority {
        add("s", Line::<2>::new().text(priority_text(priority)).as_str());
    }
    add("o", origin);
    for (key, value) in propagated(tags).filter(|(key, _)| *key != HIGH_BITS) {
        let mut name = String::from("t.");
        name.push_str(key);
        add(&name, value);
    }
    // A blank at the end is no legal value.
    TraceState::EMPTY.insert(MEMBER, member.trim_end()).unwrap_or_default()
}

fn is_plain(character: char) -> bool {
    matches!(character, ' '..='~') && !matches!(character, ',' | ';' | '~')
}

fn priority_text(priority: i8) -> &'static str {
    match priority {
        ..0 => "-1",
        0 => "0",
        1 => "1",
        2.. => "2",
    }
}

pub(crate) fn inject(span: &SpanContext, carrier: &mut (impl Inject + ?Sized)) {
    carrier.set(TRACE_ID, Line::<20>::new().decimal(span.trace_id.low()).as_str());
    carrier.set(PARENT_ID, Line::<20>::new().decimal(span.span_id.to_u64()).as_str());
    let member = span.state.get(MEMBER).unwrap_or_default();
    let parts = || member.split(';').filter_map(|part| part.split_once(':'));
    let known = parts().find(|(key, _)| *key == "s").and_then(|(_, value)| priority(value.as_bytes()));
    match (span.decision, known) {
        (Decision::Defer, _) => carrier.remove(PRIORITY),
        // What the first tracer chose, as long as nobody decided otherwise since.
        (decision, Some(known)) if decision.is_sampled() == (known > 0) => {
            carrier.set(PRIORITY, priority_text(known));
        }
        (Decision::Deny, _) => carrier.set(PRIORITY, "0"),
        (Decision::Accept, _) => carrier.set(PRIORITY, "1"),
        (Decision::Debug, _) => carrier.set(PRIORITY, "2"),
    }
    match parts().find(|(key, _)| *key == "o") {
        Some((_, origin)) => carrier.set(ORIGIN, &origin.replace('~', "=")),
        None => carrier.remove(ORIGIN),
    }
    let mut tags = String::new();
    if span.trace_id.high() != 0 {
        tags.push_str(TAG_PREFIX);
        tags.push_str(HIGH_BITS);
        tags.push('=');
        hex::push(&mut tags, &span.trace_id.high().to_be_bytes());
    }
    for (key, value) in parts().filter_map(|(key, value)| Some((key.strip_prefix("t.")?, value))) {
        if tags.len() + TAG_PREFIX.len() + key.len() + value.len() + 2 > DATADOG_TAGS {
            break;
        }
        if !tags.is_empty() {
            tags.push(',');
        }
        tags.push_str(TAG_PREFIX);
        tags.push_str(key);
        tags.push('=');
        tags.extend(value.chars().map(|c| if c == '~' { '=' } else { c }));
    }
    if tags.is_empty() { carrier.remove(TAGS) } else { carrier.set(TAGS, &tags) }
}
