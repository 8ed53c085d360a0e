//! Zipkin's v2 JSON: <https://zipkin.io/zipkin-api/#/default/post_spans>.

use std::sync::Arc;

use serde_json::Value as Json;
use spanwise_model::{Event, KeyValue, Resource, Scope, Span, SpanId, SpanKind, StatusCode};

use super::{OwnSpan, hex, span_id, trace_id};

pub fn span(json: &Json) -> Result<OwnSpan, String> {
    let micros = |json: &Json| json.as_u64().unwrap_or(0).saturating_mul(1_000);
    let start = micros(&json["timestamp"]);
    let is_shared = json["shared"] == true;
    let id = span_id(&json["id"])?;
    let mut span = Span {
        trace_id: trace_id(&json["traceId"])?,
        span_id: id,
        parent_span_id: json["parentId"].as_str().and_then(hex::<8>).map(SpanId).filter(|id| !id.is_zero()),
        name: json["name"].as_str().unwrap_or_default().to_owned(),
        kind: match json["kind"].as_str() {
            Some("CLIENT") => SpanKind::Client,
            Some("SERVER") => SpanKind::Server,
            Some("PRODUCER") => SpanKind::Producer,
            Some("CONSUMER") => SpanKind::Consumer,
            _ => SpanKind::Internal,
        },
        start_unix_nano: start,
        end_unix_nano: start.saturating_add(micros(&json["duration"])),
        ..Span::default()
    };
    if is_shared {
        // Client and server share the id in Zipkin: the server's half hangs below the client's.
        span.attributes.push(KeyValue::new("zipkin.shared", true));
    }
    for (key, value) in json["tags"].as_object().into_iter().flatten() {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if key == "error" {
            span.status.code = StatusCode::Error;
            span.status.message.clone_from(&text);
        }
        span.attributes.push(KeyValue::new(key.as_str(), text));
    }
    endpoint(
        &mut span.attributes,
        &json["remoteEndpoint"],
        ["peer.service", "network.peer.address", "network.peer.port"],
    );
    span.events = json["annotations"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|annotation| Event {
            time_unix_nano: micros(&annotation["timestamp"]),
            name: annotation["value"].as_str().unwrap_or_default().to_owned(),
            ..Event::default()
        })
        .collect();
    let mut attributes = Vec::new();
    endpoint(&mut attributes, &json["localEndpoint"], ["service.name", "net.host.ip", "net.host.port"]);
    Ok(OwnSpan {
        resource: Arc::new(Resource { attributes, ..Resource::default() }),
        scope: Arc::new(Scope::default()),
        span,
    })
}

fn endpoint(attributes: &mut Vec<KeyValue>, endpoint: &Json, [service, address, port]: [&str; 3]) {
    if let Some(name) = endpoint["serviceName"].as_str().filter(|name| !name.is_empty()) {
        attributes.push(KeyValue::new(service, name));
    }
    if let Some(ip) = endpoint["ipv4"].as_str().or_else(|| endpoint["ipv6"].as_str()) {
        attributes.push(KeyValue::new(address, ip));
    }
    if let Some(number) = endpoint["port"].as_i64() {
        attributes.push(KeyValue::new(port, number));
    }
}
