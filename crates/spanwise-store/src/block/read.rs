//! Reading a block back: one trace by its rows, or all of it in order.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    Array, AsArray as _, BinaryArray, FixedSizeBinaryArray, Int64Array, PrimitiveArray, RecordBatch, StringArray,
    UInt64Array,
};
use arrow::datatypes::{Float64Type, Int64Type, UInt8Type, UInt32Type, UInt64Type};
use bytes::{Buf as _, Bytes};
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};
use spanwise_journal::DiskError;
use spanwise_journal::disk::{Disk, DiskFile, read_file};
use spanwise_model::{SpanId, TraceId};
use spanwise_wire::{Batch, Piece, SpanRef, frame};

use super::columns::{self, AttributeColumns};
use super::footer::{self, Footer};
use super::index::TraceIndex;
use super::pages;
use super::postings::Postings;
use super::shred::{Cell, ColumnType, assemble, layout_columns};
use super::{BlockError, CATALOGUE_FILE, FACTS_FILE, INDEX_FILE, POSTINGS_FILE, SKETCHES_FILE, SPANS_FILE};
use crate::catalogue::Catalogue;
use crate::facts::FactsFile;
use crate::sketches::SketchFile;

/// Largest side file that is read: an index of 80 million traces.
const SIDE_FILE_BYTES: u64 = 1 << 30;
/// The column for other engines: the name of the service, which the resource has as well.
const SERVICE: usize = 9;
/// Rows turned back into spans at a time.
pub(super) const READ_ROWS: usize = 8 << 10;

/// An open block: its files and its index; its Parquet metadata is read when it is needed.
pub struct BlockReader {
    pub id: String,
    file: FileChunks,
    number: u64,
    rows: u64,
    attributes: AttributeColumns,
    /// The number of [`columns::PARENT_ROW`], if it has it.
    parent_row: Option<usize>,
    index: TraceIndex,
    catalogue: Catalogue,
    facts: Option<FactsFile>,
    postings: Option<Postings>,
    sketches: Option<SketchFile>,
}

impl Drop for BlockReader {
    fn drop(&mut self) {
        footer::forget(self.number);
    }
}

/// A file that no longer changes, and its length.
#[derive(Clone)]
pub(super) struct FileChunks(Arc<dyn DiskFile>, u64);

impl Length for FileChunks {
    fn len(&self) -> u64 {
        self.1
    }
}

impl ChunkReader for FileChunks {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        let length = Length::len(self).saturating_sub(start).min(1 << 20);
        Ok(self.get_bytes(start, length as usize)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let mut buffer = vec![0; length];
        let read = self.0.read_at(&mut buffer, start).map_err(|error| ParquetError::External(Box::new(error)))?;
        if read < length {
            return Err(ParquetError::EOF(format!("{read} of {length} bytes at {start}")));
        }
        Ok(Bytes::from(buffer))
    }
}

/// A file that cannot be read at the moment is not a damaged one.
fn of_parquet(block: &str, error: ParquetError) -> BlockError {
    match error {
        ParquetError::External(inner) => match inner.downcast::<DiskError>() {
            Ok(error) => BlockError::Disk(*error),
            Err(error) => BlockError::Corrupt { block: block.to_owned(), reason: error.to_string() },
        },
        error => BlockError::Corrupt { block: block.to_owned(), reason: error.to_string() },
    }
}

