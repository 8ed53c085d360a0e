//! `attributes` and `resource`: rewrite attribute lists, and only where an action changes one. Spans that are not
//! touched keep their bytes; a batch in which none is touched passes as it came.

mod actions;
mod matching;

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use spanwise_wire::rewrite::{Attributes, rewrite_header};
use spanwise_wire::{Batch, Piece, rebuild};

pub use actions::ActionConfig;
use actions::Actions;
use matching::Match;
pub use matching::MatchConfig;

use crate::component::{Build, Factory, Kind, Stage, prepare};
use crate::config::Signal;
use crate::flow::{Consumer, Metadata, Payload, Refusal};

pub const ATTRIBUTES: Factory = Factory {
    kind: Kind::Processor,
    name: "attributes",
    aliases: &[],
    stability: "beta",
    summary: "Changes attributes of spans.",
    signals: &[Signal::Traces],
    schema: || schemars::schema_for!(AttributesConfig),
    prepare: |node, path, errors| {
        prepare::<AttributesConfig>(node, path, errors, AttributesConfig::check, |config| {
            Build::Processor(Box::new(move |context, next| {
                let (actions, include, exclude) = config.build().map_err(|reason| context.error(reason))?;
                Ok(Arc::new(SpanAttributes { actions, include, exclude, next }))
            }))
        })
    },
};

pub const RESOURCE: Factory = Factory {
    kind: Kind::Processor,
    name: "resource",
    aliases: &[],
    stability: "beta",
    summary: "Changes attributes of resources.",
    signals: &[Signal::Traces],
    schema: || schemars::schema_for!(ResourceConfig),
    prepare: |node, path, errors| {
        prepare::<ResourceConfig>(node, path, errors, ResourceConfig::check, |config| {
            Build::Processor(Box::new(move |context, next| {
                let actions = Actions::new(&config.attributes).map_err(|reason| context.error(reason))?;
                Ok(Arc::new(ResourceAttributes { actions, next }))
            }))
        })
    },
};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct AttributesConfig {
    /// Only spans that fulfil this.
    pub include: Option<MatchConfig>,
    /// Not those that fulfil this.
    pub exclude: Option<MatchConfig>,
    pub actions: Vec<ActionConfig>,
}

type Built = (Actions, Option<Match>, Option<Match>);

impl AttributesConfig {
    fn build(&self) -> Result<Built, String> {
        if self.actions.is_empty() {
            return Err("missing required field \"actions\"".to_owned());
        }
        let matching = |config: &Option<MatchConfig>, key: &str| {
            config.as_ref().map(Match::new).transpose().map_err(|message| format!("{key}: {message}"))
        };
        Ok((Actions::new(&self.actions)?, matching(&self.include, "include")?, matching(&self.exclude, "exclude")?))
    }

