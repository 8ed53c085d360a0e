//! What there was in each minute, counted: requests of services and operations, calls between services and to what
//! sends no spans, traces of entry points and their shapes. Cells are sums of whole numbers over traces, so that parts
//! that were counted apart can be put together in any order, and a trace that grew can be taken away and added anew.

mod trace;

pub use trace::{Sign, minute_of};

use rustc_hash::FxHashMap;

use crate::names::Name;
use crate::sketch::{Sketch, unfixed};

/// What a cell counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Spans of a service, `a`, and their time on critical paths.
    Service,
    /// Requests of a service, `a`, in one of the [`POINTS`] parts of the minute, `c`.
    Point,
    /// Requests of an operation `b` of a service `a`: spans by which a trace enters the service.
    Operation,
    /// Calls of a service `a` to `b`, which is a [`NodeKind`] by `c`. [`NOBODY`] calls where a trace begins.
    Edge,
    /// Traces that begin with an operation `b` of a service `a`.
    Entry,
    /// Of these, those of the shape `c`.
    Shape,
}

pub const KINDS: [Kind; 6] = [Kind::Service, Kind::Point, Kind::Operation, Kind::Edge, Kind::Entry, Kind::Shape];

/// Parts of a minute in which requests of services are counted.
pub const POINTS: u64 = 6;
pub const POINT_NS: u64 = crate::population::MINUTE_NS / POINTS;

/// In place of a caller where a trace begins.
pub const NOBODY: Name = Name::MAX;
/// In place of a name: what there was no room for.
pub const OTHER: Name = Name::MAX - 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NodeKind {
    Service,
    /// A database or cache: it sends no spans.
    Store,
    Queue,
    /// An HTTP or RPC peer that sends no spans.
    Host,
}

impl NodeKind {
    /// With the system that it is, as a cell's `c`.
    pub fn code(self, system: Option<Name>) -> u64 {
        self as u64 | system.map_or(0, |system| (u64::from(system) + 1) << 8)
    }

    pub fn of_code(code: u64) -> (Self, Option<Name>) {
        let kind = match code & 0xff {
            0 => Self::Service,
            1 => Self::Store,
            2 => Self::Queue,
            _ => Self::Host,
        };
        (kind, Name::try_from(code >> 8).ok().and_then(|system| system.checked_sub(1)))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub kind: Kind,
    /// Since 1970: of a span's start, of a trace's for entry points and shapes. 0 where minutes were put together.
    pub minute: u32,
    pub a: Name,
    pub b: Name,
    pub c: u64,
}

/// Counts of one key. `adjusted`, `errors`, `extra` are in parts of [`crate::sketch::ONE`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cell {
    pub seen: i64,
    /// For how many those stand.
    pub adjusted: i64,
    pub errors: i64,
    /// Of requests those in which the whole trace begins; of calls the traces that have some.
    pub extra: i64,
    /// Horvitz and Thompson's, of `adjusted`; of a service, that of its requests.
    pub variance: i64,
    pub critical_ns: i64,
    pub durations: Sketch,
}

impl Cell {
    pub fn merge(&mut self, other: &Cell) {
        let numbers =
            |cell: &Cell| [cell.seen, cell.adjusted, cell.errors, cell.extra, cell.variance, cell.critical_ns];
        let (own, others) = (numbers(self), numbers(other));
        let sum = |place: usize| own[place].wrapping_add(others[place]);
        (self.seen, self.adjusted, self.errors) = (sum(0), sum(1), sum(2));
        (self.extra, self.variance, self.critical_ns) = (sum(3), sum(4), sum(5));
        self.durations.merge(&other.durations);
    }

    /// Nothing is left of what was counted.
    pub fn is_empty(&self) -> bool {
        self == &Cell::default()
    }

    pub fn count(&self) -> f64 {
        unfixed(self.adjusted).max(0.0)
    }

    pub fn is_sampled(&self) -> bool {
        self.variance > 0
    }

    /// Between which counts the true one lies 19 times of 20; `None` where nothing was sampled away.
    pub fn between(&self) -> Option<(f64, f64)> {
        let half = 1.96 * (self.variance as f64).sqrt();
        self.is_sampled().then(|| ((self.count() - half).max(self.seen as f64), self.count() + half))
    }

    pub fn quantile_ms(&self, q: f64) -> f64 {
        (self.durations.quantile(q) / 1e3).round() / 1e3
    }
}

/// Cells of each kind that are told apart; beyond, they are counted together under [`OTHER`].
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// In one minute, in order of [`KINDS`].
    pub of_minute: [u32; KINDS.len()],
    /// In all, of each kind.
    pub in_all: u32,
}

