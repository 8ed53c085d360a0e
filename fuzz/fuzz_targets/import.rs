//! Files of Jaeger, Zipkin and OTLP: what can be read is valid OTLP, the rest is counted.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spanwise_wire::import::import;

#[path = "../../crates/spanwise-wire/tests/proof/oracle.rs"]
mod oracle;

fuzz_target!(|bytes: &[u8]| {
    let imported = import(&bytes::Bytes::copy_from_slice(bytes));
    let spans: usize = imported.batches.iter().map(|batch| batch.len_spans()).sum();
    assert_eq!(imported.spans, spans as u64);
    assert_eq!(imported.rejected, imported.reasons.iter().map(|(_, count)| count).sum::<u64>());
    imported.batches.iter().for_each(|batch| oracle::check(batch.bytes()));
});
