//! What one query sees: heads and blocks as they were at one moment.

use std::collections::VecDeque;
use std::iter::Peekable;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use spanwise_model::TraceId;
use spanwise_wire::Batch;
use spanwise_wire::frame::split_by_trace;

use crate::block::filter::Predicate;
use crate::block::{BlockError, BlockReader};
use crate::catalogue::Catalogue;
use crate::head::Heads;
use crate::manifest::BlockMeta;
use crate::merge::{has_repeated_ids, merge};

/// Reads block on the disk: call from a thread that may.
#[derive(Clone)]
pub struct Snapshot {
    pub(crate) heads: Heads,
    pub(crate) blocks: Arc<Vec<(BlockMeta, Arc<BlockReader>)>>,
}

/// How far the spans of one trace may lie from each other for all of them to be found by a window.
pub(crate) const DAY: u64 = 86_400_000_000_000;

type TraceItem = Result<(TraceId, Batch), BlockError>;
type TraceStream<'a> = Box<dyn Iterator<Item = TraceItem> + 'a>;

/// The trace with the least id, merged of all sources that have some of it.
fn next_trace(sources: &mut [Peekable<TraceStream<'_>>]) -> Option<Result<Batch, BlockError>> {
    let mut least: Option<TraceId> = None;
    for source in sources.iter_mut() {
        match source.peek() {
            Some(Ok((id, _))) => least = Some(least.map_or(*id, |least| least.min(*id))),
            Some(Err(_)) => return source.next().map(|item| item.map(|(_, batch)| batch)),
            None => {}
        }
    }
    let least = least?;
    let is_least = |item: &TraceItem| matches!(item, Ok((id, _)) if *id == least);
    let parts: Vec<Batch> = sources
        .iter_mut()
        .filter_map(|source| source.next_if(is_least))
        .filter_map(|item| item.ok().map(|(_, batch)| batch))
        .collect();
    merge(parts).map(Ok)
}

/// Cuts batches of neighbouring traces into traces, in order of trace id; one may go on in the next batch.
struct ByTrace<I> {
    batches: I,
    ready: VecDeque<(TraceId, Batch)>,
    open: Option<(TraceId, Vec<Batch>)>,
}

impl<I: Iterator<Item = Result<Batch, BlockError>>> ByTrace<I> {
    fn close(&mut self) {
        if let Some((id, parts)) = self.open.take() {
            self.ready.extend(merge(parts).map(|batch| (id, batch)));
        }
    }
}

impl<I: Iterator<Item = Result<Batch, BlockError>>> Iterator for ByTrace<I> {
    type Item = TraceItem;

    fn next(&mut self) -> Option<TraceItem> {
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return Some(Ok(ready));
            }
            match self.batches.next() {
                Some(Err(error)) => return Some(Err(error)),
                Some(Ok(batch)) => {
                    let id_of = |part: &Batch| part.spans().first().map(|span| span.trace_id);
                    let mut parts = split_by_trace(&batch);
                    // Rows ascend by trace id; a batch of them has its spans by resource.
                    parts.sort_unstable_by_key(id_of);
                    for part in parts {
                        let Some(id) = id_of(&part) else { continue };
                        match &mut self.open {
                            Some((open, parts)) if *open == id => parts.push(part),
                            _ => {
                                self.close();
                                self.open = Some((id, vec![part]));
                            }
                        }
                    }
                }
                None => {
                    self.close();
                    return self.ready.pop_front().map(Ok);
                }
            }
        }
    }
}

