//! What `tail_sampling` counts: the collector's names, and ours for what only ours does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::policy::{Policies, Verdict};
use crate::component::BuildContext;
use crate::telemetry::{Counter, Histogram};

pub struct Metrics {
    /// For each policy: sampled, not sampled, dropped.
    policies: Vec<[Counter; 3]>,
    all: [Counter; 3],
    pub new_traces: Counter,
    /// Sampled, not sampled.
    pub from_cache: [Counter; 2],
    pub late_age: Histogram,
    pub removal_age: Histogram,
    pub timer_latency: Histogram,
    pub early_by_count: Counter,
    pub early_by_bytes: Counter,
    pub too_large: Counter,
    /// Spans of kept traces whose tracestate could not be read or has no room, so that no threshold was written to it.
    pub unparseable_tracestate: Counter,
    pub incoming: Counter,
    pub outgoing: Counter,
    pub dropped_not_sampled: Counter,
    pub dropped_by_policy: Counter,
    pub dropped_refused: Counter,
}

const AGES_S: &[f64] = &[1.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0];
const LATENCIES_MS: &[f64] =
    &[1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 150.0, 200.0, 300.0, 500.0, 1000.0, 5000.0];

/// The collector's labels: whether sampled, and the decision.
const OUTCOMES: [(&str, &str); 3] = [("true", "sampled"), ("false", "not_sampled"), ("false", "dropped")];

fn place(verdict: Verdict) -> usize {
    match verdict {
        Verdict::Sampled { .. } => 0,
        Verdict::NotSampled => 1,
        Verdict::Dropped => 2,
    }
}

impl Metrics {
    pub fn new(context: &BuildContext, policies: &Policies, on_memory: Vec<Arc<AtomicUsize>>) -> Self {
        let id = context.id.to_string();
        let telemetry = &context.telemetry;
        let own = |name, help| telemetry.counter(name, help, &[("processor", &id)]);
        let policy_label = |name: &str| match &context.id.name {
            Some(component) => format!("{component}.{name}"),
            None => name.to_owned(),
        };
        let by_policy = |name: &str| {
            let policy = policy_label(name);
            OUTCOMES.map(|(sampled, decision)| {
                let labels: &[(&'static str, &str)] =
                    &[("policy", &policy), ("sampled", sampled), ("decision", decision), ("processor", &id)];
                let help = "Decisions of each policy.";
                telemetry.counter("otelcol_processor_tail_sampling_count_traces_sampled", help, labels)
            })
        };
        let all = OUTCOMES.map(|(sampled, decision)| {
            let labels: &[(&'static str, &str)] = &[("sampled", sampled), ("decision", decision), ("processor", &id)];
            let help = "Traces decided.";
            telemetry.counter("otelcol_processor_tail_sampling_global_count_traces_sampled", help, labels)
        });
        let from_cache = ["true", "false"].map(|sampled| {
            let labels: &[(&'static str, &str)] = &[("sampled", sampled), ("processor", &id)];
            let help = "Late spans that were answered from a decision cache.";
            telemetry.counter("otelcol_processor_tail_sampling_early_releases_from_cache_decision", help, labels)
        });
        let early = |reason| {
            let labels: &[(&'static str, &str)] = &[("reason", reason), ("processor", &id)];
            let help = "Traces decided before their wait was over.";
            telemetry.counter("spanwise_processor_tail_sampling_early_decisions", help, labels)
        };
        let dropped = |reason| {
            let labels: &[(&'static str, &str)] = &[("processor", &id), ("reason", reason)];
            telemetry.counter("spanwise_processor_dropped_spans", "Spans that went no further, and why.", labels)
        };
        let ages = |name, help| telemetry.histogram(name, help, &[("processor", &id)], AGES_S);
        // What the collector counts and ours never has: the names are there so that dashboards find them.
        own("otelcol_processor_tail_sampling_sampling_policy_evaluation_error", "Policies that failed.");
        own("otelcol_processor_tail_sampling_sampling_trace_dropped_too_early", "Traces evicted undecided: never.");
        telemetry.gauge(
            "otelcol_processor_tail_sampling_sampling_traces_on_memory",
            "Traces remembered, waiting and decided.",
            &[("processor", &id)],
            move || on_memory.iter().map(|count| count.load(Ordering::Relaxed)).sum::<usize>() as f64,
        );
        Self {
            policies: policies.named.iter().map(|policy| by_policy(&policy.name)).collect(),
            all,
            new_traces: own("otelcol_processor_tail_sampling_new_trace_id_received", "Traces begun."),
            from_cache,
            late_age: ages(
                "otelcol_processor_tail_sampling_sampling_late_span_age",
                "Seconds from a decision to a span that came after it.",
            ),
            removal_age: ages(
                "otelcol_processor_tail_sampling_sampling_trace_removal_age",
                "Seconds from a trace's first span until its decision is forgotten.",
            ),
            timer_latency: telemetry.histogram(
                "otelcol_processor_tail_sampling_sampling_decision_timer_latency",
                "Milliseconds that deciding what is due takes.",
                &[("processor", &id)],
                LATENCIES_MS,
            ),
            early_by_count: early("num_traces"),
            early_by_bytes: early("max_bytes"),
            too_large: own(
                "otelcol_processor_tail_sampling_traces_dropped_too_large",
                "Traces over maximum_trace_size_bytes.",
            ),
            unparseable_tracestate: own(
                "otelcol_processor_tail_sampling_count_spans_with_unparseable_tracestate",
                "Kept spans whose tracestate could not be read or has no room, and so not changed.",
            ),
            incoming: own("otelcol_processor_incoming_items", "Spans that came in."),
            outgoing: own("otelcol_processor_outgoing_items", "Spans handed on."),
            dropped_not_sampled: dropped("not_sampled"),
            dropped_by_policy: dropped("dropped_by_policy"),
            dropped_refused: dropped("refused_by_next"),
        }
    }

    pub fn by_policy(&self, policy: usize, verdict: Verdict) -> &Counter {
        &self.policies[policy][place(verdict)]
    }

    pub fn decided(&self, verdict: Verdict) -> &Counter {
        &self.all[place(verdict)]
    }
}
