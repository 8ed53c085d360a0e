//! Whatever arrives: no panic, bounded results, and what is accepted is legal and survives a hop unchanged.

use std::collections::BTreeMap;

use proptest::prelude::*;
use spanwise_propagate::{Baggage, Format, Propagator, SpanContext, TraceState, limits, parse_traceparent};

/// Names that mean something, values from noise to nearly right.
fn headers() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    let mut names: Vec<String> = Format::ALL.iter().flat_map(|f| f.fields()).map(ToString::to_string).collect();
    names.extend(["uberctx-a", "ot-baggage-\u{e4}", "jaeger-baggage", "jaeger-debug-id", "B3", ""].map(String::from));
    let value = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..80),
        "[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}.{0,3}".prop_map(String::into_bytes),
        "[0-9a-f]{32}[-:/][0-9a-f]{16}[-:;]{1}(1|0|d|0:1|o=1)?".prop_map(String::into_bytes),
        "Root=1-[0-9a-f]{8}-[0-9a-f]{24};(Parent=[0-9a-f]{16};)?Sampled=[01?]".prop_map(String::into_bytes),
        "(_dd.p.[a-z]{1,5}=[ -~]{0,20},?){0,5}".prop_map(String::into_bytes),
        "([a-z0-9][a-z@*/_-]{0,8}=[ -~]{0,9},){0,40}".prop_map(String::into_bytes),
        "([a-z]{1,3}=[!-~]{0,9}(;p)?,){0,80}".prop_map(String::into_bytes),
        "[0-9]{1,20}".prop_map(String::into_bytes),
    ];
    proptest::collection::vec((proptest::sample::select(names), value), 0..8)
}

fn hop(propagator: &Propagator, span: &SpanContext, baggage: &Baggage) -> BTreeMap<String, String> {
    let mut headers = BTreeMap::new();
    propagator.inject(span, baggage, &mut headers);
    headers
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_headers(headers in headers()) {
        for format in Format::ALL {
            let propagator = Propagator::new([format, Format::TraceContext, Format::Baggage]);
            let found = propagator.extract(&headers);
            prop_assert!(found.baggage.len() <= limits::BAGGAGE_MEMBERS);
            prop_assert!(found.baggage.to_header().len() <= limits::BAGGAGE_BYTES);
            prop_assert!(found.others.len() < limits::FORMATS);
            if let Some(span) = found.span() {
                prop_assert!(span.state.len() <= limits::TRACESTATE_MEMBERS);
                let w3c = Propagator::default();
                let again = w3c.extract(&hop(&w3c, span, &found.baggage));
                let read = again.span().unwrap();
                prop_assert_eq!((read.trace_id, read.span_id, read.random), (span.trace_id, span.span_id, span.random));
                prop_assert_eq!(&read.state, &span.state.truncate(limits::TRACESTATE_WRITE));
                prop_assert_eq!(&again.baggage, &found.baggage);
            }
        }
    }

    #[test]
    fn any_bytes_as_traceparent(value in proptest::collection::vec(any::<u8>(), 0..70)) {
        // Noise is never right by chance.
        prop_assert!(parse_traceparent(&value).is_none());
    }

    #[test]
    fn one_changed_byte_of_a_traceparent(at in 0usize..55, byte: u8) {
        let good = b"00-80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-01";
        let mut bytes = *good;
        bytes[at] = byte;
        let is_digit = byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let is_dash = matches!(at, 2 | 35 | 52);
        let is_version_ff = bytes.starts_with(b"ff");
        let expected = if is_dash { byte == b'-' } else { is_digit } && !is_version_ff;
        prop_assert_eq!(parse_traceparent(&bytes).is_some(), expected);
    }

    #[test]
    fn trace_state_against_a_naive_model(operations in proptest::collection::vec((0u8..3, "[a-c]{1,2}", "[x-z]{1,3}"), 0..60)) {
        let (mut state, mut model) = (TraceState::EMPTY, Vec::<(String, String)>::new());
        for (operation, key, value) in operations {
            match operation {
                0 => {
                    state = state.remove(&key);
                    model.retain(|(known, _)| *known != key);
                }
                _ => {
                    state = state.insert(&key, &value).unwrap();
                    model.retain(|(known, _)| *known != key);
                    model.insert(0, (key, value));
                    model.truncate(32);
                }
            }
            let expected: Vec<_> = model.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            prop_assert_eq!(state.iter().collect::<Vec<_>>(), expected);
            prop_assert_eq!(&TraceState::parse(state.as_str().as_bytes()).unwrap(), &state);
        }
    }
}
