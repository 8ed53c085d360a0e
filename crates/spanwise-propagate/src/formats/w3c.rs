//! W3C Trace Context level 2 and Baggage.
//!
//! <https://www.w3.org/TR/trace-context-2/>, <https://www.w3.org/TR/baggage/>

use crate::carrier::{Field, one};
use crate::hex::{self, Case};
use crate::trace_state::Builder;
use crate::{Baggage, Decision, Extract, Inject, Parent, SpanContext, SpanId, TraceId, TraceState};

pub(crate) const TRACEPARENT: &str = "traceparent";
pub(crate) const TRACESTATE: &str = "tracestate";
pub(crate) const BAGGAGE: &str = "baggage";

const SAMPLED: u8 = 1;
const RANDOM: u8 = 2;

/// Reads a `traceparent` value, of this version or a later one. The state is empty.
///
/// Later versions may be longer, after another `-`; flags unknown to this version are dropped, as they must be when the
/// context is passed on.
pub fn parse_traceparent(value: &[u8]) -> Option<SpanContext> {
    let (known, rest) = value.split_at_checked(55)?;
    let [v1, v2, b'-', ids @ .., b'-', f1, f2] = known else { return None };
    let (trace_id, span_id) = crate::text::split_once(ids, b'-')?;
    let [version] = hex::decode::<1>(&[*v1, *v2], Case::Lower)?;
    match (version, rest) {
        (0xff, _) => return None,
        (_, []) => {}
        (1.., [b'-', ..]) => {}
        _ => return None,
    }
    let [flags] = hex::decode::<1>(&[*f1, *f2], Case::Lower)?;
    Some(SpanContext {
        trace_id: TraceId::from_bytes(hex::decode(trace_id, Case::Lower)?)?,
        span_id: SpanId::from_bytes(hex::decode(span_id, Case::Lower)?)?,
        decision: Decision::from_sampled(flags & SAMPLED != 0),
        random: flags & RANDOM != 0,
        state: TraceState::EMPTY,
    })
}

/// Calls `with` with the `traceparent` value: 55 characters, from the stack.
pub fn format_traceparent<T>(span: &SpanContext, with: impl FnOnce(&str) -> T) -> T {
    let flags = if span.decision.is_sampled() { SAMPLED } else { 0 } | if span.random { RANDOM } else { 0 };
    let mut line = *b"00-................................-................-..";
    hex::encode(span.trace_id.as_bytes(), &mut line[3..35]);
    hex::encode(span.span_id.as_bytes(), &mut line[36..52]);
    hex::encode(&[flags], &mut line[53..]);
    with(core::str::from_utf8(&line).unwrap_or_default())
}

pub(crate) fn extract(carrier: &(impl Extract + ?Sized)) -> Option<Parent> {
    let Field::One(mut span) = one(carrier, TRACEPARENT, parse_traceparent) else { return None };
    let mut builder = Builder::default();
    let mut is_legal = true;
    carrier.values(TRACESTATE, &mut |value| is_legal = is_legal && builder.add(value).is_ok());
    // A broken list must not affect the parent (§3.3.1.1).
    if is_legal {
        span.state = builder.finish();
    }
    Some(Parent::Span(span))
}

pub(crate) fn inject(span: &SpanContext, carrier: &mut (impl Inject + ?Sized), state_bytes: usize) {
    format_traceparent(span, |value| carrier.set(TRACEPARENT, value));
    if span.state.as_str().len() <= state_bytes && !span.state.is_empty() {
        return carrier.set(TRACESTATE, span.state.as_str());
    }
    let state = span.state.truncate(state_bytes);
    if state.is_empty() { carrier.remove(TRACESTATE) } else { carrier.set(TRACESTATE, state.as_str()) }
}

pub(crate) fn extract_baggage(carrier: &(impl Extract + ?Sized), baggage: &mut Baggage) {
    let mut headers = 0;
    carrier.values(BAGGAGE, &mut |value| {
        headers += 1;
        if headers <= crate::limits::BAGGAGE_MEMBERS {
            baggage.read_header(value);
        }
    });
}

pub(crate) fn inject_baggage(baggage: &Baggage, carrier: &mut (impl Inject + ?Sized)) {
    if baggage.is_empty() { carrier.remove(BAGGAGE) } else { carrier.set(BAGGAGE, &baggage.to_header()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::ToString;

    const TRACE: &str = "12345678901234567890123456789012";
    const SPAN: &str = "1234567890123456";

    #[track_caller]
    fn check(value: &str, expected: Option<(bool, bool)>) {
        let found = parse_traceparent(value.as_bytes());
        assert_eq!(found.as_ref().map(|span| (span.decision == Decision::Accept, span.random)), expected, "{value}");
        if let Some(span) = found {
            assert_eq!((span.trace_id.to_string().as_str(), span.span_id.to_string().as_str()), (TRACE, SPAN));
        }
    }

    #[test]
    fn traceparents() {
        let with = |version: &str, flags: &str| format!("{version}-{TRACE}-{SPAN}-{flags}");
        check(&with("00", "00"), Some((false, false)));
        check(&with("00", "01"), Some((true, false)));
        check(&with("00", "03"), Some((true, true)));
        check(&with("00", "ff"), Some((true, true)));
        check(&with("cc", "02"), Some((false, true)));
        check(&with("cc", "01-what-the-future-will-be-like"), Some((true, false)));
        check(&with("cc", "01-"), Some((true, false)));
        check(&with("cc", "01.what"), None);
        check(&with("00", "01-what"), None);
        check(&with("00", "01."), None);
        check(&with("ff", "01"), None);
        check(&with("0", "01"), None);
        check(&with("000", "01"), None);
        check(&with(".0", "01"), None);
        check(&with("00", "1"), None);
        check(&with("00", "001"), None);
        check(&with("00", "0."), None);
        check(&with("0A", "01"), None);
        check(&with("00", "0A"), None);
        check("", None);
        check(&format!("00-{}-{SPAN}-01", "0".repeat(32)), None);
        check(&format!("00-{TRACE}-{}-01", "0".repeat(16)), None);
        check(&format!("00-{}A-{SPAN}-01", &TRACE[1..]), None);
        check(&format!("00-{}-{SPAN}-01", &TRACE[1..]), None);
        check(&format!("00-{TRACE}0-{}-01", &SPAN[1..]), None);
        check(&format!("00-{TRACE}0-{SPAN}-01"), None);
    }
}
