//! The one line in a real program: this test binary starts itself again as that program.

#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

const CHILD: &str = "SPANWISE_TEST_PROGRAM";

/// The program. A test that does nothing unless it was started as the program.
#[test]
fn program() {
    let Ok(which) = std::env::var(CHILD) else { return };
    let builder = spanwise_sdk::builder().service_name("shop");
    let builder = if which == "signal" { builder.flush_on_signals() } else { builder };
    let guard = builder.init().unwrap();
    assert!(spanwise_sdk::init().is_err());
    match which.as_str() {
        "spans" => spans(),
        // A runtime of one thread, flushed from inside: where the official set-up loses its spans.
        "current_thread" => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                tokio::spawn(async { tracing::info_span!("spawned").in_scope(|| ()) }).await.unwrap();
                assert!(guard.flush(Duration::from_secs(10)));
                assert_eq!(guard.stats().exported, 1);
                drop(guard);
            });
            return;
        }
        "signal" => {
            tracing::info_span!("before the signal").in_scope(|| ());
            println!("ready");
            loop {
                std::thread::park();
            }
        }
        // Nothing is recorded until the sampling server has answered.
        "remote" => {
            let start = std::time::Instant::now();
            while guard.stats().ended == 0 && start.elapsed() < Duration::from_secs(20) {
                tracing::info_span!("sampled").in_scope(|| ());
                assert!(guard.flush(Duration::from_secs(10)));
            }
            assert!(guard.stats().exported > 0);
        }
        "nobody_listens" => {
            tracing::info_span!("lost").in_scope(|| ());
            assert!(guard.provider().is_some());
        }
        other => panic!("{other}"),
    }
    drop(guard);
}

fn spans() {
    use spanwise_sdk::RecordError;
    tracing::info_span!("outer", user = 7).in_scope(|| {
        tracing::info!("a line");
        spanwise_sdk::in_span("inner", |span| span.set("shop.items", 3));
        let failed: Result<u8, _> = "x".parse::<u8>().recorded();
        assert!(failed.is_err());
    });
    let caught = std::panic::catch_unwind(|| {
        let _span = spanwise_sdk::span("panics");
        panic!("out of stock");
    });
    assert!(caught.is_err());
}

fn start(which: &str, variables: &[(&str, &str)]) -> Output {
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.args(["program", "--exact", "--nocapture", "--test-threads=1"]).env(CHILD, which);
    program.env_remove("RUST_LOG").envs(variables.iter().copied());
    let output = program.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// An OTLP/HTTP receiver: the requests that arrive.
fn receiver() -> (String, Receiver<ExportTraceServiceRequest>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (sender, requests) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut bytes) = (stream.unwrap(), Vec::new());
            let mut chunk = [0; 4096];
            let body = loop {
                let read = stream.read(&mut chunk).unwrap();
                assert!(read > 0, "a request ends early");
                bytes.extend_from_slice(&chunk[..read]);
                let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
                let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
                assert!(head.starts_with("post /v1/traces "), "{head}");
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
                if bytes.len() >= end + 4 + length.parse::<usize>().unwrap() {
                    break bytes.split_off(end + 4);
                }
            };
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            // Kept before it is acknowledged.
            sender.send(ExportTraceServiceRequest::decode(&body[..]).unwrap()).unwrap();
            stream.write_all(answer).unwrap();
        }
    });
    (address, requests)
}

fn all_spans(requests: &Receiver<ExportTraceServiceRequest>) -> Vec<Span> {
    let requests: Vec<_> = requests.try_iter().collect();
    let resources = requests.into_iter().flat_map(|request| request.resource_spans);
    resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
}

