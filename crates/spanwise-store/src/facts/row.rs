//! A facts row as bytes: its structure, which traces of one shape share, and its numbers.

use spanwise_insight::repetition::RepetitionKind;
use spanwise_insight::row::{
    Callee, Dependency, DependencyKind, Name, Operation, RowDependency, RowHidden, RowParts, RowRepetition, TraceRow,
};
use spanwise_wire::encode::put_varint;

use super::codec::{Reader, rounded, unrounded};

const REPETITIONS: [RepetitionKind; 3] = [RepetitionKind::NPlusOne, RepetitionKind::FanOut, RepetitionKind::RetryStorm];
const DEPENDENCIES: [DependencyKind; 3] = [DependencyKind::Service, DependencyKind::Host, DependencyKind::Store];

fn place<T: PartialEq>(all: &[T], one: &T) -> u64 {
    all.iter().position(|other| other == one).unwrap_or(0) as u64
}

fn put_operation(out: &mut Vec<u8>, operation: Operation) {
    put_varint(out, operation.service.into());
    put_varint(out, operation.operation.into());
}

fn put_optional(out: &mut Vec<u8>, name: Option<Name>) {
    put_varint(out, name.map_or(0, |name| u64::from(name) + 1));
}

fn put_callee(out: &mut Vec<u8>, callee: Callee) {
    put_optional(out, callee.service);
    put_varint(out, callee.operation.into());
    put_optional(out, callee.system);
}

/// All but numbers, ids, shape and attributes. Rows of equal structure share its bytes. Branches are in order of names, as
/// their order follows from the numbers.
pub fn put_structure(out: &mut Vec<u8>, row: &TraceRow) {
    put_operation(out, row.entry);
    out.push(u8::from(row.is_rooted));
    put_varint(out, row.repetitions.len() as u64);
    for repetition in &row.repetitions {
        put_varint(out, place(&REPETITIONS, &repetition.kind));
        put_operation(out, repetition.caller);
        put_callee(out, repetition.callee);
        put_varint(out, repetition.turn.into());
    }
    put_varint(out, row.hidden.len() as u64);
    for hidden in &row.hidden {
        put_operation(out, hidden.born);
        put_operation(out, hidden.swallowed_by);
    }
    put_varint(out, row.dependencies.len() as u64);
    for found in &row.dependencies {
        put_varint(out, place(&DEPENDENCIES, &found.dependency.kind));
        put_varint(out, found.dependency.name.into());
        put_optional(out, found.dependency.system);
        put_varint(out, found.operation.into());
        put_varint(out, found.depth.into());
        put_varint(out, found.callers.len() as u64);
        found.callers.iter().for_each(|caller| put_varint(out, (*caller).into()));
    }
    put_varint(out, row.parts.len() as u64);
    for parts in &row.parts {
        put_operation(out, parts.operation);
        put_callee(out, parts.blamed);
        put_varint(out, parts.sizes.len() as u64);
        parts.sizes.iter().for_each(|(key, _)| put_varint(out, (*key).into()));
    }
    put_varint(out, row.branches.len() as u64);
    branches(row).iter().for_each(|(operation, _)| put_operation(out, *operation));
    put_varint(out, row.peers.len() as u64);
    for (peer, is_answered) in &row.peers {
        put_varint(out, u64::from(*peer) << 1 | u64::from(*is_answered));
    }
}

fn branches(row: &TraceRow) -> Vec<(Operation, u64)> {
    let mut branches = row.branches.clone();
    branches.sort_unstable();
    branches
}

/// Values of sizes are numbers of bytes or rows: whole, as a rule.
fn put_size(out: &mut Vec<u8>, size: f64) {
    if (0.0..9e15).contains(&size) && size.fract() == 0.0 {
        put_varint(out, (size as u64) << 1);
    } else {
        out.push(1);
        out.extend_from_slice(&size.to_le_bytes());
    }
}

fn read_size(reader: &mut Reader<'_>) -> Option<f64> {
    match reader.varint()? {
        1 => Some(f64::from_le_bytes(reader.array()?)),
        whole => Some((whole >> 1) as f64),
    }
}

pub fn put_numbers(out: &mut Vec<u8>, row: &TraceRow) {
    for repetition in &row.repetitions {
        put_varint(out, repetition.count.into());
        put_varint(out, rounded(repetition.critical_ns));
    }
    row.hidden.iter().for_each(|hidden| put_varint(out, rounded(hidden.critical_ns)));
    row.dependencies.iter().for_each(|found| put_varint(out, rounded(found.critical_ns)));
    for parts in &row.parts {
        let times = [
            parts.duration_ns,
            parts.blamed_ns,
            parts.before_ns,
            parts.between_ns,
            parts.after_ns,
            parts.wire_ns,
            parts.wire_out_ns,
        ];
        times.iter().for_each(|ns| put_varint(out, rounded(*ns)));
        parts.sizes.iter().for_each(|(_, size)| put_size(out, *size));
    }
    branches(row).iter().for_each(|(_, ns)| put_varint(out, rounded(*ns)));
}