impl BlockReader {
    /// # Errors
    /// When a file is missing or damaged.
    pub fn open(disk: &dyn Disk, dir: &Path, id: &str) -> Result<Self, BlockError> {
        let corrupt = |reason: String| BlockError::Corrupt { block: id.to_owned(), reason };
        let index =
            TraceIndex::from_bytes(&read_file(disk, &dir.join(INDEX_FILE), SIDE_FILE_BYTES)?).map_err(corrupt)?;
        let catalogue = read_file(disk, &dir.join(CATALOGUE_FILE), SIDE_FILE_BYTES)?;
        let catalogue = Catalogue::from_json(&catalogue).map_err(corrupt)?;
        let file = disk.open_read(&dir.join(SPANS_FILE))?;
        let length = file.len()?;
        let file = FileChunks(file, length);
        let bare = footer::read_bare(&file).map_err(|error| of_parquet(id, error))?;
        let rows = bare.metadata().file_metadata().num_rows().unsigned_abs();
        let attributes = AttributeColumns::of_schema(bare.schema());
        let facts = match FactsFile::open(disk, &dir.join(FACTS_FILE), id) {
            Ok(facts) => facts,
            Err(BlockError::Disk(error)) if error.is_missing() => None,
            Err(error @ BlockError::Corrupt { .. }) => {
                tracing::error!(%error, "facts of a block are damaged: they are told from its spans");
                None
            }
            Err(error) => return Err(error),
        };
        let postings = match Postings::open(disk, &dir.join(POSTINGS_FILE), id) {
            Ok(postings) => postings.filter(|postings| postings.fits(index.len_traces(), rows)),
            Err(error @ BlockError::Corrupt { .. }) => {
                tracing::error!(%error, "postings of a block are damaged: searches read its columns");
                None
            }
            Err(error) => return Err(error),
        };
        let sketches = match SketchFile::open(disk, &dir.join(SKETCHES_FILE), id) {
            Ok(sketches) => sketches,
            Err(error @ BlockError::Corrupt { .. }) => {
                tracing::error!(%error, "sketches of a block are damaged: counts are told from its spans");
                None
            }
            Err(error) => return Err(error),
        };
        let fields = bare.schema().fields().len();
        let expected = columns::ATTRIBUTES + attributes.columns.len();
        let with_times = expected + columns::TIMES;
        if ![expected, with_times, with_times + columns::LAST].contains(&fields) {
            return Err(corrupt("columns of an unknown format".to_owned()));
        }
        let parent_row = (fields > with_times).then_some(with_times);
        let number = footer::next_number();
        let id = id.to_owned();
        Ok(Self { id, file, number, rows, attributes, parent_row, index, catalogue, facts, postings, sketches })
    }

    pub(super) fn footer(&self) -> Result<Arc<Footer>, BlockError> {
        footer::of(self.number, &self.file).map_err(|error| of_parquet(&self.id, error))
    }

    pub(super) fn postings(&self) -> Option<&Postings> {
        self.postings.as_ref()
    }

    pub(super) fn file(&self) -> FileChunks {
        self.file.clone()
    }

    pub(super) fn attributes(&self) -> &AttributeColumns {
        &self.attributes
    }

    pub(super) fn parent_row(&self) -> Option<usize> {
        self.parent_row
    }

    pub(crate) fn index(&self) -> &TraceIndex {
        &self.index
    }

    /// `None` when it was made before there were any, or they are damaged.
    pub fn facts(&self) -> Option<&FactsFile> {
        self.facts.as_ref()
    }

    /// `None` when it was made before there were any, or they are damaged.
    pub fn sketches(&self) -> Option<&SketchFile> {
        self.sketches.as_ref().filter(|sketches| !sketches.is_damaged())
    }

    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    pub fn len_spans(&self) -> u64 {
        self.rows
    }

    /// Marks the ids, which ascend, that it may have rows of.
    pub fn mark(&self, ids: &[TraceId], marks: &mut [bool]) {
        self.index.mark(ids, marks);
    }

    /// The first row that may be the trace's.
    pub fn first_row(&self, id: &TraceId) -> Option<u32> {
        self.index.rows(id).map(|rows| rows.start)
    }

