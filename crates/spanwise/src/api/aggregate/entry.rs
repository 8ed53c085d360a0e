//! `GET /api/spanwise/entry?service=&operation=`: where the time of one entry point goes: the critical path of its
//! ordinary requests and of its slowest, each as a tree of calls that adds up to the group's mean duration, and the
//! shapes its traces have. Traces and shapes are counted by the minute; the trees are those of some traces, drawn by
//! trace id.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::time::Instant;

use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use spanwise_insight::calls::{Call, call};
use spanwise_insight::minutes::{Cell, Kind};
use spanwise_insight::row::{Names, shape_text, trace_row};
use spanwise_insight::sketch::unfixed;
use spanwise_insight::trace_facts;
use spanwise_insight::weight::TraceWeight;
use spanwise_model::{SpanKind, TraceId};
use spanwise_query::Budget;
use spanwise_store::Snapshot;
use spanwise_store::facts::shapes::{Wanted, draw_of};
use spanwise_wire::decode_trace;

use super::counts::{Counts, counts};
use super::weighted::Durations;
use super::{Answer, Seen, Window, WindowParameters, ms, ms_of};
use crate::api::{ApiError, App};

#[derive(Debug, Deserialize)]
pub struct Parameters {
    from: Option<String>,
    to: Option<String>,
    #[serde(default)]
    service: String,
    #[serde(default)]
    operation: String,
}

pub async fn answer(State(app): State<App>, Query(parameters): Query<Parameters>) -> Answer {
    if parameters.service.is_empty() || parameters.operation.is_empty() {
        return Err(ApiError::bad_request("service and operation are required: ?service=cart&operation=GET%20/cart"));
    }
    let window = app.window(&WindowParameters { from: parameters.from, to: parameters.to })?;
    let key = format!("entry {:?} {:?}", parameters.service, parameters.operation);
    let entry = Entry::new(parameters.service, parameters.operation);
    app.answered(key, window, move |snapshot, budget| read(snapshot, window, budget, entry)).await
}

/// Traces that the trees are made of.
const TRACES: usize = 600;
/// Places in a tree of calls; what comes beyond is left out, and said.
const PLACES: usize = 20_000;
/// Traces below which a group says nothing.
const ENOUGH: usize = 5;
/// Places of a tree that are answered: the costliest, each with all above it.
const SHOWN: usize = 400;
const SHAPES: usize = 24;
/// Spans of a shape's picture.
const PICTURE: usize = 60;

/// A call by its way from the root.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Place {
    above: Option<u32>,
    service: String,
    operation: String,
    is_call: bool,
}

struct Kept {
    duration_ns: u64,
    /// How many traces it stands for.
    weight: f64,
    id: String,
    /// Place, time on the critical path that nothing deeper explains, spans.
    times: Vec<(u32, u64, u32)>,
}

/// What a shape looks like.
struct Shape {
    example: String,
    picture: Vec<Json>,
}

pub struct Entry {
    service: String,
    operation: String,
    places: Vec<Place>,
    numbers: HashMap<Place, u32>,
    kept: Vec<Kept>,
    shapes: BTreeMap<u64, Shape>,
    names: Names,
    left_out: bool,
    /// Which share of the traces is read.
    share: f64,
    is_read: bool,
}

impl Entry {
    pub fn new(service: String, operation: String) -> Self {
        Self {
            service,
            operation,
            places: Vec::new(),
            numbers: HashMap::new(),
            kept: Vec::new(),
            shapes: BTreeMap::new(),
            names: Names::default(),
            left_out: false,
            share: 1.0,
            is_read: true,
        }
    }

    fn place(&mut self, place: Place) -> Option<u32> {
        if let Some(number) = self.numbers.get(&place) {
            return Some(*number);
        }
        let number = u32::try_from(self.places.len()).ok().filter(|_| self.places.len() < PLACES)?;
        self.places.push(place.clone());
        self.numbers.insert(place, number);
        Some(number)
    }

