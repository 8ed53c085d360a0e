//! A trace as the Jaeger UI and its clients expect it (API v1): the mapping of
//! <https://opentelemetry.io/docs/specs/otel/trace/sdk_exporters/jaeger/>.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use serde_json::{Value as Json, json};
use spanwise_model::{KeyValue, Resource, SpanKind, StatusCode, Trace, TraceSpan, Value};

use super::trace_json::{hex, value_json};

/// The envelope of every answer.
pub fn envelope(data: Json) -> Json {
    let total = data.as_array().map_or(0, Vec::len);
    json!({"data": data, "total": total, "limit": 0, "offset": 0, "errors": null})
}

/// The envelope of an error; the HTTP status repeats `code`.
pub fn error_envelope(code: u16, message: &str) -> Json {
    json!({"data": null, "total": 0, "limit": 0, "offset": 0, "errors": [{"code": code, "msg": message}]})
}

pub fn trace_json(trace: &Trace) -> Json {
    let mut processes: HashMap<*const Resource, String> = HashMap::new();
    let mut process_members = serde_json::Map::new();
    let mut spans = Vec::with_capacity(trace.spans.len());
    for span in &trace.spans {
        let count = processes.len();
        let process = processes.entry(Arc::as_ptr(&span.resource)).or_insert_with(|| {
            let name = format!("p{}", count + 1);
            process_members.insert(name.clone(), process_json(&span.resource));
            name
        });
        spans.push(span_json(span, process));
    }
    let trace_id = trace.spans.first().map(|span| span.span.trace_id.to_string()).unwrap_or_default();
    json!({"traceID": trace_id, "spans": spans, "processes": process_members, "warnings": null})
}

fn process_json(resource: &Resource) -> Json {
    let tags = resource.attributes.iter().filter(|attribute| attribute.key != "service.name");
    json!({"serviceName": resource.service_name(), "tags": tags.map(tag_json).collect::<Json>()})
}

fn span_json(trace_span: &TraceSpan, process: &str) -> Json {
    let TraceSpan { scope, span, .. } = trace_span;
    let trace_id = span.trace_id.to_string();
    let mut references = Vec::new();
    if let Some(parent) = span.parent_span_id {
        references.push(json!({"refType": "CHILD_OF", "traceID": trace_id, "spanID": parent.to_string()}));
    }
    for link in &span.links {
        let reference =
            json!({"refType": "FOLLOWS_FROM", "traceID": hex(&link.trace_id), "spanID": hex(&link.span_id)});
        references.push(reference);
    }
    let logs: Vec<Json> = span
        .events
        .iter()
        .map(|event| {
            let name = [text_tag("event", &event.name)];
            let fields: Vec<Json> = name.into_iter().chain(event.attributes.iter().map(tag_json)).collect();
            json!({"timestamp": event.time_unix_nano / 1_000, "fields": fields})
        })
        .collect();
    let mut tags: Vec<Json> = span.attributes.iter().map(tag_json).collect();
    if !scope.name.is_empty() {
        tags.push(text_tag("otel.scope.name", &scope.name));
    }
    if !scope.version.is_empty() {
        tags.push(text_tag("otel.scope.version", &scope.version));
    }
    if span.kind != SpanKind::Unspecified {
        tags.push(text_tag("span.kind", span.kind.as_str()));
    }
    match span.status.code {
        StatusCode::Unset => {}
        StatusCode::Ok => tags.push(text_tag("otel.status_code", "OK")),
        StatusCode::Error => {
            tags.push(text_tag("otel.status_code", "ERROR"));
            tags.push(json!({"key": "error", "type": "bool", "value": true}));
        }
    }
    if !span.status.message.is_empty() {
        tags.push(text_tag("otel.status_description", &span.status.message));
    }
    if !span.trace_state.is_empty() {
        tags.push(text_tag("w3c.tracestate", &span.trace_state));
    }
    json!({
        "traceID": trace_id,
        "spanID": span.span_id.to_string(),
        "flags": span.flags & 0xff,
        "operationName": span.name,
        "references": references,
        "startTime": span.start_unix_nano / 1_000,
        "duration": span.duration_ns() / 1_000,
        "tags": tags,
        "logs": logs,
        "processID": process,
        "warnings": null,
    })
}

fn text_tag(key: &str, value: &str) -> Json {
    json!({"key": key, "type": "string", "value": value})
}

fn tag_json(attribute: &KeyValue) -> Json {
    let (kind, value) = match &attribute.value {
        Value::Bool(value) => ("bool", json!(value)),
        Value::Int(value) => ("int64", json!(value)),
        Value::Double(value) => ("float64", json!(value)),
        Value::Bytes(bytes) => ("binary", json!(base64::engine::general_purpose::STANDARD.encode(bytes))),
        Value::Str(text) => ("string", json!(text)),
        Value::Empty => ("string", json!("")),
        nested => ("string", json!(value_json(nested).to_string())),
    };
    json!({"key": attribute.key, "type": kind, "value": value})
}
