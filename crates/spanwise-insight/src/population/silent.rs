//! `silent_dependency`: what requests wait for without anybody at the entry point knowing.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value as Json, json};

use super::{Draft, Finding, View, percent, statistics};
use crate::row::{Dependency, DependencyKind, Name, Operation};
use crate::thresholds;

/// A dependency of one entry point.
struct Edge {
    entry: Operation,
    /// Rows in which it takes its share of the critical path, and that time.
    heavy: Vec<(usize, u64)>,
    /// Traces of the entry point since it appeared.
    since: usize,
    /// And before.
    before: usize,
    callers: BTreeSet<Name>,
    operations: BTreeMap<Name, usize>,
    /// Calls from the entry point's service, in most traces.
    depth: f64,
    is_called_by_entry: bool,
    first_seen_unix_nano: u64,
}

pub fn find(view: &View<'_>) -> Vec<Finding> {
    let mut answered: BTreeMap<Name, (usize, usize)> = BTreeMap::new();
    for (peer, is_answered) in view.rows.iter().flat_map(|row| &row.peers) {
        let counts = answered.entry(*peer).or_default();
        if *is_answered { counts.0 += 1 } else { counts.1 += 1 }
    }
    let is_uninstrumented = |name: Name| answered.get(&name).is_some_and(|(with, without)| with * 20 <= *without);
    let mut dependencies: BTreeMap<Dependency, Vec<Edge>> = BTreeMap::new();
    for (entry, rows) in &view.entries {
        for (dependency, edge) in edges(view, *entry, rows) {
            dependencies.entry(dependency).or_default().push(edge);
        }
    }
    let mut findings = Vec::new();
    for (dependency, all) in dependencies {
        // A host that answers with spans elsewhere only lost them here.
        let is_host = dependency.kind == DependencyKind::Host;
        if is_host && !is_uninstrumented(dependency.name) {
            continue;
        }
        let heavy: Vec<&Edge> = all.iter().filter(|edge| edge.is_heavy()).collect();
        let is_known = all.iter().any(|edge| edge.is_called_by_entry);
        let callers: BTreeSet<Name> = heavy.iter().flat_map(|edge| edge.callers.iter().copied()).collect();
        let is_shared =
            !is_known && heavy.len() >= thresholds::SHARED_ENTRY_POINTS && callers.len() >= thresholds::SHARED_CALLERS;
        let reasons = |edge: &Edge| {
            let mut reasons = Vec::new();
            if is_host && !edge.is_called_by_entry {
                reasons.push("it sends no spans, and the entry point's own service does not call it");
            }
            if edge.before >= thresholds::NEW_AFTER {
                reasons.push("it is new: earlier requests did without it");
            }
            if edge.depth >= thresholds::DEEP as f64 && !edge.is_called_by_entry {
                reasons.push("it lies three or more calls behind the entry point");
            }
            if is_shared {
                reasons.push("several entry points wait for it through others, and none of them calls it");
            }
            reasons
        };
        let meant: Vec<(&Edge, Vec<&'static str>)> =
            heavy.into_iter().map(|edge| (edge, reasons(edge))).filter(|(_, reasons)| !reasons.is_empty()).collect();
        if !meant.is_empty() {
            findings.push(finding(view, dependency, &meant));
        }
    }
    findings
}

impl Edge {
    fn is_heavy(&self) -> bool {
        let share = self.heavy.len() as f64 / self.since.max(1) as f64;
        self.since >= thresholds::SEEN
            && self.heavy.len() >= thresholds::AFFECTED
            && share >= thresholds::DEPENDENCY_TRACES
    }
}

/// All dependencies of one entry point. `rows` are in order of start.
fn edges(view: &View<'_>, entry: Operation, rows: &[usize]) -> Vec<(Dependency, Edge)> {
    let mut found: BTreeMap<Dependency, (Edge, Vec<f64>)> = BTreeMap::new();
    for (position, number) in rows.iter().enumerate() {
        let row = &view.rows[*number];
        for part in &row.dependencies {
            let (edge, depths) = found.entry(part.dependency).or_insert_with(|| {
                let edge = Edge {
                    entry,
                    heavy: Vec::new(),
                    since: rows.len() - position,
                    before: position,
                    callers: BTreeSet::new(),
                    operations: BTreeMap::new(),
                    depth: 0.0,
                    is_called_by_entry: false,
                    first_seen_unix_nano: row.start_unix_nano,
                };
                (edge, Vec::new())
            });
            depths.push(f64::from(part.depth));
            edge.is_called_by_entry |= part.callers.contains(&entry.service);
            if part.critical_ns as f64 >= row.duration_ns as f64 * thresholds::DEPENDENCY_SHARE {
                edge.heavy.push((*number, part.critical_ns));
                edge.callers.extend(&part.callers);
                *edge.operations.entry(part.operation).or_default() += 1;
            }
        }
    }
    let done = |(dependency, (mut edge, depths)): (Dependency, (Edge, Vec<f64>))| {
        edge.depth = statistics::median(depths);
        (dependency, edge)
    };
    found.into_iter().map(done).collect()
}

fn finding(view: &View<'_>, dependency: Dependency, edges: &[(&Edge, Vec<&'static str>)]) -> Finding {
    let heavy: Vec<(usize, u64)> = edges.iter().flat_map(|(edge, _)| edge.heavy.iter().copied()).collect();
    let rows: Vec<usize> = heavy.iter().map(|(row, _)| *row).collect();
    let costs: Vec<u64> = heavy.iter().map(|(_, ns)| *ns).collect();
    let since: usize = edges.iter().map(|(edge, _)| edge.since).sum();
    let share_of_path = statistics::median(
        heavy.iter().map(|(row, ns)| *ns as f64 / view.rows[*row].duration_ns.max(1) as f64).collect(),
    );
    let share_of_traces = rows.len() as f64 / since.max(1) as f64;
    let name = view.text(dependency.name);
    let callers: BTreeSet<&str> =
        edges.iter().flat_map(|(edge, _)| &edge.callers).map(|name| view.text(*name)).collect();
    let mut operations: BTreeMap<Name, usize> = BTreeMap::new();
    for (operation, count) in edges.iter().flat_map(|(edge, _)| &edge.operations) {
        *operations.entry(*operation).or_default() += count;
    }
    let operation = operations.into_iter().max_by_key(|(_, count)| *count).map(|(operation, _)| view.text(operation));
    let entries = view.entry_points(&rows);
    let entry_texts: Vec<String> = entries.iter().map(|entry| view.operation(*entry)).collect();
    let first_seen = edges.iter().map(|(edge, _)| edge.first_seen_unix_nano).min().unwrap_or(0);
    let system = dependency.system.map(|system| view.text(system));
    let is_host = dependency.kind == DependencyKind::Host;
    let mut place = serde_json::Map::new();
    place.insert(if is_host { "host" } else { "service" }.to_owned(), json!(name));
    place.insert("operation".to_owned(), json!(operation));
    place.insert("system".to_owned(), json!(system));
    let reasons: BTreeSet<&str> = edges.iter().flat_map(|(_, reasons)| reasons.iter().copied()).collect();
    let mut evidence = vec![
        format!("{} of the critical path in the median of {} traces", percent(share_of_path), rows.len()),
        format!("at least a tenth of it in {} of the traces of {}", percent(share_of_traces), entry_texts.join(", ")),
        format!("called by {}", callers.iter().copied().collect::<Vec<_>>().join(", ")),
    ];
    evidence.extend(reasons.into_iter().map(str::to_owned));
    let title = format!(
        "{} entry point{} wait for {name}, which none of them calls: {} of the request",
        entries.len(),
        if entries.len() == 1 { "" } else { "s" },
        percent(share_of_path)
    );
    let draft = Draft {
        kind: "silent_dependency",
        identity: vec!["silent_dependency".to_owned(), name.to_owned(), system.unwrap_or_default().to_owned()],
        title,
        service: name.to_owned(),
        operation: entries.first().map(|entry| view.text(entry.operation).to_owned()).unwrap_or_default(),
        subject: json!({
            "dependency": Json::Object(place), "via": callers, "entry_points": entry_texts,
            "share_of_traces": super::round(share_of_traces), "share_of_critical_path": super::round(share_of_path),
            "uninstrumented": is_host, "first_seen": first_seen,
        }),
        evidence,
    };
    let seen = edges.iter().filter_map(|(edge, _)| view.entries.get(&edge.entry)).map(Vec::len).sum();
    view.finding(draft, &rows, seen, &costs)
}
