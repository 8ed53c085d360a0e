//! What `otlp` and `otlphttp` share: endpoints, connecting, compression.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use spanwise_wire::inflate::{Encoding, deflate};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::flow::{Payload, Refusal};
use crate::net::{ClientTls, Stream, tls::server_name};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema, Default)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    #[default]
    Gzip,
    Zstd,
    Snappy,
    Zlib,
    Deflate,
    Lz4,
    #[serde(alias = "")]
    None,
}

impl Compression {
    pub fn encoding(self) -> Encoding {
        match self {
            Compression::Gzip => Encoding::Gzip,
            Compression::Zstd => Encoding::Zstd,
            Compression::Snappy => Encoding::Snappy,
            Compression::Zlib => Encoding::Zlib,
            Compression::Deflate => Encoding::Deflate,
            Compression::Lz4 => Encoding::Lz4,
            Compression::None => Encoding::Identity,
        }
    }
}

/// A batch's bytes in this encoding; the bytes it came in where nothing changed since.
///
/// # Errors
/// When the codec refuses.
pub fn body(payload: &Payload, encoding: Encoding) -> Result<Bytes, Refusal> {
    match payload.batch.compressed() {
        Some(compressed) if compressed.encoding == encoding => Ok(compressed.bytes.clone()),
        _ => deflate(encoding, None, payload.batch.bytes()).map_err(|error| Refusal::permanent(error.to_string())),
    }
}

/// Where a client connects to.
#[derive(Clone)]
pub struct Target {
    pub host: String,
    pub port: u16,
    pub tls: Option<(Arc<rustls::ClientConfig>, String)>,
}

impl Target {
    /// Reads `host:port`, `http://…` or `https://…`; `https` without a port means 443, `http` 80.
    ///
    /// # Errors
    /// When the endpoint is none or its TLS settings cannot be used.
    pub fn parse(endpoint: &str, tls: &ClientTls, default_tls: bool, alpn: &[&[u8]]) -> Result<Target, String> {
        let (scheme, rest) = match endpoint.split_once("://") {
            Some((scheme @ ("http" | "https"), rest)) => (Some(scheme), rest),
            Some((scheme, _)) => return Err(format!("unsupported scheme {scheme:?} in endpoint {endpoint:?}")),
            None => (None, endpoint),
        };
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && (!host.contains(':') || host.ends_with(']')) => {
                let port = port.parse().map_err(|_| format!("invalid port {port:?} in endpoint {endpoint:?}"))?;
                (host, port)
            }
            _ => match scheme {
                Some("https") => (authority, 443),
                Some(_) => (authority, 80),
                None => return Err(format!("endpoint {endpoint:?} must be host:port")),
            },
        };
        if host.is_empty() {
            return Err(format!("endpoint {endpoint:?} has no host"));
        }
        let encrypted = match scheme {
            Some("https") => true,
            Some(_) => false,
            None => default_tls && !tls.insecure,
        };
        let tls = match encrypted {
            true => Some((tls.build(alpn)?, tls.server_name_override.clone())),
            false => None,
        };
        Ok(Target { host: host.to_owned(), port, tls })
    }

    /// # Errors
    /// When the peer cannot be reached or does not prove who it is. Trying again may help.
    pub async fn connect(&self) -> Result<Box<dyn Stream>, Refusal> {
        let fail = |error: String| Refusal {
            retry_after: None,
            ..Refusal::unavailable(format!("cannot connect to {}:{}: {error}", self.host, self.port))
        };
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let connecting = TcpStream::connect((host, self.port));
        let stream = match tokio::time::timeout(Duration::from_secs(10), connecting).await {
            Ok(stream) => stream.map_err(|error| fail(error.to_string()))?,
            Err(_) => return Err(fail("no answer".to_owned())),
        };
        let _ = stream.set_nodelay(true);
        let Some((config, name)) = &self.tls else { return Ok(Box::new(stream)) };
        let name = server_name(&self.host, name).map_err(fail)?;
        let secured = TlsConnector::from(Arc::clone(config)).connect(name, stream).await;
        secured.map(|stream| Box::new(stream) as Box<dyn Stream>).map_err(|error| fail(error.to_string()))
    }

    /// `host:port`, for `Host` and `:authority`.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_read_in_every_form() {
        let parse =
            |endpoint| Target::parse(endpoint, &ClientTls { insecure: true, ..ClientTls::default() }, true, &[]);
        let shape = |endpoint| parse(endpoint).map(|target| (target.host, target.port, target.tls.is_some()));
        for (endpoint, host, port, tls) in [
            ("localhost:4317", "localhost", 4317, false),
            ("https://api.example.com", "api.example.com", 443, true),
            ("http://h:4318/base", "h", 4318, false),
            ("[::1]:4317", "[::1]", 4317, false),
        ] {
            assert_eq!(shape(endpoint), Ok((host.to_owned(), port, tls)), "{endpoint}");
        }
        for endpoint in ["localhost", "unix:///x", "h:port", ":4317", ""] {
            assert!(shape(endpoint).is_err(), "{endpoint}");
        }
    }
}
