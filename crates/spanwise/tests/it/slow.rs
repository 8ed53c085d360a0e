//! Senders that never finish: endless, cut off, and many at once. Others do not notice.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;

use crate::grpc;
use crate::harness::{Server, otlp, request, span, text};

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

fn head(rest: &str) -> String {
    format!("POST /v1/traces HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-protobuf\r\n{rest}\r\n\r\n")
}

fn memory_kib(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    peak.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn an_endless_sender_is_cut_off_at_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let mut stream = connect(server.port("otlp_http"));
    stream.write_all(head("transfer-encoding: chunked").as_bytes()).unwrap();
    let chunk = [b"10000\r\n".as_slice(), &vec![b'x'; 0x10000], b"\r\n"].concat();
    let mut sent = 0u64;
    // At most three times the limit: it must have been cut off long before.
    while sent < 60 << 20 && stream.write_all(&chunk).is_ok() {
        sent += 0x10000;
    }
    assert!(sent < 60 << 20, "{sent} bytes were taken");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty() || text(&answer).contains("413"), "{}", text(&answer));
    assert!(memory_kib(&server) < 300 << 10, "{} KiB", memory_kib(&server));
    assert_eq!(server.export(&otlp("shop", vec![span(1, 1, 0, "a")])), Some(200));
    assert_eq!(server.metric("spanwise_receiver_refused_requests"), 1);
}

#[test]
fn senders_that_announce_much_and_stall_keep_nobody_out() {
    let server = Server::start_in_memory(&[]);
    let port = server.port("otlp_grpc");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    // Together they announce 2.4 GB.
    let stalled = runtime.block_on(async {
        let mut stalled = Vec::new();
        for _ in 0..3 {
            stalled.push(grpc::announce(port, 200, 4_000_000).await);
        }
        stalled
    });
    let framed = grpc::frame(false, &otlp("shop", vec![span(1, 1, 0, "a")]));
    // Before, while and after they come.
    for _ in 0..50 {
        let answer = grpc::call_raw(port, &[], &framed);
        assert_eq!(answer.code, "OK", "{}", answer.message);
    }
    let large = otlp("shop", (0..10_000).map(|number| span(number, 1, 0, "a span with quite a long name")).collect());
    let answer = grpc::call_raw(port, &[], &grpc::frame(false, &large));
    assert_eq!(answer.code, "OK", "{}", answer.message);
    assert_eq!(server.export(&large), Some(200));
    assert_eq!(stalled.iter().map(Vec::len).sum::<usize>(), 600);
}

#[test]
fn a_truncated_upload_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let whole = otlp("shop", vec![span(1, 1, 0, "a"), span(1, 2, 1, "b")]);
    for cut in [0, 1, whole.len() / 2, whole.len() - 1] {
        let mut stream = connect(server.port("otlp_http"));
        stream.write_all(head(&format!("content-length: {}", whole.len())).as_bytes()).unwrap();
        stream.write_all(&whole[..cut]).unwrap();
        drop(stream);
        let framed = grpc::frame(false, &whole);
        let answer = grpc::call_raw(server.port("otlp_grpc"), &[], &framed[..5 + cut]);
        assert_eq!(answer.code, "INVALID_ARGUMENT", "{cut}: {}", answer.message);
    }
    assert_eq!(server.metric("spanwise_store_spans"), 0);
    assert_eq!(server.export(&whole), Some(200));
    assert_eq!(server.metric("spanwise_store_spans"), 2);
}

#[test]
fn a_bomb_of_one_gigabyte_is_refused_without_being_unfolded() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let gigabyte = 1usize << 30;
    // zstd: blocks that repeat one byte 128 KiB times. gzip: members of a megabyte each.
    let mut zstd = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x68];
    let blocks = gigabyte / (128 << 10);
    for block in 1..=blocks {
        let header = (128u32 << 10) << 3 | 1 << 1 | u32::from(block == blocks);
        zstd.extend_from_slice(&header.to_le_bytes()[..3]);
        zstd.push(0);
    }
    let member =
        spanwise_wire::inflate::deflate(spanwise_wire::inflate::Encoding::Gzip, None, &Bytes::from(vec![0; 1 << 20]));
    let gzip = member.unwrap().repeat(gigabyte >> 20);
    for (name, bomb) in [("zstd", &zstd), ("gzip", &gzip)] {
        let headers = [("content-type", "application/x-protobuf"), ("content-encoding", name)];
        let answer = request(server.port("otlp_http"), "POST", "/v1/traces", &headers, bomb).unwrap();
        assert_eq!(answer.status, 413, "{name}: {}", text(&answer.body));
        let answer = grpc::call_raw(server.port("otlp_grpc"), &[("grpc-encoding", name)], &grpc::frame(true, bomb));
        assert_eq!(answer.code, "INVALID_ARGUMENT", "{name}: {}", answer.message);
    }
    assert!(memory_kib(&server) < 200 << 10, "{} KiB", memory_kib(&server));
    assert_eq!(server.export(&otlp("shop", vec![span(1, 1, 0, "a")])), Some(200));
}

/// Connections of the test, or of `SPANWISE_SLOW_CONNECTIONS`.
fn slow_connections() -> usize {
    std::env::var("SPANWISE_SLOW_CONNECTIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000)
}

#[test]
fn a_thousand_slow_connections_hold_up_nobody_and_body_stall_ends_them() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let before = memory_kib(&server);
    let count = slow_connections();
    let mut held = Vec::new();
    for number in 0..count {
        let (port, part) = match number % 4 {
            0 => (server.port("otlp_http"), String::new()),
            1 => (server.port("otlp_http"), "POST /v1/traces HTT".to_owned()),
            2 => (server.port("otlp_http"), head("content-length: 1000000") + "x"),
            _ => (server.port("otlp_grpc"), "PRI * HTTP/2.0\r\n\r\nSM".to_owned()),
        };
        let mut stream = connect(port);
        stream.write_all(part.as_bytes()).unwrap();
        held.push(stream);
    }
    for number in 0..20 {
        assert_eq!(server.export(&otlp("shop", vec![span(number, 1, 0, "a")])), Some(200));
        let good = grpc::frame(false, &otlp("shop", vec![span(number, 2, 1, "b")]));
        assert_eq!(grpc::call_raw(server.port("otlp_grpc"), &[], &good).code, "OK");
    }
    let grown = memory_kib(&server) - before;
    println!("{count} slow connections: {grown} KiB more");
    assert!(grown < (64 << 10) + 40 * count as u64, "{grown} KiB more");
    // A body that stalls is answered and its connection ended; so is one that never says what it wants over HTTP/2.
    let mut answer = Vec::new();
    held[2].read_to_end(&mut answer).unwrap();
    assert!(text(&answer).contains(" 408 "), "{}", text(&answer));
    let mut answer = Vec::new();
    let _ = held[3].read_to_end(&mut answer);
    assert_eq!(server.export(&otlp("shop", vec![span(99, 1, 0, "a")])), Some(200));
}
