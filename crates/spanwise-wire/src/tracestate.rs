//! The member `ot` of a W3C tracestate: with which probability a span was sampled, and which draw decided.
//! <https://opentelemetry.io/docs/specs/otel/trace/tracestate-handling/>, <https://www.w3.org/TR/trace-context/#tracestate-header>

use spanwise_model::{Threshold, TraceId};

use crate::encode::put_str;
use crate::view::Fields;

/// The draw of a trace whose spans do not name one.
pub fn randomness_of(id: &TraceId) -> u64 {
    id.0[9..].iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte))
}

/// A whole tracestate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraceState<'a> {
    /// `rv`, as it stands.
    randomness: Option<&'a str>,
    threshold: Option<Threshold>,
    /// There is an `ot`.
    has_own: bool,
    /// What else `ot` holds, and what the other members are.
    own: Vec<&'a str>,
    others: Vec<&'a str>,
}

const MOST_BYTES: usize = 1024;
const MOST_MEMBERS: usize = 32;
const MOST_VALUE_BYTES: usize = 256;

impl<'a> TraceState<'a> {
    /// `None` when it breaks the rules.
    pub fn parse(text: &'a str) -> Option<Self> {
        let mut state = Self::default();
        if text.len() > MOST_BYTES {
            return None;
        }
        let members =
            text.split(',').map(|member| member.trim_matches([' ', '\t'])).filter(|member| !member.is_empty());
        for (number, member) in members.enumerate() {
            let (key, value) = member.split_once('=')?;
            let is_valid = |c: u8| matches!(c, 0x20..=0x7e) && !matches!(c, b',' | b'=');
            if number >= MOST_MEMBERS || !is_key(key) {
                return None;
            }
            if !(1..=MOST_VALUE_BYTES).contains(&value.len()) || !value.bytes().all(is_valid) {
                return None;
            }
            match key {
                // Of equal keys the first counts.
                "ot" if state.has_own => {}
                "ot" => state.read_own(value)?,
                _ => state.others.push(member),
            }
        }
        Some(state)
    }

    fn read_own(&mut self, value: &'a str) -> Option<()> {
        self.has_own = true;
        for member in value.split(';') {
            let (key, value) = member.split_once(':')?;
            let mut of_key = key.bytes();
            let is_key = of_key.next().is_some_and(|c| c.is_ascii_lowercase())
                && of_key.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
            let is_value = value.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-'));
            if !is_key || !is_value {
                return None;
            }
            match key {
                "rv" if value.len() == Threshold::DIGITS && is_number(value) => self.randomness = Some(value),
                "rv" => return None,
                "th" => self.threshold = Some(Threshold::parse(value)?),
                _ => self.own.push(member),
            }
        }
        Some(())
    }

    /// It says how the span was sampled, or by which draw.
    pub fn has_sampling(&self) -> bool {
        self.randomness.is_some() || self.threshold.is_some()
    }

    /// The draw it names.
    pub fn randomness(&self) -> Option<u64> {
        self.randomness.and_then(|digits| u64::from_str_radix(digits, 16).ok())
    }

    /// The same with this threshold, unless its own is stricter: what was dropped before cannot come back. Of 32 members
    /// without an `ot` the last one goes. `None` when `ot` would be longer than a value may be.
    pub fn with_threshold(&self, threshold: Threshold) -> Option<String> {
        let threshold = self.threshold.unwrap_or_default().max(threshold);
        let mut text = String::from("ot=");
        if let Some(randomness) = self.randomness {
            text.push_str(&format!("rv:{randomness};"));
        }
        text.push_str(&format!("th:{threshold}"));
        for member in &self.own {
            text.push(';');
            text.push_str(member);
        }
        if text.len() > "ot=".len() + MOST_VALUE_BYTES {
            return None;
        }
        for member in self.others.iter().take(MOST_MEMBERS - 1) {
            text.push(',');
            text.push_str(member);
        }
        Some(text)
    }
}

fn is_number(digits: &str) -> bool {
    digits.bytes().all(|c| c.is_ascii_hexdigit())
}

/// `key` or `tenant@system`.
fn is_key(key: &str) -> bool {
    let is_rest = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'_' | b'-' | b'*' | b'/');
    let is_part = |part: &str, may_begin_with_digit: bool, most: usize| {
        let first = part.bytes().next();
        first.is_some_and(|c| c.is_ascii_lowercase() || (may_begin_with_digit && c.is_ascii_digit()))
            && part.len() <= most
            && part.bytes().all(is_rest)
    };
    match key.split_once('@') {
        None => is_part(key, false, 256),
        Some((tenant, system)) => is_part(tenant, true, 241) && is_part(system, false, 14),
    }
}

const TRACE_STATE: u32 = 3;

/// A span's tracestate, out of its bytes.
pub fn of_span(span: &[u8]) -> &str {
    Fields::new(span).filter(|field| field.number == TRACE_STATE).last().map_or("", |field| field.value.text())
}

