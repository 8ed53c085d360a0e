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
//! A name or a structure stands at the highest level of a row that has it. They are numbered from the highest level down,
//! and in order within each, so that each is what it has beyond the one before.
//!
//! Of an entry point that has more than its share of a minute's traces only those from some level on have a row
//! ([`Thinning`]); what the others show is kept of all.

pub mod attributes;
pub mod codec;
pub(crate) mod live;
pub mod numbers;
pub mod read;
pub mod row;
pub mod shapes;
pub mod window;

use std::path::Path;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use spanwise_insight::analysis::Analysis;
use spanwise_insight::attributes::AttributeSet;
use spanwise_insight::population::{EntryMinute, MINUTE_NS, MOST_LEVELS, Thinning, level};
use spanwise_insight::repetition::RepetitionKind;
use spanwise_insight::row::{Name, Names, Operation, Outline, ROW_VERSION, TraceRow};
use spanwise_journal::disk::{Disk, DiskFile};
use spanwise_model::TraceId;
use spanwise_wire::encode::put_varint;

use crate::block::BlockError;
use attributes::{AttributeColumns, Attributes, AttributesReader};
use codec::{Reader, SECTION_BYTES, Section, column, put_block, put_shape, read_shape};
use numbers::{Durations, DurationsReader, Numbers, NumbersReader, duration};
use row::{each_name, put_structure, read_row};

const MAGIC: &[u8; 8] = b"SPWNFCT1";
const LEVELS: usize = MOST_LEVELS as usize + 1;
const SPINE: usize = 0;
const SUPERSEDED: usize = 1;
const SHOWN: usize = 2;
const SHOWS: usize = 3;
const THINNING: usize = 4;
/// Then the sections of each level.
const FIRST_LEVEL: usize = 5;
/// Names, structures and rows.
const OF_LEVEL: usize = 3;
const SECTIONS: usize = FIRST_LEVEL + OF_LEVEL * LEVELS;
const ENTRY_BYTES: usize = 12;
const TABLE: usize = 12;
/// When a trace started is asked for minutes, and to tell when something was first seen.
const START_NS: u64 = 1_000_000;
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
    durations: Durations,
    /// How much later than the trace its first request began, and for how many traces it stands.
    late: Vec<u8>,
    numbers: Numbers,
    attributes: Attributes,
}

impl Group {
    /// Of the level's section; none without rows.
    fn columns(self) -> Vec<Vec<u8>> {
        if self.places.is_empty() {
            return Vec::new();
        }
        let AttributeColumns { pairs, common, others } = self.attributes.columns();
        let mut columns = [self.places, self.structures, self.late].map(|bytes| column(&bytes)).to_vec();
        columns.extend(self.durations.columns().chain(self.numbers.columns()));
        columns.extend([pairs, others].iter().chain(&common).map(|bytes| column(bytes)));
        columns
    }
}

/// What a trace shows by itself: kinds of findings, and its shape.
type Shown = (u8, u64);

