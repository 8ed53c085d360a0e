//! `n_plus_one`, `fan_out` and `retry_storm`: one finding for each caller and callee, whatever the entry points.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Bin, Draft, Finding, View, ms, percent, statistics};
use crate::repetition::RepetitionKind;
use crate::row::{Callee, Operation};
use crate::thresholds;

type Key = (RepetitionKind, Operation, Callee);

/// One trace of a group.
#[derive(Debug, Clone, Copy)]
struct Member {
    row: usize,
    count: u32,
    ns: u64,
}

pub fn find(view: &View<'_>) -> Vec<Finding> {
    let mut groups: BTreeMap<Key, Vec<Member>> = BTreeMap::new();
    // Keys that take turns, and in how many traces.
    let mut turns: BTreeMap<(Key, Key), usize> = BTreeMap::new();
    for (row, of_row) in view.numbered() {
        for (place, repetition) in of_row.repetitions.iter().enumerate() {
            let key = (repetition.kind, repetition.caller, repetition.callee);
            let group = groups.entry(key).or_default();
            match group.last_mut() {
                // Twice in one trace: the larger is its count, and both cost.
                Some(last) if last.row == row => {
                    last.count = last.count.max(repetition.count);
                    last.ns += repetition.critical_ns;
                }
                _ => group.push(Member { row, count: repetition.count, ns: repetition.critical_ns }),
            }
            let others = of_row.repetitions[..place].iter().filter(|other| other.turn == repetition.turn);
            for other in others.map(|other| (other.kind, other.caller, other.callee)).filter(|other| *other != key) {
                *turns.entry((key.min(other), key.max(other))).or_default() += 1;
            }
        }
    }
    loops(view, groups, &turns).iter().filter_map(|of_loop| finding(view, of_loop)).collect()
}

/// A loop: the call that stands for it, and those that take turns with it.
struct Loop {
    key: Key,
    group: Vec<Member>,
    others: Vec<Callee>,
}

/// Puts calls that take turns in most of their traces together: one loop is one problem.
fn loops(view: &View<'_>, mut groups: BTreeMap<Key, Vec<Member>>, turns: &BTreeMap<(Key, Key), usize>) -> Vec<Loop> {
    let mut order: Vec<Key> = groups.keys().copied().collect();
    // Whoever does the work stands for the loop: opening a connection never does, the dearest call of the others.
    let total = |key: &Key| groups.get(key).map_or(0, |group| group.iter().map(|member| member.ns).sum::<u64>());
    let rank = |key: &Key| (is_housekeeping(view.text(key.2.operation)), std::cmp::Reverse(total(key)), *key);
    let ranks: BTreeMap<Key, _> = order.iter().map(|key| (*key, rank(key))).collect();
    order.sort_by(|a, b| ranks.get(a).cmp(&ranks.get(b)));
    let mut loops: Vec<Loop> = Vec::new();
    for key in order {
        let Some(group) = groups.remove(&key) else { continue };
        let takes_turns = |of_loop: &&mut Loop| {
            let times = turns.get(&(key.min(of_loop.key), key.max(of_loop.key))).copied().unwrap_or(0);
            times * 2 > group.len().min(of_loop.group.len())
        };
        match loops.iter_mut().find(takes_turns) {
            Some(of_loop) => {
                of_loop.others.push(key.2);
                for member in group {
                    if let Ok(place) = of_loop.group.binary_search_by_key(&member.row, |own| own.row) {
                        of_loop.group[place].ns += member.ns;
                    }
                }
            }
            None => loops.push(Loop { key, group, others: Vec::new() }),
        }
    }
    loops
}

/// What goes with a call without being one that anybody would write a loop for.
fn is_housekeeping(operation: &str) -> bool {
    const WORDS: [&str; 9] =
        ["connect", "pool", "begin", "commit", "rollback", "ping", "acquire", "start transaction", "set session"];
    let lower = operation.to_ascii_lowercase();
    lower == "select ?" || WORDS.iter().any(|word| lower.contains(word))
}

