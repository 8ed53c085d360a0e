//! Varints, rounded times, and compressed sections with checksums.

use spanwise_insight::row::SHAPE_BITS;
use spanwise_journal::disk::DiskFile;
use spanwise_wire::encode::put_varint;

use crate::block::BlockError;

/// Largest section after inflating; far beyond what a block holds.
pub const SECTION_BYTES: usize = 1 << 30;
/// Where minutes are busy few rows are kept, and where they are not there is time.
const LEVEL: i32 = 6;
/// A column from so many bytes on has a frame of its own.
const FRAME_FROM: usize = 512;

/// The code of a time of which so many significant bits are kept: small, and never further than one in two to their power
/// from it.
pub fn rounded(value: u64, bits: u32) -> u64 {
    let below = bits - 1;
    if value < 2 << below {
        return value;
    }
    let shift = 63 - value.leading_zeros() - below;
    // Rounding up may carry into the next power of two; the code is the right one all the same.
    let mantissa = (value >> shift) + (value >> (shift - 1) & 1);
    (u64::from(shift) << below) + mantissa
}

/// The time of a code.
pub fn unrounded(code: u64, bits: u32) -> u64 {
    let below = bits - 1;
    if code < 2 << below {
        return code;
    }
    let shift = (code >> below) - 1;
    let mantissa = (code & ((1 << below) - 1)) | 1 << below;
    if shift > u64::from(mantissa.leading_zeros()) { u64::MAX } else { mantissa << shift }
}

/// Reads varints and bytes; `None` at the end of what there is.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for (at, byte) in self.0.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f).checked_shl(7 * at as u32)?;
            if *byte < 0x80 {
                self.0 = &self.0[at + 1..];
                return Some(value);
            }
        }
        None
    }

    pub fn u32(&mut self) -> Option<u32> {
        u32::try_from(self.varint()?).ok()
    }

    pub fn usize(&mut self) -> Option<usize> {
        usize::try_from(self.varint()?).ok()
    }

    pub fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    /// A count of things that take at least one byte each: never more than there are bytes.
    pub fn count(&mut self) -> Option<usize> {
        self.usize().filter(|count| *count <= self.0.len())
    }

    pub fn block(&mut self) -> Option<Reader<'a>> {
        let count = self.usize()?;
        self.bytes(count).map(Reader)
    }
}

pub fn put_block(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

const SHAPE_BYTES: usize = SHAPE_BITS as usize / 8;
const _: () = assert!(SHAPE_BITS.is_multiple_of(8), "a shape takes whole bytes");

pub fn put_shape(out: &mut Vec<u8>, shape: u64) {
    out.extend_from_slice(&shape.to_le_bytes()[..SHAPE_BYTES]);
}

pub fn read_shape(reader: &mut Reader<'_>) -> Option<u64> {
    let bytes: [u8; SHAPE_BYTES] = reader.array()?;
    Some(bytes.iter().rev().fold(0, |shape, byte| shape << 8 | u64::from(*byte)))
}

/// Bytes with their length, as a column of a section.
pub fn column(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 4);
    put_block(&mut out, bytes);
    out
}

/// Compresses one section after the other: to make zstd's state for each would cost more than small sections do.
struct Deflate(zstd_safe::CCtx<'static>);

impl Default for Deflate {
    fn default() -> Self {
        Self(zstd_safe::CCtx::create())
    }
}

impl Deflate {
    /// # Errors
    /// What zstd says.
    fn frame(&mut self, raw: &[u8]) -> Result<Vec<u8>, String> {
        let mut out = Vec::with_capacity(zstd_safe::compress_bound(raw.len()));
        let done = self.0.compress(&mut out, raw, LEVEL);
        done.map_err(|code| zstd_safe::get_error_name(code).to_owned())?;
        Ok(out)
    }

    /// Columns that are unlike each other take less room with a frame for each; small ones do not.
    ///
    /// # Errors
    /// What zstd says.
    fn section(&mut self, columns: &[Vec<u8>]) -> Result<Vec<u8>, String> {
        let (mut out, mut small) = (Vec::new(), Vec::new());
        for column in columns {
            if column.len() < FRAME_FROM {
                small.extend_from_slice(column);
                continue;
            }
            if !small.is_empty() {
                out.append(&mut self.frame(&small)?);
                small.clear();
            }
            out.append(&mut self.frame(column)?);
        }
        if !small.is_empty() {
            out.append(&mut self.frame(&small)?);
        }
        Ok(out)
    }
}

/// Where a section of a file is.
#[derive(Debug, Clone, Copy)]
pub struct Section {
    pub offset: u64,
    pub length: usize,
    /// Inflated.
    pub raw: usize,
    pub crc: u32,
}

/// A file: `head`, then for each section its length on disk, its length inflated and its checksum, then the checksum of all
/// that, then the sections, each given as the columns that it is made of.
///
/// # Errors
/// When a section cannot be compressed or is too large.
pub fn put_sections(head: Vec<u8>, sections: &[Vec<Vec<u8>>]) -> Result<Vec<u8>, String> {
    let (mut out, mut content) = (head, Vec::new());
    let mut deflate = Deflate::default();
    for columns in sections {
        let deflated = deflate.section(columns)?;
        let raw: usize = columns.iter().map(Vec::len).sum();
        let lengths = (u32::try_from(deflated.len()), u32::try_from(raw));
        let (Ok(length), Ok(raw)) = lengths else { return Err("a section is too large".to_owned()) };
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&raw.to_le_bytes());
        out.extend_from_slice(&crc32c::crc32c(&deflated).to_le_bytes());
        content.extend_from_slice(&deflated);
    }
    let crc = crc32c::crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&content);
    Ok(out)
}

