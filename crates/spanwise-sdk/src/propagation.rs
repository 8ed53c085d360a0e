//! The formats of [`spanwise_propagate`] as a propagator of OpenTelemetry.
//!
//! The official `TraceState` refuses keys that Trace Context level 2 allows, and its contexts know neither who left a
//! decision open nor that a user asked for this one trace. Both travel beside the span, as a value of the context.

use std::sync::OnceLock;

use opentelemetry::Context;
use opentelemetry::baggage::{Baggage as OtelBaggage, BaggageExt, BaggageMetadata};
use opentelemetry::propagation::text_map_propagator::FieldIter;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::{self as otel, TraceContextExt, TraceFlags};
use spanwise_propagate::{
    Baggage, Decision, Extract, Extraction, Inject, Parent, Propagator, SpanContext, SpanId, TraceId, TraceState,
};

/// The formats that `init` chose.
static FORMATS: OnceLock<Propagator> = OnceLock::new();

pub(crate) fn set_formats(formats: Propagator) {
    // A second `init` keeps the first one's formats, as it keeps its tracer.
    let _ = FORMATS.set(formats);
}

/// The formats in use: W3C before `init`.
pub fn formats() -> &'static Propagator {
    static W3C: OnceLock<Propagator> = OnceLock::new();
    FORMATS.get().unwrap_or_else(|| W3C.get_or_init(Propagator::default))
}

/// What arrived with the parent, for what the official types cannot hold.
#[derive(Clone, Debug)]
pub(crate) struct Inherited {
    trace_id: Option<otel::TraceId>,
    decision: Decision,
    random: bool,
    state: TraceState,
    /// What of the state the official type could hold: changes against it were made by samplers.
    held: otel::TraceState,
}

impl Inherited {
    pub(crate) fn is_deferred(&self, trace_id: otel::TraceId) -> bool {
        self.decision == Decision::Defer && self.trace_id == Some(trace_id)
    }

    /// A decision that came without ids.
    pub(crate) fn order(&self) -> Option<bool> {
        match self.decision {
            Decision::Defer => None,
            decision => self.trace_id.is_none().then(|| decision.is_sampled()),
        }
    }
}

/// Reads a carrier into a context: the caller's span, its baggage, and links to spans of other traces.
///
/// Strict, as the formats' specifications are: see [`spanwise_propagate`]. The context of this thread is the base.
pub fn extract(carrier: &(impl Extract + ?Sized)) -> Context {
    into_context(&Context::current(), formats().extract(carrier))
}

/// Writes the span and baggage of a context to a carrier.
pub fn inject(context: &Context, carrier: &mut (impl Inject + ?Sized)) {
    inject_formats(formats(), context, carrier);
}

/// Spans of other traces that arrived in other formats: worth a link.
#[derive(Clone, Debug)]
pub(crate) struct OtherTraces(pub(crate) Vec<otel::SpanContext>);

fn into_context(base: &Context, found: Extraction) -> Context {
    let mut context = base.clone();
    if !found.baggage.is_empty() {
        context = context.with_baggage(read_baggage(&found.baggage));
    }
    if !found.others.is_empty() {
        context = context.with_value(OtherTraces(found.others.iter().map(official).collect()));
    }
    match found.parent {
        Some(Parent::Span(span)) => {
            let context = context.with_remote_span_context(official(&span));
            let held = context.span().span_context().trace_state().clone();
            context.with_value(Inherited {
                trace_id: Some(otel::TraceId::from_bytes(span.trace_id.to_bytes())),
                decision: span.decision,
                random: span.random,
                state: span.state,
                held,
            })
        }
        // A trace without a span cannot be a parent here: its decision still holds.
        Some(parent) if parent.decision() != Decision::Defer => context.with_value(Inherited {
            trace_id: None,
            decision: parent.decision(),
            random: true,
            state: TraceState::EMPTY,
            held: otel::TraceState::NONE,
        }),
        _ => context,
    }
}

