//! How many traces a stored one stands for, where others were sampled away.

use spanwise_model::{Threshold, Trace, TraceSpan};

use crate::view::{Scalar, scalars};

/// Attribute in which tail samplers note at which rate they kept a trace; of several the largest counts.
pub(crate) const RATE_KEYS: &[&str] = &["sampling.rate", "SampleRate", "sampleRate", "sample_rate"];
/// Beyond it a weight is more likely a mistake than a rate.
const MOST: f64 = 1e9;

/// What one span says of how it was sampled.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SpanSays {
    pub is_root: bool,
    /// By its tracestate: see [`of_trace_state`].
    pub by_state: Option<f64>,
    /// By the largest of its rate attributes.
    pub by_rate: Option<f64>,
    /// For how many it stands since our own tail sampling: see [`of_probability`].
    pub by_tail: Option<f64>,
}

impl SpanSays {
    pub fn of(span: &TraceSpan) -> Self {
        let own = &span.span;
        let rates = scalars(&own.attributes).filter(|(key, _)| is_rate_key(key)).map(|(_, rate)| rate);
        let by_tail = of_probability(span.resource.kept_with);
        Self { by_tail, ..Self::read(own.parent_span_id.is_none(), &own.trace_state, rates) }
    }

    /// `rates` are the values of attributes that say at which rate a trace was kept.
    pub(crate) fn read<'a>(is_root: bool, trace_state: &str, rates: impl Iterator<Item = Scalar<'a>>) -> Self {
        let rates = rates.filter_map(|rate| match rate {
            Scalar::Int(rate) => rate_of(rate as f64),
            Scalar::Double(rate) => rate_of(rate),
            Scalar::Str(rate) => rate.parse().ok().and_then(rate_of),
            _ => None,
        });
        let by_state = if trace_state.is_empty() { None } else { of_trace_state(trace_state) };
        Self { is_root, by_state, by_rate: rates.reduce(f64::max), by_tail: None }
    }

    fn count(&self) -> f64 {
        self.by_state.unwrap_or(1.0).max(self.by_rate.unwrap_or(1.0))
    }
}

/// Whether an attribute of this name says at which rate a trace was kept.
pub fn is_rate_key(key: &str) -> bool {
    RATE_KEYS.contains(&key)
}

/// A rate that can be one.
pub fn rate_of(rate: f64) -> Option<f64> {
    (1.0..=MOST).contains(&rate).then_some(rate)
}

/// For how many traces one stands that tail sampling kept with a probability.
pub fn of_probability(probability: Option<f64>) -> Option<f64> {
    probability.and_then(|probability| rate_of(1.0 / probability))
}

/// For how many traces one stands, and each of its spans for how many.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TraceWeight {
    /// One over the probability with which it was kept. That of the root where it has one, otherwise the largest of
    /// any span: samplers further down keep at least what those above keep.
    pub count: f64,
    /// What a tail sampler noted on any span: it kept or dropped the trace as a whole.
    rate: f64,
    /// What our own tail sampling came to, which saw what the others had left.
    tail: f64,
}

impl Default for TraceWeight {
    fn default() -> Self {
        Self { count: 1.0, rate: 1.0, tail: 1.0 }
    }
}

impl TraceWeight {
    pub fn of(trace: &Trace) -> Self {
        Self::of_spans(trace.spans.iter().map(SpanSays::of))
    }

    pub fn of_spans(spans: impl Iterator<Item = SpanSays>) -> Self {
        let mut weight = Self::default();
        let mut root: Option<f64> = None;
        for span in spans {
            let own = span.count();
            if own > 1.0 && span.is_root && root.is_none() {
                root = Some(own);
            }
            weight.count = weight.count.max(own);
            weight.rate = weight.rate.max(span.by_rate.unwrap_or(1.0));
            weight.tail = weight.tail.max(span.by_tail.unwrap_or(1.0));
        }
        weight.count = (root.unwrap_or(weight.count) * weight.tail).min(MOST);
        weight
    }

