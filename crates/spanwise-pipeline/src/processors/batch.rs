//! `batch`: collects spans until there are enough or time is up. Batching is concatenation of bytes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use spanwise_journal::Ticket;
use spanwise_wire::{Batch, concat, split_by_count};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::component::{Build, BuildContext, Factory, Kind, Stage, prepare};
use crate::config::Signal;
use crate::config::units::GoDuration;
use crate::flow::{Consumer, Metadata, Payload, Refusal, hand_on};
use crate::hold::{self, Hold};
use crate::telemetry::Counter;

pub const FACTORY: Factory = Factory {
    kind: Kind::Processor,
    name: "batch",
    aliases: &[],
    stability: "beta",
    summary: "Collects spans until there are enough or time is up.",
    signals: Signal::ALL,
    schema: || schemars::schema_for!(BatchConfig),
    prepare: |node, path, errors| {
        prepare::<BatchConfig>(node, path, errors, BatchConfig::check, |config| {
            Build::Processor(Box::new(move |context, next| {
                let hold = Hold::of(&context).map_err(|reason| context.error(reason))?;
                Ok(Arc::new(BatchProcessor::start(&config, &context, hold, next)))
            }))
        })
    },
};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BatchConfig {
    /// A batch leaves after this time whatever its size; 0 hands each on at once.
    pub timeout: GoDuration,
    /// Spans after which a batch leaves.
    pub send_batch_size: usize,
    /// Most spans of one batch; 0 means no bound.
    pub send_batch_max_size: usize,
    /// Batches never mix spans whose requests differ in these headers.
    pub metadata_keys: Vec<String>,
    /// Most combinations of those headers' values.
    pub metadata_cardinality_limit: usize,
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self {
            timeout: GoDuration::millis(200),
            send_batch_size: 8192,
            send_batch_max_size: 0,
            metadata_keys: Vec::new(),
            metadata_cardinality_limit: 1000,
        }
    }
}

impl BatchConfig {
    fn check(&self) -> Result<(), String> {
        if self.send_batch_max_size > 0 && self.send_batch_max_size < self.send_batch_size {
            return Err("send_batch_max_size must be greater or equal to send_batch_size".to_owned());
        }
        let mut keys: Vec<_> = self.metadata_keys.iter().map(|key| key.to_lowercase()).collect();
        keys.sort();
        match keys.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(format!("duplicate entry in metadata_keys: {:?} (case-insensitive)", pair[0])),
            None => Ok(()),
        }
    }
}

/// Requests that may wait for the batching task; beyond it the receiver waits.
const WAITING_REQUESTS: usize = 64;

enum Message {
    Payload(Payload, Option<Ticket>),
    Drain(oneshot::Sender<()>),
}

struct BatchProcessor {
    sender: mpsc::Sender<Message>,
    hold: Hold,
    keys: Vec<String>,
    groups: Mutex<HashMap<Metadata, ()>>,
    group_limit: usize,
}

impl BatchProcessor {
    fn start(config: &BatchConfig, context: &BuildContext, hold: Hold, next: Arc<dyn Consumer>) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING_REQUESTS);
        let id = context.id.to_string();
        let counter = |name, help| context.telemetry.counter(name, help, &[("processor", &id)]);
        let worker = Worker {
            size: config.send_batch_size,
            max_size: config.send_batch_max_size,
            timeout: config.timeout.0,
            next,
            stop: context.stop.clone(),
            groups: HashMap::new(),
            by_size: counter("otelcol_processor_batch_batch_size_trigger_send", "Batches sent for their size."),
            by_timeout: counter("otelcol_processor_batch_timeout_trigger_send", "Batches sent for their age."),
            dropped: counter("spanwise_processor_batch_dropped_spans", "Spans that the next stage refused."),
        };
        tokio::spawn(worker.run(receiver));
        tokio::spawn(replay(hold.recovered(), sender.clone()));
        let mut keys: Vec<_> = config.metadata_keys.iter().map(|key| key.to_lowercase()).collect();
        keys.sort();
        Self { sender, hold, keys, groups: Mutex::default(), group_limit: config.metadata_cardinality_limit }
    }

    /// The headers that tell batches apart.
    fn group(&self, metadata: &Metadata) -> Result<Metadata, Refusal> {
        if self.keys.is_empty() {
            return Ok(Metadata::default());
        }
        let known = metadata.0.iter().filter(|(key, _)| self.keys.contains(&key.to_lowercase()));
        let group = Metadata(known.cloned().collect());
        let mut groups = self.groups.lock();
        if !groups.contains_key(&group) {
            if self.group_limit > 0 && groups.len() >= self.group_limit {
                return Err(Refusal::permanent("too many batcher metadata-value combinations"));
            }
            groups.insert(group.clone(), ());
        }
        Ok(group)
    }
}

