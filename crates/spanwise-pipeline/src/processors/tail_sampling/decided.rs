//! Decisions, remembered for spans that come late.

use std::collections::VecDeque;
use std::num::NonZeroUsize;

use lru::LruCache;
use rustc_hash::FxHashMap;
use spanwise_model::TraceId;
use tokio::time::Instant;

use super::policy::Verdict;

#[derive(Debug, Clone, Copy)]
pub struct Decision {
    pub verdict: Verdict,
    /// When the trace's first span arrived.
    pub arrived: Moment,
    pub decided: Moment,
}

/// A time to the tenth of a second, as millions of decisions are remembered with two of them.
#[derive(Debug, Clone, Copy)]
pub struct Moment(u32);

/// What [`Moment`]s are counted from.
#[derive(Debug, Clone, Copy)]
pub struct Epoch(Instant);

impl Epoch {
    pub fn starts(now: Instant) -> Self {
        Self(now)
    }

    pub fn moment(self, at: Instant) -> Moment {
        Moment(u32::try_from(at.duration_since(self.0).as_millis() / 100).unwrap_or(u32::MAX))
    }

    pub fn seconds_since(self, moment: Moment, now: Instant) -> f64 {
        f64::from(self.moment(now).0.saturating_sub(moment.0)) / 10.0
    }
}

/// Beside the processor's own count, two caches that outlast it: one for kept traces, one for others.
pub struct Decided {
    recent: FxHashMap<TraceId, Decision>,
    order: VecDeque<TraceId>,
    sampled: Option<LruCache<TraceId, Decision>>,
    not_sampled: Option<LruCache<TraceId, Decision>>,
}

impl Decided {
    pub fn new(sampled: usize, not_sampled: usize) -> Self {
        let cache = |size| NonZeroUsize::new(size).map(LruCache::new);
        Self {
            recent: FxHashMap::default(),
            order: VecDeque::new(),
            sampled: cache(sampled),
            not_sampled: cache(not_sampled),
        }
    }

    /// A decision, and whether it comes of a cache.
    pub fn get(&mut self, trace_id: &TraceId) -> Option<(Decision, bool)> {
        if let Some(decision) = self.recent.get(trace_id) {
            return Some((*decision, false));
        }
        let caches = [&mut self.sampled, &mut self.not_sampled];
        caches.into_iter().flatten().find_map(|cache| cache.get(trace_id).copied()).map(|decision| (decision, true))
    }

    pub fn insert(&mut self, trace_id: TraceId, decision: Decision) {
        let cache = match decision.verdict {
            Verdict::Sampled { .. } => &mut self.sampled,
            Verdict::NotSampled | Verdict::Dropped => &mut self.not_sampled,
        };
        match cache {
            Some(cache) => {
                cache.put(trace_id, decision);
            }
            None => {
                if self.recent.insert(trace_id, decision).is_none() {
                    self.order.push_back(trace_id);
                }
            }
        }
    }

    /// Decisions that count against `num_traces`.
    pub fn len(&self) -> usize {
        self.recent.len()
    }

    pub fn forget_oldest(&mut self) -> Option<Decision> {
        let oldest = self.order.pop_front()?;
        self.recent.remove(&oldest)
    }
}
