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
use spanwise_insight::minutes::{Bounds, Minutes};
use spanwise_model::TraceId;
use spanwise_wire::view::ValueView;
use spanwise_wire::{Batch, SpanRef, kept, view};

use super::columns::{self, AttributeColumns};
use super::facts_of::{FactsTaker, SpanTimes};
use super::index::{self, TraceIndex};
use super::postings::PostingsBuilder;
use super::shred::{Cell, ColumnType, Shredder};
use super::{
    BlockError, CATALOGUE_FILE, FACTS_FILE, FORMAT_VERSION, INDEX_FILE, POSTINGS_FILE, SKETCHES_FILE, SPANS_FILE,
};
use crate::catalogue::CatalogueBuilder;
use crate::facts::codec::{rounded, unrounded};
use crate::scan::{Scanned, ScannedTrace, Scanner};
use crate::sketches;

/// Rows of one row group, and of one page: a trace lies on one or two pages of each column. Half as many rows cost 1.4 bytes
/// a span more, twice as many a trace by id a fifth more time (ADR 7).
const GROUP_ROWS: usize = 64 << 10;
const PAGE_ROWS: usize = 4 << 10;
/// Largest dictionary: who reads one row of a column pays for all of its dictionary, and texts that hardly repeat take
/// less room without one (1 byte a span less than with Parquet's usual 1 MiB).
const DICTIONARY_BYTES: usize = 64 << 10;
/// From so many spans on, columns are chosen by a sample.
const SAMPLE_FROM: usize = 20_000;
/// Rows that are turned into Arrow at a time, about.
const CHUNK_ROWS: usize = 8 << 10;
const CACHE_LINE: usize = 64;
/// Significant bits of the times that follow from all spans of a trace: exact, they would take twice the bytes.
const TIME_BITS: u32 = 8;
/// Rows that are read at a time.
const RUN_ROWS: usize = 256;

/// The contents of a block's files, and what the manifest says of it.
pub struct BuiltBlock {
    pub parquet: Vec<u8>,
    pub index: Vec<u8>,
    pub catalogue: Vec<u8>,
    pub facts: Vec<u8>,
    pub postings: Vec<u8>,
    pub sketches: Vec<u8>,
    /// Of all that insight adds: the files of facts and sketches, and the columns of times.
    pub facts_bytes: u64,
    pub spans: u64,
    pub traces: u64,
    pub min_start_unix_nano: u64,
    pub max_start_unix_nano: u64,
}

impl BuiltBlock {
    /// Each file's name and content, in the order in which they are written.
    pub fn files(&self) -> [(&'static str, &[u8]); 6] {
        [
            (SPANS_FILE, &self.parquet),
            (INDEX_FILE, &self.index),
            (FACTS_FILE, &self.facts),
            (POSTINGS_FILE, &self.postings),
            (SKETCHES_FILE, &self.sketches),
            (CATALOGUE_FILE, &self.catalogue),
        ]
    }
}

/// A span of a batch.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub batch: &'a Batch,
    /// Of the batch.
    pub number: u32,
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
    build_with(batches, elsewhere, None)
}

