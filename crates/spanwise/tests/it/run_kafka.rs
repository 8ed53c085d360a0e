//! A message goes from Python through Node.js to Java over a real Kafka broker: one trace.

use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::harness::{Server, request};
use super::run_programs::{Run, START, command, is_below, one, programs, spans};

/// A broker in KRaft mode on free ports, killed at the end.
struct Broker {
    child: Child,
    address: String,
    _directory: tempfile::TempDir,
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn java(arguments: &[&str]) -> Command {
    let mut command = Command::new("java");
    command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx384m", "-cp", "jars/*"]).args(arguments);
    command.current_dir(programs()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

impl Broker {
    fn start() -> Broker {
        let directory = tempfile::tempdir().unwrap();
        let (port, controller) = (free_port(), free_port());
        let address = format!("127.0.0.1:{port}");
        let settings = format!(
            "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://{address},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://{address}\ncontroller.listener.names=CONTROLLER\n\
             inter.broker.listener.name=PLAINTEXT\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\nlog.dirs={}\n\
             num.partitions=1\noffsets.topic.num.partitions=1\noffsets.topic.replication.factor=1\n\
             transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
             group.initial.rebalance.delay.ms=0\n",
            directory.path().join("log").display()
        );
        let file = directory.path().join("server.properties");
        std::fs::write(&file, settings).unwrap();
        let file = file.to_str().unwrap();
        let format = ["kafka.tools.StorageTool", "format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c", file];
        assert!(java(&format).status().unwrap().success(), "cannot format Kafka's storage");
        let child = java(&["kafka.Kafka", file]).spawn().unwrap();
        let mut broker = Broker { child, address, _directory: directory };
        let started = Instant::now();
        while std::net::TcpStream::connect(&broker.address).is_err() {
            assert!(broker.child.try_wait().unwrap().is_none() && started.elapsed() < START, "Kafka does not start");
            std::thread::park_timeout(std::time::Duration::from_millis(50));
        }
        broker
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_message_through_kafka_stays_one_trace() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(&home.path().join("data"), &[]);
    let endpoint = format!("http://127.0.0.1:{}", server.port("otlp_http"));
    let broker = Broker::start();
    let start = |name: &str, words: &[&str]| {
        let mut all = vec!["--quiet", "--service", name, "--endpoint", endpoint.as_str(), "--"];
        all.extend(words);
        Run::start(command(home.path(), &all).env("KAFKA", &broker.address))
    };
    // It makes the topics: the others come after it.
    let mut audit = start("audit", &["node", "audit.cjs"]);
    audit.port();
    let mut stock = start("stock", &["venv/bin/python", "stock.py"]);
    let mut invoices = start("invoices", &["java", "-cp", "classes:jars/*", "Invoices"]);
    let port = stock.port();
    invoices.port();
    let answer = request(port, "POST", "/order/tea", &[], b"").unwrap();
    assert_eq!(answer.status, 200, "{}", stock.err.lock().unwrap());
    invoices.wait_for("invoice", |line| (line == "INVOICE tea").then_some(()));
    let all = spans(&server, "{ resource.service.name = \"stock\" && name = \"POST /order/<item>\" }", 5);
    let chain = [
        one(&all, "stock", "server", "POST /order/<item>"),
        one(&all, "stock", "producer", "orders send"),
        one(&all, "audit", "consumer", "process orders"),
        one(&all, "audit", "producer", "send invoices"),
        one(&all, "invoices", "consumer", "invoices process"),
    ];
    for pair in chain.windows(2) {
        assert!(is_below(&all, pair[1], pair[0]), "{} below {}", pair[1], pair[0]);
    }
    assert!(invoices.err.lock().unwrap().contains("invoice of tea trace_id="), "{}", invoices.err.lock().unwrap());
}
