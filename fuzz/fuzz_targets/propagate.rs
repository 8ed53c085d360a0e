//! Headers in every format: one a line, its name and value separated by a colon; the first byte picks the format.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spanwise_propagate::{Format, Propagator, limits};

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else { return };
    let headers: Vec<(String, &[u8])> = rest
        .split(|byte| *byte == b'\n')
        .filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            Some((String::from_utf8_lossy(&line[..colon]).into_owned(), &line[colon + 1..]))
        })
        .collect();
    let format = Format::ALL[usize::from(*first) % Format::ALL.len()];
    let found = Propagator::new([format, Format::TraceContext, Format::Baggage]).extract(&headers);
    assert!(found.baggage.to_header().len() <= limits::BAGGAGE_BYTES);
    let Some(span) = found.span() else { return };
    assert!(span.state.len() <= limits::TRACESTATE_MEMBERS);
    // What was accepted is legal: it survives a hop.
    let mut out = std::collections::BTreeMap::<String, String>::new();
    let w3c = Propagator::default();
    w3c.inject(span, &found.baggage, &mut out);
    let again = w3c.extract(&out);
    let read = again.span().expect("what was written can be read");
    assert_eq!((read.trace_id, read.span_id), (span.trace_id, span.span_id));
    assert_eq!(read.state, span.state.truncate(limits::TRACESTATE_WRITE));
    assert_eq!(again.baggage, found.baggage);
});
