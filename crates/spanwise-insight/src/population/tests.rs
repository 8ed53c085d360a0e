use super::*;
use spanwise_model::{KeyValue, Resource, Span, SpanId, SpanKind, Status, StatusCode, TraceId, TraceSpan, Value};
use std::sync::Arc;

const MS: u64 = 1_000_000;

/// Spans of one trace; times in milliseconds from its start.
struct Builder {
    trace: Trace,
    number: u64,
    start: u64,
}

impl Builder {
    fn new(number: u64) -> Self {
        Self { trace: Trace::default(), number, start: 1_700_000_000_000 * MS + number * 1000 * MS }
    }

    fn span(&mut self, parent: usize, service: &str, kind: SpanKind, name: &str, from: u64, to: u64) -> usize {
        let mut trace_id = [9; 16];
        trace_id[..8].copy_from_slice(&self.number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        let id = self.trace.spans.len() as u64 + 1;
        let resource = Resource { attributes: vec![KeyValue::new("service.name", service)], ..Resource::default() };
        let span = Span {
            trace_id: TraceId(trace_id),
            span_id: SpanId(id.to_be_bytes()),
            parent_span_id: (parent > 0).then(|| SpanId((parent as u64).to_be_bytes())),
            name: name.to_owned(),
            kind,
            start_unix_nano: self.start + from * MS,
            end_unix_nano: self.start + to * MS,
            ..Span::default()
        };
        self.trace.spans.push(TraceSpan { resource: Arc::new(resource), scope: Arc::default(), span });
        id as usize
    }

    fn set(&mut self, id: usize, key: &str, value: impl Into<Value>) {
        self.trace.spans[id - 1].span.attributes.push(KeyValue { key: key.to_owned(), value: value.into() });
    }

    fn sql(&mut self, parent: usize, service: &str, statement: &str, from: u64, to: u64) -> usize {
        let id = self.span(parent, service, SpanKind::Client, "query", from, to);
        self.set(id, "db.system", "postgresql");
        self.set(id, "db.statement", statement);
        id
    }

    /// A client's span and the server's.
    fn call(&mut self, parent: usize, from: &str, to: &str, name: &str, start: u64, end: u64) -> usize {
        let client = self.span(parent, from, SpanKind::Client, name, start, end);
        self.span(client, to, SpanKind::Server, name, start + 1, end - 1)
    }
}

fn insights(traces: impl IntoIterator<Item = Trace>) -> Insights {
    let mut population = Population::default();
    traces.into_iter().for_each(|trace| population.add(&trace));
    population.finish()
}

fn kinds(insights: &Insights) -> Vec<&'static str> {
    insights.findings.iter().map(|finding| finding.kind).collect()
}

fn healthy(number: u64) -> Trace {
    let mut b = Builder::new(number);
    let root = b.span(0, "gateway", SpanKind::Server, "GET /cart", 0, 60 + number % 7);
    let cart = b.call(root, "gateway", "cart", "GET /items", 5, 55);
    b.sql(cart, "cart", "SELECT * FROM items WHERE cart = 5", 10, 50);
    b.trace
}

#[test]
fn healthy_traffic_is_silence() {
    let result = insights((0..2000).map(healthy));
    assert_eq!(kinds(&result), Vec::<&str>::new(), "{:?}", result.findings);
    assert!(result.complete && result.traces == 2000 && result.not_enough_data.is_empty());
}

