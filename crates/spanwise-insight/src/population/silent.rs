//! `silent_dependency`: what requests wait for without anybody at the entry point knowing.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value as Json, json};

use super::{Draft, Finding, Traces, View, percent, statistics};
use crate::row::{Dependency, DependencyKind, Name, Operation};
use crate::thresholds;

/// A dependency of one entry point.
struct Edge {
    entry: Operation,
    /// Rows in which it takes its share of the critical path, and that time.
    heavy: Vec<(usize, u64)>,
    /// Traces of the entry point since it appeared.
    since: Traces,
    /// And before.
    before: usize,
    heavy_adjusted: f64,
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
    let services: BTreeSet<&str> =
        view.rows.iter().flat_map(|row| &row.branches).map(|operation| view.text(operation.service)).collect();
    let is_uninstrumented = |name: Name| {
        let host = view.text(name);
        // A service by another name: `cart` is also `cart.shop.svc.cluster.local`.
        let is_service = services.contains(host) || services.contains(host.split('.').next().unwrap_or(host));
        !is_service && answered.get(&name).is_some_and(|(with, without)| with * 20 <= *without)
    };
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
        let known_by: BTreeSet<Name> =
            all.iter().filter(|edge| edge.is_called_by_entry).map(|edge| edge.entry.service).collect();
        let callers: BTreeSet<Name> = heavy.iter().flat_map(|edge| edge.callers.iter().copied()).collect();
        let is_shared =
            !is_known && heavy.len() >= thresholds::SHARED_ENTRY_POINTS && callers.len() >= thresholds::SHARED_CALLERS;
        // A store that one service alone calls is as far away as that service.
        let own = if dependency.kind == DependencyKind::Store && callers.len() == 1 { 1.0 } else { 0.0 };
        let reasons = |edge: &Edge| {
            let mut reasons = Vec::new();
            if is_host && !known_by.contains(&edge.entry.service) {
                reasons.push("it sends no spans, and the entry point's own service does not call it");
            }
            if edge.before >= thresholds::NEW_AFTER {
                reasons.push("it is new: earlier requests did without it");
            }
            if edge.depth - own >= thresholds::DEEP as f64 && !known_by.contains(&edge.entry.service) {
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
            let callers = meant.iter().flat_map(|(edge, _)| edge.callers.iter().copied()).collect();
            findings.push((dependency, callers, finding(view, dependency, &meant)));
        }
    }
    own_stores_belong_to_services(findings)
}

/// A store that one service alone calls is that service's: where both are found, it is one problem.
fn own_stores_belong_to_services(found: Vec<(Dependency, BTreeSet<Name>, Finding)>) -> Vec<Finding> {
    let is_service = |dependency: &Dependency| dependency.kind == DependencyKind::Service;
    let services: BTreeSet<Name> = found
        .iter()
        .filter(|(dependency, ..)| is_service(dependency))
        .map(|(dependency, ..)| dependency.name)
        .collect();
    let is_own =
        |callers: &BTreeSet<Name>| callers.len() == 1 && callers.iter().all(|caller| services.contains(caller));
    let kept = found
        .into_iter()
        .filter(|(dependency, callers, _)| dependency.kind != DependencyKind::Store || !is_own(callers));
    kept.map(|(.., finding)| finding).collect()
}

impl Edge {
    fn is_heavy(&self) -> bool {
        let share = self.heavy_adjusted / self.since.adjusted.max(1.0);
        self.since.seen >= thresholds::SEEN
            && self.heavy.len() >= thresholds::AFFECTED
            && share >= thresholds::DEPENDENCY_TRACES
    }
}

/// All dependencies of one entry point. `rows` are in order of start.
fn edges(view: &View<'_>, entry: Operation, rows: &[usize]) -> Vec<(Dependency, Edge)> {
    let mut found: BTreeMap<Dependency, (Edge, Vec<f64>)> = BTreeMap::new();
    // Weight of each row and all after it.
    let mut rest: Vec<f64> = rows.iter().map(|row| view.rows[*row].weight).collect();
    for position in (1..rest.len()).rev() {
        rest[position - 1] += rest[position];
    }
    for (position, number) in rows.iter().enumerate() {
        let row = &view.rows[*number];
        for part in &row.dependencies {
            let (edge, depths) = found.entry(part.dependency).or_insert_with(|| {
                let edge = Edge {
                    entry,
                    heavy: Vec::new(),
                    since: Traces { seen: rows.len() - position, adjusted: rest[position] },
                    before: position,
                    heavy_adjusted: 0.0,
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
                edge.heavy_adjusted += row.weight;
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
    let since: f64 = edges.iter().map(|(edge, _)| edge.since.adjusted).sum();
    let share_of_path =
        view.median(heavy.iter().map(|(row, ns)| (*row, *ns as f64 / view.rows[*row].duration_ns.max(1) as f64)));
    let share_of_traces = view.traces(&rows).adjusted / since.max(1.0);
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
    let (many, verb) = if entries.len() == 1 { ("", "waits") } else { ("s", "wait") };
    let title = format!(
        "{} entry point{many} {verb} for {name} behind {}: {} of the request",
        entries.len(),
        callers.iter().copied().collect::<Vec<_>>().join(", "),
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
    let seen = view.seen(&rows);
    view.finding(draft, &rows, seen, &costs)
}
