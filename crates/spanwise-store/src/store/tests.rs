use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use proptest::prelude::*;
use prost::Message as _;
use spanwise_journal::{ManualClock, RealDisk};
use spanwise_model::Limits;

use super::*;

const NOW: u64 = 1_700_000_000_000_000_000;

fn batch(request: &ExportTraceServiceRequest) -> Batch {
    let parsed = Batch::parse(Bytes::from(request.encode_to_vec()), &Limits::default()).unwrap();
    assert_eq!(parsed.rejected.spans, 0);
    parsed.batch
}

fn one(trace: u8, span: u8, start: u64) -> Batch {
    request(vec![Span {
        trace_id: vec![trace; 16],
        span_id: vec![span; 8],
        name: "work".to_owned(),
        start_time_unix_nano: start,
        end_time_unix_nano: start + 5,
        ..Span::default()
    }])
}

fn request(spans: Vec<Span>) -> Batch {
    let resource = Resource {
        attributes: vec![KeyValue {
            key: "service.name".to_owned(),
            value: Some(AnyValue { value: Some(Value::StringValue("shop".to_owned())) }),
            ..KeyValue::default()
        }],
        ..Resource::default()
    };
    batch(&ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource),
            scope_spans: vec![ScopeSpans { spans, ..ScopeSpans::default() }],
            ..ResourceSpans::default()
        }],
    })
}

struct Bench {
    dir: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    clock: Arc<ManualClock>,
}

impl Bench {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { dir: tempfile::tempdir().unwrap(), runtime, clock: Arc::new(ManualClock::at(NOW)) }
    }

    fn config(&self) -> StoreConfig {
        StoreConfig {
            wal: WalOptions { segment_bytes: 4096, ..WalOptions::default() },
            ..StoreConfig::new(self.dir.path())
        }
    }

    fn open(&self) -> Arc<Store> {
        self.open_with(self.config())
    }

    fn open_with(&self, config: StoreConfig) -> Arc<Store> {
        Store::open(config, Arc::new(RealDisk), Arc::<ManualClock>::clone(&self.clock)).unwrap()
    }

    fn append(&self, store: &Store, batch: Batch) {
        self.runtime.block_on(store.append(batch)).unwrap();
    }

    fn cut(&self, store: &Store) {
        store.cut(self.runtime.handle()).unwrap();
    }
}

fn spans_of(snapshot: &Snapshot, trace: u8) -> usize {
    snapshot.trace(&TraceId([trace; 16])).unwrap().map_or(0, |batch| batch.len_spans())
}

#[test]
fn spans_are_found_before_and_after_a_cut_and_a_restart() {
    let bench = Bench::new();
    let store = bench.open();
    bench.append(&store, one(1, 1, NOW));
    assert_eq!(spans_of(&store.snapshot(), 1), 1);
    bench.cut(&store);
    bench.append(&store, one(1, 2, NOW + 1));
    bench.append(&store, one(2, 1, NOW));
    let check = |snapshot: &Snapshot| {
        assert_eq!((spans_of(snapshot, 1), spans_of(snapshot, 2), spans_of(snapshot, 3)), (2, 1, 0));
        assert_eq!(snapshot.spans(), 3);
        assert_eq!(snapshot.catalogue().services["shop"]["work"].1, 3);
    };
    check(&store.snapshot());
    check(&Store::read(&RealDisk, bench.dir.path()).unwrap());
    drop(store);
    let store = bench.open();
    check(&store.snapshot());
    bench.cut(&store);
    check(&store.snapshot());
    check(&Store::read(&RealDisk, bench.dir.path()).unwrap());
}

