//! A store on a disk that goes wrong at its n-th operation, for every n: what was acknowledged is found, nothing
//! twice, and it always starts again.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;
use spanwise_journal::{ManualClock, WalOptions};
use spanwise_model::{Limits, TraceId};
use spanwise_sim::{Fault, SimDisk, Survival};
use spanwise_store::{Store, StoreConfig};
use spanwise_wire::Batch;

const NOW: u64 = 1_700_000_000_000_000_000;

/// Trace and number of a span.
type Id = (u8, u8);

fn batch((trace, span): Id) -> Batch {
    let span = Span {
        trace_id: vec![trace; 16],
        span_id: vec![span; 8],
        name: "work".to_owned(),
        start_time_unix_nano: NOW + u64::from(span),
        end_time_unix_nano: NOW + 100,
        ..Span::default()
    };
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            scope_spans: vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }],
            ..ResourceSpans::default()
        }],
    };
    Batch::parse(Bytes::from(request.encode_to_vec()), &Limits::default()).unwrap().batch
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Must be found.
    Acknowledged,
    /// May be found.
    Offered,
    /// Was acknowledged, and may have been expired since.
    Old,
}

struct Scenario {
    disk: SimDisk,
    /// The lock is taken on the real disk.
    dir: tempfile::TempDir,
    clock: Arc<ManualClock>,
    runtime: tokio::runtime::Runtime,
    store: Option<Arc<Store>>,
    sent: BTreeMap<Id, State>,
    what: String,
}

/// The disk is dead: the process ends here.
struct Dead;

