//! Writing protobuf: the primitives, and the messages of a trace from their decoded form.

use spanwise_model::{Event, KeyValue, Link, Resource, Scope, Span, Status, Value};

pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub fn varint_size(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// `wire`: 0 varint, 1 fixed64, 2 length-delimited, 5 fixed32.
pub fn put_tag(out: &mut Vec<u8>, number: u32, wire: u8) {
    put_varint(out, u64::from(number) << 3 | u64::from(wire));
}

/// Bytes of a length-delimited field with a body of `body` bytes.
pub fn len_field_size(number: u32, body: usize) -> usize {
    varint_size(u64::from(number) << 3) + varint_size(body as u64) + body
}

/// Tag and length of a length-delimited field whose body the caller writes next.
pub fn put_len_prefix(out: &mut Vec<u8>, number: u32, body: usize) {
    put_tag(out, number, 2);
    put_varint(out, body as u64);
}

pub fn put_len_field(out: &mut Vec<u8>, number: u32, body: &[u8]) {
    put_len_prefix(out, number, body.len());
    out.extend_from_slice(body);
}

/// Left out when empty, as proto3 does.
pub fn put_str(out: &mut Vec<u8>, number: u32, text: &str) {
    if !text.is_empty() {
        put_len_field(out, number, text.as_bytes());
    }
}

/// Left out when zero, as proto3 does.
pub fn put_uint(out: &mut Vec<u8>, number: u32, value: u64) {
    if value != 0 {
        put_tag(out, number, 0);
        put_varint(out, value);
    }
}

/// Left out when zero, as proto3 does.
pub fn put_fixed64(out: &mut Vec<u8>, number: u32, value: u64) {
    if value != 0 {
        put_tag(out, number, 1);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

/// Left out when zero, as proto3 does.
pub fn put_fixed32(out: &mut Vec<u8>, number: u32, value: u32) {
    if value != 0 {
        put_tag(out, number, 5);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

/// A nested message: `write` appends the body, the length before it is put in afterwards.
pub fn put_message(out: &mut Vec<u8>, number: u32, write: impl FnOnce(&mut Vec<u8>)) {
    put_tag(out, number, 2);
    let length_at = out.len();
    out.push(0);
    write(out);
    let body = out.len() - length_at - 1;
    let size = varint_size(body as u64);
    if size > 1 {
        // Bodies over 127 bytes move by the few bytes that their length needs.
        out.resize(out.len() + size - 1, 0);
        out.copy_within(length_at + 1..length_at + 1 + body, length_at + size);
    }
    let mut length = Vec::with_capacity(size);
    put_varint(&mut length, body as u64);
    out[length_at..length_at + size].copy_from_slice(&length);
}

/// Body of an `AnyValue`.
pub fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Empty => {}
        Value::Str(text) => put_len_field(out, 1, text.as_bytes()),
        Value::Bool(value) => {
            put_tag(out, 2, 0);
            put_varint(out, u64::from(*value));
        }
        Value::Int(value) => {
            put_tag(out, 3, 0);
            put_varint(out, *value as u64);
        }
        Value::Double(value) => {
            put_tag(out, 4, 1);
            out.extend_from_slice(&value.to_le_bytes());
        }
        Value::Array(values) => put_message(out, 5, |out| {
            for value in values {
                put_message(out, 1, |out| put_value(out, value));
            }
        }),
        Value::Map(entries) => put_message(out, 6, |out| put_attributes(out, 1, entries)),
        Value::Bytes(bytes) => put_len_field(out, 7, bytes),
    }
}

/// A `KeyValue` field. An `Empty` value is written as an `AnyValue` without a member.
pub fn put_attribute(out: &mut Vec<u8>, number: u32, key: &str, value: &Value) {
    put_message(out, number, |out| {
        put_str(out, 1, key);
        put_message(out, 2, |out| put_value(out, value));
    });
}

pub fn put_attributes(out: &mut Vec<u8>, number: u32, attributes: &[KeyValue]) {
    for attribute in attributes {
        put_attribute(out, number, &attribute.key, &attribute.value);
    }
}

/// Body of a `Span`.
pub fn encode_span(span: &Span) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    put_len_field(&mut out, 1, &span.trace_id.0);
    put_len_field(&mut out, 2, &span.span_id.0);
    put_str(&mut out, 3, &span.trace_state);
    if let Some(parent) = span.parent_span_id {
        put_len_field(&mut out, 4, &parent.0);
    }
    put_str(&mut out, 5, &span.name);
    put_uint(&mut out, 6, span.kind as u64);
    put_fixed64(&mut out, 7, span.start_unix_nano);
    put_fixed64(&mut out, 8, span.end_unix_nano);
    put_attributes(&mut out, 9, &span.attributes);
    put_uint(&mut out, 10, u64::from(span.dropped_attributes_count));
    for event in &span.events {
        put_message(&mut out, 11, |out| put_event(out, event));
    }
    put_uint(&mut out, 12, u64::from(span.dropped_events_count));
    for link in &span.links {
        put_message(&mut out, 13, |out| put_link(out, link));
    }
    put_uint(&mut out, 14, u64::from(span.dropped_links_count));
    if span.status != Status::default() {
        put_message(&mut out, 15, |out| {
            put_str(out, 2, &span.status.message);
            put_uint(out, 3, span.status.code as u64);
        });
    }
    put_fixed32(&mut out, 16, span.flags);
    out
}

fn put_event(out: &mut Vec<u8>, event: &Event) {
    put_fixed64(out, 1, event.time_unix_nano);
    put_str(out, 2, &event.name);
    put_attributes(out, 3, &event.attributes);
    put_uint(out, 4, u64::from(event.dropped_attributes_count));
}

fn put_link(out: &mut Vec<u8>, link: &Link) {
    put_len_field(out, 1, &link.trace_id);
    put_len_field(out, 2, &link.span_id);
    put_str(out, 3, &link.trace_state);
    put_attributes(out, 4, &link.attributes);
    put_uint(out, 5, u64::from(link.dropped_attributes_count));
    put_fixed32(out, 6, link.flags);
}

/// All fields of a `ResourceSpans` but its scopes: what [`crate::Piece::resource`] holds.
pub fn encode_resource_header(resource: &Resource) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    put_message(&mut out, 1, |out| {
        put_attributes(out, 1, &resource.attributes);
        put_uint(out, 2, u64::from(resource.dropped_attributes_count));
    });
    put_str(&mut out, 3, &resource.schema_url);
    out
}

/// All fields of a `ScopeSpans` but its spans: what [`crate::Piece::scope`] holds.
pub fn encode_scope_header(scope: &Scope) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    put_message(&mut out, 1, |out| {
        put_str(out, 1, &scope.name);
        put_str(out, 2, &scope.version);
        put_attributes(out, 3, &scope.attributes);
        put_uint(out, 4, u64::from(scope.dropped_attributes_count));
    });
    put_str(&mut out, 3, &scope.schema_url);
    out
}
