//! Policies that ask insight: `insight`, `rare_shape` and `new_dependency`.
//!
//! What was seen before is counted once for each trace, for all policies and shards together, and written to the spool
//! every few seconds and at the end, so that a restart does not start from nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use spanwise_insight::sampling::{Before, KINDS, Seen, Signature, signature};
use spanwise_journal::Ticket;
use spanwise_model::{Trace, TraceSpan};
use spanwise_wire::{decode_resource, decode_scope, decode_span};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::config::{InsightConfig, NewDependencyConfig, RareShapeConfig};
use super::policy::{Chance, Policy, TraceView};
use crate::hold::Hold;

/// What all policies of one processor remember of the traces before.
#[derive(Default)]
pub struct Memory {
    seen: Mutex<Seen>,
    is_changed: AtomicBool,
    /// Where it was written last.
    written: Mutex<Option<Ticket>>,
}

/// What insight says of one trace.
pub struct Told {
    signature: Signature,
    before: Before,
}

impl Memory {
    /// Analyses a trace and counts it.
    pub fn tell(&self, trace: &TraceView<'_>) -> Option<Told> {
        let signature = signature(&decode(trace))?;
        let before = self.seen.lock().note(&signature);
        self.is_changed.store(true, Ordering::Relaxed);
        Some(Told { signature, before })
    }

    /// Takes over what an earlier process wrote last.
    pub fn recover(&self, hold: &Hold) {
        let mut tickets = hold.recovered();
        let Some(last) = tickets.pop() else { return };
        tickets.iter().for_each(Ticket::release);
        match last.read().map(|bytes| Seen::from_bytes(&bytes)) {
            Ok(Some(seen)) => *self.seen.lock() = seen,
            Ok(None) => tracing::warn!("what tail sampling had seen was written by another version: it starts anew"),
            Err(error) => tracing::error!(%error, "what tail sampling had seen cannot be read: it starts anew"),
        }
        *self.written.lock() = Some(last);
    }

    /// Writes what has changed.
    pub async fn write(&self, hold: &Hold) {
        if !hold.is_durable() || !self.is_changed.swap(false, Ordering::Relaxed) {
            return;
        }
        let bytes = self.seen.lock().to_bytes();
        match hold.keep_bytes(vec![Bytes::from(bytes)]).await {
            Ok(Some(ticket)) => {
                if let Some(before) = self.written.lock().replace(ticket) {
                    before.release();
                }
            }
            Ok(None) => {}
            Err(refusal) => tracing::warn!(%refusal, "what tail sampling has seen is not journaled"),
        }
    }
}

/// How much of what was seen a crash may lose.
const WRITE_EVERY: Duration = Duration::from_secs(2);

/// Writes now and then until the process stops; the end is written by whoever drains.
pub async fn write_regularly(memory: Arc<Memory>, hold: Hold, stop: CancellationToken) {
    while tokio::time::timeout(WRITE_EVERY, stop.cancelled()).await.is_err() {
        memory.write(&hold).await;
    }
}

fn decode(trace: &TraceView<'_>) -> Trace {
    // Spans of one batch and scope share what stands above them.
    let mut last = None;
    let spans = trace.spans.iter().map(|view| {
        let place = (std::ptr::from_ref(view.batch), view.span.scope);
        let above = match last.take() {
            Some((known, resource, scope)) if known == place => (Arc::clone(&resource), Arc::clone(&scope)),
            _ => {
                let scope = view.span.scope as usize;
                let resource = view.batch.resource_of_scope(scope);
                let resource = decode_resource(view.batch.resource_header(resource));
                (Arc::new(resource), Arc::new(decode_scope(view.batch.scope_header(scope))))
            }
        };
        last = Some((place, Arc::clone(&above.0), Arc::clone(&above.1)));
        TraceSpan { resource: above.0, scope: above.1, span: decode_span(view.batch.body_of(view.span)) }
    });
    Trace { spans: spans.collect() }
}

