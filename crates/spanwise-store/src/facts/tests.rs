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
use spanwise_insight::population::{Insights, MINUTE_NS, MOST_PER_MINUTE, Population, Shares};
use spanwise_journal::{ManualClock, RealDisk, WalOptions};
use spanwise_model::{Limits, TraceId};
use spanwise_wire::Batch;
use tokio::runtime::Runtime;

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
    request(number, "GET /cart", 6)
}

fn request(number: u64, page: &str, items: u64) -> Vec<(&'static str, Span)> {
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
    let mut spans = vec![span("cart", 1, 0, 2, page, 0, 90 + slow, user)];
    let step = 60 / items.max(1);
    for item in 0..items {
        let statement = vec![text("db.system", "sqlite"), text("db.statement", "SELECT * FROM items WHERE id = 1")];
        spans.push(span("cart", 2 + item, 1, 3, "SELECT items", 5 + step * item, 4 + step * (item + 1), statement));
    }
    let url = vec![text("http.request.method", "POST"), text("server.address", "pay")];
    spans.push(span("cart", 200, 1, 3, "POST", 66, 80 + slow, url));
    spans.push(span("pay", 201, 200, 2, "POST /pay", 68, 78 + slow, Vec::new()));
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
    insights_between(snapshot, 0, u64::MAX, most)
}

fn insights_between(snapshot: &Snapshot, from: u64, to: u64, most: usize) -> Insights {
    let mut population = Population::with_bound(most);
    assert!(collect(snapshot, from, to, &mut population, &|| false).unwrap());
    population.finish()
}

/// What these traces show, counted and looked at without a store.
fn expected(traces: impl Iterator<Item = Vec<(&'static str, Span)>>, most: usize) -> Insights {
    let mut population = Population::with_bound(most);
    let mut rows = Vec::new();
    let mut counts: FxHashMap<Operation, u64> = FxHashMap::default();
    for spans in traces {
        let batch = batch(&spans);
        population.count(1, batch.len_spans() as u64);
        let id = batch.spans()[0].trace_id;
        let row = row_of(&batch, id, population.names_mut()).unwrap();
        *counts.entry(row.entry).or_default() += 1;
        rows.push(rounded(row));
    }
    counts.iter().for_each(|(entry, traces)| population.total(*entry, *traces as f64));
    if rows.len() > most {
        let counts: Vec<_> = counts.into_iter().map(|(entry, traces)| (Some(entry), traces)).collect();
        population.share(Shares::of(&counts, most));
    }
    rows.into_iter().for_each(|row| population.add_row(row));
    population.finish()
}

pub(crate) fn open(dir: &std::path::Path) -> Arc<Store> {
    let wal = WalOptions { segment_bytes: 64 << 10, ..WalOptions::default() };
    let config = StoreConfig { wal, join_blocks: 2, ..StoreConfig::new(dir) };
    Store::open(config, Arc::new(RealDisk), Arc::new(ManualClock::at(NOW))).unwrap()
}

/// A store that is filled step by step, in order, as a property says.
pub(crate) struct Filling<'a> {
    dir: &'a std::path::Path,
    runtime: Runtime,
    /// `None` while it is opened anew.
    store: Option<Arc<Store>>,
    rest: &'a [(&'static str, Span)],
}

impl<'a> Filling<'a> {
    pub fn of(dir: &'a std::path::Path, spans: &'a [(&'static str, Span)]) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Self { dir, runtime, store: Some(open(dir)), rest: spans }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    pub fn snapshot(&self) -> Snapshot {
        self.store().snapshot()
    }

    /// Stores so many spans, then makes blocks of what there is (0, 1), joins them too (2), opens the store anew (3), or
    /// does nothing.
    pub fn step(&mut self, count: usize, what: u8) {
        let (now, later) = self.rest.split_at(count.min(self.rest.len()));
        self.rest = later;
        if !now.is_empty() {
            self.runtime.block_on(self.store().append(batch(now))).unwrap();
        }
        match what {
            0 | 1 => self.cut(),
            2 => {
                self.cut();
                self.join();
            }
            3 => {
                // The directory is free for the next one.
                self.store = None;
                self.store = Some(open(self.dir));
            }
            _ => {}
        }
    }

    pub fn cut(&self) {
        self.store().cut(self.runtime.handle()).unwrap();
    }

    pub fn join(&self) {
        self.store().maintain(self.runtime.handle()).unwrap();
    }
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
        let dir = tempfile::tempdir().unwrap();
        let mut filling = Filling::of(dir.path(), &order);
        steps.into_iter().chain([(usize::MAX, 4)]).for_each(|(count, what)| filling.step(count, what));
        let expected = expected((0..TRACES).map(spans), most);
        prop_assert!(!expected.findings.is_empty(), "{:?}", expected.findings);
        prop_assert_eq!(expected.complete, most == 1000);
        prop_assert_eq!(&insights(&filling.snapshot(), most), &expected);
        // All of it in blocks.
        filling.cut();
        prop_assert_eq!(&insights(&filling.snapshot(), most), &expected);
        filling.join();
        prop_assert_eq!(&insights(&filling.snapshot(), most), &expected);
    }
}

/// Requests of three entry points: of `GET /rare`, one of twenty, each makes its calls one by one, of `GET /cart` one of
/// five, of `GET /home` none.
fn mixed(number: u64) -> Vec<(&'static str, Span)> {
    let items = 9 + number % 4;
    match number % 20 {
        3 => request(number, "GET /rare", items),
        4 | 8 => request(number, "GET /cart", items),
        place if place % 2 == 0 => request(number, "GET /cart", 1),
        _ => request(number, "GET /home", 1),
    }
}

/// Stores these spans, cut into blocks of so many; what is left stays in the head.
fn stored<'a>(dir: &'a std::path::Path, spans: &'a [(&'static str, Span)], cuts: &[usize]) -> Filling<'a> {
    let mut filling = Filling::of(dir, spans);
    cuts.iter().for_each(|count| filling.step(*count, 0));
    filling.step(usize::MAX, 4);
    filling
}

