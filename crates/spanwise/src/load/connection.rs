//! One connection to a receiver, over either protocol.

use anyhow::{Context as _, bail};
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{Request, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use spanwise_pipeline::net::gather;
use spanwise_wire::answer::PartialSuccess;
use spanwise_wire::inflate::{Encoding, inflate};
use tokio::net::TcpStream;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    Http,
    Grpc,
}

pub enum Connection {
    Http(http1::SendRequest<Full<Bytes>>),
    Grpc(h2::client::SendRequest<Bytes>),
}

/// What a receiver said of one request.
pub enum Answer {
    Accepted { rejected: u64 },
    Refused,
}

/// The collector's default bound on an answer.
const ANSWER_BYTES: usize = 4 << 20;

impl Connection {
    /// # Errors
    /// When nothing listens there, or it speaks something else.
    pub async fn open(protocol: Protocol, authority: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(authority)
            .await
            .with_context(|| format!("cannot reach {authority}: is an OTLP receiver listening there?"))?;
        stream.set_nodelay(true)?;
        match protocol {
            Protocol::Http => {
                let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
                tokio::spawn(connection);
                Ok(Self::Http(sender))
            }
            Protocol::Grpc => {
                let (stream, sending) = gather(stream);
                let (sender, connection) = h2::client::handshake(stream).await?;
                tokio::spawn(async move { sending.drive(connection).await });
                Ok(Self::Grpc(sender))
            }
        }
    }

    /// A second handle on the same connection, where the protocol allows one.
    pub fn share(&self) -> Option<Self> {
        match self {
            Self::Http(_) => None,
            Self::Grpc(sender) => Some(Self::Grpc(sender.clone())),
        }
    }

    /// # Errors
    /// When the connection broke: whether the receiver has the request is not known.
    pub async fn send(&mut self, authority: &str, encoding: Encoding, body: Bytes) -> anyhow::Result<Answer> {
        match self {
            Self::Http(sender) => send_http(sender, authority, encoding, body).await,
            Self::Grpc(sender) => send_grpc(sender, authority, encoding, body).await,
        }
    }
}

async fn send_http(
    connection: &mut http1::SendRequest<Full<Bytes>>,
    authority: &str,
    encoding: Encoding,
    body: Bytes,
) -> anyhow::Result<Answer> {
    connection.ready().await?;
    let mut request =
        Request::post("/v1/traces").header("host", authority).header("content-type", "application/x-protobuf");
    if encoding != Encoding::Identity {
        request = request.header("content-encoding", encoding.name());
    }
    let response = connection.send_request(request.body(Full::new(body))?).await?;
    let is_success = response.status().is_success();
    let body = response.into_body().collect().await?.to_bytes();
    match is_success {
        true => Ok(Answer::Accepted { rejected: PartialSuccess::from_proto(&body).rejected_spans }),
        false => Ok(Answer::Refused),
    }
}

async fn send_grpc(
    connection: &h2::client::SendRequest<Bytes>,
    authority: &str,
    encoding: Encoding,
    body: Bytes,
) -> anyhow::Result<Answer> {
    let uri = Uri::builder()
        .scheme("http")
        .authority(authority)
        .path_and_query("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
        .build()?;
    let mut request = Request::post(uri).header("content-type", "application/grpc").header("te", "trailers");
    if encoding != Encoding::Identity {
        request = request.header("grpc-encoding", encoding.name());
    }
    let mut ready = connection.clone().ready().await?;
    let (response, mut stream) = ready.send_request(request.body(())?, false)?;
    let mut header = BytesMut::with_capacity(5);
    header.put_u8(u8::from(encoding != Encoding::Identity));
    header.put_u32(u32::try_from(body.len())?);
    stream.send_data(header.freeze(), false)?;
    stream.send_data(body, true)?;
    let response = response.await?;
    if !response.status().is_success() {
        return Ok(Answer::Refused);
    }
    let encoding = response.headers().get("grpc-encoding").and_then(|value| value.to_str().ok()).unwrap_or("identity");
    let encoding = Encoding::from_name(encoding).context("the answer's encoding is not known")?;
    let headers = response.headers().clone();
    let mut stream = response.into_body();
    let mut answer = BytesMut::new();
    while let Some(chunk) = stream.data().await {
        let chunk = chunk?;
        let _ = stream.flow_control().release_capacity(chunk.len());
        if answer.len() + chunk.len() > ANSWER_BYTES {
            bail!("the answer is too long");
        }
        answer.extend_from_slice(&chunk);
    }
    let trailers = stream.trailers().await?.unwrap_or(headers);
    if trailers.get("grpc-status").is_none_or(|status| status.as_bytes() != b"0") {
        return Ok(Answer::Refused);
    }
    let (is_compressed, message) = match answer.split_first_chunk::<5>() {
        Some((header, message)) => (header[0] == 1, Bytes::copy_from_slice(message)),
        None => (false, Bytes::new()),
    };
    let message = if is_compressed { inflate(encoding, &message, ANSWER_BYTES)? } else { message };
    Ok(Answer::Accepted { rejected: PartialSuccess::from_proto(&message).rejected_spans })
}
