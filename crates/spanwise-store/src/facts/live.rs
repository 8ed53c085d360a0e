//! Rows of traces of which no block has all: made of all that is known of them, and kept beside the head until more comes.
//!
//! A kept row is that of the bytes it was made of, and says what these were: of how many of the head's batches, of which
//! other heads and blocks. A question that finds the same takes it as it is, otherwise it makes the trace's row anew, so
//! that a second question costs what came since the first. Rows are kept as they are in `facts.bin`, some hundred bytes
//! each, and no more of them than there is room for: the others are made anew each time. They go with their head.

use std::hash::{BuildHasher as _, Hash as _, Hasher as _};
use std::sync::Arc;

use rustc_hash::{FxBuildHasher, FxHashMap, FxHashSet};
use spanwise_insight::population::Population;
use spanwise_insight::row::{Name, Names, TraceRow};
use spanwise_model::TraceId;
use spanwise_wire::Batch;

use super::attributes::{put_pairs, read_pairs};
use super::codec::Reader;
use super::numbers::{Numbers, NumbersReader, duration};
use super::read::row_of;
use super::row::{put_structure, read_row};
use super::window::Window;
use crate::block::{BlockError, rows_of};
use crate::head::Head;
use crate::snapshot::Snapshot;

/// What the rows of a head take at most, with their names.
const MOST_BYTES: usize = 32 << 20;
/// Beside its bytes: the entry, its place in the table, and what allocators add.
const BYTES_EACH: usize = 160;
/// Traces whose rows are made in one pass, while other questions to the head wait: some 50 ms.
const TRACES: usize = 4096;
/// To look at all spans of a head costs as much as to fetch one trace for each so many.
const SPANS_A_TRACE: u64 = 1000;

/// Rows of a head, with names of their own.
pub(crate) struct LiveRows {
    names: Names,
    kept: FxHashMap<TraceId, Kept>,
    structures: FxHashSet<Arc<[u8]>>,
    /// Of rows and structures.
    bytes: usize,
    most_bytes: usize,
    /// Those of the last question.
    blocks: Vec<String>,
    /// How often other blocks were there than the time before.
    changes: u32,
    #[cfg(test)]
    pub made: usize,
}

impl Default for LiveRows {
    fn default() -> Self {
        Self::with_bound(MOST_BYTES)
    }
}

/// What is known of a trace: where, and how much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Known {
    /// Batches of the head that have spans of it.
    batches: u32,
    /// What else has: 0 for nothing.
    heads: u64,
    blocks: u64,
}

struct Kept {
    known: Known,
    /// When the blocks were looked at.
    changes: u32,
    /// The earliest start of a span, and how many there are.
    start_unix_nano: u64,
    spans: u32,
    row: Option<KeptRow>,
}

struct KeptRow {
    start_unix_nano: u64,
    duration_ns: u64,
    weight: f64,
    shape: u64,
    structure: Arc<[u8]>,
    /// Numbers, then attributes.
    numbers: Box<[u8]>,
}

/// A trace, and its row if it has one and is meant.
struct Live {
    start_unix_nano: u64,
    spans: u32,
    row: Option<TraceRow>,
    /// Some block has spans of it.
    is_in_block: bool,
}

impl LiveRows {
    pub fn with_bound(most_bytes: usize) -> Self {
        let (names, kept, structures, bytes, blocks, changes) = Default::default();
        Self {
            names,
            kept,
            structures,
            bytes,
            most_bytes,
            blocks,
            changes,
            #[cfg(test)]
            made: 0,
        }
    }

    /// What it takes.
    pub fn bytes(&self) -> usize {
        self.bytes + self.names.bytes()
    }

    /// Which look at blocks this is: the same as that before if it has the same blocks.
    fn look_at(&mut self, snapshot: &Snapshot) -> u32 {
        let ids = || snapshot.blocks.iter().map(|(meta, _)| &meta.id);
        if !self.blocks.iter().eq(ids()) {
            self.blocks = ids().cloned().collect();
            self.changes = self.changes.wrapping_add(1);
        }
        self.changes
    }

    /// What is known of a trace now. Asked before the spans are read: what comes in between is found the next time.
    fn known(&self, snapshot: &Snapshot, changes: u32, head: &Arc<Head>, id: &TraceId) -> Known {
        let mut heads = FxBuildHasher.build_hasher();
        let mut has_others = false;
        for other in snapshot.heads.iter().filter(|other| !Arc::ptr_eq(other, head)) {
            let batches = other.batches_of(id);
            if batches > 0 {
                (other.number(), batches).hash(&mut heads);
                has_others = true;
            }
        }
        let heads = if has_others { heads.finish() | 1 } else { 0 };
        let kept = self.kept.get(id).filter(|kept| kept.changes == changes);
        let blocks = kept.map_or_else(|| of_blocks(snapshot, id), |kept| kept.known.blocks);
        Known { batches: head.batches_of(id), heads, blocks }
    }

