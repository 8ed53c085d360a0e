//! What a run changes: arguments and variables of the program, and which agents came out of it.

use std::ffi::OsString;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::bail;

use super::agents::{Agents, fingerprint};
use super::detect::{Found, Runtime};
use super::endpoint::{Endpoint, Protocol};
use super::environment::{self, RUN_ATTRIBUTE, RUN_ID, Variables, attribute, current, extend, set, set_default};
use super::span::CommandSpan;
use super::{RunOptions, child, java, node, python, say};

/// What became of one runtime's agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Switched on: its name and version.
    On(String),
    /// The program brings its own.
    Own(&'static str),
    /// Left out, and why.
    Out(String),
}

pub struct Plan {
    pub run_id: String,
    /// Go before the program's own arguments.
    pub arguments: Vec<OsString>,
    pub environment: Variables,
    pub agents: Vec<(Runtime, String, Outcome)>,
    pub warnings: Vec<String>,
    /// The span of the command itself, when there is one.
    pub span: Option<CommandSpan>,
}

impl Plan {
    pub fn make(found: &Found, options: &RunOptions, endpoint: &Endpoint, agents: &Agents, is_quiet: bool) -> Plan {
        let mut variables = Variables::new();
        let mut arguments = Vec::new();
        let mut warnings = found.warnings.clone();
        let run_id = std::env::var(RUN_ID).unwrap_or_else(|_| random_hex(16));
        set_endpoint(&mut variables, endpoint);
        for (name, value) in environment::DEFAULTS {
            set_default(&mut variables, name, value);
        }
        set(&mut variables, RUN_ID, &run_id);
        let mark = attribute(RUN_ATTRIBUTE, &run_id);
        extend(&mut variables, "OTEL_RESOURCE_ATTRIBUTES", ",", mark.as_ref(), false);
        if let Some(service) = &options.service {
            set(&mut variables, "OTEL_SERVICE_NAME", service);
        }
        let probe = Probe::new(agents);
        let mut outcomes = Vec::new();
        for usage in &found.uses {
            if !is_installed(agents, usage.runtime) && !is_quiet {
                say(&format!("fetching the {} agent (once)", usage.runtime.title()));
            }
            let outcome = match usage.runtime {
                Runtime::Java => java::prepare(agents, found, usage, &probe, &mut arguments, &mut variables),
                Runtime::Node => node::prepare(agents, usage, &probe, &mut variables),
                Runtime::Python => python::prepare(agents, usage, &mut variables),
            };
            let outcome = outcome.unwrap_or_else(|error| Outcome::Out(format!("{error:#}")));
            if let Outcome::Out(why) = &outcome {
                warnings.push(format!("no traces of {}: {why}", usage.runtime.title()));
            }
            outcomes.push((usage.runtime, usage.why.clone(), outcome));
        }
        let is_traced = outcomes.iter().any(|(_, _, outcome)| !matches!(outcome, Outcome::Out(_)));
        // A program of a runtime makes its own spans; what only starts others, or is unknown, gets one from us.
        let span = (!is_traced || !found.is_direct || std::env::var_os("TRACEPARENT").is_some())
            .then(|| CommandSpan::new(found, options.service.as_deref(), &run_id));
        if let Some(span) = &span {
            for (name, value) in span.variables() {
                set(&mut variables, &name, value);
            }
            if found.uses.is_empty() {
                set_default(&mut variables, "OTEL_SERVICE_NAME", span.service());
            }
        }
        Plan { run_id, arguments, environment: variables, agents: outcomes, warnings, span }
    }

    /// One line: what is traced, and by what.
    pub fn headline(&self) -> String {
        let on = self.agents.iter().filter_map(|(runtime, _, outcome)| match outcome {
            Outcome::On(agent) => Some(format!("{} ({agent})", runtime.title())),
            Outcome::Own(_) => Some(format!("{} (its own agent)", runtime.title())),
            Outcome::Out(_) => None,
        });
        let on: Vec<String> = on.collect();
        match (on.is_empty(), self.agents.is_empty()) {
            (false, _) => format!("tracing {}", on.join(", ")),
            (true, false) => {
                "no agent could be used: one span for the command, and OTEL_* for what reads it".to_owned()
            }
            (true, true) => {
                "no runtime in sight that we have an agent for (if it starts one: --runtime java|node|python): one span \
                 for the command, and OTEL_* for what reads it"
                    .to_owned()
            }
        }
    }
}