    fn times(&mut self, seen: &Seen<'_>, root: usize) -> Vec<(u32, u64, u32)> {
        let mut at: Vec<Option<u32>> = vec![None; seen.trace.spans.len()];
        let mut times: BTreeMap<u32, (u64, u32)> = BTreeMap::new();
        for place in seen.parents_first() {
            let parent = seen.facts.tree.parent[place];
            let above = parent.and_then(|parent| at[parent]);
            if above.is_none() && place != root {
                continue;
            }
            let critical_ns = seen.facts.spans[place].critical_ns;
            let call = &seen.calls[place];
            let is_call = call.is_outgoing || seen.trace.spans[place].span.kind == SpanKind::Client;
            let own =
                Place { above, service: seen.service(place).to_owned(), operation: call.operation.clone(), is_call };
            // Without room for a new place its time stays with the one above.
            let number = self.place(own).or(above);
            self.left_out |= number == above && above.is_some();
            at[place] = number;
            if let Some(number) = number {
                let time = times.entry(number).or_default();
                time.0 += critical_ns;
                time.1 += 1;
            }
        }
        times.into_iter().map(|(place, (ns, spans))| (place, ns, spans)).collect()
    }

    /// The mean tree of a group of traces, costliest branches first.
    fn tree(&self, group: &[&Kept]) -> Json {
        if group.len() < ENOUGH {
            return json!({"traces": group.len(), "need": ENOUGH, "nodes": []});
        }
        let count: f64 = group.iter().map(|kept| kept.weight).sum();
        let in_all = (count / self.share).round() as u64;
        let mut own = vec![0.0f64; self.places.len()];
        let mut spans = vec![0.0f64; self.places.len()];
        for kept in group {
            for (place, ns, calls) in &kept.times {
                own[*place as usize] += *ns as f64 * kept.weight;
                spans[*place as usize] += f64::from(*calls) * kept.weight;
            }
        }
        // Places stand after those above them.
        let mut total = own.clone();
        for place in (0..self.places.len()).rev() {
            if let Some(above) = self.places[place].above {
                total[above as usize] += total[place];
            }
        }
        let mut children: Vec<Vec<usize>> = vec![Vec::new(); self.places.len()];
        let mut open: Vec<(usize, usize)> = Vec::new();
        for (place, known) in self.places.iter().enumerate().filter(|(place, _)| total[*place] > 0.0) {
            match known.above {
                Some(above) => children[above as usize].push(place),
                None => open.push((place, 0)),
            }
        }
        let mut costs: Vec<f64> = total.iter().copied().filter(|ns| *ns > 0.0).collect();
        costs.sort_unstable_by(|a, b| b.total_cmp(a));
        let too_little = costs.get(SHOWN).copied().unwrap_or(-1.0);
        let mean_ms = |ns: f64| ms_of(ns / count);
        let mut nodes = Vec::new();
        while let Some((place, depth)) = open.pop() {
            if total[place] <= too_little {
                continue;
            }
            let known = &self.places[place];
            nodes.push(json!({
                "depth": depth, "service": known.service, "operation": known.operation, "is_call": known.is_call,
                "own_ms": mean_ms(own[place]), "total_ms": mean_ms(total[place]),
                "calls": (spans[place] / count * 100.0).round() / 100.0,
            }));
            children[place].sort_by(|a, b| total[*a].total_cmp(&total[*b]).then_with(|| b.cmp(a)));
            open.extend(children[place].iter().map(|child| (*child, depth + 1)));
        }
        let sum: f64 = group.iter().map(|kept| kept.duration_ns as f64 * kept.weight).sum();
        let examples: Vec<&str> = group.iter().rev().take(5).map(|kept| kept.id.as_str()).collect();
        json!({
            "traces": in_all, "traces_seen": group.len(), "mean_ms": mean_ms(sum), "nodes": nodes, "examples": examples,
            "from_ms": ms(group.first().map_or(0, |kept| kept.duration_ns)),
            "to_ms": ms(group.last().map_or(0, |kept| kept.duration_ns)),
        })
    }
}

