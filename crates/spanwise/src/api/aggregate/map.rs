//! `GET /api/spanwise/map`: who calls whom, and how much of the critical path lies behind each call.
//! The time of a call counts once: on the edge by which its service was entered, the wire included. Edges and the
//! entry points' own time add up to the durations of all traces.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::{Query, State};
use serde_json::{Value as Json, json};
use spanwise_insight::minutes::{Cell, Kind, NOBODY, NodeKind};
use spanwise_insight::sketch::unfixed;

use super::counts::Counts;
use super::{Answer, WindowParameters, ms_of};
use crate::api::App;

pub async fn answer(State(app): State<App>, Query(parameters): Query<WindowParameters>) -> Answer {
    let window = app.window(&parameters)?;
    app.counted("map".to_owned(), window, &[Kind::Edge], map_json).await
}

/// Nodes shown, those with most of the critical path; how many there are beyond stands under `left_out`.
const NODES: usize = 1_000;

fn kind_str(kind: NodeKind) -> &'static str {
    match kind {
        NodeKind::Service => "service",
        NodeKind::Store => "store",
        NodeKind::Queue => "queue",
        NodeKind::Host => "host",
    }
}

/// Kind and name.
type Node<'a> = (NodeKind, &'a str);

fn id((kind, name): Node<'_>) -> String {
    format!("{}:{name}", kind_str(kind))
}

#[derive(Default)]
struct Called<'a> {
    calls: Cell,
    /// By what system, with how many calls.
    systems: BTreeMap<&'a str, i64>,
}

fn numbers(calls: &Cell) -> Json {
    json!({
        "calls": calls.count().round() as u64, "calls_seen": calls.seen.max(0),
        "errors": unfixed(calls.errors).max(0.0).round() as u64, "critical_ms": ms_of(calls.critical_ns as f64),
        "p50_ms": calls.quantile_ms(0.5), "p95_ms": calls.quantile_ms(0.95), "p99_ms": calls.quantile_ms(0.99),
    })
}

fn map_json(counts: &Counts) -> Json {
    let mut nodes: BTreeMap<Node<'_>, Called<'_>> = BTreeMap::new();
    let mut edges: BTreeMap<(Node<'_>, Node<'_>), Cell> = BTreeMap::new();
    // Own time of the services in which traces begin.
    let mut entry_ns = 0i64;
    for (key, cell) in counts.of(Kind::Edge) {
        let (kind, system) = NodeKind::of_code(key.c);
        let callee = (kind, counts.text(key.b));
        let node = nodes.entry(callee).or_default();
        node.calls.merge(cell);
        if let Some(system) = system {
            *node.systems.entry(counts.text(system)).or_default() += cell.adjusted;
        }
        if key.a == NOBODY {
            entry_ns += cell.critical_ns;
        } else {
            let caller = (NodeKind::Service, counts.text(key.a));
            nodes.entry(caller).or_default();
            edges.entry((caller, callee)).or_default().merge(cell);
        }
    }
    let mut costs: Vec<i64> = nodes.values().map(|node| node.calls.critical_ns).collect();
    costs.sort_unstable_by_key(|ns| std::cmp::Reverse(*ns));
    let least = costs.get(NODES).copied().unwrap_or(i64::MIN);
    let shown: BTreeSet<Node<'_>> =
        nodes.iter().filter(|(_, node)| node.calls.critical_ns > least).map(|(node, _)| *node).collect();
    let left_out = nodes.len() - shown.len();
    let of_nodes = nodes.iter().filter(|(node, _)| shown.contains(*node)).map(|(node, called)| {
        let mut json = numbers(&called.calls);
        json["id"] = json!(id(*node));
        json["name"] = json!(node.1);
        json["kind"] = json!(kind_str(node.0));
        json["system"] = json!(called.systems.iter().max_by_key(|(_, calls)| **calls).map(|(system, _)| system));
        json["uninstrumented"] = json!(node.0 == NodeKind::Host);
        json
    });
    let is_shown = |edge: &(Node<'_>, Node<'_>)| shown.contains(&edge.0) && shown.contains(&edge.1);
    let of_edges = edges.iter().filter(|(edge, _)| is_shown(edge)).map(|((from, to), calls)| {
        let mut json = numbers(calls);
        json["from"] = json!(id(*from));
        json["to"] = json!(id(*to));
        json["traces"] = json!(unfixed(calls.extra).max(0.0).round() as u64);
        json
    });
    let mut answer = json!({
        "nodes": of_nodes.collect::<Json>(), "edges": of_edges.collect::<Json>(),
        "entry_ms": ms_of(entry_ns as f64), "left_out": left_out,
    });
    counts.put(&mut answer);
    answer
}

#[cfg(test)]
mod tests {
    use super::super::Window;
    use super::super::counts::tests::counted;
    use super::super::tests::{one_of_four, shop};
    use super::*;
    use spanwise_model::Trace;

    fn of(traces: &[Trace]) -> Json {
        map_json(&counted(traces, Window { from: 0, to: 1_000_000_000 }))
    }

    #[test]
    fn calls_count_as_often_as_their_traces_stand_for_others() {
        let json = of(&[one_of_four(shop(1, 0, 1, true)), shop(2, 1_000, 1, false)]);
        let cart = &json["edges"].as_array().unwrap().iter().find(|edge| edge["to"] == "service:cart").unwrap();
        assert_eq!((&cart["calls"], &cart["calls_seen"], &cart["errors"]), (&json!(5), &json!(2), &json!(4)));
        assert_eq!((&cart["traces"], &cart["critical_ms"]), (&json!(5), &json!(150.0)));
        assert_eq!((&json["traces"], &json["traces_read"], &json["sampled"]), (&json!(5), &json!(2), &json!(true)));
    }

    #[test]
    fn critical_time_stands_on_the_edge_by_which_it_was_entered() {
        let traces = [shop(1, 0, 1, false), shop(2, 1_000, 1, true)];
        let json = of(&traces);
        let nodes: Vec<_> = json["nodes"].as_array().unwrap().iter().map(|node| node["id"].as_str().unwrap()).collect();
        assert_eq!(nodes, ["service:cart", "service:gateway", "store:items", "host:prices.example"]);
        let edge = |from: &str, to: &str| {
            let edges = json["edges"].as_array().unwrap();
            edges.iter().find(|edge| edge["from"] == from && edge["to"] == to).unwrap()
        };
        let cart = edge("service:gateway", "service:cart");
        assert_eq!((&cart["calls"], &cart["traces"], &cart["errors"]), (&json!(2), &json!(2), &json!(1)));
        // 20 ms of wire and 10 ms of its own, in each of two traces.
        assert_eq!(cart["critical_ms"], 60.0);
        assert_eq!(edge("service:cart", "store:items")["critical_ms"], 60.0);
        assert_eq!(edge("service:cart", "host:prices.example")["critical_ms"], 40.0);
        assert_eq!(json["nodes"][3]["uninstrumented"], true);
        let edges = json["edges"].as_array().unwrap().iter().map(|edge| edge["critical_ms"].as_f64().unwrap());
        assert_eq!(edges.sum::<f64>() + json["entry_ms"].as_f64().unwrap(), 200.0);
    }
}