#[async_trait]
impl Consumer for BatchProcessor {
    async fn consume(&self, mut payload: Payload) -> Result<(), Refusal> {
        payload.metadata = Arc::new(self.group(&payload.metadata)?);
        let ticket = self.hold.keep(&payload).await?;
        let closed = |_| Refusal::unavailable("the process is ending");
        self.sender.send(Message::Payload(payload, ticket)).await.map_err(closed)
    }
}

#[async_trait]
impl Stage for BatchProcessor {
    async fn drain(&self) {
        let (done, drained) = oneshot::channel();
        if self.sender.send(Message::Drain(done)).await.is_ok() {
            let _ = drained.await;
        }
    }
}

/// Batches of different origin or weight are kept apart: the headers that tell them apart, and the bits of
/// [`Payload::probability`].
type GroupKey = (Arc<Metadata>, u64);

struct Group {
    payloads: Vec<Payload>,
    tickets: Vec<Ticket>,
    spans: usize,
    due: Instant,
}

struct Worker {
    size: usize,
    max_size: usize,
    timeout: Duration,
    next: Arc<dyn Consumer>,
    stop: CancellationToken,
    groups: HashMap<GroupKey, Group>,
    by_size: Counter,
    by_timeout: Counter,
    dropped: Counter,
}

impl Worker {
    async fn run(mut self, mut receiver: mpsc::Receiver<Message>) {
        loop {
            let due = self.groups.values().map(|group| group.due).min();
            let message = match due {
                None => receiver.recv().await,
                Some(due) => match tokio::time::timeout_at(due, receiver.recv()).await {
                    Ok(message) => message,
                    Err(_) => {
                        self.send_due().await;
                        continue;
                    }
                },
            };
            match message {
                Some(Message::Payload(payload, ticket)) => self.add(payload, ticket).await,
                Some(Message::Drain(done)) => {
                    self.send_all().await;
                    let _ = done.send(());
                }
                None => return self.send_all().await,
            }
        }
    }

    async fn add(&mut self, payload: Payload, ticket: Option<Ticket>) {
        let key = (Arc::clone(&payload.metadata), payload.probability.to_bits());
        let due = Instant::now() + self.timeout;
        let new = || Group { payloads: Vec::new(), tickets: Vec::new(), spans: 0, due };
        let group = self.groups.entry(key.clone()).or_insert_with(new);
        group.tickets.extend(ticket);
        group.spans += payload.batch.len_spans();
        group.payloads.push(payload);
        if self.timeout.is_zero() || (self.size > 0 && group.spans >= self.size) {
            self.by_size.add(1);
            if let Some(group) = self.groups.remove(&key) {
                self.send(group).await;
            }
        }
    }

    async fn send_due(&mut self) {
        let now = Instant::now();
        let due: Vec<_> =
            self.groups.iter().filter(|(_, group)| group.due <= now).map(|(key, _)| key.clone()).collect();
        for key in due {
            self.by_timeout.add(1);
            if let Some(group) = self.groups.remove(&key) {
                self.send(group).await;
            }
        }
    }

