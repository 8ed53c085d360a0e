//! A trace as Zipkin's clients expect it (API v2): the mapping of
//! <https://opentelemetry.io/docs/specs/otel/trace/sdk_exporters/zipkin/>.

use serde_json::{Map, Value as Json, json};
use spanwise_model::{KeyValue, SpanKind, StatusCode, Trace, TraceSpan, Value};

use super::trace_json::value_json;

/// Attributes that name the other side of a call, the best first.
const REMOTE: [&str; 5] = ["peer.service", "server.address", "net.peer.name", "network.peer.address", "db.name"];

pub fn trace_json(trace: &Trace) -> Json {
    trace.spans.iter().map(span_json).collect()
}

fn span_json(trace_span: &TraceSpan) -> Json {
    let TraceSpan { resource, scope, span } = trace_span;
    let mut out = Map::new();
    let mut put = |key: &str, value: Json| out.insert(key.to_owned(), value);
    put("traceId", json!(span.trace_id.to_string()));
    put("id", json!(span.span_id.to_string()));
    if let Some(parent) = span.parent_span_id {
        put("parentId", json!(parent.to_string()));
    }
    match span.kind {
        SpanKind::Unspecified | SpanKind::Internal => {}
        kind => {
            put("kind", json!(kind.as_str().to_uppercase()));
        }
    }
    put("name", json!(span.name));
    put("timestamp", json!(span.start_unix_nano / 1_000));
    // Zipkin rounds up what is shorter than a microsecond.
    put("duration", json!((span.duration_ns() / 1_000).max(1)));
    put("localEndpoint", json!({"serviceName": resource.service_name()}));
    if matches!(span.kind, SpanKind::Client | SpanKind::Producer) {
        let remote = REMOTE.iter().find_map(|key| {
            let found = span.attributes.iter().find(|attribute| attribute.key == *key)?;
            if let Value::Str(name) = &found.value { Some(name) } else { None }
        });
        if let Some(remote) = remote {
            put("remoteEndpoint", json!({"serviceName": remote}));
        }
    }
    if !span.events.is_empty() {
        let annotations = span.events.iter().map(|event| {
            let value = match event.attributes.is_empty() {
                true => event.name.clone(),
                false => format!("{}: {}", json!(event.name), Json::Object(tags(&event.attributes))),
            };
            json!({"timestamp": event.time_unix_nano / 1_000, "value": value})
        });
        put("annotations", annotations.collect());
    }
    let mut tags = tags(&span.attributes);
    let mut tag = |key: &str, value: &str| {
        if !value.is_empty() {
            tags.insert(key.to_owned(), json!(value));
        }
    };
    tag("otel.scope.name", &scope.name);
    tag("otel.scope.version", &scope.version);
    match span.status.code {
        StatusCode::Unset => {}
        StatusCode::Ok => tag("otel.status_code", "OK"),
        StatusCode::Error => {
            tag("otel.status_code", "ERROR");
            tag("error", if span.status.message.is_empty() { "true" } else { &span.status.message });
        }
    }
    if !tags.is_empty() {
        put("tags", Json::Object(tags));
    }
    Json::Object(out)
}

/// Zipkin's tags are text.
fn tags(attributes: &[KeyValue]) -> Map<String, Json> {
    let text = |value: &Value| match value {
        Value::Str(text) => text.clone(),
        other => match value_json(other) {
            Json::String(text) => text,
            json => json.to_string(),
        },
    };
    attributes.iter().map(|attribute| (attribute.key.clone(), json!(text(&attribute.value)))).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use spanwise_model::{Event, Resource, Span, SpanId, Status, TraceId};

    use super::*;

    #[test]
    fn a_span_becomes_zipkins() {
        let span = Span {
            trace_id: TraceId([1; 16]),
            span_id: SpanId([2; 8]),
            parent_span_id: Some(SpanId([3; 8])),
            name: "get".to_owned(),
            kind: SpanKind::Client,
            start_unix_nano: 5_000,
            end_unix_nano: 5_400,
            attributes: vec![KeyValue::new("peer.service", "db"), KeyValue::new("rows", 3i64)],
            events: vec![Event { name: "retry".to_owned(), time_unix_nano: 6_000, ..Event::default() }],
            status: Status { code: StatusCode::Error, message: "late".to_owned() },
            ..Span::default()
        };
        let resource = Resource { attributes: vec![KeyValue::new("service.name", "shop")], ..Resource::default() };
        let trace = Trace { spans: vec![TraceSpan { resource: Arc::new(resource), scope: Arc::default(), span }] };
        assert_eq!(
            trace_json(&trace),
            json!([{
                "traceId": "01010101010101010101010101010101", "id": "0202020202020202", "parentId": "0303030303030303",
                "kind": "CLIENT", "name": "get", "timestamp": 5, "duration": 1,
                "localEndpoint": {"serviceName": "shop"}, "remoteEndpoint": {"serviceName": "db"},
                "annotations": [{"timestamp": 6, "value": "retry"}],
                "tags": {"peer.service": "db", "rows": "3", "otel.status_code": "ERROR", "error": "late"},
            }])
        );
    }
}
