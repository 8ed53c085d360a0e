//! A damaged segment of the log: reading ends, and gives back only records whose checksum holds.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

#[allow(dead_code)]
#[path = "../../crates/spanwise-journal/src/segment.rs"]
mod segment;

fuzz_target!(|bytes: &[u8]| {
    // As it is, and as the damaged rest of a segment that begins well.
    segment::read(&Bytes::copy_from_slice(bytes), 7);
    let mut whole = segment::header(7).to_vec();
    segment::put_record(&mut whole, 7, &[b"first"]);
    whole.extend_from_slice(bytes);
    segment::put_record(&mut whole, 7, &[b"last"]);
    let contents = segment::read(&Bytes::from(whole), 7);
    assert_eq!(contents.records.first().map(|(_, payload)| &payload[..]), Some(&b"first"[..]));
    assert!(contents.records.iter().all(|(at, _)| (*at as usize) >= segment::HEADER_BYTES));
});
