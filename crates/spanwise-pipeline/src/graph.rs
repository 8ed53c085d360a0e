//! From a config to running stages: built from the exporters upwards, drained from the receivers downwards.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use spanwise_model::MemoryBudget;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::arrivals::Arrivals;
use crate::component::{Build, BuildContext, BuildError, ComponentId, Forwarding, Outputs, Receiver, Spools, Stage};
use crate::config::{Config, Listeners, Signal};
use crate::feature_gates::FeatureGates;
use crate::flow::{Consumer, FanOut};
use crate::telemetry::Telemetry;

/// A running graph.
pub struct Graph {
    stop: CancellationToken,
    tasks: TaskTracker,
    receivers: Vec<(Box<dyn Receiver>, Outputs)>,
    /// Processors of each pipeline in order of flow, then exporters.
    stages: Vec<Arc<dyn Stage>>,
    pub listeners: Listeners,
}

/// What a graph is built with.
pub struct GraphOptions {
    pub telemetry: Telemetry,
    pub memory: MemoryBudget,
    /// Signals without a pipeline are accepted and discarded instead of refused.
    pub discard_other_signals: bool,
    /// See [`BuildContext::spools`].
    pub spools: Spools,
    pub feature_gates: FeatureGates,
    /// See [`BuildContext::host`].
    pub host: Option<Arc<dyn Any + Send + Sync>>,
}

/// A processor's `Stage` as the `Consumer` of the one before it.
struct AsConsumer(Arc<dyn Stage>);

#[async_trait::async_trait]
impl Consumer for AsConsumer {
    async fn consume(&self, payload: crate::flow::Payload) -> Result<(), crate::flow::Refusal> {
        self.0.consume(payload).await
    }
}

impl Graph {
    /// Builds every stage that a pipeline uses and binds the receivers' sockets. Nothing is accepted yet.
    ///
    /// # Errors
    /// When a component cannot be built; what was built before is given up.
    pub fn build(config: &Config, options: &GraphOptions) -> Result<Graph, BuildError> {
        let (stop, tasks, listeners) = (CancellationToken::new(), TaskTracker::new(), Listeners::default());
        let arrivals = Arrivals::default();
        let context = |id: &ComponentId| BuildContext {
            arrivals: arrivals.clone(),
            id: id.clone(),
            telemetry: options.telemetry.clone(),
            memory: options.memory.clone(),
            stop: stop.clone(),
            tasks: tasks.clone(),
            listeners: listeners.clone(),
            pipeline: String::new(),
            spools: options.spools.clone(),
            feature_gates: options.feature_gates.clone(),
            host: options.host.clone(),
        };
        for id in &config.extensions {
            if let Some(Build::Extension(build)) = find(config, "extensions", id) {
                build(context(id))?;
            }
        }
        let mut exporters: BTreeMap<&ComponentId, Arc<dyn Stage>> = BTreeMap::new();
        let mut heads: BTreeMap<&ComponentId, Vec<Arc<dyn Consumer>>> = BTreeMap::new();
        let mut forwarding: BTreeMap<(&ComponentId, Signal), Vec<Arc<dyn Stage>>> = BTreeMap::new();
        let mut used: BTreeSet<&ComponentId> = BTreeSet::new();
        let mut stages: Vec<Arc<dyn Stage>> = Vec::new();
        for pipeline in &config.pipelines {
            used.extend(&pipeline.receivers);
            for id in &pipeline.exporters {
                if !exporters.contains_key(id)
                    && let Some(Build::Exporter(build)) = find(config, "exporters", id)
                {
                    exporters.insert(id, build(context(id))?);
                }
            }
            if pipeline.signal != Signal::Traces {
                // Their requests pass as they came: batching and limiting would change nothing about them.
                let stages = pipeline.exporters.iter().filter_map(|id| exporters.get(id)).cloned();
                let stages: Vec<_> = stages.collect();
                for id in &pipeline.receivers {
                    forwarding.entry((id, pipeline.signal)).or_default().extend(stages.iter().cloned());
                }
                continue;
            }
            let mut sinks: Vec<Arc<dyn Consumer>> =
                pipeline.exporters.iter().filter_map(|id| exporters.get(id)).map(as_consumer).collect();
            let mut next: Arc<dyn Consumer> = match sinks.len() {
                1 => sinks.remove(0),
                _ => Arc::new(FanOut(sinks)),
            };
            let mut processors = Vec::new();
            for id in pipeline.processors.iter().rev() {
                if let Some(Build::Processor(build)) = find(config, "processors", id) {
                    let stage = build(BuildContext { pipeline: pipeline.name.clone(), ..context(id) }, next)?;
                    next = as_consumer(&stage);
                    processors.push(stage);
                }
            }
            stages.extend(processors.into_iter().rev());
            for id in &pipeline.receivers {
                heads.entry(id).or_default().push(Arc::clone(&next));
            }
        }
        stages.extend(exporters.into_values());
        let mut receivers = Vec::new();
        for id in used {
            let Some(Build::Receiver(build)) = find(config, "receivers", id) else { continue };
            let traces: Option<Arc<dyn Consumer>> = match heads.remove(id) {
                Some(mut heads) if heads.len() == 1 => heads.pop(),
                Some(heads) => Some(Arc::new(FanOut(heads))),
                None => None,
            };
            let mut other = |signal| match forwarding.remove(&(id, signal)) {
                Some(stages) => Forwarding::To(stages),
                None if options.discard_other_signals => Forwarding::Discarded,
                None => Forwarding::Refused,
            };
            let outputs = Outputs { traces, metrics: other(Signal::Metrics), logs: other(Signal::Logs) };
            receivers.push((build(context(id))?, outputs));
        }
        Ok(Graph { stop, tasks, receivers, stages, listeners })
    }

