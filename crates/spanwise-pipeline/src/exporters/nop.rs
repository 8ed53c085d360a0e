//! `nop`: takes everything and forgets it.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use spanwise_wire::answer::PartialSuccess;

use crate::component::{Build, Factory, Kind, Stage, prepare};
use crate::config::Signal;
use crate::flow::{Consumer, Payload, RawRequest, Refusal};
use crate::telemetry::Counter;

pub const FACTORY: Factory = Factory {
    kind: Kind::Exporter,
    name: "nop",
    aliases: &[],
    stability: "beta",
    summary: "Takes everything and forgets it.",
    signals: Signal::ALL,
    schema: || schemars::schema_for!(NopConfig),
    prepare: |node, path, errors| {
        prepare::<NopConfig>(
            node,
            path,
            errors,
            |_| Ok(()),
            |_| {
                Build::Exporter(Box::new(|context| {
                    let labels: &[(&'static str, &str)] = &[("exporter", &context.id.to_string())];
                    let sent = context.telemetry.counter("otelcol_exporter_sent_spans", "Spans sent.", labels);
                    Ok(Arc::new(Nop { sent }))
                }))
            },
        )
    },
};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema, Default)]
#[serde(deny_unknown_fields)]
pub struct NopConfig {}

struct Nop {
    sent: Counter,
}

#[async_trait]
impl Consumer for Nop {
    async fn consume(&self, payload: Payload) -> Result<(), Refusal> {
        self.sent.add(payload.batch.len_spans() as u64);
        Ok(())
    }
}

#[async_trait]
impl Stage for Nop {
    async fn drain(&self) {}

    async fn forward(&self, _: &RawRequest) -> Result<PartialSuccess, Refusal> {
        Ok(PartialSuccess::default())
    }
}
