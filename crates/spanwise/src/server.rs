//! `spanwise serve`: config, store, graph and APIs made one process.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use axum::Router;
use axum::routing::get;
use serde_json::json;
use spanwise_journal::{Disk as _, RealDisk, Spool, SystemClock};
use spanwise_model::MemoryBudget;
use spanwise_pipeline::component::ComponentId;
use spanwise_pipeline::config::{Config, Input, Listeners, Process};
use spanwise_pipeline::extensions::health_check::{HealthCheckConfig, ResponseBody};
use spanwise_pipeline::graph::{Graph, GraphOptions};
use spanwise_pipeline::{FeatureGates, Registry, Spools, Telemetry};
use spanwise_store::{ObjectDisk, ObjectUrl, Store, StoreConfig};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::api::mutes_api::Mutes;
use crate::api::{App, clocks_api, compare_api, jaeger_api, page_api, tempo_api, web, zipkin_api};
use crate::exporter::{self, StoreExporterConfig};

/// What runs without a config.
pub const BUILTIN: &str = "receivers:
  otlp:
    protocols:
      grpc: {}
      http: {}
exporters:
  spanwise: {}
extensions:
  jaegerremotesampling:
    source:
      contents: '{\"default_strategy\":{\"type\":\"probabilistic\",\"param\":1}}'
service:
  extensions: [jaegerremotesampling]
  pipelines:
    traces:
      receivers: [otlp]
      exporters: [spanwise]
";

pub struct Options {
    pub input: Input,
    pub feature_gates: FeatureGates,
    /// Where the store is; when given, pipelines also keep there what they have taken over.
    pub data_dir: Option<PathBuf>,
    /// The bucket that blocks lie in, instead of the data directory.
    pub object_store: Option<ObjectUrl>,
    /// Host that everything binds to, and whether every port is a free one.
    pub listen: Option<(String, bool)>,
    pub print_ports: bool,
    pub allow_hosts: Vec<String>,
    /// Stops once no process holds a lock on this file.
    pub until_unused: Option<PathBuf>,
}

impl Options {
    fn store_dir(&self) -> &Path {
        self.data_dir.as_deref().unwrap_or(Path::new("./spanwise-data"))
    }
}

/// Shutdown waits this long for requests that were admitted.
const SHUTDOWN: Duration = Duration::from_secs(10);

pub fn registry() -> Registry {
    let mut registry = Registry::builtin();
    registry.0.push(exporter::FACTORY);
    registry
}

/// Loads the config, or the built-in one.
///
/// # Errors
/// All that is wrong with it.
pub fn load_config(input: &Input) -> Result<Config, spanwise_pipeline::ConfigErrors> {
    let mut input = input.clone();
    if input.sources.is_empty() {
        input.sources.push(format!("yaml:{BUILTIN}"));
    }
    Config::load(&input, &registry(), &Process)
}

fn load_with_listen(options: &Options) -> anyhow::Result<Config> {
    let config = load_config(&options.input)?;
    let Some((host, is_free)) = &options.listen else { return Ok(config) };
    let mut input = options.input.clone();
    for ((section, id), prepared) in &config.components {
        for protocol in ["grpc", "http"] {
            let (servers, path) = match *section {
                "receivers" => (&prepared.config["protocols"], "protocols::"),
                "extensions" => (&prepared.config, ""),
                _ => continue,
            };
            let endpoint = servers[protocol]["endpoint"].as_str().filter(|endpoint| !endpoint.is_empty());
            let Some(endpoint) = endpoint else { continue };
            let port = if *is_free { "0" } else { endpoint.rsplit(':').next().unwrap_or("0") };
            // First, so that what is set explicitly wins.
            input.sets.insert(0, format!("{section}::{id}::{path}{protocol}::endpoint={host}:{port}"));
        }
    }
    Ok(load_config(&input)?)
}

fn store_config(config: &Config, options: &Options) -> Option<StoreConfig> {
    let mut exporters =
        config.components.iter().filter(|((section, id), _)| *section == "exporters" && id.kind == "spanwise");
    let (_, prepared) = exporters.next()?;
    let settings: StoreExporterConfig = serde_json::from_value(prepared.config.clone()).unwrap_or_default();
    let max_age = Some(settings.max_age.0).filter(|age| !age.is_zero());
    Some(StoreConfig {
        max_bytes: Some(settings.max_bytes).filter(|bytes| *bytes > 0),
        max_age,
        ..StoreConfig::new(options.store_dir())
    })
}

/// 20 GiB, or half of what is free, whichever is smaller.
fn default_max_bytes(dir: &std::path::Path, used: u64) -> u64 {
    let free = RealDisk.free_space(dir).unwrap_or(u64::MAX);
    (20 << 30).min(free.saturating_add(used) / 2)
}

