//! Keys of the `otlp` receiver, as the collector's `configgrpc` and `confighttp` have them.

use serde::{Deserialize, Deserializer, Serialize};
use spanwise_model::limits;

use crate::config::units::GoDuration;
use crate::net::ServerTls;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct OtlpConfig {
    pub protocols: Protocols,
}

/// A protocol that is named runs, with its defaults where nothing is set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Protocols {
    #[serde(deserialize_with = "named", skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GrpcConfig>,
    #[serde(deserialize_with = "named", skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpConfig>,
}

/// `grpc:` with nothing behind it means its defaults.
fn named<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<Option<T>, D::Error> {
    Ok(Some(Option::<T>::deserialize(deserializer)?.unwrap_or_default()))
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GrpcConfig {
    pub endpoint: String,
    /// tcp.
    pub transport: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ServerTls>,
    /// Largest message after decompression; 0 means 4.
    pub max_recv_msg_size_mib: u32,
    /// Requests open at a time on one connection; 0 means 256.
    pub max_concurrent_streams: u32,
    pub read_buffer_size: u64,
    pub write_buffer_size: u64,
    pub include_metadata: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keepalive: Option<Keepalive>,
}

impl Default for GrpcConfig {
    fn default() -> Self {
        Self {
            endpoint: "localhost:4317".to_owned(),
            transport: "tcp".to_owned(),
            tls: None,
            max_recv_msg_size_mib: 0,
            max_concurrent_streams: 0,
            read_buffer_size: 512 << 10,
            write_buffer_size: 32 << 10,
            include_metadata: false,
            keepalive: None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Keepalive {
    pub server_parameters: KeepaliveServer,
    pub enforcement_policy: KeepaliveEnforcement,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct KeepaliveServer {
    pub max_connection_idle: GoDuration,
    pub max_connection_age: GoDuration,
    pub max_connection_age_grace: GoDuration,
    pub time: GoDuration,
    pub timeout: GoDuration,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct KeepaliveEnforcement {
    pub min_time: GoDuration,
    pub permit_without_stream: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    pub endpoint: String,
    pub transport: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ServerTls>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
    /// Largest body after decompression in bytes; 0 means 20 MiB.
    pub max_request_body_size: u64,
    pub include_metadata: bool,
    /// Encodings that are accepted; empty means all.
    pub compression_algorithms: Vec<String>,
    pub traces_url_path: String,
    pub metrics_url_path: String,
    pub logs_url_path: String,
    pub read_timeout: GoDuration,
    pub read_header_timeout: GoDuration,
    pub write_timeout: GoDuration,
    pub idle_timeout: GoDuration,
    pub keep_alives_enabled: bool,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            endpoint: "localhost:4318".to_owned(),
            transport: "tcp".to_owned(),
            tls: None,
            cors: None,
            max_request_body_size: 0,
            include_metadata: false,
            compression_algorithms: Vec::new(),
            traces_url_path: "/v1/traces".to_owned(),
            metrics_url_path: "/v1/metrics".to_owned(),
            logs_url_path: "/v1/logs".to_owned(),
            read_timeout: GoDuration::default(),
            read_header_timeout: GoDuration::seconds(60),
            write_timeout: GoDuration::seconds(30),
            idle_timeout: GoDuration::seconds(60),
            keep_alives_enabled: true,
        }
    }
}

/// Pages of these origins may send from a browser.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Cors {
    /// May hold one `*` each.
    pub allowed_origins: Vec<String>,
    pub allowed_headers: Vec<String>,
    pub exposed_headers: Vec<String>,
    /// Seconds for which browsers remember the answer.
    pub max_age: u32,
}

impl Cors {
    pub fn allows(&self, origin: &str) -> bool {
        self.allowed_origins.iter().any(|allowed| match allowed.split_once('*') {
            None => allowed.eq_ignore_ascii_case(origin),
            Some((before, after)) => {
                origin.len() >= before.len() + after.len() && origin.starts_with(before) && origin.ends_with(after)
            }
        })
    }
}

impl OtlpConfig {
    pub fn check(&self) -> Result<(), String> {
        if self.protocols == Protocols::default() {
            return Err("must specify at least one protocol when using the OTLP receiver".to_owned());
        }
        let transports = [
            self.protocols.grpc.as_ref().map(|grpc| &grpc.transport),
            self.protocols.http.as_ref().map(|http| &http.transport),
        ];
        match transports.into_iter().flatten().find(|transport| !matches!(transport.as_str(), "tcp" | "tcp4" | "tcp6"))
        {
            Some(transport) => Err(format!("transport {transport:?} is not supported: tcp is")),
            None => Ok(()),
        }
    }
}

impl GrpcConfig {
    pub fn message_bytes(&self) -> usize {
        match self.max_recv_msg_size_mib {
            0 => limits::GRPC_MESSAGE_BYTES,
            mib => mib as usize * (1 << 20),
        }
    }
}

impl HttpConfig {
    pub fn body_bytes(&self) -> usize {
        match self.max_request_body_size {
            0 => limits::HTTP_BODY_BYTES,
            bytes => usize::try_from(bytes).unwrap_or(usize::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_may_hold_a_wildcard() {
        let cors = Cors { allowed_origins: vec!["https://*.example.com".to_owned()], ..Cors::default() };
        assert!(cors.allows("https://a.example.com"));
        assert!(!cors.allows("https://example.com") && !cors.allows("http://a.example.com"));
    }
}
