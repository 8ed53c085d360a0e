//! `GET /api/spanwise/services/summary`: every service with rate, errors, quantiles and a line over time.
//! A request is a span where a request enters the service.

use std::collections::BTreeMap;

use axum::extract::{Query, State};
use serde_json::{Value as Json, json};
use spanwise_insight::minutes::{Cell, Kind, POINT_NS, POINTS};
use spanwise_insight::names::Name;
use spanwise_insight::population::MINUTE_NS;
use spanwise_insight::sketch::unfixed;

use super::counts::Counts;
use super::{Answer, Window, WindowParameters, ms_of};
use crate::api::App;

/// Points of the line at most.
const MOST_POINTS: u64 = 48;
/// Operations listed of a service; the rest is counted in the service alone.
const OPERATIONS: usize = 500;

pub async fn answer(State(app): State<App>, Query(parameters): Query<WindowParameters>) -> Answer {
    let window = app.window(&parameters)?;
    app.counted("services".to_owned(), window, &[Kind::Point, Kind::Operation], services_json).await
}

#[derive(Default)]
struct Service<'a> {
    operations: Vec<(&'a str, &'a Cell)>,
    points: Vec<(u64, &'a Cell)>,
}

fn services_json(counts: &Counts) -> Json {
    let mut parts: BTreeMap<Name, Service<'_>> = BTreeMap::new();
    for (key, cell) in counts.of(Kind::Operation) {
        parts.entry(key.a).or_default().operations.push((counts.text(key.b), cell));
    }
    for (key, cell) in counts.of(Kind::Point) {
        let start = u64::from(key.minute) * MINUTE_NS + key.c * POINT_NS;
        parts.entry(key.a).or_default().points.push((start, cell));
    }
    let mut services: Vec<(&str, &Cell, Name)> =
        counts.of(Kind::Service).map(|(key, cell)| (counts.text(key.a), cell, key.a)).collect();
    services.sort_unstable_by_key(|(name, ..)| *name);
    let window = counts.window.counted;
    let services = services.into_iter().map(|(name, cell, number)| {
        let Service { mut operations, points } = parts.remove(&number).unwrap_or_default();
        operations.sort_by(|a, b| b.1.adjusted.cmp(&a.1.adjusted).then_with(|| a.0.cmp(b.0)));
        let mut requests = Cell::default();
        operations.iter().for_each(|(_, operation)| requests.merge(operation));
        // Of several operations in one trace all or none were kept.
        requests.variance = cell.variance;
        let mut json = requests_json(name, &requests, window);
        json["spans"] = json!(cell.count().round() as u64);
        json["critical_ms"] = json!(ms_of(cell.critical_ns as f64));
        json["per_point"] = line(window, &points, |cell| cell.adjusted);
        json["errors_per_point"] = line(window, &points, |cell| cell.errors);
        let operations = operations.iter().filter(|(_, operation)| operation.adjusted > 0).take(OPERATIONS);
        json["operations"] = operations.map(|(name, operation)| requests_json(name, operation, window)).collect();
        json
    });
    let mut answer = json!({"services": services.collect::<Json>()});
    counts.put(&mut answer);
    answer
}

fn requests_json(name: &str, requests: &Cell, window: Window) -> Json {
    let seconds = window.seconds();
    let of = |parts: i64| unfixed(parts).max(0.0).round() as u64;
    let rate = (seconds > 0.0).then(|| requests.count() / seconds);
    let between = requests.between().filter(|_| seconds > 0.0).map(|(low, high)| [low / seconds, high / seconds]);
    json!({
        "name": name, "requests": of(requests.adjusted), "requests_seen": requests.seen.max(0),
        "errors": of(requests.errors), "roots": of(requests.extra), "rate_per_s": rate, "rate_between": between,
        "p50_ms": requests.quantile_ms(0.5), "p95_ms": requests.quantile_ms(0.95),
        "p99_ms": requests.quantile_ms(0.99), "max_ms": requests.quantile_ms(1.0),
    })
}

