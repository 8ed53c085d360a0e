//! `facts.bin` of a block: what insight says of each of its traces, so that findings need not read spans again.
//!
//! A trace's row is made of all spans that were known when the block was made, also those in other blocks; the block
//! lists the rows of other blocks that its own supersede. Rows lie in sections by level ([`population::level`]): where
//! a window has more traces than are looked at together, only the sections of the higher levels are read, and the
//! others are only counted.
//!
//! | bytes | |
//! |---|---|
//! | 8 | magic `SPWNFCT1` |
//! | 2 | version of the rows: those of another are made anew from the spans |
//! | 2 | number of sections |
//! | 12 each | length on disk, length inflated, CRC-32C of what is on disk |
//! | 4 | CRC-32C of all before |
//! | | the sections, zstd: spine, superseded, what traces show, which of it each trace shows, thinning; then of each level names, structures and rows |
//!
//! A name or a structure stands at the highest level of a row that has it. Files with fewer sections, as they were written
//! before, have all structures in the third, and what traces show and which of it each shows in the fourth.
//!
//! Of an entry point that has more than its share of a minute's traces only those from some level on have a row
//! ([`Thinning`]); what the others show is kept of all.

pub mod codec;
pub(crate) mod live;
pub mod read;
pub mod row;
pub mod shapes;
pub mod window;

use std::path::Path;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use spanwise_insight::analysis::Analysis;
use spanwise_insight::population::{EntryMinute, MINUTE_NS, MOST_LEVELS, Thinning, level};
use spanwise_insight::repetition::RepetitionKind;
use spanwise_insight::row::{AttributeSet, Name, Names, Operation, Outline, ROW_VERSION, TraceRow};
use spanwise_journal::disk::{Disk, DiskFile};
use spanwise_model::TraceId;
use spanwise_wire::encode::put_varint;

use crate::block::BlockError;
use codec::{Reader, Section, put_block};
use row::{each_name, put_attributes, put_numbers, put_structure, read_attributes, read_row};

const MAGIC: &[u8; 8] = b"SPWNFCT1";
const LEVELS: usize = MOST_LEVELS as usize + 1;
const SPINE: usize = 0;
const SUPERSEDED: usize = 1;
const SHOWN: usize = 2;
const SHOWS: usize = 3;
const THINNING: usize = 4;
/// Then the sections of each level.
const FIRST_LEVEL: usize = 5;
const SECTIONS: usize = FIRST_LEVEL + 3 * LEVELS;
/// Of files as they were written before.
const FEWER_SECTIONS: usize = FIRST_LEVEL + 2 * LEVELS;
const ENTRY_BYTES: usize = 12;
const TABLE: usize = 12;
const HEADER_BYTES: usize = header_bytes(SECTIONS);

const fn header_bytes(sections: usize) -> usize {
    TABLE + sections * ENTRY_BYTES + 4
}

/// Kinds of findings that one trace can show, by their bit in a row.
pub const KINDS: [&str; 4] = ["n_plus_one", "fan_out", "retry_storm", "hidden_error"];

/// Rows of one level.
#[derive(Default)]
struct Group {
    places: Vec<u8>,
    last_place: u32,
    structures: Vec<u8>,
    times: Vec<u8>,
    numbers: Vec<u8>,
    attributes: Vec<u8>,
}

/// What a trace shows by itself: kinds of findings, and its shape.
type Shown = (u8, u64);

/// Collects the rows of a block; traces come in order of the block's index.
#[derive(Default)]
pub struct FactsBuilder {
    names: Names,
    thinning: Thinning,
    /// Rows that may stay, with their places, and what they show.
    rows: Vec<(u32, u32, TraceRow)>,
    /// One for each trace: number in `shown`, or 0 without a row.
    shows: Vec<u32>,
    shown: FxHashMap<Shown, u32>,
    ordered: Vec<Shown>,
    suffixes: Vec<u8>,
    starts: Vec<u64>,
    spans: Vec<u8>,
    superseded: Vec<u8>,
    set: Option<AttributeSet>,
}