fn picture(seen: &Seen<'_>, root: usize) -> Vec<Json> {
    let start = seen.trace.spans[root].span.start_unix_nano;
    let length = seen.trace.spans[root].span.duration_ns().max(1) as f64;
    let mut depths = vec![0usize; seen.trace.spans.len()];
    let mut lines = Vec::new();
    let mut open = vec![root];
    while let Some(place) = open.pop() {
        if lines.len() >= PICTURE {
            break;
        }
        depths[place] = seen.facts.tree.parent[place].filter(|_| place != root).map_or(0, |parent| depths[parent] + 1);
        let span = &seen.trace.spans[place].span;
        let share = |ns: u64| (ns as f64 / length * 1e4).round() / 1e4;
        let from = share(span.start_unix_nano.saturating_sub(start));
        lines.push(json!([depths[place], from, share(span.duration_ns()), seen.service(place), seen.is_error(place)]));
        open.extend(seen.facts.tree.children[place].iter().rev());
    }
    lines
}

impl Entry {
    /// Looks at a trace; it is one of those that the trees are made of, where it stands for so many that were not drawn,
    /// or only shows its shape.
    fn add(&mut self, seen: &Seen<'_>, stands_for: Option<f64>) {
        let Some(root) = seen.facts.root else { return };
        if seen.service(root) != self.service || seen.calls[root].operation != self.operation {
            return;
        }
        let id = seen.trace.spans[root].span.trace_id.to_string();
        if let Some(row) = trace_row(seen.trace, &mut self.names) {
            self.shapes.entry(row.shape).or_insert_with(|| Shape { example: id.clone(), picture: picture(seen, root) });
        }
        if let Some(stands_for) = stands_for {
            let times = self.times(seen, root);
            self.kept.push(Kept {
                duration_ns: seen.facts.duration_ns,
                weight: seen.weight.count * stands_for,
                id,
                times,
            });
        }
    }

    /// The counts of the entry point and of its shapes, the most harmful first: how much longer than the median their
    /// traces take, in all.
    fn counted<'a>(&self, counts: &'a Counts) -> (Cell, Vec<(u64, &'a Cell, f64)>) {
        let is_own = |a, b| counts.text(a) == self.service && counts.text(b) == self.operation;
        let found = counts.of(Kind::Entry).find(|(key, _)| is_own(key.a, key.b));
        let cell = found.map(|(_, cell)| cell.clone()).unwrap_or_default();
        let median = cell.durations.quantile(0.5);
        let shapes = counts.of(Kind::Shape).filter(|(key, cell)| is_own(key.a, key.b) && cell.adjusted > 0);
        let mut shapes: Vec<_> = shapes.map(|(key, cell)| (key.c, cell, cell.durations.excess(median))).collect();
        shapes.sort_by(|a, b| b.2.total_cmp(&a.2).then_with(|| a.0.cmp(&b.0)));
        (cell, shapes)
    }

    fn json(mut self, counts: &Counts) -> Json {
        let (cell, all_shapes) = self.counted(counts);
        self.kept.sort_by(|a, b| a.duration_ns.cmp(&b.duration_ns).then_with(|| a.id.cmp(&b.id)));
        let mut durations: Durations = self.kept.iter().map(|kept| (kept.duration_ns, kept.weight)).collect();
        let of = durations.sorted();
        let between = |low: u64, high: u64| -> Vec<&Kept> {
            self.kept.iter().filter(|kept| (low..=high).contains(&kept.duration_ns)).collect()
        };
        let typical = self.tree(&between(of.at(0.25), of.at(0.75)));
        // The slowest hundredth, or as many as make a group.
        let mut room = self.kept.iter().map(|kept| kept.weight).sum::<f64>() / 100.0;
        let is_slow = |kept: &&Kept| {
            room -= kept.weight;
            room > -1e-6
        };
        let slow = self.kept.iter().rev().take_while(is_slow).count().max(ENOUGH).min(self.kept.len());
        let slowest: Vec<&Kept> = self.kept.iter().skip(self.kept.len() - slow).collect();
        let slowest = self.tree(&slowest);
        let shapes = all_shapes.iter().take(SHAPES).filter_map(|(hash, cell, harm_ns)| {
            // Of those that there was no room for there is no one example.
            let shape = self.shapes.get(hash)?;
            Some(json!({
                "shape": shape_text(*hash), "traces": cell.count().round() as u64, "traces_seen": cell.seen,
                "errors": unfixed(cell.errors).round() as u64, "p50_ms": cell.quantile_ms(0.5),
                "p95_ms": cell.quantile_ms(0.95), "max_ms": cell.quantile_ms(1.0), "harm_ms": ms_of(*harm_ns),
                "example": shape.example, "picture": shape.picture,
            }))
        });
        json!({
            "service": self.service, "operation": self.operation, "traces": cell.count().round() as u64,
            "traces_seen": cell.seen.max(0), "sampled": cell.is_sampled(),
            "errors": unfixed(cell.errors).max(0.0).round() as u64,
            "p50_ms": cell.quantile_ms(0.5), "p95_ms": cell.quantile_ms(0.95), "p99_ms": cell.quantile_ms(0.99),
            "max_ms": cell.quantile_ms(1.0), "typical": typical, "slowest": slowest, "trees_from": self.kept.len(),
            "shapes": shapes.collect::<Json>(), "shapes_in_all": all_shapes.len(),
            "window": counts.window.json(), "bounded": counts.minutes.is_bounded(),
            "complete": counts.complete && self.is_read && !self.left_out,
        })
    }
}

