//! The span of a command itself: its name, how long it took, how it ended. A run inside a run is its child.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::{BufMut as _, Bytes, BytesMut};
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use spanwise_model::{KeyValue, Resource, Scope, Span, SpanId, SpanKind, Status, StatusCode, TraceId, Value};
use spanwise_pipeline::exporters::client::Target;
use spanwise_pipeline::net::ClientTls;
use spanwise_propagate::carriers::Environment;
use spanwise_propagate::{Baggage, Decision, Format, Propagator, SpanContext};
use spanwise_wire::encode::{encode_resource_header, encode_scope_header, encode_span, put_len_field, put_message};

use super::child::Exit;
use super::detect::Found;
use super::endpoint::{Endpoint, Protocol};
use super::environment::RUN_ATTRIBUTE;
use super::plan::random_hex;
use super::summary::now;

pub struct CommandSpan {
    context: SpanContext,
    parent: Option<spanwise_propagate::SpanId>,
    name: String,
    service: String,
    run_id: String,
    executable: String,
}

/// An exporter on this machine answers at once; a program's end must not hang on one that does not.
const SEND: Duration = Duration::from_secs(5);

impl CommandSpan {
    pub fn new(found: &Found, service: Option<&str>, run_id: &str) -> CommandSpan {
        let executable = Path::new(found.command.first().map(|word| word.as_os_str()).unwrap_or_default());
        let executable = executable.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let service = service.map(str::to_owned).or_else(|| variable("OTEL_SERVICE_NAME"));
        let found_above = propagator().extract(&Environment::of_this_process());
        let (context, parent) = match found_above.span() {
            Some(parent) => (parent.child(random_span_id()), Some(parent.span_id)),
            None => (SpanContext::root(random_trace_id(), random_span_id(), Decision::Accept, true), None),
        };
        CommandSpan {
            context,
            parent,
            name: name(&executable, found),
            service: service.unwrap_or_else(|| executable.clone()),
            run_id: run_id.to_owned(),
            executable,
        }
    }

    pub fn service(&self) -> &str {
        &self.service
    }

    pub fn trace_id(&self) -> TraceId {
        TraceId(self.context.trace_id.to_bytes())
    }

    /// `TRACEPARENT` and, if there is one, `TRACESTATE`: what the program finds in its environment.
    pub fn variables(&self) -> Vec<(String, String)> {
        let mut carrier = Environment::new();
        propagator().inject(&self.context, &Baggage::default(), &mut carrier);
        carrier.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// An OTLP request with it.
    fn encode(&self, started: u64, exit: Exit) -> Vec<u8> {
        let mut attributes = vec![
            KeyValue::new("process.executable.name", self.executable.as_str()),
            KeyValue::new("process.exit.code", Value::Int(i64::from(exit.status()))),
        ];
        let message = match exit {
            Exit::Code(0) => None,
            Exit::Code(code) => {
                attributes.push(KeyValue::new("error.type", code.to_string().as_str()));
                Some(format!("exit status {code}"))
            }
            Exit::Signal(number) => {
                let signal = nix::sys::signal::Signal::try_from(number);
                let signal = signal.map_or_else(|_| format!("signal {number}"), |signal| signal.as_str().to_owned());
                attributes.push(KeyValue::new("error.type", signal.as_str()));
                Some(format!("killed by {signal}"))
            }
        };
        let span = Span {
            trace_id: self.trace_id(),
            span_id: SpanId(self.context.span_id.to_bytes()),
            parent_span_id: self.parent.map(|parent| SpanId(parent.to_bytes())),
            trace_state: self.context.state.as_str().to_owned(),
            flags: u32::from(self.context.decision.is_sampled()) | u32::from(self.context.random) << 1,
            name: self.name.clone(),
            kind: SpanKind::Internal,
            start_unix_nano: started,
            end_unix_nano: now(),
            attributes,
            status: Status {
                code: if message.is_some() { StatusCode::Error } else { StatusCode::Unset },
                message: message.unwrap_or_default(),
            },
            ..Span::default()
        };
        let resource = Resource {
            attributes: vec![
                KeyValue::new("service.name", self.service.as_str()),
                KeyValue::new(RUN_ATTRIBUTE, self.run_id.as_str()),
                KeyValue::new("telemetry.sdk.name", "spanwise"),
                KeyValue::new("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
            ],
            ..Resource::default()
        };
        let scope = Scope {
            name: "spanwise.run".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Scope::default()
        };
        let mut out = Vec::new();
        put_message(&mut out, 1, |out| {
            out.extend_from_slice(&encode_resource_header(&resource));
            put_message(out, 2, |out| {
                out.extend_from_slice(&encode_scope_header(&scope));
                put_len_field(out, 2, &encode_span(&span));
            });
        });
        out
    }
}

/// `make build`: the program, and its first argument when that is a plain word.
fn name(executable: &str, found: &Found) -> String {
    let is_plain = |word: &str| {
        let is_letter = |byte: u8| byte.is_ascii_lowercase() || matches!(byte, b'-' | b'_' | b':');
        word.len() <= 32 && word.starts_with(|first: char| first.is_ascii_lowercase()) && word.bytes().all(is_letter)
    };
    match found.command.get(1).and_then(|word| word.to_str()).filter(|word| is_plain(word)) {
        Some(word) => format!("{executable} {word}"),
        None => executable.to_owned(),
    }
}

fn propagator() -> Propagator {
    Propagator::new([Format::TraceContext])
}

/// A random id is zero once in 2^64: then it is one.
fn random_span_id() -> spanwise_propagate::SpanId {
    let fallback = || spanwise_propagate::SpanId::from_bytes(1u64.to_be_bytes());
    spanwise_propagate::SpanId::parse(&random_hex(8)).or_else(fallback).unwrap_or_else(random_span_id)
}

fn random_trace_id() -> spanwise_propagate::TraceId {
    let fallback = || spanwise_propagate::TraceId::from_bytes(1u128.to_be_bytes());
    spanwise_propagate::TraceId::parse(&random_hex(16)).or_else(fallback).unwrap_or_else(random_trace_id)
}

/// # Errors
/// When the receiver cannot be reached or refuses.
pub fn send(span: &CommandSpan, started: u64, exit: &Exit, endpoint: &Endpoint) -> anyhow::Result<()> {
    if !span.context.decision.is_sampled() {
        return Ok(());
    }
    post(endpoint, span.encode(started, *exit))
}

/// Sends an OTLP request and waits for the yes.
///
/// # Errors
/// When the receiver cannot be reached or refuses.
pub fn post(endpoint: &Endpoint, body: Vec<u8>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let sending = async {
            match endpoint.protocol {
                Protocol::Grpc => post_grpc(endpoint, body).await,
                // A receiver of OTLP/HTTP takes protobuf whatever it was told about the agents.
                Protocol::HttpProtobuf | Protocol::HttpJson => post_http(endpoint, body).await,
            }
        };
        tokio::time::timeout(SEND, sending).await.with_context(|| format!("{} does not answer", endpoint.url))?
    })
}

