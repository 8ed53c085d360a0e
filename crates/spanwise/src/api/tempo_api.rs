//! Tempo's HTTP API: <https://grafana.com/docs/tempo/latest/api_docs/>.

use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value as Json, json};
use spanwise_query::SpanSet;
use spanwise_wire::Batch;
use spanwise_wire::encode::put_len_field;
use spanwise_wire::kept::as_sent;

use super::jaeger_api::pairs;
use super::tempo_json::{attributes, resource_spans};
use super::{ApiError, App, parse_trace_id, quote, tempo_metrics, tempo_tags};
use crate::time_text::parse_duration;

pub fn routes() -> Router<App> {
    Router::new()
        .route("/api/echo", get(|| async { "echo" }))
        .route("/api/status/buildinfo", get(buildinfo))
        .route("/api/traces/{id}", get(trace_v1))
        .route("/api/v2/traces/{id}", get(trace_v2))
        .route("/api/search", get(search))
        .route("/api/search/tags", get(tempo_tags::tags_v1))
        .route("/api/v2/search/tags", get(tempo_tags::tags_v2))
        // A tag may hold slashes.
        .route("/api/search/tag/{*rest}", get(tempo_tags::values_v1))
        .route("/api/v2/search/tag/{*rest}", get(tempo_tags::values_v2))
        .route("/api/metrics/query_range", get(tempo_metrics::query_range))
        .route("/api/metrics/query", get(tempo_metrics::query))
}

/// Tempo's errors are plain text.
pub struct TempoError(ApiError);

