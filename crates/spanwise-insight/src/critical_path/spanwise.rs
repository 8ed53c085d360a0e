//! Our own rule.

use super::{Relation, relation};
use crate::tree::Tree;
use crate::view::SpanView;

/// Memory of a walk, for the next one.
#[derive(Default)]
pub(crate) struct Walk {
    open: Vec<(Option<usize>, u64, u64)>,
    candidates: Vec<usize>,
}

/// Calls `own` with each stretch of the path, in no order: whose it is, from when to when.
pub(crate) fn walk(
    spans: &[SpanView],
    tree: &Tree,
    extent: (Option<usize>, u64, u64),
    memory: &mut Walk,
    mut own: impl FnMut(Option<usize>, u64, u64),
) {
    let Walk { open, candidates } = memory;
    open.clear();
    open.push(extent);
    while let Some((span, window_start, window_end)) = open.pop() {
        candidates.clear();
        match span {
            Some(parent) => {
                let is_awaited = |child: &usize| relation(&spans[parent], &spans[*child]) == Relation::Awaited;
                candidates.extend(tree.children[parent].iter().copied().filter(is_awaited));
            }
            None => candidates.extend_from_slice(&tree.roots),
        }
        if candidates.len() > 1 {
            candidates.sort_by_key(|child| {
                let child = &spans[*child];
                (std::cmp::Reverse(child.end_unix_nano), child.start_unix_nano, child.span_id)
            });
        }
        let mut scan = window_end;
        // A child that starts at or behind the scan point stays out of reach: the point only moves back.
        for child in candidates.iter().copied() {
            let child_start = spans[child].start_unix_nano.max(window_start);
            let child_end = spans[child].end_unix_nano.min(scan);
            if child_start >= child_end {
                continue;
            }
            if child_end < scan {
                own(span, child_end, scan);
            }
            open.push((Some(child), child_start, child_end));
            scan = child_start;
        }
        if window_start < scan {
            own(span, window_start, scan);
        }
    }
}