fn finding(view: &View<'_>, of_loop: &Loop) -> Option<Finding> {
    let Loop { key: (kind, caller, callee), group, others } = of_loop;
    let rows: Vec<usize> = group.iter().map(|member| member.row).collect();
    let seen = view.seen(&rows);
    if !view.is_enough(&rows, seen) {
        return None;
    }
    let costs: Vec<u64> = group.iter().map(|member| member.ns).collect();
    let share = view.median(
        group.iter().map(|member| (member.row, member.ns as f64 / view.rows[member.row].duration_ns.max(1) as f64)),
    );
    let typical_ms = view.median(group.iter().map(|member| (member.row, member.ns as f64 / 1e6)));
    let is_felt = share >= thresholds::CRITICAL_SHARE && typical_ms >= thresholds::CRITICAL_MS;
    let counts: Vec<(f64, f64)> =
        group.iter().map(|member| (f64::from(member.count), view.rows[member.row].weight)).collect();
    let [p50, p95, max] = [0.5, 0.95, 1.0].map(|q| statistics::weighted_quantile(counts.clone(), q) as u64);
    // A trace with a lost span or two does not make a sequence a loop.
    let usual = group.iter().filter(|member| u64::from(member.count) == p50).count();
    // Tries are bounded by a number that somebody chose: that they end alike is no sign of health.
    let is_constant = *kind != RepetitionKind::RetryStorm
        && group.len() >= thresholds::CONSTANT_IN
        && usual as f64 >= group.len() as f64 * thresholds::CONSTANT_SHARE
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
    if !others.is_empty() {
        let others: Vec<&str> = others.iter().map(|other| view.text(other.operation)).collect();
        evidence.push(format!("in the same loop: {}", others.join(", ")));
    }
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
    Some(Finding { repeats: histogram(&counts), ..view.finding(draft, &rows, seen, &costs) })
}

/// Most parts of a histogram: as many as a small picture shows.
const BINS: u64 = 12;

/// Of `(calls, weight)`: parts of one width from the least to the most.
fn histogram(counts: &[(f64, f64)]) -> Vec<Bin> {
    let calls = || counts.iter().map(|(count, _)| *count as u64);
    let (Some(least), Some(most)) = (calls().min(), calls().max()) else { return Vec::new() };
    let width = (most - least + 1).div_ceil(BINS);
    let parts = (most - least) / width + 1;
    let mut bins: Vec<Bin> = (0..parts)
        .map(|part| least + part * width)
        .map(|from| Bin { from, to: (from + width - 1).min(most), traces: 0.0 })
        .collect();
    for (count, weight) in counts {
        bins[((*count as u64 - least) / width) as usize].traces += weight;
    }
    bins
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_has_every_trace_once_and_no_more_parts_than_a_picture_shows() {
        assert_eq!(histogram(&[]), []);
        assert_eq!(histogram(&[(7.0, 1.0), (7.0, 2.5)]), [Bin { from: 7, to: 7, traces: 3.5 }]);
        let few = histogram(&[(3.0, 1.0), (5.0, 1.0), (5.0, 1.0)]);
        let bins: Vec<(u64, u64, f64)> = few.iter().map(|bin| (bin.from, bin.to, bin.traces)).collect();
        assert_eq!(bins, [(3, 3, 1.0), (4, 4, 0.0), (5, 5, 2.0)]);
        for most in 1..400u64 {
            let counts: Vec<(f64, f64)> = (1..=most).map(|count| (count as f64, 1.0)).collect();
            let bins = histogram(&counts);
            assert!(bins.len() as u64 <= BINS && !bins.is_empty());
            assert_eq!((bins[0].from, bins[bins.len() - 1].to), (1, most));
            assert!(bins.iter().all(|bin| bin.traces == (bin.to - bin.from + 1) as f64), "{bins:?}");
            assert!(bins.windows(2).all(|pair| pair[0].to + 1 == pair[1].from), "{bins:?}");
        }
    }
}
