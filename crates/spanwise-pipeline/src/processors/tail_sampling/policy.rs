//! Policies: what a waiting trace is judged by. They read the spans' bytes in place.

use std::sync::Arc;

use parking_lot::Mutex;
use regex::Regex;
use spanwise_model::TraceId;
use spanwise_wire::tracestate::{Threshold, TraceState, of_span, randomness_of};
use spanwise_wire::view::{KeyValueView, ValueView, resource_attributes, span_attributes};
use spanwise_wire::{Batch, SpanRef};

use super::config::{
    LatencyConfig, NumericAttributeConfig, PolicyConfig, ProbabilisticConfig, StatusCodeConfig, StringAttributeConfig,
};
use super::insight::{Memory, NewDependency, RareShape, Shows, Told};

/// A trace as a policy sees it: the spans that arrived until now.
pub struct TraceView<'a> {
    pub trace_id: TraceId,
    pub spans: &'a [SpanView<'a>],
    /// What insight says, once somebody has asked.
    told: std::cell::OnceCell<Option<Told>>,
    /// The draw by which its senders sampled, if they did.
    draw: std::cell::OnceCell<Option<u64>>,
}

impl<'a> TraceView<'a> {
    pub fn new(trace_id: TraceId, spans: &'a [SpanView<'a>]) -> Self {
        Self { trace_id, spans, told: std::cell::OnceCell::new(), draw: std::cell::OnceCell::new() }
    }

    /// Asks insight, once however many policies do.
    pub fn told(&self, memory: &Memory) -> Option<&Told> {
        self.told.get_or_init(|| memory.tell(self)).as_ref()
    }

    /// The randomness of a trace that some tracestate says was sampled by it: the first `ot=rv`, otherwise the id's.
    fn draw(&self) -> Option<u64> {
        *self.draw.get_or_init(|| {
            let states = self.spans.iter().map(|view| of_span(view.batch.body_of(view.span)));
            let mut is_sampled = false;
            for state in states.filter(|state| !state.is_empty()).filter_map(TraceState::parse) {
                if let Some(randomness) = state.randomness() {
                    return Some(randomness);
                }
                is_sampled |= state.has_sampling();
            }
            is_sampled.then(|| randomness_of(&self.trace_id))
        })
    }
}

/// One span where it lies.
#[derive(Clone, Copy)]
pub struct SpanView<'a> {
    pub batch: &'a Batch,
    pub span: &'a SpanRef,
}

impl<'a> SpanView<'a> {
    fn attributes(&self) -> impl Iterator<Item = KeyValueView<'a>> {
        span_attributes(self.batch.body_of(self.span))
    }

    fn resource(&self) -> (&'a Batch, usize) {
        (self.batch, self.batch.resource_of_scope(self.span.scope as usize))
    }
}

/// What a policy says of a trace, and how it came to it: `probability` is that of the answer being "sampled" over
/// all trace ids of such a trace. Chances that come of the same `salt` are of the same draw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Chance {
    pub is_sampled: bool,
    pub probability: f64,
    pub salt: Option<u64>,
    /// Of the draw that decided: what a tracestate says of a trace that is kept for this reason alone.
    pub threshold: Threshold,
}

impl Chance {
    pub fn certain(is_sampled: bool) -> Self {
        let probability = if is_sampled { 1.0 } else { 0.0 };
        Self { is_sampled, probability, salt: None, threshold: Threshold::ALWAYS }
    }
}

