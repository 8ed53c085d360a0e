//! `GET /api/spanwise/traces/{id}/columns`: a trace as columns, for the page: every text once, numbers in arrays, no
//! attributes. A hundred thousand spans are a few megabytes, which a browser reads in a moment.
//! `GET /api/spanwise/traces/{id}/events`: what was logged on its spans, for showing as rows.
//! `GET /api/spanwise/traces/{id}/findings`: what it shows by itself, where the columns left that out.

use std::collections::HashMap;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use spanwise_insight::calls::{Call, call};
use spanwise_insight::ledger::ledger;
use spanwise_insight::population::findings_of;
use spanwise_insight::queue::queue_hops;
use spanwise_insight::{Mode, TraceFacts, trace_facts, trace_facts_in};
use spanwise_model::{SpanKind, StatusCode, Trace};
use spanwise_wire::decode_trace;

use super::clocks_api::{ClocksJson, ClocksOf, Timed, timed};
use super::insights_json::finding_json;
use super::trace_json::{attributes_json, tree_order};
use super::{ApiError, App, parse_trace_id};

type Answer = Result<axum::Json<Json>, ApiError>;

/// Events answered of a trace; the earliest.
const EVENTS: usize = 5_000;
/// Ledger lines answered of a trace, the longest calls: beyond it, a call's is computed from its bars.
const LEDGER: usize = 20_000;
/// Spans of a trace whose findings come with its columns: those of a larger one would keep the page waiting.
const SPANS_FOR_FINDINGS: usize = 10_000;

pub fn routes() -> Router<App> {
    Router::new()
        .route("/api/spanwise/traces/{id}/columns", get(columns))
        .route("/api/spanwise/traces/{id}/events", get(events))
        .route("/api/spanwise/traces/{id}/findings", get(findings))
}

async fn decoded<T: Send + 'static>(
    app: &App,
    id: &str,
    read: impl FnOnce(Trace) -> T + Send + 'static,
) -> Result<T, ApiError> {
    let batch = app.trace(parse_trace_id(id)?).await?;
    let batch = batch.ok_or_else(|| ApiError::not_found(format!("no trace {id} is stored")))?;
    tokio::task::spawn_blocking(move || read(decode_trace(&[batch]))).await.map_err(ApiError::internal)
}

#[derive(Deserialize)]
struct ColumnsParameters {
    mode: Option<String>,
    clocks: Option<String>,
}

/// The trace with the times that are asked for, read away from the threads that serve.
async fn read_timed<T: Send + 'static>(
    app: &App,
    id: &str,
    clocks: Option<&str>,
    read: impl FnOnce(&Timed) -> T + Send + 'static,
) -> Result<T, ApiError> {
    let clocks = ClocksOf::parse(clocks)?;
    if clocks == ClocksOf::Raw {
        return decoded(app, id, |trace| read(&Timed::raw(trace))).await;
    }
    let trace = decoded(app, id, |trace| trace).await?;
    let timed = timed(app, trace, clocks).await?;
    tokio::task::spawn_blocking(move || read(&timed)).await.map_err(ApiError::internal)
}

async fn columns(
    State(app): State<App>,
    Path(id): Path<String>,
    Query(parameters): Query<ColumnsParameters>,
) -> Result<Response, ApiError> {
    let mode = match parameters.mode.as_deref() {
        None => Mode::default(),
        Some(text) => Mode::parse(text)
            .ok_or_else(|| ApiError::bad_request(format!("mode={text:?}: spanwise, jaeger, crisp and elastic are")))?,
    };
    let clocks = parameters.clocks.as_deref();
    let bytes = read_timed(&app, &id, clocks, move |timed| columns_bytes(timed, mode)).await?;
    let bytes = bytes.map_err(ApiError::internal)?;
    Ok(([(CONTENT_TYPE, "application/json")], bytes).into_response())
}

async fn findings(State(app): State<App>, Path(id): Path<String>) -> Answer {
    let found = decoded(&app, &id, |trace| findings_of(&trace).iter().map(finding_json).collect::<Json>()).await?;
    Ok(axum::Json(json!({"findings": found})))
}

