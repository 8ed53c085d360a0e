//! The probability with which tail sampling kept a trace, on its way to the store and in it: a field of the resource's
//! header that no OTLP message can ever have.

use crate::encode::put_tag;
use crate::frame::rebuild;
use crate::view::{FieldValue, Fields};
use crate::{Batch, Piece};

/// Protobuf reserves 19000 to 19999 for its implementations.
const FIELD: u32 = 19_817;

/// The same spans, which say how they were kept. A probability of 1 says nothing.
pub fn with_probability(batch: Batch, probability: f64) -> Batch {
    if !(probability > 0.0 && probability < 1.0) {
        return batch;
    }
    let mut headers: Vec<(&[u8], Vec<u8>)> = Vec::new();
    for piece in batch.pieces() {
        if headers.last().is_none_or(|(resource, _)| !std::ptr::eq(*resource, piece.resource)) {
            let mut header = without(piece.resource);
            put_tag(&mut header, FIELD, 1);
            header.extend_from_slice(&probability.to_le_bytes());
            headers.push((piece.resource, header));
        }
    }
    let mut at = 0;
    let pieces = batch.pieces().map(|piece| {
        while headers.get(at).is_some_and(|(resource, _)| !std::ptr::eq(*resource, piece.resource)) {
            at += 1;
        }
        Piece { resource: headers.get(at).map_or(piece.resource, |(_, header)| header), ..piece }
    });
    rebuild(pieces)
}

/// What a resource's header says; `None` when all traces like it were kept.
pub fn probability(resource_header: &[u8]) -> Option<f64> {
    let fields = Fields::new(resource_header).filter(|field| field.number == FIELD);
    let bits = fields.filter_map(|field| match field.value {
        FieldValue::Fixed64(bits) => Some(bits),
        _ => None,
    });
    bits.last().map(f64::from_bits).filter(|probability| *probability > 0.0 && *probability < 1.0)
}

fn without(resource_header: &[u8]) -> Vec<u8> {
    let mut header = Vec::with_capacity(resource_header.len() + 12);
    for field in Fields::new(resource_header).filter(|field| field.number != FIELD) {
        header.extend_from_slice(field.raw);
    }
    header
}

/// The same spans as their senders sent them: without what the store notes of how it got them, and without what others
/// claim of that.
pub fn as_sent(batch: Batch) -> Batch {
    if !(0..batch.len_resources())
        .any(|number| Fields::new(batch.resource_header(number)).any(|field| field.number == FIELD))
    {
        return batch;
    }
    let headers: Vec<Vec<u8>> = batch.pieces().map(|piece| without(piece.resource)).collect();
    rebuild(batch.pieces().zip(&headers).map(|(piece, header)| Piece { resource: header, ..piece }))
}

#[cfg(test)]
mod tests {
    use spanwise_model::{KeyValue, Resource, Scope, Span, SpanId, TraceId};

    use super::*;
    use crate::decode::decode_resource;
    use crate::encode::{encode_resource_header, encode_scope_header, encode_span};

    fn batch() -> Batch {
        let header = |name: &str| {
            let attributes = vec![KeyValue::new("service.name", name)];
            encode_resource_header(&Resource { attributes, schema_url: "u".to_owned(), ..Resource::default() })
        };
        let resources = [header("a"), header("b")];
        let scope = encode_scope_header(&Scope::default());
        let spans: Vec<Vec<u8>> = (1..=6u8)
            .map(|n| encode_span(&Span { trace_id: TraceId([n; 16]), span_id: SpanId([n; 8]), ..Span::default() }))
            .collect();
        let pieces = spans.iter().enumerate();
        rebuild(pieces.map(|(n, span)| Piece { resource: &resources[n / 2 % 2], scope: &scope, span }))
    }

    #[test]
    fn a_probability_stays_with_its_spans_and_leaves_without_a_trace() {
        let kept = with_probability(batch(), 0.05);
        assert_eq!(kept.len_spans(), 6);
        assert!(kept.pieces().all(|piece| probability(piece.resource) == Some(0.05)));
        assert!(batch().pieces().all(|piece| probability(piece.resource).is_none()));
        let again = with_probability(kept, 0.5);
        assert!(again.pieces().all(|piece| probability(piece.resource) == Some(0.5)));
        assert_eq!(as_sent(again).bytes(), batch().bytes());
        for surely in [1.0, 0.0, -1.0, f64::NAN] {
            assert_eq!(with_probability(batch(), surely).bytes(), batch().bytes());
        }
        let names = |batch: &Batch| -> Vec<String> {
            batch.pieces().map(|piece| decode_resource(piece.resource).service_name().to_owned()).collect()
        };
        let kept = with_probability(batch(), 0.1);
        assert_eq!(names(&kept), names(&batch()));
        let mut resources = kept.pieces().map(|piece| decode_resource(piece.resource));
        assert!(resources.all(|resource| resource.kept_with == Some(0.1) && resource.schema_url == "u"));
    }
}