/// [`build`] with sketches that are known already.
///
/// # Errors
/// As [`build`].
pub fn build_with(
    batches: &[Batch],
    elsewhere: &Elsewhere<'_>,
    sketches: Option<Vec<u8>>,
) -> Result<BuiltBlock, BlockError> {
    let mut rows = sorted(batches);
    drop_duplicates(&mut rows);
    // A share of one in a hundred shows in a tenth of many spans as well.
    let step = if rows.len() > SAMPLE_FROM { 10 } else { 1 };
    let attributes = AttributeColumns::choose(rows.iter().step_by(step).map(|row| row.batch.body_of(row.span)));
    let schema = Arc::new(attributes.schema());
    let mut parquet = Vec::with_capacity(rows.len() * 48);
    let mut writer = ArrowWriter::try_new(&mut parquet, Arc::clone(&schema), Some(properties(&schema, rows.len())))
        .map_err(|error| BlockError::Write(error.to_string()))?;
    let mut firsts: Vec<(TraceId, u32)> = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        if firsts.last().map(|(id, _)| *id) != Some(row.span.trace_id) {
            firsts.push((row.span.trace_id, number as u32));
        }
    }
    let traces = firsts.len();
    let index = TraceIndex::new(firsts, rows.len() as u32);
    let (mut scanner, mut scanned) = (Scanner::default(), Scanned::default());
    let mut postings = PostingsBuilder::new(traces, rows.len(), |trace, take| {
        let range = index.rows_of(trace as u32).unwrap_or_default();
        let rows = rows.get(range.start as usize..range.end as usize).unwrap_or_default();
        scan(rows, &mut scanner, &mut scanned);
        take(rows, ScannedTrace { scanned: &scanned, places: 0..rows.len(), scanner: &scanner });
    });
    let mut facts = FactsTaker::new(elsewhere, sketches.is_none().then(|| Minutes::new(Bounds::BLOCK)));
    let mut times: Vec<SpanTimes> = Vec::new();
    let mut taking = Taking {
        shredder: Shredder::new(&attributes.columns),
        resources: Resources::new(batches),
        catalogue: CatalogueBuilder::new(attributes.columns.iter().map(|(key, _)| key.as_str())),
        columns: Columns::new(&attributes),
    };
    for rows in whole_traces(&rows) {
        scan(rows, &mut scanner, &mut scanned);
        times.clear();
        facts.take(rows, &scanned, &scanner, &mut times)?;
        taking.take(rows, &scanned, &scanner, &times).map_err(|error| BlockError::Write(error.to_string()))?;
        let mut first = 0;
        for rows in rows.chunk_by(|a, b| a.span.trace_id == b.span.trace_id) {
            let places = first..first + rows.len();
            first = places.end;
            postings.take(rows, ScannedTrace { scanned: &scanned, places, scanner: &scanner });
        }
        if taking.columns.rows >= CHUNK_ROWS {
            let columns = std::mem::replace(&mut taking.columns, Columns::new(&attributes));
            write_columns(columns, &schema, &mut writer)?;
        }
    }
    let Taking { catalogue, columns, .. } = taking;
    write_columns(columns, &schema, &mut writer)?;
    let FactsTaker { mut builder, minutes, .. } = facts;
    let sketches = match minutes {
        Some(minutes) => sketches::to_bytes(&minutes, builder.names_mut())?,
        None => sketches.unwrap_or_default(),
    };
    let facts = builder.finish()?;
    let catalogue = catalogue.finish();
    let written = writer.close().map_err(|error| BlockError::Write(error.to_string()))?;
    let behind_times = schema.fields().len() - columns::LAST;
    let of_times = behind_times - columns::TIMES..behind_times;
    let column_bytes: i64 = written
        .row_groups()
        .iter()
        .flat_map(|group| group.columns().get(of_times.clone()).unwrap_or_default())
        .map(|column| column.compressed_size())
        .sum();
    let facts_bytes = (facts.len() + sketches.len()) as u64 + column_bytes.unsigned_abs();
    let postings = postings.finish();
    let starts = || rows.iter().map(|row| row.span.start_unix_nano);
    Ok(BuiltBlock {
        parquet,
        index: index.to_bytes(),
        catalogue: catalogue.to_json(),
        facts,
        postings,
        sketches,
        facts_bytes,
        spans: rows.len() as u64,
        traces: traces as u64,
        min_start_unix_nano: starts().min().unwrap_or(0),
        max_start_unix_nano: starts().max().unwrap_or(0),
    })
}

/// Reads rows, and forgets those before.
pub(super) fn scan<'a>(rows: &[Row<'a>], scanner: &mut Scanner<'a>, scanned: &mut Scanned<'a>) {
    scanned.clear();
    // The spans of a trace lie anywhere in memory: fetched together, they are waited for once and not one by one.
    for body in rows.iter().map(|row| row.batch.body_of(row.span)) {
        std::hint::black_box(body.iter().step_by(CACHE_LINE).fold(0, |sum: u8, byte| sum ^ byte));
    }
    rows.iter().for_each(|row| scanner.scan(row.batch.piece(row.place), scanned));
}

