//! `jaegerremotesampling`: tells clients how to sample. Strategies come from a file, from the config itself, or are
//! computed from what arrives (`source.adaptive`, ours). HTTP on 5778, gRPC on 5779.

mod adaptive;
mod serve;
mod strategies;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use spanwise_wire::sampling::Strategy;

use crate::arrivals::Arrivals;
use crate::component::{Build, BuildContext, BuildError, Factory, Kind, prepare};
use crate::config::units::GoDuration;
use crate::net::{Listener, ServerTls};
use adaptive::Adaptive;
pub use adaptive::AdaptiveConfig;
use strategies::Strategies;

pub const FACTORY: Factory = Factory {
    kind: Kind::Extension,
    name: "jaegerremotesampling",
    aliases: &["jaeger_remote_sampling", "remote_sampling"],
    stability: "alpha",
    summary: "Tells clients how to sample: Jaeger's remote sampling over HTTP and gRPC.",
    signals: &[],
    schema: || schemars::schema_for!(RemoteSamplingConfig),
    prepare: |node, path, errors| {
        prepare::<RemoteSamplingConfig>(node, path, errors, RemoteSamplingConfig::check, |config| {
            Build::Extension(Box::new(move |context| start(&config, &context)))
        })
    },
};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RemoteSamplingConfig {
    pub http: ServerConfig,
    pub grpc: ServerConfig,
    pub source: SourceConfig,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    pub endpoint: String,
    pub tls: Option<ServerTls>,
    /// Accepted as the collector's configs set it: tcp.
    pub transport: String,
}

/// Exactly one of `file`, `contents` and `adaptive`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct SourceConfig {
    /// A file of strategies in Jaeger's JSON.
    pub file: String,
    /// The strategies themselves, in the same JSON.
    pub contents: String,
    /// How often the file is read again; 0 means never.
    pub reload_interval: GoDuration,
    /// Computes the probability of each operation from what arrives.
    pub adaptive: Option<AdaptiveConfig>,
}

impl Default for RemoteSamplingConfig {
    fn default() -> Self {
        let at = |endpoint: &str| ServerConfig { endpoint: endpoint.to_owned(), ..ServerConfig::default() };
        Self { http: at("localhost:5778"), grpc: at("localhost:5779"), source: SourceConfig::default() }
    }
}

impl RemoteSamplingConfig {
    fn check(&self) -> Result<(), String> {
        let SourceConfig { file, contents, adaptive, .. } = &self.source;
        match [!file.is_empty(), !contents.is_empty(), adaptive.is_some()].into_iter().filter(|given| *given).count() {
            1 => {}
            0 => return Err("source: no source of strategies: give file, contents or adaptive".to_owned()),
            _ => return Err("source: give only one of file, contents and adaptive".to_owned()),
        }
        if !contents.is_empty() {
            Strategies::parse(contents).map_err(|error| format!("source.contents: {error}"))?;
        }
        adaptive.as_ref().map_or(Ok(()), AdaptiveConfig::check)
    }
}

/// Answers for one service.
trait Source: Send + Sync {
    fn strategy(&self, service: &str) -> Strategy;
}

/// Strategies that were written down; replaced as a whole when the file changes.
struct Fixed(RwLock<Strategies>);

impl Source for Fixed {
    fn strategy(&self, service: &str) -> Strategy {
        self.0.read().of(service)
    }
}

fn start(config: &RemoteSamplingConfig, context: &BuildContext) -> Result<(), BuildError> {
    let source = source(&config.source, context)?;
    for (name, server) in [("sampling", &config.http), ("sampling_grpc", &config.grpc)] {
        if server.endpoint.is_empty() {
            continue;
        }
        let alpn: &[&[u8]] = &[b"h2", b"http/1.1"];
        let tls = server.tls.as_ref().map(|tls| tls.build(alpn)).transpose();
        let tls = tls.map_err(|error| context.error(format!("{name}: {error}")))?;
        let listener = Listener::bind(&server.endpoint, tls).map_err(|error| context.error(error))?;
        let address = listener.address().map_err(|error| context.error(error))?;
        context.listeners.add(name, address);
        context.tasks.spawn(serve::serve(listener, Arc::clone(&source), context.clone()));
    }
    Ok(())
}

fn source(config: &SourceConfig, context: &BuildContext) -> Result<Arc<dyn Source>, BuildError> {
    if let Some(adaptive) = &config.adaptive {
        let arrivals: Arrivals = context.arrivals.clone();
        arrivals.watch();
        let source = Arc::new(Adaptive::new(adaptive.clone()));
        let (worker, stop) = (Arc::clone(&source), context.stop.clone());
        context.tasks.spawn(async move {
            let every = worker.interval();
            while tokio::time::timeout(every, stop.cancelled()).await.is_err() {
                worker.adjust(arrivals.take(), every);
            }
        });
        return Ok(source);
    }
    if !config.contents.is_empty() {
        let strategies = Strategies::parse(&config.contents).map_err(|error| context.error(error))?;
        return Ok(Arc::new(Fixed(RwLock::new(strategies))));
    }
    let path = PathBuf::from(&config.file);
    let text = std::fs::read_to_string(&path);
    let text = text.map_err(|error| context.error(format!("cannot read {}: {error}", path.display())))?;
    let strategies = Strategies::parse(&text).map_err(|error| context.error(format!("{}: {error}", path.display())))?;
    let source = Arc::new(Fixed(RwLock::new(strategies)));
    if !config.reload_interval.0.is_zero() {
        let reloading = reload(path, text, Arc::clone(&source), config.reload_interval.0, context.clone());
        context.tasks.spawn(reloading);
    }
    Ok(source)
}

/// Reads the file again and again; one that cannot be used changes nothing.
async fn reload(path: PathBuf, mut last: String, source: Arc<Fixed>, every: Duration, context: BuildContext) {
    let counter = |name, help| context.telemetry.counter(name, help, &[]);
    let done = counter("spanwise_sampling_reloads", "Times the file of sampling strategies was taken anew.");
    let failed = counter("spanwise_sampling_reload_failures", "Times the file could not be used; the old rules stay.");
    while tokio::time::timeout(every, context.stop.cancelled()).await.is_err() {
        let read = tokio::fs::read_to_string(&path).await.map_err(|error| error.to_string());
        let text = match read {
            Ok(text) if text == last => continue,
            read => read,
        };
        match text.and_then(|text| Ok((Strategies::parse(&text)?, text))) {
            Ok((strategies, text)) => {
                *source.0.write() = strategies;
                last = text;
                done.add(1);
                tracing::info!(path = %path.display(), "sampling strategies are read anew");
            }
            Err(error) => {
                failed.add(1);
                tracing::warn!(path = %path.display(), error, "sampling strategies cannot be used: the old ones stay");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_source_is_given() {
        let config = |source| RemoteSamplingConfig { source, ..RemoteSamplingConfig::default() };
        let file = SourceConfig { file: "x.json".to_owned(), ..SourceConfig::default() };
        assert!(config(file.clone()).check().is_ok());
        assert!(config(SourceConfig::default()).check().is_err());
        assert!(config(SourceConfig { adaptive: Some(AdaptiveConfig::default()), ..file }).check().is_err());
        let contents = SourceConfig { contents: "{\"default_strategy\":7}".to_owned(), ..SourceConfig::default() };
        assert!(config(contents).check().unwrap_err().starts_with("source.contents"));
    }
}
