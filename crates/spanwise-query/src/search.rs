//! Search: the newest traces that have spans in the set.
//!
//! Parts are read newest first. A span that may be in the set makes its trace a candidate; candidates are fetched
//! whole, newest first, and judged as a whole, so that what is asked of the trace is answered wherever its spans lie.
//! Reading stops as soon as no older part can hold a newer trace.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustc_hash::{FxHashMap, FxHashSet};
use spanwise_model::{SpanId, TraceId, limits};
use spanwise_store::block::BlockError;
use spanwise_store::block::filter::Candidates;
use spanwise_store::snapshot::{Part, Snapshot};
use spanwise_wire::{Batch, view};

use crate::pushdown;
use crate::trace_view::TraceView;
use crate::traceql::ast::{Query, Spanset};
use crate::traceql::{Context, EvalError, Truth};

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

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatchedSpan {
    pub span_id: SpanId,
    pub name: String,
    pub start_unix_nano: u64,
    pub duration_ns: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceSummary {
    pub trace_id: TraceId,
    /// Service and operation of the root span, once it is there.
    pub root: Option<(String, String)>,
    pub start_unix_nano: u64,
    pub duration_ns: u64,
    pub span_count: u64,
    pub error_count: u64,
    pub services: Vec<ServiceCount>,
    /// Spans in the set.
    pub matched: u64,
    pub spans: Vec<MatchedSpan>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
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
    #[error(transparent)]
    Query(#[from] EvalError),
    #[error(transparent)]
    Store(#[from] BlockError),
}

struct Search<'a> {
    request: &'a SearchRequest,
    snapshot: &'a Snapshot,
    started: Instant,
    response: SearchResponse,
    judged: FxHashSet<TraceId>,
    /// Start and id of each result, newest first.
    found: BTreeMap<(std::cmp::Reverse<u64>, TraceId), TraceSummary>,
    limit: usize,
}

/// Runs a search on this thread, which may block on the disk.
///
/// # Errors
/// When the query is wrong for a value it meets, or a block cannot be read.
pub fn search(snapshot: &Snapshot, request: &SearchRequest) -> Result<SearchResponse, SearchError> {
    let mut search = Search {
        request,
        snapshot,
        started: Instant::now(),
        response: SearchResponse { complete: true, ..SearchResponse::default() },
        judged: FxHashSet::default(),
        found: BTreeMap::new(),
        limit: request.limit.clamp(1, limits::SEARCH_LIMIT),
    };
    let predicate = pushdown::predicate(&request.query.spanset);
    let parts: Vec<_> = snapshot.parts().into_iter().filter(|(low, high, _)| search.may_overlap(*low, *high)).collect();
    // As many blocks at a time as there are cores: what is read in vain when the first suffices costs no time.
    let at_once = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    for wave in parts.chunks(at_once) {
        if wave.first().is_some_and(|(_, high, _)| search.is_settled(*high)) {
            break;
        }
        let cancelled = || search.is_over();
        let look = |part: &Part<'_>| match part {
            Part::Block(block) if !cancelled() => Some(block.candidates(&predicate)),
            _ => None,
        };
        let look = &look;
        let mut found: Vec<Option<Result<Candidates, BlockError>>> = std::thread::scope(|scope| {
            let (first, rest) = (wave.first(), wave.get(1..).unwrap_or_default());
            let others: Vec<_> = rest.iter().map(|(_, _, part)| scope.spawn(move || look(part))).collect();
            let first = first.and_then(|(_, _, part)| look(part));
            std::iter::once(first).chain(others.into_iter().map(|other| other.join().unwrap_or(None))).collect()
        });
        for ((_, high, part), found) in wave.iter().zip(found.drain(..)) {
            if search.is_settled(*high) {
                break;
            }
            search.part(part, found.transpose()?, predicate.is_exact())?;
            if search.is_over() {
                break;
            }
        }
        if search.is_over() {
            search.response.complete = false;
            break;
        }
    }
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

    /// Nothing that starts at `start` or before can enter the result any more.
    fn is_settled(&self, start: u64) -> bool {
        self.found.len() >= self.limit
            && self.found.last_key_value().is_some_and(|((std::cmp::Reverse(oldest), _), _)| *oldest > start)
    }

    fn may_overlap(&self, low: u64, high: u64) -> bool {
        let is_late = self.request.to_unix_nano.is_some_and(|to| low > to);
        // A span that began long before the window may reach into it; a day is more than any span lasts.
        let is_early = self.request.from_unix_nano.is_some_and(|from| high.saturating_add(DAY) < from);
        !is_late && !is_early
    }

    fn part(&mut self, part: &Part<'_>, found: Option<Candidates>, is_exact: bool) -> Result<(), SearchError> {
        match (part, found) {
            (Part::Head(head), _) => {
                let mut candidates = FxHashMap::default();
                for batch in head.batches() {
                    self.look(&batch, &mut candidates)?;
                    if self.is_over() {
                        return Ok(());
                    }
                }
                self.judge_all(candidates.into_iter().filter(|(_, (_, may))| *may).map(|(id, (start, _))| (start, id)))
            }
            (Part::Block(block), Some(found)) if is_exact => {
                self.response.inspected_spans += block.len_spans();
                self.response.inspected_bytes += found.inspected_bytes;
                let mut traces = found.traces;
                traces.sort_unstable_by_key(|trace| std::cmp::Reverse(trace.start_unix_nano));
                for candidate in traces {
                    // Of equal starts the ids decide, and those are not known yet.
                    if self.is_settled(candidate.start_unix_nano) || self.is_over() {
                        break;
                    }
                    self.judge(block.trace_at(candidate.row)?)?;
                }
                Ok(())
            }
            (Part::Block(block), Some(found)) => {
                self.response.inspected_bytes += found.inspected_bytes;
                let starts: FxHashMap<u32, u64> =
                    found.traces.iter().map(|trace| (trace.row, trace.start_unix_nano)).collect();
                let mut candidates = FxHashMap::default();
                for batch in block.scan_rows(&found.rows)? {
                    self.look(&batch?, &mut candidates)?;
                    if self.is_over() {
                        return Ok(());
                    }
                }
                // The rows that were looked at need not be a trace's first.
                let start_of = |id: &TraceId, seen: u64| {
                    block.first_row(id).and_then(|row| starts.get(&row)).map_or(seen, |start| seen.min(*start))
                };
                let candidates = candidates.into_iter().filter(|(_, (_, may))| *may);
                self.judge_all(candidates.map(|(id, (start, _))| (start_of(&id, start), id)).collect::<Vec<_>>())
            }
            // Cancelled before it was looked at.
            (Part::Block(_), None) => Ok(()),
        }
    }

    /// Judges traces, newest first, until no older one can enter the result.
    fn judge_all(&mut self, candidates: impl IntoIterator<Item = (u64, TraceId)>) -> Result<(), SearchError> {
        let mut candidates: Vec<_> = candidates.into_iter().filter(|(_, id)| !self.judged.contains(id)).collect();
        candidates.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        for (start, id) in candidates {
            if self.is_settled(start) || self.is_over() {
                break;
            }
            self.judge(id)?;
        }
        Ok(())
    }

    /// Notes the traces of these spans: earliest start seen, and whether a span may be in the set.
    fn look(&mut self, batch: &Batch, candidates: &mut FxHashMap<TraceId, (u64, bool)>) -> Result<(), SearchError> {
        self.response.inspected_spans += batch.len_spans() as u64;
        self.response.inspected_bytes += batch.bytes().len() as u64;
        for (place, span) in batch.spans().iter().enumerate() {
            let candidate = candidates.entry(span.trace_id).or_insert((span.start_unix_nano, false));
            candidate.0 = candidate.0.min(span.start_unix_nano);
            if !candidate.1 {
                let context = Context { piece: batch.piece(place), span, trace: None };
                candidate.1 = may_match(&self.request.query.spanset, &context)?;
            }
        }
        Ok(())
    }

    /// Decides about a whole trace.
    fn judge(&mut self, id: TraceId) -> Result<(), SearchError> {
        if !self.judged.insert(id) {
            return Ok(());
        }
        let Some(trace) = self.snapshot.trace(&id)? else { return Ok(()) };
        let view = TraceView::of(&trace);
        let end = view.start_unix_nano.saturating_add(view.duration_ns);
        if self.request.from_unix_nano.is_some_and(|from| end < from)
            || self.request.to_unix_nano.is_some_and(|to| view.start_unix_nano > to)
        {
            return Ok(());
        }
        let Some(matched) = select(&self.request.query.spanset, &trace, &view)? else { return Ok(()) };
        let summary = summarize(&trace, &view, &matched, self.request.spans_per_trace);
        self.found.insert((std::cmp::Reverse(view.start_unix_nano), id), summary);
        while self.found.len() > self.limit {
            self.found.pop_last();
        }
        Ok(())
    }
}

/// Whether a span alone leaves it possible that its trace matches.
fn may_match(spanset: &Spanset, context: &Context<'_>) -> Result<bool, EvalError> {
    match spanset {
        Spanset::Filter(None) => Ok(true),
        Spanset::Filter(Some(filter)) => Ok(filter.holds(context)? != Truth::No),
        // For `&&` one side suffices to look closer.
        Spanset::And(left, right) | Spanset::Or(left, right) => {
            Ok(may_match(left, context)? || may_match(right, context)?)
        }
    }
}

/// Places of the spans in the set; `None` when the trace does not match.
fn select(spanset: &Spanset, trace: &Batch, view: &TraceView) -> Result<Option<Vec<usize>>, EvalError> {
    let union = |left: Vec<usize>, right: Vec<usize>| {
        let mut all: Vec<usize> = left.into_iter().chain(right).collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    Ok(match spanset {
        Spanset::Filter(filter) => {
            let mut places = Vec::new();
            for (place, span) in trace.spans().iter().enumerate() {
                let context = Context { piece: trace.piece(place), span, trace: Some((view, place)) };
                let holds = match filter {
                    None => true,
                    Some(filter) => filter.holds(&context)? == Truth::Yes,
                };
                if holds {
                    places.push(place);
                }
            }
            (!places.is_empty()).then_some(places)
        }
        Spanset::And(left, right) => match (select(left, trace, view)?, select(right, trace, view)?) {
            (Some(left), Some(right)) => Some(union(left, right)),
            _ => None,
        },
        Spanset::Or(left, right) => match (select(left, trace, view)?, select(right, trace, view)?) {
            (Some(left), Some(right)) => Some(union(left, right)),
            (left, right) => left.or(right),
        },
    })
}

fn summarize(trace: &Batch, trace_view: &TraceView, matched: &[usize], spans_per_trace: usize) -> TraceSummary {
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
    let spans = matched.iter().take(spans_per_trace).filter_map(|place| {
        let span = trace.spans().get(*place)?;
        Some(MatchedSpan {
            span_id: span.span_id,
            name: view::span_name(trace.span_bytes(*place)).to_owned(),
            start_unix_nano: span.start_unix_nano,
            duration_ns: span.duration_ns(),
        })
    });
    TraceSummary {
        trace_id: trace.spans().first().map(|span| span.trace_id).unwrap_or_default(),
        root: trace_view.root.clone(),
        start_unix_nano: trace_view.start_unix_nano,
        duration_ns: trace_view.duration_ns,
        span_count: trace.len_spans() as u64,
        error_count: services.iter().map(|service| service.errors).sum(),
        matched: matched.len() as u64,
        spans: spans.collect(),
        services,
    }
}

#[cfg(test)]
mod tests;
