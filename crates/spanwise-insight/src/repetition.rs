//! Calls that repeat under one span: one by one (N+1), side by side (fan-out), or because the ones before failed.

use rustc_hash::{FxHashMap, FxHashSet};
use spanwise_model::SpanKind;

use crate::analysis::Analysed;
use crate::calls::{Category, is_nameless_name};
use crate::facts::SpanTimes;
use crate::names::{Name, Names};
use crate::thresholds::{REPEATS, RETRIES, SERIAL, TURNS, WRAPPERS};
use crate::tree::Tree;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RepetitionKind {
    NPlusOne,
    FanOut,
    RetryStorm,
}

/// One group of repeated calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repetition {
    pub kind: RepetitionKind,
    /// Under which span they repeat.
    pub caller: usize,
    /// The calls, by start.
    pub calls: Vec<usize>,
    /// Time on the critical path that the calls and all below them take; of retries the waits between them too.
    pub critical_ns: u64,
    /// Groups that take turns with this one, its own place among them: one loop that makes several calls. The number
    /// is that of the loop's first group.
    pub turn: usize,
}

/// Operation, system and peer: what makes calls the same.
type Kind = (Name, Option<Name>, Option<Name>);

/// What finding repetitions needs room for; serves again for the next trace.
#[derive(Default)]
pub(crate) struct Memory {
    /// Calls that belong to no group yet.
    open: Vec<(Kind, usize)>,
    /// By their caller.
    keyed: Vec<(usize, Kind, usize)>,
}

/// Calls that may be a group.
const FEWEST: usize = if REPEATS < RETRIES { REPEATS } else { RETRIES };

/// Finds the groups of one trace. A call belongs to the nearest span under which it repeats, its direct parent or one
/// behind at most two wrappers. `below` is [`critical_below`].
pub(crate) fn repetitions(
    trace: &Analysed<'_>,
    below: &[u64],
    names: &mut Names,
    memory: &mut Memory,
) -> Vec<Repetition> {
    let mut found = Vec::new();
    let Memory { open, keyed } = memory;
    open.clear();
    for place in (0..trace.calls.len()).filter(|place| is_call(trace, *place)) {
        let call = &trace.calls[place];
        // Replicas of a store are one, and so are addresses of a host.
        let peer = call.peer.filter(|_| call.category != Category::Database);
        let peer = peer.filter(|peer| !is_nameless_name(names, *peer));
        open.push(((call.operation, call.system, peer), place));
    }
    keep_frequent(open);
    // Nearest first: direct children, then those behind one wrapper, then behind two.
    for depth in 0..=WRAPPERS {
        if open.len() < FEWEST {
            break;
        }
        keyed.clear();
        keyed.extend(open.iter().filter_map(|(kind, place)| Some((ancestor(trace, *place, depth)?, *kind, *place))));
        keyed.sort_unstable();
        let groups = keyed.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)).filter(|group| group.len() >= FEWEST);
        let mut groups: Vec<Vec<usize>> =
            groups.map(|group| group.iter().map(|(.., place)| *place).collect()).collect();
        groups.sort_by_key(|places| places.first().copied());
        let before = found.len();
        for mut places in groups {
            places.sort_by_key(|place| (trace.spans[*place].start_unix_nano, *place));
            let Some(kind) = judge(trace, &places) else { continue };
            let Some(caller) = ancestor(trace, places[0], depth) else { continue };
            let own: u64 = places.iter().map(|place| below[*place]).sum();
            let critical_ns = match kind {
                RepetitionKind::RetryStorm if own > 0 => {
                    let (start, end) = window(trace, &places);
                    end - start
                }
                _ => own,
            };
            found.push(Repetition { kind, caller, calls: places, critical_ns, turn: found.len() });
        }
        if found.len() > before {
            let claimed: FxHashSet<usize> =
                found.iter().skip(before).flat_map(|group: &Repetition| group.calls.iter().copied()).collect();
            open.retain(|(_, place)| !claimed.contains(place));
        }
    }
    take_turns(trace, &mut found);
    found
}

/// Leaves out calls of which there are too few anywhere: most, in most traces.
fn keep_frequent(calls: &mut Vec<(Kind, usize)>) {
    if calls.len() < FEWEST {
        return;
    }
    calls.sort_unstable();
    let mut kept = 0;
    let mut at = 0;
    while at < calls.len() {
        let kind = calls[at].0;
        let count = calls[at..].iter().take_while(|(other, _)| *other == kind).count();
        if count >= FEWEST {
            calls.copy_within(at..at + count, kept);
            kept += count;
        }
        at += count;
    }
    calls.truncate(kept);
}