/// Rows in runs of whole traces, small enough for what is read of them to stay in the processor's cache.
pub(super) fn whole_traces<'r, 'a>(rows: &'r [Row<'a>]) -> impl Iterator<Item = &'r [Row<'a>]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let last = rest.get(RUN_ROWS - 1).or(rest.last())?.span.trace_id;
        let least = RUN_ROWS.min(rest.len());
        let more = rest.get(least..).unwrap_or_default().iter().take_while(|row| row.span.trace_id == last).count();
        let (run, others) = rest.split_at_checked(least + more)?;
        rest = others;
        Some(run)
    })
}

fn write_columns(
    columns: Columns,
    schema: &Arc<Schema>,
    writer: &mut ArrowWriter<&mut Vec<u8>>,
) -> Result<(), BlockError> {
    if columns.rows == 0 {
        return Ok(());
    }
    let batch = RecordBatch::try_new(Arc::clone(schema), columns.finish());
    let written = batch.map_err(parquet::errors::ParquetError::from).and_then(|batch| writer.write(&batch));
    written.map_err(|error| BlockError::Write(error.to_string()))
}

/// All spans, in order of trace id, start, span id, kind.
pub(super) fn sorted(batches: &[Batch]) -> Vec<Row<'_>> {
    sorted_of(batches, &|_| true)
}

/// The same of some traces.
pub(super) fn sorted_of<'a>(batches: &'a [Batch], is_wanted: &dyn Fn(&TraceId) -> bool) -> Vec<Row<'a>> {
    // By the first half of the trace id, which nearly always tells traces apart, without following references.
    let mut order: Vec<(u64, u32, u32)> = Vec::with_capacity(batches.iter().map(Batch::len_spans).sum());
    for (number, batch) in batches.iter().enumerate() {
        let spans = batch.spans().iter().enumerate().filter(|(_, span)| is_wanted(&span.trace_id));
        order.extend(spans.map(|(place, span)| (index::prefix(&span.trace_id), number as u32, place as u32)));
    }
    order.sort_unstable();
    let row = |(_, number, place): &(u64, u32, u32)| {
        let batch = batches.get(*number as usize)?;
        let place = *place as usize;
        Some(Row { batch, number: *number, place, span: batch.spans().get(place)? })
    };
    let mut rows: Vec<Row<'_>> = Vec::with_capacity(order.len());
    rows.extend(order.iter().filter_map(row));
    for rows in rows.chunk_by_mut(|a, b| index::prefix(&a.span.trace_id) == index::prefix(&b.span.trace_id)) {
        rows.sort_by_key(|row| (row.span.trace_id, row.span.start_unix_nano, row.span.span_id, row.span.kind));
    }
    rows
}

