//! Clocks of different hosts: what a call says of them, one offset per pair of hosts, and traces set right by them.
//!
//! A server cannot have started before its client asked, nor have ended after the client had its answer. Each call so
//! bounds how much must be added to the server's clock; all calls between two hosts bound it together (as NTP does).
//! Raw times are what is stored and shown; analyses over many traces use times set right, where raw ones cannot be true.

use std::borrow::Cow;
use std::collections::BTreeMap;

use spanwise_model::{SpanKind, Trace};

use crate::names::Name;
use crate::tree::Tree;
use crate::view::{SpanView, Views, views};

/// What must be added to the times of `to` for them to be those of `from`: from `low` to `high` nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    pub low: i64,
    pub high: i64,
    pub calls: u64,
}

impl Interval {
    fn of_call(client: (u64, u64), server: (u64, u64)) -> Self {
        let difference = |a: u64, b: u64| i64::try_from(i128::from(a) - i128::from(b)).unwrap_or(0);
        Self { low: difference(client.0, server.0), high: difference(client.1, server.1), calls: 1 }
    }

    /// Both must hold. Where they cannot, the clocks moved: the narrower one is believed.
    pub fn and(self, other: Self) -> Self {
        let calls = self.calls + other.calls;
        let (low, high) = (self.low.max(other.low), self.high.min(other.high));
        if low <= high {
            return Self { low, high, calls };
        }
        let width = |interval: &Self| interval.high.saturating_sub(interval.low);
        let narrower = if width(&self) <= width(&other) { self } else { other };
        Self { calls, ..narrower }
    }

    pub fn is_feasible(&self) -> bool {
        self.low <= self.high
    }

    /// Nothing where the clocks may agree, else the middle of what is possible.
    pub fn correction(&self) -> i64 {
        if self.low <= 0 && 0 <= self.high { 0 } else { self.low.midpoint(self.high) }
    }

    pub fn width_ns(&self) -> u64 {
        u64::try_from(self.high.saturating_sub(self.low)).unwrap_or(0)
    }
}

/// Pairs of hosts that are told apart: beyond it, calls between others are counted and not used.
const MOST_PAIRS: usize = 10_000;

/// Offsets of pairs of hosts, over as many traces as are added, in any order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offsets {
    pairs: BTreeMap<(String, String), Interval>,
    pub traces: u64,
    /// Calls between pairs of hosts for which there was no room.
    pub left_out: u64,
}

impl Offsets {
    pub fn add(&mut self, trace: &Trace) {
        self.traces += 1;
        let Views { spans, names } = views(trace);
        let tree = Tree::of_views(&spans);
        for (parent, child) in pairs(&spans, &tree) {
            let interval = of_spans(&spans, parent, child);
            // A call that the server took longer for than the client says nothing of clocks.
            if interval.is_feasible() {
                self.insert(names.text(spans[parent].host), names.text(spans[child].host), interval);
            }
        }
    }

    /// What calls between two hosts allow, beside what is known.
    pub fn insert(&mut self, from: &str, to: &str, interval: Interval) {
        let hosts = (from.to_owned(), to.to_owned());
        if let Some(known) = self.pairs.get_mut(&hosts) {
            // The hull of what all allow is kept as bounds that only tighten, so that order does not matter.
            known.low = known.low.max(interval.low);
            known.high = known.high.min(interval.high);
            known.calls += interval.calls;
        } else if self.pairs.len() < MOST_PAIRS {
            self.pairs.insert(hosts, interval);
        } else {
            self.left_out += interval.calls;
        }
    }

