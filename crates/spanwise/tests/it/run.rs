//! `spanwise run` with real programs of three runtimes, and what it leaves alone.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value as Json;

use super::harness::{Server, text};
use super::run_programs::{Run, command, find, get, isolate, one, programs, spans};

pub fn endpoint(server: &Server) -> String {
    format!("http://127.0.0.1:{}", server.port("otlp_http"))
}

pub fn service(home: &Path, server: &Server, name: &str, words: &[&str], variables: &[(&str, String)]) -> Run {
    let endpoint = endpoint(server);
    let mut arguments = vec!["--quiet", "--service", name, "--endpoint", &endpoint, "--"];
    arguments.extend(words);
    let mut command = command(home, &arguments);
    for (name, value) in variables {
        command.env(name, value);
    }
    Run::start(&mut command)
}

/// One prefix before a script traces what it starts, each under a name of its own.
#[test]
fn a_script_with_programs_of_two_runtimes() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(&home.path().join("data"), &[]);
    let script = home.path().join("stack.sh");
    let body = "#!/bin/sh\nnode audit.cjs & audit=$!\nvenv/bin/python stock.py & stock=$!\n\
        trap 'kill $audit $stock; wait; exit 5' TERM\nwait\n";
    std::fs::write(&script, body).unwrap();
    let endpoint = endpoint(&server);
    let words = ["--quiet", "--endpoint", &endpoint, "--", "sh", script.to_str().unwrap()];
    let run = Run::start(&mut command(home.path(), &words));
    let ports =
        || run.out.lock().unwrap().lines().filter_map(|line| line.strip_prefix("PORT ")?.parse().ok()).collect();
    server.eventually("two ports", |_| Vec::<u16>::len(&ports()) == 2);
    for port in ports() {
        let _ = get(port, "/slow", &[]);
    }
    let of = |service: &str| format!("{{ resource.service.name = \"{service}\" && kind = server }}");
    // The name in package.json, and that of the script.
    for name in ["spanwise-test-programs", "stock"] {
        server.eventually(name, |server| find(server, &of(name)).len() == 1);
    }
    run.signal("TERM");
    assert_eq!(run.end().0, Some(5));
    let script = spans(&server, "{ resource.service.name = \"sh\" }", 1);
    assert_eq!(one(&script, "sh", "internal", "sh")["attributes"]["process.exit.code"], 5);
}

/// npm's script is traced, npm itself is not.
#[test]
fn a_script_of_npm() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(&home.path().join("data"), &[]);
    let endpoint = endpoint(&server);
    let words = ["--quiet", "--endpoint", &endpoint, "--", "npm", "start", "--silent"];
    let mut run = Run::start(command(home.path(), &words).env("ONCE", "1"));
    assert_eq!(get(run.port(), "/", &[]), (200, "noted".to_owned()));
    let (status, _, err) = run.end();
    assert_eq!((status, err.as_str()), (Some(0), ""));
    let all = spans(&server, "{ kind = server }", 1);
    assert_eq!(one(&all, "spanwise-test-programs", "server", "GET")["parent_span_id"], Json::Null);
    assert_eq!(find(&server, "{ kind = client }").len(), 0);
}

#[test]
fn a_plain_command_is_a_span_and_runs_inside_it_join() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(&home.path().join("share/spanwise"), &[]);
    let endpoint = endpoint(&server);
    let spanwise = env!("CARGO_BIN_EXE_spanwise");
    let script = format!("{spanwise} run --service inner -- ls build >/dev/null 2>&1; exit 3");
    let words = ["--endpoint", &endpoint, "--service", "outer", "--", "sh", "-c", &script];
    let (status, out, err) = Run::start(&mut command(home.path(), &words)).end();
    assert_eq!((status, out.as_str()), (Some(3), ""), "{err}");
    assert!(err.contains("2 spans in 1 trace"), "{err}");
    let all = spans(&server, "{ resource.service.name = \"outer\" }", 2);
    let (outer, inner) = (one(&all, "outer", "internal", "sh"), one(&all, "inner", "internal", "ls build"));
    assert_eq!((&outer["status"], &outer["attributes"]["process.exit.code"]), (&"error".into(), &3.into()));
    assert_eq!(inner["parent_span_id"], outer["span_id"]);

    let grpc = format!("http://127.0.0.1:{}", server.port("otlp_grpc"));
    let words = ["--quiet", "--endpoint", &grpc, "--service", "over-grpc", "--", "true"];
    let mut run = command(home.path(), &words);
    let (status, _, err) = Run::start(run.env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")).end();
    assert_eq!((status, err.as_str()), (Some(0), ""));
    assert_eq!(spans(&server, "{ resource.service.name = \"over-grpc\" }", 1)[0]["name"], "true");
}

