//! Rows of all traces that started in a window, each trace once: stored ones, and those made now of what no facts
//! file covers. The counts of minutes say how many traces each entry point has, so that of more than are looked at
//! together only those are read that have a share.

use rustc_hash::{FxHashMap, FxHashSet};
use spanwise_insight::minutes::{Bounds, Kind, Minutes, OTHER, minute_of};
use spanwise_insight::population::{
    EntryMinute, LEAST_PER_MINUTE, MINUTE_NS, MINUTE_TRACES, MOST_LEVELS, Population, Shares,
};
use spanwise_insight::row::Operation;
use spanwise_model::TraceId;

use super::live::{Asked, add_heads};
use super::read::row_of;
use super::{FactsFile, Spine, rounded};
use crate::block::{BlockError, BlockReader};
use crate::head::Head;
use crate::sketches;
use crate::snapshot::{DAY, Part, Snapshot};

/// Rows that are read at most, about: they lie by level alone, so that those of entry points with few traces lie among
/// those of the others, which are read to no end, at some 4 µs each.
const MOST_READ: usize = 100_000;

/// A block with facts, and which of its traces count.
struct Stored<'a> {
    facts: &'a FactsFile,
    spine: Spine,
    is_wanted: Vec<bool>,
}

/// Where a trace starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Inside,
    /// Outside of the window, in a minute that it touches.
    Beside,
    Outside,
}

/// What is asked for, and the minutes that it touches.
pub(crate) struct Window {
    from: u64,
    to: u64,
}

impl Window {
    /// Whether it touches the minute of a trace that starts then.
    pub fn touches(&self, start: u64) -> bool {
        self.place(start) != Place::Outside
    }

    /// Counts a trace that starts then, if it is of one of the minutes; whether it is.
    fn count(&self, busy: &mut Busy, population: &mut Population, id: &TraceId, start: u64, spans: u64) -> bool {
        match self.place(start) {
            Place::Outside => return false,
            Place::Inside => population.count(1, spans),
            Place::Beside => population.count_beside(*id, spans),
        }
        busy.add(start);
        true
    }

    fn place(&self, start: u64) -> Place {
        match start {
            start if (self.from..=self.to).contains(&start) => Place::Inside,
            start if (self.from / MINUTE_NS..=self.to / MINUTE_NS).contains(&(start / MINUTE_NS)) => Place::Beside,
            _ => Place::Outside,
        }
    }

    /// First and last moment of its minutes.
    fn rounded(&self) -> (u64, u64) {
        let last = (self.to / MINUTE_NS + 1).saturating_mul(MINUTE_NS) - 1;
        (self.from / MINUTE_NS * MINUTE_NS, last.max(self.to))
    }
}

/// Traces of each minute.
#[derive(Default)]
struct Busy {
    counts: FxHashMap<u64, u64>,
}

impl Busy {
    fn add(&mut self, start: u64) {
        *self.counts.entry(start / MINUTE_NS).or_default() += 1;
    }

    /// The lowest level from which on about so many rows are kept of them, with so many entry points.
    fn lowest_level(&self, entries: usize, most: usize) -> u32 {
        let least = u64::from(LEAST_PER_MINUTE).saturating_mul(entries as u64);
        let kept_of_minute = u64::from(MINUTE_TRACES).max(least);
        let kept = |level: u32| {
            self.counts.values().fold(0u64, |sum, count| sum.saturating_add((count >> level).min(kept_of_minute)))
        };
        (0..MOST_LEVELS).find(|level| kept(*level) <= most as u64).unwrap_or(MOST_LEVELS)
    }
}

