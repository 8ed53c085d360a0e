//! What one trace brings to the findings over many: small, and with every text replaced by a number.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hash, Hasher as _};

use rustc_hash::{FxBuildHasher, FxHashMap, FxHashSet};
use spanwise_model::{SpanKind, StatusCode, Trace, TraceId, Value};

use crate::calls::{Call, Category, call};
use crate::clock::aligned;
use crate::critical_path::Mode;
use crate::facts::{TraceFacts, facts_of_tree};
use crate::hidden::hidden_errors;
use crate::ledger::ledger;
use crate::repetition::{RepetitionKind, critical_below, repetitions};
use crate::tree::Tree;
use crate::weight::adjusted_count;

/// Texts by number: names repeat in every trace.
#[derive(Default)]
pub struct Names {
    numbers: FxHashMap<String, Name>,
    texts: Vec<String>,
    /// By number, once asked: whether an attribute of that key tells nothing.
    tells_nothing: Vec<Option<bool>>,
}

pub type Name = u32;

impl Names {
    pub fn number(&mut self, text: &str) -> Name {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = self.texts.len() as Name;
        self.texts.push(text.to_owned());
        self.numbers.insert(text.to_owned(), number);
        number
    }

    /// [`tells_nothing`] of a key, looked into once: keys repeat in every span.
    fn tells_nothing(&mut self, key: Name) -> bool {
        let place = key as usize;
        if self.tells_nothing.len() <= place {
            self.tells_nothing.resize(place + 1, None);
        }
        if let Some(Some(known)) = self.tells_nothing.get(place) {
            return *known;
        }
        let tells_nothing = tells_nothing(self.text(key));
        if let Some(slot) = self.tells_nothing.get_mut(place) {
            *slot = Some(tells_nothing);
        }
        tells_nothing
    }

    pub fn text(&self, number: Name) -> &str {
        self.texts.get(number as usize).map_or("", String::as_str)
    }

    /// In order of their numbers.
    pub fn texts(&self) -> &[String] {
        &self.texts
    }
}

/// A service and one of its normalised operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Operation {
    pub service: Name,
    pub operation: Name,
}

/// Whom a call goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
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
    pub critical_ns: u64,
    pub callers: Vec<Name>,
    /// Calls from the entry point's service.
    pub depth: u32,
}

/// An operation that calls others, and where its own time lies around them.
#[derive(Debug, Clone)]
pub struct RowParts {
    pub operation: Operation,
    pub duration_ns: u64,
    pub blamed: Callee,
    pub blamed_ns: u64,
    /// Own time before the first call, between calls, after the last one.
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
    /// Key and value of attributes of any span, each once, in order.
    pub attributes: Vec<(Name, Name)>,
    /// Operations of all its spans and their time on the critical path, longest first.
    pub branches: Vec<(Operation, u64)>,
    /// Peers that were called by name, and whether they answered with spans.
    pub peers: Vec<(Name, bool)>,
}

/// Changes when a field is added, or when the same spans give another row.
pub const ROW_VERSION: u32 = 3;

/// Attributes kept of one trace: beyond it a trace is no example of anything in particular.
const ATTRIBUTES: usize = 256;
/// Longest value that is compared.
const VALUE_BYTES: usize = 128;

