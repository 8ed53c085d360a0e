//! The critical path: which span the request was waiting for, at every moment of it.
//!
//! Rule (`docs/critical-path.md`): from the end of the root backwards, time belongs to the child that ended last
//! before the scan point, clipped to its parent, and to the span itself where no child ran. Consumers, children that
//! lie outside their parent, and children that outlive a parent which does not wait for them are off the path.
//! The segments tile the trace's duration exactly.

use spanwise_model::{SpanKind, Trace};

use crate::tree::Tree;

/// One stretch of the path. Times are nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Place of the span in the trace; `None` where no span ran (only without a single root).
    pub span: Option<usize>,
    pub start_unix_nano: u64,
    pub end_unix_nano: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CriticalPath {
    pub start_unix_nano: u64,
    pub end_unix_nano: u64,
    /// In order of time; they touch and do not overlap.
    pub segments: Vec<Segment>,
}

/// How a child relates to the span above it, as far as waiting goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// The parent waits for it.
    Awaited,
    /// The parent went on without it: a consumer, or a child that outlives its parent.
    Async,
    /// It ran wholly before or after its parent.
    Detached,
}

pub fn relation(trace: &Trace, parent: usize, child: usize) -> Relation {
    let (parent, child) = (&trace.spans[parent].span, &trace.spans[child].span);
    if child.kind == SpanKind::Consumer {
        return Relation::Async;
    }
    if child.start_unix_nano > parent.end_unix_nano || child.end_unix_nano < parent.start_unix_nano {
        return Relation::Detached;
    }
    // Across a call the two clocks differ, so a server span may seem to outlive its client.
    let same_clock = parent.kind != SpanKind::Client;
    if same_clock && child.end_unix_nano > parent.end_unix_nano {
        return Relation::Async;
    }
    Relation::Awaited
}

/// O(n log n), no recursion.
pub fn critical_path(trace: &Trace, tree: &Tree) -> CriticalPath {
    let (root, start, end) = match tree.single_root() {
        Some(root) => {
            let span = &trace.spans[root].span;
            (Some(root), span.start_unix_nano, span.end_unix_nano.max(span.start_unix_nano))
        }
        None => {
            let start = trace.spans.iter().map(|span| span.span.start_unix_nano).min().unwrap_or(0);
            let end = trace.spans.iter().map(|span| span.span.end_unix_nano).max().unwrap_or(0);
            (None, start, end.max(start))
        }
    };
    let mut path = CriticalPath { start_unix_nano: start, end_unix_nano: end, segments: Vec::new() };
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
            push(&mut path.segments, span, child_end, scan);
            open.push((Some(child), child_start, child_end));
            scan = child_start;
        }
        push(&mut path.segments, span, window_start, scan);
    }
    path.segments.sort_by_key(|segment| segment.start_unix_nano);
    path
}

fn push(segments: &mut Vec<Segment>, span: Option<usize>, start: u64, end: u64) {
    if start < end {
        segments.push(Segment { span, start_unix_nano: start, end_unix_nano: end });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::trace;
    use proptest::prelude::*;

    fn check(spans: &[(u8, u8, u64, u64)], expected: &[(u8, u64, u64)]) {
        let trace = trace(spans);
        let path = critical_path(&trace, &Tree::of(&trace));
        let found: Vec<_> = path
            .segments
            .iter()
            .map(|segment| {
                let id = segment.span.map_or(0, |place| trace.spans[place].span.span_id.0[7]);
                (id, segment.start_unix_nano, segment.end_unix_nano)
            })
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_last_child_before_the_scan_point_has_the_time() {
        check(&[(1, 0, 0, 100)], &[(1, 0, 100)]);
        check(&[(1, 0, 0, 100), (2, 1, 10, 40), (3, 1, 40, 90)], &[(1, 0, 10), (2, 10, 40), (3, 40, 90), (1, 90, 100)]);
        // Parallel children: the one that ends last, then what ended before it began.
        check(&[(1, 0, 0, 100), (2, 1, 10, 60), (3, 1, 30, 90)], &[(1, 0, 10), (2, 10, 30), (3, 30, 90), (1, 90, 100)]);
        // Nested.
        check(
            &[(1, 0, 0, 100), (2, 1, 20, 80), (3, 2, 30, 50)],
            &[(1, 0, 20), (2, 20, 30), (3, 30, 50), (2, 50, 80), (1, 80, 100)],
        );
    }

    #[test]
    fn what_nobody_waits_for_is_off_the_path() {
        check(&[(1, 0, 0, 100), (2, 1, 50, 150)], &[(1, 0, 100)]);
        check(&[(1, 0, 0, 100), (2, 1, 120, 150)], &[(1, 0, 100)]);
        check(&[(1, 0, 0, 100), (2, 1, 50, 50)], &[(1, 0, 100)]);
    }

    #[test]
    fn without_a_single_root_all_time_is_covered() {
        check(&[(1, 0, 0, 40), (2, 0, 60, 100)], &[(1, 0, 40), (0, 40, 60), (2, 60, 100)]);
        check(&[(1, 0, 10, 5)], &[]);
        check(&[], &[]);
    }

    proptest! {
        #[test]
        fn segments_tile_the_duration(spans in proptest::collection::vec((1u8..20, 0u8..20, 0u64..100, 0u64..100), 0..30)) {
            let trace = trace(&spans);
            let path = critical_path(&trace, &Tree::of(&trace));
            let mut at = path.start_unix_nano;
            for segment in &path.segments {
                prop_assert_eq!(segment.start_unix_nano, at);
                prop_assert!(segment.end_unix_nano > at);
                at = segment.end_unix_nano;
            }
            prop_assert_eq!(at, path.end_unix_nano.max(path.start_unix_nano));
        }
    }
}
