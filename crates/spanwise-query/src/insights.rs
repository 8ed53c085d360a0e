//! Findings over a window: every trace that started in it is read once.

use std::sync::atomic::Ordering;
use std::time::Instant;

use spanwise_insight::population::{Insights, Population};
use spanwise_store::block::BlockError;
use spanwise_store::snapshot::Snapshot;
use spanwise_wire::decode_trace;

use crate::search::Budget;

#[derive(Debug, Clone, Default)]
pub struct InsightsRequest {
    /// Traces that started in this window; nanoseconds since 1970.
    pub from_unix_nano: Option<u64>,
    pub to_unix_nano: Option<u64>,
    pub budget: Budget,
}

/// Runs on this thread, which may block on the disk.
///
/// # Errors
/// When a block cannot be read.
pub fn insights(snapshot: &Snapshot, request: &InsightsRequest) -> Result<Insights, BlockError> {
    let started = Instant::now();
    let (from, to) = (request.from_unix_nano.unwrap_or(0), request.to_unix_nano.unwrap_or(u64::MAX));
    let mut population = Population::default();
    let mut is_whole = true;
    for (number, batch) in snapshot.traces(from, to)?.enumerate() {
        let batch = batch?;
        let start = batch.spans().iter().map(|span| span.start_unix_nano).min().unwrap_or(0);
        if (from..=to).contains(&start) {
            population.add(&decode_trace(&[batch]));
        }
        // Traces come in order of id, so what was read until the budget ended is a fair sample.
        let budget = &request.budget;
        if number % 64 == 0 && (budget.cancelled.load(Ordering::Relaxed) || started.elapsed() > budget.time) {
            is_whole = false;
            break;
        }
    }
    let mut found = population.finish();
    found.complete &= is_whole;
    Ok(found)
}
