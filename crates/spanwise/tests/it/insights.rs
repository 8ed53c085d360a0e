//! What the program says by itself, of recordings of real programs and of traffic it receives.

use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use crate::harness::{Server, config, hex, otlp, request, span, spanwise, text, trace_id};
use opentelemetry_proto::tonic::trace::v1::Span;

fn repository(path: &str) -> PathBuf {
    Path::new("../..").join(path)
}

/// Imports a file into a fresh directory and asks for its findings.
fn insights_of(file: &Path) -> Json {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let data = data.to_str().unwrap();
    let output = spanwise(&["import", file.to_str().unwrap(), "--data-dir", data]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let output = spanwise(&["insights", "--format", "json", "--data-dir", data]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn kinds(insights: &Json) -> Vec<String> {
    let findings = insights["findings"].as_array().unwrap();
    let mut kinds: Vec<String> = findings.iter().map(|finding| finding["kind"].as_str().unwrap().to_owned()).collect();
    kinds.sort();
    kinds
}

#[test]
fn the_recorded_shop_has_its_four_problems_each_named_rightly() {
    let insights = insights_of(&repository("examples/shop/recorded/ill.json.gz"));
    let expected = ["misattributed_bottleneck", "n_plus_one", "silent_dependency", "slow_rare_path"];
    assert_eq!(kinds(&insights), expected, "{insights:#}");
    let of = |kind: &str| {
        let findings = insights["findings"].as_array().unwrap();
        findings.iter().find(|finding| finding["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"))
    };
    let cart = &of("n_plus_one")["subject"];
    assert_eq!(cart["caller"], json!({"service": "cart", "operation": "GET /cart/{user}"}));
    assert_eq!(cart["callee"]["operation"], "SELECT id, name FROM items WHERE id = ?");
    assert!(cart["repeats"]["p50"].as_u64().unwrap() >= 12, "{cart}");
    let auth = of("silent_dependency");
    assert_eq!(auth["subject"]["dependency"]["service"], "auth");
    assert_eq!(auth["subject"]["entry_points"].as_array().unwrap().len(), 3, "{auth:#}");
    let card = &of("slow_rare_path")["subject"];
    assert!(card["where"].as_array().unwrap().contains(&json!({"key": "url.query.card", "value": "old"})), "{card}");
    assert_eq!(card["timeout_ms"], 1500);
    let orders = &of("misattributed_bottleneck")["subject"];
    let place = json!({"service": "gateway", "operation": "GET /orders", "part": "after"});
    assert_eq!(orders["actual"], place);
    for finding in insights["findings"].as_array().unwrap() {
        assert!(
            !finding["examples"].as_array().unwrap().is_empty() && finding["cost"]["total_ms"].as_f64() > Some(0.0)
        );
    }
}

#[test]
fn of_the_recorded_healthy_shop_nothing_is_said() {
    let insights = insights_of(&repository("examples/shop/recorded/healthy.json.gz"));
    assert!(insights["traces"].as_u64().unwrap() > 300);
    assert_eq!(insights["findings"], json!([]), "{insights:#}");
}

#[test]
fn hotel_reservation_repeats_no_calls() {
    let insights = insights_of(&repository("crates/spanwise/tests/data/hotel-reservation.jsonl.gz"));
    assert_eq!(insights["traces"], 400);
    let repeated = ["n_plus_one", "fan_out", "retry_storm"];
    assert!(kinds(&insights).iter().all(|kind| !repeated.contains(&kind.as_str())), "{insights:#}");
}

/// A root of `duration_ms` that calls another service when `branch` is named.
fn page(number: u64, duration_ms: u64, branch: Option<&str>) -> Vec<u8> {
    let at = |mut span: Span, from: u64, to: u64| {
        let start = 1_760_000_000_000_000_000 + number * 10_000_000;
        (span.start_time_unix_nano, span.end_time_unix_nano) = (start + from * 1_000_000, start + to * 1_000_000);
        span
    };
    let id = spread(number);
    let mut spans = vec![at(span(id, 1, 0, "GET /page"), 0, duration_ms)];
    spans.push(at(span(id, 2, 1, "load"), 1, 5));
    if let Some(branch) = branch {
        spans.push(at(span(id, 3, 1, branch), 6, duration_ms - 1));
    }
    otlp("shop", spans)
}

fn spread(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[test]
fn a_rare_branch_that_a_random_share_would_lose_is_kept_and_known_again_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let file = config(
        dir.path(),
        "sample.yaml",
        "receivers: {otlp: {protocols: {http: {}}}}\n\
         exporters: {spanwise: }\n\
         processors:\n  tail_sampling:\n    decision_wait: 300ms\n    num_shards: 2\n    policies:\n    \
         - {name: rare, type: rare_shape, rare_shape: {max_share: 0.02, warm_up_traces: 100, traces_per_second: 0}}\n\
         service: {pipelines: {traces: {receivers: [otlp], processors: [tail_sampling], exporters: [spanwise]}}}\n",
    );
    let start = || Server::start(&dir.path().join("data"), &["--config", &file]);
    let server = start();
    let is_stored = |server: &Server, number: u64| {
        server.get("http", &format!("/api/spanwise/traces/{}", hex(&trace_id(spread(number))))).status == 200
    };
    for number in 0..200 {
        assert_eq!(server.export(&page(number, 20, None)), Some(200));
    }
    // The usual has been seen before the rare comes.
    server.eventually("the usual is decided", |server| {
        server.metric("otelcol_processor_tail_sampling_global_count_traces_sampled") >= 200
    });
    assert_eq!(server.export(&page(1_000, 900, Some("legacy"))), Some(200));
    server.eventually("the rare branch is kept", |server| is_stored(server, 1_000));
    assert!((0..200).all(|number| !is_stored(&server, number)));
    assert_eq!(server.stop(), Some(0));
    // What was seen is known still: the usual is not kept, another rare branch is.
    let server = start();
    assert_eq!(server.export(&page(2_000, 20, None)), Some(200));
    assert_eq!(server.export(&page(2_001, 700, Some("other"))), Some(200));
    server.eventually("another rare branch is kept", |server| is_stored(server, 2_001));
    assert!(!is_stored(&server, 2_000));
}

#[test]
fn two_sets_are_compared_over_http_and_paths_have_modes() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    for number in 0..240 {
        let is_slow = number % 4 == 0;
        let body = page(number, if is_slow { 400 } else { 20 }, is_slow.then_some("legacy"));
        assert_eq!(server.export(&body), Some(200));
    }
    let post = |body: &Json| {
        let headers = [("content-type", "application/json")];
        let body = body.to_string();
        request(server.port("http"), "POST", "/api/spanwise/compare", &headers, body.as_bytes()).unwrap()
    };
    let answer = post(&json!({"selection": {"min_ms": 100}, "baseline": {"q": "{ name = \"GET /page\" }"}}));
    assert_eq!(answer.status, 200, "{}", text(&answer.body));
    let compared: Json = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((&compared["selection"]["traces"], &compared["baseline"]["traces"]), (&json!(60), &json!(180)));
    assert_eq!(compared["complete"], true);
    assert_eq!(post(&json!({"selection": {"q": "{ name = "}})).status, 400);
    assert_eq!(post(&json!({"selection": {"min_ms": -1}})).status, 400);
    assert_eq!(post(&json!({"wrong": {}})).status, 400);
    let path = format!("/api/spanwise/traces/{}", hex(&trace_id(spread(4))));
    for mode in ["spanwise", "jaeger", "crisp", "elastic"] {
        let trace = server.json("http", &format!("{path}?mode={mode}"));
        assert_eq!(trace["critical_path"]["mode"], mode);
        let at = format!("127.0.0.1:{}", server.port("http"));
        let output =
            spanwise(&["trace", &hex(&trace_id(spread(4))), "--mode", mode, "--format", "json", "--addr", &at]);
        assert_eq!(serde_json::from_slice::<Json>(&output.stdout).unwrap()["critical_path"], trace["critical_path"]);
    }
    assert_eq!(server.get("http", &format!("{path}?mode=zipkin")).status, 400);
}