    /// All spans of these traces, in batches of neighbouring traces. The ids ascend; traces whose ids begin alike may come
    /// along.
    ///
    /// # Errors
    /// When the file is gone.
    pub fn scan_traces<'a>(
        &'a self,
        ids: &[TraceId],
    ) -> Result<impl Iterator<Item = Result<Batch, BlockError>> + use<'a>, BlockError> {
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for rows in ids.iter().filter_map(|id| self.index.rows(id)) {
            let (start, end) = (rows.start as usize, rows.end as usize);
            match ranges.last_mut() {
                Some(last) if last.end >= start => last.end = last.end.max(end),
                _ => ranges.push(start..end),
            }
        }
        self.scan_rows(&ranges)
    }

    pub fn len_traces(&self) -> usize {
        self.index.len_traces()
    }

    /// All spans of a trace; `None` when the block has none.
    ///
    /// # Errors
    /// When the file is gone or damaged.
    pub fn trace(&self, id: &TraceId) -> Result<Option<Batch>, BlockError> {
        let Some(rows) = self.index.rows(id) else { return Ok(None) };
        let rows = rows.start as usize..rows.end as usize;
        let rows = std::slice::from_ref(&rows);
        // Each column costs its dictionary, however few its rows: only those are read that the spans' layouts name.
        let mut used = vec![false; self.attributes.columns.len()];
        for batch in self.read(rows, &[columns::LAYOUT])? {
            let batch = batch.map_err(|error| self.corrupt(error))?;
            let layouts = batch.columns().first().and_then(|column| column.as_binary_opt::<i32>());
            let layouts = layouts.ok_or_else(|| self.corrupt("layout has another type"))?;
            for number in layouts.iter().flatten().flat_map(layout_columns) {
                if let Some(used) = used.get_mut(number) {
                    *used = true;
                }
            }
        }
        self.trace_rows(id, rows, |number| used.get(number).is_some_and(|used| *used))
    }

    /// [`Self::trace`] without attributes whose keys are not wanted, unless they are too rare for a column. Such spans
    /// must not be compared with others.
    ///
    /// # Errors
    /// As [`Self::trace`].
    pub fn trace_with(&self, id: &TraceId, is_wanted: &dyn Fn(&str) -> bool) -> Result<Option<Batch>, BlockError> {
        let Some(rows) = self.index.rows(id) else { return Ok(None) };
        let rows = rows.start as usize..rows.end as usize;
        let is_wanted = |number: usize| self.attributes.columns.get(number).is_some_and(|(key, _)| is_wanted(key));
        self.trace_rows(id, std::slice::from_ref(&rows), is_wanted)
    }

    /// The spans of a trace among these rows, with these of the attribute columns.
    fn trace_rows(
        &self,
        id: &TraceId,
        rows: &[Range<usize>],
        is_wanted: impl Fn(usize) -> bool,
    ) -> Result<Option<Batch>, BlockError> {
        let attributes = (0..self.attributes.columns.len()).filter(|number| is_wanted(*number));
        let attributes = attributes.map(|number| columns::ATTRIBUTES + number);
        let wanted: Vec<usize> = (0..columns::ATTRIBUTES)
            .filter(|column| *column != SERVICE)
            .chain(attributes)
            .chain(self.parent_row)
            .collect();
        let (mut spans, mut before) = (Vec::new(), Before::default());
        for batch in self.read(rows, &wanted)? {
            let batch = batch.map_err(|error| self.corrupt(error))?;
            self.assemble_rows(&batch, &wanted, |trace_id| *trace_id == id.0, &mut before, &mut spans)?;
        }
        Ok((!spans.is_empty()).then(|| into_batch(&spans)))
    }

    /// All spans, in batches of neighbouring traces.
    ///
    /// # Errors
    /// When the file is gone.
    pub fn scan(&self) -> Result<impl Iterator<Item = Result<Batch, BlockError>> + '_, BlockError> {
        self.scan_rows(std::slice::from_ref(&(0..self.rows as usize)))
    }

    /// The spans of these rows; the ranges ascend.
    ///
    /// # Errors
    /// When the file is gone.
    pub fn scan_rows<'a>(
        &'a self,
        rows: &[Range<usize>],
    ) -> Result<impl Iterator<Item = Result<Batch, BlockError>> + use<'a>, BlockError> {
        let all: Vec<usize> = (0..columns::ATTRIBUTES + self.attributes.columns.len()).chain(self.parent_row).collect();
        let (read, mut is_wanted) = self.with_parents(rows);
        let mut before = Before::default();
        Ok(self.read(&read, &all)?.map(move |batch| {
            let batch = batch.map_err(|error| self.corrupt(error))?;
            let mut spans = Vec::new();
            self.assemble_rows(&batch, &all, |_| is_wanted.next(), &mut before, &mut spans)?;
            Ok(into_batch(&spans))
        }))
    }

    /// These rows, and those before in the same trace that a parent may be told by; and of each in turn whether it is one
    /// of the former.
    fn with_parents(&self, rows: &[Range<usize>]) -> (Vec<Range<usize>>, Turns) {
        let mut read: Vec<Range<usize>> = Vec::with_capacity(rows.len());
        let mut turns = Vec::with_capacity(rows.len());
        for rows in rows.iter().filter(|rows| !rows.is_empty()) {
            let trace = self.index.trace_of(rows.start as u32).and_then(|trace| self.index.rows_of(trace));
            let first = trace.map_or(rows.start, |trace| trace.start as usize);
            let first = match self.parent_row {
                Some(_) => first.max(rows.start.saturating_sub(columns::PARENT_ROWS)),
                None => rows.start,
            };
            let first = first.max(read.last().map_or(0, |last| last.end));
            turns.push((rows.start - first, rows.len()));
            match read.last_mut() {
                Some(last) if last.end == first => last.end = rows.end,
                _ => read.push(first..rows.end),
            }
        }
        (read, Turns { turns: turns.into_iter(), unwanted: 0, wanted: 0 })
    }

    /// The trace ids of these rows, which ascend.
    ///
    /// # Errors
    /// When the file is gone or damaged.
    pub fn trace_ids(&self, rows: &[u32]) -> Result<Vec<TraceId>, BlockError> {
        let mut ranges: Vec<Range<usize>> = Vec::with_capacity(rows.len());
        for row in rows.iter().map(|row| *row as usize) {
            match ranges.last_mut() {
                Some(last) if last.end == row => last.end += 1,
                _ => ranges.push(row..row + 1),
            }
        }
        let reader = self.read(&ranges, &[columns::TRACE_ID])?;
        let mut ids = Vec::with_capacity(rows.len());
        for batch in reader {
            let batch = batch.map_err(|error| self.corrupt(error))?;
            let column = batch.columns().first().and_then(|column| column.as_fixed_size_binary_opt());
            let column = column.ok_or_else(|| self.corrupt("trace_id has another type"))?;
            ids.extend((0..column.len()).map(|row| TraceId::from_slice(column.value(row)).unwrap_or_default()));
        }
        Ok(ids)
    }

    /// The earliest start of a span of the trace; `None` when the block has none.
    ///
    /// # Errors
    /// When the file is gone or damaged.
    pub fn start_of(&self, id: &TraceId) -> Result<Option<u64>, BlockError> {
        let Some(rows) = self.index.rows(id) else { return Ok(None) };
        let rows = rows.start as usize..rows.end as usize;
        let mut earliest: Option<u64> = None;
        for batch in self.read(std::slice::from_ref(&rows), &[columns::TRACE_ID, columns::START])? {
            let batch = batch.map_err(|error| self.corrupt(error))?;
            let ids = batch.columns().first().and_then(|column| column.as_fixed_size_binary_opt());
            let starts = batch.columns().get(1).and_then(|column| column.as_primitive_opt::<UInt64Type>());
            let (Some(ids), Some(starts)) = (ids, starts) else {
                return Err(self.corrupt("trace_id or start_unix_nano has another type"));
            };
            let own = (0..batch.num_rows()).filter(|row| *ids.value(*row) == id.0);
            earliest = earliest.into_iter().chain(own.map(|row| starts.value(row))).min();
        }
        Ok(earliest)
    }

    pub(super) fn corrupt(&self, error: impl std::fmt::Display) -> BlockError {
        BlockError::Corrupt { block: self.id.clone(), reason: error.to_string() }
    }

    /// These rows of these columns, both in order. Row groups without any of the rows are not
    /// touched: to skip one the Parquet reader would read its dictionaries.
    fn read(&self, rows: &[Range<usize>], wanted: &[usize]) -> Result<ParquetRecordBatchReader, BlockError> {
        let mut groups = Vec::new();
        let mut selected: Vec<Range<usize>> = Vec::with_capacity(rows.len());
        // First row of the row group in the file, and among the row groups that are read.
        let (mut start, mut read) = (0, 0);
        let mut at = 0;
        let footer = self.footer()?;
        for (number, group) in footer.metadata().row_groups().iter().enumerate() {
            let end = start + group.num_rows().max(0) as usize;
            let mut is_needed = false;
            while let Some(range) = rows.get(at).filter(|range| range.start < end) {
                let (from, to) = (range.start.max(start), range.end.min(end));
                if from < to {
                    is_needed = true;
                    selected.push(read + from - start..read + to - start);
                }
                if range.end > end {
                    break;
                }
                at += 1;
            }
            if is_needed {
                groups.push(number);
                read += end - start;
            }
            start = end;
        }
        let batch_rows = READ_ROWS.min(selected.iter().map(ExactSizeIterator::len).sum::<usize>());
        let fields = footer.plain.schema().fields();
        pages::read(self.file.clone(), &footer, fields, groups, wanted, &selected, batch_rows)
            .map_err(|error| of_parquet(&self.id, error))
    }

    fn assemble_rows(
        &self,
        batch: &RecordBatch,
        present: &[usize],
        mut wanted: impl FnMut(&[u8]) -> bool,
        before: &mut Before,
        spans: &mut Vec<OwnedPiece>,
    ) -> Result<(), BlockError> {
        let mut places = vec![None; columns::ATTRIBUTES + self.attributes.columns.len() + columns::TIMES + 1];
        for (place, column) in present.iter().enumerate() {
            if let Some(slot) = places.get_mut(*column) {
                *slot = Some(place);
            }
        }
        let rows =
            Rows::of(batch, &places, self.parent_row).ok_or_else(|| self.corrupt("a column has another type"))?;
        for row in 0..batch.num_rows() {
            let span_id = SpanId::from_slice(rows.span_id.value(row)).unwrap_or_default();
            let parent_row = rows.parent_row.filter(|column| column.is_valid(row)).map(|column| column.value(row));
            let parent_span_id = match parent_row {
                Some(distance) => {
                    before.get(distance).ok_or_else(|| self.corrupt("a parent stands where there is no row"))?
                }
                None if rows.parent.is_null(row) => SpanId::default(),
                None => SpanId::from_slice(rows.parent.value(row)).unwrap_or_default(),
            };
            before.push(span_id);
            if !wanted(rows.trace_id.value(row)) {
                continue;
            }
            let start = rows.start.value(row);
            let span = SpanRef {
                trace_id: TraceId::from_slice(rows.trace_id.value(row)).unwrap_or_default(),
                span_id,
                parent_span_id,
                start_unix_nano: start,
                end_unix_nano: start.wrapping_add(rows.duration.value(row) as u64),
                kind: rows.kind.value(row),
                status: rows.status.value(row),
                ..SpanRef::default()
            };
            let body = assemble(
                &span,
                rows.name.value(row),
                rows.flags.value(row),
                rows.layout.value(row),
                rows.residual.value(row),
                |number| self.cell(batch, &places, number, row),
            );
            let shared = |array: &BinaryArray| Bytes::copy_from_slice(array.value(row));
            let (resource, scope) = match spans.last() {
                Some(last) if last.resource == rows.resource.value(row) && last.scope == rows.scope.value(row) => {
                    (last.resource.clone(), last.scope.clone())
                }
                _ => (shared(rows.resource), shared(rows.scope)),
            };
            spans.push(OwnedPiece { resource, scope, span: body });
        }
        Ok(())
    }

    fn cell<'a>(
        &'a self,
        batch: &'a RecordBatch,
        places: &[Option<usize>],
        number: usize,
        row: usize,
    ) -> Option<(&'a str, Cell<'a>)> {
        let (key, kind) = self.attributes.columns.get(number)?;
        let array = batch.columns().get((*places.get(columns::ATTRIBUTES + number)?)?)?;
        if array.is_null(row) {
            return None;
        }
        let cell = match kind {
            ColumnType::Str => Cell::Str(array.as_string_opt::<i32>()?.value(row)),
            ColumnType::Bool => Cell::Bool(array.as_boolean_opt()?.value(row)),
            ColumnType::Int => Cell::Int(array.as_primitive_opt::<Int64Type>()?.value(row)),
            ColumnType::Double => Cell::Double(array.as_primitive_opt::<Float64Type>()?.value(row)),
        };
        Some((key, cell))
    }
}

