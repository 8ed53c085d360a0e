//! Invalid UTF-8 in a request is replaced by U+FFFD, so that a strict reader further on does not refuse the batch.
//! Runs only on requests in which the scan has found such text; rewrites all of the request once.

use spanwise_model::limits::VALUE_DEPTH;

use crate::encode::put_len_field;
use crate::view::{FieldValue, Fields};

#[derive(Clone, Copy)]
enum Message {
    Request,
    ResourceSpans,
    Resource,
    EntityRef,
    ScopeSpans,
    Scope,
    Span,
    Event,
    Link,
    Status,
    KeyValue,
    AnyValue,
    Array,
    Map,
}

enum Kind {
    Text,
    Child(Message),
    Other,
}

impl Message {
    fn field(self, number: u32) -> Kind {
        use Kind::{Child, Other, Text};
        use Message as M;
        match (self, number) {
            (M::Request, 1) => Child(M::ResourceSpans),
            (M::ResourceSpans, 1) => Child(M::Resource),
            (M::ResourceSpans, 2) => Child(M::ScopeSpans),
            (M::ResourceSpans | M::ScopeSpans, 3) => Text,
            (M::Resource, 1) => Child(M::KeyValue),
            (M::Resource, 3) => Child(M::EntityRef),
            (M::EntityRef, 1..=4) => Text,
            (M::ScopeSpans, 1) => Child(M::Scope),
            (M::ScopeSpans, 2) => Child(M::Span),
            (M::Scope, 1 | 2) => Text,
            (M::Scope, 3) => Child(M::KeyValue),
            (M::Span, 3 | 5) => Text,
            (M::Span, 9) => Child(M::KeyValue),
            (M::Span, 11) => Child(M::Event),
            (M::Span, 13) => Child(M::Link),
            (M::Span, 15) => Child(M::Status),
            (M::Event, 2) | (M::Link, 3) | (M::Status, 2) => Text,
            (M::Event, 3) | (M::Link, 4) => Child(M::KeyValue),
            (M::KeyValue, 1) => Text,
            (M::KeyValue, 2) => Child(M::AnyValue),
            (M::AnyValue, 1) => Text,
            (M::AnyValue, 5) => Child(M::Array),
            (M::AnyValue, 6) => Child(M::Map),
            (M::Array, 1) => Child(M::AnyValue),
            (M::Map, 1) => Child(M::KeyValue),
            _ => Other,
        }
    }
}

/// The same request with every text valid.
pub(crate) fn repair(request: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(request.len() + 64);
    // Four messages lie above an attribute value, three make up one level of it.
    rewrite(Message::Request, request, 6 + 3 * VALUE_DEPTH, &mut out);
    out
}

fn rewrite(message: Message, body: &[u8], depth: usize, out: &mut Vec<u8>) {
    for field in Fields::new(body) {
        match (message.field(field.number), field.value) {
            (Kind::Text, FieldValue::Len(text)) => {
                put_len_field(out, field.number, String::from_utf8_lossy(text).as_bytes());
            }
            (Kind::Child(child), FieldValue::Len(bytes)) if depth > 0 => {
                let mut inner = Vec::with_capacity(bytes.len());
                rewrite(child, bytes, depth - 1, &mut inner);
                put_len_field(out, field.number, &inner);
            }
            _ => out.extend_from_slice(field.raw),
        }
    }
}
