//! Compares findings with what is true.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::Value as Json;
use spanwise_insight::clock::{Offsets, aligned, aligned_by};
use spanwise_insight::population::{Finding, Population};
use spanwise_insight::{Tree, trace_facts};
use spanwise_model::Trace;

use crate::discoveries::{Discoveries, Entries};
use crate::workload::{Dirt, World, WorldSpec};

/// One thing that is wrong, and how a finding that means it is known.
#[derive(Debug, Clone)]
pub struct Problem {
    pub kind: &'static str,
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
enum Rule {
    Is(String, String),
    Has(String, String),
    Mentions(String, String),
}

impl Problem {
    pub fn new(kind: &'static str) -> Self {
        Self { kind, rules: Vec::new() }
    }

    /// The text at this place of the finding.
    pub fn is(mut self, place: &str, text: String) -> Self {
        self.rules.push(Rule::Is(place.to_owned(), text));
        self
    }

    /// The text at this place has these letters.
    pub fn has(mut self, place: &str, text: String) -> Self {
        self.rules.push(Rule::Has(place.to_owned(), text.to_lowercase()));
        self
    }

    /// So has something below this place.
    pub fn mentions(mut self, place: &str, text: String) -> Self {
        self.rules.push(Rule::Mentions(place.to_owned(), text));
        self
    }

    pub fn is_meant_by(&self, finding: &Finding) -> bool {
        let json = serde_json::to_value(finding).unwrap_or(Json::Null);
        let at = |place: &str| json.pointer(place).cloned().unwrap_or(Json::Null);
        self.kind == finding.kind
            && self.rules.iter().all(|rule| match rule {
                Rule::Is(place, text) => at(place) == text.as_str(),
                Rule::Has(place, text) => at(place).as_str().is_some_and(|own| own.to_lowercase().contains(text)),
                Rule::Mentions(place, text) => at(place).to_string().contains(text),
            })
    }
}

pub const KINDS: [&str; 7] = [
    "n_plus_one",
    "fan_out",
    "silent_dependency",
    "slow_rare_path",
    "misattributed_bottleneck",
    "hidden_error",
    "retry_storm",
];

#[derive(Debug, Clone, Copy, Default)]
pub struct Count {
    pub planted: usize,
    /// Problems that some finding means.
    pub found: usize,
    /// Findings that mean a problem.
    pub right: usize,
    /// Findings that mean none.
    pub wrong: usize,
}

impl Count {
    fn add(&mut self, other: &Count) {
        self.planted += other.planted;
        self.found += other.found;
        self.right += other.right;
        self.wrong += other.wrong;
    }

    pub fn precision(&self) -> f64 {
        self.found as f64 / (self.right + self.wrong).max(1) as f64
    }

    pub fn recall(&self) -> f64 {
        self.found as f64 / self.planted.max(1) as f64
    }

    pub fn findings_per_problem(&self) -> f64 {
        self.right as f64 / self.found.max(1) as f64
    }
}

/// What became of one world, or of several together.
#[derive(Debug, Clone, Default)]
pub struct Score {
    pub kinds: BTreeMap<&'static str, Count>,
    pub traces: u64,
    pub spans: u64,
    /// Sum over traces of half the difference between the shares of services on the path found and on the true one.
    pub path_error: f64,
    /// The same with times set right by one offset for each pair of hosts, told from all traces of the world.
    pub path_error_by_pairs: f64,
    /// Time that the analysis of single traces took.
    pub analysis_ns: u64,
    /// Problems that nothing meant and findings that meant nothing, to look at.
    pub misses: Vec<String>,
    /// Of comparisons of traces drawn by lot, and of the slowest, with the rest of their entry point.
    pub by_lot: Discoveries,
    pub slowest: Discoveries,
}

impl Score {
    pub fn add(&mut self, other: Score) {
        for (kind, count) in other.kinds {
            self.kinds.entry(kind).or_default().add(&count);
        }
        self.traces += other.traces;
        self.spans += other.spans;
        self.path_error += other.path_error;
        self.path_error_by_pairs += other.path_error_by_pairs;
        self.analysis_ns += other.analysis_ns;
        self.misses.extend(other.misses);
        self.by_lot.add(&other.by_lot);
        self.slowest.add(&other.slowest);
    }