impl Scenario {
    fn new(what: String) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            disk: SimDisk::new(dir.path()),
            dir,
            clock: Arc::new(ManualClock::at(NOW)),
            runtime: tokio::runtime::Builder::new_current_thread().build().unwrap(),
            store: None,
            sent: BTreeMap::new(),
            what,
        }
    }

    /// A fault happens once: what failed succeeds the next time.
    fn twice<T, E: std::fmt::Display>(
        &self,
        step: &str,
        mut run: impl FnMut(&Self) -> Result<T, E>,
    ) -> Result<T, Dead> {
        let first = match run(self) {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        if self.disk.is_dead() {
            return Err(Dead);
        }
        assert!(self.disk.hit_at().is_some(), "{}: {step}: {first}", self.what);
        run(self).map_err(|error| match self.disk.is_dead() {
            true => Dead,
            false => panic!("{}: {step} fails again: {error}, after {first}", self.what),
        })
    }

    fn open(&mut self) -> Result<(), Dead> {
        self.store = None;
        let store = self.twice("open", |scenario| {
            let config = StoreConfig {
                max_age: Some(Duration::from_secs(7200)),
                join_blocks: 2,
                wal: WalOptions { segment_bytes: 300, ..WalOptions::default() },
                ..StoreConfig::new(scenario.dir.path())
            };
            let disk = scenario.disk.clone();
            let clock = Arc::<ManualClock>::clone(&scenario.clock);
            Store::open_with(config, Arc::new(scenario.disk.clone()), clock, Arc::new(move |_| disk.die()))
        })?;
        self.store = Some(store);
        self.check()
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn append(&mut self, id: Id) -> Result<(), Dead> {
        let offer = |scenario: &mut Self, id: Id| {
            let answer = scenario.runtime.block_on(scenario.store().append(batch(id)));
            scenario.sent.insert(id, if answer.is_ok() { State::Acknowledged } else { State::Offered });
            answer
        };
        if let Err(error) = offer(self, id) {
            if self.disk.is_dead() {
                return Err(Dead);
            }
            assert!(self.disk.hit_at().is_some(), "{}: {error}", self.what);
            // Another span, since the first may have been kept.
            let again = offer(self, (id.0, id.1 + 100));
            if self.disk.is_dead() {
                return Err(Dead);
            }
            assert!(again.is_ok(), "{}: append fails again: {again:?}, after {error}", self.what);
        }
        Ok(())
    }

    fn cut(&mut self) -> Result<(), Dead> {
        self.twice("cut", |scenario| scenario.store().cut(scenario.runtime.handle()))
    }

    fn maintain(&mut self) -> Result<(), Dead> {
        self.twice("maintain", |scenario| scenario.store().maintain(scenario.runtime.handle()))
    }

    /// Every span that was acknowledged is there once.
    fn check(&self) -> Result<(), Dead> {
        let found = self.twice("read", |scenario| {
            let snapshot = scenario.store().snapshot();
            let mut found: Vec<Id> = Vec::new();
            for trace in 1..=9u8 {
                if let Some(batch) = snapshot.trace(&TraceId([trace; 16]))? {
                    found.extend(batch.spans().iter().map(|span| (trace, span.span_id.0[0])));
                }
            }
            Ok::<_, spanwise_store::block::BlockError>((found, snapshot.spans()))
        })?;
        let (mut found, stored) = found;
        found.sort_unstable();
        assert_eq!(found.len() as u64, stored, "{}: spans are stored twice", self.what);
        assert!(found.windows(2).all(|pair| pair[0] < pair[1]), "{}: found twice: {found:?}", self.what);
        for (id, state) in &self.sent {
            let is_there = found.binary_search(id).is_ok();
            assert!(is_there || *state != State::Acknowledged, "{}: {id:?} is lost, found {found:?}", self.what);
        }
        assert!(found.iter().all(|id| self.sent.contains_key(id)), "{}: {found:?}", self.what);
        Ok(())
    }

    fn run(&mut self) -> Result<(), Dead> {
        self.open()?;
        self.append((1, 1))?;
        self.append((2, 1))?;
        self.cut()?;
        self.append((1, 2))?;
        self.append((3, 1))?;
        self.open()?;
        self.append((2, 2))?;
        self.cut()?;
        // Joins the two blocks.
        self.maintain()?;
        self.check()?;
        self.append((4, 1))?;
        self.clock.advance(Duration::from_secs(3 * 3600));
        self.sent.iter_mut().filter(|(id, _)| id.0 < 4).for_each(|(_, state)| *state = State::Old);
        // Not yet in a block, so not too old; the others go.
        self.append((5, 1))?;
        self.cut()?;
        self.maintain()?;
        self.clock.advance(Duration::from_secs(601));
        self.append((6, 1))?;
        // Files of dropped blocks go.
        self.maintain()?;
        self.check()?;
        self.open()
    }
}

/// Runs until the scenario ends before the fault comes.
fn every_operation(fault: Fault, survivals: &[Survival]) {
    let mut at = 0;
    loop {
        let mut scenario = Scenario::new(format!("{fault:?} at operation {at}"));
        scenario.disk.fail_at(at, fault);
        let _ = scenario.run();
        let crashed = scenario.disk.clone();
        crashed.die();
        scenario.store = None;
        let sent = scenario.sent.clone();
        for survival in survivals {
            scenario.disk = crashed.restarted(*survival);
            scenario.sent = sent.clone();
            scenario.what = format!("{fault:?} at operation {at}, {survival:?}");
            let start = scenario.open().and_then(|()| scenario.append((7, 1)));
            assert!(start.is_ok(), "{}: it does not start", scenario.what);
            assert!(scenario.sent.get(&(7, 1)) == Some(&State::Acknowledged));
        }
        let Some(hit) = crashed.hit_at() else {
            assert!(at > 100, "the scenario does little: {at} operations");
            return;
        };
        at = hit + 1;
    }
}

#[test]
fn a_disk_that_is_full() {
    every_operation(Fault::IsFull, &[Survival::Synced]);
}

#[test]
fn an_operation_that_is_refused_or_a_write_that_is_torn() {
    every_operation(Fault::Tears, &[Survival::Synced]);
}

#[test]
fn an_operation_that_is_done_and_reported_as_failed() {
    every_operation(Fault::Lies, &[Survival::Synced]);
}

#[test]
fn a_disk_that_dies_and_comes_back() {
    every_operation(Fault::Dies, &Survival::ALL);
}