/// Reads one trace. `None` when it has no span that could be an entry point.
pub fn trace_row(trace: &Trace, names: &mut Names) -> Option<TraceRow> {
    let tree = Tree::of(trace);
    let aligned = aligned(trace, &tree);
    let trace = &*aligned;
    let facts = facts_of_tree(trace, tree, Mode::Spanwise);
    let calls: Vec<Call> = trace.spans.iter().map(call).collect();
    let root = facts.root?;
    let services: Vec<Name> = trace.spans.iter().map(|span| names.number(span.resource.service_name())).collect();
    let operations: Vec<Operation> = calls
        .iter()
        .zip(&services)
        .map(|(call, service)| Operation { service: *service, operation: names.number(&call.operation) })
        .collect();
    let below = critical_below(&facts);
    let callee = |place: usize, names: &mut Names| {
        let answering = facts.tree.children[place].iter().find(|child| services[**child] != services[place]);
        let own = &calls[place];
        let service = match answering {
            Some(child) => Some(services[*child]),
            None if !own.is_outgoing => Some(services[place]),
            None => own.peer.as_deref().map(|peer| names.number(peer)),
        };
        Callee {
            service,
            operation: operations[place].operation,
            system: own.system.as_deref().map(|system| names.number(system)),
        }
    };
    let mut repeats = Vec::new();
    let groups = repetitions(trace, &facts, &calls);
    for group in &groups {
        repeats.push(RowRepetition {
            kind: group.kind,
            caller: operations[group.caller],
            callee: callee(group.calls[0], names),
            count: group.calls.len() as u32,
            critical_ns: group.critical_ns,
            turn: group.turn as u32,
        });
    }
    let hidden = hidden_errors(trace, &facts, &calls, &groups).into_iter().map(|error| RowHidden {
        born: operations[error.born],
        swallowed_by: operations[error.swallowed_by],
        critical_ns: below[error.top],
    });
    let hidden = hidden.collect();
    let (dependencies, peers) = dependencies(&facts, &calls, &services, &operations, root, names);
    let mut branches: BTreeMap<Operation, u64> = BTreeMap::new();
    for (operation, span) in operations.iter().zip(&facts.spans) {
        *branches.entry(*operation).or_default() += span.critical_ns;
    }
    let mut branches: Vec<_> = branches.into_iter().collect();
    branches.sort_by_key(|(_, ns)| std::cmp::Reverse(*ns));
    let parts = parts(trace, &facts, &calls, &operations, |place, names| callee(place, names), names);
    Some(TraceRow {
        trace_id: trace.spans[root].span.trace_id,
        start_unix_nano: facts.start_unix_nano,
        duration_ns: facts.duration_ns,
        spans: trace.spans.len() as u32,
        weight: adjusted_count(trace),
        entry: operations[root],
        is_rooted: !facts.tree.orphan[root],
        shape: shape(trace, &facts, &calls, root),
        repetitions: repeats,
        hidden,
        dependencies,
        parts,
        attributes: attributes(trace, names),
        branches,
        peers,
    })
}

fn dependencies(
    facts: &TraceFacts,
    calls: &[Call],
    services: &[Name],
    operations: &[Operation],
    root: usize,
    names: &mut Names,
) -> (Vec<RowDependency>, Vec<(Name, bool)>) {
    let entry = services[root];
    // Calls from the entry point's service, parents before children.
    let mut hops = vec![0u32; services.len()];
    let mut order: Vec<usize> = facts.tree.roots.clone();
    let mut at = 0;
    while at < order.len() {
        let place = order[at];
        at += 1;
        for child in &facts.tree.children[place] {
            hops[*child] = hops[place] + u32::from(services[*child] != services[place]);
            order.push(*child);
        }
    }
    let mut found: BTreeMap<Dependency, RowDependency> = BTreeMap::new();
    let mut peers: Vec<(Name, bool)> = Vec::new();
    let mut known_peers: FxHashSet<(Name, bool)> = FxHashSet::default();
    for place in order {
        let own = &calls[place];
        let answering = facts.tree.children[place].iter().copied().find(|child| services[*child] != services[place]);
        if own.is_outgoing
            && matches!(own.category, Category::Http | Category::Rpc)
            && let Some(peer) = &own.peer
        {
            let peer = (names.number(peer), answering.is_some());
            if known_peers.insert(peer) {
                peers.push(peer);
            }
        }
        let is_inner = facts.tree.parent[place].is_some_and(|parent| calls[parent].category == Category::Database);
        let (dependency, operation, caller, depth) = match (own.is_outgoing, own.category, answering) {
            (true, Category::Database, _) => {
                let system = own.system.as_deref().map(|system| names.number(system));
                // Without a name of its own a store is its caller's: two services' databases are not one.
                let name = match own.peer.as_deref() {
                    Some(peer) => names.number(peer),
                    None => {
                        let system = own.system.as_deref().unwrap_or("database");
                        let name = format!("{system} of {}", names.text(services[place]));
                        names.number(&name)
                    }
                };
                let dependency = Dependency { kind: DependencyKind::Store, name, system };
                (dependency, operations[place].operation, services[place], hops[place] + 1)
            }
            (true, _, Some(child)) => {
                // The wire belongs to the call.
                let dependency = Dependency { kind: DependencyKind::Service, name: services[child], system: None };
                (dependency, operations[child].operation, services[place], hops[child])
            }
            (true, Category::Http | Category::Rpc, None) if own.peer.is_some() => {
                let name = names.number(own.peer.as_deref().unwrap_or_default());
                let dependency = Dependency { kind: DependencyKind::Host, name, system: None };
                (dependency, operations[place].operation, services[place], hops[place] + 1)
            }
            _ => {
                let caller = facts.tree.parent[place].map_or(services[place], |parent| services[parent]);
                let dependency = Dependency { kind: DependencyKind::Service, name: services[place], system: None };
                (dependency, operations[place].operation, caller, hops[place])
            }
        };
        if (dependency.kind == DependencyKind::Service && dependency.name == entry) || is_inner {
            continue;
        }
        let mut add = |dependency: Dependency, operation: Name, depth: u32| {
            let part = found.entry(dependency).or_insert_with(|| RowDependency {
                dependency,
                operation,
                critical_ns: 0,
                callers: Vec::new(),
                depth,
            });
            part.critical_ns += facts.spans[place].critical_ns;
            part.depth = part.depth.min(depth);
            let is_self = dependency.kind == DependencyKind::Service && caller == dependency.name;
            if !is_self && !part.callers.contains(&caller) {
                part.callers.push(caller);
            }
        };
        add(dependency, operation, depth);
        // What a service waits for its own store is its own time as well.
        if dependency.kind == DependencyKind::Store && services[place] != entry {
            let service = Dependency { kind: DependencyKind::Service, name: services[place], system: None };
            add(service, operations[place].operation, hops[place]);
        }
    }
    (found.into_values().collect(), peers)
}