#[test]
fn a_late_root_joins_its_trace_before_and_after_compaction() {
    let bench = Bench::new();
    let store = bench.open();
    let joined = bench.config().join_blocks;
    for span in 1..=joined as u8 {
        bench.append(&store, one(1, span, NOW + u64::from(span)));
        bench.append(&store, one(100 + span, span, NOW));
        bench.cut(&store);
        bench.clock.advance(Duration::from_secs(60));
    }
    assert_eq!((store.stats().blocks, spans_of(&store.snapshot(), 1)), (joined, joined));
    bench.append(&store, one(1, 99, NOW));
    assert!(store.join_small_blocks().unwrap());
    assert_eq!((store.stats().blocks, spans_of(&store.snapshot(), 1)), (1, joined + 1));
    drop(store);
    assert_eq!(spans_of(&bench.open().snapshot(), 1), joined + 1);
}

/// Spans number `spans` of traces 1 to `traces`, by threes: all of one service, all of the other, and half and half.
fn two_services(traces: u32, spans: std::ops::Range<u8>) -> Batch {
    let of = |number: u32, span: u8| {
        let mut trace_id = [0; 16];
        trace_id[..4].copy_from_slice(&number.to_be_bytes());
        let start = NOW + u64::from(span);
        Span {
            trace_id: trace_id.to_vec(),
            span_id: vec![span + 1; 8],
            name: "work".to_owned(),
            start_time_unix_nano: start,
            end_time_unix_nano: start + 5,
            ..Span::default()
        }
    };
    let service = |name: &str, is_first: bool| {
        let value = Some(AnyValue { value: Some(Value::StringValue(name.to_owned())) });
        let attribute = KeyValue { key: "service.name".to_owned(), value, ..KeyValue::default() };
        let resource = Resource { attributes: vec![attribute], ..Resource::default() };
        let all = (1..=traces).flat_map(|number| spans.clone().map(move |span| (number, span)));
        let is_of_first = |number: u32, span: u8| match number % 3 {
            0 => span.is_multiple_of(2),
            rest => rest == 2,
        };
        let own = all.filter(|(number, span)| is_first == is_of_first(*number, *span));
        let spans = own.map(|(number, span)| of(number, span)).collect();
        ResourceSpans {
            resource: Some(resource),
            scope_spans: vec![ScopeSpans { spans, ..ScopeSpans::default() }],
            ..ResourceSpans::default()
        }
    };
    batch(&ExportTraceServiceRequest { resource_spans: vec![service("cart", true), service("shop", false)] })
}

#[test]
fn traces_of_several_services_come_whole_and_once_in_order_of_their_ids() {
    const TRACES: u32 = 6_000;
    let bench = Bench::new();
    let store = bench.open_with(StoreConfig::new(bench.dir.path()));
    let check = |snapshot: &Snapshot, spans: usize| {
        let read = |traces: &mut dyn Iterator<Item = Result<Batch, BlockError>>| -> Vec<(TraceId, usize)> {
            traces.map(|batch| batch.unwrap()).map(|batch| (batch.spans()[0].trace_id, batch.len_spans())).collect()
        };
        let all = read(&mut snapshot.traces(0, u64::MAX).unwrap());
        assert_eq!(all.len(), TRACES as usize);
        assert!(all.is_sorted_by(|(a, _), (b, _)| a < b));
        assert!(all.iter().all(|(_, found)| *found == spans), "{:?}", all.iter().find(|(_, found)| *found != spans));
        let ids: Vec<TraceId> = all.iter().map(|(id, _)| *id).step_by(2).collect();
        let some = read(&mut snapshot.traces_of(&ids).unwrap());
        assert_eq!(some, all.iter().copied().step_by(2).collect::<Vec<_>>());
    };
    bench.append(&store, two_services(TRACES, 0..2));
    check(&store.snapshot(), 2);
    bench.cut(&store);
    check(&store.snapshot(), 2);
    bench.append(&store, two_services(TRACES, 2..4));
    check(&store.snapshot(), 4);
    bench.cut(&store);
    assert_eq!(store.stats().blocks, 2);
    let snapshot = store.snapshot();
    check(&snapshot, 4);
    // What makes it hard: batches as they are read have their spans by resource.
    let mut batches = snapshot.blocks.iter().flat_map(|(_, block)| block.scan().unwrap());
    assert!(batches.any(|batch| {
        let traces = spanwise_wire::frame::split_by_trace(&batch.unwrap());
        !traces.is_sorted_by_key(|batch| batch.spans()[0].trace_id)
    }));
}

