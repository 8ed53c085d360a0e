//! Rows of all traces that started in a window, each trace once: stored ones, and those made now of what no facts
//! file covers.

use rustc_hash::FxHashSet;
use spanwise_insight::population::{EntryMinute, MINUTE_NS, MOST_LEVELS, Population, level};
use spanwise_model::TraceId;

use super::live::{Asked, add_heads};
use super::read::row_of;
use super::{FactsFile, Spine, rounded};
use crate::block::{BlockError, BlockReader};
use crate::head::Head;
use crate::snapshot::{DAY, Part, Snapshot};

/// A block with facts, what of it lies in the window, and its place among the blocks.
struct Stored<'a> {
    facts: &'a FactsFile,
    spine: Spine,
    is_in_window: Vec<bool>,
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
    let window = from_unix_nano..=to_unix_nano;
    let blocks: Vec<&BlockReader> = snapshot.blocks.iter().map(|(_, block)| &**block).collect();
    let with_facts: Vec<(&BlockReader, &FactsFile)> =
        blocks.iter().filter_map(|block| Some((*block, block.facts()?))).collect();
    // Traces of which some part has no stored row: their rows are made of all parts, and count alone.
    let is_near =
        |(low, high): (u64, u64)| high.saturating_add(DAY) >= from_unix_nano && low <= to_unix_nano.saturating_add(DAY);
    let is_meant = |head: &Head| head.starts().is_some_and(is_near);
    let asked = Asked { snapshot, window: window.clone() };
    let Some(of_heads) = add_heads(&asked, &is_meant, population, is_over)? else { return Ok(false) };
    let mut live = of_heads.in_blocks;
    let is_live = |part: &Part<'_>| match part {
        Part::Head(_) => false,
        Part::Block(block) => block.facts().is_none(),
    };
    for (number, item) in snapshot.traces_in_parts(from_unix_nano, to_unix_nano, is_live)?.enumerate() {
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
        if window.contains(&start) {
            population.count(1, batch.len_spans() as u64);
            let row = row_of(&batch, id, population.names_mut());
            row.into_iter().for_each(|row| population.add_row(rounded(row)));
        }
    }
    let superseded: FxHashSet<(&str, TraceId)> = with_facts
        .iter()
        .flat_map(|(_, facts)| facts.superseded().iter().map(|(block, id)| (block.as_str(), *id)))
        .collect();
    let mut stored = Vec::new();
    let mut levels = [0usize; MOST_LEVELS as usize + 1];
    for (block, facts) in with_facts {
        let spine = facts.spine(block.index().prefixes())?;
        let counts = |place: usize, id: &TraceId| {
            window.contains(&spine.starts[place])
                && !live.contains(id)
                && (superseded.is_empty() || !superseded.contains(&(block.id.as_str(), *id)))
        };
        let is_in_window: Vec<bool> = spine.ids.iter().enumerate().map(|(place, id)| counts(place, id)).collect();
        let (mut traces, mut spans) = (0, 0);
        for (place, _) in is_in_window.iter().enumerate().filter(|(_, is_in)| **is_in) {
            traces += 1;
            spans += u64::from(spine.spans[place]);
            levels[level(&spine.ids[place]) as usize] += 1;
        }
        population.count(traces, spans);
        if traces > 0 {
            stored.push(Stored { facts, spine, is_in_window });
        }
        if is_over() {
            return Ok(false);
        }
    }
    population.from_level(lowest_level(&levels, population.bound()));
    let lowest = population.level();
    for part in &stored {
        let is_wanted = |place: usize| part.is_in_window.get(place).copied().unwrap_or(false);
        let (mut rows, mut thinned) = (Vec::new(), Vec::new());
        let mut thin = |of: EntryMinute, level| {
            if (from_unix_nano / MINUTE_NS..=to_unix_nano / MINUTE_NS).contains(&of.1) {
                thinned.push((of, level));
            }
        };
        let mut visit = |row| rows.push(row);
        part.facts.rows(lowest, &part.spine, population.names_mut(), &is_wanted, &mut thin, &mut visit)?;
        thinned.into_iter().for_each(|(of, level)| population.thin(of, level));
        rows.into_iter().for_each(|row| population.add_row(row));
        if is_over() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The lowest level from which on there are at most so many traces.
fn lowest_level(levels: &[usize], most: usize) -> u32 {
    let mut total = 0;
    for (level, count) in levels.iter().enumerate().rev() {
        total += count;
        if total > most {
            return level as u32 + 1;
        }
    }
    0
}
