//! `GET /api/spanwise/services/summary`: every service with rate, errors, quantiles and a line over time.
//! A request is a span where a request enters the service.

use std::collections::BTreeMap;

use axum::extract::{Query, State};
use serde_json::{Value as Json, json};

use super::weighted::{Counted, Durations, rate_json};
use super::{Aggregate, Answer, Read, Seen, Window, WindowParameters, ms_of};
use crate::api::App;
use crate::time_text::format_time;

/// Points of the line.
const POINTS: usize = 48;
/// Operations listed of a service; the rest is counted in the service alone.
const OPERATIONS: usize = 500;

pub async fn answer(State(app): State<App>, Query(parameters): Query<WindowParameters>) -> Answer {
    let window = app.window(&parameters)?;
    app.aggregate("services".to_owned(), window, Services::new(window)).await
}

#[derive(Default)]
struct Requests {
    count: Counted,
    durations: Durations,
    errors: f64,
    /// Of them, those in which the whole trace begins.
    roots: f64,
}

/// One of them.
struct Request {
    trace: usize,
    weight: f64,
    duration_ns: u64,
    failed: bool,
    is_root: bool,
}

impl Requests {
    fn add(&mut self, request: &Request) {
        self.count.add(request.trace, request.weight);
        self.durations.push(request.duration_ns, request.weight);
        self.errors += if request.failed { request.weight } else { 0.0 };
        self.roots += if request.is_root { request.weight } else { 0.0 };
    }

    fn json(mut self, name: &str, window: Window) -> Json {
        let (rate, between) = rate_json(&self.count, window.seconds());
        let of = self.durations.sorted();
        json!({
            "name": name, "requests": self.count.count(), "requests_seen": self.count.seen,
            "errors": self.errors.round() as u64, "roots": self.roots.round() as u64,
            "rate_per_s": rate, "rate_between": between,
            "p50_ms": of.ms(0.5), "p95_ms": of.ms(0.95), "p99_ms": of.ms(0.99), "max_ms": of.ms(1.0),
        })
    }
}

struct Service {
    spans: f64,
    critical_ns: f64,
    requests: Requests,
    operations: BTreeMap<String, Requests>,
    per_point: [f64; POINTS],
    errors_per_point: [f64; POINTS],
}

pub struct Services {
    window: Window,
    by_name: BTreeMap<String, Service>,
}

impl Services {
    pub fn new(window: Window) -> Self {
        Self { window, by_name: BTreeMap::new() }
    }

    fn service(&mut self, name: &str) -> &mut Service {
        self.by_name.entry(name.to_owned()).or_insert_with(|| Service {
            spans: 0.0,
            critical_ns: 0.0,
            requests: Requests::default(),
            operations: BTreeMap::new(),
            per_point: [0.0; POINTS],
            errors_per_point: [0.0; POINTS],
        })
    }
}

impl Aggregate for Services {
    fn add(&mut self, seen: &Seen<'_>) {
        let window = self.window;
        for place in 0..seen.trace.spans.len() {
            let service = self.service(seen.service(place));
            let weight = seen.span_weight(place);
            service.spans += weight;
            // As often as the whole trace counts, so that services add up to the traces' durations.
            service.critical_ns += seen.facts.spans[place].critical_ns as f64 * seen.weight.count;
            if !seen.enters(place) {
                continue;
            }
            let span = &seen.trace.spans[place].span;
            let request = Request {
                trace: seen.number,
                weight,
                duration_ns: span.duration_ns(),
                failed: seen.is_error(place),
                is_root: seen.facts.root == Some(place),
            };
            service.requests.add(&request);
            let point = window.part(span.start_unix_nano, POINTS);
            service.per_point[point] += weight;
            service.errors_per_point[point] += if request.failed { weight } else { 0.0 };
            let operation = &seen.calls[place].operation;
            if let Some(known) = service.operations.get_mut(operation) {
                known.add(&request);
            } else if service.operations.len() < OPERATIONS {
                service.operations.entry(operation.clone()).or_default().add(&request);
            }
        }
    }