fn is_installed(agents: &Agents, runtime: Runtime) -> bool {
    let directory = agents.directory(runtime);
    match runtime {
        // One for each interpreter: some suffices to be silent.
        Runtime::Python => directory.is_dir(),
        _ => directory.join(super::agents::INSTALLED).is_file(),
    }
}

fn set_endpoint(variables: &mut Variables, endpoint: &Endpoint) {
    if current(variables, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").is_some_and(|set| set != endpoint.traces_url.as_str()) {
        set(variables, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &endpoint.traces_url);
    }
    set(variables, "OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint.url);
    let protocol = match endpoint.protocol {
        Protocol::HttpProtobuf => "http/protobuf",
        Protocol::HttpJson => "http/json",
        Protocol::Grpc => "grpc",
    };
    set_default(variables, "OTEL_EXPORTER_OTLP_PROTOCOL", protocol);
}

/// Lower-case hexadecimal digits of random bytes.
pub fn random_hex(bytes: usize) -> String {
    let mut random = vec![0; bytes];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut random));
    if read.is_err() {
        let seed = format!("{:?} {}", std::time::SystemTime::now(), std::process::id());
        for (at, byte) in random.iter_mut().enumerate() {
            *byte = fingerprint(&[&seed, &at.to_string()]).to_le_bytes()[3];
        }
    }
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether an agent lets its runtime start. An answer that was yes is remembered for the same files.
pub struct Probe<'a> {
    agents: &'a Agents,
}

/// A cold JVM on a busy machine takes its time.
const PROBE: Duration = Duration::from_secs(60);

impl<'a> Probe<'a> {
    pub fn new(agents: &'a Agents) -> Probe<'a> {
        Probe { agents }
    }

    /// Nothing is exported by a probe.
    pub fn quiet(command: &mut Command) {
        for name in ["OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER"] {
            command.env(name, "none");
        }
        command.env("SPANWISE_PROBE", "1").stdin(std::process::Stdio::null());
    }

    /// # Errors
    /// What the runtime said when it did not start.
    pub fn passes(
        &self,
        runtime: Runtime,
        interpreter: &Path,
        agent: &[&Path],
        mut command: Command,
    ) -> anyhow::Result<()> {
        let note = self.note(runtime, interpreter, agent);
        if note.as_ref().is_some_and(|note| note.is_file()) {
            return Ok(());
        }
        Probe::quiet(&mut command);
        let output = child::output(&mut command, PROBE)?;
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() {
            let is_telling = |line: &&str| line.contains("rror") || line.contains("xception");
            let line = complaint.lines().find(is_telling).or_else(|| complaint.lines().next());
            bail!("{} does not start with it: {}", interpreter.display(), line.unwrap_or("it said nothing").trim());
        }
        if let Some(note) = note {
            let _ = note.parent().map(std::fs::create_dir_all);
            let _ = std::fs::write(note, b"");
        }
        Ok(())
    }

    fn note(&self, runtime: Runtime, interpreter: &Path, agent: &[&Path]) -> Option<PathBuf> {
        let describe = |path: &Path| {
            let path = path.canonicalize().ok()?;
            let found = path.metadata().ok()?;
            Some(format!("{} {} {:?}", path.display(), found.len(), found.modified().ok()))
        };
        let options = ["NODE_OPTIONS", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS"]
            .map(|name| std::env::var(name).unwrap_or_default());
        let agent = agent.iter().map(|file| describe(file)).collect::<Option<Vec<_>>>()?;
        let key = fingerprint(&[&describe(interpreter)?, &agent.join(" "), &options.join(" ")]);
        Some(self.agents.hooks().ok()?.join(format!("probed/{}-{key:016x}", runtime.name())))
    }
}
