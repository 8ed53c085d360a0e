//! What the page shows of many traces at once, from the counts of minutes (`counts.rs`) or, where those do not tell,
//! from every trace that started in a window, read once and added up. Each file but these is one address. Answers count traces or requests as often as they stand for others that were sampled away,
//! and say so; and they say when the time for reading ran out.

pub mod counts;
pub mod entry;
pub mod heatmap;
pub mod kinds;
pub mod map;
pub mod services;
mod weighted;

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use spanwise_insight::calls::{Call, call};
use spanwise_insight::weight::{TraceWeight, of_trace_state};
use spanwise_insight::{TraceFacts, trace_facts};
use spanwise_model::Trace;
use spanwise_query::Budget;
use spanwise_wire::decode_trace;

use super::{ApiError, App};
use crate::time_text::parse_time;

pub type Answer = Result<axum::Json<Json>, ApiError>;

pub fn routes() -> Router<App> {
    Router::new()
        .route("/api/spanwise/services/summary", get(services::answer))
        .route("/api/spanwise/heatmap", get(heatmap::answer))
        .route("/api/spanwise/map", get(map::answer))
        .route("/api/spanwise/entry", get(entry::answer))
        .route("/api/spanwise/traces/{id}/kinds", get(kinds::answer))
}

/// Longest that one question may read; what was read until then is a fair sample, since traces come in order of id.
const READING: Duration = Duration::from_secs(8);
/// How long an answer serves again while nothing new is stored, and while something is.
const FRESH_UNCHANGED: Duration = Duration::from_secs(60);
const FRESH: Duration = Duration::from_secs(4);
/// Answers kept.
const ANSWERS: usize = 64;

/// Traces that started in it, both ends included; nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub from: u64,
    pub to: u64,
}

impl Window {
    pub fn seconds(self) -> f64 {
        (self.to.saturating_sub(self.from)) as f64 / 1e9
    }

    /// Which of `count` equal parts of the window a moment lies in.
    pub fn part(self, moment: u64, count: usize) -> usize {
        let length = u128::from(self.to.saturating_sub(self.from)) + 1;
        let at = u128::from(moment.saturating_sub(self.from)) * count as u128 / length;
        usize::try_from(at).unwrap_or(usize::MAX).min(count.saturating_sub(1))
    }
}

#[derive(Debug, Default, Deserialize)]
pub struct WindowParameters {
    pub from: Option<String>,
    pub to: Option<String>,
}

/// One decoded trace with what is known of it.
pub struct Seen<'a> {
    pub trace: &'a Trace,
    pub facts: &'a TraceFacts,
    pub calls: &'a [Call],
    pub weight: TraceWeight,
}

impl Seen<'_> {
    pub fn service(&self, place: usize) -> &str {
        self.trace.spans[place].resource.service_name()
    }

    /// For how many spans this one stands.
    pub fn span_weight(&self, place: usize) -> f64 {
        self.weight.of_span(of_trace_state(&self.trace.spans[place].span.trace_state))
    }

    pub fn is_error(&self, place: usize) -> bool {
        self.trace.spans[place].span.status.code == spanwise_model::StatusCode::Error
    }

    /// Every span, parents before children, without recursion.
    pub fn parents_first(&self) -> Vec<usize> {
        let mut order = self.facts.tree.roots.clone();
        let mut at = 0;
        while let Some(place) = order.get(at).copied() {
            order.extend_from_slice(&self.facts.tree.children[place]);
            at += 1;
        }
        order
    }
}

#[derive(Debug, Default)]
pub struct Read {
    pub traces: usize,
    /// How many traces those stand for.
    pub adjusted: f64,
    pub spans: u64,
    /// False when time ran out before every trace was read.
    pub complete: bool,
}

impl Read {
    /// Counts a trace as read.
    fn note(&mut self, trace: &Trace, weight: &TraceWeight) {
        self.traces += 1;
        self.adjusted += weight.count;
        self.spans += trace.spans.len() as u64;
    }

