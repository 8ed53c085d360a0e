//! `spanwise load`: the load generator, and the sink that stands for a next hop.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use spanwise_wire::inflate::Encoding;

use super::Format;
use super::client::authority;
use crate::load::run::{LoadArgs, Outcome, Protocol};
use crate::load::sink::SinkArgs;

#[derive(Args)]
pub(super) struct LoadCommand {
    /// host:port of an OTLP receiver [default: 127.0.0.1:4318, with gRPC 127.0.0.1:4317]
    #[arg(long)]
    endpoint: Option<String>,
    #[arg(long, value_enum, default_value_t = Protocol::Http)]
    protocol: Protocol,
    /// How requests are compressed, before the clock starts
    #[arg(long, default_value = "none", value_parser = ["none", "gzip", "zstd", "snappy", "lz4"])]
    compression: String,
    #[arg(long, default_value_t = 100_000)]
    spans: u64,
    /// Spans made before the clock starts; later ones repeat them in traces of their own
    #[arg(long, default_value_t = 1_000_000)]
    distinct: u64,
    /// Spans a second; as fast as possible without
    #[arg(long)]
    rate: Option<u64>,
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Requests that wait for their answer on one connection; over HTTP each gets a connection of its own
    #[arg(long, default_value_t = 1)]
    in_flight: usize,
    /// The same seed makes the same traces, but for their times
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Instead of sending: take what an exporter sends over gRPC to this address, and count it until SIGTERM
    #[arg(long, value_name = "HOST:PORT")]
    sink: Option<String>,
    /// With --sink: also count how many different spans came
    #[arg(long, requires = "sink")]
    count_distinct: bool,
    /// With --sink: milliseconds before each answer
    #[arg(long, requires = "sink", default_value_t = 0)]
    delay_ms: u64,
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub(super) fn load(command: &LoadCommand) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if let Some(listen) = &command.sink {
        let delay = Duration::from_millis(command.delay_ms);
        let args = SinkArgs { listen: listen.clone(), distinct: command.count_distinct, delay };
        runtime.block_on(crate::load::sink::run(args))?;
        return Ok(ExitCode::SUCCESS);
    }
    let endpoint = command.endpoint.as_deref().unwrap_or(match command.protocol {
        Protocol::Http => "127.0.0.1:4318",
        Protocol::Grpc => "127.0.0.1:4317",
    });
    let args = LoadArgs {
        authority: authority(endpoint)?.to_owned(),
        protocol: command.protocol,
        encoding: Encoding::from_name(&command.compression).unwrap_or(Encoding::Identity),
        spans: command.spans,
        distinct: command.distinct,
        rate: command.rate,
        connections: command.connections,
        in_flight: command.in_flight,
        seed: command.seed,
    };
    let outcome = runtime.block_on(crate::load::run::run(args))?;
    print(&outcome, command.format)?;
    Ok(ExitCode::SUCCESS)
}

fn print(outcome: &Outcome, format: Format) -> anyhow::Result<()> {
    let seconds = outcome.elapsed.as_secs_f64();
    let rate = outcome.accepted as f64 / seconds.max(1e-9);
    let ms = |share| outcome.latency(share).as_secs_f64() * 1e3;
    let mut out = std::io::stdout().lock();
    match format {
        Format::Json => writeln!(
            out,
            "{}",
            json!({"accepted": outcome.accepted, "rejected": outcome.rejected, "refused": outcome.refused,
                "failed": outcome.failed, "traces": outcome.traces, "error_traces": outcome.errors_made,
                "seconds": seconds, "accepted_per_second": rate, "requests_accepted": outcome.latencies.len(),
                "p50_ms": ms(0.5), "p99_ms": ms(0.99), "max_ms": ms(1.0)})
        )?,
        Format::Table => writeln!(
            out,
            "{} spans accepted, {} rejected, {} refused, {} failed in {seconds:.1} s: {rate:.0} a second; \
             an answer took {:.1} ms (p50), {:.1} ms (p99)",
            outcome.accepted,
            outcome.rejected,
            outcome.refused,
            outcome.failed,
            ms(0.5),
            ms(0.99)
        )?,
    }
    Ok(())
}
