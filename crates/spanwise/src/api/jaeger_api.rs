//! Jaeger's query API v1: <https://www.jaegertracing.io/docs/latest/apis/>.

use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value as Json, json};
use spanwise_model::SpanKind;
use spanwise_wire::decode_trace;

use super::jaeger::{envelope, error_envelope, trace_json};
use super::{ApiError, App, any_type_equals, now_unix_nano, parse_trace_id, quote};

pub fn routes() -> Router<App> {
    Router::new()
        .route("/api/services", get(services))
        .route("/api/services/{service}/operations", get(service_operations))
        .route("/api/operations", get(operations))
        .route("/api/traces", get(traces))
        .route("/api/traces/{id}", get(trace))
        .route("/api/dependencies", get(dependencies))
}

struct JaegerError(ApiError);

impl From<ApiError> for JaegerError {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl IntoResponse for JaegerError {
    fn into_response(self) -> Response {
        let body = error_envelope(self.0.status.as_u16(), &self.0.message());
        (self.0.status, axum::Json(body)).into_response()
    }
}

type Answer = Result<Response, JaegerError>;

/// The answer of an endpoint; `prettyPrint=true` asks for one to be read by people.
fn ok(body: &Json, pairs: &[(String, String)]) -> Answer {
    let is_pretty = pairs.iter().any(|(key, value)| key == "prettyPrint" && value == "true");
    let text = if is_pretty { format!("{body:#}") } else { body.to_string() };
    Ok(([(CONTENT_TYPE, "application/json")], text).into_response())
}

/// Pairs of a query string, decoded; keys may repeat.
pub fn pairs(query: Option<&str>) -> Vec<(String, String)> {
    let decode = |text: &str| {
        let bytes = text.as_bytes();
        let mut out = Vec::with_capacity(bytes.len());
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            let escaped = text.get(at + 1..at + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
            match (byte, escaped) {
                (b'%', Some(value)) => {
                    out.push(value);
                    at += 2;
                }
                (b'+', _) => out.push(b' '),
                (byte, _) => out.push(*byte),
            }
            at += 1;
        }
        String::from_utf8_lossy(&out).into_owned()
    };
    query
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key), decode(value))
        })
        .collect()
}

async fn services(State(app): State<App>, RawQuery(query): RawQuery) -> Answer {
    let names = app.catalogue().await?.services.keys().cloned().collect();
    ok(&envelope(names), &pairs(query.as_deref()))
}

async fn service_operations(State(app): State<App>, Path(service): Path<String>, RawQuery(query): RawQuery) -> Answer {
    let catalogue = app.catalogue().await?;
    let names = catalogue.services.get(&service).into_iter().flat_map(|operations| operations.keys().cloned());
    ok(&envelope(names.collect()), &pairs(query.as_deref()))
}

async fn operations(State(app): State<App>, RawQuery(query): RawQuery) -> Answer {
    let pairs = pairs(query.as_deref());
    let get = |key: &str| pairs.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str());
    let service = get("service").filter(|service| !service.is_empty());
    let service = service.ok_or_else(|| ApiError::bad_request("parameter 'service' is required"))?;
    let wanted = get("spanKind").unwrap_or_default();
    let catalogue = app.catalogue().await?;
    let mut found = Vec::new();
    for (name, (kinds, _)) in catalogue.services.get(service).into_iter().flatten() {
        for kind in SpanKind::ALL.into_iter().filter(|kind| kinds >> (*kind as u8) & 1 == 1) {
            let kind = if kind == SpanKind::Unspecified { "" } else { kind.as_str() };
            if wanted.is_empty() || wanted == kind {
                found.push(json!({"name": name, "spanKind": kind}));
            }
        }
    }
    ok(&envelope(Json::Array(found)), &pairs)
}

async fn trace(State(app): State<App>, Path(id): Path<String>, RawQuery(query): RawQuery) -> Answer {
    let batch = app.trace(parse_trace_id(&id)?).await?;
    let batch = batch.ok_or_else(|| ApiError::not_found("trace not found"))?;
    ok(&envelope(json!([trace_json(&decode_trace(&[batch]))])), &pairs(query.as_deref()))
}

/// Which service calls which, and how often, in the time before `endTs`; both in milliseconds.
async fn dependencies(State(app): State<App>, RawQuery(query): RawQuery) -> Answer {
    const DAY_MS: u64 = 86_400_000;
    let pairs = pairs(query.as_deref());
    let millis = |key: &str| parameter(&pairs, key, |text| text.parse::<u64>().ok());
    let end_ms = millis("endTs")?.unwrap_or_else(|| now_unix_nano() / 1_000_000);
    let lookback_ms = millis("lookback")?.unwrap_or(DAY_MS);
    let nanos = |millis: u64| millis.saturating_mul(1_000_000);
    let (from, to) = (nanos(end_ms.saturating_sub(lookback_ms)), nanos(end_ms));
    let wanted = pairs.iter().find(|(key, value)| key == "service" && !value.is_empty()).map(|(_, value)| value);
    let found = app.dependencies(from, to).await?;
    let calls = found.calls.iter().filter(|call| wanted.is_none_or(|name| call.parent == *name || call.child == *name));
    let calls: Json =
        calls.map(|call| json!({"parent": call.parent, "child": call.child, "callCount": call.count})).collect();
    ok(&envelope(calls), &pairs)
}