impl Bounds {
    /// Of one block: services, parts of minutes, operations, edges, entry points, shapes.
    pub const BLOCK: Bounds = Bounds { of_minute: [1_000, 6_000, 4_000, 4_000, 2_000, 4_000], in_all: 200_000 };
    /// Of an answer, in which minutes are put together, but for the parts of them.
    pub const ANSWER: Bounds =
        Bounds { of_minute: [10_000, 60_000, 20_000, 20_000, 20_000, 20_000], in_all: 1_000_000 };
}

/// A cell, and what was last counted in it.
#[derive(Default, Clone)]
struct Slot {
    cell: Cell,
    /// Things of one trace are kept or dropped together: the last trace, and how many its things stand for.
    trace: u64,
    of_trace: f64,
}

/// Cells by key.
pub struct Minutes {
    /// By kind, so that the few cells that are looked up for each span lie together.
    places: [FxHashMap<Key, u32>; KINDS.len()],
    slots: Vec<Slot>,
    /// Cells of a kind and minute, and of a kind, without those of [`OTHER`].
    of_minute: FxHashMap<(Kind, u32), u32>,
    in_all: [u32; KINDS.len()],
    bounds: Bounds,
    /// Traces that were counted here.
    trace: u64,
    memory: trace::Memory,
}

impl Minutes {
    pub fn new(bounds: Bounds) -> Self {
        let (places, slots, of_minute, in_all) = Default::default();
        Self { places, slots, of_minute, in_all, bounds, trace: 0, memory: trace::Memory::default() }
    }

    /// Adds what was counted elsewhere.
    pub fn merge(&mut self, key: Key, cell: &Cell) {
        self.slot(key).cell.merge(cell);
    }

    pub fn get(&self, key: &Key) -> Option<&Cell> {
        self.places[key.kind as usize].get(key).and_then(|place| self.slots.get(*place as usize)).map(|slot| &slot.cell)
    }

    /// In no order, without those of which nothing is left.
    pub fn cells(&self) -> impl Iterator<Item = (&Key, &Cell)> {
        let cell = |place: u32| self.slots.get(place as usize).map(|slot| &slot.cell);
        let cells = self.places.iter().flatten().filter_map(move |(key, place)| Some((key, cell(*place)?)));
        cells.filter(|(_, cell)| !cell.is_empty())
    }

    /// Cells of one kind, in order of their keys.
    pub fn sorted(&self, kind: Kind) -> Vec<(Key, &Cell)> {
        let mut cells: Vec<(Key, &Cell)> =
            self.cells().filter(|(key, _)| key.kind == kind).map(|(key, cell)| (*key, cell)).collect();
        cells.sort_unstable_by_key(|(key, _)| *key);
        cells
    }

    /// There was more than is told apart.
    pub fn is_bounded(&self) -> bool {
        self.places
            .iter()
            .flat_map(FxHashMap::keys)
            .any(|key| key.a == OTHER || key.b == OTHER || (key.kind == Kind::Shape && key.c == 0))
    }

    fn is_full(&self, key: &Key) -> bool {
        let kind = key.kind as usize;
        let (Some(most), Some(all)) = (self.bounds.of_minute.get(kind), self.in_all.get(kind)) else { return true };
        *all >= self.bounds.in_all || self.of_minute.get(&(key.kind, key.minute)).is_some_and(|count| count >= most)
    }

    /// Where things are counted that there is no room for.
    fn other(&self, key: Key) -> Key {
        let of_service = Key { kind: Kind::Service, b: 0, c: 0, ..key };
        let of_entry = Key { kind: Kind::Entry, c: 0, ..key };
        match key.kind {
            Kind::Service | Kind::Point => Key { a: OTHER, ..key },
            Kind::Operation if self.get(&of_service).is_some() => Key { b: OTHER, ..key },
            Kind::Shape if self.get(&of_entry).is_some() => Key { c: 0, ..key },
            _ => Key { a: OTHER, b: OTHER, c: 0, ..key },
        }
    }

    fn slot(&mut self, key: Key) -> &mut Slot {
        let place = match self.places[key.kind as usize].get(&key) {
            Some(place) => *place,
            None => self.make(key),
        };
        &mut self.slots[place as usize]
    }

    #[cold]
    fn make(&mut self, mut key: Key) -> u32 {
        let is_other = |key: &Key| key.a == OTHER || key.b == OTHER || (key.kind == Kind::Shape && key.c == 0);
        if !is_other(&key) {
            if self.is_full(&key) {
                key = self.other(key);
            } else {
                *self.of_minute.entry((key.kind, key.minute)).or_default() += 1;
                if let Some(all) = self.in_all.get_mut(key.kind as usize) {
                    *all += 1;
                }
            }
        }
        let next = self.slots.len() as u32;
        let place = *self.places[key.kind as usize].entry(key).or_insert(next);
        if place == next {
            self.slots.push(Slot::default());
        }
        place
    }
}

#[cfg(test)]
mod tests;
