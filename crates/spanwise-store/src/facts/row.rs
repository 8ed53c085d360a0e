//! The structure of a facts row, which traces of one shape share, as bytes.

use spanwise_insight::repetition::RepetitionKind;
use spanwise_insight::row::{
    Callee, Dependency, DependencyKind, Name, Operation, RowDependency, RowHidden, RowParts, RowRepetition, TraceRow,
};
use spanwise_wire::encode::put_varint;

use super::codec::{Reader, put_block};
use super::numbers::NumbersReader;

const REPETITIONS: [RepetitionKind; 3] = [RepetitionKind::NPlusOne, RepetitionKind::FanOut, RepetitionKind::RetryStorm];
const DEPENDENCIES: [DependencyKind; 3] = [DependencyKind::Service, DependencyKind::Host, DependencyKind::Store];

fn place<T: PartialEq>(all: &[T], one: &T) -> u64 {
    all.iter().position(|other| other == one).unwrap_or(0) as u64
}

/// Branches among which a name is searched: one after the other.
const MOST_SEARCHED: usize = 256;

/// Puts a structure, with each name as `number` says. Operations are places in the row's branches: so rows are alike whose
/// requests took the same way, whatever they asked for there.
struct Structure<'a> {
    out: Vec<u8>,
    branches: &'a [Operation],
    number: &'a dyn Fn(Name) -> Name,
}

impl Structure<'_> {
    fn number(&mut self, number: u64) {
        put_varint(&mut self.out, number);
    }

    fn name(&mut self, name: Name) {
        put_varint(&mut self.out, (self.number)(name).into());
    }

    fn optional(&mut self, name: Option<Name>) {
        put_varint(&mut self.out, name.map_or(0, |name| u64::from((self.number)(name)) + 1));
    }

    fn operation(&mut self, operation: Operation) {
        match self.branches.binary_search(&operation) {
            Ok(place) => self.number(place as u64 + 1),
            Err(_) => {
                self.number(0);
                self.name(operation.service);
                self.name(operation.operation);
            }
        }
    }

    /// What an operation is called, in whatever service.
    fn called(&mut self, name: Name) {
        match self.branches.iter().take(MOST_SEARCHED).position(|branch| branch.operation == name) {
            Some(place) => self.number(place as u64 + 1),
            None => {
                self.number(0);
                self.name(name);
            }
        }
    }

    fn callee(&mut self, callee: Callee) {
        self.optional(callee.service);
        self.called(callee.operation);
        self.optional(callee.system);
    }
}

/// All but numbers, ids, shape and attributes, each name as `number` says. Rows of equal structure share its bytes, whichever
/// branch takes longest: branches are in order of names.
pub fn put_structure(out: &mut Vec<u8>, row: &TraceRow, number: &dyn Fn(Name) -> Name) {
    let branches = branches(row);
    let mut s = Structure { out: Vec::new(), branches: &branches, number };
    s.operation(row.entry);
    s.number(row.is_rooted.into());
    s.number(row.repetitions.len() as u64);
    for repetition in &row.repetitions {
        s.number(place(&REPETITIONS, &repetition.kind));
        s.operation(repetition.caller);
        s.callee(repetition.callee);
        s.number(repetition.turn.into());
    }
    s.number(row.hidden.len() as u64);
    for hidden in &row.hidden {
        s.operation(hidden.born);
        s.operation(hidden.swallowed_by);
    }
    s.number(row.dependencies.len() as u64);
    for found in &row.dependencies {
        s.number(place(&DEPENDENCIES, &found.dependency.kind));
        s.name(found.dependency.name);
        s.optional(found.dependency.system);
        s.called(found.operation);
        s.number(found.depth.into());
        s.number(found.callers.len() as u64);
        found.callers.iter().for_each(|caller| s.name(*caller));
    }
    s.number(row.parts.len() as u64);
    for parts in &row.parts {
        s.operation(parts.operation);
        s.callee(parts.blamed);
        s.number(parts.sizes.len() as u64);
        parts.sizes.iter().for_each(|(key, _)| s.name(*key));
    }
    s.number(row.peers.len() as u64);
    for (peer, is_answered) in &row.peers {
        s.number(u64::from((s.number)(*peer)) << 1 | u64::from(*is_answered));
    }
    put_block(out, &s.out);
    for branch in &branches {
        put_varint(out, number(branch.service).into());
        put_varint(out, number(branch.operation).into());
    }
}

fn branches(row: &TraceRow) -> Vec<Operation> {
    let mut branches = row.branches.clone();
    branches.sort_unstable();
    branches
}

/// Reads what [`Structure`] put.
struct StructureReader<'a> {
    bytes: Reader<'a>,
    branches: &'a [Operation],
    known: &'a dyn Fn(Name) -> Name,
}