/// A parameter that may be missing, but not nonsense.
pub fn parameter<T>(
    pairs: &[(String, String)],
    key: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, ApiError> {
    match pairs.iter().find(|(known, value)| known == key && !value.is_empty()) {
        None => Ok(None),
        Some((_, text)) => match parse(text) {
            Some(value) => Ok(Some(value)),
            None => Err(ApiError::bad_request(format!("unable to parse param '{key}': {text:?}"))),
        },
    }
}

/// Jaeger's search parameters as TraceQL.
fn traceql(pairs: &[(String, String)]) -> Result<String, ApiError> {
    let mut conditions = Vec::new();
    let bad = |what: &str| ApiError::bad_request(format!("unable to parse param '{what}'"));
    let duration = |key: &str| parameter(pairs, key, |text| crate::time_text::parse_duration(text).ok());
    let (least, most) = (duration("minDuration")?, duration("maxDuration")?);
    if let (Some(least), Some(most)) = (least, most)
        && least > most
    {
        return Err(ApiError::bad_request("'maxDuration' should be greater than 'minDuration'"));
    }
    for (key, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        match key.as_str() {
            "service" => conditions.push(format!("resource.service.name = {}", quote(value))),
            "operation" if value != "all" => conditions.push(format!("name = {}", quote(value))),
            "tag" => {
                let (tag, value) = value.split_once(':').ok_or_else(|| bad(key))?;
                conditions.push(tag_condition(tag, value));
            }
            "tags" => {
                let tags: serde_json::Map<String, Json> = serde_json::from_str(value).map_err(|_| bad(key))?;
                for (tag, value) in &tags {
                    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    conditions.push(tag_condition(tag, &text));
                }
            }
            _ => {}
        }
    }
    for (operator, bound) in [(">=", least), ("<=", most)] {
        if let Some(bound) = bound {
            conditions.push(format!("duration {operator} {}ns", bound.as_nanos()));
        }
    }
    Ok(format!("{{ {} }}", conditions.join(" && ")))
}

fn tag_condition(key: &str, value: &str) -> String {
    match (key, value) {
        ("error", "true") => "status = error".to_owned(),
        ("error", "false") => "status != error".to_owned(),
        ("span.kind", kind) if SpanKind::ALL.iter().any(|known| known.as_str() == kind) => format!("kind = {kind}"),
        _ => any_type_equals(key, value),
    }
}

async fn traces(State(app): State<App>, RawQuery(query): RawQuery) -> Answer {
    let pairs = pairs(query.as_deref());
    let all = |key: &'static str| pairs.iter().filter(move |(known, _)| known == key).map(|(_, value)| value.as_str());
    let mut ids = Vec::new();
    for id in all("traceID") {
        ids.push(parse_trace_id(id)?);
    }
    if ids.is_empty() {
        if all("service").all(str::is_empty) {
            return Err(ApiError::bad_request("parameter 'service' is required").into());
        }
        let micros = |key| {
            parameter(&pairs, key, |text| text.parse::<u64>().ok()).map(|time| time.map(|t| t.saturating_mul(1_000)))
        };
        let (mut start, mut end) = (micros("start")?, micros("end")?);
        let lookback = parameter(&pairs, "lookback", lookback_ns)?;
        // Clients send the window; `lookback` counts for those that do not.
        if let (None, Some(lookback)) = (start, lookback) {
            let until = end.unwrap_or_else(now_unix_nano);
            (start, end) = (Some(until.saturating_sub(lookback)), Some(until));
        }
        let limit = parameter(&pairs, "limit", |text| text.parse().ok())?.unwrap_or(20);
        let response = app.search(&traceql(&pairs)?, start, end, limit, 0).await?;
        ids = response.traces.iter().map(|trace| trace.trace_id).collect();
    }
    let mut found = Vec::new();
    let mut missing = Vec::new();
    for id in ids {
        match app.trace(id).await? {
            Some(batch) => found.push(trace_json(&decode_trace(&[batch]))),
            None => missing.push(json!({"code": 404, "msg": "trace not found", "traceID": id.to_string()})),
        }
    }
    let mut answer = envelope(Json::Array(found));
    if !missing.is_empty() {
        answer["errors"] = Json::Array(missing);
    }
    ok(&answer, &pairs)
}

/// As in `1h` or `2d`; `custom` says that the window stands elsewhere.
fn lookback_ns(text: &str) -> Option<u64> {
    if text == "custom" {
        return Some(u64::MAX);
    }
    u64::try_from(crate::time_text::parse_duration(text).ok()?.as_nanos()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_become_traceql() {
        let of = |query| traceql(&pairs(Some(query))).map_err(|error| error.message());
        assert_eq!(
            of("service=a%22b&operation=GET+%2F&minDuration=1.5ms&tags=%7B%22error%22%3A%22true%22%7D").unwrap(),
            r#"{ resource.service.name = "a\"b" && name = "GET /" && status = error && duration >= 1500000ns }"#
        );
        assert_eq!(of("tag=n:5").unwrap(), r#"{ (."n" = "5" || ."n" = 5) }"#);
        for query in ["service=a&tag=k:v", "service=x&tag=a%20b:-1.5", "service=x&tag=f:true"] {
            let text = of(query).unwrap();
            assert!(spanwise_query::traceql::parse(&text).is_ok(), "{text}");
        }
        assert!(of("minDuration=soon").is_err() && of("tags=x").is_err());
        assert!(of("minDuration=2s&maxDuration=1s").is_err_and(|message| message.contains("greater")));
    }
}
