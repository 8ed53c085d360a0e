//! `otlp` (`otlp_grpc`): OTLP over gRPC, on one HTTP/2 connection that is made again when it breaks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};
use serde::{Deserialize, Serialize};
use spanwise_model::limits;
use spanwise_wire::answer::{Code, PartialSuccess, RpcStatus};
use spanwise_wire::inflate::{Encoding, deflate};
use tokio::sync::Mutex;

use super::client::{Compression, Target, body};
use super::otlphttp::timeout_or_forever;
use super::queue::{QueueConfig, Queued, RetryConfig, Sender};
use crate::component::{Build, BuildContext, BuildError, Factory, Kind, Stage, prepare};
use crate::config::Signal;
use crate::config::units::GoDuration;
use crate::flow::{Payload, RawFormat, RawRequest, Refusal};
use crate::net::{ClientTls, gather};

pub const FACTORY: Factory = Factory {
    kind: Kind::Exporter,
    name: "otlp",
    aliases: &["otlp_grpc"],
    stability: "stable",
    summary: "OTLP over gRPC.",
    signals: Signal::ALL,
    schema: || schemars::schema_for!(OtlpConfig),
    prepare: |node, path, errors| {
        prepare::<OtlpConfig>(node, path, errors, OtlpConfig::check, |config| {
            Build::Exporter(Box::new(move |context| build(&config, &context)))
        })
    },
};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OtlpConfig {
    /// `host:port`, or a URL; `https://` without a port means 443.
    pub endpoint: String,
    pub compression: Compression,
    pub headers: BTreeMap<String, String>,
    pub authority: String,
    pub timeout: GoDuration,
    pub tls: ClientTls,
    pub sending_queue: QueueConfig,
    pub retry_on_failure: RetryConfig,
    pub keepalive: Option<serde_json::Value>,
    pub balancer_name: String,
    pub wait_for_ready: bool,
    pub read_buffer_size: u64,
    pub write_buffer_size: u64,
}

impl Default for OtlpConfig {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            compression: Compression::Gzip,
            headers: BTreeMap::new(),
            authority: String::new(),
            timeout: GoDuration::seconds(5),
            tls: ClientTls::default(),
            sending_queue: QueueConfig::default(),
            retry_on_failure: RetryConfig::default(),
            keepalive: None,
            balancer_name: String::new(),
            wait_for_ready: false,
            read_buffer_size: 0,
            write_buffer_size: 512 << 10,
        }
    }
}

impl OtlpConfig {
    fn check(&self) -> Result<(), String> {
        if self.endpoint.is_empty() {
            return Err("requires a non-empty \"endpoint\"".to_owned());
        }
        Target::parse(&self.endpoint, &ClientTls { insecure: true, ..ClientTls::default() }, false, &[])?;
        self.sending_queue.check()?;
        self.retry_on_failure.check()
    }
}

fn build(config: &OtlpConfig, context: &BuildContext) -> Result<Arc<dyn Stage>, BuildError> {
    let target = Target::parse(&config.endpoint, &config.tls, true, &[b"h2"]).map_err(|error| context.error(error))?;
    let mut headers = HeaderMap::new();
    for (name, value) in &config.headers {
        let header = HeaderName::try_from(name).ok().zip(HeaderValue::try_from(value).ok());
        let (name, value) = header.ok_or_else(|| context.error(format!("header {name:?} cannot be sent")))?;
        headers.insert(name, value);
    }
    let authority = if config.authority.is_empty() { target.authority() } else { config.authority.clone() };
    let scheme = if target.tls.is_some() { "https" } else { "http" };
    let uri = |method: &str| {
        let uri = Uri::builder().scheme(scheme).authority(authority.as_str()).path_and_query(method).build();
        uri.map_err(|error| context.error(error))
    };
    let sender = GrpcSender {
        target,
        traces: uri("/opentelemetry.proto.collector.trace.v1.TraceService/Export")?,
        metrics: uri("/opentelemetry.proto.collector.metrics.v1.MetricsService/Export")?,
        logs: uri("/opentelemetry.proto.collector.logs.v1.LogsService/Export")?,
        headers,
        encoding: config.compression.encoding(),
        timeout: config.timeout.0,
        connection: Mutex::default(),
    };
    let (queue, retry) = (config.sending_queue.clone(), config.retry_on_failure.clone());
    let queued = Queued::start(context, queue, retry, timeout_or_forever(config.timeout), Box::new(sender))?;
    Ok(queued)
}

struct GrpcSender {
    target: Target,
    traces: Uri,
    metrics: Uri,
    logs: Uri,
    headers: HeaderMap,
    encoding: Encoding,
    timeout: Duration,
    connection: Mutex<Option<SendRequest<Bytes>>>,
}

fn broken(error: h2::Error) -> Refusal {
    Refusal { retry_after: None, ..Refusal::unavailable(format!("connection broke: {error}")) }
}

impl GrpcSender {
    /// A connection that can take a request.
    async fn ready(&self) -> Result<SendRequest<Bytes>, Refusal> {
        let mut held = self.connection.lock().await;
        if let Some(connection) = held.clone()
            && let Ok(ready) = connection.ready().await
        {
            return Ok(ready);
        }
        *held = None;
        let (stream, sending) = gather(self.target.connect().await?);
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(1 << 20).max_header_list_size(limits::HTTP_HEADER_BYTES as u32).enable_push(false);
        let (connection, driver) = builder.handshake::<_, Bytes>(stream).await.map_err(broken)?;
        tokio::spawn(async move {
            if let Err(error) = sending.drive(driver).await {
                tracing::debug!(%error, "connection of an exporter ended");
            }
        });
        *held = Some(connection.clone());
        drop(held);
        connection.ready().await.map_err(broken)
    }