    /// Adds to an answer what it was made of.
    pub fn put(&self, answer: &mut Json) {
        answer["traces_read"] = json!(self.traces);
        answer["adjusted"] = json!((self.adjusted * 10.0).round() / 10.0);
        answer["sampled"] = json!(self.adjusted > self.traces as f64 + 1e-6);
        answer["spans"] = json!(self.spans);
        answer["complete"] = json!(self.complete);
    }
}

/// Adds up traces; order of arrival must not show.
pub trait Aggregate: Send + 'static {
    fn add(&mut self, seen: &Seen<'_>);
    fn finish(self, read: &Read) -> Json;
}

/// Answers that may serve again.
#[derive(Default)]
pub struct Answers {
    kept: Mutex<HashMap<String, Kept>>,
}

struct Kept {
    at: Instant,
    spans_stored: u64,
    json: Json,
}

impl Answers {
    fn find(&self, key: &str, spans_stored: u64) -> Option<Json> {
        let kept = self.kept.lock();
        let kept = kept.get(key)?;
        let fresh = if kept.spans_stored == spans_stored { FRESH_UNCHANGED } else { FRESH };
        (kept.at.elapsed() < fresh).then(|| kept.json.clone())
    }

    fn keep(&self, key: String, spans_stored: u64, json: Json) {
        let mut kept = self.kept.lock();
        if kept.len() >= ANSWERS
            && let Some(oldest) = kept.iter().min_by_key(|(_, kept)| kept.at).map(|(key, _)| key.clone())
        {
            kept.remove(&oldest);
        }
        kept.insert(key, Kept { at: Instant::now(), spans_stored, json });
    }
}

impl App {
    /// The window asked for, or that of everything stored.
    pub fn window(&self, parameters: &WindowParameters) -> Result<Window, ApiError> {
        let time = |text: &Option<String>| text.as_deref().map(parse_time).transpose().map_err(ApiError::bad_request);
        let (oldest, newest) = self.store.snapshot().starts().unwrap_or((0, 0));
        let (from, to) = match (time(&parameters.from)?, time(&parameters.to)?) {
            (Some(from), Some(to)) if from > to => return Err(ApiError::bad_request("from must not be after to")),
            (from, to) => {
                let to = to.unwrap_or_else(|| newest.max(from.unwrap_or(newest)));
                (from.unwrap_or_else(|| oldest.min(to)), to)
            }
        };
        Ok(Window { from, to })
    }

    /// Reads the traces of a window into `into`; `key` names everything that the answer depends on beside the window.
    pub async fn aggregate<A: Aggregate>(&self, key: String, window: Window, into: A) -> Answer {
        self.answered(key, window, move |snapshot, budget| read(snapshot, window, budget, into)).await
    }
}

fn read<A: Aggregate>(
    snapshot: &spanwise_store::Snapshot,
    window: Window,
    budget: &Budget,
    mut into: A,
) -> Result<Json, ApiError> {
    let started = Instant::now();
    let mut read = Read { complete: true, ..Read::default() };
    for (number, batch) in snapshot.traces(window.from, window.to).map_err(ApiError::internal)?.enumerate() {
        let batch = batch.map_err(ApiError::internal)?;
        let start = batch.spans().iter().map(|span| span.start_unix_nano).min().unwrap_or(0);
        if (window.from..=window.to).contains(&start) {
            let trace = decode_trace(&[batch]);
            let facts = trace_facts(&trace);
            let calls: Vec<Call> = trace.spans.iter().map(call).collect();
            let weight = TraceWeight::of(&trace);
            read.note(&trace, &weight);
            into.add(&Seen { trace: &trace, facts: &facts, calls: &calls, weight });
        }
        if number % 64 == 63 && (budget.cancelled.load(Ordering::Relaxed) || started.elapsed() > budget.time) {
            read.complete = false;
            break;
        }
    }
    Ok(into.finish(&read))
}

pub fn ms(ns: u64) -> f64 {
    ms_of(ns as f64)
}

