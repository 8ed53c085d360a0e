//! Two sets of traces compared: every trace of the window is read once and falls into one of them, or neither.

use std::sync::atomic::Ordering;
use std::time::Instant;

use spanwise_insight::compare::{Compared, Comparison};
use spanwise_store::snapshot::Snapshot;
use spanwise_wire::decode_trace;

use crate::search::{Budget, SearchError};
use crate::trace_view::TraceView;
use crate::traceql::Query;
use crate::traceql::ast::Root;
use crate::traceql::run::run;

/// A set of traces: all conditions hold. Empty, it is every trace.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    pub query: Option<Query>,
    /// Traces that started in this window; nanoseconds since 1970.
    pub from_unix_nano: Option<u64>,
    pub to_unix_nano: Option<u64>,
    /// From first start to last end.
    pub min_duration_ns: Option<u64>,
    pub max_duration_ns: Option<u64>,
}

impl Selection {
    fn holds(&self, view: &TraceView<'_>) -> Result<bool, SearchError> {
        let start = self.from_unix_nano.unwrap_or(0)..=self.to_unix_nano.unwrap_or(u64::MAX);
        let duration = self.min_duration_ns.unwrap_or(0)..=self.max_duration_ns.unwrap_or(u64::MAX);
        if !start.contains(&view.start_unix_nano) || !duration.contains(&view.duration_ns) {
            return Ok(false);
        }
        match self.query.as_ref().map(|query| &query.root) {
            Some(Root::Search(pipeline)) => Ok(!run(pipeline, view)?.is_empty()),
            Some(Root::Metrics(_)) => Err(SearchError::IsMetrics),
            None => Ok(true),
        }
    }
}

#[derive(Debug, Clone, Default)]
pub struct CompareRequest {
    pub selection: Selection,
    /// Those of it that are not selected are what the selection is compared with.
    pub baseline: Selection,
    pub budget: Budget,
}

/// Runs on this thread, which may block on the disk.
///
/// # Errors
/// When a query is wrong for a value it meets, or a block cannot be read.
pub fn compare(snapshot: &Snapshot, request: &CompareRequest) -> Result<Compared, SearchError> {
    let started = Instant::now();
    let (selection, baseline) = (&request.selection, &request.baseline);
    let from = selection.from_unix_nano.unwrap_or(0).min(baseline.from_unix_nano.unwrap_or(0));
    let to = selection.to_unix_nano.unwrap_or(u64::MAX).max(baseline.to_unix_nano.unwrap_or(u64::MAX));
    let mut comparison = Comparison::default();
    let mut is_whole = true;
    for (number, batch) in snapshot.traces(from, to)?.enumerate() {
        let batch = batch?;
        let (is_selected, is_wanted) = {
            let view = TraceView::of(&batch);
            let is_selected = selection.holds(&view)?;
            (is_selected, is_selected || baseline.holds(&view)?)
        };
        if is_wanted {
            comparison.add(&decode_trace(&[batch]), is_selected);
        }
        // Traces come in order of id, so what was read until the budget ended is a fair sample.
        let budget = &request.budget;
        if number % 64 == 0 && (budget.cancelled.load(Ordering::Relaxed) || started.elapsed() > budget.time) {
            is_whole = false;
            break;
        }
    }
    let mut compared = comparison.finish();
    compared.complete &= is_whole;
    Ok(compared)
}