struct Servers {
    stop: CancellationToken,
    tasks: tokio_util::task::TaskTracker,
}

impl Servers {
    async fn bind(
        &self,
        host: &str,
        port: u16,
        is_free: bool,
        name: &str,
        listeners: &Listeners,
    ) -> anyhow::Result<(TcpListener, SocketAddr)> {
        let port = if is_free { 0 } else { port };
        let address = format!("{host}:{port}");
        let listener = TcpListener::bind(&address).await.with_context(|| {
            format!("cannot listen on {address} ({name}): stop what holds the port, or use --listen HOST:0")
        })?;
        let bound = listener.local_addr()?;
        listeners.add(name, bound);
        Ok((listener, bound))
    }

    fn serve(&self, listener: TcpListener, router: Router) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let serving = axum::serve(listener, router).with_graceful_shutdown(async move { stop.cancelled().await });
            if let Err(error) = serving.await {
                tracing::error!(%error, "HTTP server ended");
            }
        });
    }
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start.
pub async fn serve(options: Options) -> anyhow::Result<()> {
    // Request buffers come and go: handing them out as 2 MiB pages would zero 2 MiB for each 100 KB request on a quiet
    // machine (a fifth to a third of all CPU there, docs/adr/0004-grpc-framing.md).
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "huge pages stay as the system has them");
    }
    let config = load_with_listen(&options)?;
    let telemetry = Telemetry::default();
    let (host, is_free) = options.listen.clone().unwrap_or(("127.0.0.1".to_owned(), false));
    let store = match store_config(&config, &options) {
        None => None,
        Some(mut store_config) => {
            let announce = store_config.max_bytes.is_none();
            std::fs::create_dir_all(options.store_dir())
                .with_context(|| format!("cannot use {}: give another --data-dir", options.store_dir().display()))?;
            match options.object_store.clone() {
                // A bucket has the room that its owner gives it.
                Some(url) => store_config.objects = Some(Arc::new(ObjectDisk::s3(url)?)),
                None => {
                    store_config.max_bytes.get_or_insert(default_max_bytes(options.store_dir(), 0));
                }
            }
            let max_bytes = store_config.max_bytes;
            let objects = options.object_store.as_ref().map(ToString::to_string);
            let store = Store::open(store_config, Arc::new(RealDisk), Arc::new(SystemClock::new()))?;
            let why = if announce { "set exporters.spanwise.max_bytes to change it" } else { "as configured" };
            tracing::info!(dir = %options.store_dir().display(), objects, max_bytes, "store is open; oldest blocks go beyond max_bytes ({why})");
            Some(store)
        }
    };
    let spools = options.data_dir.as_ref().map_or_else(Spools::default, |dir| Spools::in_dir(dir.join("pipeline")));
    let graph_options = GraphOptions {
        spools: spools.clone(),
        feature_gates: options.feature_gates.clone(),
        telemetry: telemetry.clone(),
        memory: MemoryBudget::new(MEMORY_BYTES),
        discard_other_signals: options.input.sources.is_empty(),
        host: store.clone().map(|store| store as Arc<dyn std::any::Any + Send + Sync>),
    };
    let mut graph = Graph::build(&config, &graph_options)?;
    let spools = spools.all();
    look_after_spools(&telemetry, &spools);
    warn_about_memory(&config, options.data_dir.is_some());
    let servers = Servers { stop: CancellationToken::new(), tasks: tokio_util::task::TaskTracker::new() };
    let ready = Arc::new(AtomicBool::new(false));
    let listeners = graph.listeners.clone();
    let (metrics, _) = servers.bind(&host, 8888, is_free, "metrics", &listeners).await?;
    let text = telemetry.clone();
    servers.serve(metrics, Router::new().route("/metrics", get(move || async move { text.render() })));
    serve_health(&servers, &config, &options, &ready, &listeners).await?;
    let mut page = None;
    let mut maintenance = None;
    if let Some(store) = &store {
        let app = App {
            store: Arc::clone(store),
            telemetry: telemetry.clone(),
            listeners: listeners.clone(),
            ready: Arc::clone(&ready),
            hosts: Arc::new(options.allow_hosts.clone()),
            mutes: Arc::new(Mutes::open(Arc::new(RealDisk), options.store_dir())),
            answers: Arc::default(),
        };
        let (http, address) = servers.bind(&host, 16686, is_free, "http", &listeners).await?;
        let (tempo, _) = servers.bind(&host, 3200, is_free, "tempo", &listeners).await?;
        let (zipkin, _) = servers.bind(&host, 9411, is_free, "zipkin", &listeners).await?;
        let guarded = |router: Router<App>| {
            router.layer(axum::middleware::from_fn_with_state(app.clone(), web::guard)).with_state(app.clone())
        };
        let main = page_api::routes()
            .merge(clocks_api::routes())
            .merge(compare_api::routes())
            .merge(jaeger_api::routes())
            .nest("/tempo", tempo_api::routes())
            .fallback(web::page);
        servers.serve(http, guarded(main));
        let ready_route = Router::new().route("/ready", get(|| async { "ready\n" }));
        servers.serve(tempo, guarded(tempo_api::routes().merge(ready_route)));
        servers.serve(zipkin, guarded(zipkin_api::routes()));
        store.note_address(&address.to_string()).context("cannot write the lock file")?;
        page = Some(address);
        register_store_metrics(&telemetry, store);
        maintenance = Some(start_maintenance(Arc::clone(store), servers.stop.clone())?);
    }
    graph.start().await?;
    ready.store(true, Ordering::Release);
    announce(&options, &listeners, page)?;
    // Held until this process has ended: see `run/server.rs`.
    let _lease = match &options.until_unused {
        None => wait_for_signal().await.map(|()| None)?,
        Some(lease) => tokio::select! {
            lease = crate::run::lease::until_unused(lease) => Some(lease?),
            signal = wait_for_signal() => signal.map(|()| None)?,
        },
    };
    tracing::info!("stopping: finishing what was admitted");
    ready.store(false, Ordering::Release);
    if !graph.shut_down(SHUTDOWN).await {
        tracing::warn!("some requests did not finish in time; they were not acknowledged");
    }
    servers.stop.cancel();
    servers.tasks.close();
    let _ = tokio::time::timeout(Duration::from_secs(2), servers.tasks.wait()).await;
    if let Some(thread) = maintenance {
        let _ = tokio::task::spawn_blocking(move || thread.join()).await;
    }
    for (name, spool) in spools {
        if let Err(error) = spool.maintain().await {
            tracing::warn!(%error, name, "some of what was handed on will be handed on again");
        }
        let _ = tokio::task::spawn_blocking(move || spool.close()).await;
    }
    if let Some(store) = store {
        store.close();
    }
    Ok(())
}

