//! The collector's config: sources are read, merged, expanded and checked; all errors come at once.

pub mod decode;
mod error;
mod expand;
mod merge;
pub mod units;
pub mod yaml;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

pub use error::{ConfigError, ConfigErrors, Source};
pub use expand::{Lookup, Process};

use crate::component::{ComponentId, Kind, Prepared, Registry};
use error::nearest;
use yaml::{Node, Place};

/// Addresses that were bound, by what listens there: `otlp_grpc`, `otlp_http`, ...
#[derive(Debug, Clone, Default)]
pub struct Listeners(Arc<Mutex<BTreeMap<String, std::net::SocketAddr>>>);

impl Listeners {
    pub fn add(&self, name: &str, address: std::net::SocketAddr) {
        self.0.lock().insert(name.to_owned(), address);
    }

    pub fn all(&self) -> BTreeMap<String, std::net::SocketAddr> {
        self.0.lock().clone()
    }
}

/// What the command line gave.
#[derive(Debug, Clone, Default)]
pub struct Input {
    /// `--config`, in order: a path, `file:`, `env:` or `yaml:`.
    pub sources: Vec<String>,
    /// `--set key=value`, in order.
    pub sets: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    Traces,
    Metrics,
    Logs,
}

impl Signal {
    pub const ALL: &[Signal] = &[Signal::Traces, Signal::Metrics, Signal::Logs];

    pub fn as_str(self) -> &'static str {
        match self {
            Signal::Traces => "traces",
            Signal::Metrics => "metrics",
            Signal::Logs => "logs",
        }
    }
}

impl std::fmt::Display for Signal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

pub struct Pipeline {
    pub name: String,
    pub signal: Signal,
    pub receivers: Vec<ComponentId>,
    pub processors: Vec<ComponentId>,
    pub exporters: Vec<ComponentId>,
}

/// `service.telemetry`, as far as it has an effect here; the rest is accepted.
#[derive(Debug, Clone, Serialize, Deserialize, Default, PartialEq)]
#[serde(default)]
pub struct TelemetryConfig {
    pub logs: LogsConfig,
    pub metrics: Json,
    pub traces: Json,
    pub resource: Json,
}

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(default)]
pub struct LogsConfig {
    /// debug, info, warn or error.
    pub level: String,
    /// console or json.
    pub encoding: String,
}

impl Default for LogsConfig {
    fn default() -> Self {
        Self { level: "info".to_owned(), encoding: "console".to_owned() }
    }
}

/// A config that is right: every component is known, checked and used where it may be.
pub struct Config {
    pub components: BTreeMap<(&'static str, ComponentId), Prepared>,
    pub pipelines: Vec<Pipeline>,
    pub extensions: Vec<ComponentId>,
    pub telemetry: TelemetryConfig,
    pub warnings: Vec<String>,
}

impl Config {
    /// # Errors
    /// Everything that is wrong, each with its place.
    pub fn load(input: &Input, registry: &Registry, lookup: &dyn Lookup) -> Result<Config, ConfigErrors> {
        let mut sources = Vec::new();
        let mut errors = Vec::new();
        let mut root = Node { place: Place::default(), kind: yaml::Kind::Map(Vec::new()) };
        for uri in &input.sources {
            read(uri, lookup, &mut sources, &mut errors, &mut root);
        }
        for setting in &input.sets {
            apply_set(setting, &mut sources, &mut errors, &mut root);
        }
        if !errors.is_empty() {
            return Err(ConfigErrors { errors, sources });
        }
        let mut unresolved = Vec::new();
        expand::expand(&mut root, lookup, &mut unresolved);
        errors.extend(unresolved.into_iter().map(|error| ConfigError {
            place: error.place,
            path: String::new(),
            message: error.message,
            hint: None,
        }));
        let config = check(&root, registry, &mut errors);
        match config {
            Some(config) if errors.is_empty() => Ok(config),
            _ => {
                errors.sort_by_key(|error| error.place);
                errors.dedup();
                Err(ConfigErrors { errors, sources })
            }
        }
    }

