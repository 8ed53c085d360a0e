//! `otlphttp` (`otlp_http`): OTLP over HTTP/1.1, protobuf or JSON.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use spanwise_model::limits;
use spanwise_wire::answer::{Code, PartialSuccess, RpcStatus};
use spanwise_wire::inflate::{Encoding, deflate};
use spanwise_wire::json::batch_to_otlp_json;

use super::client::{Compression, Target, body};
use super::queue::{QueueConfig, Queued, RetryConfig, Sender};
use crate::component::{Build, BuildContext, BuildError, Factory, Kind, Stage, prepare};
use crate::config::Signal;
use crate::config::units::GoDuration;
use crate::flow::{Payload, RawFormat, RawRequest, Refusal};
use crate::net::ClientTls;

pub const FACTORY: Factory = Factory {
    kind: Kind::Exporter,
    name: "otlphttp",
    aliases: &["otlp_http"],
    stability: "stable",
    summary: "OTLP over HTTP, protobuf or JSON.",
    signals: Signal::ALL,
    schema: || schemars::schema_for!(OtlpHttpConfig),
    prepare: |node, path, errors| {
        prepare::<OtlpHttpConfig>(node, path, errors, OtlpHttpConfig::check, |config| {
            Build::Exporter(Box::new(move |context| build(&config, &context)))
        })
    },
};

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema, Default)]
#[serde(rename_all = "lowercase")]
pub enum BodyEncoding {
    #[default]
    Proto,
    Json,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OtlpHttpConfig {
    /// Base URL; `/v1/traces` is added.
    pub endpoint: String,
    /// The whole URL for traces, instead of `endpoint`.
    pub traces_endpoint: String,
    pub metrics_endpoint: String,
    pub logs_endpoint: String,
    pub profiles_endpoint: String,
    pub encoding: BodyEncoding,
    pub compression: Compression,
    pub headers: BTreeMap<String, String>,
    pub timeout: GoDuration,
    pub tls: ClientTls,
    pub sending_queue: QueueConfig,
    pub retry_on_failure: RetryConfig,
    pub read_buffer_size: u64,
    pub write_buffer_size: u64,
    pub max_idle_conns: u64,
    pub max_idle_conns_per_host: u64,
    pub max_conns_per_host: u64,
    pub idle_conn_timeout: GoDuration,
    pub disable_keep_alives: bool,
}

impl Default for OtlpHttpConfig {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            traces_endpoint: String::new(),
            metrics_endpoint: String::new(),
            logs_endpoint: String::new(),
            profiles_endpoint: String::new(),
            encoding: BodyEncoding::Proto,
            compression: Compression::Gzip,
            headers: BTreeMap::new(),
            timeout: GoDuration::seconds(30),
            tls: ClientTls::default(),
            sending_queue: QueueConfig::default(),
            retry_on_failure: RetryConfig::default(),
            read_buffer_size: 0,
            write_buffer_size: 512 << 10,
            max_idle_conns: 100,
            max_idle_conns_per_host: 0,
            max_conns_per_host: 0,
            idle_conn_timeout: GoDuration::seconds(90),
            disable_keep_alives: false,
        }
    }
}

impl OtlpHttpConfig {
    fn url(&self) -> String {
        self.url_of(Signal::Traces)
    }

    fn url_of(&self, signal: Signal) -> String {
        let own = match signal {
            Signal::Traces => &self.traces_endpoint,
            Signal::Metrics => &self.metrics_endpoint,
            Signal::Logs => &self.logs_endpoint,
        };
        match own.as_str() {
            "" => format!("{}/v1/{signal}", self.endpoint.trim_end_matches('/')),
            url => url.to_owned(),
        }
    }

    fn check(&self) -> Result<(), String> {
        if self.endpoint.is_empty() && self.traces_endpoint.is_empty() {
            return Err("at least one endpoint must be specified".to_owned());
        }
        let url = self.url();
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(format!("endpoint must be a valid URL: {url:?} has no scheme http or https"));
        }
        self.sending_queue.check()?;
        self.retry_on_failure.check()
    }
}

fn build(config: &OtlpHttpConfig, context: &BuildContext) -> Result<Arc<dyn Stage>, BuildError> {
    let url = config.url();
    let target = Target::parse(&url, &config.tls, true, &[b"http/1.1"]).map_err(|error| context.error(error))?;
    // All signals go to one host: the collector's own endpoints per signal hardly ever name several.
    for signal in [Signal::Metrics, Signal::Logs] {
        let (own, url) = (authority_of(&config.url_of(signal)).to_owned(), &url);
        let is_set = !own.is_empty() && own != authority_of(url);
        if is_set {
            return Err(context.error(format!("{signal}_endpoint must name the same host as the endpoint for traces")));
        }
    }
    let mut headers = Vec::new();
    for (name, value) in &config.headers {
        let header = HeaderName::try_from(name).ok().zip(HeaderValue::try_from(value).ok());
        headers.push(header.ok_or_else(|| context.error(format!("header {name:?} cannot be sent")))?);
    }
    let sender = HttpSender {
        target,
        traces: path_of(&url),
        metrics: path_of(&config.url_of(Signal::Metrics)),
        logs: path_of(&config.url_of(Signal::Logs)),
        headers,
        encoding: config.compression.encoding(),
        body: config.encoding,
        idle: Mutex::default(),
        keep_alive: !config.disable_keep_alives,
    };
    let (queue, retry) = (config.sending_queue.clone(), config.retry_on_failure.clone());
    let queued = Queued::start(context, queue, retry, timeout_or_forever(config.timeout), Box::new(sender))?;
    Ok(queued)
}