#[test]
fn equal_spans_are_one_and_others_of_the_same_id_stay() {
    let bench = Bench::new();
    let store = bench.open();
    bench.append(&store, one(1, 1, NOW));
    bench.cut(&store);
    bench.append(&store, one(1, 1, NOW));
    assert_eq!(spans_of(&store.snapshot(), 1), 1);
    let mut other = Span { trace_id: vec![1; 16], span_id: vec![1; 8], ..Span::default() };
    other.name = "other".to_owned();
    other.start_time_unix_nano = NOW;
    bench.append(&store, request(vec![other.clone(), other]));
    assert_eq!(spans_of(&store.snapshot(), 1), 2);
    bench.cut(&store);
    assert_eq!(spans_of(&store.snapshot(), 1), 2);
}

#[test]
fn old_blocks_go_when_the_store_is_too_large_or_they_too_old() {
    let bench = Bench::new();
    let store = bench.open_with(StoreConfig { max_bytes: Some(1), ..bench.config() });
    bench.append(&store, one(1, 1, NOW));
    bench.cut(&store);
    store.maintain(bench.runtime.handle()).unwrap();
    assert_eq!((store.stats().expired_spans, spans_of(&store.snapshot(), 1)), (1, 0));
    drop(store);
    let store = bench.open_with(StoreConfig { max_age: Some(Duration::from_secs(60)), ..bench.config() });
    // Years-old spans that came now are young.
    bench.append(&store, one(2, 1, 5));
    bench.cut(&store);
    store.maintain(bench.runtime.handle()).unwrap();
    assert_eq!(spans_of(&store.snapshot(), 2), 1);
    bench.clock.advance(Duration::from_secs(61));
    store.maintain(bench.runtime.handle()).unwrap();
    assert_eq!(spans_of(&store.snapshot(), 2), 0);
}

#[test]
fn files_of_dropped_blocks_serve_open_snapshots_and_go_later() {
    let bench = Bench::new();
    let store = bench.open_with(StoreConfig { max_age: Some(Duration::from_secs(60)), ..bench.config() });
    bench.append(&store, one(1, 1, NOW));
    bench.cut(&store);
    let before = store.snapshot();
    bench.clock.advance(Duration::from_secs(61));
    store.maintain(bench.runtime.handle()).unwrap();
    assert_eq!((spans_of(&before, 1), spans_of(&store.snapshot(), 1)), (1, 0));
    bench.clock.advance(DOOMED_FOR);
    store.maintain(bench.runtime.handle()).unwrap();
    assert!(RealDisk.list(&bench.dir.path().join("blocks")).unwrap().is_empty());
}

#[test]
fn a_directory_has_one_writer() {
    let bench = Bench::new();
    let store = bench.open();
    store.note_address("127.0.0.1:16686").unwrap();
    let second = Store::open(bench.config(), Arc::new(RealDisk), Arc::<ManualClock>::clone(&bench.clock));
    let message = second.err().unwrap().to_string();
    assert!(message.contains(&std::process::id().to_string()) && message.contains("16686"), "{message}");
    assert!(Store::holder(bench.dir.path()).is_some());
    drop(store);
    assert!(Store::holder(bench.dir.path()).is_none());
    bench.open();
}

#[test]
fn the_log_is_trimmed_once_a_block_holds_its_spans() {
    let bench = Bench::new();
    let store = bench.open();
    for number in 0..200u64 {
        bench.append(&store, one(number as u8 | 1, 1, NOW + number));
    }
    let before = store.stats().wal_bytes;
    bench.cut(&store);
    assert!(store.stats().wal_bytes < before / 2);
    drop(store);
    assert_eq!(bench.open().snapshot().spans(), 200);
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[a-c]{1,3}", any::<String>()]
}