/// Collects the rows of a block; traces come in order of the block's index.
#[derive(Default)]
pub struct FactsBuilder {
    names: Names,
    thinning: Thinning,
    /// Rows that may stay, with their places.
    rows: Vec<(u32, TraceRow)>,
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
        self.starts.push(start / START_NS);
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
            self.rows.push((place, row));
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
        self.thinning.settle();
        let thinning = &self.thinning;
        self.rows.retain(|(_, row)| level(&row.trace_id) >= thinning.lowest_of(row));
        let thinned = self.thinning.thinned();
        let (numbers, names) = self.ranked_names(&thinned);
        let number = |name: Name| numbers.get(name as usize).copied().unwrap_or(UNKNOWN);
        let mut thinning = Vec::new();
        for ((entry, minute), lowest) in thinned {
            [entry.service, entry.operation].iter().for_each(|name| put_varint(&mut thinning, number(*name).into()));
            put_varint(&mut thinning, minute);
            put_varint(&mut thinning, lowest.into());
        }
        let (of_rows, structures) = self.ranked_structures(&number);
        let groups = self.groups(&of_rows, &number);
        let [starts, laps] = put_starts(&self.starts);
        let spine = vec![self.suffixes, starts, laps, self.spans];
        let mut shown = [Vec::new(), Vec::new()];
        for (kinds, shape) in &self.ordered {
            shown[0].push(*kinds);
            put_shape(&mut shown[1], *shape);
        }
        let mut shows = Vec::new();
        put_shows(&mut shows, &self.shows);
        let superseded = std::mem::take(&mut self.superseded);
        let shown = shown.map(|bytes| column(&bytes)).to_vec();
        let mut sections = vec![spine, vec![superseded], shown, vec![shows], vec![thinning]];
        for ((names, structures), group) in names.into_iter().zip(structures).zip(groups) {
            sections.extend([vec![names], vec![structures], group.columns()]);
        }
        put_file(&sections).map_err(BlockError::Write)
    }

    /// The rows of each level; each has its structure's number.
    fn groups(&self, of_rows: &[u32], number: &dyn Fn(Name) -> Name) -> [Group; LEVELS] {
        let mut groups: [Group; LEVELS] = Default::default();
        for ((place, row), structure) in self.rows.iter().zip(of_rows) {
            let Some(group) = groups.get_mut(level(&row.trace_id) as usize) else { continue };
            put_varint(&mut group.places, u64::from(place - group.last_place));
            group.last_place = *place;
            put_varint(&mut group.structures, (*structure).into());
            let start = self.starts.get(*place as usize).copied().unwrap_or_default();
            put_varint(&mut group.late, (row.start_unix_nano / START_NS).wrapping_sub(start));
            put_weight(&mut group.late, row.weight);
            group.durations.put(row.duration_ns);
            group.numbers.put(row);
            let attributes = row.attributes.iter().map(|(key, value)| (number(*key), number(*value)));
            group.attributes.add(attributes.collect());
        }
        groups
    }

    /// The number that each name of a row has in the file, and the section of each level.
    fn ranked_names(&self, thinned: &[(EntryMinute, u32)]) -> (Vec<u32>, Vec<Vec<u8>>) {
        let mut names = Ranked::new(self.names.texts().map(str::as_bytes));
        for ((entry, _), _) in thinned {
            [entry.service, entry.operation].into_iter().for_each(|name| names.mark(name, MOST_LEVELS));
        }
        for (_, row) in &self.rows {
            let level = level(&row.trace_id);
            // Those of structures come first: their numbers are small.
            each_name(row, &mut |name| {
                names.mark(name, level);
                names.put_first(name);
            });
            row.attributes.iter().flat_map(|(key, value)| [key, value]).for_each(|name| names.mark(*name, level));
        }
        names.ranked()
    }

    /// The number of each row's structure, and the section of each level.
    fn ranked_structures(&self, number: &dyn Fn(Name) -> Name) -> (Vec<u32>, Vec<Vec<u8>>) {
        let mut known: FxHashMap<Vec<u8>, u32> = FxHashMap::default();
        let mut of_rows: Vec<u32> = Vec::with_capacity(self.rows.len());
        let mut buffer = Vec::new();
        for (_, row) in &self.rows {
            buffer.clear();
            put_structure(&mut buffer, row, number);
            let next = known.len() as u32;
            of_rows.push(match known.get(&buffer) {
                Some(structure) => *structure,
                None => *known.entry(buffer.clone()).or_insert(next),
            });
        }
        let mut ordered: Vec<(&[u8], u32)> = known.iter().map(|(bytes, place)| (&bytes[..], *place)).collect();
        ordered.sort_unstable_by_key(|(_, place)| *place);
        let mut structures = Ranked::new(ordered.into_iter().map(|(bytes, _)| bytes));
        for ((_, row), structure) in self.rows.iter().zip(&of_rows) {
            structures.mark(*structure, level(&row.trace_id));
        }
        let (numbers, sections) = structures.ranked();
        for structure in &mut of_rows {
            *structure = numbers.get(*structure as usize).copied().unwrap_or(UNKNOWN);
        }
        (of_rows, sections)
    }
}

/// Numbered things by the highest level of a row that has them.
struct Ranked<'b> {
    /// Each with one more than that level; 0 where no row has it. And whether it comes behind the others of its level.
    things: Vec<(u8, bool, &'b [u8])>,
}

impl<'b> Ranked<'b> {
    fn new(things: impl Iterator<Item = &'b [u8]>) -> Self {
        Self { things: things.map(|thing| (0, true, thing)).collect() }
    }

    fn mark(&mut self, number: u32, level: u32) {
        if let Some((highest, ..)) = self.things.get_mut(number as usize) {
            *highest = (*highest).max(level as u8 + 1);
        }
    }

    fn put_first(&mut self, number: u32) {
        if let Some((_, is_behind, _)) = self.things.get_mut(number as usize) {
            *is_behind = false;
        }
    }