/// So many a second, saved up for one second.
struct Allowance {
    per_second: f64,
    left: Mutex<(Instant, f64)>,
}

impl Allowance {
    fn new(per_second: f64) -> Result<Self, String> {
        if !(per_second >= 0.0 && per_second.is_finite()) {
            return Err("traces_per_second must not be negative".to_owned());
        }
        Ok(Self { per_second, left: Mutex::new((Instant::now(), per_second.max(1.0))) })
    }

    fn take(&self) -> bool {
        if self.per_second == 0.0 {
            return true;
        }
        let mut left = self.left.lock();
        let now = Instant::now();
        let earned = (now - left.0).as_secs_f64() * self.per_second;
        *left = (now, (left.1 + earned).min(self.per_second.max(1.0)));
        let is_enough = left.1 >= 1.0;
        if is_enough {
            left.1 -= 1.0;
        }
        is_enough
    }
}

pub struct Shows {
    memory: Arc<Memory>,
    kinds: Vec<String>,
    allowance: Allowance,
}

impl Shows {
    pub fn new(config: &InsightConfig, memory: &Arc<Memory>) -> Result<Self, String> {
        if let Some(unknown) = config.kinds.iter().find(|kind| !KINDS.contains(&kind.as_str())) {
            return Err(format!("unknown kind {unknown:?} (one trace shows: {})", KINDS.join(", ")));
        }
        let allowance = Allowance::new(config.traces_per_second)?;
        Ok(Self { memory: Arc::clone(memory), kinds: config.kinds.clone(), allowance })
    }
}

impl Policy for Shows {
    fn evaluate(&self, trace: &TraceView<'_>) -> Chance {
        let shows = trace.told(&self.memory).is_some_and(|told| {
            let is_wanted = |kind: &&str| self.kinds.is_empty() || self.kinds.iter().any(|wanted| wanted == kind);
            told.signature.kinds.iter().any(is_wanted)
        });
        Chance::certain(shows && self.allowance.take())
    }
}

pub struct RareShape {
    memory: Arc<Memory>,
    max_share: f64,
    warm_up_traces: u64,
    allowance: Allowance,
}

impl RareShape {
    pub fn new(config: &RareShapeConfig, memory: &Arc<Memory>) -> Result<Self, String> {
        if !(config.max_share > 0.0 && config.max_share <= 1.0) {
            return Err("max_share must be above 0 and at most 1".to_owned());
        }
        let allowance = Allowance::new(config.traces_per_second)?;
        let RareShapeConfig { max_share, warm_up_traces, .. } = *config;
        Ok(Self { memory: Arc::clone(memory), max_share, warm_up_traces, allowance })
    }
}

impl Policy for RareShape {
    fn evaluate(&self, trace: &TraceView<'_>) -> Chance {
        let is_rare = trace.told(&self.memory).is_some_and(|Told { before, .. }| {
            before.traces >= self.warm_up_traces.max(1) && before.shape as f64 <= before.traces as f64 * self.max_share
        });
        Chance::certain(is_rare && self.allowance.take())
    }
}

pub struct NewDependency {
    memory: Arc<Memory>,
    warm_up_traces: u64,
    new_for_traces: u64,
    allowance: Allowance,
}

impl NewDependency {
    pub fn new(config: &NewDependencyConfig, memory: &Arc<Memory>) -> Result<Self, String> {
        let allowance = Allowance::new(config.traces_per_second)?;
        let NewDependencyConfig { warm_up_traces, new_for_traces, .. } = *config;
        Ok(Self { memory: Arc::clone(memory), warm_up_traces, new_for_traces, allowance })
    }
}

impl Policy for NewDependency {
    fn evaluate(&self, trace: &TraceView<'_>) -> Chance {
        let is_new = trace
            .told(&self.memory)
            .and_then(|told| told.before.dependency)
            .is_some_and(|(count, first)| first >= self.warm_up_traces.max(1) && count < self.new_for_traces);
        Chance::certain(is_new && self.allowance.take())
    }
}
