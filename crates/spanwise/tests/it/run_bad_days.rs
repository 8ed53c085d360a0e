//! Whatever goes wrong on our side costs traces, never the program.

use std::path::Path;
use std::process::Command;

use super::harness::{Server, request, text};
use super::run_programs::{Run, command, find, get, programs, spans_of};

fn endpoint(server: &Server) -> String {
    format!("http://127.0.0.1:{}", server.port("otlp_http"))
}

const DEAD: &str = "http://127.0.0.1:1";

#[test]
fn agents_that_cannot_be_had_are_left_out() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(&home.path().join("data"), &[]);
    let endpoint = endpoint(&server);
    let run = |words: &[&str]| {
        let mut all = vec!["--endpoint", endpoint.as_str(), "--"];
        all.extend(words);
        let mut command = command(home.path(), &all);
        command
            .env("SPANWISE_AGENTS_DIR", home.path().join("agents"))
            .envs([("PIP_INDEX_URL", DEAD), ("PIP_FIND_LINKS", ""), ("PIP_RETRIES", "0"), ("PIP_NO_CACHE_DIR", "1")])
            .envs([("UV_DEFAULT_INDEX", DEAD), ("UV_HTTP_RETRIES", "0"), ("UV_NO_CACHE", "1"), ("UV_NO_CONFIG", "1")])
            .envs([("npm_config_registry", DEAD), ("npm_config_fetch_retries", "0")])
            .env("npm_config_cache", home.path().join("npm"));
        Run::start(&mut command).end()
    };
    for (words, title) in
        [(["venv/bin/python", "-c", "print('ran')"], "Python"), (["node", "-e", "console.log('ran')"], "Node.js")]
    {
        let (status, out, err) = run(&words);
        assert_eq!((status, out.as_str()), (Some(0), "ran\n"), "{err}");
        let warnings = err.lines().filter(|line| line.contains("warning:")).count();
        assert!(err.contains(&format!("warning: no traces of {title}: ")) && warnings == 1, "{err}");
    }
    // The jar is there, and is none.
    let jar = home.path().join("agents/java/2.23.0");
    std::fs::create_dir_all(&jar).unwrap();
    std::fs::write(jar.join("opentelemetry-javaagent.jar"), b"broken").unwrap();
    std::fs::write(jar.join("spanwise-installed.json"), b"{}").unwrap();
    let (status, _, err) = run(&["java", "-version"]);
    assert_eq!(status, Some(0), "{err}");
    assert!(err.contains("warning: no traces of Java: ") && err.contains("does not start with it"), "{err}");
}

#[test]
fn packages_that_clash_are_named() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(&home.path().join("data"), &[]);
    let old = home.path().join("old/typing_extensions-4.0.0.dist-info");
    std::fs::create_dir_all(&old).unwrap();
    std::fs::write(old.join("METADATA"), "Metadata-Version: 2.1\nName: typing_extensions\nVersion: 4.0.0\n").unwrap();
    let words =
        ["--endpoint", &endpoint(&server), "--", "venv/bin/python", "-c", "import sys; print(sys.path[0] == '')"];
    let mut python = command(home.path(), &words);
    let (status, out, err) = Run::start(python.env("PYTHONPATH", home.path().join("old"))).end();
    assert_eq!((status, out.as_str()), (Some(0), "True\n"), "{err}");
    assert!(err.contains("its packages clash with the agent's: typing-extensions is 4.0.0"), "{err}");
}

/// What a script starts may be another interpreter than the one that was looked at: then `spanwise run` says so.
#[test]
fn an_interpreter_without_agent_is_named() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(&home.path().join("data"), &[]);
    let script =
        "SPANWISE_PYTHON_AGENT=/nowhere venv/bin/python -c 'print(1)'; SPANWISE_NODE_AGENT=/nowhere node -e ''";
    let words = ["--endpoint", &endpoint(&server), "--", "sh", "-c", script];
    let (status, out, err) = Run::start(&mut command(home.path(), &words)).end();
    assert_eq!((status, out.as_str()), (Some(0), "1\n"), "{err}");
    let told =
        |part: &str| err.lines().filter(|line| line.contains("warning: no traces of") && line.contains(part)).count();
    assert_eq!((told("spanwise agents install python --interpreter"), told("Node.js")), (1, 1), "{err}");
}

