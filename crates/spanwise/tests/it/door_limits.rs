//! Limits that only the whole program shows, at the limit and one past it.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use spanwise_model::limits;

use crate::grpc;
use crate::harness::{Server, config, otlp, request, span};

/// A good request of exactly this many bytes.
fn request_of(bytes: usize) -> Vec<u8> {
    let mut padding = bytes - 200;
    loop {
        let mut one = span(1, 1, 0, "large");
        one.trace_state = "x".repeat(padding);
        let request = otlp("shop", vec![one]);
        match request.len() {
            len if len == bytes => return request,
            len => padding = (padding + bytes).checked_sub(len).expect("room for the rest"),
        }
    }
}

#[test]
fn grpc_message_bytes_and_http_body_bytes_at_the_limit_and_one_past_it() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let call = |bytes| grpc::call_raw(server.port("otlp_grpc"), &[], &grpc::frame(false, &request_of(bytes)));
    assert_eq!(call(limits::GRPC_MESSAGE_BYTES).code, "OK");
    let refused = call(limits::GRPC_MESSAGE_BYTES + 1);
    assert_eq!(refused.code, "INVALID_ARGUMENT");
    assert!(refused.message.contains(&limits::GRPC_MESSAGE_BYTES.to_string()), "{}", refused.message);
    assert_eq!(server.export(&request_of(limits::HTTP_BODY_BYTES)), Some(200));
    assert_eq!(server.export(&request_of(limits::HTTP_BODY_BYTES + 1)), Some(413));
    assert_eq!(server.metric("otelcol_receiver_accepted_spans"), 2);
}

#[test]
fn http_header_bytes_below_the_limit_and_past_it() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let status = |bytes: usize| {
        let long = "x".repeat(bytes);
        let headers = [("content-type", "application/x-protobuf"), ("x-long", long.as_str())];
        request(server.port("otlp_http"), "POST", "/v1/traces", &headers, b"").map_or(0, |answer| answer.status)
    };
    // The request's line and its other headers take some of it.
    assert_eq!(status(limits::HTTP_HEADER_BYTES - 1024), 200);
    assert_eq!(status(limits::HTTP_HEADER_BYTES + 1), 431);
}

#[test]
fn http2_streams_at_the_limit_which_the_peer_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let port = server.port("otlp_grpc");
    runtime.block_on(async {
        let tcp = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (mut client, mut connection) = h2::client::handshake(tcp).await.unwrap();
        let mut open = || {
            let method = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
            let request = http::Request::post(format!("http://127.0.0.1{method}"));
            let request = request.header("content-type", "application/grpc").body(()).unwrap();
            client.send_request(request, false).unwrap()
        };
        let (response, mut stream) = open();
        stream.send_data(bytes::Bytes::from(grpc::frame(false, b"")), true).unwrap();
        tokio::select! {
            response = response => assert_eq!(response.unwrap().status(), 200),
            ended = &mut connection => panic!("{ended:?}"),
        }
        // One more than this no client opens.
        assert_eq!(connection.max_concurrent_send_streams(), limits::HTTP2_STREAMS as usize);
        tokio::spawn(connection);
        // All are open at a time. They end one after the other: h2 takes many tiny frames at once for an attack.
        let all: Vec<_> = (0..limits::HTTP2_STREAMS).map(|_| open()).collect();
        for (response, mut stream) in all {
            stream.send_data(bytes::Bytes::from(grpc::frame(false, b"")), true).unwrap();
            assert_eq!(response.await.unwrap().status(), 200);
        }
    });
}

/// Answers each of these exports with a body of that many bytes.
fn talkative_peer(sizes: Vec<usize>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for size in sizes {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            // Small requests: head and body have come once both ends are seen.
            while !request.ends_with(b"last") {
                let count = stream.read(&mut buffer).unwrap();
                request.extend_from_slice(&buffer[..count]);
            }
            let head = format!(
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/x-protobuf\r\ncontent-length: {size}\r\n\r\n"
            );
            let _ = stream.write_all(head.as_bytes());
            // An unknown field of bytes: the answer is a message.
            let length = size - 4;
            let mut body = vec![0x7a, length as u8 | 0x80, (length >> 7) as u8 | 0x80, (length >> 14) as u8];
            body.resize(size, 0);
            let _ = stream.write_all(&body);
        }
    });
    port
}

#[test]
fn peer_answer_bytes_at_the_limit_and_one_past_it() {
    let dir = tempfile::tempdir().unwrap();
    let peer = talkative_peer(vec![limits::PEER_ANSWER_BYTES, limits::PEER_ANSWER_BYTES + 1]);
    let text = format!(
        "receivers: {{otlp: {{protocols: {{http: }}}}}}\n\
         exporters: {{otlphttp: {{endpoint: 'http://127.0.0.1:{peer}', compression: none, disable_keep_alives: true, \
         retry_on_failure: {{enabled: false}}, sending_queue: {{enabled: false}}}}}}\n\
         service: {{pipelines: {{traces: {{receivers: [otlp], exporters: [otlphttp]}}}}}}\n"
    );
    let server = Server::start_in_memory(&["--config", &config(dir.path(), "c.yaml", &text)]);
    let mut last = span(1, 1, 0, "");
    last.status = Some(opentelemetry_proto::tonic::trace::v1::Status { message: "last".to_owned(), code: 0 });
    let body = otlp("shop", vec![last]);
    assert!(body.ends_with(b"last"));
    assert_eq!(server.export(&body), Some(200));
    assert_eq!(server.export(&body), Some(503));
    assert_eq!(server.metric("otelcol_exporter_sent_spans"), 1);
    assert_eq!(server.metric("otelcol_exporter_send_failed_spans"), 1);
}