async fn events(State(app): State<App>, Path(id): Path<String>, Query(parameters): Query<ColumnsParameters>) -> Answer {
    let clocks = parameters.clocks.as_deref();
    Ok(axum::Json(read_timed(&app, &id, clocks, |timed| events_json(&timed.trace)).await?))
}

/// Texts by number.
#[derive(Default)]
struct Texts<'a> {
    numbers: HashMap<&'a str, usize>,
    texts: Vec<&'a str>,
}

impl<'a> Texts<'a> {
    fn number(&mut self, text: &'a str) -> usize {
        let next = self.texts.len();
        *self.numbers.entry(text).or_insert_with(|| {
            self.texts.push(text);
            next
        })
    }
}

/// Arrays are as long as there are spans, in tree order: parents before children, siblings by start.
#[derive(Serialize)]
struct Columns<'a> {
    services: Vec<&'a str>,
    names: Vec<&'a str>,
    /// Normalised names: what makes spans of one kind.
    operations: Vec<&'a str>,
    /// 16 hex digits for each span.
    ids: String,
    /// Place of the parent, -1 without one.
    parent: Vec<i64>,
    service: Vec<usize>,
    name: Vec<usize>,
    operation: Vec<usize>,
    /// 0 internal, 1 server, 2 client, 3 producer, 4 consumer.
    kind: Vec<u8>,
    start_ns: Vec<i64>,
    duration_ns: Vec<u64>,
    self_ns: Vec<u64>,
    critical_ns: Vec<u64>,
    /// 0 unset, 1 ok, 2 error.
    status: Vec<u8>,
    /// Of the spans that have any: place and flags.
    flags: Vec<(usize, &'a [&'static str])>,
    /// Place and status message of the spans that have one.
    messages: Vec<(usize, &'a str)>,
    /// Place and number of events of the spans that have any.
    events: Vec<(usize, usize)>,
}

fn kind_number(kind: SpanKind) -> u8 {
    match kind {
        SpanKind::Server => 1,
        SpanKind::Client => 2,
        SpanKind::Producer => 3,
        SpanKind::Consumer => 4,
        _ => 0,
    }
}

fn columns_of<'a>(trace: &'a Trace, facts: &'a TraceFacts, calls: &'a [Call], order: &[usize]) -> Columns<'a> {
    let mut place_of = vec![0usize; trace.spans.len()];
    for (at, place) in order.iter().enumerate() {
        place_of[*place] = at;
    }
    let (mut services, mut names, mut operations) = (Texts::default(), Texts::default(), Texts::default());
    let span = |place: &usize| &trace.spans[*place].span;
    let offset = |unix_nano: u64| unix_nano.wrapping_sub(facts.start_unix_nano) as i64;
    let service =
        order.iter().map(|place| services.number(trace.spans[*place].resource.service_name())).collect::<Vec<_>>();
    let name = order.iter().map(|place| names.number(&span(place).name)).collect::<Vec<_>>();
    let operation = order.iter().map(|place| operations.number(&calls[*place].operation)).collect::<Vec<_>>();
    let status = |place: &usize| match span(place).status.code {
        StatusCode::Unset => 0,
        StatusCode::Ok => 1,
        StatusCode::Error => 2,
    };
    let numbered = || order.iter().copied().enumerate();
    Columns {
        ids: order.iter().map(|place| span(place).span_id.to_string()).collect(),
        parent: order
            .iter()
            .map(|place| facts.tree.parent[*place].map_or(-1, |parent| i64::try_from(place_of[parent]).unwrap_or(-1)))
            .collect(),
        kind: order.iter().map(|place| kind_number(span(place).kind)).collect(),
        start_ns: order.iter().map(|place| offset(span(place).start_unix_nano)).collect(),
        duration_ns: order.iter().map(|place| span(place).duration_ns()).collect(),
        self_ns: order.iter().map(|place| facts.spans[*place].self_ns).collect(),
        critical_ns: order.iter().map(|place| facts.spans[*place].critical_ns).collect(),
        status: order.iter().map(status).collect(),
        flags: numbered()
            .map(|(at, place)| (at, facts.spans[place].flags.as_slice()))
            .filter(|(_, flags)| !flags.is_empty())
            .collect(),
        messages: numbered()
            .map(|(at, place)| (at, trace.spans[place].span.status.message.as_str()))
            .filter(|(_, message)| !message.is_empty())
            .collect(),
        events: numbered()
            .map(|(at, place)| (at, trace.spans[place].span.events.len()))
            .filter(|(_, count)| *count > 0)
            .collect(),
        service,
        name,
        operation,
        services: services.texts,
        names: names.texts,
        operations: operations.texts,
    }
}

