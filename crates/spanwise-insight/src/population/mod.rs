//! Findings over many traces: contracts §4. Rows go in, in any order; what comes out does not depend on it.

mod hidden;
mod misattributed;
mod rare;
mod repeats;
mod shares;
mod silent;
pub(crate) mod statistics;
mod thinning;

use std::collections::BTreeMap;

use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;
use serde_json::Value as Json;

use crate::row::{Name, Names, Operation, RowReader, TraceRow, trace_row};
use crate::thresholds;
use spanwise_model::{Trace, TraceId};

pub use shares::{LEAST_SHARE, Shares};
pub use thinning::{EntryMinute, LEAST_PER_MINUTE, MINUTE_TRACES, MOST_PER_MINUTE, Thinning};

/// How long an affected trace suffers from a problem, and all of them together.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Cost {
    pub typical_ms: f64,
    pub p99_ms: f64,
    pub total_ms: f64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Finding {
    /// Stable: 16 hex digits of what the problem is, not of the traces that showed it.
    pub id: String,
    pub kind: &'static str,
    pub title: String,
    pub service: String,
    pub operation: String,
    pub subject: Json,
    pub traces_affected: usize,
    pub traces_seen: usize,
    pub cost: Cost,
    pub evidence: Vec<String>,
    pub examples: Vec<String>,
    /// Service and operation of those that it hurts, the one with most of the traces first.
    #[serde(skip)]
    pub entry_points: Vec<(String, String)>,
    /// Of repeated calls: how many of the affected traces have how many. Least first.
    #[serde(skip)]
    pub repeats: Vec<Bin>,
    #[serde(skip)]
    pub first_seen_unix_nano: u64,
    #[serde(skip)]
    pub last_seen_unix_nano: u64,
    pub confidence: &'static str,
}

/// Part of a histogram: traces with `from` to `to` of something, both included.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bin {
    pub from: u64,
    pub to: u64,
    /// Weighted: with sampling not a whole number.
    pub traces: f64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotEnoughData {
    pub kind: &'static str,
    pub service: String,
    pub operation: String,
    pub have: usize,
    pub need: usize,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Insights {
    pub traces: usize,
    pub spans: u64,
    /// False when there were more traces than are looked at together: those looked at are a fair sample.
    pub complete: bool,
    /// Traces that were looked at; the others are counted and no more.
    pub looked_at: usize,
    /// Meant are all traces of the minutes that the window touches, whose counts say for how many a trace stands.
    pub is_rounded: bool,
    pub findings: Vec<Finding>,
    pub not_enough_data: Vec<NotEnoughData>,
}

/// Traces that are looked at together; beyond it, each entry point's share of them, drawn by trace id: as many as give an
/// answer within a second.
pub const MOST_TRACES: usize = 50_000;

pub const MINUTE_NS: u64 = 60_000_000_000;

/// Into which minute a row falls.
pub fn entry_minute(row: &TraceRow) -> EntryMinute {
    (row.entry, row.start_unix_nano / MINUTE_NS)
}

/// Traces and spans.
#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    traces: usize,
    spans: u64,
}

/// Collects rows.
pub struct Population {
    names: Names,
    reader: RowReader,
    rows: Vec<TraceRow>,
    counted: Counted,
    /// What lies in the minutes that the window touches and not in the window.
    beside: Counted,
    beside_ids: FxHashSet<TraceId>,
    most: usize,
    /// How entry points share the room, where there are more traces than have it.
    shares: Option<Shares>,
    /// So many levels more are left out of all of them: more rows came than had been told.
    left_out: u32,
    /// Where rows were left out before they came here.
    thinned: FxHashMap<EntryMinute, u32>,
    /// How many traces of an entry point all of them stand for, where that was counted.
    totals: FxHashMap<Operation, f64>,
}

impl Default for Population {
    fn default() -> Self {
        Self::with_bound(MOST_TRACES)
    }
}

