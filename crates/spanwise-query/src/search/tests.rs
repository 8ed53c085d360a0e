use std::path::Path;

use spanwise_journal::{ManualClock, RealDisk};
use spanwise_model::{Event, KeyValue, Resource, Scope, Span, SpanKind, Status, StatusCode, Value};
use spanwise_store::{Store, StoreConfig};
use spanwise_wire::encode::{encode_resource_header, encode_scope_header, encode_span};
use spanwise_wire::{Piece, frame};

use super::*;
use crate::traceql::parse;

pub const SECOND: u64 = 1_000_000_000;
pub const NOW: u64 = 1_700_000_000 * SECOND;

pub fn batch(service: &str, spans: &[Span]) -> Batch {
    let resource = Resource {
        attributes: vec![KeyValue::new("service.name", service), KeyValue::new("zone", "a")],
        ..Resource::default()
    };
    let resource = encode_resource_header(&resource);
    let scope = encode_scope_header(&Scope { name: "lib".to_owned(), version: "2".to_owned(), ..Scope::default() });
    let bodies: Vec<_> = spans.iter().map(encode_span).collect();
    let pieces = bodies.iter().map(|span| Piece { resource: &resource, scope: &scope, span });
    Batch::from_trusted(frame(pieces).into()).unwrap()
}

pub fn span(trace: u8, id: u8, parent: u8, name: &str, start_s: u64, duration_s: u64) -> Span {
    Span {
        trace_id: TraceId([trace; 16]),
        span_id: SpanId([id; 8]),
        parent_span_id: (parent > 0).then_some(SpanId([parent; 8])),
        name: name.to_owned(),
        start_unix_nano: NOW + start_s * SECOND,
        end_unix_nano: NOW + (start_s + duration_s) * SECOND,
        ..Span::default()
    }
}

/// Trace 1: gateway → cart → db (an error); trace 2: gateway alone; trace 3: its root arrives last.
fn batches() -> Vec<Batch> {
    let root = Span { kind: SpanKind::Server, ..span(1, 1, 0, "GET /cart", 0, 9) };
    let call = Span {
        attributes: vec![
            KeyValue::new("http.status_code", 200i64),
            KeyValue::new("ratio", 0.5),
            KeyValue::new("retry", true),
            KeyValue::new("tags", Value::Array(vec!["red".into(), "blue".into()])),
        ],
        ..span(1, 2, 1, "cart", 1, 4)
    };
    let query = Span {
        status: Status { code: StatusCode::Error, message: "locked".to_owned() },
        kind: SpanKind::Client,
        attributes: vec![KeyValue::new("http.status_code", 503i64)],
        events: vec![Event {
            name: "exception".to_owned(),
            time_unix_nano: NOW + 3 * SECOND,
            attributes: vec![KeyValue::new("exception.type", "Busy")],
            ..Event::default()
        }],
        ..span(1, 3, 2, "SELECT", 2, 2)
    };
    vec![
        batch("gateway", &[root, span(2, 4, 0, "GET /", 20, 1)]),
        batch("cart", &[call, query]),
        batch("late", &[span(3, 6, 5, "work", 11, 1)]),
        batch("gateway", &[span(3, 5, 0, "POST /", 10, 30)]),
    ]
}

/// All spans in the head; then each batch in its own block.
pub fn stores() -> Vec<(tempfile::TempDir, Snapshot)> {
    stores_of(batches)
}

pub fn stores_of(batches: impl Fn() -> Vec<Batch>) -> Vec<(tempfile::TempDir, Snapshot)> {
    [false, true]
        .into_iter()
        .map(|cut| {
            let dir = tempfile::tempdir().unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let clock = Arc::new(ManualClock::at(NOW));
            let store = Store::open(StoreConfig::new(Path::new(dir.path())), Arc::new(RealDisk), clock).unwrap();
            for batch in batches() {
                runtime.block_on(store.append(batch)).unwrap();
                if cut {
                    store.cut(runtime.handle()).unwrap();
                }
            }
            (dir, store.snapshot())
        })
        .collect()
}

fn request(query: &str) -> SearchRequest {
    SearchRequest {
        query: parse(query).unwrap_or_else(|error| panic!("{query}: {error}")),
        from_unix_nano: None,
        to_unix_nano: None,
        limit: 20,
        spans_per_trace: 10,
        budget: Budget::default(),
    }
}