    /// Client's host, server's host, and what is possible. An interval whose `low` lies above its `high` says that
    /// the clocks moved against each other.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str, Interval)> {
        self.pairs.iter().map(|((from, to), interval)| (from.as_str(), to.as_str(), *interval))
    }

    /// What calls in both directions allow to be added to the times of `to`.
    pub fn between(&self, from: &str, to: &str) -> Option<Interval> {
        let there = self.pairs.get(&(from.to_owned(), to.to_owned())).copied();
        let back = self.pairs.get(&(to.to_owned(), from.to_owned())).map(|back| Interval {
            low: back.high.saturating_neg(),
            high: back.low.saturating_neg(),
            calls: back.calls,
        });
        match (there, back) {
            (Some(there), Some(back)) => Some(Interval {
                low: there.low.max(back.low),
                high: there.high.min(back.high),
                calls: there.calls + back.calls,
            }),
            (one, other) => one.or(other),
        }
    }
}

fn of_spans(spans: &[SpanView], parent: usize, child: usize) -> Interval {
    let window = |span: &SpanView| (span.start_unix_nano, span.end_unix_nano.max(span.start_unix_nano));
    Interval::of_call(window(&spans[parent]), window(&spans[child]))
}

/// Calls from one host to another: parent and child.
fn pairs<'a>(spans: &'a [SpanView], tree: &'a Tree) -> impl Iterator<Item = (usize, usize)> + 'a {
    let is_call = move |(parent, child): &(usize, usize)| {
        let (caller, answer) = (&spans[*parent], &spans[*child]);
        caller.host != answer.host
            && match (caller.kind, answer.kind) {
                (_, SpanKind::Consumer) => false,
                (SpanKind::Client, _) => true,
                // Without a client's span only an answer before the question is beyond doubt.
                _ => answer.start_unix_nano < caller.start_unix_nano,
            }
    };
    let edges = tree.parent.iter().enumerate().filter_map(|(child, parent)| Some(((*parent)?, child)));
    edges.filter(is_call)
}

/// The trace with each host's times moved to where they can be true; itself where they can be already.
pub fn aligned<'a>(trace: &'a Trace, tree: &Tree) -> Cow<'a, Trace> {
    let mut spans = views(trace).spans;
    if !is_impossible(&spans, tree) {
        return Cow::Borrowed(trace);
    }
    align(&mut spans, tree);
    Cow::Owned(with_times(trace, &spans))
}

/// Whether times as they came cannot all be true.
pub(crate) fn is_impossible(spans: &[SpanView], tree: &Tree) -> bool {
    pairs(spans, tree).any(|(parent, child)| of_spans(spans, parent, child).correction() != 0)
}

/// Moves each host's times to where they can be true.
pub(crate) fn align(spans: &mut [SpanView], tree: &Tree) {
    let between = between_hosts(spans, tree);
    let offsets = from_the_root(spans, tree, |from, to| between.get(&(from, to)).map(Interval::correction));
    shift(spans, &offsets);
}

/// A host of a trace whose clock was set right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostOffset {
    pub host: String,
    /// What was added to its times, for them to be those of the root's host.
    pub offset_ns: i64,
    /// Calls that its offset was told from, and whether many traces agree on it; otherwise it is this trace's alone.
    pub calls: u64,
    pub is_shared: bool,
}

