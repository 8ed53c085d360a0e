//! `slow_rare_path`: few requests that take many times as long as the rest, and what they have in common.

use std::collections::BTreeMap;

use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::json;

use super::{Draft, Finding, Traces, View, ms, percent, statistics};
use crate::row::{Name, Operation, TraceRow, shape_text};
use crate::thresholds;

/// What requests may have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Trait {
    Attribute(Name, Name),
    /// A call that the others do not make.
    Branch(Operation),
}

/// What is odd about requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Odd {
    /// They take many times as long as is usual.
    Slow,
    /// Not so many times, but most of it in one operation that takes what people choose for timeouts: so many milliseconds.
    Waits(u64),
}

/// Requests of one entry point that have something in common.
struct Cohort {
    entry: Operation,
    what: Trait,
    odd: Odd,
    /// Rows, ascending.
    members: Vec<usize>,
    /// How many of them are odd.
    odd_members: usize,
    p_value: f64,
}

/// What is usual at an entry point.
struct Usual {
    median_ms: f64,
    traces: Traces,
}

pub fn find(view: &View<'_>) -> Vec<Finding> {
    let mut usual: BTreeMap<Operation, Usual> = BTreeMap::new();
    let (mut tested, mut p_values): (Vec<Cohort>, Vec<f64>) = Default::default();
    for (entry, rows) in &view.entries {
        if rows.len() < thresholds::RARE_SEEN {
            continue;
        }
        let median_ms = view.median(rows.iter().map(|row| (*row, duration_ms(view, *row))));
        if median_ms > 0.0 {
            usual.insert(*entry, Usual { median_ms, traces: view.traces(rows) });
            cohorts(view, *entry, rows, median_ms, &mut tested, &mut p_values);
        }
    }
    // All entry points are searched, so all candidates count together.
    let bound = statistics::discovery_bound(&p_values, thresholds::FALSE_DISCOVERY_RATE);
    let mut explaining: Vec<Cohort> = tested
        .into_iter()
        .filter(|cohort| {
            let usual_ms = usual.get(&cohort.entry).map_or(f64::INFINITY, |usual| usual.median_ms);
            let times_slower = match cohort.odd {
                Odd::Slow => thresholds::TIMES_SLOWER,
                Odd::Waits(_) => thresholds::WAITING_TIMES_SLOWER,
            };
            cohort.p_value <= bound && cohort.median_ms(view) >= times_slower * usual_ms
        })
        .collect();
    // What explains most comes first; of equals an attribute before a branch, the shorter key before the longer.
    explaining
        .sort_by_key(|cohort| (std::cmp::Reverse(cohort.odd_members), cohort.rank(view), cohort.what, cohort.entry));
    let mut explained: FxHashSet<usize> = FxHashSet::default();
    let mut chosen: Vec<usize> = Vec::new();
    for (number, cohort) in explaining.iter().enumerate() {
        let fresh = cohort.members.iter().filter(|row| !explained.contains(row)).count();
        // Most of it is another's cohort under another name.
        if fresh * 2 >= cohort.members.len() && fresh >= thresholds::AFFECTED {
            explained.extend(&cohort.members);
            chosen.push(number);
        }
    }
    let problems = same_problems(view, &explaining, &chosen);
    problems.iter().map(|cohorts| finding(view, &usual, &explaining, cohorts)).collect()
}

fn duration_ms(view: &View<'_>, row: usize) -> f64 {
    view.rows[row].duration_ns as f64 / 1e6
}

fn timeout_of(ms: f64) -> Option<u64> {
    let is_near = |timeout: &u64| (ms / *timeout as f64 - 1.0).abs() <= thresholds::TIMEOUT_WITHIN;
    thresholds::TIMEOUTS_MS.into_iter().find(is_near)
}

/// The timeout that a request waits for, where it would not be called slow.
fn waits_for(row: &TraceRow, median_ms: f64) -> Option<u64> {
    let is_slower = row.duration_ns as f64 >= thresholds::WAITING_TIMES_SLOWER * median_ms * 1e6;
    let is_most = row.longest_ns as f64 >= row.duration_ns as f64 * thresholds::WAITING_SHARE;
    let timeout = timeout_of(row.longest_ns as f64 / 1e6).filter(|_| is_slower && is_most)?;
    Some(timeout).filter(|timeout| (*timeout as f64) < thresholds::TIMES_SLOWER * median_ms)
}

