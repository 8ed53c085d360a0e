//! The Spanwise that a run sends to: the one that listens already, or one that this user's runs share;
//! `lease.rs` says how long the latter lives.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::fs::{FlockOperation, flock};
use serde_json::Value as Json;
use spanwise_store::Store;

use super::agents::{can_create, private_temporary, user_dir};
use super::endpoint::Endpoint;
use super::environment::RUN_ID;
use super::lease::{self, LEASE};
use crate::cli::client::request;

/// A store with a long log takes a while to open.
const START: Duration = Duration::from_secs(30);

pub struct Connection {
    pub endpoint: Endpoint,
    /// `host:port` of the page of the Spanwise behind the endpoint, if it is one.
    pub page: Option<String>,
    /// Where the shared server keeps traces.
    pub data_dir: Option<PathBuf>,
    /// Held while the run lasts.
    pub lease: Option<File>,
    pub warnings: Vec<String>,
}

impl Connection {
    /// Finds or starts what listens at the endpoint. Never fails: without a server the program still runs.
    pub fn make(endpoint: &Endpoint, may_start: bool) -> Connection {
        let mut connection =
            Connection { endpoint: endpoint.clone(), page: None, data_dir: None, lease: None, warnings: Vec::new() };
        let shared = shared_dir();
        // Taken before anything is asked: what is the shared server now still is when the program starts.
        let lease = shared.as_deref().filter(|_| endpoint.is_on_this_machine()).and_then(|directory| {
            let is_known = lease::path(directory).is_file();
            is_known.then(|| lease::take(directory).ok()).flatten()
        });
        if endpoint.listens() {
            connection.page = page_of(endpoint, shared.as_deref());
            let holder = shared.as_deref().and_then(Store::holder).and_then(|holder| holder.http);
            // One that is too busy to answer may be it.
            if holder.is_some() && (connection.page.is_none() || connection.page == holder) {
                connection.lease = lease;
                connection.data_dir = shared.filter(|_| connection.page.is_some());
            }
            return connection;
        }
        let lost = "the program runs, its spans are lost";
        if !may_start || !(endpoint.is_default || endpoint.is_on_this_machine()) {
            let why = if may_start { "" } else { " and --no-server forbids to start one" };
            connection.warnings.push(format!("nothing listens at {}{why}: {lost}", endpoint.url));
            return connection;
        }
        let Some(directory) = shared else {
            connection.warnings.push(format!("there is no directory to keep traces in: {lost}"));
            return connection;
        };
        match Shared::ensure(&directory, endpoint) {
            Ok(shared) => {
                if endpoint.is_default {
                    connection.endpoint = Endpoint { protocol: endpoint.protocol, ..Endpoint::local(shared.otlp_port) };
                }
                connection.page = Some(shared.page);
                connection.lease = Some(shared.lease);
                connection.data_dir = Some(directory);
            }
            Err(error) => connection.warnings.push(format!("cannot start Spanwise: {error:#}: {lost}")),
        }
        connection
    }
}

/// `$XDG_DATA_HOME/spanwise` or `~/.local/share/spanwise`, or a temporary directory when that cannot be written.
pub fn shared_dir() -> Option<PathBuf> {
    let own = user_dir("XDG_DATA_HOME", ".local/share").filter(|directory| can_create(directory));
    own.or_else(|| {
        private_temporary().map(|directory| directory.join("data")).filter(|directory| can_create(directory))
    })
}

/// Asks a Spanwise; `None` when it does not answer in time, or not with what was asked for. What listens there may be
/// anything: a run must not hang on it.
pub fn ask(http: &str, path: &str, limit: Duration) -> Option<Json> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let (http, path) = (http.to_owned(), path.to_owned());
    std::thread::spawn(move || sender.send(request(&http, &path, None)));
    let answer = receiver.recv_timeout(limit).ok()?.ok().filter(|answer| answer.status == 200)?;
    serde_json::from_slice(&answer.body).ok()
}

fn status(http: &str) -> Option<Json> {
    ask(http, "/api/spanwise/status", Duration::from_secs(3))
}