/// Kinds that a window is searched for, each with the traces of an entry point it needs.
const KINDS: [(&str, usize); 5] = [
    ("n_plus_one", thresholds::SEEN),
    ("silent_dependency", thresholds::SEEN),
    ("slow_rare_path", thresholds::RARE_SEEN),
    ("misattributed_bottleneck", thresholds::SEEN),
    ("hidden_error", thresholds::SEEN),
];

/// Rows by entry point, in order of start.
struct View<'a> {
    names: &'a Names,
    rows: &'a [TraceRow],
    entries: BTreeMap<Operation, Vec<usize>>,
    /// One trace alone: no thresholds over many.
    is_single: bool,
}

impl Population {
    /// With another bound than [`MOST_TRACES`].
    pub fn with_bound(most: usize) -> Self {
        let (counted, beside, beside_ids, names, reader, rows, thinned, totals) = Default::default();
        let (most, shares, left_out) = (most.max(1), None, 0);
        Self { names, reader, rows, counted, beside, beside_ids, most, shares, left_out, thinned, totals }
    }

    /// Rows that are looked at together at most.
    pub fn bound(&self) -> usize {
        self.most
    }

    /// How entry points share the room: before any row comes, as those that have no part in it are not kept.
    pub fn share(&mut self, shares: Shares) {
        self.shares = Some(shares);
        self.keep_shares();
    }

    /// Leaves out all traces below a level, which is told from the number of entry points; where there are shares.
    pub fn raise_shares(&mut self, level: impl FnOnce(usize) -> u32) {
        if let Some(shares) = &mut self.shares {
            shares.raise(level(shares.entries()));
            self.keep_shares();
        }
    }

    /// Rows below this level have no part.
    pub fn least(&self) -> u32 {
        self.shares.as_ref().map_or(0, Shares::least) + self.left_out
    }

    /// Rows of this entry point below this level have no part.
    fn lowest(&self, entry: Operation) -> u32 {
        self.shares.as_ref().map_or(0, |shares| shares.lowest(entry)) + self.left_out
    }

    fn keep_shares(&mut self) {
        let mut rows = std::mem::take(&mut self.rows);
        rows.retain(|row| depth(&row.trace_id) >= self.lowest(row.entry));
        self.rows = rows;
    }

    /// Of these traces, rows below the level do not come.
    pub fn thin(&mut self, of: EntryMinute, level: u32) {
        let known = self.thinned.entry(of).or_default();
        *known = level.max(*known);
    }

    /// So many traces there were of an entry point: where not all of them are looked at, those that are stand for these.
    pub fn total(&mut self, of: Operation, traces: f64) {
        self.totals.insert(of, traces);
    }

    /// Leaves out rows beyond each entry point's share of a minute. Those that stay stand for as many as were left out
    /// of their like, each for at least itself; together as much as all traces of their entry point, where that is
    /// known. Whether all stayed.
    fn thin_out(&mut self) -> bool {
        // With shares, rows of some entry points of a minute may not have come: all that there are have a part in it then.
        let entries = self.shares.as_ref().map_or(0, Shares::entries);
        let mut thinning = Thinning::of_entries(entries);
        for (of, level) in &self.thinned {
            thinning.raise(*of, *level);
        }
        for row in &self.rows {
            thinning.add(entry_minute(row), level(&row.trace_id));
        }
        thinning.settle();
        self.rows.retain(|row| level(&row.trace_id) >= thinning.lowest_of(row));
        while self.rows.len() > self.most {
            self.leave_out();
        }
        if thinning.thinned().is_empty() && self.left_out == 0 && self.shares.is_none() {
            return true;
        }
        let stand_for = |row: &TraceRow| 2f64.powi(thinning.lowest_of(row).max(self.lowest(row.entry)) as i32);
        let mut sums: FxHashMap<Operation, f64> = FxHashMap::default();
        for row in &self.rows {
            *sums.entry(row.entry).or_default() += row.weight * stand_for(row);
        }
        let factors: Vec<f64> = self
            .rows
            .iter()
            .map(|row| {
                let drawn = stand_for(row);
                let counted = self.totals.get(&row.entry).zip(sums.get(&row.entry)).filter(|(_, sum)| **sum > 0.0);
                counted.map_or(drawn, |(total, sum)| (drawn * total / sum).max(1.0))
            })
            .collect();
        self.rows.iter_mut().zip(factors).for_each(|(row, factor)| row.weight *= factor);
        false
    }