#[test]
fn streams_signals_status_and_directory_are_the_programs() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(&home.path().join("data"), &[]);
    let endpoint = endpoint(&server);
    let run = |words: &[&str]| {
        let mut all = vec!["--quiet", "--endpoint", endpoint.as_str(), "--"];
        all.extend(words);
        command(home.path(), &all)
    };
    let plain = home.path().join("plain.txt");
    std::fs::write(&plain, b"no program").unwrap();
    for (words, expected) in [
        (vec!["sh", "-c", "exit 7"], 7),
        (vec!["sh", "-c", "kill -9 $$"], 137),
        (vec!["no-such-program-anywhere"], 127),
        (vec![plain.to_str().unwrap()], 126),
        (vec![home.path().to_str().unwrap()], 126),
        // Before `--` it is an option that there is not, behind it no command.
        (vec!["--sevice"], 2),
        (vec!["true"], 0),
    ] {
        let (status, _, err) = Run::start(&mut run(&words)).end();
        assert_eq!(status, Some(expected), "{words:?}: {err}");
    }
    let mut cat = run(&["sh", "-c", "pwd; cat; echo heard >&2"]);
    let mut child = cat.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"said\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(text(&output.stdout), format!("{}\nsaid\n", programs().canonicalize().unwrap().display()));
    assert_eq!(text(&output.stderr), "heard\n");
    for signal in ["TERM", "INT", "HUP", "USR1"] {
        let script = format!("trap 'echo got {signal}; exit 9' {signal}; echo ready; while :; do read line <&3; done");
        let fifo = home.path().join(format!("fifo-{signal}"));
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let mut waiting = Run::start(&mut run(&["sh", "-c", &format!("exec 3<>{}; {script}", fifo.display())]));
        waiting.wait_for("ready", |line| (line == "ready").then_some(()));
        waiting.signal(signal);
        let (status, out, err) = waiting.end();
        assert_eq!((status, out), (Some(9), format!("ready\ngot {signal}\n")), "{err}");
    }
}

/// The terminal sends Ctrl-C to the program as well as to us: handed on, it would come twice.
#[test]
fn ctrl_c_at_a_terminal_arrives_once() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(&home.path().join("data"), &[]);
    let mut command = Command::new("python3");
    command.arg("terminal.py").args([env!("CARGO_BIN_EXE_spanwise"), "run", "--endpoint", &endpoint(&server), "--"]);
    let script =
        "n=0; trap 'n=$((n+1))' INT; echo ready; while [ $n = 0 ]; do sleep 0.1; done; sleep 0.5; echo got $n; exit 6";
    isolate(&mut command, home.path());
    let output = command.args(["sh", "-c", script]).output().unwrap();
    let shown = text(&output.stdout);
    assert!(output.status.code() == Some(6) && shown.contains("got 1"), "{:?}: {shown}", output.status);
}

