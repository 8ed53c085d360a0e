//! A facts row as bytes: its structure, which traces of one shape share, and its numbers.

use rustc_hash::FxHashMap;
use spanwise_insight::repetition::RepetitionKind;
use spanwise_insight::row::{
    Callee, Dependency, DependencyKind, Name, Operation, RowDependency, RowHidden, RowParts, RowRepetition, TraceRow,
};
use spanwise_wire::encode::put_varint;

use super::codec::{Reader, rounded, unrounded};

const REPETITIONS: [RepetitionKind; 3] = [RepetitionKind::NPlusOne, RepetitionKind::FanOut, RepetitionKind::RetryStorm];
const DEPENDENCIES: [DependencyKind; 3] = [DependencyKind::Service, DependencyKind::Host, DependencyKind::Store];

/// Significant bits of times that findings take medians of, over many traces: within 1/64.
const SOME: u32 = 6;
/// Of those that could as well be others of their size: within 1/8.
const FEW: u32 = 3;
/// Of the time of the longest branch: timeouts are told by two percent. Within 1/256.
const LONGEST: u32 = 8;
/// Of a trace's duration: within 1/4096.
const DURATION: u32 = 12;

fn place<T: PartialEq>(all: &[T], one: &T) -> u64 {
    all.iter().position(|other| other == one).unwrap_or(0) as u64
}

/// Puts a structure, with each name as `number` says.
struct Structure<'a> {
    out: &'a mut Vec<u8>,
    number: &'a dyn Fn(Name) -> Name,
}

impl Structure<'_> {
    fn number(&mut self, number: u64) {
        put_varint(self.out, number);
    }

    fn name(&mut self, name: Name) {
        put_varint(self.out, (self.number)(name).into());
    }

    fn optional(&mut self, name: Option<Name>) {
        put_varint(self.out, name.map_or(0, |name| u64::from((self.number)(name)) + 1));
    }

    fn operation(&mut self, operation: Operation) {
        self.name(operation.service);
        self.name(operation.operation);
    }

    fn callee(&mut self, callee: Callee) {
        self.optional(callee.service);
        self.name(callee.operation);
        self.optional(callee.system);
    }
}

/// All but numbers, ids, shape and attributes, each name as `number` says. Rows of equal structure share its bytes, whichever
/// branch takes longest: branches are in order of names.
pub fn put_structure(out: &mut Vec<u8>, row: &TraceRow, number: &dyn Fn(Name) -> Name) {
    let mut s = Structure { out, number };
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
        s.name(found.operation);
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
    s.number(row.branches.len() as u64);
    branches(row).iter().for_each(|operation| s.operation(*operation));
    s.number(row.peers.len() as u64);
    for (peer, is_answered) in &row.peers {
        s.number(u64::from((s.number)(*peer)) << 1 | u64::from(*is_answered));
    }
}

