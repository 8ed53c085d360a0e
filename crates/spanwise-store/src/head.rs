//! The newest spans, in memory: also in the log, and visible to every query.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use spanwise_insight::minutes::{Bounds, Minutes};
use spanwise_insight::names::Names;
use spanwise_journal::Position;
use spanwise_model::TraceId;
use spanwise_wire::{Batch, select};

use crate::catalogue::Catalogue;
use crate::facts::live::LiveRows;

/// Spans that no block holds yet. Grows until it is cut; a cut head never changes again.
pub struct Head {
    /// No other head of this process has it.
    number: u64,
    inner: Mutex<Inner>,
    /// Made on demand: see [`crate::facts::live`].
    pub(crate) rows: Mutex<LiveRows>,
    /// Made on demand: see [`crate::sketches::window`].
    pub(crate) sketched: Mutex<Sketched>,
}

impl Default for Head {
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let (inner, rows, sketched) = Default::default();
        Self { number: NEXT.fetch_add(1, Ordering::Relaxed), inner, rows, sketched }
    }
}

/// What the first batches of a head add to the counts of minutes.
pub(crate) struct Sketched {
    pub batches: usize,
    pub minutes: Minutes,
    pub names: Names,
}

impl Default for Sketched {
    fn default() -> Self {
        Self { batches: 0, minutes: Minutes::new(Bounds::BLOCK), names: Names::default() }
    }
}

#[derive(Default)]
struct Inner {
    batches: Vec<Batch>,
    by_trace: FxHashMap<TraceId, Vec<u32>>,
    spans: u64,
    bytes: usize,
    last: Option<Position>,
    oldest_unix_nano: Option<u64>,
    newest_unix_nano: u64,
    max_start_unix_nano: u64,
    min_start_unix_nano: u64,
    /// Made on demand; covers the first `catalogued` batches.
    catalogue: Catalogue,
    catalogued: usize,
}

impl Head {
    /// `now_unix_nano` is when the batch came.
    pub fn insert(&self, batch: Batch, position: Position, now_unix_nano: u64) {
        let mut inner = self.inner.lock();
        let number = inner.batches.len() as u32;
        let mut last_trace = None;
        for span in batch.spans() {
            if last_trace != Some(span.trace_id) {
                let places = inner.by_trace.entry(span.trace_id).or_default();
                if places.last() != Some(&number) {
                    places.push(number);
                }
                last_trace = Some(span.trace_id);
            }
        }
        let starts = || batch.spans().iter().map(|span| span.start_unix_nano);
        let (low, high) = (starts().min().unwrap_or(u64::MAX), starts().max().unwrap_or(0));
        inner.min_start_unix_nano = if inner.spans == 0 { low } else { inner.min_start_unix_nano.min(low) };
        inner.max_start_unix_nano = inner.max_start_unix_nano.max(high);
        inner.spans += batch.len_spans() as u64;
        inner.bytes += batch.memory_bytes();
        inner.last = inner.last.max(Some(position));
        inner.oldest_unix_nano.get_or_insert(now_unix_nano);
        inner.newest_unix_nano = inner.newest_unix_nano.max(now_unix_nano);
        inner.batches.push(batch);
    }

    pub fn trace(&self, id: &TraceId) -> Vec<Batch> {
        self.trace_before(id, usize::MAX)
    }

    /// What so many batches, the first ones, have of a trace.
    pub fn trace_before(&self, id: &TraceId, batches: usize) -> Vec<Batch> {
        let found: Vec<Batch> = {
            let inner = self.inner.lock();
            let places = inner.by_trace.get(id).into_iter().flatten();
            let places = places.take_while(|place| (**place as usize) < batches);
            places.filter_map(|place| inner.batches.get(*place as usize).cloned()).collect()
        };
        found
            .into_iter()
            .map(|batch| {
                let places: Vec<usize> =
                    (0..batch.len_spans()).filter(|at| batch.spans()[*at].trace_id == *id).collect();
                select(&batch, &places)
            })
            .collect()
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// How many of its batches have spans of a trace: it only grows, and when it does not, nothing came.
    pub(crate) fn batches_of(&self, id: &TraceId) -> u32 {
        self.inner.lock().by_trace.get(id).map_or(0, |places| places.len() as u32)
    }

    /// Marks the ids that it has spans of.
    pub fn mark(&self, ids: &[TraceId], marks: &mut [bool]) {
        let inner = self.inner.lock();
        for (id, mark) in ids.iter().zip(marks) {
            *mark |= inner.by_trace.contains_key(id);
        }
    }

    /// In order.
    pub fn trace_ids(&self) -> Vec<TraceId> {
        let mut ids: Vec<TraceId> = self.inner.lock().by_trace.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    pub fn batches(&self) -> Vec<Batch> {
        self.inner.lock().batches.clone()
    }

    /// Without so many, the first ones; together of at least so many spans, if there are.
    pub fn batches_from(&self, first: usize, spans: usize) -> Vec<Batch> {
        let inner = self.inner.lock();
        let mut found = 0;
        let rest = inner.batches.get(first..).unwrap_or_default();
        let enough = rest.iter().take_while(|batch| {
            let is_wanted = found < spans;
            found += batch.len_spans();
            is_wanted
        });
        enough.cloned().collect()
    }

    pub fn spans(&self) -> u64 {
        self.inner.lock().spans
    }

    pub fn bytes(&self) -> usize {
        self.inner.lock().bytes
    }

    pub fn last(&self) -> Option<Position> {
        self.inner.lock().last
    }

    /// When its newest batch came; 0 when empty.
    pub fn newest_unix_nano(&self) -> u64 {
        self.inner.lock().newest_unix_nano
    }

    pub fn oldest_unix_nano(&self) -> Option<u64> {
        self.inner.lock().oldest_unix_nano
    }

    /// Earliest and latest start of a span; `None` when empty.
    pub fn starts(&self) -> Option<(u64, u64)> {
        let inner = self.inner.lock();
        (inner.spans > 0).then_some((inner.min_start_unix_nano, inner.max_start_unix_nano))
    }

    pub fn add_to(&self, catalogue: &mut Catalogue) {
        let mut inner = self.inner.lock();
        let Inner { batches, catalogue: own, catalogued, .. } = &mut *inner;
        for batch in batches.iter().skip(*catalogued) {
            (0..batch.len_spans()).for_each(|place| own.add(batch, place));
        }
        *catalogued = batches.len();
        catalogue.merge(own);
    }
}

/// The heads of a store, oldest first; the last one grows.
pub type Heads = Vec<Arc<Head>>;
