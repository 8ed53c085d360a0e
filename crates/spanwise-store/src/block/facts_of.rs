//! What insight says of the traces of a block while it is built.

use spanwise_insight::analysis::Analysis;
use spanwise_insight::attributes::AttributeSet;
pub(super) use spanwise_insight::facts::SpanTimes;
use spanwise_insight::minutes::{Bounds, Minutes, Sign};
use spanwise_insight::names::Names;
use spanwise_insight::row::TraceRow;
use spanwise_model::TraceId;
use spanwise_wire::{Batch, SpanRef};

use super::BlockError;
use super::sketches_of::{gather, take_away};
use super::write::{Elsewhere, Row, drop_duplicates, scan, sorted, sorted_of, whole_traces};
use crate::facts::FactsBuilder;
use crate::facts::read::SpanReader;
use crate::merge::merge;
use crate::scan::{Scanned, Scanner};

/// Takes a block's traces one after the other, in order of trace id.
pub(super) struct FactsTaker<'a> {
    elsewhere: &'a Elsewhere<'a>,
    reader: SpanReader<'a>,
    analysis: Analysis,
    pub builder: FactsBuilder,
    /// Where traces are counted, if they are, with the builder's names.
    pub minutes: Option<Minutes>,
}

impl<'a> FactsTaker<'a> {
    pub fn new(elsewhere: &'a Elsewhere<'a>, minutes: Option<Minutes>) -> Self {
        let (reader, analysis, builder) = Default::default();
        Self { elsewhere, reader, analysis, builder, minutes }
    }

    /// Takes the rows of whole traces, which `scanned` has in their order, and adds the times of each.
    pub fn take(
        &mut self,
        rows: &[Row<'a>],
        scanned: &Scanned<'a>,
        scanner: &Scanner<'a>,
        times: &mut Vec<SpanTimes>,
    ) -> Result<(), BlockError> {
        let mut first = 0;
        for rows in rows.chunk_by(|a, b| a.span.trace_id == b.span.trace_id) {
            let places = first..first + rows.len();
            first = places.end;
            let Some(id) = rows.first().map(|row| row.span.trace_id) else { continue };
            let mut others = Vec::new();
            for (block, batch) in (self.elsewhere)(&id)? {
                self.builder.supersede(&block, &id);
                others.push(batch);
            }
            let others = merge(others);
            self.analysis.begin(id);
            let shape = if others.is_none() && rows.is_sorted_by(is_before) {
                for (row, span) in rows.iter().zip(scanned.iter(places.clone())) {
                    self.reader.add(row.span, &span, scanner, &mut self.analysis, self.builder.names_mut());
                }
                self.analysis.finish();
                let (reader, spans) = (&mut self.reader, scanned.iter(places));
                let shape = self
                    .builder
                    .add(&id, &mut self.analysis, |set, names| reader.add_attributes(spans, scanner, set, names));
                times.extend_from_slice(self.analysis.times());
                shape
            } else {
                // Of spans alike in ids, kind and start the rest decides.
                with_others(rows, others.as_ref(), &mut self.analysis, &mut self.builder, times)
            };
            if let Some(minutes) = &mut self.minutes {
                minutes.add_trace(&self.analysis, self.builder.names_mut(), shape, Sign::Add);
                if let Some(others) = &others {
                    take_away(id, others, &mut self.analysis, self.builder.names_mut(), minutes);
                }
            }
        }
        Ok(())
    }
}

/// The spans of a block in its order, for benchmarks of insight alone.
pub struct Sorted<'a>(Vec<Row<'a>>);

impl<'a> Sorted<'a> {
    pub fn of(batches: &'a [Batch]) -> Self {
        Self(sorted(batches))
    }

    /// Makes the facts row of each trace from its spans' bytes, one after the other, and forgets it; how many there are.
    pub fn rows(&self) -> usize {
        let mut made = 0;
        each_row(&self.0, &mut Names::default(), &mut |trace, _| {
            made += usize::from(std::hint::black_box(trace.row).is_some());
            true
        });
        made
    }

    /// The contents of the block's `facts.bin`.
    ///
    /// # Errors
    /// When it cannot be compressed.
    pub fn facts(&self) -> Result<Vec<u8>, BlockError> {
        self.taken(None)?.builder.finish()
    }