#[test]
fn one_line_sends_spans_errors_and_panics() {
    let (address, requests) = receiver();
    let output = start("spans", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &address), ("OTEL_RESOURCE_ATTRIBUTES", "team=red")]);
    let request = requests.recv_timeout(Duration::from_secs(10)).unwrap();
    let resource = request.resource_spans[0].resource.as_ref().unwrap();
    let value = |key: &str| {
        let pair = resource.attributes.iter().find(|pair| pair.key == key)?;
        match pair.value.as_ref()?.value.as_ref()? {
            Value::StringValue(text) => Some(text.clone()),
            other => Some(format!("{other:?}")),
        }
    };
    assert_eq!((value("service.name").as_deref(), value("team").as_deref()), (Some("shop"), Some("red")));
    assert!(value("process.pid").is_some() && value("host.name").is_some());
    let spans: Vec<_> =
        request.resource_spans.iter().flat_map(|r| &r.scope_spans).flat_map(|s| &s.spans).cloned().collect();
    let find =
        |name: &str| spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name}: {spans:#?}"));
    let (outer, inner, panics) = (find("outer"), find("inner"), find("panics"));
    assert_eq!((&inner.parent_span_id, &inner.trace_id), (&outer.span_id, &outer.trace_id));
    for (span, part) in [(outer, "invalid digit"), (panics, "out of stock")] {
        let exception = span.events.iter().find(|event| event.name == "exception").unwrap();
        assert!(format!("{exception:?}").contains(part), "{exception:?}");
        assert_eq!(span.status.as_ref().unwrap().code, 2);
    }
    // The log line carries the ids of its span.
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = log.lines().find(|line| line.contains("a line")).unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert!(line.ends_with(&format!("trace_id={} span_id={}", hex(&outer.trace_id), hex(&outer.span_id))), "{line}");
}

#[test]
fn works_on_a_runtime_of_one_thread() {
    let (address, requests) = receiver();
    start("current_thread", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &address)]);
    assert_eq!(all_spans(&requests).iter().map(|span| span.name.as_str()).collect::<Vec<_>>(), ["spawned"]);
}

#[test]
fn the_environment_decides() {
    let (address, requests) = receiver();
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", address.as_str());
    start("spans", &[endpoint, ("OTEL_SDK_DISABLED", "true")]);
    start("spans", &[endpoint, ("OTEL_TRACES_EXPORTER", "none")]);
    start("spans", &[endpoint, ("OTEL_TRACES_SAMPLER", "always_off")]);
    assert_eq!(all_spans(&requests).len(), 0);
    let output = start("spans", &[endpoint, ("OTEL_TRACES_EXPORTER", "console"), ("SPANWISE_LOG_FORMAT", "json")]);
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(lines.lines().any(|line| line.contains(r#""name":"inner""#)), "{lines}");
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(log.lines().any(|line| line.starts_with('{') && line.contains("\"trace_id\"")), "{log}");
    let output = start("spans", &[endpoint, ("OTEL_PROPAGATORS", "zipkin")]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot use propagators zipkin"));
}

#[test]
fn a_signal_sends_what_is_left_and_ends_the_program_as_ever() {
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::ExitStatusExt;
    let (address, requests) = receiver();
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.args(["program", "--exact", "--nocapture", "--test-threads=1"]).env(CHILD, "signal");
    program.env("OTEL_EXPORTER_OTLP_ENDPOINT", &address).stdout(std::process::Stdio::piped());
    let mut program = program.spawn().unwrap();
    let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with("ready")));
    assert!(Command::new("kill").arg(program.id().to_string()).status().unwrap().success());
    assert_eq!(program.wait().unwrap().signal(), Some(15));
    let spans = all_spans(&requests);
    assert_eq!(spans.iter().map(|span| span.name.as_str()).collect::<Vec<_>>(), ["before the signal"]);
}

#[test]
fn a_sampling_server_decides() {
    let (address, requests) = receiver();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let argument =
        format!("endpoint=http://{},pollingIntervalMs=50,initialSamplingRate=0", listener.local_addr().unwrap());
    let (sender, asked) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut request) = (stream.unwrap(), [0; 1024]);
            let read = stream.read(&mut request).unwrap();
            sender.send(String::from_utf8_lossy(&request[..read]).into_owned()).unwrap();
            let body = r#"{"strategyType":"PROBABILISTIC","probabilisticSampling":{"samplingRate":1}}"#;
            let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
        }
    });
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", address.as_str());
    start(
        "remote",
        &[endpoint, ("OTEL_TRACES_SAMPLER", "parentbased_jaeger_remote"), ("OTEL_TRACES_SAMPLER_ARG", &argument)],
    );
    assert!(asked.recv().unwrap().starts_with("GET /sampling?service=shop "));
    assert_eq!(all_spans(&requests)[0].trace_state, "ot=th:0");
}

#[test]
fn a_program_whose_server_is_away_ends_and_says_what_was_lost() {
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "200")];
    let output = start("nobody_listens", &variables);
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(log.contains("cannot deliver all spans: 0 delivered, 0 dropped (queue full), 1 failed"), "{log}");
}