/// Of each row that is read whether it is wanted.
struct Turns {
    /// Rows that are not, then rows that are.
    turns: std::vec::IntoIter<(usize, usize)>,
    unwanted: usize,
    wanted: usize,
}

impl Turns {
    fn next(&mut self) -> bool {
        while self.unwanted == 0 && self.wanted == 0 {
            let Some(turn) = self.turns.next() else { return false };
            (self.unwanted, self.wanted) = turn;
        }
        if self.unwanted > 0 {
            self.unwanted -= 1;
            return false;
        }
        self.wanted -= 1;
        true
    }
}

/// The spans of the rows before, which parents are told by.
struct Before {
    ids: [SpanId; columns::PARENT_ROWS],
    /// Rows so far.
    rows: usize,
}

impl Default for Before {
    fn default() -> Self {
        Self { ids: [SpanId::default(); columns::PARENT_ROWS], rows: 0 }
    }
}

impl Before {
    fn push(&mut self, id: SpanId) {
        if let Some(slot) = self.ids.get_mut(self.rows % columns::PARENT_ROWS) {
            *slot = id;
        }
        self.rows += 1;
    }

    /// That of so many rows before the next one.
    fn get(&self, distance: u32) -> Option<SpanId> {
        let distance = (distance as usize).checked_sub(1).filter(|more| *more < columns::PARENT_ROWS)? + 1;
        self.ids.get(self.rows.checked_sub(distance)? % columns::PARENT_ROWS).copied()
    }
}

