//! Roots of traces that arrive, counted by service and operation for whoever computes sampling from them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use spanwise_model::{Threshold, limits};
use spanwise_wire::Batch;
use spanwise_wire::tracestate::of_span;
use spanwise_wire::view::{service_name, span_name};

/// Roots of one operation since they were last taken.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Seen {
    pub sampled: u64,
    /// Those that did not say with which probability they were sampled; they count once in `true_count`.
    pub unweighted: u64,
    /// How many there were before sampling, by the probability that each one says.
    pub true_count: f64,
}

/// Counts nothing until somebody watches. Cloning shares.
#[derive(Clone, Default)]
pub struct Arrivals(Arc<State>);

#[derive(Default)]
struct State {
    is_watched: AtomicBool,
    seen: Mutex<BTreeMap<(String, String), Seen>>,
}

impl Arrivals {
    pub fn watch(&self) {
        self.0.is_watched.store(true, Ordering::Relaxed);
    }

    pub fn note(&self, batch: &Batch) {
        if !self.0.is_watched.load(Ordering::Relaxed) {
            return;
        }
        for (place, span) in batch.spans().iter().enumerate().filter(|(_, span)| span.parent_span_id.is_zero()) {
            let body = batch.body_of(span);
            let service = service_name(batch.resource_header(batch.resource_of(place))).unwrap_or("unknown_service");
            let key = (service.to_owned(), span_name(body).to_owned());
            let probability = Threshold::of_trace_state(of_span(body)).map(Threshold::probability);
            let mut seen = self.0.seen.lock();
            if seen.len() >= limits::SAMPLING_OPERATIONS && !seen.contains_key(&key) {
                continue;
            }
            let entry = seen.entry(key).or_default();
            entry.sampled += 1;
            match probability {
                Some(probability) => entry.true_count += 1.0 / probability,
                None => {
                    entry.unweighted += 1;
                    entry.true_count += 1.0;
                }
            }
        }
    }

    /// What was noted since the last time.
    pub fn take(&self) -> BTreeMap<(String, String), Seen> {
        std::mem::take(&mut *self.0.seen.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spanwise_model::{KeyValue, Span, SpanId, TraceId};

    fn batch(names: &[(&str, &str, bool)]) -> Batch {
        let spans: Vec<_> = names
            .iter()
            .map(|(name, tracestate, is_root)| Span {
                trace_id: TraceId([1; 16]),
                span_id: SpanId([2; 8]),
                parent_span_id: (!is_root).then_some(SpanId([3; 8])),
                name: (*name).to_owned(),
                trace_state: (*tracestate).to_owned(),
                ..Span::default()
            })
            .collect();
        crate::graph::tests::batch_of(vec![KeyValue::new("service.name", "shop")], &spans)
    }

    #[test]
    fn roots_are_counted_by_operation_and_weight() {
        let arrivals = Arrivals::default();
        let sent = batch(&[("a", "ot=th:c", true), ("a", "", true), ("b", "ot=th:8", true), ("a", "", false)]);
        arrivals.note(&sent);
        assert!(arrivals.take().is_empty(), "nobody watches");
        arrivals.watch();
        arrivals.note(&sent);
        let seen = arrivals.take();
        let of = |name: &str| seen[&("shop".to_owned(), name.to_owned())];
        assert_eq!(of("a"), Seen { sampled: 2, unweighted: 1, true_count: 5.0 });
        assert_eq!(of("b"), Seen { sampled: 1, unweighted: 0, true_count: 2.0 });
        assert!(arrivals.take().is_empty());
    }

    #[test]
    fn sampling_operations_at_the_limit_and_one_past_it() {
        let arrivals = Arrivals::default();
        arrivals.watch();
        let names: Vec<String> = (0..=limits::SAMPLING_OPERATIONS).map(|number| number.to_string()).collect();
        let spans: Vec<_> = names.iter().map(|name| (name.as_str(), "", true)).collect();
        arrivals.note(&batch(&spans[..limits::SAMPLING_OPERATIONS]));
        arrivals.note(&batch(&spans));
        let seen = arrivals.take();
        assert_eq!(seen.len(), limits::SAMPLING_OPERATIONS);
        assert_eq!(seen[&("shop".to_owned(), "0".to_owned())].sampled, 2);
    }
}
