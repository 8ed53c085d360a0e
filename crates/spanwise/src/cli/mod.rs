//! The command line: contracts §1.

pub mod client;
mod commands;
mod components;
mod insights;
mod load;
mod query;
pub mod tree_text;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use spanwise_pipeline::Input;
use spanwise_store::ObjectUrl;

use crate::run::agents_command::AgentsCommand;

/// Distributed tracing, whole: collector, store, query and page in one program.
#[derive(Parser)]
#[command(
    name = "spanwise",
    version,
    about,
    after_help = "Examples:\n  spanwise\n  spanwise serve --config collector.yaml --data-dir /var/lib/spanwise\n  spanwise query '{ status = error }' --since 1h\n  spanwise import trace.json"
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Run a program traced, without changing it: Java, Node.js, Python, and whatever they and scripts start
    #[command(
        after_help = "Examples:\n  spanwise run -- python app.py\n  spanwise run --service shop -- java -jar shop.jar\n  spanwise run -- npm start\n  spanwise run -- make build"
    )]
    Run(crate::run::RunArgs),
    /// The agents that `run` uses: list, fetch, update
    #[command(subcommand)]
    Agents(AgentsCommand),
    /// What is wrong with this set-up, or with tracing one command, and how to mend it
    #[command(after_help = "Examples:\n  spanwise doctor\n  spanwise doctor -- python app.py")]
    Doctor(crate::run::doctor::DoctorArgs),
    /// Receive, keep and show traces (also what `spanwise` alone does)
    #[command(
        after_help = "Example:\n  spanwise serve --config collector.yaml --set exporters.otlp.endpoint=backend:4317"
    )]
    Serve(ServeArgs),
    /// Check a config without starting
    #[command(after_help = "Example:\n  spanwise validate --config collector.yaml")]
    Validate(ConfigArgs),
    /// Print the effective config with every default
    #[command(after_help = "Example:\n  spanwise print-config --config collector.yaml")]
    PrintConfig(ConfigArgs),
    /// List every component that a config may name
    #[command(after_help = "Example:\n  spanwise components --format json")]
    Components {
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
        /// Write the reference pages and JSON schemas into this directory instead
        #[arg(long, value_name = "DIR")]
        docs: Option<PathBuf>,
    },
    /// Read files of traces into the store: OTLP, Jaeger or Zipkin, also gzip-compressed
    #[command(
        after_help = "Example:\n  spanwise import trace.json downloads/\n  curl -s http://jaeger/api/traces/1234 | spanwise import -"
    )]
    Import {
        /// Files, and directories with all that lies in and below them; `-` is standard input
        #[arg(required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        at: StoreArgs,
    },
    /// Show one trace
    #[command(after_help = "Example:\n  spanwise trace 5b8efff798038103d269b633813fc60c --mode jaeger")]
    Trace {
        id: String,
        #[arg(long, value_enum, default_value_t = TraceFormat::Tree)]
        format: TraceFormat,
        /// Rule for the critical path: docs/critical-path.md
        #[arg(long, value_enum, default_value_t = PathMode::Spanwise)]
        mode: PathMode,
        /// Times as the hosts wrote them, or with one offset for each pair of hosts, told from the traces around
        #[arg(long, value_enum, default_value_t = TraceClocks::Raw)]
        clocks: TraceClocks,
        #[command(flatten)]
        at: StoreArgs,
    },
    /// Send a made-up but realistic load over OTLP, and say what came of it
    #[command(
        after_help = "Examples:\n  spanwise load --spans 1000000 --rate 40000\n  spanwise load --protocol grpc --compression zstd --in-flight 4\n  spanwise load --sink 127.0.0.1:5317"
    )]
    Load(load::LoadCommand),
    /// What hurts: findings over all traces of a window, dearest first
    #[command(after_help = "Example:\n  spanwise insights --since 1h --kind n_plus_one")]
    Insights {
        #[command(flatten)]
        window: WindowArgs,
        /// Only findings that concern this service
        #[arg(long)]
        service: Option<String>,
        /// Only findings of this kind
        #[arg(long, value_parser = ["n_plus_one", "fan_out", "silent_dependency", "slow_rare_path", "misattributed_bottleneck", "hidden_error", "retry_storm"])]
        kind: Option<String>,
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
        #[command(flatten)]
        at: StoreArgs,
    },
    /// Search with TraceQL, or count: a query that ends in rate() or its like answers series of numbers
    #[command(
        after_help = "Examples:\n  spanwise query '{ resource.service.name = \"cart\" && duration > 1s }' --since 1h\n  spanwise query '{ status = error } | rate() by (resource.service.name)' --since 1h --step 1m"
    )]
    Query {
        traceql: String,
        /// Only traces of the last 30m, 1h, 7d
        #[arg(long, conflicts_with_all = ["from", "to"])]
        since: Option<String>,
        /// Only traces that end after this time (RFC 3339)
        #[arg(long)]
        from: Option<String>,
        /// Only traces that start before this time (RFC 3339)
        #[arg(long)]
        to: Option<String>,
        #[arg(long, default_value_t = 20)]
        limit: usize,
        /// Of series: the time between two values, as in 15s [default: about 240 steps of the window]
        #[arg(long)]
        step: Option<String>,
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
        #[command(flatten)]
        at: StoreArgs,
    },
}

