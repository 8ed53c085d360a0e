//! The tree of a trace's spans, whatever came: missing parents, several roots, repeated ids, cycles.

use std::collections::HashMap;

use spanwise_model::{SpanId, Trace};

/// Places are indices into the trace's `spans`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    pub parent: Vec<Option<usize>>,
    /// Children in order of start, then end, then span id.
    pub children: Vec<Vec<usize>>,
    /// Spans without a parent in the trace, in order of start. Each span is below exactly one of them.
    pub roots: Vec<usize>,
    /// The span names a parent that is not in the trace, or stood in a cycle that was cut here.
    pub orphan: Vec<bool>,
}

impl Tree {
    pub fn of(trace: &Trace) -> Tree {
        let count = trace.spans.len();
        let mut by_id: HashMap<SpanId, Vec<usize>> = HashMap::with_capacity(count);
        for (place, span) in trace.spans.iter().enumerate() {
            by_id.entry(span.span.span_id).or_default().push(place);
        }
        let mut tree = Tree {
            parent: vec![None; count],
            children: vec![Vec::new(); count],
            roots: Vec::new(),
            orphan: vec![false; count],
        };
        for (place, span) in trace.spans.iter().enumerate() {
            let Some(parent_id) = span.span.parent_span_id else {
                continue;
            };
            tree.parent[place] = choose_parent(trace, by_id.get(&parent_id), place);
            tree.orphan[place] = tree.parent[place].is_none();
        }
        tree.cut_cycles(trace);
        for place in 0..count {
            match tree.parent[place] {
                Some(parent) => tree.children[parent].push(place),
                None => tree.roots.push(place),
            }
        }
        let order = |place: &usize| {
            let span = &trace.spans[*place].span;
            (span.start_unix_nano, span.end_unix_nano, span.span_id)
        };
        tree.roots.sort_by_key(order);
        for children in &mut tree.children {
            children.sort_by_key(order);
        }
        tree
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
    fn cut_cycles(&mut self, trace: &Trace) {
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
                        let cut = cycle.min_by_key(|step| (trace.spans[**step].span.start_unix_nano, **step));
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

/// Of several spans with the parent's id (Zipkin shares ids between client and server) the first that contains the
/// child in time, else the first. A span is never its own parent.
fn choose_parent(trace: &Trace, candidates: Option<&Vec<usize>>, child: usize) -> Option<usize> {
    let start = trace.spans[child].span.start_unix_nano;
    let mut candidates = candidates?.iter().copied().filter(|place| *place != child).take(SHARING);
    let first = candidates.next()?;
    let contains = |place: &usize| {
        let span = &trace.spans[*place].span;
        span.start_unix_nano <= start && start <= span.end_unix_nano
    };
    if contains(&first) {
        return Some(first);
    }
    Some(candidates.find(contains).unwrap_or(first))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use spanwise_model::{Span, TraceId, TraceSpan};
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
