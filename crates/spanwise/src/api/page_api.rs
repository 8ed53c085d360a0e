//! The page's own API, and what `spanwise` commands ask a server: contracts §3.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use spanwise_insight::Mode;
use spanwise_model::Limits;
use spanwise_query::metrics::default_step_ns;
use spanwise_wire::{Batch, decode_trace};

use super::aggregate::Window;
use super::clocks_api::{ClocksOf, timed};
use super::insights_json::{Asked, insights_json};
use super::trace_json::{Detail, one_span_json, trace_json};
use super::{ApiError, App, metrics_json, metrics_window, parse_trace_id, search_json};
use crate::time_text::{parse_duration, parse_time};

type Answer = Result<axum::Json<Json>, ApiError>;

/// Largest body of one `import` request: what a server's OTLP receiver takes.
const IMPORT_BYTES: usize = spanwise_model::limits::HTTP_BODY_BYTES;

pub fn routes() -> Router<App> {
    Router::new()
        .route("/ready", get(ready))
        .route("/api/spanwise/search", get(search))
        .route("/api/spanwise/metrics", get(metrics))
        .route("/api/spanwise/traces/{id}", get(trace))
        .route("/api/spanwise/traces/{id}/otlp", get(trace_otlp))
        .route("/api/spanwise/traces/{id}/spans/{span}", get(span))
        .route("/api/spanwise/services", get(services))
        .route("/api/spanwise/insights", get(insights))
        .route("/api/spanwise/status", get(status))
        .route("/api/spanwise/own_metrics", get(own_metrics))
        .route("/api/spanwise/import", post(import).layer(DefaultBodyLimit::max(IMPORT_BYTES)))
        .merge(super::aggregate::routes())
        .merge(super::mutes_api::routes())
        .merge(super::trace_columns::routes())
}

