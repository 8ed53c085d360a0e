//! TraceQL: every text is a query or an error. The grammar alone, without the engine behind it.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code)]
#[path = "../../crates/spanwise-query/src/traceql/mod.rs"]
mod traceql;

#[allow(dead_code)]
#[path = "../../crates/spanwise-query/src/trace_view.rs"]
mod trace_view;

fuzz_target!(|text: &str| {
    if let Err(error) = traceql::parse(text) {
        assert!(!error.to_string().is_empty());
    }
});
