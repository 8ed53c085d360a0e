//! Which parts of a snapshot to look through, and how far, until the result is certain.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};

use rustc_hash::FxHashMap;
use spanwise_model::TraceId;
use spanwise_store::block::filter::{Candidates, Column, Note, Predicate, Test};
use spanwise_store::block::{BlockError, BlockReader, Order, Step};
use spanwise_store::snapshot::Part;
use spanwise_wire::view::ValueView;

use super::{MOST_THREADS, Search, SearchError, on_all_cores};

/// Traces whose ids are read together.
const MOST_AT_ONCE: usize = 32;

/// One part.
struct Source<'a> {
    part: Part<'a>,
    /// What its rows must have, as far as can be told there.
    predicate: Predicate,
    max_start_unix_nano: u64,
    /// What is left of it; `None` before that is known.
    steps: Option<VecDeque<Step>>,
}

/// A trace that may be in the result.
struct Pending {
    bound: u64,
    trace: Trace,
}

enum Trace {
    Id(TraceId),
    /// Number of the source, and its first row there.
    Row(usize, u32),
}

impl Ord for Pending {
    fn cmp(&self, other: &Self) -> Ordering {
        self.bound.cmp(&other.bound)
    }
}

impl PartialOrd for Pending {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pending {
    fn eq(&self, other: &Self) -> bool {
        self.bound == other.bound
    }
}

impl Eq for Pending {}

impl Source<'_> {
    /// No trace that it has still to bring comes before this in the order; `None` when it has no more.
    fn bound(&self, order: Order) -> Option<u64> {
        match (&self.steps, order) {
            (Some(steps), _) => steps.front().map(|step| step.bound),
            (None, Order::Newest) => Some(self.max_start_unix_nano),
            (None, Order::Longest) => Some(u64::MAX),
        }
    }
}

