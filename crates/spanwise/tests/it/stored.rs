//! What was sent is kept, found and shown.

use serde_json::json;

use crate::harness::{Server, hex, otlp, request, span, spanwise, text, trace_id};

#[test]
fn a_trace_is_found_at_once_by_every_api_and_again_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    assert_eq!(server.export(&otlp("shop", vec![span(1, 1, 0, "GET /cart"), span(1, 2, 1, "query")])), Some(200));
    let id = hex(&trace_id(1));
    let check = |server: &Server| {
        let trace = server.json("http", &format!("/api/spanwise/traces/{id}"));
        assert_eq!(trace["span_count"], 2);
        assert_eq!(trace["root"], json!({"service": "shop", "operation": "GET /cart"}));
        let found = server.json("http", "/api/spanwise/search?q=%7B%20name%20%3D%20%22query%22%20%7D");
        assert_eq!(found["traces"][0]["trace_id"], id);
        assert_eq!(server.json("http", "/api/services")["data"], json!(["shop"]));
        assert_eq!(server.json("http", "/api/services/shop/operations")["data"], json!(["GET /cart", "query"]));
        assert_eq!(server.json("http", "/api/traces?service=shop&operation=query")["data"][0]["traceID"], id);
        assert_eq!(server.json("http", &format!("/api/traces/{id}"))["data"][0]["spans"].as_array().unwrap().len(), 2);
        assert_eq!(server.json("tempo", "/api/search?tags=service.name%3Dshop")["traces"][0]["traceID"], id);
        assert_eq!(server.json("tempo", &format!("/api/traces/{id}"))["batches"].as_array().unwrap().len(), 1);
        let v2 = server.json("http", &format!("/tempo/api/v2/traces/{id}"));
        assert_eq!(v2["trace"]["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().len(), 2);
        let tags = server.json("tempo", "/api/v2/search/tags?scope=resource");
        assert_eq!(tags["scopes"], json!([{"name": "resource", "tags": ["service.name"]}]));
        let values = server.json("tempo", "/api/v2/search/tag/resource.service.name/values");
        assert_eq!(values["tagValues"], json!([{"type": "string", "value": "shop"}]));
    };
    check(&server);
    assert_eq!(server.stop(), Some(0));
    let server = Server::start(dir.path(), &[]);
    check(&server);
    // Another process reads beside the server.
    let output = spanwise(&["trace", &id, "--data-dir", dir.path().to_str().unwrap()]);
    assert!(text(&output.stdout).contains("GET /cart"), "{}", text(&output.stderr));
    let output = spanwise(&[
        "query",
        "{ name = \"query\" }",
        "--format",
        "json",
        "--addr",
        &format!("127.0.0.1:{}", server.port("http")),
    ]);
    assert!(text(&output.stdout).contains(&id), "{}", text(&output.stderr));
}

#[test]
fn otlp_json_and_every_compression_are_taken() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let proto = otlp("shop", vec![span(1, 1, 0, "gzip")]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut gzip, &proto).unwrap();
    let gzip = gzip.finish().unwrap();
    let post = |headers: &[(&str, &str)], body: &[u8]| {
        request(server.port("otlp_http"), "POST", "/v1/traces", headers, body).unwrap()
    };
    let answer = post(&[("content-type", "application/x-protobuf"), ("content-encoding", "gzip")], &gzip);
    assert_eq!(answer.status, 200);
    let json = format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"{}","spanId":"0202020202020202","name":"json"}},{{"traceId":"00","spanId":"01"}}]}}]}}]}}"#,
        hex(&trace_id(1))
    );
    let answer = post(&[("content-type", "application/json")], json.as_bytes());
    assert_eq!(answer.status, 200);
    assert!(text(&answer.body).contains(r#""rejectedSpans":"1""#), "{}", text(&answer.body));
    let trace = server.json("http", &format!("/api/spanwise/traces/{}", hex(&trace_id(1))));
    assert_eq!(trace["span_count"], 2);
    assert_eq!(server.metric("spanwise_receiver_rejected_spans"), 1);
    // Signals that stock agents send beside traces are discarded without an error in the built-in config.
    let answer =
        request(server.port("otlp_http"), "POST", "/v1/metrics", &[("content-type", "application/x-protobuf")], b"");
    assert_eq!(answer.unwrap().status, 200);
    assert_eq!(server.metric("spanwise_discarded_requests"), 1);
}

#[test]
fn import_reads_files_into_a_directory_and_through_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let file = dir.path().join("trace.json");
    let jaeger = r#"{"data":[{"traceID":"ab","spans":[{"traceID":"ab","spanID":"1","operationName":"op","startTime":1500000000000000,"duration":7,"processID":"p1"}],"processes":{"p1":{"serviceName":"old"}}}]}"#;
    std::fs::write(&file, jaeger).unwrap();
    let import = || spanwise(&["import", file.to_str().unwrap(), "--data-dir", data.to_str().unwrap()]);
    let output = import();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let found = || spanwise(&["trace", "ab", "--format", "json", "--data-dir", data.to_str().unwrap()]);
    assert!(text(&found().stdout).contains("\"old\""));
    let server = Server::start(&data, &[]);
    std::fs::write(&file, jaeger.replace("\"1\"", "\"2\"")).unwrap();
    assert!(import().status.success());
    assert_eq!(server.json("http", "/api/spanwise/traces/ab")["span_count"], 2);
    assert_eq!(spanwise(&["trace", "ac", "--data-dir", data.to_str().unwrap()]).status.code(), Some(3));
    std::fs::write(&file, "nonsense").unwrap();
    assert_eq!(import().status.code(), Some(1));
    // A directory may hold other things, and other directories; hidden files are not meant.
    let many = dir.path().join("many");
    std::fs::create_dir_all(many.join("below")).unwrap();
    std::fs::write(many.join("below/trace.json"), jaeger.replace("\"1\"", "\"3\"")).unwrap();
    std::fs::write(many.join(".hidden.json"), jaeger.replace("\"1\"", "\"4\"")).unwrap();
    std::fs::write(many.join("README"), "nonsense").unwrap();
    let output = spanwise(&["import", many.to_str().unwrap(), "--data-dir", data.to_str().unwrap()]);
    assert!(output.status.success() && text(&output.stderr).contains("1 spans imported"), "{}", text(&output.stderr));
    std::fs::remove_dir_all(many.join("below")).unwrap();
    let output = spanwise(&["import", many.to_str().unwrap(), "--data-dir", data.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
}
