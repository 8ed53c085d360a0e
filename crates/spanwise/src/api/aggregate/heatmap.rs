//! `GET /api/spanwise/heatmap`: how many traces started when and took how long; each cell with an example.
//! `service` and `operation` choose an entry point; `q` a TraceQL query instead.

use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use spanwise_model::TraceId;
use std::collections::BTreeMap;

use super::weighted::{Counted, Durations};
use super::{Aggregate, Answer, Read, Seen, Window, WindowParameters};
use crate::api::App;

const COLUMNS: usize = 72;
const ROWS: usize = 36;
/// Traces that a query contributes at most: the newest.
const QUERIED: usize = 20_000;
/// Traces kept in memory; beyond it those with every second id.
const MOST: usize = 500_000;

#[derive(Debug, Deserialize)]
pub struct Parameters {
    from: Option<String>,
    to: Option<String>,
    #[serde(default)]
    q: String,
    #[serde(default)]
    service: String,
    #[serde(default)]
    operation: String,
}

pub async fn answer(State(app): State<App>, Query(parameters): Query<Parameters>) -> Answer {
    let window = app.window(&WindowParameters { from: parameters.from, to: parameters.to })?;
    let mut heatmap = Heatmap::new(window, parameters.service, parameters.operation);
    let query = parameters.q.trim();
    if query.is_empty() || query == "{}" {
        let key = format!("heatmap {:?} {:?}", heatmap.service, heatmap.operation);
        return app.aggregate(key, window, heatmap).await;
    }
    let found = app.search(query, Some(window.from), Some(window.to), QUERIED, 0).await?;
    for trace in &found.traces {
        if (window.from..=window.to).contains(&trace.start_unix_nano) {
            let failed = trace.error_count > 0;
            heatmap.dots.push(Dot {
                start_unix_nano: trace.start_unix_nano,
                duration_ns: trace.duration_ns,
                failed,
                id: trace.trace_id,
                weight: trace.weight,
            });
        }
    }
    let complete = found.complete && found.traces.len() < QUERIED;
    let adjusted = found.traces.iter().map(|trace| trace.weight).sum();
    let read = Read { traces: found.traces.len(), adjusted, spans: found.inspected_spans, complete };
    Ok(axum::Json(heatmap.finish(&read)))
}

/// One trace.
struct Dot {
    start_unix_nano: u64,
    duration_ns: u64,
    failed: bool,
    id: TraceId,
    /// How many it stands for.
    weight: f64,
}

pub struct Heatmap {
    window: Window,
    service: String,
    operation: String,
    dots: Vec<Dot>,
    left_out: u8,
}

impl Heatmap {
    pub fn new(window: Window, service: String, operation: String) -> Self {
        Self { window, service, operation, dots: Vec::new(), left_out: 0 }
    }
}

impl Aggregate for Heatmap {
    fn add(&mut self, seen: &Seen<'_>) {
        let Some(root) = seen.facts.root else { return };
        let is_meant = |wanted: &str, own: &str| wanted.is_empty() || wanted == own;
        let id = seen.trace.spans[root].span.trace_id;
        if !is_meant(&self.service, seen.service(root))
            || !is_meant(&self.operation, &seen.calls[root].operation)
            || id.0[15] & self.left_out != 0
        {
            return;
        }
        self.dots.push(Dot {
            start_unix_nano: seen.facts.start_unix_nano,
            duration_ns: seen.facts.duration_ns,
            failed: seen.facts.error_count > 0,
            id,
            weight: seen.weight.count,
        });
        while self.dots.len() > MOST && self.left_out != u8::MAX {
            self.left_out = self.left_out << 1 | 1;
            let left_out = self.left_out;
            self.dots.retain(|dot| dot.id.0[15] & left_out == 0);
        }
    }