/// A rule that keeps or does not keep a trace. Never fails: what cannot be judged is not sampled.
pub trait Policy: Send + Sync {
    fn evaluate(&self, trace: &TraceView<'_>) -> Chance;
}

/// Builds what the config names.
///
/// # Errors
/// What is wrong with the policy, in the collector's words where it has some.
pub fn build(config: &PolicyConfig, memory: &Arc<Memory>, use_tracestate: bool) -> Result<Box<dyn Policy>, String> {
    Ok(match config.kind.as_str() {
        "always_sample" => Box::new(AlwaysSample),
        "status_code" => Box::new(StatusCode::new(&config.status_code)?),
        "latency" => Box::new(Latency::new(&config.latency)?),
        "probabilistic" => Box::new(Probabilistic::new(&config.probabilistic, use_tracestate)?),
        "numeric_attribute" => Box::new(NumericAttribute::new(&config.numeric_attribute)?),
        "string_attribute" => Box::new(StringAttribute::new(&config.string_attribute)?),
        "insight" => Box::new(Shows::new(&config.insight, memory)?),
        "rare_shape" => Box::new(RareShape::new(&config.rare_shape, memory)?),
        "new_dependency" => Box::new(NewDependency::new(&config.new_dependency, memory)?),
        "and" => Box::new(And::new(&config.and.and_sub_policy, "and_sub_policy", memory, use_tracestate)?),
        "drop" => Box::new(And::new(&config.drop.drop_sub_policy, "drop_sub_policy", memory, use_tracestate)?),
        "" => return Err("policy type cannot be empty".to_owned()),
        unknown => return Err(format!("unknown sampling policy type {unknown} (known: {})", KNOWN.join(", "))),
    })
}

pub const KNOWN: [&str; 11] = [
    "always_sample",
    "status_code",
    "latency",
    "probabilistic",
    "numeric_attribute",
    "string_attribute",
    "insight",
    "rare_shape",
    "new_dependency",
    "and",
    "drop",
];

struct AlwaysSample;

impl Policy for AlwaysSample {
    fn evaluate(&self, _: &TraceView<'_>) -> Chance {
        Chance::certain(true)
    }
}

/// Any span has one of the codes.
struct StatusCode {
    wanted: [bool; 3],
}

impl StatusCode {
    fn new(config: &StatusCodeConfig) -> Result<Self, String> {
        if config.status_codes.is_empty() {
            return Err("expected at least one status code to filter on".to_owned());
        }
        let mut wanted = [false; 3];
        for code in &config.status_codes {
            let place = ["UNSET", "OK", "ERROR"].iter().position(|name| name == code);
            let place = place.ok_or_else(|| format!("unknown status code {code:?}, supported: OK, ERROR, UNSET"))?;
            wanted[place] = true;
        }
        Ok(Self { wanted })
    }
}

impl Policy for StatusCode {
    fn evaluate(&self, trace: &TraceView<'_>) -> Chance {
        let is_wanted = |view: &SpanView<'_>| self.wanted.get(view.span.status as usize).copied().unwrap_or(false);
        Chance::certain(trace.spans.iter().any(is_wanted))
    }
}

/// From the earliest start to the latest end, in whole milliseconds: more than the threshold, and at most the upper
/// one where there is one.
struct Latency {
    threshold_ms: u64,
    upper_threshold_ms: u64,
}

impl Latency {
    fn new(config: &LatencyConfig) -> Result<Self, String> {
        let LatencyConfig { threshold_ms, upper_threshold_ms } = *config;
        if upper_threshold_ms != 0 && upper_threshold_ms <= threshold_ms {
            return Err("upper_threshold_ms must be greater than threshold_ms".to_owned());
        }
        Ok(Self { threshold_ms, upper_threshold_ms })
    }
}

impl Policy for Latency {
    fn evaluate(&self, trace: &TraceView<'_>) -> Chance {
        let start = trace.spans.iter().map(|view| view.span.start_unix_nano).filter(|start| *start > 0).min();
        let end = trace.spans.iter().map(|view| view.span.end_unix_nano).max();
        let millis = end.unwrap_or(0).saturating_sub(start.unwrap_or(u64::MAX)) / 1_000_000;
        let is_below = self.upper_threshold_ms == 0 || millis <= self.upper_threshold_ms;
        Chance::certain(millis > self.threshold_ms && is_below)
    }
}

/// The collector's own draw, so that a trace is kept here exactly when it is kept there.
struct Probabilistic {
    /// By the tracestate, where that counts and says that the trace was sampled; `None` keeps nothing.
    use_tracestate: bool,
    tracestate_threshold: Option<Threshold>,
    threshold: u64,
    probability: f64,
    /// The hash after the salt; a trace id goes on from it.
    salted: u64,
}

impl Probabilistic {
    fn new(config: &ProbabilisticConfig, use_tracestate: bool) -> Result<Self, String> {
        if !(0.0..=f64::MAX).contains(&config.sampling_percentage) {
            return Err("sampling_percentage must not be negative".to_owned());
        }
        let probability = (config.sampling_percentage / 100.0).min(1.0);
        let salt = if config.hash_salt.is_empty() { DEFAULT_SALT } else { &config.hash_salt };
        let (threshold, salted) = (threshold(probability), fnv1a(FNV_OFFSET, salt.as_bytes()));
        let tracestate_threshold = Threshold::of_probability(probability);
        Ok(Self { use_tracestate, tracestate_threshold, threshold, probability, salted })
    }
}

impl Policy for Probabilistic {
    fn evaluate(&self, trace: &TraceView<'_>) -> Chance {
        let mut chance = Chance {
            is_sampled: fnv1a(self.salted, &trace.trace_id.0) <= self.threshold,
            probability: self.probability,
            salt: Some(self.salted),
            threshold: Threshold::ALWAYS,
        };
        if self.use_tracestate {
            chance.threshold = self.tracestate_threshold.unwrap_or_default();
            if let Some(randomness) = trace.draw() {
                chance.is_sampled = self.tracestate_threshold.is_some_and(|threshold| threshold.keeps(randomness));
                // All of them are of the trace's own draw.
                chance.salt = Some(0);
            }
        }
        chance
    }
}

const DEFAULT_SALT: &str = "default-hash-seed";
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

fn fnv1a(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME))
}