fn branches(row: &TraceRow) -> Vec<Operation> {
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

/// Times of which most are nothing: which of them are something, as bits, and those. At most [`FLAGS`].
fn put_sparse(out: &mut Vec<u8>, times: impl Iterator<Item = u64> + Clone) {
    put_varint(out, times.clone().zip(0..).fold(0, |flags, (ns, bit)| flags | u64::from(ns > 0) << bit));
    times.filter(|ns| *ns > 0).for_each(|ns| put_varint(out, rounded(ns, SOME)));
}

const FLAGS: usize = 64;

/// An operation without time of its own only has to be among those that medians are taken of.
fn bits_of_parts(parts: &RowParts) -> u32 {
    let has_own = [parts.before_ns, parts.between_ns, parts.after_ns, parts.wire_ns].iter().any(|ns| *ns > 0);
    if has_own { SOME } else { FEW }
}

/// What [`put_sparse`] put.
fn read_sparse(reader: &mut Reader<'_>, times: &mut [&mut u64]) -> Option<()> {
    let flags = reader.varint()?;
    for (ns, bit) in times.iter_mut().zip(0..) {
        **ns = if flags >> bit & 1 == 1 { unrounded(reader.varint()?, SOME) } else { 0 };
    }
    Some(())
}

pub fn put_numbers(out: &mut Vec<u8>, row: &TraceRow) {
    for repetition in &row.repetitions {
        put_varint(out, repetition.count.into());
        put_varint(out, rounded(repetition.critical_ns, SOME));
    }
    row.hidden.iter().for_each(|hidden| put_varint(out, rounded(hidden.critical_ns, SOME)));
    for some in row.dependencies.chunks(FLAGS) {
        put_sparse(out, some.iter().map(|found| found.critical_ns));
    }
    for parts in &row.parts {
        let own = [parts.before_ns, parts.between_ns, parts.after_ns, parts.wire_ns, parts.wire_out_ns];
        put_sparse(out, own.into_iter());
        let bits = bits_of_parts(parts);
        put_varint(out, rounded(parts.duration_ns, bits));
        put_varint(out, rounded(parts.blamed_ns, bits));
        parts.sizes.iter().for_each(|(_, size)| put_size(out, *size));
    }
    if let Some(longest) = row.branches.first() {
        put_varint(out, row.branches.iter().filter(|branch| *branch < longest).count() as u64);
        put_varint(out, rounded(row.longest_ns, LONGEST));
    }
}

/// A key and a value.
pub type Pair = (Name, Name);

/// Attributes, in order.
pub fn put_pairs(out: &mut Vec<u8>, pairs: &[Pair]) {
    put_varint(out, pairs.len() as u64);
    let mut last = (0, 0);
    for (key, value) in pairs {
        put_varint(out, u64::from(key - last.0));
        put_varint(out, u64::from(value - if *key == last.0 { last.1 } else { 0 }));
        last = (*key, *value);
    }
}

/// What [`put_pairs`] put.
pub fn read_pairs(reader: &mut Reader<'_>, name: &dyn Fn(Name) -> Name) -> Option<Vec<Pair>> {
    let count = reader.count()?;
    let mut last = (0u32, 0u32);
    let pair = |_| {
        let (more, value) = (reader.u32()?, reader.u32()?);
        last = match more {
            0 => (last.0, last.1.checked_add(value)?),
            more => (last.0.checked_add(more)?, value),
        };
        Some((name(last.0), name(last.1)))
    };
    (0..count).map(pair).collect()
}

/// Attributes of many rows. Each key with a value is a pair, and has a number: those that many rows have are bits of a
/// row, the others are listed.
#[derive(Default)]
pub struct Attributes {
    rows: Vec<Vec<Pair>>,
}

/// One row in so many, from which on a pair is a bit.
const COMMON: usize = 64;

/// What [`Attributes`] become.
pub struct AttributeColumns {
    /// The pairs by their numbers: the common ones by how many rows have them, then the others in order.
    pub pairs: Vec<u8>,
    /// Of each row, as many bytes as the common ones need bits.
    pub common: Vec<u8>,
    /// Of each row, how many others, and their numbers, each less the one before.
    pub others: Vec<u8>,
}

impl Attributes {
    pub fn add(&mut self, pairs: Vec<Pair>) {
        self.rows.push(pairs);
    }

    pub fn columns(self) -> AttributeColumns {
        let mut counts: FxHashMap<Pair, usize> = FxHashMap::default();
        for pair in self.rows.iter().flatten() {
            *counts.entry(*pair).or_default() += 1;
        }
        let is_common = |count: usize| count > 1 && count * COMMON >= self.rows.len();
        let (mut common, mut others): (Vec<_>, Vec<_>) = counts.into_iter().partition(|(_, count)| is_common(*count));
        common.sort_unstable_by_key(|(pair, count)| (std::cmp::Reverse(*count), *pair));
        others.sort_unstable_by_key(|(pair, _)| *pair);
        let ordered: Vec<Pair> = common.iter().chain(&others).map(|(pair, _)| *pair).collect();
        let numbers: FxHashMap<Pair, usize> = ordered.iter().copied().zip(0..).collect();
        let mut columns = AttributeColumns { pairs: Vec::new(), common: Vec::new(), others: Vec::new() };
        put_varint(&mut columns.pairs, common.len() as u64);
        for (key, value) in ordered.iter().take(common.len()) {
            put_varint(&mut columns.pairs, (*key).into());
            put_varint(&mut columns.pairs, (*value).into());
        }
        put_pairs(&mut columns.pairs, ordered.get(common.len()..).unwrap_or_default());
        let mut listed: Vec<usize> = Vec::new();
        for row in &self.rows {
            let first = columns.common.len();
            columns.common.resize(first + common.len().div_ceil(8), 0);
            listed.clear();
            for number in row.iter().filter_map(|pair| numbers.get(pair)) {
                match columns.common.get_mut(first + number / 8).filter(|_| *number < common.len()) {
                    Some(bits) => *bits |= 1 << (number % 8),
                    None => listed.push(number - common.len()),
                }
            }
            listed.sort_unstable();
            put_varint(&mut columns.others, listed.len() as u64);
            let mut last = 0;
            for number in &listed {
                put_varint(&mut columns.others, (number - last) as u64);
                last = *number;
            }
        }
        columns
    }
}

/// Reads [`AttributeColumns`].
pub struct AttributesReader<'a> {
    pairs: Vec<Pair>,
    count_common: usize,
    common: Reader<'a>,
    others: Reader<'a>,
}

