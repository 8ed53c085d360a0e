//! Starting the program and speaking to it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;
use serde_json::Value as Json;

/// Writes a config into a directory; answers its path.
pub fn config(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

pub fn spanwise(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_spanwise")).args(arguments).env_remove("SPANWISE_DATA_DIR").output().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub struct Server {
    child: Child,
    ports: Json,
}

impl Server {
    /// Starts on free ports and waits until it is ready.
    pub fn start(dir: &Path, arguments: &[&str]) -> Server {
        let arguments = [&["--data-dir", dir.to_str().unwrap()], arguments].concat();
        Server::start_by(Command::new(env!("CARGO_BIN_EXE_spanwise")), &arguments)
    }

    /// Without a data directory: nothing is kept on disk.
    pub fn start_in_memory(arguments: &[&str]) -> Server {
        Server::start_by(Command::new(env!("CARGO_BIN_EXE_spanwise")), arguments)
    }

    /// Starts the program through a command that ends in it.
    pub fn start_by(mut command: Command, arguments: &[&str]) -> Server {
        let mut child = command
            .args(["serve", "--listen", "127.0.0.1:0", "--print-ports"])
            .args(arguments)
            .env("SPANWISE_LOG", "warn")
            .env_remove("SPANWISE_DATA_DIR")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Json = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        assert_eq!(ready["ready"], true);
        Server { child, ports: ready["ports"].clone() }
    }

    pub fn port(&self, name: &str) -> u16 {
        u16::try_from(self.ports[name].as_u64().unwrap_or_else(|| panic!("no port {name} in {}", self.ports))).unwrap()
    }

    pub fn get(&self, port: &str, path: &str) -> Answer {
        request(self.port(port), "GET", path, &[], b"").unwrap()
    }

    pub fn json(&self, port: &str, path: &str) -> Json {
        let answer = self.get(port, path);
        assert_eq!(answer.status, 200, "{path}: {}", text(&answer.body));
        serde_json::from_slice(&answer.body).unwrap()
    }

    /// Sends OTLP over HTTP; `None` when the connection broke.
    pub fn export(&self, bytes: &[u8]) -> Option<u16> {
        let headers = [("content-type", "application/x-protobuf")];
        request(self.port("otlp_http"), "POST", "/v1/traces", &headers, bytes).ok().map(|answer| answer.status)
    }

    pub fn metric(&self, name: &str) -> u64 {
        let metrics = text(&self.get("metrics", "/metrics").body);
        let lines = metrics
            .lines()
            .filter(|line| line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name} ")));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
    }

    /// Polls until `check` holds; the bound is generous because the machine may be busy.
    pub fn eventually(&self, what: &str, check: impl Fn(&Server) -> bool) {
        let started = Instant::now();
        while !check(self) {
            assert!(started.elapsed() < Duration::from_secs(30), "never happened: {what}");
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; answers the exit status.
    pub fn stop(mut self) -> Option<i32> {
        let killed = Command::new("kill").args(["-TERM", &self.pid().to_string()]).status().unwrap();
        assert!(killed.success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

/// One HTTP/1.1 request on a connection of its own.
pub fn request(port: u16, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    if headers.iter().all(|(name, _)| *name != "host") {
        head.push_str("host: localhost\r\n");
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    // A server that refuses early may close before it has read all.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer)
        && answer.is_empty()
    {
        return Err(error);
    }
    let split = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let split = split.ok_or_else(|| std::io::Error::other("no answer"))?;
    let head = text(&answer[..split]).to_lowercase();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let raw = &answer[split + 4..];
    let body = if head.contains("transfer-encoding: chunked") { dechunk(raw) } else { raw.to_vec() };
    Ok(Answer { status, head, body })
}

fn dechunk(mut raw: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = raw.windows(2).position(|window| window == b"\r\n") {
        let size = usize::from_str_radix(text(&raw[..end]).trim(), 16).unwrap_or(0);
        if size == 0 || raw.len() < end + 2 + size {
            break;
        }
        body.extend_from_slice(&raw[end + 2..end + 2 + size]);
        raw = raw.get(end + 4 + size..).unwrap_or_default();
    }
    body
}

pub fn trace_id(number: u64) -> [u8; 16] {
    let mut id = [7; 16];
    id[8..].copy_from_slice(&number.to_be_bytes());
    id
}

pub fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn span(trace: u64, id: u8, parent: u8, name: &str) -> Span {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    Span {
        trace_id: trace_id(trace).to_vec(),
        span_id: vec![id; 8],
        parent_span_id: if parent == 0 { Vec::new() } else { vec![parent; 8] },
        name: name.to_owned(),
        kind: 2,
        start_time_unix_nano: now,
        end_time_unix_nano: now + 5_000_000,
        ..Span::default()
    }
}

/// A request of one service.
pub fn otlp(service: &str, spans: Vec<Span>) -> Vec<u8> {
    let name = AnyValue { value: Some(Value::StringValue(service.to_owned())) };
    let attributes = vec![KeyValue { key: "service.name".to_owned(), value: Some(name), ..KeyValue::default() }];
    let resource = Some(Resource { attributes, ..Resource::default() });
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}
