use std::sync::Arc;

use proptest::prelude::*;
use spanwise_model::{KeyValue, Resource, Span, SpanId, SpanKind, Status, StatusCode, Trace, TraceId, TraceSpan};

use super::*;
use crate::analysis::Analysis;
use crate::names::Names;
use crate::population::MINUTE_NS;
use crate::sketch::{ONE, fixed};

/// A gateway asks a cart twice, which asks its database; and a host that sends no spans.
fn shop(id: u8, start: u64, state: &str) -> Trace {
    use SpanKind::{Client, Server};
    let lines = [
        (1, 0, "gateway", "GET /cart", Server, 0, 100),
        (2, 1, "gateway", "call cart", Client, 10, 40),
        (3, 2, "cart", "read cart", Server, 20, 40),
        (4, 3, "cart", "sql items", Client, 20, 30),
        (5, 1, "gateway", "call cart", Client, 50, 70),
        (6, 5, "cart", "read cart", Server, 50, 70),
        (7, 1, "gateway", "http prices.example", Client, 70, 80),
    ];
    let spans = lines.into_iter().map(|(span, parent, service, name, kind, from, to)| TraceSpan {
        resource: Arc::new(Resource {
            attributes: vec![KeyValue::new("service.name", service)],
            ..Resource::default()
        }),
        scope: Arc::default(),
        span: Span {
            trace_id: TraceId([id; 16]),
            span_id: SpanId([span; 8]),
            parent_span_id: (parent != 0).then_some(SpanId([parent; 8])),
            name: name.to_owned(),
            kind,
            start_unix_nano: start + from * 1_000_000,
            end_unix_nano: start + to * 1_000_000,
            trace_state: state.to_owned(),
            status: Status {
                code: if id % 4 == 3 && service == "cart" { StatusCode::Error } else { StatusCode::Unset },
                ..Status::default()
            },
            attributes: match name.split_once(' ') {
                Some(("sql", database)) => {
                    vec![KeyValue::new("db.system", "sqlite"), KeyValue::new("db.name", database)]
                }
                Some(("http", host)) => vec![KeyValue::new("http.method", "GET"), KeyValue::new("peer.service", host)],
                _ => Vec::new(),
            },
            ..Span::default()
        },
    });
    Trace { spans: spans.collect() }
}

fn add(minutes: &mut Minutes, names: &mut Names, trace: &Trace, sign: Sign) {
    let mut analysis = Analysis::of(trace, names);
    let shape = analysis.shape(names);
    minutes.add_trace(&analysis, names, shape, sign);
}

/// Cells with the texts of their names.
fn read(minutes: &Minutes, names: &Names) -> Vec<(Kind, u32, String, String, u64, Cell)> {
    let text = |name: Name| match name {
        NOBODY => "nobody".to_owned(),
        OTHER => "other".to_owned(),
        name => names.text(name).to_owned(),
    };
    let row = |(key, cell): (&Key, &Cell)| {
        let has_b = !matches!(key.kind, Kind::Service | Kind::Point);
        let b = if has_b { text(key.b) } else { String::new() };
        let c = if key.kind == Kind::Edge { key.c & 0xff } else { key.c };
        (key.kind, key.minute, text(key.a), b, c, cell.clone())
    };
    let mut rows: Vec<_> = minutes.cells().map(row).collect();
    rows.sort_by(|a, b| (a.0, a.1, &a.2, &a.3, a.4).cmp(&(b.0, b.1, &b.2, &b.3, b.4)));
    rows
}

const START: u64 = 28_000_000 * MINUTE_NS;

