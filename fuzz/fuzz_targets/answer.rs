//! What a next hop answers: it may be hostile too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spanwise_wire::answer::{PartialSuccess, RpcStatus};

fuzz_target!(|bytes: &[u8]| {
    let status = RpcStatus::from_proto(bytes);
    assert_eq!(RpcStatus::from_proto(&status.to_proto()).message, status.message);
    let partial = PartialSuccess::from_proto(bytes);
    assert_eq!(PartialSuccess::from_proto(&partial.to_proto()), partial);
});
