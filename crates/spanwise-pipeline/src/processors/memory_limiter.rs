//! `memory_limiter`: the collector's keys; ours bounds by bytes admitted and not yet handed on, so the bound holds
//! exactly and at once instead of after the next look at the heap.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use spanwise_model::MemoryBudget;

use crate::component::{Build, BuildContext, Factory, Kind, Stage, prepare};
use crate::config::units::GoDuration;
use crate::flow::{Consumer, Payload, Refusal};
use crate::telemetry::Counter;

pub const FACTORY: Factory = Factory {
    kind: Kind::Processor,
    name: "memory_limiter",
    aliases: &[],
    stability: "beta",
    summary: "Refuses what would exceed a bound in bytes.",
    prepare: |node, path, errors| {
        prepare::<MemoryLimiterConfig>(node, path, errors, MemoryLimiterConfig::check, |config| {
            Build::Processor(Box::new(move |context, next| Ok(Arc::new(MemoryLimiter::new(&config, &context, next)))))
        })
    },
};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
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

struct MemoryLimiter {
    budget: MemoryBudget,
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
        match self.budget.try_charge(payload.batch.memory_bytes()) {
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
