//! Series of numbers out of stored traces: what a TraceQL query answers that ends in `rate()` or its like.
//!
//! Every trace that may matter is read whole and once, wherever its spans lie; the spans that its pipeline leaves and
//! that start in the range are counted. Intervals are open on the left and closed on the right, and are called by
//! their right edge, as in Tempo.

mod accumulate;
mod compare;
mod series;

use std::time::Instant;

use rustc_hash::FxHashSet;
use spanwise_model::{SpanId, TraceId, Value};
use spanwise_store::block::BlockError;
use spanwise_store::block::filter::Note;
use spanwise_store::snapshot::{Part, Snapshot};
use spanwise_wire::Batch;

use crate::pushdown;
use crate::search::{Budget, may_match};
use crate::trace_view::TraceView;
use crate::traceql::ast::{Arithmetic, Expr, Function, Literal, Metrics, Pipeline, Query, Root};
use crate::traceql::run::run;
use crate::traceql::{Context, EvalError};
use accumulate::Accumulator;

/// Most intervals of one answer.
const MOST_INTERVALS: u64 = 11_000;
/// Most exemplars of one answer.
const MOST_EXEMPLARS: usize = 100;

#[derive(Debug, Clone)]
pub struct MetricsRequest {
    pub query: Query,
    pub start_unix_nano: u64,
    pub end_unix_nano: u64,
    /// `None`: the whole range is one interval.
    pub step_ns: Option<u64>,
    /// How many example spans to show, in all.
    pub exemplars: usize,
    pub budget: Budget,
}

/// A label's name and value; `Empty` where spans have none.
pub type Label = (String, Value);

#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub unix_nano: u64,
    pub value: f64,
    pub labels: Vec<Label>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    pub labels: Vec<Label>,
    /// Right edge of the interval in nanoseconds, and value; intervals without a value are left out.
    pub samples: Vec<(u64, f64)>,
    pub exemplars: Vec<Exemplar>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct MetricsResponse {
    /// In order of their labels.
    pub series: Vec<Series>,
    /// False when the budget ended before everything was counted, or there were more series than an answer may hold.
    pub complete: bool,
    /// Spans were counted as often as they stand for others that were sampled away.
    pub is_weighted: bool,
    pub inspected_spans: u64,
    pub inspected_bytes: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    #[error("the query is a search, and series were asked for: end it in a metrics function, as in | rate()")]
    IsSearch,
    #[error("cannot use the range: {0}")]
    Range(String),
    #[error(transparent)]
    Query(#[from] EvalError),
    #[error(transparent)]
    Store(#[from] BlockError),
}

/// The intervals of an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Grid {
    /// Left edge of the first interval; not part of it.
    low: u64,
    step: u64,
    count: usize,
    /// Right edge of the first interval.
    first_edge: u64,
    seconds: f64,
}

impl Grid {
    fn of(request: &MetricsRequest) -> Result<Grid, MetricsError> {
        let (start, end) = (request.start_unix_nano, request.end_unix_nano);
        if end <= start {
            return Err(MetricsError::Range("it ends before it starts".to_owned()));
        }
        let Some(step) = request.step_ns else {
            // Both ends belong to it.
            let (low, step) = (start.saturating_sub(1), (end - start).saturating_add(1));
            return Ok(Grid { low, step, count: 1, first_edge: end, seconds: (end - start) as f64 / 1e9 });
        };
        let step = step.max(1);
        let first_edge = start - start % step;
        let last_edge = end.div_ceil(step).saturating_mul(step);
        let count = (last_edge - first_edge) / step + 1;
        if count > MOST_INTERVALS {
            return Err(MetricsError::Range(format!(
                "{count} intervals are more than {MOST_INTERVALS}: take a longer step or a shorter range"
            )));
        }
        let low = first_edge.saturating_sub(step);
        Ok(Grid { low, step, count: count as usize, first_edge, seconds: step as f64 / 1e9 })
    }

    fn interval(&self, unix_nano: u64) -> Option<usize> {
        let past = unix_nano.checked_sub(self.low)?.checked_sub(1)?;
        usize::try_from(past / self.step).ok().filter(|interval| *interval < self.count)
    }

    fn edge(&self, interval: usize) -> u64 {
        self.first_edge.saturating_add((interval as u64).saturating_mul(self.step))
    }

    fn high(&self) -> u64 {
        self.edge(self.count.saturating_sub(1))
    }
}

/// A step that makes about 240 intervals of a range, as Tempo chooses it.
pub fn default_step_ns(range_ns: u64) -> u64 {
    const SECOND: u64 = 1_000_000_000;
    let wanted = range_ns / 240;
    let units = [3_600, 300, 60, 15, 5, 1].map(|seconds| seconds * SECOND);
    match units.into_iter().find(|unit| wanted >= *unit) {
        Some(unit) => wanted / unit * unit,
        None => (wanted / 50_000_000 * 50_000_000).max(50_000_000),
    }
}

/// One metrics function of the query, with what it has counted so far.
struct Leaf<'a> {
    pipeline: &'a Pipeline,
    necessary: Vec<Option<&'a Expr>>,
    function: &'a Function,
    by: &'a [Expr],
    accumulator: Accumulator,
}

