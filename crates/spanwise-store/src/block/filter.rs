//! Which rows of a block may be in a set, told from as few columns as possible.
//!
//! A [`Predicate`] says more than the truth, never less: every row that is in the set passes, and others may. Row
//! groups are looked at one after the other; within one, the cheapest column comes first, and no further column is
//! read once no row is left.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray as _, BinaryViewArray, StringViewArray};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, UInt8Type, UInt64Type};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::basic::Encoding;
use parquet::column::page::{Page, PageReader as _};
use parquet::file::metadata::PageIndexPolicy;
use parquet::file::serialized_reader::SerializedPageReader;
use rustc_hash::FxHashMap;
use spanwise_wire::view::{self, Fields, ValueView};

use super::BlockError;
use super::columns;
use super::read::{BlockReader, READ_ROWS};
use super::shred::ColumnType;

/// Whether a value may be meant.
#[derive(Clone)]
pub struct Test {
    passes: Arc<dyn Fn(ValueView<'_>) -> bool + Send + Sync>,
    /// Of strings no other passes.
    only: Option<Arc<str>>,
}

impl Test {
    pub fn new(passes: impl Fn(ValueView<'_>) -> bool + Send + Sync + 'static) -> Self {
        Self { passes: Arc::new(passes), only: None }
    }

    /// Says that no string but this one passes, so that row groups without it need not be read.
    pub fn only(self, text: &str) -> Self {
        Self { only: Some(Arc::from(text)), ..self }
    }

    fn passes(&self, value: ValueView<'_>) -> bool {
        (self.passes)(value)
    }
}

/// What a row must have to be in a set.
#[derive(Clone)]
pub enum Predicate {
    Always,
    /// Columns do not tell: the span itself must be looked at.
    Maybe,
    All(Vec<Predicate>),
    Any(Vec<Predicate>),
    Column(Column, Test),
}

/// Where the value lies that a test is for. Numbers come as `Int`, also kinds and status codes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Column {
    Name,
    Kind,
    Status,
    DurationNs,
    /// Whether the span is a root: has no parent.
    IsRoot,
    SpanAttribute(String),
    ResourceAttribute(String),
    /// Of the span or of its resource.
    AnyAttribute(String),
}

impl Predicate {
    /// Whether a row that passes need not be looked at before its trace is.
    pub fn is_exact(&self) -> bool {
        match self {
            Predicate::Always | Predicate::Column(..) => true,
            Predicate::Maybe => false,
            Predicate::All(parts) | Predicate::Any(parts) => parts.iter().all(Predicate::is_exact),
        }
    }

    /// Whether some rows can be told apart from others.
    pub fn can_select(&self) -> bool {
        match self {
            Predicate::Always | Predicate::Maybe => false,
            Predicate::Column(..) => true,
            Predicate::All(parts) => parts.iter().any(Predicate::can_select),
            Predicate::Any(parts) => parts.iter().all(Predicate::can_select),
        }
    }

    /// Rough price of evaluating it, for the order.
    fn price(&self) -> usize {
        match self {
            Predicate::Always | Predicate::Maybe => 0,
            Predicate::Column(Column::Kind | Column::Status | Column::IsRoot, _) => 1,
            Predicate::Column(Column::DurationNs | Column::Name, _) => 2,
            Predicate::Column(Column::ResourceAttribute(_), _) => 3,
            Predicate::Column(Column::SpanAttribute(_), _) => 4,
            Predicate::Column(Column::AnyAttribute(_), _) => 6,
            Predicate::All(parts) | Predicate::Any(parts) => parts.iter().map(Predicate::price).sum::<usize>() + 1,
        }
    }
}

/// A trace with rows that may be in the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Number of its first row: see [`BlockReader::trace_ids`].
    pub row: u32,
    /// Of its first row, which starts earliest.
    pub start_unix_nano: u64,
    /// When the last of its rows in the block ends, in the set or not.
    pub end_unix_nano: u64,
    /// The longest of its rows that may be in the set; 0 when nobody asked.
    pub longest_ns: u64,
}