    /// The same, and the contents of `sketches.bin`.
    ///
    /// # Errors
    /// As [`Self::facts`].
    pub fn facts_and_sketches(&self) -> Result<(Vec<u8>, Vec<u8>), BlockError> {
        let mut taken = self.taken(Some(Minutes::new(Bounds::BLOCK)))?;
        let minutes = taken.minutes.unwrap_or_else(|| Minutes::new(Bounds::BLOCK));
        let sketches = crate::sketches::to_bytes(&minutes, taken.builder.names_mut())?;
        Ok((taken.builder.finish()?, sketches))
    }

    fn taken(&self, minutes: Option<Minutes>) -> Result<FactsTaker<'_>, BlockError> {
        let (mut scanner, mut scanned, mut times) = (Scanner::default(), Scanned::default(), Vec::new());
        let mut facts = FactsTaker::new(&super::nowhere, minutes);
        for rows in whole_traces(&self.0) {
            scan(rows, &mut scanner, &mut scanned);
            facts.take(rows, &scanned, &scanner, &mut times)?;
        }
        Ok(facts)
    }
}

/// A trace that was read, and its facts row if it has one.
pub(crate) struct MadeRow {
    pub id: TraceId,
    /// The earliest start of a span.
    pub start_unix_nano: u64,
    pub spans: u32,
    pub row: Option<TraceRow>,
}

/// Makes the facts rows of all traces in these batches that are wanted and lie nowhere else, in order of trace id, until
/// `visit` has enough. Traces with spans alike in ids, kind and start are left out: of them all bytes decide.
pub(crate) fn rows_of(
    batches: &[Batch],
    is_wanted: &dyn Fn(&TraceId) -> bool,
    names: &mut Names,
    visit: &mut dyn FnMut(MadeRow, &Names) -> bool,
) {
    let mut rows = sorted_of(batches, is_wanted);
    drop_duplicates(&mut rows);
    each_row(&rows, names, visit);
}

fn each_row(rows: &[Row<'_>], names: &mut Names, visit: &mut dyn FnMut(MadeRow, &Names) -> bool) {
    let (mut scanner, mut scanned, mut reader) = (Scanner::default(), Scanned::default(), SpanReader::default());
    let (mut analysis, mut set) = (Analysis::default(), AttributeSet::of_row());
    for rows in whole_traces(rows) {
        scan(rows, &mut scanner, &mut scanned);
        let mut first = 0;
        for rows in rows.chunk_by(|a, b| a.span.trace_id == b.span.trace_id) {
            let places = first..first + rows.len();
            first = places.end;
            let Some(SpanRef { trace_id, start_unix_nano, .. }) = rows.first().map(|row| *row.span) else { continue };
            if !rows.is_sorted_by(is_before) {
                continue;
            }
            analysis.begin(trace_id);
            for (row, span) in rows.iter().zip(scanned.iter(places.clone())) {
                reader.add(row.span, &span, &scanner, &mut analysis, names);
            }
            analysis.finish();
            let row = reader.row(scanned.iter(places), &scanner, &mut analysis, &mut set, names);
            if !visit(MadeRow { id: trace_id, start_unix_nano, spans: rows.len() as u32, row }, names) {
                return;
            }
        }
    }
}

/// Rows are in order of all but the last parts of the order of spans.
pub(super) fn is_before(a: &Row<'_>, b: &Row<'_>) -> bool {
    let key = |row: &Row<'_>| (row.span.start_unix_nano, row.span.span_id, row.span.kind);
    key(a) < key(b)
}

/// Of a trace that has spans in other blocks as well; its times are those of the rows. Its shape.
fn with_others(
    rows: &[Row<'_>],
    others: Option<&Batch>,
    analysis: &mut Analysis,
    builder: &mut FactsBuilder,
    times: &mut Vec<SpanTimes>,
) -> Option<u64> {
    let spans = gather(rows, others);
    // Its resources do not live as long as those of the rows.
    let (mut scanner, mut scanned, mut reader) = (Scanner::default(), Scanned::default(), SpanReader::default());
    spans.iter().for_each(|(.., piece)| scanner.scan(*piece, &mut scanned));
    for ((_, span, _), read) in spans.iter().zip(scanned.iter(0..spans.len())) {
        reader.add(span, &read, &scanner, analysis, builder.names_mut());
    }
    analysis.finish();
    let (_, span, _) = spans.first()?;
    let read = scanned.iter(0..spans.len());
    let shape = builder.add(&span.trace_id, analysis, |set, names| reader.add_attributes(read, &scanner, set, names));
    let base = times.len();
    times.resize(base + rows.len(), SpanTimes::default());
    for ((owner, ..), span) in spans.iter().zip(analysis.times()) {
        if let Some(time) = owner.and_then(|own| times.get_mut(base + own)) {
            *time = *span;
        }
    }
    shape
}