fn target(endpoint: &Endpoint, alpn: &[&[u8]]) -> anyhow::Result<Target> {
    let scheme = if endpoint.is_tls { "https" } else { "http" };
    let address = format!("{scheme}://{}:{}", endpoint.host, endpoint.port);
    let tls = ClientTls {
        ca_file: std::env::var("OTEL_EXPORTER_OTLP_CERTIFICATE").unwrap_or_default(),
        ..ClientTls::default()
    };
    Target::parse(&address, &tls, false, alpn).map_err(anyhow::Error::msg)
}

async fn post_http(endpoint: &Endpoint, body: Vec<u8>) -> anyhow::Result<()> {
    let target = target(endpoint, &[b"http/1.1"])?;
    let stream = target.connect().await.map_err(|refusal| anyhow::anyhow!("{}", refusal.message))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let rest = endpoint.traces_url.split_once("://").map_or("", |(_, rest)| rest);
    let path = rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/");
    let mut request =
        Request::post(path).header("host", target.authority()).header("content-type", "application/x-protobuf");
    for (key, value) in &endpoint.headers {
        request = request.header(key, value);
    }
    let response = sender.send_request(request.body(Full::new(Bytes::from(body)))?).await?;
    if !response.status().is_success() {
        bail!("{} refused: {}", endpoint.traces_url, response.status());
    }
    Ok(())
}

async fn post_grpc(endpoint: &Endpoint, body: Vec<u8>) -> anyhow::Result<()> {
    let target = target(endpoint, &[b"h2"])?;
    let stream = target.connect().await.map_err(|refusal| anyhow::anyhow!("{}", refusal.message))?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let mut framed = BytesMut::with_capacity(body.len() + 5);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(body.len())?);
    framed.put_slice(&body);
    let scheme = if endpoint.is_tls { "https" } else { "http" };
    let path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    let mut request = Request::post(format!("{scheme}://{}{path}", target.authority()))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (key, value) in &endpoint.headers {
        request = request.header(key, value);
    }
    let response = sender.send_request(request.body(Full::new(framed.freeze()))?).await?;
    let of_headers = response.headers().get("grpc-status").cloned();
    let collected = response.into_body().collect().await?;
    let of_trailers = collected.trailers().and_then(|trailers| trailers.get("grpc-status").cloned());
    match of_headers.or(of_trailers) {
        Some(status) if status == "0" => Ok(()),
        Some(status) => {
            bail!("{} refused with gRPC status {}", endpoint.url, String::from_utf8_lossy(status.as_bytes()))
        }
        None => bail!("{} does not speak gRPC", endpoint.url),
    }
}

#[cfg(test)]
mod tests {
    use spanwise_model::Limits;
    use spanwise_wire::{Batch, decode_trace};

    use super::*;
    use crate::run::detect::detect;

    #[test]
    fn a_command_becomes_a_span() {
        let found = detect(&["/bin/sh".into(), "build".into()], &[]).unwrap();
        let span = CommandSpan::new(&found, Some("builder"), "run-1");
        let batch = Batch::parse(span.encode(1, Exit::Signal(15)).into(), &Limits::default()).unwrap().batch;
        let trace = decode_trace(&[batch]);
        let found = &trace.spans[0];
        assert_eq!((found.resource.service_name(), found.span.name.as_str()), ("builder", "sh build"));
        assert_eq!(found.span.status.message, "killed by SIGTERM");
        assert!(found.span.attributes.contains(&KeyValue::new("process.exit.code", Value::Int(143))));
    }
}