/// Requests of an entry point that are odd, by what is odd about them; enough of them to speak of.
fn odd_rows(view: &View<'_>, rows: &[usize], median_ms: f64) -> Vec<(Odd, Vec<usize>)> {
    let is_slow = |row: &usize| duration_ms(view, *row) >= thresholds::TIMES_SLOWER * median_ms;
    let mut odd = vec![(Odd::Slow, rows.iter().copied().filter(is_slow).collect::<Vec<usize>>())];
    let mut waiting: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for row in rows {
        if let Some(timeout) = waits_for(&view.rows[*row], median_ms) {
            waiting.entry(timeout).or_default().push(*row);
        }
    }
    // What many wait for is how it was meant.
    let most = view.traces(rows).adjusted * thresholds::RARE_SHARE;
    waiting.retain(|_, rows| view.traces(rows).adjusted <= most);
    odd.extend(waiting.into_iter().map(|(timeout, rows)| (Odd::Waits(timeout), rows)));
    odd.retain(|(_, rows)| rows.len() >= thresholds::AFFECTED);
    odd
}

fn traits(row: &TraceRow) -> impl Iterator<Item = Trait> {
    let attributes = row.attributes.iter().map(|(key, value)| Trait::Attribute(*key, *value));
    attributes.chain(row.branches.iter().map(|operation| Trait::Branch(*operation)))
}

/// Everything rare that requests of an entry point have in common, with how many have it.
fn rare_traits(view: &View<'_>, rows: &[usize]) -> Vec<(Trait, usize)> {
    let all = view.traces(rows).adjusted;
    // Members, and for how many they stand.
    let mut found: FxHashMap<Trait, (usize, f64)> = FxHashMap::default();
    for row in rows.iter().map(|row| &view.rows[*row]) {
        for what in traits(row) {
            let (members, adjusted) = found.entry(what).or_default();
            *members += 1;
            *adjusted += row.weight;
        }
    }
    // Many different numbers are sizes: that large requests take long is another finding's to say.
    let is_number = |name: Name| view.text(name).parse::<f64>().is_ok();
    let mut numbers: FxHashMap<Name, usize> = FxHashMap::default();
    for what in found.keys() {
        if let Trait::Attribute(key, value) = what
            && is_number(*value)
        {
            *numbers.entry(*key).or_default() += 1;
        }
    }
    let is_size = |what: &Trait| match what {
        Trait::Attribute(key, value) => {
            numbers.get(key).is_some_and(|values| *values > thresholds::RARE_NUMBERS) && is_number(*value)
        }
        Trait::Branch(_) => false,
    };
    let is_rare = |(what, (members, adjusted)): &(Trait, (usize, f64))| {
        *members >= thresholds::AFFECTED && *adjusted <= all * thresholds::RARE_SHARE && !is_size(what)
    };
    found.into_iter().filter(is_rare).map(|(what, (members, _))| (what, members)).collect()
}

/// Adds to `tested` everything rare that requests of an entry point have in common and that most of those are odd
/// with, and to `p_values` of everything rare how likely it is that odd ones gather there by chance.
fn cohorts(
    view: &View<'_>,
    entry: Operation,
    rows: &[usize],
    median_ms: f64,
    tested: &mut Vec<Cohort>,
    p_values: &mut Vec<f64>,
) {
    let odd_rows = odd_rows(view, rows, median_ms);
    if odd_rows.is_empty() {
        return;
    }
    let rare = rare_traits(view, rows);
    let first = tested.len();
    for (odd, odd_rows) in odd_rows {
        let mut counts: FxHashMap<Trait, usize> = FxHashMap::default();
        for what in odd_rows.iter().flat_map(|row| traits(&view.rows[*row])) {
            *counts.entry(what).or_default() += 1;
        }
        let rate = odd_rows.len() as f64 / rows.len() as f64;
        let mut members: FxHashMap<Trait, Vec<usize>> = FxHashMap::default();
        for (what, count) in &rare {
            let odd_members = counts.get(what).copied().unwrap_or(0);
            p_values.push(statistics::binomial_tail(odd_members, *count, rate));
            let is_known = || tested[first..].iter().any(|cohort| cohort.what == *what);
            if odd_members as f64 >= *count as f64 * thresholds::RARE_PRECISION && !is_known() {
                members.insert(*what, Vec::with_capacity(*count));
            }
        }
        if !members.is_empty() {
            for number in rows {
                for what in traits(&view.rows[*number]) {
                    if let Some(members) = members.get_mut(&what) {
                        members.push(*number);
                    }
                }
            }
        }
        tested.extend(members.into_iter().map(|(what, members)| {
            let odd_members = counts.get(&what).copied().unwrap_or(0);
            let p_value = statistics::binomial_tail(odd_members, members.len(), rate);
            Cohort { entry, what, odd, members, odd_members, p_value }
        }));
    }
    tested[first..].sort_unstable_by_key(|cohort| cohort.what);
}

