//! How many traces a stored one stands for, where others were sampled away.

use spanwise_model::{Span, Trace, Value};

/// Attribute in which tail samplers note at which rate they kept a trace; of several the largest counts.
const RATE_KEYS: [&str; 4] = ["sampling.rate", "SampleRate", "sampleRate", "sample_rate"];
/// Beyond it a weight is more likely a mistake than a rate.
const MOST: f64 = 1e9;

/// The adjusted count of a trace: one over the probability with which it was kept. That of the root where it has one,
/// otherwise the largest of any span: samplers further down keep at least what those above keep.
pub fn adjusted_count(trace: &Trace) -> f64 {
    let mut largest = 1.0f64;
    for span in &trace.spans {
        let own = of_span(&span.span);
        if own > 1.0 && span.span.parent_span_id.is_none() {
            return own;
        }
        largest = largest.max(own);
    }
    largest
}

fn of_span(span: &Span) -> f64 {
    let by_state = of_trace_state(&span.trace_state).unwrap_or(1.0);
    let rates = span.attributes.iter().filter(|attribute| RATE_KEYS.contains(&attribute.key.as_str()));
    let rates = rates.filter_map(|attribute| match &attribute.value {
        Value::Int(rate) => Some(*rate as f64),
        Value::Double(rate) => Some(*rate),
        Value::Str(rate) => rate.parse().ok(),
        _ => None,
    });
    let by_rate = rates.filter(|rate| (1.0..=MOST).contains(rate)).fold(1.0, f64::max);
    by_state.max(by_rate)
}

/// `ot=th:c` in a tracestate: a threshold of up to 14 hexadecimal digits, zeros at its end left out; traces whose
/// randomness lies below it were dropped. <https://opentelemetry.io/docs/specs/otel/trace/tracestate-probability-sampling/>
pub fn of_trace_state(trace_state: &str) -> Option<f64> {
    let member = trace_state.split(',').find_map(|member| member.trim().strip_prefix("ot="))?;
    let threshold = member.split(';').find_map(|field| field.trim().strip_prefix("th:"))?;
    if threshold.is_empty() || threshold.len() > 14 {
        return None;
    }
    let digits = u64::from_str_radix(threshold, 16).ok()?;
    let threshold = digits << (4 * (14 - threshold.len()));
    let kept = (1u64 << 56).checked_sub(threshold).filter(|kept| *kept > 0)?;
    Some(((1u64 << 56) as f64 / kept as f64).min(MOST))
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
}
