//! `sketches.bin` of a block: what there was in each minute, counted, with durations as sketches; so that lists of
//! services, the map and what entry points cost need not read spans.
//!
//! The counts of all blocks and heads add up to those of all traces, each once: see [`Minutes`]. Of a trace that has
//! spans in several blocks, each block counts the trace as it was known when the block was made, less what was counted
//! of it before. So files of joined blocks are sums of theirs.
//!
//! | bytes | |
//! |---|---|
//! | 8 | magic `SPWNSKT1` |
//! | 2, 2 | version, number of sections |
//! | 4, 4 | first and last minute, since 1970 |
//! | 12 each | length on disk, length inflated, CRC-32C of what is on disk |
//! | 4 | CRC-32C of all before |
//! | | the sections, zstd: names, then cells of each of [`KINDS`] |
//!
//! Cells lie in order of minute, then names. A section is four blocks (length, bytes): keys, shapes, numbers, bins. Names are
//! varints: 0 nobody (the caller of what begins a trace), 1 all that there was no room for, then places in the list.

pub mod window;

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustc_hash::FxHashMap;
use spanwise_insight::minutes::{Cell, KINDS, Key, Kind, Minutes, NOBODY, NodeKind, OTHER};
use spanwise_insight::names::{Name, Names};
use spanwise_insight::sketch::{ONE, Sketch};
use spanwise_journal::disk::{Disk, DiskFile};
use spanwise_wire::encode::put_varint;

use crate::block::BlockError;
use crate::facts::codec::{self, Reader, Section, column, put_block, put_sections, put_shape, read_shape};

const MAGIC: &[u8; 8] = b"SPWNSKT1";
/// Files of another version are made anew from the spans.
const VERSION: u16 = 2;
const SECTIONS: usize = 1 + KINDS.len();
const TABLE: usize = 20;
const ENTRY_BYTES: usize = 12;
const HEADER_BYTES: usize = TABLE + SECTIONS * ENTRY_BYTES + 4;
/// Names before those of the list.
const SPECIAL: u64 = 2;

fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Nearly always whole ones.
fn put_parts(out: &mut Vec<u8>, parts: i64) {
    match parts % ONE {
        0 => put_varint(out, zigzag(parts / ONE) << 1),
        // Of more than 62 bits nothing is left that counts.
        _ => put_varint(out, zigzag(parts) << 1 | 1),
    }
}

fn read_parts(reader: &mut Reader<'_>) -> Option<i64> {
    let code = reader.varint()?;
    let number = unzigzag(code >> 1);
    Some(if code & 1 == 0 { number.wrapping_mul(ONE) } else { number })
}

pub(crate) fn has_two_names(kind: Kind) -> bool {
    !matches!(kind, Kind::Service | Kind::Point)
}

/// Names that are used, in order of their texts.
struct Used<'a> {
    codes: FxHashMap<Name, u64>,
    texts: Vec<&'a str>,
}

impl<'a> Used<'a> {
    fn of(minutes: &Minutes, names: &'a Names) -> Self {
        let mut used: Vec<Name> = Vec::new();
        for (key, _) in minutes.cells() {
            used.push(key.a);
            used.extend(has_two_names(key.kind).then_some(key.b));
            used.extend(Some(key.kind).filter(|kind| *kind == Kind::Edge).and_then(|_| NodeKind::of_code(key.c).1));
        }
        used.retain(|name| !matches!(*name, NOBODY | OTHER));
        used.sort_unstable();
        used.dedup();
        used.sort_by_key(|name| names.text(*name));
        let codes = used.iter().zip(SPECIAL..).map(|(name, code)| (*name, code)).collect();
        Self { codes, texts: used.iter().map(|name| names.text(*name)).collect() }
    }

    fn code(&self, name: Name) -> u64 {
        match name {
            NOBODY => 0,
            OTHER => 1,
            name => self.codes.get(&name).copied().unwrap_or(1),
        }
    }
}

