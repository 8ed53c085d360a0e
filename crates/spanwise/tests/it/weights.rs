//! Traffic of which a tenth was kept, at its source or by the program itself: what the program counts, and what there was.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use prost::Message as _;
use serde_json::Value as Json;

use crate::harness::{Server, config, hex, otlp, span, spanwise, text, trace_id};

const START: u64 = 1_760_000_000_000_000_000;
const SECONDS: u64 = 300;
/// Requests that there were.
const REQUESTS: u64 = 30_000;
/// Of 56 bits of randomness, those from here on are kept: one tenth.
const THRESHOLD: u64 = 0xe6_6666_6666_6668;

/// SplitMix64: as good as drawn.
fn spread(number: u64) -> u64 {
    let state = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

/// A request that asks the cart twice; every twentieth fails, every fiftieth is slow.
fn trace(number: u64) -> [Vec<Span>; 2] {
    let start = START + number * (SECONDS * 1_000_000_000 / REQUESTS);
    let length = if number.is_multiple_of(50) { 900 } else { 90 };
    let at = |mut span: Span, from: u64, to: u64| {
        (span.start_time_unix_nano, span.end_time_unix_nano) = (start + from * 1_000_000, start + to * 1_000_000);
        span.trace_state = format!("ot=th:{THRESHOLD:014x}");
        span
    };
    let id = spread(number);
    let mut root = at(span(id, 1, 0, "GET /page"), 0, length);
    if number.is_multiple_of(20) {
        root.status = Some(Status { code: 2, ..Status::default() });
    }
    [vec![root], vec![at(span(id, 2, 1, "read"), 1, 30), at(span(id, 3, 1, "read"), 31, length - 5)]]
}

fn is_kept(number: u64) -> bool {
    spread(number) & ((1 << 56) - 1) >= THRESHOLD
}

/// Sends traces, 500 at a time.
fn send(server: &Server, numbers: &[u64], has_trace_state: bool) {
    for numbers in numbers.chunks(500) {
        let mut traces: Vec<_> = numbers.iter().map(|number| trace(*number)).collect();
        if !has_trace_state {
            traces.iter_mut().flatten().flatten().for_each(|span| span.trace_state.clear());
        }
        for (place, service) in ["shop", "cart"].into_iter().enumerate() {
            let spans = traces.iter().flat_map(|trace| trace[place].clone()).collect();
            assert_eq!(server.export(&otlp(service, spans)), Some(200));
        }
    }
}

fn sampled() -> (tempfile::TempDir, Server) {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let kept: Vec<u64> = (0..REQUESTS).filter(|number| is_kept(*number)).collect();
    send(&server, &kept, true);
    (dir, server)
}

fn sampled_by_tail() -> (tempfile::TempDir, Server) {
    let (dir, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sampling = config(
        files.path(),
        "tail.yaml",
        "receivers: {otlp: {protocols: {http: {endpoint: '127.0.0.1:0'}}}}\n\
         processors:\n  batch: {timeout: 100ms}\n  tail_sampling:\n    decision_wait: 2s\n    policies:\n    \
         - {name: tenth, type: probabilistic, probabilistic: {sampling_percentage: 10}}\n    \
         - {name: never, type: latency, latency: {threshold_ms: 3600000}}\n\
         exporters: {spanwise: {}}\n\
         service: {pipelines: {traces: {receivers: [otlp], processors: [tail_sampling, batch], exporters: [spanwise]}}}\n",
    );
    let server = Server::start(dir.path(), &["--config", &sampling]);
    send(&server, &(0..REQUESTS).collect::<Vec<_>>(), false);
    server.eventually("all traces are decided and stored", |server| {
        let metrics = text(&server.get("metrics", "/metrics").body);
        let decided = |label: &str| -> u64 {
            let name = "otelcol_processor_tail_sampling_global_count_traces_sampled{";
            let lines = metrics.lines().filter(|line| line.starts_with(name) && line.contains(label));
            lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
        };
        let kept = decided("sampled=\"true\"");
        kept + decided("sampled=\"false\"") == REQUESTS && server.metric("otelcol_exporter_sent_spans") == 3 * kept
    });
    (dir, server)
}

/// How far from the truth a count of traces of a tenth may lie, 19 times of 20.
fn half_width(count: f64) -> f64 {
    1.96 * (count * 9.0).sqrt()
}

fn assert_near(found: &Json, truth: f64, in_each_trace: f64) {
    let found = found.as_f64().unwrap_or_else(|| panic!("{found} is no number"));
    let most = half_width(truth / in_each_trace) * in_each_trace;
    assert!((found - truth).abs() <= most, "{found} is not within {most} of {truth}");
}

fn named<'a>(items: &'a Json, name: &str) -> &'a Json {
    let found = items.as_array().unwrap().iter().find(|item| item["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {items}"))
}

#[test]
fn a_tenth_of_the_traffic_shows_the_rate_of_all_of_it() {
    let (dir, server) = sampled();
    shows_the_rate_of_all(&dir, &server);
}