/// A trace alone shows what repeats in it and what is hidden, whatever thresholds over many say.
fn kinds(outline: &Outline) -> u8 {
    let bit = |kind: &str| KINDS.iter().position(|known| *known == kind).map_or(0, |bit| 1 << bit);
    let of_repetition = |kind: RepetitionKind| match kind {
        RepetitionKind::NPlusOne => bit("n_plus_one"),
        RepetitionKind::FanOut => bit("fan_out"),
        RepetitionKind::RetryStorm => bit("retry_storm"),
    };
    let hidden = if outline.has_hidden_errors() { bit("hidden_error") } else { 0 };
    outline.repetitions().map(of_repetition).fold(hidden, |kinds, bit| kinds | bit)
}

impl FactsBuilder {
    /// For whoever reads spans for [`Self::add`].
    pub fn names_mut(&mut self) -> &mut Names {
        &mut self.names
    }

    /// `analysis` has read all that is known of the trace now, in the order of [`read::order`]; `attributes` adds those
    /// of its spans, if its row is kept. The trace's shape, if it has one.
    pub fn add(
        &mut self,
        id: &TraceId,
        analysis: &mut Analysis,
        attributes: impl FnOnce(&mut AttributeSet, &mut Names),
    ) -> Option<u64> {
        let place = self.starts.len() as u32;
        let (start, spans) = analysis.extent();
        self.suffixes.extend_from_slice(&id.0[8..]);
        self.starts.push(start);
        put_varint(&mut self.spans, spans as u64);
        let Some(outline) = analysis.outline(&mut self.names) else {
            self.shows.push(0);
            return None;
        };
        let shape = outline.shape;
        let shown = (kinds(&outline), shape);
        let next = self.ordered.len() as u32 + 1;
        let number = *self.shown.entry(shown).or_insert(next);
        if number == next {
            self.ordered.push(shown);
        }
        self.shows.push(number);
        let minute = outline.start_unix_nano / MINUTE_NS;
        if self.thinning.add((outline.entry, minute), level(id))
            && let Some(mut row) = analysis.row(outline, &mut self.names)
        {
            let set = self.set.get_or_insert_with(AttributeSet::of_row);
            attributes(set, &mut self.names);
            row.attributes = set.take();
            self.rows.push((place, number, row));
        }
        Some(shape)
    }

    /// The row of this trace in another block no longer counts.
    pub fn supersede(&mut self, block: &str, id: &TraceId) {
        put_block(&mut self.superseded, block.as_bytes());
        self.superseded.extend_from_slice(&id.0);
    }

    /// The file.
    ///
    /// # Errors
    /// When it cannot be compressed.
    pub fn finish(mut self) -> Result<Vec<u8>, BlockError> {
        let mut names = Highest::new(self.names.texts().len());
        let mut thinning = Vec::new();
        self.thinning.settle();
        for ((entry, minute), lowest) in self.thinning.thinned() {
            for name in [entry.service, entry.operation] {
                names.mark(name, MOST_LEVELS);
                put_varint(&mut thinning, name.into());
            }
            put_varint(&mut thinning, minute);
            put_varint(&mut thinning, lowest.into());
        }
        let mut structures: FxHashMap<Vec<u8>, u32> = FxHashMap::default();
        let mut of_structures = Highest::new(0);
        let mut buffer = Vec::new();
        let mut groups: [Group; LEVELS] = Default::default();
        for (place, shown, row) in &self.rows {
            let level = level(&row.trace_id);
            let lowest = self.thinning.lowest_of(row);
            let Some(group) = groups.get_mut(level as usize).filter(|_| level >= lowest) else { continue };
            buffer.clear();
            put_varint(&mut buffer, (*shown).into());
            put_structure(&mut buffer, row);
            each_name(row, &mut |name| names.mark(name, level));
            let next = structures.len() as u32;
            let structure = match structures.get(&buffer) {
                Some(known) => *known,
                None => {
                    structures.insert(buffer.clone(), next);
                    next
                }
            };
            of_structures.mark(structure, level);
            put_varint(&mut group.places, u64::from(place - group.last_place));
            group.last_place = *place;
            put_varint(&mut group.structures, structure.into());
            let start = self.starts.get(*place as usize).copied().unwrap_or_default();
            put_varint(&mut group.times, row.start_unix_nano.wrapping_sub(start));
            put_varint(&mut group.times, row.duration_ns);
            put_weight(&mut group.times, row.weight);
            put_numbers(&mut group.numbers, row);
            put_attributes(&mut group.attributes, row);
            row.attributes.iter().flat_map(|(key, value)| [key, value]).for_each(|name| names.mark(*name, level));
        }
        let mut spine = self.suffixes;
        let earliest = self.starts.iter().copied().min().unwrap_or(0);
        put_varint(&mut spine, earliest);
        self.starts.iter().for_each(|start| put_varint(&mut spine, start - earliest));
        spine.extend_from_slice(&self.spans);
        let mut shown = Vec::new();
        put_varint(&mut shown, self.ordered.len() as u64);
        for (kinds, shape) in &self.ordered {
            shown.push(*kinds);
            shown.extend_from_slice(&shape.to_le_bytes());
        }
        let mut shows = Vec::new();
        self.shows.iter().for_each(|number| put_varint(&mut shows, (*number).into()));
        let mut sections = vec![spine, std::mem::take(&mut self.superseded), shown, shows, thinning];
        let mut ordered: Vec<&[u8]> = vec![&[]; structures.len()];
        for (structure, number) in &structures {
            if let Some(place) = ordered.get_mut(*number as usize) {
                *place = structure;
            }
        }
        let names = names.sections(self.names.texts().map(str::as_bytes));
        let structures = of_structures.sections(ordered.into_iter());
        for ((names, structures), group) in names.into_iter().zip(structures).zip(groups) {
            let mut rows = Vec::new();
            if !group.places.is_empty() {
                let columns = [&group.places, &group.structures, &group.times, &group.numbers, &group.attributes];
                columns.into_iter().for_each(|column| put_block(&mut rows, column));
            }
            sections.extend([names, structures, rows]);
        }
        put_file(&sections).map_err(BlockError::Write)
    }
}

