//! From spans to the files of a block, in memory: the caller puts them on disk.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, FixedSizeBinaryBuilder, Float64Builder, Int64Builder, RecordBatch,
    StringBuilder, UInt8Builder, UInt32Builder, UInt64Builder,
};
use arrow::datatypes::Schema;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use spanwise_model::TraceId;
use spanwise_wire::view::Fields;
use spanwise_wire::{Batch, SpanRef, view};

use super::columns::{self, AttributeColumns};
use super::facts_of::{SpanTimes, facts_of};
use super::index::TraceIndex;
use super::shred::{Cell, ColumnType, shred};
use super::{BlockError, FORMAT_VERSION};
use crate::catalogue::Catalogue;

/// Rows of one row group, and of one page: a trace lies on one or two pages of each column.
const GROUP_ROWS: usize = 64 << 10;
const PAGE_ROWS: usize = 2 << 10;
/// Largest dictionary: who reads one row of a column pays for all of its dictionary, and texts that hardly repeat take
/// less room without one (1 byte a span less than with Parquet's usual 1 MiB).
const DICTIONARY_BYTES: usize = 64 << 10;
/// From so many spans on, columns are chosen by a sample.
const SAMPLE_FROM: usize = 20_000;
/// Rows that are turned into Arrow at a time.
const CHUNK_ROWS: usize = 8 << 10;

/// The contents of a block's files, and what the manifest says of it.
pub struct BuiltBlock {
    pub parquet: Vec<u8>,
    pub index: Vec<u8>,
    pub catalogue: Vec<u8>,
    pub facts: Vec<u8>,
    /// Of all that insight adds: the file of facts and the columns of times.
    pub facts_bytes: u64,
    pub spans: u64,
    pub traces: u64,
    pub min_start_unix_nano: u64,
    pub max_start_unix_nano: u64,
}

/// A span of a batch.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub batch: &'a Batch,
    pub place: usize,
    pub span: &'a SpanRef,
}

/// The spans of a trace that lie in other blocks, with the ids of those.
pub type Elsewhere<'a> = dyn Fn(&TraceId) -> Result<Vec<(String, Batch)>, BlockError> + 'a;

/// There are no other blocks.
///
/// # Errors
/// Never.
pub fn nowhere(_: &TraceId) -> Result<Vec<(String, Batch)>, BlockError> {
    Ok(Vec::new())
}

/// Builds a block of all spans of these batches; equal spans become one.
///
/// # Errors
/// When Parquet cannot be written, which goes to memory, so only a bug can do that; and those of `elsewhere`.
pub fn build(batches: &[Batch], elsewhere: &Elsewhere<'_>) -> Result<BuiltBlock, BlockError> {
    let mut rows: Vec<Row<'_>> = Vec::with_capacity(batches.iter().map(Batch::len_spans).sum());
    for batch in batches {
        rows.extend(batch.spans().iter().enumerate().map(|(place, span)| Row { batch, place, span }));
    }
    rows.sort_by_key(|row| (row.span.trace_id, row.span.start_unix_nano, row.span.span_id, row.span.kind));
    drop_duplicates(&mut rows);
    // A share of one in a hundred shows in a tenth of many spans as well.
    let step = if rows.len() > SAMPLE_FROM { 10 } else { 1 };
    let attributes = AttributeColumns::choose(rows.iter().step_by(step).map(|row| row.batch.body_of(row.span)));
    let schema = Arc::new(attributes.schema());
    let mut parquet = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut parquet, Arc::clone(&schema), Some(properties(&schema, rows.len())))
        .map_err(|error| BlockError::Write(error.to_string()))?;
    let mut catalogue = Catalogue::default();
    let (facts, times) = facts_of(&rows, elsewhere)?;
    let facts = facts.finish()?;
    for (chunk, times) in rows.chunks(CHUNK_ROWS).zip(times.chunks(CHUNK_ROWS)) {
        let batch = record_batch(chunk, times, &attributes, &schema, &mut catalogue)
            .map_err(|error| BlockError::Write(error.to_string()))?;
        writer.write(&batch).map_err(|error| BlockError::Write(error.to_string()))?;
    }
    let written = writer.close().map_err(|error| BlockError::Write(error.to_string()))?;
    let of_times = schema.fields().len() - columns::TIMES..;
    let column_bytes: i64 = written
        .row_groups()
        .iter()
        .flat_map(|group| group.columns().get(of_times.clone()).unwrap_or_default())
        .map(|column| column.compressed_size())
        .sum();
    let facts_bytes = facts.len() as u64 + column_bytes.unsigned_abs();
    let mut firsts: Vec<(TraceId, u32)> = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        if firsts.last().map(|(id, _)| *id) != Some(row.span.trace_id) {
            firsts.push((row.span.trace_id, number as u32));
        }
    }
    let traces = firsts.len() as u64;
    let index = TraceIndex::new(firsts, rows.len() as u32).to_bytes();
    for row in &rows {
        catalogue.add(row.batch, row.place);
    }
    let starts = || rows.iter().map(|row| row.span.start_unix_nano);
    Ok(BuiltBlock {
        parquet,
        index,
        catalogue: catalogue.to_json(),
        facts,
        facts_bytes,
        spans: rows.len() as u64,
        traces,
        min_start_unix_nano: starts().min().unwrap_or(0),
        max_start_unix_nano: starts().max().unwrap_or(0),
    })
}

