//! Metrics and logs: forwarded as bytes where a pipeline has them, otherwise answered as the collector answers.

use crate::grpc;
use crate::harness::{Server, config, request, spanwise, text};

const METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
const LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
const PROTO: (&str, &str) = ("content-type", "application/x-protobuf");
const JSON: (&str, &str) = ("content-type", "application/json");

/// Something that is a metrics request, with a field that nobody knows yet.
fn body(name: &str) -> Vec<u8> {
    let mut metric = vec![0x0a, name.len() as u8];
    metric.extend_from_slice(name.as_bytes());
    let wrap = |number: u8, inner: &[u8]| [&[number << 3 | 2, inner.len() as u8], inner].concat();
    [wrap(1, &wrap(2, &wrap(2, &metric))), vec![0xf8, 0x3e, 1]].concat()
}

fn post(server: &Server, path: &str, headers: &[(&str, &str)], body: &[u8]) -> u16 {
    request(server.port("otlp_http"), "POST", path, headers, body).unwrap().status
}

/// Requests in a file of the exporter, each behind its length.
fn records(path: &std::path::Path) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(path).unwrap_or_default();
    let mut rest = &bytes[..];
    let mut records = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        records.push(after[..length].to_vec());
        rest = &after[length..];
    }
    records
}

#[test]
fn requests_pass_two_collectors_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let (metrics_out, logs_out) = (dir.path().join("metrics.bin"), dir.path().join("logs.bin"));
    let hub = format!(
        "receivers: {{otlp: {{protocols: {{grpc: , http: }}}}}}\n\
         exporters:\n  file/metrics: {{path: '{}', format: proto, flush_interval: 10ms}}\n  \
         file/logs: {{path: '{}', format: proto, flush_interval: 10ms}}\n  debug:\n\
         service: {{pipelines: {{metrics: {{receivers: [otlp], exporters: [file/metrics, debug]}}, logs: {{receivers: [otlp], exporters: [file/logs]}}}}}}\n",
        metrics_out.display(),
        logs_out.display()
    );
    let hub = Server::start_in_memory(&["--config", &config(dir.path(), "hub.yaml", &hub)]);
    let gateway = format!(
        "receivers: {{otlp: {{protocols: {{grpc: , http: }}}}}}\n\
         processors: {{batch: , memory_limiter: {{limit_mib: 100}}}}\n\
         exporters:\n  otlp: {{endpoint: '127.0.0.1:{}', tls: {{insecure: true}}}}\n  otlphttp: {{endpoint: 'http://127.0.0.1:{}', compression: zstd}}\n  nop:\n\
         service:\n  pipelines:\n    traces: {{receivers: [otlp], exporters: [nop]}}\n    \
         metrics: {{receivers: [otlp], processors: [memory_limiter, batch], exporters: [otlp]}}\n    \
         logs: {{receivers: [otlp], processors: [batch], exporters: [otlphttp]}}\n",
        hub.port("otlp_grpc"),
        hub.port("otlp_http")
    );
    let gateway = Server::start_in_memory(&["--config", &config(dir.path(), "gateway.yaml", &gateway)]);
    let grpc_port = gateway.port("otlp_grpc");
    assert_eq!(post(&gateway, "/v1/metrics", &[PROTO], &body("over http")), 200);
    let answer = grpc::call(grpc_port, METRICS, &[], &grpc::frame(false, &body("over grpc")));
    assert_eq!(answer.code, "OK", "{}", answer.message);
    let gzip =
        spanwise_wire::inflate::deflate(spanwise_wire::inflate::Encoding::Gzip, None, &body("compressed").into());
    let headers = [PROTO, ("content-encoding", "gzip")];
    assert_eq!(post(&gateway, "/v1/logs", &headers, &gzip.unwrap()), 200);
    assert_eq!(grpc::call(grpc_port, LOGS, &[], &grpc::frame(false, &body("a log"))).code, "OK");
    hub.eventually("all are in the files", |_| (records(&metrics_out).len(), records(&logs_out).len()) == (2, 2));
    assert_eq!(records(&metrics_out), [body("over http"), body("over grpc")]);
    assert_eq!(records(&logs_out), [body("compressed"), body("a log")]);
    assert_eq!(gateway.metric("spanwise_forwarded_requests"), 4);
    // JSON goes on as JSON where the next hop takes it, and is refused where it cannot.
    assert_eq!(post(&gateway, "/v1/metrics", &[JSON], b"{}"), 400, "gRPC carries no JSON");
    assert_eq!(post(&gateway, "/v1/logs", &[JSON], b"{}"), 400, "the file at the end holds protobuf");
    assert_eq!(gateway.metric("spanwise_refused_requests"), 2);
    // The sender hears of a next hop that is gone, and tries again itself.
    hub.kill();
    assert_eq!(post(&gateway, "/v1/metrics", &[PROTO], &body("lost?")), 503);
    assert_eq!(post(&gateway, "/v1/logs", &[PROTO], &body("lost?")), 503);
    assert_eq!(gateway.stop(), Some(0));
}

#[test]
fn without_a_pipeline_they_are_refused_and_by_default_discarded() {
    let dir = tempfile::tempdir().unwrap();
    let only_traces = "receivers: {otlp: {protocols: {grpc: , http: }}}\nexporters: {nop: }\n\
                       service: {pipelines: {traces: {receivers: [otlp], exporters: [nop]}}}\n";
    let server = Server::start_in_memory(&["--config", &config(dir.path(), "c.yaml", only_traces)]);
    for (path, method) in [("/v1/metrics", METRICS), ("/v1/logs", LOGS)] {
        assert_eq!(post(&server, path, &[PROTO], b""), 404, "{path}");
        let answer = grpc::call(server.port("otlp_grpc"), method, &[], &grpc::frame(false, b""));
        assert_eq!(answer.code, "UNIMPLEMENTED", "{path}");
    }
    let builtin = Server::start(&dir.path().join("data"), &[]);
    for (path, method) in [("/v1/metrics", METRICS), ("/v1/logs", LOGS)] {
        assert_eq!(post(&builtin, path, &[PROTO], &body("x")), 200, "{path}");
        let answer = grpc::call(builtin.port("otlp_grpc"), method, &[], &grpc::frame(false, &body("x")));
        assert_eq!(answer.code, "OK", "{path}");
    }
    assert_eq!(builtin.metric("spanwise_discarded_requests"), 4);
}

#[test]
fn a_component_that_cannot_take_them_is_named() {
    let config = "yaml:{receivers: {otlp: {protocols: {http: }}}, processors: {resource: {attributes: [{key: a, action: delete}]}}, \
                  exporters: {spanwise: , nop: }, service: {pipelines: {metrics: {receivers: [otlp], exporters: [spanwise]}, \
                  logs: {receivers: [otlp], processors: [resource], exporters: [nop]}}}}";
    let output = spanwise(&["validate", "--config", config]);
    assert_eq!(output.status.code(), Some(1));
    let errors = text(&output.stderr);
    assert!(errors.contains("exporter \"spanwise\" does not support metrics"), "{errors}");
    assert!(errors.contains("processor \"resource\" does not support logs"), "{errors}");
}