impl From<ApiError> for TempoError {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl IntoResponse for TempoError {
    fn into_response(self) -> Response {
        (self.0.status, self.0.message()).into_response()
    }
}

pub(super) type Answer = Result<axum::Json<Json>, TempoError>;

async fn buildinfo() -> axum::Json<Json> {
    // Clients choose their requests by Tempo's version; this is the one whose API is served here.
    axum::Json(json!({
        "version": "2.9.0", "revision": concat!("spanwise-", env!("CARGO_PKG_VERSION")), "branch": "", "buildDate": "",
        "buildUser": "", "goVersion": "",
    }))
}

async fn find(app: &App, id: &str) -> Result<Option<Batch>, TempoError> {
    Ok(app.trace(parse_trace_id(id)?).await?)
}

fn wants_protobuf(headers: &HeaderMap) -> bool {
    headers
        .get(ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|accept| accept.contains("application/protobuf"))
}

fn protobuf(bytes: Vec<u8>) -> Response {
    ([(CONTENT_TYPE, "application/protobuf")], bytes).into_response()
}

async fn trace_v1(
    State(app): State<App>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, TempoError> {
    Parameters(pairs(query.as_deref())).window()?;
    let Some(trace) = find(&app, &id).await? else {
        return Ok((StatusCode::NOT_FOUND, "trace not found").into_response());
    };
    if wants_protobuf(&headers) {
        return Ok(protobuf(as_sent(trace).bytes().to_vec()));
    }
    Ok(axum::Json(json!({"batches": resource_spans(&trace)})).into_response())
}

/// A trace that is not there is an empty one here, as Tempo has it.
async fn trace_v2(
    State(app): State<App>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, TempoError> {
    Parameters(pairs(query.as_deref())).window()?;
    let trace = find(&app, &id).await?;
    if wants_protobuf(&headers) {
        let bytes = trace.map(|trace| as_sent(trace).bytes().clone()).unwrap_or_default();
        let mut answer = Vec::with_capacity(bytes.len() + 8);
        put_len_field(&mut answer, 1, &bytes);
        return Ok(protobuf(answer));
    }
    let (trace, bytes) = match trace {
        Some(trace) => (json!({"resourceSpans": resource_spans(&trace)}), trace.bytes().len()),
        None => (json!({}), 0),
    };
    Ok(axum::Json(json!({"trace": trace, "metrics": {"inspectedBytes": bytes.to_string()}})).into_response())
}

pub(super) struct Parameters(pub Vec<(String, String)>);

impl Parameters {
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(known, value)| known == key && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    pub fn number(&self, key: &str) -> Result<Option<u64>, TempoError> {
        let parse = |text: &str| {
            text.parse().map_err(|_| ApiError::bad_request(format!("invalid {key}: {text:?} is not a number")))
        };
        Ok(self.get(key).map(parse).transpose()?)
    }

    pub fn window(&self) -> Result<(Option<u64>, Option<u64>), TempoError> {
        let (start, end) = (self.number("start")?, self.number("end")?);
        if let (Some(start), Some(end)) = (start, end)
            && end <= start
        {
            let message = format!("http parameter start must be before end. received start={start} end={end}");
            return Err(ApiError::bad_request(message).into());
        }
        let nanos = |seconds: u64| seconds.saturating_mul(1_000_000_000);
        Ok((start.map(nanos), end.map(nanos)))
    }
}

/// What a search may say beside tags.
const OTHER_PARAMETERS: [&str; 9] =
    ["q", "tags", "minDuration", "maxDuration", "limit", "spss", "start", "end", "skip_ast_transformations"];

/// `tags` (logfmt), `minDuration` and `maxDuration`, or `q`, as TraceQL.
fn traceql(parameters: &Parameters) -> Result<String, TempoError> {
    let tags = parameters.get("tags");
    if let Some(query) = parameters.get("q") {
        if tags.is_some() {
            return Err(ApiError::bad_request("invalid search: q and tags cannot be used together").into());
        }
        return Ok(query.to_owned());
    }
    let mut conditions = Vec::new();
    let mut wanted = logfmt(tags.unwrap_or_default());
    if tags.is_none() && parameters.get("start").is_none() && parameters.get("end").is_none() {
        // The oldest form of the API: every parameter that is no other is a tag.
        let others =
            parameters.0.iter().filter(|(key, value)| !OTHER_PARAMETERS.contains(&key.as_str()) && !value.is_empty());
        wanted.extend(others.cloned());
    }
    for (key, value) in wanted {
        let text = regex_escape(&value);
        let pattern = quote(&format!("(?i).*{text}.*"));
        conditions.push(match key.as_str() {
            "name" => format!("name =~ {pattern}"),
            "root.name" => format!("trace:rootName =~ {pattern}"),
            "root.service.name" => format!("trace:rootService =~ {pattern}"),
            "error" if value == "true" => "status = error".to_owned(),
            key => format!("(.{} =~ {pattern} || {})", quote(key), super::any_type_equals(key, &value)),
        });
    }
    for (key, operator) in [("minDuration", ">="), ("maxDuration", "<=")] {
        if let Some(text) = parameters.get(key) {
            let duration =
                parse_duration(text).map_err(|error| ApiError::bad_request(format!("invalid {key}: {error}")))?;
            conditions.push(format!("trace:duration {operator} {}ns", duration.as_nanos()));
        }
    }
    Ok(format!("{{ {} }}", conditions.join(" && ")))
}

fn regex_escape(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_alphanumeric() || c == '_' { vec![c] } else { vec!['\\', c] }).collect()
}

/// `key=value key="quoted value"`.
fn logfmt(text: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while let Some((key, value)) = rest.split_once('=') {
        let (value, after) = match value.strip_prefix('"') {
            Some(quoted) => {
                let end = quoted.find('"').unwrap_or(quoted.len());
                (&quoted[..end], quoted.get(end + 1..).unwrap_or_default())
            }
            None => value.split_once(char::is_whitespace).unwrap_or((value, "")),
        };
        pairs.push((key.trim().to_owned(), value.to_owned()));
        rest = after.trim_start();
    }
    pairs
}

async fn search(State(app): State<App>, RawQuery(query): RawQuery) -> Answer {
    let parameters = Parameters(pairs(query.as_deref()));
    let (from, to) = parameters.window()?;
    let limit = parameters.number("limit")?.unwrap_or(20);
    if limit == 0 {
        return Err(ApiError::bad_request("invalid limit: must be a positive number").into());
    }
    let spans = match parameters.number("spss")? {
        None => 3,
        Some(0) => 100,
        Some(count) => count.min(100),
    };
    let response = app.search(&traceql(&parameters)?, from, to, limit as usize, spans as usize).await?;
    let traces = response.traces.iter().map(|trace| {
        let span_sets: Vec<Json> = trace.span_sets.iter().map(span_set_json).collect();
        let (service, name) = trace.root.clone().unwrap_or(("<root span not yet received>".to_owned(), String::new()));
        let stats: serde_json::Map<String, Json> = trace
            .services
            .iter()
            .map(|service| (service.name.clone(), json!({"spanCount": service.spans, "errorCount": service.errors})))
            .collect();
        json!({
            "traceID": trace.trace_id.to_string(),
            "rootServiceName": service,
            "rootTraceName": name,
            "startTimeUnixNano": trace.start_unix_nano.to_string(),
            "durationMs": trace.duration_ns / 1_000_000,
            "spanSet": span_sets.first(),
            "spanSets": span_sets,
            "serviceStats": stats,
        })
    });
    let metrics = json!({
        "inspectedTraces": response.traces.len(),
        "inspectedBytes": response.inspected_bytes.to_string(),
        "inspectedSpans": response.inspected_spans.to_string(),
        "completedJobs": 1,
        "totalJobs": 1,
    });
    Ok(axum::Json(json!({"traces": traces.collect::<Json>(), "metrics": metrics})))
}

fn span_set_json(set: &SpanSet) -> Json {
    let with_attributes = |mut object: Json, list: &[spanwise_model::KeyValue]| {
        if !list.is_empty() {
            object["attributes"] = attributes(list);
        }
        object
    };
    let spans = set.spans.iter().map(|span| {
        let object = json!({
            "spanID": span.span_id.to_string(),
            "name": span.name,
            "startTimeUnixNano": span.start_unix_nano.to_string(),
            "durationNanos": span.duration_ns.to_string(),
        });
        with_attributes(object, &span.attributes)
    });
    with_attributes(json!({"spans": spans.collect::<Vec<_>>(), "matched": set.matched}), &set.attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_become_traceql_that_parses() {
        for query in [
            "tags=service.name%3D%22a%20b%22%20http.status_code%3D500&minDuration=1s",
            "tags=name%3Dx.y",
            "",
            "service.name=cart&limit=5",
        ] {
            let text = traceql(&Parameters(pairs(Some(query)))).map_err(|error| error.0.message()).unwrap();
            assert!(spanwise_query::traceql::parse(&text).is_ok(), "{text}");
        }
        let legacy = traceql(&Parameters(pairs(Some("service.name=cart&limit=5")))).map_err(|error| error.0.message());
        assert!(legacy.unwrap().contains("cart"));
        assert!(traceql(&Parameters(pairs(Some("q=%7B%7D&tags=a%3Db")))).is_err());
    }
}
