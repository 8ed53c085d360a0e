//! `debug`: writes what passes to standard error, as the collector's exporter does.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use spanwise_model::{KeyValue, Value};
use spanwise_wire::answer::PartialSuccess;
use spanwise_wire::{Batch, decode_resource, decode_scope, decode_span};

use crate::component::{Build, Factory, Kind, Stage, prepare};
use crate::config::Signal;
use crate::flow::{Consumer, Payload, RawRequest, Refusal};
use crate::telemetry::Counter;

pub const FACTORY: Factory = Factory {
    kind: Kind::Exporter,
    name: "debug",
    aliases: &[],
    stability: "alpha",
    summary: "Writes what passes to standard error.",
    signals: Signal::ALL,
    schema: || schemars::schema_for!(DebugConfig),
    prepare: |node, path, errors| {
        prepare::<DebugConfig>(
            node,
            path,
            errors,
            |_| Ok(()),
            |config| {
                Build::Exporter(Box::new(move |context| {
                    let labels: &[(&'static str, &str)] = &[("exporter", &context.id.to_string())];
                    let sent = context.telemetry.counter("otelcol_exporter_sent_spans", "Spans sent.", labels);
                    Ok(Arc::new(Debug { verbosity: config.verbosity, sent }))
                }))
            },
        )
    },
};

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema, Default)]
#[serde(rename_all = "lowercase")]
pub enum Verbosity {
    /// One line a batch.
    #[default]
    Basic,
    /// One line a span.
    Normal,
    /// Everything.
    Detailed,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DebugConfig {
    pub verbosity: Verbosity,
    pub sampling_initial: u32,
    pub sampling_thereafter: u32,
    pub use_internal_logger: bool,
}

impl Default for DebugConfig {
    fn default() -> Self {
        Self { verbosity: Verbosity::Basic, sampling_initial: 2, sampling_thereafter: 1, use_internal_logger: true }
    }
}

struct Debug {
    verbosity: Verbosity,
    sent: Counter,
}

#[async_trait]
impl Consumer for Debug {
    async fn consume(&self, payload: Payload) -> Result<(), Refusal> {
        self.sent.add(payload.batch.len_spans() as u64);
        let text = render(&payload.batch, self.verbosity);
        // Nobody reading standard error is no reason to refuse spans.
        let _ = std::io::stderr().write_all(text.as_bytes());
        Ok(())
    }
}

#[async_trait]
impl Stage for Debug {
    async fn drain(&self) {}

    /// Metrics and logs are not decoded: their size is all that is shown.
    async fn forward(&self, request: &RawRequest) -> Result<PartialSuccess, Refusal> {
        let text = format!("{}: one request of {} bytes\n", request.signal, request.bytes.len());
        let _ = std::io::stderr().write_all(text.as_bytes());
        Ok(PartialSuccess::default())
    }
}

fn render(batch: &Batch, verbosity: Verbosity) -> String {
    let mut out = format!("Traces: resource spans {}, spans {}\n", batch.len_resources(), batch.len_spans());
    match verbosity {
        Verbosity::Basic => {}
        Verbosity::Normal => {
            for place in 0..batch.len_spans() {
                let span = decode_span(batch.span_bytes(place));
                let _ = write!(out, "{} {} {}", escape(&span.name), span.trace_id, span.span_id);
                for attribute in &span.attributes {
                    let _ = write!(out, " {}={}", escape(&attribute.key), text(&attribute.value));
                }
                out.push('\n');
            }
        }
        Verbosity::Detailed => detailed(&mut out, batch),
    }
    out
}

fn detailed(out: &mut String, batch: &Batch) {
    let mut last = None;
    for place in 0..batch.len_spans() {
        let (resource, scope) = (batch.resource_of(place), batch.scope_of(place));
        if last.map(|(resource, _)| resource) != Some(resource) {
            let decoded = decode_resource(batch.resource_header(resource));
            let _ = writeln!(out, "ResourceSpans #{resource}\nResource SchemaURL: {}", escape(&decoded.schema_url));
            attributes(out, "Resource attributes", &decoded.attributes, "");
        }
        if last != Some((resource, scope)) {
            let decoded = decode_scope(batch.scope_header(scope));
            let _ = writeln!(out, "ScopeSpans #{scope}\nScopeSpans SchemaURL: {}", escape(&decoded.schema_url));
            let _ = writeln!(out, "InstrumentationScope {} {}", escape(&decoded.name), escape(&decoded.version));
            last = Some((resource, scope));
        }
        let span = decode_span(batch.span_bytes(place));
        let parent = span.parent_span_id.map(|id| id.to_string()).unwrap_or_default();
        let _ = writeln!(
            out,
            "Span #{place}\n    Trace ID       : {}\n    Parent ID      : {parent}\n    ID             : {}\n    \
             Name           : {}\n    Kind           : {}\n    TraceState     : {}\n    Start time     : {}\n    \
             End time       : {}\n    Status code    : {}\n    Status message : {}",
            span.trace_id,
            span.span_id,
            escape(&span.name),
            span.kind.as_str(),
            escape(&span.trace_state),
            span.start_unix_nano,
            span.end_unix_nano,
            span.status.code.as_str(),
            escape(&span.status.message),
        );
        attributes(out, "Attributes", &span.attributes, "");
        for (at, event) in span.events.iter().enumerate() {
            let _ = writeln!(
                out,
                "Event #{at}\n     -> Name: {}\n     -> Timestamp: {}",
                escape(&event.name),
                event.time_unix_nano
            );
            attributes(out, "     -> Attributes", &event.attributes, "     ");
        }
        for (at, link) in span.links.iter().enumerate() {
            let hex = |id: &[u8]| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            let _ = writeln!(
                out,
                "Link #{at}\n     -> Trace ID: {}\n     -> ID: {}",
                hex(&link.trace_id),
                hex(&link.span_id)
            );
        }
    }
}

fn attributes(out: &mut String, title: &str, attributes: &[KeyValue], indent: &str) {
    if !attributes.is_empty() {
        let _ = writeln!(out, "{title}:");
    }
    for attribute in attributes {
        let _ = writeln!(out, "{indent}     -> {}: {}", escape(&attribute.key), text(&attribute.value));
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Empty => "Empty()".to_owned(),
        Value::Str(text) => format!("Str({})", escape(text)),
        Value::Bool(value) => format!("Bool({value})"),
        Value::Int(value) => format!("Int({value})"),
        Value::Double(value) => format!("Double({value})"),
        Value::Bytes(bytes) => format!("Bytes({} bytes)", bytes.len()),
        Value::Array(values) => format!("Slice([{}])", values.iter().map(self::text).collect::<Vec<_>>().join(", ")),
        Value::Map(entries) => {
            let entries: Vec<_> =
                entries.iter().map(|entry| format!("{}: {}", escape(&entry.key), self::text(&entry.value))).collect();
            format!("Map({{{}}})", entries.join(", "))
        }
    }
}

/// Text of a stranger, without the control characters that a terminal would obey.
fn escape(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detailed_output_names_everything() {
        let payload = crate::graph::tests::payload(1);
        let text = render(&payload.batch, Verbosity::Detailed);
        for part in ["ResourceSpans #0", "-> service.name: Str(", "Span #0", "Name           : "] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(escape("a\u{1b}[2J"), "a\\u{1b}[2J");
    }
}
