//! Rejection thresholds and randomness: the arithmetic of consistent probability sampling.
//!
//! <https://opentelemetry.io/docs/specs/otel/trace/tracestate-probability-sampling/>

use std::fmt;

/// 2^56: thresholds and randomness are below it.
const RANGE: u64 = 1 << 56;
const HEX_DIGITS: i32 = 14;
/// Significant digits of a threshold that is made from a probability, as the specification recommends.
const PRECISION: i32 = 4;

/// How many of 2^56 traces are rejected: a trace is kept when its [`Randomness`] is at least this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Threshold(u64);

impl Threshold {
    /// Rejects nothing.
    pub const ALWAYS: Self = Self(0);

    /// From a probability, with four significant digits. `None` below 2^-56 and above 1: never to sample is no
    /// probability.
    pub fn from_probability(probability: f64) -> Option<Self> {
        Self::with_precision(probability, PRECISION)
    }

    /// With a given number of significant hexadecimal digits, leading `f` not counted.
    pub fn with_precision(probability: f64, precision: i32) -> Option<Self> {
        let range = RANGE as f64;
        // A NaN is in no range.
        if !(1.0 / range..=1.0).contains(&probability) {
            return None;
        }
        let kept = to_integer((probability * range).round()).clamp(1, RANGE);
        let threshold = RANGE - kept;
        // A small probability has a threshold that begins with `f`: they carry no information.
        let leading = to_integer((-probability.log2() / 4.0).floor());
        let precision = precision.saturating_add(i32::try_from(leading).unwrap_or(0)).clamp(1, HEX_DIGITS);
        let shift = u32::try_from(4 * (HEX_DIGITS - precision)).unwrap_or(0);
        let half = (1_u64 << shift) >> 1;
        let rounded = (threshold + half) >> shift << shift;
        // Rounding up must not lead to "never".
        Some(Self(if rounded >= RANGE { threshold >> shift << shift } else { rounded }))
    }

    /// Reads a `th` value: 1 to 14 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        parse_digits(text)
            .filter(|_| (1..=14).contains(&text.len()))
            .map(|value| Self(value << (4 * (14 - text.len()))))
    }

    /// The share of traces that are kept.
    pub fn probability(self) -> f64 {
        (RANGE - self.0) as f64 / RANGE as f64
    }

    /// How many traces a kept one stands for.
    pub fn adjusted_count(self) -> f64 {
        RANGE as f64 / (RANGE - self.0) as f64
    }

    /// Whether a trace is kept.
    pub fn keeps(self, randomness: Randomness) -> bool {
        randomness.0 >= self.0
    }
}

/// As it stands in `ot=th:`: trailing zeros cut.
impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0");
        }
        f.write_str(format!("{:014x}", self.0).trim_end_matches('0'))
    }
}

/// 56 bits that all participants of a trace see: the last seven bytes of its id, or `ot=rv:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Randomness(u64);

impl Randomness {
    /// The last seven bytes of a trace id.
    pub fn of_trace_id(trace_id: [u8; 16]) -> Self {
        let [.., _, a, b, c, d, e, f, g] = trace_id;
        Self(u64::from_be_bytes([0, a, b, c, d, e, f, g]))
    }

    /// Reads an `rv` value: exactly 14 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        parse_digits(text).filter(|_| text.len() == 14).map(Self)
    }
}

fn parse_digits(text: &str) -> Option<u64> {
    let is_legal = !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if is_legal { u64::from_str_radix(text, 16).ok() } else { None }
}

