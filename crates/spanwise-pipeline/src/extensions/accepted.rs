//! Extensions of the Go collector that show its inside: configs that name them run, with a warning.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::component::{Build, BuildContext, BuildError, Factory, Kind, prepare};

pub const ZPAGES: Factory = Factory {
    kind: Kind::Extension,
    name: "zpages",
    aliases: &[],
    stability: "none",
    summary: "Accepted without effect: the page and /metrics show what goes on.",
    signals: &[],
    schema: || schemars::schema_for!(ZpagesConfig),
    prepare: |node, path, errors| {
        prepare::<ZpagesConfig>(
            node,
            path,
            errors,
            |_| Ok(()),
            |_| Build::Extension(Box::new(|context| warn(&context))),
        )
    },
};

pub const PPROF: Factory = Factory {
    kind: Kind::Extension,
    name: "pprof",
    aliases: &[],
    stability: "none",
    summary: "Accepted without effect: it profiles Go programs.",
    signals: &[],
    schema: || schemars::schema_for!(PprofConfig),
    prepare: |node, path, errors| {
        prepare::<PprofConfig>(node, path, errors, |_| Ok(()), |_| Build::Extension(Box::new(|context| warn(&context))))
    },
};

fn warn(context: &BuildContext) -> Result<(), BuildError> {
    tracing::warn!(extension = %context.id, "this extension is accepted and has no effect here");
    Ok(())
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct ZpagesConfig {
    pub endpoint: String,
    pub expvar: Json,
    pub tls: Json,
    pub cors: Json,
    pub auth: Json,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct PprofConfig {
    pub endpoint: String,
    pub block_profile_fraction: i64,
    pub mutex_profile_fraction: i64,
    pub save_to_file: String,
    pub dialer: Json,
}
