//! Our own rule.

use spanwise_model::Trace;

use super::{Relation, Segment, push, relation};
use crate::tree::Tree;

pub fn segments(trace: &Trace, tree: &Tree, root: Option<usize>, start: u64, end: u64) -> Vec<Segment> {
    let mut segments = Vec::new();
    let mut open = vec![(root, start, end)];
    while let Some((span, window_start, window_end)) = open.pop() {
        let mut candidates: Vec<usize> = match span {
            Some(parent) => {
                let children = tree.children[parent].iter().copied();
                children.filter(|child| relation(trace, parent, *child) == Relation::Awaited).collect()
            }
            None => tree.roots.clone(),
        };
        candidates.sort_by_key(|child| {
            let child = &trace.spans[*child].span;
            (std::cmp::Reverse(child.end_unix_nano), child.start_unix_nano, child.span_id)
        });
        let mut scan = window_end;
        // A child that starts at or behind the scan point stays out of reach: the point only moves back.
        for child in candidates {
            let child_start = trace.spans[child].span.start_unix_nano.max(window_start);
            let child_end = trace.spans[child].span.end_unix_nano.min(scan);
            if child_start >= child_end {
                continue;
            }
            push(&mut segments, span, child_end, scan);
            open.push((Some(child), child_start, child_end));
            scan = child_start;
        }
        push(&mut segments, span, window_start, scan);
    }
    segments
}
