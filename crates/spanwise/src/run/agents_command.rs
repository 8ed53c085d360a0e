//! `spanwise agents list|install|update`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;
use serde_json::{Value as Json, json};

use super::AgentsDir;
use super::agents::{Agents, INSTALLED, version};
use super::detect::Runtime;
use super::{java, node, python};
use crate::cli::Format;

#[derive(Subcommand, Clone)]
pub enum AgentsCommand {
    /// Which agents are there, in which versions, and where
    #[command(after_help = "Example:\n  spanwise agents list")]
    List {
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
        #[command(flatten)]
        directory: AgentsDir,
    },
    /// Fetch agents now, so that runs need no network
    #[command(
        after_help = "Examples:\n  spanwise agents install\n  spanwise agents install python --agents-dir ./agents   # to copy to a machine without network\n  spanwise agents install python --interpreter venv/bin/python"
    )]
    Install {
        /// All whose runtime is on the PATH without
        runtimes: Vec<Runtime>,
        /// The Python to install for [default: python3 on the PATH]
        #[arg(long, value_name = "PATH")]
        interpreter: Option<PathBuf>,
        #[command(flatten)]
        directory: AgentsDir,
    },
    /// Bring installed agents to the versions of this Spanwise, and remove older ones
    #[command(after_help = "Example:\n  spanwise agents update")]
    Update {
        #[command(flatten)]
        directory: AgentsDir,
    },
}

pub fn agents(command: AgentsCommand) -> anyhow::Result<ExitCode> {
    match command {
        AgentsCommand::List { format, directory } => list(&find(&directory), format),
        AgentsCommand::Install { runtimes, interpreter, directory } => {
            let agents = find(&directory);
            let is_all = runtimes.is_empty() && interpreter.is_none();
            let chosen = match (is_all, runtimes.is_empty()) {
                (true, _) => Runtime::ALL.to_vec(),
                (false, true) => vec![Runtime::Python],
                (false, false) => runtimes,
            };
            let on_path = |runtime: &Runtime| !is_all || super::detect::default_interpreter(*runtime).is_some();
            install(&agents, &chosen.into_iter().filter(on_path).collect::<Vec<_>>(), interpreter.as_deref())
        }
        AgentsCommand::Update { directory } => update(&find(&directory)),
    }
}

fn find(directory: &AgentsDir) -> Agents {
    Agents::find(directory.agents_dir.as_deref())
}

/// Complete directories below one: a runtime's version, or Python's interpreters below that.
fn installed(agents: &Agents) -> Vec<Json> {
    let mut all = Vec::new();
    for runtime in Runtime::ALL {
        for (name, path) in entries(&agents.root.join(runtime.name())) {
            let current = name == version(runtime);
            let entry = |path: &Path, interpreter: Option<&str>| {
                json!({"runtime": runtime.name(), "version": name, "current": current, "interpreter": interpreter,
                    "path": path.display().to_string()})
            };
            if path.join(INSTALLED).is_file() {
                all.push(entry(&path, None));
            }
            for (interpreter, path) in entries(&path) {
                if path.join(INSTALLED).is_file() {
                    all.push(entry(&path, Some(&interpreter)));
                }
            }
        }
    }
    all
}

fn entries(directory: &Path) -> Vec<(String, std::path::PathBuf)> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut all: Vec<_> = entries
        .flatten()
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
        .filter(|(name, path)| path.is_dir() && !name.starts_with('.'))
        .collect();
    all.sort();
    all
}

fn list(agents: &Agents, format: Format) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    let all = installed(agents);
    if format == Format::Json {
        writeln!(out, "{}", json!({"directory": agents.root.display().to_string(), "installed": all}))?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "{}", agents.root.display())?;
    let text = |json: &Json| json.as_str().unwrap_or_default().to_owned();
    for runtime in Runtime::ALL {
        let of_runtime: Vec<&Json> = all.iter().filter(|entry| entry["runtime"] == runtime.name()).collect();
        for entry in &of_runtime {
            let note = if entry["current"] == true { "" } else { "  (of another Spanwise: `spanwise agents update`)" };
            writeln!(
                out,
                "  {:<7} {:<9} {}{note}",
                runtime.name(),
                text(&entry["version"]),
                text(&entry["interpreter"])
            )?;
        }
        if of_runtime.is_empty() {
            writeln!(out, "  {:<7} {:<9} not installed: fetched on first use", runtime.name(), version(runtime))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn install(agents: &Agents, runtimes: &[Runtime], python: Option<&Path>) -> anyhow::Result<ExitCode> {
    let mut failed = false;
    agents.hooks().context("cannot install agents")?;
    for runtime in runtimes {
        let result = match runtime {
            Runtime::Java => java::install(agents).map(|()| String::new()),
            Runtime::Node => node::install(agents).map(|()| String::new()),
            Runtime::Python => python::install(agents, python).map(|tag| format!(" for {tag}")),
        };
        match result {
            Ok(of) => writeln!(std::io::stdout(), "{} {}{of}: installed", runtime.name(), version(*runtime))?,
            Err(error) => {
                failed = true;
                eprintln!("error: {} {}: {error:#}", runtime.name(), version(*runtime));
            }
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn update(agents: &Agents) -> anyhow::Result<ExitCode> {
    let all = installed(agents);
    let has = |runtime: &Runtime| all.iter().any(|entry| entry["runtime"] == runtime.name());
    let status = install(agents, &Runtime::ALL.into_iter().filter(has).collect::<Vec<_>>(), None)?;
    if status == ExitCode::SUCCESS {
        for runtime in Runtime::ALL {
            for (name, path) in entries(&agents.root.join(runtime.name())) {
                if name != version(runtime) {
                    std::fs::remove_dir_all(&path).with_context(|| format!("cannot remove {}", path.display()))?;
                    writeln!(std::io::stdout(), "{} {name}: removed", runtime.name())?;
                }
            }
        }
    }
    Ok(status)
}