    /// Lets the receivers accept.
    ///
    /// # Errors
    /// When one of them cannot.
    pub async fn start(&mut self) -> Result<(), BuildError> {
        for (receiver, outputs) in self.receivers.drain(..) {
            receiver.start(outputs).await?;
        }
        Ok(())
    }

    /// Stops accepting, finishes what was admitted, hands on what is held. `false` when requests were still open
    /// after `patience`; those were never acknowledged.
    pub async fn shut_down(self, patience: Duration) -> bool {
        self.stop.cancel();
        self.tasks.close();
        let finished = tokio::time::timeout(patience, self.tasks.wait()).await.is_ok();
        for stage in &self.stages {
            stage.drain().await;
        }
        finished
    }
}

fn as_consumer(stage: &Arc<dyn Stage>) -> Arc<dyn Consumer> {
    Arc::new(AsConsumer(Arc::clone(stage)))
}

fn find<'a>(config: &'a Config, section: &'static str, id: &ComponentId) -> Option<&'a Build> {
    config.components.get(&(section, id.clone())).map(|prepared| &prepared.build)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::flow::{Payload, Refusal};
    use parking_lot::Mutex;
    use spanwise_model::{KeyValue, Resource, Scope, Span, SpanId, TraceId};
    use spanwise_wire::encode::{encode_resource_header, encode_scope_header, encode_span};
    use spanwise_wire::{Piece, frame};

    /// Keeps what it is given.
    #[derive(Default)]
    pub struct Collect(Mutex<Vec<Payload>>);

    impl Collect {
        pub fn payloads(&self) -> Vec<Payload> {
            self.0.lock().clone()
        }

        pub fn sizes(&self) -> Vec<usize> {
            self.0.lock().iter().map(|payload| payload.batch.len_spans()).collect()
        }
    }

    #[async_trait::async_trait]
    impl Consumer for Collect {
        async fn consume(&self, payload: Payload) -> Result<(), Refusal> {
            self.0.lock().push(payload);
            Ok(())
        }
    }

    pub fn context(id: &str) -> BuildContext {
        BuildContext {
            id: ComponentId::parse(id).unwrap(),
            telemetry: Telemetry::default(),
            memory: MemoryBudget::new(1 << 30),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            listeners: Listeners::default(),
            arrivals: Arrivals::default(),
            pipeline: String::new(),
            spools: Spools::default(),
            feature_gates: FeatureGates::default(),
            host: None,
        }
    }

    pub fn payload(spans: u8) -> Payload {
        let spans: Vec<_> = (1..=spans)
            .map(|number| Span {
                trace_id: TraceId([number; 16]),
                span_id: SpanId([number; 8]),
                name: "work".to_owned(),
                ..Span::default()
            })
            .collect();
        Payload::new(batch_of(vec![KeyValue::new("service.name", "shop")], &spans))
    }

    pub fn batch_of(resource: Vec<KeyValue>, spans: &[Span]) -> spanwise_wire::Batch {
        let resource = encode_resource_header(&Resource { attributes: resource, ..Resource::default() });
        let scope = encode_scope_header(&Scope::default());
        let bodies: Vec<_> = spans.iter().map(encode_span).collect();
        let pieces = bodies.iter().map(|span| Piece { resource: &resource, scope: &scope, span });
        spanwise_wire::Batch::from_trusted(frame(pieces).into()).unwrap()
    }

    fn load(yaml: &str) -> Result<Config, crate::ConfigErrors> {
        let input = crate::Input { sources: vec![format!("yaml:{yaml}")], sets: Vec::new() };
        Config::load(&input, &crate::Registry::builtin(), &crate::config::Process)
    }

    #[tokio::test]
    async fn a_config_becomes_a_graph_that_ends() {
        let config = load(
            "receivers: {otlp: {protocols: {grpc: {endpoint: '127.0.0.1:0'}, http: {endpoint: '127.0.0.1:0'}}}}\n\
             processors: {batch: , memory_limiter: {limit_mib: 10}}\nexporters: {nop: , nop/2: }\n\
             service: {pipelines: {traces: {receivers: [otlp], processors: [memory_limiter, batch], exporters: [nop, nop/2]}}}\n",
        )
        .unwrap();
        let options = GraphOptions {
            telemetry: Telemetry::default(),
            memory: MemoryBudget::new(1 << 20),
            discard_other_signals: false,
            spools: Spools::default(),
            feature_gates: FeatureGates::default(),
            host: None,
        };
        let mut graph = Graph::build(&config, &options).unwrap();
        graph.start().await.unwrap();
        let names: Vec<_> = graph.listeners.all().into_keys().collect();
        assert_eq!(names, ["otlp_grpc", "otlp_http"]);
        assert!(graph.shut_down(Duration::from_secs(5)).await);
    }

    #[test]
    fn every_error_of_a_config_is_shown_at_once() {
        let errors = load(
            "receivers:\n  otlp:\n    protocols: {grpc: {endpoit: x}}\nexporters:\n  nopp:\n  otlp: {}\n\
             service:\n  pipelines:\n    traces:\n      receivers: [otlp]\n      exporters: [debug]\n    tracez:\n",
        )
        .err()
        .unwrap()
        .to_string();
        for part in [
            "error: receivers.otlp.protocols.grpc.endpoit: has invalid keys: unknown key",
            "did you mean \"endpoint\"?",
            "error: exporters.nopp: unknown type: \"nopp\"",
            "did you mean \"nop\"?",
            "error: exporters.otlp: requires a non-empty \"endpoint\"",
            "references exporter \"debug\" which is not configured",
            "did you mean \"traces\"?",
        ] {
            assert!(errors.contains(part), "{part:?} in\n{errors}");
        }
    }
}