/// What the user has set stays: options of Node.js, a sitecustomize of Python, names of services.
#[test]
fn what_the_user_has_set_stays() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(&home.path().join("data"), &[]);
    let endpoint = endpoint(&server);
    let own = home.path().join("own");
    std::fs::create_dir_all(&own).unwrap();
    std::fs::write(own.join("sitecustomize.py"), "import os; os.environ['OWN_SITE'] = 'yes'\n").unwrap();
    std::fs::write(own.join("app.py"), "import os, sys\nprint(os.environ['OWN_SITE'], sys.argv[1:])\n").unwrap();
    let app = own.join("app.py");
    let words = ["--quiet", "--endpoint", &endpoint, "--", "venv/bin/python", app.to_str().unwrap(), "a b", "--c"];
    let mut python = command(home.path(), &words);
    let (status, out, err) = Run::start(python.env("PYTHONPATH", &own)).end();
    assert_eq!((status, out.as_str()), (Some(0), "yes ['a b', '--c']\n"), "{err}");
    let script = "console.log(process.execArgv.length, process.title, process.env.NODE_OPTIONS.split(' ')[0])";
    let words = ["--quiet", "--endpoint", &endpoint, "--", "node", "-e", script];
    let mut node = command(home.path(), &words);
    let (status, out, err) = Run::start(node.env("NODE_OPTIONS", "--title=mine")).end();
    assert_eq!((status, out.as_str()), (Some(0), "2 mine --title=mine\n"), "{err}");
    let words = ["--quiet", "--endpoint", &endpoint, "--", "sh", "-c", "java -version 2>&1"];
    let mut java = command(home.path(), &words);
    let (status, out, err) = Run::start(java.env("JAVA_TOOL_OPTIONS", "-Dmine=1")).end();
    let picked = out.lines().next().unwrap_or_default();
    assert!(
        picked.contains("-Dmine=1 -Xshare:off -javaagent:") && picked.ends_with("opentelemetry-javaagent.jar"),
        "{out}"
    );
    assert!(status == Some(0) && !out.contains("warning"), "{out}{err}");
    // The agent imports it before it is run, of which Python would warn.
    let words = ["--quiet", "--endpoint", &endpoint, "--", "venv/bin/python", "-m", "http.server", "--help"];
    let (status, out, err) = Run::start(&mut command(home.path(), &words)).end();
    assert!((status, err.as_str()) == (Some(0), "") && out.starts_with("usage:"), "{out}{err}");
}

/// Runs without a server share one; it ends with the last of them, and what it kept is still there.
#[test]
fn runs_share_one_server_that_lives_as_long_as_they_do() {
    let home = tempfile::tempdir().unwrap();
    // A port that nobody has: the one that a listener just gave up.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let endpoint = format!("http://127.0.0.1:{port}");
    let words = ["--endpoint", &endpoint, "--", "cat"];
    let page = |run: &mut Run| {
        run.wait_for("address", |line| line.strip_prefix("spanwise: look at the traces on http://").map(str::to_owned))
    };
    let start = || Run::start(command(home.path(), &words).stdin(Stdio::piped()));
    let (mut first, mut second) = (start(), start());
    let address = page(&mut first);
    assert_eq!(address, page(&mut second));
    let http: u16 = address.trim_end_matches('/').rsplit(':').next().unwrap().parse().unwrap();
    first.close_input();
    let (status, _, err) = first.end();
    assert_eq!(status, Some(0), "{err}");
    assert!(err.contains("1 span in 1 trace") && err.contains("no findings"), "{err}");
    assert_eq!(get(http, "/ready", &[]).0, 200);
    second.close_input();
    let (_, _, err) = second.end();
    let again =
        err.lines().find_map(|line| line.strip_prefix("spanwise: see them again: spanwise ")).unwrap().to_owned();
    let started = std::time::Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", http)).is_ok() {
        assert!(started.elapsed() < super::run_programs::START, "the shared server outlives its runs");
        std::thread::park_timeout(std::time::Duration::from_millis(50));
    }
    let shown =
        Command::new("sh").args(["-c", &format!("{} {again}", env!("CARGO_BIN_EXE_spanwise"))]).output().unwrap();
    assert!(text(&shown.stdout).contains("cat cat"), "{again}: {}{}", text(&shown.stdout), text(&shown.stderr));
}

/// A script that starts a program and ends leaves it behind: the shared server lives on for it.
#[test]
fn programs_left_behind_keep_their_server() {
    let home = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let endpoint = format!("http://127.0.0.1:{port}");
    let printed = home.path().join("printed");
    let script = format!(
        "node audit.cjs >{0} 2>&1 </dev/null & echo $!; until grep -q PORT {0}; do sleep 0.05; done",
        printed.display()
    );
    let words = ["--endpoint", &endpoint, "--", "sh", "-c", &script];
    let (status, out, err) = Run::start(&mut command(home.path(), &words)).end();
    assert!(status == Some(0) && err.contains("1 program still runs"), "{err}");
    let address = err.lines().find_map(|line| line.strip_prefix("spanwise: look at the traces on http://")).unwrap();
    let http: u16 = address.trim_end_matches('/').rsplit(':').next().unwrap().parse().unwrap();
    let audit = std::fs::read_to_string(&printed).unwrap();
    let audit: u16 = audit.lines().find_map(|line| line.strip_prefix("PORT ")?.parse().ok()).unwrap();
    let wait = |what: &str, is_so: &dyn Fn() -> bool| {
        let started = std::time::Instant::now();
        while !is_so() {
            assert!(started.elapsed() < super::run_programs::START, "{what}");
            std::thread::park_timeout(std::time::Duration::from_millis(50));
        }
    };
    assert_eq!(get(audit, "/", &[]), (200, "noted".to_owned()));
    let query = "/api/spanwise/search?q=%7B%20kind%20%3D%20server%20%7D";
    wait("its trace is kept", &|| get(http, query, &[]).1.contains("spanwise-test-programs"));
    assert!(Command::new("kill").arg(out.trim()).status().unwrap().success());
    wait("the server ends after it", &|| std::net::TcpStream::connect(("127.0.0.1", http)).is_err());
}

