//! With which probability a span was sampled, as OpenTelemetry writes it.
//! <https://opentelemetry.io/docs/specs/otel/trace/tracestate-probability-sampling/>

use std::fmt;

/// Traces whose randomness lies below it were dropped: 56 bits, as a big-endian number. Small, since millions of
/// decisions are remembered with one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Threshold([u8; 7]);

impl Threshold {
    /// All traces are kept.
    pub const ALWAYS: Threshold = Threshold([0; 7]);
    /// Hexadecimal digits of a threshold at most, and of randomness.
    pub const DIGITS: usize = 14;
    /// One more than the largest.
    pub const RANGE: u64 = 1 << 56;

    /// The nearest one; `None` for what keeps nothing.
    pub fn of_probability(probability: f64) -> Option<Self> {
        let kept = (probability.clamp(0.0, 1.0) * Self::RANGE as f64).round() as u64;
        (kept > 0).then(|| Self::of_bits(Self::RANGE - kept))
    }

    /// The lower 56 bits.
    pub fn of_bits(bits: u64) -> Self {
        let mut threshold = [0; 7];
        threshold.copy_from_slice(&bits.to_be_bytes()[1..]);
        Self(threshold)
    }

    /// Reads the value of `th`: up to 14 hexadecimal digits, zeros at the end left out.
    pub fn parse(digits: &str) -> Option<Self> {
        if !(1..=Self::DIGITS).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let bits = u64::from_str_radix(digits, 16).ok()?;
        Some(Self::of_bits(bits << (4 * (Self::DIGITS - digits.len()))))
    }

    /// That of `ot=th:…` in a tracestate, whatever else is in it. `None` when it does not say.
    pub fn of_trace_state(trace_state: &str) -> Option<Self> {
        let own = trace_state.split(',').find_map(|member| member.trim().strip_prefix("ot="))?;
        own.split(';').find_map(|field| field.trim().strip_prefix("th:")).and_then(Self::parse)
    }

    pub fn bits(self) -> u64 {
        self.0.iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte))
    }

    /// Above 0, at most 1.
    pub fn probability(self) -> f64 {
        (Self::RANGE - self.bits()) as f64 / Self::RANGE as f64
    }

    pub fn keeps(self, randomness: u64) -> bool {
        randomness >= self.bits()
    }
}

/// As `th` has it: without zeros at the end.
impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = format!("{:014x}", self.bits());
        let digits = digits.trim_end_matches('0');
        f.write_str(if digits.is_empty() { "0" } else { digits })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_is_written_as_the_collector_does() {
        for (probability, expected) in [
            (1.0, "0"),
            (0.5, "8"),
            (0.25, "c"),
            (0.1, "e6666666666666"),
            (0.05, "f3333333333333"),
            (1.0 / Threshold::RANGE as f64, "ffffffffffffff"),
        ] {
            let threshold = Threshold::of_probability(probability).unwrap();
            assert_eq!(threshold.to_string(), expected);
            assert_eq!(Threshold::of_bits(threshold.bits()), threshold);
            assert_eq!(Threshold::parse(expected), Some(threshold));
            assert!((threshold.probability() - probability).abs() < 1e-15);
        }
        assert_eq!(Threshold::of_probability(0.0), None);
        let half = Threshold::of_probability(0.5).unwrap();
        assert!(half.keeps(Threshold::RANGE / 2) && !half.keeps(Threshold::RANGE / 2 - 1) && half > Threshold::ALWAYS);
    }

    #[test]
    fn a_tracestate_tells_its_threshold() {
        for (trace_state, expected) in [
            ("ot=th:8", Some(0.5)),
            ("ot=th:0", Some(1.0)),
            ("a=b, ot=rv:1;th:c", Some(0.25)),
            ("ot=th:00000000000000", Some(1.0)),
            ("ot=th:", None),
            ("ot=th:+8", None),
            ("ot=th:123456789abcdef", None),
            ("ot=rv:1", None),
            ("", None),
        ] {
            assert_eq!(Threshold::of_trace_state(trace_state).map(Threshold::probability), expected, "{trace_state}");
        }
    }
}
