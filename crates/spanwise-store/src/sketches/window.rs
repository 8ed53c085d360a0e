//! The counts of a window: those of all blocks and heads, put together.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use spanwise_insight::minutes::{Bounds, KINDS, Key, Kind, Minutes, NOBODY, NodeKind, OTHER};
use spanwise_insight::names::{Name, Names};
use spanwise_model::TraceId;
use spanwise_wire::Batch;

use super::{Asked, has_two_names};
use crate::block::{BlockError, BlockReader, sketch};
use crate::head::{Head, Sketched};
use crate::merge::merge;
use crate::snapshot::{Part, Snapshot};

/// Traces of blocks without sketches that are counted at a time, and spans of a head.
const TRACES: usize = 4096;
const SPANS: usize = 16 << 10;

/// Adds to `into` what is asked, with names of `names`; `false` when `is_over` said so before the end.
///
/// # Errors
/// When a block cannot be read.
pub fn collect(
    snapshot: &Snapshot,
    asked: &Asked<'_>,
    names: &mut Names,
    into: &mut Minutes,
    is_over: &dyn Fn() -> bool,
) -> Result<bool, BlockError> {
    let mut without: Vec<&BlockReader> = Vec::new();
    for (_, block) in snapshot.blocks.iter() {
        match block.sketches().map(|sketches| sketches.add_to(asked, names, into)) {
            Some(Ok(())) => {}
            Some(Err(error @ BlockError::Corrupt { .. })) => {
                tracing::error!(%error, "sketches of a block are damaged: counts are told from its spans");
                without.push(block);
            }
            Some(Err(error)) => return Err(error),
            None => without.push(block),
        }
        if is_over() {
            return Ok(false);
        }
    }
    let mut is_whole = true;
    if !without.is_empty() {
        let mut minutes = Minutes::new(Bounds::ANSWER);
        is_whole &= of_spans(snapshot, &without, names, &mut minutes, is_over)?;
        for kind in KINDS {
            for (key, cell) in minutes.sorted(kind) {
                if let Some(key) = asked.key(key) {
                    into.merge(key, cell);
                }
            }
        }
    }
    for number in 0..snapshot.heads.len() {
        is_whole &= of_head(snapshot, number, asked, names, into, is_over)?;
    }
    Ok(is_whole)
}

/// What these blocks have by themselves: none of their spans is counted elsewhere.
fn of_spans(
    snapshot: &Snapshot,
    blocks: &[&BlockReader],
    names: &mut Names,
    minutes: &mut Minutes,
    is_over: &dyn Fn() -> bool,
) -> Result<bool, BlockError> {
    let is_meant = |part: &Part<'_>| match part {
        Part::Head(_) => false,
        Part::Block(block) => blocks.iter().any(|other| other.id == block.id),
    };
    let mut traces = Vec::with_capacity(TRACES);
    let mut is_whole = true;
    let mut count = |traces: &mut Vec<Batch>| -> Result<bool, BlockError> {
        let counted = sketch(traces, &|_| Ok(None), names, minutes, is_over)?;
        traces.clear();
        Ok(counted && !is_over())
    };
    for item in snapshot.traces_in_parts(0, u64::MAX, is_meant)? {
        traces.push(item?);
        if traces.len() == TRACES {
            is_whole = count(&mut traces)?;
            if !is_whole {
                return Ok(false);
            }
        }
    }
    Ok(is_whole && count(&mut traces)?)
}

/// What a head has beside blocks and earlier heads; new spans of it are counted first.
fn of_head(
    snapshot: &Snapshot,
    number: usize,
    asked: &Asked<'_>,
    names: &mut Names,
    into: &mut Minutes,
    is_over: &dyn Fn() -> bool,
) -> Result<bool, BlockError> {
    let Some((head, earlier)) = snapshot.heads.get(..=number).and_then(<[_]>::split_last) else { return Ok(true) };
    let mut sketched = head.sketched.lock();
    let counted = count_new(snapshot, earlier, head, &mut sketched, is_over);
    if counted.is_err() {
        // Some of a trace may have been counted.
        *sketched = Sketched::default();
    }
    let is_whole = counted?;
    let mut known: FxHashMap<Name, Name> = FxHashMap::default();
    let own = &sketched.names;
    let mut name_of = |name: Name| match name {
        NOBODY | OTHER => name,
        name => *known.entry(name).or_insert_with(|| names.number(own.text(name))),
    };
    for kind in asked.kinds {
        for (key, cell) in sketched.minutes.sorted(*kind) {
            if let Some(key) = asked.key(key) {
                into.merge(renamed(key, &mut name_of), cell);
            }
        }
    }
    Ok(is_whole)
}

fn count_new(
    snapshot: &Snapshot,
    earlier: &[Arc<Head>],
    head: &Head,
    sketched: &mut Sketched,
    is_over: &dyn Fn() -> bool,
) -> Result<bool, BlockError> {
    loop {
        let before = sketched.batches;
        let batches = head.batches_from(before, SPANS);
        if batches.is_empty() {
            return Ok(true);
        }
        if is_over() {
            return Ok(false);
        }
        let elsewhere = |id: &TraceId| -> Result<Option<Batch>, BlockError> {
            let mut parts = Vec::new();
            for (_, block) in snapshot.blocks.iter().filter(|(_, block)| block.first_row(id).is_some()) {
                parts.extend(block.trace(id)?);
            }
            parts.extend(earlier.iter().flat_map(|head| head.trace(id)));
            parts.extend(head.trace_before(id, before));
            Ok(merge(parts))
        };
        let Sketched { names, minutes, .. } = sketched;
        sketch(&batches, &elsewhere, names, minutes, &|| false)?;
        sketched.batches += batches.len();
    }
}

fn renamed(key: Key, name_of: &mut dyn FnMut(Name) -> Name) -> Key {
    let c = match key.kind {
        Kind::Edge => {
            let (kind, system) = NodeKind::of_code(key.c);
            kind.code(system.map(&mut *name_of))
        }
        _ => key.c,
    };
    Key { a: name_of(key.a), b: if has_two_names(key.kind) { name_of(key.b) } else { 0 }, c, ..key }
}