/// Numbers in attributes with such a word in their key say how much was handled.
const SIZE_WORDS: [&str; 9] = ["size", "length", "rows", "count", "bytes", "items", "total", "results", "records"];

fn parts(
    trace: &Trace,
    facts: &TraceFacts,
    calls: &[Call],
    operations: &[Operation],
    callee: impl Fn(usize, &mut Names) -> Callee,
    names: &mut Names,
) -> Vec<RowParts> {
    let least_ns = (crate::thresholds::MISATTRIBUTED_MS * 1e6) as u64;
    let entries: FxHashMap<usize, _> =
        ledger(trace, facts, calls).into_iter().map(|entry| (entry.client, entry)).collect();
    let mut parts: Vec<RowParts> = Vec::new();
    let mut numbers: FxHashMap<Operation, usize> = FxHashMap::default();
    for place in 0..trace.spans.len() {
        let span = &trace.spans[place].span;
        let is_operation = matches!(span.kind, SpanKind::Server | SpanKind::Consumer) || facts.root == Some(place);
        if !(is_operation || span.duration_ns() >= least_ns) || calls[place].is_outgoing {
            continue;
        }
        let within = outgoing_below(facts, calls, operations, place);
        let outgoing = || within.iter().copied();
        let longest = |places: &mut dyn Iterator<Item = usize>| {
            places.max_by_key(|child| (trace.spans[*child].span.duration_ns(), std::cmp::Reverse(*child)))
        };
        let database = longest(&mut outgoing().filter(|child| calls[*child].category == Category::Database));
        let Some(blamed) = database.or_else(|| longest(&mut outgoing())) else { continue };
        let children = || facts.tree.children[place].iter().map(|child| &trace.spans[*child].span);
        let first = children().map(|child| child.start_unix_nano).min().unwrap_or(span.start_unix_nano);
        let last = children().map(|child| child.end_unix_nano).max().unwrap_or(span.end_unix_nano);
        let before_ns = first.saturating_sub(span.start_unix_nano);
        let after_ns = span.end_unix_nano.saturating_sub(last);
        let own = [&span.attributes, &trace.spans[blamed].span.attributes];
        let sizes = own.into_iter().flatten().filter_map(|attribute| {
            let value = match attribute.value {
                Value::Int(value) => value as f64,
                Value::Double(value) => value,
                _ => return None,
            };
            let key = attribute.key.to_ascii_lowercase();
            SIZE_WORDS.iter().any(|word| key.contains(word)).then_some((&attribute.key, value))
        });
        let sizes: Vec<(Name, f64)> = sizes.map(|(key, value)| (names.number(key), value)).collect();
        let row = RowParts {
            operation: operations[place],
            duration_ns: span.duration_ns(),
            blamed: callee(blamed, names),
            blamed_ns: trace.spans[blamed].span.duration_ns(),
            before_ns,
            between_ns: facts.spans[place].self_ns.saturating_sub(before_ns + after_ns),
            after_ns,
            wire_ns: entries.get(&blamed).map_or(0, |entry| entry.wire_total_ns),
            wire_out_ns: entries.get(&blamed).map_or(0, |entry| entry.wire_out_ns),
            sizes,
        };
        // Of several of one operation the longest stands for the trace.
        match numbers.get(&row.operation).and_then(|number| parts.get_mut(*number)) {
            Some(other) if other.duration_ns < row.duration_ns => *other = row,
            Some(_) => {}
            None => {
                numbers.insert(row.operation, parts.len());
                parts.push(row);
            }
        }
    }
    parts
}

