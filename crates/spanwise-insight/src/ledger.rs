//! For each client call: what came before the server, on the wire, in the server and after it.

use rustc_hash::FxHashMap;
use spanwise_model::{Span, SpanKind, Trace};

use crate::calls::Call;
use crate::facts::TraceFacts;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerEntry {
    pub client: usize,
    /// `None` when the one called sends no spans: all of its time is then `server_ns`.
    pub server: Option<usize>,
    /// In the caller, from the end of what it did before to the call.
    pub before_ns: u64,
    pub wire_out_ns: u64,
    pub server_ns: u64,
    pub wire_back_ns: u64,
    /// Free of clock skew, unlike its two parts.
    pub wire_total_ns: u64,
    /// In the caller, from the answer to what it does next.
    pub after_ns: u64,
}

/// One entry for each outgoing call, in the order of the spans.
pub fn ledger(trace: &Trace, facts: &TraceFacts, calls: &[Call]) -> Vec<LedgerEntry> {
    let mut entries = Vec::new();
    let mut neighbours: FxHashMap<usize, Neighbours> = FxHashMap::default();
    for (place, call) in calls.iter().enumerate() {
        if !call.is_outgoing {
            continue;
        }
        let client = &trace.spans[place].span;
        let servers = facts.tree.children[place].iter().copied();
        let server = servers.into_iter().find(|child| trace.spans[*child].span.kind == SpanKind::Server);
        let (before_ns, after_ns) = match facts.tree.parent[place] {
            None => (0, 0),
            Some(parent) => {
                let of_parent = neighbours.entry(parent).or_insert_with(|| Neighbours::of(trace, facts, parent));
                of_parent.around(&trace.spans[parent].span, client)
            }
        };
        let total = client.duration_ns();
        let wire = server.map_or(Wire::default(), |server| {
            let own = &trace.spans[server].span;
            Wire::of((client.start_unix_nano, total), (own.start_unix_nano, own.duration_ns()))
        });
        entries.push(LedgerEntry {
            client: place,
            server,
            before_ns,
            wire_out_ns: wire.out_ns,
            server_ns: total - wire.total_ns,
            wire_back_ns: wire.total_ns - wire.out_ns,
            wire_total_ns: wire.total_ns,
            after_ns,
        });
    }
    entries
}

/// Time between a client and its server, there and back, and there alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Wire {
    pub total_ns: u64,
    pub out_ns: u64,
}

impl Wire {
    /// Of both the start and the duration.
    pub fn of(client: (u64, u64), server: (u64, u64)) -> Self {
        let total_ns = client.1 - server.1.min(client.1);
        Self { total_ns, out_ns: server.0.saturating_sub(client.0).min(total_ns) }
    }
}

/// Starts and ends of a caller's children, sorted, so that the neighbours of each are found by search.
struct Neighbours {
    starts: Vec<u64>,
    ends: Vec<u64>,
    /// The latest end among the first so many by start.
    latest: Vec<u64>,
}

impl Neighbours {
    fn of(trace: &Trace, facts: &TraceFacts, parent: usize) -> Self {
        let children = || facts.tree.children[parent].iter().map(|child| &trace.spans[*child].span);
        let mut ends: Vec<u64> = children().map(|span| span.end_unix_nano).collect();
        ends.sort_unstable();
        let mut reached = 0;
        let latest = children().map(|span| {
            reached = span.end_unix_nano.max(reached);
            reached
        });
        // Children are in order of start.
        Self { latest: latest.collect(), starts: children().map(|span| span.start_unix_nano).collect(), ends }
    }

    /// Whether some child began before this moment and ends after it.
    fn is_covered(&self, at: u64) -> bool {
        let begun = self.starts.partition_point(|start| *start < at);
        begun.checked_sub(1).and_then(|last| self.latest.get(last)).is_some_and(|end| *end > at)
    }

    /// Gaps in the caller before and after one of its calls, up to its neighbours or its own ends.
    fn around(&self, caller: &Span, call: &Span) -> (u64, u64) {
        let ended = self.ends.partition_point(|end| *end <= call.start_unix_nano).checked_sub(1);
        let ended = ended.and_then(|last| self.ends.get(last)).copied().unwrap_or(0);
        let next = self.starts.partition_point(|start| *start < call.end_unix_nano);
        let begins = self.starts.get(next).copied().unwrap_or(u64::MAX);
        let before = call.start_unix_nano.saturating_sub(ended.max(caller.start_unix_nano));
        let after = begins.min(caller.end_unix_nano).saturating_sub(call.end_unix_nano);
        let free = |at: u64, gap: u64| if self.is_covered(at) { 0 } else { gap };
        (free(call.start_unix_nano, before), free(call.end_unix_nano, after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::call;
    use crate::facts::trace_facts;
    use crate::tree::tests::trace;

    #[test]
    fn a_call_is_taken_apart() {
        let mut trace = trace(&[(1, 0, 0, 100), (2, 1, 10, 50), (3, 2, 15, 40), (4, 1, 70, 80)]);
        trace.spans[1].span.kind = SpanKind::Client;
        trace.spans[2].span.kind = SpanKind::Server;
        trace.spans[3].span.kind = SpanKind::Client;
        let calls: Vec<_> = trace.spans.iter().map(call).collect();
        let entries = ledger(&trace, &trace_facts(&trace), &calls);
        let first = entries[0];
        assert_eq!(
            (first.before_ns, first.wire_out_ns, first.server_ns, first.wire_back_ns, first.after_ns),
            (10, 5, 25, 10, 20)
        );
        assert_eq!((entries[1].server, entries[1].server_ns, entries[1].before_ns), (None, 10, 20));
        // A server clock that is ahead: the parts shift, their sum does not.
        trace.spans[2].span.start_unix_nano = 45;
        trace.spans[2].span.end_unix_nano = 70;
        let skewed = ledger(&trace, &trace_facts(&trace), &calls)[0];
        assert_eq!((skewed.wire_total_ns, skewed.wire_out_ns, skewed.wire_back_ns), (15, 15, 0));
    }
}
