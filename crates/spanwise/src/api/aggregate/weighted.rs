//! Counts and quantiles of what there was before sampling: everything counts as often as it stands for others.

/// Things that were seen, and how many they stand for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counted {
    pub seen: u64,
    adjusted: f64,
    variance: f64,
    /// Things of one trace are kept or dropped together: the last trace, and how many its things stand for.
    trace: usize,
    of_trace: f64,
}

impl Counted {
    /// A thing of a trace; traces come one after the other, each with a number of its own.
    pub fn add(&mut self, trace: usize, weight: f64) {
        if self.trace != trace || self.seen == 0 {
            (self.trace, self.of_trace) = (trace, 0.0);
        }
        let before = self.of_trace;
        self.of_trace += weight;
        // Horvitz and Thompson's, for traces that were drawn independently, each with probability 1 / weight.
        self.variance += (self.of_trace * self.of_trace - before * before) * (1.0 - 1.0 / weight.max(1.0));
        self.seen += 1;
        self.adjusted += weight;
    }

    pub fn count(&self) -> u64 {
        self.adjusted.round() as u64
    }

    /// Some of what is counted stands for others.
    pub fn is_sampled(&self) -> bool {
        self.variance > 0.0
    }

    /// Between which counts the true one lies 19 times of 20; `None` where nothing was sampled away.
    pub fn between(&self) -> Option<(f64, f64)> {
        let half = 1.96 * self.variance.sqrt();
        self.is_sampled().then(|| ((self.adjusted - half).max(self.seen as f64), self.adjusted + half))
    }
}

/// Durations in nanoseconds, each with how many it stands for.
#[derive(Debug, Clone, Default)]
pub struct Durations {
    values: Vec<(u64, f64)>,
}

impl Durations {
    pub fn push(&mut self, duration_ns: u64, weight: f64) {
        self.values.push((duration_ns, weight));
    }

    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Answers quantiles by nearest rank; 0 of none.
    pub fn sorted(&mut self) -> Quantiles<'_> {
        self.values.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.total_cmp(&b.1)));
        Quantiles::of(&self.values)
    }
}

impl FromIterator<(u64, f64)> for Durations {
    fn from_iter<I: IntoIterator<Item = (u64, f64)>>(values: I) -> Self {
        Self { values: values.into_iter().collect() }
    }
}

pub struct Quantiles<'a> {
    sorted: &'a [(u64, f64)],
    total: f64,
}

impl<'a> Quantiles<'a> {
    fn of(sorted: &'a [(u64, f64)]) -> Self {
        Self { sorted, total: sorted.iter().map(|(_, weight)| weight).sum() }
    }

    /// The least value up to which lies at least the share `q` of all.
    pub fn at(&self, q: f64) -> u64 {
        // Sums of weights may be a hair apart.
        let wanted = q * self.total * (1.0 - 1e-12);
        let mut below = 0.0;
        let reached = self.sorted.iter().find(|(_, weight)| {
            below += weight;
            below >= wanted
        });
        reached.or(self.sorted.last()).map_or(0, |(value, _)| *value)
    }

    pub fn first(&self) -> u64 {
        self.sorted.first().map_or(0, |(value, _)| *value)
    }

    pub fn last(&self) -> u64 {
        self.sorted.last().map_or(0, |(value, _)| *value)
    }

    /// Of everything, the share that is shorter.
    pub fn share_below(&self, duration_ns: u64) -> f64 {
        let below = self.sorted.iter().take_while(|(value, _)| *value < duration_ns);
        below.map(|(_, weight)| weight).sum::<f64>() / self.total.max(f64::MIN_POSITIVE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_by_nearest_rank_and_weight() {
        let mut empty = Durations::default();
        assert_eq!(empty.sorted().at(0.5), 0);
        let mut plain: Durations = [(4, 1.0), (2, 1.0), (3, 1.0), (1, 1.0)].into_iter().collect();
        let plain = plain.sorted();
        assert_eq!([0.0, 0.5, 0.75, 0.99, 1.0].map(|q| plain.at(q)), [1, 2, 3, 4, 4]);
        assert_eq!(plain.share_below(3), 0.5);
        let mut weighted: Durations = [(1, 10.0), (2, 1.0), (3, 1.0)].into_iter().collect();
        let weighted = weighted.sorted();
        assert_eq!([0.5, 0.8, 0.85, 1.0].map(|q| weighted.at(q)), [1, 1, 2, 3]);
        let tenths: Vec<(u64, f64)> = (1..=10).map(|value| (value, 0.1)).collect();
        assert_eq!(Quantiles::of(&tenths).at(0.3), 3);
    }

    #[test]
    fn what_is_counted_lies_within_its_interval_19_times_of_20() {
        // Every trace has one request or three, and is kept with probability one tenth.
        let mut drawn = 0x2545_f491_4f6c_dd1du64;
        let mut draw = || {
            drawn ^= drawn << 13;
            drawn ^= drawn >> 7;
            drawn ^= drawn << 17;
            drawn
        };
        let mut within = 0;
        for _ in 0..400 {
            let (mut counted, mut truth) = (Counted::default(), 0.0);
            for trace in 1..=2_000 {
                let requests = if trace % 2 == 0 { 1 } else { 3 };
                truth += f64::from(requests);
                if draw() % 10 == 0 {
                    (0..requests).for_each(|_| counted.add(trace, 10.0));
                }
            }
            let (low, high) = counted.between().unwrap();
            within += usize::from((low..=high).contains(&truth));
        }
        assert!((365..=395).contains(&within), "{within} of 400");
    }

    #[test]
    fn what_was_not_sampled_is_certain() {
        let mut counted = Counted::default();
        (0..5).for_each(|trace| counted.add(trace, 1.0));
        assert_eq!((counted.count(), counted.between(), counted.is_sampled()), (5, None, false));
    }
}