#[derive(Serialize)]
struct RootJson<'a> {
    service: &'a str,
    operation: &'a str,
    /// Normalised, as entry points are named.
    entry: &'a str,
}

#[derive(Serialize)]
struct ServiceJson<'a> {
    name: &'a str,
    spans: usize,
}

#[derive(Serialize)]
struct ServiceTimeJson<'a> {
    service: &'a str,
    ns: u64,
}

#[derive(Serialize)]
struct CriticalPathJson<'a> {
    mode: &'static str,
    /// Place, or none where no span ran, start and end.
    segments: Vec<(Option<usize>, i64, i64)>,
    by_service: Vec<ServiceTimeJson<'a>>,
}

/// Client's place, server's place, before, wire out, in the server, wire back, after.
type LedgerJson = (usize, Option<usize>, u64, u64, u64, u64, u64);

#[derive(Serialize)]
struct TraceJson<'a> {
    trace_id: Option<String>,
    root: Option<RootJson<'a>>,
    start_unix_nano: String,
    duration_ns: u64,
    span_count: usize,
    error_count: usize,
    services: Vec<ServiceJson<'a>>,
    critical_path: CriticalPathJson<'a>,
    /// Producer's and consumer's place, and the time between them, negative when their clocks differ.
    queue: Vec<(usize, usize, i64)>,
    ledger: Vec<LedgerJson>,
    /// None where the trace is large: they are asked for apart.
    findings: Option<Vec<Json>>,
    clocks: ClocksJson,
    columns: Columns<'a>,
}

/// Written as it goes: a tree of JSON values of so many numbers would take longer to build than all else.
fn columns_bytes(timed: &Timed, mode: Mode) -> serde_json::Result<Vec<u8>> {
    let trace = &timed.trace;
    let mut facts = trace_facts_in(trace, mode);
    timed.flag(&mut facts);
    let facts = facts;
    let calls: Vec<Call> = trace.spans.iter().map(call).collect();
    let order = tree_order(&facts);
    let mut place_of = vec![0usize; trace.spans.len()];
    for (at, place) in order.iter().enumerate() {
        place_of[*place] = at;
    }
    let offset = |unix_nano: u64| unix_nano.wrapping_sub(facts.start_unix_nano) as i64;
    let segments = facts.critical_path.segments.iter().map(|segment| {
        let place = segment.span.map(|place| place_of[place]);
        (place, offset(segment.start_unix_nano), offset(segment.end_unix_nano))
    });
    let mut entries = ledger(trace, &facts, &calls);
    entries.sort_by_key(|entry| std::cmp::Reverse(trace.spans[entry.client].span.duration_ns()));
    let lines = entries.iter().take(LEDGER).map(|entry| {
        let server = entry.server.map(|server| place_of[server]);
        let client = place_of[entry.client];
        (client, server, entry.before_ns, entry.wire_out_ns, entry.server_ns, entry.wire_back_ns, entry.after_ns)
    });
    let findings =
        (trace.spans.len() <= SPANS_FOR_FINDINGS).then(|| findings_of(trace).iter().map(finding_json).collect());
    let by_service = facts.critical_by_service.iter();
    serde_json::to_vec(&TraceJson {
        trace_id: trace.spans.first().map(|span| span.span.trace_id.to_string()),
        root: facts.root.map(|root| RootJson {
            service: trace.spans[root].resource.service_name(),
            operation: &trace.spans[root].span.name,
            entry: &calls[root].operation,
        }),
        start_unix_nano: facts.start_unix_nano.to_string(),
        duration_ns: facts.duration_ns,
        span_count: trace.spans.len(),
        error_count: facts.error_count,
        services: facts.services.iter().map(|(name, spans)| ServiceJson { name, spans: *spans }).collect(),
        critical_path: CriticalPathJson {
            mode: mode.as_str(),
            segments: segments.collect(),
            by_service: by_service.map(|own| ServiceTimeJson { service: &own.service, ns: own.ns }).collect(),
        },
        queue: queue_hops(trace, &facts)
            .into_iter()
            .map(|hop| (place_of[hop.producer], place_of[hop.consumer], hop.queue_ns))
            .collect(),
        ledger: lines.collect(),
        findings,
        clocks: timed.json(&facts),
        columns: columns_of(trace, &facts, &calls, &order),
    })
}

