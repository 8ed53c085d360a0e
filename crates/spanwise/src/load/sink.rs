//! `spanwise load --sink`: takes what an exporter sends over gRPC, counts it, and forgets it. It does as little as a
//! next hop can, so that a benchmark of the hop before it is not one of the sink.

use std::collections::HashSet;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use http::{HeaderMap, HeaderValue, Response};
use parking_lot::Mutex;
use serde_json::json;
use spanwise_model::limits;
use spanwise_pipeline::net::gather;
use spanwise_wire::Batch;
use spanwise_wire::inflate::{Encoding, inflate};
use spanwise_wire::view::Fields;
use tokio::net::{TcpListener, TcpStream};

pub struct SinkArgs {
    pub listen: String,
    /// Tells how many different spans came, at the cost of reading and remembering each.
    pub distinct: bool,
    /// Before each answer.
    pub delay: Duration,
}

#[derive(Default)]
struct Seen {
    requests: AtomicU64,
    spans: AtomicU64,
    bytes: AtomicU64,
    unreadable: AtomicU64,
    distinct: Mutex<HashSet<([u8; 16], [u8; 8])>>,
}

/// Takes requests until SIGTERM or SIGINT, then prints what came as one line of JSON. The first line it prints says
/// where it listens.
///
/// # Errors
/// When it cannot listen.
pub async fn run(args: SinkArgs) -> anyhow::Result<()> {
    let listener =
        TcpListener::bind(&args.listen).await.with_context(|| format!("cannot listen on {}", args.listen))?;
    say(&json!({"listening": listener.local_addr()?.to_string()}))?;
    let (args, seen) = (Arc::new(args), Arc::new(Seen::default()));
    let mut ended = std::pin::pin!(crate::server::wait_for_signal());
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                tokio::spawn(connection(stream, Arc::clone(&args), Arc::clone(&seen)));
            }
            signal = &mut ended => {
                signal?;
                break;
            }
        }
    }
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let distinct = args.distinct.then(|| seen.distinct.lock().len());
    say(&json!({"requests": count(&seen.requests), "spans": count(&seen.spans), "bytes": count(&seen.bytes),
        "unreadable": count(&seen.unreadable), "distinct": distinct}))
}

fn say(line: &serde_json::Value) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

async fn connection(stream: TcpStream, args: Arc<SinkArgs>, seen: Arc<Seen>) {
    let _ = stream.set_nodelay(true);
    let (stream, sending) = gather(stream);
    let mut builder = h2::server::Builder::new();
    builder.initial_window_size(1 << 20).initial_connection_window_size(2 << 20);
    let Ok(mut connection) = sending.drive(builder.handshake::<_, Bytes>(stream)).await else { return };
    while let Some(Ok((request, mut respond))) = sending.drive(connection.accept()).await {
        let (args, seen) = (Arc::clone(&args), Arc::clone(&seen));
        tokio::spawn(async move {
            let encoding =
                request.headers().get("grpc-encoding").and_then(|value| value.to_str().ok()).map(str::to_owned);
            let taken = take(request.into_body(), encoding.as_deref(), args.distinct, &seen).await;
            if !args.delay.is_zero() {
                tokio::time::sleep(args.delay).await;
            }
            let mut response = Response::new(());
            response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
            let Ok(mut stream) = respond.send_response(response, false) else { return };
            let mut trailers = HeaderMap::new();
            // INVALID_ARGUMENT: sending the same again would give the same.
            trailers.insert("grpc-status", HeaderValue::from_static(if taken.is_some() { "0" } else { "3" }));
            let sent =
                stream.send_data(Bytes::from_static(&[0; 5]), false).and_then(|()| stream.send_trailers(trailers));
            if let Err(error) = sent {
                tracing::debug!(%error, "an answer could not be sent");
            }
        });
    }
}

async fn take(mut body: RecvStream, encoding: Option<&str>, distinct: bool, seen: &Seen) -> Option<()> {
    let mut buffer = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.ok()?;
        let _ = body.flow_control().release_capacity(chunk.len());
        buffer.extend_from_slice(&chunk);
    }
    let message = buffer.freeze();
    seen.bytes.fetch_add(message.len() as u64, Ordering::Relaxed);
    seen.requests.fetch_add(1, Ordering::Relaxed);
    let counted = count(&message, encoding, distinct, seen);
    if counted.is_none() {
        seen.unreadable.fetch_add(1, Ordering::Relaxed);
    }
    counted
}

fn count(message: &Bytes, encoding: Option<&str>, distinct: bool, seen: &Seen) -> Option<()> {
    let (header, _) = message.split_first_chunk::<5>()?;
    let encoding = if header[0] == 1 { Encoding::from_name(encoding?)? } else { Encoding::Identity };
    let bytes = inflate(encoding, &message.slice(5..), limits::IMPORT_RECORD_BYTES).ok()?;
    let spans = if distinct {
        let batch = Batch::from_trusted(bytes).ok()?;
        seen.distinct.lock().extend(batch.spans().iter().map(|span| (span.trace_id.0, span.span_id.0)));
        batch.len_spans() as u64
    } else {
        nested(&bytes, 1).flat_map(|resource| nested(resource, 2)).flat_map(|scope| nested(scope, 2)).count() as u64
    };
    seen.spans.fetch_add(spans, Ordering::Relaxed);
    Some(())
}

fn nested(message: &[u8], number: u32) -> impl Iterator<Item = &[u8]> {
    Fields::new(message).filter(move |field| field.number == number).map(|field| field.value.bytes())
}
