//! Queue hops: from a message's producer to its consumer, which nobody waits for.

use std::collections::HashMap;

use spanwise_model::{SpanId, SpanKind, Trace};

use crate::facts::TraceFacts;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueHop {
    pub producer: usize,
    pub consumer: usize,
    pub start_unix_nano: u64,
    /// From the producer's end to the consumer's start; negative when the clocks differ.
    pub queue_ns: i64,
    pub end_unix_nano: u64,
}

/// One hop for each consumer, by its parent or, of batches, by each link into the same trace; in order of time.
pub fn queue_hops(trace: &Trace, facts: &TraceFacts) -> Vec<QueueHop> {
    let consumers = || (0..trace.spans.len()).filter(|place| trace.spans[*place].span.kind == SpanKind::Consumer);
    if consumers().next().is_none() {
        return Vec::new();
    }
    let by_id: HashMap<SpanId, usize> =
        trace.spans.iter().enumerate().map(|(place, span)| (span.span.span_id, place)).collect();
    let mut hops = Vec::new();
    for consumer in consumers() {
        let span = &trace.spans[consumer].span;
        let links = span.links.iter().filter(|link| link.trace_id == span.trace_id.0);
        let linked = links.filter_map(|link| by_id.get(&SpanId::from_slice(&link.span_id)?).copied());
        let mut producers: Vec<usize> = facts.tree.parent[consumer].into_iter().chain(linked).collect();
        producers.retain(|producer| {
            let kind = trace.spans[*producer].span.kind;
            *producer != consumer && matches!(kind, SpanKind::Producer | SpanKind::Client)
        });
        producers.sort_unstable();
        producers.dedup();
        for producer in producers {
            let sent = &trace.spans[producer].span;
            let queue = i128::from(span.start_unix_nano) - i128::from(sent.end_unix_nano);
            hops.push(QueueHop {
                producer,
                consumer,
                start_unix_nano: sent.start_unix_nano,
                queue_ns: i64::try_from(queue).unwrap_or(if queue < 0 { i64::MIN } else { i64::MAX }),
                end_unix_nano: span.end_unix_nano,
            });
        }
    }
    hops.sort_by_key(|hop| (hop.start_unix_nano, hop.producer, hop.consumer));
    hops
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::trace_facts;
    use crate::tree::tests::trace;
    use spanwise_model::Link;

    #[test]
    fn a_batch_follows_its_links() {
        let mut trace = trace(&[(1, 0, 0, 100), (2, 1, 10, 20), (3, 1, 30, 40), (4, 0, 70, 90)]);
        for (place, kind) in [(1, SpanKind::Producer), (2, SpanKind::Producer), (3, SpanKind::Consumer)] {
            trace.spans[place].span.kind = kind;
        }
        let link = |place: usize| Link {
            trace_id: trace.spans[place].span.trace_id.0.to_vec(),
            span_id: trace.spans[place].span.span_id.0.to_vec(),
            ..Link::default()
        };
        let links = vec![link(1), link(2), Link::default()];
        trace.spans[3].span.links = links;
        let hops = queue_hops(&trace, &trace_facts(&trace));
        let found: Vec<_> = hops.iter().map(|hop| (hop.producer, hop.consumer, hop.queue_ns)).collect();
        assert_eq!(found, [(1, 3, 50), (2, 3, 30)]);
    }
}
