//! TraceQL: every text is a query or an error with its place.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(error) = spanwise_query::traceql::parse(text) {
        assert!(!error.to_string().is_empty() && error.offset <= text.len());
    }
});
