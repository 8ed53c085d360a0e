//! Blocks in a bucket of a real server that speaks S3: moto, from PyPI.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::harness::{Server, hex, otlp, request, span, text, trace_id};

/// A version known to honour conditional puts.
const MOTO: &str = "moto[server]==5.1.22";

/// The environment with moto in it, installed once into the cache.
fn moto() -> &'static Path {
    static READY: OnceLock<PathBuf> = OnceLock::new();
    READY.get_or_init(|| {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.unwrap_or_else(|| Path::new(&std::env::var_os("HOME").unwrap()).join(".cache"));
        let directory = cache.join("spanwise/test-s3");
        std::fs::create_dir_all(&directory).unwrap();
        let lock = std::fs::File::create(directory.join("lock")).unwrap();
        lock.lock().unwrap();
        let ready = directory.join("ready");
        if std::fs::read_to_string(&ready).is_ok_and(|version| version == MOTO) {
            return directory;
        }
        let run = |program: &Path, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).current_dir(&directory).output().unwrap();
            assert!(output.status.success(), "{program:?} {arguments:?}: {}", text(&output.stderr));
        };
        run(Path::new("python3"), &["-m", "venv", "--clear", "venv"]);
        let pip = directory.join("venv/bin/pip");
        run(&pip, &["install", "--quiet", "--disable-pip-version-check", MOTO]);
        std::fs::write(ready, MOTO).unwrap();
        directory
    })
}

/// A server with an empty bucket named `traces`.
struct S3 {
    child: Child,
    port: u16,
}

impl S3 {
    fn start() -> S3 {
        let directory = moto();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(directory.join("venv/bin/moto_server"))
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let s3 = S3 { child, port };
        let started = Instant::now();
        while request(port, "PUT", "/traces", &[], b"").map_or(0, |answer| answer.status) != 200 {
            assert!(started.elapsed() < Duration::from_secs(60), "the S3 server does not answer");
            std::thread::park_timeout(Duration::from_millis(50));
        }
        s3
    }

    fn with_bucket(&self, mut command: Command) -> Command {
        command
            .env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", self.port))
            .env("AWS_ACCESS_KEY_ID", "someone")
            .env("AWS_SECRET_ACCESS_KEY", "something")
            .env("AWS_REGION", "us-east-1")
            .env("SPANWISE_OBJECT_STORE", "s3://traces/prod/eu")
            .env_remove("SPANWISE_DATA_DIR");
        command
    }

    fn spanwise(&self, arguments: &[&str]) -> Output {
        self.with_bucket(Command::new(env!("CARGO_BIN_EXE_spanwise"))).args(arguments).output().unwrap()
    }

    fn serve(&self, dir: &Path) -> Server {
        let command = self.with_bucket(Command::new(env!("CARGO_BIN_EXE_spanwise")));
        Server::start_by(command, &["--data-dir", dir.to_str().unwrap()])
    }

    /// Names of all objects.
    fn objects(&self) -> Vec<String> {
        let answer = request(self.port, "GET", "/traces?list-type=2", &[], b"").unwrap();
        let body = text(&answer.body);
        body.split("<Key>").skip(1).filter_map(|rest| Some(rest.split_once('<')?.0.to_owned())).collect()
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A file that `import` reads: one root of the service `shop`.
fn write_file(path: &Path, trace: u64, name: &str) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    let request = serde_json::json!({"resourceSpans": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]},
        "scopeSpans": [{"spans": [{
            "traceId": hex(&trace_id(trace)),
            "spanId": "0101010101010101",
            "name": name,
            "startTimeUnixNano": now.to_string(),
            "endTimeUnixNano": (now + 5_000_000).to_string(),
        }]}],
    }]});
    std::fs::write(path, request.to_string()).unwrap();
}

fn has_trace(server: &Server, number: u64, spans: u64) {
    let trace = server.json("http", &format!("/api/spanwise/traces/{}", hex(&trace_id(number))));
    assert_eq!(trace["span_count"], spans, "trace {number}");
}

#[test]
fn blocks_in_a_bucket_outlive_the_machine_that_wrote_them() {
    let s3 = S3::start();
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let dir = |dir: &tempfile::TempDir| dir.path().to_str().unwrap().to_owned();
    let server = s3.serve(first.path());
    assert_eq!(server.export(&otlp("shop", vec![span(1, 1, 0, "GET /cart"), span(1, 2, 1, "query")])), Some(200));
    has_trace(&server, 1, 2);
    server.kill();
    // What the log has becomes a block of the bucket.
    let file = first.path().join("more.json");
    write_file(&file, 2, "GET /orders");
    let output = s3.spanwise(&["import", file.to_str().unwrap(), "--data-dir", &dir(&first)]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let objects = s3.objects();
    assert!(
        objects.iter().any(|name| name.starts_with("prod/eu/blocks/") && name.ends_with("/spans.parquet")),
        "{objects:?}"
    );
    assert!(objects.iter().any(|name| name.starts_with("prod/eu/manifest/")), "{objects:?}");
    assert!(!first.path().join("blocks").exists());

    // Another machine takes over, with what it has not stored yet of its own.
    let server = s3.serve(second.path());
    has_trace(&server, 1, 2);
    has_trace(&server, 2, 1);
    let found = server.json("http", "/api/spanwise/search?q=%7B%20name%20%3D%20%22query%22%20%7D");
    assert_eq!(found["traces"][0]["trace_id"], hex(&trace_id(1)));
    // A span of a trace that lies in the bucket already, come late.
    assert_eq!(server.export(&otlp("auth", vec![span(1, 3, 1, "verify")])), Some(200));
    has_trace(&server, 1, 3);
    server.kill();
    write_file(&file, 3, "GET /orders");
    let output = s3.spanwise(&["import", file.to_str().unwrap(), "--data-dir", &dir(&second)]);
    assert!(output.status.success(), "{}", text(&output.stderr));

    // Without a data directory the bucket alone is read.
    let output = s3.spanwise(&["trace", &hex(&trace_id(1)), "--data-dir", "/nonexistent"]);
    assert!(text(&output.stdout).contains("verify"), "{}{}", text(&output.stdout), text(&output.stderr));

    // A data directory remembers where its blocks are.
    let output = Command::new(env!("CARGO_BIN_EXE_spanwise"))
        .args(["query", "{}", "--data-dir", &dir(&first)])
        .env_remove("SPANWISE_DATA_DIR")
        .output()
        .unwrap();
    assert!(text(&output.stderr).contains("its blocks are in s3://traces/prod/eu"), "{}", text(&output.stderr));
}

#[test]
fn a_bucket_that_cannot_be_used_is_a_clear_error() {
    let s3 = S3::start();
    let dir = tempfile::tempdir().unwrap();
    let run = |url: &str| {
        let arguments = ["serve", "--listen", "127.0.0.1:0", "--data-dir", dir.path().to_str().unwrap()];
        let output = s3.spanwise(&[&arguments[..], &["--object-store", url]].concat());
        assert!(!output.status.success());
        text(&output.stderr)
    };
    let told = run("s3://missing/prod");
    assert!(told.contains("cannot use s3://missing/prod") && told.contains("NoSuchBucket"), "{told}");
    let told = run("file:///tmp");
    assert!(told.contains("is not of the form s3://BUCKET/PREFIX"), "{told}");
}