/// `ratio` of 2^64 - 1, computed with 64 bits of precision as the collector does, so that no boundary differs.
fn threshold(ratio: f64) -> u64 {
    if ratio >= 1.0 {
        return u64::MAX;
    }
    let bits = ratio.to_bits();
    let exponent = (bits >> 52) as i32;
    if exponent == 0 {
        // Zero, or too small to move the product away from it.
        return 0;
    }
    let mantissa = bits & ((1 << 52) - 1) | 1 << 52;
    let product = u128::from(u64::MAX) * u128::from(mantissa);
    // The product is worth `product * 2^-shift`; 64 of its bits count, rounded half to even.
    let shift = (1075 - exponent) as u32;
    let excess = (128 - product.leading_zeros()).saturating_sub(64);
    let (kept, rest) = (product >> excess, product & ((1 << excess) - 1));
    let half = 1u128 << excess.saturating_sub(1);
    let is_up = excess > 0 && (rest > half || (rest == half && kept & 1 == 1));
    let rounded = kept + u128::from(is_up);
    match shift.checked_sub(excess) {
        Some(down) => u64::try_from(rounded.checked_shr(down).unwrap_or(0)).unwrap_or(u64::MAX),
        None => u64::try_from(rounded << (excess - shift)).unwrap_or(u64::MAX),
    }
}

/// Any span or resource has the attribute with a value that satisfies `test`; `invert` turns it into: none has.
fn any_attribute(trace: &TraceView<'_>, key: &str, test: impl Fn(ValueView<'_>) -> bool) -> bool {
    let matches = |attribute: KeyValueView<'_>| attribute.key == key && test(attribute.value);
    let mut last: Option<(*const Batch, usize)> = None;
    trace.spans.iter().any(|view| {
        let (batch, resource) = view.resource();
        let is_new = last != Some((batch, resource));
        last = Some((batch, resource));
        (is_new && resource_attributes(batch.resource_header(resource)).any(matches)) || view.attributes().any(matches)
    })
}

struct NumericAttribute {
    key: String,
    min: i64,
    max: i64,
    invert: bool,
}

impl NumericAttribute {
    fn new(config: &NumericAttributeConfig) -> Result<Self, String> {
        if config.key.is_empty() {
            return Err("numeric_attribute requires a \"key\"".to_owned());
        }
        let (min, max) = (config.min_value.unwrap_or(i64::MIN), config.max_value.unwrap_or(i64::MAX));
        if min > max {
            return Err("min_value must not be greater than max_value".to_owned());
        }
        Ok(Self { key: config.key.clone(), min, max, invert: config.invert_match })
    }
}

impl Policy for NumericAttribute {
    fn evaluate(&self, trace: &TraceView<'_>) -> Chance {
        let is_within = |value: ValueView<'_>| matches!(value, ValueView::Int(n) if self.min <= n && n <= self.max);
        Chance::certain(any_attribute(trace, &self.key, is_within) != self.invert)
    }
}

struct StringAttribute {
    key: String,
    values: Values,
    invert: bool,
}

enum Values {
    Exact(Vec<String>),
    Pattern { patterns: Vec<Regex>, seen: Mutex<lru::LruCache<String, bool>> },
}

impl StringAttribute {
    fn new(config: &StringAttributeConfig) -> Result<Self, String> {
        if config.key.is_empty() {
            return Err("string_attribute requires a \"key\"".to_owned());
        }
        let values = if config.enabled_regex_matching {
            let patterns = config.values.iter().map(|text| Regex::new(text)).collect::<Result<_, _>>();
            let size = std::num::NonZeroUsize::new(config.cache_max_size).unwrap_or(DEFAULT_CACHE);
            Values::Pattern {
                patterns: patterns.map_err(|error| error.to_string())?,
                seen: Mutex::new(lru::LruCache::new(size)),
            }
        } else {
            Values::Exact(config.values.iter().filter(|value| !value.is_empty()).cloned().collect())
        };
        Ok(Self { key: config.key.clone(), values, invert: config.invert_match })
    }