/// Adds to `population` what it needs; `false` when `is_over` said so before the end.
///
/// # Errors
/// When a block cannot be read.
pub fn collect(
    snapshot: &Snapshot,
    from_unix_nano: u64,
    to_unix_nano: u64,
    population: &mut Population,
    is_over: &dyn Fn() -> bool,
) -> Result<bool, BlockError> {
    let window = Window { from: from_unix_nano, to: to_unix_nano };
    let (from, to) = window.rounded();
    if !count_entries(snapshot, &window, population, is_over)? {
        return Ok(false);
    }
    let blocks: Vec<&BlockReader> = snapshot.blocks.iter().map(|(_, block)| &**block).collect();
    let with_facts: Vec<(&BlockReader, &FactsFile)> =
        blocks.iter().filter_map(|block| Some((*block, block.facts()?))).collect();
    let mut busy = Busy::default();
    // Traces of which some part has no stored row: their rows are made of all parts, and count alone.
    let is_near = |(low, high): (u64, u64)| high.saturating_add(DAY) >= from && low <= to.saturating_add(DAY);
    let is_meant = |head: &Head| head.starts().is_some_and(is_near);
    let asked = Asked { snapshot, window: &window };
    let mut count = |population: &mut Population, id: &TraceId, start: u64, spans: u64| {
        window.count(&mut busy, population, id, start, spans)
    };
    let of_heads = add_heads(&asked, &is_meant, population, &mut count, is_over)?;
    let Some(of_heads) = of_heads else { return Ok(false) };
    let mut live = of_heads.in_blocks;
    let is_live = |part: &Part<'_>| match part {
        Part::Head(_) => false,
        Part::Block(block) => block.facts().is_none(),
    };
    for (number, item) in snapshot.traces_in_parts(from, to, is_live)?.enumerate() {
        if number % 64 == 0 && is_over() {
            return Ok(false);
        }
        let mut batch = item?;
        let Some(id) = batch.spans().first().map(|span| span.trace_id) else { continue };
        if of_heads.all.contains(&id) {
            continue;
        }
        if with_facts.iter().any(|(block, _)| block.first_row(&id).is_some()) {
            live.insert(id);
            batch = snapshot.trace(&id)?.unwrap_or(batch);
        }
        let start = batch.spans().iter().map(|span| span.start_unix_nano).min().unwrap_or(0);
        if window.count(&mut busy, population, &id, start, batch.len_spans() as u64) {
            let row = row_of(&batch, id, population.names_mut());
            row.into_iter().for_each(|row| population.add_row(rounded(row)));
        }
    }
    let superseded: FxHashSet<(&str, TraceId)> = with_facts
        .iter()
        .flat_map(|(_, facts)| facts.superseded().iter().map(|(block, id)| (block.as_str(), *id)))
        .collect();
    let mut stored = Vec::new();
    for (block, facts) in with_facts {
        let spine = facts.spine(block.index().prefixes())?;
        let counts = |id: &TraceId| {
            !live.contains(id) && (superseded.is_empty() || !superseded.contains(&(block.id.as_str(), *id)))
        };
        let traces = spine.ids.iter().zip(&spine.starts).zip(&spine.spans);
        let is_wanted: Vec<bool> = traces
            .map(|((id, start), spans)| {
                window.touches(*start) && counts(id) && window.count(&mut busy, population, id, *start, (*spans).into())
            })
            .collect();
        if is_wanted.contains(&true) {
            stored.push(Stored { facts, spine, is_wanted });
        }
        if is_over() {
            return Ok(false);
        }
    }
    population.raise_shares(|entries| busy.lowest_level(entries, MOST_READ));
    let lowest = population.least().min(MOST_LEVELS);
    for part in &stored {
        let is_wanted = |place: usize| part.is_wanted.get(place).copied().unwrap_or(false);
        let mut thinned = Vec::new();
        let mut thin = |of: EntryMinute, level| {
            if (from / MINUTE_NS..=to / MINUTE_NS).contains(&of.1) {
                thinned.push((of, level));
            }
        };
        // Rows that have no share are dropped as they come.
        let mut names = std::mem::take(population.names_mut());
        let read =
            part.facts.rows(lowest, &part.spine, &mut names, &is_wanted, &mut thin, &mut |row| population.add_row(row));
        *population.names_mut() = names;
        read?;
        thinned.into_iter().for_each(|(of, level)| population.thin(of, level));
        if is_over() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Tells the population how many traces each entry point has in the minutes of a window, and what share, if there are
/// more than are looked at together.
fn count_entries(
    snapshot: &Snapshot,
    window: &Window,
    population: &mut Population,
    is_over: &dyn Fn() -> bool,
) -> Result<bool, BlockError> {
    let minutes = minute_of(window.from)..=minute_of(window.to);
    let asked = sketches::Asked { kinds: &[Kind::Entry], minutes, is_together: true };
    let mut minutes = Minutes::new(Bounds::ANSWER);
    let is_whole = sketches::window::collect(snapshot, &asked, population.names_mut(), &mut minutes, is_over)?;
    let mut counts: Vec<(Option<Operation>, u64)> = Vec::new();
    for (key, cell) in minutes.cells() {
        let entry = (key.a != OTHER && key.b != OTHER).then_some(Operation { service: key.a, operation: key.b });
        counts.push((entry, cell.seen.max(0).unsigned_abs()));
        if let Some(entry) = entry {
            population.total(entry, cell.count());
        }
    }
    if counts.iter().map(|(_, count)| count).sum::<u64>() > population.bound() as u64 {
        population.share(Shares::of(&counts, population.bound()));
    }
    Ok(is_whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_left_out_until_few_rows_are_read() {
        for (minutes, entries, most, expected) in [
            (&[][..], 3, 100, 0),
            (&[10_000, 20_000], 3, 20_000, 0),
            // No more than 2,048 are kept of each.
            (&[10_000, 20_000], 3, 4_096, 0),
            (&[10_000, 20_000], 3, 4_095, 3),
            (&[10_000, 20_000], 3, 2_500, 4),
            // Or 256 of each entry point.
            (&[100_000], 100, 25_600, 0),
            (&[100_000], 100, 25_599, 2),
            (&[u64::MAX], usize::MAX, 10, MOST_LEVELS),
        ] {
            let busy =
                Busy { counts: minutes.iter().copied().enumerate().map(|(minute, n)| (minute as u64, n)).collect() };
            assert_eq!(busy.lowest_level(entries, most), expected, "{minutes:?} {entries} {most}");
        }
    }

    #[test]
    fn minutes_of_a_window() {
        let window = Window { from: 2 * MINUTE_NS + 5, to: 3 * MINUTE_NS };
        assert_eq!(window.rounded(), (2 * MINUTE_NS, 4 * MINUTE_NS - 1));
        let places =
            [2 * MINUTE_NS - 1, 2 * MINUTE_NS, 2 * MINUTE_NS + 5, 3 * MINUTE_NS, 3 * MINUTE_NS + 1, 4 * MINUTE_NS];
        let expected = [Place::Outside, Place::Beside, Place::Inside, Place::Inside, Place::Beside, Place::Outside];
        assert_eq!(places.map(|start| window.place(start)), expected);
        assert_eq!(Window { from: 0, to: u64::MAX }.rounded(), (0, u64::MAX));
    }
}
