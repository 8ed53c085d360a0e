//! What is served over HTTP: the page and its API, Jaeger's API, Tempo's API.

pub mod aggregate;
pub mod clocks_api;
pub mod compare_api;
pub mod insights_json;
pub mod jaeger;
pub mod jaeger_api;
pub mod mutes_api;
pub mod page_api;
pub mod tempo_api;
pub mod tempo_json;
pub mod tempo_metrics;
pub mod tempo_tags;
pub mod trace_columns;
pub mod trace_json;
pub mod web;
pub mod zipkin;
pub mod zipkin_api;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value as Json, json};
use spanwise_insight::population::Insights;
use spanwise_model::TraceId;
use spanwise_query::insights::InsightsRequest;
use spanwise_query::{
    Budget, Dependencies, MetricsError, MetricsRequest, MetricsResponse, QueryError, SearchRequest, SearchResponse,
    TraceSummary,
};
use spanwise_store::{Catalogue, Snapshot, Store};
use spanwise_wire::Batch;

/// What every handler needs.
#[derive(Clone)]
pub struct App {
    pub store: Arc<Store>,
    pub telemetry: spanwise_pipeline::Telemetry,
    pub listeners: spanwise_pipeline::config::Listeners,
    pub ready: Arc<AtomicBool>,
    /// Names that `Host` may bear beside addresses and `localhost`.
    pub hosts: Arc<Vec<String>>,
    pub mutes: Arc<mutes_api::Mutes>,
    /// Answers over many traces, which cost much to find.
    pub answers: Arc<aggregate::Answers>,
}

/// An answer that is not the one hoped for.
pub struct ApiError {
    pub status: StatusCode,
    pub body: Json,
}

impl ApiError {
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, body: json!({"error": message.into()}) }
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, body: json!({"error": message.into()}) }
    }

    pub fn internal(message: impl std::fmt::Display) -> Self {
        tracing::error!(%message, "a query failed");
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, body: json!({"error": message.to_string()}) }
    }

    pub fn query(text: &str, error: &QueryError) -> Self {
        let (line, column) = error.position(text);
        let body = json!({
            "error": error.message, "offset": error.offset, "length": error.length, "line": line, "column": column,
            "hint": error.hint,
        });
        Self { status: StatusCode::BAD_REQUEST, body }
    }

    pub fn message(&self) -> String {
        self.body["error"].as_str().unwrap_or_default().to_owned()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, axum::Json(self.body)).into_response()
    }
}

/// Stops a search whose caller has gone.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl App {
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(Snapshot) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let snapshot = self.store.snapshot();
        tokio::task::spawn_blocking(move || work(snapshot)).await.map_err(ApiError::internal)?
    }

    pub async fn trace(&self, id: TraceId) -> Result<Option<Batch>, ApiError> {
        self.blocking(move |snapshot| snapshot.trace(&id).map_err(ApiError::internal)).await
    }

    pub async fn catalogue(&self) -> Result<Catalogue, ApiError> {
        self.blocking(|snapshot| Ok(snapshot.catalogue())).await
    }

    pub async fn search(
        &self,
        text: &str,
        from_unix_nano: Option<u64>,
        to_unix_nano: Option<u64>,
        limit: usize,
        spans_per_trace: usize,
    ) -> Result<SearchResponse, ApiError> {
        let query = spanwise_query::traceql::parse(text).map_err(|error| ApiError::query(text, &error))?;
        let budget = Budget { time: Duration::from_secs(30), ..Budget::default() };
        let _cancel = CancelOnDrop(Arc::clone(&budget.cancelled));
        let request = SearchRequest { query, from_unix_nano, to_unix_nano, limit, spans_per_trace, budget };
        self.blocking(move |snapshot| {
            spanwise_query::search(&snapshot, &request).map_err(|error| match error {
                spanwise_query::SearchError::Store(error) => ApiError::internal(error),
                error => ApiError::bad_request(error.to_string()),
            })
        })
        .await
    }

    /// Series of a query that ends in a metrics function.
    pub async fn metrics(
        &self,
        text: &str,
        start_unix_nano: u64,
        end_unix_nano: u64,
        step_ns: Option<u64>,
        exemplars: usize,
    ) -> Result<MetricsResponse, ApiError> {
        let query = spanwise_query::traceql::parse(text).map_err(|error| ApiError::query(text, &error))?;
        let budget = Budget { time: Duration::from_secs(30), ..Budget::default() };
        let _cancel = CancelOnDrop(Arc::clone(&budget.cancelled));
        let request = MetricsRequest { query, start_unix_nano, end_unix_nano, step_ns, exemplars, budget };
        self.blocking(move |snapshot| {
            spanwise_query::metrics(&snapshot, &request).map_err(|error| match error {
                MetricsError::Store(error) => ApiError::internal(error),
                error => ApiError::bad_request(error.to_string()),
            })
        })
        .await
    }
}

