//! A trace as Tempo's API answers it: jsonpb of OTLP, so ids are base64, 64-bit numbers are strings, enums are names
//! and zero fields are left out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value as Json, json};
use spanwise_model::{Event, KeyValue, Link, Resource, Scope, Span, SpanKind, StatusCode, Value};
use spanwise_wire::{Batch, decode_resource, decode_scope, decode_span};

/// The list that stands under `batches` (v1) or `trace.resourceSpans` (v2).
pub fn resource_spans(trace: &Batch) -> Json {
    let mut resources: Vec<Json> = Vec::new();
    let mut scope_lists: Vec<Vec<Json>> = Vec::new();
    let mut span_lists: Vec<(usize, usize, Vec<Json>)> = Vec::new();
    let mut last = None;
    for place in 0..trace.len_spans() {
        let (resource, scope) = (trace.resource_of(place), trace.scope_of(place));
        if last != Some((resource, scope)) {
            if last.map(|(resource, _)| resource) != Some(resource) {
                resources.push(resource_json(&decode_resource(trace.resource_header(resource))));
                scope_lists.push(Vec::new());
            }
            let (at, scopes) = (resources.len() - 1, &mut scope_lists);
            if let Some(scopes) = scopes.last_mut() {
                scopes.push(scope_json(&decode_scope(trace.scope_header(scope))));
                span_lists.push((at, scopes.len() - 1, Vec::new()));
            }
            last = Some((resource, scope));
        }
        if let Some((_, _, spans)) = span_lists.last_mut() {
            spans.push(span_json(&decode_span(trace.span_bytes(place))));
        }
    }
    for (resource, scope, spans) in span_lists {
        if let Some(entry) = scope_lists.get_mut(resource).and_then(|scopes| scopes.get_mut(scope)) {
            entry["spans"] = Json::Array(spans);
        }
    }
    for (resource, scopes) in resources.iter_mut().zip(scope_lists) {
        resource["scopeSpans"] = Json::Array(scopes);
    }
    Json::Array(resources)
}

/// An object without members that proto3 leaves out.
fn object(members: Vec<(&str, Json)>) -> Json {
    let is_default = |value: &Json| match value {
        Json::Null => true,
        Json::String(text) => text.is_empty(),
        Json::Array(list) => list.is_empty(),
        Json::Number(number) => number.as_u64() == Some(0),
        _ => false,
    };
    let kept = members.into_iter().filter(|(_, value)| !is_default(value));
    Json::Object(kept.map(|(key, value)| (key.to_owned(), value)).collect::<Map<_, _>>())
}

fn nonzero(value: u64) -> Json {
    if value == 0 { Json::Null } else { json!(value.to_string()) }
}

fn resource_json(resource: &Resource) -> Json {
    let inner = object(vec![
        ("attributes", attributes(&resource.attributes)),
        ("droppedAttributesCount", json!(resource.dropped_attributes_count)),
    ]);
    object(vec![("resource", inner), ("schemaUrl", json!(resource.schema_url))])
}

fn scope_json(scope: &Scope) -> Json {
    let inner = object(vec![
        ("name", json!(scope.name)),
        ("version", json!(scope.version)),
        ("attributes", attributes(&scope.attributes)),
        ("droppedAttributesCount", json!(scope.dropped_attributes_count)),
    ]);
    object(vec![("scope", inner), ("schemaUrl", json!(scope.schema_url))])
}

fn span_json(span: &Span) -> Json {
    let kind = match span.kind {
        SpanKind::Unspecified => Json::Null,
        kind => json!(format!("SPAN_KIND_{}", kind.as_str().to_uppercase())),
    };
    let code = match span.status.code {
        StatusCode::Unset => Json::Null,
        code => json!(format!("STATUS_CODE_{}", code.as_str().to_uppercase())),
    };
    object(vec![
        ("traceId", json!(STANDARD.encode(span.trace_id.0))),
        ("spanId", json!(STANDARD.encode(span.span_id.0))),
        ("traceState", json!(span.trace_state)),
        ("parentSpanId", span.parent_span_id.map_or(Json::Null, |id| json!(STANDARD.encode(id.0)))),
        ("flags", json!(span.flags)),
        ("name", json!(span.name)),
        ("kind", kind),
        ("startTimeUnixNano", nonzero(span.start_unix_nano)),
        ("endTimeUnixNano", nonzero(span.end_unix_nano)),
        ("attributes", attributes(&span.attributes)),
        ("droppedAttributesCount", json!(span.dropped_attributes_count)),
        ("events", span.events.iter().map(event_json).collect()),
        ("droppedEventsCount", json!(span.dropped_events_count)),
        ("links", span.links.iter().map(link_json).collect()),
        ("droppedLinksCount", json!(span.dropped_links_count)),
        ("status", object(vec![("message", json!(span.status.message)), ("code", code)])),
    ])
}

fn event_json(event: &Event) -> Json {
    object(vec![
        ("timeUnixNano", nonzero(event.time_unix_nano)),
        ("name", json!(event.name)),
        ("attributes", attributes(&event.attributes)),
        ("droppedAttributesCount", json!(event.dropped_attributes_count)),
    ])
}

fn link_json(link: &Link) -> Json {
    object(vec![
        ("traceId", json!(STANDARD.encode(&link.trace_id))),
        ("spanId", json!(STANDARD.encode(&link.span_id))),
        ("traceState", json!(link.trace_state)),
        ("attributes", attributes(&link.attributes)),
        ("droppedAttributesCount", json!(link.dropped_attributes_count)),
        ("flags", json!(link.flags)),
    ])
}

pub fn attributes(attributes: &[KeyValue]) -> Json {
    attributes.iter().map(|attribute| json!({"key": attribute.key, "value": any_value(&attribute.value)})).collect()
}

/// An `AnyValue`: the member that is set shows even when it is zero.
pub fn any_value(value: &Value) -> Json {
    match value {
        Value::Empty => json!({}),
        Value::Str(text) => json!({"stringValue": text}),
        Value::Bool(value) => json!({"boolValue": value}),
        Value::Int(value) => json!({"intValue": value.to_string()}),
        Value::Double(value) if !value.is_finite() => json!({"doubleValue": value.to_string()}),
        Value::Double(value) => json!({"doubleValue": value}),
        Value::Bytes(bytes) => json!({"bytesValue": STANDARD.encode(bytes)}),
        Value::Array(values) => json!({"arrayValue": {"values": values.iter().map(any_value).collect::<Json>()}}),
        Value::Map(entries) => json!({"kvlistValue": {"values": attributes(entries)}}),
    }
}
