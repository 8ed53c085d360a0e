//! In whatever order spans come and however they are cut into blocks, the counts are the same.

use std::path::PathBuf;

use opentelemetry_proto::tonic::trace::v1::Span;
use proptest::prelude::*;
use spanwise_insight::minutes::Bounds;
use spanwise_journal::RealDisk;

use super::window::collect;
use super::*;
use crate::block::{SKETCHES_FILE, sketch};
use crate::facts::tests::{Filling, batch, open, spans};
use crate::{Snapshot, Store};

/// A third of the traces stand for four; they last some minutes.
fn sampled(number: u64) -> Vec<(&'static str, Span)> {
    let mut spans = spans(number);
    for (_, span) in &mut spans {
        span.start_time_unix_nano += number * 3_000_000_000;
        span.end_time_unix_nano += number * 3_000_000_000;
        if number.is_multiple_of(3) {
            span.trace_state = "ot=th:c".to_owned();
        }
    }
    spans
}

const ALL: Asked<'static> = Asked { kinds: &KINDS, minutes: 0..=u32::MAX, is_together: false };

/// Cells with the texts of their names, in order.
fn read(minutes: &Minutes, names: &Names) -> Vec<(Kind, u32, String, String, u64, Cell)> {
    let text = |name: Name| match name {
        NOBODY | OTHER => format!("({name})"),
        name => names.text(name).to_owned(),
    };
    let row = |(key, cell): (&Key, &Cell)| {
        let b = if has_two_names(key.kind) { text(key.b) } else { String::new() };
        let c = match key.kind {
            Kind::Edge => NodeKind::of_code(key.c).0 as u64,
            _ => key.c,
        };
        (key.kind, key.minute, text(key.a), b, c, cell.clone())
    };
    let mut rows: Vec<_> = minutes.cells().map(row).collect();
    rows.sort_by(|a, b| (a.0, a.1, &a.2, &a.3, a.4).cmp(&(b.0, b.1, &b.2, &b.3, b.4)));
    rows
}

fn counts(snapshot: &Snapshot, asked: &Asked<'_>) -> Vec<(Kind, u32, String, String, u64, Cell)> {
    let (mut names, mut minutes) = (Names::default(), Minutes::new(Bounds::ANSWER));
    assert!(collect(snapshot, asked, &mut names, &mut minutes, &|| false).unwrap());
    assert!(!minutes.is_bounded());
    read(&minutes, &names)
}

fn expected(traces: u64) -> Vec<(Kind, u32, String, String, u64, Cell)> {
    let (mut names, mut minutes) = (Names::default(), Minutes::new(Bounds::ANSWER));
    let batches: Vec<_> = (0..traces).map(|number| batch(&sampled(number))).collect();
    assert!(sketch(&batches, &|_| Ok(None), &mut names, &mut minutes, &|| false).unwrap());
    read(&minutes, &names)
}

fn files(store_dir: &std::path::Path) -> Vec<PathBuf> {
    let blocks = std::fs::read_dir(store_dir.join("blocks")).unwrap();
    blocks.map(|block| block.unwrap().path().join(SKETCHES_FILE)).filter(|path| path.exists()).collect()
}

const TRACES: u64 = 90;

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_order_and_no_cut_shows(
        order in Just((0..TRACES).flat_map(sampled).collect::<Vec<_>>()).prop_shuffle(),
        steps in proptest::collection::vec((1usize..300, 0u8..6), 4..8),
        twice in 0usize..400,
    ) {
        // A sender that does not know whether it was heard sends again.
        let again = order[..twice].to_vec();
        let order = [order, again].concat();
        let dir = tempfile::tempdir().unwrap();
        let mut filling = Filling::of(dir.path(), &order);
        for (count, what) in steps.into_iter().chain([(usize::MAX, 4)]) {
            filling.step(count, what);
            // Heads are counted as they grow.
            if what == 4 {
                counts(&filling.snapshot(), &ALL);
            }
        }
        let expected = expected(TRACES);
        prop_assert_eq!(&counts(&filling.snapshot(), &ALL), &expected);
        prop_assert_eq!(&counts(&Store::read(&RealDisk, dir.path()).unwrap(), &ALL), &expected);
        filling.cut();
        prop_assert_eq!(&counts(&filling.snapshot(), &ALL), &expected);
        filling.join();
        prop_assert_eq!(&counts(&filling.snapshot(), &ALL), &expected);
    }

    #[test]
    fn blocks_of_before_there_were_sketches_count_as_well(
        order in Just((0..TRACES).flat_map(sampled).collect::<Vec<_>>()).prop_shuffle(),
        cuts in proptest::collection::vec(20usize..200, 3..6),
        old in 1usize..3,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut rest = &order[..];
        let mut store = open(dir.path());
        for (number, count) in cuts.into_iter().chain([usize::MAX]).enumerate() {
            if number == old {
                // The first blocks were made by an older version.
                drop(store);
                files(dir.path()).iter().for_each(|path| std::fs::remove_file(path).unwrap());
                store = open(dir.path());
            }
            let (now, later) = rest.split_at(count.min(rest.len()));
            rest = later;
            if !now.is_empty() {
                runtime.block_on(store.append(batch(now))).unwrap();
                store.cut(runtime.handle()).unwrap();
            }
        }
        let expected = expected(TRACES);
        prop_assert_eq!(&counts(&store.snapshot(), &ALL), &expected);
        store.sketch_old_block().unwrap();
        prop_assert_eq!(&counts(&store.snapshot(), &ALL), &expected);
        store.maintain(runtime.handle()).unwrap();
        prop_assert_eq!(&counts(&store.snapshot(), &ALL), &expected);
        while store.sketch_old_block().unwrap() {}
        prop_assert!(store.snapshot().blocks.iter().all(|(_, block)| block.sketches().is_some()));
        prop_assert_eq!(&counts(&store.snapshot(), &ALL), &expected);
    }
}

