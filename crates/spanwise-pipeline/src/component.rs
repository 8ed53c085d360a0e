//! What a component is: a factory that checks its part of the config, and what it builds.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use spanwise_journal::lock::LockError;
use spanwise_journal::{Disk as _, RealDisk, Spool, SpoolError, WalOptions};
use spanwise_model::budget::MemoryBudget;
use spanwise_model::limits;
use spanwise_wire::answer::{Code, PartialSuccess};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::arrivals::Arrivals;
use crate::config::decode::decode;
use crate::config::yaml::Node;
use crate::config::{ConfigError, Listeners, Signal};
use crate::feature_gates::FeatureGates;
use crate::flow::{Consumer, RawRequest, Refusal};
use crate::telemetry::Telemetry;

/// `type` or `type/name`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ComponentId {
    pub kind: String,
    pub name: Option<String>,
}

impl ComponentId {
    pub fn parse(text: &str) -> Result<Self, String> {
        let (kind, name) = match text.split_once('/') {
            Some((_, "")) => return Err(format!("in {text:?} id: the part after / should not be empty")),
            Some((kind, name)) => (kind, Some(name.to_owned())),
            None => (text, None),
        };
        if kind.is_empty() {
            return Err(format!("in {text:?} id: the part before / should not be empty"));
        }
        Ok(Self { kind: kind.to_owned(), name })
    }
}

impl fmt::Display for ComponentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{}/{name}", self.kind),
            None => f.write_str(&self.kind),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Receiver,
    Processor,
    Exporter,
    Extension,
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::Receiver, Kind::Processor, Kind::Exporter, Kind::Extension];

    pub fn section(self) -> &'static str {
        match self {
            Kind::Receiver => "receivers",
            Kind::Processor => "processors",
            Kind::Exporter => "exporters",
            Kind::Extension => "extensions",
        }
    }

    pub fn singular(self) -> &'static str {
        self.section().strip_suffix('s').unwrap_or_default()
    }
}

/// What components are built with.
#[derive(Clone)]
pub struct BuildContext {
    pub id: ComponentId,
    pub telemetry: Telemetry,
    /// Memory that everything admitted and not yet handed on is charged to.
    pub memory: MemoryBudget,
    /// Fires when the process begins to end: receivers stop accepting, processors hand on what they hold.
    pub stop: CancellationToken,
    /// Tasks that shutdown waits for.
    pub tasks: TaskTracker,
    /// Where receivers note what they bound.
    pub listeners: Listeners,
    /// Roots that receivers took, for whoever computes sampling from them.
    pub arrivals: Arrivals,
    /// Name of the pipeline a processor stands in; empty for what several share.
    pub pipeline: String,
    /// Where stages keep what they have taken over: the data directory's under `""`, those of storage extensions
    /// under their ids.
    pub spools: Spools,
    pub feature_gates: FeatureGates,
    /// What the program gives to its own components, such as the store.
    pub host: Option<Arc<dyn Any + Send + Sync>>,
}

/// See [`BuildContext::spools`].
#[derive(Clone, Default)]
pub struct Spools(Arc<Mutex<SpoolsState>>);

#[derive(Default)]
struct SpoolsState {
    open: BTreeMap<String, Spool>,
    /// Where the one of the data directory will be, once a stage asks for it.
    dir: Option<PathBuf>,
}

impl Spools {
    /// Stages keep what they take over in `dir`, which is opened when the first of them asks.
    pub fn in_dir(dir: PathBuf) -> Self {
        Self(Arc::new(Mutex::new(SpoolsState { dir: Some(dir), ..SpoolsState::default() })))
    }

    /// Opens a spool under a name of its own.
    ///
    /// # Errors
    /// When its directory cannot be used.
    pub fn open(&self, name: &str, dir: &Path, max_bytes: Option<u64>) -> Result<Spool, SpoolError> {
        let disk = Arc::new(RealDisk);
        std::fs::create_dir_all(dir).map_err(LockError::Io)?;
        let free = disk.free_space(dir).unwrap_or(u64::MAX);
        let max_bytes = max_bytes.unwrap_or_else(|| limits::SPOOL_BYTES.min(free / 2));
        let options = WalOptions {
            max_bytes,
            segment_bytes: limits::SPOOL_SEGMENT_BYTES,
            gather: limits::SPOOL_GATHER,
            ..WalOptions::default()
        };
        let (spool, found) = Spool::open(disk, dir, options)?;
        tracing::info!(dir = %dir.display(), max_bytes, found.records, found.bytes, "spool is open");
        self.0.lock().open.insert(name.to_owned(), spool.clone());
        Ok(spool)
    }

    /// The spool of this name; `""` is the data directory's. `None` when there is none.
    ///
    /// # Errors
    /// When the data directory's is opened by this call and cannot be.
    pub fn get(&self, name: &str) -> Result<Option<Spool>, String> {
        let dir = {
            let mut state = self.0.lock();
            if let Some(spool) = state.open.get(name) {
                return Ok(Some(spool.clone()));
            }
            if name.is_empty() { state.dir.take() } else { None }
        };
        let Some(dir) = dir else { return Ok(None) };
        self.open(name, &dir, None).map(Some).map_err(|error| format!("cannot use {}: {error}", dir.display()))
    }

