//! Traces that wait: spans stay in the batches they came in, and each trace is a chain through them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustc_hash::FxHashMap;
use slab::Slab;
use spanwise_journal::Ticket;
use spanwise_model::TraceId;
use spanwise_wire::{Batch, Piece, SpanRef};
use tokio::time::Instant;

use super::policy::SpanView;

/// A batch's record on disk, needed until every shard is through with its part.
pub struct Kept {
    pub ticket: Ticket,
    shards: AtomicUsize,
}

impl Kept {
    pub fn new(ticket: Ticket, shards: usize) -> Arc<Self> {
        Arc::new(Self { ticket, shards: AtomicUsize::new(shards) })
    }

    fn shard_is_done(&self) {
        if self.shards.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.ticket.release();
        }
    }
}

struct Held {
    batch: Batch,
    kept: Option<Arc<Kept>>,
    bytes: usize,
    /// Spans of it that wait.
    waiting: usize,
}

/// One step of a trace's chain. Millions of them wait at a time: 12 bytes each.
struct Link {
    place: Place,
    /// [`NO_LINK`] at the end.
    next: u32,
}

/// No chain has this link: it would be the last of 4 billion waiting spans, which would take terabytes.
const NO_LINK: u32 = u32::MAX;

/// Where a span lies: the batch, and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    batch: u32,
    span: u32,
}

impl Place {
    fn batch(self) -> usize {
        self.batch as usize
    }
}

pub struct Waiting {
    pub arrived: Instant,
    /// Tells this trace from an earlier or later one of the same id.
    pub number: u64,
    pub bytes: u64,
    first: u32,
    last: u32,
}

/// The traces of one shard, and the batches they lie in.
#[derive(Default)]
pub struct WaitingTraces {
    traces: FxHashMap<TraceId, Waiting>,
    batches: Slab<Held>,
    links: Slab<Link>,
    bytes: usize,
    next_number: u64,
}

/// What a chain's link and the table's entry take, beside the batch itself.
const SPAN_BYTES: usize = size_of::<Link>() + 8;

impl WaitingTraces {
    pub fn len(&self) -> usize {
        self.traces.len()
    }

    pub fn is_empty(&self) -> bool {
        self.traces.is_empty()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn get(&self, trace_id: &TraceId) -> Option<&Waiting> {
        self.traces.get(trace_id)
    }

    /// Holds a batch; [`WaitingTraces::settle`] follows when its spans are placed.
    pub fn hold(&mut self, batch: Batch, kept: Option<Arc<Kept>>) -> u32 {
        let bytes = batch.memory_bytes() + batch.len_spans() * SPAN_BYTES;
        self.bytes += bytes;
        // Batches are far fewer than spans.
        self.batches.insert(Held { batch, kept, bytes, waiting: 0 }) as u32
    }

    /// Room for the spans of a batch and for those of their traces that are new. Table and chains are larger than any
    /// cache: looked up in one tight loop, the misses overlap; where each span is placed they would follow one another.
    pub fn make_room(&mut self, batch: &Batch, spans: &[u32]) {
        let (mut new, mut touched) = (0, 0);
        for span in spans.iter().filter_map(|number| batch.spans().get(*number as usize)) {
            match self.traces.get(&span.trace_id) {
                Some(trace) => touched ^= self.links[trace.last as usize].next,
                None => new += 1,
            }
        }
        std::hint::black_box(touched);
        self.traces.reserve(new);
        self.links.reserve(spans.len());
    }

    /// Gives a batch up when none of its spans wait.
    pub fn settle(&mut self, batch: u32) {
        let batch = batch as usize;
        if self.batches.get(batch).is_some_and(|held| held.waiting == 0) {
            let held = self.batches.remove(batch);
            self.bytes -= held.bytes;
            if let Some(kept) = held.kept {
                kept.shard_is_done();
            }
        }
    }

    pub fn place(batch: u32, span: u32) -> Place {
        Place { batch, span }
    }

    pub fn view(&self, place: Place) -> SpanView<'_> {
        let batch = &self.batches[place.batch()].batch;
        SpanView { batch, span: &batch.spans()[place.span as usize] }
    }

    pub fn piece(&self, place: Place) -> Piece<'_> {
        self.batches[place.batch()].batch.piece(place.span as usize)
    }

    /// Holds a span that belongs to no waiting trace until it is released.
    pub fn count_in(&mut self, place: Place) {
        self.batches[place.batch()].waiting += 1;
    }

    /// Where a trace's spans lie, in the order they came.
    pub fn places(&self, trace_id: &TraceId) -> Vec<Place> {
        let mut places = Vec::new();
        let mut at = self.traces.get(trace_id).map_or(NO_LINK, |trace| trace.first);
        while at != NO_LINK {
            let link = &self.links[at as usize];
            places.push(link.place);
            at = link.next;
        }
        places
    }

    pub fn kept(&self, place: Place) -> Option<&Ticket> {
        self.batches[place.batch()].kept.as_ref().map(|kept| &kept.ticket)
    }

    /// Adds a span to its trace, if that waits.
    pub fn join(&mut self, place: Place, span: &SpanRef) -> bool {
        let Some(trace) = self.traces.get_mut(&span.trace_id) else { return false };
        let link = self.links.insert(Link { place, next: NO_LINK }) as u32;
        self.links[trace.last as usize].next = link;
        trace.last = link;
        trace.bytes += u64::from(span.len);
        self.batches[place.batch()].waiting += 1;
        true
    }

    /// Adds the first span of a trace that does not wait yet. Answers the trace's number.
    pub fn begin(&mut self, place: Place, span: &SpanRef, now: Instant) -> u64 {
        let link = self.links.insert(Link { place, next: NO_LINK }) as u32;
        self.next_number += 1;
        let (number, bytes) = (self.next_number, u64::from(span.len));
        self.traces.insert(span.trace_id, Waiting { arrived: now, number, bytes, first: link, last: link });
        self.batches[place.batch()].waiting += 1;
        number
    }

    /// Takes a trace out: when it came, and where its spans lie, in the order they came. They stay readable until
    /// [`WaitingTraces::release`].
    pub fn take(&mut self, trace_id: &TraceId, places: &mut Vec<Place>) -> Option<Waiting> {
        let trace = self.traces.remove(trace_id)?;
        let mut at = trace.first;
        while at != NO_LINK {
            let link = self.links.remove(at as usize);
            places.push(link.place);
            at = link.next;
        }
        Some(trace)
    }

    /// The spans of a trace that was taken are handed on or dropped: batches without waiting spans go.
    pub fn release(&mut self, places: &[Place]) {
        for place in places {
            self.batches[place.batch()].waiting -= 1;
            self.settle(place.batch);
        }
    }
}