/// Calls that a span makes itself or behind at most two spans of its own service.
fn outgoing_below(facts: &TraceFacts, calls: &[Call], operations: &[Operation], place: usize) -> Vec<usize> {
    let mut found = Vec::new();
    let mut level = vec![place];
    for _ in 0..=crate::thresholds::WRAPPERS {
        let mut next = Vec::new();
        for child in level.iter().flat_map(|above| &facts.tree.children[*above]).copied() {
            if calls[child].is_outgoing {
                found.push(child);
            } else if operations[child].service == operations[place].service {
                next.push(child);
            }
        }
        level = next;
    }
    found
}

/// Attributes whose values follow from the outcome or differ from machine to machine without a cause in the request.
pub(crate) fn tells_nothing(key: &str) -> bool {
    const WORDS: [&str; 14] = [
        "status_code",
        "exception.",
        "error",
        "otel.",
        "thread.",
        ".port",
        "duration",
        "traceid",
        "trace_id",
        "span_id",
        "process.pid",
        "telemetry.",
        "code.",
        "user_agent",
    ];
    WORDS.iter().any(|word| key.contains(word))
}

pub(crate) fn attributes(trace: &Trace, names: &mut Names) -> Vec<(Name, Name)> {
    let mut found = Vec::new();
    let mut add = |key: &str, value: &str, names: &mut Names| {
        if value.len() > VALUE_BYTES || found.len() >= 4 * ATTRIBUTES {
            return;
        }
        let key = names.number(key);
        if !names.tells_nothing(key) {
            found.push((key, names.number(value)));
        }
    };
    let mut last_resource = std::ptr::null();
    for span in &trace.spans {
        let resource = std::sync::Arc::as_ptr(&span.resource);
        let of_resource = if resource == last_resource { &[][..] } else { &span.resource.attributes[..] };
        last_resource = resource;
        for attribute in span.span.attributes.iter().chain(of_resource) {
            match &attribute.value {
                Value::Str(text) => {
                    if matches!(attribute.key.as_str(), "url.query" | "url.full" | "http.url" | "http.target") {
                        let query = match attribute.key.as_str() {
                            "url.query" => text.as_str(),
                            _ => text.split_once('?').map_or("", |(_, query)| query),
                        };
                        for (key, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
                            add(&format!("url.query.{key}"), value, names);
                        }
                    } else {
                        add(&attribute.key, text, names);
                    }
                }
                Value::Bool(value) => add(&attribute.key, if *value { "true" } else { "false" }, names),
                Value::Int(value) => add(&attribute.key, &value.to_string(), names),
                _ => {}
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    found.truncate(ATTRIBUTES);
    found
}

/// A hash of the tree in which repeats and the order of children do not matter, nor how often beyond a rough class.
fn shape(trace: &Trace, facts: &TraceFacts, calls: &[Call], root: usize) -> u64 {
    let mut order = vec![root];
    let mut at = 0;
    while at < order.len() {
        order.extend_from_slice(&facts.tree.children[order[at]]);
        at += 1;
    }
    let mut hashes = vec![0u64; trace.spans.len()];
    for place in order.into_iter().rev() {
        let span = &trace.spans[place];
        let mut children: Vec<u64> = facts.tree.children[place].iter().map(|child| hashes[*child]).collect();
        children.sort_unstable();
        let mut hasher = FxBuildHasher.build_hasher();
        span.resource.service_name().hash(&mut hasher);
        calls[place].operation.hash(&mut hasher);
        (span.span.kind, span.span.status.code == StatusCode::Error).hash(&mut hasher);
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
    hashes[root]
}
