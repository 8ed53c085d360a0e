//! Which traces of a busy minute are looked at.

use rustc_hash::FxHashMap;

use super::{MOST_LEVELS, entry_minute};
use crate::row::{Operation, TraceRow};

/// Traces of one minute that are looked at, about: its entry points share them evenly,
pub const MINUTE_TRACES: u32 = 2048;
/// but none gets more than this,
pub const MOST_PER_MINUTE: u32 = 1024;
/// or less than this.
pub const LEAST_PER_MINUTE: u32 = 256;

/// The traces of one entry point that began in one minute.
pub type EntryMinute = (Operation, u64);

/// From which level on the traces of each [`EntryMinute`] are looked at: the lowest one from which on there are at most
/// as many as its share. It follows from the traces alone, in whatever order and in how many parts they come: a part has
/// no more entry points than the whole, so that its shares are no smaller.
#[derive(Debug, Clone, Default)]
pub struct Thinning {
    minutes: FxHashMap<u64, FxHashMap<Operation, Levels>>,
    /// Entry points that share each minute, if no more came.
    entries: usize,
}

/// How many traces there are of each level.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Levels {
    lowest: u32,
    kept: u32,
    counts: [u32; MOST_LEVELS as usize + 1],
}

/// What each of so many entry points gets of a minute: a power of two.
fn share(entries: usize) -> u32 {
    let even = u32::try_from(entries.max(1)).map_or(0, |entries| MINUTE_TRACES / entries);
    let rounded = even.checked_ilog2().map_or(0, |bits| 1 << bits);
    rounded.clamp(LEAST_PER_MINUTE, MOST_PER_MINUTE)
}

impl Levels {
    fn add(&mut self, level: u32) {
        if level < self.lowest {
            return;
        }
        if let Some(count) = self.counts.get_mut(level as usize) {
            *count += 1;
            self.kept += 1;
        }
    }

    fn fit(&mut self, most: u32) {
        while self.kept > most && self.lowest < MOST_LEVELS {
            self.raise(self.lowest + 1);
        }
    }

    fn raise(&mut self, level: u32) {
        while self.lowest < level.min(MOST_LEVELS) {
            self.kept -= self.counts.get(self.lowest as usize).copied().unwrap_or(0).min(self.kept);
            self.lowest += 1;
        }
    }
}

impl Thinning {
    /// Each minute is shared by so many entry points, or by those that came if they are more.
    pub fn of_entries(entries: usize) -> Self {
        Self { entries, ..Self::default() }
    }

    /// Adds a trace of a level; whether it is looked at as far as is known now.
    pub fn add(&mut self, (entry, minute): EntryMinute, level: u32) -> bool {
        let entries = self.minutes.entry(minute).or_default();
        let known = entries.len();
        let levels = entries.entry(entry).or_default();
        levels.add(level);
        levels.fit(share(known));
        level >= levels.lowest
    }

    /// Traces below this level did not come.
    pub fn raise(&mut self, (entry, minute): EntryMinute, level: u32) {
        self.minutes.entry(minute).or_default().entry(entry).or_default().raise(level);
    }

    /// After the last trace: what it says from then on is the last word.
    pub fn settle(&mut self) {
        for entries in self.minutes.values_mut() {
            let most = share(entries.len().max(self.entries));
            entries.values_mut().for_each(|levels| levels.fit(most));
        }
    }

    /// Traces below this level are not looked at.
    pub fn lowest(&self, (entry, minute): EntryMinute) -> u32 {
        self.minutes.get(&minute).and_then(|entries| entries.get(&entry)).map_or(0, |levels| levels.lowest)
    }

    /// The same of a row's trace.
    pub fn lowest_of(&self, row: &TraceRow) -> u32 {
        self.lowest(entry_minute(row))
    }

    /// Of which some traces are not looked at, with the lowest level that is, in order.
    pub fn thinned(&self) -> Vec<(EntryMinute, u32)> {
        let of_minute = |(minute, entries): (&u64, &FxHashMap<Operation, Levels>)| {
            let minute = *minute;
            let thinned = entries.iter().filter(|(_, levels)| levels.lowest > 0);
            thinned.map(move |(entry, levels)| ((*entry, minute), levels.lowest)).collect::<Vec<_>>()
        };
        let mut thinned: Vec<_> = self.minutes.iter().flat_map(of_minute).collect();
        thinned.sort_unstable();
        thinned
    }
}

#[cfg(test)]
mod tests {
    use spanwise_model::TraceId;

    use super::*;
    use crate::population::level;

    type Traces = Vec<(EntryMinute, TraceId)>;

    /// `counts` traces of each entry point in minute 7.
    fn traces(counts: &[u128]) -> Traces {
        let spread = |n: u128| TraceId(n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes());
        let entry = |number| (Operation { service: number, operation: number }, 7);
        let of = |(number, count): (usize, &u128)| {
            let number = number as u32;
            (1..=*count).map(move |n| (entry(number), spread(n << 16 | u128::from(number)))).collect::<Vec<_>>()
        };
        counts.iter().enumerate().flat_map(of).collect()
    }

    fn thinned<'a>(traces: impl Iterator<Item = &'a (EntryMinute, TraceId)>) -> Thinning {
        let mut thinning = Thinning::default();
        for (of, id) in traces {
            thinning.add(*of, level(id));
        }
        thinning.settle();
        thinning
    }

    #[test]
    fn what_is_looked_at_of_a_busy_minute_does_not_depend_on_how_it_came() {
        let one = traces(&[20_000]);
        let many: Vec<u128> = (0..40).map(|entry| 10 + 40 * entry).collect();
        for all in [one, traces(&many)] {
            let whole = thinned(all.iter());
            assert_eq!(thinned(all.iter().rev()).thinned(), whole.thinned());
            // In parts: what is left of each, put together.
            for cut in [1, all.len() / 7, all.len() / 2] {
                let (first, second) = all.split_at(cut);
                let mut joined = Thinning::default();
                for part in [first, second] {
                    let thinning = thinned(part.iter());
                    thinning.thinned().into_iter().for_each(|(of, level)| joined.raise(of, level));
                    for (of, id) in part.iter().filter(|(of, id)| level(id) >= thinning.lowest(*of)) {
                        joined.add(*of, level(id));
                    }
                }
                joined.settle();
                assert_eq!(joined.thinned(), whole.thinned(), "{cut}");
            }
        }
    }

    #[test]
    fn entry_points_share_a_minute_and_rare_ones_keep_all_they_have() {
        let kept = |all: &Traces| {
            let thinning = thinned(all.iter());
            let mut kept: Vec<u32> = Vec::new();
            for ((entry, _), _) in all.iter().filter(|(of, id)| level(id) >= thinning.lowest(*of)) {
                kept.resize(kept.len().max(entry.service as usize + 1), 0);
                kept[entry.service as usize] += 1;
            }
            kept
        };
        let alone = kept(&traces(&[20_000]));
        assert!(alone[0] > MOST_PER_MINUTE / 4 && alone[0] <= MOST_PER_MINUTE, "{alone:?}");
        let mut counts = vec![3_000; 100];
        counts[5] = 200;
        let of_hundred = kept(&traces(&counts));
        assert_eq!(of_hundred[5], 200);
        assert!(of_hundred.iter().all(|kept| *kept > 0 && *kept <= LEAST_PER_MINUTE), "{of_hundred:?}");
        assert_eq!([1, 2, 3, 4, 5, 8, 1000].map(share), [1024, 1024, 512, 512, 256, 256, 256]);
    }
}
