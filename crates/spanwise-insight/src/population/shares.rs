//! How the traces that are looked at together are shared by entry points, where a window has more than that. What is
//! told from how many traces each entry point has is the same in whatever order and in how many parts these come.

use rustc_hash::FxHashMap;

use crate::row::Operation;

/// No share is less than this, as fewer traces tell nothing (`thresholds::SEEN`): of so many entry points that not even
/// this fits, all get the same part of it.
pub const LEAST_SHARE: u64 = 32;

/// From which level on the traces of each entry point are looked at: all of those that have few traces, of the others
/// about the same number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shares {
    lowest: FxHashMap<Operation, u32>,
    /// Of entry points that were not counted by name.
    others: u32,
    has_others: bool,
}

/// The largest share with which all of them have room.
fn fair(ascending: &[u64], most: u64) -> u64 {
    let mut rest = most;
    let mut left = ascending.len() as u64;
    for count in ascending {
        if *count > rest / left {
            return rest / left;
        }
        rest -= count;
        left -= 1;
    }
    u64::MAX
}

impl Shares {
    /// Of the traces that each entry point has, `None` being those that were not counted by name, at most about so many
    /// in all: a part of the room is left to chance.
    pub fn of(counts: &[(Option<Operation>, u64)], most: usize) -> Self {
        let most = (most - most / 16) as u64;
        let mut ascending: Vec<u64> = counts.iter().map(|(_, count)| *count).collect();
        ascending.sort_unstable();
        let share = fair(&ascending, most).max(LEAST_SHARE);
        let wanted: u64 = ascending.iter().map(|count| *count.min(&share)).sum();
        let of_all = halvings(wanted, most);
        let mut shares = Self::default();
        for (entry, count) in counts {
            let lowest = halvings(*count, share) + of_all;
            match entry {
                Some(entry) => drop(shares.lowest.insert(*entry, lowest)),
                None => (shares.others, shares.has_others) = (lowest, true),
            }
        }
        shares
    }

    /// Traces of this entry point below this level are not looked at.
    pub fn lowest(&self, entry: Operation) -> u32 {
        self.lowest.get(&entry).copied().unwrap_or(self.others)
    }

    /// The least of all these levels.
    pub fn least(&self) -> u32 {
        let others = self.has_others.then_some(self.others);
        self.lowest.values().copied().chain(others).min().unwrap_or(0)
    }

    /// Entry points, and more where some were not counted by name.
    pub fn entries(&self) -> usize {
        if self.has_others { usize::MAX } else { self.lowest.len() }
    }

    /// Leaves out all traces below a level.
    pub fn raise(&mut self, level: u32) {
        self.lowest.values_mut().chain([&mut self.others]).for_each(|lowest| *lowest = level.max(*lowest));
    }
}

/// How often a number must be halved so that it is at most this.
fn halvings(mut count: u64, most: u64) -> u32 {
    let mut times = 0;
    while count > most {
        count >>= 1;
        times += 1;
    }
    times
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u32) -> Operation {
        Operation { service: 0, operation: number }
    }

    fn levels(counts: &[u64], most: usize) -> Vec<u32> {
        let named: Vec<_> = counts.iter().zip(0..).map(|(count, number)| (Some(entry(number)), *count)).collect();
        let shares = Shares::of(&named, most);
        (0..counts.len() as u32).map(|number| shares.lowest(entry(number))).collect()
    }

    #[test]
    fn those_with_few_traces_keep_all_and_the_others_share_the_rest() {
        for (counts, most, expected) in [
            // All have room.
            (&[100, 400, 300][..], 1_600, &[0, 0, 0][..]),
            // 1,500 have room: 100 of the first, 466 of each of the others.
            (&[100, 700, 800, 100_000], 1_600, &[0, 1, 1, 8]),
            // One of 500 traces.
            (&[499_000, 1_000], 50_000, &[4, 0]),
            // Less than 32 for each: of all the same part.
            (&[32; 100], 1_600, &[2; 100]),
            (&[32, 32, 64], 64, &[1, 1, 2]),
            (&[], 100, &[]),
        ] {
            assert_eq!(levels(counts, most), expected, "{counts:?}");
        }
    }

    #[test]
    fn no_more_are_wanted_than_there_is_room_for() {
        let mut seed = 1u64;
        for most in [10, 1_000, 50_000] {
            for entries in [1, 3, 50, 5_000] {
                let mut next = || {
                    seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                    (seed >> 40) % (1 << (1 + (seed >> 33) % 20))
                };
                let counts: Vec<u64> = (0..entries).map(|_| next()).collect();
                let levels = levels(&counts, most);
                let wanted: u64 = counts.iter().zip(&levels).map(|(count, level)| count >> level).sum();
                assert!(wanted <= most as u64, "{wanted} of {most} for {entries} entry points");
                let sum: u64 = counts.iter().sum();
                let is_all = sum <= (most - most / 16) as u64;
                assert_eq!(levels.iter().all(|level| *level == 0), is_all, "{sum} of {most}");
            }
        }
    }

    #[test]
    fn what_was_not_counted_by_name_has_a_share_as_well() {
        let mut shares = Shares::of(&[(Some(entry(1)), 100), (None, 100_000)], 1_000);
        assert_eq!((shares.lowest(entry(1)), shares.lowest(entry(7))), (0, 7));
        assert_eq!((shares.least(), shares.entries()), (0, usize::MAX));
        shares.raise(3);
        assert_eq!((shares.lowest(entry(1)), shares.lowest(entry(7)), shares.least()), (3, 7, 3));
    }
}
