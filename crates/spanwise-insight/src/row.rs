//! What one trace brings to the findings over many: small, and with every text replaced by a number.

use std::hash::{BuildHasher as _, Hash, Hasher as _};

use rustc_hash::FxBuildHasher;
use spanwise_model::{SpanKind, Trace, TraceId};

use crate::analysis::{Analysed, Analysis};
use crate::attributes::AttributeSet;
use crate::calls::Category;
use crate::facts::SpanTimes;
use crate::hidden::{HiddenError, hidden_errors};
use crate::ledger::Wire;
use crate::names::Joint;
use crate::repetition::{Repetition, RepetitionKind};
use crate::thresholds;
use crate::view::SpanView;

pub use crate::names::{Name, Names};

/// A service and one of its normalised operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Operation {
    pub service: Name,
    pub operation: Name,
}

/// Whom a call goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Callee {
    pub service: Option<Name>,
    pub operation: Name,
    pub system: Option<Name>,
}

#[derive(Debug, Clone, Copy)]
pub struct RowRepetition {
    pub kind: RepetitionKind,
    pub caller: Operation,
    pub callee: Callee,
    pub count: u32,
    pub critical_ns: u64,
    /// Repetitions of one trace with the same number take turns: one loop that makes several calls.
    pub turn: u32,
}

