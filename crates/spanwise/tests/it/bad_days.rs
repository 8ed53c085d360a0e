//! Bad input and bad days: a clear answer, and good traffic goes on.

use crate::harness::{Server, otlp, request, span, spanwise, text};

#[test]
fn bad_requests_are_refused_and_good_ones_still_taken() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let proto: (&str, &str) = ("content-type", "application/x-protobuf");
    let bomb = {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        let zeros = vec![0; 1 << 20];
        for _ in 0..100 {
            std::io::Write::write_all(&mut gzip, &zeros).unwrap();
        }
        gzip.finish().unwrap()
    };
    let good = otlp("shop", vec![span(1, 1, 0, "a")]);
    let huge = vec![0; 21 << 20];
    let post = |path: &str, headers: &[(&str, &str)], body: &[u8]| {
        request(server.port("otlp_http"), "POST", path, headers, body).unwrap().status
    };
    for (what, headers, body, expected) in [
        ("not protobuf", vec![proto], &b"\xff\xff\xff"[..], 400),
        ("a truncated message", vec![proto], &good[..good.len() - 3], 400),
        ("not JSON", vec![("content-type", "application/json")], b"{", 400),
        ("another type", vec![("content-type", "text/plain")], &good, 415),
        ("no type", vec![], &good, 415),
        ("an unknown encoding", vec![proto, ("content-encoding", "br")], &good, 415),
        ("not gzip", vec![proto, ("content-encoding", "gzip")], &good, 400),
        ("a bomb", vec![proto, ("content-encoding", "gzip")], &bomb, 413),
        ("too much", vec![proto], &huge, 413),
        ("good spans", vec![proto], &good, 200),
    ] {
        assert_eq!(post("/v1/traces", &headers, body), expected, "{what}");
    }
    assert_eq!(post("/v1/nothing", &[proto], &good), 404);
    assert_eq!(request(server.port("otlp_http"), "GET", "/v1/traces", &[], b"").unwrap().status, 405);
    assert_eq!(server.metric("otelcol_receiver_accepted_spans"), 1);
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap().to_owned();
    let peak_kib: u64 = peak.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(peak_kib < 300 << 10, "{peak}");
}

#[test]
fn questions_without_an_answer_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    for (path, expected, part) in [
        ("/api/spanwise/traces/abc", 404, "no trace abc"),
        ("/api/spanwise/traces/xyz", 400, "not a trace id"),
        ("/api/spanwise/search?q=%7B%20name%20%3D%20%7D", 400, "\"offset\":9"),
        ("/api/spanwise/search?q=%28%7B%7D%7Ccount%28%29%29%2B%28%7B%7D%7Ccount%28%29%29%3D1", 400, "not executed yet"),
        ("/api/traces/abc", 404, "trace not found"),
        ("/api/traces", 400, "parameter 'service' is required"),
        ("/tempo/api/traces/abc", 404, "trace not found"),
        ("/tempo/api/search?start=5&end=4", 400, "start must be before end"),
        ("/api/unknown", 404, "unknown path"),
        ("/trace/abc", 200, "<title>Spanwise</title>"),
        ("/ready", 200, "ready"),
    ] {
        let answer = server.get("http", path);
        let body = text(&answer.body);
        assert_eq!(answer.status, expected, "{path}: {body}");
        assert!(body.contains(part), "{path}: {body}");
        assert!(answer.head.contains("content-security-policy"), "{path}");
    }
}

#[test]
fn other_peoples_pages_cannot_reach_in() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["--allow-host", "traces.example.com"]);
    let port = server.port("http");
    let status =
        |method: &str, path: &str, headers: &[(&str, &str)]| request(port, method, path, headers, b"").unwrap().status;
    assert_eq!(status("GET", "/api/spanwise/status", &[("host", "evil.example.com")]), 403);
    assert_eq!(status("GET", "/api/spanwise/status", &[("host", "traces.example.com")]), 200);
    assert_eq!(status("POST", "/api/spanwise/import", &[]), 403);
    assert_eq!(status("POST", "/api/spanwise/import", &[("x-spanwise", "1")]), 200);
}

#[test]
fn a_directory_or_port_in_use_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let data = dir.path().to_str().unwrap();
    let second = spanwise(&["serve", "--listen", "127.0.0.1:0", "--data-dir", data]);
    assert_eq!(second.status.code(), Some(1));
    let error = text(&second.stderr);
    assert!(error.contains(&format!("process {}", server.pid())), "{error}");
    let taken = format!("receivers::otlp::protocols::grpc::endpoint=127.0.0.1:{}", server.port("otlp_grpc"));
    let other = tempfile::tempdir().unwrap();
    let third = spanwise(&["serve", "--set", &taken, "--data-dir", other.path().to_str().unwrap()]);
    assert_eq!(third.status.code(), Some(1));
    assert!(text(&third.stderr).contains("the port is in use"), "{}", text(&third.stderr));
    assert_eq!(server.export(&otlp("shop", vec![span(1, 1, 0, "a")])), Some(200));
}

#[test]
fn a_directory_that_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let output = spanwise(&["serve", "--listen", "127.0.0.1:0", "--data-dir", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("cannot use"), "{}", text(&output.stderr));
    let output = spanwise(&["query", "{}", "--data-dir", dir.path().to_str().unwrap()]);
    assert!(text(&output.stderr).contains("holds no traces"), "{}", text(&output.stderr));
    let output = spanwise(&["query", "{ nmae = 1 }", "--data-dir", dir.path().to_str().unwrap()]);
    assert!(text(&output.stderr).contains("{ nmae = 1 }\n      ^"), "{}", text(&output.stderr));
}

#[test]
fn a_config_that_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let missing = dir.path().join("missing.yaml").to_str().unwrap().to_owned();
    for (source, parts) in [
        (missing.clone(), vec!["cannot read", "missing.yaml", "No such file"]),
        (dir.path().to_str().unwrap().to_owned(), vec!["cannot read", "Is a directory"]),
        (file("binary.yaml", b"\xff\xfe\x00\x01"), vec!["cannot read", "binary.yaml", "UTF-8"]),
        (
            file("torn.yaml", b"receivers: {otlp: {protocols: "),
            vec!["torn.yaml:", "did not find expected node content"],
        ),
        (file("list.yaml", b"- a\n"), vec!["list.yaml:1:1", "a config is a map, and this is a list"]),
        (file("empty.yaml", b""), vec!["no service section"]),
        (file("tab.yaml", b"receivers:\n\totlp:\n"), vec!["tab.yaml:2:"]),
        ("env:SPANWISE_NO_SUCH_CONFIG".to_owned(), vec!["SPANWISE_NO_SUCH_CONFIG", "is not set"]),
        ("https://example.invalid/c.yaml".to_owned(), vec!["not fetched over the network"]),
    ] {
        for command in ["serve", "validate"] {
            let output = spanwise(&[command, "--config", &source]);
            let error = text(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{command} {source}: {error}");
            for part in &parts {
                assert!(error.contains(part), "{command} {source}: {part:?} is not in {error}");
            }
            assert!(output.stdout.is_empty(), "{command} {source}");
        }
    }
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let script = "mount -t tmpfs -o ro none \"$1\" && shift && exec \"$@\"";
    let output = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", data])
        .args([env!("CARGO_BIN_EXE_spanwise"), "serve", "--listen", "127.0.0.1:0", "--data-dir", data])
        .output()
        .unwrap();
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains(data) && error.contains("Read-only file system"), "{error}");
}