    /// The effective config, defaults included.
    pub fn to_json(&self) -> Json {
        let mut out = serde_json::Map::new();
        for ((section, id), prepared) in &self.components {
            let section = out.entry((*section).to_owned()).or_insert_with(|| json!({}));
            section[id.to_string()] = prepared.config.clone();
        }
        let ids = |ids: &[ComponentId]| ids.iter().map(ComponentId::to_string).collect::<Vec<_>>();
        let pipelines: serde_json::Map<String, Json> = self
            .pipelines
            .iter()
            .map(|pipeline| {
                let stages = json!({
                    "receivers": ids(&pipeline.receivers),
                    "processors": ids(&pipeline.processors),
                    "exporters": ids(&pipeline.exporters),
                });
                (pipeline.name.clone(), stages)
            })
            .collect();
        let service = json!({"extensions": ids(&self.extensions), "pipelines": pipelines, "telemetry": self.telemetry});
        out.insert("service".to_owned(), service);
        Json::Object(out)
    }
}

fn read(uri: &str, lookup: &dyn Lookup, sources: &mut Vec<Source>, errors: &mut Vec<ConfigError>, root: &mut Node) {
    let (name, text) = match uri.split_once(':') {
        Some(("yaml", text)) => ("yaml:".to_owned(), Ok(text.to_owned())),
        Some(("env", name)) => {
            let text = lookup.env(name).ok_or_else(|| format!("environment variable {name:?} is not set"));
            (uri.to_owned(), text)
        }
        Some(("file", path)) => (path.to_owned(), lookup.file(path)),
        Some((scheme @ ("http" | "https"), _)) => (
            uri.to_owned(),
            Err(format!("scheme {scheme:?} is not supported: configs are not fetched over the network")),
        ),
        _ => (uri.to_owned(), lookup.file(uri)),
    };
    let source = sources.len();
    let (text, failed) = match text {
        Ok(text) => (text, None),
        Err(message) => (String::new(), Some(message)),
    };
    sources.push(Source { name, text: text.clone() });
    let place = Place { source, line: 1, column: 1 };
    if let Some(message) = failed {
        errors.push(ConfigError { place, path: String::new(), message, hint: None });
        return;
    }
    match yaml::parse(&text, source) {
        Ok(node) if matches!(node.kind, yaml::Kind::Map(_)) => merge_source(root, node),
        Ok(node) => {
            let message = format!("a config is a map, and this is {}", node.describe());
            errors.push(ConfigError { place: node.place, path: String::new(), message, hint: None });
        }
        Err(error) => {
            errors.push(ConfigError { place: error.place, path: String::new(), message: error.message, hint: None });
        }
    }
}

/// `a::b: 1`, as the collector's `yaml:` provider has it, is the nested map.
fn merge_source(root: &mut Node, node: Node) {
    let yaml::Kind::Map(entries) = node.kind else { return };
    for (key, value) in entries {
        if key.text.contains("::") {
            merge::set(root, &key.text, value, key.place);
        } else {
            let single = yaml::Kind::Map(vec![(key, value)]);
            merge::merge(root, Node { place: node.place, kind: single });
        }
    }
}

fn apply_set(setting: &str, sources: &mut Vec<Source>, errors: &mut Vec<ConfigError>, root: &mut Node) {
    let source = sources.len();
    sources.push(Source { name: "--set".to_owned(), text: setting.to_owned() });
    let place = Place { source, line: 1, column: 1 };
    let parsed = setting
        .split_once('=')
        .ok_or_else(|| "a setting is written key=value".to_owned())
        .and_then(|(path, value)| Ok((path, yaml::parse(value, source).map_err(|error| error.message)?)));
    match parsed {
        Ok((path, mut value)) => {
            if value.entries().is_empty() && matches!(value.kind, yaml::Kind::Map(_)) && !setting.ends_with('}') {
                value = Node::null(place);
            }
            merge::set(root, path.trim(), value, place);
        }
        Err(message) => errors.push(ConfigError { place, path: String::new(), message, hint: None }),
    }
}

const SECTIONS: [&str; 6] = ["receivers", "processors", "exporters", "connectors", "extensions", "service"];

fn check(root: &Node, registry: &Registry, errors: &mut Vec<ConfigError>) -> Option<Config> {
    let mut config = Config {
        components: BTreeMap::new(),
        pipelines: Vec::new(),
        extensions: Vec::new(),
        telemetry: TelemetryConfig::default(),
        warnings: Vec::new(),
    };
    for (key, node) in root.entries() {
        let section = key.text.as_str();
        match Kind::ALL.into_iter().find(|kind| kind.section() == section) {
            Some(kind) => components(kind, node, registry, errors, &mut config),
            None if section == "service" => {}
            None if section == "connectors" => {
                for (key, _) in node.entries() {
                    let path = format!("connectors::{}", key.text);
                    let message = "this version has no connectors".to_owned();
                    errors.push(ConfigError { place: key.place, path, message, hint: None });
                }
            }
            None => errors.push(ConfigError {
                place: key.place,
                path: section.to_owned(),
                message: "has invalid keys: unknown section".to_owned(),
                hint: nearest(section, SECTIONS),
            }),
        }
    }
    match root.get("service") {
        Some(service) => check_service(service, registry, errors, &mut config),
        None => errors.push(ConfigError {
            place: root.place,
            path: "service".to_owned(),
            message: "no service section: it must have at least one pipeline".to_owned(),
            hint: None,
        }),
    }
    Some(config)
}

fn components(kind: Kind, node: &Node, registry: &Registry, errors: &mut Vec<ConfigError>, config: &mut Config) {
    for (key, node) in node.entries() {
        let path = format!("{}.{}", kind.section(), key.text);
        let mut fail = |message: String, hint| {
            errors.push(ConfigError { place: key.place, path: path.clone(), message, hint });
        };
        let id = match ComponentId::parse(&key.text) {
            Ok(id) => id,
            Err(message) => {
                fail(message, None);
                continue;
            }
        };
        let Some(factory) = registry.find(kind, &id.kind) else {
            let hint = nearest(&id.kind, registry.names(kind));
            let known: Vec<_> = registry.names(kind).collect();
            fail(format!("unknown type: {:?} (known: {})", id.kind, known.join(", ")), hint);
            continue;
        };
        if let Some(prepared) = (factory.prepare)(node, &path, errors) {
            config.components.insert((kind.section(), id), prepared);
        } else {
            // Its errors are noted; references to it are not further errors.
            let nothing = crate::component::Build::Extension(Box::new(|_| Ok(())));
            config.components.insert((kind.section(), id), Prepared { config: Json::Null, build: nothing });
        }
    }
}

fn check_service(service: &Node, registry: &Registry, errors: &mut Vec<ConfigError>, config: &mut Config) {
    for (key, node) in service.entries() {
        match key.text.as_str() {
            "pipelines" => {
                for (key, node) in node.entries() {
                    check_pipeline(key, node, registry, errors, config);
                }
            }
            "extensions" => config.extensions = references(Kind::Extension, node, "service.extensions", errors, config),
            "telemetry" => {
                if let Some(telemetry) = decode::decode(node, "service.telemetry", errors) {
                    config.telemetry = telemetry;
                }
            }
            unknown => errors.push(ConfigError {
                place: key.place,
                path: format!("service.{unknown}"),
                message: "has invalid keys: unknown key".to_owned(),
                hint: nearest(unknown, ["pipelines", "extensions", "telemetry"]),
            }),
        }
    }
    if service.get("pipelines").is_none_or(|pipelines| pipelines.entries().is_empty()) {
        errors.push(ConfigError {
            place: service.place,
            path: "service.pipelines".to_owned(),
            message: "service must have at least one pipeline".to_owned(),
            hint: None,
        });
    }
}

fn check_pipeline(
    key: &yaml::Key,
    node: &Node,
    registry: &Registry,
    errors: &mut Vec<ConfigError>,
    config: &mut Config,
) {
    let path = format!("service.pipelines.{}", key.text);
    let signal = match key.text.split('/').next() {
        Some("traces") => Signal::Traces,
        Some("metrics") => Signal::Metrics,
        Some("logs") => Signal::Logs,
        _ => {
            let message = "unknown pipeline: its name begins with traces, metrics or logs".to_owned();
            let hint = nearest(key.text.split('/').next().unwrap_or_default(), ["traces", "metrics", "logs"]);
            errors.push(ConfigError { place: key.place, path, message, hint });
            return;
        }
    };
    let mut stages = [Vec::new(), Vec::new(), Vec::new()];
    for (stage_key, node) in node.entries() {
        let kinds = [Kind::Receiver, Kind::Processor, Kind::Exporter];
        match kinds.iter().position(|kind| kind.section() == stage_key.text) {
            Some(at) => {
                let path = format!("{path}.{}", stage_key.text);
                stages[at] = references(kinds[at], node, &path, errors, config);
                for id in &stages[at] {
                    let factory = registry.find(kinds[at], &id.kind);
                    if factory.is_some_and(|factory| !factory.signals.contains(&signal)) {
                        let message =
                            format!("{} {id:?} does not support {signal}", kinds[at].singular(), id = id.to_string());
                        errors.push(ConfigError { place: node.place, path: path.clone(), message, hint: None });
                    }
                }
            }
            None => errors.push(ConfigError {
                place: stage_key.place,
                path: format!("{path}.{}", stage_key.text),
                message: "has invalid keys: unknown key".to_owned(),
                hint: nearest(&stage_key.text, kinds.iter().map(|kind| kind.section())),
            }),
        }
    }
    let [receivers, processors, exporters] = stages;
    for (kind, missing) in [(Kind::Receiver, node.get("receivers")), (Kind::Exporter, node.get("exporters"))] {
        if missing.is_none_or(|list| !matches!(&list.kind, yaml::Kind::List(items) if !items.is_empty())) {
            errors.push(ConfigError {
                place: key.place,
                path: path.clone(),
                message: format!("must have at least one {}", kind.singular()),
                hint: None,
            });
        }
    }
    config.pipelines.push(Pipeline { name: key.text.clone(), signal, receivers, processors, exporters });
}

fn references(kind: Kind, node: &Node, path: &str, errors: &mut Vec<ConfigError>, config: &Config) -> Vec<ComponentId> {
    let yaml::Kind::List(items) = &node.kind else {
        if !node.is_null() {
            let message = format!("expected a list of {}, not {}", kind.section(), node.describe());
            errors.push(ConfigError { place: node.place, path: path.to_owned(), message, hint: None });
        }
        return Vec::new();
    };
    let mut ids = Vec::new();
    for item in items {
        let yaml::Kind::Scalar { text, .. } = &item.kind else { continue };
        let mut fail = |message: String, hint| {
            errors.push(ConfigError { place: item.place, path: path.to_owned(), message, hint });
        };
        match ComponentId::parse(text) {
            Err(message) => fail(message, None),
            Ok(id) if ids.contains(&id) => {
                fail(format!("references {} {text:?} multiple times", kind.singular()), None)
            }
            Ok(id) if config.components.contains_key(&(kind.section(), id.clone())) => ids.push(id),
            Ok(_) => {
                let known = config.components.keys().filter(|(section, _)| *section == kind.section());
                let known: Vec<String> = known.map(|(_, id)| id.to_string()).collect();
                let hint = nearest(text, known.iter().map(String::as_str));
                fail(format!("references {} {text:?} which is not configured", kind.singular()), hint);
            }
        }
    }
    ids
}