    /// Makes the rows of traces that lie in this head alone in one pass over its spans, where there are enough of them.
    fn make_many(&mut self, snapshot: &Snapshot, head: &Arc<Head>, ids: &[TraceId]) {
        let mut wanted: FxHashMap<TraceId, Known> = FxHashMap::default();
        for id in ids {
            let known = self.known(snapshot, self.changes, head, id);
            if (known.heads, known.blocks) == (0, 0) && self.kept.get(id).is_none_or(|kept| kept.known != known) {
                wanted.insert(*id, known);
            }
        }
        if wanted.len() as u64 * SPANS_A_TRACE < head.spans().max(1) {
            return;
        }
        let mut names = std::mem::take(&mut self.names);
        rows_of(&head.batches(), &|id| wanted.contains_key(id), &mut names, &mut |trace, names| {
            self.forget(&trace.id);
            let has_room = self.bytes + names.bytes() < self.most_bytes;
            if let (Some(known), true) = (wanted.get(&trace.id), has_room) {
                self.insert(trace.id, *known, self.changes, (trace.start_unix_nano, trace.spans), trace.row.as_ref());
            }
            has_room
        });
        self.names = names;
    }

    fn forget(&mut self, id: &TraceId) {
        if let Some(before) = self.kept.remove(id) {
            self.bytes -= before.bytes();
        }
    }

    fn insert(
        &mut self,
        id: TraceId,
        known: Known,
        changes: u32,
        (start_unix_nano, spans): (u64, u32),
        row: Option<&TraceRow>,
    ) {
        #[cfg(test)]
        {
            self.made += 1;
        }
        let row = row.map(|row| self.keep(row));
        let kept = Kept { known, changes, start_unix_nano, spans, row };
        self.bytes += kept.bytes();
        self.kept.insert(id, kept);
    }

    /// What is kept of a trace, if it was made of just what is known; its row is left out where the trace began outside of
    /// the window.
    fn kept(
        &mut self,
        asked: &Asked<'_>,
        id: &TraceId,
        known: Known,
        changes: u32,
        to: &mut Named<'_>,
    ) -> Option<Live> {
        let kept = self.kept.get_mut(id).filter(|kept| kept.known == known)?;
        kept.changes = changes;
        let (start_unix_nano, spans) = (kept.start_unix_nano, kept.spans);
        let first = to.numbers.len();
        to.numbers.extend(self.names.texts().skip(first).map(|text| to.names.number(text)));
        let row = kept.row.as_ref().filter(|_| asked.window.touches(start_unix_nano));
        let row = row.and_then(|row| row.read(*id, spans, to.numbers));
        Some(Live { start_unix_nano, spans, row, is_in_block: known.blocks != 0 })
    }

    /// Makes the row of a trace of these spans, and keeps it if there is room.
    fn make(&mut self, batch: &Batch, id: &TraceId, known: Known, changes: u32, names: &mut Names) -> Option<Live> {
        self.forget(id);
        let start_unix_nano = batch.spans().iter().map(|span| span.start_unix_nano).min().unwrap_or(0);
        let spans = batch.len_spans() as u32;
        if self.bytes() >= self.most_bytes {
            #[cfg(test)]
            {
                self.made += 1;
            }
            let row = row_of(batch, *id, names).map(super::rounded);
            return Some(Live { start_unix_nano, spans, row, is_in_block: known.blocks != 0 });
        }
        let row = row_of(batch, *id, &mut self.names);
        self.insert(*id, known, changes, (start_unix_nano, spans), row.as_ref());
        None
    }

    fn keep(&mut self, row: &TraceRow) -> KeptRow {
        let (mut structure, mut of_row) = (Vec::new(), Numbers::default());
        put_structure(&mut structure, row, &|name| name);
        of_row.put(row);
        let mut numbers = Vec::new();
        of_row.put_columns(&mut numbers);
        put_pairs(&mut numbers, &row.attributes);
        let structure = match self.structures.get(&*structure) {
            Some(known) => Arc::clone(known),
            None => {
                let structure: Arc<[u8]> = structure.into();
                self.bytes += structure.len() + BYTES_EACH;
                self.structures.insert(Arc::clone(&structure));
                structure
            }
        };
        KeptRow {
            start_unix_nano: super::start(row.start_unix_nano),
            duration_ns: duration(row.duration_ns),
            weight: row.weight,
            shape: row.shape,
            structure,
            numbers: numbers.into(),
        }
    }
}

impl Kept {
    fn bytes(&self) -> usize {
        BYTES_EACH + self.row.as_ref().map_or(0, |row| row.numbers.len())
    }
}