/// How often spools write down what was handed on, and free space.
const SPOOL_MAINTENANCE: Duration = Duration::from_millis(500);

fn look_after_spools(telemetry: &Telemetry, spools: &BTreeMap<String, Spool>) {
    for (name, spool) in spools {
        for (stage, records) in spool.unclaimed() {
            tracing::warn!(
                stage,
                records,
                "an earlier run left data of a stage that the config no longer has; it stays"
            );
        }
        let label = if name.is_empty() { "data_dir" } else { name.as_str() };
        let (bytes, records) = (spool.clone(), spool.clone());
        let labels: &[(&'static str, &str)] = &[("storage", label)];
        let help = "Bytes on disk of what pipelines have taken over.";
        telemetry.gauge("spanwise_spool_bytes", help, labels, move || bytes.bytes() as f64);
        let help = "Records that pipelines have taken over and not yet handed on.";
        telemetry.gauge("spanwise_spool_records", help, labels, move || records.records() as f64);
        let spool = spool.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(SPOOL_MAINTENANCE).await;
                if let Err(error) = spool.maintain().await {
                    tracing::warn!(%error, "spool maintenance failed and will be tried again");
                }
            }
        });
    }
}

/// Where the `health_check` extension says, or at the collector's default.
async fn serve_health(
    servers: &Servers,
    config: &Config,
    options: &Options,
    ready: &Arc<AtomicBool>,
    listeners: &Listeners,
) -> anyhow::Result<()> {
    let (host, is_free) = options.listen.clone().unwrap_or(("127.0.0.1".to_owned(), false));
    let extension = config.extensions.iter().find(|id| id.kind == "health_check");
    let prepared = extension.and_then(|id| config.components.get(&("extensions", id.clone())));
    let settings: Option<HealthCheckConfig> =
        prepared.and_then(|prepared| serde_json::from_value(prepared.config.clone()).ok());
    let is_configured = settings.is_some();
    let settings = settings.unwrap_or_default();
    let (own_host, port) = settings.endpoint.rsplit_once(':').unwrap_or(("127.0.0.1", "13133"));
    let host = if is_configured && options.listen.is_none() { own_host.to_owned() } else { host };
    let (listener, _) = servers.bind(&host, port.parse()?, is_free, "health", listeners).await?;
    let is_ready = Arc::clone(ready);
    let body = settings.response_body;
    let answer = get(move || async move { health_answer(is_ready.load(Ordering::Acquire), body) });
    let router = match is_configured && settings.path != "/" {
        true => Router::new().route(&settings.path, answer),
        false => Router::new().fallback(answer),
    };
    servers.serve(listener, router);
    Ok(())
}

/// What may be admitted and not yet stored or sent.
const MEMORY_BYTES: usize = 512 << 20;