/// Numbered things by the highest level of a row that has them.
struct Highest {
    /// One more than the level; 0 where no row has it.
    levels: Vec<u8>,
}

impl Highest {
    fn new(count: usize) -> Self {
        Self { levels: vec![0; count] }
    }

    fn mark(&mut self, number: u32, level: u32) {
        let number = number as usize;
        if self.levels.len() <= number {
            self.levels.resize(number + 1, 0);
        }
        if let Some(highest) = self.levels.get_mut(number) {
            *highest = (*highest).max(level as u8 + 1);
        }
    }

    /// Of each level: numbers, each less the one before, with their bytes.
    fn sections<'b>(&self, things: impl Iterator<Item = &'b [u8]>) -> Vec<Vec<u8>> {
        let mut sections = vec![(0, Vec::new()); LEVELS];
        for (number, (bytes, level)) in things.zip(&self.levels).enumerate() {
            let Some((last, section)) = usize::from(*level).checked_sub(1).and_then(|level| sections.get_mut(level))
            else {
                continue;
            };
            put_varint(section, (number - *last) as u64);
            put_block(section, bytes);
            *last = number;
        }
        sections.into_iter().map(|(_, section)| section).collect()
    }
}

/// Almost always 1.
fn put_weight(out: &mut Vec<u8>, weight: f64) {
    match weight == 1.0 {
        true => out.push(1),
        false => {
            out.push(0);
            out.extend_from_slice(&weight.to_le_bytes());
        }
    }
}

fn read_weight(reader: &mut Reader<'_>) -> Option<f64> {
    match reader.bytes(1)? {
        [1] => Some(1.0),
        _ => reader.array().map(f64::from_le_bytes),
    }
}

fn put_file(sections: &[Vec<u8>]) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&(ROW_VERSION as u16).to_le_bytes());
    out.extend_from_slice(&(sections.len() as u16).to_le_bytes());
    codec::put_sections(out, sections)
}

/// An open `facts.bin`: its table of sections, and what other rows it supersedes.
pub struct FactsFile {
    block: String,
    file: Arc<dyn DiskFile>,
    sections: Vec<Section>,
    superseded: Vec<(String, TraceId)>,
}

/// Of every trace of a block, in order of its index.
pub struct Spine {
    pub ids: Vec<TraceId>,
    pub starts: Vec<u64>,
    pub spans: Vec<u32>,
}

