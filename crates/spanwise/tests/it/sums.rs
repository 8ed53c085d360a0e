//! For every span offered, accepted + refused + each drop reason add up.

use std::net::TcpListener;

use crate::harness::{Server, config, otlp, request, span};

/// Takes connections and never answers.
fn black_hole() -> (u16, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming().take(1_000) {
            let Ok(stream) = stream else { return };
            held.push(stream);
        }
    });
    (port, thread)
}

#[test]
fn every_span_offered_is_accounted_for() {
    let dir = tempfile::tempdir().unwrap();
    let (hole, _thread) = black_hole();
    let text = format!(
        "receivers: {{otlp: {{protocols: {{http: }}}}}}\n\
         processors: {{memory_limiter: {{limit_mib: 400}}}}\n\
         exporters:\n  file: {{path: '{}'}}\n  \
         otlp/hole: {{endpoint: '127.0.0.1:{hole}', tls: {{insecure: true}}, timeout: 200ms, compression: none, \
         retry_on_failure: {{enabled: false}}, sending_queue: {{queue_size: 4, num_consumers: 1}}}}\n  \
         otlp/dead: {{endpoint: '127.0.0.1:1', tls: {{insecure: true}}, retry_on_failure: {{enabled: false}}}}\n\
         service: {{pipelines: {{traces: {{receivers: [otlp], processors: [memory_limiter], exporters: [file, otlp/hole, otlp/dead]}}}}}}\n",
        dir.path().join("out.json").display()
    );
    let server = Server::start_in_memory(&["--config", &config(dir.path(), "c.yaml", &text)]);
    let port = server.port("otlp_http");
    // Three good spans and one bad one in each request; large ones among them.
    let bodies: Vec<Vec<u8>> = (0..60u64)
        .map(|number| {
            let mut spans: Vec<_> = (1..=3).map(|id| span(number, id, 0, "work")).collect();
            if number % 3 == 0 {
                spans[0].trace_state = "x".repeat(700 << 10);
            }
            let mut bad = span(number, 9, 0, "bad");
            bad.span_id.clear();
            spans.push(bad);
            otlp("shop", spans)
        })
        .collect();
    let offered = bodies.len() as u64 * 4;
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let senders: Vec<_> = bodies
            .chunks(15)
            .map(|bodies| {
                scope.spawn(move || {
                    let headers = [("content-type", "application/x-protobuf")];
                    let send = |body: &Vec<u8>| request(port, "POST", "/v1/traces", &headers, body).unwrap().status;
                    bodies.iter().map(send).collect::<Vec<_>>()
                })
            })
            .collect();
        senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect()
    });
    let yes = statuses.iter().filter(|status| **status == 200).count() as u64;
    assert!(statuses.iter().all(|status| matches!(status, 200 | 503)), "{statuses:?}");
    let accepted = server.metric("otelcol_receiver_accepted_spans");
    let refused = server.metric("otelcol_receiver_refused_spans");
    let rejected = server.metric("spanwise_receiver_rejected_spans");
    assert_eq!(server.metric("spanwise_receiver_refused_requests"), 0, "all were read");
    assert_eq!(accepted + refused + rejected, offered);
    assert_eq!((accepted, rejected), (yes * 3, bodies.len() as u64));
    assert!(yes > 0 && refused > 0, "{yes} of {} were taken", bodies.len());
    let limited = server.metric("otelcol_processor_refused_spans");
    let passed = server.metric("otelcol_processor_accepted_spans");
    assert_eq!(limited + passed, accepted + refused);
    // What passed the limiter went to each exporter: sent, failed or refused by its queue.
    let of = |name: &str, exporter: &str| server.metric(&format!("{name}{{exporter=\"{exporter}\"}}"));
    server.eventually("queues are empty", |server| server.metric("otelcol_exporter_queue_size") == 0);
    for exporter in ["file", "otlp/hole", "otlp/dead"] {
        let account = || {
            [
                "otelcol_exporter_sent_spans",
                "otelcol_exporter_send_failed_spans",
                "otelcol_exporter_enqueue_failed_spans",
            ]
            .map(|name| of(name, exporter))
        };
        server.eventually("all are accounted for", |_| account().iter().sum::<u64>() == passed);
    }
    assert_eq!(of("otelcol_exporter_sent_spans", "file"), passed);
    assert!(of("otelcol_exporter_enqueue_failed_spans", "otlp/hole") > 0);
    assert!(of("otelcol_exporter_send_failed_spans", "otlp/hole") > 0);
    assert_eq!(server.stop(), Some(0));
}
