//! `GET /api/spanwise/services/summary`: every service with rate, errors, quantiles and a line over time.
//! A request is a span where a request enters the service.

use std::collections::BTreeMap;

use axum::extract::{Query, State};
use serde_json::{Value as Json, json};

use super::{Aggregate, Answer, Read, Seen, Window, WindowParameters, ms, quantile};
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
    durations: Vec<u64>,
    errors: u64,
    /// Of them, those in which the whole trace begins.
    roots: u64,
}

impl Requests {
    fn add(&mut self, duration_ns: u64, failed: bool, is_root: bool) {
        self.durations.push(duration_ns);
        self.errors += u64::from(failed);
        self.roots += u64::from(is_root);
    }

    fn json(mut self, name: &str, window: Window) -> Json {
        self.durations.sort_unstable();
        let of = |q| ms(quantile(&self.durations, q));
        let count = self.durations.len();
        let seconds = window.seconds();
        let rate = if seconds > 0.0 { Some(count as f64 / seconds) } else { None };
        json!({
            "name": name, "requests": count, "errors": self.errors, "roots": self.roots, "rate_per_s": rate,
            "p50_ms": of(0.5), "p95_ms": of(0.95), "p99_ms": of(0.99), "max_ms": of(1.0),
        })
    }
}

struct Service {
    spans: u64,
    critical_ns: u64,
    requests: Requests,
    operations: BTreeMap<String, Requests>,
    per_point: [u32; POINTS],
    errors_per_point: [u32; POINTS],
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
            spans: 0,
            critical_ns: 0,
            requests: Requests::default(),
            operations: BTreeMap::new(),
            per_point: [0; POINTS],
            errors_per_point: [0; POINTS],
        })
    }
}

impl Aggregate for Services {
    fn add(&mut self, seen: &Seen<'_>) {
        let window = self.window;
        for place in 0..seen.trace.spans.len() {
            let service = self.service(seen.service(place));
            service.spans += 1;
            service.critical_ns += seen.facts.spans[place].critical_ns;
            if !seen.enters(place) {
                continue;
            }
            let span = &seen.trace.spans[place].span;
            let (duration_ns, failed) = (span.duration_ns(), seen.is_error(place));
            let is_root = seen.facts.root == Some(place);
            service.requests.add(duration_ns, failed, is_root);
            let point = window.part(span.start_unix_nano, POINTS);
            service.per_point[point] += 1;
            service.errors_per_point[point] += u32::from(failed);
            let operation = &seen.calls[place].operation;
            if let Some(known) = service.operations.get_mut(operation) {
                known.add(duration_ns, failed, is_root);
            } else if service.operations.len() < OPERATIONS {
                service.operations.entry(operation.clone()).or_default().add(duration_ns, failed, is_root);
            }
        }
    }

    fn finish(self, read: &Read) -> Json {
        let window = self.window;
        let services = self.by_name.into_iter().map(|(name, service)| {
            let mut operations: Vec<(String, Requests)> = service.operations.into_iter().collect();
            operations.sort_by(|a, b| b.1.durations.len().cmp(&a.1.durations.len()).then_with(|| a.0.cmp(&b.0)));
            let mut json = service.requests.json(&name, window);
            json["spans"] = json!(service.spans);
            json["critical_ms"] = json!(ms(service.critical_ns));
            json["per_point"] = json!(service.per_point.to_vec());
            json["errors_per_point"] = json!(service.errors_per_point.to_vec());
            json["operations"] =
                operations.into_iter().map(|(name, requests)| requests.json(&name, window)).collect::<Json>();
            json
        });
        json!({
            "services": services.collect::<Json>(),
            "window": {"start": format_time(window.from), "end": format_time(window.to)},
            "traces": read.traces, "spans": read.spans, "complete": read.complete,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{added, shop};
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
    }
}