#[derive(Debug, Clone, Copy)]
pub struct RowHidden {
    pub born: Operation,
    pub swallowed_by: Operation,
    pub critical_ns: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DependencyKind {
    Service,
    /// Named by its callers alone: it sent no spans in this trace.
    Host,
    /// A database, cache or broker.
    Store,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Dependency {
    pub kind: DependencyKind,
    pub name: Name,
    pub system: Option<Name>,
}

#[derive(Debug, Clone)]
pub struct RowDependency {
    pub dependency: Dependency,
    pub operation: Name,
    /// 0 where it is less than [`thresholds::DEPENDENCY_SHARE`] of the trace: less matters to nobody.
    pub critical_ns: u64,
    pub callers: Vec<Name>,
    /// Calls from the entry point's service.
    pub depth: u32,
}

/// An operation that calls others, and where its own time lies around them.
#[derive(Debug, Clone)]
pub struct RowParts {
    pub operation: Operation,
    /// 0 where it is less than [`thresholds::MISATTRIBUTED_LEAST_MS`] and so is every part of it: it lies below any
    /// median that is reported.
    pub duration_ns: u64,
    pub blamed: Callee,
    pub blamed_ns: u64,
    /// Own time before the first call, between calls, after the last one. This and the wire are 0 where they are less
    /// than [`thresholds::MISATTRIBUTED_LEAST_MS`].
    pub before_ns: u64,
    pub between_ns: u64,
    pub after_ns: u64,
    /// On the wire to the one blamed and back, and there alone.
    pub wire_ns: u64,
    pub wire_out_ns: u64,
    /// Numbers that say how much was handled: rows, bytes, items.
    pub sizes: Vec<(Name, f64)>,
}

/// One trace: all that findings over many are made of, and the only per-trace result. Whoever keeps rows keeps these.
///
/// Stable: the meaning of each field, that rows of the same trace are equal whatever order its spans came in (up to the
/// numbers of names), and that a later row of the same trace, made of more of its spans, replaces the earlier one as a
/// whole. Not stable: the set of fields, which grows. A stored row therefore bears [`ROW_VERSION`], and rows of other
/// versions are made anew from the spans.
#[derive(Debug, Clone)]
pub struct TraceRow {
    pub trace_id: TraceId,
    pub start_unix_nano: u64,
    /// Of the root, or from first start to last end without one.
    pub duration_ns: u64,
    pub spans: u32,
    /// Traces it stands for, itself included, where others were sampled away: see [`crate::weight`].
    pub weight: f64,
    /// The root's, or that of the earliest root where the true one is missing.
    pub entry: Operation,
    /// The entry is a span without a parent; otherwise its parent was not received.
    pub is_rooted: bool,
    pub shape: u64,
    pub repetitions: Vec<RowRepetition>,
    pub hidden: Vec<RowHidden>,
    pub dependencies: Vec<RowDependency>,
    pub parts: Vec<RowParts>,
    /// Key and value of attributes of any span, each once. In order where the row was made; what kept rows does not keep it.
    pub attributes: Vec<(Name, Name)>,
    /// Operations of all its spans: first the one that takes most of the critical path, then the others in order.
    pub branches: Vec<Operation>,
    /// What the first of them takes of it.
    pub longest_ns: u64,
    /// Peers that were called by name, and whether they answered with spans.
    pub peers: Vec<(Name, bool)>,
}

/// Of a hash of a shape. Among 100,000 shapes two are alike in one store of 200: these are counted together.
pub const SHAPE_BITS: u32 = 40;

/// A shape as people and APIs see it.
pub fn shape_text(shape: u64) -> String {
    format!("{shape:010x}")
}

/// What [`shape_text`] made of a shape; `None` for other texts.
pub fn shape_of_text(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok().filter(|shape| shape_text(*shape) == text)
}

/// Changes when a field is added, or when the same spans give another row.
pub const ROW_VERSION: u32 = 7;

/// Reads one trace. `None` when it has no span that could be an entry point.
pub fn trace_row(trace: &Trace, names: &mut Names) -> Option<TraceRow> {
    RowReader::default().row(trace, names)
}

/// Reads one decoded trace after the other, all with the same names; its memory serves again.
pub struct RowReader {
    analysis: Analysis,
    set: AttributeSet,
}

impl Default for RowReader {
    fn default() -> Self {
        Self { analysis: Analysis::default(), set: AttributeSet::of_row() }
    }
}

impl RowReader {
    /// As [`trace_row`].
    pub fn row(&mut self, trace: &Trace, names: &mut Names) -> Option<TraceRow> {
        self.analysis.read(trace, names);
        let outline = self.analysis.outline(names)?;
        let mut row = self.analysis.row(outline, names)?;
        row.attributes = self.set.of_trace(trace, names);
        Some(row)
    }
}

/// What a trace shows at a glance: enough to tell whether its row is wanted.
pub struct Outline {
    pub entry: Operation,
    pub start_unix_nano: u64,
    pub shape: u64,
    repetitions: Vec<Repetition>,
    hidden: Vec<HiddenError>,
}

impl Outline {
    /// Of each group of calls that repeat.
    pub fn repetitions(&self) -> impl Iterator<Item = RepetitionKind> {
        self.repetitions.iter().map(|group| group.kind)
    }

    pub fn has_hidden_errors(&self) -> bool {
        !self.hidden.is_empty()
    }
}

impl Analysis {
    /// `None` without a span that could be an entry point.
    pub fn outline(&mut self, names: &mut Names) -> Option<Outline> {
        let repetitions = self.repetitions(names);
        let mut memory = std::mem::take(&mut self.memory);
        let outline = self.analysed().map(|trace| Outline {
            entry: trace.operation(trace.root),
            start_unix_nano: trace.start_unix_nano,
            shape: shape(&trace, names, &mut memory),
            hidden: hidden_errors(&trace, &repetitions),
            repetitions,
        });
        self.memory = memory;
        outline
    }

    /// The row, but for its attributes: see [`AttributeSet`]. The outline is that of the same trace.
    pub fn row(&mut self, outline: Outline, names: &mut Names) -> Option<TraceRow> {
        let mut memory = std::mem::take(&mut self.memory);
        let row = self.row_with(outline, names, &mut memory);
        self.memory = memory;
        row
    }

    fn row_with(&self, outline: Outline, names: &mut Names, memory: &mut Memory) -> Option<TraceRow> {
        let trace = self.analysed()?;
        let repetitions = outline.repetitions.iter().map(|group| RowRepetition {
            kind: group.kind,
            caller: trace.operation(group.caller),
            callee: group.calls.first().map_or(Callee::default(), |call| trace.callee(*call)),
            count: group.calls.len() as u32,
            critical_ns: group.critical_ns,
            turn: group.turn as u32,
        });
        let hidden = outline.hidden.iter().map(|error| RowHidden {
            born: trace.operation(error.born),
            swallowed_by: trace.operation(error.swallowed_by),
            critical_ns: self.below[error.top],
        });
        let (dependencies, peers) = dependencies(&trace, names, memory);
        let (branches, longest_ns) = branches(&trace, memory);
        Some(TraceRow {
            trace_id: self.trace_id,
            start_unix_nano: outline.start_unix_nano,
            duration_ns: trace.duration_ns,
            spans: trace.spans.len() as u32,
            weight: self.weight(),
            entry: outline.entry,
            is_rooted: !trace.tree.orphan[trace.root],
            shape: outline.shape,
            repetitions: repetitions.collect(),
            hidden: hidden.collect(),
            dependencies,
            parts: parts(&trace, memory),
            attributes: Vec::new(),
            branches,
            longest_ns,
            peers,
        })
    }

    /// That of the row.
    pub fn shape(&mut self, names: &Names) -> Option<u64> {
        let mut memory = std::mem::take(&mut self.memory);
        let shape = self.analysed().map(|trace| shape(&trace, names, &mut memory));
        self.memory = memory;
        shape
    }
}

/// What making a row needs room for; serves again for the next trace.
#[derive(Default)]
pub(crate) struct Memory {
    hashes: Vec<u64>,
    children: Vec<u64>,
    hops: Vec<u32>,
    shares: Vec<Share>,
    /// A peer, whether it answered, and how many came before it.
    peers: Vec<(Name, bool, usize)>,
    branches: Vec<(Operation, u64)>,
    within: Below,
    blamed: Vec<Blamed>,
}

impl Analysed<'_> {
    fn operation(&self, place: usize) -> Operation {
        Operation { service: self.spans[place].service, operation: self.calls[place].operation }
    }

    /// The first child in another service.
    fn answering(&self, place: usize) -> Option<usize> {
        let service = self.spans[place].service;
        self.tree.children[place].iter().copied().find(|child| self.spans[*child].service != service)
    }

    fn callee(&self, place: usize) -> Callee {
        let call = &self.calls[place];
        let service = match self.answering(place) {
            Some(child) => Some(self.spans[child].service),
            None if !call.is_outgoing => Some(self.spans[place].service),
            None => call.peer,
        };
        Callee { service, operation: call.operation, system: call.system }
    }
}

/// Operations of all spans, first the longest, of equals the first in order of names; and its time.
fn branches(trace: &Analysed<'_>, memory: &mut Memory) -> (Vec<Operation>, u64) {
    let branches = &mut memory.branches;
    let of_span = |(place, times): (usize, &SpanTimes)| (trace.operation(place), times.critical_ns);
    branches.clear();
    branches.extend(trace.times.iter().enumerate().map(of_span));
    branches.sort_unstable_by_key(|(operation, _)| *operation);
    branches.dedup_by(|next, kept| {
        let is_same = next.0 == kept.0;
        kept.1 += if is_same { next.1 } else { 0 };
        is_same
    });
    let longest = (0..branches.len()).max_by_key(|place| (branches[*place].1, std::cmp::Reverse(*place))).unwrap_or(0);
    if let Some(before) = branches.get_mut(..=longest) {
        before.rotate_right(1);
    }
    let longest_ns = branches.first().map_or(0, |(_, ns)| *ns);
    (branches.iter().map(|(operation, _)| *operation).collect(), longest_ns)
}

/// What one span adds to a dependency.
#[derive(Debug, Clone, Copy)]
struct Share {
    dependency: Dependency,
    /// How many came before it.
    number: usize,
    operation: Name,
    critical_ns: u64,
    caller: Name,
    depth: u32,
}

fn dependencies(
    trace: &Analysed<'_>,
    names: &mut Names,
    memory: &mut Memory,
) -> (Vec<RowDependency>, Vec<(Name, bool)>) {
    let Memory { hops, shares, peers, .. } = memory;
    let service = |place: usize| trace.spans[place].service;
    let entry = service(trace.root);
    // Calls from the entry point's service.
    hops.clear();
    hops.resize(trace.spans.len(), 0);
    shares.clear();
    peers.clear();
    for place in trace.tree.parents_first().iter().copied() {
        let parent = trace.tree.parent[place];
        if let Some(parent) = parent {
            hops[place] = hops[parent] + u32::from(service(place) != service(parent));
        }
        let call = &trace.calls[place];
        let answering = if call.is_outgoing { trace.answering(place) } else { None };
        if call.is_outgoing
            && matches!(call.category, Category::Http | Category::Rpc)
            && let Some(peer) = call.peer
        {
            peers.push((peer, answering.is_some(), peers.len()));
        }
        let is_inner = parent.is_some_and(|parent| trace.calls[parent].category == Category::Database);
        let (dependency, operation, caller, depth) = match (call.is_outgoing, call.category, answering) {
            (true, Category::Database, _) => {
                // Without a name of its own a store is its caller's: two services' databases are not one.
                let name = match call.peer {
                    Some(peer) => peer,
                    None => {
                        let system = call.system.unwrap_or_else(|| names.number("database"));
                        names.joined(Joint::Of, system, service(place))
                    }
                };
                let dependency = Dependency { kind: DependencyKind::Store, name, system: call.system };
                (dependency, call.operation, service(place), hops[place] + 1)
            }
            (true, _, Some(child)) => {
                // The wire belongs to the call.
                let dependency = Dependency { kind: DependencyKind::Service, name: service(child), system: None };
                (dependency, trace.calls[child].operation, service(place), hops[place] + 1)
            }
            (true, Category::Http | Category::Rpc, None) if call.peer.is_some() => {
                let name = call.peer.unwrap_or_default();
                let dependency = Dependency { kind: DependencyKind::Host, name, system: None };
                (dependency, call.operation, service(place), hops[place] + 1)
            }
            _ => {
                let caller = parent.map_or(service(place), service);
                let dependency = Dependency { kind: DependencyKind::Service, name: service(place), system: None };
                (dependency, call.operation, caller, hops[place])
            }
        };
        if (dependency.kind == DependencyKind::Service && dependency.name == entry) || is_inner {
            continue;
        }
        let critical_ns = trace.times[place].critical_ns;
        shares.push(Share { dependency, number: shares.len(), operation, critical_ns, caller, depth });
        // What a service waits for its own store is its own time as well.
        if dependency.kind == DependencyKind::Store && service(place) != entry {
            let dependency = Dependency { kind: DependencyKind::Service, name: service(place), system: None };
            let (number, operation, depth) = (shares.len(), call.operation, hops[place]);
            shares.push(Share { dependency, number, operation, critical_ns, caller, depth });
        }
    }
    let least_ns = (trace.duration_ns as f64 * thresholds::DEPENDENCY_SHARE) as u64;
    let mut found = summed(shares);
    for dependency in found.iter_mut().filter(|dependency| dependency.critical_ns < least_ns) {
        dependency.critical_ns = 0;
    }
    (found, each_once(peers))
}

/// One for each dependency, in their order; of operations the first is kept, of callers each.
fn summed(shares: &mut [Share]) -> Vec<RowDependency> {
    shares.sort_unstable_by_key(|share| (share.dependency, share.number));
    let mut found = Vec::with_capacity(shares.chunk_by(|a, b| a.dependency == b.dependency).count());
    for shares in shares.chunk_by(|a, b| a.dependency == b.dependency) {
        let Some(&Share { dependency, operation, .. }) = shares.first() else { continue };
        let mut callers: Vec<Name> = Vec::new();
        for caller in shares.iter().map(|share| share.caller) {
            let is_self = dependency.kind == DependencyKind::Service && caller == dependency.name;
            if !is_self && !callers.contains(&caller) {
                callers.push(caller);
            }
        }
        found.push(RowDependency {
            dependency,
            operation,
            critical_ns: shares.iter().map(|share| share.critical_ns).sum(),
            callers,
            depth: shares.iter().map(|share| share.depth).min().unwrap_or(0),
        });
    }
    found
}

/// In the order in which they came.
fn each_once(peers: &mut Vec<(Name, bool, usize)>) -> Vec<(Name, bool)> {
    peers.sort_unstable();
    peers.dedup_by_key(|(peer, is_answered, _)| (*peer, *is_answered));
    peers.sort_unstable_by_key(|(.., number)| *number);
    peers.iter().map(|(peer, is_answered, _)| (*peer, *is_answered)).collect()
}

/// An operation's span, and which of its calls gets the blame for its time.
#[derive(Debug, Clone, Copy)]
struct Blamed {
    operation: Operation,
    duration_ns: u64,
    place: usize,
    call: usize,
    /// Where the first span of the operation stands.
    first: usize,
}

fn parts(trace: &Analysed<'_>, memory: &mut Memory) -> Vec<RowParts> {
    let least_ns = (thresholds::MISATTRIBUTED_MS * 1e6) as u64;
    let Memory { within, blamed, .. } = memory;
    blamed.clear();
    for (place, span) in trace.spans.iter().enumerate() {
        let is_operation = matches!(span.kind, SpanKind::Server | SpanKind::Consumer) || trace.root == place;
        if !(is_operation || span.duration_ns() >= least_ns) || trace.calls[place].is_outgoing {
            continue;
        }
        within.fill(trace, place);
        // Calls of databases before others, long ones before short ones, and of those the first.
        let call = within.outgoing.iter().copied().max_by_key(|call| {
            let is_database = trace.calls[*call].category == Category::Database;
            (is_database, trace.spans[*call].duration_ns(), std::cmp::Reverse(*call))
        });
        let Some(call) = call else { continue };
        let (operation, duration_ns) = (trace.operation(place), span.duration_ns());
        blamed.push(Blamed { operation, duration_ns, place, call, first: place });
    }
    // Of several of one operation the longest stands for the trace.
    blamed.sort_unstable_by_key(|span| (span.operation, std::cmp::Reverse(span.duration_ns), span.place));
    blamed.dedup_by(|next, kept| {
        let is_same = next.operation == kept.operation;
        kept.first = if is_same { kept.first.min(next.first) } else { kept.first };
        is_same
    });
    blamed.sort_unstable_by_key(|span| span.first);
    blamed.iter().map(|span| parts_of(trace, span.place, span.call)).collect()
}

/// Where the own time of a span lies around its calls; `blamed` is one of them.
fn parts_of(trace: &Analysed<'_>, place: usize, blamed: usize) -> RowParts {
    let span = &trace.spans[place];
    let children = || trace.tree.children[place].iter().map(|child| &trace.spans[*child]);
    let first = children().map(|child| child.start_unix_nano).min().unwrap_or(span.start_unix_nano);
    let last = children().map(|child| child.end_unix_nano).max().unwrap_or(span.end_unix_nano);
    let before_ns = first.saturating_sub(span.start_unix_nano);
    let after_ns = span.end_unix_nano.saturating_sub(last);
    let client = &trace.spans[blamed];
    let mut servers = trace.tree.children[blamed].iter().map(|child| &trace.spans[*child]);
    let wire = servers.find(|child| child.kind == SpanKind::Server).map_or(Wire::default(), |server| {
        let of = |span: &SpanView| (span.start_unix_nano, span.duration_ns());
        Wire::of(of(client), of(server))
    });
    let least_ns = (thresholds::MISATTRIBUTED_LEAST_MS * 1e6) as u64;
    let kept = |ns: u64| if ns < least_ns { 0 } else { ns };
    let wire_ns = kept(wire.total_ns);
    let own = [before_ns, trace.times[place].self_ns.saturating_sub(before_ns + after_ns), after_ns].map(kept);
    let has_own = wire_ns > 0 || own.iter().any(|ns| *ns > 0);
    let [before_ns, between_ns, after_ns] = own;
    RowParts {
        operation: trace.operation(place),
        duration_ns: if has_own { span.duration_ns() } else { kept(span.duration_ns()) },
        blamed: trace.callee(blamed),
        blamed_ns: client.duration_ns(),
        before_ns,
        between_ns,
        after_ns,
        wire_ns,
        wire_out_ns: if wire_ns == 0 { 0 } else { wire.out_ns },
        sizes: [trace.sizes(place), trace.sizes(blamed)].concat(),
    }
}

/// Calls that a span makes itself or behind at most two spans of its own service.
#[derive(Default)]
struct Below {
    outgoing: Vec<usize>,
    level: Vec<usize>,
    next: Vec<usize>,
}

impl Below {
    fn fill(&mut self, trace: &Analysed<'_>, place: usize) {
        let service = trace.spans[place].service;
        self.outgoing.clear();
        self.level.clear();
        self.level.push(place);
        for _ in 0..=thresholds::WRAPPERS {
            self.next.clear();
            for child in self.level.iter().flat_map(|above| &trace.tree.children[*above]).copied() {
                if trace.calls[child].is_outgoing {
                    self.outgoing.push(child);
                } else if trace.spans[child].service == service {
                    self.next.push(child);
                }
            }
            std::mem::swap(&mut self.level, &mut self.next);
        }
    }
}

/// A hash of the tree in which repeats and the order of children do not matter, nor how often beyond a rough class.
fn shape(trace: &Analysed<'_>, names: &Names, memory: &mut Memory) -> u64 {
    let Memory { hashes, children, .. } = memory;
    hashes.clear();
    hashes.resize(trace.spans.len(), 0);
    // Children before parents; spans below other roots do no harm.
    for place in trace.tree.parents_first().iter().rev().copied() {
        let span = &trace.spans[place];
        children.clear();
        children.extend(trace.tree.children[place].iter().map(|child| hashes[*child]));
        if children.len() > 1 {
            children.sort_unstable();
        }
        let mut hasher = FxBuildHasher.build_hasher();
        names.hash(span.service).hash(&mut hasher);
        names.hash(trace.calls[place].operation).hash(&mut hasher);
        (span.kind, span.is_error()).hash(&mut hasher);
        let mut rest = &children[..];
        while let Some(first) = rest.first() {
            let count = rest.iter().take_while(|hash| *hash == first).count();
            let class = match count {
                1 => 1u8,
                2..=4 => 2,
                5..=9 => 3,
                10..=49 => 4,
                _ => 5,
            };
            (*first, class).hash(&mut hasher);
            rest = &rest[count..];
        }
        hashes[place] = hasher.finish();
    }
    let hash = hashes[trace.root];
    (hash ^ hash >> SHAPE_BITS) & ((1 << SHAPE_BITS) - 1)
}
