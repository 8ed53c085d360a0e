//! `spanwise`: the store as an exporter. Its yes means that the spans are synced and visible.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use spanwise_pipeline::component::{Build, Factory, Kind, Stage, prepare};
use spanwise_pipeline::config::Signal;
use spanwise_pipeline::config::units::GoDuration;
use spanwise_pipeline::telemetry::Counter;
use spanwise_pipeline::{Consumer, Payload, Refusal};
use spanwise_store::Store;
use spanwise_wire::kept::with_probability;

pub const FACTORY: Factory = Factory {
    kind: Kind::Exporter,
    name: "spanwise",
    aliases: &[],
    stability: "alpha",
    summary: "Keeps spans in the embedded store.",
    signals: &[Signal::Traces],
    schema: || schemars::schema_for!(StoreExporterConfig),
    prepare: |node, path, errors| {
        prepare::<StoreExporterConfig>(
            node,
            path,
            errors,
            |_| Ok(()),
            |_| {
                Build::Exporter(Box::new(|context| {
                    let store = context.host.clone().and_then(|host| host.downcast::<Store>().ok());
                    let store = store.ok_or_else(|| context.error("there is no store"))?;
                    let labels: &[(&'static str, &str)] = &[("exporter", &context.id.to_string())];
                    let sent = context.telemetry.counter("otelcol_exporter_sent_spans", "Spans sent.", labels);
                    let help = "Spans dropped after sending failed for good.";
                    let failed = context.telemetry.counter("otelcol_exporter_send_failed_spans", help, labels);
                    Ok(Arc::new(StoreExporter { store, sent, failed }))
                }))
            },
        )
    },
};

/// How much the store keeps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct StoreExporterConfig {
    /// Bytes of all blocks together; the oldest go first. 0 means 20 GiB or half of the free space, whichever is
    /// smaller.
    pub max_bytes: u64,
    /// Time since arrival; 0 means for ever.
    pub max_age: GoDuration,
}

struct StoreExporter {
    store: Arc<Store>,
    sent: Counter,
    failed: Counter,
}

#[async_trait]
impl Consumer for StoreExporter {
    async fn consume(&self, payload: Payload) -> Result<(), Refusal> {
        let spans = payload.batch.len_spans() as u64;
        match self.store.append(with_probability(payload.batch, payload.probability)).await {
            Ok(()) => {
                self.sent.add(spans);
                Ok(())
            }
            Err(error) => {
                self.failed.add(spans);
                Err(error.into())
            }
        }
    }
}

#[async_trait]
impl Stage for StoreExporter {
    async fn drain(&self) {}
}
