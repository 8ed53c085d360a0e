//! A server for the public conformance suite of W3C Trace Context (`test/test.py` of github.com/w3c/trace-context).
//!
//! It takes a POST of `[{"url": …, "arguments": […]}, …]` and posts each `arguments` to its `url`, as a child of the
//! request's trace. The suite plays both the caller and the called, and looks at the headers that come out.

use std::net::Ipv4Addr;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use clap::Parser;
use serde::Deserialize;
use spanwise_propagate::{Decision, Parent, Propagator, SpanContext, SpanId, TraceId};
use tokio::net::TcpListener;

/// A server for the W3C's conformance suite.
///
/// Example: w3c-server --port 5000, then SPEC_LEVEL=2 STRICT_LEVEL=2 python test.py http://127.0.0.1:5000/test
#[derive(Parser)]
struct Arguments {
    /// Port on localhost; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
}

/// One call to make.
#[derive(Deserialize)]
struct Call {
    url: String,
    #[serde(default)]
    arguments: serde_json::Value,
}

/// More calls than the suite ever asks for in one request.
const MAX_CALLS: usize = 64;
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Clone)]
struct Server {
    propagator: Propagator,
    client: reqwest::Client,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, arguments.port)).await?;
    let client = reqwest::Client::builder().timeout(CALL_TIMEOUT).build()?;
    let server = Server { propagator: Propagator::default(), client };
    let router = Router::new()
        .route("/", post(handle))
        .route("/test", post(handle))
        .layer(DefaultBodyLimit::max(1024 * 1024))
        .with_state(server);
    println!("http://{}/test", listener.local_addr()?);
    axum::serve(listener, router).await?;
    Ok(())
}

async fn handle(
    State(server): State<Server>,
    headers: HeaderMap,
    Json(calls): Json<Vec<Call>>,
) -> Result<Json<usize>, (StatusCode, String)> {
    if calls.len() > MAX_CALLS {
        return Err((StatusCode::BAD_REQUEST, format!("cannot make {} calls: at most {MAX_CALLS}", calls.len())));
    }
    let found = server.propagator.extract(&headers);
    let request = child(found.parent.as_ref());
    for call in &calls {
        let mut headers = HeaderMap::new();
        let client_span = request.child(new_span_id());
        server.propagator.inject(&client_span, &found.baggage, &mut headers);
        let sent = server.client.post(&call.url).headers(headers);
        let sent = sent.header("content-type", "application/json").body(call.arguments.to_string());
        sent.send().await.map_err(|error| (StatusCode::BAD_GATEWAY, format!("cannot call {}: {error}", call.url)))?;
    }
    Ok(Json(calls.len()))
}

/// This request's span: below the caller's, or the root of a new trace.
fn child(parent: Option<&Parent>) -> SpanContext {
    match parent {
        Some(Parent::Span(span)) => span.child(new_span_id()),
        Some(Parent::Trace { trace_id, decision }) => SpanContext::root(*trace_id, new_span_id(), *decision, false),
        Some(Parent::Decision(decision)) => SpanContext::root(new_trace_id(), new_span_id(), *decision, true),
        None => SpanContext::root(new_trace_id(), new_span_id(), Decision::Accept, true),
    }
}

fn new_trace_id() -> TraceId {
    std::iter::repeat_with(rand::random).find_map(TraceId::from_bytes).unwrap_or_else(|| unreachable!("endless"))
}

fn new_span_id() -> SpanId {
    std::iter::repeat_with(rand::random).find_map(SpanId::from_bytes).unwrap_or_else(|| unreachable!("endless"))
}