impl<'a> AttributesReader<'a> {
    pub fn new([mut pairs, common, others]: [Reader<'a>; 3], name: &dyn Fn(Name) -> Name) -> Option<Self> {
        let count_common = pairs.count()?;
        let pair = |_| Some((name(pairs.u32()?), name(pairs.u32()?)));
        let mut read = (0..count_common).map(pair).collect::<Option<Vec<_>>>()?;
        read.extend(read_pairs(&mut pairs, name)?);
        Some(Self { pairs: read, count_common, common, others })
    }

    /// Those of the next row; nothing when they are not wanted, and then only read over.
    pub fn next(&mut self, is_wanted: bool) -> Option<Vec<Pair>> {
        let bits = self.common.bytes(self.count_common.div_ceil(8))?;
        let count = self.others.count()?;
        let mut attributes = Vec::new();
        if is_wanted {
            let common = bits.iter().map(|byte| byte.count_ones() as usize).sum::<usize>();
            attributes.reserve_exact(common + count);
            for (byte, first) in bits.iter().zip((0..).step_by(8)) {
                let mut rest = *byte;
                while rest != 0 {
                    attributes.push(*self.pairs.get(first + rest.trailing_zeros() as usize)?);
                    rest &= rest - 1;
                }
            }
        }
        let mut number = self.count_common;
        for _ in 0..count {
            number = number.checked_add(self.others.usize()?)?;
            if is_wanted {
                attributes.push(*self.pairs.get(number)?);
            }
        }
        Some(attributes)
    }
}

pub fn put_duration(out: &mut Vec<u8>, ns: u64) {
    put_varint(out, rounded(ns, DURATION));
}

pub fn read_duration(reader: &mut Reader<'_>) -> Option<u64> {
    Some(unrounded(reader.varint()?, DURATION))
}

/// A trace's duration as it is kept.
pub fn duration(ns: u64) -> u64 {
    unrounded(rounded(ns, DURATION), DURATION)
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
    let time = |numbers: &mut Reader<'_>| Some(unrounded(numbers.varint()?, SOME));
    let entry = operation(s)?;
    let is_rooted = s.varint()? == 1;
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
        row.dependencies.push(RowDependency { dependency, operation, critical_ns: 0, callers, depth });
    }
    for some in row.dependencies.chunks_mut(FLAGS) {
        read_sparse(numbers, &mut some.iter_mut().map(|found| &mut found.critical_ns).collect::<Vec<_>>())?;
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
            duration_ns: 0,
            blamed_ns: 0,
            before_ns: 0,
            between_ns: 0,
            after_ns: 0,
            wire_ns: 0,
            wire_out_ns: 0,
            sizes,
        };
        let RowParts { before_ns, between_ns, after_ns, wire_ns, wire_out_ns, .. } = &mut parts;
        read_sparse(numbers, &mut [before_ns, between_ns, after_ns, wire_ns, wire_out_ns])?;
        let bits = bits_of_parts(&parts);
        parts.duration_ns = unrounded(numbers.varint()?, bits);
        parts.blamed_ns = unrounded(numbers.varint()?, bits);
        for (_, size) in &mut parts.sizes {
            *size = read_size(numbers)?;
        }
        row.parts.push(parts);
    }
    let count = s.count()?;
    row.branches.reserve_exact(count);
    for _ in 0..count {
        row.branches.push(operation(s)?);
    }
    if count > 0 {
        let longest = numbers.usize()?;
        row.branches.get_mut(..=longest)?.rotate_right(1);
        row.branches.get_mut(1..)?.sort_unstable();
        row.longest_ns = unrounded(numbers.varint()?, LONGEST);
    }
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
    row.branches.iter().for_each(|branch| operation(*branch, visit));
    row.peers.iter().for_each(|(peer, _)| visit(*peer));
}
