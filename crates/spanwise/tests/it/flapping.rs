//! A next hop that is slow, dead, and comes and goes, with `kill -9` in between: what was acknowledged arrives.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use crate::harness::{Server, config, hex, otlp, span, trace_id};

const SLOW: u8 = 0;
const DEAD: u8 = 1;
const FLAPPING: u8 = 2;
const WELL: u8 = 3;

/// Stands before the next hop and does to it what `mode` says.
struct Proxy {
    port: u16,
    mode: Arc<AtomicU8>,
}

impl Proxy {
    fn start(target: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, mode) = (listener.local_addr().unwrap().port(), Arc::new(AtomicU8::new(SLOW)));
        let shared = Arc::clone(&mode);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let mode = Arc::clone(&shared);
                if mode.load(Ordering::Relaxed) == DEAD {
                    continue;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                let (to, from) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                let back = Arc::clone(&mode);
                std::thread::spawn(move || pass(from, to, &mode));
                std::thread::spawn(move || pass(server, client, &back));
            }
        });
        Proxy { port, mode }
    }

    fn set(&self, mode: u8) {
        self.mode.store(mode, Ordering::Relaxed);
    }
}

/// Copies until one end closes, or the mode says that the connection breaks.
fn pass(mut from: TcpStream, mut to: TcpStream, mode: &AtomicU8) {
    let mut buffer = [0; 512];
    let mut passed = 0;
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        passed += count;
        match mode.load(Ordering::Relaxed) {
            SLOW => std::thread::park_timeout(Duration::from_millis(2)),
            DEAD => break,
            FLAPPING if passed > 3_000 => break,
            _ => {}
        }
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(std::net::Shutdown::Both);
    let _ = to.shutdown(std::net::Shutdown::Both);
}

#[test]
fn what_was_acknowledged_arrives_whatever_the_next_hop_and_kill_9_do() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Server::start(&dir.path().join("sink"), &[]);
    let proxies = [Proxy::start(sink.port("otlp_grpc")), Proxy::start(sink.port("otlp_http"))];
    let set = |mode| proxies.iter().for_each(|proxy| proxy.set(mode));
    let start = |dir: &Path| {
        let retry = "retry_on_failure: {initial_interval: 50ms, max_interval: 200ms}, timeout: 2s, sending_queue: {queue_size: 3, num_consumers: 2}";
        let text = format!(
            "receivers: {{otlp: {{protocols: {{http: }}}}}}\nprocessors: {{batch: {{timeout: 30ms}}}}\n\
             exporters:\n  otlp: {{endpoint: '127.0.0.1:{}', tls: {{insecure: true}}, {retry}}}\n  \
             otlphttp: {{endpoint: 'http://127.0.0.1:{}', {retry}}}\n\
             service:\n  pipelines:\n    traces/a: {{receivers: [otlp], processors: [batch], exporters: [otlp]}}\n    \
             traces/b: {{receivers: [otlp], exporters: [otlphttp]}}\n",
            proxies[0].port, proxies[1].port
        );
        Server::start(&dir.join("gateway"), &["--config", &config(dir, "gateway.yaml", &text)])
    };
    let mut next = 0;
    let mut acknowledged = Vec::new();
    let mut send = |gateway: &Server, count: u64| {
        for _ in 0..count {
            let spans = vec![span(next, 1, 0, "a"), span(next, 2, 1, "b")];
            if gateway.export(&otlp("shop", spans)) == Some(200) {
                acknowledged.push(next);
            }
            next += 1;
        }
    };
    for mode in [SLOW, DEAD, FLAPPING, DEAD] {
        set(mode);
        let gateway = start(dir.path());
        send(&gateway, 30);
        gateway.kill();
    }
    set(FLAPPING);
    let gateway = start(dir.path());
    send(&gateway, 30);
    set(WELL);
    send(&gateway, 1);
    assert_eq!(acknowledged.len(), 151, "a next hop's trouble is no reason to refuse");
    let missing = |sink: &Server| {
        let is_whole = |number: &u64| {
            let answer = sink.get("http", &format!("/api/spanwise/traces/{}", hex(&trace_id(*number))));
            let trace: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            answer.status == 200 && trace["span_count"] == 2
        };
        acknowledged.iter().filter(|number| !is_whole(number)).count()
    };
    // Both exporters hand everything on, so that nothing waits and nothing failed for good.
    gateway.eventually("nothing waits any more", |gateway| {
        gateway.metric("otelcol_exporter_queue_size") == 0 && gateway.metric("spanwise_spool_records") == 0
    });
    sink.eventually("all that was acknowledged arrives", |sink| missing(sink) == 0);
    assert_eq!(gateway.metric("otelcol_exporter_send_failed_spans"), 0);
    assert_eq!(gateway.metric("spanwise_processor_batch_dropped_spans"), 0);
}
