//! A unary gRPC call whose bytes are the caller's own, right or wrong.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

pub struct GrpcAnswer {
    /// Name of the code, `HTTP n` without one, or why the stream broke.
    pub code: String,
    pub message: String,
    /// The first message, without its frame.
    pub body: Vec<u8>,
}

/// A message as it stands in a stream.
pub fn frame(is_compressed: bool, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[u8::from(is_compressed)], &length.to_be_bytes()[..], message].concat()
}

/// Sends `stream` to the traces service.
pub fn call_raw(port: u16, headers: &[(&str, &str)], stream: &[u8]) -> GrpcAnswer {
    call(port, EXPORT, headers, stream)
}

/// Sends `stream` to any method, on a connection of its own.
pub fn call(port: u16, method: &str, headers: &[(&str, &str)], stream: &[u8]) -> GrpcAnswer {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let calling = runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(60), exchange(port, method, headers, stream)).await
    });
    match calling {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => GrpcAnswer { code: "broken".to_owned(), message: error.to_string(), body: Vec::new() },
        Err(_) => GrpcAnswer { code: "no answer".to_owned(), message: String::new(), body: Vec::new() },
    }
}

/// Opens so many streams on one connection that announce a message and then send nothing. They last as long as the answer.
pub async fn announce(port: u16, streams: usize, length: u32) -> Vec<h2::SendStream<Bytes>> {
    let tcp = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (client, connection) = h2::client::handshake(tcp).await.unwrap();
    tokio::spawn(connection);
    let mut open = Vec::with_capacity(streams);
    for _ in 0..streams {
        let request = Request::post(format!("http://127.0.0.1:{port}{EXPORT}")).header("te", "trailers");
        let request = request.header("content-type", "application/grpc").body(()).unwrap();
        let mut client = client.clone().ready().await.unwrap();
        let (_, mut body) = client.send_request(request, false).unwrap();
        let begun = [&[0][..], &length.to_be_bytes(), b"a beginning"].concat();
        body.send_data(Bytes::from(begun), false).unwrap();
        open.push(body);
    }
    open
}

async fn exchange(port: u16, method: &str, headers: &[(&str, &str)], stream: &[u8]) -> Result<GrpcAnswer, h2::Error> {
    let tcp = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (mut client, connection) = h2::client::handshake(tcp).await?;
    tokio::spawn(connection);
    let mut request = Request::post(format!("http://127.0.0.1:{port}{method}")).header("te", "trailers");
    if headers.iter().all(|(name, _)| *name != "content-type") {
        request = request.header("content-type", "application/grpc");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    std::future::poll_fn(|context| client.poll_ready(context)).await?;
    let (response, mut body) = client.send_request(request.body(()).unwrap(), false)?;
    // A server that has refused reads no further: what cannot be sent then is no error.
    let _ = body.send_data(Bytes::copy_from_slice(stream), true);
    let response = response.await?;
    let status = response.status();
    let first = response.headers().clone();
    let mut received = response.into_body();
    let mut message = Vec::new();
    // A server that has answered may reset what it does not want to read: that is no error.
    while let Some(Ok(chunk)) = received.data().await {
        let _ = received.flow_control().release_capacity(chunk.len());
        message.extend_from_slice(&chunk);
    }
    let trailers = received.trailers().await.ok().flatten().unwrap_or(first);
    let text = |headers: &HeaderMap, name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let code = text(&trailers, "grpc-status")
        .map_or_else(|| format!("HTTP {}", status.as_u16()), |code| name_of(&code).to_owned());
    let body = message.get(5..).unwrap_or_default().to_vec();
    Ok(GrpcAnswer { code, message: text(&trailers, "grpc-message").unwrap_or_default(), body })
}

fn name_of(code: &str) -> &'static str {
    match code {
        "0" => "OK",
        "1" => "CANCELLED",
        "3" => "INVALID_ARGUMENT",
        "4" => "DEADLINE_EXCEEDED",
        "5" => "NOT_FOUND",
        "8" => "RESOURCE_EXHAUSTED",
        "11" => "OUT_OF_RANGE",
        "12" => "UNIMPLEMENTED",
        "13" => "INTERNAL",
        "14" => "UNAVAILABLE",
        _ => "another code",
    }
}