    /// Which number each has in the file, and the section of each level: how many bytes a thing has in common with the
    /// one before it there, and the others.
    fn ranked(&self) -> (Vec<u32>, Vec<Vec<u8>>) {
        let mut order: Vec<u32> = (0..self.things.len() as u32).collect();
        let thing = |number: &u32| self.things.get(*number as usize).copied().unwrap_or_default();
        order.retain(|number| thing(number).0 > 0);
        order.sort_unstable_by_key(|number| {
            let (highest, is_behind, bytes) = thing(number);
            (std::cmp::Reverse(highest), is_behind, bytes)
        });
        let mut numbers = vec![UNKNOWN; self.things.len()];
        let mut sections = vec![(&[][..], Vec::new()); LEVELS];
        for (rank, number) in (0..).zip(order) {
            let (highest, _, bytes) = thing(&number);
            if let Some(number) = numbers.get_mut(number as usize) {
                *number = rank;
            }
            let Some((last, section)) = sections.get_mut(usize::from(highest).wrapping_sub(1)) else { continue };
            let shared = bytes.iter().zip(*last).take_while(|(one, other)| one == other).count();
            put_varint(section, shared as u64);
            put_block(section, bytes.get(shared..).unwrap_or_default());
            *last = bytes;
        }
        (numbers, sections.into_iter().map(|(_, section)| section).collect())
    }
}

/// Calls `visit` with each thing of a section, in order; they have so many bytes together at most.
fn each_ranked(section: &[u8], most: usize, visit: &mut dyn FnMut(&[u8]) -> Option<()>) -> Option<()> {
    let mut reader = Reader(section);
    let (mut thing, mut bytes) = (Vec::new(), 0);
    while !reader.0.is_empty() {
        let shared = reader.usize().filter(|shared| *shared <= thing.len())?;
        thing.truncate(shared);
        thing.extend_from_slice(reader.block()?.0);
        // What things share is not in the section.
        bytes += thing.len();
        if bytes > most {
            return None;
        }
        visit(&thing)?;
    }
    Some(())
}

/// When a trace started, as it is kept.
fn start(unix_nano: u64) -> u64 {
    unix_nano / START_NS * START_NS
}

/// In order of trace ids starts are as good as random: their lower halves, and how often these have run over since the
/// earliest.
fn put_starts(starts: &[u64]) -> [Vec<u8>; 2] {
    let earliest = starts.iter().copied().min().unwrap_or(0);
    let (mut lower, mut laps) = (Vec::with_capacity(starts.len() * 2), Vec::new());
    put_varint(&mut laps, earliest);
    for start in starts.iter().map(|start| start - earliest) {
        lower.extend_from_slice(&(start as u16).to_le_bytes());
        put_varint(&mut laps, start >> 16);
    }
    [lower, laps]
}

/// What [`put_starts`] put, in nanoseconds.
fn read_starts(reader: &mut Reader<'_>, count: usize) -> Option<Vec<u64>> {
    let lower = reader.bytes(count.checked_mul(2)?)?;
    let earliest = reader.varint()?;
    let start = |lower: &[u8]| {
        let lower = u64::from(u16::from_le_bytes(lower.try_into().ok()?));
        Some(earliest.wrapping_add(reader.varint()? << 16 | lower).wrapping_mul(START_NS))
    };
    lower.chunks_exact(2).map(start).collect()
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

fn put_file(sections: &[Vec<Vec<u8>>]) -> Result<Vec<u8>, String> {
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
    /// In whole milliseconds.
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
        let is_ours = version == ROW_VERSION as usize && count == SECTIONS;
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
            let starts = read_starts(&mut reader, prefixes.len())?;
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
        let mut structures = Structures::default();
        for number in of_levels(lowest, 1) {
            structures.read(&self.section(number)?).ok_or_else(|| self.corrupt("structures"))?;
        }
        let (shown, shows) = (self.section(SHOWN)?, self.section(SHOWS)?);
        let shapes = read_shapes(&shown, &shows).ok_or_else(|| self.corrupt("what traces show"))?;
        // Names of a level are used by rows of that level and of lower ones.
        let mut known: Vec<Name> = Vec::new();
        for number in of_levels(lowest, 0) {
            let section = self.section(number)?;
            let mut visit = |text: &[u8]| {
                known.push(names.number(std::str::from_utf8(text).ok()?));
                Some(())
            };
            each_ranked(&section, SECTION_BYTES, &mut visit).ok_or_else(|| self.corrupt("names"))?;
        }
        let section = self.section(THINNING)?;
        read_thinning(&section, &known, thin).ok_or_else(|| self.corrupt("thinning"))?;
        for number in of_levels(lowest, 2) {
            read_group(&self.section(number)?, &structures, &shapes, &known, spine, is_wanted, visit)
                .ok_or_else(|| self.corrupt("rows"))?;
        }
        Ok(())
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
        let (table, bytes) = (self.section(SHOWN)?, self.section(SHOWS)?);
        let read = || -> Option<Vec<(u32, u32)>> {
            let mut marks = vec![None];
            marks.extend(read_shown(&table)?.into_iter().map(|(kinds, shape)| mark(kinds, shape)));
            let mut found = Vec::new();
            for (place, number) in (0..).zip(read_shows(&bytes)?) {
                found.extend(marks.get(number as usize)?.map(|mark| (place, mark)));
            }
            Some(found)
        };
        read().ok_or_else(|| self.corrupt("what traces show"))
    }
}