struct OwnedPiece {
    resource: Bytes,
    scope: Bytes,
    span: Vec<u8>,
}

fn into_batch(spans: &[OwnedPiece]) -> Batch {
    let pieces = spans.iter().map(|piece| Piece { resource: &piece.resource, scope: &piece.scope, span: &piece.span });
    // What was validated before it was stored is valid now; a block damaged below Parquet's notice reads as empty.
    Batch::from_trusted(Bytes::from(frame(pieces))).unwrap_or_else(|_| spanwise_wire::frame::rebuild([]))
}

struct Rows<'a> {
    trace_id: &'a FixedSizeBinaryArray,
    span_id: &'a FixedSizeBinaryArray,
    parent: &'a FixedSizeBinaryArray,
    parent_row: Option<&'a PrimitiveArray<UInt32Type>>,
    start: &'a UInt64Array,
    duration: &'a Int64Array,
    kind: &'a PrimitiveArray<UInt8Type>,
    status: &'a PrimitiveArray<UInt8Type>,
    flags: &'a PrimitiveArray<UInt32Type>,
    name: &'a StringArray,
    resource: &'a BinaryArray,
    scope: &'a BinaryArray,
    layout: &'a BinaryArray,
    residual: &'a BinaryArray,
}

impl<'a> Rows<'a> {
    /// `places` says where in the batch each column of the file is.
    fn of(batch: &'a RecordBatch, places: &[Option<usize>], parent_row: Option<usize>) -> Option<Self> {
        let column = |number: usize| batch.columns().get((*places.get(number)?)?);
        let parent_row = match parent_row {
            Some(number) => Some(column(number)?.as_primitive_opt()?),
            None => None,
        };
        Some(Self {
            trace_id: column(columns::TRACE_ID)?.as_fixed_size_binary_opt()?,
            span_id: column(columns::SPAN_ID)?.as_fixed_size_binary_opt()?,
            parent: column(columns::PARENT_SPAN_ID)?.as_fixed_size_binary_opt()?,
            parent_row,
            start: column(columns::START)?.as_primitive_opt::<UInt64Type>()?,
            duration: column(columns::DURATION)?.as_primitive_opt::<Int64Type>()?,
            kind: column(columns::KIND)?.as_primitive_opt::<UInt8Type>()?,
            status: column(columns::STATUS)?.as_primitive_opt::<UInt8Type>()?,
            flags: column(columns::FLAGS)?.as_primitive_opt::<UInt32Type>()?,
            name: column(columns::NAME)?.as_string_opt::<i32>()?,
            resource: column(columns::RESOURCE)?.as_binary_opt::<i32>()?,
            scope: column(columns::SCOPE)?.as_binary_opt::<i32>()?,
            layout: column(columns::LAYOUT)?.as_binary_opt::<i32>()?,
            residual: column(columns::RESIDUAL)?.as_binary_opt::<i32>()?,
        })
    }
}
