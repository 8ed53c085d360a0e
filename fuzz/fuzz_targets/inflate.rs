//! Every decompressor: never more than the bound, and what we compress unfolds to the same.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use spanwise_wire::inflate::{Encoding, deflate, inflate};

const ALL: [Encoding; 7] = [
    Encoding::Identity,
    Encoding::Gzip,
    Encoding::Zstd,
    Encoding::Zlib,
    Encoding::Deflate,
    Encoding::Snappy,
    Encoding::Lz4,
];
const LIMIT: usize = 256 << 10;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, body)) = bytes.split_first() else { return };
    let encoding = ALL[usize::from(*first) % ALL.len()];
    let body = Bytes::copy_from_slice(body);
    if let Ok(inflated) = inflate(encoding, &body, LIMIT) {
        assert!(inflated.len() <= LIMIT);
    }
    let deflated = deflate(encoding, Some(1), &body).expect("any bytes can be compressed");
    assert_eq!(inflate(encoding, &deflated, body.len()), Ok(body));
});
