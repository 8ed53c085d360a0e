//! How many of the differences that a comparison of two sets of traces reports are none.
//!
//! Of each world's busiest entry points two comparisons are made: traces drawn by lot against the rest, where every
//! difference is false; and the slowest against the rest, where those are false that name an attribute which nothing in
//! any world depends on. The realised false discovery rate is the mean over comparisons of the share of false ones
//! among those reported, 0 where none is.

use std::collections::BTreeMap;

use spanwise_insight::compare::{Compared, Comparison};
use spanwise_insight::trace_facts;
use spanwise_model::Trace;

/// Attributes of requests that no program asks for: see [`crate::workload`].
const WITHOUT_EFFECT: [&str; 3] = ["app.region", "app.tier", "app.experiment"];
/// Entry points of a world that are looked at.
const ENTRIES: usize = 6;
/// Shares of traces that are drawn by lot, and that are slowest.
const DRAWN: u64 = 15;
const SLOWEST: f64 = 0.05;

/// Of comparisons of one sort.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Discoveries {
    pub comparisons: u64,
    pub reported: u64,
    pub wrong: u64,
    /// Sum over comparisons of the share of wrong ones among those reported.
    shares: f64,
}

impl Discoveries {
    fn note(&mut self, compared: &Compared, is_wrong: impl Fn(&str) -> bool) {
        let wrong = compared.differences.iter().filter(|difference| is_wrong(&difference.key)).count() as u64;
        let reported = compared.differences.len() as u64;
        self.comparisons += 1;
        self.reported += reported;
        self.wrong += wrong;
        self.shares += wrong as f64 / reported.max(1) as f64;
    }

    pub fn add(&mut self, other: &Discoveries) {
        self.comparisons += other.comparisons;
        self.reported += other.reported;
        self.wrong += other.wrong;
        self.shares += other.shares;
    }

    pub fn realised_rate(&self) -> f64 {
        self.shares / self.comparisons.max(1) as f64
    }
}

/// Traces of a world by entry point, as they arrived.
#[derive(Debug, Default)]
pub struct Entries(BTreeMap<(String, String), Vec<(u64, Trace)>>);

impl Entries {
    pub fn add(&mut self, trace: Trace) {
        let facts = trace_facts(&trace);
        if let Some(root) = facts.root.map(|root| &trace.spans[root]) {
            let entry = (root.resource.service_name().to_owned(), root.span.name.clone());
            self.0.entry(entry).or_default().push((facts.duration_ns, trace));
        }
    }

    /// Drawn by lot against the rest, and the slowest against the rest.
    pub fn discoveries(self) -> (Discoveries, Discoveries) {
        let (mut by_lot, mut slowest) = (Discoveries::default(), Discoveries::default());
        let mut entries: Vec<Vec<(u64, Trace)>> = self.0.into_values().collect();
        entries.sort_by_key(|traces| std::cmp::Reverse(traces.len()));
        for traces in entries.iter().take(ENTRIES) {
            let mut durations: Vec<u64> = traces.iter().map(|(duration, _)| *duration).collect();
            durations.sort_unstable();
            let place = (durations.len() as f64 * (1.0 - SLOWEST)) as usize;
            let slow = durations.get(place).copied().unwrap_or(u64::MAX);
            let is_drawn = |trace: &Trace| trace.spans.first().is_some_and(|span| lot(&span.span.trace_id.0) < DRAWN);
            by_lot.note(&compare(traces, |_, trace| is_drawn(trace)), |_| true);
            slowest.note(&compare(traces, |duration, _| duration >= slow), |key| WITHOUT_EFFECT.contains(&key));
        }
        (by_lot, slowest)
    }
}

fn compare(traces: &[(u64, Trace)], is_selected: impl Fn(u64, &Trace) -> bool) -> Compared {
    let mut comparison = Comparison::default();
    traces.iter().for_each(|(duration, trace)| comparison.add(trace, is_selected(*duration, trace)));
    comparison.finish()
}

/// 0 to 99, of a trace id, by another way than worlds and comparisons draw by.
fn lot(id: &[u8; 16]) -> u64 {
    let hash = id.iter().fold(0x9e37_79b9_7f4a_7c15u64, |hash, byte| {
        (hash.rotate_left(23) ^ u64::from(*byte)).wrapping_mul(0xd6e8_feb8_6659_fd93)
    });
    (hash >> 40) % 100
}