#[test]
fn a_loop_of_queries_behind_two_pages_is_one_finding() {
    let result = insights((0..200).map(|number| {
        let mut b = Builder::new(number);
        let page = if number % 4 == 0 { "POST /checkout" } else { "GET /cart" };
        let root = b.span(0, "gateway", SpanKind::Server, page, 0, 300);
        let cart = b.call(root, "gateway", "cart", "GET /items", 5, 295);
        for item in 0..10 + number % 5 {
            let statement = format!("SELECT name FROM items WHERE id = {item}");
            b.sql(cart, "cart", &statement, 10 + item * 20, 25 + item * 20);
        }
        b.trace
    }));
    assert_eq!(kinds(&result), ["n_plus_one"]);
    let finding = &result.findings[0];
    assert_eq!((finding.traces_affected, finding.traces_seen, finding.service.as_str()), (200, 200, "cart"));
    assert_eq!(finding.subject["callee"]["operation"], "SELECT name FROM items WHERE id = ?");
    assert_eq!(finding.subject["repeats"]["p50"], 12);
    assert_eq!(finding.operation, "GET /cart");
    assert!(finding.evidence.iter().any(|line| line.contains("gateway GET /cart, gateway POST /checkout")));
    assert_eq!(finding.confidence, "high");
    // The same in one trace alone.
    let mut b = Builder::new(1);
    let root = b.span(0, "cart", SpanKind::Server, "GET /items", 0, 300);
    for n in 0..6 {
        b.sql(root, "cart", "SELECT 1", n * 10, n * 10 + 9);
    }
    let single = findings_of(&b.trace);
    assert_eq!((single.len(), single[0].kind, single[0].traces_seen), (1, "n_plus_one", 1));
}

#[test]
fn a_service_behind_three_pages_that_none_calls_is_silent() {
    let pages = ["GET /cart", "POST /checkout", "GET /products"];
    let trace = |number: u64, asks: bool| {
        let mut b = Builder::new(number);
        let page = (number % 3) as usize;
        let root = b.span(0, "gateway", SpanKind::Server, pages[page], 0, 100);
        let behind = ["cart", "payment", "catalog"][page];
        let server = b.call(root, "gateway", behind, "do", 5, 95);
        if asks {
            b.call(server, behind, "auth", "verify", 10, 50);
        }
        b.trace
    };
    let result = insights((0..300).map(|number| trace(number, true)));
    assert_eq!(kinds(&result), ["silent_dependency"], "{:?}", result.findings);
    let subject = &result.findings[0].subject;
    assert_eq!(subject["dependency"]["service"], "auth");
    assert_eq!(subject["via"], serde_json::json!(["cart", "catalog", "payment"]));
    assert_eq!(subject["entry_points"].as_array().unwrap().len(), 3);
    let named: Vec<String> =
        result.findings[0].entry_points.iter().map(|(service, operation)| format!("{service} {operation}")).collect();
    assert_eq!(subject["entry_points"], serde_json::json!(named));
    assert_eq!(subject["uninstrumented"], false);
    // Two pages and one caller are what people know.
    let one = insights((0..300).map(|number| trace(number * 3, true)));
    assert_eq!(kinds(&one), Vec::<&str>::new());
    // Absent from 250 traces of each page, then there.
    let new = insights((0..1200).map(|number| trace(number * 3, number >= 750)));
    assert_eq!(kinds(&new), ["silent_dependency"]);
}

#[test]
fn an_old_card_that_times_out_is_a_slow_rare_path() {
    let result = insights((0..1000).map(|number| {
        let mut b = Builder::new(number);
        let is_old = number % 40 == 7;
        let took = if is_old { 1520 } else { 40 + number % 11 };
        let root = b.span(0, "gateway", SpanKind::Server, "POST /checkout", 0, took);
        b.set(root, "url.query", format!("user=u{number}&card={}", if is_old { "old" } else { "new" }).as_str());
        let pay = b.call(root, "gateway", "payment", "POST /pay", 5, took - 5);
        b.set(pay, "bank", if is_old { "slow-bank" } else { "bank" });
        b.trace
    }));
    assert_eq!(kinds(&result), ["slow_rare_path"], "{:?}", result.findings);
    let finding = &result.findings[0];
    let places = finding.subject["where"].as_array().unwrap();
    assert!(places.contains(&serde_json::json!({"key": "url.query.card", "value": "old"})), "{places:?}");
    assert_eq!(finding.subject["timeout_ms"], 1500);
    assert_eq!((finding.traces_affected, finding.traces_seen), (25, 1000));
}