impl StructureReader<'_> {
    fn count(&mut self) -> Option<usize> {
        self.bytes.count()
    }

    fn name(&mut self) -> Option<Name> {
        self.bytes.u32().map(self.known)
    }

    fn optional(&mut self) -> Option<Option<Name>> {
        Some(self.bytes.u32()?.checked_sub(1).map(self.known))
    }

    fn operation(&mut self) -> Option<Operation> {
        match self.bytes.usize()? {
            0 => Some(Operation { service: self.name()?, operation: self.name()? }),
            place => self.branches.get(place - 1).copied(),
        }
    }

    fn called(&mut self) -> Option<Name> {
        match self.bytes.usize()? {
            0 => self.name(),
            place => Some(self.branches.get(place - 1)?.operation),
        }
    }

    fn callee(&mut self) -> Option<Callee> {
        Some(Callee { service: self.optional()?, operation: self.called()?, system: self.optional()? })
    }
}

/// Puts a row together again; ids, times, shape and attributes of the trace itself are left to the caller. `name` tells
/// what a number of the file means to the caller.
pub fn read_row(
    mut structure: Reader<'_>,
    numbers: &mut NumbersReader<'_>,
    name: &dyn Fn(Name) -> Name,
) -> Option<TraceRow> {
    let bytes = structure.block()?;
    let mut branches = Vec::with_capacity(structure.0.iter().filter(|byte| **byte < 0x80).count() / 2);
    while !structure.0.is_empty() {
        branches.push(Operation { service: name(structure.u32()?), operation: name(structure.u32()?) });
    }
    let mut s = StructureReader { bytes, branches: &branches, known: name };
    let entry = s.operation()?;
    let is_rooted = s.bytes.varint()? == 1;
    let mut row = TraceRow {
        trace_id: Default::default(),
        start_unix_nano: 0,
        duration_ns: 0,
        spans: 0,
        weight: 1.0,
        entry,
        is_rooted,
        shape: 0,
        repetitions: Vec::new(),
        hidden: Vec::new(),
        dependencies: Vec::new(),
        parts: Vec::new(),
        attributes: Vec::new(),
        branches: Vec::new(),
        longest_ns: 0,
        peers: Vec::new(),
    };
    for _ in 0..s.count()? {
        let kind = *REPETITIONS.get(s.bytes.usize()?)?;
        let (caller, callee, turn) = (s.operation()?, s.callee()?, s.bytes.u32()?);
        row.repetitions.push(RowRepetition { kind, caller, callee, count: 0, critical_ns: 0, turn });
    }
    for _ in 0..s.count()? {
        let (born, swallowed_by) = (s.operation()?, s.operation()?);
        row.hidden.push(RowHidden { born, swallowed_by, critical_ns: 0 });
    }
    let count = s.count()?;
    row.dependencies.reserve_exact(count);
    for _ in 0..count {
        let kind = *DEPENDENCIES.get(s.bytes.usize()?)?;
        let dependency = Dependency { kind, name: s.name()?, system: s.optional()? };
        let (operation, depth) = (s.called()?, s.bytes.u32()?);
        let count = s.count()?;
        let mut callers = Vec::with_capacity(count);
        for _ in 0..count {
            callers.push(s.name()?);
        }
        row.dependencies.push(RowDependency { dependency, operation, critical_ns: 0, callers, depth });
    }
    let count = s.count()?;
    row.parts.reserve_exact(count);
    for _ in 0..count {
        let (operation, blamed) = (s.operation()?, s.callee()?);
        let count = s.count()?;
        let mut sizes = Vec::with_capacity(count);
        for _ in 0..count {
            sizes.push((s.name()?, 0.0));
        }
        row.parts.push(RowParts {
            operation,
            blamed,
            duration_ns: 0,
            blamed_ns: 0,
            before_ns: 0,
            between_ns: 0,
            after_ns: 0,
            wire_ns: 0,
            wire_out_ns: 0,
            sizes,
        });
    }
    for _ in 0..s.count()? {
        let peer = s.bytes.varint()?;
        row.peers.push((name(u32::try_from(peer >> 1).ok()?), peer & 1 == 1));
    }
    row.branches = branches;
    numbers.read(&mut row)?;
    Some(row)
}

/// Calls `visit` with every name of the structure.
pub fn each_name(row: &TraceRow, visit: &mut dyn FnMut(Name)) {
    let operation = |operation: Operation, visit: &mut dyn FnMut(Name)| {
        visit(operation.service);
        visit(operation.operation);
    };
    let callee = |callee: Callee, visit: &mut dyn FnMut(Name)| {
        [callee.service, Some(callee.operation), callee.system].into_iter().flatten().for_each(visit);
    };
    operation(row.entry, visit);
    for repetition in &row.repetitions {
        operation(repetition.caller, visit);
        callee(repetition.callee, visit);
    }
    for hidden in &row.hidden {
        operation(hidden.born, visit);
        operation(hidden.swallowed_by, visit);
    }
    for found in &row.dependencies {
        [Some(found.dependency.name), found.dependency.system, Some(found.operation)]
            .into_iter()
            .flatten()
            .chain(found.callers.iter().copied())
            .for_each(&mut *visit);
    }
    for parts in &row.parts {
        operation(parts.operation, visit);
        callee(parts.blamed, visit);
        parts.sizes.iter().for_each(|(key, _)| visit(*key));
    }
    row.branches.iter().for_each(|branch| operation(*branch, visit));
    row.peers.iter().for_each(|(peer, _)| visit(*peer));
}
