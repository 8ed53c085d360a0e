use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use spanwise_model::{KeyValue, Span, SpanId, Status, StatusCode, TraceId};

use super::*;
use crate::graph::tests::{Collect, batch_of, context};

fn config(yaml: &str) -> TailSamplingConfig {
    let node = crate::config::yaml::parse(yaml, 0).unwrap();
    let mut errors = Vec::new();
    let config = crate::config::decode::decode(&node, "p", &mut errors);
    config.unwrap_or_else(|| panic!("{errors:?}"))
}

struct Run {
    stage: TailSampling,
    sink: Arc<Collect>,
    context: BuildContext,
}

const ERRORS: &str =
    "decision_wait: 10s\npolicies: [{name: errors, type: status_code, status_code: {status_codes: [ERROR]}}]\n";

impl Run {
    fn start(yaml: &str) -> Self {
        Self::with_context(yaml, context("tail_sampling"))
    }

    fn durable(yaml: &str, dir: &Path) -> Self {
        let context = context("tail_sampling");
        context.spools.open("", dir, None).unwrap();
        Self::with_context(yaml, context)
    }

    fn with_context(yaml: &str, context: BuildContext) -> Self {
        let sink = Arc::new(Collect::default());
        let next: Arc<dyn Consumer> = Arc::<Collect>::clone(&sink);
        let config = config(yaml);
        config.check().unwrap();
        let stage = TailSampling::start(&config, &context, next).unwrap();
        Self { stage, sink, context }
    }

    async fn send(&self, spans: &[Span]) {
        let batch = batch_of(vec![KeyValue::new("service.name", "shop")], spans);
        self.stage.consume(Payload::new(batch)).await.unwrap();
    }

    /// Kept spans by trace, in the order they left.
    fn kept(&self) -> BTreeMap<u8, Vec<u8>> {
        let mut kept = BTreeMap::<u8, Vec<u8>>::new();
        for payload in self.sink.payloads() {
            for span in payload.batch.spans() {
                kept.entry(span.trace_id.0[0]).or_default().push(span.span_id.0[0]);
            }
        }
        kept
    }

    fn total(&self, name: &str) -> u64 {
        self.context.telemetry.total(name)
    }
}

fn span(trace: u8, id: u8, is_error: bool) -> Span {
    let code = if is_error { StatusCode::Error } else { StatusCode::Unset };
    Span {
        trace_id: TraceId([trace; 16]),
        span_id: SpanId([id; 8]),
        parent_span_id: (id != 1).then_some(SpanId([1; 8])),
        start_unix_nano: 1_000,
        end_unix_nano: 2_000,
        status: Status { code, ..Status::default() },
        ..Span::default()
    }
}

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_trace_is_kept_whole_wherever_its_spans_came() {
    let run = Run::start(ERRORS);
    run.send(&[span(1, 1, false), span(2, 1, false), span(1, 2, false)]).await;
    seconds(5).await;
    run.send(&[span(2, 2, false), span(1, 3, true)]).await;
    seconds(4).await;
    assert!(run.kept().is_empty());
    seconds(2).await;
    assert_eq!(run.kept(), BTreeMap::from([(1, vec![1, 2, 3])]));
    assert_eq!(run.sink.payloads()[0].probability, 1.0);
    assert_eq!(run.total("otelcol_processor_tail_sampling_global_count_traces_sampled"), 2);
    assert_eq!(run.total("otelcol_processor_incoming_items"), 5);
    assert_eq!(run.total("otelcol_processor_outgoing_items") + run.total("spanwise_processor_dropped_spans"), 5);
}