/// Of 1,000 checkouts of 300 ms 25 are with old cards; `took` says what an odd one and an ordinary one take.
fn checkouts(took: impl Fn(u64, bool) -> u64) -> Insights {
    insights((0..1000).map(|number| {
        let mut b = Builder::new(number);
        let is_old = number % 40 == 7;
        let took = took(number, is_old);
        let root = b.span(0, "gateway", SpanKind::Server, "POST /checkout", 0, took + 30);
        b.set(root, "card", if is_old { "old" } else { "new" });
        b.call(root, "gateway", "payment", "POST /pay", 5, took + 5);
        b.trace
    }))
}

#[test]
fn a_rare_path_that_waits_for_a_timeout_is_one_though_it_is_not_many_times_slower() {
    let random = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let usual = |number: u64| 230 + random(number) % 140;
    let result = checkouts(|number, is_old| if is_old { 500 + number % 3 } else { usual(number) });
    assert_eq!(kinds(&result), ["slow_rare_path"], "{:?}", result.findings);
    let finding = &result.findings[0];
    assert_eq!(finding.subject["where"], serde_json::json!([{"key": "card", "value": "old"}]));
    assert_eq!((&finding.subject["timeout_ms"], finding.traces_affected), (&500.into(), 25));
    assert!(finding.title.contains("take 1.6 times as long"), "{}", finding.title);
    assert!(finding.evidence[0].contains("25 of 25 traces with card = old spend most of their time waiting 500"));
    // Between two timeouts; on one, but no slower than others; as many others as old cards, and more, wait as well.
    let none: [&dyn Fn(u64, bool) -> u64; 3] = [
        &|number, is_old| if is_old { 520 + number % 60 } else { usual(number) },
        &|number, is_old| if is_old { 300 + number % 3 } else { usual(number) },
        &|number, is_old| if is_old || number % 10 == 3 { 500 + number % 3 } else { usual(number) },
    ];
    for (place, took) in none.into_iter().enumerate() {
        let result = checkouts(took);
        assert_eq!(kinds(&result), Vec::<&str>::new(), "{place}: {:?}", result.findings);
    }
}

#[test]
fn a_random_slow_tail_has_no_explanation_and_no_finding() {
    let result = insights((0..2000).map(|number| {
        let mut b = Builder::new(number);
        let took = if number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58 == 0 { 500 } else { 40 };
        let root = b.span(0, "gateway", SpanKind::Server, "GET /", 0, took);
        b.set(root, "pod", format!("pod-{}", number % 30).as_str());
        b.set(root, "user", format!("u{}", number % 300).as_str());
        b.trace
    }));
    assert_eq!(kinds(&result), Vec::<&str>::new(), "{:?}", result.findings);
}

#[test]
fn time_after_a_quick_query_is_not_the_querys() {
    let result = insights((0..60).map(|number| {
        let mut b = Builder::new(number);
        let rows = 100 + (number * 37) % 200;
        let root = b.span(0, "gateway", SpanKind::Server, "GET /orders", 0, 10 + rows);
        let query = b.sql(root, "gateway", "SELECT * FROM orders", 1, 8);
        b.set(query, "db.response.returned_rows", Value::Int(rows as i64));
        b.trace
    }));
    assert_eq!(kinds(&result), ["misattributed_bottleneck"], "{:?}", result.findings);
    let subject = &result.findings[0].subject;
    assert_eq!(subject["actual"]["part"], "after");
    assert_eq!(subject["blamed"]["operation"], "SELECT * FROM orders");
    assert_eq!(subject["grows_with"], "db.response.returned_rows");
}

#[test]
fn an_error_that_nobody_hears_of_is_hidden() {
    let result = insights((0..100).map(|number| {
        let mut b = Builder::new(number);
        let root = b.span(0, "gateway", SpanKind::Server, "GET /cart", 0, 50);
        let call = b.call(root, "gateway", "offers", "GET /offers", 5, 45);
        if number % 5 == 0 {
            for id in [call - 1, call] {
                b.trace.spans[id - 1].span.status = Status { code: StatusCode::Error, ..Status::default() };
            }
        }
        b.trace
    }));
    assert_eq!(kinds(&result), ["hidden_error"]);
    let finding = &result.findings[0];
    assert_eq!(finding.subject["born"]["service"], "offers");
    assert_eq!(finding.subject["swallowed_by"]["operation"], "GET /cart");
    assert_eq!((finding.traces_affected, finding.subject["share_of_traces"].as_f64()), (20, Some(0.2)));
}

