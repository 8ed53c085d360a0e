//! What insight says of the traces of a block while it is built.

use spanwise_insight::analysis::Analysis;
pub(super) use spanwise_insight::facts::SpanTimes;
use spanwise_insight::minutes::{Bounds, Minutes, Sign};
use spanwise_wire::Batch;

use super::BlockError;
use super::sketches_of::{gather, take_away};
use super::write::{Elsewhere, Row, sorted};
use crate::facts::FactsBuilder;
use crate::facts::read::SpanReader;
use crate::merge::merge;

/// Rows stand in order of trace id. They are counted in `minutes`, where there are any, with the builder's names.
pub(super) fn facts_of(
    rows: &[Row<'_>],
    elsewhere: &Elsewhere<'_>,
    mut minutes: Option<&mut Minutes>,
) -> Result<(FactsBuilder, Vec<SpanTimes>), BlockError> {
    let mut builder = FactsBuilder::default();
    let mut times: Vec<SpanTimes> = Vec::with_capacity(rows.len());
    let (mut reader, mut analysis) = (SpanReader::default(), Analysis::default());
    for rows in rows.chunk_by(|a, b| a.span.trace_id == b.span.trace_id) {
        let Some(id) = rows.first().map(|row| row.span.trace_id) else { continue };
        let mut others = Vec::new();
        for (block, batch) in elsewhere(&id)? {
            builder.supersede(&block, &id);
            others.push(batch);
        }
        analysis.begin(id);
        let others = merge(others);
        let shape = if let Some(others) = &others {
            with_others(rows, Some(others), &mut analysis, &mut builder, &mut times)
        } else if rows.is_sorted_by(is_before) {
            for row in rows {
                reader.add(row.span, row.batch.piece(row.place), &mut analysis, builder.names_mut());
            }
            analysis.finish();
            let shape = builder.add(&id, &mut analysis, || rows.iter().map(|row| row.batch.piece(row.place)));
            times.extend_from_slice(analysis.times());
            shape
        } else {
            // Of spans alike in ids, kind and start the rest decides.
            with_others(rows, None, &mut analysis, &mut builder, &mut times)
        };
        if let Some(minutes) = &mut minutes {
            minutes.add_trace(&analysis, builder.names_mut(), shape, Sign::Add);
            if let Some(others) = &others {
                take_away(id, others, &mut analysis, builder.names_mut(), minutes);
            }
        }
    }
    Ok((builder, times))
}

/// The spans of a block in its order, for benchmarks of insight alone.
pub struct Sorted<'a>(Vec<Row<'a>>);

impl<'a> Sorted<'a> {
    pub fn of(batches: &'a [Batch]) -> Self {
        Self(sorted(batches))
    }

    /// The contents of the block's `facts.bin`.
    ///
    /// # Errors
    /// When it cannot be compressed.
    pub fn facts(&self) -> Result<Vec<u8>, BlockError> {
        facts_of(&self.0, &super::nowhere, None)?.0.finish()
    }

    /// The same, and the contents of `sketches.bin`.
    ///
    /// # Errors
    /// As [`Self::facts`].
    pub fn facts_and_sketches(&self) -> Result<(Vec<u8>, Vec<u8>), BlockError> {
        let mut minutes = Minutes::new(Bounds::BLOCK);
        let mut facts = facts_of(&self.0, &super::nowhere, Some(&mut minutes))?.0;
        let sketches = crate::sketches::to_bytes(&minutes, facts.names_mut())?;
        Ok((facts.finish()?, sketches))
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
    let mut reader = SpanReader::default();
    for (_, span, piece) in &spans {
        reader.add(span, *piece, analysis, builder.names_mut());
    }
    analysis.finish();
    let (_, span, _) = spans.first()?;
    let shape = builder.add(&span.trace_id, analysis, || spans.iter().map(|(.., piece)| *piece));
    let base = times.len();
    times.resize(base + rows.len(), SpanTimes::default());
    for ((owner, ..), span) in spans.iter().zip(analysis.times()) {
        if let Some(time) = owner.and_then(|own| times.get_mut(base + own)) {
            *time = *span;
        }
    }
    shape
}