fn port_of(status: &Json, listener: &str) -> Option<u16> {
    status["listeners"][listener].as_str()?.rsplit(':').next()?.parse().ok()
}

/// The page of the Spanwise that has this endpoint among its listeners.
fn page_of(endpoint: &Endpoint, shared: Option<&Path>) -> Option<String> {
    if !endpoint.is_on_this_machine() {
        return None;
    }
    let held = shared.into_iter().chain([Path::new("./spanwise-data")]);
    let candidates = held.filter_map(|directory| Store::holder(directory)?.http);
    candidates.chain(["127.0.0.1:16686".to_owned()]).find(|http| {
        let Some(status) = status(http) else { return false };
        ["otlp_http", "otlp_grpc"].iter().any(|listener| port_of(&status, listener) == Some(endpoint.port))
    })
}

/// The server that this user's runs share.
pub struct Shared {
    pub lease: File,
    pub page: String,
    otlp_port: u16,
}

impl Shared {
    /// Finds or starts it.
    ///
    /// # Errors
    /// When it does not start, or this user's Spanwise listens elsewhere.
    pub fn ensure(directory: &Path, endpoint: &Endpoint) -> anyhow::Result<Shared> {
        let path = directory.join("run.start");
        let starting = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        // Runs that start together: one of them starts the server.
        flock(&starting, FlockOperation::LockExclusive)?;
        let lease = lease::take(directory)?;
        if let Some(http) = Store::holder(directory).and_then(|holder| holder.http) {
            let status = status(&http).with_context(|| format!("the Spanwise at {http} does not answer"))?;
            let otlp_port = port_of(&status, "otlp_http").context("this user's Spanwise takes no OTLP over HTTP")?;
            if !endpoint.is_default && otlp_port != endpoint.port {
                bail!("this user's Spanwise listens at http://127.0.0.1:{otlp_port}, and there is one for each user");
            }
            return Ok(Shared { lease, page: http, otlp_port });
        }
        // At the usual ports, where everybody looks; at free ones when somebody has these.
        let first = start(directory, endpoint, false);
        let ports = first.or_else(|_| start(directory, endpoint, true))?;
        let port = |name: &str| {
            let port = ports[name].as_u64().and_then(|port| u16::try_from(port).ok());
            port.with_context(|| format!("the server has no listener {name}"))
        };
        Ok(Shared { lease, page: format!("127.0.0.1:{}", port("http")?), otlp_port: port("otlp_http")? })
    }
}

fn start(directory: &Path, endpoint: &Endpoint, on_free_ports: bool) -> anyhow::Result<Json> {
    let log_path = directory.join("run-server.log");
    let log = File::create(&log_path).with_context(|| format!("cannot write {}", log_path.display()))?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["serve", "--print-ports", "--data-dir"]).arg(directory);
    command.arg("--until-unused").arg(lease::path(directory));
    if on_free_ports {
        command.args(["--listen", "127.0.0.1:0"]);
    }
    if !endpoint.is_default {
        let protocol = if endpoint.protocol == super::endpoint::Protocol::Grpc { "grpc" } else { "http" };
        command
            .arg("--set")
            .arg(format!("receivers::otlp::protocols::{protocol}::endpoint=127.0.0.1:{}", endpoint.port));
    }
    // Ctrl-C at the terminal is not for it.
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).process_group(0).current_dir(directory);
    for name in ["SPANWISE_DATA_DIR", RUN_ID, LEASE] {
        command.env_remove(name);
    }
    let mut child = command.spawn()?;
    let (sender, receiver) = std::sync::mpsc::channel();
    let stdout = child.stdout.take();
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = stdout.map(|stdout| BufReader::new(stdout).read_line(&mut line));
        let _ = sender.send(read.is_some().then_some(line));
    });
    let line = receiver.recv_timeout(START).ok().flatten().unwrap_or_default();
    let ready: Option<Json> = serde_json::from_str(&line).ok();
    match ready {
        Some(ready) if ready["ready"] == true => Ok(ready["ports"].clone()),
        _ => {
            let _ = child.kill();
            let _ = child.wait();
            let log = std::fs::read_to_string(&log_path).unwrap_or_default();
            let line = log.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
            bail!("{line}")
        }
    }
}