impl FactsFile {
    /// `None` when its rows are of another version.
    ///
    /// # Errors
    /// When it is missing or damaged.
    pub fn open(disk: &dyn Disk, path: &Path, block: &str) -> Result<Option<Self>, BlockError> {
        let corrupt =
            |reason: &str| BlockError::Corrupt { block: block.to_owned(), reason: format!("facts: {reason}") };
        let file = disk.open_read(path)?;
        let mut header = vec![0; HEADER_BYTES];
        let read = file.read_at(&mut header, 0)?;
        if read < TABLE + 4 {
            return Err(corrupt("too short"));
        }
        if header.get(..8) != Some(MAGIC) {
            return Err(corrupt("unknown format"));
        }
        // Another version has another table, whose checksum stands elsewhere.
        let number = |at: usize| {
            header.get(at..at + 2).map_or(0, |two| two.iter().rev().fold(0, |n, b| n << 8 | usize::from(*b)))
        };
        let (version, count) = (number(8), number(10));
        let end = TABLE + count * ENTRY_BYTES;
        let is_ours = version == ROW_VERSION as usize && (count == SECTIONS || count == FEWER_SECTIONS);
        let mut whole = header.clone();
        if end + 4 > whole.len() {
            whole.resize(end + 4, 0);
            file.read_at(&mut whole, 0)?;
        }
        let (content, crc) = whole.split_at_checked(end).unwrap_or_default();
        if crc.get(..4) != Some(&crc32c::crc32c(content).to_le_bytes()) {
            return Err(corrupt("checksum of the header does not match"));
        }
        if !is_ours {
            return Ok(None);
        }
        let mut sections = Vec::with_capacity(count);
        let mut offset = header_bytes(count) as u64;
        for entry in content.get(TABLE..).unwrap_or_default().chunks_exact(ENTRY_BYTES) {
            let number = |at: usize| {
                entry.get(at..at + 4).map_or(0, |bytes| bytes.iter().rev().fold(0, |n, byte| n << 8 | u32::from(*byte)))
            };
            sections.push(Section { offset, length: number(0) as usize, raw: number(4) as usize, crc: number(8) });
            offset += u64::from(number(0));
        }
        if file.len()? < offset {
            return Err(corrupt("too short"));
        }
        let mut facts = Self { block: block.to_owned(), file, sections, superseded: Vec::new() };
        let superseded = facts.section(SUPERSEDED)?;
        let mut reader = Reader(&superseded);
        while !reader.0.is_empty() {
            let entry = || -> Option<(String, TraceId)> {
                let block = std::str::from_utf8(reader.block()?.0).ok()?.to_owned();
                Some((block, TraceId(reader.array()?)))
            };
            let mut entry = entry;
            let found = entry().ok_or_else(|| corrupt("list of what is superseded"))?;
            facts.superseded.push(found);
        }
        Ok(Some(facts))
    }

    fn corrupt(&self, reason: impl std::fmt::Display) -> BlockError {
        BlockError::Corrupt { block: self.block.clone(), reason: format!("facts: {reason}") }
    }

    fn section(&self, number: usize) -> Result<Vec<u8>, BlockError> {
        codec::read_section(&*self.file, &self.sections, number, &|reason| self.corrupt(reason))
    }

    pub fn superseded(&self) -> &[(String, TraceId)] {
        &self.superseded
    }

