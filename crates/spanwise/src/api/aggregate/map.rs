//! `GET /api/spanwise/map`: who calls whom, and how much of the critical path lies behind each call.
//! The time of a call counts once: on the edge by which its service was entered, the wire included. Edges and the
//! entry points' own time add up to the durations of all traces.

use std::collections::BTreeMap;

use axum::extract::{Query, State};
use serde_json::{Value as Json, json};
use spanwise_insight::calls::Category;

use super::weighted::{Counted, Durations};
use super::{Aggregate, Answer, Read, Seen, WindowParameters, ms_of};
use crate::api::App;

pub async fn answer(State(app): State<App>, Query(parameters): Query<WindowParameters>) -> Answer {
    let window = app.window(&parameters)?;
    app.aggregate("map".to_owned(), window, Map::default()).await
}

/// Nodes shown; what lies beyond is counted under `left_out`.
const NODES: usize = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Kind {
    Service,
    /// A database or cache: it sends no spans.
    Store,
    Queue,
    /// An HTTP or RPC peer that sends no spans.
    Host,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Store => "store",
            Self::Queue => "queue",
            Self::Host => "host",
        }
    }
}

type Node = (Kind, String);

#[derive(Default)]
struct Calls {
    count: Counted,
    durations: Durations,
    errors: f64,
    critical_ns: f64,
    traces: f64,
    last_trace: usize,
    system: Option<String>,
}

impl Calls {
    fn add(&mut self, seen: &Seen<'_>, place: usize) {
        let weight = seen.span_weight(place);
        self.count.add(seen.number, weight);
        self.durations.push(seen.trace.spans[place].span.duration_ns(), weight);
        self.errors += if seen.is_error(place) { weight } else { 0.0 };
    }
}

#[derive(Default)]
pub struct Map {
    numbers: BTreeMap<Node, usize>,
    nodes: Vec<Calls>,
    edges: BTreeMap<(usize, usize), Calls>,
    /// Own time of the services in which traces begin.
    entry_ns: f64,
    left_out: u64,
}

impl Map {
    fn node(&mut self, kind: Kind, name: &str) -> Option<usize> {
        if let Some(number) = self.numbers.get(&(kind, name.to_owned())) {
            return Some(*number);
        }
        if self.nodes.len() >= NODES {
            self.left_out += 1;
            return None;
        }
        self.nodes.push(Calls::default());
        self.numbers.insert((kind, name.to_owned()), self.nodes.len() - 1);
        Some(self.nodes.len() - 1)
    }

    fn called(&mut self, edge: (usize, usize), seen: &Seen<'_>, place: usize) {
        let edge = self.edges.entry(edge).or_default();
        edge.add(seen, place);
        if edge.last_trace != seen.number {
            edge.last_trace = seen.number;
            edge.traces += seen.weight.count;
        }
    }
}

/// Whom a call without an answering span went to.
fn silent<'a>(seen: &'a Seen<'_>, place: usize) -> Option<(Kind, &'a str)> {
    let call = &seen.calls[place];
    let name = || call.peer.as_deref().or(call.system.as_deref());
    match call.category {
        Category::Database => Some((Kind::Store, name().unwrap_or("database"))),
        Category::Messaging => Some((Kind::Queue, name()?)),
        _ => Some((Kind::Host, call.peer.as_deref()?)),
    }
}