    fn matches(&self, text: &str) -> bool {
        match &self.values {
            Values::Exact(values) => values.iter().any(|value| value == text),
            Values::Pattern { patterns, seen } => {
                if let Some(known) = seen.lock().get(text) {
                    return *known;
                }
                let is_match = patterns.iter().any(|pattern| pattern.is_match(text));
                seen.lock().put(text.to_owned(), is_match);
                is_match
            }
        }
    }
}

const DEFAULT_CACHE: std::num::NonZeroUsize = std::num::NonZeroUsize::new(128).expect("not zero");

impl Policy for StringAttribute {
    fn evaluate(&self, trace: &TraceView<'_>) -> Chance {
        let is_match = |value: ValueView<'_>| matches!(value, ValueView::Str(text) if self.matches(text));
        Chance::certain(any_attribute(trace, &self.key, is_match) != self.invert)
    }
}

/// All of several policies.
struct And(Vec<Box<dyn Policy>>);

impl And {
    fn new(policies: &[PolicyConfig], key: &str, memory: &Arc<Memory>, use_tracestate: bool) -> Result<Self, String> {
        if policies.is_empty() {
            return Err(format!("{key} must name at least one policy"));
        }
        let build_one = |config: &PolicyConfig| match config.kind.as_str() {
            kind @ ("and" | "drop") => Err(format!("{key} {:?}: unknown sampling policy type {kind}", config.name)),
            _ => build(config, memory, use_tracestate).map_err(|message| format!("{key} {:?}: {message}", config.name)),
        };
        Ok(Self(policies.iter().map(build_one).collect::<Result<_, _>>()?))
    }
}

impl Policy for And {
    fn evaluate(&self, trace: &TraceView<'_>) -> Chance {
        let mut all = Chance::certain(true);
        for policy in &self.0 {
            let chance = policy.evaluate(trace);
            all = Chance {
                is_sampled: all.is_sampled && chance.is_sampled,
                probability: both(all, chance),
                salt: chance.salt.or(all.salt),
                // The trace passes when it passes the strictest.
                threshold: all.threshold.max(chance.threshold),
            };
            if all.probability == 0.0 {
                break;
            }
        }
        all
    }
}

/// Two draws of one salt are one draw: the stricter decides.
fn both(a: Chance, b: Chance) -> f64 {
    if a.salt.is_some() && a.salt == b.salt { a.probability.min(b.probability) } else { a.probability * b.probability }
}

/// What all policies together come to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// With the smallest threshold of the policies that kept it; it is never any but 0 unless tracestates count.
    Sampled {
        probability: f64,
        threshold: Threshold,
    },
    NotSampled,
    Dropped,
}

/// The policies of one processor, dropping ones first.
pub struct Policies {
    pub named: Vec<NamedPolicy>,
    pub sample_on_first_match: bool,
    /// What kept traces were kept with stands in their tracestate.
    pub use_tracestate: bool,
    /// What its insight policies remember.
    pub memory: Arc<Memory>,
}

pub struct NamedPolicy {
    pub name: String,
    pub is_drop: bool,
    pub policy: Box<dyn Policy>,
}

impl Policies {
    /// # Errors
    /// Everything that is wrong with a policy.
    pub fn new(configs: &[PolicyConfig], sample_on_first_match: bool, use_tracestate: bool) -> Result<Self, String> {
        if configs.is_empty() {
            return Err("no policies provided".to_owned());
        }
        let memory = Arc::new(Memory::default());
        let mut named: Vec<NamedPolicy> = Vec::new();
        for config in configs {
            if config.name.is_empty() {
                return Err("policy name cannot be empty".to_owned());
            }
            if named.iter().any(|policy| policy.name == config.name) {
                return Err(format!("duplicate policy name {:?}", config.name));
            }
            let policy = build(config, &memory, use_tracestate)
                .map_err(|message| format!("policy {:?}: {message}", config.name))?;
            named.push(NamedPolicy { name: config.name.clone(), is_drop: config.kind == "drop", policy });
        }
        named.sort_by_key(|policy| !policy.is_drop);
        Ok(Self { named, sample_on_first_match, use_tracestate, memory })
    }

