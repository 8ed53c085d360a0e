//! The rule of Jaeger's page.
//!
//! A consumer below a producer is left out with all below it; a child that lies outside its parent too; one that
//! overhangs is cut. From the end of each root back: the child that ends last, then of those that end strictly before
//! it starts the one that ends last, and so on; what lies between is the parent's.

use std::cmp::Reverse;

use spanwise_model::{SpanKind, Trace};

use super::{Segment, Window, cut, own_window, push};
use crate::tree::Tree;

pub fn segments(trace: &Trace, tree: &Tree) -> Vec<Segment> {
    let mut segments = Vec::new();
    let mut windows: Vec<Window> = vec![None; trace.spans.len()];
    let mut by_end: Vec<Vec<usize>> = vec![Vec::new(); trace.spans.len()];
    let mut order = tree.roots.clone();
    order.iter().for_each(|root| windows[*root] = Some(own_window(trace, *root)));
    let mut at = 0;
    while at < order.len() {
        let parent = order[at];
        at += 1;
        let Some(window) = windows[parent] else { continue };
        for child in &tree.children[parent] {
            let kinds = (trace.spans[parent].span.kind, trace.spans[*child].span.kind);
            if kinds == (SpanKind::Producer, SpanKind::Consumer) {
                continue;
            }
            windows[*child] = cut(own_window(trace, *child), window);
            if windows[*child].is_some() {
                by_end[parent].push(*child);
                order.push(*child);
            }
        }
        // A stable sort: of equal ends the first child in order comes first.
        by_end[parent].sort_by_key(|child| Reverse(windows[*child].map_or(0, |window| window.1)));
    }
    let mut next = vec![0usize; trace.spans.len()];
    for root in &tree.roots {
        // The span whose time is being shared out, and from where back.
        let mut here = Some((*root, None));
        while let Some((span, returning)) = here {
            let Some((start, end)) = windows[span] else { break };
            let until = returning.unwrap_or(end);
            let is_later = |child: &usize| {
                returning.is_some_and(|returning| windows[*child].is_some_and(|window| window.1 >= returning))
            };
            // The point only moves back, so what was passed over is never looked at again.
            while by_end[span].get(next[span]).is_some_and(is_later) {
                next[span] += 1;
            }
            here = match by_end[span].get(next[span]) {
                Some(child) => {
                    next[span] += 1;
                    push(&mut segments, Some(span), windows[*child].map_or(until, |window| window.1), until);
                    Some((*child, None))
                }
                None => {
                    push(&mut segments, Some(span), start, until);
                    tree.parent[span].map(|parent| (parent, Some(start)))
                }
            };
        }
    }
    segments
}
