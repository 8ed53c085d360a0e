//! Jaeger's query API v1: <https://www.jaegertracing.io/docs/latest/apis/>.

use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value as Json, json};
use spanwise_model::SpanKind;
use spanwise_wire::decode_trace;

use super::jaeger::{envelope, error_envelope, trace_json};
use super::{ApiError, App, any_type_equals, parse_trace_id, quote};

pub fn routes() -> Router<App> {
    Router::new()
        .route("/api/services", get(services))
        .route("/api/services/{service}/operations", get(service_operations))
        .route("/api/operations", get(operations))
        .route("/api/traces", get(traces))
        .route("/api/traces/{id}", get(trace))
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

type Answer = Result<axum::Json<Json>, JaegerError>;

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

async fn services(State(app): State<App>) -> Answer {
    Ok(axum::Json(envelope(app.catalogue().await?.services.keys().cloned().collect())))
}

async fn service_operations(State(app): State<App>, Path(service): Path<String>) -> Answer {
    let catalogue = app.catalogue().await?;
    let names = catalogue.services.get(&service).into_iter().flat_map(|operations| operations.keys().cloned());
    Ok(axum::Json(envelope(names.collect())))
}

async fn operations(State(app): State<App>, RawQuery(query): RawQuery) -> Answer {
    let pairs = pairs(query.as_deref());
    let get = |key: &str| pairs.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str());
    let service = get("service").ok_or_else(|| ApiError::bad_request("parameter 'service' is required"))?;
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
    Ok(axum::Json(envelope(Json::Array(found))))
}

async fn trace(State(app): State<App>, Path(id): Path<String>) -> Answer {
    let batch = app.trace(parse_trace_id(&id)?).await?;
    let batch = batch.ok_or_else(|| ApiError::not_found("trace not found"))?;
    Ok(axum::Json(envelope(json!([trace_json(&decode_trace(&[batch]))]))))
}

/// Jaeger's search parameters as TraceQL.
fn traceql(pairs: &[(String, String)]) -> Result<String, ApiError> {
    let mut conditions = Vec::new();
    let bad = |what: &str| ApiError::bad_request(format!("unable to parse param {what:?}"));
    for (key, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        match key.as_str() {
            "service" => conditions.push(format!("resource.service.name = {}", quote(value))),
            "operation" if value != "all" => conditions.push(format!("name = {}", quote(value))),
            "minDuration" | "maxDuration" => {
                let duration = crate::time_text::parse_duration(value).map_err(|_| bad(key))?;
                let operator = if key == "minDuration" { ">=" } else { "<=" };
                conditions.push(format!("duration {operator} {}ns", duration.as_nanos()));
            }
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
        let micros =
            |key| all(key).next().and_then(|text| text.parse::<u64>().ok()).map(|micros| micros.saturating_mul(1_000));
        let limit = all("limit").next().and_then(|text| text.parse().ok()).unwrap_or(20);
        let response = app.search(&traceql(&pairs)?, micros("start"), micros("end"), limit, 0).await?;
        ids = response.traces.iter().map(|trace| trace.trace_id).collect();
    }
    let mut found = Vec::new();
    for id in ids {
        if let Some(batch) = app.trace(id).await? {
            found.push(trace_json(&decode_trace(&[batch])));
        }
    }
    Ok(axum::Json(envelope(Json::Array(found))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_become_traceql() {
        let of = |query| traceql(&pairs(Some(query))).map_err(|error| error.message());
        assert_eq!(
            of("service=a%22b&operation=GET+%2F&minDuration=1.5ms&tags=%7B%22error%22%3A%22true%22%7D").unwrap(),
            r#"{ resource.service.name = "a\"b" && name = "GET /" && duration >= 1500000ns && status = error }"#
        );
        assert_eq!(of("tag=n:5").unwrap(), r#"{ (."n" = "5" || ."n" = 5) }"#);
        for query in ["service=a&tag=k:v", "service=x&tag=a%20b:-1.5", "service=x&tag=f:true"] {
            let text = of(query).unwrap();
            assert!(spanwise_query::traceql::parse(&text).is_ok(), "{text}");
        }
        assert!(of("minDuration=soon").is_err() && of("tags=x").is_err());
    }
}
