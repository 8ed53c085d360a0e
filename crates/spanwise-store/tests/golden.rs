//! Data directories as each version of the format wrote them stay readable.
//!
//! A new version is added by `SPANWISE_GOLDEN=write cargo test --profile ci -p spanwise-store --test golden`.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use spanwise_insight::minutes::{Bounds, KINDS, Kind, Minutes};
use spanwise_insight::names::Names;
use spanwise_journal::{ManualClock, RealDisk, WalOptions};
use spanwise_model::{Limits, Trace, TraceId};
use spanwise_store::block::FORMAT_VERSION;
use spanwise_store::sketches::Asked;
use spanwise_store::sketches::window::collect;
use spanwise_store::{Snapshot, Store, StoreConfig};
use spanwise_wire::json::otlp_json_to_proto;
use spanwise_wire::{Batch, decode_trace};

const OLDEST: u32 = 2;
const TRACES: [&str; 2] = ["0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331b7ad6b7169203331"];

fn golden() -> PathBuf {
    PathBuf::from("tests/golden")
}

/// Three requests; the last brings a span of a trace of the first.
fn requests() -> Vec<Batch> {
    let text = std::fs::read_to_string(golden().join("spans.jsonl")).unwrap();
    let parse = |line: &str| {
        let otlp = otlp_json_to_proto(line.as_bytes(), &Limits::default()).unwrap();
        Batch::parse(Bytes::from(otlp), &Limits::default()).unwrap().batch
    };
    text.lines().map(parse).collect()
}

fn in_order(batches: &[Batch]) -> Trace {
    let mut trace = decode_trace(batches);
    trace.spans.sort_by_key(|span| (span.span.trace_id, span.span.span_id));
    trace
}

fn check(snapshot: &Snapshot, what: &str) {
    let id = |hex: &str| TraceId(u128::from_str_radix(hex, 16).unwrap().to_be_bytes());
    let found: Vec<Batch> = TRACES.iter().filter_map(|hex| snapshot.trace(&id(hex)).unwrap()).collect();
    assert_eq!(in_order(&found), in_order(&requests()), "{what}");
    assert_eq!(snapshot.spans(), 9, "{what}");
    assert!(snapshot.catalogue().services["cart"].contains_key("late"), "{what}");
    let (mut names, mut minutes) = (Names::default(), Minutes::new(Bounds::ANSWER));
    let asked = Asked { kinds: &KINDS, minutes: 0..=u32::MAX, is_together: true };
    assert!(collect(snapshot, &asked, &mut names, &mut minutes, &|| false).unwrap(), "{what}");
    let sum = |kind: Kind| -> (i64, i64) {
        let cells = minutes.sorted(kind);
        (cells.iter().map(|(_, cell)| cell.seen).sum(), cells.iter().map(|(_, cell)| cell.critical_ns).sum())
    };
    let spans = sum(Kind::Service);
    assert_eq!((spans.0, sum(Kind::Entry).0), (9, 2), "{what}: each span and each trace is counted once");
    assert_eq!(sum(Kind::Edge).1, spans.1, "{what}");
}

fn config(dir: &Path) -> StoreConfig {
    let wal = WalOptions { segment_bytes: 4096, ..WalOptions::default() };
    StoreConfig { wal, join_blocks: 2, ..StoreConfig::new(dir) }
}

fn open(dir: &Path) -> Arc<Store> {
    Store::open(config(dir), Arc::new(RealDisk), Arc::new(ManualClock::at(1_700_000_000_000_000_000))).unwrap()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

fn write(dir: &Path, runtime: &tokio::runtime::Runtime) {
    let store = open(dir);
    let requests = requests();
    let (late, first) = requests.split_last().unwrap();
    first.iter().for_each(|batch| runtime.block_on(store.append(batch.clone())).unwrap());
    store.cut(runtime.handle()).unwrap();
    runtime.block_on(store.append(late.clone())).unwrap();
    drop(store);
    std::fs::remove_file(dir.join("lock")).unwrap();
}

#[test]
fn every_version_of_the_format_is_read() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let newest = golden().join(format!("format-{FORMAT_VERSION}"));
    if std::env::var_os("SPANWISE_GOLDEN").is_some() && !newest.exists() {
        write(&newest, &runtime);
    }
    let fresh = tempfile::tempdir().unwrap();
    write(fresh.path(), &runtime);
    check(&Store::read(&RealDisk, fresh.path()).unwrap(), "written now");
    let mut dirs: Vec<PathBuf> = std::fs::read_dir(golden()).unwrap().map(|entry| entry.unwrap().path()).collect();
    dirs.retain(|dir| dir.is_dir());
    assert!(dirs.contains(&golden().join(format!("format-{OLDEST}"))));
    for dir in dirs {
        let version = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        check(&Store::read(&RealDisk, &dir).unwrap(), &format!("{version}, read"));
        let own = tempfile::tempdir().unwrap();
        copy(&dir, own.path());
        let store = open(own.path());
        check(&store.snapshot(), &format!("{version}, opened"));
        store.cut(runtime.handle()).unwrap();
        check(&store.snapshot(), &format!("{version}, with a block of this one"));
        store.maintain(runtime.handle()).unwrap();
        assert_eq!(store.stats().blocks, 1, "{version}");
        check(&store.snapshot(), &format!("{version}, joined"));
        check(&Store::read(&RealDisk, own.path()).unwrap(), &format!("{version}, written anew"));
    }
}

#[test]
fn a_catalogue_of_format_1_has_no_list_of_rare_keys() {
    let old = br#"{"services":{},"resource":{},"span":{},"spans":0}"#;
    let catalogue = spanwise_store::Catalogue::from_json(old).unwrap();
    assert!(catalogue.may_be_residual("any"));
}
