//! OTLP/JSON: what is taken is valid OTLP, and what we write of it reads back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spanwise_wire::Batch;
use spanwise_wire::json::{batch_to_otlp_json, otlp_json_to_proto};

#[path = "../../crates/spanwise-wire/tests/proof/oracle.rs"]
mod oracle;

fuzz_target!(|bytes: &[u8]| {
    let Ok(proto) = otlp_json_to_proto(bytes, &oracle::wide()) else { return };
    oracle::check(&proto);
    let parsed = Batch::parse(proto.into(), &oracle::wide()).expect("what the JSON reader wrote");
    let json = batch_to_otlp_json(&parsed.batch);
    let again = otlp_json_to_proto(json.as_bytes(), &oracle::wide()).expect("what we wrote");
    let again = Batch::parse(again.into(), &oracle::wide()).expect("what we wrote").batch;
    assert_eq!(batch_to_otlp_json(&again), json);
});
