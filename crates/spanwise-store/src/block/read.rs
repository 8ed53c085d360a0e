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
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::PageIndexPolicy;
use parquet::file::reader::{ChunkReader, Length};
use spanwise_journal::disk::{Disk, DiskFile, read_file};
use spanwise_model::{SpanId, TraceId};
use spanwise_wire::{Batch, Piece, SpanRef, frame};

use super::columns::{self, AttributeColumns};
use super::filter;
use super::index::TraceIndex;
use super::shred::{Cell, ColumnType, assemble};
use super::{BlockError, CATALOGUE_FILE, INDEX_FILE, SPANS_FILE};
use crate::catalogue::Catalogue;

/// Largest side file that is read: an index of 80 million traces.
const SIDE_FILE_BYTES: u64 = 1 << 30;
/// Rows turned back into spans at a time.
pub(super) const READ_ROWS: usize = 8 << 10;

/// An open block: its files, its Parquet metadata and its index.
pub struct BlockReader {
    pub id: String,
    file: FileChunks,
    metadata: ArrowReaderMetadata,
    /// The same with strings as views.
    views: ArrowReaderMetadata,
    attributes: AttributeColumns,
    index: TraceIndex,
    catalogue: Catalogue,
}

#[derive(Clone)]
pub(super) struct FileChunks(Arc<dyn DiskFile>);

impl Length for FileChunks {
    fn len(&self) -> u64 {
        self.0.len().unwrap_or(0)
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

impl BlockReader {
    /// # Errors
    /// When a file is missing or damaged.
    pub fn open(disk: &dyn Disk, dir: &Path, id: &str) -> Result<Self, BlockError> {
        let corrupt = |reason: String| BlockError::Corrupt { block: id.to_owned(), reason };
        let index =
            TraceIndex::from_bytes(&read_file(disk, &dir.join(INDEX_FILE), SIDE_FILE_BYTES)?).map_err(corrupt)?;
        let catalogue = read_file(disk, &dir.join(CATALOGUE_FILE), SIDE_FILE_BYTES)?;
        let catalogue = Catalogue::from_json(&catalogue).map_err(corrupt)?;
        let file = FileChunks(disk.open_read(&dir.join(SPANS_FILE))?);
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
        let metadata = ArrowReaderMetadata::load(&file, options).map_err(|error| corrupt(error.to_string()))?;
        let attributes = AttributeColumns::of_schema(metadata.schema());
        if metadata.schema().fields().len() != columns::ATTRIBUTES + attributes.columns.len() {
            return Err(corrupt("columns of an unknown format".to_owned()));
        }
        let views =
            filter::view_metadata(&metadata).ok_or_else(|| corrupt("columns of an unknown format".to_owned()))?;
        Ok(Self { id: id.to_owned(), file, metadata, views, attributes, index, catalogue })
    }

    pub(super) fn metadata(&self) -> &ArrowReaderMetadata {
        &self.metadata
    }

    pub(super) fn view_metadata(&self) -> &ArrowReaderMetadata {
        &self.views
    }

    pub(super) fn file(&self) -> FileChunks {
        self.file.clone()
    }

    pub(super) fn attributes(&self) -> &AttributeColumns {
        &self.attributes
    }

    pub(super) fn index(&self) -> &TraceIndex {
        &self.index
    }

    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    pub fn len_spans(&self) -> u64 {
        self.metadata.metadata().file_metadata().num_rows().unsigned_abs()
    }

    /// The first row that may be the trace's.
    pub fn first_row(&self, id: &TraceId) -> Option<u32> {
        self.index.rows(id).map(|rows| rows.start)
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
        let selection = self.select(&rows);
        let mut spans = Vec::new();
        for batch in self.batches(Some(selection))? {
            let batch = batch.map_err(|error| self.corrupt(error))?;
            self.assemble_rows(&batch, |trace_id| *trace_id == id.0, &mut spans)?;
        }
        Ok((!spans.is_empty()).then(|| into_batch(&spans)))
    }

    /// All spans, in batches of neighbouring traces.
    ///
    /// # Errors
    /// When the file is gone.
    pub fn scan(&self) -> Result<impl Iterator<Item = Result<Batch, BlockError>> + '_, BlockError> {
        self.scan_selected(None)
    }

    pub(super) fn scan_selected(
        &self,
        selection: Option<RowSelection>,
    ) -> Result<impl Iterator<Item = Result<Batch, BlockError>> + '_, BlockError> {
        Ok(self.batches(selection)?.map(|batch| {
            let batch = batch.map_err(|error| self.corrupt(error))?;
            let mut spans = Vec::new();
            self.assemble_rows(&batch, |_| true, &mut spans)?;
            Ok(into_batch(&spans))
        }))
    }