/// Spans that lie together: a block or a head.
pub enum Part<'a> {
    Head(&'a crate::head::Head),
    Block(&'a BlockReader),
}

impl Snapshot {
    /// All spans of a trace, wherever they lie, each once. `None` when there are none.
    ///
    /// # Errors
    /// When a block is damaged, or gone because the snapshot is old.
    pub fn trace(&self, id: &TraceId) -> Result<Option<Batch>, BlockError> {
        let mut parts = Vec::new();
        for (_, block) in self.blocks.iter() {
            parts.extend(block.trace(id)?);
        }
        for head in &self.heads {
            parts.extend(head.trace(id));
        }
        Ok(merge(parts))
    }

    /// [`Self::trace`] for who looks at few attributes: others may be missing.
    ///
    /// # Errors
    /// As [`Self::trace`].
    pub fn trace_with(&self, id: &TraceId, is_wanted: &dyn Fn(&str) -> bool) -> Result<Option<Batch>, BlockError> {
        let mut blocks = self.blocks.iter().map(|(_, block)| block).filter(|block| block.first_row(id).is_some());
        let in_head = |head: &Arc<crate::head::Head>| {
            let mut mark = [false];
            head.mark(std::slice::from_ref(id), &mut mark);
            mark == [true]
        };
        if let (Some(only), None) = (blocks.next(), blocks.next())
            && !self.heads.iter().any(in_head)
        {
            let found = only.trace_with(id, is_wanted)?;
            // Whether spans are the same is told from all of them.
            if !found.as_ref().is_some_and(has_repeated_ids) {
                return Ok(found);
            }
        }
        self.trace(id)
    }

    /// The start of a trace that lies in several places; `None` when it lies in one, which then tells.
    ///
    /// # Errors
    /// When a block is damaged, or gone because the snapshot is old.
    pub fn start_of_scattered(&self, id: &TraceId) -> Result<Option<u64>, BlockError> {
        let blocks: Vec<_> =
            self.blocks.iter().map(|(_, block)| block).filter(|block| block.first_row(id).is_some()).collect();
        let in_heads: Vec<Batch> = self.heads.iter().flat_map(|head| head.trace(id)).collect();
        if blocks.len() < 2 && in_heads.is_empty() {
            return Ok(None);
        }
        let starts = in_heads.iter().flat_map(Batch::spans).map(|span| span.start_unix_nano);
        let mut earliest: Option<u64> = starts.min();
        for block in blocks {
            earliest = earliest.into_iter().chain(block.start_of(id)?).min();
        }
        Ok(earliest)
    }

    /// For each of the ids, which ascend, whether spans of the trace may lie outside of this block.
    pub fn are_elsewhere(&self, ids: &[TraceId], block: &BlockReader) -> Vec<bool> {
        let mut marks = vec![false; ids.len()];
        for (_, other) in self.blocks.iter().filter(|(_, other)| other.id != block.id) {
            other.mark(ids, &mut marks);
        }
        for head in &self.heads {
            head.mark(ids, &mut marks);
        }
        marks
    }

    /// Every trace, whole, in order of trace id; parts that lie outside of the window by more than a day are not read.
    ///
    /// # Errors
    /// Each item's: when a block is damaged or gone. The first error of opening a block is the call's.
    pub fn traces(
        &self,
        from_unix_nano: u64,
        to_unix_nano: u64,
    ) -> Result<impl Iterator<Item = Result<Batch, BlockError>> + '_, BlockError> {
        self.traces_in_parts(from_unix_nano, to_unix_nano, |_| true)
    }

    /// The same of some parts alone.
    ///
    /// # Errors
    /// As [`Self::traces`].
    pub fn traces_in_parts(
        &self,
        from_unix_nano: u64,
        to_unix_nano: u64,
        is_meant: impl Fn(&Part<'_>) -> bool,
    ) -> Result<impl Iterator<Item = Result<Batch, BlockError>> + '_, BlockError> {
        let mut sources = Vec::new();
        for (low, high, part) in self.parts().into_iter().filter(|(_, _, part)| is_meant(part)) {
            if high.saturating_add(DAY) < from_unix_nano || low > to_unix_nano.saturating_add(DAY) {
                continue;
            }
            let stream: TraceStream<'_> = match part {
                Part::Block(block) => Box::new(ByTrace { batches: block.scan()?, ready: VecDeque::new(), open: None }),
                Part::Head(head) => Box::new(
                    head.trace_ids()
                        .into_iter()
                        .flat_map(move |id| merge(head.trace(&id)).map(|batch| Ok((id, batch)))),
                ),
            };
            sources.push(stream.peekable());
        }
        Ok(std::iter::from_fn(move || next_trace(&mut sources)))
    }

    /// These traces, whole, in order of trace id, which is also that of `ids`.
    ///
    /// # Errors
    /// Each item's: when a block is damaged or gone. The first error of opening a block is the call's.
    pub fn traces_of<'a>(
        &'a self,
        ids: &'a [TraceId],
    ) -> Result<impl Iterator<Item = Result<Batch, BlockError>> + 'a, BlockError> {
        let is_wanted = move |item: &TraceItem| match item {
            // Rows of traces whose ids begin alike are read together.
            Ok((id, _)) => ids.binary_search(id).is_ok(),
            Err(_) => true,
        };
        let mut sources = Vec::new();
        for (_, block) in self.blocks.iter() {
            let batches = block.scan_traces(ids)?;
            let stream: TraceStream<'a> =
                Box::new(ByTrace { batches, ready: VecDeque::new(), open: None }.filter(is_wanted));
            sources.push(stream.peekable());
        }
        for head in &self.heads {
            let stream: TraceStream<'a> =
                Box::new(ids.iter().filter_map(|id| merge(head.trace(id)).map(|batch| Ok((*id, batch)))));
            sources.push(stream.peekable());
        }
        Ok(std::iter::from_fn(move || next_trace(&mut sources)))
    }

    /// Everything there is, newest first, each with its earliest and latest start of a span.
    pub fn parts(&self) -> Vec<(u64, u64, Part<'_>)> {
        let mut parts: Vec<(u64, u64, Part<'_>)> = Vec::new();
        for head in &self.heads {
            if let Some((low, high)) = head.starts() {
                parts.push((low, high, Part::Head(head)));
            }
        }
        for (meta, block) in self.blocks.iter() {
            parts.push((meta.min_start_unix_nano, meta.max_start_unix_nano, Part::Block(block)));
        }
        parts.sort_by_key(|(_, high, _)| std::cmp::Reverse(*high));
        parts
    }

    pub fn catalogue(&self) -> Catalogue {
        let mut catalogue = Catalogue::default();
        for (_, block) in self.blocks.iter() {
            catalogue.merge(block.catalogue());
        }
        for head in &self.heads {
            head.add_to(&mut catalogue);
        }
        catalogue
    }

    pub fn spans(&self) -> u64 {
        self.blocks.iter().map(|(meta, _)| meta.spans).sum::<u64>()
            + self.heads.iter().map(|head| head.spans()).sum::<u64>()
    }

    /// By the blocks' ids, the predicate with what facts tell of whole traces. Empty where they tell nothing: when it
    /// does not ask, or when a block has none, whose traces may have spans in others.
    pub fn told(&self, predicate: &Predicate) -> FxHashMap<&str, Predicate> {
        if !predicate.asks_what_is_shown() || self.blocks.iter().any(|(_, block)| block.facts().is_none()) {
            return FxHashMap::default();
        }
        // Traces that a head has spans of, and those that lie in several blocks.
        let of_heads = self.heads.iter().map(|head| head.trace_ids());
        let of_heads: Vec<TraceId> = of_heads.flatten().collect();
        let mut split: Vec<Vec<u32>> = vec![Vec::new(); self.blocks.len()];
        for (block, (_, reader)) in self.blocks.iter().enumerate() {
            let superseded = reader.facts().map_or(&[][..], |facts| facts.superseded());
            for (other, id) in superseded {
                let others = self.blocks.iter().position(|(meta, _)| meta.id == *other);
                for place in std::iter::once(block).chain(others) {
                    split[place].extend(self.blocks[place].1.index().numbers(id));
                }
            }
            split[block].extend(of_heads.iter().flat_map(|id| reader.index().numbers(id)));
        }
        let mut told = FxHashMap::default();
        for ((meta, block), mut split) in self.blocks.iter().zip(split) {
            split.sort_unstable();
            split.dedup();
            told.insert(meta.id.as_str(), block.told_of(predicate, &split));
        }
        told
    }

    /// About how many spans of the blocks may be in a set.
    pub fn estimate(&self, predicate: &Predicate) -> u64 {
        self.blocks.iter().map(|(_, block)| block.estimate(predicate)).sum()
    }

    /// Earliest and latest start of any span.
    pub fn starts(&self) -> Option<(u64, u64)> {
        let parts = self.parts();
        let low = parts.iter().map(|(low, ..)| *low).min()?;
        Some((low, parts.iter().map(|(_, high, _)| *high).max()?))
    }
}