#[derive(Args, Clone)]
struct ConfigArgs {
    /// Path, `file:`, `env:` or `yaml:`; repeatable, later ones win
    #[arg(long = "config", value_name = "SRC")]
    config: Vec<String>,
    /// Set one value, as in `exporters.otlp.endpoint=host:4317`; repeatable
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl ConfigArgs {
    fn input(&self) -> Input {
        Input { sources: self.config.clone(), sets: self.set.clone() }
    }
}

/// Of traces that started in it.
#[derive(Args, Clone)]
pub(crate) struct WindowArgs {
    /// Only traces of the last 30m, 1h, 7d
    #[arg(long, conflicts_with_all = ["from", "to"])]
    pub since: Option<String>,
    /// Only traces that started at this time (RFC 3339) or later
    #[arg(long)]
    pub from: Option<String>,
    /// Only traces that started at this time (RFC 3339) or before
    #[arg(long)]
    pub to: Option<String>,
}

#[derive(Args, Clone)]
struct ServeArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Where traces are kept [default: ./spanwise-data]; when given, pipelines journal there what they acknowledge
    #[arg(long, env = "SPANWISE_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Keep blocks in this bucket, as in s3://BUCKET/PREFIX, and only the log in the data directory; AWS_* variables
    /// say where and as whom
    #[arg(long, value_name = "URL", env = "SPANWISE_OBJECT_STORE")]
    object_store: Option<ObjectUrl>,
    /// Bind everything to this host instead of localhost; `HOST:0` takes free ports
    #[arg(long)]
    listen: Option<String>,
    /// Behaviour to turn on (`NAME` or `+NAME`) or off (`-NAME`), as the collector's; separated by commas, repeatable
    #[arg(long = "feature-gates", value_name = "NAME,…", allow_hyphen_values = true)]
    feature_gates: Vec<String>,
    /// Print one line of JSON with all ports when ready
    #[arg(long)]
    print_ports: bool,
    /// Stop once no process holds a lock on this file: what `spanwise run` starts
    #[arg(long, hide = true, value_name = "FILE")]
    until_unused: Option<PathBuf>,
    /// Name under which browsers reach the page, beside localhost and addresses; repeatable
    #[arg(long = "allow-host", value_name = "NAME")]
    allow_host: Vec<String>,
}

#[derive(Args, Clone)]
pub(crate) struct StoreArgs {
    /// Where traces are kept
    #[arg(long, default_value = "./spanwise-data", env = "SPANWISE_DATA_DIR")]
    pub data_dir: PathBuf,
    /// The bucket that blocks are in, as in s3://BUCKET/PREFIX, if it was given to `serve`
    #[arg(long, value_name = "URL", env = "SPANWISE_OBJECT_STORE")]
    pub object_store: Option<ObjectUrl>,
    /// Ask a running server instead, as in http://127.0.0.1:16686
    #[arg(long, conflicts_with_all = ["data_dir", "object_store"])]
    pub addr: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TraceFormat {
    Tree,
    Json,
    Otlp,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TraceClocks {
    Raw,
    Corrected,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PathMode {
    Spanwise,
    Jaeger,
    Crisp,
    Elastic,
}

impl From<PathMode> for spanwise_insight::Mode {
    fn from(mode: PathMode) -> Self {
        match mode {
            PathMode::Spanwise => Self::Spanwise,
            PathMode::Jaeger => Self::Jaeger,
            PathMode::Crisp => Self::Crisp,
            PathMode::Elastic => Self::Elastic,
        }
    }
}

/// Parses the command line, runs it, and says what went wrong.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        None => serve(cli.serve),
        Some(Command::Serve(args)) => serve(args),
        Some(Command::Run(args)) => crate::run::run(args),
        Some(Command::Agents(command)) => crate::run::agents_command::agents(command),
        Some(Command::Doctor(args)) => crate::run::doctor::doctor(args),
        Some(Command::Validate(args)) => commands::validate(&args.input()),
        Some(Command::PrintConfig(args)) => commands::print_config(&args.input()),
        Some(Command::Components { format, docs }) => components::components(format, docs.as_deref()),
        Some(Command::Import { files, at }) => commands::import(&files, &at),
        Some(Command::Trace { id, format, mode, clocks, at }) => commands::trace(&id, format, mode.into(), clocks, &at),
        Some(Command::Load(command)) => load::load(&command),
        Some(Command::Insights { window, service, kind, format, at }) => {
            insights::insights(&insights::InsightsArgs { window, service, kind }, format, &at)
        }
        Some(Command::Query { traceql, since, from, to, limit, step, format, at }) => {
            let window = WindowArgs { since, from, to };
            query::query(&query::QueryArgs { traceql, window, limit, step }, format, &at)
        }
    };
    match result {
        Ok(code) => code,
        // Somebody closed the pipe we write to: nobody is left to tell.
        Err(error)
            if error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe) =>
        {
            ExitCode::SUCCESS
        }
        Err(error) => {
            let text = format!("{error:#}");
            let prefix = if text.contains(": error: ") { "" } else { "error: " };
            eprintln!("{prefix}{}", text.trim_end());
            ExitCode::FAILURE
        }
    }
}

fn serve(args: ServeArgs) -> anyhow::Result<ExitCode> {
    let feature_gates = spanwise_pipeline::FeatureGates::parse(&args.feature_gates)
        .map_err(|error| anyhow::anyhow!("--feature-gates: {error}"))?;
    let input = args.config.input();
    let logs = crate::server::load_config(&input)?.telemetry.logs;
    let filter = tracing_subscriber::EnvFilter::try_from_env("SPANWISE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(logs.level.to_lowercase()));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match logs.encoding.as_str() {
        "json" => builder.json().init(),
        _ => builder.with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()).init(),
    }
    let options = crate::server::Options {
        input,
        feature_gates,
        data_dir: args.data_dir,
        object_store: args.object_store,
        listen: args.listen.as_deref().map(crate::server::parse_listen).transpose()?,
        print_ports: args.print_ports,
        allow_hosts: args.allow_host,
        until_unused: args.until_unused,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(crate::server::serve(options));
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    result.map(|()| ExitCode::SUCCESS)
}
