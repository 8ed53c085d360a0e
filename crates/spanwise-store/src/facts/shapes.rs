//! A sample of the traces that have some shapes, drawn by trace id; that of those which begin with one operation, as the
//! counts of minutes say which shapes these have.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap;
use spanwise_insight::population::draw;
use spanwise_model::TraceId;

use crate::block::BlockError;
use crate::snapshot::Snapshot;

/// Of which traces: those that start in a window and have one of these shapes, or one that may be meant as well.
pub struct Wanted<'a> {
    pub from_unix_nano: u64,
    pub to_unix_nano: u64,
    pub shapes: &'a [u64],
    /// Of shapes that are none of these.
    pub may_be_meant: &'a dyn Fn(u64) -> bool,
    /// Which share of them.
    pub share: f64,
}

/// What was drawn, in order.
pub struct Drawn {
    pub ids: Vec<TraceId>,
    /// Traces that may be meant or not, of other shapes or of none that a block knows yet; each with the share that was
    /// drawn of its like: less than of the first, where there are too many.
    pub others: Vec<(TraceId, f64)>,
    /// One trace of each of the shapes, drawn or not, if a block knows one.
    pub examples: Vec<Option<TraceId>>,
}

/// Traces of blocks and of heads that may be meant or not, at most: those of blocks cost a page of each column.
const MOST_OF_BLOCKS: usize = 600;
const MOST_OF_HEADS: usize = 5_000;

/// Bits of which a share is below it; levels do not depend on them.
fn number(id: &TraceId) -> f64 {
    f64::from((draw(id) >> 16) as u32) / (f64::from(u32::MAX) + 1.0)
}

/// # Errors
/// When a block cannot be read.
pub fn draw_of(snapshot: &Snapshot, wanted: &Wanted<'_>) -> Result<Drawn, BlockError> {
    let window = wanted.from_unix_nano..=wanted.to_unix_nano;
    let numbers: FxHashMap<u64, u32> = wanted.shapes.iter().zip(0..).map(|(shape, number)| (*shape, number)).collect();
    let is_drawn = |id: &TraceId| number(id) < wanted.share;
    let [mut ids, mut of_blocks, mut of_heads]: [BTreeSet<TraceId>; 3] = Default::default();
    let mut examples: Vec<Option<TraceId>> = vec![None; wanted.shapes.len()];
    for (meta, block) in snapshot.blocks.iter() {
        let Some(facts) = block.facts() else {
            let rows: Vec<u32> = block.index().first_rows().collect();
            of_blocks.extend(block.trace_ids(&rows)?.into_iter().filter(is_drawn));
            continue;
        };
        if meta.max_start_unix_nano < wanted.from_unix_nano || meta.min_start_unix_nano > wanted.to_unix_nano {
            continue;
        }
        let mark = |shape: u64| match numbers.get(&shape) {
            Some(number) => Some(*number),
            None => (wanted.may_be_meant)(shape).then_some(u32::MAX),
        };
        let found = facts.marked_places(&|_, shape| mark(shape))?;
        if found.is_empty() {
            continue;
        }
        let spine = facts.spine(block.index().prefixes())?;
        for (place, mark) in found {
            let (Some(id), Some(start)) = (spine.ids.get(place as usize), spine.starts.get(place as usize)) else {
                continue;
            };
            if !window.contains(start) {
                continue;
            }
            if let Some(example) = examples.get_mut(mark as usize)
                && example.is_none_or(|example| draw(id) < draw(&example))
            {
                *example = Some(*id);
            }
            if is_drawn(id) {
                let like = if mark == u32::MAX { &mut of_blocks } else { &mut ids };
                like.insert(*id);
            }
        }
    }
    for head in &snapshot.heads {
        of_heads.extend(head.trace_ids().into_iter().filter(is_drawn));
    }
    // What a head has more of may be known in a block.
    of_heads.retain(|id| !ids.contains(id));
    of_blocks.retain(|id| !ids.contains(id) && !of_heads.contains(id));
    let mut others = Vec::new();
    for (like, most) in [(of_blocks, MOST_OF_BLOCKS), (of_heads, MOST_OF_HEADS)] {
        let share = wanted.share * (most as f64 / like.len() as f64).min(1.0);
        others.extend(like.into_iter().filter(|id| number(id) < share).map(|id| (id, share)));
    }
    Ok(Drawn { ids: ids.into_iter().collect(), others, examples })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::tests::{batch, id, open, spans};
    use crate::sketches::{Asked, window::collect};
    use spanwise_insight::minutes::{Bounds, Kind, Minutes};
    use spanwise_insight::names::Names;

    #[test]
    fn what_is_drawn_of_some_shapes_does_not_depend_on_where_it_lies() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let drawn = [&[200][..], &[70, 130], &[30, 60]].map(|cuts: &[u64]| {
            let dir = tempfile::tempdir().unwrap();
            let store = open(dir.path());
            let mut first = 0;
            for last in cuts.iter().map(|count| first + count).collect::<Vec<u64>>() {
                let last = last.min(200);
                let part: Vec<_> = (first..last).flat_map(spans).collect();
                runtime.block_on(store.append(batch(&part))).unwrap();
                store.cut(runtime.handle()).unwrap();
                first = last;
            }
            if first < 200 {
                runtime.block_on(store.append(batch(&(first..200).flat_map(spans).collect::<Vec<_>>()))).unwrap();
            }
            let snapshot = store.snapshot();
            let asked = Asked { kinds: &[Kind::Shape], minutes: 0..=u32::MAX, is_together: true };
            let (mut names, mut minutes) = (Names::default(), Minutes::new(Bounds::ANSWER));
            assert!(collect(&snapshot, &asked, &mut names, &mut minutes, &|| false).unwrap());
            // Those whose last call failed, a third of all.
            let cells = minutes.sorted(Kind::Shape);
            let failed: Vec<u64> = cells.iter().filter(|(_, cell)| cell.errors > 0).map(|(key, _)| key.c).collect();
            assert_eq!((cells.len(), failed.len()), (2, 1));
            let wanted = |share: f64, may_be_meant: &'static dyn Fn(u64) -> bool| {
                let (from_unix_nano, to_unix_nano) = (0, u64::MAX);
                let wanted = Wanted { from_unix_nano, to_unix_nano, shapes: &failed, may_be_meant, share };
                draw_of(&snapshot, &wanted).unwrap()
            };
            let together = |drawn: &Drawn| {
                let others = drawn.others.iter().map(|(id, _)| *id);
                drawn.ids.iter().copied().chain(others).collect::<Vec<TraceId>>()
            };
            let all = wanted(1.0, &|_| false);
            assert!((0..200).step_by(3).all(|number| together(&all).contains(&id(number))));
            assert!(all.ids.contains(&all.examples[0].unwrap()));
            if first == 200 {
                assert_eq!((all.ids.len(), all.others.len()), (67, 0), "no other shapes");
            }
            let mut some = together(&wanted(0.3, &|_| true));
            some.sort_unstable();
            assert!((30..90).contains(&some.len()), "{}", some.len());
            assert_eq!(together(&wanted(1.0, &|_| true)).len(), 200);
            some
        });
        assert!(drawn.iter().all(|ids| ids == &drawn[0]));
    }
}
