//! Asking a sampling server again and again, on the export's thread. What held last holds on while there is no answer.
//!
//! Servers speak HTTP (`/sampling?service=…`, JSON) or gRPC (`SamplingManager`), and addresses do not tell which: an
//! address with a path is asked by HTTP, another one by both until one of them has answered.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use super::remote::MAX_ANSWER_BYTES;
use super::{RemoteSampler, strategy::Strategy};
use crate::export::Task;
use crate::tls::{Connector, Tls};

const ASK_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http,
    #[cfg(feature = "grpc")]
    Grpc,
}

pub(crate) fn follow(sampler: RemoteSampler, tls: Tls, service: &str) -> Task {
    let service = service.to_owned();
    Box::new(move |_| {
        Box::pin(async move {
            let endpoint = sampler.options().endpoint.clone();
            // A file that cannot be used is reported by the exporter, which reads the same ones.
            let Ok(connector) = tls.connector(endpoint.starts_with("https:")) else { return };
            let mut server = Server::new(&endpoint, service, connector);
            loop {
                if let Some(strategy) = server.ask().await {
                    sampler.set(strategy);
                }
                tokio::time::sleep(sampler.options().interval).await;
            }
        })
    })
}

struct Server {
    endpoint: String,
    service: String,
    /// The one that answered, or the one that comes into question.
    protocol: Option<Protocol>,
    connector: Connector,
}

impl Server {
    fn new(endpoint: &str, service: String, connector: Connector) -> Self {
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        let is_http_only = !cfg!(feature = "grpc") || has_path(&endpoint);
        Self { endpoint, service, protocol: is_http_only.then_some(Protocol::Http), connector }
    }

    async fn ask(&mut self) -> Option<Strategy> {
        match self.protocol {
            Some(Protocol::Http) => self.by_http().await,
            #[cfg(feature = "grpc")]
            Some(Protocol::Grpc) => self.by_grpc().await,
            None => {
                if let Some(found) = self.by_http().await {
                    self.protocol = Some(Protocol::Http);
                    return Some(found);
                }
                #[cfg(feature = "grpc")]
                if let Some(found) = self.by_grpc().await {
                    self.protocol = Some(Protocol::Grpc);
                    return Some(found);
                }
                None
            }
        }
    }

    async fn by_http(&self) -> Option<Strategy> {
        let client = Client::builder(TokioExecutor::new()).build::<_, Full<Bytes>>(self.connector.clone());
        let asked = client.get(address(&self.endpoint, &self.service).parse().ok()?);
        let answer = tokio::time::timeout(ASK_TIMEOUT, async {
            let answer = asked.await.ok().filter(|answer| answer.status().is_success())?;
            Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await.ok()
        });
        Strategy::from_json(&answer.await.ok()??.to_bytes())
    }

    #[cfg(feature = "grpc")]
    async fn by_grpc(&self) -> Option<Strategy> {
        let mut client = Client::builder(TokioExecutor::new());
        let client = client.http2_only(true).build::<_, Full<Bytes>>(self.connector.clone());
        let request = http::Request::post(format!("{}{METHOD}", self.endpoint))
            .version(http::Version::HTTP_2)
            .header(http::header::CONTENT_TYPE, "application/grpc")
            .header(http::header::TE, "trailers")
            .body(Full::new(question(&self.service)))
            .ok()?;
        let asked = client.request(request);
        let answer = tokio::time::timeout(ASK_TIMEOUT, async {
            let answer = asked.await.ok().filter(|answer| answer.status().is_success())?;
            Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await.ok()
        });
        let answer = answer.await.ok()??;
        let is_ok = answer.trailers().and_then(|trailers| trailers.get("grpc-status")).is_some_and(|code| code == "0");
        // One message, not compressed: nothing else was asked for.
        let bytes = answer.to_bytes();
        let (head, message) = bytes.split_at_checked(5).filter(|_| is_ok)?;
        let [0, length @ ..] = head else { return None };
        let length = u32::from_be_bytes(length.try_into().ok()?);
        (usize::try_from(length).ok()? == message.len()).then(|| Strategy::from_message(message))?
    }
}

#[cfg(feature = "grpc")]
const METHOD: &str = "/jaeger.api_v2.SamplingManager/GetSamplingStrategy";

/// `SamplingStrategyParameters { service_name = 1 }` as a gRPC message.
#[cfg(feature = "grpc")]
fn question(service: &str) -> Bytes {
    use prost::Message;
    let message = super::strategy::Question { service: service.to_owned() }.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap_or(0);
    [&[0][..], &length.to_be_bytes(), &message].concat().into()
}

fn has_path(endpoint: &str) -> bool {
    let scheme = endpoint.find("://").map_or(0, |at| at + 3);
    endpoint.get(scheme..).is_some_and(|rest| rest.contains('/'))
}

fn address(endpoint: &str, service: &str) -> String {
    let path = if has_path(endpoint) { "" } else { "/sampling" };
    let service: String = service.bytes().map(escape).collect();
    format!("{endpoint}{path}?service={service}")
}

fn escape(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
        char::from(byte).to_string()
    } else {
        format!("%{byte:02X}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_sampling_servers() {
        for (endpoint, expected, protocol) in [
            ("http://h:5778", "http://h:5778/sampling?service=a%20b", None),
            ("http://h:5778/", "http://h:5778/sampling?service=a%20b", None),
            ("http://h:14268/api/sampling", "http://h:14268/api/sampling?service=a%20b", Some(Protocol::Http)),
        ] {
            let server = Server::new(endpoint, "a b".into(), Tls::default().connector(false).unwrap());
            assert_eq!(address(&server.endpoint, &server.service), expected);
            assert_eq!(server.protocol, protocol.or((!cfg!(feature = "grpc")).then_some(Protocol::Http)));
        }
    }
}
