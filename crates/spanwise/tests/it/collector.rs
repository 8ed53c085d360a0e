//! As a collector: configs, gRPC, batches, exporters.

use crate::harness::{Server, config, hex, otlp, span, spanwise, text, trace_id};

/// gateway (HTTP in, batch, gRPC out) → hub (gRPC in, HTTP/JSON out) → store.
#[test]
fn spans_pass_two_collectors_on_every_protocol() {
    let dir = tempfile::tempdir().unwrap();
    let store = Server::start(&dir.path().join("data"), &[]);
    let hub = config(
        dir.path(),
        "hub.yaml",
        &format!(
            "receivers: {{otlp: {{protocols: {{grpc: }}}}}}\n\
             exporters: {{otlphttp: {{endpoint: 'http://127.0.0.1:{}', encoding: json, compression: zstd}}}}\n\
             service: {{pipelines: {{traces: {{receivers: [otlp], exporters: [otlphttp]}}}}}}\n",
            store.port("otlp_http")
        ),
    );
    let hub = Server::start(&dir.path().join("hub"), &["--config", &hub]);
    let gateway = config(
        dir.path(),
        "gateway.yaml",
        &format!(
            "receivers: {{otlp: {{protocols: {{http: }}}}}}\nprocessors: {{batch: {{timeout: 50ms}}}}\n\
             exporters: {{otlp: {{endpoint: '127.0.0.1:{}', tls: {{insecure: true}}}}, debug: }}\n\
             service: {{pipelines: {{traces: {{receivers: [otlp], processors: [batch], exporters: [otlp, debug]}}}}}}\n",
            hub.port("otlp_grpc")
        ),
    );
    let gateway = Server::start(&dir.path().join("gateway"), &["--config", &gateway]);
    for number in 0..50 {
        assert_eq!(gateway.export(&otlp("shop", vec![span(number, 1, 0, "a"), span(number, 2, 1, "b")])), Some(200));
    }
    store.eventually("all spans arrive", |store| store.metric("spanwise_store_spans") == 100);
    assert_eq!(store.json("http", &format!("/api/spanwise/traces/{}", hex(&trace_id(49))))["span_count"], 2);
    assert_eq!(gateway.metric("otelcol_receiver_accepted_spans"), 100);
    gateway.eventually("sent spans are counted", |gateway| gateway.metric("otelcol_exporter_sent_spans") == 200);
    // What is held when the signal comes is handed on before the end.
    assert_eq!(gateway.export(&otlp("shop", vec![span(99, 1, 0, "last")])), Some(200));
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(hub.stop(), Some(0));
    store.eventually("the last span arrives", |store| store.metric("spanwise_store_spans") == 101);
}

#[test]
fn a_dead_exporter_holds_up_no_other_and_its_losses_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let file = config(
        dir.path(),
        "c.yaml",
        "receivers: {otlp: {protocols: {http: }}}\n\
         exporters:\n  spanwise:\n  otlp/dead: {endpoint: '127.0.0.1:1', tls: {insecure: true}, retry_on_failure: {enabled: false}}\n\
         service: {pipelines: {traces: {receivers: [otlp], exporters: [spanwise, otlp/dead]}}}\n",
    );
    let server = Server::start(&dir.path().join("data"), &["--config", &file]);
    for number in 0..20 {
        assert_eq!(server.export(&otlp("shop", vec![span(number, 1, 0, "a")])), Some(200));
    }
    assert_eq!(server.metric("spanwise_store_spans"), 20);
    server.eventually("losses are counted", |server| server.metric("otelcol_exporter_send_failed_spans") == 20);
}

#[test]
fn all_errors_of_a_config_are_shown_with_their_places() {
    let dir = tempfile::tempdir().unwrap();
    let file = config(
        dir.path(),
        "bad.yaml",
        "receivers:\n  otlp:\n    protocols:\n      grcp:\nexporters:\n  otlphttp:\n    endpont: x\nservice:\n  pipelines:\n    traces:\n      receivers: [otlp]\n      exporters: [otlphttp/x]\n",
    );
    let output = spanwise(&["validate", "--config", &file]);
    assert_eq!(output.status.code(), Some(1));
    let errors = text(&output.stderr);
    for part in [
        "bad.yaml:4:7: error: receivers.otlp.protocols.grcp: has invalid keys: unknown key",
        "did you mean \"grpc\"?",
        "bad.yaml:7:5: error: exporters.otlphttp.endpont:",
        "did you mean \"endpoint\"?",
        "bad.yaml:12:19: error: service.pipelines.traces.exporters: references exporter \"otlphttp/x\" which is not configured",
    ] {
        assert!(errors.contains(part), "{part:?} in\n{errors}");
    }
    assert_eq!(spanwise(&["serve", "--config", &file]).status.code(), Some(1));
    let good = spanwise(&["validate", "--config", &format!("yaml:{}", "exporters::nop: {}"), "--config", &file]);
    assert_eq!(good.status.code(), Some(1));
}

#[test]
fn the_effective_config_and_the_components_are_printed() {
    let printed = text(&spanwise(&["print-config"]).stdout);
    assert!(printed.contains("endpoint: \"localhost:4317\""), "{printed}");
    let again = spanwise(&["validate", "--config", &format!("yaml:{printed}")]);
    assert!(again.status.success(), "{}", text(&again.stderr));
    let components: serde_json::Value =
        serde_json::from_slice(&spanwise(&["components", "--format", "json"]).stdout).unwrap();
    let names: Vec<_> =
        components["components"].as_array().unwrap().iter().map(|c| c["type"].as_str().unwrap()).collect();
    assert!(names.contains(&"otlp") && names.contains(&"spanwise") && names.contains(&"batch"), "{names:?}");
}
