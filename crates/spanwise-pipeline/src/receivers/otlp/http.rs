//! OTLP over HTTP: protobuf and JSON on `/v1/traces`, `/v1/metrics` and `/v1/logs`.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ORIGIN,
    RETRY_AFTER, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use spanwise_model::budget::Charge;
use spanwise_model::limits;
use spanwise_wire::answer::{Code, PartialSuccess};
use spanwise_wire::inflate::Encoding;

use super::admission::{Admission, FIRST_ROOM, Format, Rejection, Signal, retry_seconds};
use super::config::{Cors, HttpConfig};
use crate::component::BuildContext;
use crate::flow::Metadata;
use crate::net::{Listener, Stream};

struct Server {
    config: HttpConfig,
    admission: Arc<Admission>,
}

pub async fn serve(listener: Listener, config: HttpConfig, admission: Arc<Admission>, context: BuildContext) {
    let server = Arc::new(Server { config, admission });
    let stop = context.stop.clone();
    listener
        .serve(context.stop.clone(), context.tasks.clone(), move |stream| {
            connection(stream, Arc::clone(&server), stop.clone())
        })
        .await;
}

async fn connection(stream: Box<dyn Stream>, server: Arc<Server>, stop: tokio_util::sync::CancellationToken) {
    let header_timeout = server.config.read_header_timeout.0;
    let service = hyper::service::service_fn(move |request| {
        let server = Arc::clone(&server);
        async move { Ok::<_, Infallible>(server.answer(request).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(limits::HTTP_HEADER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits::HTTP2_STREAMS)
        .max_header_list_size(limits::HTTP_HEADER_BYTES as u32);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error, "HTTP connection ended");
    }
}

impl Server {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let origin = request.headers().get(ORIGIN).cloned();
        let mut response = if request.method() == Method::OPTIONS && self.config.cors.is_some() {
            plain(StatusCode::NO_CONTENT, "")
        } else {
            self.export(request).await
        };
        if let (Some(cors), Some(origin)) = (&self.config.cors, origin) {
            allow(cors, &origin, response.headers_mut());
        }
        response
    }

    async fn export(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        let config = &self.config;
        let signals = [
            (&config.traces_url_path, Signal::Traces),
            (&config.metrics_url_path, Signal::Metrics),
            (&config.logs_url_path, Signal::Logs),
        ];
        let Some((_, signal)) = signals.into_iter().find(|(known, _)| *known == path) else {
            return plain(StatusCode::NOT_FOUND, "404 page not found\n");
        };
        if request.method() != Method::POST {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "405 method not allowed, supported: [POST]\n");
        }
        let Some(format) = format_of(request.headers()) else {
            let text = "415 unsupported media type, supported: [application/json, application/x-protobuf]\n";
            return plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, text);
        };
        match self.take(signal, format, request).await {
            Ok(partial) => success(format, &partial),
            Err(rejection) => failure(format, &rejection),
        }
    }

    async fn take(
        &self,
        signal: Signal,
        format: Format,
        request: Request<Incoming>,
    ) -> Result<PartialSuccess, Rejection> {
        let (parts, body) = request.into_parts();
        let named = parts.headers.get(CONTENT_ENCODING).map(|value| value.to_str().unwrap_or("?")).unwrap_or("");
        let accepted = &self.config.compression_algorithms;
        let allowed = accepted.is_empty() || accepted.iter().any(|algorithm| algorithm == named);
        let Some(encoding) = Encoding::from_name(named).filter(|_| allowed) else {
            let message = format!("unsupported Content-Encoding {named:?}");
            return Err(Rejection::new(Code::InvalidArgument, message).with_http(415));
        };
        let metadata = match self.config.include_metadata {
            true => metadata(&parts.headers),
            false => Metadata::default(),
        };
        let (body, charge) = self.read(&parts.headers, body).await?;
        self.admission.take(signal, format, encoding, body, charge, metadata).await
    }

    /// Reads the body, charging memory before each part of it is kept.
    async fn read(&self, headers: &HeaderMap, mut body: Incoming) -> Result<(Bytes, Charge), Rejection> {
        let declared: Option<usize> =
            headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
        let declared = declared.unwrap_or(0);
        if declared > self.admission.message_bytes() {
            self.admission.admit(declared)?;
        }
        // Memory goes to those who send, not to those who only announce: room grows with what has arrived.
        let mut charge = self.admission.admit(declared.min(FIRST_ROOM))?;
        let mut buffer = BytesMut::with_capacity(declared.min(FIRST_ROOM));
        let late = || Rejection::new(Code::DeadlineExceeded, "the body did not arrive in time").with_http(408);
        loop {
            let frame = tokio::time::timeout(limits::BODY_STALL, body.frame()).await.map_err(|_| late())?;
            let chunk = match frame {
                None => break,
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
                Some(Err(error)) => {
                    return Err(Rejection::new(Code::InvalidArgument, format!("cannot read the body: {error}")));
                }
            };
            let length = buffer.len() + chunk.len();
            if length > self.admission.message_bytes() {
                self.admission.admit(length)?;
            }
            self.admission.make_room(&mut charge, length, declared)?;
            buffer.reserve(charge.bytes().saturating_sub(buffer.len()));
            buffer.extend_from_slice(&chunk);
        }
        Ok((buffer.freeze(), charge))
    }
}

fn format_of(headers: &HeaderMap) -> Option<Format> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    match value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "application/x-protobuf" => Some(Format::Proto),
        "application/json" => Some(Format::Json),
        _ => None,
    }
}

fn metadata(headers: &HeaderMap) -> Metadata {
    let pairs = headers.iter().filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())));
    Metadata(pairs.collect())
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

fn content_type(format: Format) -> HeaderValue {
    HeaderValue::from_static(match format {
        Format::Proto => "application/x-protobuf",
        Format::Json => "application/json",
    })
}

fn success(format: Format, partial: &PartialSuccess) -> Response<Full<Bytes>> {
    let body = match format {
        Format::Proto => partial.to_proto(),
        Format::Json => partial.to_json().into_bytes(),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    response.headers_mut().insert(CONTENT_TYPE, content_type(format));
    response
}

fn failure(format: Format, rejection: &Rejection) -> Response<Full<Bytes>> {
    let body = match format {
        Format::Proto => rejection.status.to_proto(),
        Format::Json => rejection.status.to_json().into_bytes(),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = StatusCode::from_u16(rejection.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, content_type(format));
    if let Some(delay) = rejection.status.retry_after {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry_seconds(delay)));
    }
    response
}

fn allow(cors: &Cors, origin: &HeaderValue, headers: &mut HeaderMap) {
    headers.insert(VARY, HeaderValue::from_static("Origin"));
    if !origin.to_str().is_ok_and(|origin| cors.allows(origin)) {
        return;
    }
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
    let mut list = |name, values: &[String], default: &str| {
        let text = if values.is_empty() { default.to_owned() } else { values.join(", ") };
        if let Ok(value) = HeaderValue::from_str(&text)
            && !text.is_empty()
        {
            headers.insert(name, value);
        }
    };
    list(ACCESS_CONTROL_ALLOW_HEADERS, &cors.allowed_headers, "content-type, content-encoding");
    list(ACCESS_CONTROL_EXPOSE_HEADERS, &cors.exposed_headers, "");
    if cors.max_age > 0 {
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(cors.max_age));
    }
}
