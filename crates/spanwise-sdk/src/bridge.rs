//! `tracing`: its spans become spans, its log lines carry their ids.

use std::fmt;

use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt;
use opentelemetry_sdk::trace::SdkTracer;
use serde_json::{Map, Value as Json};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::guard::{self, Logs};

/// What libraries tell about their own work is rarely wanted in a trace; `SPANWISE_SPANS` (as `RUST_LOG`) says otherwise.
const SPANS: &str = "info,h2=off,hyper=off,hyper_util=off,tower=off,tonic=off,reqwest=off,sqlx=off";

/// The layer that turns `tracing` spans into traces, for a subscriber of the program's own. `None`, which is a layer that
/// does nothing, before `init` and when the SDK is disabled.
pub fn layer<S>() -> Option<OpenTelemetryLayer<S, SdkTracer>>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    Some(tracing_opentelemetry::layer().with_tracer(guard::tracer()?).with_error_records_to_exceptions(true))
}

/// `false` when the program has a subscriber already.
pub(crate) fn install(logs: Logs) -> bool {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let spans = EnvFilter::new(variable("SPANWISE_SPANS").unwrap_or_else(|| SPANS.into()));
    let lines = EnvFilter::new(variable("RUST_LOG").unwrap_or_else(|| "info".into()));
    let json = match variable("SPANWISE_LOG_FORMAT").as_deref() {
        Some("json") => true,
        Some("text") => false,
        _ => logs == Logs::Json,
    };
    let format = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    let format = (logs != Logs::Off).then(|| format.event_format(Lines { json }).with_filter(lines));
    tracing_subscriber::registry().with(layer().with_filter(spans)).with(format).try_init().is_ok()
}

/// Log lines with the ids of the span that is active.
struct Lines {
    json: bool,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let ids = Context::map_current(|current| {
            let span = current.span();
            let span = span.span_context();
            span.is_valid().then(|| (span.trace_id().to_string(), span.span_id().to_string()))
        });
        if self.json {
            return writeln!(writer, "{}", json(event, ids));
        }
        let mut line = String::new();
        Format::default().with_ansi(false).format_event(context, Writer::new(&mut line), event)?;
        write!(writer, "{}", line.trim_end_matches('\n'))?;
        if let Some((trace_id, span_id)) = ids {
            write!(writer, " trace_id={trace_id} span_id={span_id}")?;
        }
        writeln!(writer)
    }
}

fn json(event: &Event<'_>, ids: Option<(String, String)>) -> Json {
    let mut time = String::new();
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    let mut fields = Fields(Map::new());
    fields.0.insert("timestamp".into(), time.into());
    fields.0.insert("level".into(), event.metadata().level().as_str().into());
    fields.0.insert("target".into(), event.metadata().target().into());
    if let Some((trace_id, span_id)) = ids {
        fields.0.insert("trace_id".into(), trace_id.into());
        fields.0.insert("span_id".into(), span_id.into());
    }
    event.record(&mut fields);
    Json::Object(fields.0)
}

struct Fields(Map<String, Json>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().into(), format!("{value:?}").into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().into(), value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().into(), value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().into(), value.into());
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name().into(), value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().into(), value.into());
    }
}
