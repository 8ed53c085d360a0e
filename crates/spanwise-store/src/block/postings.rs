//! `postings.bin` of a block: which traces have a value, when traces begin, and which spans of a service failed or took
//! longest. A search that finds its condition here reads a handful of rows instead of whole columns.
//!
//! Lists say more than the truth, never less: values are kept as hashes. What many traces have is not listed (it is
//! found soon among the newest traces), nor are keys whose values hardly repeat, beyond [`build::BUDGET_BITS`]. A trace is
//! named by its number: its place in the block's index.
//!
//! | bytes | |
//! |---|---|
//! | 8 | magic `SPWNPST1` |
//! | 4 | length of the directory, little-endian |
//! | 4 | CRC-32C of the directory |
//! | | directory: see [`Directory::read`] |
//! | | sections, each with its CRC-32C in the directory: read when they are asked for |

mod bits;
mod build;

use std::path::Path;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use spanwise_journal::disk::{Disk, DiskFile};
use spanwise_wire::encode::put_varint;

use super::BlockError;
use crate::facts::codec::{Reader, put_block};
use bits::BitReader;

pub(super) use build::PostingsBuilder;

const MAGIC: &[u8; 8] = b"SPWNPST1";
const HEADER_BYTES: usize = 16;
/// Largest directory that is read: that of a block of a hundred million spans.
const DIRECTORY_BYTES: u64 = 64 << 20;
/// Parts that the traces of a block are cut into by their start.
pub(super) const BUCKETS: usize = 256;

/// One value, when a condition is that a field is equal to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exactly {
    Text(Arc<str>),
    /// Also doubles that are equal to it. Not beyond 2^53, where doubles lose digits.
    Int(i64),
}

/// What has the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Of {
    Name = 0,
    /// `service.name` of the resource.
    Service = 1,
    Span = 2,
}

/// Who is in the set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Listed {
    /// These traces and no others, in order; some need not be.
    Traces(Vec<u32>),
    /// More than are worth listing.
    Many,
    /// The file does not tell.
    Unknown,
}

/// The longest spans, the longest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Slowest {
    /// Duration and row.
    pub spans: Vec<(u64, u32)>,
    /// No other span of the set is longer; `None` when there is no other.
    pub others: Option<u64>,
}

/// When traces begin, roughly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Starts {
    /// The latest start of a trace of each bucket; they ascend.
    pub latest: Vec<u64>,
    /// Of each trace.
    pub bucket: Vec<u8>,
}

/// Where a section is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    offset: u64,
    bytes: u32,
    crc: u32,
}

#[derive(Debug, Clone, PartialEq)]
struct Key {
    /// Hashes of the values that many traces have.
    many: Vec<u64>,
    /// Bits of a hash below those that choose the page.
    rest_bits: u32,
    pages: Vec<Place>,
}

#[derive(Debug, Clone, PartialEq)]
struct Service {
    name: String,
    slowest: Place,
    /// `None` when they are many.
    errors: Option<Place>,
}

/// Everything but the lists.
#[derive(Debug, Default, PartialEq)]
struct Directory {
    traces: u32,
    rows: u32,
    starts: Option<Place>,
    /// Hashes of all keys of resources; `None` when they are too many.
    resource_keys: Option<Vec<u64>>,
    keys: FxHashMap<(u8, u64), Key>,
    /// `None` when they are too many.
    services: Option<Vec<Service>>,
}

/// Of bytes; part of the format.
pub(super) fn hash(seed: u64, bytes: &[u8]) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |state: u64, word: u64| {
        let product = u128::from(state ^ word) * u128::from(ODD);
        (product as u64) ^ (product >> 64) as u64
    };
    let (words, rest) = bytes.as_chunks::<8>();
    let mut state = mix(seed, ODD ^ bytes.len() as u64);
    for word in words {
        state = mix(state, u64::from_le_bytes(*word)).rotate_left(23);
    }
    let mut last = [0; 8];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    mix(mix(state, u64::from_le_bytes(last)), 0xd6e8_feb8_6659_fd93)
}

/// Seeds of values by their type.
const TEXT: u64 = 1;
const INT: u64 = 2;
const KEY: u64 = 3;

impl Exactly {
    fn hash(&self) -> u64 {
        match self {
            Exactly::Text(text) => hash(TEXT, text.as_bytes()),
            Exactly::Int(value) => hash(INT, &value.to_le_bytes()),
        }
    }
}

/// An open file of postings.
pub(super) struct Postings {
    file: Arc<dyn DiskFile>,
    directory: Directory,
}