    pub fn add(&mut self, trace: &Trace) {
        self.count(1, trace.spans.len() as u64);
        let Some(id) = trace.spans.first().map(|span| span.span.trace_id) else { return };
        if depth(&id) >= self.least()
            && let Some(row) = self.reader.row(trace, &mut self.names)
        {
            self.add_row(row);
        }
    }

    /// Numbers of texts for rows that come from elsewhere than [`Self::add`].
    pub fn names_mut(&mut self) -> &mut Names {
        &mut self.names
    }

    /// Traces and spans that are counted, whether their rows are looked at or not.
    pub fn count(&mut self, traces: usize, spans: u64) {
        self.counted.traces += traces;
        self.counted.spans += spans;
    }

    /// The same of a trace that lies beside the window, in a minute that it touches: it is looked at where whole minutes
    /// are.
    pub fn count_beside(&mut self, id: TraceId, spans: u64) {
        self.beside.traces += 1;
        self.beside.spans += spans;
        self.beside_ids.insert(id);
    }

    /// A row whose names are numbered by [`Self::names_mut`]; its trace is counted by [`Self::count`] or
    /// [`Self::count_beside`].
    pub fn add_row(&mut self, row: TraceRow) {
        if depth(&row.trace_id) < self.lowest(row.entry) {
            return;
        }
        self.rows.push(row);
        while self.rows.len() > self.most {
            self.leave_out();
        }
    }

    /// Looks at one level less of each entry point.
    fn leave_out(&mut self) {
        self.left_out += 1;
        self.keep_shares();
    }

    pub fn finish(mut self) -> Insights {
        // Order of arrival must not show.
        self.rows.sort_by_key(|row| (row.start_unix_nano, row.trace_id));
        let complete = self.thin_out();
        let Counted { mut traces, mut spans } = self.counted;
        if !complete {
            traces += self.beside.traces;
            spans += self.beside.spans;
        } else {
            self.rows.retain(|row| !self.beside_ids.contains(&row.trace_id));
        }
        let looked_at = if complete { traces } else { self.rows.len() };
        let view = View::new(&self.names, &self.rows, false);
        let mut findings = repeats::find(&view);
        findings.extend(hidden::find(&view));
        findings.extend(silent::find(&view));
        findings.extend(rare::find(&view));
        findings.extend(misattributed::find(&view));
        sort(&mut findings);
        let not_enough_data = view.not_enough_data();
        Insights { traces, spans, complete, looked_at, is_rounded: !complete, findings, not_enough_data }
    }
}

/// What one trace shows by itself.
pub fn findings_of(trace: &Trace) -> Vec<Finding> {
    let mut names = Names::default();
    trace_row(trace, &mut names).map_or_else(Vec::new, |row| findings_of_row(&names, &row))
}

/// What one trace shows by itself, told from its row.
pub fn findings_of_row(names: &Names, row: &TraceRow) -> Vec<Finding> {
    if row.repetitions.is_empty() && row.hidden.is_empty() {
        return Vec::new();
    }
    let view = View::new(names, std::slice::from_ref(row), true);
    let mut findings = repeats::find(&view);
    findings.extend(hidden::find(&view));
    sort(&mut findings);
    findings
}

fn sort(findings: &mut [Finding]) {
    findings.sort_by(|a, b| b.cost.total_ms.total_cmp(&a.cost.total_ms).then_with(|| a.id.cmp(&b.id)));
}

/// Half of all traces have level 0, half of the rest level 1, and so on: where not all traces can be looked at, those
/// of the highest levels are a fair sample, the same whoever draws it.
pub fn level(id: &TraceId) -> u32 {
    depth(id).min(MOST_LEVELS)
}

