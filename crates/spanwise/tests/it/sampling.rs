//! Tail sampling through the whole program: the example gateway as it stands, and a crash between taking and deciding.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::harness::{Server, config, hex, otlp, span, spanwise, text, trace_id};
use opentelemetry_proto::tonic::trace::v1::Status;

fn examples() -> PathBuf {
    PathBuf::from("../../examples/configs")
}

#[test]
fn every_example_config_is_valid() {
    let mut count = 0;
    for entry in std::fs::read_dir(examples()).unwrap() {
        let path = entry.unwrap().path();
        let output = spanwise(&["validate", "--config", path.to_str().unwrap()]);
        assert!(output.status.success(), "{}: {}", path.display(), text(&output.stderr));
        count += 1;
    }
    assert!(count >= 3);
}

/// A certificate for localhost that signs itself, in files.
fn certificate(dir: &Path) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (cert.to_str().unwrap().to_owned(), key.to_str().unwrap().to_owned())
}

/// Ids as far apart as those of SDKs: the collector's hash hardly tells ids apart that differ in the last byte alone.
fn spread(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The collector's draw: FNV-1a of the default salt and the id, at most 5 % of 2^64 - 1.
fn is_drawn(trace: u64) -> bool {
    let bytes = b"default-hash-seed".iter().chain(&trace_id(spread(trace))).copied().collect::<Vec<u8>>();
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    hash <= (u64::MAX as f64 * 0.05) as u64
}

/// Spans of each trace that a sink's store holds.
fn stored(sink: &Server, traces: u64) -> BTreeMap<u64, u64> {
    let span_count = |trace: u64| {
        let answer = sink.get("http", &format!("/api/spanwise/traces/{}", hex(&trace_id(spread(trace)))));
        let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        (answer.status == 200).then(|| (trace, json["span_count"].as_u64().unwrap_or(0)))
    };
    (0..traces).filter_map(span_count).collect()
}

const TRACES: u64 = 400;

#[test]
fn the_example_gateway_keeps_errors_slow_traces_and_a_twentieth_of_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = certificate(dir.path());
    let sink_config = config(
        dir.path(),
        "sink.yaml",
        &format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{tls: {{cert_file: '{cert}', key_file: '{key}'}}}}, \
             http: {{tls: {{cert_file: '{cert}', key_file: '{key}'}}}}}}}}}}\n\
             exporters: {{spanwise: }}\n\
             service: {{pipelines: {{traces: {{receivers: [otlp], exporters: [spanwise]}}}}}}\n"
        ),
    );
    let tempo = Server::start(&dir.path().join("tempo"), &["--config", &sink_config]);
    let datadog = Server::start(&dir.path().join("datadog"), &["--config", &sink_config]);
    let here = config(
        dir.path(),
        "here.yaml",
        &format!(
            "processors: {{tail_sampling: {{decision_wait: 2s}}}}\n\
             exporters:\n  otlphttp/tempo: {{endpoint: 'https://localhost:{}', tls: {{ca_file: '{cert}'}}}}\n  \
             otlp/datadog: {{endpoint: 'https://localhost:{}', tls: {{ca_file: '{cert}'}}}}\n",
            tempo.port("otlp_http"),
            datadog.port("otlp_grpc")
        ),
    );
    let example = examples().join("gateway.yaml");
    let example = example.to_str().unwrap();
    let gateway = Server::start(&dir.path().join("gateway"), &["--config", example, "--config", &here]);
    let (is_error, is_slow) = (|trace: u64| trace % 10 == 3, |trace: u64| trace % 10 == 7);
    // Each trace comes in two requests, and what makes it worth keeping in the second. Twenty traces share a request, so
    // that a slow machine, too, has sent the second before the wait of the first is over.
    let traces: Vec<u64> = (0..TRACES).collect();
    for chunk in traces.chunks(20) {
        let two = |trace: u64| [span(spread(trace), 1, 0, "GET /"), span(spread(trace), 2, 1, "call")];
        let spans = chunk.iter().flat_map(|trace| two(*trace)).collect();
        assert_eq!(gateway.export(&otlp("shop", spans)), Some(200));
    }
    for chunk in traces.chunks(20) {
        let last = |trace: u64| {
            let mut last = span(spread(trace), 3, 1, "sql");
            if is_error(trace) {
                last.status = Some(Status { code: 2, message: "failed".to_owned() });
            }
            if is_slow(trace) {
                last.end_time_unix_nano += 2_000_000_000;
            }
            last
        };
        let spans = chunk.iter().map(|trace| last(*trace)).collect();
        assert_eq!(gateway.export(&otlp("db", spans)), Some(200));
    }
    let expected: BTreeMap<u64, u64> =
        (0..TRACES).filter(|trace| is_error(*trace) || is_slow(*trace) || is_drawn(*trace)).map(|t| (t, 3)).collect();
    assert!(expected.len() > 80 && expected.len() < 130, "{}", expected.len());
    let spans = expected.len() as u64 * 3;
    for sink in [&tempo, &datadog] {
        sink.eventually("kept traces arrive", |sink| sink.metric("spanwise_store_spans") >= spans);
        assert_eq!(stored(sink, TRACES), expected);
    }
    let (taken, out) =
        (gateway.metric("otelcol_processor_incoming_items"), gateway.metric("otelcol_processor_outgoing_items"));
    assert_eq!((taken, out), (TRACES * 3, spans));
    assert_eq!(taken, out + gateway.metric("spanwise_processor_dropped_spans"));
    assert_eq!(gateway.metric("otelcol_processor_tail_sampling_global_count_traces_sampled"), TRACES);
    gateway.eventually("sent", |gateway| gateway.metric("otelcol_exporter_sent_spans") == 2 * spans);
}