    pub fn all(&self) -> BTreeMap<String, Spool> {
        self.0.lock().open.clone()
    }
}

/// Cannot be built or started, and why: a port in use, a file that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot start {component}: {reason}")]
pub struct BuildError {
    pub component: String,
    pub reason: String,
}

impl BuildContext {
    pub fn error(&self, reason: impl fmt::Display) -> BuildError {
        BuildError { component: self.id.to_string(), reason: reason.to_string() }
    }
}

/// Something that accepts spans from outside. Bound when built; accepts once started.
#[async_trait]
pub trait Receiver: Send {
    async fn start(self: Box<Self>, next: Outputs) -> Result<(), BuildError>;
}

/// Where a receiver sends.
#[derive(Clone)]
pub struct Outputs {
    /// `None` when no traces pipeline uses the receiver.
    pub traces: Option<Arc<dyn Consumer>>,
    pub metrics: Forwarding,
    pub logs: Forwarding,
}

/// What becomes of the requests of a signal other than traces.
#[derive(Clone)]
pub enum Forwarding {
    /// No pipeline takes them.
    Refused,
    /// Accepted and forgotten: the built-in config's way with what stock agents send beside traces.
    Discarded,
    /// Each request goes to all of these as it came.
    To(Vec<Arc<dyn Stage>>),
}

/// A processor: a stage, and how it ends.
#[async_trait]
pub trait Stage: Consumer {
    /// Hands on all it holds. Called after everything before it has stopped.
    async fn drain(&self);

    /// Takes a request of another signal than traces: `Ok` means that the next hop has it. Only exporters whose
    /// factory names the signal are asked.
    ///
    /// # Errors
    /// The refusal to answer with.
    async fn forward(&self, request: &RawRequest) -> Result<PartialSuccess, Refusal> {
        Err(Refusal {
            code: Code::Unimplemented,
            ..Refusal::permanent(format!("{} are not supported", request.signal))
        })
    }
}

pub type ReceiverBuild = dyn Fn(BuildContext) -> Result<Box<dyn Receiver>, BuildError> + Send + Sync;
pub type ProcessorBuild = dyn Fn(BuildContext, Arc<dyn Consumer>) -> Result<Arc<dyn Stage>, BuildError> + Send + Sync;
pub type ExporterBuild = dyn Fn(BuildContext) -> Result<Arc<dyn Stage>, BuildError> + Send + Sync;
pub type ExtensionBuild = dyn Fn(BuildContext) -> Result<(), BuildError> + Send + Sync;

/// A component whose config was read: ready to be built.
pub enum Build {
    Receiver(Box<ReceiverBuild>),
    Processor(Box<ProcessorBuild>),
    Exporter(Box<ExporterBuild>),
    Extension(Box<ExtensionBuild>),
}

/// A checked component.
pub struct Prepared {
    /// Its config with every default filled in.
    pub config: Json,
    pub build: Build,
}

type Prepare = fn(&Node, &str, &mut Vec<ConfigError>) -> Option<Prepared>;

/// One line of a registry.
#[derive(Clone, Copy)]
pub struct Factory {
    pub kind: Kind,
    pub name: &'static str,
    pub aliases: &'static [&'static str],
    pub stability: &'static str,
    pub summary: &'static str,
    /// What pipelines it may stand in; empty for extensions.
    pub signals: &'static [Signal],
    /// JSON schema of its config, made from the struct and its doc comments.
    pub schema: fn() -> schemars::Schema,
    pub prepare: Prepare,
}

/// Reads a config struct and pairs it with what builds from it. `check` finds what types alone do not.
pub fn prepare<C: DeserializeOwned + Serialize + Clone + Send + Sync + 'static>(
    node: &Node,
    path: &str,
    errors: &mut Vec<ConfigError>,
    check: impl FnOnce(&C) -> Result<(), String>,
    build: impl FnOnce(C) -> Build,
) -> Option<Prepared> {
    let config: C = decode(node, path, errors)?;
    if let Err(message) = check(&config) {
        errors.push(ConfigError { place: node.place, path: path.to_owned(), message, hint: None });
        return None;
    }
    let json = serde_json::to_value(&config).unwrap_or(Json::Null);
    Some(Prepared { config: json, build: build(config) })
}

/// All components that a config may name.
#[derive(Clone)]
pub struct Registry(pub Vec<Factory>);

impl Registry {
    /// Those of this crate; the program adds its own.
    pub fn builtin() -> Self {
        let sections = [crate::receivers::ALL, crate::processors::ALL, crate::exporters::ALL, crate::extensions::ALL];
        Self(sections.into_iter().flatten().copied().collect())
    }

    pub fn find(&self, kind: Kind, name: &str) -> Option<&Factory> {
        self.0.iter().find(|factory| factory.kind == kind && (factory.name == name || factory.aliases.contains(&name)))
    }

    pub fn names(&self, kind: Kind) -> impl Iterator<Item = &'static str> + '_ {
        self.0.iter().filter(move |factory| factory.kind == kind).map(|factory| factory.name)
    }
}