    fn finish(mut self, read: &Read) -> Json {
        self.dots.sort_unstable_by_key(|dot| (dot.start_unix_nano, dot.id));
        let mut durations: Durations = self.dots.iter().map(|dot| (dot.duration_ns, dot.weight)).collect();
        let of = durations.sorted();
        let edges = edges(of.first(), of.last());
        let mut cells: BTreeMap<(usize, usize), (f64, f64, TraceId)> = BTreeMap::new();
        let mut count = Counted::default();
        for (number, dot) in self.dots.iter().enumerate() {
            let row = edges.partition_point(|edge| *edge <= dot.duration_ns).saturating_sub(1).min(edges.len() - 2);
            let column = self.window.part(dot.start_unix_nano, COLUMNS);
            let cell = cells.entry((column, row)).or_insert((0.0, 0.0, dot.id));
            cell.0 += dot.weight;
            cell.1 += if dot.failed { dot.weight } else { 0.0 };
            count.add(number, dot.weight);
        }
        let cells = cells.into_iter().map(|((column, row), (count, errors, example))| {
            json!([column, row, count.round() as u64, errors.round() as u64, example.to_string()])
        });
        json!({
            "from_unix_nano": self.window.from.to_string(), "to_unix_nano": self.window.to.to_string(),
            "columns": COLUMNS, "edges_ns": edges, "cells": cells.collect::<Json>(),
            "traces": count.count(), "traces_seen": count.seen, "sampled": count.is_sampled(),
            "traces_between": count.between().map(|(low, high)| [low.round() as u64, high.round() as u64]),
            "p50_ns": of.at(0.5), "p95_ns": of.at(0.95), "p99_ns": of.at(0.99),
            "complete": read.complete && self.left_out == 0,
        })
    }
}

/// Ascending bounds of rows that are equally high on a logarithmic scale, from the shortest to beyond the longest.
fn edges(shortest: u64, longest: u64) -> Vec<u64> {
    let low = shortest.max(1_000) as f64;
    let high = (longest.saturating_add(1) as f64).max(low * 1.5);
    let step = (high / low).ln() / ROWS as f64;
    let mut edges: Vec<u64> = (0..=ROWS).map(|row| (low * (step * row as f64).exp()).round() as u64).collect();
    if let Some(first) = edges.first_mut() {
        *first = shortest.min(*first);
    }
    // Beyond 2^53 a float may round to less than the longest.
    if let Some(last) = edges.last_mut() {
        *last = (*last).max(longest.saturating_add(1));
    }
    edges.dedup();
    edges
}

#[cfg(test)]
mod tests {
    use super::super::tests::{added, one_of_four, shop};
    use super::*;

    #[test]
    fn every_trace_stands_in_one_cell() {
        let window = Window { from: 0, to: 72_000_000_000 };
        let traces = [shop(1, 0, 1, false), shop(2, 500, 1, true), shop(3, 36_000_000_000, 30, false)];
        let json = added(Heatmap::new(window, String::new(), String::new()), &traces);
        let cells = json["cells"].as_array().unwrap();
        assert_eq!(cells.len(), 2);
        assert_eq!((&cells[0][0], &cells[0][2], &cells[0][3]), (&json!(0), &json!(2), &json!(1)));
        let edges = json["edges_ns"].as_array().unwrap();
        let row = cells[1][1].as_u64().unwrap() as usize;
        assert!(edges[row].as_u64().unwrap() <= 3_000_000_000 && 3_000_000_000 < edges[row + 1].as_u64().unwrap());
        assert_eq!((&json["traces"], &json["p50_ns"]), (&json!(3), &json!(100_000_000)));
        assert_eq!((&json["sampled"], &json["traces_between"]), (&json!(false), &Json::Null));
    }

    #[test]
    fn cells_count_traces_as_often_as_they_stand_for_others() {
        let window = Window { from: 0, to: 72_000_000_000 };
        let traces = [one_of_four(shop(1, 0, 1, true)), shop(2, 500, 1, false)];
        let json = added(Heatmap::new(window, String::new(), String::new()), &traces);
        assert_eq!((&json["cells"][0][2], &json["cells"][0][3]), (&json!(5), &json!(4)));
        assert_eq!((&json["traces"], &json["traces_seen"], &json["sampled"]), (&json!(5), &json!(2), &json!(true)));
    }

    #[test]
    fn an_entry_point_leaves_out_the_others() {
        let window = Window { from: 0, to: 10 };
        let of = |service: &str| {
            added(Heatmap::new(window, service.to_owned(), "GET /cart".to_owned()), &[shop(1, 0, 1, false)])
        };
        assert_eq!((&of("gateway")["traces"], &of("cart")["traces"]), (&json!(1), &json!(0)));
        assert_eq!(of("cart")["cells"], json!([]));
    }

    #[test]
    fn rows_cover_everything_between_the_ends() {
        for (shortest, longest) in [(0, 0), (0, 5), (1_000_000, 1_000_000), (300, u64::MAX), (7, 60_000_000_000)] {
            let edges = edges(shortest, longest);
            assert!(edges.windows(2).all(|pair| pair[0] < pair[1]), "{edges:?}");
            assert!(edges.len() >= 2 && edges[0] <= shortest && *edges.last().unwrap() >= longest, "{edges:?}");
        }
    }
}