/// The trace with one offset for each pair of hosts, estimated over many traces: also where this one's times could be
/// true as they are. Where many do not agree, or this one contradicts them, its own calls decide. Hosts come in order
/// of their names; those without an offset are left out.
pub fn aligned_by(trace: &Trace, tree: &Tree, offsets: &Offsets) -> (Trace, Vec<HostOffset>) {
    let Views { mut spans, names } = views(trace);
    let own = between_hosts(&spans, tree);
    let known = |from: Name, to: Name| {
        let own = own.get(&(from, to)).filter(|own| own.is_feasible());
        let many = offsets.between(names.text(from), names.text(to)).filter(Interval::is_feasible);
        match (many, own) {
            (Some(many), Some(own)) if many.low > own.high || own.low > many.high => (own.correction(), *own, false),
            (Some(many), Some(own)) => (many.correction().clamp(own.low, own.high), many, true),
            (Some(many), None) => (many.correction(), many, true),
            (None, Some(own)) => (own.correction(), *own, false),
            (None, None) => (0, Interval { low: 0, high: 0, calls: 0 }, false),
        }
    };
    let mut told: BTreeMap<Name, (u64, bool)> = BTreeMap::new();
    let found = from_the_root(&spans, tree, |from, to| {
        let (correction, interval, is_shared) = known(from, to);
        told.insert(to, (interval.calls, is_shared));
        Some(correction)
    });
    shift(&mut spans, &found);
    let mut aligned = with_times(trace, &spans);
    for (span, before) in aligned.spans.iter_mut().zip(&trace.spans) {
        let offset = i128::from(span.span.start_unix_nano) - i128::from(before.span.start_unix_nano);
        for event in &mut span.span.events {
            let time = i128::from(event.time_unix_nano) + offset;
            event.time_unix_nano = u64::try_from(time).unwrap_or(event.time_unix_nano);
        }
    }
    let hosts = found.into_iter().filter(|(_, offset_ns)| *offset_ns != 0).map(|(host, offset_ns)| {
        let (calls, is_shared) = told.get(&host).copied().unwrap_or_default();
        HostOffset { host: names.text(host).to_owned(), offset_ns, calls, is_shared }
    });
    let mut hosts: Vec<HostOffset> = hosts.collect();
    hosts.sort_by(|a, b| a.host.cmp(&b.host));
    (aligned, hosts)
}

/// What the trace's own calls allow between each two of its hosts.
fn between_hosts(spans: &[SpanView], tree: &Tree) -> BTreeMap<(Name, Name), Interval> {
    let mut between: BTreeMap<(Name, Name), Interval> = BTreeMap::new();
    for (parent, child) in pairs(spans, tree) {
        let interval = of_spans(spans, parent, child);
        let hosts = (spans[parent].host, spans[child].host);
        between.entry(hosts).and_modify(|known| *known = known.and(interval)).or_insert(interval);
    }
    between
}

/// The offset of each host against the root's, from the root's host outwards, parents before children.
fn from_the_root(
    spans: &[SpanView],
    tree: &Tree,
    mut correction: impl FnMut(Name, Name) -> Option<i64>,
) -> BTreeMap<Name, i64> {
    let mut offsets: BTreeMap<Name, i64> = BTreeMap::new();
    for place in tree.parents_first() {
        let own = spans[*place].host;
        if offsets.contains_key(&own) {
            continue;
        }
        let above = tree.parent[*place].map(|parent| spans[parent].host);
        let offset = above.map_or(0, |above| {
            let moved = offsets.get(&above).copied().unwrap_or(0);
            correction(above, own).map_or(moved, |correction| moved.saturating_add(correction))
        });
        offsets.insert(own, offset);
    }
    offsets
}

fn shift(spans: &mut [SpanView], offsets: &BTreeMap<Name, i64>) {
    for span in spans {
        let offset = offsets.get(&span.host).copied().unwrap_or(0);
        span.start_unix_nano = span.start_unix_nano.saturating_add_signed(offset);
        span.end_unix_nano = span.end_unix_nano.saturating_add_signed(offset);
    }
}