#[test]
fn queries_find_what_they_say() {
    let stores = stores();
    // Trace and number of matched spans, newest first.
    let cases: &[(&str, &[(u8, u64)])] = &[
        ("{}", &[(2, 1), (3, 2), (1, 3)]),
        ("{ name = \"GET /cart\" }", &[(1, 1)]),
        ("{ name =~ \"GET .*\" }", &[(2, 1), (1, 1)]),
        ("{ name =~ \"GET\" }", &[]),
        ("{ span:selfTime > 4s }", &[(3, 1), (1, 1)]),
        ("{ span:criticalTime = 2s }", &[(1, 2)]),
        ("{ trace:shape != nil && name = \"GET /\" }", &[(2, 1)]),
        ("{ trace:finding = \"n_plus_one\" }", &[]),
        ("{ resource.service.name = \"cart\" }", &[(1, 2)]),
        ("{ span.http.status_code >= 500 }", &[(1, 1)]),
        ("{ .http.status_code = 200.0 }", &[(1, 1)]),
        ("{ .http.status_code != 200 }", &[(1, 1)]),
        ("{ .http.status_code != \"x\" }", &[]),
        ("{ .http.status_code = nil && resource.service.name = \"cart\" }", &[]),
        ("{ .http.status_code != nil }", &[(1, 2)]),
        ("{ !(.http.status_code != nil) && trace:rootName = \"GET /cart\" }", &[(1, 1)]),
        ("{ .zone = \"a\" && kind = server }", &[(1, 1)]),
        ("{ status = error }", &[(1, 1)]),
        ("{ statusMessage = \"locked\" }", &[(1, 1)]),
        ("{ duration > 3s && duration <= 4s }", &[(1, 1)]),
        ("{ .ratio * 2 = 1 }", &[(1, 1)]),
        ("{ .retry }", &[(1, 1)]),
        ("{ .tags = \"red\" }", &[(1, 1)]),
        ("{ .tags != \"red\" }", &[]),
        ("{ .tags !~ \"gr.*\" }", &[(1, 1)]),
        ("{ event.exception.type = \"Busy\" }", &[(1, 1)]),
        ("{ event:name = \"exception\" && event:timeSinceStart = 1s }", &[(1, 1)]),
        ("{ instrumentation:name = \"lib\" && instrumentation:version = \"2\" && kind = client }", &[(1, 1)]),
        ("{ trace:duration >= 30s }", &[(3, 2)]),
        ("{ rootServiceName = \"gateway\" && name = \"work\" }", &[(3, 1)]),
        ("{ trace:rootName = \"POST /\" && resource.service.name = \"late\" }", &[(3, 1)]),
        ("{ span:childCount = 1 }", &[(3, 1), (1, 2)]),
        ("{ nestedSetParent < 0 }", &[(2, 1), (3, 1), (1, 1)]),
        ("{ span:id = \"0404040404040404\" }", &[(2, 1)]),
        ("{ trace:id = \"03030303030303030303030303030303\" }", &[(3, 2)]),
        ("{ status = error } && { name = \"GET /cart\" }", &[(1, 2)]),
        ("{ status = error } && { name = \"GET /\" }", &[]),
        ("{ status = error } || { name = \"GET /\" }", &[(2, 1), (1, 1)]),
        ("{ trace:id = \"3030303030303030303030303030303\" && name = \"work\" }", &[(3, 1)]),
        ("{ parent.name = \"cart\" }", &[(1, 1)]),
        ("{ parent.resource.service.name = \"gateway\" && resource.service.name != \"gateway\" }", &[(3, 1), (1, 1)]),
        ("{ parent.http.status_code = 200 && .http.status_code > parent.http.status_code }", &[(1, 1)]),
        ("{ parent = nil }", &[(2, 1), (3, 1), (1, 1)]),
        ("{ parent.nothing = nil && parent != nil }", &[(3, 1), (1, 2)]),
        ("{ event.nothing = nil }", &[(1, 1)]),
        // Structure: child, descendant, parent, ancestor, sibling.
        ("{ name = \"GET /cart\" } > {}", &[(1, 1)]),
        ("{ name = \"GET /cart\" } >> {}", &[(1, 2)]),
        ("{ name = \"GET /cart\" } >> { status = error }", &[(1, 1)]),
        ("{ name = \"GET /cart\" } > { status = error }", &[]),
        ("{ status = error } < {}", &[(1, 1)]),
        ("{ status = error } << {}", &[(1, 2)]),
        ("{} ~ {}", &[]),
        ("{} > {} > {}", &[(1, 1)]),
        ("{ resource.service.name = \"gateway\" } !> {}", &[(2, 1), (3, 1), (1, 2)]),
        ("{ name = \"none\" } !>> { name = \"work\" }", &[(3, 1)]),
        ("{ nestedSetParent < 0 } !>> {}", &[(2, 1), (3, 1), (1, 1)]),
        ("{ name = \"GET /cart\" } &> {}", &[(1, 2)]),
        ("{ nestedSetParent < 0 } &>> { status = error }", &[(1, 2)]),
        ("({ nestedSetParent < 0 } &>> { status = error }) || ({ nestedSetParent < 0 })", &[(2, 1), (3, 1), (1, 2)]),
        ("{ status = error } &<< { name = \"GET /cart\" }", &[(1, 2)]),
        // Pipelines.
        ("{} | count() > 1", &[(3, 2), (1, 3)]),
        ("{} | 2 <= count() | count() < 3", &[(3, 2)]),
        ("{} | avg(duration) = 5s", &[(1, 3)]),
        ("{} | max(duration) > 20s", &[(3, 2)]),
        ("{} | min(.http.status_code) = 200", &[(1, 3)]),
        ("{} | sum(span.http.status_code) + count() = 706", &[(1, 3)]),
        ("{} | min(.http.status_code) < max(.http.status_code)", &[(1, 3)]),
        ("{} | avg(.ratio) = .5", &[(1, 3)]),
        ("{ duration > 1s } | { status = error }", &[(1, 1)]),
        ("{} | by(resource.service.name) | count() = 2", &[(1, 2)]),
        ("{} | by(status) | count() = 1", &[(2, 1), (1, 1)]),
        ("{} | by(resource.service.name) | coalesce() | count() > 2", &[(1, 3)]),
        ("({} | count() > 2) && { status = error }", &[(1, 3)]),
        ("({ status = error } | count() = 1) >> {} || { name = \"GET /\" }", &[(2, 1)]),
        ("{ status = error } | select(.http.status_code, resource.service.name)", &[(1, 1)]),
    ];
    for (query, expected) in cases {
        for (_, snapshot) in &stores {
            let response = search(snapshot, &request(query)).unwrap();
            let found: Vec<_> = response.traces.iter().map(|trace| (trace.trace_id.0[0], trace.matched)).collect();
            assert_eq!(&found, expected, "{query}");
            assert!(response.complete);
        }
    }
}