fn read(snapshot: &Snapshot, asked: Window, budget: &Budget, mut entry: Entry) -> Result<Json, ApiError> {
    let started = Instant::now();
    let counts = counts(snapshot, asked, &[Kind::Shape], budget)?;
    let (cell, shapes) = entry.counted(&counts);
    entry.share = (TRACES as f64 / cell.seen.max(1) as f64).min(1.0);
    let shapes: Vec<u64> = shapes.iter().map(|(shape, ..)| *shape).collect();
    let window = counts.window.counted;
    // Where there was no room to tell all shapes apart, any that is not known may be one of these.
    let known: HashSet<u64> = counts.of(Kind::Shape).map(|(key, _)| key.c).collect();
    let is_bounded = known.contains(&0);
    let may_be_meant = |shape: u64| is_bounded && !known.contains(&shape);
    let wanted = Wanted {
        from_unix_nano: window.from,
        to_unix_nano: window.to,
        shapes: &shapes,
        may_be_meant: &may_be_meant,
        share: entry.share,
    };
    let drawn = draw_of(snapshot, &wanted).map_err(ApiError::internal)?;
    let mut ids: BTreeMap<TraceId, Option<f64>> = drawn.ids.into_iter().map(|id| (id, Some(1.0))).collect();
    ids.extend(drawn.others.into_iter().map(|(id, share)| (id, Some(entry.share / share.max(f64::MIN_POSITIVE)))));
    for example in drawn.examples.into_iter().take(SHAPES).flatten() {
        ids.entry(example).or_default();
    }
    let stands_for = ids;
    let ids: Vec<TraceId> = stands_for.keys().copied().collect();
    for (number, batch) in snapshot.traces_of(&ids).map_err(ApiError::internal)?.enumerate() {
        let batch = batch.map_err(ApiError::internal)?;
        let start = batch.spans().iter().map(|span| span.start_unix_nano).min().unwrap_or(0);
        let id = batch.spans().first().map(|span| span.trace_id).unwrap_or_default();
        if (window.from..=window.to).contains(&start) {
            let trace = decode_trace(&[batch]);
            let facts = trace_facts(&trace);
            let calls: Vec<Call> = trace.spans.iter().map(call).collect();
            let weight = TraceWeight::of(&trace);
            entry.add(
                &Seen { trace: &trace, facts: &facts, calls: &calls, weight },
                stands_for.get(&id).copied().flatten(),
            );
        }
        if number % 64 == 63 && (budget.cancelled.load(Ordering::Relaxed) || started.elapsed() > budget.time) {
            entry.is_read = false;
            break;
        }
    }
    Ok(entry.json(&counts))
}

