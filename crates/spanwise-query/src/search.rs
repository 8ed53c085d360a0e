//! Search: the newest traces that have spans in the set, or those with the longest.
//!
//! Parts are looked through in steps, those that can hold the newest traces first (`search/sources.rs`). A span that may
//! be in the set makes its trace a candidate; candidates are fetched whole, newest first, and judged as a whole, so that
//! what is asked of the trace is answered wherever its spans lie. Reading stops as soon as no step can bring a newer one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustc_hash::{FxHashMap, FxHashSet};
use spanwise_insight::weight::is_rate_key;
use spanwise_model::{KeyValue, SpanId, TraceId, Value, limits};
use spanwise_store::block::filter::Candidate;
use spanwise_store::block::{BlockError, BlockReader, Order};
use spanwise_store::snapshot::Snapshot;
use spanwise_wire::{Batch, SpanRef, view};

use crate::pushdown;
use crate::trace_view::TraceView;
use crate::traceql::ast::{Expr, Intrinsic, Literal, Pipeline, Query, Root, Spanset, Stage};
use crate::traceql::run::{Group, run, shown};
use crate::traceql::{Context, EvalError, Truth};

mod sources;

/// What a query may cost. Shared with whoever may want to stop it.
#[derive(Debug, Clone)]
pub struct Budget {
    pub time: Duration,
    pub spans: u64,
    /// Set when nobody waits for the answer any more.
    pub cancelled: Arc<AtomicBool>,
}

impl Default for Budget {
    fn default() -> Self {
        Self { time: Duration::from_secs(30), spans: u64::MAX, cancelled: Arc::default() }
    }
}