#[tokio::test(start_paused = true)]
async fn late_spans_follow_the_decision() {
    let run = Run::start(ERRORS);
    run.send(&[span(1, 1, true), span(2, 1, false)]).await;
    seconds(12).await;
    run.send(&[span(1, 2, false), span(2, 2, true)]).await;
    seconds(1).await;
    assert_eq!(run.kept(), BTreeMap::from([(1, vec![1, 2])]));
    assert_eq!(run.total("spanwise_processor_dropped_spans"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_cache_outlasts_the_count_of_traces() {
    let run = Run::start(&format!("num_traces: 2\ndecision_cache: {{sampled_cache_size: 10}}\n{ERRORS}"));
    run.send(&[span(1, 1, true)]).await;
    seconds(12).await;
    run.send(&[span(2, 1, false), span(3, 1, false)]).await;
    seconds(12).await;
    run.send(&[span(1, 2, false)]).await;
    seconds(1).await;
    assert_eq!(run.kept(), BTreeMap::from([(1, vec![1, 2])]));
    assert_eq!(run.total("otelcol_processor_tail_sampling_early_releases_from_cache_decision"), 1);
}

#[tokio::test(start_paused = true)]
async fn over_the_count_the_oldest_is_decided_early_never_evicted() {
    let run = Run::start(&format!("num_traces: 3\n{ERRORS}"));
    for trace in 1..=5 {
        run.send(&[span(trace, 1, true)]).await;
    }
    tokio::task::yield_now().await;
    seconds(1).await;
    // The decision on the first takes a place as well, and is the first to be forgotten.
    assert_eq!(run.kept().into_keys().collect::<Vec<_>>(), [1, 2]);
    seconds(12).await;
    assert_eq!(run.kept().len(), 5);
    assert_eq!(run.total("spanwise_processor_tail_sampling_early_decisions"), 2);
}

#[tokio::test(start_paused = true)]
async fn over_the_bytes_the_oldest_is_decided_early() {
    let run = Run::start(&format!("max_bytes: 2000\n{ERRORS}"));
    for trace in 1..=200 {
        run.send(&[span(trace, 1, true)]).await;
    }
    seconds(1).await;
    let early = run.total("spanwise_processor_tail_sampling_early_decisions");
    assert!((130..200).contains(&early), "{early}");
    assert_eq!(run.kept().len() as u64, early);
    seconds(12).await;
    assert_eq!(run.kept().len(), 200);
}

#[tokio::test(start_paused = true)]
async fn the_root_brings_the_decision_forward_and_a_huge_trace_is_dropped() {
    let run = Run::start(&format!(
        "decision_wait_after_root_received: 2s\nmaximum_trace_size_bytes: 400\nnum_shards: 4\n{ERRORS}"
    ));
    run.send(&[span(1, 2, true)]).await;
    run.send(&[span(2, 1, true)]).await;
    seconds(3).await;
    assert_eq!(run.kept().into_keys().collect::<Vec<_>>(), [2]);
    for id in 2..12 {
        run.send(&[span(3, id, true)]).await;
    }
    seconds(12).await;
    assert_eq!(run.kept().into_keys().collect::<Vec<_>>(), [1, 2]);
    assert_eq!(run.total("otelcol_processor_tail_sampling_traces_dropped_too_large"), 1);
    assert_eq!(run.total("spanwise_processor_dropped_spans"), 10);
}

#[tokio::test(start_paused = true)]
async fn at_the_end_what_waits_in_memory_is_decided() {
    let run = Run::start(ERRORS);
    run.send(&[span(1, 1, true), span(2, 1, false)]).await;
    run.stage.drain().await;
    assert_eq!(run.kept().into_keys().collect::<Vec<_>>(), [1]);
    let run = Run::start(&format!("drop_pending_traces_on_shutdown: true\n{ERRORS}"));
    run.send(&[span(1, 1, true)]).await;
    run.stage.drain().await;
    assert!(run.kept().is_empty());
    assert_eq!(run.total("spanwise_processor_dropped_spans"), 1);
}

/// A crash in the wait, then one after the decision: kept whole, and not sent again.
#[tokio::test]
async fn waiting_traces_and_decisions_survive_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let yaml = "decision_wait: 300ms\nnum_shards: 2\npolicies: [{name: e, type: status_code, status_code: {status_codes: [ERROR]}}]\n";
    // The test's runtime is ended with all its tasks, as a crash ends a process; only the files stay.
    let crash = |yaml: &'static str, spans: Vec<Span>, wait: u64| {
        let dir = dir.path().to_owned();
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let kept = runtime.block_on(async {
                let run = Run::durable(yaml, &dir);
                if !spans.is_empty() {
                    run.send(&spans).await;
                }
                tokio::time::sleep(Duration::from_millis(wait)).await;
                run.kept()
            });
            runtime.shutdown_background();
            kept
        };
        std::thread::spawn(run).join().unwrap()
    };
    assert!(crash(yaml, vec![span(1, 1, false), span(2, 1, false)], 0).is_empty());
    assert!(crash(yaml, vec![span(1, 2, true)], 0).is_empty());
    // A long-waiting span beside trace 3 keeps the batch of a decided trace on disk.
    assert_eq!(crash(yaml, Vec::new(), 900), BTreeMap::from([(1, vec![1, 2])]));
    let late = "decision_wait: 300ms\ndecision_wait_after_root_received: 50ms\nnum_shards: 2\npolicies: [{name: e, type: status_code, status_code: {status_codes: [ERROR]}}]\n";
    let kept = crash(late, vec![span(1, 9, false), span(3, 1, true), span(4, 2, true)], 180);
    assert_eq!(kept, BTreeMap::from([(1, vec![9]), (3, vec![1])]));
    let kept = crash(yaml, Vec::new(), 900);
    assert_eq!(kept.get(&3), None, "a delivered trace was sent again: {kept:?}");
    assert_eq!(kept.get(&4), Some(&vec![2]));
}

