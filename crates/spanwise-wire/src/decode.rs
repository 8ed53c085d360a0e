//! From validated bytes to the decoded view of a trace.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use spanwise_model::{
    Event, KeyValue, Link, Resource, Scope, Span, SpanId, SpanKind, StatusCode, Trace, TraceId, TraceSpan, Value,
};

use crate::batch::Batch;
use crate::kept;
use crate::view::{Fields, KeyValueView, ValueView, array_values, key_value, key_values};

/// Decodes the body of a `Span`; unknown fields are left out.
pub fn decode_span(body: &[u8]) -> Span {
    let mut span = Span::default();
    for field in Fields::new(body) {
        let value = field.value;
        match field.number {
            1 => span.trace_id = TraceId::from_slice(value.bytes()).unwrap_or_default(),
            2 => span.span_id = SpanId::from_slice(value.bytes()).unwrap_or_default(),
            3 => span.trace_state = value.text().to_owned(),
            4 => span.parent_span_id = SpanId::from_slice(value.bytes()).filter(|id| !id.is_zero()),
            5 => span.name = value.text().to_owned(),
            6 => span.kind = SpanKind::from_wire(value.uint()),
            7 => span.start_unix_nano = value.uint(),
            8 => span.end_unix_nano = value.uint(),
            9 => span.attributes.push(attribute(&key_value(value.bytes()))),
            10 => span.dropped_attributes_count = value.uint() as u32,
            11 => span.events.push(decode_event(value.bytes())),
            12 => span.dropped_events_count = value.uint() as u32,
            13 => span.links.push(decode_link(value.bytes())),
            14 => span.dropped_links_count = value.uint() as u32,
            15 => {
                for field in Fields::new(value.bytes()) {
                    match field.number {
                        2 => span.status.message = field.value.text().to_owned(),
                        3 => span.status.code = StatusCode::from_wire(field.value.uint()),
                        _ => {}
                    }
                }
            }
            16 => span.flags = value.uint() as u32,
            _ => {}
        }
    }
    span
}

fn decode_event(body: &[u8]) -> Event {
    let mut event = Event::default();
    for field in Fields::new(body) {
        match field.number {
            1 => event.time_unix_nano = field.value.uint(),
            2 => event.name = field.value.text().to_owned(),
            3 => event.attributes.push(attribute(&key_value(field.value.bytes()))),
            4 => event.dropped_attributes_count = field.value.uint() as u32,
            _ => {}
        }
    }
    event
}

fn decode_link(body: &[u8]) -> Link {
    let mut link = Link::default();
    for field in Fields::new(body) {
        match field.number {
            1 => link.trace_id = field.value.bytes().to_vec(),
            2 => link.span_id = field.value.bytes().to_vec(),
            3 => link.trace_state = field.value.text().to_owned(),
            4 => link.attributes.push(attribute(&key_value(field.value.bytes()))),
            5 => link.dropped_attributes_count = field.value.uint() as u32,
            6 => link.flags = field.value.uint() as u32,
            _ => {}
        }
    }
    link
}

/// Decodes a [`Batch::resource_header`].
pub fn decode_resource(header: &[u8]) -> Resource {
    let mut resource = Resource::default();
    for field in Fields::new(header) {
        match field.number {
            1 => {
                for field in Fields::new(field.value.bytes()) {
                    match field.number {
                        1 => resource.attributes.push(attribute(&key_value(field.value.bytes()))),
                        2 => resource.dropped_attributes_count = field.value.uint() as u32,
                        _ => {}
                    }
                }
            }
            3 => resource.schema_url = field.value.text().to_owned(),
            _ => {}
        }
    }
    resource.kept_with = kept::probability(header);
    resource
}

/// Decodes a [`Batch::scope_header`].
pub fn decode_scope(header: &[u8]) -> Scope {
    let mut scope = Scope::default();
    for field in Fields::new(header) {
        match field.number {
            1 => {
                for field in Fields::new(field.value.bytes()) {
                    match field.number {
                        1 => scope.name = field.value.text().to_owned(),
                        2 => scope.version = field.value.text().to_owned(),
                        3 => scope.attributes.push(attribute(&key_value(field.value.bytes()))),
                        4 => scope.dropped_attributes_count = field.value.uint() as u32,
                        _ => {}
                    }
                }
            }
            3 => scope.schema_url = field.value.text().to_owned(),
            _ => {}
        }
    }
    scope
}

/// Decodes all spans of these batches; equal resources and scopes are shared.
pub fn decode_trace(batches: &[Batch]) -> Trace {
    let mut resources: FxHashMap<&[u8], Arc<Resource>> = FxHashMap::default();
    let mut scopes: FxHashMap<&[u8], Arc<Scope>> = FxHashMap::default();
    let mut trace = Trace::default();
    for piece in batches.iter().flat_map(Batch::pieces) {
        let resource = resources.entry(piece.resource).or_insert_with(|| Arc::new(decode_resource(piece.resource)));
        let scope = scopes.entry(piece.scope).or_insert_with(|| Arc::new(decode_scope(piece.scope)));
        trace.spans.push(TraceSpan {
            resource: Arc::clone(resource),
            scope: Arc::clone(scope),
            span: decode_span(piece.span),
        });
    }
    trace
}

/// An attribute of its own.
pub fn attribute(view: &KeyValueView<'_>) -> KeyValue {
    KeyValue { key: view.key.to_owned(), value: decode_value(view.value) }
}

/// A value of its own. Validation has bounded its depth.
pub fn decode_value(view: ValueView<'_>) -> Value {
    match view {
        ValueView::Empty => Value::Empty,
        ValueView::Str(text) => Value::Str(text.to_owned()),
        ValueView::Bool(value) => Value::Bool(value),
        ValueView::Int(value) => Value::Int(value),
        ValueView::Double(value) => Value::Double(value),
        ValueView::Bytes(bytes) => Value::Bytes(bytes.to_vec()),
        ValueView::Array(body) => Value::Array(array_values(body).map(decode_value).collect()),
        ValueView::Map(body) => Value::Map(key_values(body, 1).map(|view| attribute(&view)).collect()),
    }
}
