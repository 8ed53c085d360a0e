//! From the end of a span to the network, on a thread of our own.
//!
//! The program's threads only push to a bounded queue: when it is full the span is dropped and counted. One thread with
//! its own single-threaded runtime takes batches and sends them. It needs nothing of the program's runtime, so flushing
//! works from any thread, inside and outside of tokio, on one core as on many; and what it does itself is never traced.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, ThreadId};
use std::time::{Duration, Instant};

use opentelemetry::Context;
use opentelemetry::{Array, KeyValue, StringValue, Value};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter, SpanProcessor};
use tokio::sync::Notify;

use crate::settings::Queue;

/// What became of the spans that ended. `ended` is the sum of the others and of what still waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Recorded spans that ended.
    pub ended: u64,
    /// Delivered.
    pub exported: u64,
    /// Lost because the queue was full, or because they ended after shutdown.
    pub dropped: u64,
    /// Lost because they could not be delivered.
    pub failed: u64,
}

/// [`SpanExporter`] behind a pointer.
pub(crate) trait Export: Send {
    fn export(&mut self, batch: Vec<SpanData>) -> Pin<Box<dyn Future<Output = OTelSdkResult> + Send + '_>>;
    fn set_resource(&mut self, resource: &Resource);
    fn shutdown(&mut self);
}

impl<T: SpanExporter> Export for T {
    fn export(&mut self, batch: Vec<SpanData>) -> Pin<Box<dyn Future<Output = OTelSdkResult> + Send + '_>> {
        Box::pin(SpanExporter::export(self, batch))
    }

    fn set_resource(&mut self, resource: &Resource) {
        SpanExporter::set_resource(self, resource);
    }

    fn shutdown(&mut self) {
        let _ = SpanExporter::shutdown(self);
    }
}

/// Built on the thread, inside its runtime.
pub(crate) type MakeExporter = Box<dyn FnOnce() -> Result<Box<dyn Export>, String> + Send>;
/// Runs beside the export, on the same thread, as long as that lives.
pub(crate) type Task = Box<dyn FnOnce(Exports) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// The processor that the tracer provider holds.
#[derive(Debug)]
pub(crate) struct ExportProcessor {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    thread_id: ThreadId,
}

#[derive(Debug)]
struct Shared {
    queue: Queue,
    value_length: Option<usize>,
    state: Mutex<State>,
    wake: Notify,
    counts: Counts,
}

#[derive(Debug, Default)]
struct State {
    spans: VecDeque<SpanData>,
    /// To be told when all that waits now has been tried.
    flushes: Vec<SyncSender<()>>,
    resource: Option<Resource>,
    stops: bool,
}

#[derive(Debug, Default)]
struct Counts {
    ended: AtomicU64,
    exported: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

/// A handle that outlives the provider's, for counts and flushing.
#[derive(Clone, Debug)]
pub(crate) struct Exports {
    shared: Arc<Shared>,
    thread_id: ThreadId,
}

/// Waiting callers of `flush`; more at once are refused.
const MAX_FLUSHES: usize = 64;

impl ExportProcessor {
    /// # Errors
    /// When no thread can be started, or the exporter cannot be made.
    pub(crate) fn start(
        queue: Queue,
        value_length: Option<usize>,
        make: MakeExporter,
        tasks: Vec<Task>,
    ) -> Result<Self, String> {
        let counts = Counts::default();
        let shared = Arc::new(Shared { queue, value_length, state: Mutex::default(), wake: Notify::new(), counts });
        let (ready, started) = sync_channel(1);
        let on_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("spanwise-export".into())
            .spawn(move || run(on_thread, make, tasks, &ready))
            .map_err(|error| format!("cannot start the export thread: {error}"))?;
        match started.recv() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err("cannot start the export thread: it ended".into()),
        }
        let thread_id = thread.thread().id();
        Ok(Self { shared, thread: Mutex::new(Some(thread)), thread_id })
    }

    pub(crate) fn exports(&self) -> Exports {
        Exports { shared: Arc::clone(&self.shared), thread_id: self.thread_id }
    }
}

impl SpanProcessor for ExportProcessor {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() {
            self.shared.push(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exports().flush(self.shared.queue.timeout)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        let Some(thread) = lock(&self.thread).take() else { return Err(OTelSdkError::AlreadyShutdown) };
        let result = self.exports().flush(timeout);
        lock(&self.shared.state).stops = true;
        self.shared.wake.notify_one();
        // A thread that is still busy is left to itself: it ends with the process.
        if result.is_ok() && self.thread_id != std::thread::current().id() {
            let _ = thread.join();
        }
        result
    }