#[cfg(test)]
mod tests {
    use super::super::counts::tests::{counted, near};
    use super::super::tests::{one_of_four, shop};
    use super::*;
    use spanwise_model::Trace;

    fn of(traces: &[Trace]) -> Json {
        let mut entry = Entry::new("gateway".to_owned(), "GET /cart".to_owned());
        for trace in traces {
            let facts = trace_facts(trace);
            let calls: Vec<Call> = trace.spans.iter().map(call).collect();
            entry.add(&Seen { trace, facts: &facts, calls: &calls, weight: TraceWeight::of(trace) }, Some(1.0));
        }
        entry.json(&counted(traces, Window { from: 0, to: 1_000_000_000 }))
    }

    #[test]
    fn each_tree_adds_up_to_its_mean_duration() {
        let traces: Vec<Trace> = (1..=40).map(|id| shop(id, 1, if id > 38 { 9 } else { 1 }, id == 3)).collect();
        let json = of(&traces);
        assert_eq!((&json["traces"], &json["errors"], &json["trees_from"]), (&json!(40), &json!(1), &json!(40)));
        assert!(near(&json["p50_ms"], 100.0) && near(&json["max_ms"], 900.0), "{json}");
        for group in ["typical", "slowest"] {
            let nodes = json[group]["nodes"].as_array().unwrap();
            let own: f64 = nodes.iter().map(|node| node["own_ms"].as_f64().unwrap()).sum();
            assert!((own - json[group]["mean_ms"].as_f64().unwrap()).abs() < 0.01, "{group}");
            assert_eq!(nodes[0]["total_ms"], json[group]["mean_ms"], "{group}");
        }
        assert_eq!(json["typical"]["mean_ms"], 100.0);
        assert_eq!(json["slowest"]["traces"], 5);
        let depths: Vec<_> = json["typical"]["nodes"].as_array().unwrap().iter().map(|node| &node["depth"]).collect();
        assert_eq!(depths, [0, 1, 2, 3, 3]);
    }

    #[test]
    fn shapes_are_told_apart_and_the_harmful_comes_first() {
        let mut traces: Vec<Trace> = (1..=9).map(|id| shop(id, 1, 1, false)).collect();
        traces.extend((10..=12).map(|id| shop(id, 1, 5, true)));
        let json = of(&traces);
        assert_eq!(json["shapes_in_all"], 2);
        assert_eq!((&json["shapes"][0]["traces"], &json["shapes"][0]["errors"]), (&json!(3), &json!(3)));
        assert_eq!(json["shapes"][0]["picture"][1], json!([1, 0.1, 0.8, "gateway", false]));
    }

    #[test]
    fn trees_and_shapes_weigh_traces_by_what_they_stand_for() {
        let mut traces: Vec<Trace> = (1..=10).map(|id| one_of_four(shop(id, 1, 1, false))).collect();
        traces.extend((11..=20).map(|id| shop(id, 1, 6, true)));
        let json = of(&traces);
        assert_eq!((&json["traces"], &json["traces_seen"], &json["errors"]), (&json!(50), &json!(20), &json!(10)));
        // Four fifths of all took 100 ms.
        assert!(near(&json["p50_ms"], 100.0), "{json}");
        assert_eq!(json["typical"]["mean_ms"], 100.0);
        assert_eq!((&json["typical"]["traces"], &json["typical"]["traces_seen"]), (&json!(40), &json!(10)));
        assert_eq!(json["shapes"][1]["traces"], 40);
    }

    #[test]
    fn a_few_traces_are_not_enough() {
        let json = of(&[shop(1, 1, 1, false)]);
        assert_eq!((&json["typical"]["traces"], &json["typical"]["need"]), (&json!(1), &json!(5)));
        assert_eq!(of(&[])["traces"], 0);
    }
}
