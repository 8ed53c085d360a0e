//! The rule of Elastic APM.
//!
//! Children by end, latest first; one is on the path unless it ends after the scan point, which at first is the
//! parent's end: what outlives its parent, or overlaps the sibling chosen before, is left out and not cut. A gap of a
//! millisecond or less between two of them is nobody's.

use std::cmp::Reverse;

use spanwise_model::Trace;

use super::{Segment, first_root, own_window, push};
use crate::tree::Tree;

const GAP_NS: u64 = 1_000_000;

pub fn segments(trace: &Trace, tree: &Tree) -> Vec<Segment> {
    let mut segments = Vec::new();
    let mut open: Vec<(usize, u64, u64)> = first_root(tree)
        .map(|root| (root, own_window(trace, root)))
        .map(|(root, (start, end))| (root, start, end))
        .into_iter()
        .collect();
    while let Some((span, start, end)) = open.pop() {
        let mut children = tree.children[span].to_vec();
        children.sort_by_key(|child| Reverse(own_window(trace, *child).1));
        let mut scan = end;
        for child in children {
            let (child_start, child_end) = own_window(trace, child);
            let from = child_start.max(start);
            if from >= scan || child_end.min(scan) < start || child_end > scan {
                continue;
            }
            if scan - child_end > GAP_NS {
                push(&mut segments, Some(span), child_end, scan);
            }
            open.push((child, from, child_end));
            scan = from;
        }
        push(&mut segments, Some(span), start, scan);
    }
    segments
}