fn official(span: &SpanContext) -> otel::SpanContext {
    let members = span.state.iter().filter(|(key, value)| otel::TraceState::from_key_value([(*key, *value)]).is_ok());
    otel::SpanContext::new(
        otel::TraceId::from_bytes(span.trace_id.to_bytes()),
        otel::SpanId::from_bytes(span.span_id.to_bytes()),
        TraceFlags::default().with_sampled(span.decision.is_sampled()),
        true,
        otel::TraceState::from_key_value(members).unwrap_or_default(),
    )
}

fn inject_formats(formats: &Propagator, context: &Context, carrier: &mut (impl Inject + ?Sized)) {
    let baggage = if context.baggage().is_empty() { Baggage::new() } else { write_baggage(context.baggage()) };
    let span = context.span();
    let inherited = context.get::<Inherited>();
    match outgoing(span.span_context(), inherited) {
        Some(span) => formats.inject(&span, &baggage, carrier),
        None => formats.inject_baggage(&baggage, carrier),
    }
}

fn outgoing(span: &otel::SpanContext, inherited: Option<&Inherited>) -> Option<SpanContext> {
    let trace_id = TraceId::from_bytes(span.trace_id().to_bytes())?;
    let span_id = SpanId::from_bytes(span.span_id().to_bytes())?;
    let inherited = inherited.filter(|inherited| inherited.trace_id == Some(span.trace_id()));
    let decision = match (span.trace_flags().is_sampled(), inherited) {
        (true, Some(Inherited { decision: Decision::Debug, .. })) => Decision::Debug,
        (true, _) => Decision::Accept,
        (false, _) => Decision::Deny,
    };
    // Ids of traces that begin here are random; others are what they were.
    let random = inherited.is_none_or(|inherited| inherited.random);
    let state = match inherited {
        Some(inherited) if &inherited.held == span.trace_state() => inherited.state.clone(),
        Some(inherited) => changed(inherited, span.trace_state()),
        None if span.trace_state() == &otel::TraceState::NONE => TraceState::EMPTY,
        None => merge(span.trace_state(), std::iter::empty()),
    };
    Some(SpanContext { trace_id, span_id, decision, random, state })
}

/// The state after samplers changed it, with the members that they could not see.
fn changed(inherited: &Inherited, now: &otel::TraceState) -> TraceState {
    merge(now, inherited.state.iter().filter(|(key, _)| inherited.held.get(key).is_none()))
}

fn merge<'a>(state: &'a otel::TraceState, unseen: impl Iterator<Item = (&'a str, &'a str)>) -> TraceState {
    let members: Vec<_> = state.into_iter().chain(unseen).collect();
    // The last insertion stands first.
    let insert = |state: TraceState, (key, value): &(&str, &str)| state.insert(key, value).unwrap_or(state);
    members.iter().rev().fold(TraceState::EMPTY, insert)
}

fn read_baggage(found: &Baggage) -> OtelBaggage {
    let mut baggage = OtelBaggage::new();
    for entry in found.iter() {
        let metadata = BaggageMetadata::from(entry.metadata.as_str());
        baggage.insert_with_metadata(entry.key.clone(), entry.value.clone(), metadata);
    }
    baggage
}

fn write_baggage(baggage: &OtelBaggage) -> Baggage {
    let mut written = Baggage::new();
    for (key, (value, metadata)) in baggage {
        written.insert(key.as_str(), value.as_str(), metadata.as_str());
    }
    written
}

/// [`spanwise_propagate::Propagator`] for libraries that use OpenTelemetry's global propagator. This SDK's own layers
/// read headers directly, with all values of repeated ones.
#[derive(Debug)]
pub struct ContextPropagator {
    formats: Propagator,
    fields: Vec<String>,
}

impl ContextPropagator {
    /// For these formats.
    pub fn new(formats: Propagator) -> Self {
        let fields = formats.fields().map(String::from).collect();
        Self { formats, fields }
    }
}

impl TextMapPropagator for ContextPropagator {
    fn inject_context(&self, context: &Context, injector: &mut dyn Injector) {
        inject_formats(&self.formats, context, &mut Official(injector));
    }

    fn extract_with_context(&self, context: &Context, extractor: &dyn Extractor) -> Context {
        into_context(context, self.formats.extract(&Official(extractor)))
    }

