//! Jaeger's JSON: what its UI downloads and its API answers.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use serde_json::Value as Json;
use spanwise_model::{Event, KeyValue, Link, Resource, Scope, Span, SpanKind, StatusCode, Value};

use super::{OwnSpan, hex, span_id, trace_id};

pub fn spans(trace: &Json) -> Vec<Result<OwnSpan, String>> {
    let processes: HashMap<&str, Arc<Resource>> = trace["processes"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, process)| (name.as_str(), Arc::new(resource(process))))
        .collect();
    let spans = trace["spans"].as_array().into_iter().flatten();
    spans.map(|span| own_span(span, &processes)).collect()
}

fn resource(process: &Json) -> Resource {
    let mut attributes =
        vec![KeyValue::new("service.name", process["serviceName"].as_str().unwrap_or("unknown_service"))];
    attributes.extend(process["tags"].as_array().into_iter().flatten().filter_map(tag));
    Resource { attributes, ..Resource::default() }
}

fn own_span(json: &Json, processes: &HashMap<&str, Arc<Resource>>) -> Result<OwnSpan, String> {
    let start = nanos(&json["startTime"]);
    let mut span = Span {
        trace_id: trace_id(&json["traceID"])?,
        span_id: span_id(&json["spanID"])?,
        name: json["operationName"].as_str().unwrap_or_default().to_owned(),
        start_unix_nano: start,
        end_unix_nano: start.saturating_add(nanos(&json["duration"])),
        flags: json["flags"].as_u64().unwrap_or(0) as u32 & 0xff,
        ..Span::default()
    };
    for reference in json["references"].as_array().into_iter().flatten() {
        let is_same_trace = trace_id(&reference["traceID"]).ok() == Some(span.trace_id);
        if reference["refType"] == "CHILD_OF" && is_same_trace && span.parent_span_id.is_none() {
            span.parent_span_id = span_id(&reference["spanID"]).ok();
        } else if let (Ok(trace), Ok(id)) = (trace_id(&reference["traceID"]), span_id(&reference["spanID"])) {
            span.links.push(Link { trace_id: trace.0.to_vec(), span_id: id.0.to_vec(), ..Link::default() });
        }
    }
    // Documents of old clients have the parent in a field of its own.
    if span.parent_span_id.is_none() {
        span.parent_span_id =
            json["parentSpanID"].as_str().and_then(hex::<8>).map(spanwise_model::SpanId).filter(|id| !id.is_zero());
    }
    let mut scope = Scope::default();
    for attribute in json["tags"].as_array().into_iter().flatten().filter_map(tag) {
        let text = attribute.value.as_str().unwrap_or_default();
        match (attribute.key.as_str(), &attribute.value) {
            ("span.kind", _) if kind(text).is_some() => span.kind = kind(text).unwrap_or_default(),
            ("otel.scope.name" | "otel.library.name", Value::Str(_)) => scope.name = text.to_owned(),
            ("otel.scope.version" | "otel.library.version", Value::Str(_)) => scope.version = text.to_owned(),
            ("otel.status_code", Value::Str(_)) => {
                span.status.code = if text == "ERROR" { StatusCode::Error } else { StatusCode::Ok };
            }
            ("otel.status_description", Value::Str(_)) => span.status.message = text.to_owned(),
            ("w3c.tracestate", Value::Str(_)) => span.trace_state = text.to_owned(),
            ("error", Value::Bool(true)) => span.status.code = StatusCode::Error,
            ("error", Value::Str(_)) if text == "true" => span.status.code = StatusCode::Error,
            _ => span.attributes.push(attribute),
        }
    }
    span.events = json["logs"].as_array().into_iter().flatten().map(event).collect();
    let resource = json["processID"].as_str().and_then(|name| processes.get(name)).cloned();
    let resource = match (resource, json.get("process")) {
        (Some(resource), _) => resource,
        (None, Some(process)) => Arc::new(self::resource(process)),
        (None, None) => Arc::new(self::resource(&Json::Null)),
    };
    Ok(OwnSpan { resource, scope: Arc::new(scope), span })
}

/// Jaeger counts microseconds.
fn nanos(json: &Json) -> u64 {
    json.as_u64().unwrap_or(0).saturating_mul(1_000)
}

fn kind(text: &str) -> Option<SpanKind> {
    SpanKind::ALL.into_iter().find(|kind| kind.as_str() == text)
}

fn event(log: &Json) -> Event {
    let mut event = Event { time_unix_nano: nanos(&log["timestamp"]), name: "log".to_owned(), ..Event::default() };
    for attribute in log["fields"].as_array().into_iter().flatten().filter_map(tag) {
        match (attribute.key.as_str(), &attribute.value) {
            ("event", Value::Str(name)) => event.name.clone_from(name),
            _ => event.attributes.push(attribute),
        }
    }
    event
}

fn tag(json: &Json) -> Option<KeyValue> {
    let value = &json["value"];
    let value = match (json["type"].as_str().unwrap_or_default(), value) {
        ("binary", Json::String(text)) => {
            Value::Bytes(base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default())
        }
        ("float64", Json::Number(number)) => Value::Double(number.as_f64()?),
        // 64-bit integers are sometimes quoted.
        ("int64", Json::String(text)) => text.parse().map_or_else(|_| Value::Str(text.clone()), Value::Int),
        ("bool", Json::String(text)) => Value::Bool(text == "true"),
        (_, Json::String(text)) => Value::Str(text.clone()),
        (_, Json::Bool(value)) => Value::Bool(*value),
        (_, Json::Number(number)) => match number.as_i64() {
            Some(number) => Value::Int(number),
            None => Value::Double(number.as_f64()?),
        },
        (_, Json::Null) => Value::Empty,
        (_, other) => Value::Str(other.to_string()),
    };
    Some(KeyValue { key: json["key"].as_str()?.to_owned(), value })
}
