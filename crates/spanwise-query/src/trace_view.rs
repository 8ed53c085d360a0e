//! What a query may ask of a span that only its whole trace answers.

use rustc_hash::FxHashMap;
use spanwise_insight::Tree;
use spanwise_model::{SpanId, Trace};
use spanwise_wire::{Batch, decode_trace, view};

/// Facts of a whole trace, places as in its batch.
#[derive(Debug, Clone, Default)]
pub struct TraceView {
    pub start_unix_nano: u64,
    pub duration_ns: u64,
    /// Service and name of the root; `None` when no span is one.
    pub root: Option<(String, String)>,
    pub child_count: Vec<i64>,
    /// Nested-set numbers of each span: left, right, and the parent's left (-1 for a root). 0 when the span hangs
    /// below no root.
    pub nested: Vec<(i64, i64, i64)>,
}

impl TraceView {
    pub fn of(batch: &Batch) -> Self {
        let trace = decode_trace(std::slice::from_ref(batch));
        let tree = Tree::of(&trace);
        let spans = batch.spans();
        let start = spans.iter().map(|span| span.start_unix_nano).min().unwrap_or(0);
        let end = spans.iter().map(|span| span.end_unix_nano).max().unwrap_or(0);
        let root = spans
            .iter()
            .enumerate()
            .filter(|(_, span)| span.parent_span_id.is_zero())
            .min_by_key(|(_, span)| (span.start_unix_nano, span.span_id))
            .map(|(place, _)| {
                let piece = batch.piece(place);
                let service = view::service_name(piece.resource).unwrap_or("unknown_service");
                (service.to_owned(), view::span_name(piece.span).to_owned())
            });
        Self {
            start_unix_nano: start,
            duration_ns: end.saturating_sub(start),
            root,
            child_count: child_counts(&trace),
            nested: nested_sets(&trace, &tree),
        }
    }
}

fn child_counts(trace: &Trace) -> Vec<i64> {
    let mut counts: FxHashMap<SpanId, i64> = FxHashMap::default();
    for parent in trace.spans.iter().filter_map(|span| span.span.parent_span_id) {
        *counts.entry(parent).or_default() += 1;
    }
    trace.spans.iter().map(|span| counts.get(&span.span.span_id).copied().unwrap_or(0)).collect()
}

fn nested_sets(trace: &Trace, tree: &Tree) -> Vec<(i64, i64, i64)> {
    let mut sets = vec![(0, 0, 0); trace.spans.len()];
    let mut counter = 0;
    for root in tree.roots.iter().filter(|root| trace.spans[**root].span.parent_span_id.is_none()) {
        // Each span is entered once and left once; no recursion, however deep the trace.
        let mut open = vec![(*root, false, -1)];
        while let Some((place, is_leaving, parent)) = open.pop() {
            counter += 1;
            if is_leaving {
                sets[place].1 = counter;
                continue;
            }
            sets[place].0 = counter;
            sets[place].2 = parent;
            let left = counter;
            open.push((place, true, parent));
            open.extend(tree.children[place].iter().rev().map(|child| (*child, false, left)));
        }
    }
    sets
}
