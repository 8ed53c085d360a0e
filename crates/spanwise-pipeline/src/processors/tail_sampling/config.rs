//! The keys of `tail_sampling`.

use serde::{Deserialize, Serialize};

use super::policy::Policies;
use crate::config::units::GoDuration;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TailSamplingConfig {
    /// From the first span of a trace to the decision.
    pub decision_wait: GoDuration,
    /// Decides this long after the root span arrived, if that is sooner; 0 turns it off.
    pub decision_wait_after_root_received: GoDuration,
    /// Traces that are remembered, waiting and decided ones together. Beyond it the oldest decision is forgotten; when
    /// all still wait, the oldest is decided early.
    pub num_traces: usize,
    /// Bytes of spans that may wait; beyond it the oldest trace is decided early. 0 means a quarter of the memory.
    pub max_bytes: u64,
    /// At `num_traces` waiting traces, wait instead of deciding early.
    pub block_on_overflow: bool,
    /// Accepted as the collector's configs set it; ours needs no hint.
    pub expected_new_traces_per_sec: u64,
    pub decision_cache: DecisionCacheConfig,
    /// Stop at the first policy that keeps a trace. Not with the feature gate
    /// `processor.tailsamplingprocessor.usetracestate`: a later policy may keep more traces like it.
    pub sample_on_first_match: bool,
    /// At the end, drop what still waits instead of deciding on what has arrived.
    pub drop_pending_traces_on_shutdown: bool,
    /// A trace that grows beyond it is dropped at once; 0 means no bound.
    pub maximum_trace_size_bytes: u64,
    /// Where waiting traces and decisions are: `journal` when there is a data directory, otherwise `memory`.
    pub durability: Durability,
    /// Traces are spread over this many workers by id.
    pub num_shards: usize,
    pub policies: Vec<PolicyConfig>,
}

impl Default for TailSamplingConfig {
    fn default() -> Self {
        Self {
            decision_wait: GoDuration::seconds(30),
            decision_wait_after_root_received: GoDuration::seconds(0),
            num_traces: 50_000,
            max_bytes: 0,
            block_on_overflow: false,
            expected_new_traces_per_sec: 0,
            decision_cache: DecisionCacheConfig::default(),
            sample_on_first_match: false,
            drop_pending_traces_on_shutdown: false,
            maximum_trace_size_bytes: 0,
            durability: Durability::Journal,
            num_shards: 1,
            policies: Vec::new(),
        }
    }
}

impl TailSamplingConfig {
    pub fn check(&self) -> Result<(), String> {
        if self.num_traces == 0 {
            return Err("'num_traces' must be greater than zero".to_owned());
        }
        if !(1..=MAX_SHARDS).contains(&self.num_shards) {
            return Err(format!("'num_shards' must be from 1 to {MAX_SHARDS}"));
        }
        Policies::new(&self.policies, self.sample_on_first_match, false).map(drop)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// They survive a crash; in memory alone when there is no data directory.
    Journal,
    Memory,
}

const MAX_SHARDS: usize = 256;

/// Decisions remembered beyond `num_traces`, for spans that come very late.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct DecisionCacheConfig {
    pub sampled_cache_size: usize,
    pub non_sampled_cache_size: usize,
}

/// One policy: `type` names which of the other keys counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyConfig {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(skip_serializing_if = "is_default")]
    pub status_code: StatusCodeConfig,
    #[serde(skip_serializing_if = "is_default")]
    pub latency: LatencyConfig,
    #[serde(skip_serializing_if = "is_default")]
    pub probabilistic: ProbabilisticConfig,
    #[serde(skip_serializing_if = "is_default")]
    pub numeric_attribute: NumericAttributeConfig,
    #[serde(skip_serializing_if = "is_default")]
    pub string_attribute: StringAttributeConfig,
    #[serde(skip_serializing_if = "is_default")]
    pub insight: InsightConfig,
    #[serde(skip_serializing_if = "is_default")]
    pub rare_shape: RareShapeConfig,
    #[serde(skip_serializing_if = "is_default")]
    pub new_dependency: NewDependencyConfig,
    #[serde(skip_serializing_if = "is_default")]
    pub and: AndConfig,
    #[serde(skip_serializing_if = "is_default")]
    pub drop: DropConfig,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Any span has one of these: OK, ERROR, UNSET.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct StatusCodeConfig {
    pub status_codes: Vec<String>,
}

/// The trace takes longer than `threshold_ms` and, unless it is 0, at most `upper_threshold_ms`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct LatencyConfig {
    pub threshold_ms: u64,
    pub upper_threshold_ms: u64,
}

/// A share of all traces, drawn by a hash of the trace id; with the feature gate
/// `processor.tailsamplingprocessor.usetracestate`, of traces that say how they were sampled by `ot=rv` of their
/// tracestate or the last 56 bits of their id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct ProbabilisticConfig {
    /// 0 to 100.
    pub sampling_percentage: f64,
    /// Collectors with the same salt keep the same traces.
    pub hash_salt: String,
}

/// An integer attribute of any span or resource lies between two values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct NumericAttributeConfig {
    pub key: String,
    /// No lower bound when left out.
    pub min_value: Option<i64>,
    /// No upper bound when left out.
    pub max_value: Option<i64>,
    pub invert_match: bool,
}

/// A text attribute of any span or resource has one of these values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct StringAttributeConfig {
    pub key: String,
    pub values: Vec<String>,
    /// The values are regular expressions that match anywhere.
    pub enabled_regex_matching: bool,
    /// Texts whose answer is remembered; 0 means 128.
    pub cache_max_size: usize,
    pub invert_match: bool,
}

/// The trace by itself shows a finding of one of these kinds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct InsightConfig {
    /// n_plus_one, fan_out, retry_storm, hidden_error; empty means all of them.
    pub kinds: Vec<String>,
    /// At most so many traces a second are kept for this reason; 0 means no bound.
    pub traces_per_second: f64,
}

/// Few traces of its entry point were of this trace's shape: which operations call which, repeats and order aside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RareShapeConfig {
    /// A shape is rare up to this share of the entry point's traces.
    pub max_share: f64,
    /// Traces of an entry point before anything of it counts as rare.
    pub warm_up_traces: u64,
    /// At most so many traces a second are kept for this reason; 0 means no bound.
    pub traces_per_second: f64,
}

impl Default for RareShapeConfig {
    fn default() -> Self {
        Self { max_share: 0.01, warm_up_traces: 200, traces_per_second: 10.0 }
    }
}

/// The trace depends on a service, host or store that its entry point did without before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewDependencyConfig {
    /// Traces of an entry point without a dependency before its appearance is news.
    pub warm_up_traces: u64,
    /// A dependency is new in this many traces.
    pub new_for_traces: u64,
    /// At most so many traces a second are kept for this reason; 0 means no bound.
    pub traces_per_second: f64,
}

impl Default for NewDependencyConfig {
    fn default() -> Self {
        Self { warm_up_traces: 200, new_for_traces: 100, traces_per_second: 10.0 }
    }
}

/// All of these hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct AndConfig {
    pub and_sub_policy: Vec<PolicyConfig>,
}

/// When all of these hold, the trace is dropped whatever else says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct DropConfig {
    pub drop_sub_policy: Vec<PolicyConfig>,
}
