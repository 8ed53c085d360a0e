//! The exporters: OTLP as the official crate has it, and lines on standard output.

use std::time::{Duration, UNIX_EPOCH};

use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_otlp::{RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::SpanData;

use crate::export::{Export, MakeExporter, Task};
use crate::sampling::RemoteSampler;
use crate::settings::Exporter;

/// Up to the deadline of the export: a collector that restarts is waited for.
fn retries() -> RetryPolicy {
    RetryPolicy::default().with_max_retries(10).with_max_delay(Duration::from_secs(5))
}

/// `None` when nothing is to be exported.
pub(crate) fn exporter(kind: Exporter) -> Option<MakeExporter> {
    match kind {
        Exporter::OtlpHttp => Some(Box::new(|| {
            let builder = SpanExporter::builder().with_http();
            let builder = builder.with_protocol(opentelemetry_otlp::Protocol::HttpBinary).with_retry_policy(retries());
            Ok(Box::new(builder.build().map_err(cannot)?) as Box<dyn Export>)
        })),
        #[cfg(feature = "grpc")]
        Exporter::OtlpGrpc => Some(Box::new(|| {
            use opentelemetry_otlp::WithTonicConfig;
            let builder = SpanExporter::builder().with_tonic().with_retry_policy(retries());
            Ok(Box::new(builder.build().map_err(cannot)?) as Box<dyn Export>)
        })),
        #[cfg(not(feature = "grpc"))]
        Exporter::OtlpGrpc => None,
        Exporter::Console => Some(Box::new(|| Ok(Box::new(Console) as Box<dyn Export>))),
        Exporter::None => None,
    }
}

fn cannot(error: impl std::fmt::Display) -> String {
    format!("cannot set up the OTLP exporter: {error}")
}

/// One line of JSON for each span.
#[derive(Debug)]
struct Console;

impl opentelemetry_sdk::trace::SpanExporter for Console {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        for span in batch {
            println!("{}", line(&span));
        }
        Ok(())
    }
}

fn line(span: &SpanData) -> String {
    let nanoseconds = |time: std::time::SystemTime| {
        time.duration_since(UNIX_EPOCH).map_or_else(|_| "0".into(), |since| since.as_nanos().to_string())
    };
    let attributes: serde_json::Map<_, _> = span
        .attributes
        .iter()
        .map(|pair| (pair.key.to_string(), serde_json::Value::from(pair.value.to_string())))
        .collect();
    serde_json::json!({
        "name": span.name, "kind": format!("{:?}", span.span_kind),
        "trace_id": span.span_context.trace_id().to_string(), "span_id": span.span_context.span_id().to_string(),
        "parent_span_id": span.parent_span_id.to_string(),
        "start_unix_nano": nanoseconds(span.start_time), "end_unix_nano": nanoseconds(span.end_time),
        "status": format!("{:?}", span.status), "attributes": attributes,
    })
    .to_string()
}

const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// Asks a sampling server again and again. What held last holds on while there is no answer.
pub(crate) fn follow(sampler: RemoteSampler, service: &str) -> Task {
    let address = address(&sampler.options().endpoint, service);
    Box::new(move |_| {
        Box::pin(async move {
            let client = Client::builder(TokioExecutor::new()).build::<_, Full<bytes::Bytes>>(HttpConnector::new());
            loop {
                if let Ok(Some(answer)) = tokio::time::timeout(ASK_TIMEOUT, ask(&client, &address)).await {
                    sampler.update(&answer);
                }
                tokio::time::sleep(sampler.options().interval).await;
            }
        })
    })
}

async fn ask(client: &Client<HttpConnector, Full<bytes::Bytes>>, address: &str) -> Option<bytes::Bytes> {
    let answer = client.get(address.parse().ok()?).await.ok().filter(|answer| answer.status().is_success())?;
    let body = Limited::new(answer.into_body(), crate::sampling::MAX_ANSWER_BYTES);
    Some(body.collect().await.ok()?.to_bytes())
}

fn address(endpoint: &str, service: &str) -> String {
    let endpoint = endpoint.trim_end_matches('/');
    let scheme = endpoint.find("://").map_or(0, |at| at + 3);
    let has_path = endpoint.get(scheme..).is_some_and(|rest| rest.contains('/'));
    let path = if has_path { "" } else { "/sampling" };
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
        for (endpoint, expected) in [
            ("http://h:5778", "http://h:5778/sampling?service=a%20b"),
            ("http://h:5778/", "http://h:5778/sampling?service=a%20b"),
            ("http://h:14268/api/sampling", "http://h:14268/api/sampling?service=a%20b"),
        ] {
            assert_eq!(address(endpoint, "a b"), expected);
        }
    }
}
