//! Clocks of hosts against each other, over the traces of a window.

use std::sync::atomic::Ordering;
use std::time::Instant;

use spanwise_insight::clock::Offsets;
use spanwise_store::block::BlockError;
use spanwise_store::snapshot::Snapshot;
use spanwise_wire::decode_trace;

use crate::search::Budget;

/// Traces that are looked at: more hardly narrow what is possible.
const MOST_TRACES: u64 = 5_000;

#[derive(Debug, Clone, Default)]
pub struct Clocks {
    pub offsets: Offsets,
    /// False when there were more traces than were looked at: those are a fair sample, since traces come in order of id.
    pub complete: bool,
}

/// Reads traces that started in the window, on this thread, which may block on the disk.
///
/// # Errors
/// When a block cannot be read.
pub fn clocks(snapshot: &Snapshot, from: u64, to: u64, budget: &Budget) -> Result<Clocks, BlockError> {
    let started = Instant::now();
    let mut found = Clocks { complete: true, ..Clocks::default() };
    for batch in snapshot.traces(from, to)? {
        let batch = batch?;
        let start = batch.spans().iter().map(|span| span.start_unix_nano).min().unwrap_or(0);
        if !(from..=to).contains(&start) {
            continue;
        }
        if found.offsets.traces >= MOST_TRACES
            || budget.cancelled.load(Ordering::Relaxed)
            || started.elapsed() > budget.time
        {
            found.complete = false;
            break;
        }
        found.offsets.add(&decode_trace(&[batch]));
    }
    Ok(found)
}