fn value() -> impl Strategy<Value = AnyValue> {
    let leaf = prop_oneof![
        Just(None),
        text().prop_map(|text| Some(Value::StringValue(text))),
        any::<bool>().prop_map(|value| Some(Value::BoolValue(value))),
        any::<i64>().prop_map(|value| Some(Value::IntValue(value))),
        prop_oneof![Just(0.0), Just(-0.0), any::<f64>().prop_filter("NaN is not equal to itself", |v| !v.is_nan())]
            .prop_map(|value| Some(Value::DoubleValue(value))),
        proptest::collection::vec(any::<u8>(), 0..5).prop_map(|bytes| Some(Value::BytesValue(bytes))),
    ]
    .prop_map(|value| AnyValue { value });
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3)
                .prop_map(|values| AnyValue { value: Some(Value::ArrayValue(ArrayValue { values })) }),
            proptest::collection::vec(("[a-b]{0,2}", proptest::option::of(inner)), 0..3).prop_map(|entries| {
                let values =
                    entries.into_iter().map(|(key, value)| KeyValue { key, value, ..KeyValue::default() }).collect();
                AnyValue { value: Some(Value::KvlistValue(KeyValueList { values })) }
            }),
        ]
    })
}

/// Few keys, so that they repeat within a span and across types.
fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let key = prop_oneof![Just("http.route".to_owned()), Just("user".to_owned()), "[a-b]{0,1}"];
    proptest::collection::vec((key, proptest::option::weighted(0.9, value())), 0..6).prop_map(|pairs| {
        pairs.into_iter().map(|(key, value)| KeyValue { key, value, ..KeyValue::default() }).collect()
    })
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = (any::<u64>(), text(), attributes()).prop_map(|(time_unix_nano, name, attributes)| Event {
        time_unix_nano,
        name,
        attributes,
        dropped_attributes_count: 1,
    });
    proptest::collection::vec(event, 0..3)
}

fn links() -> impl Strategy<Value = Vec<Link>> {
    let link = (proptest::collection::vec(any::<u8>(), 0..17), text(), attributes())
        .prop_map(|(trace_id, trace_state, attributes)| Link { trace_id, trace_state, attributes, ..Link::default() });
    proptest::collection::vec(link, 0..2)
}

prop_compose! {
    fn span()(
        trace in 1u8..4, id in any::<[u8; 8]>(), parent in proptest::option::of(any::<[u8; 8]>()),
        name in text(), state in text(), kind in -1i32..9, start in any::<u64>(), end in any::<u64>(),
        attributes in attributes(), events in events(), links in links(), flags in any::<u32>(),
        dropped in any::<[u16; 3]>(), status in proptest::option::of((text(), -1i32..5)),
    ) -> Span {
        let mut span_id = id.to_vec();
        span_id[0] |= 1;
        Span {
            trace_id: vec![trace; 16],
            span_id,
            parent_span_id: parent.map(|id| id.to_vec()).unwrap_or_default(),
            name,
            trace_state: state,
            kind,
            start_time_unix_nano: start,
            end_time_unix_nano: end,
            attributes,
            events,
            links,
            flags,
            dropped_attributes_count: dropped[0].into(),
            dropped_events_count: dropped[1].into(),
            dropped_links_count: dropped[2].into(),
            status: status.map(|(message, code)| Status { message, code }),
        }
    }
}

prop_compose! {
    fn any_request()(
        groups in proptest::collection::vec(
            (attributes(), text(), proptest::collection::vec((text(), attributes(), proptest::collection::vec(span(), 0..4)), 1..3)),
            1..3,
        ),
    ) -> ExportTraceServiceRequest {
        let resource_spans = groups.into_iter().map(|(attributes, schema_url, scopes)| ResourceSpans {
            resource: Some(Resource { attributes, ..Resource::default() }),
            scope_spans: scopes.into_iter().map(|(name, attributes, spans)| ScopeSpans {
                scope: Some(InstrumentationScope { name, attributes, ..InstrumentationScope::default() }),
                spans,
                ..ScopeSpans::default()
            }).collect(),
            schema_url,
        });
        ExportTraceServiceRequest { resource_spans: resource_spans.collect() }
    }
}

