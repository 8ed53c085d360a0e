//! Everything that one trace says about its time: contracts §3 is this, as JSON.

use std::collections::BTreeMap;

use spanwise_model::{SpanKind, Trace};

use crate::critical_path::{CriticalPath, Mode, Relation, Walk, extent, path_of_views, relation, walk};
use crate::tree::Tree;
use crate::view::{SpanView, Views, views};

/// Per span, at the span's place in the trace. Durations in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpanFacts {
    /// Time in which no child ran.
    pub self_ns: u64,
    /// Time on the critical path that no deeper span explains.
    pub critical_ns: u64,
    /// Of `async`, `detached`, `missing_parent`, `skew`.
    pub flags: Vec<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceTime {
    pub service: String,
    pub ns: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraceFacts {
    pub tree: Tree,
    /// The span that the trace is named after: the single root, else the earliest root.
    pub root: Option<usize>,
    pub start_unix_nano: u64,
    /// The root's duration, or first start to last end without a single root.
    pub duration_ns: u64,
    pub error_count: usize,
    pub spans: Vec<SpanFacts>,
    pub critical_path: CriticalPath,
    /// Sums to `duration_ns`; largest first. Time in which no span ran stands under [`NO_SPAN`].
    pub critical_by_service: Vec<ServiceTime>,
    /// Service and number of its spans; most spans first.
    pub services: Vec<(String, usize)>,
}

/// Stands for a service where no span of the trace ran.
pub const NO_SPAN: &str = "(no span)";

pub fn trace_facts(trace: &Trace) -> TraceFacts {
    trace_facts_in(trace, Mode::Spanwise)
}

/// With the critical path by another rule; its times by service then need not sum to the duration.
pub fn trace_facts_in(trace: &Trace, mode: Mode) -> TraceFacts {
    let Views { spans: views, names } = views(trace);
    let tree = Tree::of_views(&views);
    let path = path_of_views(trace, &views, &tree, mode);
    let mut spans: Vec<SpanFacts> = (0..views.len()).map(|place| span_facts(&views, &tree, place)).collect();
    let mut by_service: BTreeMap<&str, u64> = BTreeMap::new();
    let service = |place: usize| names.text(views[place].service);
    for segment in &path.segments {
        let ns = segment.end_unix_nano - segment.start_unix_nano;
        let service = match segment.span {
            Some(place) => {
                spans[place].critical_ns += ns;
                service(place)
            }
            None => NO_SPAN,
        };
        *by_service.entry(service).or_default() += ns;
    }
    if let Some(own_ns) = &path.own_ns {
        by_service.clear();
        for (place, (facts, own_ns)) in spans.iter_mut().zip(own_ns).enumerate() {
            facts.critical_ns = *own_ns;
            if *own_ns > 0 {
                *by_service.entry(service(place)).or_default() += own_ns;
            }
        }
    }
    let mut services: BTreeMap<&str, usize> = BTreeMap::new();
    for place in 0..views.len() {
        *services.entry(service(place)).or_default() += 1;
    }
    let mut critical_by_service: Vec<_> =
        by_service.into_iter().map(|(service, ns)| ServiceTime { service: service.to_owned(), ns }).collect();
    critical_by_service.sort_by_key(|service| std::cmp::Reverse(service.ns));
    let mut services: Vec<_> = services.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
    services.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    TraceFacts {
        root: root(&tree),
        start_unix_nano: path.start_unix_nano,
        duration_ns: path.end_unix_nano - path.start_unix_nano,
        error_count: views.iter().filter(|span| span.is_error()).count(),
        spans,
        critical_path: path,
        critical_by_service,
        services,
        tree,
    }
}

/// The span that a trace is named after.
pub(crate) fn root(tree: &Tree) -> Option<usize> {
    tree.single_root().or_else(|| tree.roots.first().copied())
}

fn span_facts(spans: &[SpanView], tree: &Tree, place: usize) -> SpanFacts {
    let span = &spans[place];
    let mut flags = Vec::new();
    if tree.orphan[place] {
        flags.push("missing_parent");
    }
    if let Some(parent) = tree.parent[place] {
        match relation(&spans[parent], span) {
            Relation::Awaited => {}
            Relation::Async => flags.push("async"),
            Relation::Detached => flags.push("detached"),
        }
        if is_skewed(&spans[parent], span) {
            flags.push("skew");
        }
    }
    if span.end_unix_nano < span.start_unix_nano && !flags.contains(&"skew") {
        flags.push("skew");
    }
    SpanFacts { self_ns: self_time(spans, tree, place), critical_ns: 0, flags }
}

/// A server cannot have started before its client asked, nor ended after the client had its answer; one that took
/// longer than its client may have gone on after the client gave up.
fn is_skewed(parent: &SpanView, child: &SpanView) -> bool {
    let ends_late = child.end_unix_nano > parent.end_unix_nano && child.duration_ns() <= parent.duration_ns();
    parent.kind == SpanKind::Client
        && child.kind == SpanKind::Server
        && (child.start_unix_nano < parent.start_unix_nano || ends_late)
}

/// The span's duration less the union of its children's times.
fn self_time(spans: &[SpanView], tree: &Tree, place: usize) -> u64 {
    let span = &spans[place];
    let mut covered = 0;
    let mut at = span.start_unix_nano;
    // Children are in order of start.
    for child in &tree.children[place] {
        let child = &spans[*child];
        let start = child.start_unix_nano.max(at);
        let end = child.end_unix_nano.min(span.end_unix_nano);
        if start < end {
            covered += end - start;
            at = end;
        }
    }
    span.duration_ns() - covered
}

/// What the columns of a block keep of a span.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpanTimes {
    pub self_ns: u64,
    pub critical_ns: u64,
}

