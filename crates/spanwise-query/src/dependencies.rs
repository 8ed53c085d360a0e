//! Which service calls which, counted over whole traces.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Instant;

use spanwise_store::block::BlockError;
use spanwise_store::snapshot::Snapshot;
use spanwise_wire::view;

use crate::search::Budget;
use crate::trace_view::TraceView;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub parent: String,
    pub child: String,
    /// Each call as often as it stands for others that were sampled away.
    pub count: u64,
    /// Of them, those whose child failed.
    pub errors: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dependencies {
    /// In order of names.
    pub calls: Vec<Call>,
    /// False when the budget ended first.
    pub complete: bool,
}

/// Counts the spans whose parent belongs to another service, in traces that started in the window. Blocks on the disk.
///
/// # Errors
/// When a block cannot be read.
pub fn dependencies(snapshot: &Snapshot, from: u64, to: u64, budget: &Budget) -> Result<Dependencies, BlockError> {
    let started = Instant::now();
    let mut counts: BTreeMap<(String, String), (f64, f64)> = BTreeMap::new();
    let mut spans = 0u64;
    let mut complete = true;
    for trace in snapshot.traces(from, to)? {
        let trace = trace?;
        spans += trace.len_spans() as u64;
        if budget.cancelled.load(Ordering::Relaxed) || started.elapsed() > budget.time || spans > budget.spans {
            complete = false;
            break;
        }
        let view = TraceView::of(&trace);
        if !(from..=to).contains(&view.start_unix_nano) {
            continue;
        }
        let service = |place: usize| view::service_name(trace.piece(place).resource).unwrap_or("unknown_service");
        for (place, parent) in view.shape().parent.iter().enumerate() {
            let Some(parent) = parent.map(service) else { continue };
            let child = service(place);
            if parent != child {
                let failed = trace.spans().get(place).is_some_and(|span| span.status == 2);
                let counts = counts.entry((parent.to_owned(), child.to_owned())).or_default();
                let weight = view.span_weight(place);
                counts.0 += weight;
                counts.1 += if failed { weight } else { 0.0 };
            }
        }
    }
    let calls = counts.into_iter().map(|((parent, child), (count, errors))| Call {
        parent,
        child,
        count: count.round() as u64,
        errors: errors.round() as u64,
    });
    Ok(Dependencies { calls: calls.collect(), complete })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::tests::{NOW, SECOND, stores};

    #[test]
    fn calls_between_services_are_counted() {
        for (_, snapshot) in stores() {
            let of = |from, to| {
                let found =
                    dependencies(&snapshot, NOW + from * SECOND, NOW + to * SECOND, &Budget::default()).unwrap();
                assert!(found.complete);
                let call = |call: Call| format!("{} {} {}", call.parent, call.child, call.count);
                found.calls.into_iter().map(call).collect::<Vec<_>>()
            };
            assert_eq!(of(0, 60), ["gateway cart 1", "gateway late 1"]);
            assert_eq!(of(5, 60), ["gateway late 1"]);
        }
    }
}
