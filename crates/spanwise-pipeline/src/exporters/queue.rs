//! `sending_queue` and `retry_on_failure`: what stands between the graph and every exporter that sends.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use spanwise_journal::Ticket;
use spanwise_model::{MemoryBudget, limits};
use spanwise_wire::answer::PartialSuccess;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::component::{BuildContext, BuildError, Stage};
use crate::config::units::GoDuration;
use crate::flow::{Consumer, Payload, RawRequest, Refusal};
use crate::hold::{self, Hold};
use crate::telemetry::Counter;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QueueConfig {
    pub enabled: bool,
    /// Requests sent at a time.
    pub num_consumers: usize,
    /// Most requests, items or bytes that wait: see `sizer`.
    pub queue_size: usize,
    pub sizer: Sizer,
    /// Wait for room instead of refusing.
    pub block_on_overflow: bool,
    pub wait_for_result: bool,
    /// Id of the storage extension that the queue is kept in; without one it is kept in the data directory where
    /// there is one, and otherwise in memory.
    pub storage: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema, Default)]
#[serde(rename_all = "lowercase")]
pub enum Sizer {
    #[default]
    Requests,
    Items,
    Bytes,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            num_consumers: 10,
            queue_size: 1000,
            sizer: Sizer::Requests,
            block_on_overflow: false,
            wait_for_result: false,
            storage: None,
        }
    }
}

impl QueueConfig {
    /// # Errors
    /// In the collector's words.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self { enabled: false, .. } => Ok(()),
            Self { queue_size: 0, .. } => Err("sending_queue: `queue_size` must be positive".to_owned()),
            Self { num_consumers: 0, .. } => Err("sending_queue: `num_consumers` must be positive".to_owned()),
            _ => Ok(()),
        }
    }

    fn size_of(&self, payload: &Payload) -> usize {
        match self.sizer {
            Sizer::Requests => 1,
            Sizer::Items => payload.batch.len_spans(),
            Sizer::Bytes => payload.batch.bytes().len(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetryConfig {
    pub enabled: bool,
    pub initial_interval: GoDuration,
    pub randomization_factor: f64,
    pub multiplier: f64,
    pub max_interval: GoDuration,
    /// After this time a request is dropped and counted; 0 means never. Left out: 5m for a queue in memory, never for
    /// one on disk.
    pub max_elapsed_time: Option<GoDuration>,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            initial_interval: GoDuration::seconds(5),
            randomization_factor: 0.5,
            multiplier: 1.5,
            max_interval: GoDuration::seconds(30),
            max_elapsed_time: None,
        }
    }
}

impl RetryConfig {
    /// # Errors
    /// When a factor is out of its range.
    pub fn check(&self) -> Result<(), String> {
        if self.enabled && !(0.0..=1.0).contains(&self.randomization_factor) {
            return Err("retry_on_failure: 'randomization_factor' must be within [0, 1]".to_owned());
        }
        if self.enabled && self.multiplier < 0.0 {
            return Err("retry_on_failure: 'multiplier' must be non-negative".to_owned());
        }
        Ok(())
    }
}

/// Sends one batch to the next hop, once.
#[async_trait]
pub trait Sender: Send + Sync + 'static {
    /// `Ok` with the number of spans that the next hop rejected and will never take.
    async fn send(&self, payload: &Payload) -> Result<u64, Refusal>;

    /// Sends a request of another signal, once.
    async fn forward(&self, request: &RawRequest) -> Result<PartialSuccess, Refusal> {
        Err(Refusal::permanent(format!("{} are not supported", request.signal)))
    }
}

/// An exporter: a queue, consumers that retry, and a sender.
pub struct Queued {
    shared: Arc<Shared>,
    workers: TaskTracker,
}

struct Shared {
    sender: Box<dyn Sender>,
    queue: QueueConfig,
    retry: RetryConfig,
    timeout: Duration,
    hold: Hold,
    memory: MemoryBudget,
    waiting: Mutex<VecDeque<Entry>>,
    arrived: Notify,
    room: Arc<Semaphore>,
    /// Fires when draining has taken too long: what is left is counted as dropped.
    give_up: CancellationToken,
    closing: CancellationToken,
    counters: Counters,
}

/// A request in the queue.
struct Entry {
    /// `None` when only the disk has it: see `ticket`.
    payload: Option<Payload>,
    ticket: Option<Ticket>,
    /// What it takes of the queue's size.
    size: usize,
}

struct Counters {
    spilled: Counter,
    sent: Counter,
    failed: Counter,
    enqueue_failed: Counter,
    rejected: Counter,
}

