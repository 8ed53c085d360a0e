//! `health_check`: where the process says whether it is ready. The program itself answers; this is its config.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::component::{Build, Factory, Kind, prepare};

pub const FACTORY: Factory = Factory {
    kind: Kind::Extension,
    name: "health_check",
    aliases: &[],
    stability: "beta",
    summary: "Answers whether the process is ready.",
    signals: &[],
    schema: || schemars::schema_for!(HealthCheckConfig),
    prepare: |node, path, errors| {
        prepare::<HealthCheckConfig>(node, path, errors, HealthCheckConfig::check, |_| {
            Build::Extension(Box::new(|_| Ok(())))
        })
    },
};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HealthCheckConfig {
    pub endpoint: String,
    pub path: String,
    pub response_body: Option<ResponseBody>,
    /// Accepted as older configs set it.
    pub check_collector_pipeline: Json,
}

/// What is answered instead of the collector's JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct ResponseBody {
    pub healthy: String,
    pub unhealthy: String,
}

impl Default for HealthCheckConfig {
    fn default() -> Self {
        Self {
            endpoint: "localhost:13133".to_owned(),
            path: "/".to_owned(),
            response_body: None,
            check_collector_pipeline: Json::Null,
        }
    }
}

impl HealthCheckConfig {
    fn check(&self) -> Result<(), String> {
        let port = self.endpoint.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        if port.is_none() {
            return Err(format!("endpoint {:?} must be host:port", self.endpoint));
        }
        if !self.path.starts_with('/') {
            return Err("path must start with /".to_owned());
        }
        Ok(())
    }
}