/// What to note of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// Its end is unknown: the end of time.
    Start,
    /// Also what durations tell.
    All,
}

/// What [`BlockReader::candidates`] found.
#[derive(Debug, Default)]
pub struct Candidates {
    pub traces: Vec<Candidate>,
    /// Rows that pass, in order; of use when the predicate is not exact.
    pub rows: Vec<std::ops::Range<usize>>,
    pub inspected_bytes: u64,
}

/// One row group under a predicate.
struct Group<'a> {
    block: &'a BlockReader,
    number: usize,
    rows: usize,
    bytes: u64,
}

impl BlockReader {
    /// The traces whose rows may be in the set.
    ///
    /// # Errors
    /// When the file is gone or damaged.
    pub fn candidates(&self, predicate: &Predicate, note: Note) -> Result<Candidates, BlockError> {
        let mut found = Candidates::default();
        let mut first_row = 0;
        for (number, group) in self.metadata().metadata().row_groups().iter().enumerate() {
            let rows = group.num_rows() as usize;
            let mut group = Group { block: self, number, rows, bytes: 0 };
            let mask = match predicate.can_select() {
                true => group.evaluate(predicate, None)?,
                false => Some(vec![true; rows]),
            };
            if let Some(mask) = mask {
                let starts = group.column(columns::START)?;
                let starts = starts.as_primitive_opt::<UInt64Type>().ok_or_else(|| self.corrupt("start_unix_nano"))?;
                let durations = match note {
                    Note::Start => None,
                    Note::All => Some(group.column(columns::DURATION)?),
                };
                let durations = durations.as_ref().and_then(|array| array.as_primitive_opt::<Int64Type>());
                let mut at = 0;
                while let Some(skipped) = mask[at..].iter().position(|passes| *passes) {
                    let from = at + skipped;
                    let to = mask[from..].iter().position(|passes| !*passes).map_or(rows, |len| from + len);
                    push(&mut found.rows, first_row + from..first_row + to);
                    at = to;
                }
                for trace in self.index().traces_in(first_row as u32, (first_row + rows) as u32) {
                    let local =
                        (trace.start as usize).saturating_sub(first_row)..(trace.end as usize - first_row).min(rows);
                    let duration = |row: usize| durations.map_or(0, |values| values.value(row).max(0).unsigned_abs());
                    let passing = local.clone().filter(|row| mask[*row]);
                    let Some(longest_ns) = passing.map(duration).max() else { continue };
                    let end_of = |row: usize| starts.value(row).saturating_add(duration(row));
                    let end_unix_nano = match durations {
                        Some(_) => local.clone().map(end_of).max().unwrap_or(u64::MAX),
                        None => u64::MAX,
                    };
                    match found.traces.last_mut() {
                        // It began in the row group before.
                        Some(last) if last.row == trace.start => {
                            last.longest_ns = last.longest_ns.max(longest_ns);
                            last.end_unix_nano = last.end_unix_nano.max(end_unix_nano);
                        }
                        _ => {
                            let start_unix_nano = starts.value(local.start);
                            let row = trace.start;
                            found.traces.push(Candidate { row, start_unix_nano, end_unix_nano, longest_ns });
                        }
                    }
                }
            }
            found.inspected_bytes += group.bytes;
            first_row += rows;
        }
        Ok(found)
    }
}

fn push(ranges: &mut Vec<std::ops::Range<usize>>, range: std::ops::Range<usize>) {
    match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    }
}