#[test]
fn few_traces_are_said_to_be_few() {
    let result = insights((0..10).map(healthy));
    assert_eq!(result.not_enough_data.len(), KINDS.len());
    assert_eq!((result.not_enough_data[0].have, result.not_enough_data[0].need), (10, 20));
}

#[test]
fn the_order_of_arrival_does_not_show_and_a_sample_says_so() {
    let traces: Vec<Trace> = (0..400).map(healthy).collect();
    let forwards = insights(traces.clone());
    let backwards = insights(traces.iter().rev().cloned());
    assert_eq!(forwards, backwards);
    let mut bounded = Population::with_bound(100);
    traces.iter().for_each(|trace| bounded.add(trace));
    let kept = bounded.rows.len();
    assert!((26..=100).contains(&kept), "{kept}");
    let result = bounded.finish();
    assert!(!result.complete && result.traces == 400 && result.looked_at == kept);
    assert!(forwards.complete && forwards.looked_at == 400);
}

#[test]
fn traces_that_are_looked_at_stand_for_all_that_were_counted() {
    let looped = |number: u64| {
        let mut b = Builder::new(number);
        let root = b.span(0, "shop", SpanKind::Server, "GET /cart", 0, 100);
        for at in 0..10 + number % 5 {
            let statement = format!("SELECT name FROM items WHERE id = {at}");
            b.sql(root, "shop", &statement, at * 7, at * 7 + 6);
        }
        b.trace
    };
    let mut population = Population::with_bound(100);
    let healthy = |number| match number % 2 {
        0 => looped(number),
        _ => healthy(number),
    };
    (0..400).for_each(|number| population.add(&healthy(number)));
    for (service, traces) in [("shop", 200.0), ("gateway", 200.0)] {
        let [service, operation] = [service, "GET /cart"].map(|text| population.names_mut().number(text));
        population.total(Operation { service, operation }, traces);
    }
    let result = population.finish();
    let finding = &result.findings[0];
    assert_eq!((finding.kind, finding.traces_affected, finding.traces_seen), ("n_plus_one", 200, 200));
    assert!((finding.cost.total_ms / (200.0 * finding.cost.typical_ms) - 1.0).abs() < 0.01, "{:?}", finding.cost);
}

#[test]
fn an_entry_point_with_few_of_many_traces_is_looked_at_whole() {
    let trace = |number: u64| match number % 500 {
        7 => {
            let mut b = Builder::new(number);
            let root = b.span(0, "shop", SpanKind::Server, "GET /rare", 0, 100);
            for at in 0..10 + number % 3 {
                b.sql(root, "shop", &format!("SELECT name FROM items WHERE id = {at}"), at * 7, at * 7 + 6);
            }
            b.trace
        }
        _ => healthy(number),
    };
    let mut population = Population::with_bound(400);
    let entries = [("shop", "GET /rare", 24), ("gateway", "GET /cart", 11_976)].map(|(service, operation, traces)| {
        let [service, operation] = [service, operation].map(|text| population.names_mut().number(text));
        (Operation { service, operation }, traces)
    });
    entries.iter().for_each(|(entry, traces)| population.total(*entry, *traces as f64));
    population.share(Shares::of(&entries.map(|(entry, traces)| (Some(entry), traces)), 400));
    (0..12_000).for_each(|number| population.add(&trace(number)));
    let kept = population.rows.len();
    assert!((24 + 100..=400).contains(&kept), "{kept}");
    let result = population.finish();
    assert_eq!((result.traces, result.looked_at, result.complete, result.is_rounded), (12_000, kept, false, true));
    assert_eq!(kinds(&result), ["n_plus_one"]);
    let finding = &result.findings[0];
    assert_eq!((finding.traces_affected, finding.traces_seen), (24, 24));
    assert_eq!(result.not_enough_data.len(), 1, "too few for what is rare: {:?}", result.not_enough_data);
}

