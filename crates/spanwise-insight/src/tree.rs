//! The tree of a trace's spans, whatever came: missing parents, several roots, repeated ids, cycles.

use std::cmp::Reverse;
use std::ops::Index;

use spanwise_model::{SpanKind, Trace};

use crate::view::{SpanView, views};

/// Places are indices into the trace's `spans`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    pub parent: Vec<Option<usize>>,
    /// Children in order of start, then end, then span id.
    pub children: Children,
    /// Spans without a parent in the trace, in order of start. Each span is below exactly one of them.
    pub roots: Vec<usize>,
    /// The span names a parent that is not in the trace, or stood in a cycle that was cut here.
    pub orphan: Vec<bool>,
    /// All spans, parents before children.
    order: Vec<usize>,
    /// Span ids with their places, sorted; places in order of start: kept for the next trace.
    by_id: Vec<(u64, usize)>,
    by_start: Vec<usize>,
}

/// The children of each span, one list after the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Children {
    /// Where each span's list ends.
    ends: Vec<usize>,
    places: Vec<usize>,
}

impl Children {
    /// Of each span in turn.
    pub fn iter(&self) -> impl Iterator<Item = &[usize]> {
        (0..self.ends.len()).map(|place| &self[place])
    }
}

impl Index<usize> for Children {
    type Output = [usize];

    fn index(&self, place: usize) -> &[usize] {
        let start = place.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let end = self.ends.get(place).copied().unwrap_or(start);
        self.places.get(start..end).unwrap_or_default()
    }
}

impl Tree {
    pub fn of(trace: &Trace) -> Tree {
        Self::of_views(&views(trace).spans)
    }

    pub(crate) fn of_views(spans: &[SpanView]) -> Tree {
        let mut tree = Tree::default();
        tree.rebuild(spans);
        tree
    }

    /// Makes this the tree of other spans; its memory serves again.
    pub(crate) fn rebuild(&mut self, spans: &[SpanView]) {
        let count = spans.len();
        self.parent.clear();
        self.orphan.clear();
        self.by_id.clear();
        self.by_id.extend(spans.iter().enumerate().map(|(place, span)| (span.span_id, place)));
        self.by_id.sort_unstable();
        let shares_ids = self.by_id.windows(2).any(|pair| pair[0].0 == pair[1].0);
        for (place, span) in spans.iter().enumerate() {
            let parent = choose_parent(spans, &self.by_id, shares_ids, place);
            self.parent.push(parent);
            self.orphan.push(span.parent_id.is_some() && parent.is_none());
        }
        let key = |place: &usize| {
            let span = &spans[*place];
            (span.start_unix_nano, span.end_unix_nano, span.span_id)
        };
        self.by_start.clear();
        self.by_start.extend(0..count);
        if !self.by_start.is_sorted_by_key(key) {
            self.by_start.sort_by_key(key);
        }
        self.hang();
        // What stands in a cycle, or below one, is reached from no root.
        if self.order.len() < count {
            self.cut_cycles(spans);
            self.hang();
        }
    }

    /// Fills lists of children, roots and order from the parents.
    fn hang(&mut self) {
        let count = self.parent.len();
        let Children { ends, places } = &mut self.children;
        ends.clear();
        ends.resize(count, 0);
        self.parent.iter().flatten().for_each(|parent| ends[*parent] += 1);
        let mut total = 0;
        for end in ends.iter_mut() {
            let own = *end;
            *end = total;
            total += own;
        }
        places.clear();
        places.resize(total, 0);
        self.roots.clear();
        for place in &self.by_start {
            match self.parent[*place] {
                Some(parent) => {
                    places[ends[parent]] = *place;
                    ends[parent] += 1;
                }
                None => self.roots.push(*place),
            }
        }
        self.order.clear();
        self.order.extend_from_slice(&self.roots);
        let mut at = 0;
        while at < self.order.len() {
            self.order.extend_from_slice(&self.children[self.order[at]]);
            at += 1;
        }
    }

    /// All spans, parents before children.
    pub fn parents_first(&self) -> &[usize] {
        &self.order
    }

    /// The one span that the whole trace hangs on: the only span without a parent id, or the only orphan.
    pub fn single_root(&self) -> Option<usize> {
        let mut true_roots = self.roots.iter().filter(|root| !self.orphan[**root]);
        match (true_roots.next(), true_roots.next()) {
            (Some(root), None) => Some(*root),
            (None, _) if self.roots.len() == 1 => self.roots.first().copied(),
            _ => None,
        }
    }

    /// Every walk up must end: the earliest span of a cycle becomes an orphan root.
    fn cut_cycles(&mut self, spans: &[SpanView]) {
        const FRESH: u8 = 0;
        const ON_WALK: u8 = 1;
        const DONE: u8 = 2;
        let mut state = vec![FRESH; self.parent.len()];
        for first in 0..self.parent.len() {
            let mut walk = Vec::new();
            let mut at = Some(first);
            while let Some(place) = at {
                match state[place] {
                    FRESH => {
                        state[place] = ON_WALK;
                        walk.push(place);
                        at = self.parent[place];
                    }
                    ON_WALK => {
                        let cycle = walk.iter().skip_while(|step| **step != place);
                        let cut = cycle.min_by_key(|step| (spans[**step].start_unix_nano, **step));
                        let cut = cut.copied().unwrap_or(place);
                        self.parent[cut] = None;
                        self.orphan[cut] = true;
                        at = None;
                    }
                    _ => at = None,
                }
            }
            for place in walk {
                state[place] = DONE;
            }
        }
    }
}

/// Spans of one id that are looked at for a parent: two share one in Zipkin, more only by mistake.
const SHARING: usize = 16;