    /// Judges a trace; `note` hears what each policy that was asked said.
    pub fn decide(&self, trace: &TraceView<'_>, mut note: impl FnMut(usize, Verdict)) -> Verdict {
        let mut is_sampled = false;
        let mut is_kept_surely = false;
        // Probabilities of not being kept, one for each independent draw.
        let mut missed: Vec<(Option<u64>, f64)> = Vec::new();
        let mut not_dropped = 1.0;
        let mut threshold: Option<Threshold> = None;
        for (place, NamedPolicy { is_drop, policy, .. }) in self.named.iter().enumerate() {
            let chance = policy.evaluate(trace);
            if *is_drop {
                note(place, if chance.is_sampled { Verdict::Dropped } else { Verdict::NotSampled });
                if chance.is_sampled {
                    return Verdict::Dropped;
                }
                not_dropped *= 1.0 - chance.probability;
                continue;
            }
            note(
                place,
                match chance.is_sampled {
                    true => Verdict::Sampled { probability: chance.probability, threshold: chance.threshold },
                    false => Verdict::NotSampled,
                },
            );
            if chance.is_sampled {
                is_sampled = true;
                threshold = Some(threshold.map_or(chance.threshold, |threshold| threshold.min(chance.threshold)));
            }
            is_kept_surely |= chance.probability >= 1.0;
            match missed.iter_mut().find(|(salt, _)| salt.is_some() && *salt == chance.salt) {
                Some((_, miss)) => *miss = miss.min(1.0 - chance.probability),
                None => missed.push((chance.salt, 1.0 - chance.probability)),
            }
            if is_sampled && self.sample_on_first_match {
                break;
            }
        }
        if !is_sampled {
            return Verdict::NotSampled;
        }
        let kept = if is_kept_surely { 1.0 } else { 1.0 - missed.iter().map(|(_, miss)| miss).product::<f64>() };
        let probability = (kept * not_dropped).clamp(f64::MIN_POSITIVE, 1.0);
        Verdict::Sampled { probability, threshold: threshold.unwrap_or_default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::tests::batch_of;
    use spanwise_model::{KeyValue, Span, SpanId, Status, Value};

    fn policies(yaml: &str) -> Result<Policies, String> {
        let node = crate::config::yaml::parse(yaml, 0).unwrap();
        let mut errors = Vec::new();
        let configs: super::super::config::TailSamplingConfig =
            crate::config::decode::decode(&node, "p", &mut errors).unwrap_or_else(|| panic!("{errors:?}"));
        Policies::new(&configs.policies, configs.sample_on_first_match, false)
    }

    fn span(attributes: Vec<KeyValue>, status: i32, millis: u64) -> Span {
        let code =
            [spanwise_model::StatusCode::Unset, spanwise_model::StatusCode::Ok, spanwise_model::StatusCode::Error]
                [status as usize];
        Span {
            trace_id: TraceId([1; 16]),
            span_id: SpanId([2; 8]),
            start_unix_nano: 1_000_000_000,
            end_unix_nano: 1_000_000_000 + millis * 1_000_000,
            attributes,
            status: Status { code, ..Status::default() },
            ..Span::default()
        }
    }

    fn decide(policies: &Policies, trace_id: [u8; 16], spans: &[Span]) -> Verdict {
        let batch = batch_of(vec![KeyValue::new("deployment.environment", "prod")], spans);
        let views: Vec<_> = batch.spans().iter().map(|span| SpanView { batch: &batch, span }).collect();
        policies.decide(&TraceView::new(TraceId(trace_id), &views), |_, _| {})
    }

    const SURELY: Verdict = Verdict::Sampled { probability: 1.0, threshold: Threshold::ALWAYS };

    fn keeps(yaml: &str, spans: &[Span]) -> bool {
        decide(&policies(yaml).unwrap(), [1; 16], spans) == SURELY
    }

    #[test]
    fn each_policy_keeps_what_it_names() {
        let int = |value| KeyValue { key: "http.status".to_owned(), value: Value::Int(value) };
        let text = |value: &str| KeyValue::new("route", value);
        let plain = || span(vec![int(500), text("/cart")], 0, 100);
        for (policy, expected) in [
            ("{name: a, type: always_sample}", true),
            ("{name: a, type: status_code, status_code: {status_codes: [ERROR]}}", false),
            ("{name: a, type: status_code, status_code: {status_codes: [ERROR, UNSET]}}", true),
            ("{name: a, type: latency, latency: {threshold_ms: 99}}", true),
            ("{name: a, type: latency, latency: {threshold_ms: 100}}", false),
            ("{name: a, type: latency, latency: {threshold_ms: 10, upper_threshold_ms: 99}}", false),
            ("{name: a, type: latency, latency: {threshold_ms: 10, upper_threshold_ms: 100}}", true),
            ("{name: a, type: numeric_attribute, numeric_attribute: {key: http.status, min_value: 500}}", true),
            ("{name: a, type: numeric_attribute, numeric_attribute: {key: http.status, max_value: 499}}", false),
            (
                "{name: a, type: numeric_attribute, numeric_attribute: {key: http.status, max_value: 499, invert_match: true}}",
                true,
            ),
            ("{name: a, type: string_attribute, string_attribute: {key: route, values: [/cart]}}", true),
            ("{name: a, type: string_attribute, string_attribute: {key: route, values: [/car]}}", false),
            (
                "{name: a, type: string_attribute, string_attribute: {key: route, values: ['c.r'], enabled_regex_matching: true}}",
                true,
            ),
            (
                "{name: a, type: string_attribute, string_attribute: {key: deployment.environment, values: [prod]}}",
                true,
            ),
            (
                "{name: a, type: string_attribute, string_attribute: {key: route, values: [/cart], invert_match: true}}",
                false,
            ),
            (
                "{name: a, type: and, and: {and_sub_policy: [{name: b, type: always_sample}, {name: c, type: latency, latency: {threshold_ms: 200}}]}}",
                false,
            ),
        ] {
            assert_eq!(keeps(&format!("policies: [{policy}]"), &[plain()]), expected, "{policy}");
        }
        let errors = "policies: [{name: a, type: status_code, status_code: {status_codes: [ERROR]}}]";
        assert!(keeps(errors, &[plain(), span(Vec::new(), 2, 1)]));
    }

    #[test]
    fn dropping_wins_over_everything() {
        let yaml = "policies:\n- {name: a, type: always_sample}\n\
                    - {name: d, type: drop, drop: {drop_sub_policy: [{name: h, type: string_attribute, string_attribute: {key: route, values: [/healthz]}}]}}\n";
        let all = policies(yaml).unwrap();
        let health = span(vec![KeyValue::new("route", "/healthz")], 2, 5);
        assert_eq!(decide(&all, [1; 16], &[health]), Verdict::Dropped);
        assert_eq!(decide(&all, [1; 16], &[span(Vec::new(), 0, 5)]), SURELY);
    }

    /// Values of Go's `hash/fnv` and `math/big`, as the collector computes them.
    #[test]
    fn the_draw_is_the_collectors() {
        assert_eq!(fnv1a(FNV_OFFSET, b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(FNV_OFFSET, b"foobar"), 0x8594_4171_f739_67e8);
        for (ratio, expected) in [
            (0.0, 0),
            (0.5, 0x7fff_ffff_ffff_ffff),
            (1.0, u64::MAX),
            (0.25, 0x3fff_ffff_ffff_ffff),
            (0.05, 922_337_203_685_477_631),
        ] {
            let close = threshold(ratio).abs_diff(expected);
            // The ratio 0.05 is not 1/20: its nearest double is 2.8e-18 above.
            assert!(close <= 52, "{ratio}: {} {expected}", threshold(ratio));
        }
        let half =
            policies("policies: [{name: p, type: probabilistic, probabilistic: {sampling_percentage: 5}}]").unwrap();
        let ids = (0..20_000u64).map(|number| {
            let mut id = [9; 16];
            id[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
            id
        });
        let kept = ids.filter(|id| decide(&half, *id, &[span(Vec::new(), 0, 1)]) != Verdict::NotSampled).count();
        assert!((850..1150).contains(&kept), "{kept}");
    }

    #[test]
    fn what_is_rare_or_new_is_kept_after_a_while_and_within_bounds() {
        let list = "policies: [{name: r, type: rare_shape, rare_shape: {max_share: 0.01, warm_up_traces: 50, traces_per_second: 3}}]";
        let all = policies(list).unwrap();
        let named = |name: &str| vec![Span { name: name.to_owned(), ..span(Vec::new(), 0, 5) }];
        let keeps = |name: &str| decide(&all, [1; 16], &named(name)) != Verdict::NotSampled;
        let with_child = |all: &Policies| {
            let child = Span {
                span_id: SpanId([3; 8]),
                parent_span_id: Some(SpanId([2; 8])),
                name: "branch".to_owned(),
                ..span(Vec::new(), 0, 4)
            };
            decide(all, [1; 16], &[named("GET /").remove(0), child]) != Verdict::NotSampled
        };
        assert!(!with_child(&all), "too early to tell");
        assert!((0..200).all(|_| !keeps("GET /")));
        assert!(with_child(&all));
        assert!(!keeps("GET /") && !keeps("POST /"), "another entry point is at its beginning");
        // The second is as rare, the third no more: three in two hundred.
        assert!(with_child(&all) && !with_child(&all));
        let new = "policies: [{name: n, type: new_dependency, new_dependency: {warm_up_traces: 20, new_for_traces: 2, traces_per_second: 0}}]";
        let all = policies(new).unwrap();
        let query = |system: &str| {
            let attributes = vec![KeyValue::new("db.system", system)];
            let own = Span {
                kind: spanwise_model::SpanKind::Client,
                span_id: SpanId([3; 8]),
                parent_span_id: Some(SpanId([2; 8])),
                ..span(attributes, 0, 4)
            };
            vec![named("GET /").remove(0), own]
        };
        let keeps = |system: &str| decide(&all, [1; 16], &query(system)) != Verdict::NotSampled;
        assert!((0..30).all(|_| !keeps("redis")));
        assert_eq!([keeps("mysql"), keeps("redis"), keeps("mysql"), keeps("mysql")], [true, false, true, false]);
    }

    #[test]
    fn a_trace_that_shows_a_finding_is_kept() {
        let all = policies("policies: [{name: i, type: insight, insight: {kinds: [n_plus_one]}}]").unwrap();
        let query = |number: u8| Span {
            span_id: SpanId([10 + number; 8]),
            parent_span_id: Some(SpanId([2; 8])),
            kind: spanwise_model::SpanKind::Client,
            start_unix_nano: 1_000_000_000 + u64::from(number) * 10_000_000,
            end_unix_nano: 1_000_000_000 + u64::from(number) * 10_000_000 + 8_000_000,
            ..span(vec![KeyValue::new("db.system", "mysql"), KeyValue::new("db.statement", "SELECT 1")], 0, 8)
        };
        let loop_of = |count: u8| {
            let mut spans = vec![span(Vec::new(), 0, 200)];
            spans.extend((0..count).map(query));
            spans
        };
        assert_eq!(decide(&all, [1; 16], &loop_of(4)), Verdict::NotSampled);
        assert_eq!(decide(&all, [1; 16], &loop_of(12)), SURELY);
    }

    /// The share of random ids that are kept is the probability that is reported.
    #[test]
    fn the_probability_is_the_share_that_is_kept() {
        let random = |percent: u32, salt: &str| {
            format!(
                "{{name: p{percent}{salt}, type: probabilistic, probabilistic: {{sampling_percentage: {percent}, hash_salt: '{salt}'}}}}"
            )
        };
        let slow = "{name: l, type: latency, latency: {threshold_ms: 50}}";
        let and = |inner: &str| {
            format!("{{name: and, type: and, and: {{and_sub_policy: [{{name: y, type: always_sample}}, {inner}]}}}}")
        };
        let drop = |inner: &str| format!("{{name: d, type: drop, drop: {{drop_sub_policy: [{inner}]}}}}");
        for (list, expected) in [
            (random(20, "a"), 0.2),
            (format!("{}, {}", random(20, "a"), random(30, "a")), 0.3),
            (format!("{}, {}", random(20, "a"), random(50, "b")), 0.6),
            (format!("{}, {slow}", random(20, "a")), 0.2),
            (and(&random(40, "c")), 0.4),
            (format!("{}, {}", random(50, "a"), drop(&random(50, "b"))), 0.25),
        ] {
            let all = policies(&format!("policies: [{list}]")).unwrap();
            let mut kept = 0u32;
            for number in 0..20_000u64 {
                let mut id = [3; 16];
                id[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
                if let Verdict::Sampled { probability, .. } = decide(&all, id, &[span(Vec::new(), 0, 1)]) {
                    assert!((probability - expected).abs() < 1e-9, "{list}: {probability}");
                    kept += 1;
                }
            }
            let share = f64::from(kept) / 20_000.0;
            assert!((share - expected).abs() < 0.015, "{list}: {share} instead of {expected}");
        }
        let slow_one = [span(Vec::new(), 0, 100)];
        let all = policies(&format!("policies: [{}, {slow}]", random(20, "a"))).unwrap();
        assert_eq!(decide(&all, [1; 16], &slow_one), SURELY);
    }

    /// The threshold of the verdict on a trace whose spans have these tracestates, as `th` has it.
    fn kept_with(list: &str, states: &[&str], millis: u64) -> Option<String> {
        let node = crate::config::yaml::parse(&format!("policies: [{list}]"), 0).unwrap();
        let config: super::super::config::TailSamplingConfig =
            crate::config::decode::decode(&node, "p", &mut Vec::new()).unwrap();
        let all = Policies::new(&config.policies, false, true).unwrap();
        let spans: Vec<_> = states
            .iter()
            .map(|state| Span { trace_state: (*state).to_owned(), ..span(Vec::new(), 0, millis) })
            .collect();
        // The last 56 bits of the id are seven eighths of their range.
        let mut id = [1; 16];
        id[9] = 0xe0;
        match decide(&all, id, &spans) {
            Verdict::Sampled { threshold, .. } => Some(threshold.to_string()),
            _ => None,
        }
    }

    #[test]
    fn with_tracestates_the_draw_is_that_of_the_senders() {
        let random = |percent: u32, salt: &str| {
            format!(
                "{{name: p{percent}{salt}, type: probabilistic, probabilistic: {{sampling_percentage: {percent}, hash_salt: '{salt}'}}}}"
            )
        };
        let slow = "{name: l, type: latency, latency: {threshold_ms: 50}}";
        let and = |inner: &str| {
            format!("{{name: and, type: and, and: {{and_sub_policy: [{{name: y, type: always_sample}}, {inner}]}}}}")
        };
        let low = "ot=rv:10000000000000";
        for (list, states, millis, expected) in [
            // By the id's last 56 bits: of thresholds up to 7/8 it is kept.
            (random(25, ""), &["ot=th:0"][..], 1, Some("c")),
            (random(12, ""), &["ot=th:0"], 1, None),
            // By the first draw that a span names.
            (random(95, ""), &["", "a=b", low], 1, Some("0cccccccccccd")),
            (random(90, ""), &[low, "ot=rv:f0000000000000"], 1, None),
            (random(90, ""), &["ot=rv:broken", "ot=rv:f0000000000000"], 1, Some("19999999999998")),
            (random(0, ""), &["ot=rv:ffffffffffffff"], 1, None),
            // The least strict of those that kept it, the strictest of those that must all.
            (format!("{}, {}", random(25, ""), random(50, "")), &["ot=th:0"], 1, Some("8")),
            (format!("{}, {}", random(25, ""), random(5, "")), &["ot=th:0"], 1, Some("c")),
            (and(&random(25, "")), &["ot=th:0"], 1, Some("c")),
            // What is kept for what it is, is kept always.
            (format!("{}, {slow}", random(25, "")), &["ot=th:0"], 100, Some("0")),
            (format!("{}, {slow}", random(5, "")), &["ot=th:0"], 100, Some("0")),
            // Nobody sampled before: the collector's hash draws.
            (random(100, ""), &["", "a=b", "ot=x:1"], 1, Some("0")),
        ] {
            assert_eq!(kept_with(&list, states, millis).as_deref(), expected, "{list} {states:?}");
        }
        // That hash keeps the same traces as without tracestates, and says with which threshold.
        for percent in 1..100 {
            let list = random(percent, "a");
            let mut id = [1; 16];
            id[9] = 0xe0;
            let without = decide(&policies(&format!("policies: [{list}]")).unwrap(), id, &[span(Vec::new(), 0, 1)]);
            let with = kept_with(&list, &[""], 1);
            assert_eq!(with.is_some(), without != Verdict::NotSampled, "{percent}");
            let threshold = Threshold::of_probability(f64::from(percent) / 100.0).unwrap().to_string();
            assert!(with.is_none_or(|with| with == threshold), "{percent}");
        }
    }

    #[test]
    fn wrong_policies_are_named() {
        for (list, expected) in [
            ("[]", "no policies provided"),
            ("[{type: always_sample}]", "policy name cannot be empty"),
            ("[{name: a, type: always_sample}, {name: a, type: always_sample}]", "duplicate policy name \"a\""),
            ("[{name: a, type: latencies}]", "unknown sampling policy type latencies"),
            ("[{name: a, type: status_code, status_code: {status_codes: [error]}}]", "unknown status code \"error\""),
            ("[{name: a, type: status_code}]", "at least one status code"),
            ("[{name: a, type: latency, latency: {threshold_ms: 5, upper_threshold_ms: 5}}]", "upper_threshold_ms"),
            (
                "[{name: a, type: string_attribute, string_attribute: {key: k, values: ['('], enabled_regex_matching: true}}]",
                "unclosed group",
            ),
            ("[{name: a, type: and}]", "and_sub_policy must name at least one policy"),
            ("[{name: a, type: insight, insight: {kinds: [slow]}}]", "unknown kind \"slow\""),
            ("[{name: a, type: rare_shape, rare_shape: {max_share: 2}}]", "max_share"),
            ("[{name: a, type: new_dependency, new_dependency: {traces_per_second: -1}}]", "traces_per_second"),
        ] {
            let error = policies(&format!("policies: {list}")).err().unwrap();
            assert!(error.contains(expected), "{expected:?} in {error:?}");
        }
    }
}