    fn set_resource(&mut self, resource: &Resource) {
        lock(&self.shared.state).resource = Some(resource.clone());
    }
}

impl Exports {
    /// Waits until all that has ended was sent or given up, at most `timeout`.
    pub(crate) fn flush(&self, timeout: Duration) -> OTelSdkResult {
        // The thread cannot wait for itself.
        if self.thread_id == std::thread::current().id() {
            return Ok(());
        }
        let done: Receiver<()> = {
            let mut state = lock(&self.shared.state);
            if state.stops {
                return Err(OTelSdkError::AlreadyShutdown);
            }
            if state.flushes.len() >= MAX_FLUSHES {
                return Err(OTelSdkError::InternalFailure("cannot flush: too many wait already".into()));
            }
            let (sender, done) = sync_channel(1);
            state.flushes.push(sender);
            done
        };
        self.shared.wake.notify_one();
        done.recv_timeout(timeout).map_err(|_| OTelSdkError::Timeout(timeout))
    }

    pub(crate) fn stats(&self) -> Stats {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = &self.shared.counts;
        Stats {
            ended: read(&counts.ended),
            exported: read(&counts.exported),
            dropped: read(&counts.dropped),
            failed: read(&counts.failed),
        }
    }
}

impl Shared {
    fn push(&self, span: SpanData) {
        self.counts.ended.fetch_add(1, Ordering::Relaxed);
        let mut state = lock(&self.state);
        if state.stops || state.spans.len() >= self.queue.capacity {
            drop(state);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.spans.push_back(span);
        let is_full_batch = state.spans.len() == self.queue.batch;
        drop(state);
        if is_full_batch {
            self.wake.notify_one();
        }
    }
}

/// A thread that panicked while it held the lock left nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(shared: Arc<Shared>, make: MakeExporter, tasks: Vec<Task>, ready: &SyncSender<Result<(), String>>) {
    // What happens here is neither logged nor traced: no loop can arise.
    let _silent = tracing::subscriber::set_default(tracing::subscriber::NoSubscriber::default());
    let _suppressed = Context::enter_telemetry_suppressed_scope();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = ready.send(Err(format!("cannot start the export runtime: {error}")));
            return;
        }
    };
    let made = {
        let _entered = runtime.enter();
        make()
    };
    let mut exporter = match made {
        Ok(exporter) => exporter,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    runtime.block_on(async {
        let exports = Exports { shared: Arc::clone(&shared), thread_id: std::thread::current().id() };
        for task in tasks {
            tokio::spawn(task(exports.clone()));
        }
        let _ = ready.send(Ok(()));
        export_until_stopped(&shared, exporter.as_mut()).await;
    });
    exporter.shutdown();
}

async fn export_until_stopped(shared: &Shared, exporter: &mut dyn Export) {
    let mut next = Instant::now() + shared.queue.delay;
    loop {
        // Woken early by a full batch, a flush, or the end.
        let _ = tokio::time::timeout_at(next.into(), shared.wake.notified()).await;
        let (mut flushes, stops, is_due) = {
            let mut state = lock(&shared.state);
            if let Some(resource) = state.resource.take() {
                exporter.set_resource(&resource);
            }
            let is_full = state.spans.len() >= shared.queue.batch;
            (std::mem::take(&mut state.flushes), state.stops, is_full || Instant::now() >= next)
        };
        let everything = stops || !flushes.is_empty();
        if everything || is_due {
            // What ends while this goes on waits for the next round: a flush is not held up by a busy program.
            let mut left = lock(&shared.state).spans.len();
            while left > 0 && (everything || left >= shared.queue.batch || Instant::now() >= next) {
                left -= export_batch(shared, exporter, left).await.min(left);
            }
            next = Instant::now() + shared.queue.delay;
        }
        for done in flushes.drain(..) {
            // Who waited may have given up.
            let _ = done.try_send(());
        }
        if stops {
            return;
        }
    }
}

async fn export_batch(shared: &Shared, exporter: &mut dyn Export, left: usize) -> usize {
    let mut batch: Vec<SpanData> = {
        let mut state = lock(&shared.state);
        let take = state.spans.len().min(shared.queue.batch).min(left);
        state.spans.drain(..take).collect()
    };
    let Ok(spans) = u64::try_from(batch.len()) else { return left };
    if batch.is_empty() {
        return left;
    }
    if let Some(length) = shared.value_length {
        batch.iter_mut().for_each(|span| cut_values(&mut span.attributes, length));
    }
    let sent = tokio::time::timeout(shared.queue.timeout, exporter.export(batch)).await;
    let count = if matches!(sent, Ok(Ok(()))) { &shared.counts.exported } else { &shared.counts.failed };
    count.fetch_add(spans, Ordering::Relaxed);
    usize::try_from(spans).unwrap_or(left)
}