fn health_answer(is_ready: bool, body: Option<ResponseBody>) -> axum::response::Response {
    use axum::response::IntoResponse as _;
    let (status, text) = match is_ready {
        true => (axum::http::StatusCode::OK, "Server available"),
        false => (axum::http::StatusCode::SERVICE_UNAVAILABLE, "Server not available"),
    };
    match body {
        Some(body) if is_ready => (status, body.healthy).into_response(),
        Some(body) => (status, body.unhealthy).into_response(),
        None => (status, axum::Json(json!({"status": text}))).into_response(),
    }
}

/// Says which pipelines answer yes before anything is on stable storage.
fn warn_about_memory(config: &Config, has_data_dir: bool) {
    let setting = |section, id: &ComponentId| config.components.get(&(section, id.clone())).map(|found| &found.config);
    let is_processor_in_memory = |id: &ComponentId| match id.kind.as_str() {
        "batch" => !has_data_dir,
        "tail_sampling" => {
            !has_data_dir || setting("processors", id).is_some_and(|config| config["durability"] == "memory")
        }
        _ => false,
    };
    let is_exporter_in_memory = |id: &ComponentId| {
        let queue = setting("exporters", id).map(|config| &config["sending_queue"]);
        queue.is_some_and(|queue| queue["enabled"] == true && queue["storage"].is_null() && !has_data_dir)
    };
    for pipeline in &config.pipelines {
        let processors = pipeline.processors.iter().filter(|id| is_processor_in_memory(id));
        let exporters = pipeline.exporters.iter().filter(|id| is_exporter_in_memory(id));
        let holding: Vec<String> = processors.chain(exporters).map(ComponentId::to_string).collect();
        if !holding.is_empty() {
            let stages = holding.join(", ");
            tracing::warn!(
                pipeline = pipeline.name,
                stages,
                "not durable: these acknowledge spans while they are only in memory; give --data-dir to keep them"
            );
        }
    }
}

fn register_store_metrics(telemetry: &Telemetry, store: &Arc<Store>) {
    let gauge = |name, help, read: fn(&spanwise_store::StoreStats) -> u64| {
        let store = Arc::downgrade(store);
        telemetry.gauge(name, help, &[], move || store.upgrade().map_or(0.0, |store| read(&store.stats()) as f64));
    };
    gauge("spanwise_store_spans", "Spans stored.", |stats| stats.block_spans + stats.head_spans);
    gauge("spanwise_store_block_bytes", "Bytes of all blocks.", |stats| stats.block_bytes);
    gauge("spanwise_store_blocks", "Blocks.", |stats| stats.blocks as u64);
    gauge("spanwise_store_wal_bytes", "Bytes of the log.", |stats| stats.wal_bytes);
    gauge("spanwise_store_head_spans", "Spans that no block holds yet.", |stats| stats.head_spans);
    gauge("spanwise_store_expired_spans", "Spans dropped for age or size of the store.", |stats| stats.expired_spans);
}

fn start_maintenance(store: Arc<Store>, stop: CancellationToken) -> anyhow::Result<std::thread::JoinHandle<()>> {
    let runtime = tokio::runtime::Handle::current();
    let run = move || {
        loop {
            let stopped =
                runtime.block_on(async { tokio::time::timeout(Duration::from_secs(1), stop.cancelled()).await });
            if stopped.is_ok() {
                return;
            }
            if let Err(error) = store.maintain(&runtime) {
                tracing::error!(%error, "store maintenance failed and will be tried again");
            }
        }
    };
    Ok(std::thread::Builder::new().name("spanwise-store".to_owned()).spawn(run)?)
}

fn announce(options: &Options, listeners: &Listeners, page: Option<SocketAddr>) -> anyhow::Result<()> {
    let all = listeners.all();
    if let Some(page) = page {
        tracing::info!("ready: page on http://{page}");
    }
    for (name, address) in &all {
        tracing::debug!(name, %address, "listening");
    }
    if options.print_ports {
        let ports: BTreeMap<&String, u16> = all.iter().map(|(name, address)| (name, address.port())).collect();
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", json!({"ready": true, "ports": ports}))?;
        out.flush()?;
    }
    Ok(())
}

/// SIGTERM or SIGINT.
///
/// # Errors
/// When signals cannot be listened for.
pub async fn wait_for_signal() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// `HOST` or `HOST:0`.
///
/// # Errors
/// When a port other than 0 is given: each listener has its own.
pub fn parse_listen(text: &str) -> anyhow::Result<(String, bool)> {
    match text.rsplit_once(':') {
        Some((host, "0")) => Ok((host.to_owned(), true)),
        Some((host, port)) if !host.contains(':') && port.parse::<u16>().is_ok() => {
            bail!("--listen takes HOST or HOST:0, not a port: each listener has its own, set in the config")
        }
        _ => Ok((text.to_owned(), false)),
    }
}