#[test]
fn a_window_has_its_minutes_alone() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for numbers in [0..50, 50..TRACES] {
        runtime.block_on(store.append(batch(&numbers.flat_map(sampled).collect::<Vec<_>>()))).unwrap();
        store.cut(runtime.handle()).unwrap();
    }
    let all = counts(&store.snapshot(), &ALL);
    let first = all.iter().map(|row| row.1).min().unwrap();
    assert!(all.iter().any(|row| row.1 > first + 3), "they last some minutes");
    let window = Asked { minutes: first + 1..=first + 2, ..ALL };
    let expected: Vec<_> = all.into_iter().filter(|row| window.minutes.contains(&row.1)).collect();
    assert_eq!(counts(&store.snapshot(), &window), expected);
    let entries = [Kind::Entry];
    let together = counts(&store.snapshot(), &Asked { kinds: &entries, is_together: true, ..window });
    let sum: i64 = expected.iter().filter(|row| row.0 == Kind::Entry).map(|row| row.5.seen).sum();
    assert_eq!((together.len(), together[0].1, together[0].5.seen), (1, 0, sum));
}

#[test]
fn damage_is_noticed_and_spans_tell_instead() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for numbers in [0..30, 30..60] {
        runtime.block_on(store.append(batch(&numbers.flat_map(sampled).collect::<Vec<_>>()))).unwrap();
        store.cut(runtime.handle()).unwrap();
    }
    let expected = expected(60);
    drop(store);
    let path = files(dir.path()).swap_remove(0);
    let file = std::fs::read(&path).unwrap();
    let (mut names, mut minutes) = (Names::default(), Minutes::new(Bounds::ANSWER));
    let mut read = |bytes: &[u8]| -> Result<bool, BlockError> {
        std::fs::write(&path, bytes).unwrap();
        match SketchFile::open(&RealDisk, &path, "x")? {
            None => Ok(false),
            Some(sketches) => sketches.add_to(&ALL, &mut names, &mut minutes).map(|()| true),
        }
    };
    assert!(read(&file).unwrap());
    for at in (0..file.len()).step_by(7) {
        let mut damaged = file.clone();
        damaged[at] ^= 0x55;
        // Of another version there are none.
        assert!(!read(&damaged).unwrap_or(false), "byte {at}");
        assert!(read(&file[..at]).is_err(), "cut at {at}");
    }
    // In the header, found at the start; and behind it, found when it is read.
    for at in [30, file.len() - 9] {
        let mut damaged = file.clone();
        damaged[at] ^= 0x55;
        std::fs::write(&path, &damaged).unwrap();
        let store = open(dir.path());
        assert_eq!(counts(&store.snapshot(), &ALL), expected, "byte {at}");
        assert!(store.sketch_old_block().unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), file, "made anew");
        assert_eq!(counts(&store.snapshot(), &ALL), expected);
        assert!(!store.sketch_old_block().unwrap());
    }
}

#[test]
fn numbers_survive() {
    for parts in [0, 1, -1, ONE, -ONE, 7 * ONE, 3 * ONE + 5, i64::MAX / 4, i64::MIN / 4] {
        let mut bytes = Vec::new();
        put_parts(&mut bytes, parts);
        assert_eq!(read_parts(&mut Reader(&bytes)), Some(parts));
    }
}
