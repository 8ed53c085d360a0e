//! The rule of Uber's CRISP.
//!
//! Of a parent's children the one that ends last is on the path; then each that happened before the one chosen last:
//! it ended before that one began, or overlaps it by less than a hundredth of the parent's time, as clocks jitter, with
//! no other sibling's event in between. A span's own time is its duration less those of its children on the path, at
//! least nothing. Children are first cut to their parents, except that the only child of a call to another host is
//! shortened to its parent's duration and keeps its place.

use std::cmp::Reverse;

use spanwise_model::{SpanKind, Trace};

use super::{Segment, Window, cut, first_root, own_window, push};
use crate::tree::Tree;

/// Share of the parent's time by which two siblings in sequence may overlap.
const OVERLAP: f64 = 0.01;
/// How many times its client a server span may last.
const LENGTHENING: f64 = 1.01;

/// Segments, and each span's own time on the path.
pub fn segments(trace: &Trace, tree: &Tree) -> (Vec<Segment>, Vec<u64>) {
    let mut segments = Vec::new();
    let mut own_ns = vec![0u64; trace.spans.len()];
    let mut open: Vec<(usize, (u64, u64))> =
        first_root(tree).map(|root| (root, own_window(trace, root))).into_iter().collect();
    while let Some((span, window)) = open.pop() {
        let is_only = tree.children[span].len() == 1;
        let fit = |child: usize| -> Window {
            let own = own_window(trace, child);
            let (length, most) = (own.1 - own.0, window.1 - window.0);
            if is_only && is_far(trace, span, child) && length as f64 <= most as f64 * LENGTHENING {
                return Some((own.0, own.0 + length.min(most)));
            }
            cut(own, window)
        };
        let mut children: Vec<(usize, (u64, u64))> =
            tree.children[span].iter().filter_map(|child| Some((*child, fit(*child)?))).collect();
        children.sort_by_key(|(_, window)| Reverse(window.1));
        let mut events: Vec<u64> = children.iter().flat_map(|(_, window)| [window.0, window.1]).collect();
        events.sort_unstable();
        let events_within = |from: u64, to: u64| {
            events.partition_point(|event| *event <= to) - events.partition_point(|event| *event < from)
        };
        let before = |a: (u64, u64), b: (u64, u64)| {
            let overlap = a.1.saturating_sub(b.0) as f64;
            let is_jitter = || {
                a.1 < b.1
                    && a.0 < b.0
                    && overlap / ((window.1 - window.0).max(1) as f64) < OVERLAP
                    && events_within(b.0, a.1) == 2
            };
            a.1 < b.0 || is_jitter()
        };
        let mut chosen: Vec<(usize, (u64, u64))> = Vec::new();
        for child in children {
            if chosen.last().is_none_or(|last| before(child.1, last.1)) {
                chosen.push(child);
            }
        }
        let inner: u64 = chosen.iter().map(|(_, window)| window.1 - window.0).sum();
        own_ns[span] += (window.1 - window.0).saturating_sub(inner);
        let mut scan = window.1;
        for (child, place) in chosen {
            push(&mut segments, Some(span), place.1.max(window.0), scan);
            scan = scan.min(place.0.max(window.0));
            open.push((child, place));
        }
        push(&mut segments, Some(span), window.0, scan);
    }
    (segments, own_ns)
}

/// A call to another machine, whose clock is another's.
fn is_far(trace: &Trace, parent: usize, child: usize) -> bool {
    let host = |place: usize| {
        let attributes = &trace.spans[place].resource.attributes;
        attributes.iter().find(|attribute| attribute.key == "host.name").and_then(|host| host.value.as_str())
    };
    let kinds = (trace.spans[parent].span.kind, trace.spans[child].span.kind);
    kinds == (SpanKind::Client, SpanKind::Server) || host(parent) != host(child)
}
