//! What the W3C's suite asks, against the real server over real sockets. (The suite itself is a Python program that
//! anyone can point at the server; this covers the same situations for every commit.)

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

const TRACE: &str = "12345678901234567890123456789012";
const SPAN: &str = "1234567890123456";

/// The server under test, and a server of ours that it calls.
struct Harness {
    server: Child,
    address: String,
    callback: String,
    received: Receiver<Vec<(String, String)>>,
}

impl Drop for Harness {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// What came out: one `traceparent`, and the joined `tracestate` headers.
#[derive(Debug)]
struct Outgoing {
    trace_id: String,
    span_id: String,
    flags: u8,
    state: String,
}

impl Harness {
    fn start() -> Self {
        let mut server = Command::new(env!("CARGO_BIN_EXE_w3c-server"))
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("http://").unwrap().strip_suffix("/test").unwrap().to_string();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let callback = format!("http://{}/", listener.local_addr().unwrap());
        let (sender, received) = channel();
        // Ends when the server under test, its only client, is gone and the test with it.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let sender = sender.clone();
                std::thread::spawn(move || {
                    let mut stream = BufReader::new(stream.unwrap());
                    while let Some(headers) = read_request(&mut stream) {
                        sender.send(headers).unwrap();
                        stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
                    }
                });
            }
        });
        Self { server, address, callback, received }
    }

    /// Sends one request with these header lines, as they stand, and returns what the server's calls carried.
    fn send(&self, headers: &[&str], calls: usize) -> Vec<Outgoing> {
        let body = vec![format!(r#"{{"url":"{}","arguments":[]}}"#, self.callback); calls].join(",");
        let body = format!("[{body}]");
        let mut request = format!("POST /test HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", self.address);
        request += &format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
        headers.iter().for_each(|header| request += &format!("{header}\r\n"));
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.write_all(format!("{request}\r\n{body}").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        (0..calls).map(|_| outgoing(&self.received.recv_timeout(Duration::from_secs(10)).unwrap())).collect()
    }

    fn one(&self, headers: &[&str]) -> Outgoing {
        self.send(headers, 1).remove(0)
    }

    /// This `traceparent` is continued, under a new span id.
    #[track_caller]
    fn continues(&self, headers: &[&str]) -> Outgoing {
        let found = self.one(headers);
        assert_eq!(found.trace_id, TRACE, "{headers:?}");
        assert_ne!(found.span_id, SPAN, "{headers:?}");
        found
    }

    /// A new trace is begun, and nothing of the state is kept.
    #[track_caller]
    fn restarts(&self, headers: &[&str]) {
        let found = self.one(headers);
        assert!(!headers.iter().any(|header| header.contains(&found.trace_id)), "{headers:?}");
        assert_eq!(found.state, "", "{headers:?}");
    }

    #[track_caller]
    fn state(&self, headers: &[&str], expected: &str) {
        let parent = format!("traceparent: 00-{TRACE}-{SPAN}-00");
        let headers: Vec<_> = [parent.as_str()].into_iter().chain(headers.iter().copied()).collect();
        assert_eq!(self.continues(&headers).state, expected, "{headers:?}");
    }
}

fn read_request(stream: &mut BufReader<TcpStream>) -> Option<Vec<(String, String)>> {
    let mut headers = Vec::new();
    let mut line = String::new();
    stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
    loop {
        line.clear();
        stream.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_ascii_lowercase(), value.to_string()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, n)| n.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(headers)
}

fn outgoing(headers: &[(String, String)]) -> Outgoing {
    let all = |name: &str| headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect();
    let parents: Vec<&str> = all("traceparent");
    assert_eq!(parents.len(), 1);
    let parts: Vec<_> = parents[0].split('-').collect();
    let [version, trace_id, span_id, flags] = parts[..] else { panic!("{parents:?}") };
    assert_eq!((version, trace_id.len(), span_id.len(), flags.len()), ("00", 32, 16, 2));
    assert!(trace_id.chars().chain(span_id.chars()).all(|c| matches!(c, '0'..='9' | 'a'..='f')));
    assert!(trace_id != "0".repeat(32) && span_id != "0".repeat(16));
    let states: Vec<&str> = all("tracestate");
    Outgoing {
        trace_id: trace_id.into(),
        span_id: span_id.into(),
        flags: u8::from_str_radix(flags, 16).unwrap(),
        state: states.join(","),
    }
}

#[test]
fn traceparent() {
    let harness = Harness::start();
    let with =
        |version: &str, trace: &str, span: &str, flags: &str| format!("traceparent: {version}-{trace}-{span}-{flags}");
    let good = with("00", TRACE, SPAN, "01");
    harness.restarts(&[]);
    harness.continues(&[&good]);
    // The name in any case, blanks around the value.
    for name in ["TraceParent", "TrAcEpArEnT", "TRACEPARENT"] {
        harness.continues(&[&good.replace("traceparent", name)]);
    }
    for (before, after) in [(" ", ""), ("\t", ""), ("", " "), ("", "\t"), ("\t ", " \t")] {
        harness.continues(&[&format!("traceparent:{before}00-{TRACE}-{SPAN}-01{after}")]);
    }
    for name in ["trace-parent", "trace.parent"] {
        harness.restarts(&[&good.replace("traceparent", name)]);
    }
    // Twice, whatever they say.
    harness.restarts(&[&good, &good]);
    harness.restarts(&[&good, &with("00", "12345678901234567890123456789011", SPAN, "01")]);
    // Later versions may say more, after a dash.
    harness.continues(&[&with("cc", TRACE, SPAN, "01")]);
    harness.continues(&[&with("cc", TRACE, SPAN, "01-what-the-future-will-be-like")]);
    harness.restarts(&[&with("cc", TRACE, SPAN, "01.what-the-future-will-be-like")]);
    harness.restarts(&[&with("00", TRACE, SPAN, "01-what-the-future-will-be-like")]);
    harness.restarts(&[&with("00", TRACE, SPAN, "01.")]);
    for version in ["ff", ".0", "0.", "000", "0000", "0", "0A"] {
        harness.restarts(&[&with(version, TRACE, SPAN, "01")]);
    }
    for trace in ["0".repeat(32), format!(".{}", &TRACE[1..]), format!("{}.", &TRACE[1..]), format!("{TRACE}3")] {
        harness.restarts(&[&with("00", &trace, SPAN, "01")]);
    }
    harness.restarts(&[&with("00", &TRACE[1..], SPAN, "01")]);
    harness.restarts(&[&with("00", "ABCDEF78901234567890123456789012", SPAN, "01")]);
    for span in ["0000000000000000", ".234567890123456", "123456789012345.", "12345678901234567", "123456789012345"] {
        harness.restarts(&[&with("00", TRACE, span, "01")]);
    }
    for flags in [".0", "0.", "001", "1", ""] {
        harness.restarts(&[&with("00", TRACE, SPAN, flags)]);
    }
    // Level 2: the random flag is copied, either way; unknown flags are not.
    assert_eq!(harness.continues(&[&with("00", TRACE, SPAN, "02")]).flags & 2, 2);
    assert_eq!(harness.continues(&[&with("00", TRACE, SPAN, "01")]).flags & 2, 0);
    assert_eq!(harness.continues(&[&with("00", TRACE, SPAN, "ff")]).flags & 0xfc, 0);
    // A new trace says that its id is random.
    assert_eq!(harness.one(&[]).flags & 2, 2);
}

#[test]
fn every_call_is_a_span_of_its_own() {
    let harness = Harness::start();
    let distinct = |found: &[Outgoing]| {
        let ids: std::collections::BTreeSet<_> = found.iter().map(|call| call.span_id.clone()).collect();
        let traces: std::collections::BTreeSet<_> = found.iter().map(|call| call.trace_id.clone()).collect();
        (ids.len(), traces)
    };
    let (spans, traces) = distinct(&harness.send(&[&format!("traceparent: 00-{TRACE}-{SPAN}-01")], 3));
    assert_eq!((spans, traces.into_iter().collect::<Vec<_>>()), (3, vec![TRACE.to_string()]));
    let (spans, traces) = distinct(&harness.send(&[], 3));
    assert_eq!((spans, traces.len()), (3, 1));
    let (spans, _) = distinct(&harness.send(&[&format!("traceparent: 00-{}-{SPAN}-01", "0".repeat(32))], 3));
    assert_eq!(spans, 3);
}

#[test]
fn tracestate() {
    let harness = Harness::start();
    harness.restarts(&["tracestate: foo=1"]);
    harness.restarts(&["tracestate: foo=1,bar=2"]);
    harness.restarts(&["traceparent: broken", "tracestate: foo=1"]);
    harness.state(&["tracestate: foo=1,bar=2"], "foo=1,bar=2");
    for name in ["TraceState", "TrAcEsTaTe", "TRACESTATE"] {
        harness.state(&[&format!("{name}: foo=1")], "foo=1");
    }
    harness.state(&["trace-state: foo=1"], "");
    harness.state(&["trace.state: foo=1"], "");
    // Empty and repeated headers are one list.
    harness.state(&["tracestate: "], "");
    harness.state(&["tracestate: foo=1", "tracestate: "], "foo=1");
    harness.state(&["tracestate: ", "tracestate: foo=1"], "foo=1");
    harness.state(
        &["tracestate: foo=1,bar=2", "tracestate: rojo=1,congo=2", "tracestate: baz=3"],
        "foo=1,bar=2,rojo=1,congo=2,baz=3",
    );
    // Of equal keys one is kept.
    harness.state(&["tracestate: foo=1,foo=2"], "foo=1");
    harness.state(&["tracestate: foo=1", "tracestate: foo=1"], "foo=1");
    // All legal characters.
    let key = "abcdefghijklmnopqrstuvwxyz0123456789_-*/";
    let value: String = (b' '..=b'~').filter(|c| !matches!(c, b',' | b'=')).map(char::from).collect();
    for key in [key.to_string(), format!("{key}@a-z0-9_-*/")] {
        harness.state(&[&format!("tracestate: {key}={value}")], &format!("{key}={value}"));
    }
    for list in ["foo=1 \t , \t bar=2, \t baz=3", "foo=1\t \t,\t \tbar=2,\t \tbaz=3", "\t foo=1,bar=2 , baz=3 \t"] {
        harness.state(&[&format!("tracestate: {list}")], "foo=1,bar=2,baz=3");
    }
    // One illegal member spoils the list, not the parent.
    for list in ["foo =1", "FOO=1", "foo.bar=1", "@foo=1,bar=2", "foo=bar=baz", "foo=,bar=3", "foo,bar=1"] {
        harness.state(&[&format!("tracestate: {list}")], "");
    }
    for list in ["foo@=1,bar=2", "foo@@bar=1,bar=2", "foo@bar@baz=1,bar=2"] {
        harness.state(&[&format!("tracestate: {list}")], list);
    }
    // Limits over all headers together.
    let members =
        |from: usize, to: usize| (from..=to).map(|n| format!("bar{n:02}={n:02}")).collect::<Vec<_>>().join(",");
    let lines = |last: usize| {
        [(1, 10), (11, 20), (21, 30), (31, last)].map(|(from, to)| format!("tracestate: {}", members(from, to)))
    };
    harness.state(&lines(32).each_ref().map(String::as_str), &members(1, 32));
    harness.state(&lines(33).each_ref().map(String::as_str), "");
    for key in ["z".repeat(256), format!("{}@{}", "t".repeat(241), "v".repeat(14)), format!("{}@v", "t".repeat(242))] {
        harness.state(&["tracestate: foo=1", &format!("tracestate: {key}=1")], &format!("foo=1,{key}=1"));
    }
    harness.state(&["tracestate: foo=1", &format!("tracestate: {}=1", "z".repeat(257))], "");
}