#[test]
fn a_summary_tells_the_whole_trace() {
    for (_, snapshot) in stores() {
        let response = search(&snapshot, &request("{ status = error }")).unwrap();
        let trace = &response.traces[0];
        assert_eq!(trace.root, Some(("gateway".to_owned(), "GET /cart".to_owned())));
        assert_eq!((trace.start_unix_nano, trace.duration_ns), (NOW, 9 * SECOND));
        assert_eq!((trace.span_count, trace.error_count), (3, 1));
        assert_eq!(trace.services[0], ServiceCount { name: "cart".to_owned(), spans: 2, errors: 1 });
        assert_eq!(trace.span_sets[0].spans[0].name, "SELECT");
        assert_eq!(trace.span_sets[0].spans[0].attributes, [KeyValue::new("status", "error")]);
    }
}

#[test]
fn spansets_say_what_they_are_and_spans_show_what_was_asked() {
    for (_, snapshot) in stores() {
        let query = "{ trace:rootName = \"GET /cart\" } | by(resource.service.name) | avg(duration) > 1s \
                     | select(.http.status_code, kind, parent.name)";
        let response = search(&snapshot, &request(query)).unwrap();
        let mut sets = response.traces[0].span_sets.clone();
        sets.sort_by_key(|set| set.matched);
        assert_eq!(
            sets[0].attributes,
            [KeyValue::new("by(resource.service.name)", "gateway"), KeyValue::new("avg(duration)", "9s")]
        );
        assert_eq!((sets[0].matched, sets[1].matched), (1, 2));
        let select = sets[1].spans.iter().find(|span| span.name == "SELECT").unwrap();
        assert_eq!(
            select.attributes,
            [
                KeyValue::new("service.name", "cart"),
                KeyValue::new("http.status_code", 503i64),
                KeyValue::new("kind", "client"),
                KeyValue::new("parent.name", "cart"),
            ]
        );
    }
}

#[test]
fn the_longest_come_first_when_asked() {
    for (_, snapshot) in stores() {
        let ids = |query: &str, limit: usize| -> Vec<u8> {
            let request = SearchRequest { limit, ..request(query) };
            search(&snapshot, &request).unwrap().traces.iter().map(|trace| trace.trace_id.0[0]).collect()
        };
        assert_eq!(ids("{} with(sort=\"duration\")", 20), [3, 1, 2]);
        assert_eq!(ids("{} with(sort=\"duration\")", 1), [3]);
        assert_eq!(ids("{ duration < 5s } with(sort=\"duration\")", 2), [1, 2]);
        assert_eq!(ids("{} > { name != \"work\" } with(sort=\"duration\")", 20), [1]);
        assert_eq!(ids("{} with(sort=\"start\")", 1), [2]);
        let wrong = search(&snapshot, &request("{} with(sort=\"name\")"));
        assert!(matches!(wrong, Err(SearchError::Sort(_))));
    }
}

