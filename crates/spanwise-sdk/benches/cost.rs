//! What a span costs, beside the official SDK in the same run: `cargo bench -p spanwise-sdk`.
//!
//! Both export to nowhere, through their own batch processors. What counts is the thread's time on a processor: on a busy
//! machine the clock on the wall tells about others.

use std::hint::black_box;

use std::time::Duration;

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{Criterion, criterion_group, criterion_main};
use http::HeaderMap;
use nix::time::{ClockId, clock_gettime};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer, TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider, SpanData, SpanExporter};

/// Of this thread.
struct ProcessorTime;

impl Measurement for ProcessorTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a thread has a clock").into()
    }

    fn end(&self, start: Duration) -> Duration {
        self.start().saturating_sub(start)
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_nanos() as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

#[derive(Debug)]
struct Nowhere;

impl SpanExporter for Nowhere {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        black_box(batch);
        Ok(())
    }
}

/// An active span with one attribute, as the official API has it.
fn official(tracer: &SdkTracer) {
    let context = Context::current_with_span(tracer.start("work"));
    let _active = context.clone().attach();
    context.span().set_attribute(KeyValue::new("shop.items", 7));
}

fn ours() {
    let span = spanwise_sdk::span("work");
    span.set("shop.items", 7);
}

/// A local parent.
fn parent(is_sampled: bool) -> Context {
    let flags = TraceFlags::default().with_sampled(is_sampled);
    let (trace_id, span_id) = (TraceId::from_bytes([7; 16]), SpanId::from_bytes([7; 8]));
    Context::new().with_remote_span_context(SpanContext::new(trace_id, span_id, flags, false, TraceState::NONE))
}

struct Injector<'a>(&'a mut HeaderMap);

/// As `opentelemetry-http` has it.
impl opentelemetry::propagation::Injector for Injector<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) =
            (http::HeaderName::from_bytes(key.as_bytes()), http::HeaderValue::from_str(&value))
        {
            self.0.insert(name, value);
        }
    }
}

fn cost(criterion: &mut Criterion<ProcessorTime>) {
    let guard = spanwise_sdk::builder().exporter(Nowhere).logs(spanwise_sdk::Logs::Off).init().expect("the first");
    let provider = SdkTracerProvider::builder()
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
        .with_batch_exporter(Nowhere)
        .build();
    let tracer = provider.tracer("bench");
    for (name, is_sampled) in [("recorded", true), ("unsampled", false)] {
        let mut group = criterion.benchmark_group(name);
        let parent = parent(is_sampled);
        let _active = parent.attach();
        group.bench_function("official", |bencher| bencher.iter(|| official(&tracer)));
        group.bench_function("spanwise", |bencher| bencher.iter(ours));
    }
    let mut group = criterion.benchmark_group("recorded root");
    group.bench_function("official", |bencher| bencher.iter(|| official(&tracer)));
    group.bench_function("spanwise", |bencher| bencher.iter(ours));
    group.finish();

    let mut group = criterion.benchmark_group("inject");
    let context = parent(true);
    let mut headers = HeaderMap::with_capacity(8);
    let propagator = TraceContextPropagator::new();
    group.bench_function("official", |bencher| {
        bencher.iter(|| propagator.inject_context(black_box(&context), &mut Injector(&mut headers)));
    });
    group.bench_function("spanwise", |bencher| {
        bencher.iter(|| spanwise_sdk::inject(black_box(&context), &mut headers));
    });
    group.finish();
    println!("{:?}", guard.stats());
}

criterion_group!(
    name = benches;
    config = Criterion::default().with_measurement(ProcessorTime);
    targets = cost
);
criterion_main!(benches);
