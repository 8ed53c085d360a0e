//! Setting up and tearing down.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry::{InstrumentationScope, KeyValue, global};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, SpanExporter};

use crate::export::{ExportProcessor, Exports, MakeExporter, Stats, Task};
use crate::propagation::ContextPropagator;
use crate::sampling::{HeadSampler, ask};
use crate::settings::Settings;
use crate::{bridge, otlp, panics, propagation, resource, signals};

/// How long dropping the guard waits for the last spans.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a program was not instrumented.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitError {
    /// There is one tracer for a program.
    #[error("cannot instrument this program twice: keep the guard of the first call")]
    Twice,
}

/// What becomes of the program's log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Logs {
    /// Text on standard error, with `trace_id` and `span_id`. `RUST_LOG` says which.
    #[default]
    Text,
    /// The same as one JSON object a line.
    Json,
    /// No lines; spans only.
    Off,
}

/// What a program says about itself. The environment overrules it.
#[must_use]
pub struct Builder {
    service_name: Option<String>,
    attributes: Vec<KeyValue>,
    sampler: Option<HeadSampler>,
    exporter: Option<MakeExporter>,
    logs: Logs,
    subscriber: bool,
    panics: bool,
    signals: bool,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("service_name", &self.service_name).finish_non_exhaustive()
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// As [`init`](crate::init) has it.
    pub fn new() -> Self {
        Self {
            service_name: None,
            attributes: Vec::new(),
            sampler: None,
            exporter: None,
            logs: Logs::default(),
            subscriber: true,
            panics: true,
            signals: false,
        }
    }

    /// The service's name unless `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES` name it.
    pub fn service_name(self, name: impl Into<String>) -> Self {
        Self { service_name: Some(name.into()), ..self }
    }

    /// An attribute of the resource.
    pub fn resource_attribute(mut self, attribute: KeyValue) -> Self {
        self.attributes.push(attribute);
        self
    }

    /// The sampler unless `OTEL_TRACES_SAMPLER` names one.
    pub fn sampler(self, sampler: HeadSampler) -> Self {
        Self { sampler: Some(sampler), ..self }
    }

    /// Where spans go, whatever the environment says.
    pub fn exporter(self, exporter: impl SpanExporter + 'static) -> Self {
        Self { exporter: Some(Box::new(|| Ok(Box::new(exporter)))), ..self }
    }

    /// How log lines are written.
    pub fn logs(self, logs: Logs) -> Self {
        Self { logs, ..self }
    }

    /// Leaves `tracing`'s global subscriber to the program, which adds [`layer`](crate::layer) to its own.
    pub fn without_subscriber(self) -> Self {
        Self { subscriber: false, ..self }
    }

    /// Leaves panics alone.
    pub fn without_panics(self) -> Self {
        Self { panics: false, ..self }
    }

    /// Sends what is left on SIGTERM and SIGINT, then ends the program as the signal would have.
    ///
    /// For programs that do not handle these signals themselves: those that do let their guard drop.
    pub fn flush_on_signals(self) -> Self {
        Self { signals: true, ..self }
    }

    /// Instruments this program.
    ///
    /// # Errors
    /// When it was done before.
    pub fn init(self) -> Result<Guard, InitError> {
        static DONE: AtomicBool = AtomicBool::new(false);
        if DONE.swap(true, Ordering::AcqRel) {
            return Err(InitError::Twice);
        }
        let mut settings = Settings::from_environment();
        propagation::set_formats(settings.propagator.clone());
        global::set_text_map_propagator(ContextPropagator::new(settings.propagator.clone()));
        let (logs, subscriber, panics) = (self.logs, self.subscriber, self.panics);
        let mut warnings = std::mem::take(&mut settings.warnings);
        let guard = if settings.disabled { Guard(None) } else { self.start(settings, &mut warnings) };
        if let Some(running) = &guard.0 {
            global::set_tracer_provider(running.provider.clone());
            let scope = InstrumentationScope::builder("spanwise-sdk").with_version(env!("CARGO_PKG_VERSION")).build();
            let _ = TRACERS.set(Tracers {
                tracing: running.provider.tracer("tracing"),
                own: running.provider.tracer_with_scope(scope),
                follows_parents: running.follows_parents,
            });
            if panics {
                panics::record();
            }
        }
        if subscriber && !bridge::install(logs) {
            warnings.push(
                "cannot set tracing's subscriber: one is set already; add spanwise_sdk::layer() to it, and say \
                 without_subscriber()"
                    .into(),
            );
        }
        if warns() {
            warnings.iter().for_each(|warning| tracing::warn!(target: "spanwise_sdk", "{warning}"));
        }
        Ok(guard)
    }