/// Acknowledged, then `kill -9` while traces wait and while the next hop is dead: every error trace arrives.
#[test]
fn acknowledged_error_traces_arrive_after_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let sink_dir = dir.path().join("sink");
    let sink = Server::start(&sink_dir, &[]);
    let start = |sink: &Server| {
        let text = format!(
            "receivers: {{otlp: {{protocols: {{http: }}}}}}\n\
             processors:\n  batch: {{timeout: 100ms}}\n  tail_sampling: {{decision_wait: 1s, policies: [{{name: e, type: status_code, status_code: {{status_codes: [ERROR]}}}}]}}\n\
             exporters: {{otlp: {{endpoint: '127.0.0.1:{}', tls: {{insecure: true}}, retry_on_failure: {{initial_interval: 200ms, max_interval: 500ms}}, sending_queue: {{queue_size: 2}}}}}}\n\
             service: {{pipelines: {{traces: {{receivers: [otlp], processors: [batch, tail_sampling], exporters: [otlp]}}}}}}\n",
            sink.port("otlp_grpc")
        );
        Server::start(&dir.path().join("gateway"), &["--config", &config(dir.path(), "gateway.yaml", &text)])
    };
    let send = |gateway: &Server, traces: std::ops::Range<u64>, id: u8| {
        for trace in traces {
            let mut one = span(spread(trace), id, 0, "work");
            if trace % 2 == 0 && id == 2 {
                one.status = Some(Status { code: 2, message: String::new() });
            }
            assert_eq!(gateway.export(&otlp("shop", vec![one])), Some(200));
        }
    };
    let gateway = start(&sink);
    send(&gateway, 0..40, 1);
    gateway.kill();
    // The second half of each trace comes to the next process; the next hop dies before the decision.
    let gateway = start(&sink);
    send(&gateway, 0..40, 2);
    sink.kill();
    send(&gateway, 40..80, 2);
    gateway.eventually("decisions are made", |gateway| {
        gateway.metric("otelcol_processor_tail_sampling_global_count_traces_sampled") >= 80
    });
    gateway.kill();
    let sink = Server::start(&sink_dir, &[]);
    let gateway = start(&sink);
    let whole: BTreeMap<u64, u64> =
        (0..80).filter(|trace| trace % 2 == 0).map(|trace| (trace, if trace < 40 { 2 } else { 1 })).collect();
    sink.eventually("every error trace arrives whole", |sink| stored(sink, 80) == whole);
    let kept: BTreeSet<u64> = stored(&sink, 80).into_keys().collect();
    assert!(kept.iter().all(|trace| trace % 2 == 0), "{kept:?}");
    gateway.eventually("nothing waits any more", |gateway| gateway.metric("otelcol_exporter_queue_size") == 0);
    assert_eq!(gateway.metric("otelcol_exporter_send_failed_spans"), 0);
}

#[test]
fn with_its_feature_gate_kept_traces_say_their_threshold() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("kept.json");
    let file = config(
        dir.path(),
        "gate.yaml",
        &format!(
            "receivers: {{otlp: {{protocols: {{http: }}}}}}\n\
             processors:\n  tail_sampling:\n    decision_wait: 300ms\n    policies:\n    \
             - {{name: errors, type: status_code, status_code: {{status_codes: [ERROR]}}}}\n    \
             - {{name: half, type: probabilistic, probabilistic: {{sampling_percentage: 50}}}}\n\
             exporters: {{file: {{path: '{}'}}, spanwise: }}\n\
             service: {{pipelines: {{traces: {{receivers: [otlp], processors: [tail_sampling], exporters: [file, spanwise]}}}}}}\n",
            out.display()
        ),
    );
    let gate = "--feature-gates=+processor.tailsamplingprocessor.usetracestate";
    let server = Server::start(&dir.path().join("data"), &["--config", &file, gate]);
    let send = |trace: u64, state: &str, is_error: bool| {
        let mut one = span(spread(trace), 1, 0, "work");
        one.trace_state = state.to_owned();
        if is_error {
            one.status = Some(Status { code: 2, message: String::new() });
        }
        assert_eq!(server.export(&otlp("shop", vec![one])), Some(200));
    };
    send(1, "ot=rv:80000000000000", false);
    send(2, "ot=rv:7fffffffffffff", false);
    send(3, "a=b", true);
    server.eventually("all are decided", |server| {
        server.metric("otelcol_processor_tail_sampling_global_count_traces_sampled") >= 3
    });
    server.eventually("two are kept", |server| server.metric("otelcol_exporter_sent_spans") >= 4);
    // The store counts the one of half for two, and once.
    let summary = server.json("http", "/api/spanwise/services/summary");
    assert_eq!((&summary["traces_read"], &summary["adjusted"]), (&serde_json::json!(2), &serde_json::json!(3.0)));
    assert_eq!(server.stop(), Some(0));
    let mut states: Vec<String> = std::fs::read_to_string(&out)
        .unwrap()
        .lines()
        .flat_map(|line| {
            let json: serde_json::Value = serde_json::from_str(line).unwrap();
            let spans = json["resourceSpans"].as_array().unwrap().iter();
            let spans = spans.flat_map(|resource| resource["scopeSpans"].as_array().unwrap().clone());
            let spans = spans.flat_map(|scope| scope["spans"].as_array().unwrap().clone());
            spans.map(|span| span["traceState"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
        })
        .collect();
    states.sort();
    assert_eq!(states, ["ot=rv:80000000000000;th:8", "ot=th:0,a=b"]);
    let output = spanwise(&["serve", "--feature-gates=nope", "--config", &file]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("no such feature gate \"nope\"") && said.contains("usetracestate"), "{said}");
}