fn put_section(cells: &[(Key, &Cell)], used: &Used<'_>) -> Vec<Vec<u8>> {
    let [mut keys, mut shapes, mut numbers, mut bins]: [Vec<u8>; 4] = Default::default();
    let mut minute = 0;
    for (key, cell) in cells {
        put_varint(&mut keys, u64::from(key.minute - minute));
        minute = key.minute;
        put_varint(&mut keys, used.code(key.a));
        if has_two_names(key.kind) {
            put_varint(&mut keys, used.code(key.b));
        }
        match key.kind {
            Kind::Point => put_varint(&mut keys, key.c),
            Kind::Shape => put_shape(&mut shapes, key.c),
            Kind::Edge => {
                let (kind, system) = NodeKind::of_code(key.c);
                keys.push(kind as u8);
                put_varint(&mut keys, system.map_or(0, |system| used.code(system)));
            }
            Kind::Service | Kind::Operation | Kind::Entry => {}
        }
        put_varint(&mut numbers, zigzag(cell.seen));
        put_parts(&mut numbers, cell.adjusted.wrapping_sub(cell.seen.wrapping_mul(ONE)));
        put_parts(&mut numbers, cell.errors);
        put_parts(&mut numbers, cell.extra);
        put_varint(&mut numbers, zigzag(cell.variance));
        put_varint(&mut numbers, zigzag(cell.critical_ns));
        put_varint(&mut bins, cell.durations.bins().len() as u64);
        let mut last = 0;
        for (bin, parts) in cell.durations.bins() {
            put_varint(&mut bins, u64::from(bin - last));
            last = bin;
            put_parts(&mut bins, parts);
        }
    }
    [&keys, &shapes, &numbers, &bins].map(|bytes| column(bytes)).to_vec()
}

/// The file; `names` are those of the cells.
///
/// # Errors
/// When it cannot be compressed.
pub fn to_bytes(minutes: &Minutes, names: &Names) -> Result<Vec<u8>, BlockError> {
    let used = Used::of(minutes, names);
    let mut of_kind: [Vec<(Key, &Cell)>; KINDS.len()] = Default::default();
    for (key, cell) in minutes.cells() {
        if let Some(cells) = of_kind.get_mut(key.kind as usize) {
            cells.push((*key, cell));
        }
    }
    let mut texts = Vec::new();
    used.texts.iter().for_each(|text| put_block(&mut texts, text.as_bytes()));
    let mut sections = vec![vec![texts]];
    let (mut first, mut last) = (u32::MAX, 0);
    for cells in &mut of_kind {
        let order = |key: &Key| (key.minute, used.code(key.a), used.code(key.b), key.c);
        cells.sort_unstable_by_key(|(key, _)| order(key));
        first = cells.first().map_or(first, |(key, _)| first.min(key.minute));
        last = cells.last().map_or(last, |(key, _)| last.max(key.minute));
        sections.push(if cells.is_empty() { Vec::new() } else { put_section(cells, &used) });
    }
    let mut out = Vec::new();
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&(sections.len() as u16).to_le_bytes());
    out.extend_from_slice(&first.to_le_bytes());
    out.extend_from_slice(&last.to_le_bytes());
    put_sections(out, &sections).map_err(|reason| BlockError::Write(format!("sketches: {reason}")))
}

/// An open `sketches.bin`.
pub struct SketchFile {
    block: String,
    file: Arc<dyn DiskFile>,
    minutes: RangeInclusive<u32>,
    sections: Vec<Section>,
    is_damaged: AtomicBool,
}

/// What is wanted of the counts.
#[derive(Debug, Clone)]
pub struct Asked<'a> {
    pub kinds: &'a [Kind],
    pub minutes: RangeInclusive<u32>,
    /// Cells of all minutes are put together, but for parts of minutes.
    pub is_together: bool,
}

impl Asked<'_> {
    fn key(&self, key: Key) -> Option<Key> {
        let is_meant = self.kinds.contains(&key.kind) && self.minutes.contains(&key.minute);
        let minute = if self.is_together && key.kind != Kind::Point { 0 } else { key.minute };
        is_meant.then_some(Key { minute, ..key })
    }
}

impl SketchFile {
    /// `None` when there is none, or one of another version.
    ///
    /// # Errors
    /// When it cannot be read or is damaged.
    pub fn open(disk: &dyn Disk, path: &Path, block: &str) -> Result<Option<Self>, BlockError> {
        let corrupt =
            |reason: &str| BlockError::Corrupt { block: block.to_owned(), reason: format!("sketches: {reason}") };
        let file = match disk.open_read(path) {
            Err(error) if error.is_missing() => return Ok(None),
            file => file?,
        };
        let mut header = [0; HEADER_BYTES];
        let read = file.read_at(&mut header, 0)?;
        if read < TABLE {
            return Err(corrupt("too short"));
        }
        if header.get(..8) != Some(MAGIC) {
            return Err(corrupt("unknown format"));
        }
        let mut reader = Reader(header.get(8..).unwrap_or_default());
        let mut table = || -> Option<Option<Self>> {
            if u16::from_le_bytes(reader.array()?) != VERSION {
                return Some(None);
            }
            let count = u16::from_le_bytes(reader.array()?);
            let (first, last) = (u32::from_le_bytes(reader.array()?), u32::from_le_bytes(reader.array()?));
            let mut sections = Vec::with_capacity(SECTIONS);
            let mut offset = HEADER_BYTES as u64;
            for _ in 0..SECTIONS {
                let mut number = || reader.array().map(u32::from_le_bytes);
                let (length, raw, crc) = (number()?, number()?, number()?);
                sections.push(Section { offset, length: length as usize, raw: raw as usize, crc });
                offset += u64::from(length);
            }
            let is_whole = usize::from(count) == SECTIONS
                && read == HEADER_BYTES
                && reader.array() == Some(crc32c::crc32c(header.get(..HEADER_BYTES - 4)?).to_le_bytes());
            is_whole.then(|| {
                let (block, file, is_damaged) = (block.to_owned(), Arc::clone(&file), AtomicBool::new(false));
                Some(Self { block, file, minutes: first..=last, sections, is_damaged })
            })
        };
        let found = table().ok_or_else(|| corrupt("checksum of the header does not match"))?;
        let Some(found) = found else { return Ok(None) };
        let end = found.sections.last().map_or(0, |last| last.offset + last.length as u64);
        if found.file.len()? < end {
            return Err(corrupt("too short"));
        }
        Ok(Some(found))
    }