    fn fields(&self) -> FieldIter<'_> {
        FieldIter::new(&self.fields)
    }
}

/// The official carriers as ours.
struct Official<T>(T);

impl Extract for Official<&dyn Extractor> {
    fn entries(&self, each: &mut dyn FnMut(&str, &[u8])) {
        for name in self.0.keys() {
            for value in self.0.get_all(name).unwrap_or_default() {
                each(name, value.as_bytes());
            }
        }
    }

    fn values(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        self.0.get_all(name).unwrap_or_default().into_iter().for_each(|value| each(value.as_bytes()));
    }
}

impl Inject for Official<&mut dyn Injector> {
    fn set(&mut self, name: &'static str, value: &str) {
        self.0.set(name, value.into());
    }

    fn set_dynamic(&mut self, name: &str, value: &str) {
        self.0.set(name, value.into());
    }

    /// The official carriers cannot remove.
    fn remove(&mut self, _name: &'static str) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    use opentelemetry::trace::{Span, Tracer, TracerProvider};
    use opentelemetry_sdk::trace::SdkTracerProvider;

    use crate::sampling::{HeadSampler, Root, Threshold};

    const PARENT: &str = "00-80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-";

    /// Through a span of an SDK with this sampler.
    fn hop(root: Root, headers: &[(&str, &str)]) -> HashMap<String, String> {
        let propagator = ContextPropagator::new(Propagator::default());
        let headers: HashMap<_, _> =
            headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let parent = propagator.extract_with_context(&Context::new(), &headers);
        let provider = SdkTracerProvider::builder().with_sampler(HeadSampler::independent(root)).build();
        let span = provider.tracer("test").start_with_context("hop", &parent);
        let mut out = HashMap::new();
        propagator.inject_context(&parent.with_span(span), &mut out);
        out
    }

    #[test]
    fn what_the_official_types_cannot_hold_survives() {
        let state = "foo@=1,a@@b=2,bar=3";
        let out = hop(Root::AlwaysOff, &[("traceparent", &format!("{PARENT}02")), ("tracestate", state)]);
        assert!(out["traceparent"].starts_with("00-80f198ee56343ba864fe8b2a57d3eff7-"));
        assert!(out["traceparent"].ends_with("-02"), "{out:?}");
        assert_eq!(out["tracestate"], state);
        // What a sampler changed comes first, what it did not see last.
        let all = Root::Probability(Threshold::ALWAYS);
        let out = hop(all, &[("traceparent", &format!("{PARENT}00")), ("tracestate", state)]);
        assert_eq!(out["tracestate"], "ot=th:0,foo@=1,bar=3,a@@b=2");
        assert!(out["traceparent"].ends_with("-01"), "{out:?}");
    }

    #[test]
    fn new_traces_say_that_their_ids_are_random() {
        let out = hop(Root::Probability(Threshold::ALWAYS), &[("traceparent", "broken"), ("tracestate", "a=1")]);
        assert!(out["traceparent"].ends_with("-03"), "{out:?}");
        assert_eq!(out["tracestate"], "ot=th:0");
    }

    #[test]
    fn baggage_both_ways() {
        let out = hop(Root::AlwaysOff, &[("baggage", "user=J%C3%B6rg;p=1")]);
        assert_eq!(out["baggage"], "user=J%C3%B6rg;p=1");
    }

    #[test]
    fn spans_of_other_traces_are_kept_for_links() {
        let formats = Propagator::new([spanwise_propagate::Format::TraceContext, spanwise_propagate::Format::Jaeger]);
        let headers = HashMap::from([
            ("traceparent".to_string(), format!("{PARENT}01")),
            ("uber-trace-id".to_string(), "1:2:0:1".to_string()),
        ]);
        let context = ContextPropagator::new(formats).extract_with_context(&Context::new(), &headers);
        assert_eq!(context.get::<OtherTraces>().unwrap().0[0].span_id().to_string(), "0000000000000002");
        let provider = SdkTracerProvider::builder().build();
        assert!(provider.tracer("test").start_with_context("x", &context).span_context().is_valid());
    }
}
