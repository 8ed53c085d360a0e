//! The exporters: OTLP as the official crate has it, and lines on standard output.

use std::time::{Duration, UNIX_EPOCH};

use opentelemetry_http::hyper::HyperClient;
use opentelemetry_otlp::{RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::SpanData;

use crate::export::{Export, MakeExporter};
use crate::settings::{Connection, Exporter};

/// Up to the deadline of the export: a collector that restarts is waited for.
fn retries() -> RetryPolicy {
    RetryPolicy::default().with_max_retries(10).with_max_delay(Duration::from_secs(5))
}

/// `None` when nothing is to be exported.
pub(crate) fn exporter(kind: Exporter, connection: Connection) -> Option<MakeExporter> {
    match kind {
        Exporter::OtlpHttp => Some(Box::new(move || {
            let connector = connection.tls.connector(connection.is_https).map_err(cannot)?;
            let client = HyperClient::new(connector, connection.timeout, None);
            let builder = SpanExporter::builder().with_http().with_http_client(client);
            let builder = builder.with_protocol(opentelemetry_otlp::Protocol::HttpBinary).with_retry_policy(retries());
            Ok(Box::new(builder.build().map_err(cannot)?) as Box<dyn Export>)
        })),
        #[cfg(feature = "grpc")]
        Exporter::OtlpGrpc => Some(Box::new(move || {
            use opentelemetry_otlp::WithTonicConfig;
            let builder = SpanExporter::builder().with_tonic().with_retry_policy(retries());
            #[cfg(feature = "grpc-tls")]
            let builder = match connection.is_https {
                true => builder.with_tls_config(connection.tls.tonic().map_err(cannot)?),
                false => builder,
            };
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
