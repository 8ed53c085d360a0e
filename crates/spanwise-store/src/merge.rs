//! One trace out of several places: spans that are equal become one.

use rustc_hash::FxHashMap;
use spanwise_wire::frame::rebuild;
use spanwise_wire::view::{Field, Fields};
use spanwise_wire::{Batch, Piece};

/// The same message, whatever its byte layout: equal resource, scope and span.
pub fn is_equal(a: &Piece<'_>, b: &Piece<'_>) -> bool {
    a.resource == b.resource && a.scope == b.scope && (a.span == b.span || same_fields(a.span, b.span))
}

/// Equal fields, in order among those of one number: fields of different numbers may stand in any order.
fn same_fields(a: &[u8], b: &[u8]) -> bool {
    let sorted = |bytes| {
        let mut fields: Vec<Field<'_>> = Fields::new(bytes).collect();
        fields.sort_by_key(|field| field.number);
        fields
    };
    let (a, b) = (sorted(a), sorted(b));
    a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a.number == b.number && a.value == b.value)
}

/// All spans of these batches, of one trace, each once. `None` when there are none.
pub fn merge(parts: Vec<Batch>) -> Option<Batch> {
    let mut parts: Vec<Batch> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    if parts.is_empty() {
        return None;
    }
    if parts.len() == 1 && !has_repeated_ids(&parts[0]) {
        return parts.pop();
    }
    let mut kept: Vec<Piece<'_>> = Vec::new();
    let mut by_key: FxHashMap<_, Vec<usize>> = FxHashMap::default();
    for batch in &parts {
        for (place, span) in batch.spans().iter().enumerate() {
            let piece = batch.piece(place);
            let same = by_key.entry((span.trace_id, span.span_id, span.kind, span.start_unix_nano)).or_default();
            if same.iter().all(|earlier| !is_equal(&kept[*earlier], &piece)) {
                same.push(kept.len());
                kept.push(piece);
            }
        }
    }
    Some(rebuild(kept))
}

pub(crate) fn has_repeated_ids(batch: &Batch) -> bool {
    let mut ids: Vec<_> = batch.spans().iter().map(|span| span.span_id).collect();
    ids.sort_unstable();
    ids.windows(2).any(|pair| pair[0] == pair[1])
}