#[test]
fn the_newest_within_the_window_are_returned() {
    for (_, snapshot) in stores() {
        let ids = |request: &SearchRequest| -> Vec<u8> {
            search(&snapshot, request).unwrap().traces.iter().map(|trace| trace.trace_id.0[0]).collect()
        };
        assert_eq!(ids(&SearchRequest { limit: 2, ..request("{}") }), [2, 3]);
        assert_eq!(ids(&SearchRequest { to_unix_nano: Some(NOW + 15 * SECOND), ..request("{}") }), [3, 1]);
        // Trace 3 overlaps the window, though it began before.
        assert_eq!(ids(&SearchRequest { from_unix_nano: Some(NOW + 25 * SECOND), ..request("{}") }), [3]);
    }
}

#[test]
fn a_query_that_is_wrong_for_a_value_is_an_error_and_a_cancelled_one_incomplete() {
    let (_, snapshot) = &stores()[0];
    for query in ["{ !.http.status_code }", "{ .http.status_code / 0 = 1 }", "{ -.tags = 1 }", "({} | by(name)) > {}"] {
        assert!(matches!(search(snapshot, &request(query)), Err(SearchError::Query(_))), "{query}");
    }
    let cancelled = request("{}");
    cancelled.budget.cancelled.store(true, Ordering::Relaxed);
    assert!(!search(snapshot, &cancelled).unwrap().complete);
}

/// 70,000 spans are more than one row group; keys are frequent, rare, of two types, repeated, on span or resource.
#[test]
fn blocks_answer_as_the_head_does() {
    let mut seed = 7u64;
    let mut random = move |bound: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % bound
    };
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let [store, scattered] = [0, 1].map(|number: usize| {
        let config = StoreConfig::new(dirs[number].path());
        Store::open(config, Arc::new(RealDisk), Arc::new(ManualClock::at(NOW))).unwrap()
    });
    for service in 0..7 {
        let mut spans = Vec::new();
        for number in 0..10_000u64 {
            let mut trace_id = [1; 16];
            trace_id[..2].copy_from_slice(&(random(6_000) as u16).to_be_bytes());
            let mut span_id = [service + 1; 8];
            span_id[..4].copy_from_slice(&(number as u32 + 1).to_be_bytes());
            let mut attributes = vec![KeyValue::new("user", format!("u{}", random(5_000)))];
            if random(3) == 0 {
                attributes.push(KeyValue::new("size", random(100) as i64));
            }
            if random(500) == 0 {
                attributes.push(KeyValue::new("rare", "yes"));
                attributes.push(KeyValue::new("user", "twice"));
            }
            if random(2_000) == 0 {
                attributes.push(KeyValue::new("size", "big"));
                attributes.push(KeyValue::new("zone", "b"));
            }
            spans.push(Span {
                trace_id: TraceId(trace_id),
                span_id: SpanId(span_id),
                name: format!("op{}", random(40)),
                start_unix_nano: NOW + random(100_000_000),
                end_unix_nano: NOW + 100_000_000 + random(1_000_000),
                status: Status {
                    code: if random(1_000) == 0 { StatusCode::Error } else { StatusCode::Unset },
                    ..Status::default()
                },
                attributes,
                ..Span::default()
            });
        }
        let batch = batch(&format!("s{service}"), &spans);
        runtime.block_on(scattered.append(batch.clone())).unwrap();
        // The last one stays in the head: every trace lies in up to seven places.
        if service < 6 {
            scattered.cut(runtime.handle()).unwrap();
        }
        runtime.block_on(store.append(batch)).unwrap();
    }
    let head = store.snapshot();
    store.cut(runtime.handle()).unwrap();
    let (blocks, scattered) = (store.snapshot(), scattered.snapshot());
    for query in [
        "{}",
        "{ .user = \"u77\" }",
        "{ span.user = \"twice\" }",
        "{ .rare = \"yes\" && status = error }",
        "{ span.rare != nil && resource.service.name = \"s3\" }",
        "{ .size = \"big\" }",
        "{ .size > 98 && name = \"op3\" }",
        "{ 98 < .size && name =~ \"op1.*\" && resource.service.name = \"s6\" }",
        "{ .zone = \"b\" }",
        "{ resource.zone = \"a\" && .user = \"u1\" }",
        "{ status = error && duration > 100800us }",
        "{ .user = \"u1\" || .user = \"u2\" }",
        "{ .nothing = 1 }",
        "{ .user = \"u5\" && trace:duration > 1ms }",
        "{ .user !~ \"u.*\" }",
        "{ !(.user != \"u9\") && .user != nil }",
        "{ .user = \"u5\" } && { status = error }",
        "{ name = \"op1\" } ~ { status = error }",
        "{} && { .user = \"u9\" } | count() > 20",
        "{ resource.service.name = \"s2\" } with(sort=\"duration\")",
        "{ .user = \"u5\" && trace:duration > 1ms } with(sort=\"duration\")",
        "{ status = error } > {} || { .rare != nil } with(sort=\"duration\")",
    ] {
        // However busy the machine is.
        let budget = Budget { time: Duration::from_secs(3600), ..Budget::default() };
        let wanted = SearchRequest { limit: 10, budget, ..request(query) };
        let window = SearchRequest {
            from_unix_nano: Some(NOW + 1_000_000),
            to_unix_nano: Some(NOW + 2_000_000),
            ..wanted.clone()
        };
        // The order of a trace's spans is that of arrival in the one and that of time in the other.
        let facts = |response: &SearchResponse| -> Vec<_> {
            response.traces.iter().map(|t| (t.trace_id, t.start_unix_nano, t.span_count, t.matched)).collect()
        };
        for (request, other) in [(&wanted, &blocks), (&wanted, &scattered), (&window, &scattered)] {
            let [from_head, from_blocks] = [&head, other].map(|snapshot| search(snapshot, request).unwrap());
            assert_eq!(facts(&from_head), facts(&from_blocks), "{query}");
            assert!(from_blocks.complete);
        }
    }
}

