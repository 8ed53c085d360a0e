//! Durations as counts in bins of one percent: a DDSketch (Masson, Rim, Lee: "DDSketch: a fast and fully-mergeable
//! quantile sketch with relative-error guarantees", VLDB 2019) without collapsing. Counts are whole numbers, so that
//! sums do not depend on their order and what was added can be taken away again.

/// A share of a thing: weights are counted in this many parts of one.
pub const ONE: i64 = 1 << 10;

/// A weight in parts of [`ONE`].
pub fn fixed(weight: f64) -> i64 {
    (weight * ONE as f64).round() as i64
}

pub fn unfixed(parts: i64) -> f64 {
    parts as f64 / ONE as f64
}

/// No quantile is further from the true one than this share of it.
pub const ACCURACY: f64 = 0.01;

/// Durations, each with how many it stands for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sketch {
    /// Numbers of bins, in order.
    bins: Vec<u16>,
    /// Of each its parts of [`ONE`]; never none.
    parts: Vec<i64>,
}

/// Bins of one power of two: seven tenths of what exact logarithms would need one over.
const PER_OCTAVE: f64 = 35.0;
// The cubic that comes closest to a logarithm between two powers of two: bins by it need only one percent more room
// than exact ones, and no two machines disagree on where one ends.
const A: f64 = 6.0 / 35.0;
const B: f64 = -3.0 / 5.0;
const C: f64 = 10.0 / 7.0;

/// The bin of a duration in nanoseconds; that of 0 is 0.
fn bin(ns: u64) -> u16 {
    if ns == 0 {
        return 0;
    }
    let octave = 63 - ns.leading_zeros();
    let s = ns as f64 / (1u64 << octave) as f64 - 1.0;
    let within = ((A * s + B) * s + C) * s;
    // At most 64 * 35.
    ((f64::from(octave) + within) * PER_OCTAVE) as u16 + 1
}

/// Where the bin begins.
fn lower(bin: u16) -> f64 {
    static STARTS: std::sync::LazyLock<[f64; PER_OCTAVE as usize]> = std::sync::LazyLock::new(|| {
        let start = |number: usize| {
            let wanted = number as f64 / PER_OCTAVE;
            let (mut low, mut high) = (0.0, 1.0);
            for _ in 0..60 {
                let s = (low + high) / 2.0;
                if ((A * s + B) * s + C) * s < wanted { low = s } else { high = s }
            }
            1.0 + high
        };
        std::array::from_fn(|number| if number == 0 { 1.0 } else { start(number) })
    });
    let place = usize::from(bin.saturating_sub(1));
    let (octave, number) = (place / STARTS.len(), place % STARTS.len());
    STARTS.get(number).copied().unwrap_or(1.0) * (octave as f64).exp2()
}

/// What stands for all durations of a bin: as far from its least as from its greatest, as shares of them.
fn middle(bin: u16) -> f64 {
    if bin == 0 {
        return 0.0;
    }
    let (low, high) = (lower(bin), lower(bin.saturating_add(1)));
    2.0 * low * high / (low + high)
}

impl Sketch {
    /// `parts` of [`ONE`], fewer than none to take away.
    pub fn add(&mut self, ns: u64, parts: i64) {
        self.put(bin(ns), parts);
    }

    fn put(&mut self, bin: u16, parts: i64) {
        if parts == 0 {
            return;
        }
        match self.bins.binary_search(&bin) {
            Ok(place) => {
                let own = &mut self.parts[place];
                *own = own.wrapping_add(parts);
                if *own == 0 {
                    self.bins.remove(place);
                    self.parts.remove(place);
                }
            }
            Err(place) => {
                self.bins.insert(place, bin);
                self.parts.insert(place, parts);
            }
        }
    }

    pub fn merge(&mut self, other: &Sketch) {
        if other.bins.len() * 8 < self.bins.len() {
            other.bins().for_each(|(bin, parts)| self.put(bin, parts));
            return;
        }
        let mut merged = Self::default();
        merged.bins.reserve(self.bins.len().max(other.bins.len()));
        merged.parts.reserve(self.bins.len().max(other.bins.len()));
        let before = std::mem::take(self);
        let (mut own, mut others) = (before.bins().peekable(), other.bins().peekable());
        loop {
            let next = match (own.peek(), others.peek()) {
                (Some(a), Some(b)) if a.0 == b.0 => (a.0, a.1.wrapping_add(b.1)),
                (Some(a), Some(b)) => *if a.0 < b.0 { a } else { b },
                (Some(last), None) | (None, Some(last)) => *last,
                (None, None) => break,
            };
            own.next_if(|bin| bin.0 == next.0);
            others.next_if(|bin| bin.0 == next.0);
            if next.1 != 0 {
                merged.bins.push(next.0);
                merged.parts.push(next.1);
            }
        }
        *self = merged;
    }

    pub fn is_empty(&self) -> bool {
        self.bins.is_empty()
    }