#[test]
fn without_a_server_the_program_runs() {
    let home = tempfile::tempdir().unwrap();
    let words = ["--endpoint", DEAD, "--no-server", "--", "venv/bin/python", "-c", "print('ran')"];
    let (status, out, err) = Run::start(&mut command(home.path(), &words)).end();
    assert_eq!((status, out.as_str()), (Some(0), "ran\n"), "{err}");
    assert!(err.contains("warning: nothing listens at http://127.0.0.1:1 and --no-server forbids"), "{err}");
    // Also where there is a span of the command itself.
    let words = ["--quiet", "--endpoint", DEAD, "--no-server", "--", "true"];
    let (status, _, err) = Run::start(&mut command(home.path(), &words)).end();
    assert_eq!((status, err.lines().count()), (Some(0), 1), "{err}");
    let words = ["--endpoint", "nonsense", "--", "sh", "-c", "echo ran; exit 4"];
    let (status, out, err) = Run::start(&mut command(home.path(), &words)).end();
    assert_eq!((status, out.as_str()), (Some(4), "ran\n"), "{err}");
    assert!(err.contains("warning: cannot use the endpoint"), "{err}");
}

/// The server is killed while programs run: they answer as before, print nothing, and end by SIGTERM in good time. When it
/// comes back, so do their traces.
#[test]
fn a_server_that_dies_costs_only_spans() {
    let home = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = format!("receivers::otlp::protocols::http::endpoint=127.0.0.1:{port}");
    let serve = || Server::start(&home.path().join("data"), &["--set", &listen]);
    let server = serve();
    let endpoint = format!("http://127.0.0.1:{port}");
    let start = |words: &[&str]| {
        let mut all = vec!["--quiet", "--endpoint", endpoint.as_str(), "--"];
        all.extend(words);
        Run::start(&mut command(home.path(), &all))
    };
    let (mut stock, mut audit) = (start(&["venv/bin/python", "stock.py"]), start(&["node", "audit.cjs"]));
    let (stock_port, audit_port) = (stock.port(), audit.port());
    assert_eq!(get(stock_port, "/slow", &[]), (200, "ok".to_owned()));
    let of = |service: &str| format!("{{ resource.service.name = \"{service}\" && kind = server }}");
    server.eventually("a first trace", |server| !find(server, &of("stock")).is_empty());
    server.kill();
    for _ in 0..50 {
        assert_eq!(get(stock_port, "/slow", &[]), (200, "ok".to_owned()));
        assert_eq!(get(audit_port, "/", &[]), (200, "noted".to_owned()));
    }
    let server = serve();
    for (service, port) in [("stock", stock_port), ("spanwise-test-programs", audit_port)] {
        let before = find(&server, &of(service)).len();
        server.eventually("traces again", |server| {
            std::thread::park_timeout(std::time::Duration::from_millis(200));
            assert_eq!(get(port, "/slow", &[]).0, 200);
            find(server, &of(service)).len() > before
        });
    }
    server.kill();
    let _ = (get(stock_port, "/slow", &[]), get(audit_port, "/", &[]));
    for run in [stock, audit] {
        run.signal("TERM");
        let (status, _, err) = run.end();
        assert_eq!((status, err.as_str()), (Some(143), ""));
    }
}

/// Somebody kills the shared server: a run that sends to it starts it again at the same address.
#[test]
fn a_shared_server_that_dies_is_started_again() {
    let home = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let words = ["--endpoint", &format!("http://127.0.0.1:{port}"), "--", "node", "audit.cjs"];
    let mut run = Run::start(&mut command(home.path(), &words));
    let audit = run.port();
    let lock = std::fs::read_to_string(home.path().join("share/spanwise/lock")).unwrap();
    let holder: serde_json::Value = serde_json::from_str(&lock).unwrap();
    assert!(Command::new("kill").args(["-9", &holder["pid"].to_string()]).status().unwrap().success());
    run.wait_for("a new server", |line| line.contains("was started again: http://").then_some(()));
    assert_eq!(get(audit, "/", &[]), (200, "noted".to_owned()));
    run.signal("TERM");
    let (status, _, err) = run.end();
    assert_eq!(status, Some(143), "{err}");
    assert!(err.contains("1 span in 1 trace") && err.contains("spanwise-test-programs GET"), "{err}");
}