/// First start and last end.
fn window(trace: &Analysed<'_>, places: &[usize]) -> (u64, u64) {
    let spans = || places.iter().map(|place| &trace.spans[*place]);
    let start = spans().map(|span| span.start_unix_nano).min().unwrap_or(0);
    (start, spans().map(|span| span.end_unix_nano).max().unwrap_or(0).max(start))
}

/// Marks groups of one caller that lie in the same stretch of time: a loop of several calls.
fn take_turns(trace: &Analysed<'_>, found: &mut [Repetition]) {
    if found.len() < 2 {
        return;
    }
    let windows: Vec<(u64, u64)> = found.iter().map(|group| window(trace, &group.calls)).collect();
    let mut by_caller: FxHashMap<(usize, RepetitionKind), Vec<usize>> = FxHashMap::default();
    for (number, group) in found.iter().enumerate() {
        by_caller.entry((group.caller, group.kind)).or_default().push(number);
    }
    for mut numbers in by_caller.into_values() {
        numbers.sort_by_key(|number| (windows[*number], *number));
        for pair in 1..numbers.len() {
            let (before, here) = (numbers[pair - 1], numbers[pair]);
            let ((_, end), (start, own_end)) = (windows[before], windows[here]);
            let shared = end.min(own_end).saturating_sub(start) as f64;
            let shorter = (end - windows[before].0).min(own_end - start).max(1) as f64;
            if shared >= TURNS * shorter {
                found[here].turn = found[before].turn;
            }
        }
    }
}

/// Critical time of each span and all below it, in place of what `below` held.
pub(crate) fn critical_below(tree: &Tree, times: &[SpanTimes], below: &mut Vec<u64>) {
    below.clear();
    below.extend(times.iter().map(|span| span.critical_ns));
    // Parents before children, so children are added up first when walked backwards.
    for place in tree.parents_first().iter().rev() {
        if let Some(parent) = tree.parent[*place] {
            below[parent] += below[*place];
        }
    }
}

/// A call to something else: a client's or producer's span, a database's, or a server's whose client sends no spans.
fn is_call(trace: &Analysed<'_>, place: usize) -> bool {
    let call = &trace.calls[place];
    let parent = trace.tree.parent[place];
    // A driver's span inside of an ORM's says the same once more.
    if call.is_outgoing {
        let is_inner = || parent.is_some_and(|parent| trace.calls[parent].category == Category::Database);
        return call.category != Category::Database || !is_inner();
    }
    let Some(parent) = parent else { return false };
    let (span, above) = (&trace.spans[place], &trace.spans[parent]);
    let is_answer = span.kind == SpanKind::Server || (span.kind != SpanKind::Consumer && span.service != above.service);
    is_answer && !trace.calls[parent].is_outgoing
}

/// The span `depth` wrappers above a call; wrappers are spans of the caller's own service that call nobody themselves.
fn ancestor(trace: &Analysed<'_>, place: usize, depth: usize) -> Option<usize> {
    let mut at = trace.tree.parent[place]?;
    for _ in 0..depth {
        let is_wrapper =
            !trace.calls[at].is_outgoing && !matches!(trace.spans[at].kind, SpanKind::Server | SpanKind::Consumer);
        if !is_wrapper {
            return None;
        }
        at = trace.tree.parent[at]?;
    }
    Some(at)
}

fn judge(trace: &Analysed<'_>, places: &[usize]) -> Option<RepetitionKind> {
    let failed = places.iter().filter(|place| trace.spans[**place].is_error()).count();
    // Failures of different things are not tries of one.
    let calls = || places.iter().map(|place| &trace.calls[*place]);
    let same = calls().next().map(|first| first.target);
    let is_one = || calls().all(|call| Some(call.target) == same);
    if places.len() >= RETRIES && failed + 1 >= places.len() && is_one() && serial_share(trace, places) >= SERIAL {
        return Some(RepetitionKind::RetryStorm);
    }
    if places.len() < REPEATS || is_paging(trace, places) {
        return None;
    }
    Some(if serial_share(trace, places) >= SERIAL { RepetitionKind::NPlusOne } else { RepetitionKind::FanOut })
}

/// 1 when no two overlap, 0 when all run at once.
fn serial_share(trace: &Analysed<'_>, places: &[usize]) -> f64 {
    let (mut sum, mut union, mut reached) = (0u64, 0u64, 0u64);
    for place in places {
        let span = &trace.spans[*place];
        let end = span.end_unix_nano.max(span.start_unix_nano);
        sum += end - span.start_unix_nano;
        union += end.saturating_sub(span.start_unix_nano.max(reached));
        reached = reached.max(end);
    }
    if sum == 0 { 1.0 } else { 1.0 - (sum - union) as f64 / sum as f64 }
}