    /// Bins and their parts, in order.
    pub fn bins(&self) -> impl DoubleEndedIterator<Item = (u16, i64)> + ExactSizeIterator + '_ {
        self.bins.iter().copied().zip(self.parts.iter().copied())
    }

    /// Of bins that ascend; `None` when they do not.
    pub fn of_bins(bins: Vec<(u16, i64)>) -> Option<Self> {
        let is_in_order = bins.is_sorted_by(|a, b| a.0 < b.0);
        let (bins, parts) = bins.into_iter().unzip();
        is_in_order.then_some(Self { bins, parts })
    }

    /// Durations stand for so many; bins from which more was taken than there was count as empty.
    pub fn total(&self) -> f64 {
        self.positive().map(|(_, parts)| parts).sum::<i64>() as f64 / ONE as f64
    }

    fn positive(&self) -> impl DoubleEndedIterator<Item = (u16, i64)> + '_ {
        self.bins().filter(|(_, parts)| *parts > 0)
    }

    /// A duration in nanoseconds up to which lies at least the share `q` of all, within [`ACCURACY`]; 0 of none.
    pub fn quantile(&self, q: f64) -> f64 {
        let all: i128 = self.positive().map(|(_, parts)| i128::from(parts)).sum();
        let wanted = q * all as f64 * (1.0 - 1e-12);
        let mut below = 0i128;
        let reached = self.positive().find(|(_, parts)| {
            below += i128::from(*parts);
            below as f64 >= wanted
        });
        reached.or_else(|| self.positive().next_back()).map_or(0.0, |(bin, _)| middle(bin))
    }

    /// The sum of what lies above a duration, less that duration: within [`ACCURACY`] of each.
    pub fn excess(&self, over_ns: f64) -> f64 {
        self.positive().map(|(bin, parts)| (middle(bin) - over_ns).max(0.0) * unfixed(parts)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[u64]) -> Sketch {
        let mut sketch = Sketch::default();
        values.iter().for_each(|value| sketch.add(*value, ONE));
        sketch
    }

    #[test]
    fn every_duration_stands_within_one_percent_of_its_bin() {
        let mut value = 1u64;
        while value < u64::MAX / 2 {
            for near in [value - 1, value, value + 1, value / 2 * 3] {
                let kept = middle(bin(near));
                assert!((kept - near as f64).abs() <= near as f64 * ACCURACY, "{near} became {kept}");
            }
            value += value / 97 + 1;
        }
        let mut last = 0;
        for ns in 1..5_000_000u64 {
            let bin = bin(ns);
            assert!(bin >= last, "{ns}");
            last = bin;
        }
        assert_eq!((bin(0), bin(1), bin(2)), (0, 1, 36));
        assert!(bin(u64::MAX) < 2_300);
    }

    proptest! {
        #[test]
        fn quantiles_are_those_of_all_values_within_one_percent(
            values in proptest::collection::vec((0u64..1 << 44, 1u8..9), 1..200),
            q in 0.0f64..1.0,
        ) {
            let mut sketch = Sketch::default();
            values.iter().for_each(|(value, weight)| sketch.add(*value, i64::from(*weight) * ONE));
            let mut all: Vec<u64> = values.iter().flat_map(|(value, n)| vec![*value; usize::from(*n)]).collect();
            all.sort_unstable();
            let rank = ((q * all.len() as f64).ceil() as usize).clamp(1, all.len());
            let (found, expected) = (sketch.quantile(q), all[rank - 1] as f64);
            prop_assert!((found - expected).abs() <= expected * ACCURACY, "{} for {}", found, expected);
        }

        #[test]
        fn any_order_and_any_parts_give_the_same(
            values in proptest::collection::vec((0u64..1 << 44, 1.0f64..50.0), 0..100),
            cut in 0usize..100,
        ) {
            let of = |values: &[(u64, f64)]| {
                let mut sketch = Sketch::default();
                values.iter().for_each(|(value, weight)| sketch.add(*value, fixed(*weight)));
                sketch
            };
            let (first, second) = values.split_at(cut.min(values.len()));
            let mut joined = of(second);
            joined.merge(&of(first));
            prop_assert_eq!(&joined, &of(&values));
            // What was added can be taken away.
            first.iter().for_each(|(value, weight)| joined.add(*value, -fixed(*weight)));
            prop_assert_eq!(&joined, &of(second));
        }
    }

    #[test]
    fn what_stands_for_others_weighs_as_much() {
        let mut sketch = of(&[1_000]);
        sketch.add(9_000, fixed(1.0 / 0.01));
        assert_eq!(sketch.total(), 101.0);
        assert!((sketch.quantile(0.5) / 9_000.0 - 1.0).abs() <= ACCURACY);
        assert!((sketch.quantile(0.0) / 1_000.0 - 1.0).abs() <= ACCURACY);
        assert!((sketch.excess(1_000.0) / 800_000.0 - 1.0).abs() < 0.02);
        assert_eq!(Sketch::default().quantile(0.5), 0.0);
    }

    #[test]
    fn bins_out_of_order_are_refused() {
        assert!(Sketch::of_bins(vec![(2, 1), (1, 1)]).is_none());
        assert!(Sketch::of_bins(vec![(1, 1), (1, 1)]).is_none());
        assert_eq!(Sketch::of_bins(of(&[5, 7]).bins().collect()), Some(of(&[5, 7])));
    }
}