    pub fn wrong(&self) -> usize {
        self.kinds.values().map(|count| count.wrong).sum()
    }

    pub fn analysis_ns_per_span(&self) -> u64 {
        self.analysis_ns / self.spans.max(1)
    }

    /// Mean share of a trace's time that is laid at the wrong service's door.
    pub fn mean_path_error(&self) -> f64 {
        self.path_error / self.traces.max(1) as f64
    }

    pub fn mean_path_error_by_pairs(&self) -> f64 {
        self.path_error_by_pairs / self.traces.max(1) as f64
    }
}

pub fn score(spec: WorldSpec) -> Score {
    let world = World::new(spec);
    let mut population = Population::default();
    let mut score = Score::default();
    let mut offsets = Offsets::default();
    world.traces().for_each(|arrived| offsets.add(&arrived.trace));
    let mut entries = Entries::default();
    for arrived in world.traces() {
        score.traces += 1;
        score.spans += arrived.trace.spans.len() as u64;
        // On the times that findings are made of: where raw ones cannot be true they are set right.
        let tree = Tree::of(&arrived.trace);
        score.path_error += path_error(&aligned(&arrived.trace, &tree), &arrived.true_path);
        score.path_error_by_pairs += path_error(&aligned_by(&arrived.trace, &tree, &offsets).0, &arrived.true_path);
        let started = Instant::now();
        population.add(&arrived.trace);
        score.analysis_ns += u64::try_from(started.elapsed().as_nanos()).unwrap_or(0);
        entries.add(arrived.trace);
    }
    (score.by_lot, score.slowest) = entries.discoveries();
    let findings = population.finish().findings;
    judge(&mut score, &world, &findings);
    score
}

fn judge(score: &mut Score, world: &World, findings: &[Finding]) {
    let name = format!("seed {} {}", world.spec.seed, world.spec.dirt.as_str());
    for kind in KINDS {
        score.kinds.entry(kind).or_default();
    }
    for problem in &world.problems {
        let count = score.kinds.entry(problem.kind).or_default();
        count.planted += 1;
        let meant = findings.iter().filter(|finding| problem.is_meant_by(finding)).count();
        count.found += usize::from(meant > 0);
        count.right += meant;
        if meant != 1 {
            score.misses.push(format!("{name}: {meant} findings for {problem:?}"));
        }
    }
    for finding in findings {
        if !world.problems.iter().any(|problem| problem.is_meant_by(finding)) {
            score.kinds.entry(finding.kind).or_default().wrong += 1;
            score.misses.push(format!(
                "{name}: wrong {}: {} [{}] {} {} of {}",
                finding.kind,
                finding.title,
                finding.operation,
                finding.subject,
                finding.traces_affected,
                finding.traces_seen
            ));
        }
    }
}

/// Half the sum of differences between the shares of each service.
fn path_error(trace: &Trace, true_path: &[(String, u64)]) -> f64 {
    let facts = trace_facts(trace);
    let mut shares: BTreeMap<&str, f64> = BTreeMap::new();
    let total = facts.duration_ns.max(1) as f64;
    for service in &facts.critical_by_service {
        *shares.entry(&service.service).or_default() += service.ns as f64 / total;
    }
    let truth: u64 = true_path.iter().map(|(_, ns)| ns).sum();
    for (service, ns) in true_path {
        *shares.entry(service).or_default() -= *ns as f64 / truth.max(1) as f64;
    }
    shares.values().map(|difference| difference.abs()).sum::<f64>() / 2.0
}

/// Traces that worlds of development have.
pub const WORLD_TRACES: u64 = 6_000;

pub fn worlds(dirt: Dirt, seeds: std::ops::Range<u64>, traces: u64, has_problems: bool) -> Score {
    let mut sum = Score::default();
    // Of sampled worlds as many traces arrive as of the others.
    let traces = if dirt == Dirt::Sampled { 4 * traces } else { traces };
    for seed in seeds {
        sum.add(score(WorldSpec { seed, dirt, traces, has_problems }));
    }
    sum
}
