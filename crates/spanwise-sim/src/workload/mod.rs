//! The workload world: services that answer requests, with problems planted in some and look-alikes in all.
//!
//! A seed draws the services, their call graph, how they name their spans, what is wrong with them and what only looks
//! wrong. Requests are then run on paper ([`run`]), so that the true critical path is known, and made dirty ([`dirt`]).

pub mod base;
pub mod dirt;
pub mod naming;
pub mod plant;
pub mod program;
pub mod run;

use spanwise_model::Trace;

use crate::rng::Rng;
use crate::score::Problem;
pub use dirt::Dirt;
use program::{Operation, Service};
use run::{Request, Run, Runner, TruePath};

#[derive(Debug, Clone, Copy)]
pub struct WorldSpec {
    pub seed: u64,
    pub dirt: Dirt,
    pub traces: u64,
    /// Problems are planted; look-alikes always are.
    pub has_problems: bool,
}

/// An operation that requests enter by, and how many of them do.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    pub operation: usize,
    pub weight: u64,
}

#[derive(Debug, Clone)]
pub struct World {
    pub spec: WorldSpec,
    pub services: Vec<Service>,
    pub operations: Vec<Operation>,
    pub entries: Vec<Entry>,
    pub problems: Vec<Problem>,
    requests: Rng,
}

/// A trace as it arrives, and as it truly was.
#[derive(Debug, Clone)]
pub struct Arrived {
    pub trace: Trace,
    /// By name of the service.
    pub true_path: Vec<(String, u64)>,
}

impl World {
    pub fn new(spec: WorldSpec) -> Self {
        let mut rng = Rng::new(spec.seed);
        let requests = rng.split();
        let mut world = Self {
            spec,
            services: Vec::new(),
            operations: Vec::new(),
            entries: Vec::new(),
            problems: Vec::new(),
            requests,
        };
        base::build(&mut world, &mut rng.split());
        plant::look_alikes(&mut world, &mut rng.split());
        if spec.has_problems {
            plant::problems(&mut world, &mut rng.split());
        }
        world
    }

    /// Every trace that reaches the store, in order of start.
    pub fn traces(&self) -> impl Iterator<Item = Arrived> + '_ {
        let mut rng = self.requests.clone();
        let offsets = dirt::Clocks::new(self, &mut rng.split());
        let total: u64 = self.entries.iter().map(|entry| entry.weight).sum();
        let mut at = 1_760_000_000_000_000_000u64;
        let drawn = (0..self.spec.traces).map(move |number| {
            at += rng.latency(40_000.0, 0.8);
            let mut own = rng.split();
            let mut place = own.between(0, total - 1);
            let entry = self.entries.iter().find(|entry| {
                let is_it = place < entry.weight;
                place = place.wrapping_sub(entry.weight);
                is_it
            });
            let entry = entry.map_or(0, |entry| entry.operation);
            let request = self.request(number, &mut own);
            let run = Runner::new(self, own.split(), request, self.spec.dirt.trace_state().to_owned()).run(entry, at);
            (run, own)
        });
        drawn.filter_map(move |(run, mut own)| {
            let Run { trace, path } = run;
            let trace = dirt::soil(self, &offsets, trace, &mut own)?;
            Some(Arrived { trace, true_path: self.named(path) })
        })
    }

    fn named(&self, path: TruePath) -> Vec<(String, u64)> {
        path.into_iter().map(|(service, ns)| (self.services[service].name.clone(), ns)).collect()
    }

    fn request(&self, number: u64, rng: &mut Rng) -> Request {
        // Most have few items, some many.
        let size = (6.0 + 12.0 * -(1.0 - rng.unit()).max(1e-9).ln()).min(60.0) as u64;
        let region = *rng.pick(&["eu-west", "eu-central", "us-east", "us-west", "ap-south"]);
        let tier = if rng.chance(0.1) { "gold" } else { "basic" };
        let card = if rng.chance(0.025) { "old" } else { "new" };
        let partner = if rng.chance(0.03) { "acme" } else { "none" };
        let flaky = if rng.chance(0.15) { "yes" } else { "no" };
        let experiment = rng.between(1, 40);
        let traits = vec![
            ("app.region", region.to_owned()),
            ("app.tier", tier.to_owned()),
            ("app.card", card.to_owned()),
            ("app.partner", partner.to_owned()),
            ("app.flaky", flaky.to_owned()),
            ("app.experiment", format!("exp-{experiment}")),
        ];
        Request { number, size, traits }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_world() {
        let spec = WorldSpec { seed: 5, dirt: Dirt::Clean, traces: 50, has_problems: true };
        let (a, b) = (World::new(spec), World::new(spec));
        let traces: Vec<Trace> = a.traces().map(|arrived| arrived.trace).collect();
        assert_eq!(traces, b.traces().map(|arrived| arrived.trace).collect::<Vec<_>>());
        assert_eq!(traces.len(), 50);
        assert!(a.problems.len() >= 7, "{:?}", a.problems);
        let sampled = World::new(WorldSpec { dirt: Dirt::Sampled, traces: 400, ..spec });
        let kept = sampled.traces().count();
        assert!((60..140).contains(&kept), "{kept}");
    }

    #[test]
    fn the_true_path_fills_the_root_of_a_clean_trace() {
        for seed in 1..6 {
            let world = World::new(WorldSpec { seed, dirt: Dirt::Clean, traces: 100, has_problems: true });
            for arrived in world.traces() {
                let root = arrived.trace.spans.iter().find(|span| span.span.parent_span_id.is_none()).unwrap();
                let sum: u64 = arrived.true_path.iter().map(|(_, ns)| ns).sum();
                assert_eq!(sum, root.span.duration_ns(), "{}", root.span.name);
            }
        }
    }
}