/// What could not be delivered is counted, and told at the end.
#[test]
fn spans_that_are_lost_are_counted() {
    let home = tempfile::tempdir().unwrap();
    for (program, path) in
        [("venv/bin/python stock.py", "/slow"), ("node audit.cjs", "/slow"), ("java -jar price.jar", "/broken")]
    {
        let server = Server::start(&home.path().join("data"), &[]);
        let endpoint = endpoint(&server);
        let script = format!("exec {program}");
        let mut run = Run::start(&mut command(home.path(), &["--endpoint", &endpoint, "--", "sh", "-c", &script]));
        let port = run.port();
        server.kill();
        for _ in 0..7 {
            // Java's server closes the connection after an exception.
            let _ = request(port, "GET", path, &[], b"");
        }
        run.signal("TERM");
        let (status, _, err) = run.end();
        assert_eq!(status, Some(143), "{err}");
        // One of the command itself.
        assert!(
            err.contains("warning: 7 spans were not delivered") && err.contains("the span of the command"),
            "{err}"
        );
    }
}

/// A fresh machine: the agent comes with the first run. Interpreter and directory are named from where one stands.
#[test]
fn the_first_run_fetches_the_agent() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(&home.path().join("data"), &[]);
    let endpoint = endpoint(&server);
    std::os::unix::fs::symlink(programs().join("venv"), home.path().join("venv")).unwrap();
    let words = ["--agents-dir", "agents", "--endpoint", &endpoint, "--", "venv/bin/python", "-c", "print('ran')"];
    for fetched in [true, false] {
        let mut python = command(home.path(), &words);
        python.current_dir(home.path());
        python.env("PIP_NO_INDEX", "1").env("PIP_FIND_LINKS", programs().join("wheels"));
        let (status, out, err) = Run::start(&mut python).end();
        assert_eq!((status, out.as_str()), (Some(0), "ran\n"), "{err}");
        assert!(err.contains("tracing Python") && !err.contains("warning"), "{err}");
        assert_eq!(err.contains("fetching the Python agent (once)"), fetched, "{err}");
    }
}

/// No home directory to write to: agents, data and hooks find another place, or are done without.
#[test]
fn a_home_that_cannot_be_written() {
    let home = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let endpoint = format!("http://127.0.0.1:{port}");
    let words = ["--endpoint", &endpoint, "--", "venv/bin/python", "-c", "print('ran')"];
    let mut python = command(home.path(), &words);
    python.env("HOME", "/dev/null").env("TMPDIR", home.path()).env_remove("XDG_DATA_HOME").env_remove("XDG_CACHE_HOME");
    let (status, out, err) = Run::start(&mut python).end();
    assert_eq!((status, out.as_str()), (Some(0), "ran\n"), "{err}");
    assert!(err.contains("tracing Python") && !err.contains("warning"), "{err}");
}

fn requests_of_workers(home: &Path, server: &Server, name: &str, words: &[&str]) {
    let endpoint = endpoint(server);
    let mut all = vec!["--quiet", "--service", name, "--endpoint", endpoint.as_str(), "--"];
    all.extend(words);
    let mut run = Run::start(&mut command(home, &all));
    let port = run.wait_for("port", |line| {
        let line = line.strip_prefix("PORT ").or_else(|| line.split("Listening at: http://127.0.0.1:").nth(1))?;
        line.split(' ').next()?.parse().ok()
    });
    for _ in 0..40 {
        assert_eq!(get(port, "/slow", &[]).0, 200);
    }
    run.signal("TERM");
    let (status, _, err) = run.end();
    assert!(matches!(status, Some(0 | 143)), "{status:?}: {err}");
    let query = format!("{{ resource.service.name = \"{name}\" && kind = server }}");
    server.eventually("every request of every worker", |server| find(server, &query).len() == 40);
}

