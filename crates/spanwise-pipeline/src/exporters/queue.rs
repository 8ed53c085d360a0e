//! `sending_queue` and `retry_on_failure`: what stands between the graph and every exporter that sends.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use spanwise_model::limits;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::component::{BuildContext, Stage};
use crate::config::units::GoDuration;
use crate::flow::{Consumer, Payload, Refusal};
use crate::telemetry::Counter;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
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

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetryConfig {
    pub enabled: bool,
    pub initial_interval: GoDuration,
    pub randomization_factor: f64,
    pub multiplier: f64,
    pub max_interval: GoDuration,
    /// After this time a request is dropped and counted; 0 means never.
    pub max_elapsed_time: GoDuration,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            initial_interval: GoDuration::seconds(5),
            randomization_factor: 0.5,
            multiplier: 1.5,
            max_interval: GoDuration::seconds(30),
            max_elapsed_time: GoDuration::seconds(300),
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
    waiting: Mutex<std::collections::VecDeque<(Payload, usize)>>,
    arrived: Notify,
    room: Arc<Semaphore>,
    /// Fires when draining has taken too long: what is left is counted as dropped.
    give_up: CancellationToken,
    closing: CancellationToken,
    counters: Counters,
}

struct Counters {
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
    ) -> Arc<Queued> {
        let id = context.id.to_string();
        let counter = |name, help| context.telemetry.counter(name, help, &[("exporter", &id)]);
        let counters = Counters {
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
            waiting: Mutex::default(),
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
        Arc::new(Queued { shared, workers })
    }
}

#[async_trait]
impl Consumer for Queued {
    async fn consume(&self, payload: Payload) -> Result<(), Refusal> {
        let shared = &self.shared;
        if !shared.queue.enabled {
            return shared.deliver(&payload).await;
        }
        let spans = payload.batch.len_spans() as u64;
        let size = shared.queue.size_of(&payload);
        let refuse = |message: &str| {
            shared.counters.enqueue_failed.add(spans);
            Err(Refusal::unavailable(message))
        };
        if size > shared.queue.queue_size {
            shared.counters.enqueue_failed.add(spans);
            return Err(Refusal::permanent("element size too large for the sending queue"));
        }
        if shared.closing.is_cancelled() {
            return refuse("sending queue is closed");
        }
        let permits = u32::try_from(size).unwrap_or(u32::MAX);
        let room = Arc::clone(&shared.room);
        let permit = if shared.queue.block_on_overflow {
            room.acquire_many_owned(permits).await.ok()
        } else {
            room.try_acquire_many_owned(permits).ok()
        };
        let Some(permit) = permit else { return refuse("sending queue is full") };
        permit.forget();
        shared.waiting.lock().push_back((payload, size));
        shared.arrived.notify_one();
        Ok(())
    }
}

#[async_trait]
impl Stage for Queued {
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
                Some((payload, size)) => {
                    let _ = self.deliver(&payload).await;
                    self.room.add_permits(size);
                }
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

    /// Sends until it is done or lost; counts which.
    async fn deliver(&self, payload: &Payload) -> Result<(), Refusal> {
        let spans = payload.batch.len_spans() as u64;
        let outcome = tokio::select! {
            outcome = self.send_with_retries(payload) => outcome,
            () = self.give_up.cancelled() => Err(Refusal::unavailable("the process ended before it could be sent")),
        };
        match outcome {
            Ok(rejected) => {
                self.counters.sent.add(spans - rejected.min(spans));
                self.counters.rejected.add(rejected);
                Ok(())
            }
            Err(refusal) => {
                self.counters.failed.add(spans);
                tracing::error!(%refusal, spans, "exporting failed: dropping data");
                Err(refusal)
            }
        }
    }

    async fn send_with_retries(&self, payload: &Payload) -> Result<u64, Refusal> {
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
            let bound = self.retry.max_elapsed_time.0;
            if !bound.is_zero() && started.elapsed() + delay > bound {
                return Err(Refusal { message: format!("no more retries left: {}", refusal.message), ..refusal });
            }
            tracing::info!(%refusal, delay_ms = delay.as_millis() as u64, "exporting failed: will retry");
            tokio::time::sleep(delay).await;
            interval = interval.mul_f64(self.retry.multiplier.max(0.0)).min(self.retry.max_interval.0);
        }
    }
}

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
        (queued, context.telemetry)
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
}
