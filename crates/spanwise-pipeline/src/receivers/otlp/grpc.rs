//! OTLP over gRPC: our own unary framing on `h2`, so that a message is admitted by its declared length before it is
//! buffered, and inflated here alone. Protocol: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use bytes::{BufMut as _, Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use spanwise_model::budget::Charge;
use spanwise_model::limits;
use spanwise_wire::answer::{Code, RpcStatus};
use spanwise_wire::inflate::Encoding;

use super::admission::{Admission, Format, Rejection, Signal};
use super::config::GrpcConfig;
use crate::component::BuildContext;
use crate::flow::Metadata;
use crate::net::{Listener, Stream, gather};

const SERVICES: [(&str, Signal); 3] = [
    ("/opentelemetry.proto.collector.trace.v1.TraceService/Export", Signal::Traces),
    ("/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", Signal::Metrics),
    ("/opentelemetry.proto.collector.logs.v1.LogsService/Export", Signal::Logs),
];

/// Compressed flag and length.
const FRAME_HEADER: usize = 5;

/// Longest `grpc-timeout` unit is hours and eight digits; nobody waits longer than this.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

pub async fn serve(listener: Listener, config: GrpcConfig, admission: Arc<Admission>, context: BuildContext) {
    let (stop, tasks) = (context.stop.clone(), context.tasks.clone());
    let streams = match config.max_concurrent_streams {
        0 => limits::HTTP2_STREAMS,
        streams => streams,
    };
    let include_metadata = config.include_metadata;
    let connection_stop = stop.clone();
    listener
        .serve(stop, tasks, move |stream| {
            connection(stream, streams, include_metadata, Arc::clone(&admission), connection_stop.clone())
        })
        .await;
}

async fn connection(
    stream: Box<dyn Stream>,
    streams: u32,
    include_metadata: bool,
    admission: Arc<Admission>,
    stop: tokio_util::sync::CancellationToken,
) {
    let mut builder = h2::server::Builder::new();
    builder
        .max_concurrent_streams(streams)
        .max_header_list_size(limits::HTTP_HEADER_BYTES as u32)
        .initial_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .max_frame_size(limits::HTTP2_FRAME_BYTES)
        .max_send_buffer_size(256 << 10);
    let (stream, sending) = gather(stream);
    let handshake = sending.drive(builder.handshake::<_, Bytes>(stream));
    let handshake = tokio::time::timeout(limits::BODY_STALL, handshake).await;
    let Ok(Ok(mut connection)) = handshake else { return };
    let mut stopping = false;
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled(), if !stopping => {
                // What is open is finished; the peer learns that it should go elsewhere.
                connection.graceful_shutdown();
                stopping = true;
                continue;
            }
            accepted = sending.drive(connection.accept()) => accepted,
        };
        match accepted {
            Some(Ok((request, respond))) => {
                let admission = Arc::clone(&admission);
                tokio::spawn(async move {
                    if let Err(error) = call(request, respond, include_metadata, &admission).await {
                        tracing::debug!(%error, "gRPC stream ended");
                    }
                });
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "gRPC connection ended");
                return;
            }
            None => return,
        }
    }
}

async fn call(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    include_metadata: bool,
    admission: &Admission,
) -> Result<(), h2::Error> {
    let is_grpc = request
        .headers()
        .get(http::header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    if request.method() != Method::POST || !is_grpc {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        respond.send_response(response, true)?;
        return Ok(());
    }
    let deadline = timeout(request.headers()).unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT);
    let answer = match tokio::time::timeout(deadline, answer(request, include_metadata, admission)).await {
        Ok(answer) => answer,
        Err(_) => Err(Rejection::new(Code::DeadlineExceeded, "the caller's deadline passed")),
    };
    let mut response = Response::new(());
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    match answer {
        Ok(message) => {
            let mut stream = respond.send_response(response, false)?;
            stream.send_data(frame(&message), false)?;
            send_status(&mut stream, &RpcStatus { code: Code::Ok, message: String::new(), retry_after: None })
        }
        Err(rejection) => {
            put_status(response.headers_mut(), &rejection.status);
            respond.send_response(response, true)?;
            Ok(())
        }
    }
}

async fn answer(
    request: Request<RecvStream>,
    include_metadata: bool,
    admission: &Admission,
) -> Result<Vec<u8>, Rejection> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let Some((_, signal)) = SERVICES.iter().find(|(known, _)| *known == path) else {
        return Err(Rejection::new(Code::Unimplemented, format!("unknown method {path}")));
    };
    let named = parts.headers.get("grpc-encoding").map(|value| value.to_str().unwrap_or("?")).unwrap_or("identity");
    let Some(encoding) = Encoding::from_name(named) else {
        return Err(Rejection::new(Code::Unimplemented, format!("unsupported grpc-encoding {named:?}")));
    };
    let metadata = if include_metadata { metadata(&parts.headers) } else { Metadata::default() };
    let (compressed, message, charge) = read_message(body, admission).await?;
    if compressed && encoding == Encoding::Identity {
        return Err(Rejection::new(
            Code::InvalidArgument,
            "the message is marked compressed, and no grpc-encoding says how",
        ));
    }
    let encoding = if compressed { encoding } else { Encoding::Identity };
    let partial = admission.take(*signal, Format::Proto, encoding, message, charge, metadata).await?;
    Ok(partial.to_proto())
}

