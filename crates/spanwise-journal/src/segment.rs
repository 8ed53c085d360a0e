//! One file of the log: a header, then records, then zeros.
//!
//! | bytes | header |
//! |---|---|
//! | 8 | magic `SPWNWAL1` |
//! | 8 | sequence number, little-endian |
//! | 4 | CRC-32C of the 16 bytes before |
//! | 12 | zeros |
//!
//! A record is its length (u32, never 0), a CRC-32C (u32) over the segment's sequence number, the length and the
//! payload, then the payload. The sequence number keeps stale bytes of another segment from being read as records.

use bytes::Bytes;

pub(crate) const HEADER_BYTES: usize = 32;
pub(crate) const RECORD_HEADER_BYTES: usize = 8;
const MAGIC: &[u8; 8] = b"SPWNWAL1";

pub(crate) fn header(sequence: u64) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..16].copy_from_slice(&sequence.to_le_bytes());
    let crc = crc32c::crc32c(&header[..16]);
    header[16..20].copy_from_slice(&crc.to_le_bytes());
    header
}

pub(crate) fn name(sequence: u64) -> String {
    format!("{sequence:016x}.wal")
}

pub(crate) fn sequence_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".wal").filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

fn checksum(sequence: u64, length: u32, parts: &[&[u8]]) -> u32 {
    let mut crc = crc32c::crc32c(&sequence.to_le_bytes());
    crc = crc32c::crc32c_append(crc, &length.to_le_bytes());
    parts.iter().fold(crc, |crc, part| crc32c::crc32c_append(crc, part))
}

/// Appends a record whose payload is `parts`, one behind the other. The caller has checked that it fits `u32`.
pub(crate) fn put_record(out: &mut Vec<u8>, sequence: u64, parts: &[&[u8]]) {
    let length = parts.iter().map(|part| part.len()).sum::<usize>() as u32;
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&checksum(sequence, length, parts).to_le_bytes());
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// What was read of a segment.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// Offset of each record and its payload.
    pub records: Vec<(u32, Bytes)>,
    /// Where the readable prefix ends.
    pub end: usize,
    /// Something other than zeros follows the readable prefix.
    pub unreadable: bool,
    /// Readable records lie behind unreadable bytes, so these are not a torn tail.
    pub damaged: bool,
}

/// Reads every record that can be read, also behind damage.
pub(crate) fn read(bytes: &Bytes, sequence: u64) -> Contents {
    let mut contents = Contents::default();
    if bytes.get(..HEADER_BYTES) != Some(&header(sequence)[..]) {
        contents.unreadable = bytes.iter().any(|byte| *byte != 0);
        return contents;
    }
    let mut at = HEADER_BYTES;
    contents.end = at;
    while let Some(payload) = record_at(bytes, sequence, at) {
        let next = at + RECORD_HEADER_BYTES + payload.len();
        contents.records.push((at as u32, payload));
        at = next;
        contents.end = at;
    }
    contents.unreadable = bytes.get(at..).is_some_and(|rest| rest.iter().any(|byte| *byte != 0));
    while contents.unreadable && at < bytes.len() {
        match record_at(bytes, sequence, at) {
            Some(payload) => {
                let next = at + RECORD_HEADER_BYTES + payload.len();
                contents.records.push((at as u32, payload));
                contents.damaged = true;
                at = next;
            }
            None => at += 1,
        }
    }
    contents
}

/// The payload of the record at `at`, when there is a whole one.
pub(crate) fn record_at(bytes: &Bytes, sequence: u64, at: usize) -> Option<Bytes> {
    let field = |from: usize| -> Option<u32> { bytes.get(from..from + 4)?.try_into().ok().map(u32::from_le_bytes) };
    let length = field(at)?;
    let crc = field(at + 4)?;
    let start = at + RECORD_HEADER_BYTES;
    let end = start.checked_add(length as usize).filter(|end| length > 0 && *end <= bytes.len())?;
    let payload = bytes.slice(start..end);
    (checksum(sequence, length, &[&payload]) == crc).then_some(payload)
}
