//! OpenTelemetry's own samplers, and ours, ask the sampling server what to record, and follow when it changes its mind.

use std::cell::Cell;
use std::path::Path;
use std::process::Command;

use super::harness::{Server, config, request};
use super::run::service;
use super::run_programs::{Run, find, isolate, rust_shop};

/// Makes one request with these headers.
type Call<'a> = dyn Fn(&[(&str, &str)]) + 'a;

/// A store and a sampling server whose strategies are in a file.
struct Sampling<'a> {
    home: &'a Path,
    server: Server,
}

impl<'a> Sampling<'a> {
    fn start(home: &'a Path) -> Self {
        let source = format!("{{file: '{}', reload_interval: 50ms}}", write(home, "0"));
        let text = format!(
            "extensions: {{jaegerremotesampling: {{source: {source}}}}}\n\
             receivers: {{otlp: {{protocols: {{http: }}}}}}\nexporters: {{spanwise: }}\n\
             service: {{extensions: [jaegerremotesampling], \
             pipelines: {{traces: {{receivers: [otlp], exporters: [spanwise]}}}}}}\n"
        );
        let server = Server::start(&home.join("data"), &["--config", &config(home, "sampling.yaml", &text)]);
        Self { home, server }
    }

    fn argument(&self, port: &str) -> String {
        let port = self.server.port(port);
        format!("endpoint=http://127.0.0.1:{port},pollingIntervalMs=50,initialSamplingRate=0")
    }

    /// Nothing is recorded, then everything, then nothing again; `call` makes one trace of the service, with these
    /// headers.
    fn check(&self, service: &str, call: &Call<'_>) {
        let query = format!("{{ resource.service.name = \"{service}\" && kind = server }}");
        // Newest first.
        let known = || find(&self.server, &query);
        (0..5).for_each(|_| call(&[]));
        write(self.home, "1");
        self.server.eventually("what is asked for is recorded", |_| {
            call(&[]);
            !known().is_empty()
        });
        write(self.home, "0");
        let (attempts, name) = (Cell::new(0u64), service.bytes().fold(1u64, |name, byte| name * 31 + u64::from(byte)));
        self.server.eventually("what is not wanted any more is not recorded", |server| {
            attempts.set(attempts.get() + 1);
            let newest = known().first().cloned();
            (0..3).for_each(|_| call(&[]));
            // A caller that records is followed, and a program sends in order: what came before this has arrived.
            let last = format!("{name:016x}{:016x}", attempts.get());
            call(&[("traceparent", &format!("00-{last}-00f067aa0ba902b7-01"))]);
            server.eventually("what a caller records is recorded", |_| known().contains(&last));
            let known = known();
            known.first() == Some(&last) && known.get(1) == newest.as_ref()
        });
    }
}

/// A whole file at once: half a one would be an error.
fn write(home: &Path, rate: &str) -> String {
    let text = format!(r#"{{"default_strategy":{{"type":"probabilistic","param":{rate}}}}}"#);
    replace(home, &text)
}

fn replace(home: &Path, text: &str) -> String {
    let path = home.join("strategies.json");
    std::fs::rename(config(home, "strategies.new", text), &path).unwrap();
    path.to_str().unwrap().to_owned()
}

fn by_server(argument: String) -> [(&'static str, String); 2] {
    [("OTEL_TRACES_SAMPLER", "parentbased_jaeger_remote".to_owned()), ("OTEL_TRACES_SAMPLER_ARG", argument)]
}

/// The agent asks by gRPC.
#[test]
fn the_java_agent_follows_the_sampling_server() {
    let home = tempfile::tempdir().unwrap();
    let sampling = Sampling::start(home.path());
    let mut variables = by_server(sampling.argument("sampling_grpc")).to_vec();
    variables.push(("AUDIT_URL", "http://127.0.0.1:1".to_owned()));
    let mut price = service(home.path(), &sampling.server, "price", &["java", "-jar", "price.jar"], &variables);
    let port = price.port();
    // The JDK's server just closes the connection when a handler throws.
    sampling.check("price", &|headers| drop(request(port, "GET", "/broken", headers, b"")));
}

/// Ours, by either protocol, and what it records says how many it stands for.
#[test]
fn the_rust_sdk_follows_the_sampling_server() {
    let home = tempfile::tempdir().unwrap();
    let sampling = Sampling::start(home.path());
    let program = rust_shop();
    for (name, port) in [("by-http", "sampling"), ("by-grpc", "sampling_grpc")] {
        let mut variables = by_server(sampling.argument(port)).to_vec();
        variables.extend([("AUTH_URL", "http://127.0.0.1:1".to_owned()), ("SHOP", "healthy".to_owned())]);
        let mut run = service(home.path(), &sampling.server, name, &[program.to_str().unwrap()], &variables);
        let url = run.wait_for("address", |line| line.starts_with("http://").then(|| line.to_owned()));
        let port: u16 = url.split(['/', ':']).find_map(|part| part.parse().ok()).unwrap();
        let order = br#"{"user":"ada","total":1,"card":"new"}"#;
        sampling.check(name, &|headers| {
            let headers = [&[("content-type", "application/json")], headers].concat();
            assert_eq!(request(port, "POST", "/pay", &headers, order).unwrap().status, 200);
        });
    }
    let id = find(&sampling.server, "{ resource.service.name = \"by-grpc\" && kind = server }");
    // The oldest: the newest follow a caller.
    let id = id.last().unwrap();
    let trace = sampling.server.json("http", &format!("/api/spanwise/traces/{id}"));
    assert_eq!(trace["spans"][0]["trace_state"], "ot=th:0");
}

/// A program that says whenever its sampler changes its mind about two operations: by HTTP, a rate for each.
fn check_sampler(words: &[&str]) {
    let home = tempfile::tempdir().unwrap();
    let sampling = Sampling::start(home.path());
    let mut command = Command::new(words[0]);
    isolate(&mut command, home.path());
    command.args(&words[1..]).env("SAMPLING", format!("http://127.0.0.1:{}", sampling.server.port("sampling")));
    let mut program = Run::start(&mut command);
    let said = |run: &mut Run, what: &str| run.wait_for(what, |line| (line == what).then_some(()));
    said(&mut program, "SAMPLES false false");
    write(home.path(), "1");
    said(&mut program, "SAMPLES true true");
    let rates = r#"{"default_strategy":{"type":"probabilistic","param":1,"operation_strategies":[
        {"operation":"GET /rare","type":"probabilistic","param":0}]}}"#;
    replace(home.path(), rates);
    said(&mut program, "SAMPLES true false");
}

/// The package of OpenTelemetry for JavaScript.
#[test]
fn the_sampler_of_node_follows_the_sampling_server() {
    check_sampler(&["node", "sampled.cjs"]);
}

/// OpenTelemetry's `jaegerremote` for Go.
#[test]
fn the_sampler_of_go_follows_the_sampling_server() {
    check_sampler(&["./sampled"]);
}

/// Jaeger's own client for Python: OpenTelemetry for Python has no such sampler.
#[test]
fn the_sampler_of_python_follows_the_sampling_server() {
    check_sampler(&["venv/bin/python", "sampled.py"]);
}
