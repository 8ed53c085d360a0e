//! A disk that is full: no yes that is not kept, reading goes on, and all is well once there is room again.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::process::Command;

use crate::harness::{Server, hex, otlp, span, trace_id};

/// A file system of its own for the server, 160 MiB large, where only it and `/proc` reach.
fn start_on_small_disk(dir: &std::path::Path) -> Server {
    let script = "mount -t tmpfs -o size=160m none \"$1\" && shift && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]);
    command.arg(dir).arg(env!("CARGO_BIN_EXE_spanwise"));
    Server::start_by(command, &["--data-dir", dir.to_str().unwrap()])
}

#[test]
fn a_full_disk_refuses_keeps_what_was_promised_and_heals() {
    let dir = tempfile::tempdir().unwrap();
    let server = start_on_small_disk(dir.path());
    // The server's own view of its disk.
    let ballast = PathBuf::from(format!("/proc/{}/root{}/ballast", server.pid(), dir.path().display()));
    let next = Cell::new(0);
    let acknowledged = RefCell::new(Vec::new());
    let send = |server: &Server| {
        let mut one = span(next.get(), 1, 0, "work");
        // 256 KiB a request, so that the log needs another segment soon.
        one.trace_state = "x".repeat(256 << 10);
        let status = server.export(&otlp("shop", vec![one]));
        if status == Some(200) {
            acknowledged.borrow_mut().push(next.get());
        }
        next.set(next.get() + 1);
        status
    };
    assert_eq!(send(&server), Some(200));
    let free = fill(&ballast);
    assert!(free < 1 << 20, "{free} bytes are still free");
    let mut refused = None;
    for _ in 0..600 {
        let status = send(&server);
        if status != Some(200) {
            refused = status;
            break;
        }
    }
    assert_eq!(refused, Some(503), "a full disk refuses, and says that trying again may help");
    // Reading goes on.
    assert_eq!(server.json("http", "/api/services")["data"][0], "shop");
    assert_eq!(server.json("http", &format!("/api/spanwise/traces/{}", hex(&trace_id(0))))["span_count"], 1);
    std::fs::remove_file(&ballast).unwrap();
    server.eventually("room is used again", |server| send(server) == Some(200));
    let acknowledged = acknowledged.into_inner();
    for number in &acknowledged {
        let trace = server.json("http", &format!("/api/spanwise/traces/{}", hex(&trace_id(*number))));
        assert_eq!(trace["span_count"], 1, "trace {number}");
    }
    assert_eq!(server.metric("spanwise_store_spans"), acknowledged.len() as u64);
}

/// Writes until the disk is full; bytes that are left.
fn fill(path: &std::path::Path) -> u64 {
    use std::io::Write as _;
    let mut file = std::fs::File::create(path).unwrap();
    for size in [1 << 20, 4 << 10] {
        let block = vec![1; size];
        while file.write_all(&block).is_ok() {}
    }
    let output = Command::new("stat").args(["-f", "-c", "%a %S"]).arg(path).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().map(|number| number.parse::<u64>().unwrap()).product()
}