#[test]
fn programs_that_fork() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(&home.path().join("data"), &[]);
    let gunicorn = ["venv/bin/gunicorn", "--workers", "3", "--bind", "127.0.0.1:0", "stock:app"];
    requests_of_workers(home.path(), &server, "gunicorn", &gunicorn);
    let cluster = "const cluster = require('node:cluster'); const http = require('node:http');
        if (cluster.isPrimary) { for (let i = 0; i < 3; i++) cluster.fork(); let up = 0;
            cluster.on('listening', (w, a) => { if (++up === 3) console.log('PORT ' + a.port); });
            process.on('SIGTERM', () => { for (const w of Object.values(cluster.workers)) w.kill('SIGTERM');
                cluster.on('exit', () => { if (Object.keys(cluster.workers).length === 0) process.exit(0); }); });
        } else { http.createServer((q, r) => r.end('ok')).listen(0, '127.0.0.1'); }";
    let file = home.path().join("cluster.cjs");
    std::fs::write(&file, cluster).unwrap();
    requests_of_workers(home.path(), &server, "cluster", &["node", file.to_str().unwrap()]);
}

/// Ten thousand spans in a second and a bit, all of one trace: every one of them arrives.
#[test]
fn a_program_that_makes_ten_thousand_spans_a_second() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(&home.path().join("data"), &[]);
    let script = "import time
from opentelemetry import trace
tracer = trace.get_tracer('burst')
with tracer.start_as_current_span('root'):
    for _ in range(100):
        started = time.monotonic()
        for _ in range(100):
            tracer.start_span('one').end()
        time.sleep(max(0, 0.01 - (time.monotonic() - started)))
";
    let words =
        ["--quiet", "--service", "burst", "--endpoint", &endpoint(&server), "--", "venv/bin/python", "-c", script];
    let (status, _, err) = Run::start(&mut command(home.path(), &words)).end();
    assert_eq!((status, err.as_str()), (Some(0), ""));
    let id = find(&server, "{ name = \"root\" }").remove(0);
    assert_eq!(spans_of(&server, &id).len(), 10_001);
}

/// `agents list` and an air-gapped directory.
#[test]
fn agents_are_listed() {
    let run = |words: &[&str]| Command::new(env!("CARGO_BIN_EXE_spanwise")).args(words).output().unwrap();
    let directory = super::run_programs::agents_dir();
    let _ = programs();
    let words = ["agents", "install", "python", "--agents-dir", directory.to_str().unwrap()];
    let output = run(&words);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let output = run(&["agents", "list", "--format", "json", "--agents-dir", directory.to_str().unwrap()]);
    let list: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let is_python = |entry: &serde_json::Value| entry["runtime"] == "python" && entry["current"] == true;
    assert!(list["installed"].as_array().unwrap().iter().any(is_python), "{list}");
}

/// An older Spanwise left its Java agent: the one of this version comes by Maven, checked, and the old one goes.
#[test]
fn agents_are_brought_up_to_date() {
    let home = tempfile::tempdir().unwrap();
    let old = home.path().join("java/1.0.0");
    std::fs::create_dir_all(&old).unwrap();
    std::fs::write(old.join("spanwise-installed.json"), b"{}").unwrap();
    let run = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_spanwise"));
        let output = command.arg("agents").args(words).arg("--agents-dir").arg(home.path()).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let listed = run(&["list"]);
    assert!(listed.contains("1.0.0") && listed.contains("(of another Spanwise"), "{listed}");
    let told = run(&["update"]);
    assert!(told.contains("java 2.23.0: installed") && told.contains("java 1.0.0: removed"), "{told}");
    let list: serde_json::Value = serde_json::from_str(&run(&["list", "--format", "json"])).unwrap();
    let [java] = &list["installed"].as_array().unwrap()[..] else { panic!("{list}") };
    assert_eq!(
        (&java["runtime"], &java["version"], &java["current"]),
        (&"java".into(), &"2.23.0".into(), &true.into())
    );
    assert!(home.path().join("java/2.23.0/opentelemetry-javaagent.jar").is_file() && !old.exists());
}