/// Rows with the same ids, kind and start lie together; of equal ones the first stays.
fn drop_duplicates(rows: &mut Vec<Row<'_>>) {
    let mut kept: Vec<Row<'_>> = Vec::with_capacity(rows.len());
    for row in rows.iter() {
        let key = |row: &Row<'_>| (row.span.trace_id, row.span.start_unix_nano, row.span.span_id, row.span.kind);
        let is_duplicate =
            kept.iter().rev().take_while(|earlier| key(earlier) == key(row)).any(|earlier| {
                crate::merge::is_equal(&earlier.batch.piece(earlier.place), &row.batch.piece(row.place))
            });
        if !is_duplicate {
            kept.push(*row);
        }
    }
    *rows = kept;
}

fn properties(schema: &Schema, rows: usize) -> WriterProperties {
    let level = ZstdLevel::try_new(3).unwrap_or_default();
    let metadata = vec![
        KeyValue::new("spanwise.format".to_owned(), FORMAT_VERSION.to_string()),
        KeyValue::new("spanwise.spans".to_owned(), rows.to_string()),
    ];
    let column = |name: &str| ColumnPath::from(vec![name.to_owned()]);
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_write_batch_size(1024)
        .set_dictionary_page_size_limit(DICTIONARY_BYTES)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_key_value_metadata(Some(metadata))
        .set_created_by(concat!("spanwise ", env!("CARGO_PKG_VERSION")).to_owned());
    for (name, encoding) in [
        ("trace_id", Encoding::DELTA_BYTE_ARRAY),
        ("start_unix_nano", Encoding::DELTA_BINARY_PACKED),
        ("duration_ns", Encoding::DELTA_BINARY_PACKED),
        ("residual", Encoding::DELTA_LENGTH_BYTE_ARRAY),
    ] {
        builder =
            builder.set_column_dictionary_enabled(column(name), false).set_column_encoding(column(name), encoding);
    }
    for name in ["span_id", "parent_span_id", columns::SELF_NS] {
        builder = builder.set_column_dictionary_enabled(column(name), false);
    }
    for name in ["span_id", "parent_span_id", "resource", "scope", "layout", "residual"] {
        builder = builder.set_column_statistics_enabled(column(name), EnabledStatistics::None);
    }
    // A dictionary tells doubles apart by `==`, to which zero and minus zero are one.
    for field in schema.fields().iter().filter(|field| field.data_type() == &arrow::datatypes::DataType::Float64) {
        builder = builder.set_column_dictionary_enabled(column(field.name()), false);
    }
    builder.build()
}

enum AttributeBuilder {
    Str(StringBuilder),
    Bool(BooleanBuilder),
    Int(Int64Builder),
    Double(Float64Builder),
}

impl AttributeBuilder {
    fn new(kind: ColumnType) -> Self {
        match kind {
            ColumnType::Str => Self::Str(StringBuilder::new()),
            ColumnType::Bool => Self::Bool(BooleanBuilder::new()),
            ColumnType::Int => Self::Int(Int64Builder::new()),
            ColumnType::Double => Self::Double(Float64Builder::new()),
        }
    }

    fn append(&mut self, cell: Option<Cell<'_>>) {
        match (self, cell) {
            (Self::Str(builder), Some(Cell::Str(text))) => builder.append_value(text),
            (Self::Bool(builder), Some(Cell::Bool(value))) => builder.append_value(value),
            (Self::Int(builder), Some(Cell::Int(value))) => builder.append_value(value),
            (Self::Double(builder), Some(Cell::Double(value))) => builder.append_value(value),
            (Self::Str(builder), _) => builder.append_null(),
            (Self::Bool(builder), _) => builder.append_null(),
            (Self::Int(builder), _) => builder.append_null(),
            (Self::Double(builder), _) => builder.append_null(),
        }
    }

