//! `spanwise run`: a program traced by its runtime's official OpenTelemetry agent, chosen, installed and switched on from
//! outside. Only its environment is changed (and the arguments of a direct `java`); it is started once, and whatever
//! goes wrong on our side costs traces, never the program.

pub mod agents;
pub mod agents_command;
mod child;
pub mod detect;
mod detect_shell;
pub mod doctor;
mod endpoint;
mod environment;
mod java;
mod keeper;
pub mod lease;
mod node;
mod notes;
mod plan;
mod python;
pub mod server;
mod span;
mod summary;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use self::agents::Agents;
use self::child::Ended;
use self::detect::Runtime;
use self::plan::Plan;
use self::server::Connection;

#[derive(Args, Clone)]
pub struct RunArgs {
    #[command(flatten)]
    pub options: RunOptions,
    /// Start no Spanwise where none listens
    #[arg(long)]
    pub no_server: bool,
    /// Print nothing but warnings, and no summary at the end
    #[arg(long, short)]
    pub quiet: bool,
    /// The command, as in a shell: `-- python app.py`
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

#[derive(Args, Clone, Default)]
pub struct RunOptions {
    /// Name of the service [default: OTEL_SERVICE_NAME, or what each program's own files say]
    #[arg(long)]
    pub service: Option<String>,
    /// Where traces go [default: OTEL_EXPORTER_OTLP_ENDPOINT, or http://127.0.0.1:4318]
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// Also prepare this runtime, which the command does not show; repeatable
    #[arg(long = "runtime", value_enum)]
    pub runtimes: Vec<Runtime>,
    #[command(flatten)]
    pub agents: AgentsDir,
}

#[derive(Args, Clone, Default)]
pub struct AgentsDir {
    /// Where the agents are [default: the user's cache directory]
    #[arg(long, value_name = "DIR", env = "SPANWISE_AGENTS_DIR")]
    pub agents_dir: Option<PathBuf>,
}

/// One line of our own on standard error.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "spanwise: {text}");
}

pub fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    refuse_option(&args.command);
    let found = match detect::detect(&args.command, &args.options.runtimes) {
        Ok(found) => found,
        Err(error) => {
            say(&error.to_string());
            return Ok(ExitCode::from(error.status()));
        }
    };
    let is_nested = std::env::var_os(environment::RUN_ID).is_some();
    let is_quiet = args.quiet || is_nested;
    let endpoint = match endpoint::Endpoint::choose(args.options.endpoint.as_deref()) {
        Ok(endpoint) => Some(endpoint),
        Err(error) => {
            say(&format!("warning: {error}; the program runs without traces"));
            None
        }
    };
    let Some(endpoint) = endpoint else {
        return Ok(child::exec(&found, Vec::new(), Vec::new()));
    };
    let connection = Connection::make(&endpoint, !args.no_server);
    for warning in &connection.warnings {
        say(&format!("warning: {warning}"));
    }
    let agents = Agents::find(args.options.agents.agents_dir.as_deref());
    let mut plan = Plan::make(&found, &args.options, &connection.endpoint, &agents, is_quiet);
    if let Some(directory) = &connection.data_dir {
        environment::set(&mut plan.environment, lease::LEASE, lease::path(directory));
    }
    for warning in &plan.warnings {
        say(&format!("warning: {warning}"));
    }
    if !is_quiet {
        say(&plan.headline());
        match &connection.page {
            Some(page) => say(&format!("look at the traces on http://{page}/")),
            None => say(&format!("traces go to {}", connection.endpoint.url)),
        }
    }
    if is_quiet && connection.lease.is_none() && plan.span.is_none() {
        // Nothing is left to do afterwards: the program takes our place.
        return Ok(child::exec(&found, plan.arguments, plan.environment));
    }
    let mut notes = notes::Notes::new(&plan.run_id);
    if let Some(notes) = &notes {
        environment::set(&mut plan.environment, notes::NOTES, &notes.directory);
    }
    let keeper = (!args.no_server).then(|| keeper::Keeper::start(&connection)).flatten();
    let started = summary::now();
    let ended = child::supervise(&found, plan.arguments, plan.environment, notes.as_mut());
    match notes.as_ref().map_or(0, notes::Notes::lost) {
        0 => {}
        1 => say("warning: 1 span was not delivered"),
        lost => say(&format!("warning: {lost} spans were not delivered")),
    }
    if let (Some(span), Ended::Exited(exit)) = (&plan.span, &ended)
        && let Err(error) = span::send(span, started, exit, &connection.endpoint)
        // That nothing listens was said at the start.
        && connection.warnings.is_empty()
    {
        say(&format!("warning: the span of the command itself is lost: {error:#}"));
    }
    let page = keeper.map(|keeper| keeper.page()).or(connection.page);
    if let (false, Some(page), Ended::Exited(_)) = (is_quiet, page, &ended) {
        summary::print(&page, &plan.run_id, started, connection.data_dir.as_deref());
        let left = lease::programs(environment::RUN_ID, plan.run_id.as_bytes());
        if left > 0 && connection.lease.is_some() {
            let (still, they) =
                if left == 1 { ("program still runs", "it ends") } else { ("programs still run", "they end") };
            say(&format!("{left} {still}: Spanwise goes on until {they}"));
        }
    }
    drop(connection.lease);
    Ok(ended.status())
}

/// A misspelt option would be taken for the command. Says so and ends.
fn refuse_option(command: &[OsString]) {
    if let Some(word) = command.first().filter(|word| word.as_encoded_bytes().starts_with(b"-")) {
        let error = format!("unexpected argument '{}': see `spanwise run --help`\n", word.display());
        clap::Error::raw(clap::error::ErrorKind::UnknownArgument, error).exit();
    }
}
