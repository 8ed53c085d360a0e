//! The policy that draws.

use spanwise_model::Threshold;

use super::super::config::ProbabilisticConfig;
use super::{Chance, Policy, TraceView};

/// The collector's own draw, so that a trace is kept here exactly when it is kept there.
pub(super) struct Probabilistic {
    /// By the tracestate, where that counts and says that the trace was sampled; `None` keeps nothing.
    use_tracestate: bool,
    tracestate_threshold: Option<Threshold>,
    threshold: u64,
    probability: f64,
    /// The hash after the salt; a trace id goes on from it.
    salted: u64,
}

impl Probabilistic {
    pub(super) fn new(config: &ProbabilisticConfig, use_tracestate: bool) -> Result<Self, String> {
        if !(0.0..=f64::MAX).contains(&config.sampling_percentage) {
            return Err("sampling_percentage must not be negative".to_owned());
        }
        let probability = (config.sampling_percentage / 100.0).min(1.0);
        let salt = if config.hash_salt.is_empty() { DEFAULT_SALT } else { &config.hash_salt };
        let (threshold, salted) = (threshold(probability), fnv1a(FNV_OFFSET, salt.as_bytes()));
        let tracestate_threshold = Threshold::of_probability(probability);
        Ok(Self { use_tracestate, tracestate_threshold, threshold, probability, salted })
    }
}

impl Policy for Probabilistic {
    fn evaluate(&self, trace: &TraceView<'_>) -> Chance {
        let mut chance = Chance {
            is_sampled: fnv1a(self.salted, &trace.trace_id.0) <= self.threshold,
            probability: self.probability,
            salt: Some(self.salted),
            threshold: Threshold::ALWAYS,
        };
        if self.use_tracestate {
            chance.threshold = self.tracestate_threshold.unwrap_or_default();
            if let Some(randomness) = trace.draw() {
                chance.is_sampled = self.tracestate_threshold.is_some_and(|threshold| threshold.keeps(randomness));
                // All of them are of the trace's own draw.
                chance.salt = Some(0);
            }
        }
        chance
    }
}

const DEFAULT_SALT: &str = "default-hash-seed";
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

fn fnv1a(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME))
}

/// `ratio` of 2^64 - 1, computed with 64 bits of precision as the collector does, so that no boundary differs.
fn threshold(ratio: f64) -> u64 {
    if ratio >= 1.0 {
        return u64::MAX;
    }
    let bits = ratio.to_bits();
    let exponent = (bits >> 52) as i32;
    if exponent == 0 {
        // Zero, or too small to move the product away from it.
        return 0;
    }
    let mantissa = bits & ((1 << 52) - 1) | 1 << 52;
    let product = u128::from(u64::MAX) * u128::from(mantissa);
    // The product is worth `product * 2^-shift`; 64 of its bits count, rounded half to even.
    let shift = (1075 - exponent) as u32;
    let excess = (128 - product.leading_zeros()).saturating_sub(64);
    let (kept, rest) = (product >> excess, product & ((1 << excess) - 1));
    let half = 1u128 << excess.saturating_sub(1);
    let is_up = excess > 0 && (rest > half || (rest == half && kept & 1 == 1));
    let rounded = kept + u128::from(is_up);
    match shift.checked_sub(excess) {
        Some(down) => u64::try_from(rounded.checked_shr(down).unwrap_or(0)).unwrap_or(u64::MAX),
        None => u64::try_from(rounded << (excess - shift)).unwrap_or(u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::tests::{decide, policies, span};
    use super::*;

    /// Values of Go's `hash/fnv` and `math/big`, as the collector computes them.
    #[test]
    fn the_draw_is_the_collectors() {
        assert_eq!(fnv1a(FNV_OFFSET, b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(FNV_OFFSET, b"foobar"), 0x8594_4171_f739_67e8);
        for (ratio, expected) in [
            (0.0, 0),
            (0.5, 0x7fff_ffff_ffff_ffff),
            (1.0, u64::MAX),
            (0.25, 0x3fff_ffff_ffff_ffff),
            (0.05, 922_337_203_685_477_631),
        ] {
            let close = threshold(ratio).abs_diff(expected);
            // The ratio 0.05 is not 1/20: its nearest double is 2.8e-18 above.
            assert!(close <= 52, "{ratio}: {} {expected}", threshold(ratio));
        }
        let half =
            policies("policies: [{name: p, type: probabilistic, probabilistic: {sampling_percentage: 5}}]").unwrap();
        let ids = (0..20_000u64).map(|number| {
            let mut id = [9; 16];
            id[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
            id
        });
        let kept = ids.filter(|id| decide(&half, *id, &[span(Vec::new(), 0, 1)]) != Verdict::NotSampled).count();
        assert!((850..1150).contains(&kept), "{kept}");
    }
}