/// Reads one length-prefixed message. It is refused at once when there is no memory for all of it; what is held from
/// others grows with what has arrived, so that who only announces keeps nobody out.
async fn read_message(mut body: RecvStream, admission: &Admission) -> Result<(bool, Bytes, Charge), Rejection> {
    let mut header = Vec::with_capacity(FRAME_HEADER);
    let mut message: Option<Message> = None;
    loop {
        let chunk = tokio::time::timeout(limits::BODY_STALL, body.data()).await;
        let chunk = chunk.map_err(|_| Rejection::new(Code::DeadlineExceeded, "the message did not arrive in time"))?;
        let mut chunk = match chunk {
            Some(Ok(chunk)) => chunk,
            Some(Err(_)) => return Err(Rejection::new(Code::Cancelled, "the stream was reset")),
            None => break,
        };
        let _ = body.flow_control().release_capacity(chunk.len());
        if message.is_none() {
            let rest = chunk.split_off(chunk.len().min(FRAME_HEADER - header.len()));
            header.extend_from_slice(&chunk);
            chunk = rest;
            if let [flag, length @ ..] = header.as_slice()
                && let Ok(length) = <[u8; 4]>::try_from(length)
            {
                message = Some(Message::begin(*flag, u32::from_be_bytes(length) as usize, admission)?);
            }
        }
        if let Some(message) = &mut message {
            message.add(&chunk, admission)?;
        }
    }
    match message {
        Some(Message { is_compressed, length, bytes, charge }) if bytes.len() == length => {
            Ok((is_compressed, Bytes::from(bytes), charge))
        }
        _ => Err(Rejection::new(Code::InvalidArgument, "the stream ended inside its message")),
    }
}

/// A message that arrives.
struct Message {
    is_compressed: bool,
    length: usize,
    bytes: Vec<u8>,
    charge: Charge,
}

/// Room that is made before any of it has arrived.
const ROOM_AHEAD: usize = 1 << 20;

impl Message {
    fn begin(flag: u8, length: usize, admission: &Admission) -> Result<Self, Rejection> {
        if flag > 1 {
            return Err(Rejection::new(Code::InvalidArgument, "unknown flag before the message"));
        }
        let charge = admission.admit_announced(length)?;
        Ok(Self { is_compressed: flag == 1, length, bytes: Vec::with_capacity(length.min(ROOM_AHEAD)), charge })
    }

    fn add(&mut self, chunk: &[u8], admission: &Admission) -> Result<(), Rejection> {
        if self.bytes.len() + chunk.len() > self.length {
            return Err(Rejection::new(Code::InvalidArgument, "more than one message in a unary call"));
        }
        admission.make_room(&mut self.charge, self.bytes.len() + chunk.len(), self.length)?;
        if self.bytes.len() + chunk.len() > self.bytes.capacity() {
            // What a large message has reached, doubled, but never more than it said.
            let larger = self.bytes.capacity().saturating_mul(2).min(self.length);
            self.bytes.reserve_exact(larger.max(self.bytes.len() + chunk.len()) - self.bytes.len());
        }
        self.bytes.extend_from_slice(chunk);
        Ok(())
    }
}

fn metadata(headers: &HeaderMap) -> Metadata {
    let pairs = headers.iter().filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())));
    Metadata(pairs.collect())
}

/// `grpc-timeout`: up to eight digits and a unit.
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let unit = text.chars().last()?;
    let digits = text.strip_suffix(unit).filter(|digits| (1..=8).contains(&digits.len()))?;
    let count: u64 = digits.parse().ok()?;
    match unit {
        'H' => Some(Duration::from_secs(count * 3600)),
        'M' => Some(Duration::from_secs(count * 60)),
        'S' => Some(Duration::from_secs(count)),
        'm' => Some(Duration::from_millis(count)),
        'u' => Some(Duration::from_micros(count)),
        'n' => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

fn frame(message: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(FRAME_HEADER + message.len());
    out.put_u8(0);
    out.put_u32(message.len() as u32);
    out.extend_from_slice(message);
    out.freeze()
}

fn send_status(stream: &mut SendStream<Bytes>, status: &RpcStatus) -> Result<(), h2::Error> {
    let mut trailers = HeaderMap::new();
    put_status(&mut trailers, status);
    stream.send_trailers(trailers)
}

fn put_status(headers: &mut HeaderMap, status: &RpcStatus) {
    headers.insert("grpc-status", HeaderValue::from(status.code as u16));
    if !status.message.is_empty() {
        if let Ok(message) = HeaderValue::from_str(&percent(&status.message)) {
            headers.insert("grpc-message", message);
        }
        let details = base64::engine::general_purpose::STANDARD_NO_PAD.encode(status.to_proto());
        if let Ok(details) = HeaderValue::from_str(&details) {
            headers.insert("grpc-status-details-bin", details);
        }
    }
}

/// What is not printable ASCII, and `%` itself, as `%XX`.
fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_read_in_every_unit() {
        for (text, expected) in [
            ("5S", Some(Duration::from_secs(5))),
            ("100m", Some(Duration::from_millis(100))),
            ("1H", Some(Duration::from_secs(3600))),
            ("123456789S", None),
            ("S", None),
            ("5", None),
        ] {
            let headers = HeaderMap::from_iter([(
                http::HeaderName::from_static("grpc-timeout"),
                HeaderValue::from_str(text).unwrap(),
            )]);
            assert_eq!(timeout(&headers), expected, "{text}");
        }
    }

    #[test]
    fn messages_are_percent_encoded() {
        assert_eq!(percent("50% über"), "50%25 %C3%BCber");
    }
}
