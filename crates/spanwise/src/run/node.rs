//! Node.js: OpenTelemetry's automatic instrumentations from npm, started by a preload of ours (`assets/node-preload.cjs`).

use std::process::Command;

use anyhow::{Context as _, bail};

use super::agents::{Agents, client};
use super::detect::{Runtime, Use, search};
use super::environment::{Variables, current, extend, set, set_default};
use super::plan::{Outcome, Probe};

pub const VERSION: &str = "0.81.2";
const PACKAGE: &str = include_str!("assets/node-package.json");
/// Holds a checksum for every package.
const LOCK: &str = include_str!("assets/node-package-lock.json");

/// # Errors
/// When npm is not there or fails.
pub fn install(agents: &Agents) -> anyhow::Result<()> {
    agents.install(&agents.directory(Runtime::Node), VERSION, |directory| {
        let npm = search("npm".as_ref()).context("npm is not there to fetch it; install it, or give --agents-dir")?;
        std::fs::write(directory.join("package.json"), PACKAGE)?;
        std::fs::write(directory.join("package-lock.json"), LOCK)?;
        let mut command = Command::new(npm);
        command
            .args(["ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
            .current_dir(directory);
        client(&mut command, "npm ci")
    })
}

/// # Errors
/// Why not.
pub fn prepare(agents: &Agents, usage: &Use, probe: &Probe<'_>, variables: &mut Variables) -> anyhow::Result<Outcome> {
    let options = current(variables, "NODE_OPTIONS").unwrap_or_default();
    if options.to_string_lossy().contains("@opentelemetry/") {
        return Ok(Outcome::Own("NODE_OPTIONS loads OpenTelemetry already"));
    }
    install(agents)?;
    let directory = agents.directory(Runtime::Node);
    let preload = agents.hooks()?.join("node/spanwise.cjs");
    let node = usage.interpreter.as_ref().context("there is no node on the PATH")?;
    if preload.to_string_lossy().contains('"') {
        bail!("the path of the agents directory has a quotation mark in it");
    }
    let mut check = Command::new(node);
    check.arg("--require").arg(&preload).args(["-e", "0"]).env("SPANWISE_NODE_AGENT", &directory);
    probe.passes(Runtime::Node, node, &[&preload], check)?;
    let shown = preload.to_string_lossy().replace('\\', "\\\\");
    let option = if shown.contains(' ') { format!("--require \"{shown}\"") } else { format!("--require {shown}") };
    extend(variables, "NODE_OPTIONS", " ", option.as_ref(), false);
    set(variables, "SPANWISE_NODE_AGENT", &directory);
    // The cloud detectors ask the network at start.
    set_default(variables, "OTEL_NODE_RESOURCE_DETECTORS", "env,host,os,process,serviceinstance,container");
    if current(variables, "OTEL_NODE_ENABLED_INSTRUMENTATIONS").is_none() {
        // One span for each connection, look-up and file says nothing that the request's span does not.
        set_default(variables, "OTEL_NODE_DISABLED_INSTRUMENTATIONS", "dns,fs,net");
    }
    Ok(Outcome::On(format!("auto-instrumentations-node {VERSION}")))
}
