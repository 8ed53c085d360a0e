//! Zipkin's query API v2: <https://zipkin.io/zipkin-api/>, for its clients and Grafana's data source.

use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value as Json, json};
use spanwise_model::TraceId;
use spanwise_wire::decode_trace;

use super::jaeger_api::{pairs, parameter};
use super::zipkin::trace_json;
use super::{ApiError, App, any_type_equals, now_unix_nano, parse_trace_id, quote};

pub fn routes() -> Router<App> {
    Router::new()
        .route("/health", get(|| async { axum::Json(json!({"status": "UP"})) }))
        .route("/api/v2/services", get(services))
        .route("/api/v2/spans", get(spans))
        .route("/api/v2/remoteServices", get(remote_services))
        .route("/api/v2/traces", get(traces))
        .route("/api/v2/trace/{id}", get(trace))
        .route("/api/v2/traceMany", get(trace_many))
        .route("/api/v2/dependencies", get(dependencies))
        .route("/api/v2/autocompleteKeys", get(keys))
        .route("/api/v2/autocompleteValues", get(values))
}

/// Zipkin's errors are plain text.
struct ZipkinError(ApiError);

impl From<ApiError> for ZipkinError {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl IntoResponse for ZipkinError {
    fn into_response(self) -> Response {
        (self.0.status, self.0.message()).into_response()
    }
}

type Answer = Result<axum::Json<Json>, ZipkinError>;
type Pairs = Vec<(String, String)>;

const DAY_MS: u64 = 86_400_000;

fn text<'a>(pairs: &'a Pairs, key: &str) -> Option<&'a str> {
    pairs.iter().find(|(known, value)| known == key && !value.is_empty()).map(|(_, value)| value.as_str())
}

fn required<'a>(pairs: &'a Pairs, key: &str) -> Result<&'a str, ApiError> {
    text(pairs, key).ok_or_else(|| ApiError::bad_request(format!("{key} is required")))
}

fn number(pairs: &Pairs, key: &str) -> Result<Option<u64>, ApiError> {
    parameter(pairs, key, |text| text.parse().ok())
}

async fn services(State(app): State<App>) -> Answer {
    Ok(axum::Json(app.catalogue().await?.services.keys().cloned().collect()))
}

async fn spans(State(app): State<App>, RawQuery(query): RawQuery) -> Answer {
    let pairs = pairs(query.as_deref());
    let service = required(&pairs, "serviceName")?;
    let catalogue = app.catalogue().await?;
    Ok(axum::Json(catalogue.services.get(service).into_iter().flat_map(|names| names.keys().cloned()).collect()))
}

/// Services that are called by name; of which service is not noted.
async fn remote_services(State(app): State<App>, RawQuery(query): RawQuery) -> Answer {
    let pairs = pairs(query.as_deref());
    required(&pairs, "serviceName")?;
    let catalogue = app.catalogue().await?;
    let known = catalogue.span.get("peer.service");
    Ok(axum::Json(known.into_iter().flat_map(|values| &values.values).map(|(name, _)| name.clone()).collect()))
}

/// Zipkin's search parameters as TraceQL.
fn traceql(pairs: &Pairs) -> Result<String, ApiError> {
    let mut conditions = Vec::new();
    if let Some(service) = text(pairs, "serviceName") {
        conditions.push(format!("resource.service.name = {}", quote(service)));
    }
    if let Some(service) = text(pairs, "remoteServiceName") {
        conditions.push(format!("span.peer.service = {}", quote(service)));
    }
    if let Some(name) = text(pairs, "spanName").filter(|name| *name != "all") {
        conditions.push(format!("name = {}", quote(name)));
    }
    for (key, operator) in [("minDuration", ">="), ("maxDuration", "<=")] {
        if let Some(micros) = number(pairs, key)? {
            conditions.push(format!("duration {operator} {micros}us"));
        }
    }
    for wanted in text(pairs, "annotationQuery").unwrap_or_default().split(" and ").map(str::trim) {
        conditions.push(match wanted.split_once('=') {
            _ if wanted.is_empty() => continue,
            Some((key, value)) => any_type_equals(key.trim(), value.trim()),
            None if wanted == "error" => "status = error".to_owned(),
            None => format!("(.{} != nil || event:name = {})", quote(wanted), quote(wanted)),
        });
    }
    Ok(format!("{{ {} }}", conditions.join(" && ")))
}