impl Aggregate for Map {
    fn add(&mut self, seen: &Seen<'_>) {
        // By which edge the span's service was entered; none for where the trace begins.
        let mut entered: Vec<Option<(usize, usize)>> = vec![None; seen.trace.spans.len()];
        for place in seen.parents_first() {
            let service = seen.service(place);
            let Some(node) = self.node(Kind::Service, service) else { continue };
            let parent = seen.facts.tree.parent[place];
            entered[place] = parent.and_then(|parent| entered[parent]);
            if seen.enters(place) {
                self.nodes[node].add(seen, place);
                if let Some(caller) = parent.and_then(|parent| self.node(Kind::Service, seen.service(parent))) {
                    entered[place] = Some((caller, node));
                    self.called((caller, node), seen, place);
                }
            }
            let mut charged = entered[place];
            if seen.calls[place].is_outgoing {
                let children = &seen.facts.tree.children[place];
                let answering = children.iter().find(|child| seen.service(**child) != service);
                let is_inner = parent.is_some_and(|parent| {
                    seen.calls[parent].category == Category::Database && seen.service(parent) == service
                });
                if let Some(child) = answering {
                    // The wire belongs to the call.
                    charged = self.node(Kind::Service, seen.service(*child)).map(|callee| (node, callee));
                } else if let Some((kind, name)) = silent(seen, place)
                    && !is_inner
                    && let Some(callee) = self.node(kind, name)
                {
                    charged = Some((node, callee));
                    self.nodes[callee].add(seen, place);
                    self.nodes[callee].system = seen.calls[place].system.clone();
                    self.called((node, callee), seen, place);
                }
            }
            let critical_ns = seen.facts.spans[place].critical_ns as f64 * seen.weight.count;
            match charged {
                Some(edge) => {
                    self.edges.entry(edge).or_default().critical_ns += critical_ns;
                    self.nodes[edge.1].critical_ns += critical_ns;
                }
                None => {
                    self.entry_ns += critical_ns;
                    self.nodes[node].critical_ns += critical_ns;
                }
            }
        }
    }

    fn finish(mut self, read: &Read) -> Json {
        let name = |(kind, name): &Node| format!("{}:{name}", kind.as_str());
        let mut names = vec![String::new(); self.nodes.len()];
        for (node, number) in &self.numbers {
            names[*number] = name(node);
        }
        let numbers = |calls: &mut Calls| {
            let of = calls.durations.sorted();
            json!({
                "calls": calls.count.count(), "calls_seen": calls.count.seen, "errors": calls.errors.round() as u64,
                "critical_ms": ms_of(calls.critical_ns),
                "p50_ms": of.ms(0.5), "p95_ms": of.ms(0.95), "p99_ms": of.ms(0.99),
            })
        };
        let nodes: Vec<Json> = self
            .numbers
            .iter()
            .map(|((kind, name), number)| {
                let calls = &mut self.nodes[*number];
                let mut json = numbers(calls);
                json["id"] = json!(names[*number]);
                json["name"] = json!(name);
                json["kind"] = json!(kind.as_str());
                json["system"] = json!(calls.system);
                json["uninstrumented"] = json!(*kind == Kind::Host);
                json
            })
            .collect();
        let edges: Vec<Json> = self
            .edges
            .iter_mut()
            .map(|((from, to), calls)| {
                let mut json = numbers(calls);
                json["from"] = json!(names[*from]);
                json["to"] = json!(names[*to]);
                json["traces"] = json!(calls.traces.round() as u64);
                json
            })
            .collect();
        let mut answer = json!({
            "nodes": nodes, "edges": edges, "entry_ms": ms_of(self.entry_ns), "left_out": self.left_out,
            "traces": read.adjusted.round() as u64,
        });
        read.put(&mut answer);
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{added, one_of_four, shop};
    use super::*;

    #[test]
    fn calls_count_as_often_as_their_traces_stand_for_others() {
        let json = added(Map::default(), &[one_of_four(shop(1, 0, 1, true)), shop(2, 1_000, 1, false)]);
        let cart = &json["edges"].as_array().unwrap().iter().find(|edge| edge["to"] == "service:cart").unwrap();
        assert_eq!((&cart["calls"], &cart["calls_seen"], &cart["errors"]), (&json!(5), &json!(2), &json!(4)));
        assert_eq!((&cart["traces"], &cart["critical_ms"]), (&json!(5), &json!(150.0)));
        assert_eq!((&json["traces"], &json["traces_read"], &json["sampled"]), (&json!(5), &json!(2), &json!(true)));
    }

    #[test]
    fn critical_time_stands_on_the_edge_by_which_it_was_entered() {
        let traces = [shop(1, 0, 1, false), shop(2, 1_000, 1, true)];
        let json = added(Map::default(), &traces);
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
