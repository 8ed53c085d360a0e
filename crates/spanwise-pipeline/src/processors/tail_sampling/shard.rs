//! One worker: the traces whose ids fall to it, from their first span to the decision and beyond.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustc_hash::FxHashMap;
use spanwise_journal::Position;
use spanwise_model::{SpanId, Threshold, TraceId};
use spanwise_wire::tracestate::{TraceState, of_span, with_trace_state};
use spanwise_wire::{Batch, Piece, SpanRef, rebuild};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::config::TailSamplingConfig;
use super::decided::{Decided, Decision, Epoch};
use super::log::{DecisionLog, Logged};
use super::metrics::Metrics;
use super::policy::{Policies, SpanView, TraceView, Verdict};
use super::waiting::{Kept, Place, WaitingTraces};
use crate::flow::{Consumer, Payload, hand_on};

pub enum Message {
    /// The spans of a batch that are this shard's.
    Spans {
        batch: Batch,
        spans: Vec<u32>,
        kept: Option<Arc<Kept>>,
    },
    /// All that an earlier process left has been sent.
    Recovered,
    Drain(oneshot::Sender<()>),
}

/// What a shard is made of.
pub struct ShardParts {
    pub policies: Arc<Policies>,
    pub next: Arc<dyn Consumer>,
    pub stop: CancellationToken,
    pub metrics: Arc<Metrics>,
    pub log: DecisionLog,
    pub logged: Vec<Logged>,
    pub is_durable: bool,
    pub max_bytes: usize,
    pub on_memory: Arc<AtomicUsize>,
}

/// A batch of kept traces leaves at this many spans.
const SPANS_PER_BATCH: usize = 8192;

/// Due traces are decided together, at most this much late and at most a fiftieth of the wait.
const LONGEST_TICK: Duration = Duration::from_secs(1);
const SHORTEST_TICK: Duration = Duration::from_millis(10);

pub struct Shard {
    parts: ShardParts,
    wait: Duration,
    wait_after_root: Duration,
    num_traces: usize,
    blocks_on_overflow: bool,
    drops_at_end: bool,
    max_trace_bytes: u64,
    traces: WaitingTraces,
    decided: Decided,
    epoch: Epoch,
    /// In order of time: when a trace is due, its id, its number.
    due: VecDeque<(Instant, TraceId, u64)>,
    due_after_root: VecDeque<(Instant, TraceId, u64)>,
    /// Of traces that an earlier process kept: the batches it had handed on.
    delivered: FxHashMap<TraceId, Vec<Position>>,
    next_tick: Instant,
    /// Kept spans that have not left yet, by the bits of their probability and by their threshold.
    leaving: BTreeMap<(u64, Threshold), Vec<Place>>,
    leaving_spans: usize,
    /// Spans of decided traces: their places are free once what leaves has left.
    settled: Vec<Place>,
}

impl Shard {
    pub fn new(config: &TailSamplingConfig, mut parts: ShardParts) -> Self {
        let shards = config.num_shards;
        let share = |total: usize| total.div_ceil(shards);
        let cache = &config.decision_cache;
        let mut decided = Decided::new(share(cache.sampled_cache_size), share(cache.non_sampled_cache_size));
        let mut delivered = FxHashMap::default();
        let now = Instant::now();
        let epoch = Epoch::starts(now);
        for Logged { trace_id, verdict, delivered: places } in parts.logged.drain(..) {
            let moment = epoch.moment(now);
            decided.insert(trace_id, Decision { verdict, arrived: moment, decided: moment });
            delivered.entry(trace_id).or_insert_with(Vec::new).extend(places);
        }
        Self {
            wait: config.decision_wait.0,
            wait_after_root: config.decision_wait_after_root_received.0,
            num_traces: share(config.num_traces),
            blocks_on_overflow: config.block_on_overflow,
            drops_at_end: config.drop_pending_traces_on_shutdown,
            max_trace_bytes: config.maximum_trace_size_bytes,
            parts,
            traces: WaitingTraces::default(),
            decided,
            epoch,
            due: VecDeque::new(),
            due_after_root: VecDeque::new(),
            delivered,
            next_tick: now,
            leaving: BTreeMap::new(),
            leaving_spans: 0,
            settled: Vec::new(),
        }
    }