    fn check(&self) -> Result<(), String> {
        self.build().map(drop)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct ResourceConfig {
    pub attributes: Vec<ActionConfig>,
}

impl ResourceConfig {
    fn check(&self) -> Result<(), String> {
        if self.attributes.is_empty() {
            return Err("missing required field \"attributes\"".to_owned());
        }
        Actions::new(&self.attributes).map(drop)
    }
}

/// Field numbers of the attribute lists in OTLP.
const OF_SPAN: u32 = 9;
const OF_RESOURCE: u32 = 1;

struct SpanAttributes {
    actions: Actions,
    include: Option<Match>,
    exclude: Option<Match>,
    next: Arc<dyn Consumer>,
}

impl SpanAttributes {
    /// `None` when no span changes.
    fn rewrite(&self, batch: &Batch, metadata: &Metadata) -> Option<Batch> {
        let rewrite_one = |number: usize| {
            let is_meant = self.include.as_ref().is_none_or(|include| include.matches(batch, number))
                && !self.exclude.as_ref().is_some_and(|exclude| exclude.matches(batch, number));
            let span = batch.span_bytes(number);
            let mut attributes = Attributes::of(if is_meant { span } else { &[] }, OF_SPAN);
            if is_meant {
                self.actions.apply(&mut attributes, metadata);
            }
            attributes.is_changed().then(|| attributes.write(span, OF_SPAN))
        };
        let changed: Vec<Option<Vec<u8>>> = (0..batch.len_spans()).map(rewrite_one).collect();
        if changed.iter().all(Option::is_none) {
            return None;
        }
        let pieces = batch.pieces().zip(&changed).map(|(piece, changed)| match changed {
            Some(span) => Piece { span, ..piece },
            None => piece,
        });
        Some(rebuild(pieces))
    }
}

#[async_trait]
impl Consumer for SpanAttributes {
    async fn consume(&self, payload: Payload) -> Result<(), Refusal> {
        let payload = match self.rewrite(&payload.batch, &payload.metadata) {
            Some(batch) => payload.with_batch(batch),
            None => payload,
        };
        self.next.consume(payload).await
    }
}

#[async_trait]
impl Stage for SpanAttributes {
    async fn drain(&self) {}
}

struct ResourceAttributes {
    actions: Actions,
    next: Arc<dyn Consumer>,
}

impl ResourceAttributes {
    fn rewrite(&self, batch: &Batch, metadata: &Metadata) -> Option<Batch> {
        let rewrite_one = |number: usize| {
            let header = batch.resource_header(number);
            rewrite_header(header, OF_RESOURCE, |attributes| self.actions.apply(attributes, metadata))
        };
        let changed: Vec<Option<Vec<u8>>> = (0..batch.len_resources()).map(rewrite_one).collect();
        if changed.iter().all(Option::is_none) {
            return None;
        }
        let pieces = batch.pieces().enumerate().map(|(number, piece)| match &changed[batch.resource_of(number)] {
            Some(resource) => Piece { resource, ..piece },
            None => piece,
        });
        Some(rebuild(pieces))
    }
}

#[async_trait]
impl Consumer for ResourceAttributes {
    async fn consume(&self, payload: Payload) -> Result<(), Refusal> {
        let payload = match self.rewrite(&payload.batch, &payload.metadata) {
            Some(batch) => payload.with_batch(batch),
            None => payload,
        };
        self.next.consume(payload).await
    }
}

#[async_trait]
impl Stage for ResourceAttributes {
    async fn drain(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::tests::{Collect, batch_of, context};
    use spanwise_model::{KeyValue, Span, SpanId, SpanKind, TraceId};
    use spanwise_wire::view::{resource_attributes, span_attributes};

    fn span(name: &str, kind: SpanKind) -> Span {
        Span {
            trace_id: TraceId([1; 16]),
            span_id: SpanId([2; 8]),
            name: name.to_owned(),
            kind,
            attributes: vec![KeyValue::new("user", "alice")],
            ..Span::default()
        }
    }

    async fn run(factory: &Factory, yaml: &str, spans: &[Span]) -> (Batch, Batch) {
        let node = crate::config::yaml::parse(yaml, 0).unwrap();
        let mut errors = Vec::new();
        let prepared = (factory.prepare)(&node, "p", &mut errors).unwrap_or_else(|| panic!("{errors:?}"));
        let Build::Processor(build) = prepared.build else { panic!("not a processor") };
        let sink = Arc::new(Collect::default());
        let next: Arc<dyn Consumer> = Arc::<Collect>::clone(&sink);
        let stage = build(context("attributes"), next).unwrap();
        let batch = batch_of(vec![KeyValue::new("service.name", "shop")], spans);
        stage.consume(Payload::new(batch.clone())).await.unwrap();
        (batch, sink.payloads()[0].batch.clone())
    }

    fn users(batch: &Batch) -> Vec<bool> {
        (0..batch.len_spans()).map(|n| span_attributes(batch.span_bytes(n)).any(|a| a.key == "user")).collect()
    }

    #[tokio::test]
    async fn only_the_meant_spans_change() {
        let spans = [span("GET /a", SpanKind::Server), span("GET /b", SpanKind::Server), span("sql", SpanKind::Client)];
        for (rule, expected) in [
            ("include: {match_type: strict, span_names: [sql]}", [true, true, false]),
            ("include: {match_type: regexp, span_names: ['^GET'], span_kinds: ['SERVER']}", [false, false, true]),
            (
                "include: {match_type: regexp, span_names: ['^GET']}\nexclude: {match_type: strict, span_names: ['GET /b']}",
                [false, true, true],
            ),
            ("exclude: {match_type: strict, services: [shop]}", [true, true, true]),
            ("include: {match_type: strict, attributes: [{key: user, value: alice}]}", [false, false, false]),
            (
                "include: {match_type: strict, resources: [{key: service.name}], span_kinds: [SPAN_KIND_CLIENT]}",
                [true, true, false],
            ),
        ] {
            let yaml = format!("{rule}\nactions: [{{key: user, action: delete}}]\n");
            let (before, after) = run(&ATTRIBUTES, &yaml, &spans).await;
            assert_eq!(users(&after), expected, "{rule}");
            if expected == [true; 3] {
                assert_eq!(before.bytes(), after.bytes());
            }
        }
    }

    #[tokio::test]
    async fn a_resource_changes_for_all_its_spans() {
        let spans = [span("a", SpanKind::Server), span("b", SpanKind::Server)];
        let yaml = "attributes: [{key: deployment.environment, value: prod, action: insert}, {key: service.name, value: s2, action: update}]";
        let (_, after) = run(&RESOURCE, yaml, &spans).await;
        let keys: Vec<_> = resource_attributes(after.resource_header(0)).map(|a| a.key.to_owned()).collect();
        assert_eq!(keys, ["service.name", "deployment.environment"]);
        assert_eq!(after.len_spans(), 2);
        assert_eq!(spanwise_wire::view::service_name(after.resource_header(0)), Some("s2"));
    }
}