struct Reader<'a> {
    request: &'a MetricsRequest,
    snapshot: &'a Snapshot,
    grid: Grid,
    started: Instant,
    leaves: Vec<Leaf<'a>>,
    /// Counts are of what there was before sampling; `with(weighted=false)` asks for what is stored.
    is_weighted: bool,
    response: MetricsResponse,
}

/// Runs a metrics query on this thread, which may block on the disk.
///
/// # Errors
/// When the query is a search or wrong for a value it meets, the range is none, or a block cannot be read.
pub fn metrics(snapshot: &Snapshot, request: &MetricsRequest) -> Result<MetricsResponse, MetricsError> {
    let Root::Metrics(query) = &request.query.root else { return Err(MetricsError::IsSearch) };
    let grid = Grid::of(request)?;
    let wanted = request.query.hints.iter().rev().find(|(name, _)| name == "exemplars");
    let exemplars = match wanted {
        Some((_, Literal::Int(count))) => usize::try_from(*count).unwrap_or(0),
        Some((_, Literal::Bool(false))) => 0,
        Some((_, Literal::Bool(true))) => MOST_EXEMPLARS,
        _ => request.exemplars,
    };
    let hint = request.query.hints.iter().rev().find(|(name, _)| name == "weighted");
    let is_weighted = !matches!(hint, Some((_, Literal::Bool(false))));
    let mut leaves = Vec::new();
    let most = exemplars.min(MOST_EXEMPLARS);
    collect_leaves(query, &grid, most, &pushdown::estimate(snapshot), &mut leaves);
    let response = MetricsResponse { complete: true, ..MetricsResponse::default() };
    let mut reader = Reader { request, snapshot, grid, started: Instant::now(), leaves, is_weighted, response };
    reader.read()?;
    let Reader { leaves, mut response, .. } = reader;
    let mut sets = Vec::with_capacity(leaves.len());
    for leaf in leaves {
        response.complete &= !leaf.accumulator.is_over_full();
        sets.push(leaf.accumulator.into_series(leaf.function, leaf.by, &grid));
    }
    let mut sets = sets.into_iter();
    response.series = series::evaluate(query, &mut sets, &grid).into_answer(&grid);
    Ok(response)
}

/// In the order in which [`series::evaluate`] asks for them.
fn collect_leaves<'a>(
    query: &'a Metrics,
    grid: &Grid,
    exemplars: usize,
    estimate: &pushdown::Estimate<'_>,
    leaves: &mut Vec<Leaf<'a>>,
) {
    match query {
        Metrics::Constant(_) => {}
        Metrics::Then(inner, _) => collect_leaves(inner, grid, exemplars, estimate, leaves),
        Metrics::Math(_, left, right) => {
            collect_leaves(left, grid, exemplars, estimate, leaves);
            collect_leaves(right, grid, exemplars, estimate, leaves);
        }
        Metrics::Range { pipeline, function, by } => leaves.push(Leaf {
            pipeline,
            necessary: pushdown::necessary(pipeline, estimate),
            function,
            by,
            accumulator: Accumulator::new(grid.count, exemplars),
        }),
    }
}

