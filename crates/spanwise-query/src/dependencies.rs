//! Which service calls which, from the counts of minutes.

use std::sync::atomic::Ordering;
use std::time::Instant;

use spanwise_insight::minutes::{Bounds, Key, Kind, Minutes, NOBODY, NodeKind, OTHER, minute_of};
use spanwise_insight::names::Names;
use spanwise_insight::sketch::unfixed;
use spanwise_store::block::BlockError;
use spanwise_store::sketches::{Asked, window::collect};
use spanwise_store::snapshot::Snapshot;

use crate::search::Budget;

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

/// Counts the spans whose parent belongs to another service, by their minutes: those of the window that it touches. Blocks
/// on the disk.
///
/// # Errors
/// When a block cannot be read.
pub fn dependencies(snapshot: &Snapshot, from: u64, to: u64, budget: &Budget) -> Result<Dependencies, BlockError> {
    let started = Instant::now();
    let is_over = || budget.cancelled.load(Ordering::Relaxed) || started.elapsed() > budget.time;
    let kinds = [Kind::Service, Kind::Edge];
    let asked = Asked { kinds: &kinds, minutes: minute_of(from)..=minute_of(to), is_together: true };
    let (mut names, mut minutes) = (Names::default(), Minutes::new(Bounds::ANSWER));
    let complete = collect(snapshot, &asked, &mut names, &mut minutes, &is_over)? && !minutes.is_bounded();
    let service = NodeKind::Service.code(None);
    let is_call = |key: &Key| key.kind == Kind::Edge && key.c == service && ![NOBODY, OTHER].contains(&key.a);
    let calls = minutes.cells().filter(|(key, cell)| is_call(key) && cell.seen > 0).map(|(key, cell)| Call {
        parent: names.text(key.a).to_owned(),
        child: names.text(key.b).to_owned(),
        count: cell.count().round() as u64,
        errors: unfixed(cell.errors).max(0.0).round() as u64,
    });
    let mut calls: Vec<Call> = calls.collect();
    calls.sort_by(|a, b| (&a.parent, &a.child).cmp(&(&b.parent, &b.child)));
    Ok(Dependencies { calls, complete })
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
            // Whole minutes.
            assert_eq!(of(5, 10), ["gateway cart 1", "gateway late 1"]);
            assert!(of(60, 120).is_empty());
        }
    }
}