/// Keys and values of attributes, in order of keys.
pub fn put_attributes(out: &mut Vec<u8>, row: &TraceRow) {
    put_varint(out, row.attributes.len() as u64);
    let mut last = 0;
    for (key, value) in &row.attributes {
        put_varint(out, u64::from(key - last));
        put_varint(out, (*value).into());
        last = *key;
    }
}

/// What [`put_attributes`] put; nothing when it is not wanted, and then only read over.
pub fn read_attributes(
    reader: &mut Reader<'_>,
    is_wanted: bool,
    name: &dyn Fn(Name) -> Name,
) -> Option<Vec<(Name, Name)>> {
    let count = reader.count()?;
    let mut attributes = Vec::with_capacity(if is_wanted { count } else { 0 });
    let mut key = 0u32;
    for _ in 0..count {
        key = key.checked_add(reader.u32()?)?;
        let value = reader.u32()?;
        if is_wanted {
            attributes.push((name(key), name(value)));
        }
    }
    Some(attributes)
}

/// Puts a row together again; ids, times, shape and attributes of the trace itself are left to the caller. `name` tells
/// what a number of the file means to the caller.
pub fn read_row(mut structure: Reader<'_>, numbers: &mut Reader<'_>, name: &dyn Fn(Name) -> Name) -> Option<TraceRow> {
    let s = &mut structure;
    let known = |s: &mut Reader<'_>| s.u32().map(name);
    let optional = |s: &mut Reader<'_>| Some(s.u32()?.checked_sub(1).map(name));
    let operation = |s: &mut Reader<'_>| Some(Operation { service: known(s)?, operation: known(s)? });
    let callee =
        |s: &mut Reader<'_>| Some(Callee { service: optional(s)?, operation: known(s)?, system: optional(s)? });
    let time = |numbers: &mut Reader<'_>| numbers.varint().map(unrounded);
    let entry = operation(s)?;
    let is_rooted = s.bytes(1)? == [1];
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
        peers: Vec::new(),
    };
    for _ in 0..s.count()? {
        let kind = *REPETITIONS.get(s.usize()?)?;
        let (caller, callee, turn) = (operation(s)?, callee(s)?, s.u32()?);
        let (count, critical_ns) = (numbers.u32()?, time(numbers)?);
        row.repetitions.push(RowRepetition { kind, caller, callee, count, critical_ns, turn });
    }
    for _ in 0..s.count()? {
        let (born, swallowed_by) = (operation(s)?, operation(s)?);
        row.hidden.push(RowHidden { born, swallowed_by, critical_ns: time(numbers)? });
    }
    let count = s.count()?;
    row.dependencies.reserve_exact(count);
    for _ in 0..count {
        let kind = *DEPENDENCIES.get(s.usize()?)?;
        let dependency = Dependency { kind, name: known(s)?, system: optional(s)? };
        let (operation, depth) = (known(s)?, s.u32()?);
        let count = s.count()?;
        let mut callers = Vec::with_capacity(count);
        for _ in 0..count {
            callers.push(known(s)?);
        }
        let critical_ns = time(numbers)?;
        row.dependencies.push(RowDependency { dependency, operation, critical_ns, callers, depth });
    }
    let count = s.count()?;
    row.parts.reserve_exact(count);
    for _ in 0..count {
        let (operation, blamed) = (operation(s)?, callee(s)?);
        let count = s.count()?;
        let mut sizes = Vec::with_capacity(count);
        for _ in 0..count {
            sizes.push((known(s)?, 0.0));
        }
        let mut parts = RowParts {
            operation,
            blamed,
            duration_ns: time(numbers)?,
            blamed_ns: time(numbers)?,
            before_ns: time(numbers)?,
            between_ns: time(numbers)?,
            after_ns: time(numbers)?,
            wire_ns: time(numbers)?,
            wire_out_ns: time(numbers)?,
            sizes,
        };
        for (_, size) in &mut parts.sizes {
            *size = read_size(numbers)?;
        }
        row.parts.push(parts);
    }
    let count = s.count()?;
    row.branches.reserve_exact(count);
    for _ in 0..count {
        row.branches.push((operation(s)?, time(numbers)?));
    }
    row.branches.sort_by_key(|(operation, ns)| (std::cmp::Reverse(*ns), *operation));
    for _ in 0..s.count()? {
        let peer = s.varint()?;
        row.peers.push((name(u32::try_from(peer >> 1).ok()?), peer & 1 == 1));
    }
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
    row.branches.iter().for_each(|(branch, _)| operation(*branch, visit));
    row.peers.iter().for_each(|(peer, _)| visit(*peer));
}