    fn finish(self, read: &Read) -> Json {
        let window = self.window;
        let services = self.by_name.into_iter().map(|(name, service)| {
            let mut operations: Vec<(String, Requests)> = service.operations.into_iter().collect();
            operations
                .sort_by(|a, b| b.1.count.adjusted().total_cmp(&a.1.count.adjusted()).then_with(|| a.0.cmp(&b.0)));
            let mut json = service.requests.json(&name, window);
            json["spans"] = json!(service.spans.round() as u64);
            json["critical_ms"] = json!(ms_of(service.critical_ns));
            json["per_point"] = points(&service.per_point);
            json["errors_per_point"] = points(&service.errors_per_point);
            json["operations"] =
                operations.into_iter().map(|(name, requests)| requests.json(&name, window)).collect::<Json>();
            json
        });
        let mut answer = json!({
            "services": services.collect::<Json>(),
            "window": {"start": format_time(window.from), "end": format_time(window.to)},
            "traces": read.adjusted.round() as u64,
        });
        read.put(&mut answer);
        answer
    }
}

fn points(points: &[f64; POINTS]) -> Json {
    points.iter().map(|count| json!(count.round() as u64)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{added, one_of_four, shop};
    use super::*;

    #[test]
    fn requests_are_counted_where_they_enter_a_service() {
        let window = Window { from: 0, to: 10_000_000_000 };
        let traces = [shop(1, 0, 1, false), shop(2, 9_000_000_000, 1, false), shop(3, 5_000_000_000, 2, true)];
        let json = added(Services::new(window), &traces);
        let cart = &json["services"][0];
        assert_eq!((&cart["name"], &cart["requests"], &cart["spans"]), (&json!("cart"), &json!(3), &json!(9)));
        assert_eq!((&cart["errors"], &cart["roots"], &cart["rate_per_s"]), (&json!(1), &json!(0), &json!(0.3)));
        assert_eq!((&cart["p50_ms"], &cart["p99_ms"]), (&json!(60.0), &json!(120.0)));
        assert_eq!(cart["per_point"][0], 1);
        assert_eq!(cart["errors_per_point"][24], 1);
        assert_eq!(cart["operations"][0]["name"], "read cart");
        assert_eq!(json["services"][1]["roots"], 3);
        // What is on the critical path of each service adds up to the traces' durations.
        let critical =
            json["services"].as_array().unwrap().iter().map(|service| service["critical_ms"].as_f64().unwrap());
        assert_eq!(critical.sum::<f64>(), 400.0);
        assert_eq!((&json["sampled"], &cart["rate_between"]), (&json!(false), &Json::Null));
    }

    #[test]
    fn requests_count_as_often_as_they_stand_for_others() {
        let window = Window { from: 0, to: 10_000_000_000 };
        let mut traces: Vec<_> = (1..=24).map(|id| one_of_four(shop(id, 0, 1, id == 1))).collect();
        traces.push(shop(25, 0, 9, false));
        let json = added(Services::new(window), &traces);
        let cart = &json["services"][0];
        assert_eq!((&cart["requests"], &cart["requests_seen"], &cart["errors"]), (&json!(97), &json!(25), &json!(4)));
        assert_eq!((&cart["rate_per_s"], &cart["per_point"][0]), (&json!(9.7), &json!(97)));
        assert_eq!((&cart["p95_ms"], &cart["p99_ms"]), (&json!(60.0), &json!(540.0)));
        // 1.96 times the root of 24 * 4 * 3.
        let between: Vec<f64> = cart["rate_between"].as_array().unwrap().iter().filter_map(Json::as_f64).collect();
        assert!((between[0] - 6.37).abs() < 0.01 && (between[1] - 13.03).abs() < 0.01, "{between:?}");
        assert_eq!((&json["traces"], &json["traces_read"], &json["sampled"]), (&json!(97), &json!(25), &json!(true)));
    }
}