/// The same behind several entry points is one problem: the same branch takes the time, and nothing says that it does
/// so for another reason.
fn same_problems(view: &View<'_>, explaining: &[Cohort], chosen: &[usize]) -> Vec<Vec<usize>> {
    let mut problems: Vec<Vec<usize>> = Vec::new();
    for number in chosen {
        let cohort = &explaining[*number];
        let branch = cohort.branch(view).map(|(operation, _)| operation);
        let is_same = |problem: &&mut Vec<usize>| {
            problem.iter().all(|other| {
                let other = &explaining[*other];
                let is_alike = match (cohort.what, other.what) {
                    (Trait::Attribute(..), Trait::Attribute(..)) => cohort.what == other.what,
                    _ => true,
                };
                other.entry != cohort.entry
                    && is_alike
                    && branch.is_some()
                    && other.branch(view).map(|(operation, _)| operation) == branch
            })
        };
        match problems.iter_mut().find(is_same) {
            Some(problem) => problem.push(*number),
            None => problems.push(vec![*number]),
        }
    }
    problems
}

impl Cohort {
    fn rank(&self, view: &View<'_>) -> (u8, usize) {
        match self.what {
            Trait::Attribute(key, _) => (0, view.text(key).len()),
            Trait::Branch(_) => (1, 0),
        }
    }

    fn median_ms(&self, view: &View<'_>) -> f64 {
        view.median(self.members.iter().map(|row| (*row, duration_ms(view, *row))))
    }

    /// Where the time goes: the operation that takes most of the critical path in most of them, and how long.
    fn branch(&self, view: &View<'_>) -> Option<(Operation, f64)> {
        branch(view, &self.members)
    }
}

fn branch(view: &View<'_>, rows: &[usize]) -> Option<(Operation, f64)> {
    let mut longest: BTreeMap<Operation, Vec<(usize, f64)>> = BTreeMap::new();
    for row in rows {
        let TraceRow { branches, longest_ns, .. } = &view.rows[*row];
        if let Some(operation) = branches.first() {
            longest.entry(*operation).or_default().push((*row, *longest_ns as f64 / 1e6));
        }
    }
    let (operation, times) = longest.into_iter().max_by_key(|(_, times)| times.len())?;
    Some((operation, view.median(times.into_iter())))
}