/// The section with this number, inflated; `corrupt` makes an error of what is wrong with it.
///
/// # Errors
/// When it cannot be read or is damaged.
pub fn read_section(
    file: &dyn DiskFile,
    sections: &[Section],
    number: usize,
    corrupt: &dyn Fn(String) -> BlockError,
) -> Result<Vec<u8>, BlockError> {
    let section = sections.get(number).ok_or_else(|| corrupt("no such section".to_owned()))?;
    if section.length == 0 {
        return Ok(Vec::new());
    }
    let mut bytes = vec![0; section.length];
    if file.read_at(&mut bytes, section.offset)? < section.length || crc32c::crc32c(&bytes) != section.crc {
        return Err(corrupt(format!("section {number} is damaged")));
    }
    inflate(&bytes, section.raw).map_err(corrupt)
}

/// # Errors
/// What does not fit.
fn inflate(compressed: &[u8], raw_len: usize) -> Result<Vec<u8>, String> {
    if raw_len > SECTION_BYTES {
        return Err(format!("a section of {raw_len} bytes"));
    }
    let mut out = Vec::with_capacity(raw_len);
    zstd_safe::decompress(&mut out, compressed).map_err(|code| zstd_safe::get_error_name(code).to_owned())?;
    if out.len() == raw_len { Ok(out) } else { Err("a section of a wrong length".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_kept_as_near_as_their_bits() {
        for bits in [3, 6, 8, 12] {
            let mut value = 0u64;
            while value < u64::MAX / 2 {
                for near in [value.saturating_sub(1), value, value + 1] {
                    let kept = unrounded(rounded(near, bits), bits);
                    assert!(kept.abs_diff(near) <= near >> bits, "{near} became {kept}");
                    assert_eq!(unrounded(rounded(kept, bits), bits), kept, "rounding twice is rounding once");
                }
                value += value / 2 + 1;
            }
            assert!(rounded(u64::MAX, bits) < 1 << (bits + 6));
        }
    }

    #[test]
    fn a_section_is_its_columns_however_many_frames_they_take() {
        let digits: Vec<u8> = (0..4_000u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 27) as u8).collect();
        let random: Vec<u8> = (0..4_000u32).map(|number| (number.wrapping_mul(2_246_822_519) >> 24) as u8).collect();
        let few = vec![7; 3];
        let unlike = vec![digits.clone(), random.clone()];
        let joined = Deflate::default().frame(&unlike.concat()).unwrap();
        assert!(Deflate::default().section(&unlike).unwrap().len() < joined.len(), "or frames are of no use");
        let cases = [vec![], vec![vec![]], vec![few.clone()], vec![few.clone(), vec![], few.clone()]];
        for columns in cases.into_iter().chain([vec![digits, few.clone(), random, few], unlike]) {
            let deflated = Deflate::default().section(&columns).unwrap();
            let raw = columns.concat();
            assert_eq!(deflated.is_empty(), raw.is_empty());
            if !raw.is_empty() {
                assert_eq!(inflate(&deflated, raw.len()).unwrap(), raw);
                assert!(inflate(&deflated, raw.len() - 1).is_err());
                assert!(
                    deflated.len() <= Deflate::default().frame(&raw).unwrap().len(),
                    "or frames cost more than they save here"
                );
            }
        }
    }

    #[test]
    fn shapes_take_the_bytes_that_they_have() {
        let (mut out, shapes) = (Vec::new(), [0, 1, (1 << SHAPE_BITS) - 1, 0x12_3456_789a]);
        shapes.iter().for_each(|shape| put_shape(&mut out, *shape));
        assert_eq!(out.len(), shapes.len() * SHAPE_BYTES);
        let mut reader = Reader(&out);
        assert_eq!(shapes.map(|_| read_shape(&mut reader).unwrap()), shapes);
        assert!(read_shape(&mut reader).is_none());
    }

    #[test]
    fn varints_end_where_they_should() {
        let mut bytes = Vec::new();
        [0, 127, 128, u64::MAX].iter().for_each(|value| put_varint(&mut bytes, *value));
        let mut reader = Reader(&bytes);
        assert_eq!(std::iter::from_fn(|| reader.varint()).collect::<Vec<_>>(), [0, 127, 128, u64::MAX]);
        assert_eq!(Reader(&[0x80]).varint(), None);
        assert_eq!(Reader(&[5, 1]).count(), None);
    }
}