impl Reader<'_> {
    fn is_over(&self) -> bool {
        let budget = &self.request.budget;
        budget.cancelled.load(std::sync::atomic::Ordering::Relaxed)
            || self.started.elapsed() > budget.time
            || self.response.inspected_spans > budget.spans
    }

    fn read(&mut self) -> Result<(), MetricsError> {
        let conditions: Vec<Option<&Expr>> = self.leaves.iter().flat_map(|leaf| leaf.necessary.clone()).collect();
        let predicate = pushdown::predicate(&conditions);
        let (snapshot, low, high) = (self.snapshot, self.grid.low, self.grid.high());
        if !predicate.can_select() {
            return self.take_all(snapshot.traces(low, high)?);
        }
        let mut ids = FxHashSet::default();
        for (from, to, part) in snapshot.parts() {
            // Spans outside of the range are counted nowhere.
            if to < low || from > high {
                continue;
            }
            match part {
                Part::Block(block) => {
                    let found = block.candidates(
                        &predicate,
                        Note::Start,
                        block.listed_traces(&predicate).as_deref(),
                        &|| self.is_over(),
                    )?;
                    self.response.inspected_bytes += found.inspected_bytes;
                    self.response.inspected_spans += block.len_spans();
                    let rows: Vec<u32> = found.traces.iter().map(|trace| trace.row).collect();
                    ids.extend(block.trace_ids(&rows)?);
                }
                Part::Head(head) => {
                    for batch in head.batches() {
                        self.response.inspected_spans += batch.len_spans() as u64;
                        for (place, span) in batch.spans().iter().enumerate() {
                            let context = Context { piece: batch.piece(place), span, trace: None };
                            if !ids.contains(&span.trace_id) && may_match(&conditions, &context)? {
                                ids.insert(span.trace_id);
                            }
                        }
                    }
                }
            }
            if self.is_over() {
                self.response.complete = false;
                return Ok(());
            }
        }
        let mut ids: Vec<TraceId> = ids.into_iter().collect();
        ids.sort_unstable();
        self.take_all(snapshot.traces_of(&ids)?)
    }

    fn take_all(&mut self, traces: impl Iterator<Item = Result<Batch, BlockError>>) -> Result<(), MetricsError> {
        for (number, trace) in traces.enumerate() {
            let trace = trace?;
            self.response.inspected_spans += trace.len_spans() as u64;
            self.response.inspected_bytes += trace.bytes().len() as u64;
            let view = TraceView::of(&trace);
            for leaf in &mut self.leaves {
                self.response.is_weighted |= leaf.take(&view, &self.grid, self.is_weighted)?;
            }
            if number % 64 == 0 && self.is_over() {
                self.response.complete = false;
                break;
            }
        }
        Ok(())
    }
}

impl Leaf<'_> {
    /// Whether a span was counted other than once.
    fn take(&mut self, view: &TraceView<'_>, grid: &Grid, is_weighted: bool) -> Result<bool, EvalError> {
        let mut is_other = false;
        let spans = view.batch.spans();
        if spans.iter().all(|span| grid.interval(span.start_unix_nano).is_none()) {
            return Ok(is_other);
        }
        for group in run(self.pipeline, view)? {
            for place in group.places {
                let Some(context) = view.context(place) else { continue };
                let Some(interval) = grid.interval(context.span.start_unix_nano) else { continue };
                let weight = if is_weighted { view.span_weight(place) } else { 1.0 };
                is_other |= weight != 1.0;
                self.accumulator.take(self.function, self.by, &context, (interval, weight), grid)?;
            }
        }
        Ok(is_other)
    }
}

/// The name under which a function's series go when nothing else names them.
fn function_name(function: &Function) -> &'static str {
    use crate::traceql::ast::Aggregate;
    match function {
        Function::Rate => "rate",
        Function::CountOverTime => "count_over_time",
        Function::OverTime(Aggregate::Min, _) => "min_over_time",
        Function::OverTime(Aggregate::Max, _) => "max_over_time",
        Function::OverTime(Aggregate::Avg, _) => "avg_over_time",
        Function::OverTime(..) => "sum_over_time",
        Function::Quantile(..) => "quantile_over_time",
        Function::Histogram(_) => "histogram_over_time",
        Function::Compare { .. } => "compare",
    }
}

fn calculate(operator: Arithmetic, left: f64, right: f64) -> f64 {
    match operator {
        Arithmetic::Add => left + right,
        Arithmetic::Sub => left - right,
        Arithmetic::Mul => left * right,
        Arithmetic::Div if right == 0.0 => f64::NAN,
        Arithmetic::Div => left / right,
        // The grammar has no others between series.
        Arithmetic::Mod | Arithmetic::Pow => f64::NAN,
    }
}

#[cfg(test)]
mod tests;
