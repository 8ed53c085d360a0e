//! Load, `kill -9` at a random moment, restart: every acknowledged span is found, none twice.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::harness::{Server, hex, otlp, span, trace_id};

#[test]
fn crash_loses_no_acknowledged_span_and_doubles_none() {
    let cycles = std::env::var("SPANWISE_CRASH_CYCLES").ok().and_then(|text| text.parse().ok()).unwrap_or(50);
    let dir = tempfile::tempdir().unwrap();
    let next = AtomicU64::new(0);
    let acknowledged = Mutex::new(Vec::new());
    for cycle in 0..cycles {
        let server = Server::start(dir.path(), &[]);
        let stop = AtomicBool::new(false);
        let before = acknowledged.lock().unwrap().len();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let spans = (1..=5).map(|id| span(number, id, id - 1, "work")).collect();
                        if server.export(&otlp("shop", spans)) == Some(200) {
                            acknowledged.lock().unwrap().push(number);
                        }
                    }
                });
            }
            let moment = RandomState::new().hash_one(cycle) % 40;
            std::thread::park_timeout(Duration::from_millis(moment + 5));
            std::process::Command::new("kill").args(["-9", &server.pid().to_string()]).status().unwrap();
            stop.store(true, Ordering::Relaxed);
        });
        drop(server);
        let all = acknowledged.lock().unwrap();
        let server = Server::start(dir.path(), &[]);
        // What this cycle acknowledged, and a sample of what earlier ones did.
        let sample = all[..before].iter().step_by(before / 10 + 1);
        for number in all[before..].iter().take(100).chain(sample) {
            let trace = server.json("http", &format!("/api/spanwise/traces/{}", hex(&trace_id(*number))));
            assert_eq!(trace["span_count"], 5, "trace {number} in cycle {cycle}");
        }
        let stored = server.metric("spanwise_store_spans");
        assert!(stored >= all.len() as u64 * 5, "{stored} of {} spans", all.len() * 5);
        assert!(stored <= next.load(Ordering::Relaxed) * 5, "{stored} spans, more than were sent");
        server.kill();
    }
    let all = acknowledged.into_inner().unwrap();
    assert!(all.len() >= cycles as usize, "only {} requests were acknowledged", all.len());
    println!("{cycles} cycles, {} spans acknowledged, none missing", all.len() * 5);
}
