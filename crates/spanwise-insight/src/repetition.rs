//! Calls that repeat under one span: one by one (N+1), side by side (fan-out), or because the ones before failed.

use std::collections::HashMap;

use spanwise_model::{SpanKind, StatusCode, Trace, semconv};

use crate::calls::{Call, Category, attribute, is_nameless, target};
use crate::facts::TraceFacts;
use crate::thresholds::{REPEATS, RETRIES, SERIAL, TURNS, WRAPPERS};

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

/// Caller, operation, system and peer: what makes calls the same.
type Kind<'a> = (usize, &'a str, Option<&'a str>, Option<&'a str>);

/// Finds the groups of one trace. A call belongs to the nearest span under which it repeats, its direct parent or one
/// behind at most two wrappers.
pub fn repetitions(trace: &Trace, facts: &TraceFacts, calls: &[Call]) -> Vec<Repetition> {
    let below = critical_below(facts);
    // Nearest first: direct children, then those behind one wrapper, then behind two.
    let mut claimed = vec![false; calls.len()];
    let mut found = Vec::new();
    for depth in 0..=WRAPPERS {
        let mut groups: HashMap<Kind<'_>, Vec<usize>> = HashMap::new();
        for (place, call) in calls.iter().enumerate() {
            if claimed[place] || !is_call(trace, facts, calls, place) {
                continue;
            }
            if let Some(caller) = ancestor(trace, facts, calls, place, depth) {
                // Replicas of a store are one, and so are addresses of a host.
                let peer =
                    call.peer.as_deref().filter(|peer| call.category != Category::Database && !is_nameless(peer));
                let key = (caller, call.operation.as_str(), call.system.as_deref(), peer);
                groups.entry(key).or_default().push(place);
            }
        }
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.sort_by_key(|(_, places)| places[0]);
        for ((caller, ..), mut places) in groups {
            places.sort_by_key(|place| (trace.spans[*place].span.start_unix_nano, *place));
            let Some(kind) = judge(trace, calls, &places) else { continue };
            places.iter().for_each(|place| claimed[*place] = true);
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
    }
    take_turns(trace, &mut found);
    found
}

/// First start and last end.
fn window(trace: &Trace, places: &[usize]) -> (u64, u64) {
    let spans = || places.iter().map(|place| &trace.spans[*place].span);
    let start = spans().map(|span| span.start_unix_nano).min().unwrap_or(0);
    (start, spans().map(|span| span.end_unix_nano).max().unwrap_or(0).max(start))
}

/// Marks groups of one caller that lie in the same stretch of time: a loop of several calls.
fn take_turns(trace: &Trace, found: &mut [Repetition]) {
    let windows: Vec<(u64, u64)> = found.iter().map(|group| window(trace, &group.calls)).collect();
    let mut by_caller: HashMap<(usize, RepetitionKind), Vec<usize>> = HashMap::new();
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

/// Critical time of each span and all below it.
pub fn critical_below(facts: &TraceFacts) -> Vec<u64> {
    let mut below: Vec<u64> = facts.spans.iter().map(|span| span.critical_ns).collect();
    // Parents before children, so children are added up first when walked backwards.
    let mut order: Vec<usize> = facts.tree.roots.clone();
    let mut at = 0;
    while at < order.len() {
        order.extend_from_slice(&facts.tree.children[order[at]]);
        at += 1;
    }
    for place in order.into_iter().rev() {
        if let Some(parent) = facts.tree.parent[place] {
            below[parent] += below[place];
        }
    }
    below
}

/// A call to something else: a client's or producer's span, a database's, or a server's whose client sends no spans.
fn is_call(trace: &Trace, facts: &TraceFacts, calls: &[Call], place: usize) -> bool {
    // A driver's span inside of an ORM's says the same once more.
    let is_inner = facts.tree.parent[place].is_some_and(|parent| {
        calls[parent].category == Category::Database && calls[place].category == Category::Database
    });
    if calls[place].is_outgoing {
        return !is_inner;
    }
    let Some(parent) = facts.tree.parent[place] else { return false };
    let kind = trace.spans[place].span.kind;
    let is_answer = kind == SpanKind::Server || (kind != SpanKind::Consumer && !is_same_service(trace, parent, place));
    is_answer && !calls[parent].is_outgoing
}

fn is_same_service(trace: &Trace, a: usize, b: usize) -> bool {
    let (a, b) = (&trace.spans[a].resource, &trace.spans[b].resource);
    std::sync::Arc::ptr_eq(a, b) || a.service_name() == b.service_name()
}

/// The span `depth` wrappers above a call; wrappers are spans of the caller's own service that call nobody themselves.
fn ancestor(trace: &Trace, facts: &TraceFacts, calls: &[Call], place: usize, depth: usize) -> Option<usize> {
    let mut at = facts.tree.parent[place]?;
    for _ in 0..depth {
        let is_wrapper =
            !calls[at].is_outgoing && !matches!(trace.spans[at].span.kind, SpanKind::Server | SpanKind::Consumer);
        if !is_wrapper {
            return None;
        }
        at = facts.tree.parent[at]?;
    }
    Some(at)
}

fn judge(trace: &Trace, calls: &[Call], places: &[usize]) -> Option<RepetitionKind> {
    let spans = || places.iter().map(|place| &trace.spans[*place].span);
    let failed = spans().filter(|span| span.status.code == StatusCode::Error).count();
    // Failures of different things are not tries of one.
    let same = places.first().map(|first| target(&trace.spans[*first]));
    let is_one = || places.iter().all(|place| Some(target(&trace.spans[*place])) == same);
    if places.len() >= RETRIES && failed + 1 >= places.len() && is_one() && serial_share(trace, places) >= SERIAL {
        return Some(RepetitionKind::RetryStorm);
    }
    if places.len() < REPEATS || is_paging(trace, calls, places) {
        return None;
    }
    Some(if serial_share(trace, places) >= SERIAL { RepetitionKind::NPlusOne } else { RepetitionKind::FanOut })
}

/// 1 when no two overlap, 0 when all run at once.
fn serial_share(trace: &Trace, places: &[usize]) -> f64 {
    let (mut sum, mut union, mut reached) = (0u64, 0u64, 0u64);
    for place in places {
        let span = &trace.spans[*place].span;
        let end = span.end_unix_nano.max(span.start_unix_nano);
        sum += end - span.start_unix_nano;
        union += end.saturating_sub(span.start_unix_nano.max(reached));
        reached = reached.max(end);
    }
    if sum == 0 { 1.0 } else { 1.0 - (sum - union) as f64 / sum as f64 }
}

/// Walking a list page by page is how lists are read.
fn is_paging(trace: &Trace, calls: &[Call], places: &[usize]) -> bool {
    const PARAMETERS: [&str; 16] = [
        "page",
        "page_number",
        "pagenumber",
        "offset",
        "cursor",
        "page_token",
        "pagetoken",
        "nexttoken",
        "after",
        "before",
        "start",
        "skip",
        "from",
        "marker",
        "continue",
        "since_id",
    ];
    let Some(first) = places.first() else { return false };
    match calls[*first].category {
        Category::Database => is_paged_query(&calls[*first].operation, target(&trace.spans[*first])),
        Category::Http => places.iter().all(|place| {
            let attributes = &trace.spans[*place].span.attributes;
            let values = semconv::URL_WITH_QUERY.iter().filter_map(|key| attribute(attributes, key)?.as_str());
            // A name may be all there is.
            let name = Some(trace.spans[*place].span.name.as_str()).filter(|name| name.contains('?'));
            values.chain(name).flat_map(|url| url.rsplit('?').next().unwrap_or_default().split('&')).any(|pair| {
                let key = pair.split('=').next().unwrap_or_default().to_ascii_lowercase();
                PARAMETERS.contains(&key.as_str())
            })
        }),
        Category::Rpc => {
            let name = calls[*first].operation.to_ascii_lowercase();
            name.ends_with("nextpage") || name.ends_with("getmore") || name.ends_with("fetchnext")
        }
        _ => false,
    }
}

/// A page of a list by offset, by a cursor, or from a key onwards in that key's order.
fn is_paged_query(operation: &str, statement: &str) -> bool {
    let upper = operation.to_ascii_uppercase();
    let first = upper.split_whitespace().next().unwrap_or_default();
    if upper.contains(" OFFSET ") || ["GETMORE", "SCAN", "HSCAN", "SSCAN", "ZSCAN", "FETCH"].contains(&first) {
        return true;
    }
    if first == "REDIS" || first == "MONGO" || upper.starts_with('{') {
        return upper.contains("SCAN ") || upper.contains("GETMORE");
    }
    let from_a_key = upper.contains(" > ?") || upper.contains(" < ?");
    let limited = upper.contains(" LIMIT ?")
        || upper.contains(" TOP ?")
        || upper.contains(" FETCH FIRST ")
        || upper.contains(" FETCH NEXT ");
    // One row is no page: the latest price before a date, for each of many.
    let statement = statement.to_ascii_uppercase();
    let is_one_row = statement.trim_end_matches([';', ' ']).ends_with("LIMIT 1")
        || statement.contains(" TOP 1 ")
        || statement.contains("FETCH FIRST 1 ROW");
    from_a_key && limited && upper.contains(" ORDER BY ") && !is_one_row
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::call;
    use crate::facts::trace_facts;
    use crate::tree::tests::trace;
    use spanwise_model::{KeyValue, Status};

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
        let facts = trace_facts(trace);
        let calls: Vec<_> = trace.spans.iter().map(call).collect();
        repetitions(trace, &facts, &calls)
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