/// Of several spans with the parent's id (Zipkin shares ids between client and server) the server's half, if it runs when
/// the child starts, else whichever runs then, else the server's half. A server's span hangs on the client's half of its
/// own id. In which order spans came does not matter. A span is never its own parent.
fn choose_parent(spans: &[SpanView], by_id: &[(u64, usize)], shares_ids: bool, child: usize) -> Option<usize> {
    let span = &spans[child];
    let of = |id: u64| {
        let from = by_id.partition_point(|(other, _)| *other < id);
        let same = by_id.get(from..).unwrap_or_default().iter().take_while(move |(other, _)| *other == id);
        same.map(|(_, place)| *place).filter(move |place| *place != child).take(SHARING)
    };
    if shares_ids && span.kind == SpanKind::Server {
        let is_other_half = |place: &usize| {
            let other = &spans[*place];
            other.kind == SpanKind::Client
                && (other.parent_id == span.parent_id || other.parent_id == Some(span.span_id))
        };
        let halves = of(span.span_id).filter(is_other_half);
        if let Some(half) = halves.min_by_key(|place| (spans[*place].start_unix_nano, spans[*place].end_unix_nano)) {
            return Some(half);
        }
    }
    let mut candidates = of(span.parent_id?);
    let first = candidates.next()?;
    let rank = |place: &usize| {
        let other = &spans[*place];
        let (start, end) = (other.start_unix_nano, other.end_unix_nano);
        let runs = start <= span.start_unix_nano && span.start_unix_nano <= end;
        (runs, other.kind == SpanKind::Server, start, Reverse(end))
    };
    match candidates.next() {
        None => Some(first),
        Some(second) => [first, second].into_iter().chain(candidates).max_by_key(rank),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use spanwise_model::{Span, SpanId, TraceId, TraceSpan};
    use std::sync::Arc;

    /// A span of service `s`: `(id, parent id or 0, start, end)`.
    pub fn trace(spans: &[(u8, u8, u64, u64)]) -> Trace {
        let spans = spans.iter().map(|(id, parent, start, end)| TraceSpan {
            resource: Arc::default(),
            scope: Arc::default(),
            span: Span {
                trace_id: TraceId([1; 16]),
                span_id: SpanId([0, 0, 0, 0, 0, 0, 0, *id]),
                parent_span_id: (*parent != 0).then_some(SpanId([0, 0, 0, 0, 0, 0, 0, *parent])),
                start_unix_nano: *start,
                end_unix_nano: *end,
                ..Span::default()
            },
        });
        Trace { spans: spans.collect() }
    }

    #[test]
    fn a_missing_parent_makes_an_orphan_root() {
        let tree = Tree::of(&trace(&[(1, 0, 0, 9), (2, 1, 1, 2), (3, 7, 3, 4)]));
        assert_eq!(tree.roots, [0, 2]);
        assert_eq!(tree.orphan, [false, false, true]);
        assert_eq!(tree.single_root(), Some(0));
    }

    /// As Zipkin's clients send them: `(id, parent id or 0, kind, start, end)`.
    #[test]
    fn halves_that_share_an_id_hang_together_in_whatever_order_they_come() {
        use SpanKind::{Client, Internal, Server};
        let spans = [
            (1, 0, Client, 0, 100),
            (1, 0, Server, 10, 90),
            (2, 1, Client, 20, 50),
            // Its clock is ahead.
            (2, 1, Server, 60, 80),
            (3, 2, Internal, 65, 70),
            // While only the client's half runs.
            (4, 2, Internal, 21, 22),
            // After both: what the server left behind.
            (5, 2, Internal, 95, 99),
        ];
        let expected = [None, Some(0), Some(1), Some(2), Some(3), Some(2), Some(3)];
        for turn in 0..spans.len() {
            for is_reversed in [false, true] {
                let mut order: Vec<usize> = (0..spans.len()).map(|place| (place + turn) % spans.len()).collect();
                if is_reversed {
                    order.reverse();
                }
                let mut trace = trace(
                    &order
                        .iter()
                        .map(|at| {
                            let (id, parent, _, start, end) = spans[*at];
                            (id, parent, start, end)
                        })
                        .collect::<Vec<_>>(),
                );
                for (span, at) in trace.spans.iter_mut().zip(&order) {
                    span.span.kind = spans[*at].2;
                }
                let tree = Tree::of(&trace);
                for (place, at) in order.iter().enumerate() {
                    let parent = tree.parent[place].map(|parent| order[parent]);
                    assert_eq!(parent, expected[*at], "span {at} of order {order:?}");
                }
                assert_eq!(tree.orphan, [false; 7]);
            }
        }
    }

    #[test]
    fn cycles_are_cut_at_their_earliest_span() {
        let tree = Tree::of(&trace(&[(1, 3, 5, 9), (2, 1, 2, 3), (3, 2, 4, 5), (4, 4, 1, 2)]));
        assert_eq!(tree.roots, [3, 1]);
        assert_eq!(tree.children[1], [2]);
        assert_eq!(tree.children[2], [0]);
        assert_eq!(tree.single_root(), None);
    }

    #[test]
    fn a_chain_of_100_000_is_walked_without_recursion() {
        let mut trace = trace(&[(1, 0, 0, 9)]);
        let template = trace.spans[0].clone();
        for place in 1..100_000u64 {
            let mut next = template.clone();
            next.span.span_id = SpanId((place + 1).to_be_bytes());
            next.span.parent_span_id = Some(SpanId(place.to_be_bytes()));
            trace.spans.push(next);
        }
        assert_eq!(Tree::of(&trace).roots, [0]);
    }
}
