//! In whatever order spans come and however they are cut into blocks, the facts and findings are the same.

use std::sync::Arc;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use proptest::prelude::*;
use prost::Message as _;
use spanwise_insight::population::{Insights, MINUTE_NS, MOST_PER_MINUTE, Population};
use spanwise_journal::{ManualClock, RealDisk, WalOptions};
use spanwise_model::{Limits, TraceId};
use spanwise_wire::Batch;

use super::read::{SpanReader, row_of};
use super::window::collect;
use super::*;
use crate::scan::{Scanned, Scanner};
use crate::{Snapshot, Store, StoreConfig};

pub(crate) const NOW: u64 = 1_700_000_000_000_000_000;
const MS: u64 = 1_000_000;

fn text(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

pub(crate) fn id(number: u64) -> TraceId {
    // Spread as drawn ids are.
    TraceId((u128::from(number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)).to_be_bytes())
}

/// A request to `cart` that loads its items one by one and asks `pay`, which sometimes fails unnoticed.
pub(crate) fn spans(number: u64) -> Vec<(&'static str, Span)> {
    let start = NOW + number * 50 * MS;
    let slow = if number.is_multiple_of(23) { 400 } else { number % 7 };
    let span = |service, place: u64, parent: u64, kind, name: &str, from: u64, to: u64, attributes: Vec<KeyValue>| {
        let ids = |place: u64| (number << 8 | place).to_be_bytes().to_vec();
        let span = Span {
            trace_id: id(number).0.to_vec(),
            span_id: ids(place),
            parent_span_id: if parent == 0 { Vec::new() } else { ids(parent) },
            name: name.to_owned(),
            kind,
            start_time_unix_nano: start + from * MS,
            end_time_unix_nano: start + to * MS,
            attributes,
            ..Span::default()
        };
        (service, span)
    };
    let user =
        vec![text("user", if number.is_multiple_of(23) { "old" } else { "new" }), text("request", &number.to_string())];
    let mut spans = vec![span("cart", 1, 0, 2, "GET /cart", 0, 90 + slow, user)];
    for item in 0..6 {
        let statement = vec![text("db.system", "sqlite"), text("db.statement", "SELECT * FROM items WHERE id = 1")];
        spans.push(span("cart", 2 + item, 1, 3, "SELECT items", 5 + 10 * item, 14 + 10 * item, statement));
    }
    let url = vec![text("http.request.method", "POST"), text("server.address", "pay")];
    spans.push(span("cart", 10, 1, 3, "POST", 66, 80 + slow, url));
    spans.push(span("pay", 11, 10, 2, "POST /pay", 68, 78 + slow, Vec::new()));
    if number.is_multiple_of(3)
        && let Some((_, last)) = spans.last_mut()
    {
        last.status = Some(Status { code: 2, ..Status::default() });
    }
    spans
}

pub(crate) fn batch(spans: &[(&'static str, Span)]) -> Batch {
    let resource_spans = spans.iter().map(|(service, span)| ResourceSpans {
        resource: Some(Resource { attributes: vec![text("service.name", service)], ..Resource::default() }),
        scope_spans: vec![ScopeSpans { spans: vec![span.clone()], ..ScopeSpans::default() }],
        ..ResourceSpans::default()
    });
    let request = ExportTraceServiceRequest { resource_spans: resource_spans.collect() };
    Batch::parse(Bytes::from(request.encode_to_vec()), &Limits::default()).unwrap().batch
}

fn insights(snapshot: &Snapshot, most: usize) -> Insights {
    let mut population = Population::with_bound(most);
    assert!(collect(snapshot, 0, u64::MAX, &mut population, &|| false).unwrap());
    population.finish()
}

fn expected(traces: u64, most: usize) -> Insights {
    let mut population = Population::with_bound(most);
    for number in 0..traces {
        let batch = batch(&spans(number));
        population.count(1, batch.len_spans() as u64);
        let row = row_of(&batch, id(number), population.names_mut()).unwrap();
        population.add_row(rounded(row));
    }
    population.finish()
}

pub(crate) fn open(dir: &std::path::Path) -> Arc<Store> {
    let wal = WalOptions { segment_bytes: 64 << 10, ..WalOptions::default() };
    let config = StoreConfig { wal, join_blocks: 2, ..StoreConfig::new(dir) };
    Store::open(config, Arc::new(RealDisk), Arc::new(ManualClock::at(NOW))).unwrap()
}

const TRACES: u64 = 120;

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_order_and_no_cut_shows(
        order in Just((0..TRACES).flat_map(spans).collect::<Vec<_>>()).prop_shuffle(),
        steps in proptest::collection::vec((1usize..400, 0u8..5), 4..8),
        most in prop_oneof![Just(40usize), Just(1000)],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        let mut rest = &order[..];
        for (count, what) in steps.into_iter().chain([(usize::MAX, 4)]) {
            let (now, later) = rest.split_at(count.min(rest.len()));
            rest = later;
            if !now.is_empty() {
                runtime.block_on(store.append(batch(now))).unwrap();
            }
            match what {
                0 | 1 => store.cut(runtime.handle()).unwrap(),
                2 => {
                    store.cut(runtime.handle()).unwrap();
                    store.maintain(runtime.handle()).unwrap();
                }
                3 => {
                    drop(store);
                    store = open(dir.path());
                }
                _ => {}
            }
        }
        let expected = expected(TRACES, most);
        prop_assert!(!expected.findings.is_empty(), "{:?}", expected.findings);
        prop_assert_eq!(expected.complete, most == 1000);
        prop_assert_eq!(&insights(&store.snapshot(), most), &expected);
        // All of it in blocks.
        store.cut(runtime.handle()).unwrap();
        prop_assert_eq!(&insights(&store.snapshot(), most), &expected);
        store.maintain(runtime.handle()).unwrap();
        prop_assert_eq!(&insights(&store.snapshot(), most), &expected);
    }
}

#[test]
fn of_a_busy_minute_the_same_traces_are_looked_at_however_it_is_cut() {
    let traces = 3 * u64::from(MOST_PER_MINUTE);
    let start = NOW / MINUTE_NS * MINUTE_NS;
    let one = |number: u64| {
        let (_, mut span) = spans(number).swap_remove(0);
        span.start_time_unix_nano = start + number * MS;
        // A user whose requests are slow.
        let is_slow = number.is_multiple_of(50);
        span.end_time_unix_nano = span.start_time_unix_nano + if is_slow { 900 } else { 90 } * MS;
        span.attributes = vec![text("user", if is_slow { "old" } else { "new" })];
        ("cart", span)
    };
    let all: Vec<_> = (0..traces).map(one).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let found = [&[traces as usize][..], &[100, 4000, 1000]].map(|cuts| {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let mut rest = &all[..];
        for count in cuts {
            let (now, later) = rest.split_at(*count);
            runtime.block_on(store.append(batch(now))).unwrap();
            store.cut(runtime.handle()).unwrap();
            rest = later;
        }
        if !rest.is_empty() {
            runtime.block_on(store.append(batch(rest))).unwrap();
        }
        insights(&store.snapshot(), 1_000_000)
    });
    assert_eq!(found[0], found[1]);
    assert!(!found[0].complete && found[0].traces as u64 == traces);
    let most = MOST_PER_MINUTE as usize;
    assert!((most / 4..=most).contains(&found[0].looked_at), "{}", found[0].looked_at);
    let slow = found[0].findings.iter().find(|finding| finding.kind == "slow_rare_path").unwrap();
    // Those that are looked at stand for all.
    assert!((60..=200).contains(&slow.traces_affected) && slow.traces_seen > 4_000, "{slow:?}");
}

#[test]
fn damage_is_noticed_and_leads_to_no_panic() {
    let mut builder = FactsBuilder::default();
    for number in 0..50 {
        let batch = batch(&spans(number));
        let mut analysis = Analysis::default();
        analysis.begin(id(number));
        let (mut scanner, mut scanned, mut reader) = Default::default();
        for (place, (span, piece)) in batch.spans().iter().zip(batch.pieces()).enumerate() {
            Scanner::scan(&mut scanner, piece, &mut scanned);
            let read = Scanned::get(&scanned, place).unwrap();
            SpanReader::add(&mut reader, span, &read, &scanner, &mut analysis, builder.names_mut());
        }
        analysis.finish();
        let spans = scanned.iter(0..scanned.len());
        builder.add(&id(number), &mut analysis, |set, names| reader.add_attributes(spans, &scanner, set, names));
    }
    builder.supersede("00", &id(1));
    let file = builder.finish().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("facts.bin");
    let prefixes: Vec<u64> = (0..50).map(|number| u64::from_be_bytes(id(number).0[..8].try_into().unwrap())).collect();
    let read = |bytes: &[u8]| -> Result<usize, BlockError> {
        std::fs::write(&path, bytes).unwrap();
        let facts = FactsFile::open(&RealDisk, &path, "x")?.unwrap();
        assert_eq!(facts.superseded().len(), 1);
        let spine = facts.spine(&prefixes)?;
        let mut rows = 0;
        let mut count = |_| rows += 1;
        facts.rows(0, &spine, &mut Names::default(), &|_| true, &mut |_, _| {}, &mut count)?;
        facts.places(&|_, _| true)?;
        Ok(rows)
    };
    assert_eq!(read(&file).unwrap(), 50);
    for at in (0..file.len()).step_by(7) {
        let mut damaged = file.clone();
        damaged[at] ^= 0x55;
        assert!(read(&damaged).is_err(), "byte {at}");
        assert!(read(&file[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn files_with_fewer_sections_stay_readable() {
    let dir = std::path::Path::new("tests/golden/format-6");
    let block = std::fs::read_dir(dir.join("blocks")).unwrap().next().unwrap().unwrap().path();
    let copy = tempfile::tempdir().unwrap();
    for from in [dir.join("manifest"), dir.join("wal")].into_iter().chain([block.clone()]) {
        let to = copy.path().join(from.strip_prefix(dir).unwrap());
        std::fs::create_dir_all(&to).unwrap();
        for file in std::fs::read_dir(from).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
    let facts = FactsFile::open(&RealDisk, &block.join("facts.bin"), "x").unwrap().unwrap();
    assert_eq!(facts.sections.len(), FEWER_SECTIONS);
    let snapshot = open(copy.path()).snapshot();
    let (_, reader) = &snapshot.blocks[0];
    let spine = facts.spine(reader.index().prefixes()).unwrap();
    let (mut names, mut read) = (Names::default(), Vec::new());
    facts.rows(0, &spine, &mut names, &|_| true, &mut |_, _| {}, &mut |row| read.push(row)).unwrap();
    assert_eq!(read.len(), spine.ids.len());
    for row in read {
        let batch = reader.trace(&row.trace_id).unwrap().unwrap();
        let made = rounded(row_of(&batch, row.trace_id, &mut names).unwrap());
        assert_eq!((row.shape, row.spans, row.duration_ns), (made.shape, made.spans, made.duration_ns));
        assert_eq!((row.entry, &row.branches, &row.peers), (made.entry, &made.branches, &made.peers));
    }
    assert_eq!(facts.places(&|_, _| true).unwrap().len(), spine.ids.len());
}

#[test]
fn who_looks_at_high_levels_gets_the_same_rows() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let all: Vec<_> = (0..TRACES).flat_map(spans).collect();
    runtime.block_on(store.append(batch(&all))).unwrap();
    store.cut(runtime.handle()).unwrap();
    let snapshot = store.snapshot();
    let reader = &snapshot.blocks[0].1;
    let facts = reader.facts().unwrap();
    assert_eq!(facts.sections.len(), SECTIONS);
    let spine = facts.spine(reader.index().prefixes()).unwrap();
    let mut names = Names::default();
    let mut rows = |lowest: u32| {
        let mut read = Vec::new();
        facts.rows(lowest, &spine, &mut names, &|_| true, &mut |_, _| {}, &mut |row| read.push(row)).unwrap();
        read.sort_by_key(|row| row.trace_id);
        read.into_iter().map(|row| format!("{row:?}")).collect::<Vec<_>>()
    };
    let whole = rows(0);
    assert_eq!(whole.len() as u64, TRACES);
    for lowest in 1..=MOST_LEVELS {
        let ids: Vec<String> = spine.ids.iter().filter(|id| level(id) >= lowest).map(|id| format!("{id:?}")).collect();
        let expected: Vec<&String> =
            whole.iter().filter(|row| ids.iter().any(|id| row.contains(id.as_str()))).collect();
        assert_eq!(rows(lowest).iter().collect::<Vec<_>>(), expected, "{lowest}");
    }
}