#[test]
fn requests_calls_and_traces_are_counted_where_they_are() {
    let (mut minutes, mut names) = (Minutes::new(Bounds::BLOCK), Names::default());
    for id in 1..=4 {
        add(&mut minutes, &mut names, &shop(id, START, if id == 4 { "ot=th:c" } else { "" }), Sign::Add);
    }
    let rows = read(&minutes, &names);
    let cell = |kind: Kind, a: &str, b: &str| {
        &rows.iter().find(|row| row.0 == kind && row.2 == a && row.3 == b).unwrap_or_else(|| panic!("{a} {b}")).5
    };
    let cart = cell(Kind::Operation, "cart", "read cart");
    // Two in each of three traces, and two that stand for eight.
    assert_eq!((cart.seen, cart.adjusted, cart.errors, cart.extra), (8, 14 * ONE, 2 * ONE, 0));
    // They are kept or dropped together: 8 * 8 * 3 / 4.
    assert_eq!((cart.variance, cell(Kind::Service, "cart", "").variance), (48, 48));
    assert_eq!(cell(Kind::Operation, "gateway", "GET /cart").extra, 7 * ONE);
    let edge = cell(Kind::Edge, "gateway", "cart");
    assert_eq!((edge.seen, edge.adjusted, edge.extra), (8, 14 * ONE, 7 * ONE));
    // The wire, 10 ms, and its own time, 10 and 20 ms.
    assert_eq!(edge.critical_ns, 7 * 40_000_000);
    let database = cell(Kind::Edge, "cart", "items");
    assert_eq!((database.seen, database.critical_ns), (4, 7 * 10_000_000));
    assert_eq!(cell(Kind::Edge, "gateway", "prices.example").critical_ns, 7 * 10_000_000);
    let all: i64 = rows.iter().filter(|row| row.0 == Kind::Edge).map(|row| row.5.critical_ns).sum();
    assert_eq!(all, 7 * 100_000_000, "edges add up to the traces' durations");
    let services: i64 = rows.iter().filter(|row| row.0 == Kind::Service).map(|row| row.5.critical_ns).sum();
    assert_eq!(services, all);
    let entry = cell(Kind::Entry, "gateway", "GET /cart");
    assert_eq!((entry.seen, entry.count(), entry.errors, entry.variance), (4, 7.0, ONE, 12));
    assert!((entry.quantile_ms(0.5) / 100.0 - 1.0).abs() < 0.01);
    let shapes: Vec<_> = rows.iter().filter(|row| row.0 == Kind::Shape).map(|row| row.5.count()).collect();
    assert_eq!(shapes.iter().sum::<f64>(), 7.0);
    assert_eq!(shapes.len(), 2, "one with errors, one without");
    let points: i64 = rows.iter().filter(|row| row.0 == Kind::Point && row.2 == "cart").map(|row| row.5.adjusted).sum();
    assert_eq!(points, cart.adjusted);
    assert!(!minutes.is_bounded());
}

proptest! {
    #[test]
    fn any_order_and_any_parts_give_the_same_and_what_is_taken_away_is_gone(
        order in Just((0u8..24).collect::<Vec<_>>()).prop_shuffle(),
        cut in 0usize..24,
        gone in proptest::collection::vec(0u8..24, 0..8),
    ) {
        let one = |id: u8| {
            shop(id, START + u64::from(id) * 7_000_000_000, if id.is_multiple_of(5) { "ot=th:c" } else { "" })
        };
        let (mut whole, mut names) = (Minutes::new(Bounds::BLOCK), Names::default());
        (0..24).for_each(|id| add(&mut whole, &mut names, &one(id), Sign::Add));
        let (first, second) = order.split_at(cut);
        let mut parts = [first, second].map(|ids| {
            let mut part = Minutes::new(Bounds::BLOCK);
            for id in ids.iter().chain(&gone) {
                add(&mut part, &mut names, &one(*id), Sign::Add);
            }
            gone.iter().for_each(|id| add(&mut part, &mut names, &one(*id), Sign::TakeAway));
            part
        });
        let [into, from] = &mut parts;
        from.cells().for_each(|(key, cell)| into.merge(*key, cell));
        prop_assert_eq!(read(into, &names), read(&whole, &names));
    }
}

#[test]
fn what_there_is_no_room_for_is_counted_together_and_said() {
    let bounds = Bounds { of_minute: [1, 6, 1, 2, 1, 0], in_all: 100 };
    let (mut minutes, mut names) = (Minutes::new(bounds), Names::default());
    for id in 1..=2 {
        add(&mut minutes, &mut names, &shop(id, START, ""), Sign::Add);
    }
    assert!(minutes.is_bounded());
    let rows = read(&minutes, &names);
    let sum = |kind: Kind, of: &dyn Fn(&Cell) -> i64| {
        rows.iter().filter(|row| row.0 == kind).map(|row| of(&row.5)).sum::<i64>()
    };
    assert_eq!(sum(Kind::Service, &|cell| cell.seen), 14);
    assert_eq!(sum(Kind::Operation, &|cell| cell.seen), 6);
    assert_eq!(sum(Kind::Edge, &|cell| cell.critical_ns), 200_000_000);
    assert_eq!(sum(Kind::Shape, &|cell| cell.seen), 2);
    let of: Vec<_> = rows.iter().map(|row| (row.0, row.2.as_str(), row.3.as_str())).collect();
    assert!(of.contains(&(Kind::Service, "other", "")) && of.contains(&(Kind::Operation, "other", "other")), "{of:?}");
    assert!(of.contains(&(Kind::Shape, "gateway", "GET /cart")));
}

#[test]
fn weights_are_rounded_to_a_thousandth() {
    assert_eq!((fixed(1.0), fixed(100.0 / 99.0)), (ONE, 1034));
}
