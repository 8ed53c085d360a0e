//! OTLP protobuf: what prost reads we read, every indexed field is the same, and slicing loses nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spanwise_wire::rewrite::Attributes;
use spanwise_wire::{Batch, concat, decode_trace, split_by_count};

#[path = "../../crates/spanwise-wire/tests/proof/oracle.rs"]
mod oracle;

fuzz_target!(|bytes: &[u8]| {
    oracle::check(bytes);
    let Ok(parsed) = Batch::parse(bytes::Bytes::copy_from_slice(bytes), &oracle::wide()) else { return };
    let batch = parsed.batch;
    let spans = batch.len_spans();
    assert_eq!(decode_trace(&[batch.clone()]).spans.len(), spans);
    let joined = concat(&[batch.clone(), batch.clone()]).expect("below 4 GiB");
    assert_eq!(joined.len_spans(), 2 * spans);
    oracle::check(joined.bytes());
    assert_eq!(split_by_count(&joined, 3).iter().map(Batch::len_spans).sum::<usize>(), 2 * spans);
    for place in 0..spans {
        let mut attributes = Attributes::of(batch.span_bytes(place), 9);
        attributes.set("fuzz", spanwise_model::Value::Int(1));
        let written = attributes.write(batch.span_bytes(place), 9);
        assert!(Attributes::of(&written, 9).has("fuzz"));
    }
});