    /// For how many spans one of the trace stands. A span that names its own threshold was drawn with that: services
    /// further down may keep spans of traces whose roots were dropped, and those of more traces are then there.
    pub fn of_span(&self, by_state: Option<f64>) -> f64 {
        by_state.map_or(self.count, |own| (own.max(self.rate) * self.tail).min(MOST))
    }
}

/// [`TraceWeight::count`] of a trace.
pub fn adjusted_count(trace: &Trace) -> f64 {
    TraceWeight::of(trace).count
}

/// How many traces one with this tracestate stands for, if it says so by `ot=th:…`.
pub fn of_trace_state(trace_state: &str) -> Option<f64> {
    Threshold::of_trace_state(trace_state).map(|threshold| (1.0 / threshold.probability()).min(MOST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::trace;
    use spanwise_model::KeyValue;

    #[test]
    fn thresholds_are_read_as_the_specification_writes_them() {
        for (state, expected) in [
            ("ot=th:0", Some(1.0)),
            ("ot=th:c", Some(4.0)),
            ("ot=th:8", Some(2.0)),
            ("vendor=x, ot=rv:abcdef01234567;th:fd70a3d70a3d71", Some(100.0)),
            ("ot=th:ffffffffffffff", Some(1e9)),
            ("ot=th:", None),
            ("ot=th:zz", None),
            ("ot=th:000000000000000", None),
            ("ot=rv:c", None),
            ("", None),
        ] {
            let found = of_trace_state(state);
            let is_close = match (found, expected) {
                (Some(found), Some(expected)) => (found / expected - 1.0).abs() < 1e-3,
                (found, expected) => found == expected,
            };
            assert!(is_close, "{state}: {found:?}");
        }
    }

    #[test]
    fn the_root_speaks_for_its_trace() {
        let mut trace = trace(&[(1, 0, 0, 10), (2, 1, 1, 2)]);
        assert_eq!(adjusted_count(&trace), 1.0);
        trace.spans[1].span.trace_state = "ot=th:8".to_owned();
        assert_eq!(adjusted_count(&trace), 2.0);
        trace.spans[0].span.attributes = vec![KeyValue::new("SampleRate", 10i64)];
        assert_eq!(adjusted_count(&trace), 10.0);
        trace.spans[0].span.attributes = vec![KeyValue::new("SampleRate", "nonsense")];
        assert_eq!(adjusted_count(&trace), 2.0);
    }

    #[test]
    fn our_own_tail_sampling_saw_what_others_had_left() {
        let mut trace = trace(&[(1, 0, 0, 10), (2, 1, 1, 2)]);
        for span in &mut trace.spans {
            std::sync::Arc::make_mut(&mut span.resource).kept_with = Some(0.05);
        }
        assert!((adjusted_count(&trace) - 20.0).abs() < 1e-9);
        trace.spans[0].span.trace_state = "ot=th:c".to_owned();
        trace.spans[1].span.trace_state = "ot=th:8".to_owned();
        let weight = TraceWeight::of(&trace);
        assert!((weight.count - 80.0).abs() < 1e-9 && (weight.of_span(Some(2.0)) - 40.0).abs() < 1e-9);
    }

    #[test]
    fn a_span_with_a_threshold_of_its_own_speaks_for_itself() {
        let mut trace = trace(&[(1, 0, 0, 10), (2, 1, 1, 2), (3, 1, 1, 2)]);
        trace.spans[0].span.trace_state = "ot=th:c".to_owned();
        trace.spans[1].span.trace_state = "ot=th:8".to_owned();
        let weights = |trace: &Trace| {
            let weight = TraceWeight::of(trace);
            let of_span = |span: &spanwise_model::TraceSpan| weight.of_span(of_trace_state(&span.span.trace_state));
            trace.spans.iter().map(of_span).collect::<Vec<_>>()
        };
        assert_eq!(weights(&trace), [4.0, 2.0, 4.0]);
        // What a tail sampler keeps, it keeps of all spans.
        trace.spans[2].span.attributes = vec![KeyValue::new("sampling.rate", 3i64)];
        assert_eq!(weights(&trace), [4.0, 3.0, 4.0]);
    }
}