#[derive(Debug, Clone)]
pub struct SearchRequest {
    pub query: Query,
    /// Traces that overlap this window; nanoseconds since 1970.
    pub from_unix_nano: Option<u64>,
    pub to_unix_nano: Option<u64>,
    pub limit: usize,
    pub spans_per_trace: usize,
    pub budget: Budget,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceCount {
    pub name: String,
    pub spans: u64,
    pub errors: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct MatchedSpan {
    pub span_id: SpanId,
    pub name: String,
    pub start_unix_nano: u64,
    pub duration_ns: u64,
    /// What the conditions and `select` name: key without its scope, and value.
    pub attributes: Vec<KeyValue>,
}

/// One of several when the query says `by(…)`.
#[derive(Debug, Clone, PartialEq)]
pub struct SpanSet {
    pub matched: u64,
    /// At most [`SearchRequest::spans_per_trace`].
    pub spans: Vec<MatchedSpan>,
    /// As in `by(name)` or `count()`, with the value.
    pub attributes: Vec<KeyValue>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct TraceSummary {
    pub trace_id: TraceId,
    /// Service and operation of the root span, once it is there.
    pub root: Option<(String, String)>,
    pub start_unix_nano: u64,
    pub duration_ns: u64,
    pub span_count: u64,
    pub error_count: u64,
    pub services: Vec<ServiceCount>,
    /// Spans in the sets.
    pub matched: u64,
    /// For how many traces it stands, where others were sampled away.
    pub weight: f64,
    /// At least one.
    pub span_sets: Vec<SpanSet>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct SearchResponse {
    /// Newest first, ties by id.
    pub traces: Vec<TraceSummary>,
    /// False when the budget ended before the answer was certain.
    pub complete: bool,
    pub inspected_spans: u64,
    pub inspected_bytes: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    #[error("cannot sort by {0:?}: \"start\" (newest first, as without the hint) and \"duration\" (longest first) are")]
    Sort(String),
    #[error("the query makes series of numbers, and a search was asked for: leave out the metrics function")]
    IsMetrics,
    #[error(transparent)]
    Query(#[from] EvalError),
    #[error(transparent)]
    Store(#[from] BlockError),
}

/// By the longest span that matches: `with(sort="duration")`, which Tempo does not know.
fn order_of(query: &Query) -> Result<Order, SearchError> {
    match query.hints.iter().rev().find(|(name, _)| name == "sort") {
        None => Ok(Order::Newest),
        Some((_, Literal::String(by))) if by == "start" => Ok(Order::Newest),
        Some((_, Literal::String(by))) if by == "duration" => Ok(Order::Longest),
        Some((_, other)) => Err(SearchError::Sort(other.to_string())),
    }
}

struct Search<'a> {
    request: &'a SearchRequest,
    pipeline: &'a Pipeline,
    /// What a trace must have a span of: see [`pushdown::necessary`].
    necessary: &'a [Option<&'a Expr>],
    /// What is shown of each matched span.
    fields: Vec<(String, &'a Expr)>,
    /// Keys of the attributes that are looked at; `None` when all may be.
    keys: Option<Vec<&'a str>>,
    snapshot: &'a Snapshot,
    started: Instant,
    response: SearchResponse,
    judged: FxHashSet<TraceId>,
    /// Traces whose start is known, wherever it lies.
    dated: FxHashSet<TraceId>,
    order: Order,
    /// Start or longest match, and id, of each result: the greatest first.
    found: BTreeMap<(std::cmp::Reverse<u64>, TraceId), TraceSummary>,
    limit: usize,
}

/// Runs a search on this thread, which may block on the disk.
///
/// # Errors
/// When the query is wrong for a value it meets, or a block cannot be read.
pub fn search(snapshot: &Snapshot, request: &SearchRequest) -> Result<SearchResponse, SearchError> {
    let Root::Search(pipeline) = &request.query.root else { return Err(SearchError::IsMetrics) };
    let necessary = pushdown::necessary(pipeline, &pushdown::estimate(snapshot));
    let mut search = Search {
        request,
        pipeline,
        necessary: &necessary,
        fields: if request.spans_per_trace > 0 { shown_fields(pipeline) } else { Vec::new() },
        keys: keys_of(pipeline),
        snapshot,
        started: Instant::now(),
        response: SearchResponse { complete: true, ..SearchResponse::default() },
        judged: FxHashSet::default(),
        dated: FxHashSet::default(),
        order: order_of(&request.query)?,
        found: BTreeMap::new(),
        limit: request.limit.clamp(1, limits::SEARCH_LIMIT),
    };
    if let Some(id) = pushdown::single_trace(&necessary) {
        search.judge_chunk(&[(u64::MAX, id)])?;
        search.response.traces = search.found.into_values().collect();
        return Ok(search.response);
    }
    let predicate = pushdown::predicate(&necessary);
    search.look_through(&predicate)?;
    search.response.traces = search.found.into_values().collect();
    Ok(search.response)
}

const MOST_THREADS: usize = 8;

const DAY: u64 = 86_400_000_000_000;

impl Search<'_> {
    fn is_over(&self) -> bool {
        let budget = &self.request.budget;
        budget.cancelled.load(Ordering::Relaxed)
            || self.started.elapsed() > budget.time
            || self.response.inspected_spans > budget.spans
    }

    /// No trace whose start, or longest match, is at most this can enter the result any more.
    fn is_settled(&self, bound: u64) -> bool {
        self.found.len() >= self.limit
            && self.found.last_key_value().is_some_and(|((std::cmp::Reverse(last), _), _)| *last > bound)
    }

    fn may_overlap(&self, low: u64, high: u64) -> bool {
        let is_late = self.request.to_unix_nano.is_some_and(|to| low > to);
        // A span that began long before the window may reach into it; a day is more than any span lasts.
        let is_early = self.request.from_unix_nano.is_some_and(|from| high.saturating_add(DAY) < from);
        !is_late && !is_early
    }

    /// Leaves out the traces that end before the window or start after it, unless they have more spans elsewhere.
    fn without_outsiders(&self, block: &BlockReader, traces: &[Candidate]) -> Result<Vec<Candidate>, SearchError> {
        let (from, to) = (self.request.from_unix_nano, self.request.to_unix_nano);
        let is_outside = |trace: &Candidate| {
            from.is_some_and(|from| trace.end_unix_nano < from) || to.is_some_and(|to| trace.start_unix_nano > to)
        };
        let (outside, mut inside): (Vec<Candidate>, Vec<Candidate>) =
            traces.iter().partition(|trace| is_outside(trace));
        if !outside.is_empty() {
            let rows: Vec<u32> = outside.iter().map(|trace| trace.row).collect();
            let ids = block.trace_ids(&rows)?;
            let elsewhere = self.snapshot.are_elsewhere(&ids, block);
            inside.extend(
                outside.iter().zip(elsewhere).filter(|(_, is_elsewhere)| *is_elsewhere).map(|(trace, _)| *trace),
            );
        }
        Ok(inside)
    }

    /// Only of a plain filter are the spans that match among those that its conditions were tried on.
    fn is_plain(&self) -> bool {
        matches!(self.pipeline.stages.as_slice(), [Stage::Spanset(Spanset::Filter(_)), rest @ ..]
            if rest.iter().all(|stage| matches!(stage, Stage::Select(_))))
    }

    /// What a trace's place in the order is at most, told from spans that may be in the set.
    fn bound(&self, start_unix_nano: u64, longest_ns: u64) -> u64 {
        match self.order {
            Order::Newest => start_unix_nano,
            Order::Longest if self.is_plain() => longest_ns,
            Order::Longest => u64::MAX,
        }
    }

    /// How many traces to fetch before it is known which of them are in the result.
    fn worth_fetching(&self) -> usize {
        self.limit.saturating_sub(self.found.len()).clamp(MOST_THREADS / 2, 4 * MOST_THREADS)
    }

    /// Fetches traces, some at a time, and decides about each.
    fn judge_chunk(&mut self, chunk: &[(u64, TraceId)]) -> Result<(), SearchError> {
        let chunk: Vec<_> = chunk.iter().filter(|(_, id)| !self.judged.contains(id)).copied().collect();
        let is_wanted = |key: &str| is_rate_key(key) || self.keys.as_ref().is_some_and(|keys| keys.contains(&key));
        let traces = on_all_cores(&chunk, |(_, id)| match self.is_over() {
            true => Ok(None),
            false if self.keys.is_some() => self.snapshot.trace_with(id, &is_wanted),
            false => self.snapshot.trace(id),
        });
        for ((bound, id), trace) in chunk.iter().zip(traces) {
            if self.is_settled(*bound) {
                break;
            }
            let trace = trace?;
            if let (true, Some(trace)) = (self.judged.insert(*id), trace) {
                self.judge(*id, &trace)?;
            }
        }
        Ok(())
    }

    /// Notes the traces of these spans.
    fn look(&mut self, batch: &Batch, candidates: &mut FxHashMap<TraceId, Seen>) -> Result<(), SearchError> {
        self.response.inspected_spans += batch.len_spans() as u64;
        self.response.inspected_bytes += batch.bytes().len() as u64;
        for (place, span) in batch.spans().iter().enumerate() {
            let seen = candidates.entry(span.trace_id).or_insert(Seen {
                start_unix_nano: span.start_unix_nano,
                longest_ns: 0,
                may_match: false,
            });
            seen.start_unix_nano = seen.start_unix_nano.min(span.start_unix_nano);
            if !seen.may_match || self.order == Order::Longest {
                let context = Context { piece: batch.piece(place), span, trace: None };
                if may_match(self.necessary, &context)? {
                    seen.may_match = true;
                    seen.longest_ns = seen.longest_ns.max(span.duration_ns());
                }
            }
        }
        Ok(())
    }

    /// Decides about a whole trace.
    fn judge(&mut self, id: TraceId, trace: &Batch) -> Result<(), SearchError> {
        let view = TraceView::of(trace);
        let end = view.start_unix_nano.saturating_add(view.duration_ns);
        if self.request.from_unix_nano.is_some_and(|from| end < from)
            || self.request.to_unix_nano.is_some_and(|to| view.start_unix_nano > to)
        {
            return Ok(());
        }
        let groups = run(self.pipeline, &view)?;
        if groups.is_empty() {
            return Ok(());
        }
        let place = match self.order {
            Order::Newest => view.start_unix_nano,
            Order::Longest => {
                let matched = groups.iter().flat_map(|group| &group.places);
                matched.filter_map(|place| trace.spans().get(*place)).map(SpanRef::duration_ns).max().unwrap_or(0)
            }
        };
        let summary = self.summarize(&view, &groups)?;
        self.found.insert((std::cmp::Reverse(place), id), summary);
        while self.found.len() > self.limit {
            self.found.pop_last();
        }
        Ok(())
    }
}

/// What is known of a trace from some of its spans.
struct Seen {
    start_unix_nano: u64,
    /// Of spans that may match.
    longest_ns: u64,
    may_match: bool,
}

/// Calls for each item on as many threads as there are cores; the answers are in the order of the items.
fn on_all_cores<T: Sync, R: Send>(items: &[T], answer: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    let share = items.len().div_ceil(threads).max(1);
    let of_share = |share: &[T]| share.iter().map(&answer).collect::<Vec<_>>();
    let of_share = &of_share;
    let mut shares = items.chunks(share);
    let first = shares.next().unwrap_or_default();
    std::thread::scope(|scope| {
        let others: Vec<_> = shares.map(|share| scope.spawn(move || of_share(share))).collect();
        let mut answers = of_share(first);
        for other in others {
            // A thread ends without an answer only by a panic, which goes on here.
            answers.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        answers
    })
}

/// Whether a span alone leaves it possible that its trace matches.
pub(crate) fn may_match(necessary: &[Option<&Expr>], context: &Context<'_>) -> Result<bool, EvalError> {
    for condition in necessary {
        match condition {
            Some(condition) if condition.holds(context)? == Truth::No => {}
            _ => return Ok(true),
        }
    }
    Ok(false)
}

/// Keys of the attributes that a pipeline looks at; `None` when it asks what only all of them tell.
fn keys_of(pipeline: &Pipeline) -> Option<Vec<&str>> {
    fn of(field: &Expr) -> Option<Option<&str>> {
        match field {
            Expr::Attribute(_, key) => Some(Some(key)),
            Expr::Parent(inner) => of(inner),
            Expr::Intrinsic(
                Intrinsic::SelfTime | Intrinsic::CriticalTime | Intrinsic::TraceShape | Intrinsic::TraceFinding,
            ) => None,
            Expr::Intrinsic(_) | Expr::Literal(_) => Some(None),
            _ => None,
        }
    }
    let keys: Option<Vec<Option<&str>>> = pipeline.fields().into_iter().map(of).collect();
    Some(keys?.into_iter().flatten().collect())
}

/// The fields that answers show of each span, without those that every answer shows anyway. As in Tempo's API their
/// names stand without a scope.
fn shown_fields(pipeline: &Pipeline) -> Vec<(String, &Expr)> {
    let shows = |field: &&Expr| match field {
        Expr::Intrinsic(intrinsic) => !matches!(
            intrinsic,
            Intrinsic::Name
                | Intrinsic::Duration
                | Intrinsic::SpanId
                | Intrinsic::TraceId
                | Intrinsic::TraceDuration
                | Intrinsic::TraceRootName
                | Intrinsic::TraceRootService
        ),
        _ => true,
    };
    let name = |field: &Expr| match field {
        Expr::Attribute(_, key) => key.clone(),
        field => field.to_string(),
    };
    pipeline.fields().into_iter().filter(shows).map(|field| (name(field), field)).collect()
}

impl Search<'_> {
    fn summarize(&self, trace_view: &TraceView<'_>, groups: &[Group]) -> Result<TraceSummary, EvalError> {
        let trace = trace_view.batch;
        let mut services: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for (place, span) in trace.spans().iter().enumerate() {
            let service = view::service_name(trace.piece(place).resource).unwrap_or("unknown_service");
            let counts = services.entry(service).or_default();
            counts.0 += 1;
            counts.1 += u64::from(span.status == 2);
        }
        let mut services: Vec<_> = services
            .into_iter()
            .map(|(name, (spans, errors))| ServiceCount { name: name.to_owned(), spans, errors })
            .collect();
        services.sort_by_key(|service| std::cmp::Reverse(service.spans));
        let span_sets = groups.iter().map(|group| self.span_set(trace_view, group)).collect::<Result<Vec<_>, _>>()?;
        Ok(TraceSummary {
            trace_id: trace.spans().first().map(|span| span.trace_id).unwrap_or_default(),
            root: trace_view.root.map(|(service, name)| (service.to_owned(), name.to_owned())),
            start_unix_nano: trace_view.start_unix_nano,
            duration_ns: trace_view.duration_ns,
            span_count: trace.len_spans() as u64,
            error_count: services.iter().map(|service| service.errors).sum(),
            matched: span_sets.iter().map(|set| set.matched).sum(),
            span_sets,
            services,
            weight: trace_view.weight().count,
        })
    }

    fn span_set(&self, view: &TraceView<'_>, group: &Group) -> Result<SpanSet, EvalError> {
        let mut spans = Vec::new();
        for place in group.places.iter().take(self.request.spans_per_trace) {
            let Some(context) = view.context(*place) else { continue };
            let mut attributes = Vec::new();
            for (name, field) in &self.fields {
                match shown(&field.value(&context)?, field.is_duration()) {
                    Value::Empty => {}
                    value => attributes.push(KeyValue { key: name.clone(), value }),
                }
            }
            spans.push(MatchedSpan {
                span_id: context.span.span_id,
                name: view::span_name(context.piece.span).to_owned(),
                start_unix_nano: context.span.start_unix_nano,
                duration_ns: context.span.duration_ns(),
                attributes,
            });
        }
        let attributes =
            group.attributes.iter().map(|(key, value)| KeyValue { key: key.clone(), value: value.clone() });
        Ok(SpanSet { matched: group.places.len() as u64, spans, attributes: attributes.collect() })
    }
}

#[cfg(test)]
pub(crate) mod tests;