/// Every span with its resource and scope, in an order that does not depend on how they were stored.
fn flatten(requests: impl IntoIterator<Item = ExportTraceServiceRequest>) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for mut group in requests.into_iter().flat_map(|request| request.resource_spans) {
        for mut scope in std::mem::take(&mut group.scope_spans) {
            for span in std::mem::take(&mut scope.spans) {
                let alone = ScopeSpans { spans: vec![span], ..scope.clone() };
                let whole = ResourceSpans { scope_spans: vec![alone], ..group.clone() };
                all.push(ExportTraceServiceRequest { resource_spans: vec![whole] }.encode_to_vec());
            }
        }
    }
    all.sort();
    all.dedup();
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_span_comes_back_as_the_message_that_was_accepted(requests in proptest::collection::vec(any_request(), 1..4)) {
        let batches: Vec<Batch> = requests.iter().map(batch).collect();
        let built = block::build(&batches, &block::nowhere).unwrap();
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in built.files() {
            std::fs::write(dir.path().join(name), content).unwrap();
        }
        let reader = BlockReader::open(&RealDisk, dir.path(), "x").unwrap();
        let decode = |batch: &Batch| ExportTraceServiceRequest::decode(&batch.bytes()[..]).unwrap();
        let scanned: Vec<_> = reader.scan().unwrap().map(|batch| decode(&batch.unwrap())).collect();
        let expected = flatten(requests);
        prop_assert_eq!(flatten(scanned), expected.clone());
        let by_id = (1..4).filter_map(|trace| reader.trace(&TraceId([trace; 16])).unwrap());
        prop_assert_eq!(flatten(by_id.map(|batch| decode(&batch))), expected);
    }
}

#[test]
fn one_bucket_has_one_writer_at_a_time_and_a_second_is_told() {
    let bucket: Arc<dyn object_store::ObjectStore> = Arc::new(object_store::memory::InMemory::new());
    let open = |bench: &Bench| {
        let url = "s3://bucket/prod".parse().unwrap();
        let objects = Some(Arc::new(ObjectDisk::over(url, Arc::clone(&bucket)).unwrap()));
        bench.open_with(StoreConfig { objects, ..bench.config() })
    };
    let (first, second) = (Bench::new(), Bench::new());
    let store = open(&first);
    first.append(&store, one(1, 1, NOW));
    first.cut(&store);
    assert!(!first.dir.path().join("manifest").exists());
    // The second has records of its own log that the first's manifest knows nothing of.
    let other = open(&second);
    assert_eq!(spans_of(&other.snapshot(), 1), 1);
    second.append(&other, one(2, 1, NOW));
    drop(other);
    let other = open(&second);
    assert_eq!((spans_of(&other.snapshot(), 1), spans_of(&other.snapshot(), 2)), (1, 1));
    second.cut(&other);
    // The first still writes: it is refused, and loses nothing.
    first.append(&store, one(3, 1, NOW));
    let refused = store.cut(first.runtime.handle()).unwrap_err();
    assert!(matches!(&refused, StoreError::OtherWriter { url, .. } if url == "s3://bucket/prod"), "{refused}");
    assert_eq!(spans_of(&store.snapshot(), 3), 1);
    drop((store, other));
    let store = open(&first);
    first.cut(&store);
    let expected = [1, 1, 1];
    let found = |snapshot: &Snapshot| [1, 2, 3].map(|trace| spans_of(snapshot, trace));
    assert_eq!(found(&store.snapshot()), expected);
    drop(store);
    assert_eq!(found(&open(&second).snapshot()), expected);
}