/// Rows with the same ids, kind and start lie together; of equal ones the first stays.
pub(super) fn drop_duplicates(rows: &mut Vec<Row<'_>>) {
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
    for name in ["span_id", "parent_span_id"] {
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

    fn append(&mut self, cell: Cell<'_>) {
        match (self, cell) {
            (Self::Str(builder), Cell::Str(text)) => builder.append_value(text),
            (Self::Bool(builder), Cell::Bool(value)) => builder.append_value(value),
            (Self::Int(builder), Cell::Int(value)) => builder.append_value(value),
            (Self::Double(builder), Cell::Double(value)) => builder.append_value(value),
            (builder, _) => builder.append_nulls(1),
        }
    }

    fn append_nulls(&mut self, count: usize) {
        match self {
            Self::Str(builder) => builder.append_nulls(count),
            Self::Bool(builder) => builder.append_nulls(count),
            Self::Int(builder) => builder.append_nulls(count),
            Self::Double(builder) => builder.append_nulls(count),
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

/// An attribute column of some rows; rows without the attribute are made up for when the next one has it.
struct AttributeColumn {
    builder: AttributeBuilder,
    rows: usize,
}

impl AttributeColumn {
    fn put(&mut self, row: usize, cell: Cell<'_>) {
        self.builder.append_nulls(row - self.rows);
        self.builder.append(cell);
        self.rows = row + 1;
    }

    fn finish(mut self, rows: usize) -> ArrayRef {
        self.builder.append_nulls(rows - self.rows);
        self.builder.finish()
    }
}

/// What is read of a resource once, not for each of its spans.
struct Resources<'a> {
    batches: &'a [Batch],
    /// By batch, then by its resources: the service, and with which probability tail sampling kept its traces.
    known: Vec<Vec<Option<OfResource<'a>>>>,
}

type OfResource<'a> = (&'a str, Option<f64>);

impl<'a> Resources<'a> {
    fn new(batches: &'a [Batch]) -> Self {
        Self { batches, known: batches.iter().map(|batch| vec![None; batch.len_resources()]).collect() }
    }

    /// The service of a row, how it was kept, and its resource's header if no row had it before.
    fn read(&mut self, row: &Row<'a>) -> (&'a str, Option<f64>, Option<&'a [u8]>) {
        let number = row.batch.resource_of_scope(row.span.scope as usize);
        let known = self.known.get_mut(row.number as usize).and_then(|known| known.get_mut(number));
        if let Some(Some((service, kept_with))) = known {
            return (service, *kept_with, None);
        }
        let header = self.batches.get(row.number as usize).map_or(&[][..], |batch| batch.resource_header(number));
        let service = view::service_name(header).unwrap_or("unknown_service");
        let kept_with = kept::probability(header);
        if let Some(known) = known {
            *known = Some((service, kept_with));
        }
        (service, kept_with, Some(header))
    }
}

/// The columns of some rows.
struct Columns {
    rows: usize,
    trace_id: FixedSizeBinaryBuilder,
    span_id: FixedSizeBinaryBuilder,
    parent: FixedSizeBinaryBuilder,
    start: UInt64Builder,
    duration: Int64Builder,
    kind: UInt8Builder,
    status: UInt8Builder,
    flags: UInt32Builder,
    name: StringBuilder,
    service: StringBuilder,
    resource: BinaryBuilder,
    scope: BinaryBuilder,
    layout: BinaryBuilder,
    residual: BinaryBuilder,
    attributes: Vec<AttributeColumn>,
    self_ns: UInt64Builder,
    critical_ns: UInt64Builder,
    parent_row: UInt32Builder,
    kept_with: Float64Builder,
}

impl Columns {
    fn new(attributes: &AttributeColumns) -> Self {
        let column =
            |(_, kind): &(String, ColumnType)| AttributeColumn { builder: AttributeBuilder::new(*kind), rows: 0 };
        Self {
            rows: 0,
            trace_id: FixedSizeBinaryBuilder::with_capacity(CHUNK_ROWS, 16),
            span_id: FixedSizeBinaryBuilder::with_capacity(CHUNK_ROWS, 8),
            parent: FixedSizeBinaryBuilder::with_capacity(CHUNK_ROWS, 8),
            start: UInt64Builder::with_capacity(CHUNK_ROWS),
            duration: Int64Builder::with_capacity(CHUNK_ROWS),
            kind: UInt8Builder::with_capacity(CHUNK_ROWS),
            status: UInt8Builder::with_capacity(CHUNK_ROWS),
            flags: UInt32Builder::with_capacity(CHUNK_ROWS),
            name: StringBuilder::new(),
            service: StringBuilder::new(),
            resource: BinaryBuilder::new(),
            scope: BinaryBuilder::new(),
            layout: BinaryBuilder::new(),
            residual: BinaryBuilder::new(),
            attributes: attributes.columns.iter().map(column).collect(),
            self_ns: UInt64Builder::with_capacity(CHUNK_ROWS),
            critical_ns: UInt64Builder::with_capacity(CHUNK_ROWS),
            parent_row: UInt32Builder::with_capacity(CHUNK_ROWS),
            kept_with: Float64Builder::with_capacity(CHUNK_ROWS),
        }
    }

    /// In the order of the schema.
    fn finish(mut self) -> Vec<ArrayRef> {
        let mut arrays: Vec<ArrayRef> = vec![
            Arc::new(self.trace_id.finish()),
            Arc::new(self.span_id.finish()),
            Arc::new(self.parent.finish()),
            Arc::new(self.start.finish()),
            Arc::new(self.duration.finish()),
            Arc::new(self.kind.finish()),
            Arc::new(self.status.finish()),
            Arc::new(self.flags.finish()),
            Arc::new(self.name.finish()),
            Arc::new(self.service.finish()),
            Arc::new(self.resource.finish()),
            Arc::new(self.scope.finish()),
            Arc::new(self.layout.finish()),
            Arc::new(self.residual.finish()),
        ];
        let rows = self.rows;
        arrays.extend(self.attributes.into_iter().map(|column| column.finish(rows)));
        arrays.extend([Arc::new(self.self_ns.finish()) as ArrayRef, Arc::new(self.critical_ns.finish())]);
        arrays.extend([Arc::new(self.parent_row.finish()) as ArrayRef, Arc::new(self.kept_with.finish())]);
        arrays
    }
}

/// Takes rows apart into columns.
struct Taking<'a> {
    shredder: Shredder<'a>,
    resources: Resources<'a>,
    catalogue: CatalogueBuilder<'a>,
    columns: Columns,
}

impl<'a> Taking<'a> {
    fn take(
        &mut self,
        rows: &[Row<'a>],
        scanned: &Scanned<'a>,
        scanner: &Scanner<'a>,
        times: &[SpanTimes],
    ) -> Result<(), arrow::error::ArrowError> {
        let columns = &mut self.columns;
        for (number, ((row, span), times)) in rows.iter().zip(scanned.iter(0..rows.len())).zip(times).enumerate() {
            let (service_name, kept_with, new_resource) = self.resources.read(row);
            if let Some(header) = new_resource {
                self.catalogue.add_resource(header);
            }
            let shredded = self.shredder.shred(&span, row.span, scanner);
            columns.trace_id.append_value(row.span.trace_id.0)?;
            columns.span_id.append_value(row.span.span_id.0)?;
            let parent_row = parent_row(rows, number, row);
            columns.parent_row.append_option(parent_row);
            columns.kept_with.append_option(kept_with);
            match row.span.parent_span_id.is_zero() || parent_row.is_some() {
                true => columns.parent.append_null(),
                false => columns.parent.append_value(row.span.parent_span_id.0)?,
            }
            columns.start.append_value(row.span.start_unix_nano);
            // Wrapping, so that an end before its start comes back as it was.
            columns.duration.append_value(row.span.end_unix_nano.wrapping_sub(row.span.start_unix_nano) as i64);
            columns.kind.append_value(row.span.kind);
            columns.status.append_value(row.span.status);
            columns.flags.append_value(span.flags);
            columns.name.append_value(span.name);
            columns.service.append_value(service_name);
            columns.resource.append_value(span.piece.resource);
            columns.scope.append_value(span.piece.scope);
            columns.layout.append_value(&shredded.layout);
            columns.residual.append_value(&shredded.residual);
            // Of most spans both follow from the column before.
            let duration_ns = row.span.duration_ns();
            let near = |ns: u64| unrounded(rounded(ns, TIME_BITS), TIME_BITS).min(duration_ns);
            columns.self_ns.append_option(Some(times.self_ns).filter(|ns| *ns != duration_ns).map(near));
            columns.critical_ns.append_option(Some(times.critical_ns).filter(|ns| *ns != times.self_ns).map(near));
            self.catalogue.add_span(service_name, span.name, row.span.kind);
            for (column, cell) in &shredded.cells {
                self.catalogue.add_value(*column, value_of(cell));
                if let Some(column) = columns.attributes.get_mut(*column) {
                    column.put(columns.rows, *cell);
                }
            }
            for attribute in &shredded.raw_attributes {
                self.catalogue.add_residual(&view::key_value(attribute));
            }
            columns.rows += 1;
        }
        Ok(())
    }
}

/// How many rows before its own, which is `number`, a span's parent stands.
fn parent_row(rows: &[Row<'_>], number: usize, row: &Row<'_>) -> Option<u32> {
    let parent = row.span.parent_span_id;
    if parent.is_zero() {
        return None;
    }
    let before = rows.get(number.saturating_sub(columns::PARENT_ROWS)..number)?.iter().rev();
    let before = before.take_while(|before| before.span.trace_id == row.span.trace_id);
    (1..).zip(before).find(|(_, before)| before.span.span_id == parent).map(|(distance, _)| distance)
}

fn value_of<'a>(cell: &Cell<'a>) -> ValueView<'a> {
    match *cell {
        Cell::Str(text) => ValueView::Str(text),
        Cell::Bool(value) => ValueView::Bool(value),
        Cell::Int(value) => ValueView::Int(value),
        Cell::Double(value) => ValueView::Double(value),
    }
}
