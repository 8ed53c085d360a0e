//! Tempo's, Jaeger's and Zipkin's APIs, line by line as their clients read them, through the real binary.

use serde_json::{Value as Json, json};

use crate::harness::{Server, hex, otlp, request, span, spanwise, text, trace_id};

/// Percent-encodes everything but letters and digits.
fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn with_shop() -> (tempfile::TempDir, Server) {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let gateway = otlp("gateway", vec![span(1, 1, 0, "GET /cart"), span(2, 1, 0, "GET /")]);
    let cart = otlp("cart", vec![span(1, 2, 1, "load"), span(1, 3, 2, "query")]);
    assert_eq!(server.export(&gateway), Some(200));
    assert_eq!(server.export(&cart), Some(200));
    (dir, server)
}

fn keys(object: &Json) -> Vec<&str> {
    object.as_object().map(|members| members.keys().map(String::as_str).collect()).unwrap_or_default()
}

#[test]
fn tempo_answers_in_the_shapes_that_its_clients_parse() {
    let (_dir, server) = with_shop();
    let id = hex(&trace_id(1));
    let get = |path: &str| server.json("tempo", path);
    assert_eq!(text(&server.get("tempo", "/api/echo").body), "echo");
    assert_eq!(server.get("tempo", "/ready").status, 200);
    assert!(get("/api/status/buildinfo")["version"].is_string());

    // A client refuses members that it does not know: these and no others.
    let q = encode("{ name = \"query\" } | select(resource.service.name)");
    let found = get(&format!("/api/search?q={q}&limit=5&spss=2"));
    assert_eq!(keys(&found), ["traces", "metrics"]);
    let trace = &found["traces"][0];
    assert_eq!(trace["traceID"], id);
    assert_eq!((&trace["rootServiceName"], &trace["rootTraceName"]), (&json!("gateway"), &json!("GET /cart")));
    assert_eq!(trace["spanSets"][0]["matched"], 1);
    assert_eq!(trace["spanSet"], trace["spanSets"][0]);
    assert_eq!(trace["serviceStats"]["cart"], json!({"spanCount": 2, "errorCount": 0}));
    let matched = &trace["spanSets"][0]["spans"][0];
    assert_eq!(keys(matched), ["spanID", "name", "startTimeUnixNano", "durationNanos", "attributes"]);
    assert_eq!(matched["attributes"], json!([{"key": "service.name", "value": {"stringValue": "cart"}}]));
    for member in ["startTimeUnixNano", "durationNanos"] {
        assert!(matched[member].is_string(), "64-bit numbers are strings: {member}");
    }

    // What Grafana's Drilldown asks.
    let q = encode(
        "({nestedSetParent<0} &>> { kind = server || name = \"query\" }) || ({nestedSetParent<0}) \
         | select(status, resource.service.name, name, nestedSetParent, nestedSetLeft, nestedSetRight)",
    );
    let found = get(&format!("/api/search?q={q}&limit=200&spss=20"));
    assert_eq!(found["traces"].as_array().unwrap().len(), 2);
    assert!(found.to_string().contains(r#"{"key":"nestedSetParent","value":{"intValue":"-1"}}"#), "{found}");

    let range = |path: &str, q: &str| {
        let start = found["traces"][0]["startTimeUnixNano"].as_str().unwrap().parse::<u64>().unwrap() / 1_000_000_000;
        get(&format!("{path}?q={}&start={}&end={}&step=60s", encode(q), start - 60, start + 120))
    };
    let series = range("/api/metrics/query_range", "{} | count_over_time() by (resource.service.name)");
    let labels: Vec<&Json> = series["series"].as_array().unwrap().iter().map(|one| &one["labels"]).collect();
    let label = |name: &str| json!([{"key": "resource.service.name", "value": {"stringValue": name}}]);
    assert_eq!(labels, [&label("cart"), &label("gateway")]);
    let samples = series["series"][0]["samples"].as_array().unwrap();
    assert_eq!(samples.iter().filter_map(|sample| sample["value"].as_f64()).sum::<f64>(), 2.0);
    assert!(samples[0]["timestampMs"].is_string());
    // One exemplar of each trace, in whichever series it was met first.
    let exemplars = series["series"].as_array().unwrap().iter().filter_map(|one| one["exemplars"].as_array()).flatten();
    let ids: Vec<String> = exemplars.map(|exemplar| exemplar["labels"].to_string()).collect();
    assert_eq!(ids.len(), 2);
    assert!(ids.iter().all(|labels| labels.contains("trace:id")), "{ids:?}");
    let instant = range("/api/metrics/query", "{ name = \"query\" } | count_over_time()");
    let name = json!([{"key": "__name__", "value": {"stringValue": "count_over_time"}}]);
    assert_eq!(instant["series"], json!([{"labels": name, "value": 1.0}]));

    // By id: protobuf where it is asked for; v1 has no trace where v2 has an empty one.
    let accept = [("accept", "application/protobuf")];
    let port = server.port("tempo");
    let v1 = request(port, "GET", &format!("/api/traces/{id}"), &accept, b"").unwrap();
    let v2 = request(port, "GET", &format!("/api/v2/traces/{id}"), &accept, b"").unwrap();
    assert_eq!(v2.body.len(), v1.body.len() + if v1.body.len() < 128 { 2 } else { 3 });
    assert!(v2.body.ends_with(&v1.body));
    assert_eq!(server.get("tempo", "/api/traces/abc").status, 404);
    let empty = request(port, "GET", "/api/v2/traces/abc", &accept, b"").unwrap();
    assert_eq!((empty.status, empty.body.as_slice()), (200, [0x0a, 0].as_slice()));
    assert_eq!(get("/api/v2/traces/abc")["trace"], json!({}));

    let tags = get("/api/search/tags");
    assert_eq!(tags["tagNames"], json!(["service.name"]));
    let intrinsic = get("/api/v2/search/tags?scope=intrinsic");
    assert!(intrinsic["scopes"][0]["tags"].as_array().unwrap().contains(&json!("duration")));
    assert_eq!(get("/api/v2/search/tag/status/values")["tagValues"][0]["type"], "keyword");
    assert_eq!(get("/api/search/tag/service.name/values?limit=1")["tagValues"], json!(["cart"]));

    for (path, part) in [
        ("/api/search?q=%7B", "expected"),
        ("/api/search?q=%7B%7D&tags=a%3Db", "cannot be used together"),
        ("/api/search?q=%7B%7D&limit=0", "limit"),
        ("/api/search?q=%7B%7D%7Crate()", "metrics function"),
        ("/api/metrics/query_range?q=%7B%7D", "metrics function"),
        ("/api/metrics/query_range?q=%7B%7D%7Crate()&step=0", "step"),
        ("/api/metrics/query_range", "q is missing"),
        ("/api/traces/1?start=5&end=5", "start must be before end"),
        ("/api/v2/search/tags?scope=nonsense", "scope"),
        ("/api/v2/traces/xyz", "not a trace id"),
    ] {
        let answer = server.get("tempo", path);
        assert_eq!(answer.status, 400, "{path}");
        assert!(text(&answer.body).contains(part), "{path}: {}", text(&answer.body));
    }
}

#[test]
fn jaeger_answers_in_its_envelope() {
    let (_dir, server) = with_shop();
    let get = |path: &str| server.json("http", path);
    let id = hex(&trace_id(1));
    let services = get("/api/services");
    assert_eq!(services, json!({"data": ["cart", "gateway"], "total": 2, "limit": 0, "offset": 0, "errors": null}));
    assert_eq!(get("/api/operations?service=cart")["total"], 2);
    assert_eq!(get("/api/services/cart/operations")["data"], json!(["load", "query"]));
    let found = get("/api/traces?service=cart&limit=5&lookback=1h&tags=%7B%7D&maxDuration=1h");
    assert_eq!(found["data"][0]["traceID"], id);
    assert_eq!(found["data"][0]["spans"].as_array().unwrap().len(), 3);
    let by_ids = get(&format!("/api/traces?traceID={id}&traceID=abc"));
    assert_eq!(by_ids["data"].as_array().unwrap().len(), 1);
    assert_eq!(by_ids["errors"][0]["code"], 404);
    assert!(text(&server.get("http", "/api/services?prettyPrint=true").body).contains("\n  \"data\""));
    assert_eq!(
        get("/api/dependencies?lookback=86400000")["data"],
        json!([{"parent": "gateway", "child": "cart", "callCount": 1}])
    );
    for (path, status, part) in [
        ("/api/traces", 400, "parameter 'service' is required"),
        ("/api/traces?service=a&limit=many", 400, "unable to parse param 'limit'"),
        ("/api/traces?service=a&start=x", 400, "unable to parse param 'start'"),
        ("/api/traces?service=a&minDuration=2s&maxDuration=1s", 400, "should be greater"),
        ("/api/operations", 400, "parameter 'service' is required"),
        ("/api/traces/abc", 404, "trace not found"),
    ] {
        let answer = server.get("http", path);
        assert_eq!(answer.status, status, "{path}");
        let body: Json = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body["errors"][0]["code"], status);
        assert!(body["errors"][0]["msg"].as_str().unwrap().contains(part), "{body}");
    }
}

#[test]
fn zipkin_answers_its_clients() {
    let (_dir, server) = with_shop();
    let get = |path: &str| server.json("zipkin", path);
    let id = hex(&trace_id(1));
    assert_eq!(get("/health")["status"], "UP");
    assert_eq!(get("/api/v2/services"), json!(["cart", "gateway"]));
    assert_eq!(get("/api/v2/spans?serviceName=cart"), json!(["load", "query"]));
    assert_eq!(get("/api/v2/remoteServices?serviceName=cart"), json!([]));
    let trace = get(&format!("/api/v2/trace/{id}"));
    assert_eq!(trace.as_array().unwrap().len(), 3);
    assert_eq!((&trace[0]["traceId"], &trace[0]["name"]), (&json!(id), &json!("GET /cart")));
    assert_eq!(trace[0]["localEndpoint"]["serviceName"], "gateway");
    assert!(trace[0]["timestamp"].is_u64() && trace[0].get("parentId").is_none());
    let found = get("/api/v2/traces?serviceName=cart&spanName=query&limit=5");
    assert_eq!(found, json!([trace]));
    let other = hex(&trace_id(2));
    assert_eq!(get(&format!("/api/v2/traceMany?traceIds={id},{other}")).as_array().unwrap().len(), 2);
    let end_ms = trace[0]["timestamp"].as_u64().unwrap() / 1_000 + 60_000;
    assert_eq!(
        get(&format!("/api/v2/dependencies?endTs={end_ms}")),
        json!([{"parent": "gateway", "child": "cart", "callCount": 1}])
    );
    for (path, status) in [
        ("/api/v2/trace/abc", 404),
        ("/api/v2/trace/xyz", 400),
        ("/api/v2/spans", 400),
        ("/api/v2/traceMany?traceIds=1", 400),
        ("/api/v2/traceMany?traceIds=1,1", 400),
        ("/api/v2/dependencies", 400),
        ("/api/v2/traces?limit=many", 400),
    ] {
        assert_eq!(server.get("zipkin", path).status, status, "{path}");
    }
}

#[test]
fn the_command_counts_and_points_at_what_is_wrong() {
    let (_dir, server) = with_shop();
    let addr = format!("127.0.0.1:{}", server.port("http"));
    let query = |arguments: &[&str]| spanwise(&[&["query"], arguments, &["--addr", &addr]].concat());
    let output = query(&["{} | count_over_time() by (resource.service.name)", "--step", "1h", "--format", "json"]);
    let answer: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["series"][0]["labels"], json!({"resource.service.name": "cart"}));
    assert_eq!((&answer["complete"], answer["series"].as_array().unwrap().len()), (&json!(true), 2));
    let output = query(&["{} | rate()", "--step", "1h"]);
    assert!(text(&output.stdout).starts_with("SERIES"), "{}", text(&output.stdout));
    let output = query(&["{ name = \"load\" } > { name = \"query\" }"]);
    assert!(text(&output.stdout).contains(&hex(&trace_id(1))), "{}", text(&output.stderr));
    let output = query(&["{} | count() + 1"]);
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("^"), "{}", text(&output.stderr));
}