    /// `prefixes` are those of the block's index.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn spine(&self, prefixes: &[u64]) -> Result<Spine, BlockError> {
        let bytes = self.section(SPINE)?;
        let read = || -> Option<Spine> {
            let mut reader = Reader(&bytes);
            let suffixes = reader.bytes(prefixes.len().checked_mul(8)?)?;
            let ids = prefixes.iter().zip(suffixes.chunks_exact(8)).map(|(prefix, suffix)| {
                let mut id = [0; 16];
                id[..8].copy_from_slice(&prefix.to_be_bytes());
                id[8..].copy_from_slice(suffix);
                TraceId(id)
            });
            let ids = ids.collect();
            let earliest = reader.varint()?;
            let starts = prefixes.iter().map(|_| Some(earliest.wrapping_add(reader.varint()?)));
            let starts = starts.collect::<Option<Vec<u64>>>()?;
            let spans = prefixes.iter().map(|_| reader.u32()).collect::<Option<Vec<u32>>>()?;
            Some(Spine { ids, starts, spans })
        };
        read().ok_or_else(|| self.corrupt("spine"))
    }

    /// Calls `visit` with each row of this level and above whose trace, by its place in the index, is wanted; names
    /// are numbered by `names`. Before that, `thin` is told where rows were left out, and below which level.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn rows(
        &self,
        lowest: u32,
        spine: &Spine,
        names: &mut Names,
        is_wanted: &dyn Fn(usize) -> bool,
        thin: &mut dyn FnMut(EntryMinute, u32),
        visit: &mut dyn FnMut(TraceRow),
    ) -> Result<(), BlockError> {
        let [of_names, of_structures, of_rows] = self.sections_of_levels(lowest);
        let of_structures = of_structures.map(|number| self.section(number)).collect::<Result<Vec<_>, _>>()?;
        let mut structures: Vec<&[u8]> = Vec::new();
        for section in &of_structures {
            read_structures(section, self.is_by_level(), &mut structures).ok_or_else(|| self.corrupt("structures"))?;
        }
        let shown = self.section(if self.is_by_level() { SHOWN } else { SHOWS })?;
        let shown = read_shown(&mut Reader(&shown)).ok_or_else(|| self.corrupt("what traces show"))?;
        // Names of a level are used by rows of that level and of lower ones.
        let mut known: Vec<Name> = Vec::new();
        for number in of_names {
            read_names(&self.section(number)?, &mut known, names).ok_or_else(|| self.corrupt("names"))?;
        }
        let section = self.section(THINNING)?;
        read_thinning(&section, &known, thin).ok_or_else(|| self.corrupt("thinning"))?;
        for number in of_rows {
            read_group(&self.section(number)?, &structures, &shown, &known, spine, is_wanted, visit)
                .ok_or_else(|| self.corrupt("rows"))?;
        }
        Ok(())
    }

    fn is_by_level(&self) -> bool {
        self.sections.len() == SECTIONS
    }

    /// Numbers of the sections with names, structures and rows of this level and above.
    fn sections_of_levels(&self, lowest: u32) -> [std::iter::StepBy<std::ops::Range<usize>>; 3] {
        let of_level = if self.is_by_level() { 3 } else { 2 };
        let first = FIRST_LEVEL + of_level * (lowest as usize).min(LEVELS);
        let from = |place: usize| (first + place..self.sections.len()).step_by(of_level);
        match self.is_by_level() {
            true => [from(0), from(1), from(2)],
            false => [from(0), (SHOWN..SHOWN + 1).step_by(1), from(1)],
        }
    }

    /// Places in the index of the traces that show what passes: kinds of findings, as bits of [`KINDS`], and the
    /// shape.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn places(&self, passes: &dyn Fn(u8, u64) -> bool) -> Result<Vec<u32>, BlockError> {
        let found = self.marked_places(&|kinds, shape| passes(kinds, shape).then_some(0))?;
        Ok(found.into_iter().map(|(place, _)| place).collect())
    }

    /// The same, each with what `mark` says of what it shows.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn marked_places(&self, mark: &dyn Fn(u8, u64) -> Option<u32>) -> Result<Vec<(u32, u32)>, BlockError> {
        let bytes = self.section(SHOWS)?;
        let table = if self.is_by_level() { self.section(SHOWN)? } else { Vec::new() };
        let read = || -> Option<Vec<(u32, u32)>> {
            let mut reader = Reader(&bytes);
            let shown = if self.is_by_level() { read_shown(&mut Reader(&table))? } else { read_shown(&mut reader)? };
            let mut marks = vec![None];
            marks.extend(shown.into_iter().map(|(kinds, shape)| mark(kinds, shape)));
            let mut found = Vec::new();
            let mut place = 0;
            while !reader.0.is_empty() {
                found.extend(marks.get(reader.usize()?)?.map(|mark| (place, mark)));
                place += 1;
            }
            Some(found)
        };
        read().ok_or_else(|| self.corrupt("what traces show"))
    }
}

fn read_shown(reader: &mut Reader<'_>) -> Option<Vec<Shown>> {
    let count = reader.count()?;
    (0..count).map(|_| Some((*reader.bytes(1)?.first()?, u64::from_le_bytes(reader.array()?)))).collect()
}

