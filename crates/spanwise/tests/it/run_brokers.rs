//! A real Kafka broker, and a real Redis, for the programs that `spanwise run` starts.

use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::run_programs::{START, programs};

/// A broker in KRaft mode on free ports, killed at the end.
pub struct Broker {
    child: Child,
    pub address: String,
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
    pub fn start() -> Broker {
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

/// `redis-server` on a free port, killed at the end.
pub struct Redis {
    child: Child,
    pub url: String,
}

impl Redis {
    pub fn start() -> Redis {
        let port = free_port();
        let arguments = ["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string()];
        let mut child = Command::new("redis-server").args(arguments).stdout(Stdio::null()).spawn().unwrap();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(child.try_wait().unwrap().is_none(), "redis-server does not start");
            std::thread::park_timeout(std::time::Duration::from_millis(20));
        }
        Redis { child, url: format!("redis://127.0.0.1:{port}/") }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