#[test]
fn a_tenth_that_tail_sampling_kept_shows_the_rate_of_all_of_it_and_leaves_as_it_came() {
    let (dir, server) = sampled_by_tail();
    shows_the_rate_of_all(&dir, &server);
    let recent = server
        .json("http", &format!("/api/spanwise/search?limit=1&from={START}&to={}", START + SECONDS * 1_000_000_000));
    let id = recent["traces"][0]["trace_id"].as_str().unwrap();
    let number = (0..REQUESTS).find(|number| hex(&trace_id(spread(*number))) == id).unwrap();
    let mut expected: Vec<Span> = trace(number).into_iter().flatten().collect();
    expected.iter_mut().for_each(|span| span.trace_state.clear());
    let stored = spanwise(&["trace", id, "--format", "otlp", "--data-dir", dir.path().to_str().unwrap()]);
    let sent = stored.stdout;
    let stored = ExportTraceServiceRequest::decode(&sent[..]).unwrap();
    assert_eq!(stored.encoded_len(), sent.len(), "there is nothing in it that OTLP does not have");
    let mut spans: Vec<Span> = Vec::new();
    spans.extend(
        stored.resource_spans.into_iter().flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans),
    );
    spans.sort_by(|a, b| a.span_id.cmp(&b.span_id));
    assert_eq!(spans, expected);
}

fn shows_the_rate_of_all(dir: &tempfile::TempDir, server: &Server) {
    let window = format!("from={START}&to={}", START + SECONDS * 1_000_000_000);
    let get = |path: &str| server.json("http", path);
    let all = REQUESTS as f64;

    let summary = get(&format!("/api/spanwise/services/summary?{window}"));
    assert_eq!(summary["sampled"], true);
    assert_near(&summary["traces"], all, 1.0);
    for (service, in_each_trace) in [("shop", 1.0), ("cart", 2.0)] {
        let service = named(&summary["services"], service);
        let truth = all * in_each_trace / SECONDS as f64;
        let between: Vec<f64> = service["rate_between"].as_array().unwrap().iter().filter_map(Json::as_f64).collect();
        assert!(between[0] <= truth && truth <= between[1], "{truth} is not in {between:?}");
        assert!(between[1] - between[0] < truth / 4.0, "an interval that says something: {between:?}");
        assert_near(&service["requests"], all * in_each_trace, in_each_trace);
        assert!(service["requests_seen"].as_f64().unwrap() < all * in_each_trace / 8.0);
    }
    let shop = named(&summary["services"], "shop");
    assert_near(&shop["errors"], all / 20.0, 1.0);
    for (quantile, truth) in [("p50_ms", 90.0), ("p99_ms", 900.0)] {
        let found = shop[quantile].as_f64().unwrap();
        assert!((found / truth - 1.0).abs() <= 0.0101, "{quantile}: {found}");
    }
    assert_eq!(summary["window"]["rounded_to_s"], 60);

    let heatmap = get(&format!("/api/spanwise/heatmap?{window}"));
    let by_query = get(&format!("/api/spanwise/heatmap?{window}&q=%7B%20name%20%3D%20%22GET%20%2Fpage%22%20%7D"));
    for heatmap in [&heatmap, &by_query] {
        assert_eq!(heatmap["sampled"], true);
        assert_near(&heatmap["traces"], all, 1.0);
        let cells = heatmap["cells"].as_array().unwrap().iter().filter_map(|cell| cell[2].as_u64());
        assert_near(&cells.sum::<u64>().into(), all, 1.0);
    }
    let entry = get(&format!("/api/spanwise/entry?service=shop&operation=GET%20%2Fpage&{window}"));
    assert_eq!(entry["sampled"], true);
    assert_near(&entry["traces"], all, 1.0);
    assert_near(&entry["errors"], all / 20.0, 1.0);
    let map = get(&format!("/api/spanwise/map?{window}"));
    assert_eq!(map["sampled"], true);
    assert_near(&map["edges"][0]["calls"], 2.0 * all, 2.0);

    let count = "%7B%20name%20%3D%20%22GET%20%2Fpage%22%20%7D%20%7C%20count_over_time()";
    let (from, to) = (START / 1_000_000_000 - 1, START / 1_000_000_000 + SECONDS + 1);
    let tempo = |query: &str| server.json("tempo", &format!("/api/metrics/query?q={query}&start={from}&end={to}"));
    let weighted = tempo(count);
    assert_near(&weighted["series"][0]["value"], all, 1.0);
    assert!(weighted["message"].as_str().unwrap().contains("sampled"), "{weighted}");
    let stored = tempo(&format!("{count}%20with(weighted%3Dfalse)"));
    assert_eq!(stored["series"][0]["value"], shop["requests_seen"].as_f64().unwrap());
    assert!(stored.get("message").is_none());
    let end = to * 1_000;
    let jaeger = get(&format!("/api/dependencies?endTs={end}&lookback={}", (to - from) * 1_000));
    assert_near(&jaeger["data"][0]["callCount"], 2.0 * all, 2.0);
    let zipkin = server.json("zipkin", &format!("/api/v2/dependencies?endTs={end}&lookback={}", (to - from) * 1_000));
    assert_near(&zipkin[0]["callCount"], 2.0 * all, 2.0);

    let queried = spanwise(&[
        "query",
        "{ name = \"GET /page\" } | count_over_time()",
        "--format",
        "json",
        "--step",
        "1h",
        "--data-dir",
        dir.path().to_str().unwrap(),
    ]);
    let queried: Json = serde_json::from_slice(&queried.stdout).unwrap();
    assert_eq!(queried["weighted"], true);
    let samples = queried["series"][0]["samples"].as_array().unwrap().iter().filter_map(|sample| sample[1].as_f64());
    assert_near(&samples.sum::<f64>().into(), all, 1.0);
}
