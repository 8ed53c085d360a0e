//! The payment service as the shop runs it: its spans, as they arrive at a collector.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

/// Answers every request with `answer` and passes on what came: head and body.
fn server(answer: &'static str) -> (String, Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (sender, requests) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                assert!(stream.read_line(&mut head).unwrap() > 0);
            }
            let head = head.to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
            stream.read_exact(&mut body).unwrap();
            let length = answer.len();
            let answer = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{answer}");
            sender.send((head, body)).unwrap();
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
        }
    });
    (address, requests)
}

fn post(url: &str, traceparent: &str, body: &str) -> String {
    let (host, path) = url.trim().strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    let length = body.len();
    let head = format!("POST /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ntraceparent: {traceparent}\r\n");
    let rest = format!("content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}");
    stream.write_all(format!("{head}{rest}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_payment_is_one_trace() {
    let (collector, exports) = server("");
    let (auth, asked) = server(r#"{"valid":true}"#);
    let mut program = Command::new(env!("CARGO_BIN_EXE_rust-shop"))
        .env("AUTH_URL", &auth)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector)
        .env("PORT", "0")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut url = String::new();
    BufReader::new(program.stdout.take().unwrap()).read_line(&mut url).unwrap();
    let trace_id = "80f198ee56343ba864fe8b2a57d3eff7";
    let parent = format!("00-{trace_id}-e457b5a2e4d86bd1-01");
    let paid = post(&url, &parent, r#"{"user":"ada","total":12.5,"card":"new"}"#);
    assert!(paid.starts_with("HTTP/1.1 200 ") && paid.ends_with(r#"{"paid":12.5}"#), "{paid}");
    let failed = post(&url, &parent, r#"{"user":"bob","total":3,"card":"old"}"#);
    assert!(failed.starts_with("HTTP/1.1 504 "), "{failed}");
    let (head, _) = asked.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(head.contains(&format!("traceparent: 00-{trace_id}-")), "{head}");

    // On SIGTERM it stops and sends what is left.
    assert!(Command::new("kill").arg(program.id().to_string()).status().unwrap().success());
    assert!(program.wait().unwrap().success());
    let spans: Vec<Span> = exports
        .try_iter()
        .map(|(_, body)| ExportTraceServiceRequest::decode(&body[..]).unwrap())
        .flat_map(|request| request.resource_spans)
        .flat_map(|resource| resource.scope_spans)
        .flat_map(|scope| scope.spans)
        .collect();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert!(spans.iter().all(|span| hex(&span.trace_id) == trace_id), "{spans:#?}");
    let named = |name: &str| spans.iter().filter(|span| span.name == name).collect::<Vec<_>>();
    let (requests, calls, charges) = (named("POST /pay"), named("GET"), named("charge the card"));
    let inserts = named("INSERT payments");
    assert_eq!((requests.len(), calls.len(), charges.len(), inserts.len()), (2, 2, 2, 1), "{spans:#?}");
    for child in calls.iter().chain(&charges).chain(&inserts) {
        assert!(requests.iter().any(|request| request.span_id == child.parent_span_id), "{child:#?}");
    }
    let is_failed = |span: &&&Span| span.status.as_ref().is_some_and(|status| status.code == 2);
    assert_eq!(requests.iter().filter(is_failed).count(), 1);
    let charge = charges.iter().find(is_failed).unwrap();
    let exception = format!("{:?}", charge.events);
    assert!(exception.contains("the bank did not answer") && exception.contains("caused by: deadline"), "{exception}");
}