    fn request(&self, uri: &Uri) -> Result<Request<()>, Refusal> {
        let mut request = Request::post(uri.clone())
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("user-agent", concat!("spanwise/", env!("CARGO_PKG_VERSION")));
        if self.encoding != Encoding::Identity {
            request = request.header("grpc-encoding", self.encoding.name());
        }
        if !self.timeout.is_zero() {
            request = request.header("grpc-timeout", format!("{}m", self.timeout.as_millis().min(99_999_999)));
        }
        let mut request = request.body(()).map_err(|error| Refusal::permanent(error.to_string()))?;
        request.headers_mut().extend(self.headers.clone());
        Ok(request)
    }

    /// One unary call; `message` is in the encoding that the request names.
    async fn exchange(&self, uri: &Uri, message: Bytes) -> Result<PartialSuccess, Refusal> {
        let mut connection = self.ready().await?;
        let (response, mut stream) = connection.send_request(self.request(uri)?, false).map_err(broken)?;
        let mut header = BytesMut::with_capacity(5);
        header.put_u8(u8::from(self.encoding != Encoding::Identity));
        header.put_u32(u32::try_from(message.len()).map_err(|_| Refusal::permanent("message passes 4 GiB"))?);
        stream.send_data(header.freeze(), false).map_err(broken)?;
        send_all(&mut stream, message).await?;
        let response = response.await.map_err(broken)?;
        if !response.status().is_success() {
            let code = match response.status().as_u16() {
                429 | 502..=504 => Code::Unavailable,
                401 => Code::Unauthenticated,
                403 => Code::PermissionDenied,
                404 => Code::Unimplemented,
                _ => Code::Unknown,
            };
            return Err(Refusal { code, message: format!("HTTP {}", response.status()), retry_after: None });
        }
        let headers = response.headers().clone();
        let mut body = response.into_body();
        let mut answer = BytesMut::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk.map_err(broken)?;
            let _ = body.flow_control().release_capacity(chunk.len());
            if answer.len() + chunk.len() > limits::PEER_ANSWER_BYTES {
                return Err(Refusal::permanent("the answer is too long"));
            }
            answer.extend_from_slice(&chunk);
        }
        let trailers = body.trailers().await.map_err(broken)?;
        let status = status_of(trailers.as_ref().unwrap_or(&headers));
        if status.code != Code::Ok {
            let RpcStatus { code, message, retry_after } = status;
            let bound = Duration::from_secs(limits::PEER_RETRY_AFTER_SECONDS);
            return Err(Refusal { code, message, retry_after: retry_after.map(|delay| delay.min(bound)) });
        }
        let partial = PartialSuccess::from_proto(answer.get(5..).unwrap_or_default());
        if !partial.is_empty() {
            tracing::warn!(rejected = partial.rejected_spans, message = partial.message, "partial success");
        }
        Ok(partial)
    }
}

#[async_trait]
impl Sender for GrpcSender {
    async fn send(&self, payload: &Payload) -> Result<u64, Refusal> {
        let message = body(payload, self.encoding)?;
        Ok(self.exchange(&self.traces, message).await?.rejected_spans)
    }

    async fn forward(&self, request: &RawRequest) -> Result<PartialSuccess, Refusal> {
        if request.format != RawFormat::Proto {
            let message = format!("{} in JSON cannot be forwarded over gRPC: send protobuf", request.signal);
            return Err(Refusal::permanent(message));
        }
        let uri = if request.signal == Signal::Logs { &self.logs } else { &self.metrics };
        let message = deflate(self.encoding, None, &request.bytes);
        self.exchange(uri, message.map_err(|error| Refusal::permanent(error.to_string()))?).await
    }
}

/// Sends as the peer's window opens.
async fn send_all(stream: &mut h2::SendStream<Bytes>, mut rest: Bytes) -> Result<(), Refusal> {
    loop {
        stream.reserve_capacity(rest.len());
        let capacity = match rest.is_empty() {
            true => 0,
            false => match std::future::poll_fn(|context| stream.poll_capacity(context)).await {
                Some(capacity) => capacity.map_err(broken)?,
                None => return Err(Refusal { retry_after: None, ..Refusal::unavailable("the stream was closed") }),
            },
        };
        let part = rest.split_to(capacity.min(rest.len()));
        stream.send_data(part, rest.is_empty()).map_err(broken)?;
        if rest.is_empty() {
            return Ok(());
        }
    }
}

fn status_of(headers: &HeaderMap) -> RpcStatus {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let details = text("grpc-status-details-bin").trim_end_matches('=');
    let details = base64::engine::general_purpose::STANDARD_NO_PAD.decode(details).unwrap_or_default();
    let detailed = RpcStatus::from_proto(&details);
    let code = text("grpc-status").parse().map_or(Code::Unknown, Code::from_number);
    let message = if detailed.message.is_empty() { text("grpc-message").to_owned() } else { detailed.message };
    RpcStatus { code, message, retry_after: detailed.retry_after }
}