/// Sections with names (0), structures (1) or rows (2), of the highest level first and of this one last.
fn of_levels(lowest: u32, which: usize) -> impl Iterator<Item = usize> {
    (lowest as usize..LEVELS).rev().map(move |level| FIRST_LEVEL + OF_LEVEL * level + which)
}

fn read_shown(section: &[u8]) -> Option<Vec<Shown>> {
    let mut reader = Reader(section);
    let (kinds, mut shapes) = (reader.block()?, reader.block()?);
    kinds.0.iter().map(|kinds| Some((*kinds, read_shape(&mut shapes)?))).collect()
}

/// What each trace shows, by its number: 0 is the next number that was not there yet, 1 is nothing.
fn put_shows(out: &mut Vec<u8>, shows: &[u32]) {
    let mut next = 1;
    for number in shows {
        let code = match *number {
            0 => 1,
            number if number == next => 0,
            number => number + 1,
        };
        next += u32::from(code == 0);
        put_varint(out, code.into());
    }
}

/// What [`put_shows`] put.
fn read_shows(section: &[u8]) -> Option<Vec<u32>> {
    let (mut reader, mut next, mut shows) = (Reader(section), 1, Vec::with_capacity(section.len()));
    while !reader.0.is_empty() {
        let code = reader.u32()?;
        shows.push(if code == 0 { next } else { code - 1 });
        next += u32::from(code == 0);
    }
    Some(shows)
}

/// The shape of each trace, if it has one.
fn read_shapes(shown: &[u8], shows: &[u8]) -> Option<Vec<Option<u64>>> {
    let shown = read_shown(shown)?;
    let shape = |number: u32| match number {
        0 => Some(None),
        number => Some(Some(shown.get(number as usize - 1)?.1)),
    };
    read_shows(shows)?.into_iter().map(shape).collect()
}

/// Structures by their numbers.
#[derive(Default)]
struct Structures {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Structures {
    /// Adds those of a section.
    fn read(&mut self, section: &[u8]) -> Option<()> {
        each_ranked(section, SECTION_BYTES, &mut |structure| {
            self.bytes.extend_from_slice(structure);
            self.ends.push(self.bytes.len());
            Some(())
        })
    }

    fn get(&self, number: usize) -> Option<Reader<'_>> {
        let first = number.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied())?;
        self.bytes.get(first..*self.ends.get(number)?).map(Reader)
    }
}

/// Stands for a name that was not read.
const UNKNOWN: Name = Name::MAX;
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
    structures: &Structures,
    shapes: &[Option<u64>],
    known: &[Name],
    spine: &Spine,
    is_wanted: &dyn Fn(usize) -> bool,
    visit: &mut dyn FnMut(TraceRow),
) -> Option<()> {
    if section.is_empty() {
        return Some(());
    }
    let mut reader = Reader(section);
    let (mut places, mut structures_of, mut late) = (reader.block()?, reader.block()?, reader.block()?);
    let mut durations = DurationsReader::new(&mut reader)?;
    let mut numbers = NumbersReader::new(&mut reader)?;
    let name = |number: Name| known.get(number as usize).copied().unwrap_or(UNKNOWN);
    let mut attributes = AttributesReader::new(&mut reader, &name)?;
    let mut place = 0usize;
    while !places.0.is_empty() {
        place = place.checked_add(places.usize()?)?;
        let structure = structures.get(structures_of.usize()?)?;
        let (late, weight, duration_ns) = (late.varint()?, read_weight(&mut late)?, durations.read()?);
        let mut row = read_row(structure, &mut numbers, &name)?;
        let is_wanted = is_wanted(place);
        row.attributes = attributes.next(is_wanted)?;
        if is_wanted {
            row.trace_id = *spine.ids.get(place)?;
            row.start_unix_nano = spine.starts.get(place)?.wrapping_add(late.wrapping_mul(START_NS));
            row.duration_ns = duration_ns;
            row.shape = (*shapes.get(place)?)?;
            row.weight = weight;
            row.spans = *spine.spans.get(place)?;
            visit(row);
        }
    }
    Some(())
}

/// A row with its times rounded as they are on disk, so that it does not matter where a row comes from.
pub fn rounded(row: TraceRow) -> TraceRow {
    let (mut structure, mut numbers) = (Vec::new(), Numbers::default());
    put_structure(&mut structure, &row, &|name| name);
    numbers.put(&row);
    match read_row(Reader(&structure), &mut numbers.reader(), &|name| name) {
        Some(same) => TraceRow {
            trace_id: row.trace_id,
            start_unix_nano: start(row.start_unix_nano),
            duration_ns: duration(row.duration_ns),
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