impl Postings {
    /// `None` when the block has none.
    ///
    /// # Errors
    /// When it is damaged or cannot be read.
    pub fn open(disk: &dyn Disk, path: &Path, block: &str) -> Result<Option<Self>, BlockError> {
        let file = match disk.open_read(path) {
            Ok(file) => file,
            Err(error) if error.is_missing() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let corrupt = |reason: &str| BlockError::Corrupt { block: block.to_owned(), reason: reason.to_owned() };
        let length = file.len()?;
        let mut header = [0; HEADER_BYTES];
        if length < HEADER_BYTES as u64 || file.read_at(&mut header, 0)? < HEADER_BYTES {
            return Err(corrupt("postings are too short"));
        }
        let mut reader = Reader(&header);
        let (magic, bytes, crc) = match (reader.array::<8>(), reader.array::<4>(), reader.array::<4>()) {
            (Some(magic), Some(bytes), Some(crc)) => (magic, u32::from_le_bytes(bytes), u32::from_le_bytes(crc)),
            _ => return Err(corrupt("postings are too short")),
        };
        let first = HEADER_BYTES as u64 + u64::from(bytes);
        if &magic != MAGIC || first > length || u64::from(bytes) > DIRECTORY_BYTES {
            return Err(corrupt("postings have an unknown format"));
        }
        let mut directory = vec![0; bytes as usize];
        if file.read_at(&mut directory, HEADER_BYTES as u64)? < directory.len() || crc32c::crc32c(&directory) != crc {
            return Err(corrupt("checksum of the postings' directory does not match"));
        }
        let directory = Directory::read(&directory, first, length)
            .ok_or_else(|| corrupt("postings have a directory that does not fit"))?;
        Ok(Some(Self { file, directory }))
    }

    /// Whether it belongs to a block of so many traces and rows.
    pub fn fits(&self, traces: usize, rows: u64) -> bool {
        self.directory.traces as usize == traces && u64::from(self.directory.rows) == rows
    }

    fn section(&self, place: Place) -> Result<Vec<u8>, String> {
        let mut bytes = vec![0; place.bytes as usize];
        let read = self.file.read_at(&mut bytes, place.offset).map_err(|error| error.to_string())?;
        match read == bytes.len() && crc32c::crc32c(&bytes) == place.crc {
            true => Ok(bytes),
            false => Err(format!("checksum of the postings at {} does not match", place.offset)),
        }
    }

    /// The traces in which some span, name or resource has the value.
    pub fn traces_with(&self, of: Of, key: &str, value: &Exactly) -> Result<Listed, String> {
        let Some(key) = self.directory.keys.get(&(of as u8, hash(KEY, key.as_bytes()))) else {
            return Ok(Listed::Unknown);
        };
        let wanted = value.hash();
        if key.many.binary_search(&wanted).is_ok() {
            return Ok(Listed::Many);
        }
        let (page, rest) = split_hash(wanted, key.pages.len(), key.rest_bits);
        let Some(place) = key.pages.get(page) else { return Ok(Listed::Traces(Vec::new())) };
        if place.bytes == 0 {
            return Ok(Listed::Traces(Vec::new()));
        }
        let page = self.section(*place)?;
        find(&page, rest, self.directory.traces)
            .map(Listed::Traces)
            .ok_or_else(|| "a page of postings ends early".to_owned())
    }

    /// The traces with a failed span of the service, or of any.
    pub fn errors(&self, service: Option<&str>) -> Result<Listed, String> {
        let mut traces = Vec::new();
        let Some(services) = &self.directory.services else { return Ok(Listed::Unknown) };
        for known in services.iter().filter(|known| service.is_none_or(|name| known.name == name)) {
            let Some(place) = known.errors else { return Ok(Listed::Many) };
            let section = self.section(place)?;
            let mut reader = Reader(&section);
            let mut last = 0u32;
            while !reader.0.is_empty() {
                let gap =
                    reader.u32().and_then(|gap| last.checked_add(gap)).filter(|next| *next < self.directory.traces);
                last = gap.ok_or("a list of failed spans does not fit")?;
                traces.push(last);
            }
        }
        traces.sort_unstable();
        traces.dedup();
        Ok(Listed::Traces(traces))
    }

    /// The longest spans of the service, or of any; `None` when the file does not tell.
    pub fn slowest(&self, service: Option<&str>) -> Result<Option<Slowest>, String> {
        let mut all = Slowest::default();
        let Some(services) = &self.directory.services else { return Ok(None) };
        for known in services.iter().filter(|known| service.is_none_or(|name| known.name == name)) {
            let section = self.section(known.slowest)?;
            let one = read_slowest(&section, self.directory.rows).ok_or("a list of long spans does not fit")?;
            all.others = all.others.max(one.others);
            all.spans.extend(one.spans);
        }
        all.spans.sort_unstable_by(|a, b| b.cmp(a));
        all.spans.dedup();
        Ok(Some(all))
    }

    pub fn starts(&self) -> Result<Option<Starts>, String> {
        let Some(place) = self.directory.starts else { return Ok(None) };
        let section = self.section(place)?;
        let mut reader = Reader(&section);
        let starts = (|| {
            let count = reader.usize().filter(|count| *count <= BUCKETS)?;
            let latest: Vec<u64> = (0..count).map(|_| reader.array().map(u64::from_le_bytes)).collect::<Option<_>>()?;
            let bucket = reader.bytes(self.directory.traces as usize)?.to_vec();
            let fits = latest.is_sorted() && bucket.iter().all(|bucket| usize::from(*bucket) < count);
            fits.then_some(Starts { latest, bucket })
        })();
        starts.map(Some).ok_or_else(|| "the starts of the traces do not fit".to_owned())
    }

    /// Whether no resource of the block has the key.
    pub fn is_no_resource_key(&self, key: &str) -> bool {
        let wanted = hash(KEY, key.as_bytes());
        self.directory.resource_keys.as_ref().is_some_and(|keys| keys.binary_search(&wanted).is_err())
    }
}

/// Which of `pages`, a power of two, and the bits that tell values of it apart.
fn split_hash(hash: u64, pages: usize, rest_bits: u32) -> (usize, u64) {
    let page_bits = pages.max(1).ilog2();
    let page = hash.checked_shr(64 - page_bits).unwrap_or(0);
    let rest = (hash << page_bits).checked_shr(64 - rest_bits).unwrap_or(0);
    (page as usize, rest)
}

/// A page: how many values in 16 bits, bits of a trace's number in 8, the Rice parameter in 8, then for each value, by its hash, the gap to
/// the one before, the number of its traces, and those.
fn find(page: &[u8], wanted: u64, traces: u32) -> Option<Vec<u32>> {
    let mut reader = BitReader::new(page);
    let values = reader.get(16)?;
    let trace_bits = reader.get(8)?.min(32) as u32;
    let k = reader.get(8)?.min(32) as u32;
    let mut hash = 0;
    for _ in 0..values {
        hash += reader.get_rice(k)?;
        let count = reader.get_gamma()?;
        if hash > wanted {
            break;
        }
        if hash == wanted {
            let list: Option<Vec<u32>> = (0..count).map(|_| reader.get(trace_bits).map(|trace| trace as u32)).collect();
            return list.filter(|list| list.is_sorted() && list.last().is_none_or(|last| *last < traces));
        }
        for _ in 0..count {
            reader.get(trace_bits)?;
        }
        hash += 1;
    }
    Some(Vec::new())
}

/// Whether there are others, the longest of them, then for each span how much shorter it is than the one before, and its row.
fn read_slowest(section: &[u8], rows: u32) -> Option<Slowest> {
    let mut reader = Reader(section);
    let others = match reader.varint()? {
        0 => None,
        longest => Some(longest - 1),
    };
    let mut spans = Vec::new();
    let mut duration = reader.varint()?;
    while !reader.0.is_empty() {
        duration = duration.checked_sub(reader.varint()?)?;
        spans.push((duration, reader.u32().filter(|row| *row < rows)?));
    }
    Some(Slowest { spans, others })
}

fn put_slowest(out: &mut Vec<u8>, slowest: &Slowest) {
    put_varint(out, slowest.others.map_or(0, |longest| longest.saturating_add(1)));
    let mut last = slowest.spans.first().map_or(0, |(duration, _)| *duration);
    put_varint(out, last);
    for (duration, row) in &slowest.spans {
        put_varint(out, last - duration);
        put_varint(out, u64::from(*row));
        last = *duration;
    }
}

impl Directory {
    /// `first` is where the first section begins: offsets count from there. Nothing in it reaches beyond `length`.
    fn read(bytes: &[u8], first: u64, length: u64) -> Option<Self> {
        let mut reader = Reader(bytes);
        let mut offset = first;
        let mut place = |reader: &mut Reader<'_>| -> Option<Place> {
            let bytes = reader.u32()?;
            let crc = if bytes == 0 { 0 } else { u32::from_le_bytes(reader.array()?) };
            let place = Place { offset, bytes, crc };
            offset = offset.checked_add(u64::from(bytes)).filter(|end| *end <= length)?;
            Some(place)
        };
        let mut directory = Directory { traces: reader.u32()?, rows: reader.u32()?, ..Directory::default() };
        directory.starts = Some(place(&mut reader)?).filter(|place| place.bytes > 0);
        directory.resource_keys = match reader.count()? {
            0 => None,
            count => {
                let mut hashes = Vec::with_capacity(count - 1);
                for _ in 1..count {
                    hashes.push(u64::from_le_bytes(reader.array()?));
                }
                hashes.is_sorted().then_some(hashes)
            }
        };
        for _ in 0..reader.count()? {
            let [of] = reader.array()?;
            let key = u64::from_le_bytes(reader.array()?);
            let many: Vec<u64> =
                (0..reader.count()?).map(|_| reader.array().map(u64::from_le_bytes)).collect::<Option<_>>()?;
            let rest_bits = reader.u32().filter(|bits| *bits <= 32)?;
            let count = reader.count().filter(|count| count.is_power_of_two())?;
            let pages: Vec<Place> = (0..count).map(|_| place(&mut reader)).collect::<Option<_>>()?;
            directory.keys.insert((of, key), Key { many, rest_bits, pages });
        }
        let Some(services) = reader.count()?.checked_sub(1) else { return Some(directory) };
        let mut known = Vec::with_capacity(services);
        for _ in 0..services {
            let name = std::str::from_utf8(reader.block()?.0).ok()?.to_owned();
            let slowest = place(&mut reader)?;
            let errors = match reader.array()? {
                [0] => None,
                _ => Some(place(&mut reader)?),
            };
            known.push(Service { name, slowest, errors });
        }
        directory.services = Some(known);
        Some(directory)
    }
}

#[cfg(test)]
mod tests;