impl Search<'_> {
    /// Looks for the first traces until no further one can enter the result, or the budget ends.
    pub(super) fn look_through(&mut self, predicate: &Predicate) -> Result<(), SearchError> {
        let order = self.order;
        let parts = self.snapshot.parts().into_iter().filter(|(low, high, _)| self.may_overlap(*low, *high));
        let mut told = self.snapshot.told(predicate);
        let source = |(_, high, part)| {
            let predicate = match &part {
                Part::Block(block) => told.remove(block.id.as_str()).unwrap_or_else(|| predicate.clone()),
                Part::Head(_) => predicate.clone(),
            };
            Source { part, predicate, max_start_unix_nano: high, steps: None }
        };
        let mut sources: Vec<Source<'_>> = parts.map(source).collect();
        let mut pending: BinaryHeap<Pending> = BinaryHeap::new();
        loop {
            let unread = sources.iter().filter_map(|source| source.bound(order)).max();
            let known = pending.peek().map(|first| first.bound);
            let Some(best) = unread.max(known) else { return Ok(()) };
            if self.is_settled(best) {
                return Ok(());
            }
            if self.is_over() {
                self.response.complete = false;
                return Ok(());
            }
            if known >= unread {
                self.judge_pending(&sources, &mut pending, unread)?;
            } else {
                self.advance(&mut sources, &mut pending, known)?;
            }
        }
    }

    /// Takes the next step in the best sources, those that can bring a trace before the best that is `known`.
    fn advance(
        &mut self,
        sources: &mut [Source<'_>],
        pending: &mut BinaryHeap<Pending>,
        known: Option<u64>,
    ) -> Result<(), SearchError> {
        let order = self.order;
        let mut best: Vec<(u64, usize)> = sources
            .iter()
            .enumerate()
            .filter_map(|(number, source)| Some((source.bound(order)?, number)))
            .filter(|(bound, _)| known.is_none_or(|known| *bound > known))
            .collect();
        best.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        let is_new = |number: usize| sources.get(number).is_some_and(|source| source.steps.is_none());
        // What the first of them brings may make looking at the others needless.
        if best.first().is_some_and(|(_, number)| is_new(*number)) {
            let mut new: Vec<usize> = best.iter().map(|(_, number)| *number).filter(|number| is_new(*number)).collect();
            new.truncate(MOST_THREADS);
            let steps = on_all_cores(&new, |number| match sources.get(*number) {
                Some(Source { part: Part::Block(block), predicate, max_start_unix_nano, .. }) => {
                    block.steps(predicate, order, *max_start_unix_nano)
                }
                Some(Source { part: Part::Head(_), max_start_unix_nano, .. }) => {
                    let bound = if order == Order::Newest { *max_start_unix_nano } else { u64::MAX };
                    VecDeque::from([Step { bound, traces: None, is_rest: false }])
                }
                None => VecDeque::new(),
            });
            for (number, steps) in new.into_iter().zip(steps) {
                if let Some(source) = sources.get_mut(number) {
                    source.steps = Some(steps);
                }
            }
            return Ok(());
        }
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
        let mut taken: Vec<(usize, Step)> = Vec::new();
        for (_, number) in best.into_iter().filter(|(_, number)| !is_new(*number)).take(threads).collect::<Vec<_>>() {
            let steps = sources.get_mut(number).and_then(|source| source.steps.as_mut());
            taken.extend(steps.and_then(VecDeque::pop_front).map(|step| (number, step)));
        }
        let note = match order {
            Order::Newest if self.request.from_unix_nano.is_none() => Note::Start,
            _ => Note::All,
        };
        let found = on_all_cores(&taken, |(number, step)| match sources.get(*number) {
            Some(Source { part: Part::Block(block), predicate, .. }) => {
                let longer = step.is_rest.then(|| self.longer_than_found(predicate));
                let predicate = longer.as_ref().unwrap_or(predicate);
                Some(block.candidates(predicate, note, step.traces.as_deref(), &|| self.is_over()))
            }
            _ => None,
        });
        for ((number, _), found) in taken.into_iter().zip(found) {
            match sources.get(number) {
                Some(Source { part: Part::Block(block), predicate, .. }) => {
                    if let Some(found) = found {
                        self.note(block, number, found?, predicate.is_exact(), pending)?;
                    }
                }
                Some(Source { part: Part::Head(head), .. }) => {
                    let mut candidates = FxHashMap::default();
                    for batch in head.batches() {
                        self.look(&batch, &mut candidates)?;
                        if self.is_over() {
                            return Ok(());
                        }
                    }
                    let candidates = candidates.into_iter().filter(|(_, seen)| seen.may_match);
                    pending.extend(candidates.map(|(id, seen)| Pending {
                        bound: self.bound(seen.start_unix_nano, seen.longest_ns),
                        trace: Trace::Id(id),
                    }));
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Of spans that are shorter than all that were found no more need be known.
    fn longer_than_found(&self, predicate: &Predicate) -> Predicate {
        let least = self.found.last_key_value().map(|((Reverse(least), _), _)| *least);
        match least.and_then(|least| i64::try_from(least).ok()) {
            Some(least) if self.order == Order::Longest && self.found.len() >= self.limit && self.is_plain() => {
                let test = Test::new(move |value| matches!(value, ValueView::Int(ns) if ns >= least)).at_least(least);
                Predicate::All(vec![Predicate::Column(Column::DurationNs, test), predicate.clone()])
            }
            _ => predicate.clone(),
        }
    }

    /// Notes what a step through a block found.
    fn note(
        &mut self,
        block: &BlockReader,
        source: usize,
        found: Candidates,
        is_exact: bool,
        pending: &mut BinaryHeap<Pending>,
    ) -> Result<(), SearchError> {
        self.response.inspected_bytes += found.inspected_bytes;
        if is_exact || self.order == Order::Longest {
            self.response.inspected_spans += found.inspected_rows;
            let traces = self.without_outsiders(block, &found.traces)?;
            pending.extend(traces.iter().map(|trace| Pending {
                bound: self.bound(trace.start_unix_nano, trace.longest_ns),
                trace: Trace::Row(source, trace.row),
            }));
            return Ok(());
        }
        let starts: FxHashMap<u32, u64> = found.traces.iter().map(|trace| (trace.row, trace.start_unix_nano)).collect();
        let mut candidates = FxHashMap::default();
        for batch in block.scan_rows(&found.rows)? {
            self.look(&batch?, &mut candidates)?;
            if self.is_over() {
                return Ok(());
            }
        }
        // The rows that were looked at need not be a trace's first.
        let start_of = |id: &TraceId, seen: u64| {
            block.first_row(id).and_then(|row| starts.get(&row)).map_or(seen, |start| seen.min(*start))
        };
        pending.extend(candidates.into_iter().filter(|(_, seen)| seen.may_match).map(|(id, seen)| Pending {
            bound: self.bound(start_of(&id, seen.start_unix_nano), seen.longest_ns),
            trace: Trace::Id(id),
        }));
        Ok(())
    }

    /// Judges the best of the traces that are known, unless something `unread` can come before them.
    fn judge_pending(
        &mut self,
        sources: &[Source<'_>],
        pending: &mut BinaryHeap<Pending>,
        unread: Option<u64>,
    ) -> Result<(), SearchError> {
        let mut known: Vec<(u64, TraceId)> = Vec::new();
        let mut rows: FxHashMap<usize, Vec<(u32, u64)>> = FxHashMap::default();
        for _ in 0..MOST_AT_ONCE {
            if pending.peek().is_none_or(|first| Some(first.bound) < unread) {
                break;
            }
            match pending.pop() {
                Some(Pending { bound, trace: Trace::Id(id) }) => known.push((bound, id)),
                Some(Pending { bound, trace: Trace::Row(source, row) }) => {
                    rows.entry(source).or_default().push((row, bound));
                }
                None => break,
            }
        }
        for (source, mut rows) in rows {
            let Some(Source { part: Part::Block(block), .. }) = sources.get(source) else { continue };
            rows.sort_unstable_by_key(|(row, bound)| (*row, Reverse(*bound)));
            rows.dedup_by_key(|(row, _)| *row);
            let ids: Result<Vec<TraceId>, BlockError> =
                block.trace_ids(&rows.iter().map(|(row, _)| *row).collect::<Vec<u32>>());
            for ((_, bound), id) in rows.iter().zip(ids?) {
                if self.order == Order::Newest && !self.judged.contains(&id) {
                    match self.dated.insert(id) {
                        // It is known from another block.
                        false => continue,
                        // What lies elsewhere may begin earlier: then it is not its turn yet.
                        true => match self.snapshot.start_of_scattered(&id)? {
                            Some(start) if start < *bound => {
                                pending.push(Pending { bound: start, trace: Trace::Id(id) });
                                continue;
                            }
                            _ => {}
                        },
                    }
                }
                known.push((*bound, id));
            }
        }
        // Of equal bounds the ids decide.
        known.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        known.dedup_by_key(|(_, id)| *id);
        let next = pending.peek().map(|first| first.bound).max(unread);
        let now = known.iter().take_while(|(bound, _)| Some(*bound) >= next).count().min(self.worth_fetching());
        let later = known.split_off(now);
        pending.extend(later.into_iter().map(|(bound, id)| Pending { bound, trace: Trace::Id(id) }));
        self.judge_chunk(&known)
    }
}
