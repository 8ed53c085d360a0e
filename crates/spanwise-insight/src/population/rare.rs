//! `slow_rare_path`: few requests that take many times as long as the rest, and what they have in common.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Draft, Finding, View, ms, percent, statistics};
use crate::row::{Name, Operation};
use crate::thresholds;

/// What requests may have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Trait {
    Attribute(Name, Name),
    /// A call that the others do not make.
    Branch(Operation),
}

struct Cohort {
    what: Trait,
    /// Positions among the entry point's rows, ascending.
    members: Vec<u32>,
    slow: usize,
    p_value: f64,
}

pub fn find(view: &View<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (entry, rows) in &view.entries {
        if rows.len() >= thresholds::RARE_SEEN {
            findings.extend(of_entry(view, *entry, rows));
        }
    }
    findings
}

fn of_entry(view: &View<'_>, entry: Operation, rows: &[usize]) -> Vec<Finding> {
    let duration_ms = |position: u32| view.rows[rows[position as usize]].duration_ns as f64 / 1e6;
    let median_ms = statistics::median((0..rows.len() as u32).map(duration_ms).collect());
    let is_slow = |position: u32| duration_ms(position) >= thresholds::TIMES_SLOWER * median_ms;
    let slow = (0..rows.len() as u32).filter(|position| is_slow(*position)).count();
    if slow < thresholds::AFFECTED || median_ms <= 0.0 {
        return Vec::new();
    }
    let most = (rows.len() as f64 * thresholds::RARE_SHARE) as usize;
    let mut members: BTreeMap<Trait, Vec<u32>> = BTreeMap::new();
    for (position, row) in rows.iter().enumerate() {
        let row = &view.rows[*row];
        let attributes = row.attributes.iter().map(|(key, value)| Trait::Attribute(*key, *value));
        let branches = row.branches.iter().map(|(operation, _)| Trait::Branch(*operation));
        for what in attributes.chain(branches) {
            members.entry(what).or_default().push(position as u32);
        }
    }
    let rate = slow as f64 / rows.len() as f64;
    let tested: Vec<Cohort> = members
        .into_iter()
        .filter(|(_, members)| (thresholds::AFFECTED..=most).contains(&members.len()))
        .map(|(what, members)| {
            let slow = members.iter().filter(|position| is_slow(**position)).count();
            let p_value = statistics::binomial_tail(slow, members.len(), rate);
            Cohort { what, members, slow, p_value }
        })
        .collect();
    let p_values: Vec<f64> = tested.iter().map(|cohort| cohort.p_value).collect();
    let bound = statistics::discovery_bound(&p_values, thresholds::FALSE_DISCOVERY_RATE);
    let mut explaining: Vec<Cohort> = tested
        .into_iter()
        .filter(|cohort| {
            let cohort_ms = statistics::median(cohort.members.iter().map(|p| duration_ms(*p)).collect());
            cohort.p_value <= bound
                && cohort.slow as f64 >= cohort.members.len() as f64 * thresholds::RARE_PRECISION
                && cohort_ms >= thresholds::TIMES_SLOWER * median_ms
        })
        .collect();
    // What explains most comes first; of equals an attribute before a branch, the shorter key before the longer.
    explaining.sort_by_key(|cohort| (std::cmp::Reverse(cohort.slow), cohort.rank(view), cohort.what));
    let mut findings = Vec::new();
    let mut explained: Vec<bool> = vec![false; rows.len()];
    for cohort in &explaining {
        let fresh = cohort.members.iter().filter(|position| !explained[**position as usize]).count();
        // Most of it is another's cohort under another name.
        if fresh * 2 < cohort.members.len() || fresh < thresholds::AFFECTED {
            continue;
        }
        cohort.members.iter().for_each(|position| explained[*position as usize] = true);
        let same: Vec<&Cohort> = explaining.iter().filter(|other| other.members == cohort.members).collect();
        findings.push(finding(view, entry, rows, median_ms, cohort, &same));
    }
    findings
}

impl Cohort {
    fn rank(&self, view: &View<'_>) -> (u8, usize) {
        match self.what {
            Trait::Attribute(key, _) => (0, view.text(key).len()),
            Trait::Branch(_) => (1, 0),
        }
    }
}

