//! `memory_limiter`: the collector's keys; ours bounds by bytes admitted and not yet handed on, so the bound holds
//! exactly and at once instead of after the next look at the heap. What the process really holds, the allocator's
//! reserves included, is looked at besides, and nothing is let in while that is above the limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use spanwise_model::MemoryBudget;

use crate::component::{Build, BuildContext, Factory, Kind, Stage, prepare};
use crate::config::Signal;
use crate::config::units::GoDuration;
use crate::flow::{Consumer, Payload, Refusal};
use crate::telemetry::Counter;

pub const FACTORY: Factory = Factory {
    kind: Kind::Processor,
    name: "memory_limiter",
    aliases: &[],
    stability: "beta",
    summary: "Refuses what would exceed a bound in bytes.",
    signals: Signal::ALL,
    schema: || schemars::schema_for!(MemoryLimiterConfig),
    prepare: |node, path, errors| {
        prepare::<MemoryLimiterConfig>(node, path, errors, MemoryLimiterConfig::check, |config| {
            Build::Processor(Box::new(move |context, next| Ok(Arc::new(MemoryLimiter::new(&config, &context, next)))))
        })
    },
};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct MemoryLimiterConfig {
    /// Accepted as the collector's configs set it; ours needs no interval.
    pub check_interval: GoDuration,
    pub limit_mib: u64,
    pub spike_limit_mib: u64,
    pub limit_percentage: u32,
    pub spike_limit_percentage: u32,
    pub min_gc_interval_when_soft_limited: GoDuration,
    pub min_gc_interval_when_hard_limited: GoDuration,
}

impl MemoryLimiterConfig {
    fn check(&self) -> Result<(), String> {
        if self.limit_mib == 0 && self.limit_percentage == 0 {
            return Err("'limit_mib' or 'limit_percentage' must be greater than zero".to_owned());
        }
        if self.limit_percentage > 100 || self.spike_limit_percentage > 100 {
            return Err("'limit_percentage' and 'spike_limit_percentage' must be at most 100".to_owned());
        }
        if self.limit_mib > 0 && self.spike_limit_mib >= self.limit_mib {
            return Err("'spike_limit_mib' must be smaller than 'limit_mib'".to_owned());
        }
        Ok(())
    }

    fn hard_limit_bytes(&self) -> u64 {
        match self.limit_mib {
            0 => total_memory() / 100 * u64::from(self.limit_percentage),
            mib => mib << 20,
        }
    }

    /// The soft limit, at which the collector begins to refuse.
    fn limit_bytes(&self) -> usize {
        let (limit, spike) = if self.limit_mib > 0 {
            (self.limit_mib << 20, self.spike_limit_mib << 20)
        } else {
            let total = total_memory();
            (total / 100 * u64::from(self.limit_percentage), total / 100 * u64::from(self.spike_limit_percentage))
        };
        // Without a spike limit the collector takes a fifth.
        let spike = if spike == 0 { limit / 5 } else { spike };
        usize::try_from(limit.saturating_sub(spike)).unwrap_or(usize::MAX)
    }
}

/// What the machine, or the control group the process lives in, has.
pub fn total_memory() -> u64 {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let machine = read("/proc/meminfo")
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("MemTotal:"))?.to_owned();
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        })
        .map_or(u64::MAX, |kib| kib << 10);
    let group = read("/sys/fs/cgroup/memory.max").and_then(|text| text.trim().parse().ok()).unwrap_or(u64::MAX);
    machine.min(group)
}

/// How long what was read of the process's memory holds.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Memory that the process has in use, as the kernel counts it.
struct Resident {
    limit: u64,
    started: Instant,
    /// In milliseconds since `started`.
    next_look: AtomicU64,
    is_over: AtomicBool,
}

impl Resident {
    fn new(limit: u64) -> Self {
        Self { limit, started: Instant::now(), next_look: AtomicU64::new(0), is_over: AtomicBool::new(false) }
    }

    fn is_over(&self) -> bool {
        let now = self.started.elapsed().as_millis() as u64;
        if now >= self.next_look.load(Ordering::Relaxed) {
            self.next_look.store(now + LOOK_EVERY.as_millis() as u64, Ordering::Relaxed);
            self.is_over.store(resident_bytes().is_some_and(|bytes| bytes > self.limit), Ordering::Relaxed);
        }
        self.is_over.load(Ordering::Relaxed)
    }
}

/// `None` where the system does not say.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib << 10)
}

struct MemoryLimiter {
    budget: MemoryBudget,
    resident: Resident,
    next: Arc<dyn Consumer>,
    refused: Counter,
    accepted: Counter,
}

impl MemoryLimiter {
    fn new(config: &MemoryLimiterConfig, context: &BuildContext, next: Arc<dyn Consumer>) -> Self {
        let id = context.id.to_string();
        let counter = |name, help| context.telemetry.counter(name, help, &[("processor", &id)]);
        Self {
            budget: MemoryBudget::new(config.limit_bytes()),
            resident: Resident::new(config.hard_limit_bytes()),
            next,
            refused: counter("otelcol_processor_refused_spans", "Spans refused by the memory limiter."),
            accepted: counter("otelcol_processor_accepted_spans", "Spans let through by the memory limiter."),
        }
    }
}

#[async_trait]
impl Consumer for MemoryLimiter {
    async fn consume(&self, mut payload: Payload) -> Result<(), Refusal> {
        let spans = payload.batch.len_spans() as u64;
        // A limit below what the process needs idle must not refuse everything: some must be held here.
        let is_over = self.budget.used() > self.budget.limit() / 8 && self.resident.is_over();
        let charge = if is_over { None } else { self.budget.try_charge(payload.batch.memory_bytes()) };
        match charge {
            Some(charge) => {
                payload.charges.push(Arc::new(charge));
                self.accepted.add(spans);
                self.next.consume(payload).await
            }
            None => {
                self.refused.add(spans);
                Err(Refusal::unavailable("data refused due to high memory usage"))
            }
        }
    }
}

#[async_trait]
impl Stage for MemoryLimiter {
    async fn drain(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::tests::{Collect, context, payload};

    #[tokio::test]
    async fn a_process_above_the_limit_lets_nothing_in_while_something_is_held() {
        let sink = Arc::new(Collect::default());
        let next: Arc<dyn Consumer> = Arc::<Collect>::clone(&sink);
        // Any process holds more than one MiB.
        let config = MemoryLimiterConfig { limit_mib: 1, ..MemoryLimiterConfig::default() };
        let context = context("memory_limiter");
        let limiter = MemoryLimiter::new(&config, &context, next);
        limiter.consume(payload(3)).await.unwrap();
        let held = limiter.budget.try_charge(limiter.budget.limit() / 2).unwrap();
        assert!(limiter.consume(payload(3)).await.unwrap_err().is_retryable());
        assert_eq!(context.telemetry.total("otelcol_processor_refused_spans"), 3);
        drop(held);
        limiter.consume(payload(3)).await.unwrap();
        assert_eq!(sink.sizes(), [3, 3]);
    }

    #[test]
    fn the_soft_limit_is_where_refusing_begins() {
        let config = |limit_mib, spike_limit_mib| MemoryLimiterConfig {
            limit_mib,
            spike_limit_mib,
            ..MemoryLimiterConfig::default()
        };
        assert_eq!(config(100, 0).limit_bytes(), 80 << 20);
        assert_eq!(config(100, 30).limit_bytes(), 70 << 20);
        assert!(config(0, 0).check().is_err() && config(10, 10).check().is_err());
    }
}
