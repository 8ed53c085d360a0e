//! What insight says of the traces of a block while it is built.

use spanwise_insight::analysis::Analysis;
pub(super) use spanwise_insight::facts::SpanTimes;
use spanwise_wire::{Batch, Piece, SpanRef};

use super::BlockError;
use super::write::{Elsewhere, Row, sorted};
use crate::facts::FactsBuilder;
use crate::facts::read::{SpanReader, order};
use crate::merge::{is_equal, merge};

/// Rows stand in order of trace id.
pub(super) fn facts_of(
    rows: &[Row<'_>],
    elsewhere: &Elsewhere<'_>,
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
        if let Some(others) = merge(others) {
            with_others(rows, Some(&others), &mut analysis, &mut builder, &mut times);
        } else if rows.is_sorted_by(is_before) {
            for row in rows {
                reader.add(row.span, row.batch.piece(row.place), &mut analysis, builder.names_mut());
            }
            analysis.finish();
            builder.add(&id, &mut analysis, || rows.iter().map(|row| row.batch.piece(row.place)));
            times.extend_from_slice(analysis.times());
        } else {
            // Of spans alike in ids, kind and start the rest decides.
            with_others(rows, None, &mut analysis, &mut builder, &mut times);
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
        facts_of(&self.0, &super::nowhere)?.0.finish()
    }
}

/// Rows are in order of all but the last parts of the order of spans.
fn is_before(a: &Row<'_>, b: &Row<'_>) -> bool {
    let key = |row: &Row<'_>| (row.span.start_unix_nano, row.span.span_id, row.span.kind);
    key(a) < key(b)
}

/// Of a trace that has spans in other blocks as well; its times are those of the rows.
fn with_others(
    rows: &[Row<'_>],
    others: Option<&Batch>,
    analysis: &mut Analysis,
    builder: &mut FactsBuilder,
    times: &mut Vec<SpanTimes>,
) {
    let mut spans: Vec<(Option<usize>, &SpanRef, Piece<'_>)> = Vec::with_capacity(rows.len());
    for (others, place) in others.iter().flat_map(|others| (0..others.len_spans()).map(move |place| (others, place))) {
        let Some(span) = others.spans().get(place) else { continue };
        let piece = others.piece(place);
        let key = (span.start_unix_nano, span.span_id, span.kind);
        let of_row = |row: &Row<'_>| (row.span.start_unix_nano, row.span.span_id, row.span.kind);
        let first = rows.partition_point(|row| of_row(row) < key);
        let mut same = rows[first..].iter().take_while(|row| of_row(row) == key);
        if !same.any(|row| is_equal(&row.batch.piece(row.place), &piece)) {
            spans.push((None, span, piece));
        }
    }
    let own = rows.iter().enumerate();
    spans.extend(own.map(|(place, row)| (Some(place), row.span, row.batch.piece(row.place))));
    spans.sort_by(|a, b| order((a.1, a.2), (b.1, b.2)));
    // Its resources do not live as long as those of the rows.
    let mut reader = SpanReader::default();
    for (_, span, piece) in &spans {
        reader.add(span, *piece, analysis, builder.names_mut());
    }
    analysis.finish();
    if let Some((_, span, _)) = spans.first() {
        builder.add(&span.trace_id, analysis, || spans.iter().map(|(.., piece)| *piece));
    }
    let base = times.len();
    times.resize(base + rows.len(), SpanTimes::default());
    for ((owner, ..), span) in spans.iter().zip(analysis.times()) {
        if let Some(time) = owner.and_then(|own| times.get_mut(base + own)) {
            *time = *span;
        }
    }
}
