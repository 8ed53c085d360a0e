//! Python: OpenTelemetry's distribution from PyPI in a directory of its own, per interpreter, started by a sitecustomize
//! of ours (`assets/python-sitecustomize.py`).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Deserialize;

use super::agents::{Agents, client};
use super::child;
use super::detect::{Runtime, Use, search};
use super::environment::{Variables, current, extend, set, set_default};
use super::plan::{Outcome, Probe};

pub const VERSION: &str = "0.66b1";
/// Every package with its version and the checksums of its files.
const REQUIREMENTS: &str = include_str!("assets/python-requirements.txt");
const PROBE: Duration = Duration::from_secs(30);

/// What an interpreter says about itself.
#[derive(Debug, Deserialize)]
struct Report {
    python: String,
    tag: String,
    prefix: String,
    #[serde(default)]
    missing: bool,
    error: Option<String>,
}

fn report(agents: &Agents, python: &Path, variables: &Variables) -> anyhow::Result<Report> {
    let hooks = agents.hooks()?.join("python");
    let mut asked = variables.clone();
    extend(&mut asked, "PYTHONPATH", ":", hooks.as_os_str(), true);
    let mut command = Command::new(python);
    command.args(["-c", "import sitecustomize; sitecustomize.report()"]).envs(asked);
    command.env("SPANWISE_PROBE", "1").env("SPANWISE_PYTHON_AGENT", agents.directory(Runtime::Python));
    Probe::quiet(&mut command);
    let output = child::output(&mut command, PROBE)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let Some(line) = text.lines().find_map(|line| line.strip_prefix("spanwise-report ")) else {
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        let last = complaint.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        bail!("{} did not load it: {last}", python.display());
    };
    serde_json::from_str(line).context("cannot read what the interpreter says about itself")
}

fn install_for(agents: &Agents, python: &Path, tag: &str) -> anyhow::Result<PathBuf> {
    // The clients run elsewhere. Links stay: a virtual environment's interpreter is one.
    let python = &std::path::absolute(python)?;
    let target = agents.directory(Runtime::Python).join(tag);
    agents.install(&target, VERSION, |directory| {
        let requirements = directory.join("requirements.txt");
        std::fs::write(&requirements, REQUIREMENTS)?;
        let mut failed = None;
        for (mut command, what) in clients(python) {
            command
                .args(["--target"])
                .arg(directory)
                .args(["--only-binary=:all:", "--require-hashes", "--no-deps", "--quiet", "-r"])
                .arg(&requirements)
                .env("PIP_USER", "0")
                .env("PIP_DISABLE_PIP_VERSION_CHECK", "1")
                .env("PIP_ROOT_USER_ACTION", "ignore")
                .current_dir(directory);
            match client(&mut command, what) {
                Ok(()) => return Ok(()),
                // The first is the interpreter's own: what it says matters most.
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        Err(failed.unwrap_or_else(|| anyhow::anyhow!("there is no pip to fetch it")))
    })?;
    Ok(target)
}

/// The interpreter's own pip, another one that installs for it, or uv.
fn clients(python: &Path) -> Vec<(Command, &'static str)> {
    let mut own = Command::new(python);
    own.args(["-m", "pip", "--no-input", "install"]);
    let mut all = vec![(own, "pip install")];
    if let Some(other) = search("python3".as_ref()) {
        let mut command = Command::new(other);
        command.args(["-m", "pip", "--python"]).arg(python).args(["--no-input", "install"]);
        all.push((command, "pip --python install"));
    }
    if let Some(uv) = search("uv".as_ref()) {
        let mut command = Command::new(uv);
        command.args(["pip", "install", "--python"]).arg(python);
        all.push((command, "uv pip install"));
    }
    all
}

/// For an interpreter, or the one on the PATH. Answers what it is.
///
/// # Errors
/// When there is none, or pip fails.
pub fn install(agents: &Agents, python: Option<&Path>) -> anyhow::Result<String> {
    let on_path = || search("python3".as_ref()).or_else(|| search("python".as_ref()));
    let python = python.map(Path::to_owned).or_else(on_path).context("there is no python3 on the PATH")?;
    let report = report(agents, &python, &Variables::new())?;
    if report.missing {
        install_for(agents, &python, &report.tag)?;
    } else if let Some(error) = report.error {
        bail!("{error}");
    }
    Ok(report.tag)
}

/// # Errors
/// Why not: among others, that the program's environment has packages that the agent cannot work with.
pub fn prepare(agents: &Agents, usage: &Use, variables: &mut Variables) -> anyhow::Result<Outcome> {
    let python = usage.interpreter.as_ref().context("there is no python3 on the PATH")?;
    let mut found = report(agents, python, variables)?;
    if found.missing {
        install_for(agents, python, &found.tag)?;
        found = report(agents, python, variables)?;
    }
    if let Some(error) = found.error {
        bail!("{error}");
    }
    if found.missing {
        bail!("{} is not what was installed", agents.directory(Runtime::Python).join(found.tag).display());
    }
    extend(variables, "PYTHONPATH", ":", agents.hooks()?.join("python").as_os_str(), true);
    set(variables, "SPANWISE_PYTHON_AGENT", agents.directory(Runtime::Python));
    set(variables, "SPANWISE_PYTHON_PREFIX", &found.prefix);
    if current(variables, "OTEL_LOGS_EXPORTER").is_some_and(|exporter| exporter == "none") {
        // A handler on the root logger would keep Python from printing what programs log without having set logging up.
        set_default(variables, "OTEL_PYTHON_LOG_AUTO_INSTRUMENTATION", "false");
    }
    Ok(Outcome::On(format!("opentelemetry-distro {VERSION} for Python {}", found.python)))
}