impl KeptRow {
    /// With other numbers for its names.
    fn read(&self, trace_id: TraceId, spans: u32, numbers: &[Name]) -> Option<TraceRow> {
        let name = |name: Name| numbers.get(name as usize).copied().unwrap_or_default();
        let mut reader = Reader(&self.numbers);
        let row = read_row(Reader(&self.structure), &mut NumbersReader::new(&mut reader)?, &name)?;
        let attributes = read_pairs(&mut reader, &name)?;
        let Self { start_unix_nano, duration_ns, weight, shape, .. } = *self;
        Some(TraceRow { trace_id, start_unix_nano, duration_ns, spans, weight, shape, attributes, ..row })
    }
}

/// Which blocks have spans of the trace: 0 for none.
fn of_blocks(snapshot: &Snapshot, id: &TraceId) -> u64 {
    let mut hasher = FxBuildHasher.build_hasher();
    let mut has_any = false;
    for (meta, _) in snapshot.blocks.iter().filter(|(_, block)| block.first_row(id).is_some()) {
        meta.id.hash(&mut hasher);
        has_any = true;
    }
    if has_any { hasher.finish() | 1 } else { 0 }
}

/// Where rows go: the names of who asks, and their numbers by those of the kept rows.
struct Named<'a> {
    names: &'a mut Names,
    numbers: &'a mut Vec<Name>,
}

/// A trace of a head. Its spans are read, from blocks as well, while nobody waits for the head's rows.
fn live(
    asked: &Asked<'_>,
    head: &Arc<Head>,
    id: &TraceId,
    changes: u32,
    to: &mut Named<'_>,
) -> Result<Option<Live>, BlockError> {
    let known = {
        let mut rows = head.rows.lock();
        let known = rows.known(asked.snapshot, changes, head, id);
        if let Some(live) = rows.kept(asked, id, known, changes, to) {
            return Ok(Some(live));
        }
        known
    };
    let Some(batch) = asked.snapshot.trace(id)? else { return Ok(None) };
    let mut rows = head.rows.lock();
    Ok(match rows.make(&batch, id, known, changes, to.names) {
        Some(live) => Some(live),
        None => rows.kept(asked, id, known, changes, to),
    })
}

/// Which traces are meant: those that began in one of the minutes of a window.
pub(crate) struct Asked<'a> {
    pub snapshot: &'a Snapshot,
    pub window: &'a Window,
}

/// The traces of heads.
#[derive(Default)]
pub(crate) struct OfHeads {
    pub all: FxHashSet<TraceId>,
    /// Those that blocks have spans of as well.
    pub in_blocks: FxHashSet<TraceId>,
}

