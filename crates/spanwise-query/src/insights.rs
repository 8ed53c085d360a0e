//! Findings over a window: from the rows that blocks keep of their traces, and from the spans that no block has yet.

use std::sync::atomic::Ordering;
use std::time::Instant;

use spanwise_insight::population::{Insights, Population};
use spanwise_store::block::BlockError;
use spanwise_store::facts::window;
use spanwise_store::snapshot::Snapshot;

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
    let budget = &request.budget;
    let is_over = || budget.cancelled.load(Ordering::Relaxed) || started.elapsed() > budget.time;
    let is_whole = window::collect(snapshot, from, to, &mut population, &is_over)?;
    let mut found = population.finish();
    found.complete &= is_whole;
    Ok(found)
}