/// Sums over equal times, each of which is some whole parts of minutes.
fn line(window: Window, points: &[(u64, &Cell)], of: impl Fn(&Cell) -> i64) -> Json {
    let (first, last) = (window.from / POINT_NS, window.to / POINT_NS);
    let length = (last - first + 1).div_ceil(MOST_POINTS).max(1);
    let mut sums = vec![0i64; ((last - first) / length + 1).min(MOST_POINTS) as usize];
    for (start, cell) in points {
        let place = (start / POINT_NS).clamp(first, last) - first;
        if let Some(sum) = sums.get_mut((place / length) as usize) {
            *sum += of(cell);
        }
    }
    sums.into_iter().map(|parts| json!(unfixed(parts).max(0.0).round() as u64)).collect()
}

const _: () = assert!(POINTS * POINT_NS == MINUTE_NS);

#[cfg(test)]
mod tests {
    use super::super::counts::tests::{counted, near};
    use super::super::tests::{one_of_four, shop};
    use super::*;

    #[test]
    fn requests_are_counted_where_they_enter_a_service() {
        let window = Window { from: 0, to: 100_000_000_000 };
        let traces = [shop(1, 0, 1, false), shop(2, 90_000_000_000, 1, false), shop(3, 50_000_000_000, 2, true)];
        let json = services_json(&counted(&traces, window));
        let cart = &json["services"][0];
        assert_eq!((&cart["name"], &cart["requests"], &cart["spans"]), (&json!("cart"), &json!(3), &json!(9)));
        assert_eq!((&cart["errors"], &cart["roots"], &cart["rate_per_s"]), (&json!(1), &json!(0), &json!(0.03)));
        assert!(near(&cart["p50_ms"], 60.0) && near(&cart["p99_ms"], 120.0), "{cart}");
        assert_eq!(cart["per_point"], json!([1, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0]));
        assert_eq!(cart["errors_per_point"][5], 1);
        assert_eq!(cart["operations"][0]["name"], "read cart");
        assert_eq!(json["services"][1]["roots"], 3);
        // What is on the critical path of each service adds up to the traces' durations.
        let critical =
            json["services"].as_array().unwrap().iter().map(|service| service["critical_ms"].as_f64().unwrap());
        assert_eq!(critical.sum::<f64>(), 400.0);
        assert_eq!((&json["sampled"], &cart["rate_between"]), (&json!(false), &Json::Null));
        assert_eq!((&json["window"]["rounded_to_s"], &json["bounded"]), (&json!(60), &json!(false)));
    }

    #[test]
    fn requests_count_as_often_as_they_stand_for_others() {
        let window = Window { from: 0, to: 10_000_000_000 };
        let mut traces: Vec<_> = (1..=24).map(|id| one_of_four(shop(id, 0, 1, id == 1))).collect();
        traces.push(shop(25, 0, 9, false));
        let json = services_json(&counted(&traces, window));
        let cart = &json["services"][0];
        assert_eq!((&cart["requests"], &cart["requests_seen"], &cart["errors"]), (&json!(97), &json!(25), &json!(4)));
        assert_eq!((&cart["rate_per_s"], &cart["per_point"][0]), (&json!(9.7), &json!(97)));
        assert!(near(&cart["p95_ms"], 60.0) && near(&cart["p99_ms"], 540.0), "{cart}");
        // 1.96 times the root of 24 * 4 * 3.
        let between: Vec<f64> = cart["rate_between"].as_array().unwrap().iter().filter_map(Json::as_f64).collect();
        assert!((between[0] - 6.37).abs() < 0.01 && (between[1] - 13.03).abs() < 0.01, "{between:?}");
        assert_eq!((&json["traces"], &json["traces_read"], &json["sampled"]), (&json!(97), &json!(25), &json!(true)));
    }

    #[test]
    fn points_of_a_line_are_whole_parts_of_minutes() {
        let cell = Cell { adjusted: 1024, ..Cell::default() };
        let points: Vec<(u64, &Cell)> = (0..360).map(|part| (part * POINT_NS, &cell)).collect();
        let line = line(Window { from: 0, to: 3_599_999_999_999 }, &points, |cell| cell.adjusted);
        let line: Vec<u64> = line.as_array().unwrap().iter().filter_map(Json::as_u64).collect();
        assert_eq!((line.len(), line[0], line[44], line.iter().sum::<u64>()), (45, 8, 8, 360));
    }
}