impl Queued {
    pub fn start(
        context: &BuildContext,
        queue: QueueConfig,
        retry: RetryConfig,
        timeout: Duration,
        sender: Box<dyn Sender>,
    ) -> Result<Arc<Queued>, BuildError> {
        let hold = match &queue {
            QueueConfig { enabled: false, .. } => Ok(Hold::in_memory()),
            QueueConfig { storage: Some(storage), .. } => Hold::in_storage(context, storage),
            _ => Hold::of(context),
        };
        let hold = hold.map_err(|reason| context.error(reason))?;
        let id = context.id.to_string();
        let counter = |name, help| context.telemetry.counter(name, help, &[("exporter", &id)]);
        let counters = Counters {
            spilled: counter(
                "spanwise_exporter_spilled_requests",
                "Requests that only the disk held until their turn.",
            ),
            sent: counter("otelcol_exporter_sent_spans", "Spans sent."),
            failed: counter("otelcol_exporter_send_failed_spans", "Spans dropped after sending failed for good."),
            enqueue_failed: counter("otelcol_exporter_enqueue_failed_spans", "Spans refused by a full queue."),
            rejected: counter("spanwise_exporter_rejected_spans", "Spans the next hop rejected in a partial success."),
        };
        let shared = Arc::new(Shared {
            sender,
            room: Arc::new(Semaphore::new(queue.queue_size.min(Semaphore::MAX_PERMITS))),
            queue,
            retry,
            timeout,
            memory: context.memory.clone(),
            waiting: Mutex::new(hold.recovered().into_iter().map(Entry::on_disk).collect()),
            hold,
            arrived: Notify::new(),
            give_up: CancellationToken::new(),
            closing: CancellationToken::new(),
            counters,
        });
        let labels: &[(&'static str, &str)] = &[("exporter", &id)];
        let (size, capacity) = (Arc::downgrade(&shared), shared.queue.queue_size as f64);
        context.telemetry.gauge("otelcol_exporter_queue_size", "What waits to be sent.", labels, move || {
            size.upgrade()
                .map_or(0.0, |shared| shared.queue.queue_size.saturating_sub(shared.room.available_permits()) as f64)
        });
        context.telemetry.gauge("otelcol_exporter_queue_capacity", "What may wait.", labels, move || capacity);
        let workers = TaskTracker::new();
        if shared.queue.enabled {
            for _ in 0..shared.queue.num_consumers {
                workers.spawn(Arc::clone(&shared).work());
            }
        }
        workers.close();
        Ok(Arc::new(Queued { shared, workers }))
    }
}

#[async_trait]
impl Consumer for Queued {
    async fn consume(&self, payload: Payload) -> Result<(), Refusal> {
        let shared = &self.shared;
        if !shared.queue.enabled {
            return shared.deliver(&payload, false).await;
        }
        let spans = payload.batch.len_spans() as u64;
        let size = shared.queue.size_of(&payload);
        let refuse = |message: &str| {
            shared.counters.enqueue_failed.add(spans);
            Err(Refusal::unavailable(message))
        };
        if shared.closing.is_cancelled() {
            return refuse("sending queue is closed");
        }
        let ticket = match shared.hold.keep(&payload).await {
            Ok(ticket) => ticket,
            Err(refusal) => {
                shared.counters.enqueue_failed.add(spans);
                return Err(refusal);
            }
        };
        let entry = match ticket {
            Some(ticket) if !shared.has_memory() || !shared.take_room(size) => {
                shared.counters.spilled.add(1);
                Entry::on_disk(ticket)
            }
            Some(ticket) => Entry { payload: Some(payload), ticket: Some(ticket), size },
            None if size > shared.queue.queue_size => {
                shared.counters.enqueue_failed.add(spans);
                return Err(Refusal::permanent("element size too large for the sending queue"));
            }
            None if shared.queue.block_on_overflow => {
                let permits = u32::try_from(size).unwrap_or(u32::MAX);
                if let Ok(permit) = shared.room.acquire_many(permits).await {
                    permit.forget();
                }
                Entry { payload: Some(payload), ticket: None, size }
            }
            None if shared.take_room(size) => Entry { payload: Some(payload), ticket: None, size },
            None => return refuse("sending queue is full"),
        };
        shared.waiting.lock().push_back(entry);
        shared.arrived.notify_one();
        Ok(())
    }
}

impl Entry {
    fn on_disk(ticket: Ticket) -> Self {
        Self { payload: None, ticket: Some(ticket), size: 0 }
    }
}

#[async_trait]
impl Stage for Queued {
    /// Metrics and logs are not queued: the sender's answer is the next hop's, and the sender tries again.
    async fn forward(&self, request: &RawRequest) -> Result<PartialSuccess, Refusal> {
        match tokio::time::timeout(self.shared.timeout, self.shared.sender.forward(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(Refusal::unavailable(format!("no answer within {:?}", self.shared.timeout))),
        }
    }

    async fn drain(&self) {
        self.shared.closing.cancel();
        if tokio::time::timeout(limits::EXPORTER_DRAIN, self.workers.wait()).await.is_err() {
            self.shared.give_up.cancel();
            self.workers.wait().await;
        }
    }
}

impl Shared {
    async fn work(self: Arc<Self>) {
        loop {
            let next = self.waiting.lock().pop_front();
            match next {
                Some(entry) => self.send_entry(entry).await,
                None if self.closing.is_cancelled() => {
                    self.arrived.notify_one();
                    return;
                }
                None => tokio::select! {
                    () = self.arrived.notified() => {}
                    () = self.closing.cancelled() => {}
                },
            }
        }
    }

    /// Whether requests may still be held in memory beside the disk.
    fn has_memory(&self) -> bool {
        self.memory.used() < self.memory.limit() / 2
    }

    fn take_room(&self, size: usize) -> bool {
        let permits = u32::try_from(size).unwrap_or(u32::MAX);
        self.room.try_acquire_many(permits).map(tokio::sync::SemaphorePermit::forget).is_ok()
    }

    async fn send_entry(&self, entry: Entry) {
        if self.give_up.is_cancelled() && entry.ticket.is_some() {
            return;
        }
        let payload = match (entry.payload, &entry.ticket) {
            (Some(payload), _) => payload,
            (None, Some(ticket)) => match hold::read(ticket).await {
                Ok(payload) => payload,
                Err(error) => {
                    tracing::error!(%error, "a request cannot be read back from the disk; it stays there");
                    return;
                }
            },
            (None, None) => return,
        };
        let outcome = self.deliver(&payload, entry.ticket.is_some()).await;
        self.room.add_permits(entry.size);
        let is_kept = outcome.is_err() && self.give_up.is_cancelled();
        if let Some(ticket) = entry.ticket.filter(|_| !is_kept) {
            ticket.release();
        }
    }

    /// Sends until it is done or lost; counts which. What the disk has is not lost when the process ends.
    async fn deliver(&self, payload: &Payload, is_durable: bool) -> Result<(), Refusal> {
        let spans = payload.batch.len_spans() as u64;
        let outcome = tokio::select! {
            outcome = self.send_with_retries(payload, is_durable) => outcome,
            () = self.give_up.cancelled() => Err(Refusal::unavailable("the process ended before it could be sent")),
        };
        match outcome {
            Ok(rejected) => {
                self.counters.sent.add(spans - rejected.min(spans));
                self.counters.rejected.add(rejected);
                Ok(())
            }
            Err(refusal) if is_durable && self.give_up.is_cancelled() => Err(refusal),
            Err(refusal) => {
                self.counters.failed.add(spans);
                tracing::error!(%refusal, spans, "exporting failed: dropping data");
                Err(refusal)
            }
        }
    }

    async fn send_with_retries(&self, payload: &Payload, is_durable: bool) -> Result<u64, Refusal> {
        let started = Instant::now();
        let mut interval = self.retry.initial_interval.0;
        loop {
            let sent = match tokio::time::timeout(self.timeout, self.sender.send(payload)).await {
                Ok(sent) => sent,
                Err(_) => Err(Refusal::unavailable(format!("no answer within {:?}", self.timeout))),
            };
            let refusal = match sent {
                Ok(rejected) => return Ok(rejected),
                Err(refusal) if refusal.is_retryable() && self.retry.enabled => refusal,
                Err(refusal) => return Err(refusal),
            };
            let hint = refusal.retry_after.unwrap_or_default();
            let delay = randomize(interval, self.retry.randomization_factor).max(hint);
            let default = if is_durable { Duration::ZERO } else { DEFAULT_MAX_ELAPSED };
            let bound = self.retry.max_elapsed_time.map_or(default, |bound| bound.0);
            if !bound.is_zero() && started.elapsed() + delay > bound {
                return Err(Refusal { message: format!("no more retries left: {}", refusal.message), ..refusal });
            }
            tracing::info!(%refusal, delay_ms = delay.as_millis() as u64, "exporting failed: will retry");
            tokio::time::sleep(delay).await;
            interval = interval.mul_f64(self.retry.multiplier.max(0.0)).min(self.retry.max_interval.0);
        }
    }
}

/// The collector's default for `max_elapsed_time`.
const DEFAULT_MAX_ELAPSED: Duration = Duration::from_secs(300);

/// Within `factor` of `interval`; the spread keeps many senders from returning together.
fn randomize(interval: Duration, factor: f64) -> Duration {
    use std::hash::{BuildHasher as _, RandomState};
    let unit = (RandomState::new().hash_one(0) >> 11) as f64 / (1u64 << 53) as f64;
    interval.mul_f64((1.0 - factor + 2.0 * factor * unit).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::tests::{context, payload};

    /// Answers from a script; the last answer repeats.
    struct Script(Mutex<Vec<Result<u64, Refusal>>>);

    #[async_trait]
    impl Sender for Script {
        async fn send(&self, _: &Payload) -> Result<u64, Refusal> {
            let mut answers = self.0.lock();
            if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() }
        }
    }

    fn start(answers: Vec<Result<u64, Refusal>>, queue: QueueConfig) -> (Arc<Queued>, crate::Telemetry) {
        let context = context("otlp");
        let sender = Box::new(Script(Mutex::new(answers)));
        let queued = Queued::start(&context, queue, RetryConfig::default(), Duration::from_secs(5), sender);
        (queued.unwrap(), context.telemetry)
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_for_a_while_is_sent_in_the_end() {
        let busy = || Err(Refusal::unavailable("busy"));
        let (queued, telemetry) = start(vec![busy(), busy(), Ok(1)], QueueConfig::default());
        queued.consume(payload(3)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(telemetry.total("otelcol_exporter_sent_spans"), 2);
        assert_eq!(telemetry.total("spanwise_exporter_rejected_spans"), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_succeeds_is_counted_as_dropped() {
        for (answer, wait) in [(Refusal::permanent("no"), 1), (Refusal::unavailable("down"), 400)] {
            let (queued, telemetry) = start(vec![Err(answer)], QueueConfig::default());
            queued.consume(payload(3)).await.unwrap();
            tokio::time::sleep(Duration::from_secs(wait)).await;
            assert_eq!(telemetry.total("otelcol_exporter_send_failed_spans"), 3);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_refuses_and_counts() {
        let queue = QueueConfig { queue_size: 2, num_consumers: 1, ..QueueConfig::default() };
        let (queued, telemetry) = start(vec![Err(Refusal::unavailable("down"))], queue);
        queued.consume(payload(1)).await.unwrap();
        queued.consume(payload(1)).await.unwrap();
        let refusal = queued.consume(payload(5)).await.unwrap_err();
        assert!(refusal.is_retryable() && refusal.message.contains("full"));
        assert_eq!(telemetry.total("otelcol_exporter_enqueue_failed_spans"), 5);
        queued.drain().await;
        assert_eq!(telemetry.total("otelcol_exporter_send_failed_spans"), 2);
    }

    /// A dead next hop, a queue of two, an end that is not waited for: everything is there after the next start.
    #[tokio::test]
    async fn a_queue_on_disk_takes_more_than_memory_and_outlives_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let run = |answer: Result<u64, Refusal>| {
            let context = context("otlp");
            context.spools.open("file_storage/q", dir.path(), None).unwrap();
            let storage = Some("file_storage/q".to_owned());
            let queue = QueueConfig { queue_size: 2, num_consumers: 1, storage, ..QueueConfig::default() };
            let sender = Box::new(Script(Mutex::new(vec![answer])));
            let queued = Queued::start(&context, queue, RetryConfig::default(), Duration::from_secs(5), sender);
            (queued.unwrap(), context)
        };
        let (queued, first) = run(Err(Refusal::unavailable("down")));
        for spans in 1..=10 {
            queued.consume(payload(spans)).await.unwrap();
        }
        assert_eq!(first.telemetry.total("spanwise_exporter_spilled_requests"), 8);
        tokio::time::pause();
        queued.drain().await;
        assert_eq!(first.telemetry.total("otelcol_exporter_send_failed_spans"), 0);
        drop((queued, first));
        tokio::time::resume();
        let (queued, second) = run(Ok(0));
        for _ in 0..200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(second.telemetry.total("otelcol_exporter_sent_spans"), 55);
        queued.drain().await;
        let spool = second.spools.get("file_storage/q").unwrap().unwrap();
        assert_eq!(spool.records(), 0);
    }

    #[tokio::test]
    async fn a_storage_that_is_not_there_is_an_error() {
        let context = context("otlp");
        let queue = QueueConfig { storage: Some("file_storage".to_owned()), ..QueueConfig::default() };
        let sender = Box::new(Script(Mutex::new(vec![Ok(0)])));
        let failed = Queued::start(&context, queue, RetryConfig::default(), Duration::from_secs(5), sender);
        assert!(failed.err().unwrap().reason.contains("\"file_storage\" not found"));
    }
}