#[test]
fn a_directory_and_a_bucket_are_not_mistaken_for_each_other() {
    let bench = Bench::new();
    let objects = |url: &str| {
        let store = Arc::new(object_store::memory::InMemory::new());
        Some(Arc::new(ObjectDisk::over(url.parse().unwrap(), store).unwrap()))
    };
    let open = |objects| {
        let config = StoreConfig { objects, ..bench.config() };
        Store::open(config, Arc::new(RealDisk), Arc::<ManualClock>::clone(&bench.clock))
    };
    drop(open(objects("s3://bucket/a")).unwrap());
    let told = |error: Option<StoreError>| error.unwrap().to_string();
    assert!(told(open(None).err()).contains("start with --object-store s3://bucket/a"));
    assert!(told(open(objects("s3://bucket/b")).err()).contains("in s3://bucket/a, not in s3://bucket/b"));
    assert!(told(Store::read(&RealDisk, bench.dir.path()).err()).contains("give --object-store s3://bucket/a"));
    let bench = Bench::new();
    let store = bench.open();
    bench.append(&store, one(1, 1, NOW));
    bench.cut(&store);
    drop(store);
    let config = StoreConfig { objects: objects("s3://bucket/a"), ..bench.config() };
    let refused = Store::open(config, Arc::new(RealDisk), Arc::<ManualClock>::clone(&bench.clock)).err();
    assert!(told(refused).contains("it has blocks of its own"));
}

#[test]
fn a_parent_is_the_same_wherever_it_stands_and_whatever_rows_are_read() {
    use spanwise_model::SpanId;
    const SPANS: u64 = 20_000;
    let span_id = |number: u64| (number + 1).to_be_bytes().to_vec();
    let parent = |number: u64| match number {
        0 => Vec::new(),
        // The one before, one far before, one that starts later, and one that never came.
        number if number % 7 < 4 => span_id(number - 1),
        number if number % 7 == 4 => span_id(number / 2),
        number if number % 7 == 5 => span_id((number + 3) % SPANS),
        _ => vec![0xee; 8],
    };
    let span = |number: u64| Span {
        // Two traces of many spans, one after the other.
        trace_id: vec![1 + u8::from(number >= SPANS / 2); 16],
        span_id: span_id(number),
        parent_span_id: parent(number),
        start_time_unix_nano: 1_000 + number,
        end_time_unix_nano: 2_000 + number,
        ..Span::default()
    };
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            scope_spans: vec![ScopeSpans { spans: (0..SPANS).map(span).collect(), ..ScopeSpans::default() }],
            ..ResourceSpans::default()
        }],
    };
    let built = block::build(&[batch(&request)], &block::nowhere).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in built.files() {
        std::fs::write(dir.path().join(name), content).unwrap();
    }
    let reader = BlockReader::open(&RealDisk, dir.path(), "x").unwrap();
    let check = |batches: &mut dyn Iterator<Item = Batch>, rows: &mut dyn Iterator<Item = u64>| {
        for batch in batches {
            for span in batch.spans() {
                let number = rows.next().unwrap();
                assert_eq!(span.span_id.0.to_vec(), span_id(number));
                assert_eq!(span.parent_span_id, SpanId::from_slice(&parent(number)).unwrap_or_default(), "{number}");
            }
        }
        assert_eq!(rows.next(), None);
    };
    check(&mut reader.scan().unwrap().map(Result::unwrap), &mut (0..SPANS));
    let second = reader.trace(&TraceId([2; 16])).unwrap();
    check(&mut second.into_iter(), &mut (SPANS / 2..SPANS));
    let ranges = [3..4, 50..60, 62..63, 190..200, 8_190..8_200, 9_999..10_002, 19_999..20_000];
    let rows = ranges.iter().flat_map(|range| range.start as u64..range.end as u64);
    check(&mut reader.scan_rows(&ranges).unwrap().map(Result::unwrap), &mut rows.into_iter());
}