    pub async fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        let tick = (self.wait / 50).clamp(SHORTEST_TICK, LONGEST_TICK);
        self.next_tick = Instant::now() + tick;
        loop {
            let is_blocked = self.blocks_on_overflow && self.traces.len() >= self.num_traces;
            let message = if is_blocked {
                tokio::time::sleep_until(self.next_tick).await;
                None
            } else if self.traces.is_empty() {
                match messages.recv().await {
                    Some(message) => Some(message),
                    None => return,
                }
            } else {
                match tokio::time::timeout_at(self.next_tick, messages.recv()).await {
                    Ok(Some(message)) => Some(message),
                    Ok(None) => return,
                    Err(_) => None,
                }
            };
            match message {
                Some(Message::Spans { batch, spans, kept }) => self.take(batch, &spans, kept).await,
                Some(Message::Recovered) => self.delivered.clear(),
                Some(Message::Drain(done)) => {
                    self.drain().await;
                    let _ = done.send(());
                }
                None => {}
            }
            let now = Instant::now();
            if now >= self.next_tick {
                self.decide_due(now).await;
                self.next_tick = now + tick;
            }
            self.parts.on_memory.store(self.traces.len() + self.decided.len(), Ordering::Relaxed);
        }
    }

    /// Places a batch's spans: with their waiting trace, or at once where the decision says.
    async fn take(&mut self, batch: Batch, spans: &[u32], kept: Option<Arc<Kept>>) {
        let now = Instant::now();
        let position = kept.as_ref().map(|kept| kept.ticket.position());
        let held = self.traces.hold(batch.clone(), kept);
        self.traces.make_room(&batch, spans);
        for number in spans {
            let place = WaitingTraces::place(held, *number);
            let span = batch.spans()[*number as usize];
            if !self.traces.join(place, &span) {
                match self.decided.get(&span.trace_id) {
                    Some((decision, is_cached)) => self.place_late(place, &decision, is_cached, position, now),
                    None => self.begin(&span, place, now),
                }
            }
            self.look_closer(span.trace_id, span.parent_span_id, now);
        }
        self.traces.settle(held);
        while self.traces.bytes() > self.parts.max_bytes && !self.traces.is_empty() {
            let some = (self.traces.len() / EARLY_PART).max(1);
            for oldest in std::iter::from_fn(|| self.pop_oldest()).take(some).collect::<Vec<_>>() {
                self.parts.metrics.early_by_bytes.add(1);
                self.decide(oldest, now);
            }
            self.flush().await;
        }
        if self.leaving_spans > 0 || !self.settled.is_empty() {
            self.flush().await;
        }
    }

    fn begin(&mut self, span: &SpanRef, place: Place, now: Instant) {
        while self.traces.len() + self.decided.len() >= self.num_traces {
            if let Some(forgotten) = self.decided.forget_oldest() {
                self.parts.metrics.removal_age.record(self.epoch.seconds_since(forgotten.arrived, now));
                continue;
            }
            let oldest = if self.blocks_on_overflow { None } else { self.pop_oldest() };
            let Some(oldest) = oldest else { break };
            self.parts.metrics.early_by_count.add(1);
            self.decide(oldest, now);
        }
        let number = self.traces.begin(place, span, now);
        self.parts.metrics.new_traces.add(1);
        self.due.push_back((now + self.wait, span.trace_id, number));
    }

    /// Whether the span just added makes its trace due sooner.
    fn look_closer(&mut self, trace_id: TraceId, parent: SpanId, now: Instant) {
        let watches_root = !self.wait_after_root.is_zero() && parent == SpanId([0; 8]);
        if !watches_root && self.max_trace_bytes == 0 {
            return;
        }
        let Some(trace) = self.traces.get(&trace_id) else { return };
        if self.max_trace_bytes > 0 && trace.bytes > self.max_trace_bytes {
            self.parts.metrics.too_large.add(1);
            self.conclude(trace_id, Verdict::Dropped, now);
        } else if watches_root {
            self.due_after_root.push_back((now + self.wait_after_root, trace_id, trace.number));
        }
    }

    /// A span of a trace that was decided.
    fn place_late(&mut self, place: Place, late: &Decision, is_cached: bool, from: Option<Position>, now: Instant) {
        let metrics = &self.parts.metrics;
        metrics.late_age.record(self.epoch.seconds_since(late.decided, now));
        if is_cached {
            let counter = if matches!(late.verdict, Verdict::Sampled { .. }) { 0 } else { 1 };
            metrics.from_cache[counter].add(1);
        }
        let trace_id = self.traces.view(place).span.trace_id;
        let was_delivered =
            from.is_some_and(|from| self.delivered.get(&trace_id).is_some_and(|places| places.contains(&from)));
        match late.verdict {
            Verdict::Sampled { probability, threshold } if !was_delivered => {
                // Held like a waiting span until it has left.
                self.traces.count_in(place);
                self.settled.push(place);
                self.leaving.entry((probability.to_bits(), threshold)).or_default().push(place);
                self.leaving_spans += 1;
            }
            Verdict::Sampled { .. } => {}
            Verdict::NotSampled => metrics.dropped_not_sampled.add(1),
            Verdict::Dropped => metrics.dropped_by_policy.add(1),
        }
    }

    async fn decide_due(&mut self, now: Instant) {
        let started = std::time::Instant::now();
        while let Some(trace_id) = self.pop_due(now) {
            self.decide(trace_id, now);
            if self.leaving_spans >= SPANS_PER_BATCH {
                self.flush().await;
            }
        }
        self.flush().await;
        self.parts.metrics.timer_latency.record(started.elapsed().as_secs_f64() * 1e3);
    }

    fn pop_due(&mut self, now: Instant) -> Option<TraceId> {
        for queue in [&mut self.due_after_root, &mut self.due] {
            while let Some((due, trace_id, number)) = queue.front().copied() {
                let waits = self.traces.get(&trace_id).is_some_and(|trace| trace.number == number);
                if waits && due > now {
                    break;
                }
                queue.pop_front();
                if waits {
                    return Some(trace_id);
                }
            }
        }
        None
    }

    /// The trace whose first span came first.
    fn pop_oldest(&mut self) -> Option<TraceId> {
        while let Some((_, trace_id, number)) = self.due.pop_front() {
            if self.traces.get(&trace_id).is_some_and(|trace| trace.number == number) {
                return Some(trace_id);
            }
        }
        None
    }

    fn decide(&mut self, trace_id: TraceId, now: Instant) {
        let places = self.traces.places(&trace_id);
        let views: Vec<SpanView<'_>> = places.iter().map(|place| self.traces.view(*place)).collect();
        let metrics = &self.parts.metrics;
        let verdict = self
            .parts
            .policies
            .decide(&TraceView::new(trace_id, &views), |place, verdict| metrics.by_policy(place, verdict).add(1));
        drop(views);
        self.conclude(trace_id, verdict, now);
    }

    fn conclude(&mut self, trace_id: TraceId, verdict: Verdict, now: Instant) {
        let from = self.settled.len();
        let Some(trace) = self.traces.take(&trace_id, &mut self.settled) else { return };
        let places = &self.settled[from..];
        let metrics = &self.parts.metrics;
        metrics.decided(verdict).add(1);
        let spans = places.len() as u64;
        match verdict {
            Verdict::Sampled { probability, threshold } => {
                let leaving = self.leaving.entry((probability.to_bits(), threshold)).or_default();
                leaving.extend_from_slice(places);
                self.leaving_spans += places.len();
            }
            Verdict::NotSampled => metrics.dropped_not_sampled.add(spans),
            Verdict::Dropped => metrics.dropped_by_policy.add(spans),
        }
        let traces = &self.traces;
        self.parts.log.note(trace_id, verdict, places.iter().filter_map(|place| traces.kept(*place)));
        let (arrived, decided) = (self.epoch.moment(trace.arrived), self.epoch.moment(now));
        self.decided.insert(trace_id, Decision { verdict, arrived, decided });
    }

    /// Sends what leaves; then the decisions are on disk, and then the batches are free.
    async fn flush(&mut self) {
        self.leaving_spans = 0;
        for ((probability, threshold), places) in std::mem::take(&mut self.leaving) {
            for places in places.chunks(MAX_SPANS_PER_BATCH) {
                for (batch, probability) in self.batches(places, f64::from_bits(probability), threshold) {
                    let spans = batch.len_spans() as u64;
                    let payload = Payload { probability, ..Payload::new(batch) };
                    match hand_on(&*self.parts.next, payload, &self.parts.stop).await {
                        Ok(()) => self.parts.metrics.outgoing.add(spans),
                        Err(refusal) => {
                            self.parts.metrics.dropped_refused.add(spans);
                            tracing::error!(%refusal, spans, "sampled spans were refused by the next stage and are dropped");
                        }
                    }
                }
            }
        }
        self.parts.log.write().await;
        let settled = std::mem::take(&mut self.settled);
        self.traces.release(&settled);
    }

    /// What leaves, and with which probability it was kept where its tracestate does not say so.
    fn batches(&self, places: &[Place], probability: f64, threshold: Threshold) -> Vec<(Batch, f64)> {
        let pieces = places.iter().map(|place| self.traces.piece(*place));
        if !self.parts.policies.use_tracestate {
            return vec![(rebuild(pieces), probability)];
        }
        let (mut told, mut untold): (Vec<(Piece<'_>, Vec<u8>)>, Vec<Piece<'_>>) = Default::default();
        for piece in pieces {
            let state = TraceState::parse(of_span(piece.span)).and_then(|state| state.with_threshold(threshold));
            match state {
                Some(state) => told.push((piece, with_trace_state(piece.span, &state))),
                None => untold.push(piece),
            }
        }
        self.parts.metrics.unparseable_tracestate.add(untold.len() as u64);
        let told_batch = rebuild(told.iter().map(|(piece, span)| Piece { span, ..*piece }));
        let batches = [(told_batch, 1.0), (rebuild(untold), probability)];
        batches.into_iter().filter(|(batch, _)| !batch.is_empty()).collect()
    }

    /// At the end: what is on disk waits for the next start, the rest is decided on what has arrived.
    async fn drain(&mut self) {
        if self.parts.is_durable {
            return;
        }
        let now = Instant::now();
        while let Some(trace_id) = self.pop_oldest() {
            if self.drops_at_end {
                self.conclude(trace_id, Verdict::NotSampled, now);
            } else {
                self.decide(trace_id, now);
            }
            if self.leaving_spans >= SPANS_PER_BATCH {
                self.flush().await;
            }
        }
        self.flush().await;
    }
}

/// Over the byte bound, this part of the waiting traces is decided before looking again.
const EARLY_PART: usize = 32;

/// One very large trace leaves in several batches.
const MAX_SPANS_PER_BATCH: usize = 4 * SPANS_PER_BATCH;
