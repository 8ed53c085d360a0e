//! AWS X-Ray.
//!
//! <https://docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html#xray-concepts-tracingheader>

use super::Line;
use crate::carrier::{Field, one};
use crate::hex::{self, Case};
use crate::text::{split_once, trim_blanks};
use crate::{Decision, Extract, Inject, Parent, SpanContext, SpanId, TraceId, TraceState};

pub(crate) const HEADER: &str = "x-amzn-trace-id";

pub(crate) fn extract(carrier: &(impl Extract + ?Sized)) -> Option<Parent> {
    match one(carrier, HEADER, parse) {
        Field::One(parent) => Some(parent),
        _ => None,
    }
}

/// `Root=1-{8 hex}-{24 hex};Parent={16 hex};Sampled={0|1|?}` in any order; other keys are AWS's own business. Load
/// balancers send only the root.
fn parse(value: &[u8]) -> Option<Parent> {
    let (mut trace_id, mut span_id, mut decision) = (None, None, None);
    for part in value.split(|byte| *byte == b';') {
        let part = trim_blanks(part);
        if part.is_empty() {
            continue;
        }
        match split_once(part, b'=')? {
            (b"Root", value) if trace_id.is_none() => trace_id = Some(root(value)?),
            (b"Parent", value) if span_id.is_none() => {
                span_id = Some(SpanId::from_bytes(hex::decode(value, Case::Lower)?)?);
            }
            (b"Sampled", value) if decision.is_none() => {
                decision = Some(match value {
                    b"0" => Decision::Deny,
                    b"1" => Decision::Accept,
                    b"?" => Decision::Defer,
                    _ => return None,
                });
            }
            (b"Root" | b"Parent" | b"Sampled", _) => return None,
            _ => {}
        }
    }
    let (trace_id, decision) = (trace_id?, decision.unwrap_or_default());
    Some(match span_id {
        Some(span_id) => {
            Parent::Span(SpanContext { trace_id, span_id, decision, random: false, state: TraceState::EMPTY })
        }
        None => Parent::Trace { trace_id, decision },
    })
}

fn root(value: &[u8]) -> Option<TraceId> {
    let rest = value.strip_prefix(b"1-")?;
    let (seconds, unique) = split_once(rest, b'-')?;
    let (seconds, unique) = (hex::decode::<4>(seconds, Case::Lower)?, hex::decode::<12>(unique, Case::Lower)?);
    let mut bytes = [0; 16];
    for (target, source) in bytes.iter_mut().zip(seconds.iter().chain(&unique)) {
        *target = *source;
    }
    TraceId::from_bytes(bytes)
}

pub(crate) fn inject(span: &SpanContext, carrier: &mut (impl Inject + ?Sized)) {
    let (seconds, unique) = span.trace_id.as_bytes().split_at_checked(4).unwrap_or_default();
    let line = Line::<74>::new().text("Root=1-").hex(seconds).text("-").hex(unique);
    let line = line.text(";Parent=").hex(span.span_id.as_bytes()).text(match span.decision {
        Decision::Defer => ";Sampled=?",
        Decision::Deny => ";Sampled=0",
        Decision::Accept | Decision::Debug => ";Sampled=1",
    });
    carrier.set(HEADER, line.as_str());
}
