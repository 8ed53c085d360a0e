//! What insight says of the traces of a block while it is built.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use spanwise_insight::trace_facts;
use spanwise_model::{Resource, Scope, Trace, TraceSpan};
use spanwise_wire::Piece;
use spanwise_wire::decode::{decode_resource, decode_scope, decode_span};

use super::BlockError;
use super::write::{Elsewhere, Row};
use crate::facts::{FactsBuilder, window};
use crate::merge::{is_equal, merge};

/// Of one row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct SpanTimes {
    pub self_ns: u64,
    pub critical_ns: u64,
}

/// Decodes pieces; equal resources and scopes are shared.
#[derive(Default)]
struct Decoder<'a> {
    resources: FxHashMap<&'a [u8], Arc<Resource>>,
    scopes: FxHashMap<&'a [u8], Arc<Scope>>,
}

impl<'a> Decoder<'a> {
    fn span(&mut self, piece: Piece<'a>) -> TraceSpan {
        let resource =
            self.resources.entry(piece.resource).or_insert_with(|| Arc::new(decode_resource(piece.resource)));
        let scope = self.scopes.entry(piece.scope).or_insert_with(|| Arc::new(decode_scope(piece.scope)));
        TraceSpan { resource: Arc::clone(resource), scope: Arc::clone(scope), span: decode_span(piece.span) }
    }
}

/// Rows stand in order of trace id.
pub(super) fn facts_of(
    rows: &[Row<'_>],
    elsewhere: &Elsewhere<'_>,
) -> Result<(FactsBuilder, Vec<SpanTimes>), BlockError> {
    let mut builder = FactsBuilder::default();
    let mut times: Vec<SpanTimes> = Vec::with_capacity(rows.len());
    let mut decoder = Decoder::default();
    for rows in rows.chunk_by(|a, b| a.span.trace_id == b.span.trace_id) {
        let Some(id) = rows.first().map(|row| row.span.trace_id) else { continue };
        let mut spans: Vec<(Option<usize>, TraceSpan)> =
            rows.iter().enumerate().map(|(own, row)| (Some(own), decoder.span(row.batch.piece(row.place)))).collect();
        let mut others = Vec::new();
        for (block, batch) in elsewhere(&id)? {
            builder.supersede(&block, &id);
            others.push(batch);
        }
        if let Some(others) = merge(others) {
            // Its resources do not live as long as those of the rows.
            let mut decoder = Decoder::default();
            for (place, span) in others.spans().iter().enumerate() {
                let piece = others.piece(place);
                let key = (span.start_unix_nano, span.span_id, span.kind);
                let of_row = |row: &Row<'_>| (row.span.start_unix_nano, row.span.span_id, row.span.kind);
                let first = rows.partition_point(|row| of_row(row) < key);
                let mut same = rows[first..].iter().take_while(|row| of_row(row) == key);
                if !same.any(|row| is_equal(&row.batch.piece(row.place), &piece)) {
                    spans.push((None, decoder.span(piece)));
                }
            }
        }
        spans.sort_by(|(_, a), (_, b)| window::order(a, b));
        let (owners, spans): (Vec<Option<usize>>, Vec<TraceSpan>) = spans.into_iter().unzip();
        let trace = Trace { spans };
        let facts = trace_facts(&trace);
        builder.add(&id, &trace);
        let base = times.len();
        times.resize(base + rows.len(), SpanTimes::default());
        for (owner, span) in owners.into_iter().zip(&facts.spans) {
            if let Some(time) = owner.and_then(|own| times.get_mut(base + own)) {
                *time = SpanTimes { self_ns: span.self_ns, critical_ns: span.critical_ns };
            }
        }
    }
    Ok((builder, times))
}