fn events_json(trace: &Trace) -> Json {
    let facts = trace_facts(trace);
    let mut found = Vec::new();
    for (at, place) in tree_order(&facts).into_iter().enumerate() {
        found.extend(trace.spans[place].span.events.iter().map(|event| (event.time_unix_nano, at, event)));
    }
    found.sort_by_key(|(time, at, _)| (*time, *at));
    let total = found.len();
    let events = found.into_iter().take(EVENTS).map(|(time, at, event)| {
        let time_ns = time.wrapping_sub(facts.start_unix_nano) as i64;
        json!({"place": at, "time_ns": time_ns, "name": event.name, "attributes": attributes_json(&event.attributes)})
    });
    json!({"events": events.collect::<Json>(), "total": total})
}

#[cfg(test)]
mod tests {
    use super::super::aggregate::tests::shop;
    use super::*;
    use spanwise_model::{Event, KeyValue};

    fn columns_json(trace: &Trace) -> Json {
        serde_json::from_slice(&columns_bytes(&Timed::raw(trace.clone()), Mode::default()).unwrap()).unwrap()
    }

    #[test]
    fn columns_stand_in_tree_order_and_name_each_text_once() {
        let mut trace = shop(1, 1_000, 1, true);
        trace.spans.reverse();
        let json = columns_json(&trace);
        let columns = &json["columns"];
        assert_eq!(columns["parent"], json!([-1, 0, 1, 2, 2]));
        assert_eq!(columns["services"], json!(["gateway", "cart"]));
        assert_eq!(columns["service"], json!([0, 0, 1, 1, 1]));
        assert_eq!(columns["kind"], json!([1, 2, 1, 2, 2]));
        assert_eq!(columns["start_ns"][1], 10_000_000);
        assert_eq!(columns["status"], json!([2, 0, 2, 0, 0]));
        assert_eq!(columns["ids"].as_str().unwrap().len(), 16 * 5);
        assert_eq!(&columns["ids"].as_str().unwrap()[..16], "0101010101010101");
        assert_eq!(json["root"]["entry"], "GET /cart");
        let segments = json["critical_path"]["segments"].as_array().unwrap();
        let sum: i64 = segments.iter().map(|own| own[2].as_i64().unwrap() - own[1].as_i64().unwrap()).sum();
        assert_eq!(sum, 100_000_000);
        assert_eq!(json["ledger"][0], json!([1, 2, 10_000_000, 10_000_000, 60_000_000, 10_000_000, 10_000_000]));
    }

    #[test]
    fn the_rule_of_the_critical_path_is_chosen_and_named() {
        for (name, mode) in [("spanwise", Mode::default()), ("jaeger", Mode::parse("jaeger").unwrap())] {
            let bytes = columns_bytes(&Timed::raw(shop(1, 1_000, 1, false)), mode).unwrap();
            let json: Json = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(json["critical_path"]["mode"], name);
            let own: u64 = json["columns"]["critical_ns"].as_array().unwrap().iter().filter_map(Json::as_u64).sum();
            assert_eq!(own, 100_000_000, "{name}");
        }
    }

    #[test]
    fn events_come_in_order_of_time_with_their_span() {
        let mut trace = shop(1, 1_000, 1, false);
        for (place, time, name) in [(0, 90, "late"), (2, 5, "early")] {
            trace.spans[place].span.events.push(Event {
                time_unix_nano: 1_000 + time,
                name: name.to_owned(),
                attributes: vec![KeyValue::new("k", "v")],
                ..Event::default()
            });
        }
        let json = events_json(&trace);
        assert_eq!((&json["events"][0]["name"], &json["events"][0]["place"]), (&json!("early"), &json!(2)));
        assert_eq!(json["events"][1]["time_ns"], 90);
        assert_eq!(json["total"], 2);
        assert_eq!(columns_json(&trace)["columns"]["events"], json!([[0, 1], [2, 1]]));
    }
}
