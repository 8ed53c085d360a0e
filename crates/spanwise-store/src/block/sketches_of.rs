//! What spans add to the counts of minutes, told from all spans of their traces, also those in other places.

use spanwise_insight::analysis::Analysis;
use spanwise_insight::minutes::{Minutes, Sign};
use spanwise_insight::names::Names;
use spanwise_model::TraceId;
use spanwise_wire::{Batch, Piece, SpanRef};

use super::BlockError;
use super::write::{Row, drop_duplicates, scan, sorted};
use crate::facts::read::{SpanReader, order};
use crate::merge::is_equal;
use crate::scan::{Scanned, Scanner};

/// A span, and its place among the rows if it is one of them.
pub(super) type Gathered<'a> = (Option<usize>, &'a SpanRef, Piece<'a>);

/// Rows of a trace and what others have of it, each span once, in the order in which it is read.
pub(super) fn gather<'a>(rows: &[Row<'a>], others: Option<&'a Batch>) -> Vec<Gathered<'a>> {
    let mut spans: Vec<Gathered<'a>> = Vec::with_capacity(rows.len());
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
    spans
}

fn analyse(id: TraceId, spans: &[Gathered<'_>], analysis: &mut Analysis, names: &mut Names) {
    // Resources of others do not live as long as those of rows.
    let (mut scanner, mut scanned, mut reader) = (Scanner::default(), Scanned::default(), SpanReader::default());
    spans.iter().for_each(|(.., piece)| scanner.scan(*piece, &mut scanned));
    analysis.begin(id);
    for ((_, span, _), read) in spans.iter().zip(scanned.iter(0..spans.len())) {
        reader.add(span, &read, &scanner, analysis, names);
    }
    analysis.finish();
}

/// Takes away what was counted of a trace elsewhere.
pub(super) fn take_away(
    id: TraceId,
    others: &Batch,
    analysis: &mut Analysis,
    names: &mut Names,
    minutes: &mut Minutes,
) {
    analyse(id, &gather(&[], Some(others)), analysis, names);
    let shape = analysis.shape(names);
    minutes.add_trace(analysis, names, shape, Sign::TakeAway);
}

/// Adds the spans of these batches. `elsewhere` has what is known already of a trace; `is_over` may end it early, and
/// then the answer is `false`.
///
/// # Errors
/// Those of `elsewhere`.
pub fn sketch(
    batches: &[Batch],
    elsewhere: &dyn Fn(&TraceId) -> Result<Option<Batch>, BlockError>,
    names: &mut Names,
    minutes: &mut Minutes,
    is_over: &dyn Fn() -> bool,
) -> Result<bool, BlockError> {
    let mut rows = sorted(batches);
    drop_duplicates(&mut rows);
    let (mut scanner, mut scanned) = (Scanner::default(), Scanned::default());
    let (mut reader, mut analysis) = (SpanReader::default(), Analysis::default());
    for (number, rows) in rows.chunk_by(|a, b| a.span.trace_id == b.span.trace_id).enumerate() {
        if number % 256 == 255 && is_over() {
            return Ok(false);
        }
        let Some(id) = rows.first().map(|row| row.span.trace_id) else { continue };
        let others = elsewhere(&id)?;
        if others.is_none() && rows.is_sorted_by(super::facts_of::is_before) {
            analysis.begin(id);
            scan(rows, &mut scanner, &mut scanned);
            for (row, read) in rows.iter().zip(scanned.iter(0..rows.len())) {
                reader.add(row.span, &read, &scanner, &mut analysis, names);
            }
            analysis.finish();
        } else {
            analyse(id, &gather(rows, others.as_ref()), &mut analysis, names);
        }
        let shape = analysis.shape(names);
        minutes.add_trace(&analysis, names, shape, Sign::Add);
        if let Some(others) = others {
            take_away(id, &others, &mut analysis, names, minutes);
        }
    }
    Ok(true)
}