/// Adds the rows of traces that heads have spans of and that `count` counts, which is told their start and how many spans
/// they have; heads that are not meant are left out. `None` when `is_over` said so
/// before the end.
///
/// # Errors
/// When a block cannot be read.
pub(crate) fn add_heads(
    asked: &Asked<'_>,
    is_meant: &dyn Fn(&Head) -> bool,
    population: &mut Population,
    count: &mut dyn FnMut(&mut Population, &TraceId, u64, u64) -> bool,
    is_over: &dyn Fn() -> bool,
) -> Result<Option<OfHeads>, BlockError> {
    let mut found = OfHeads::default();
    // Each trace is the business of the newest head that has it.
    for head in asked.snapshot.heads.iter().rev().filter(|head| is_meant(head)) {
        let mut ids = head.trace_ids();
        ids.retain(|id| found.all.insert(*id));
        let mut numbers = Vec::new();
        for ids in ids.chunks(TRACES) {
            if is_over() {
                return Ok(None);
            }
            let changes = {
                let mut rows = head.rows.lock();
                let changes = rows.look_at(asked.snapshot);
                rows.make_many(asked.snapshot, head, ids);
                changes
            };
            for (number, id) in ids.iter().enumerate() {
                if number % 64 == 63 && is_over() {
                    return Ok(None);
                }
                let mut to = Named { names: population.names_mut(), numbers: &mut numbers };
                let Some(live) = live(asked, head, id, changes, &mut to)? else { continue };
                if live.is_in_block {
                    found.in_blocks.insert(*id);
                }
                if count(population, id, live.start_unix_nano, live.spans.into()) {
                    live.row.into_iter().for_each(|row| population.add_row(row));
                }
            }
        }
    }
    Ok(Some(found))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::rounded;
    use crate::facts::tests::{Filling, batch, id, spans};
    use crate::facts::window::collect;
    use proptest::prelude::*;
    use spanwise_insight::population::Insights;
    use spanwise_journal::Position;

    const TRACES: u64 = 60;

    fn asked(snapshot: &Snapshot) -> Insights {
        let mut population = Population::default();
        assert!(collect(snapshot, 0, u64::MAX, &mut population, &|| false).unwrap());
        population.finish()
    }

    /// The same of rows that are all made now.
    fn fresh(snapshot: &Snapshot) -> Insights {
        let mut population = Population::default();
        for number in 0..TRACES {
            let Some(batch) = snapshot.trace(&id(number)).unwrap() else { continue };
            population.count(1, batch.len_spans() as u64);
            let row = row_of(&batch, id(number), population.names_mut());
            row.into_iter().for_each(|row| population.add_row(rounded(row)));
        }
        population.finish()
    }

    fn insert(head: &Head, batch: Batch) {
        head.insert(batch, Position::default(), 0);
    }

    fn heads(heads: &[&Arc<Head>]) -> Snapshot {
        Snapshot { heads: heads.iter().map(|head| Arc::clone(head)).collect(), blocks: Arc::default() }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_kept_is_what_would_be_made_now(
            order in Just((0..TRACES).flat_map(spans).collect::<Vec<_>>()).prop_shuffle(),
            steps in proptest::collection::vec((1usize..120, 0u8..7), 4..10),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut filling = Filling::of(dir.path(), &order);
            for (count, what) in steps.into_iter().chain([(usize::MAX, 4)]) {
                filling.step(count, what);
                let snapshot = filling.snapshot();
                let expected = fresh(&snapshot);
                prop_assert_eq!(&asked(&snapshot), &expected);
                prop_assert_eq!(&asked(&snapshot), &expected, "a second time");
            }
            prop_assert!(!fresh(&filling.snapshot()).findings.is_empty());
        }
    }

    #[test]
    fn a_question_makes_the_rows_of_what_came_since_the_last_one() {
        let (old, new) = (Arc::new(Head::default()), Arc::new(Head::default()));
        let made = || old.rows.lock().made + new.rows.lock().made;
        let last_span = |number: u64| batch(&spans(number)[8..]);
        (0..40).for_each(|number| insert(&old, batch(&spans(number)[..8])));
        let snapshot = heads(&[&old]);
        let first = asked(&snapshot);
        assert_eq!((made(), first.traces, first.spans), (40, 40, 320));
        assert_eq!((asked(&snapshot), made()), (first.clone(), 40));
        // The last call of a trace comes late, and its error with it.
        insert(&old, last_span(3));
        let second = asked(&snapshot);
        assert_eq!((made(), second.spans), (41, 321));
        assert_eq!((&second, &asked(&snapshot), made()), (&fresh(&snapshot), &second, 41));
        // Others come to the next head: it takes over, and what it does not have stays where it is.
        (20..40).for_each(|number| insert(&new, last_span(number)));
        let snapshot = heads(&[&old, &new]);
        let third = asked(&snapshot);
        assert_eq!((made(), third.spans), (61, 341));
        assert_eq!((&third, &asked(&snapshot), made()), (&fresh(&snapshot), &third, 61));
        assert_ne!(first.findings, third.findings);
        // More for the old head of what the new one has.
        insert(&old, batch(&spans(30)[..1]));
        assert_eq!((asked(&snapshot), made()), (third, 62));
    }

    #[test]
    fn there_is_a_bound_beyond_which_rows_are_made_each_time() {
        let head = Arc::new(Head::default());
        (0..TRACES).for_each(|number| insert(&head, batch(&spans(number))));
        let snapshot = heads(&[&head]);
        let expected = asked(&snapshot);
        let whole = head.rows.lock().bytes();
        let most = whole / 2;
        *head.rows.lock() = LiveRows::with_bound(most);
        for turn in 1..=3 {
            assert_eq!(asked(&snapshot), expected);
            let rows = head.rows.lock();
            let made_anew = TRACES as usize - rows.kept.len();
            assert_eq!(rows.made, TRACES as usize + (turn - 1) * made_anew);
            assert!(made_anew > 10 && rows.kept.len() > 10, "{made_anew}");
            // The last row that found room may take some more.
            assert!(rows.bytes() < most + 4096, "{} of {most}", rows.bytes());
        }
        // A row for which there is no room any more goes.
        let kept = head.rows.lock().kept.len();
        let of_trace = (0..TRACES).find(|number| head.rows.lock().kept.contains_key(&id(*number))).unwrap();
        let mut late = spans(of_trace).remove(1);
        late.1.span_id = vec![9; 8];
        late.1.name = "x".repeat(8192);
        insert(&head, batch(&[late]));
        assert_eq!(asked(&snapshot), fresh(&snapshot));
        let rows = head.rows.lock();
        assert!(rows.kept.len() <= kept && rows.bytes() < most + 16_384, "{}", rows.bytes());
    }
}