const MIXED: u64 = 600;

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn beyond_the_bound_no_order_and_no_cut_shows_either(
        order in Just((0..MIXED).flat_map(mixed).collect::<Vec<_>>()).prop_shuffle(),
        cuts in proptest::collection::vec(100usize..2_000, 0..5),
        most in 100usize..400,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let filling = stored(dir.path(), &order, &cuts);
        let expected = expected((0..MIXED).map(mixed), most);
        prop_assert!(!expected.complete && expected.looked_at <= most && expected.traces as u64 == MIXED);
        let rare = expected.findings.iter().find(|finding| finding.subject["caller"]["operation"] == "GET /rare");
        prop_assert_eq!(rare.map(|finding| (finding.traces_affected, finding.traces_seen)), Some((30, 30)));
        prop_assert_eq!(&insights(&filling.snapshot(), most), &expected);
        filling.cut();
        prop_assert_eq!(&insights(&filling.snapshot(), most), &expected);
        filling.join();
        prop_assert_eq!(&insights(&filling.snapshot(), most), &expected);
    }
}

/// All in one minute, of which a large block keeps fewer rows than small ones.
#[test]
fn of_busy_minutes_beyond_the_bound_no_cut_shows_either() {
    let traces = 6 * u64::from(MOST_PER_MINUTE);
    let start = NOW / MINUTE_NS * MINUTE_NS;
    let root = |number: u64| {
        let (service, mut span) = mixed(number).swap_remove(0);
        let took = if number.is_multiple_of(60) { 900 } else { 90 };
        span.start_time_unix_nano = start + number * MS;
        span.end_time_unix_nano = span.start_time_unix_nano + took * MS;
        span.attributes = vec![text("user", if took == 900 { "old" } else { "new" })];
        (service, span)
    };
    let all: Vec<_> = (0..traces).map(root).collect();
    let found = [&[traces as usize][..], &[500; 12], &[100, 4000, 1000]].map(|cuts| {
        let dir = tempfile::tempdir().unwrap();
        let filling = stored(dir.path(), &all, cuts);
        insights(&filling.snapshot(), 2_000)
    });
    assert_eq!(found[0], found[1]);
    assert_eq!(found[0], found[2]);
    let slow = found[0].findings.iter().find(|finding| finding.kind == "slow_rare_path").unwrap();
    assert!(found[0].looked_at <= 2_000 && found[0].looked_at > 500, "{}", found[0].looked_at);
    // Those that 60 divides are 103.
    assert!((50..=160).contains(&slow.traces_affected), "{slow:?}");
    assert_eq!(slow.traces_seen, 3_072);
}

#[test]
fn what_one_of_500_traces_has_is_named_however_many_there_are() {
    let traces = 12_000;
    let trace = |number: u64| match number % 500 {
        7 => request(number, "GET /rare", 9 + number / 500 % 4),
        _ => request(number, "GET /home", 0).into_iter().take(1).collect(),
    };
    let all: Vec<_> = (0..traces).flat_map(trace).collect();
    let dir = tempfile::tempdir().unwrap();
    let filling = stored(dir.path(), &all, &[4_000, 5_000]);
    let found = insights(&filling.snapshot(), 2_000);
    assert!(!found.complete && found.traces == 12_000 && found.looked_at <= 2_000, "{}", found.looked_at);
    let looped = found.findings.iter().find(|finding| finding.kind == "n_plus_one").expect("the loop is named");
    assert_eq!(looped.subject["caller"]["operation"], "GET /rare");
    assert_eq!((looped.traces_affected, looped.traces_seen), (24, 24));
}