/// Strings and bytes as views into their pages instead of copies.
pub(super) fn view_metadata(metadata: &ArrowReaderMetadata) -> Option<ArrowReaderMetadata> {
    let as_view = |field: &Arc<Field>| {
        let data_type = match field.data_type() {
            DataType::Utf8 => DataType::Utf8View,
            DataType::Binary => DataType::BinaryView,
            other => other.clone(),
        };
        Field::new(field.name(), data_type, field.is_nullable())
    };
    let fields: Vec<Field> = metadata.schema().fields().iter().map(as_view).collect();
    let options = ArrowReaderOptions::new()
        .with_page_index_policy(PageIndexPolicy::Optional)
        .with_schema(Arc::new(Schema::new(fields)));
    ArrowReaderMetadata::try_new(Arc::clone(metadata.metadata()), options).ok()
}

impl Group<'_> {
    /// `None` when no row passes. Rows that `among` leaves out need not be looked at.
    fn evaluate(&mut self, predicate: &Predicate, among: Option<&[bool]>) -> Result<Option<Vec<bool>>, BlockError> {
        let everything = || among.map_or_else(|| vec![true; self.rows], <[bool]>::to_vec);
        match predicate {
            Predicate::Always | Predicate::Maybe => Ok(Some(everything())),
            Predicate::All(parts) => {
                let mut parts: Vec<&Predicate> = parts.iter().filter(|part| part.can_select()).collect();
                parts.sort_by_key(|part| part.price());
                let mut mask = everything();
                for part in parts {
                    match self.evaluate(part, Some(&mask))? {
                        Some(passing) => mask = passing,
                        None => return Ok(None),
                    }
                }
                Ok(Some(mask))
            }
            Predicate::Any(parts) => {
                let mut any: Option<Vec<bool>> = None;
                for part in parts {
                    match (self.evaluate(part, among)?, &mut any) {
                        (Some(passing), Some(any)) => any.iter_mut().zip(passing).for_each(|(any, one)| *any |= one),
                        (Some(passing), None) => any = Some(passing),
                        (None, _) => {}
                    }
                }
                Ok(any)
            }
            Predicate::Column(column, test) => {
                let mut mask = vec![false; self.rows];
                self.test(column, test, among, &mut mask)?;
                Ok(mask.contains(&true).then_some(mask))
            }
        }
    }

    /// Sets the rows whose value passes.
    fn test(
        &mut self,
        column: &Column,
        test: &Test,
        among: Option<&[bool]>,
        mask: &mut [bool],
    ) -> Result<(), BlockError> {
        let is_among = |row: usize| among.is_none_or(|among| among[row]);
        let small = |array: &ArrayRef, mask: &mut [bool]| {
            let Some(values) = array.as_primitive_opt::<UInt8Type>() else { return };
            let passes: Vec<bool> = (0..=u8::MAX).map(|value| test.passes(ValueView::Int(i64::from(value)))).collect();
            for (row, value) in values.values().iter().enumerate() {
                mask[row] |= passes[*value as usize];
            }
        };
        match column {
            Column::Kind => small(&self.column(columns::KIND)?, mask),
            Column::Status => small(&self.column(columns::STATUS)?, mask),
            Column::DurationNs => {
                let array = self.column(columns::DURATION)?;
                let Some(values) = array.as_primitive_opt::<Int64Type>() else { return Ok(()) };
                for (row, value) in values.values().iter().enumerate() {
                    mask[row] |= is_among(row) && test.passes(ValueView::Int((*value).max(0)));
                }
            }
            Column::IsRoot => {
                let array = self.column(columns::PARENT_SPAN_ID)?;
                let [child, root] = [false, true].map(|is_root| test.passes(ValueView::Bool(is_root)));
                for (row, passes) in mask.iter_mut().enumerate().take(array.len()) {
                    *passes |= if array.is_null(row) { root } else { child };
                }
            }
            Column::Name => {
                if let Some(text) = &test.only
                    && self.lacks(columns::NAME, text)?
                {
                    return Ok(());
                }
                let array = self.column(columns::NAME)?;
                if let Some(values) = array.as_string_view_opt() {
                    test_strings(values, test, is_among, mask);
                }
            }
            Column::SpanAttribute(key) => self.test_attribute(key, test, among, mask)?,
            Column::ResourceAttribute(key) => self.test_resource(key, test, among, mask)?,
            Column::AnyAttribute(key) => {
                self.test_attribute(key, test, among, mask)?;
                self.test_resource(key, test, among, mask)?;
            }
        }
        if let Some(among) = among {
            mask.iter_mut().zip(among).for_each(|(passes, among)| *passes &= among);
        }
        Ok(())
    }

    fn test_attribute(
        &mut self,
        key: &str,
        test: &Test,
        among: Option<&[bool]>,
        mask: &mut [bool],
    ) -> Result<(), BlockError> {
        let is_among = |row: usize| among.is_none_or(|among| among[row]);
        let block = self.block;
        let own = block.attributes().columns.iter().enumerate().filter(|(_, (name, _))| name == key);
        for (number, (_, kind)) in own {
            let place = columns::ATTRIBUTES + number;
            if self.is_all_null(place) {
                continue;
            }
            if let (ColumnType::Str, Some(text)) = (kind, &test.only)
                && self.lacks(place, text)?
            {
                continue;
            }
            let array = self.column(place)?;
            let present = |row: usize| array.is_valid(row) && is_among(row);
            match kind {
                ColumnType::Str => {
                    if let Some(values) = array.as_string_view_opt() {
                        test_strings(values, test, present, mask);
                    }
                }
                ColumnType::Bool => {
                    if let Some(values) = array.as_boolean_opt() {
                        let rows = (0..values.len()).filter(|row| present(*row));
                        rows.for_each(|row| mask[row] |= test.passes(ValueView::Bool(values.value(row))));
                    }
                }
                ColumnType::Int => {
                    if let Some(values) = array.as_primitive_opt::<Int64Type>() {
                        let rows = (0..values.len()).filter(|row| present(*row));
                        rows.for_each(|row| mask[row] |= test.passes(ValueView::Int(values.value(row))));
                    }
                }
                ColumnType::Double => {
                    if let Some(values) = array.as_primitive_opt::<Float64Type>() {
                        let rows = (0..values.len()).filter(|row| present(*row));
                        rows.for_each(|row| mask[row] |= test.passes(ValueView::Double(values.value(row))));
                    }
                }
            }
        }
        if !block.catalogue().may_be_residual(key) {
            return Ok(());
        }
        let array = self.column(columns::RESIDUAL)?;
        let Some(values) = array.as_binary_view_opt() else { return Ok(()) };
        for row in (0..values.len()).filter(|row| is_among(*row)) {
            let attributes = Fields::new(values.value(row)).filter(|field| field.number == 9);
            let mut meant =
                attributes.map(|field| view::key_value(field.value.bytes())).filter(|found| found.key == key);
            mask[row] |= meant.any(|found| test.passes(found.value));
        }
        Ok(())
    }

    fn test_resource(
        &mut self,
        key: &str,
        test: &Test,
        among: Option<&[bool]>,
        mask: &mut [bool],
    ) -> Result<(), BlockError> {
        let array = self.column(columns::RESOURCE)?;
        let Some(values) = array.as_binary_view_opt() else { return Ok(()) };
        let passes =
            |header: &[u8]| view::resource_attributes(header).any(|found| found.key == key && test.passes(found.value));
        test_bytes(values, passes, |row| among.is_none_or(|among| among[row]), mask);
        Ok(())
    }

    fn is_all_null(&self, column: usize) -> bool {
        let group = self.block.metadata().metadata().row_group(self.number);
        let nulls =
            group.columns().get(column).and_then(|column| column.statistics()).and_then(|found| found.null_count_opt());
        nulls == Some(self.rows as u64)
    }

    /// Whether the text is certain not to be in a column of strings: all its pages refer to a dictionary, and that one
    /// does not have it. Reading it costs a fraction of reading the column.
    fn lacks(&mut self, column: usize, text: &str) -> Result<bool, BlockError> {
        let group = self.block.metadata().metadata().row_group(self.number);
        let Some(chunk) = group.columns().get(column) else { return Ok(false) };
        let has_others = chunk.page_encoding_stats_mask().is_none_or(|mask| !mask.is_only(Encoding::RLE_DICTIONARY));
        if has_others || chunk.dictionary_page_offset().is_none() {
            return Ok(false);
        }
        let file = Arc::new(self.block.file());
        let mut pages = SerializedPageReader::new(file, chunk, self.rows, None).map_err(|e| self.block.corrupt(e))?;
        let page = pages.get_next_page().map_err(|error| self.block.corrupt(error))?;
        let Some(Page::DictionaryPage { buf, .. }) = page else { return Ok(false) };
        self.bytes += buf.len() as u64;
        // Each value is its length in four bytes, and the text.
        let mut rest: &[u8] = &buf;
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let Some((value, after)) = after.split_at_checked(u32::from_le_bytes(*length) as usize) else {
                return Ok(false);
            };
            if value == text.as_bytes() {
                return Ok(false);
            }
            rest = after;
        }
        Ok(rest.is_empty())
    }

    fn column(&mut self, column: usize) -> Result<ArrayRef, BlockError> {
        let metadata = self.block.view_metadata();
        let projection = ProjectionMask::roots(metadata.parquet_schema(), [column]);
        let group = metadata.metadata().row_group(self.number);
        self.bytes += group.columns().get(column).map_or(0, |column| column.compressed_size().unsigned_abs());
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(self.block.file(), metadata.clone())
            .with_projection(projection)
            .with_row_groups(vec![self.number])
            .with_batch_size(self.rows.max(READ_ROWS))
            .build()
            .map_err(|error| self.block.corrupt(error))?;
        let batches = reader.collect::<Result<Vec<_>, _>>().map_err(|error| self.block.corrupt(error))?;
        let arrays: Vec<ArrayRef> = batches.iter().filter_map(|batch| batch.columns().first().cloned()).collect();
        let array = match arrays.as_slice() {
            [single] => Arc::clone(single),
            many => {
                let many: Vec<&dyn Array> = many.iter().map(AsRef::as_ref).collect();
                arrow::compute::concat(&many).map_err(|error| self.block.corrupt(error))?
            }
        };
        match array.len() == self.rows {
            true => Ok(array),
            false => Err(self.block.corrupt(format!("column {column} has {} of {} rows", array.len(), self.rows))),
        }
    }
}