    /// Damage was found: what it says does not count.
    pub fn is_damaged(&self) -> bool {
        self.is_damaged.load(Ordering::Relaxed)
    }

    fn corrupt(&self, reason: impl std::fmt::Display) -> BlockError {
        self.is_damaged.store(true, Ordering::Relaxed);
        BlockError::Corrupt { block: self.block.clone(), reason: format!("sketches: {reason}") }
    }

    fn section(&self, number: usize) -> Result<Vec<u8>, BlockError> {
        codec::read_section(&*self.file, &self.sections, number, &|reason| self.corrupt(reason))
    }

    /// Adds what is asked; nothing of it when that is damaged.
    ///
    /// # Errors
    /// When it cannot be read or is damaged.
    pub fn add_to(&self, asked: &Asked<'_>, names: &mut Names, into: &mut Minutes) -> Result<(), BlockError> {
        if self.minutes.start() > asked.minutes.end() || self.minutes.end() < asked.minutes.start() {
            return Ok(());
        }
        let texts = self.section(0)?;
        let mut known = vec![NOBODY, OTHER];
        let mut reader = Reader(&texts);
        while !reader.0.is_empty() {
            let text = reader.block().and_then(|text| std::str::from_utf8(text.0).ok());
            known.push(names.number(text.ok_or_else(|| self.corrupt("names"))?));
        }
        let mut cells = Vec::new();
        for (number, kind) in KINDS.iter().enumerate().filter(|(_, kind)| asked.kinds.contains(kind)) {
            let section = self.section(1 + number)?;
            read_section(&section, *kind, &known, &mut |key, cell| {
                cells.extend(asked.key(key).map(|key| (key, cell)));
            })
            .ok_or_else(|| self.corrupt(format!("cells of kind {number}")))?;
        }
        cells.iter().for_each(|(key, cell)| into.merge(*key, cell));
        Ok(())
    }
}

fn read_section(section: &[u8], kind: Kind, known: &[Name], visit: &mut dyn FnMut(Key, Cell)) -> Option<()> {
    if section.is_empty() {
        return Some(());
    }
    let mut reader = Reader(section);
    let mut column = || reader.block();
    let (mut keys, mut shapes, mut numbers, mut bins) = (column()?, column()?, column()?, column()?);
    let mut minute = 0u32;
    while !keys.0.is_empty() {
        minute = minute.checked_add(keys.u32()?)?;
        let name = |keys: &mut Reader<'_>| known.get(keys.usize()?).copied();
        let a = name(&mut keys)?;
        let b = if has_two_names(kind) { name(&mut keys)? } else { 0 };
        let c = match kind {
            Kind::Point => keys.varint()?,
            Kind::Shape => read_shape(&mut shapes)?,
            Kind::Edge => {
                let [node] = keys.array()?;
                let system = match keys.usize()? {
                    0 => None,
                    code => Some(*known.get(code)?),
                };
                NodeKind::of_code(node.into()).0.code(system)
            }
            Kind::Service | Kind::Operation | Kind::Entry => 0,
        };
        let seen = unzigzag(numbers.varint()?);
        let mut cell = Cell {
            seen,
            adjusted: seen.wrapping_mul(ONE).wrapping_add(read_parts(&mut numbers)?),
            errors: read_parts(&mut numbers)?,
            extra: read_parts(&mut numbers)?,
            variance: unzigzag(numbers.varint()?),
            critical_ns: unzigzag(numbers.varint()?),
            durations: Sketch::default(),
        };
        let count = bins.count()?;
        let mut of_cell = Vec::with_capacity(count);
        let mut last = 0u16;
        for _ in 0..count {
            last = last.checked_add(u16::try_from(bins.varint()?).ok()?)?;
            of_cell.push((last, read_parts(&mut bins)?));
        }
        cell.durations = Sketch::of_bins(of_cell)?;
        visit(Key { kind, minute, a, b, c }, cell);
    }
    Some(())
}

#[cfg(test)]
mod tests;
