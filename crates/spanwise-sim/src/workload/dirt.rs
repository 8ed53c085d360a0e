//! What happens to spans on their way: clocks that differ, spans that are lost, traces that are sampled away.

use std::collections::BTreeMap;

use spanwise_model::Trace;

use super::World;
use super::program::Convention;
use crate::rng::Rng;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dirt {
    Clean,
    /// Clocks a millisecond or two apart, a lost span now and then, a few services without attributes or routes.
    Light,
    /// No service knows a semantic convention.
    Names,
    /// Clean, but only every fourth trace is kept, as `ot=th` says.
    Sampled,
    /// Clocks up to 200 ms apart, a fiftieth of the spans and of the roots lost.
    Heavy,
}

impl Dirt {
    pub const ALL: [Dirt; 5] = [Dirt::Clean, Dirt::Light, Dirt::Names, Dirt::Sampled, Dirt::Heavy];

    pub fn as_str(self) -> &'static str {
        match self {
            Dirt::Clean => "clean",
            Dirt::Light => "light",
            Dirt::Names => "names only",
            Dirt::Sampled => "sampled",
            Dirt::Heavy => "heavy",
        }
    }

    pub fn trace_state(self) -> &'static str {
        match self {
            // Kept are those whose randomness is at least 0xc0... of 2^56: a quarter.
            Dirt::Sampled => "ot=th:c",
            _ => "",
        }
    }

    fn lost_spans(self) -> f64 {
        match self {
            Dirt::Light => 0.001,
            Dirt::Heavy => 0.02,
            _ => 0.0,
        }
    }

    fn lost_roots(self) -> f64 {
        match self {
            Dirt::Light => 0.001,
            Dirt::Heavy => 0.02,
            _ => 0.0,
        }
    }

    fn skew_us(self) -> f64 {
        match self {
            Dirt::Light => 1_000.0,
            Dirt::Heavy => 100_000.0,
            _ => 0.0,
        }
    }

    pub fn convention(self, rng: &mut Rng) -> Convention {
        match self {
            Dirt::Names => *rng.pick(&[Convention::Names, Convention::Names, Convention::NamesWithoutKinds]),
            Dirt::Light | Dirt::Heavy if rng.chance(0.15) => Convention::Names,
            _ => *rng.pick(&[Convention::Old, Convention::New]),
        }
    }

    pub fn has_raw_names(self, rng: &mut Rng) -> bool {
        match self {
            Dirt::Clean | Dirt::Sampled => false,
            _ => rng.chance(0.3),
        }
    }
}

/// How far each host's clock is off.
pub struct Clocks(BTreeMap<String, i64>);

impl Clocks {
    pub fn new(world: &World, rng: &mut Rng) -> Self {
        let mut offsets = BTreeMap::new();
        for service in &world.services {
            for pod in 1..=service.pods {
                let offset = world.spec.dirt.skew_us() * 1000.0 * rng.normal().clamp(-2.0, 2.0);
                offsets.insert(format!("{}-{pod}", service.name), offset as i64);
            }
        }
        Self(offsets)
    }
}

/// The trace as it arrives; `None` when nothing of it does.
pub fn soil(world: &World, clocks: &Clocks, mut trace: Trace, rng: &mut Rng) -> Option<Trace> {
    let dirt = world.spec.dirt;
    if dirt == Dirt::Sampled && trace.spans.first()?.span.trace_id.0[9] < 0xc0 {
        return None;
    }
    for span in &mut trace.spans {
        let host = span.resource.attributes.iter().find(|attribute| attribute.key == "host.name");
        let offset = host.and_then(|host| clocks.0.get(host.value.as_str()?)).copied().unwrap_or(0);
        span.span.start_unix_nano = span.span.start_unix_nano.saturating_add_signed(offset);
        span.span.end_unix_nano = span.span.end_unix_nano.saturating_add_signed(offset);
    }
    trace.spans.retain(|span| {
        let lost = if span.span.parent_span_id.is_none() { dirt.lost_roots() } else { dirt.lost_spans() };
        !rng.chance(lost)
    });
    if dirt != Dirt::Clean {
        rng.shuffle(&mut trace.spans);
    }
    (!trace.spans.is_empty()).then_some(trace)
}