/// `host:port` of a URL.
fn authority_of(url: &str) -> &str {
    let after_scheme = url.split_once("://").map_or("", |(_, rest)| rest);
    after_scheme.split('/').next().unwrap_or_default()
}

/// The path of a URL, its query included.
fn path_of(url: &str) -> String {
    match url.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]).to_owned(),
        // Of a signal without an endpoint of its own, beside one that names only traces.
        None => url.to_owned(),
    }
}

/// 0 means none: a week outlasts every retry.
pub fn timeout_or_forever(timeout: GoDuration) -> Duration {
    if timeout.0.is_zero() { Duration::from_secs(7 * 24 * 3600) } else { timeout.0 }
}

type Connection = SendRequest<Full<Bytes>>;

struct HttpSender {
    target: Target,
    /// Paths for each signal.
    traces: String,
    metrics: String,
    logs: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    encoding: Encoding,
    body: BodyEncoding,
    /// Connections that are open and unused; as many as there were requests at a time.
    idle: Mutex<Vec<Connection>>,
    keep_alive: bool,
}

impl HttpSender {
    async fn connection(&self) -> Result<Connection, Refusal> {
        loop {
            let idle = self.idle.lock().pop();
            match idle {
                Some(connection) if connection.is_ready() => return Ok(connection),
                Some(_) => {}
                None => break,
            }
        }
        let stream = self.target.connect().await?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (connection, driver) = handshake.map_err(|error| Refusal::unavailable(error.to_string()))?;
        tokio::spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!(%error, "connection of an exporter ended");
            }
        });
        Ok(connection)
    }

    fn request(&self, path: &str, bytes: Bytes, form: BodyEncoding) -> Result<Request<Full<Bytes>>, Refusal> {
        let content_type = match form {
            BodyEncoding::Proto => "application/x-protobuf",
            BodyEncoding::Json => "application/json",
        };
        let mut request = Request::post(path)
            .header(HOST, self.target.authority())
            .header(USER_AGENT, concat!("spanwise/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, content_type);
        if self.encoding != Encoding::Identity {
            request = request.header(CONTENT_ENCODING, self.encoding.name());
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.body(Full::new(bytes)).map_err(|error| Refusal::permanent(error.to_string()))
    }
}

impl HttpSender {
    fn compress(&self, bytes: &Bytes) -> Result<Bytes, Refusal> {
        deflate(self.encoding, None, bytes).map_err(|error| Refusal::permanent(error.to_string()))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<PartialSuccess, Refusal> {
        let mut connection = self.connection().await?;
        let broken = |error: hyper::Error| Refusal { retry_after: None, ..Refusal::unavailable(error.to_string()) };
        let response = connection.send_request(request).await.map_err(broken)?;
        let outcome = read_answer(response).await?;
        if self.keep_alive {
            self.idle.lock().push(connection);
        }
        outcome
    }
}

#[async_trait]
impl Sender for HttpSender {
    async fn send(&self, payload: &Payload) -> Result<u64, Refusal> {
        let bytes = match self.body {
            BodyEncoding::Proto => body(payload, self.encoding)?,
            BodyEncoding::Json => self.compress(&Bytes::from(batch_to_otlp_json(&payload.batch)))?,
        };
        Ok(self.exchange(self.request(&self.traces, bytes, self.body)?).await?.rejected_spans)
    }

    async fn forward(&self, request: &RawRequest) -> Result<PartialSuccess, Refusal> {
        let path = if request.signal == Signal::Logs { &self.logs } else { &self.metrics };
        let form = match request.format {
            RawFormat::Proto => BodyEncoding::Proto,
            RawFormat::Json => BodyEncoding::Json,
        };
        self.exchange(self.request(path, self.compress(&request.bytes)?, form)?).await
    }
}

/// The outer error is a broken connection, the inner one the peer's answer.
async fn read_answer(response: Response<Incoming>) -> Result<Result<PartialSuccess, Refusal>, Refusal> {
    let (parts, body) = response.into_parts();
    let is_json =
        parts.headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/json"));
    let body = Limited::new(body, limits::PEER_ANSWER_BYTES).collect().await;
    let body = body.map(|body| body.to_bytes()).map_err(|error| Refusal::unavailable(error.to_string()))?;
    if parts.status.is_success() {
        let partial = if is_json { partial_of_json(&body) } else { PartialSuccess::from_proto(&body) };
        if !partial.is_empty() {
            tracing::warn!(rejected = partial.rejected_spans, message = partial.message, "partial success");
        }
        return Ok(Ok(partial));
    }
    let hint = parts.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let hint = hint.map(|seconds: u64| Duration::from_secs(seconds.min(limits::PEER_RETRY_AFTER_SECONDS)));
    let said = if is_json { String::new() } else { RpcStatus::from_proto(&body).message };
    let code = match parts.status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Code::Unavailable,
        StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        StatusCode::FORBIDDEN => Code::PermissionDenied,
        _ => Code::InvalidArgument,
    };
    Ok(Err(Refusal { code, message: format!("HTTP {} {said}", parts.status.as_u16()), retry_after: hint }))
}

fn partial_of_json(body: &[u8]) -> PartialSuccess {
    let json: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let partial = &json["partialSuccess"];
    let rejected = &partial["rejectedSpans"];
    let rejected = rejected.as_u64().or_else(|| rejected.as_str()?.parse().ok()).unwrap_or(0);
    PartialSuccess {
        rejected_spans: rejected,
        message: partial["errorMessage"].as_str().unwrap_or_default().to_owned(),
    }
}
