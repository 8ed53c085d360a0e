//! Where the run's traces go: `--endpoint`, the standard variables, or this machine.

use std::collections::BTreeMap;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::{Context as _, bail};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    HttpProtobuf,
    HttpJson,
    Grpc,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Base address, as in `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub url: String,
    /// Where traces are sent to: the base with `/v1/traces`, or what the variable for traces says.
    pub traces_url: String,
    pub host: String,
    pub port: u16,
    pub is_tls: bool,
    pub protocol: Protocol,
    /// Neither an option nor a variable chose it.
    pub is_default: bool,
    pub headers: BTreeMap<String, String>,
}

const DEFAULT: &str = "http://127.0.0.1:4318";
/// A receiver on this machine answers at once; one far away may take a little.
const CONNECT: Duration = Duration::from_secs(1);

impl Endpoint {
    /// # Errors
    /// When what was chosen is no address.
    pub fn choose(option: Option<&str>) -> anyhow::Result<Endpoint> {
        Endpoint::choose_from(option, |name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn choose_from(option: Option<&str>, variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Endpoint> {
        let of_traces = variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").filter(|_| option.is_none());
        let base = option.map(str::to_owned).or_else(|| variable("OTEL_EXPORTER_OTLP_ENDPOINT"));
        let is_default = of_traces.is_none() && base.is_none();
        let protocol =
            variable("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL").or_else(|| variable("OTEL_EXPORTER_OTLP_PROTOCOL"));
        let protocol = match protocol.as_deref() {
            Some("grpc") => Protocol::Grpc,
            Some("http/json") => Protocol::HttpJson,
            _ => Protocol::HttpProtobuf,
        };
        let url = of_traces.clone().or_else(|| base.clone()).unwrap_or_else(|| DEFAULT.to_owned());
        let (scheme, rest) = url
            .split_once("://")
            .with_context(|| format!("cannot use the endpoint {url:?}: write it as a URL, as in {DEFAULT}"))?;
        let is_tls = match scheme {
            "http" => false,
            "https" => true,
            other => bail!("cannot use the endpoint {url:?}: {other} is neither http nor https"),
        };
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                let port = port
                    .parse()
                    .ok()
                    .with_context(|| format!("cannot use the endpoint {url:?}: {port:?} is no port"))?;
                (host, port)
            }
            _ => (authority, if is_tls { 443 } else { 80 }),
        };
        if host.is_empty() {
            bail!("cannot use the endpoint {url:?}: it names no host");
        }
        let base = base.unwrap_or_else(|| format!("{scheme}://{authority}"));
        let traces_url = match &of_traces {
            Some(url) if path.is_empty() => format!("{url}/"),
            Some(url) => url.clone(),
            None => format!("{}/v1/traces", url.trim_end_matches('/')),
        };
        let headers = variable("OTEL_EXPORTER_OTLP_TRACES_HEADERS").or_else(|| variable("OTEL_EXPORTER_OTLP_HEADERS"));
        Ok(Endpoint {
            traces_url,
            host: host.to_owned(),
            port,
            is_tls,
            protocol,
            is_default,
            headers: read_headers(&headers.unwrap_or_default()),
            url: base,
        })
    }

    /// Of a Spanwise on this machine.
    pub fn local(port: u16) -> Endpoint {
        let url = format!("http://127.0.0.1:{port}");
        Endpoint {
            traces_url: format!("{url}/v1/traces"),
            host: "127.0.0.1".to_owned(),
            port,
            is_tls: false,
            protocol: Protocol::HttpProtobuf,
            is_default: true,
            headers: BTreeMap::new(),
            url,
        }
    }

    pub fn is_on_this_machine(&self) -> bool {
        matches!(self.host.as_str(), "127.0.0.1" | "localhost" | "[::1]") && !self.is_tls
    }

    pub fn listens(&self) -> bool {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let Ok(addresses) = (host, self.port).to_socket_addrs() else { return false };
        addresses.take(4).any(|address| TcpStream::connect_timeout(&address, CONNECT).is_ok())
    }
}

/// `key=value,key2=value2`, values percent-encoded.
fn read_headers(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.trim().to_lowercase(), decode(value.trim()))).collect()
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = text.get(at + 1..at + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (byte, hex) {
            (b'%', Some(decoded)) => {
                out.push(decoded);
                at += 3;
            }
            (byte, _) => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(option: Option<&str>, variables: &[(&str, &str)]) -> anyhow::Result<Endpoint> {
        Endpoint::choose_from(option, |name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn options_come_before_variables_and_variables_before_the_default() {
        let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/base/");
        let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://traces.example.com/in");
        for (option, variables, url, port, is_default) in [
            (None, vec![], "http://127.0.0.1:4318/v1/traces", 4318, true),
            (None, vec![base], "http://collector:4318/base/v1/traces", 4318, false),
            (None, vec![base, traces], "https://traces.example.com/in", 443, false),
            (Some("http://h:1"), vec![base, traces], "http://h:1/v1/traces", 1, false),
        ] {
            let found = choose(option, &variables).unwrap();
            assert_eq!((found.traces_url.as_str(), found.port, found.is_default), (url, port, is_default));
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for url in ["localhost:4318", "ftp://x", "http://", "http://h:port", "http://h:99999"] {
            assert!(choose(Some(url), &[]).is_err(), "{url}");
        }
    }

    #[test]
    fn headers_are_decoded() {
        let found = choose(None, &[("OTEL_EXPORTER_OTLP_HEADERS", "Api-Key=a%20b, x=1%")]).unwrap();
        let expected = [("api-key", "a b"), ("x", "1%")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(found.headers, BTreeMap::from(expected));
    }
}