/// The same without a bound.
fn depth(id: &TraceId) -> u32 {
    draw(id).trailing_zeros()
}

/// Levels beyond it are this one.
pub const MOST_LEVELS: u32 = 15;

/// Bits of a trace id that are as good as drawn.
pub fn draw(id: &TraceId) -> u64 {
    let bytes = id.0.iter().fold(0u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    (bytes ^ bytes >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16
}

/// Traces of a group: how many were looked at, and how many all of them stand for.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Traces {
    seen: usize,
    adjusted: f64,
}

impl<'a> View<'a> {
    fn new(names: &'a Names, rows: &'a [TraceRow], is_single: bool) -> Self {
        // Operations that stand below a root somewhere: where one of them heads a trace, the root was lost.
        let mut below: FxHashSet<Operation> = FxHashSet::default();
        for row in rows.iter().filter(|row| row.is_rooted) {
            below.extend(row.branches.iter().copied().filter(|other| *other != row.entry));
        }
        let mut entries: BTreeMap<Operation, Vec<usize>> = BTreeMap::new();
        for (number, row) in rows.iter().enumerate() {
            if is_single || row.is_rooted || !below.contains(&row.entry) {
                entries.entry(row.entry).or_default().push(number);
            }
        }
        Self { names, rows, entries, is_single }
    }

    /// Traces whose entry point is known, in order of start.
    fn numbered(&self) -> Vec<(usize, &'a TraceRow)> {
        let mut numbers: Vec<usize> = self.entries.values().flatten().copied().collect();
        numbers.sort_unstable();
        numbers.into_iter().filter_map(|number| Some((number, self.rows.get(number)?))).collect()
    }

    fn text(&self, name: Name) -> &'a str {
        self.names.text(name)
    }

    /// `service operation`
    fn operation(&self, operation: Operation) -> String {
        format!("{} {}", self.text(operation.service), self.text(operation.operation))
    }

    fn not_enough_data(&self) -> Vec<NotEnoughData> {
        let mut missing = Vec::new();
        // Numbers of names are those of whoever made them.
        let mut entries: Vec<_> = self.entries.iter().collect();
        entries.sort_by_key(|(entry, _)| (self.text(entry.service), self.text(entry.operation)));
        for (entry, rows) in entries {
            for (kind, need) in KINDS.iter().filter(|(_, need)| rows.len() < *need) {
                missing.push(NotEnoughData {
                    kind,
                    service: self.text(entry.service).to_owned(),
                    operation: self.text(entry.operation).to_owned(),
                    have: rows.len(),
                    need: *need,
                });
            }
        }
        missing
    }

    fn traces(&self, rows: &[usize]) -> Traces {
        Traces { seen: rows.len(), adjusted: rows.iter().map(|row| self.rows[*row].weight).sum() }
    }

    /// The traces of all entry points that these rows have.
    fn seen(&self, rows: &[usize]) -> Traces {
        let mut entries: Vec<Operation> = rows.iter().map(|row| self.rows[*row].entry).collect();
        entries.sort_unstable();
        entries.dedup();
        let mut sum = Traces::default();
        for rows in entries.iter().filter_map(|entry| self.entries.get(entry)) {
            let of_entry = self.traces(rows);
            sum.seen += of_entry.seen;
            sum.adjusted += of_entry.adjusted;
        }
        sum
    }

    /// The entry points of these rows, the one with most traces first.
    fn entry_points(&self, rows: &[usize]) -> Vec<Operation> {
        let mut counts: FxHashMap<Operation, f64> = FxHashMap::default();
        rows.iter().for_each(|row| *counts.entry(self.rows[*row].entry).or_default() += self.rows[*row].weight);
        let mut entries: Vec<_> =
            counts.into_iter().map(|(entry, traces)| (entry, traces, self.operation(entry))).collect();
        entries.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.2.cmp(&b.2)));
        entries.into_iter().map(|(entry, ..)| entry).collect()
    }

    /// Whether so many traces are more than an anecdote.
    fn is_enough(&self, affected: &[usize], seen: Traces) -> bool {
        let share = self.traces(affected).adjusted / seen.adjusted.max(1.0);
        self.is_single
            || (seen.seen >= thresholds::SEEN
                && affected.len() >= thresholds::AFFECTED
                && share >= thresholds::AFFECTED_SHARE)
    }

    /// The median of a value of these rows, each counted as often as it stands for others.
    fn median(&self, values: impl Iterator<Item = (usize, f64)>) -> f64 {
        statistics::weighted_quantile(values.map(|(row, value)| (value, self.rows[row].weight)).collect(), 0.5)
    }

    /// A finding about these rows; `cost_ns` is each one's, in the same order.
    fn finding(&self, draft: Draft, rows: &[usize], seen: Traces, cost_ns: &[u64]) -> Finding {
        let costs = || rows.iter().zip(cost_ns).map(|(row, ns)| (*ns as f64 / 1e6, self.rows[*row].weight));
        let cost = Cost {
            typical_ms: round(statistics::weighted_quantile(costs().collect(), 0.5)),
            p99_ms: round(statistics::weighted_quantile(costs().collect(), 0.99)),
            total_ms: round(costs().map(|(ms, weight)| ms * weight).sum()),
        };
        // The dearest traces show the problem best.
        let mut examples: Vec<(u64, usize)> = cost_ns.iter().copied().zip(rows.iter().copied()).collect();
        examples.sort_by_key(|(ns, row)| (std::cmp::Reverse(*ns), self.rows[*row].trace_id));
        let starts = || rows.iter().map(|row| self.rows[*row].start_unix_nano);
        let affected = self.traces(rows);
        let named = |entry: Operation| (self.text(entry.service).to_owned(), self.text(entry.operation).to_owned());
        let mut evidence = draft.evidence;
        if affected.adjusted > affected.seen as f64 + 0.5 {
            evidence.push(format!(
                "sampled: {} traces stand for {:.0}, and {} for {:.0}",
                affected.seen, affected.adjusted, seen.seen, seen.adjusted
            ));
        }
        Finding {
            id: fingerprint(&draft.identity),
            kind: draft.kind,
            title: draft.title,
            service: draft.service,
            operation: draft.operation,
            subject: draft.subject,
            traces_affected: affected.adjusted.round() as usize,
            traces_seen: seen.adjusted.round() as usize,
            cost,
            evidence,
            examples: examples.iter().take(10).map(|(_, row)| self.rows[*row].trace_id.to_string()).collect(),
            entry_points: self.entry_points(rows).into_iter().map(named).collect(),
            repeats: Vec::new(),
            first_seen_unix_nano: starts().min().unwrap_or(0),
            last_seen_unix_nano: starts().max().unwrap_or(0),
            confidence: if rows.len() >= thresholds::SURE { "high" } else { "medium" },
        }
    }
}

/// What a detector says; numbers over the affected traces are added by [`View::finding`].
struct Draft {
    kind: &'static str,
    /// What makes it this problem and no other.
    identity: Vec<String>,
    title: String,
    service: String,
    operation: String,
    subject: Json,
    evidence: Vec<String>,
}

/// FNV-1a over the parts, each closed by a zero.
fn fingerprint(parts: &[String]) -> String {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

pub(crate) fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// `1.5 s`, `12 ms`, `0.4 ms`.
fn ms(value: f64) -> String {
    match value {
        value if value >= 1000.0 => format!("{:.1} s", value / 1000.0),
        value if value >= 10.0 => format!("{value:.0} ms"),
        value => format!("{value:.1} ms"),
    }
}

fn percent(share: f64) -> String {
    match share * 100.0 {
        percent if percent < 1.0 => format!("{percent:.1} %"),
        percent => format!("{percent:.0} %"),
    }
}

#[cfg(test)]
mod tests;