fn finding(view: &View<'_>, usual: &BTreeMap<Operation, Usual>, explaining: &[Cohort], numbers: &[usize]) -> Finding {
    let cohorts = || numbers.iter().map(|number| &explaining[*number]);
    // The first explains most: it speaks for all.
    let cohort = &explaining[numbers[0]];
    let usual_of = |entry: Operation| usual.get(&entry).map_or(0.0, |usual| usual.median_ms);
    let median_ms = usual_of(cohort.entry);
    let mut affected: Vec<usize> = cohorts().flat_map(|cohort| cohort.members.iter().copied()).collect();
    affected.sort_unstable();
    let cohort_ms = cohort.median_ms(view);
    let excess = |row: &usize| {
        let usual_ns = (usual_of(view.rows[*row].entry) * 1e6) as u64;
        view.rows[*row].duration_ns.saturating_sub(usual_ns)
    };
    let costs: Vec<u64> = affected.iter().map(excess).collect();
    let branch = branch(view, &affected);
    let branch_ms = branch.map_or(cohort_ms, |(_, ms)| ms);
    let timeout = timeout_of(branch_ms);
    let seen = cohorts().filter_map(|cohort| usual.get(&cohort.entry)).fold(Traces::default(), |sum, usual| Traces {
        seen: sum.seen + usual.traces.seen,
        adjusted: sum.adjusted + usual.traces.adjusted,
    });
    let share = view.traces(&affected).adjusted / seen.adjusted.max(1.0);
    let times = cohort_ms / median_ms.max(f64::MIN_POSITIVE);
    let place = |operation: Operation| json!({"service": view.text(operation.service), "operation": view.text(operation.operation)});
    let (where_json, what) = match cohort.what {
        Trait::Attribute(..) => {
            let same = explaining
                .iter()
                .filter(|other| other.entry == cohort.entry && other.members == cohort.members)
                .filter_map(|other| match other.what {
                    Trait::Attribute(key, value) => Some((view.text(key), view.text(value))),
                    Trait::Branch(_) => None,
                });
            let pairs: Vec<(&str, &str)> = same.take(5).collect();
            let text = pairs.iter().take(1).map(|(key, value)| format!("{key} = {value}")).collect::<String>();
            (json!(pairs.iter().map(|(key, value)| json!({"key": key, "value": value})).collect::<Vec<_>>()), text)
        }
        Trait::Branch(operation) => (place(operation), format!("those that reach {}", view.operation(operation))),
    };
    let odd: usize = cohorts().map(|cohort| cohort.odd_members).sum();
    let so = match cohort.odd {
        Odd::Slow => format!("are at least {} times slower than the median", thresholds::TIMES_SLOWER),
        Odd::Waits(timeout) => format!("spend most of their time waiting {} in one operation", ms(timeout as f64)),
    };
    let mut evidence = vec![
        format!("{odd} of {} traces with {what} {so}", affected.len()),
        format!("median {} with it, {} over all", ms(cohort_ms), ms(median_ms)),
    ];
    if let Some((operation, _)) = branch {
        evidence.push(format!("most of the time lies in {}: {}", view.operation(operation), ms(branch_ms)));
    }
    if let Some(timeout) = timeout {
        evidence.push(format!("that is a timeout of {}", ms(timeout as f64)));
    }
    let entries: Vec<String> = view.entry_points(&affected).into_iter().map(|entry| view.operation(entry)).collect();
    if entries.len() > 1 {
        evidence.push(format!("entry points: {}", entries.join(", ")));
    }
    // By where the time goes, so that it stays the same problem when another entry point runs into it.
    let identity = match branch {
        Some((operation, _)) => view.operation(operation),
        None => view.operation(cohort.entry),
    };
    let draft = Draft {
        kind: "slow_rare_path",
        identity: vec!["slow_rare_path".to_owned(), identity, what.clone()],
        title: format!(
            "{} of {} take {times:.*} times as long, {} instead of {}: {what}",
            percent(share),
            view.operation(cohort.entry),
            if cohort.odd == Odd::Slow { 0 } else { 1 },
            ms(cohort_ms),
            ms(median_ms)
        ),
        service: view.text(branch.map_or(cohort.entry.service, |(operation, _)| operation.service)).to_owned(),
        operation: view.text(cohort.entry.operation).to_owned(),
        subject: json!({
            "shape": cohort.members.first().map(|row| shape_text(view.rows[*row].shape)), "where": where_json,
            "share_of_traces": super::round(share), "times_slower": super::round(times),
            "timeout_ms": timeout, "usual_ms": super::round(median_ms),
        }),
        evidence,
    };
    view.finding(draft, &affected, seen, &costs)
}

#[cfg(test)]
mod tests {
    use spanwise_model::{Span, SpanId, Trace, TraceId, TraceSpan};

    use super::*;
    use crate::row::{Names, trace_row};

    #[test]
    fn a_request_waits_for_a_timeout_within_its_limits() {
        let span = Span { trace_id: TraceId([1; 16]), span_id: SpanId([1; 8]), ..Span::default() };
        let spans = vec![TraceSpan { resource: Default::default(), scope: Default::default(), span }];
        let mut row = trace_row(&Trace { spans }, &mut Names::default()).unwrap();
        // Duration, the longest of it, the median; all in microseconds.
        let cases = [
            // Half as long again as the median, or a microsecond less.
            ((450_000, 300_000, 300_000), Some(300)),
            ((449_999, 300_000, 300_000), None),
            // Half of the request, or a microsecond less.
            ((1_000_000, 500_000, 400_000), Some(500)),
            ((1_000_001, 500_000, 400_000), None),
            // Within two percent of the timeout.
            ((600_000, 509_000, 300_000), Some(500)),
            ((600_000, 511_000, 300_000), None),
            // From three times the median on it would be slow by that alone.
            ((310_000, 300_000, 100_001), Some(300)),
            ((310_000, 300_000, 100_000), None),
        ];
        for ((duration_us, longest_us, median_us), expected) in cases {
            (row.duration_ns, row.longest_ns) = (duration_us * 1_000, longest_us * 1_000);
            let found = waits_for(&row, f64::from(median_us) / 1e3);
            assert_eq!(found, expected, "{duration_us} {longest_us} {median_us}");
        }
    }
}
