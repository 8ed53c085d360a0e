//! `n_plus_one`, `fan_out` and `retry_storm`: one finding for each caller and callee, whatever the entry points.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Draft, Finding, View, ms, percent, statistics};
use crate::repetition::RepetitionKind;
use crate::row::{Callee, Operation};
use crate::thresholds;

type Key = (RepetitionKind, Operation, Callee);

/// Row, count and critical time of each trace that has the group.
type Group = Vec<(usize, u32, u64)>;

pub fn find(view: &View<'_>) -> Vec<Finding> {
    let mut groups: BTreeMap<Key, Group> = BTreeMap::new();
    for (number, row) in view.rows.iter().enumerate() {
        for repetition in &row.repetitions {
            let group = groups.entry((repetition.kind, repetition.caller, repetition.callee)).or_default();
            match group.last_mut() {
                // Twice in one trace: the larger is its count, and both cost.
                Some((last, count, ns)) if *last == number => {
                    *count = (*count).max(repetition.count);
                    *ns += repetition.critical_ns;
                }
                _ => group.push((number, repetition.count, repetition.critical_ns)),
            }
        }
    }
    groups.into_iter().filter_map(|(key, group)| finding(view, &key, &group)).collect()
}

fn finding(view: &View<'_>, (kind, caller, callee): &Key, group: &Group) -> Option<Finding> {
    let rows: Vec<usize> = group.iter().map(|(row, ..)| *row).collect();
    let seen = view.seen(&rows);
    if !view.is_enough(rows.len(), seen) {
        return None;
    }
    let costs: Vec<u64> = group.iter().map(|(.., ns)| *ns).collect();
    let share = statistics::median(
        group.iter().map(|(row, _, ns)| *ns as f64 / view.rows[*row].duration_ns.max(1) as f64).collect(),
    );
    let typical_ms = statistics::median(costs.iter().map(|ns| *ns as f64 / 1e6).collect());
    let is_felt = share >= thresholds::CRITICAL_SHARE && typical_ms >= thresholds::CRITICAL_MS;
    let mut counts: Vec<f64> = group.iter().map(|(_, count, _)| f64::from(*count)).collect();
    counts.sort_by(f64::total_cmp);
    let [p50, p95, max] = [0.5, 0.95, 1.0].map(|q| statistics::quantile(&counts, q) as u64);
    let is_constant = counts.len() >= thresholds::CONSTANT_IN
        && counts.first() == counts.last()
        && max as usize <= thresholds::CONSTANT_UP_TO;
    if !view.is_single && (!is_felt || is_constant) {
        return None;
    }
    let caller_json = json!({"service": view.text(caller.service), "operation": view.text(caller.operation)});
    let system = callee.system.map(|system| view.text(system));
    let service = callee.service.map(|service| view.text(service));
    let callee_json = json!({"service": service, "operation": view.text(callee.operation), "system": system});
    let entries = view.entry_points(&rows);
    let entry_texts: Vec<String> = entries.iter().map(|entry| view.operation(*entry)).collect();
    let callee_text = match service {
        Some(service) => format!("{} ({service})", view.text(callee.operation)),
        None => view.text(callee.operation).to_owned(),
    };
    let saving_ms = typical_ms * (p50.max(1) - 1) as f64 / p50.max(1) as f64;
    let serial = *kind != RepetitionKind::FanOut;
    let (name, title) = match kind {
        RepetitionKind::NPlusOne => (
            "n_plus_one",
            format!(
                "{} makes {p50} calls one by one: {callee_text}, {} of the request, {}",
                view.operation(*caller),
                percent(share),
                ms(typical_ms)
            ),
        ),
        RepetitionKind::FanOut => (
            "fan_out",
            format!("{} makes {p50} calls at once: {callee_text}, {}", view.operation(*caller), ms(typical_ms)),
        ),
        RepetitionKind::RetryStorm => (
            "retry_storm",
            format!("{} tries {p50} times and fails: {callee_text}, {}", view.operation(*caller), ms(typical_ms)),
        ),
    };
    let mut evidence = vec![
        format!("calls per request: median {p50}, 95th percentile {p95}, most {max}"),
        format!("{} of the critical path in the median of {} traces", percent(share), rows.len()),
        format!("entry points: {}", entry_texts.join(", ")),
    ];
    let subject = match kind {
        RepetitionKind::RetryStorm => {
            json!({"caller": caller_json, "callee": callee_json, "attempts": {"p50": p50, "max": max}})
        }
        _ => {
            evidence.push(format!("one call for all would save at most {}: an upper bound", ms(saving_ms)));
            json!({
                "caller": caller_json, "callee": callee_json, "repeats": {"p50": p50, "p95": p95, "max": max},
                "serial": serial, "saving_ms": super::round(saving_ms),
            })
        }
    };
    let identity = [name, &view.operation(*caller), &callee_text, system.unwrap_or_default()].map(str::to_owned);
    let draft = Draft {
        kind: name,
        identity: identity.to_vec(),
        title,
        service: view.text(caller.service).to_owned(),
        operation: entries.first().map(|entry| view.text(entry.operation).to_owned()).unwrap_or_default(),
        subject,
        evidence,
    };
    Some(view.finding(draft, &rows, seen, &costs))
}