/// Answers remembered by where the bytes lie: values of a dictionary page are asked about once.
const REMEMBERED: usize = 4096;

fn test_strings(values: &StringViewArray, test: &Test, is_among: impl Fn(usize) -> bool, mask: &mut [bool]) {
    let mut remembered: FxHashMap<u128, bool> = FxHashMap::default();
    let mut last = None;
    for (row, place) in values.views().iter().enumerate().filter(|(row, _)| is_among(*row)) {
        let passes = match last {
            Some((known, passes)) if known == *place => passes,
            _ => match remembered.get(place) {
                Some(passes) => *passes,
                None => {
                    let passes = test.passes(ValueView::Str(values.value(row)));
                    if remembered.len() < REMEMBERED {
                        remembered.insert(*place, passes);
                    }
                    passes
                }
            },
        };
        last = Some((*place, passes));
        mask[row] |= passes;
    }
}

fn test_bytes(
    values: &BinaryViewArray,
    test: impl Fn(&[u8]) -> bool,
    is_among: impl Fn(usize) -> bool,
    mask: &mut [bool],
) {
    let mut remembered: FxHashMap<u128, bool> = FxHashMap::default();
    for (row, place) in values.views().iter().enumerate().filter(|(row, _)| is_among(*row)) {
        let passes = match remembered.get(place) {
            Some(passes) => *passes,
            None => {
                let passes = test(values.value(row));
                if remembered.len() < REMEMBERED {
                    remembered.insert(*place, passes);
                }
                passes
            }
        };
        mask[row] |= passes;
    }
}