/// Walking a list page by page is how lists are read: of URLs each has to name its page.
fn is_paging(trace: &Analysed<'_>, places: &[usize]) -> bool {
    let mut calls = places.iter().map(|place| &trace.calls[*place]);
    let Some(first) = calls.next() else { return false };
    first.is_page && (first.category != Category::Http || calls.all(|call| call.is_page))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::Analysis;
    use crate::tree::tests::trace;
    use spanwise_model::{KeyValue, Status, StatusCode, Trace};

    /// Spans of (id, parent, start, end); those named in `sql` are database calls.
    fn find(spans: &[(u8, u8, u64, u64)], sql: impl Fn(u8) -> Option<&'static str>) -> Vec<Repetition> {
        let mut trace = trace(spans);
        for (number, (id, ..)) in spans.iter().enumerate() {
            let span = &mut trace.spans[number].span;
            span.name = "step".to_owned();
            if let Some(statement) = sql(*id) {
                span.kind = SpanKind::Client;
                span.attributes = vec![KeyValue::new("db.system", "sqlite"), KeyValue::new("db.statement", statement)];
            }
        }
        found(&trace)
    }

    fn found(trace: &Trace) -> Vec<Repetition> {
        let mut names = Names::default();
        Analysis::of(trace, &mut names).repetitions(&mut names)
    }

    fn serial(count: u8, first: u8, parent: u8) -> Vec<(u8, u8, u64, u64)> {
        (0..count).map(|n| (first + n, parent, 10 + u64::from(n) * 10, 18 + u64::from(n) * 10)).collect()
    }

    #[test]
    fn calls_one_by_one_are_n_plus_one_and_side_by_side_fan_out() {
        let mut spans = vec![(1, 0, 0, 200)];
        spans.extend(serial(6, 10, 1));
        let groups = find(&spans, |id| (id >= 10).then_some("SELECT * FROM items WHERE id = 7"));
        assert_eq!(groups.len(), 1);
        assert_eq!((groups[0].kind, groups[0].calls.len(), groups[0].critical_ns), (RepetitionKind::NPlusOne, 6, 48));
        let parallel: Vec<_> =
            [(1, 0, 0, 200)].into_iter().chain((10..16).map(|id| (id, 1, 10, 100 + u64::from(id)))).collect();
        assert_eq!(find(&parallel, |id| (id >= 10).then_some("SELECT 1"))[0].kind, RepetitionKind::FanOut);
        assert!(find(&spans[..5], |id| (id >= 10).then_some("SELECT 1")).is_empty());
    }

    #[test]
    fn wrappers_and_other_calls_between_do_not_hide_it() {
        // Each query in a wrapper, and a connect before each.
        let mut spans = vec![(1, 0, 0, 300)];
        for n in 0..5u8 {
            let start = 10 + u64::from(n) * 50;
            spans.push((20 + n, 1, start, start + 40));
            spans.push((40 + n, 20 + n, start, start + 5));
            spans.push((60 + n, 20 + n, start + 6, start + 30));
        }
        let groups = find(&spans, |id| match id {
            40..60 => Some("BEGIN"),
            60.. => Some("SELECT * FROM t WHERE id = ?"),
            _ => None,
        });
        assert_eq!(groups.len(), 2);
        assert!(groups.iter().all(|group| group.caller == 0 && group.calls.len() == 5));
        // They take turns: one loop.
        assert!(groups.iter().all(|group| group.turn == 0));
    }

    #[test]
    fn paging_and_retries_are_something_else() {
        let mut spans = vec![(1, 0, 0, 200)];
        spans.extend(serial(6, 10, 1));
        for page in [
            "SELECT * FROM t LIMIT 10 OFFSET 20",
            "SELECT * FROM t WHERE id > 7 ORDER BY id LIMIT 100",
            "SELECT TOP 100 * FROM t WHERE id > 7 ORDER BY id",
            "FETCH FORWARD 50 FROM c1",
        ] {
            assert!(find(&spans, |id| (id >= 10).then_some(page)).is_empty(), "{page}");
        }
        let one_row = "SELECT p FROM t WHERE item = 3 AND at < 7 ORDER BY at DESC LIMIT 1";
        assert_eq!(find(&spans, |id| (id >= 10).then_some(one_row)).len(), 1);
        let mut failing = trace(&spans[..4]);
        for span in &mut failing.spans[1..] {
            span.span.kind = SpanKind::Client;
            span.span.status = Status { code: StatusCode::Error, ..Status::default() };
        }
        assert_eq!(found(&failing)[0].kind, RepetitionKind::RetryStorm);
    }
}