async fn ready(State(app): State<App>) -> (StatusCode, &'static str) {
    match app.ready.load(std::sync::atomic::Ordering::Acquire) {
        true => (StatusCode::OK, "ready\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "starting or stopping\n"),
    }
}

#[derive(Deserialize)]
struct SearchParameters {
    #[serde(default)]
    q: String,
    from: Option<String>,
    to: Option<String>,
    limit: Option<usize>,
}

async fn search(State(app): State<App>, Query(parameters): Query<SearchParameters>) -> Answer {
    let time = |text: Option<String>| text.map(|text| parse_time(&text)).transpose().map_err(ApiError::bad_request);
    let (from, to) = (time(parameters.from)?, time(parameters.to)?);
    let query = if parameters.q.trim().is_empty() { "{}" } else { &parameters.q };
    let response = app.search(query, from, to, parameters.limit.unwrap_or(50), 0).await?;
    Ok(axum::Json(search_json(&response, app.store.snapshot().starts())))
}

#[derive(Deserialize)]
struct MetricsParameters {
    q: String,
    from: Option<String>,
    to: Option<String>,
    /// As in `15s`; about 240 steps of the window without.
    step: Option<String>,
}

async fn metrics(State(app): State<App>, Query(parameters): Query<MetricsParameters>) -> Answer {
    let time = |text: Option<String>| text.map(|text| parse_time(&text)).transpose().map_err(ApiError::bad_request);
    let (from, to) = (time(parameters.from)?, time(parameters.to)?);
    let (from, to) = metrics_window(from, to, app.store.snapshot().starts());
    let step = match &parameters.step {
        None => default_step_ns(to.saturating_sub(from)),
        Some(text) => {
            let step = parse_duration(text).map_err(|error| ApiError::bad_request(format!("invalid step: {error}")))?;
            u64::try_from(step.as_nanos()).unwrap_or(u64::MAX)
        }
    };
    let response = app.metrics(&parameters.q, from, to, Some(step), 0).await?;
    Ok(axum::Json(metrics_json(&response, Some(step))))
}

#[derive(Deserialize)]
struct InsightsParameters {
    from: Option<String>,
    to: Option<String>,
    service: Option<String>,
    kind: Option<String>,
    #[serde(default)]
    details: bool,
}

async fn insights(State(app): State<App>, Query(parameters): Query<InsightsParameters>) -> Answer {
    let time = |text: Option<String>| text.map(|text| parse_time(&text)).transpose().map_err(ApiError::bad_request);
    let (from, to) = (time(parameters.from)?, time(parameters.to)?);
    let (oldest, newest) = app.store.snapshot().starts().unwrap_or((0, 0));
    let found = app.insights(from, to).await?;
    let window = Window { from: from.unwrap_or(oldest), to: to.unwrap_or(newest) };
    let asked = Asked {
        service: parameters.service.as_deref().filter(|service| !service.is_empty()),
        kind: parameters.kind.as_deref().filter(|kind| !kind.is_empty()),
        details: parameters.details,
    };
    Ok(axum::Json(insights_json(&found, window, asked)))
}

#[derive(Deserialize)]
struct TraceParameters {
    fields: Option<String>,
    mode: Option<String>,
    clocks: Option<String>,
}

async fn find(app: &App, id: &str) -> Result<Batch, ApiError> {
    let trace = app.trace(parse_trace_id(id)?).await?;
    trace.ok_or_else(|| ApiError::not_found(format!("no trace {id} is stored")))
}

async fn trace(State(app): State<App>, Path(id): Path<String>, Query(parameters): Query<TraceParameters>) -> Answer {
    let detail = match parameters.fields.as_deref() {
        None | Some("all") => Detail::Full,
        Some("structure") => Detail::Structure,
        Some(other) => return Err(ApiError::bad_request(format!("fields={other:?}: structure and all are"))),
    };
    let mode = match parameters.mode.as_deref() {
        None => Mode::default(),
        Some(text) => Mode::parse(text)
            .ok_or_else(|| ApiError::bad_request(format!("mode={text:?}: spanwise, jaeger, crisp and elastic are")))?,
    };
    let clocks = ClocksOf::parse(parameters.clocks.as_deref())?;
    let batch = find(&app, &id).await?;
    let timed = timed(&app, decode_trace(&[batch]), clocks).await?;
    Ok(axum::Json(trace_json(&timed, detail, mode)))
}

async fn trace_otlp(State(app): State<App>, Path(id): Path<String>) -> Result<Vec<u8>, ApiError> {
    Ok(find(&app, &id).await?.bytes().to_vec())
}

async fn span(State(app): State<App>, Path((id, span)): Path<(String, String)>) -> Answer {
    let batch = find(&app, &id).await?;
    let span_id = span.parse().map_err(|_| ApiError::bad_request(format!("{span:?} is not a span id")))?;
    let found = one_span_json(&decode_trace(&[batch]), span_id);
    found.map(axum::Json).ok_or_else(|| ApiError::not_found(format!("trace {id} has no span {span}")))
}

async fn services(State(app): State<App>) -> Answer {
    let catalogue = app.catalogue().await?;
    let services = catalogue.services.iter().map(|(name, operations)| {
        let operations: Vec<_> = operations.keys().collect();
        json!({"name": name, "operations": operations})
    });
    Ok(axum::Json(json!({"services": services.collect::<Json>()})))
}

async fn status(State(app): State<App>) -> Answer {
    let stats = app.store.stats();
    let starts = app.store.snapshot().starts();
    let listeners: serde_json::Map<String, Json> =
        app.listeners.all().into_iter().map(|(name, address)| (name, json!(address.to_string()))).collect();
    Ok(axum::Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "spans_received": app.telemetry.total("otelcol_receiver_accepted_spans"),
        "spans_stored": stats.block_spans + stats.head_spans,
        "store_bytes": stats.block_bytes + stats.wal_bytes,
        "blocks": stats.blocks,
        "newest_unix_nano": starts.map(|(_, newest)| newest.to_string()),
        "oldest_unix_nano": starts.map(|(oldest, _)| oldest.to_string()),
        "listeners": listeners,
        "discarded_requests": app.telemetry.total("spanwise_discarded_requests"),
    })))
}

/// Spanwise's own metrics, for the page: what stands on port 8888 as well.
async fn own_metrics(State(app): State<App>) -> String {
    app.telemetry.render()
}

/// OTLP protobuf straight into the store: what `import` uses when a server holds the data directory.
async fn import(State(app): State<App>, body: Bytes) -> Answer {
    let parsed = Batch::parse(body, &Limits::default()).map_err(|error| ApiError::bad_request(error.to_string()))?;
    let spans = parsed.batch.len_spans();
    app.store.append(parsed.batch).await.map_err(|error| ApiError {
        status: StatusCode::SERVICE_UNAVAILABLE,
        body: json!({"error": error.to_string()}),
    })?;
    Ok(axum::Json(json!({"spans": spans, "rejected": parsed.rejected.spans})))
}