    fn finish(self) -> ArrayRef {
        match self {
            Self::Str(mut builder) => Arc::new(builder.finish()),
            Self::Bool(mut builder) => Arc::new(builder.finish()),
            Self::Int(mut builder) => Arc::new(builder.finish()),
            Self::Double(mut builder) => Arc::new(builder.finish()),
        }
    }
}

fn record_batch(
    rows: &[Row<'_>],
    times: &[SpanTimes],
    attributes: &AttributeColumns,
    schema: &Arc<Schema>,
    catalogue: &mut Catalogue,
) -> Result<RecordBatch, arrow::error::ArrowError> {
    let lookup = attributes.lookup();
    let mut trace_id = FixedSizeBinaryBuilder::new(16);
    let mut span_id = FixedSizeBinaryBuilder::new(8);
    let mut parent = FixedSizeBinaryBuilder::new(8);
    let mut start = UInt64Builder::new();
    let mut duration = Int64Builder::new();
    let mut kind = UInt8Builder::new();
    let mut status = UInt8Builder::new();
    let mut flags = UInt32Builder::new();
    let (mut name, mut service) = (StringBuilder::new(), StringBuilder::new());
    let (mut resource, mut scope) = (BinaryBuilder::new(), BinaryBuilder::new());
    let (mut layout, mut residual) = (BinaryBuilder::new(), BinaryBuilder::new());
    let (mut self_ns, mut critical_ns) = (UInt64Builder::new(), UInt64Builder::new());
    let mut cells: Vec<_> = attributes.columns.iter().map(|(_, kind)| AttributeBuilder::new(*kind)).collect();
    let mut row_cells: Vec<Option<Cell<'_>>> = vec![None; cells.len()];
    for (row, times) in rows.iter().zip(times) {
        let piece = row.batch.piece(row.place);
        let shredded = shred(piece.span, row.span, |key, kind| lookup.get(&(key, kind)).copied());
        trace_id.append_value(row.span.trace_id.0)?;
        span_id.append_value(row.span.span_id.0)?;
        match row.span.parent_span_id.is_zero() {
            true => parent.append_null(),
            false => parent.append_value(row.span.parent_span_id.0)?,
        }
        start.append_value(row.span.start_unix_nano);
        // Wrapping, so that an end before its start comes back as it was.
        duration.append_value(row.span.end_unix_nano.wrapping_sub(row.span.start_unix_nano) as i64);
        kind.append_value(row.span.kind);
        status.append_value(row.span.status);
        flags.append_value(shredded.flags);
        name.append_value(shredded.name);
        service.append_value(view::service_name(piece.resource).unwrap_or("unknown_service"));
        resource.append_value(piece.resource);
        scope.append_value(piece.scope);
        layout.append_value(&shredded.layout);
        residual.append_value(&shredded.residual);
        // Of most spans both follow from the column before.
        self_ns.append_option(Some(times.self_ns).filter(|ns| *ns != row.span.duration_ns()));
        critical_ns.append_option(Some(times.critical_ns).filter(|ns| *ns != times.self_ns));
        if shredded.layout.contains(&0) {
            for field in Fields::new(&shredded.residual).filter(|field| field.number == 9) {
                catalogue.add_residual(view::key_value(field.value.bytes()).key);
            }
        }
        row_cells.fill(None);
        for (number, cell) in shredded.cells {
            if let Some(place) = row_cells.get_mut(number) {
                *place = Some(cell);
            }
        }
        for (builder, cell) in cells.iter_mut().zip(&row_cells) {
            builder.append(*cell);
        }
    }
    let mut arrays: Vec<ArrayRef> = vec![
        Arc::new(trace_id.finish()),
        Arc::new(span_id.finish()),
        Arc::new(parent.finish()),
        Arc::new(start.finish()),
        Arc::new(duration.finish()),
        Arc::new(kind.finish()),
        Arc::new(status.finish()),
        Arc::new(flags.finish()),
        Arc::new(name.finish()),
        Arc::new(service.finish()),
        Arc::new(resource.finish()),
        Arc::new(scope.finish()),
        Arc::new(layout.finish()),
        Arc::new(residual.finish()),
    ];
    arrays.extend(cells.into_iter().map(AttributeBuilder::finish));
    arrays.extend([Arc::new(self_ns.finish()) as ArrayRef, Arc::new(critical_ns.finish())]);
    RecordBatch::try_new(Arc::clone(schema), arrays)
}