#[test]
fn whole_minutes_are_looked_at_where_their_counts_say_how_many_traces_there_were() {
    // 600 traces a minute.
    let all: Vec<_> = (0..6_000).step_by(2).flat_map(|number| spans(number).into_iter().take(1)).collect();
    let dir = tempfile::tempdir().unwrap();
    let filling = stored(dir.path(), &all, &[2_500]);
    let minute = NOW / MINUTE_NS * MINUTE_NS;
    let (from, to) = (minute + MINUTE_NS + 1, minute + 2 * MINUTE_NS - 1_000 * MS);
    let is_inside = |span: &Span, from: u64, to: u64| (from..=to).contains(&span.start_time_unix_nano);
    let count = |from, to| all.iter().filter(|(_, span)| is_inside(span, from, to)).count();
    let exact = insights_between(&filling.snapshot(), from, to, 100_000);
    assert_eq!((exact.traces, exact.is_rounded, exact.complete), (count(from, to), false, true));
    let rounded = insights_between(&filling.snapshot(), from, to, 500);
    let whole = count(minute + MINUTE_NS, minute + 2 * MINUTE_NS - 1);
    assert_eq!((rounded.traces, rounded.is_rounded, rounded.complete), (whole, true, false));
    assert!(whole > exact.traces && rounded.looked_at <= 500);
}

#[test]
fn of_a_busy_minute_the_same_traces_are_looked_at_however_it_is_cut() {
    let traces = 6 * u64::from(MOST_PER_MINUTE);
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
fn what_traces_show_is_read_as_it_was_put() {
    for shows in [&[][..], &[1, 2, 3, 4], &[0, 1, 1, 0, 2, 1, 3, 2], &[0]] {
        let mut section = Vec::new();
        put_shows(&mut section, shows);
        assert_eq!(read_shows(&section).unwrap(), shows);
    }
    assert!(read_shows(&[0x80]).is_none());
}

#[test]
fn what_things_share_is_bounded_although_it_is_not_in_the_section() {
    let things = ["aaaa", "aaab", "ab"].map(str::as_bytes);
    let mut ranked = Ranked::new(things.into_iter());
    (0..3).for_each(|number| ranked.mark(number, 0));
    let (numbers, sections) = ranked.ranked();
    assert_eq!(numbers, [0, 1, 2]);
    let read = |most| {
        let mut found = Vec::new();
        each_ranked(&sections[0], most, &mut |thing| {
            found.push(thing.to_vec());
            Some(())
        })
        .map(|()| found)
    };
    assert_eq!(read(10).unwrap(), things);
    assert!(read(9).is_none());
    assert!(each_ranked(&[1, 1, b'a'], 10, &mut |_| Some(())).is_none(), "shares more than there is");
}

#[test]
fn a_row_keeps_times_of_more_dependencies_than_flags_have_bits() {
    let mut names = Names::default();
    let mut row = row_of(&batch(&spans(0)), id(0), &mut names).unwrap();
    let one = row.dependencies[0].clone();
    for count in [64, 65, 129] {
        let dependency = |number: usize| {
            let mut dependency = one.clone();
            // The first, and each that begins or ends a run of flags.
            dependency.critical_ns = if matches!(number % 64, 0 | 63) { 32 } else { 0 };
            dependency
        };
        row.dependencies = (0..count).map(dependency).collect();
        let times = |row: &TraceRow| row.dependencies.iter().map(|found| found.critical_ns).collect::<Vec<_>>();
        let expected = times(&row);
        assert_eq!(times(&rounded(row.clone())), expected, "{count}");
    }
}

#[test]
fn operations_are_found_again_whatever_their_place_in_the_list_of_branches() {
    let mut names = Names::default();
    let row = row_of(&batch(&spans(0)), id(0), &mut names).unwrap();
    // A name is searched in the first 256 branches; others, and those that are in none, are told by name.
    for place in [0, 255, 256, 299, 1_000] {
        let mut row = row.clone();
        let service = names.number("many");
        let operation = |number: u32| Operation { service, operation: 1_000 + number };
        row.branches = (0..300).map(operation).collect();
        row.entry = operation(place);
        row.dependencies[0].operation = operation(place).operation;
        let same = rounded(row.clone());
        assert_eq!(same.branches, row.branches, "{place}");
        assert_eq!((same.entry, same.dependencies[0].operation), (row.entry, operation(place).operation), "{place}");
    }
}

#[test]
fn starts_come_back_in_milliseconds() {
    let earliest = 1_700_000_000_000;
    for starts in [vec![], vec![earliest], [0, 65_535, 65_536, 1 << 40, 1].map(|ms| earliest + ms).to_vec(), vec![0, 1]]
    {
        let bytes = put_starts(&starts).concat();
        let read = read_starts(&mut Reader(&bytes), starts.len()).unwrap();
        assert_eq!(read, starts.iter().map(|ms| ms * START_NS).collect::<Vec<u64>>());
        assert!(read_starts(&mut Reader(&bytes[..bytes.len() - 1]), starts.len()).is_none(), "cut short");
    }
}

#[test]
fn rows_of_another_version_are_made_anew_from_the_spans() {
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
    assert!(FactsFile::open(&RealDisk, &block.join("facts.bin"), "x").unwrap().is_none(), "version 5");
    let snapshot = open(copy.path()).snapshot();
    let (_, reader) = &snapshot.blocks[0];
    assert!(reader.facts().is_none());
    let (traces, found) = (reader.index().prefixes().len(), insights(&snapshot, 1_000));
    assert!(traces > 0);
    assert_eq!((found.traces, found.looked_at), (traces, traces));
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
