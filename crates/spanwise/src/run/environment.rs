//! The variables that a run sets: only what is not set yet, and what exists is kept and extended.

use std::ffi::{OsStr, OsString};

/// Set for every process of a run; a nested `spanwise run` joins it.
pub const RUN_ID: &str = "SPANWISE_RUN_ID";
/// Resource attribute that marks the spans of one run.
pub const RUN_ATTRIBUTE: &str = "spanwise.run.id";

/// What the child gets beside its inherited environment.
pub type Variables = Vec<(OsString, OsString)>;

/// How the agents should behave when the user has not said otherwise, and why.
pub const DEFAULTS: &[(&str, &str)] = &[
    ("OTEL_TRACES_EXPORTER", "otlp"),
    // Spanwise keeps traces; the other signals would be sent only to be discarded.
    ("OTEL_METRICS_EXPORTER", "none"),
    ("OTEL_LOGS_EXPORTER", "none"),
    // Traces show up within half a second, and little is lost when a program is killed.
    ("OTEL_BSP_SCHEDULE_DELAY", "500"),
    // The last that finds a context wins: W3C before B3 before Jaeger.
    ("OTEL_PROPAGATORS", "jaeger,b3,tracecontext,baggage"),
    ("OTEL_SEMCONV_STABILITY_OPT_IN", "http,database,code"),
];

/// The value in force: set by us already, or inherited.
pub fn current(variables: &Variables, name: &str) -> Option<OsString> {
    let ours = variables.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    ours.or_else(|| std::env::var_os(name)).filter(|value| !value.is_empty())
}

pub fn set(variables: &mut Variables, name: &str, value: impl AsRef<OsStr>) {
    variables.retain(|(key, _)| key != name);
    variables.push((name.into(), value.as_ref().to_owned()));
}

pub fn set_default(variables: &mut Variables, name: &str, value: impl AsRef<OsStr>) {
    if current(variables, name).is_none() {
        set(variables, name, value);
    }
}

/// Adds to a list that may exist; what is in it already is not added again.
pub fn extend(variables: &mut Variables, name: &str, separator: &str, addition: &OsStr, is_first: bool) {
    let value = match current(variables, name) {
        None => addition.to_owned(),
        Some(existing) => {
            let (existing_text, addition_text) = (existing.to_string_lossy(), addition.to_string_lossy());
            if existing_text.contains(addition_text.as_ref()) {
                return;
            }
            let (first, second) = if is_first { (addition, existing.as_os_str()) } else { (&*existing, addition) };
            let mut joined = first.to_owned();
            joined.push(separator);
            joined.push(second);
            joined
        }
    };
    set(variables, name, value);
}

/// Commas, equals signs and percent signs of a resource attribute's value.
pub fn attribute(key: &str, value: &str) -> String {
    let mut out = format!("{key}=");
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' | b':' => {
                out.push(char::from(byte))
            }
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_exists_is_kept_and_extended_once() {
        let mut variables = Variables::new();
        set(&mut variables, "SPANWISE_TEST_OPTIONS", "--inspect");
        for _ in 0..2 {
            extend(&mut variables, "SPANWISE_TEST_OPTIONS", " ", OsStr::new("--require x"), false);
        }
        assert_eq!(current(&variables, "SPANWISE_TEST_OPTIONS"), Some("--inspect --require x".into()));
        extend(&mut variables, "SPANWISE_TEST_PATH", ":", OsStr::new("/agent"), true);
        extend(&mut variables, "SPANWISE_TEST_PATH", ":", OsStr::new("/first"), true);
        assert_eq!(current(&variables, "SPANWISE_TEST_PATH"), Some("/first:/agent".into()));
        set_default(&mut variables, "SPANWISE_TEST_PATH", "/other");
        assert_eq!(current(&variables, "SPANWISE_TEST_PATH"), Some("/first:/agent".into()));
    }

    #[test]
    fn attributes_are_encoded() {
        assert_eq!(attribute("service.name", "a,b=c d"), "service.name=a%2Cb%3Dc%20d");
    }
}