fn cut_values(attributes: &mut [KeyValue], length: usize) {
    let cut = |text: &StringValue| {
        let end = text.as_str().char_indices().nth(length).map(|(end, _)| end)?;
        text.as_str().get(..end).map(|text| StringValue::from(text.to_owned()))
    };
    for pair in attributes {
        match &mut pair.value {
            Value::String(text) => {
                if let Some(shorter) = cut(text) {
                    *text = shorter;
                }
            }
            Value::Array(Array::String(texts)) => {
                for text in texts {
                    if let Some(shorter) = cut(text) {
                        *text = shorter;
                    }
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    use opentelemetry::trace::{Span as _, Tracer, TracerProvider};
    use opentelemetry_sdk::trace::SdkTracerProvider;

    /// Keeps what it gets, or refuses it.
    #[derive(Clone, Debug, Default)]
    struct Kept {
        names: Arc<Mutex<Vec<String>>>,
        resource: Arc<Mutex<Option<Resource>>>,
        refuses: Arc<AtomicBool>,
    }

    impl SpanExporter for Kept {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            if self.refuses.load(Ordering::Relaxed) {
                return Err(OTelSdkError::InternalFailure("refused".into()));
            }
            lock(&self.names).extend(batch.into_iter().map(|span| span.name.into_owned()));
            Ok(())
        }

        fn set_resource(&mut self, resource: &Resource) {
            *lock(&self.resource) = Some(resource.clone());
        }
    }

    fn start(queue: Queue, kept: &Kept) -> (SdkTracerProvider, Exports) {
        let kept = kept.clone();
        let processor = ExportProcessor::start(queue, None, Box::new(|| Ok(Box::new(kept))), Vec::new()).unwrap();
        let exports = processor.exports();
        (SdkTracerProvider::builder().with_span_processor(processor).build(), exports)
    }

    /// A delay that no test lives to see.
    fn patient(capacity: usize, batch: usize) -> Queue {
        Queue { capacity, batch, delay: Duration::from_secs(3600), ..Queue::default() }
    }

    #[test]
    fn flush_and_shutdown_send_what_ended() {
        let kept = Kept::default();
        let (provider, exports) = start(patient(100, 10), &kept);
        let tracer = provider.tracer("test");
        (0..25).for_each(|n| tracer.start(format!("{n}")).end());
        exports.flush(Duration::from_secs(10)).unwrap();
        assert_eq!(lock(&kept.names).len(), 25);
        assert!(lock(&kept.resource).is_some());
        tracer.start("last").end();
        provider.shutdown().unwrap();
        assert_eq!(lock(&kept.names).last().map(String::as_str), Some("last"));
        assert_eq!(exports.stats(), Stats { ended: 26, exported: 26, dropped: 0, failed: 0 });
        assert!(exports.flush(Duration::from_secs(1)).is_err());
    }

    #[test]
    fn losses_are_counted() {
        let kept = Kept::default();
        let (provider, exports) = start(patient(5, 5), &kept);
        kept.refuses.store(true, Ordering::Relaxed);
        let tracer = provider.tracer("test");
        tracer.start("refused").end();
        exports.flush(Duration::from_secs(10)).unwrap();
        assert_eq!(exports.stats().failed, 1);
        kept.refuses.store(false, Ordering::Relaxed);
        // Faster than the thread takes them, some find the queue full; none is unaccounted for.
        (0..10_000).for_each(|_| tracer.start("x").end());
        provider.shutdown().unwrap();
        let stats = exports.stats();
        assert_eq!(stats.ended, 10_001);
        assert_eq!(stats.exported + stats.dropped + stats.failed, stats.ended);
        assert_eq!(lock(&kept.names).len() as u64, stats.exported);
    }

    #[test]
    fn works_on_a_single_threaded_runtime() {
        let kept = Kept::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (provider, _) = start(patient(100, 10), &kept);
            let tracer = provider.tracer("test");
            tokio::spawn(async move { tracer.start("spawned").end() }).await.unwrap();
            provider.shutdown().unwrap();
        });
        assert_eq!(*lock(&kept.names), ["spawned"]);
    }

    #[test]
    fn an_exporter_that_cannot_be_made_is_an_error() {
        let made = ExportProcessor::start(Queue::default(), None, Box::new(|| Err("no".into())), Vec::new());
        assert_eq!(made.unwrap_err(), "no");
    }

    #[test]
    fn long_values_are_cut_at_characters() {
        let mut attributes = [KeyValue::new("a", "\u{e4}\u{e4}\u{e4}"), KeyValue::new("b", "x"), KeyValue::new("c", 1)];
        cut_values(&mut attributes, 2);
        let texts: Vec<_> = attributes.iter().map(|pair| pair.value.to_string()).collect();
        assert_eq!(texts, ["\u{e4}\u{e4}", "x", "1"]);
    }
}
