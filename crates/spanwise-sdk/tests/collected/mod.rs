//! A provider for one test binary that keeps every span that ends.

use std::sync::{Arc, Mutex, OnceLock};

use opentelemetry::{Context, TraceId};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, Span, SpanData, SpanProcessor};
use spanwise_sdk::sampling::{HeadSampler, Root};
use tokio::sync::Notify;

#[derive(Clone)]
pub struct Collected {
    provider: SdkTracerProvider,
    kept: Arc<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    spans: Mutex<Vec<SpanData>>,
    more: Notify,
}

#[derive(Debug)]
struct Keeps(Arc<Kept>);

impl SpanProcessor for Keeps {
    fn on_start(&self, _: &mut Span, _: &Context) {}
    fn on_end(&self, span: SpanData) {
        self.0.spans.lock().unwrap().push(span);
        self.0.more.notify_waiters();
    }
    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }
    fn shutdown_with_timeout(&self, _: std::time::Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl Collected {
    pub fn global() -> Self {
        static COLLECTED: OnceLock<Collected> = OnceLock::new();
        let made = COLLECTED.get_or_init(|| {
            let kept = Arc::new(Kept::default());
            let sampler = HeadSampler::parent_based(Root::AlwaysOn);
            let provider =
                SdkTracerProvider::builder().with_sampler(sampler).with_span_processor(Keeps(kept.clone())).build();
            opentelemetry::global::set_tracer_provider(provider.clone());
            Collected { provider, kept }
        });
        made.clone()
    }

    pub fn provider(&self) -> &SdkTracerProvider {
        &self.provider
    }

    fn of(&self, trace_id: TraceId) -> Vec<SpanData> {
        let spans = self.kept.spans.lock().unwrap();
        spans.iter().filter(|span| span.span_context.trace_id() == trace_id).cloned().collect()
    }
}

/// All spans of a trace once no more come: a server's span ends after its client has the answer.
pub async fn spans_of(collected: &Collected, trace_id: TraceId) -> Vec<SpanData> {
    loop {
        let more = collected.kept.more.notified();
        let mut found = collected.of(trace_id);
        // Every remote child ends in this process too.
        let calls = found.iter().filter(|span| span.span_kind == opentelemetry::trace::SpanKind::Client);
        let answered = |call: &SpanData| {
            let id = call.span_context.span_id();
            let goes_nowhere =
                call.attributes.iter().all(|pair| !matches!(pair.key.as_str(), "server.address" | "rpc.method"))
                    || call.attributes.iter().any(|pair| pair.value.as_str().contains("127.0.0.1:1/"));
            goes_nowhere || found.iter().any(|span| span.parent_span_id == id)
        };
        if !found.is_empty() && calls.clone().all(answered) {
            found.sort_by_key(|span| span.start_time);
            return found;
        }
        more.await;
    }
}

pub fn attribute(span: &SpanData, key: &str) -> String {
    let found = span.attributes.iter().find(|pair| pair.key.as_str() == key);
    found.unwrap_or_else(|| panic!("no {key} in {span:#?}")).value.to_string()
}