fn finding(
    view: &View<'_>,
    entry: Operation,
    rows: &[usize],
    median_ms: f64,
    cohort: &Cohort,
    same: &[&Cohort],
) -> Finding {
    let affected: Vec<usize> = cohort.members.iter().map(|position| rows[*position as usize]).collect();
    let cohort_ms = statistics::median(affected.iter().map(|row| view.rows[*row].duration_ns as f64 / 1e6).collect());
    let costs: Vec<u64> =
        affected.iter().map(|row| view.rows[*row].duration_ns.saturating_sub((median_ms * 1e6) as u64)).collect();
    // Where the time goes: the operation that takes most of the critical path in most of them.
    let mut longest: BTreeMap<Operation, (usize, Vec<f64>)> = BTreeMap::new();
    for row in &affected {
        if let Some((operation, ns)) = view.rows[*row].branches.first() {
            let entry = longest.entry(*operation).or_default();
            entry.0 += 1;
            entry.1.push(*ns as f64 / 1e6);
        }
    }
    let branch = longest.into_iter().max_by_key(|(_, (count, _))| *count);
    let branch_ms = branch.as_ref().map_or(cohort_ms, |(_, (_, times))| statistics::median(times.clone()));
    let timeout = thresholds::TIMEOUTS_MS
        .into_iter()
        .find(|timeout| (branch_ms / *timeout as f64 - 1.0).abs() <= thresholds::TIMEOUT_WITHIN);
    let share = affected.len() as f64 / rows.len() as f64;
    let times = cohort_ms / median_ms;
    let place = |operation: Operation| json!({"service": view.text(operation.service), "operation": view.text(operation.operation)});
    let (where_json, what) = match cohort.what {
        Trait::Attribute(..) => {
            let pairs: Vec<(&str, &str)> = same
                .iter()
                .filter_map(|cohort| match cohort.what {
                    Trait::Attribute(key, value) => Some((view.text(key), view.text(value))),
                    Trait::Branch(_) => None,
                })
                .take(5)
                .collect();
            let text = pairs.iter().take(1).map(|(key, value)| format!("{key} = {value}")).collect::<String>();
            (json!(pairs.iter().map(|(key, value)| json!({"key": key, "value": value})).collect::<Vec<_>>()), text)
        }
        Trait::Branch(operation) => (place(operation), format!("those that reach {}", view.operation(operation))),
    };
    let mut evidence = vec![
        format!(
            "{} of {} traces with {what} are at least {} times slower than the median",
            cohort.slow,
            affected.len(),
            thresholds::TIMES_SLOWER
        ),
        format!("median {} with it, {} over all", ms(cohort_ms), ms(median_ms)),
    ];
    if let Some((operation, _)) = &branch {
        evidence.push(format!("most of the time lies in {}: {}", view.operation(*operation), ms(branch_ms)));
    }
    if let Some(timeout) = timeout {
        evidence.push(format!("that is a timeout of {}", ms(timeout as f64)));
    }
    let draft = Draft {
        kind: "slow_rare_path",
        identity: vec!["slow_rare_path".to_owned(), view.operation(entry), what.clone()],
        title: format!(
            "{} of {} take {times:.0} times as long, {} instead of {}: {what}",
            percent(share),
            view.operation(entry),
            ms(cohort_ms),
            ms(median_ms)
        ),
        service: branch.map_or(entry.service, |(operation, _)| operation.service).to_text(view),
        operation: view.text(entry.operation).to_owned(),
        subject: json!({
            "shape": affected.first().map(|row| format!("{:016x}", view.rows[*row].shape)), "where": where_json,
            "share_of_traces": super::round(share), "times_slower": super::round(times),
            "timeout_ms": timeout, "usual_ms": super::round(median_ms),
        }),
        evidence,
    };
    view.finding(draft, &affected, rows.len(), &costs)
}

trait ToText {
    fn to_text(self, view: &View<'_>) -> String;
}

impl ToText for Name {
    fn to_text(self, view: &View<'_>) -> String {
        view.text(self).to_owned()
    }
}