impl App {
    /// Calls between services of the traces that started in a window.
    pub async fn dependencies(&self, from: u64, to: u64) -> Result<Dependencies, ApiError> {
        let budget = Budget { time: Duration::from_secs(30), ..Budget::default() };
        let _cancel = CancelOnDrop(Arc::clone(&budget.cancelled));
        self.blocking(move |snapshot| {
            spanwise_query::dependencies(&snapshot, from, to, &budget).map_err(ApiError::internal)
        })
        .await
    }
}

pub fn now_unix_nano() -> u64 {
    spanwise_journal::Clock::now_unix_nano(&spanwise_journal::SystemClock::new())
}

impl App {
    /// Findings of the traces that started in a window.
    pub async fn insights(&self, from: Option<u64>, to: Option<u64>) -> Result<Insights, ApiError> {
        let budget = Budget { time: Duration::from_secs(30), ..Budget::default() };
        let _cancel = CancelOnDrop(Arc::clone(&budget.cancelled));
        let request = InsightsRequest { from_unix_nano: from, to_unix_nano: to, budget };
        self.blocking(move |snapshot| {
            spanwise_query::insights::insights(&snapshot, &request).map_err(ApiError::internal)
        })
        .await
    }
}

/// `id` as hex, short ones filled up with zeros.
pub fn parse_trace_id(text: &str) -> Result<TraceId, ApiError> {
    text.parse().map_err(|_| ApiError::bad_request(format!("{text:?} is not a trace id: 1 to 32 hex digits are")))
}

/// A search's answer as the page and `spanwise query --format json` give it.
pub fn summary_json(trace: &TraceSummary) -> Json {
    json!({
        "trace_id": trace.trace_id.to_string(),
        "root": trace.root.as_ref().map(|(service, operation)| json!({"service": service, "operation": operation})),
        "start_unix_nano": trace.start_unix_nano.to_string(),
        "duration_ns": trace.duration_ns,
        "span_count": trace.span_count,
        "error_count": trace.error_count,
        "services": trace.services.iter().map(|service| {
            json!({"name": service.name, "spans": service.spans, "errors": service.errors})
        }).collect::<Json>(),
        "matched": trace.matched,
        "adjusted": trace.weight,
    })
}

pub fn search_json(response: &SearchResponse, starts: Option<(u64, u64)>) -> Json {
    json!({
        "traces": response.traces.iter().map(summary_json).collect::<Json>(),
        "complete": response.complete,
        "inspected_spans": response.inspected_spans,
        "newest_unix_nano": starts.map(|(_, newest)| newest.to_string()),
        "oldest_unix_nano": starts.map(|(oldest, _)| oldest.to_string()),
    })
}

/// The range of a metrics query; where a window is open, that of what is stored.
pub fn metrics_window(from: Option<u64>, to: Option<u64>, starts: Option<(u64, u64)>) -> (u64, u64) {
    let (oldest, newest) = starts.unwrap_or((0, 1));
    let to = to.unwrap_or_else(|| newest.saturating_add(1));
    (from.unwrap_or_else(|| oldest.min(to.saturating_sub(1))), to)
}

/// A metrics query's answer as the page and `spanwise query --format json` give it.
pub fn metrics_json(response: &MetricsResponse, step_ns: Option<u64>) -> Json {
    let series = response.series.iter().map(|series| {
        let labels: serde_json::Map<String, Json> =
            series.labels.iter().map(|(key, value)| (key.clone(), trace_json::value_json(value))).collect();
        let samples: Json = series.samples.iter().map(|(time, value)| json!([time.to_string(), value])).collect();
        json!({"labels": labels, "samples": samples})
    });
    json!({
        "series": series.collect::<Json>(),
        "weighted": response.is_weighted,
        "step_ns": step_ns,
        "complete": response.complete,
        "inspected_spans": response.inspected_spans,
    })
}

/// A TraceQL string.
pub fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A condition on an attribute whose type the caller does not know: `key = "5"` finds the text and the number.
pub fn any_type_equals(key: &str, value: &str) -> String {
    let attribute = format!(".{}", quote(key));
    let mut conditions = vec![format!("{attribute} = {}", quote(value))];
    if value.parse::<i64>().is_ok() || value.parse::<f64>().is_ok_and(f64::is_finite) {
        if let Some(positive) = value.strip_prefix('-') {
            conditions.push(format!("{attribute} = -{positive}"));
        } else {
            conditions.push(format!("{attribute} = {value}"));
        }
    }
    if value == "true" || value == "false" {
        conditions.push(format!("{attribute} = {value}"));
    }
    format!("({})", conditions.join(" || "))
}