    fn start(self, settings: Settings, warnings: &mut Vec<String>) -> Guard {
        let resource = resource::detect(self.service_name.as_deref(), self.attributes);
        let service = resource.get(&"service.name".into()).map(|name| name.to_string()).unwrap_or_default();
        let mut tasks: Vec<Task> = Vec::new();
        tasks.extend(settings.remote.map(|remote| ask::follow(remote, settings.connection.tls.clone(), &service)));
        if self.signals {
            tasks.push(signals::flush());
        }
        let mut provider = SdkTracerProvider::builder().with_resource(resource).with_span_limits(settings.limits);
        let own = self.sampler.filter(|_| std::env::var_os("OTEL_TRACES_SAMPLER").is_none());
        let sampler = own.unwrap_or(settings.sampler);
        let follows_parents = sampler.follows_parents();
        provider = provider.with_sampler(sampler);
        let mut exports = None;
        if let Some(make) = self.exporter.or_else(|| otlp::exporter(settings.exporter, settings.connection)) {
            match ExportProcessor::start(settings.queue, settings.value_length, make, tasks) {
                Ok(processor) => {
                    exports = Some(processor.exports());
                    provider = provider.with_span_processor(processor);
                }
                Err(error) => warnings.push(error),
            }
        }
        Guard(Some(Running { provider: provider.build(), exports, follows_parents }))
    }
}

static TRACERS: OnceLock<Tracers> = OnceLock::new();

struct Tracers {
    tracing: SdkTracer,
    own: SdkTracer,
    follows_parents: bool,
}

/// The tracer of `tracing`'s spans, once there is one.
pub(crate) fn tracer() -> Option<SdkTracer> {
    TRACERS.get().map(|tracers| tracers.tracing.clone())
}

/// The tracer of this crate's spans, once there is one.
pub(crate) fn own_tracer() -> Option<&'static SdkTracer> {
    TRACERS.get().map(|tracers| &tracers.own)
}

/// Below a span that is not recorded, none will be.
pub(crate) fn follows_parents() -> bool {
    TRACERS.get().is_some_and(|tracers| tracers.follows_parents)
}

/// `OTEL_LOG_LEVEL` of errors only, or none, silences our own warnings.
fn warns() -> bool {
    let level = std::env::var("OTEL_LOG_LEVEL").unwrap_or_default().to_ascii_lowercase();
    !matches!(level.as_str(), "none" | "off" | "error")
}

/// Sends what is left when it is dropped, waiting five seconds at most.
#[derive(Debug)]
#[must_use = "spans that are left are sent when this is dropped: keep it until the end of main"]
pub struct Guard(Option<Running>);

#[derive(Debug)]
struct Running {
    provider: SdkTracerProvider,
    exports: Option<Exports>,
    follows_parents: bool,
}

impl Guard {
    /// Sends everything that ended so far; `false` when that took longer than `timeout`. Works on any thread.
    pub fn flush(&self, timeout: Duration) -> bool {
        let exports = self.0.as_ref().and_then(|running| running.exports.as_ref());
        exports.is_none_or(|exports| exports.flush(timeout).is_ok())
    }

    /// What became of the spans so far.
    pub fn stats(&self) -> Stats {
        let exports = self.0.as_ref().and_then(|running| running.exports.as_ref());
        exports.map(Exports::stats).unwrap_or_default()
    }

    /// The provider, for what this crate does not cover. `None` when the SDK is disabled.
    pub fn provider(&self) -> Option<&SdkTracerProvider> {
        self.0.as_ref().map(|running| &running.provider)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(running) = &self.0 else { return };
        let result = running.provider.shutdown_with_timeout(SHUTDOWN_TIMEOUT);
        let stats = self.stats();
        let lost = stats.dropped + stats.failed;
        if (lost > 0 || result.is_err()) && warns() {
            let waiting = stats.ended.saturating_sub(stats.exported + lost);
            tracing::warn!(
                target: "spanwise_sdk",
                "cannot deliver all spans: {} delivered, {} dropped (queue full), {} failed, {waiting} still waiting",
                stats.exported, stats.dropped, stats.failed
            );
        }
    }
}
