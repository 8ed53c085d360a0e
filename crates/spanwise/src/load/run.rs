//! `spanwise load`: sends the workload over OTLP/HTTP and says what came of it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use spanwise_wire::answer::PartialSuccess;
use tokio::sync::mpsc;

use super::workload::Workload;

pub struct LoadArgs {
    /// `host:port` of an OTLP/HTTP receiver.
    pub authority: String,
    pub spans: u64,
    /// Spans a second; `None` for as fast as possible.
    pub rate: Option<u64>,
    pub connections: usize,
    pub seed: u64,
}

/// What came of it. Every span that was offered is in exactly one of the counts.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    pub accepted: u64,
    pub rejected: u64,
    pub refused: u64,
    pub failed: u64,
    pub errors_made: u64,
    pub traces: u64,
    pub elapsed: Duration,
}

async fn connect(authority: &str) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let stream = tokio::net::TcpStream::connect(authority)
        .await
        .with_context(|| format!("cannot reach {authority}: is an OTLP/HTTP receiver listening there?"))?;
    stream.set_nodelay(true)?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// # Errors
/// When the receiver cannot be reached at the start.
pub async fn run(args: LoadArgs) -> anyhow::Result<Outcome> {
    if args.connections == 0 {
        bail!("--connections must be at least 1");
    }
    let now = spanwise_journal::Clock::now_unix_nano(&spanwise_journal::SystemClock::new());
    let gap = args.rate.map_or(1_000_000, |rate| 12_000_000_000 / rate.max(1));
    let mut workload = Workload::new(args.seed, now, gap);
    let started = Instant::now();
    let mut senders = Vec::new();
    let mut tasks = Vec::new();
    for _ in 0..args.connections {
        let connection = connect(&args.authority).await?;
        let (sender, receiver) = mpsc::channel(4);
        senders.push(sender);
        tasks.push(tokio::spawn(work(args.authority.clone(), connection, receiver)));
    }
    let (mut offered, mut next) = (0u64, 0);
    'all: while offered < args.spans {
        for request in workload.requests((args.spans - offered).min(10_000)) {
            if let Some(rate) = args.rate {
                let due = Duration::from_secs_f64(offered as f64 / rate.max(1) as f64);
                tokio::time::sleep(due.saturating_sub(started.elapsed())).await;
            }
            offered += request.spans as u64;
            next = (next + 1) % senders.len();
            if senders[next].send((Bytes::from(request.bytes), request.spans as u64)).await.is_err() {
                break 'all;
            }
        }
    }
    drop(senders);
    let mut outcome = Outcome::default();
    for task in tasks {
        let part = task.await?;
        outcome.accepted += part.accepted;
        outcome.rejected += part.rejected;
        outcome.refused += part.refused;
        outcome.failed += part.failed;
    }
    outcome.errors_made = workload.totals.error_traces;
    outcome.traces = workload.totals.traces;
    outcome.elapsed = started.elapsed();
    Ok(outcome)
}

async fn work(
    authority: String,
    mut connection: SendRequest<Full<Bytes>>,
    mut requests: mpsc::Receiver<(Bytes, u64)>,
) -> Outcome {
    let mut outcome = Outcome::default();
    while let Some((bytes, spans)) = requests.recv().await {
        match send(&mut connection, &authority, bytes).await {
            Ok((200, partial)) => {
                outcome.rejected += partial.rejected_spans;
                outcome.accepted += spans.saturating_sub(partial.rejected_spans);
            }
            Ok(_) => outcome.refused += spans,
            Err(_) => {
                // Whether the receiver has these is not known: they count as failed, and a new connection is tried.
                outcome.failed += spans;
                if let Ok(fresh) = connect(&authority).await {
                    connection = fresh;
                }
            }
        }
    }
    outcome
}

async fn send(
    connection: &mut SendRequest<Full<Bytes>>,
    authority: &str,
    bytes: Bytes,
) -> anyhow::Result<(u16, PartialSuccess)> {
    connection.ready().await?;
    let request = Request::post("/v1/traces")
        .header("host", authority)
        .header("content-type", "application/x-protobuf")
        .body(Full::new(bytes))?;
    let response = connection.send_request(request).await?;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, PartialSuccess::from_proto(&body)))
}