    async fn send_all(&mut self) {
        for (_, group) in std::mem::take(&mut self.groups) {
            self.send(group).await;
        }
    }

    async fn send(&self, group: Group) {
        let Some(first) = group.payloads.first() else { return };
        let mut whole = first.with_batch(first.batch.clone());
        whole.charges = group.payloads.iter().flat_map(|payload| payload.charges.iter().cloned()).collect();
        let batches: Vec<Batch> = group.payloads.iter().map(|payload| payload.batch.clone()).collect();
        let tickets = group.tickets;
        drop(group.payloads);
        let joined = concat(&batches).map_or(batches, |joined| vec![joined]);
        for batch in joined {
            let parts = if self.max_size > 0 { split_by_count(&batch, self.max_size) } else { vec![batch] };
            for part in parts {
                let spans = part.len_spans() as u64;
                match hand_on(&*self.next, whole.with_batch(part), &self.stop).await {
                    Ok(()) => {}
                    Err(refusal) if refusal.is_retryable() && !tickets.is_empty() => {
                        tracing::warn!(%refusal, "a batch is not taken before the end; it waits on disk for the next start");
                        return;
                    }
                    Err(refusal) => {
                        self.dropped.add(spans);
                        tracing::error!(%refusal, spans, "a batch was refused by the next stage and is dropped");
                    }
                }
            }
        }
        for ticket in tickets {
            ticket.release();
        }
    }
}

/// Sends what an earlier process had taken over through the batching again.
async fn replay(tickets: Vec<Ticket>, sender: mpsc::Sender<Message>) {
    for ticket in tickets {
        match hold::read(&ticket).await {
            Ok(payload) => {
                if sender.send(Message::Payload(payload, Some(ticket))).await.is_err() {
                    return;
                }
            }
            Err(error) => tracing::error!(%error, "a batch of the earlier run cannot be read"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::tests::{Collect, context, payload};

    fn start(config: BatchConfig) -> (BatchProcessor, Arc<Collect>) {
        let sink = Arc::new(Collect::default());
        let next: Arc<dyn Consumer> = Arc::<Collect>::clone(&sink);
        (BatchProcessor::start(&config, &context("batch"), Hold::in_memory(), next), sink)
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_leaves_for_its_size_or_its_age() {
        let (batch, sink) = start(BatchConfig { send_batch_size: 5, ..BatchConfig::default() });
        batch.consume(payload(2)).await.unwrap();
        batch.consume(payload(3)).await.unwrap();
        batch.consume(payload(1)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(250)).await;
        assert_eq!(sink.sizes(), [5, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn no_batch_is_larger_than_asked() {
        let config = BatchConfig { send_batch_size: 4, send_batch_max_size: 4, ..BatchConfig::default() };
        let (batch, sink) = start(config);
        batch.consume(payload(10)).await.unwrap();
        batch.drain().await;
        assert_eq!(sink.sizes(), [4, 4, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn headers_keep_batches_apart() {
        let config = BatchConfig {
            metadata_keys: vec!["Tenant".to_owned()],
            metadata_cardinality_limit: 2,
            ..BatchConfig::default()
        };
        let (batch, sink) = start(config);
        let of = |tenant: &str| {
            let pairs = vec![("tenant".to_owned(), tenant.to_owned()), ("other".to_owned(), "x".to_owned())];
            Payload { metadata: Arc::new(Metadata(pairs)), ..payload(1) }
        };
        for tenant in ["a", "b", "a"] {
            batch.consume(of(tenant)).await.unwrap();
        }
        assert!(batch.consume(of("c")).await.unwrap_err().message.contains("too many"));
        batch.drain().await;
        let mut sizes = sink.sizes();
        sizes.sort();
        assert_eq!(sizes, [1, 2]);
    }
}