/// Times of all spans of one trace, and of itself.
#[derive(Default)]
pub(crate) struct Times {
    pub spans: Vec<SpanTimes>,
    pub start_unix_nano: u64,
    pub duration_ns: u64,
}

impl Times {
    /// By our own rule. The memory serves again.
    pub fn fill(&mut self, spans: &[SpanView], tree: &Tree, memory: &mut Walk) {
        let (root, start, end) = extent(spans, tree);
        (self.start_unix_nano, self.duration_ns) = (start, end - start);
        self.spans.clear();
        let own = |place| SpanTimes { self_ns: self_time(spans, tree, place), critical_ns: 0 };
        self.spans.extend((0..spans.len()).map(own));
        walk(spans, tree, (root, start, end), memory, |span, from, to| {
            if let Some(times) = span.and_then(|place| self.spans.get_mut(place)) {
                times.critical_ns += to - from;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::trace;

    #[test]
    fn self_time_is_what_no_child_covers() {
        let facts = trace_facts(&trace(&[(1, 0, 0, 100), (2, 1, 10, 40), (3, 1, 30, 60), (4, 1, 90, 130)]));
        let self_ns: Vec<_> = facts.spans.iter().map(|span| span.self_ns).collect();
        assert_eq!(self_ns, [40, 30, 30, 40]);
        assert_eq!(facts.spans[3].flags, ["async"]);
    }

    #[test]
    fn critical_time_by_service_sums_to_the_duration() {
        let facts = trace_facts(&trace(&[(1, 0, 0, 40), (2, 0, 60, 100)]));
        assert_eq!(facts.duration_ns, 100);
        assert_eq!(facts.critical_by_service.iter().map(|service| service.ns).sum::<u64>(), 100);
        assert_eq!(facts.critical_by_service[1], ServiceTime { service: NO_SPAN.to_owned(), ns: 20 });
    }

    #[test]
    fn times_that_cannot_be_true_are_flagged_and_a_client_that_gave_up_is_none() {
        for (server, is_skew) in [((20, 30), false), ((5, 25), true), ((30, 45), true), ((15, 90), false)] {
            let mut trace = trace(&[(1, 0, 0, 100), (2, 1, 10, 40), (3, 2, server.0, server.1)]);
            trace.spans[1].span.kind = SpanKind::Client;
            trace.spans[2].span.kind = SpanKind::Server;
            assert_eq!(trace_facts(&trace).spans[2].flags.contains(&"skew"), is_skew, "{server:?}");
        }
    }

    #[test]
    fn an_empty_trace_has_no_facts() {
        let facts = trace_facts(&Trace::default());
        assert_eq!((facts.root, facts.duration_ns), (None, 0));
    }
}
