//! `spanwise doctor`: what a run would do, whether each part of it works, and how to mend what does not.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;

use super::agents::{Agents, INSTALLED, version};
use super::child::Exit;
use super::detect::{self, Found, Runtime};
use super::endpoint::Endpoint;
use super::plan::{Outcome, Plan};
use super::server::{Connection, ask};
use super::{RunOptions, span, summary};

#[derive(Args, Clone)]
pub struct DoctorArgs {
    #[command(flatten)]
    pub options: RunOptions,
    /// Start no Spanwise where none listens
    #[arg(long)]
    pub no_server: bool,
    /// The command to explain: `-- python app.py`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub command: Vec<std::ffi::OsString>,
}

struct Checks {
    failed: usize,
}

impl Checks {
    fn line(&mut self, mark: &str, text: &str) -> std::io::Result<()> {
        writeln!(std::io::stdout(), "{mark:<4} {text}")
    }

    fn ok(&mut self, text: &str) -> std::io::Result<()> {
        self.line("ok", text)
    }

    fn bad(&mut self, text: &str, remedy: &str) -> std::io::Result<()> {
        self.failed += 1;
        self.line("BAD", text)?;
        self.line("", &format!("-> {remedy}"))
    }

    fn note(&mut self, text: &str) -> std::io::Result<()> {
        self.line("", text)
    }
}

/// Exit status 0 when everything works, 1 when something does not.
pub fn doctor(args: DoctorArgs) -> anyhow::Result<ExitCode> {
    let mut checks = Checks { failed: 0 };
    super::refuse_option(&args.command);
    let found = match args.command.is_empty() {
        true => None,
        false => match detect::detect(&args.command, &args.options.runtimes) {
            Ok(found) => Some(found),
            Err(error) => {
                checks.bad(&error.to_string(), "check the name, or give the whole path")?;
                None
            }
        },
    };
    let endpoint = match Endpoint::choose(args.options.endpoint.as_deref()) {
        Ok(endpoint) => endpoint,
        Err(error) => {
            checks.bad(&format!("{error:#}"), "mend --endpoint or OTEL_EXPORTER_OTLP_ENDPOINT")?;
            return Ok(ExitCode::FAILURE);
        }
    };
    let was_listening = endpoint.listens();
    let connection = Connection::make(&endpoint, !args.no_server);
    let agents = Agents::find(args.options.agents.agents_dir.as_deref());
    match &found {
        Some(found) => explain(&mut checks, found, &args.options, &connection, &agents)?,
        None => runtimes(&mut checks, &agents)?,
    }
    path(&mut checks, &connection, was_listening)?;
    let text = match checks.failed {
        0 => "everything works".to_owned(),
        1 => "1 thing does not work".to_owned(),
        n => format!("{n} things do not work"),
    };
    writeln!(std::io::stdout(), "{text}")?;
    Ok(if checks.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn explain(
    checks: &mut Checks,
    found: &Found,
    options: &RunOptions,
    connection: &Connection,
    agents: &Agents,
) -> anyhow::Result<()> {
    checks.ok(&format!("the program is {}", found.program.display()))?;
    let plan = Plan::make(found, options, &connection.endpoint, agents, true);
    if plan.agents.is_empty() {
        checks
            .note("it is no Java, Node.js or Python that we can see; --runtime java|node|python says what it starts")?;
    }
    for (runtime, why, outcome) in &plan.agents {
        match outcome {
            Outcome::On(agent) => checks.ok(&format!("{}: {why}; its agent works: {agent}", runtime.title()))?,
            Outcome::Own(what) => checks.ok(&format!("{}: {why}; ours stays out: {what}", runtime.title()))?,
            Outcome::Out(reason) => {
                let remedy = "the program runs without traces of this runtime until that is mended";
                checks.bad(&format!("{}: {why}; its agent does not work: {reason}", runtime.title()), remedy)?;
            }
        }
    }
    for warning in &found.warnings {
        checks.note(&format!("note: {warning}"))?;
    }
    if plan.span.is_some() {
        checks.note("the command itself gets one span; programs that it starts find it in TRACEPARENT")?;
    }
    if !plan.arguments.is_empty() {
        let shown: Vec<String> = plan.arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        checks.note(&format!("arguments before its own: {}", shown.join(" ")))?;
    }
    for (name, value) in &plan.environment {
        checks.note(&format!("{}={}", name.display(), value.display()))?;
    }
    Ok(())
}

fn runtimes(checks: &mut Checks, agents: &Agents) -> std::io::Result<()> {
    for runtime in Runtime::ALL {
        let program = detect::search(if runtime == Runtime::Python { "python3" } else { runtime.name() }.as_ref());
        let directory = agents.directory(runtime);
        let is_there = match runtime {
            Runtime::Python => directory.is_dir(),
            _ => directory.join(INSTALLED).is_file(),
        };
        let agent = match is_there {
            true => format!("agent {} is in {}", version(runtime), directory.display()),
            false => format!("agent {} is fetched on first use, or now by `spanwise agents install`", version(runtime)),
        };
        match program {
            Some(program) => checks.ok(&format!("{} is {}; {agent}", runtime.title(), program.display()))?,
            None => checks.note(&format!("{} is not on the PATH", runtime.title()))?,
        }
    }
    Ok(())
}

/// From the exporter to the store: a test trace is sent and looked for.
fn path(checks: &mut Checks, connection: &Connection, was_listening: bool) -> anyhow::Result<()> {
    for warning in &connection.warnings {
        checks.bad(warning, "start `spanwise`, or give --endpoint")?;
    }
    if !connection.warnings.is_empty() {
        return Ok(());
    }
    let url = &connection.endpoint.url;
    match was_listening {
        true => checks.ok(&format!("{url} listens"))?,
        false => checks.ok(&format!("nothing listened; Spanwise was started for this check at {url}"))?,
    }
    let command = [std::ffi::OsString::from("/bin/sh"), "doctor".into()];
    let found = detect::detect(&command, &[])?;
    let test = span::CommandSpan::new(&found, Some("spanwise-doctor"), "doctor");
    if let Err(error) = span::send(&test, summary::now(), &Exit::Code(0), &connection.endpoint) {
        let remedy = "see whether what listens there takes OTLP in this protocol, and what its log says";
        checks.bad(&format!("a test trace was not taken: {error:#}"), remedy)?;
        return Ok(());
    }
    checks.ok("a test trace was taken")?;
    let Some(page) = &connection.page else {
        checks.note("what listens there is no Spanwise of this machine: whether it kept the trace cannot be seen")?;
        return Ok(());
    };
    let started = Instant::now();
    let path = format!("/api/spanwise/traces/{}", test.trace_id());
    while started.elapsed() < Duration::from_secs(5) {
        if ask(page, &path, Duration::from_secs(5)).is_some() {
            checks.ok(&format!("the test trace is stored: http://{page}/trace/{}", test.trace_id()))?;
            return Ok(());
        }
        std::thread::park_timeout(Duration::from_millis(100));
    }
    checks.bad("the test trace was taken, but is not found", "see the server's log and its pipelines")?;
    Ok(())
}
