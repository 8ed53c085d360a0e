//! `hidden_error`: errors below requests that succeed, by where they are born and who swallows them.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Draft, Finding, View, ms, percent};
use crate::row::Operation;

pub fn find(view: &View<'_>) -> Vec<Finding> {
    let mut groups: BTreeMap<(Operation, Operation), Vec<(usize, u64)>> = BTreeMap::new();
    for (number, row) in view.numbered() {
        for hidden in &row.hidden {
            let group = groups.entry((hidden.born, hidden.swallowed_by)).or_default();
            match group.last_mut() {
                Some((last, ns)) if *last == number => *ns += hidden.critical_ns,
                _ => group.push((number, hidden.critical_ns)),
            }
        }
    }
    groups.into_iter().filter_map(|((born, by), group)| finding(view, born, by, &group)).collect()
}

fn finding(view: &View<'_>, born: Operation, by: Operation, group: &[(usize, u64)]) -> Option<Finding> {
    let rows: Vec<usize> = group.iter().map(|(row, _)| *row).collect();
    let seen = view.seen(&rows);
    if !view.is_enough(&rows, seen) {
        return None;
    }
    let costs: Vec<u64> = group.iter().map(|(_, ns)| *ns).collect();
    let typical_ms = view.median(group.iter().map(|(row, ns)| (*row, *ns as f64 / 1e6)));
    let share = view.traces(&rows).adjusted / seen.adjusted.max(1.0);
    let entries = view.entry_points(&rows);
    let entry_texts: Vec<String> = entries.iter().map(|entry| view.operation(*entry)).collect();
    let place = |operation: Operation| json!({"service": view.text(operation.service), "operation": view.text(operation.operation)});
    let title = format!(
        "{} fails in {} of the requests, and {} does not say so",
        view.operation(born),
        percent(share),
        view.operation(by)
    );
    let draft = Draft {
        kind: "hidden_error",
        identity: vec!["hidden_error".to_owned(), view.operation(born), view.operation(by)],
        title,
        service: view.text(by.service).to_owned(),
        operation: entries.first().map(|entry| view.text(entry.operation).to_owned()).unwrap_or_default(),
        subject: json!({"born": place(born), "swallowed_by": place(by), "share_of_traces": super::round(share)}),
        evidence: vec![
            format!("{} of {} requests succeed although it failed", rows.len(), seen.seen),
            format!("the failing call takes {} of the request in the median", ms(typical_ms)),
            format!("entry points: {}", entry_texts.join(", ")),
        ],
    };
    Some(view.finding(draft, &rows, seen, &costs))
}
