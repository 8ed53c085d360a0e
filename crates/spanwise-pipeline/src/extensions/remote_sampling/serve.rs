//! The two ways in which clients ask: HTTP (`/sampling?service=`, `/api/sampling?service=`, `/?service=`) and gRPC.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use spanwise_model::limits;
use spanwise_wire::sampling::asked_service;

use super::Source;
use crate::component::BuildContext;
use crate::net::Listener;

const METHOD: &str = "/jaeger.api_v2.SamplingManager/GetSamplingStrategy";

type Body = BoxBody<Bytes, Infallible>;

pub(super) async fn serve(listener: Listener, source: Arc<dyn Source>, context: BuildContext) {
    let (stop, tasks) = (context.stop.clone(), context.tasks.clone());
    let asked = context.telemetry.counter("spanwise_sampling_requests", "Questions of clients how to sample.", &[]);
    listener
        .serve(stop.clone(), tasks, move |stream| {
            let (source, asked, stop) = (Arc::clone(&source), asked.clone(), stop.clone());
            async move {
                let service = hyper::service::service_fn(move |request| {
                    asked.add(1);
                    let source = Arc::clone(&source);
                    async move { Ok::<_, Infallible>(answer(request, &*source).await) }
                });
                let mut builder = auto::Builder::new(TokioExecutor::new());
                builder
                    .http1()
                    .timer(TokioTimer::new())
                    .header_read_timeout(limits::BODY_STALL)
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
                    tracing::debug!(error, "connection of a sampling client ended");
                }
            }
        })
        .await;
}

async fn answer(request: Request<Incoming>, source: &dyn Source) -> Response<Body> {
    let is_grpc =
        request.headers().get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    if is_grpc { grpc(request, source).await } else { http(&request, source) }
}

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed()
}

fn http(request: &Request<Incoming>, source: &dyn Source) -> Response<Body> {
    let plain = |status: StatusCode, text: &'static str| {
        let mut response = Response::new(full(text));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        response
    };
    if !matches!(request.uri().path(), "/" | "/sampling" | "/api/sampling") {
        return plain(StatusCode::NOT_FOUND, "404 page not found\n");
    }
    if request.method() != Method::GET {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "405 method not allowed\n");
    }
    let services: Vec<String> =
        pairs(request.uri().query().unwrap_or_default()).filter(|(key, _)| key == "service").map(|(_, v)| v).collect();
    let [service] = services.as_slice() else {
        return plain(StatusCode::BAD_REQUEST, "'service' parameter must be provided once\n");
    };
    let mut response = Response::new(full(source.strategy(service).to_json().to_string()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Names and values of a query, percent signs and plus signs resolved.
fn pairs(query: &str) -> impl Iterator<Item = (String, String)> + '_ {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (unescape(key), unescape(value))
    })
}

fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match (first, digits.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                rest = after.get(2..).unwrap_or_default();
                continue;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(*byte),
        }
        rest = after;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A unary call: one message in, one message and the status out.
async fn grpc(request: Request<Incoming>, source: &dyn Source) -> Response<Body> {
    let (parts, body) = request.into_parts();
    if parts.uri.path() != METHOD {
        return failed("12", "unknown method");
    }
    let read = tokio::time::timeout(limits::BODY_STALL, Limited::new(body, limits::SAMPLING_QUESTION_BYTES).collect());
    let bytes = match read.await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => return failed("3", "the message cannot be read or is too long"),
        Err(_) => return failed("4", "the message did not arrive in time"),
    };
    let message = match bytes.split_first_chunk::<5>() {
        Some(([0, length @ ..], message)) if u32::from_be_bytes(*length) as usize == message.len() => message,
        _ => return failed("3", "not one uncompressed message"),
    };
    let strategy = source.strategy(&asked_service(message)).to_proto();
    let mut framed = BytesMut::with_capacity(5 + strategy.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(strategy.len()).unwrap_or(u32::MAX));
    framed.extend_from_slice(&strategy);
    let trailers =
        HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
    let body = Full::new(framed.freeze()).with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut response = Response::new(body.boxed());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

fn failed(code: &'static str, message: &'static str) -> Response<Body> {
    let mut response = Response::new(full(Bytes::new()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from_static(code));
    headers.insert("grpc-message", HeaderValue::from_static(message));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_unescaped() {
        let found: Vec<_> = pairs("service=a%20b+c&x&%zz=%e9").collect();
        let expected = [("service", "a b c"), ("x", ""), ("%zz", "\u{fffd}")];
        assert_eq!(found, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }
}