/// Tracestates of the spans that left, by trace and span, and the probability they left with.
fn states(run: &Run) -> BTreeMap<(u8, u8), (String, f64)> {
    let mut states = BTreeMap::new();
    for payload in run.sink.payloads() {
        for (span, piece) in payload.batch.spans().iter().zip(payload.batch.pieces()) {
            let state = spanwise_wire::tracestate::of_span(piece.span).to_owned();
            states.insert((span.trace_id.0[0], span.span_id.0[0]), (state, payload.probability));
        }
    }
    states
}

#[tokio::test(start_paused = true)]
async fn a_kept_trace_says_with_which_threshold() {
    let policies = format!(
        "{}- {{name: some, type: probabilistic, probabilistic: {{sampling_percentage: 25}}}}\n",
        "decision_wait: 10s\npolicies:\n- {name: errors, type: status_code, status_code: {status_codes: [ERROR]}}\n"
    );
    let with_state = |trace: u8, id: u8, is_error: bool, state: &str| Span {
        trace_state: state.to_owned(),
        ..span(trace, id, is_error)
    };
    let high = "ot=rv:f0000000000000";
    let spans = [
        with_state(1, 1, false, high),
        with_state(1, 2, false, &format!("{high};th:e,a=b")),
        with_state(1, 3, false, "not a tracestate"),
        with_state(2, 1, true, ""),
        with_state(3, 1, false, "ot=rv:b0000000000000"),
    ];
    let late = [with_state(1, 4, false, high), with_state(2, 2, false, "a=b")];
    let mut context = context("tail_sampling");
    let dir = tempfile::tempdir().unwrap();
    context.spools.open("", dir.path(), None).unwrap();
    context.feature_gates = crate::FeatureGates::parse(&[USE_TRACESTATE.to_owned()]).unwrap();
    let run = Run::with_context(&policies, context);
    run.send(&spans).await;
    seconds(12).await;
    run.send(&late).await;
    seconds(1).await;
    let told = |state: &str| (state.to_owned(), 1.0);
    let expected = BTreeMap::from([
        ((1, 1), told("ot=rv:f0000000000000;th:c")),
        // What is stricter stays.
        ((1, 2), told("ot=rv:f0000000000000;th:e,a=b")),
        // What cannot be read stays as it is, and the store hears of the probability.
        ((1, 3), ("not a tracestate".to_owned(), 0.25)),
        ((1, 4), told("ot=rv:f0000000000000;th:c")),
        ((2, 1), told("ot=th:0")),
        ((2, 2), told("ot=th:0,a=b")),
    ]);
    assert_eq!(states(&run), expected);
    assert_eq!(run.total("otelcol_processor_tail_sampling_count_spans_with_unparseable_tracestate"), 1);
    // Without the gate nothing is written.
    let run = Run::start(&policies);
    run.send(&[with_state(2, 1, true, "a=b")]).await;
    seconds(12).await;
    assert_eq!(states(&run), BTreeMap::from([((2, 1), ("a=b".to_owned(), 1.0))]));
}