/// The same span with another tracestate.
pub fn with_trace_state(span: &[u8], trace_state: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(span.len() + trace_state.len() + 2);
    let mut rest = Some(trace_state);
    for field in Fields::new(span) {
        if field.number >= TRACE_STATE
            && let Some(text) = rest.take()
        {
            put_str(&mut out, TRACE_STATE, text);
        }
        if field.number != TRACE_STATE {
            out.extend_from_slice(field.raw);
        }
    }
    put_str(&mut out, TRACE_STATE, rest.unwrap_or_default());
    out
}

#[cfg(test)]
mod tests {
    use spanwise_model::{Span, SpanId};

    use super::*;
    use crate::decode_span;
    use crate::encode::encode_span;

    #[test]
    fn the_draw_of_an_id_is_its_last_56_bits() {
        let mut id = [0xff; 16];
        id[9..].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 1]);
        assert_eq!(randomness_of(&TraceId(id)), 1 << 55 | 1);
    }

    #[test]
    fn what_is_written_keeps_the_limits() {
        let quarter = Threshold::of_probability(0.25).unwrap();
        // Of 256 bytes `;th:c` takes five.
        for (length, fits) in [(251, true), (252, false)] {
            let text = format!("ot=x:{}", "1".repeat(length - 2));
            let written = TraceState::parse(&text).unwrap().with_threshold(quarter);
            assert_eq!(written.as_deref().map(str::len), fits.then_some(256 + 3), "{length}");
            assert!(written.is_none_or(|written| TraceState::parse(&written).is_some()));
        }
        let others: Vec<String> = (0..32).map(|number| format!("k{number}=v")).collect();
        for (members, kept) in [(31, 31), (32, 31)] {
            let state = others[..members].join(",");
            let written = TraceState::parse(&state).unwrap().with_threshold(quarter).unwrap();
            assert_eq!(written, format!("ot=th:c,{}", others[..kept].join(",")));
        }
    }

    #[test]
    fn a_threshold_goes_into_a_tracestate_and_the_rest_stays() {
        for (text, expected) in [
            ("", "ot=th:c"),
            ("a=b, ,c@d=e f\t", "ot=th:c,a=b,c@d=e f"),
            ("ot=th:8", "ot=th:c"),
            ("a=b,ot=x:1;th:0;rv:0123456789ABcd", "ot=rv:0123456789ABcd;th:c;x:1,a=b"),
            // What is stricter stays.
            ("ot=th:e6666", "ot=th:e6666"),
            ("ot=x:1,a=b,ot=th:e", "ot=th:c;x:1,a=b"),
        ] {
            let state = TraceState::parse(text).unwrap();
            let written = state.with_threshold(Threshold::of_probability(0.25).unwrap());
            assert_eq!(written.as_deref(), Some(expected), "{text:?}");
        }
        let of_draw = TraceState::parse("ot=rv:00000000000010").unwrap();
        assert_eq!((of_draw.randomness(), of_draw.has_sampling()), (Some(16), true));
        let other = TraceState::parse("ot=x:1").unwrap();
        assert_eq!((other.randomness(), other.has_sampling()), (None, false));
        assert!(TraceState::parse("ot=th:0").unwrap().has_sampling());
    }

    #[test]
    fn what_breaks_the_rules_is_not_read() {
        let long = format!("a={}", "b".repeat(257));
        let many = vec!["a=b"; 33].join(",");
        let huge = vec![format!("a={}", "b".repeat(250)); 5].join(",");
        let broken = [
            "a",
            "=b",
            "a=",
            "A=b",
            "a=b=c",
            "1a=b",
            "a@=b",
            "ä=b",
            "a=ä",
            "ot=",
            "ot=th",
            "ot=th:",
            "ot=th:x",
            "ot=th:0123456789abcde",
            "ot=rv:1",
            "ot=rv:0123456789abcdef",
            "ot=TH:1",
            "ot=th:8;",
            "ot=x:?",
            &long,
            &many,
            &huge,
        ];
        for text in broken {
            assert_eq!(TraceState::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_span_gets_another_tracestate_and_nothing_else() {
        for before in ["", "a=b"] {
            let mut span = Span {
                trace_id: TraceId([1; 16]),
                span_id: SpanId([2; 8]),
                name: "work".to_owned(),
                trace_state: before.to_owned(),
                flags: 257,
                ..Span::default()
            };
            let bytes = with_trace_state(&encode_span(&span), "ot=th:c");
            assert_eq!(of_span(&bytes), "ot=th:c");
            span.trace_state = "ot=th:c".to_owned();
            assert_eq!(decode_span(&bytes), span);
            assert_eq!(with_trace_state(&bytes, ""), encode_span(&Span { trace_state: String::new(), ..span }));
        }
        // Of nothing but ids.
        let short =
            &encode_span(&Span { trace_id: TraceId([1; 16]), span_id: SpanId([2; 8]), ..Span::default() })[..28];
        assert_eq!(of_span(&with_trace_state(short, "a=b")), "a=b");
    }
}
