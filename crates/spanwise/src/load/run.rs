//! `spanwise load`: sends the workload over OTLP and says what came of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use spanwise_wire::inflate::Encoding;

use super::connection::{Answer, Connection};
use super::plan::Plan;
use super::workload::Workload;

pub use super::connection::Protocol;

pub struct LoadArgs {
    /// `host:port` of an OTLP receiver.
    pub authority: String,
    pub protocol: Protocol,
    pub encoding: Encoding,
    pub spans: u64,
    /// Spans made before the clock starts; later ones repeat them in traces of their own.
    pub distinct: u64,
    /// Spans a second; `None` for as fast as possible.
    pub rate: Option<u64>,
    pub connections: usize,
    /// Requests that wait for their answer on one connection.
    pub in_flight: usize,
    pub seed: u64,
}

/// What came of it. Every span that was offered is in exactly one of the counts.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub accepted: u64,
    pub rejected: u64,
    pub refused: u64,
    pub failed: u64,
    pub errors_made: u64,
    pub traces: u64,
    pub elapsed: Duration,
    /// How long each request that was accepted took, in ascending order.
    pub latencies: Vec<Duration>,
}

impl Outcome {
    /// `share` of the accepted requests took no longer.
    pub fn latency(&self, share: f64) -> Duration {
        let place = (self.latencies.len() as f64 * share) as usize;
        self.latencies.get(place.min(self.latencies.len().saturating_sub(1))).copied().unwrap_or_default()
    }

    fn add(&mut self, part: Outcome) {
        self.accepted += part.accepted;
        self.rejected += part.rejected;
        self.refused += part.refused;
        self.failed += part.failed;
        self.latencies.extend(part.latencies);
    }
}

/// # Errors
/// When the receiver cannot be reached at the start.
pub async fn run(args: LoadArgs) -> anyhow::Result<Outcome> {
    if args.connections == 0 || args.in_flight == 0 {
        bail!("--connections and --in-flight must be at least 1");
    }
    let args = Arc::new(args);
    let now = spanwise_journal::Clock::now_unix_nano(&spanwise_journal::SystemClock::new());
    let gap = args.rate.map_or(1_000_000, |rate| 12_000_000_000 / rate.max(1));
    let workload = Workload::new(args.seed, now, gap);
    // Fails before anything is made when nobody listens.
    drop(Connection::open(args.protocol, &args.authority).await?);
    let plan = Arc::new(Plan::prepare(workload, args.distinct, args.spans, args.encoding, args.rate)?);
    let mut connections = Vec::new();
    for _ in 0..args.connections {
        let connection = Connection::open(args.protocol, &args.authority).await?;
        for _ in 1..args.in_flight {
            connections.push(match connection.share() {
                Some(shared) => shared,
                None => Connection::open(args.protocol, &args.authority).await?,
            });
        }
        connections.push(connection);
    }
    let started = Instant::now();
    let work = |connection| tokio::spawn(work(Arc::clone(&args), Arc::clone(&plan), connection, started));
    let tasks: Vec<_> = connections.into_iter().map(work).collect();
    let mut outcome = Outcome::default();
    for task in tasks {
        outcome.add(task.await?);
    }
    outcome.latencies.sort_unstable();
    outcome.errors_made = plan.totals.error_traces;
    outcome.traces = plan.totals.traces;
    outcome.elapsed = started.elapsed();
    Ok(outcome)
}

async fn work(args: Arc<LoadArgs>, plan: Arc<Plan>, mut connection: Connection, started: Instant) -> Outcome {
    let mut outcome = Outcome::default();
    while let Some(due) = plan.next() {
        if args.rate.is_some() {
            tokio::time::sleep(due.after.saturating_sub(started.elapsed())).await;
        }
        let sent = Instant::now();
        match connection.send(&args.authority, plan.encoding(), due.body).await {
            Ok(Answer::Accepted { rejected }) => {
                outcome.rejected += rejected;
                outcome.accepted += due.spans.saturating_sub(rejected);
                outcome.latencies.push(sent.elapsed());
            }
            Ok(Answer::Refused) => outcome.refused += due.spans,
            Err(_) => {
                // Whether the receiver has these is not known: they count as failed, and a new connection is tried.
                outcome.failed += due.spans;
                if let Ok(fresh) = Connection::open(args.protocol, &args.authority).await {
                    connection = fresh;
                }
            }
        }
    }
    outcome
}
