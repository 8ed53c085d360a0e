//! OpenTelemetry's own member of the trace state: `ot=th:…;rv:…`.
//!
//! <https://opentelemetry.io/docs/specs/otel/trace/tracestate-handling/>

use opentelemetry::trace::TraceState;

use super::threshold::{Randomness, Threshold};

const MEMBER: &str = "ot";
const MAX_CHARACTERS: usize = 256;

/// What the member says; keys that mean nothing here are kept as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OtState {
    pub(crate) threshold: Option<Threshold>,
    pub(crate) randomness: Option<Randomness>,
    /// The `rv` value and all unknown keys, in order, as they came.
    rest: String,
}

impl OtState {
    pub(crate) fn read(state: &TraceState) -> Self {
        let mut found = Self::default();
        for pair in state.get(MEMBER).unwrap_or_default().split(';') {
            let Some((key, value)) = pair.split_once(':') else { continue };
            match key {
                "th" => {
                    found.threshold = Threshold::parse(value);
                    continue;
                }
                // A broken value would mislead others as it did us.
                "rv" => match Randomness::parse(value) {
                    Some(randomness) => found.randomness = Some(randomness),
                    None => continue,
                },
                _ => {}
            }
            if !found.rest.is_empty() {
                found.rest.push(';');
            }
            found.rest.push_str(pair);
        }
        found
    }

    /// `state` with this member; without it when there is nothing to say.
    pub(crate) fn write(&self, state: &TraceState) -> TraceState {
        if self.threshold.is_none() && self.rest.is_empty() && state.get(MEMBER).is_none() {
            return state.clone();
        }
        let mut text = self.threshold.map_or_else(String::new, |threshold| format!("th:{threshold}"));
        if !self.rest.is_empty() && text.len() + 1 + self.rest.len() <= MAX_CHARACTERS {
            if !text.is_empty() {
                text.push(';');
            }
            text.push_str(&self.rest);
        }
        let changed = if text.is_empty() { state.delete(MEMBER) } else { state.insert(MEMBER, text) };
        changed.unwrap_or_else(|_| state.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(member: &str, threshold: Option<&str>, expected: &str) {
        let state = TraceState::from_key_value([("ot", member), ("other", "1")]).unwrap();
        let mut read = OtState::read(&state);
        read.threshold = threshold.and_then(Threshold::parse);
        assert_eq!(read.write(&state).header(), expected);
    }

    #[test]
    fn other_keys_survive() {
        check("th:8", Some("c"), "ot=th:c,other=1");
        check("th:8", None, "other=1");
        check("rv:0123456789abcd;th:8;x:y", Some("0"), "ot=th:0;rv:0123456789abcd;x:y,other=1");
        check("rv:0123456789abcd", None, "ot=rv:0123456789abcd,other=1");
        check("rv:broken;x:y", None, "ot=x:y,other=1");
        check("p:8;r:62", Some("8"), "ot=th:8;p:8;r:62,other=1");
        let state = TraceState::from_key_value([("ot", "rv:0123456789abcd;th:e")]).unwrap();
        let read = OtState::read(&state);
        assert_eq!((read.randomness, read.threshold), (Randomness::parse("0123456789abcd"), Threshold::parse("e")));
    }
}
