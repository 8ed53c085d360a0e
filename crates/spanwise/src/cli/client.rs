//! Asking a running server: plain HTTP, one request a connection.

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;

/// Status and body of the answer.
pub struct Answer {
    pub status: u16,
    pub body: Bytes,
}

impl Answer {
    /// The message of an error answer.
    pub fn message(&self) -> String {
        let json: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        json["error"].as_str().map_or_else(|| String::from_utf8_lossy(&self.body).trim().to_owned(), str::to_owned)
    }
}

/// `host:port` of an address that may be written as a URL.
pub fn authority(addr: &str) -> anyhow::Result<&str> {
    if addr.starts_with("https://") {
        bail!("--addr {addr}: https is not supported; servers listen on plain http");
    }
    let rest = addr.strip_prefix("http://").unwrap_or(addr);
    Ok(rest.split('/').next().unwrap_or(rest))
}

/// # Errors
/// When the server cannot be reached.
pub fn request(authority: &str, path: &str, body: Option<Bytes>) -> anyhow::Result<Answer> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(authority)
            .await
            .with_context(|| format!("cannot reach {authority}: is `spanwise serve` running there?"))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let builder = match &body {
            Some(_) => Request::post(path),
            None => Request::get(path),
        };
        let request =
            builder.header("host", authority).header("x-spanwise", "cli").body(Full::new(body.unwrap_or_default()))?;
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await?.to_bytes();
        Ok(Answer { status, body })
    })
}

/// Percent-encodes a value of a query string.
pub fn encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
