//! `tail_sampling`: holds each trace for a while, then keeps or drops it whole.
//!
//! A batch is put on stable storage when there is a data directory, then its spans go to the shards of their trace
//! ids. A shard holds the batch as it came and, for each trace, a chain of places in it; nothing is copied until a
//! kept trace leaves.

mod config;
mod decided;
mod insight;
mod log;
mod metrics;
pub mod policy;
mod shard;
mod waiting;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use async_trait::async_trait;
use spanwise_journal::Ticket;
use spanwise_wire::{Batch, shard_of};
use tokio::sync::{mpsc, oneshot};

pub use config::{PolicyConfig, TailSamplingConfig};
use log::{DecisionLog, Records};
use metrics::Metrics;
use policy::Policies;
use shard::{Message, Shard, ShardParts};
use waiting::Kept;

use super::memory_limiter::total_memory;
use crate::component::{Build, BuildContext, Factory, Kind, Stage, prepare};
use crate::config::Signal;
use crate::feature_gates::USE_TRACESTATE;
use crate::flow::{Consumer, Payload, Refusal};
use crate::hold::{self, Hold};

pub const FACTORY: Factory = Factory {
    kind: Kind::Processor,
    name: "tail_sampling",
    aliases: &[],
    stability: "beta",
    summary: "Keeps or drops traces whole, judged when they are complete.",
    signals: &[Signal::Traces],
    schema: || schemars::schema_for!(TailSamplingConfig),
    prepare: |node, path, errors| {
        prepare::<TailSamplingConfig>(node, path, errors, TailSamplingConfig::check, |config| {
            Build::Processor(Box::new(move |context, next| {
                let started = TailSampling::start(&config, &context, next);
                Ok(Arc::new(started.map_err(|reason| context.error(reason))?))
            }))
        })
    },
};

/// Batches that may wait for one shard; beyond it the stage before waits.
const WAITING_BATCHES: usize = 64;

struct TailSampling {
    hold: Hold,
    memory: Arc<insight::Memory>,
    memory_hold: Hold,
    shards: Vec<mpsc::Sender<Message>>,
    metrics: Arc<Metrics>,
}

impl TailSampling {
    fn start(config: &TailSamplingConfig, context: &BuildContext, next: Arc<dyn Consumer>) -> Result<Self, String> {
        let use_tracestate = context.feature_gates.is_enabled(USE_TRACESTATE);
        let policies = Arc::new(Policies::new(&config.policies, config.sample_on_first_match, use_tracestate)?);
        let hold = match config.durability {
            config::Durability::Memory => Hold::in_memory(),
            config::Durability::Journal => Hold::of(context)?,
        };
        let (memory, memory_hold) = (Arc::clone(&policies.memory), hold.part("insight"));
        memory.recover(&memory_hold);
        tokio::spawn(insight::write_regularly(Arc::clone(&memory), memory_hold.clone(), context.stop.clone()));
        let decisions = hold.part("decisions");
        let (mut records, mut logged) = log::recover(&decisions);
        let count = config.num_shards;
        let on_memory: Vec<_> = (0..count).map(|_| Arc::new(AtomicUsize::new(0))).collect();
        let metrics = Arc::new(Metrics::new(context, &policies, on_memory.clone()));
        let total = match config.max_bytes {
            0 => usize::try_from(total_memory() / 4).unwrap_or(usize::MAX),
            bytes => usize::try_from(bytes).unwrap_or(usize::MAX),
        };
        let cache = &config.decision_cache;
        let remembered = config.num_traces + cache.sampled_cache_size + cache.non_sampled_cache_size;
        let mut shards = Vec::new();
        for (number, on_memory) in on_memory.into_iter().enumerate() {
            // The records of the earlier process are looked after by the first shard.
            let records = if number == 0 { std::mem::take(&mut records) } else { Records::new() };
            let is_own = |logged: &mut log::Logged| shard_of(&logged.trace_id, count) == number;
            let parts = ShardParts {
                policies: Arc::clone(&policies),
                next: Arc::clone(&next),
                stop: context.stop.clone(),
                metrics: Arc::clone(&metrics),
                log: DecisionLog::new(decisions.clone(), remembered.div_ceil(count), records),
                logged: logged.extract_if(.., is_own).collect(),
                is_durable: hold.is_durable(),
                max_bytes: total / count,
                on_memory,
            };
            let (sender, messages) = mpsc::channel(WAITING_BATCHES);
            tokio::spawn(Shard::new(config, parts).run(messages));
            shards.push(sender);
        }
        let left = hold.recovered();
        if !left.is_empty() {
            tracing::info!(processor = %context.id, batches = left.len(), "traces of the earlier run wait again");
        }
        tokio::spawn(replay(left, shards.clone()));
        Ok(Self { hold, memory, memory_hold, shards, metrics })
    }
}

/// Sends what an earlier process left to the shards.
async fn replay(left: Vec<Ticket>, shards: Vec<mpsc::Sender<Message>>) {
    for ticket in left {
        match hold::read(&ticket).await {
            Ok(payload) => {
                if send(&shards, &payload.batch, Some(ticket)).await.is_err() {
                    return;
                }
            }
            Err(error) => tracing::error!(%error, "a batch of the earlier run cannot be read"),
        }
    }
    for shard in &shards {
        let _ = shard.send(Message::Recovered).await;
    }
}

/// One message for each shard that has spans in the batch.
async fn send(shards: &[mpsc::Sender<Message>], batch: &Batch, ticket: Option<Ticket>) -> Result<(), Refusal> {
    let mut parts: Vec<Vec<u32>> = vec![Vec::new(); shards.len()];
    if let [all] = parts.as_mut_slice() {
        *all = (0..batch.len_spans() as u32).collect();
    } else {
        for (number, span) in batch.spans().iter().enumerate() {
            parts[shard_of(&span.trace_id, shards.len())].push(number as u32);
        }
    }
    let used = parts.iter().filter(|part| !part.is_empty()).count();
    let kept = ticket.map(|ticket| Kept::new(ticket, used));
    for (shard, spans) in shards.iter().zip(parts).filter(|(_, spans)| !spans.is_empty()) {
        let message = Message::Spans { batch: batch.clone(), spans, kept: kept.clone() };
        shard.send(message).await.map_err(|_| Refusal::unavailable("the process is ending"))?;
    }
    Ok(())
}

#[async_trait]
impl Consumer for TailSampling {
    async fn consume(&self, payload: Payload) -> Result<(), Refusal> {
        if payload.batch.is_empty() {
            return Ok(());
        }
        let ticket = self.hold.keep(&payload).await?;
        self.metrics.incoming.add(payload.batch.len_spans() as u64);
        // What waits is bounded by `max_bytes`; the memory it was admitted under is free for others.
        send(&self.shards, &payload.batch.without_compressed(), ticket).await
    }
}

#[async_trait]
impl Stage for TailSampling {
    async fn drain(&self) {
        for shard in &self.shards {
            let (done, drained) = oneshot::channel();
            if shard.send(Message::Drain(done)).await.is_ok() {
                let _ = drained.await;
            }
        }
        self.memory.write(&self.memory_hold).await;
    }
}

#[cfg(test)]
mod tests;
