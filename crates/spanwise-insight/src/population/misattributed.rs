//! `misattributed_bottleneck`: the call that gets the blame is quick; the time lies around it.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Draft, Finding, View, ms, percent, statistics};
use crate::row::{Callee, Name, Operation, RowParts};
use crate::thresholds;

type Part = (&'static str, fn(&RowParts) -> u64);

const PARTS: [Part; 4] = [
    ("before", |parts| parts.before_ns),
    ("between", |parts| parts.between_ns),
    ("after", |parts| parts.after_ns),
    ("wire", |parts| parts.wire_ns),
];

pub fn find(view: &View<'_>) -> Vec<Finding> {
    let mut groups: BTreeMap<(Operation, Callee), Vec<(usize, &RowParts)>> = BTreeMap::new();
    for (number, row) in view.numbered() {
        for parts in &row.parts {
            groups.entry((parts.operation, parts.blamed)).or_default().push((number, parts));
        }
    }
    let mut findings = Vec::new();
    // Own time of an operation is one problem, whichever of its calls is the longest in a trace.
    let mut own: BTreeMap<(Operation, String), Vec<Blamed<'_>>> = BTreeMap::new();
    for ((operation, blamed), group) in groups {
        let Some(finding) = finding(view, operation, blamed, &group) else { continue };
        match part_of(&finding) {
            "wire" | "queue" => findings.push(finding),
            part => own.entry((operation, part.to_owned())).or_default().push((blamed, group, finding)),
        }
    }
    for ((operation, part), mut found) in own {
        found.sort_by_key(|(blamed, group, _)| (std::cmp::Reverse(group.len()), *blamed));
        let mut found = found.into_iter();
        let Some((blamed, mut group, mut most)) = found.next() else { continue };
        group.extend(found.flat_map(|(_, group, _)| group));
        group.sort_by_key(|(row, _)| *row);
        if let Some(all) = finding(view, operation, blamed, &group).filter(|all| part_of(all) == part) {
            most = all;
        }
        findings.push(most);
    }
    findings
}

/// Rows, and what each has of one operation.
type Group<'a> = Vec<(usize, &'a RowParts)>;
/// The call that is blamed in these rows, and what they show.
type Blamed<'a> = (Callee, Group<'a>, Finding);

fn part_of(finding: &Finding) -> &str {
    finding.subject["actual"]["part"].as_str().unwrap_or_default()
}

fn finding(view: &View<'_>, operation: Operation, blamed: Callee, group: &[(usize, &RowParts)]) -> Option<Finding> {
    let rows: Vec<usize> = group.iter().map(|(row, _)| *row).collect();
    let seen = view.seen(&rows);
    if rows.len() < thresholds::SEEN || !view.is_enough(&rows, seen) {
        return None;
    }
    let typical = |read: &dyn Fn(&RowParts) -> u64| {
        view.median(group.iter().map(|(row, parts)| (*row, read(parts) as f64 / 1e6)))
    };
    let (duration_ms, blamed_ms) = (typical(&|parts| parts.duration_ns), typical(&|parts| parts.blamed_ns));
    let found = PARTS.iter().map(|(name, read)| (*name, read, typical(read)));
    let (part, read, actual_ms) = found.max_by(|a, b| a.2.total_cmp(&b.2))?;
    // Time on the wire is part of the call that is blamed.
    let rest_ms = if part == "wire" { (blamed_ms - actual_ms).max(0.0) } else { blamed_ms };
    let share_of_trace = view.median(
        group.iter().map(|(row, parts)| (*row, read(parts) as f64 / view.rows[*row].duration_ns.max(1) as f64)),
    );
    if actual_ms < thresholds::MISATTRIBUTED_MS
        || actual_ms < duration_ms * thresholds::MISATTRIBUTED_SHARE
        || actual_ms < rest_ms * thresholds::MISATTRIBUTED_TIMES
        || share_of_trace < thresholds::CRITICAL_SHARE
    {
        return None;
    }
    // Nearly all of it before the server begins: the request waited in front of it.
    let is_queue = part == "wire" && typical(&|parts| parts.wire_out_ns) >= actual_ms * thresholds::QUEUE_SHARE;
    let part = if is_queue { "queue" } else { part };
    let grows_with = grows_with(view, group, read);
    let costs: Vec<u64> = group.iter().map(|(_, parts)| read(parts)).collect();
    let system = blamed.system.map(|system| view.text(system));
    let blamed_service = blamed.service.map(|service| view.text(service));
    let blamed_text = view.text(blamed.operation);
    let where_text = match part {
        "after" => format!("own time of {} after it", view.operation(operation)),
        "before" => format!("own time of {} before it", view.operation(operation)),
        "between" => format!("own time of {} between its calls", view.operation(operation)),
        "queue" => "the wait before it begins, on the way to it or in its queue".to_owned(),
        _ => "the wire to it and back".to_owned(),
    };
    let mut evidence = vec![
        format!(
            "medians over {} traces: {} takes {}, {where_text} {}",
            rows.len(),
            blamed_text,
            ms(rest_ms),
            ms(actual_ms)
        ),
        format!("{} of the operation's {}", percent(actual_ms / duration_ms.max(f64::MIN_POSITIVE)), ms(duration_ms)),
        "no span says what happens in that time: it is uninstrumented".to_owned(),
    ];
    if let Some((key, correlation)) = &grows_with {
        evidence.push(format!("it grows with {key} (rank correlation {correlation:.2})"));
    }
    let entries = view.entry_points(&rows);
    let entry_texts: Vec<String> = entries.iter().map(|entry| view.operation(*entry)).collect();
    evidence.push(format!("entry points: {}", entry_texts.join(", ")));
    let draft = Draft {
        kind: "misattributed_bottleneck",
        identity: vec![
            "misattributed_bottleneck".to_owned(),
            view.operation(operation),
            // Own time is the operation's, whichever call is blamed for it.
            if matches!(part, "wire" | "queue") { blamed_text.to_owned() } else { String::new() },
            part.to_owned(),
        ],
        title: format!("Not {blamed_text} ({}): {} is {where_text}", ms(rest_ms), ms(actual_ms)),
        service: view.text(operation.service).to_owned(),
        operation: entries.first().map(|entry| view.text(entry.operation).to_owned()).unwrap_or_default(),
        subject: json!({
            "blamed": {"service": blamed_service, "operation": blamed_text, "system": system},
            "actual": {
                "service": view.text(operation.service), "operation": view.text(operation.operation), "part": part,
            },
            "blamed_ms": super::round(rest_ms), "actual_ms": super::round(actual_ms),
            "grows_with": grows_with.map(|(key, _)| key),
        }),
        evidence,
    };
    Some(view.finding(draft, &rows, seen, &costs))
}

/// The size with which the part grows, if one does beyond doubt.
fn grows_with(view: &View<'_>, group: &[(usize, &RowParts)], read: &fn(&RowParts) -> u64) -> Option<(String, f64)> {
    let mut pairs: BTreeMap<Name, Vec<(f64, f64)>> = BTreeMap::new();
    for (_, parts) in group {
        for (key, value) in &parts.sizes {
            pairs.entry(*key).or_default().push((*value, read(parts) as f64));
        }
    }
    let tested = pairs.into_iter().filter(|(_, pairs)| pairs.len() >= thresholds::GROWS_SEEN);
    let found = tested.map(|(key, pairs)| (key, statistics::rank_correlation(&pairs)));
    let best = found.filter(|(_, correlation)| *correlation >= thresholds::GROWS).max_by(|a, b| a.1.total_cmp(&b.1));
    best.map(|(key, correlation)| (view.text(key).to_owned(), correlation))
}
