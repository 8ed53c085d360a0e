//! Policies: what a waiting trace is judged by. They read the spans' bytes in place.

mod kinds;
mod probabilistic;

use std::sync::Arc;

use spanwise_model::{Threshold, TraceId};
use spanwise_wire::tracestate::{TraceState, of_span, randomness_of};
use spanwise_wire::view::{KeyValueView, span_attributes};
use spanwise_wire::{Batch, SpanRef};

use self::kinds::{AlwaysSample, Latency, NumericAttribute, StatusCode, StringAttribute};
use self::probabilistic::Probabilistic;
use super::config::PolicyConfig;
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
mod tests;