/// From and to in nanoseconds; `endTs` and `lookback` are milliseconds.
fn window(pairs: &Pairs) -> Result<(u64, u64), ApiError> {
    let end_ms = number(pairs, "endTs")?.unwrap_or_else(|| now_unix_nano() / 1_000_000);
    let lookback_ms = number(pairs, "lookback")?.unwrap_or(DAY_MS);
    let nanos = |millis: u64| millis.saturating_mul(1_000_000);
    Ok((nanos(end_ms.saturating_sub(lookback_ms)), nanos(end_ms)))
}

async fn all_of(app: &App, ids: Vec<TraceId>) -> Result<Json, ApiError> {
    let mut found = Vec::new();
    for id in ids {
        if let Some(batch) = app.trace(id).await? {
            found.push(trace_json(&decode_trace(&[batch])));
        }
    }
    Ok(Json::Array(found))
}

async fn traces(State(app): State<App>, RawQuery(query): RawQuery) -> Answer {
    let pairs = pairs(query.as_deref());
    let (from, to) = window(&pairs)?;
    let limit = number(&pairs, "limit")?.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(10);
    let response = app.search(&traceql(&pairs)?, Some(from), Some(to), limit, 0).await?;
    Ok(axum::Json(all_of(&app, response.traces.iter().map(|trace| trace.trace_id).collect()).await?))
}

async fn trace(State(app): State<App>, Path(id): Path<String>) -> Answer {
    let batch = app.trace(parse_trace_id(&id)?).await?;
    let batch = batch
        .ok_or_else(|| ApiError { status: StatusCode::NOT_FOUND, body: json!({"error": format!("{id} not found")}) })?;
    Ok(axum::Json(trace_json(&decode_trace(&[batch]))))
}

async fn trace_many(State(app): State<App>, RawQuery(query): RawQuery) -> Answer {
    let pairs = pairs(query.as_deref());
    let mut ids = Vec::new();
    for id in required(&pairs, "traceIds")?.split(',') {
        let id = parse_trace_id(id.trim())?;
        if ids.contains(&id) {
            return Err(ApiError::bad_request("traceIds are not unique").into());
        }
        ids.push(id);
    }
    if ids.len() < 2 {
        return Err(ApiError::bad_request("traceIds: at least two are expected").into());
    }
    Ok(axum::Json(all_of(&app, ids).await?))
}

async fn dependencies(State(app): State<App>, RawQuery(query): RawQuery) -> Answer {
    let pairs = pairs(query.as_deref());
    required(&pairs, "endTs")?;
    let (from, to) = window(&pairs)?;
    let found = app.dependencies(from, to).await?;
    let links = found.calls.iter().map(|call| {
        let mut link = json!({"parent": call.parent, "child": call.child, "callCount": call.count});
        if call.errors > 0 {
            link["errorCount"] = json!(call.errors);
        }
        link
    });
    Ok(axum::Json(links.collect()))
}

async fn keys(State(app): State<App>) -> Answer {
    Ok(axum::Json(app.catalogue().await?.span.keys().cloned().collect()))
}

async fn values(State(app): State<App>, RawQuery(query): RawQuery) -> Answer {
    let pairs = pairs(query.as_deref());
    let catalogue = app.catalogue().await?;
    let known = catalogue.span.get(required(&pairs, "key")?);
    Ok(axum::Json(known.into_iter().flat_map(|values| &values.values).map(|(value, _)| value.clone()).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_become_traceql() {
        let of = |query| traceql(&pairs(Some(query))).map_err(|error| error.message());
        assert_eq!(
            of("serviceName=a%22b&spanName=get&minDuration=1500&annotationQuery=http.method%3DGET+and+error").unwrap(),
            r#"{ resource.service.name = "a\"b" && name = "get" && duration >= 1500us && (."http.method" = "GET") && status = error }"#
        );
        for query in ["", "serviceName=x&annotationQuery=retry", "remoteServiceName=y&maxDuration=5&spanName=all"] {
            let text = of(query).unwrap();
            assert!(spanwise_query::traceql::parse(&text).is_ok(), "{text}");
        }
        assert!(of("minDuration=soon").is_err());
        assert_eq!(window(&pairs(Some("endTs=5000&lookback=2000"))).ok(), Some((3_000_000_000, 5_000_000_000)));
    }
}