/// A non-negative number without a fraction, at most 2^63.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn to_integer(value: f64) -> u64 {
    value.clamp(0.0, RANGE as f64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The specification's table for 1-in-N sampling with precision 3, 4 and 5.
    #[test]
    fn the_specification_s_examples() {
        let table: [(f64, [&str; 3], f64); 13] = [
            (1.0, ["0", "0", "0"], 1.0),
            (2.0, ["8", "8", "8"], 2.0),
            (3.0, ["aab", "aaab", "aaaab"], 3.00004577706569),
            (4.0, ["c", "c", "c"], 4.0),
            (5.0, ["ccd", "cccd", "ccccd"], 5.0000762951094835),
            (8.0, ["e", "e", "e"], 8.0),
            (10.0, ["e66", "e666", "e6666"], 9.99938968566813),
            (16.0, ["f", "f", "f"], 16.0),
            (100.0, ["fd71", "fd70a", "fd70a4"], 99.99771123402633),
            (1000.0, ["ffbe7", "ffbe77", "ffbe76d"], 1000.012874769029),
            (10000.0, ["fff972", "fff9724", "fff97247"], 9999.830725674266),
            (100000.0, ["ffff584", "ffff583a", "ffff583a5"], 99999.238556461),
            (1000000.0, ["ffffef4", "ffffef39", "ffffef391"], 999992.38556461),
        ];
        for (n, expected, count) in table {
            for (precision, expected) in (3..).zip(expected) {
                assert_eq!(Threshold::with_precision(1.0 / n, precision).unwrap().to_string(), expected, "1/{n}");
            }
            let adjusted = Threshold::from_probability(1.0 / n).unwrap().adjusted_count();
            assert!((adjusted / count - 1.0).abs() < 1e-9, "1/{n}: {adjusted}");
        }
    }

    #[test]
    fn limits() {
        assert_eq!(Threshold::from_probability(0.0), None);
        assert_eq!(Threshold::from_probability(-1.0), None);
        assert_eq!(Threshold::from_probability(1.1), None);
        assert_eq!(Threshold::from_probability(f64::NAN), None);
        assert_eq!(Threshold::from_probability(2.0_f64.powi(-56)).unwrap().to_string(), "ffffffffffffff");
        assert_eq!(Threshold::parse("c"), Threshold::parse("c0000000000000"));
        for broken in ["", "g", "C", "+1", "0123456789abcde"] {
            assert_eq!(Threshold::parse(broken), None);
        }
        assert_eq!(Randomness::parse("ffffffffffffff"), Some(Randomness(RANGE - 1)));
        assert_eq!(Randomness::parse("fffffffffffff"), None);
        let id = [0xff, 1, 2, 3, 4, 5, 6, 7, 8, 0x9a, 0, 0, 0, 0, 0, 1];
        assert_eq!(Randomness::of_trace_id(id), Randomness(0x9a000000000001));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn text_and_back(value in 0..RANGE, probability in 1e-9..=1.0_f64) {
            prop_assert_eq!(Threshold::parse(&Threshold(value).to_string()), Some(Threshold(value)));
            let threshold = Threshold::from_probability(probability).unwrap();
            prop_assert!((threshold.probability() / probability - 1.0).abs() < 1e-3);
        }

        /// What one service keeps, every service with a higher rate keeps too.
        #[test]
        fn decisions_are_consistent(id: [u8; 16], p1 in 1e-6..=1.0_f64, p2 in 1e-6..=1.0_f64) {
            let (low, high) = if p1 < p2 { (p1, p2) } else { (p2, p1) };
            let randomness = Randomness::of_trace_id(id);
            let (low, high) = (Threshold::from_probability(low).unwrap(), Threshold::from_probability(high).unwrap());
            prop_assert!(!low.keeps(randomness) || high.keeps(randomness));
        }
    }

    #[test]
    fn adjusted_counts_are_unbiased() {
        use rand::{RngCore, SeedableRng};
        const TRACES: u32 = 1_000_000;
        let mut rng = rand::rngs::SmallRng::seed_from_u64(7);
        let thresholds = [0.5, 0.1, 0.05].map(|probability| Threshold::from_probability(probability).unwrap());
        let mut totals = [0.0; 3];
        for _ in 0..TRACES {
            let mut id = [0; 16];
            rng.fill_bytes(&mut id);
            let randomness = Randomness::of_trace_id(id);
            for (total, threshold) in totals.iter_mut().zip(thresholds) {
                if threshold.keeps(randomness) {
                    *total += threshold.adjusted_count();
                }
            }
        }
        for total in totals {
            assert!((total / f64::from(TRACES) - 1.0_f64).abs() < 0.01, "{total}");
        }
    }
}