#[test]
fn what_whole_traces_show_is_found_wherever_their_spans_lie() {
    use spanwise_insight::names::Names;
    use spanwise_insight::population::findings_of_row;
    use spanwise_store::facts::read::row_of;
    // In the head; each batch in a block of its own; all in one block; some in a block and the rest in the head.
    let mut snapshots = stores();
    for cut_after in [4, 2] {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let clock = Arc::new(ManualClock::at(NOW));
        let store = Store::open(StoreConfig::new(Path::new(dir.path())), Arc::new(RealDisk), clock).unwrap();
        for (number, batch) in batches().into_iter().enumerate() {
            runtime.block_on(store.append(batch)).unwrap();
            if number + 1 == cut_after {
                store.cut(runtime.handle()).unwrap();
            }
        }
        snapshots.push((dir, store.snapshot()));
    }
    let mut found_any = false;
    for (_, snapshot) in &snapshots {
        let ask = |query: &str| -> Vec<u8> {
            let response = search(snapshot, &request(query)).unwrap();
            assert!(response.complete);
            response.traces.iter().map(|trace| trace.trace_id.0[0]).collect()
        };
        let mut names = Names::default();
        for trace in [1u8, 2, 3] {
            let whole = snapshot.trace(&TraceId([trace; 16])).unwrap().unwrap();
            let row = row_of(&whole, TraceId([trace; 16]), &mut names).unwrap();
            let shape = spanwise_insight::row::shape_text(row.shape);
            assert_eq!(ask(&format!("{{ trace:shape = \"{shape}\" }}")), [trace]);
            for name in ["GET /cart", "SELECT", "GET /", "POST /", "work"] {
                let with_name = ask(&format!("{{ name = \"{name}\" }}"));
                let expected: Vec<u8> = with_name.into_iter().filter(|found| *found == trace).collect();
                assert_eq!(ask(&format!("{{ \"{shape}\" = trace:shape && name = \"{name}\" }}")), expected);
            }
            for kind in spanwise_store::facts::KINDS {
                let shows = findings_of_row(&names, &row).iter().any(|finding| finding.kind == kind);
                found_any |= shows;
                assert_eq!(ask(&format!("{{ trace:finding = \"{kind}\" }}")).contains(&trace), shows, "{kind}");
            }
        }
        let shown = ask("{ trace:finding != nil }");
        assert!(shown.iter().all(|trace| *trace == 1), "{shown:?}");
        assert!(ask("{ trace:shape = \"0000000000000001\" }").is_empty());
    }
    assert!(found_any, "the failed query below a page that succeeded is a hidden error");
    // Where nothing is split, only what is listed is looked at.
    let (_, in_one) = &snapshots[2];
    let none = search(in_one, &request("{ trace:finding = \"retry_storm\" }")).unwrap();
    assert_eq!((none.traces.len(), none.inspected_spans), (0, 0));
}
