//! Feature gates: behaviour that is asked for by name when the program starts, with the collector's names and rules.

use std::collections::BTreeSet;

/// `tail_sampling` draws by `ot=rv` and writes `ot=th`.
pub const USE_TRACESTATE: &str = "processor.tailsamplingprocessor.usetracestate";

/// All there are; none is enabled unless it is named.
pub const GATES: &[&str] = &[USE_TRACESTATE];

/// Which are enabled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FeatureGates(BTreeSet<&'static str>);

impl FeatureGates {
    /// Lists of names between commas: `+` before a name or nothing enables it, `-` disables it, what comes later wins.
    ///
    /// # Errors
    /// Every name that is none, in the collector's words.
    pub fn parse(lists: &[String]) -> Result<Self, String> {
        let (mut enabled, mut errors) = (BTreeSet::new(), Vec::new());
        for text in lists.iter().flat_map(|list| list.split(',')).filter(|text| !text.is_empty()) {
            let (is_enabled, id) = match text.split_at_checked(1) {
                Some(("-", id)) => (false, id),
                Some(("+", id)) => (true, id),
                _ => (true, text),
            };
            match GATES.iter().find(|gate| **gate == id) {
                Some(gate) if is_enabled => drop(enabled.insert(*gate)),
                Some(gate) => drop(enabled.remove(gate)),
                None => errors.push(format!("no such feature gate {id:?}. valid gates: [{}]", GATES.join(" "))),
            }
        }
        if errors.is_empty() { Ok(Self(enabled)) } else { Err(errors.join("; ")) }
    }

    pub fn is_enabled(&self, gate: &str) -> bool {
        self.0.contains(gate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_named_as_the_collectors_are() {
        for (lists, expected) in [
            (&[][..], Ok(false)),
            (&[USE_TRACESTATE], Ok(true)),
            (&["+processor.tailsamplingprocessor.usetracestate"], Ok(true)),
            (&["-processor.tailsamplingprocessor.usetracestate"], Ok(false)),
            (
                &["+processor.tailsamplingprocessor.usetracestate", "-processor.tailsamplingprocessor.usetracestate"],
                Ok(false),
            ),
            (
                &["-processor.tailsamplingprocessor.usetracestate,processor.tailsamplingprocessor.usetracestate,"],
                Ok(true),
            ),
            (
                &["a,-b"],
                Err(
                    "no such feature gate \"a\". valid gates: [processor.tailsamplingprocessor.usetracestate]; no such feature gate \"b\"",
                ),
            ),
        ] {
            let lists: Vec<String> = lists.iter().map(|list| (*list).to_owned()).collect();
            let found = FeatureGates::parse(&lists);
            match (expected, &found) {
                (Ok(is_enabled), Ok(gates)) => assert_eq!(gates.is_enabled(USE_TRACESTATE), is_enabled, "{lists:?}"),
                (Err(start), Err(error)) => assert!(error.starts_with(start), "{error}"),
                _ => panic!("{lists:?}: {found:?}"),
            }
        }
    }
}