    /// The trace ids of these rows, which ascend.
    pub(super) fn trace_ids(&self, rows: &[u32]) -> Result<Vec<TraceId>, BlockError> {
        let total = self.metadata.metadata().file_metadata().num_rows() as usize;
        let ranges = rows.iter().map(|row| *row as usize..*row as usize + 1);
        let projection = ProjectionMask::roots(self.metadata.parquet_schema(), [columns::TRACE_ID]);
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(self.file.clone(), self.metadata.clone())
            .with_projection(projection)
            .with_row_selection(RowSelection::from_consecutive_ranges(ranges, total))
            .build()
            .map_err(|error| self.corrupt(error))?;
        let mut ids = Vec::with_capacity(rows.len());
        for batch in reader {
            let batch = batch.map_err(|error| self.corrupt(error))?;
            let column = batch.columns().first().and_then(|column| column.as_fixed_size_binary_opt());
            let column = column.ok_or_else(|| self.corrupt("trace_id has another type"))?;
            ids.extend((0..column.len()).map(|row| TraceId::from_slice(column.value(row)).unwrap_or_default()));
        }
        Ok(ids)
    }

    pub(super) fn corrupt(&self, error: impl std::fmt::Display) -> BlockError {
        BlockError::Corrupt { block: self.id.clone(), reason: error.to_string() }
    }

    fn select(&self, rows: &Range<u32>) -> RowSelection {
        let total = self.metadata.metadata().file_metadata().num_rows() as usize;
        RowSelection::from_consecutive_ranges(std::iter::once(rows.start as usize..rows.end as usize), total)
    }

    fn batches(&self, selection: Option<RowSelection>) -> Result<ParquetRecordBatchReader, BlockError> {
        let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(self.file.clone(), self.metadata.clone())
            .with_batch_size(READ_ROWS);
        if let Some(selection) = selection {
            builder = builder.with_row_selection(selection);
        }
        builder.build().map_err(|error| self.corrupt(error))
    }

    fn assemble_rows(
        &self,
        batch: &RecordBatch,
        wanted: impl Fn(&[u8]) -> bool,
        spans: &mut Vec<OwnedPiece>,
    ) -> Result<(), BlockError> {
        let rows = Rows::of(batch).ok_or_else(|| self.corrupt("a column has another type"))?;
        for row in 0..batch.num_rows() {
            if !wanted(rows.trace_id.value(row)) {
                continue;
            }
            let start = rows.start.value(row);
            let span = SpanRef {
                trace_id: TraceId::from_slice(rows.trace_id.value(row)).unwrap_or_default(),
                span_id: SpanId::from_slice(rows.span_id.value(row)).unwrap_or_default(),
                parent_span_id: match rows.parent.is_null(row) {
                    true => SpanId::default(),
                    false => SpanId::from_slice(rows.parent.value(row)).unwrap_or_default(),
                },
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
                |number| self.cell(batch, number, row),
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

    fn cell<'a>(&'a self, batch: &'a RecordBatch, number: usize, row: usize) -> Option<(&'a str, Cell<'a>)> {
        let (key, kind) = self.attributes.columns.get(number)?;
        let array = batch.columns().get(columns::ATTRIBUTES + number)?;
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
    fn of(batch: &'a RecordBatch) -> Option<Self> {
        let column = |number: usize| batch.columns().get(number);
        Some(Self {
            trace_id: column(columns::TRACE_ID)?.as_fixed_size_binary_opt()?,
            span_id: column(columns::SPAN_ID)?.as_fixed_size_binary_opt()?,
            parent: column(columns::PARENT_SPAN_ID)?.as_fixed_size_binary_opt()?,
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
