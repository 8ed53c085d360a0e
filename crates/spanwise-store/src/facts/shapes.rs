//! A sample of the traces that have some shapes, drawn by trace id.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap;
use spanwise_insight::population::draw;
use spanwise_model::TraceId;

use crate::block::BlockError;
use crate::snapshot::Snapshot;

/// Of which traces: those that start in a window and have one of these shapes.
pub struct Wanted<'a> {
    pub from_unix_nano: u64,
    pub to_unix_nano: u64,
    pub shapes: &'a [u64],
    /// Which share of them.
    pub share: f64,
}

/// What was drawn.
pub struct Drawn {
    /// In order. Some may have other shapes or lie outside of the window: those of which no block knows yet.
    pub ids: Vec<TraceId>,
    /// One trace of each of the shapes, drawn or not, if a block knows one.
    pub examples: Vec<Option<TraceId>>,
}

/// Whether a trace is drawn where a share of all is.
fn is_drawn(id: &TraceId, share: f64) -> bool {
    // Bits that levels do not depend on.
    let number = (draw(id) >> 16) as u32;
    f64::from(number) < share * f64::from(u32::MAX) + 1.0
}

/// # Errors
/// When a block cannot be read.
pub fn draw_of(snapshot: &Snapshot, wanted: &Wanted<'_>) -> Result<Drawn, BlockError> {
    let window = wanted.from_unix_nano..=wanted.to_unix_nano;
    let numbers: FxHashMap<u64, u32> = wanted.shapes.iter().zip(0..).map(|(shape, number)| (*shape, number)).collect();
    let mut ids: BTreeSet<TraceId> = BTreeSet::new();
    let mut examples: Vec<Option<TraceId>> = vec![None; wanted.shapes.len()];
    for (meta, block) in snapshot.blocks.iter() {
        let Some(facts) = block.facts() else {
            let rows: Vec<u32> = block.index().first_rows().collect();
            ids.extend(block.trace_ids(&rows)?.into_iter().filter(|id| is_drawn(id, wanted.share)));
            continue;
        };
        if meta.max_start_unix_nano < wanted.from_unix_nano || meta.min_start_unix_nano > wanted.to_unix_nano {
            continue;
        }
        let found = facts.marked_places(&|_, shape| numbers.get(&shape).copied())?;
        if found.is_empty() {
            continue;
        }
        let spine = facts.spine(block.index().prefixes())?;
        for (place, number) in found {
            let (Some(id), Some(start)) = (spine.ids.get(place as usize), spine.starts.get(place as usize)) else {
                continue;
            };
            if !window.contains(start) {
                continue;
            }
            if let Some(example) = examples.get_mut(number as usize)
                && example.is_none_or(|example| draw(id) < draw(&example))
            {
                *example = Some(*id);
            }
            if is_drawn(id, wanted.share) {
                ids.insert(*id);
            }
        }
    }
    for head in &snapshot.heads {
        ids.extend(head.trace_ids().into_iter().filter(|id| is_drawn(id, wanted.share)));
    }
    Ok(Drawn { ids: ids.into_iter().collect(), examples })
}
