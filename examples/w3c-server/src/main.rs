//! A server for the public conformance suite of W3C Trace Context (`test/test.py` of github.com/w3c/trace-context).
//!
//! It takes a POST of `[{"url": …, "arguments": […]}, …]` and posts each `arguments` to its `url`, as a child of the
//! request's trace. The suite plays both the caller and the called, and looks at the headers that come out.

use std::net::Ipv4Addr;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use clap::Parser;
use serde::Deserialize;
use spanwise_sdk::layers::{SendTraced, ServerLayer};
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

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let _guard = spanwise_sdk::builder().service_name("w3c-server").init()?;
    let arguments = Arguments::parse();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, arguments.port)).await?;
    let client = reqwest::Client::builder().timeout(CALL_TIMEOUT).build()?;
    let router = Router::new()
        .route("/", post(handle))
        .route("/test", post(handle))
        .layer(DefaultBodyLimit::max(1024 * 1024))
        .layer(ServerLayer::new())
        .with_state(client);
    println!("http://{}/test", listener.local_addr()?);
    axum::serve(listener, router).await?;
    Ok(())
}

async fn handle(
    State(client): State<reqwest::Client>,
    Json(calls): Json<Vec<Call>>,
) -> Result<Json<usize>, (StatusCode, String)> {
    if calls.len() > MAX_CALLS {
        return Err((StatusCode::BAD_REQUEST, format!("cannot make {} calls: at most {MAX_CALLS}", calls.len())));
    }
    for call in &calls {
        let request = client.post(&call.url).header("content-type", "application/json");
        let sent = request.body(call.arguments.to_string()).send_traced().await;
        sent.map_err(|error| (StatusCode::BAD_GATEWAY, format!("cannot call {}: {error}", call.url)))?;
    }
    Ok(Json(calls.len()))
}