/// More structures than any block has.
const MOST_STRUCTURES: usize = 1 << 24;

fn read_structures<'b>(section: &'b [u8], has_numbers: bool, known: &mut Vec<&'b [u8]>) -> Option<()> {
    let mut reader = Reader(section);
    let mut number = 0usize;
    while !reader.0.is_empty() {
        number = match has_numbers {
            true => number.checked_add(reader.usize()?).filter(|number| *number < MOST_STRUCTURES)?,
            false => known.len(),
        };
        if known.len() <= number {
            known.resize(number + 1, &[]);
        }
        *known.get_mut(number)? = reader.block()?.0;
    }
    Some(())
}

/// Stands for a name that was not read.
const UNKNOWN: Name = Name::MAX;
/// More names than any block has.
const MOST_NAMES: usize = 1 << 26;

fn read_names(section: &[u8], known: &mut Vec<Name>, names: &mut Names) -> Option<()> {
    let mut reader = Reader(section);
    let mut number = 0usize;
    while !reader.0.is_empty() {
        number = number.checked_add(reader.usize()?).filter(|number| *number < MOST_NAMES)?;
        let text = std::str::from_utf8(reader.block()?.0).ok()?;
        if known.len() <= number {
            known.resize(number + 1, UNKNOWN);
        }
        *known.get_mut(number)? = names.number(text);
    }
    Some(())
}

fn read_thinning(section: &[u8], known: &[Name], thin: &mut dyn FnMut(EntryMinute, u32)) -> Option<()> {
    let mut reader = Reader(section);
    while !reader.0.is_empty() {
        let mut name = || known.get(reader.usize()?).copied();
        let entry = Operation { service: name()?, operation: name()? };
        thin((entry, reader.varint()?), reader.u32()?);
    }
    Some(())
}

fn read_group(
    section: &[u8],
    structures: &[&[u8]],
    shown: &[Shown],
    known: &[Name],
    spine: &Spine,
    is_wanted: &dyn Fn(usize) -> bool,
    visit: &mut dyn FnMut(TraceRow),
) -> Option<()> {
    if section.is_empty() {
        return Some(());
    }
    let mut reader = Reader(section);
    let mut column = || reader.block();
    let (mut places, mut numbers_of, mut times, mut numbers, mut attributes) =
        (column()?, column()?, column()?, column()?, column()?);
    let name = |number: Name| known.get(number as usize).copied().unwrap_or(UNKNOWN);
    let mut place = 0usize;
    while !places.0.is_empty() {
        place = place.checked_add(places.usize()?)?;
        let mut structure = Reader(structures.get(numbers_of.usize()?)?);
        let (_, shape) = *shown.get(structure.usize()?.checked_sub(1)?)?;
        let (late, duration_ns, weight) = (times.varint()?, times.varint()?, read_weight(&mut times)?);
        let mut row = read_row(structure, &mut numbers, &name)?;
        let is_wanted = is_wanted(place);
        row.attributes = read_attributes(&mut attributes, is_wanted, &name)?;
        if is_wanted {
            row.trace_id = *spine.ids.get(place)?;
            row.start_unix_nano = spine.starts.get(place)?.wrapping_add(late);
            row.duration_ns = duration_ns;
            row.shape = shape;
            row.weight = weight;
            row.spans = *spine.spans.get(place)?;
            visit(row);
        }
    }
    Some(())
}

/// A row with its times rounded as they are on disk, so that it does not matter where a row comes from.
pub fn rounded(row: TraceRow) -> TraceRow {
    let (mut structure, mut numbers) = (Vec::new(), Vec::new());
    put_structure(&mut structure, &row);
    put_numbers(&mut numbers, &row);
    match read_row(Reader(&structure), &mut Reader(&numbers), &|name| name) {
        Some(same) => TraceRow {
            trace_id: row.trace_id,
            start_unix_nano: row.start_unix_nano,
            duration_ns: row.duration_ns,
            spans: row.spans,
            weight: row.weight,
            shape: row.shape,
            attributes: row.attributes,
            ..same
        },
        None => row,
    }
}

#[cfg(test)]
pub(crate) mod tests;