pub fn ms_of(ns: f64) -> f64 {
    (ns / 1e3).round() / 1e3
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::sync::Arc;

    use spanwise_model::{KeyValue, Resource, Span, SpanId, SpanKind, Status, StatusCode, TraceId, TraceSpan};

    /// `(id, parent, service, name, kind, start, end, failed)`
    pub type Line = (u8, u8, &'static str, &'static str, SpanKind, u64, u64, bool);

    pub fn trace(id: u8, lines: &[Line]) -> Trace {
        let spans = lines.iter().map(|(span, parent, service, name, kind, start, end, failed)| TraceSpan {
            resource: Arc::new(Resource {
                attributes: vec![KeyValue::new("service.name", *service)],
                ..Resource::default()
            }),
            scope: Arc::default(),
            span: Span {
                trace_id: TraceId([id; 16]),
                span_id: SpanId([*span; 8]),
                parent_span_id: (*parent != 0).then_some(SpanId([*parent; 8])),
                name: (*name).to_owned(),
                kind: *kind,
                start_unix_nano: *start,
                end_unix_nano: *end,
                attributes: match name.strip_prefix("sql ") {
                    Some(database) => {
                        vec![KeyValue::new("db.system", "sqlite"), KeyValue::new("db.name", database)]
                    }
                    None if name.starts_with("http ") => {
                        vec![KeyValue::new("http.method", "GET"), KeyValue::new("peer.service", &name[5..])]
                    }
                    None => Vec::new(),
                },
                status: Status {
                    code: if *failed { StatusCode::Error } else { StatusCode::Unset },
                    ..Status::default()
                },
                ..Span::default()
            },
        });
        Trace { spans: spans.collect() }
    }

    pub fn added<A: Aggregate>(mut into: A, traces: &[Trace]) -> Json {
        let mut read = Read { complete: true, ..Read::default() };
        for trace in traces {
            let facts = trace_facts(trace);
            let calls: Vec<Call> = trace.spans.iter().map(call).collect();
            let weight = TraceWeight::of(trace);
            read.note(trace, &weight);
            into.add(&Seen { trace, facts: &facts, calls: &calls, weight });
        }
        into.finish(&read)
    }

    /// The same trace, kept with a probability of one in four.
    pub fn one_of_four(mut trace: Trace) -> Trace {
        trace.spans.iter_mut().for_each(|span| span.span.trace_state = "ot=th:c".to_owned());
        trace
    }

    /// A gateway asks a cart, which asks its database and a host that sends no spans.
    pub fn shop(id: u8, start: u64, scale: u64, failed: bool) -> Trace {
        use SpanKind::{Client, Server};
        let at = |ms: u64| start + ms * scale * 1_000_000;
        trace(
            id,
            &[
                (1, 0, "gateway", "GET /cart", Server, at(0), at(100), failed),
                (2, 1, "gateway", "call cart", Client, at(10), at(90), false),
                (3, 2, "cart", "read cart", Server, at(20), at(80), failed),
                (4, 3, "cart", "sql items", Client, at(20), at(50), false),
                (5, 3, "cart", "http prices.example", Client, at(50), at(70), false),
            ],
        )
    }

    #[test]
    fn a_window_is_cut_into_equal_parts() {
        let window = Window { from: 100, to: 199 };
        for (moment, part) in [(0, 0), (100, 0), (149, 4), (150, 5), (199, 9), (500, 9)] {
            assert_eq!(window.part(moment, 10), part, "{moment}");
        }
        assert_eq!(Window { from: 5, to: 5 }.part(5, 10), 0);
    }

    #[test]
    fn answers_serve_again_while_nothing_changed() {
        let answers = Answers::default();
        answers.keep("a".to_owned(), 1, Json::Bool(true));
        assert_eq!(answers.find("a", 1), Some(Json::Bool(true)));
        assert_eq!(answers.find("b", 1), None);
        for number in 0..ANSWERS {
            answers.keep(number.to_string(), 1, Json::Null);
        }
        assert_eq!(answers.kept.lock().len(), ANSWERS);
    }
}