fn with_times(trace: &Trace, spans: &[SpanView]) -> Trace {
    let mut moved = trace.clone();
    for (span, view) in moved.spans.iter_mut().zip(spans) {
        (span.span.start_unix_nano, span.span.end_unix_nano) = (view.start_unix_nano, view.end_unix_nano);
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::trace;
    use spanwise_model::{KeyValue, Resource};
    use std::sync::Arc;

    /// Root and client on host a, server and its child on host b.
    fn call(server: (u64, u64), inner: (u64, u64)) -> Trace {
        let mut trace =
            trace(&[(1, 0, 1000, 1100), (2, 1, 1010, 1050), (3, 2, server.0, server.1), (4, 3, inner.0, inner.1)]);
        for (place, host) in ["a", "a", "b", "b"].iter().enumerate() {
            let attributes = vec![KeyValue::new("host.name", *host)];
            trace.spans[place].resource = Arc::new(Resource { attributes, ..Resource::default() });
        }
        trace.spans[1].span.kind = SpanKind::Client;
        trace.spans[2].span.kind = SpanKind::Server;
        trace
    }

    fn window(trace: &Trace, place: usize) -> (u64, u64) {
        (trace.spans[place].span.start_unix_nano, trace.spans[place].span.end_unix_nano)
    }

    #[test]
    fn an_impossible_host_is_moved_as_a_whole_and_a_possible_one_stays() {
        let fits = call((1015, 1045), (1020, 1030));
        assert!(matches!(aligned(&fits, &Tree::of(&fits)), Cow::Borrowed(_)));
        let ahead = call((1515, 1545), (1520, 1530));
        let aligned_trace = aligned(&ahead, &Tree::of(&ahead));
        // 30 within 40: five before and five after.
        assert_eq!(window(&aligned_trace, 2), (1015, 1045));
        assert_eq!(window(&aligned_trace, 3), (1020, 1030));
        assert_eq!(window(&aligned_trace, 0), (1000, 1100));
    }

    #[test]
    fn many_calls_narrow_what_is_possible_in_any_order() {
        let traces =
            [call((1495, 1510), (1500, 1505)), call((1530, 1545), (1531, 1532)), call((1511, 1549), (1520, 1530))];
        let mut forwards = Offsets::default();
        traces.iter().for_each(|trace| forwards.add(trace));
        let mut backwards = Offsets::default();
        traces.iter().rev().for_each(|trace| backwards.add(trace));
        assert_eq!(forwards, backwards);
        let pairs: Vec<_> = forwards.pairs().collect();
        assert_eq!(pairs, [("a", "b", Interval { low: -485, high: -499, calls: 3 })]);
        let mut steady = Offsets::default();
        [call((1512, 1549), (1520, 1530)), call((1511, 1550), (1520, 1530))].iter().for_each(|trace| steady.add(trace));
        let (_, _, interval) = steady.pairs().next().unwrap();
        assert_eq!((interval.low, interval.high, interval.correction(), interval.width_ns()), (-501, -500, -500, 1));
    }
    #[test]
    fn one_offset_of_many_traces_sets_a_trace_right_that_could_be_true_as_it_is() {
        let mut offsets = Offsets::default();
        // The server's clock is 5 ahead: calls that fill their client's time say so.
        [call((1015, 1055), (1020, 1030)), call((1016, 1054), (1020, 1030))].iter().for_each(|t| offsets.add(t));
        let loose = call((1020, 1030), (1022, 1025));
        assert!(matches!(aligned(&loose, &Tree::of(&loose)), Cow::Borrowed(_)));
        let (set_right, hosts) = aligned_by(&loose, &Tree::of(&loose), &offsets);
        assert_eq!((window(&set_right, 2), window(&set_right, 3)), ((1015, 1025), (1017, 1020)));
        assert_eq!(hosts, [HostOffset { host: "b".to_owned(), offset_ns: -5, calls: 2, is_shared: true }]);
        // A trace that contradicts the many is set right by itself.
        let other = call((1215, 1245), (1220, 1230));
        let (set_right, hosts) = aligned_by(&other, &Tree::of(&other), &offsets);
        assert_eq!(window(&set_right, 2), (1015, 1045));
        assert_eq!((hosts[0].offset_ns, hosts[0].is_shared), (-200, false));
        // Nothing is known, and nothing is wrong.
        let (same, hosts) = aligned_by(&loose, &Tree::of(&loose), &Offsets::default());
        assert_eq!((window(&same, 2), hosts.len()), ((1020, 1030), 0));
    }

    #[test]
    fn calls_in_both_directions_bound_one_offset() {
        let mut offsets = Offsets::default();
        offsets.insert("a", "b", Interval { low: -20, high: 5, calls: 2 });
        offsets.insert("b", "a", Interval { low: -2, high: 10, calls: 1 });
        assert_eq!(offsets.between("a", "b"), Some(Interval { low: -10, high: 2, calls: 3 }));
        assert_eq!(offsets.between("b", "a"), Some(Interval { low: -2, high: 10, calls: 3 }));
        assert_eq!(offsets.between("a", "c"), None);
    }
}