#[test]
fn the_entry_point_that_has_most_traces_is_named_not_the_one_that_is_looked_at_most() {
    let mut population = Population::default();
    population.share(Shares::default());
    // All of 60 traces of the one are looked at, 40 of 4,000 of the other.
    for (page, numbers, traces) in [("GET /few", 0..60, 60.0), ("GET /many", 100..140, 4_000.0)] {
        for number in numbers {
            let mut b = Builder::new(number);
            let root = b.span(0, "gateway", SpanKind::Server, page, 0, 110);
            let items = b.call(root, "gateway", "shop", "GET /items", 1, 105);
            for at in 0..10 + number % 3 {
                b.sql(items, "shop", &format!("SELECT name FROM items WHERE id = {at}"), 3 + at * 7, at * 7 + 9);
            }
            population.add(&b.trace);
        }
        let [service, operation] = ["gateway", page].map(|text| population.names_mut().number(text));
        population.total(Operation { service, operation }, traces);
    }
    let result = population.finish();
    assert_eq!(kinds(&result), ["n_plus_one"], "{:?}", result.findings);
    let finding = &result.findings[0];
    assert_eq!((finding.operation.as_str(), finding.traces_affected), ("GET /many", 4_060));
    assert!(finding.evidence.iter().any(|line| line.contains("gateway GET /many, gateway GET /few")));
}

#[test]
fn a_row_keeps_times_from_where_findings_ask_for_them() {
    // Of 100 ms a call takes 10 and own time after it 10; then either takes a millisecond less.
    for ((from, to), kept) in [((80, 90), [10 * MS, 10 * MS]), ((81, 90), [0, 10 * MS]), ((80, 91), [11 * MS, 0])] {
        let mut b = Builder::new(1);
        let root = b.span(0, "gateway", SpanKind::Server, "GET /", 0, 100);
        b.span(root, "gateway", SpanKind::Internal, "wait", 0, 80);
        let client = b.span(root, "gateway", SpanKind::Client, "GET /items", from, to);
        b.span(client, "cart", SpanKind::Server, "GET /items", from, to);
        let row = crate::row::trace_row(&b.trace, &mut Names::default()).unwrap();
        let cart = row.dependencies.iter().map(|found| found.critical_ns).max().unwrap();
        let after = row.parts.iter().map(|parts| parts.after_ns).max().unwrap();
        assert_eq!([cart, after], kept, "{row:?}");
    }
}

#[test]
fn a_row_keeps_the_duration_of_an_operation_that_could_be_reported() {
    // All of it is the call's; own time before the call keeps a duration that is too short by itself.
    for ((to, before), kept) in [((10, 0), 10 * MS), ((9, 0), 0), ((20, 10), 20 * MS)] {
        let mut b = Builder::new(1);
        let root = b.span(0, "gateway", SpanKind::Server, "GET /", 0, to);
        b.span(root, "gateway", SpanKind::Client, "GET /items", before, to);
        let row = crate::row::trace_row(&b.trace, &mut Names::default()).unwrap();
        let parts = &row.parts[0];
        assert_eq!((parts.duration_ns, parts.blamed_ns), (kept, (to - before) * MS), "{row:?}");
    }
}

#[test]
fn shapes_are_texts_of_ten_digits_and_read_as_such_alone() {
    use crate::row::{SHAPE_BITS, shape_of_text, shape_text};
    for shape in [0, 1, 0xab, (1 << SHAPE_BITS) - 1] {
        let text = shape_text(shape);
        assert_eq!((text.len(), shape_of_text(&text)), (10, Some(shape)));
    }
    for other in ["", "ab", "00000000AB", "00000000000000ab", "x000000000"] {
        assert_eq!(shape_of_text(other), None, "{other}");
    }
    let row = crate::row::trace_row(&healthy(1), &mut Names::default()).unwrap();
    assert!(row.shape > 0 && row.shape >> SHAPE_BITS == 0);
}