/// Started as people start them: by their own commands.
#[test]
fn web_frameworks_of_python() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(&home.path().join("data"), &[]);
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let ports = [free(), free(), free()].map(|port| port.to_string());
    let address = format!("127.0.0.1:{}", ports[0]);
    for (name, words, port, path, span) in [
        (
            "django",
            vec!["venv/bin/python", "manage.py", "runserver", &address],
            &ports[0],
            "/hello/bob",
            "GET hello/<name>",
        ),
        (
            "fast",
            vec!["venv/bin/uvicorn", "--port", &ports[1], "fast:app"],
            &ports[1],
            "/hello/bob",
            "GET /hello/{name}",
        ),
        ("flask", vec!["venv/bin/flask", "--app", "stock", "run", "-p", &ports[2]], &ports[2], "/slow", "GET /slow"),
    ] {
        let port: u16 = port.parse().unwrap();
        let run = service(home.path(), &server, name, &words, &[]);
        server.eventually(name, |_| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        assert_eq!(get(port, path, &[]).0, 200, "{}", run.err.lock().unwrap());
        let query = format!("{{ resource.service.name = \"{name}\" && kind = server }}");
        assert_eq!(one(&spans(&server, &query, 1), name, "server", span)["parent_span_id"], Json::Null);
    }
}

/// From nothing to the first insight: a program asks the same thing again and again, and the run says so at its end.
#[test]
fn a_run_tells_what_its_traces_show() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(&home.path().join("share/spanwise"), &[]);
    let script = "import stock, sqlite3, flask
database = sqlite3.connect(':memory:', check_same_thread=False)
cursor = database.cursor()
cursor.execute('create table items (id integer, name text)')
@stock.app.get('/cart')
def cart():
    for item in range(30):
        cursor.execute('select name from items where id = ?', (item,)).fetchall()
    return 'ok'
client = stock.app.test_client()
for _ in range(3):
    assert client.get('/cart').status_code == 200
";
    let endpoint = endpoint(&server);
    let words = ["--endpoint", &endpoint, "--service", "cart", "--", "venv/bin/python", "-c", script];
    let (status, _, err) = Run::start(&mut command(home.path(), &words)).end();
    assert_eq!(status, Some(0), "{err}");
    let told = err.lines().find(|line| line.contains("n_plus_one")).unwrap_or_else(|| panic!("no finding: {err}"));
    assert!(told.contains("30") && err.contains("cart GET /cart"), "{err}");
}

#[test]
fn the_doctor_explains_and_sends_a_test_trace() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(&home.path().join("data"), &[]);
    let endpoint = endpoint(&server);
    let doctor = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_spanwise"));
        command.args(["doctor", "--no-server"]).args(words);
        isolate(&mut command, home.path());
        let output = command.output().unwrap();
        (output.status.code(), text(&output.stdout))
    };
    let (status, out) = doctor(&["--endpoint", &endpoint, "--", "venv/bin/python", "stock.py"]);
    assert_eq!(status, Some(0), "{out}");
    for expected in ["Python: venv/bin/python is Python; its agent works", "PYTHONPATH=", "a test trace was taken"] {
        assert!(out.contains(expected), "{expected}: {out}");
    }
    server.eventually("the test trace", |server| {
        find(server, "{ resource.service.name = \"spanwise-doctor\" }").len() == 1
    });
    let (status, out) = doctor(&["--endpoint", "http://127.0.0.1:1", "--", "no-such-program"]);
    assert_eq!(status, Some(1), "{out}");
    assert!(out.contains("command not found") && out.contains("nothing listens at http://127.0.0.1:1"), "{out}");
}
