//! Slicing without decoding: requests are put together again from spans and the headers they stood under.

use std::hash::BuildHasher;

use bytes::Bytes;
use rustc_hash::{FxBuildHasher, FxHashMap};

use crate::batch::{Batch, Index, SpanRef};
use crate::encode::{len_field_size, put_len_prefix};
use crate::scan::{HeaderRange, ScopeRef};

/// One span and what stands above it, all as bytes: see [`Batch::resource_header`] and [`Batch::scope_header`].
#[derive(Debug, Clone, Copy)]
pub struct Piece<'a> {
    pub resource: &'a [u8],
    pub scope: &'a [u8],
    pub span: &'a [u8],
}

/// Resource and scope header.
type Headers<'a> = (&'a [u8], &'a [u8]);

struct ResourceGroup<'a> {
    header: &'a [u8],
    scopes: Vec<ScopeGroup<'a>>,
}

struct ScopeGroup<'a> {
    header: &'a [u8],
    spans: Vec<&'a [u8]>,
    /// Bytes of the spans with their tags and lengths.
    spans_size: usize,
}

impl ScopeGroup<'_> {
    fn body_size(&self) -> usize {
        self.header.len() + self.spans_size
    }
}

impl ResourceGroup<'_> {
    fn body_size(&self) -> usize {
        self.header.len() + self.scopes.iter().map(|scope| len_field_size(2, scope.body_size())).sum::<usize>()
    }
}

/// An OTLP request of these spans. Pieces with equal headers share one `ResourceSpans` and `ScopeSpans`; groups and
/// spans keep the order in which they came first.
pub fn frame<'a>(pieces: impl IntoIterator<Item = Piece<'a>>) -> Vec<u8> {
    let groups = group(pieces);
    let size = groups.iter().map(|group| len_field_size(1, group.body_size())).sum();
    let mut out = Vec::with_capacity(size);
    for resource in &groups {
        put_len_prefix(&mut out, 1, resource.body_size());
        out.extend_from_slice(resource.header);
        for scope in &resource.scopes {
            put_len_prefix(&mut out, 2, scope.body_size());
            out.extend_from_slice(scope.header);
            for span in &scope.spans {
                put_len_prefix(&mut out, 2, span.len());
                out.extend_from_slice(span);
            }
        }
    }
    debug_assert_eq!(out.len(), size);
    out
}

fn group<'a>(pieces: impl IntoIterator<Item = Piece<'a>>) -> Vec<ResourceGroup<'a>> {
    let mut groups: Vec<ResourceGroup<'a>> = Vec::new();
    let mut places: FxHashMap<Headers<'a>, (usize, usize)> = FxHashMap::default();
    let mut resources: FxHashMap<&'a [u8], usize> = FxHashMap::default();
    let mut last: Option<(Piece<'a>, (usize, usize))> = None;
    for piece in pieces {
        let place = match last {
            Some((previous, place)) if same_headers(&previous, &piece) => place,
            _ => *places.entry((piece.resource, piece.scope)).or_insert_with(|| {
                let resource = *resources.entry(piece.resource).or_insert_with(|| {
                    groups.push(ResourceGroup { header: piece.resource, scopes: Vec::new() });
                    groups.len() - 1
                });
                let scopes = &mut groups[resource].scopes;
                scopes.push(ScopeGroup { header: piece.scope, spans: Vec::new(), spans_size: 0 });
                (resource, scopes.len() - 1)
            }),
        };
        last = Some((piece, place));
        let scope = &mut groups[place.0].scopes[place.1];
        scope.spans.push(piece.span);
        scope.spans_size += len_field_size(2, piece.span.len());
    }
    groups
}

/// By address first: neighbours nearly always come from the same request.
fn same_headers(a: &Piece<'_>, b: &Piece<'_>) -> bool {
    (std::ptr::eq(a.resource, b.resource) && std::ptr::eq(a.scope, b.scope))
        || (a.resource == b.resource && a.scope == b.scope)
}

/// One batch of all spans, in order. The bytes are the requests' own, one behind the other, which protobuf reads as
/// one message; the index is shifted, nothing is scanned. `None` when the sum passes 4 GiB.
pub fn concat(batches: &[Batch]) -> Option<Batch> {
    if let [single] = batches {
        return Some(single.clone());
    }
    let total: usize = batches.iter().map(|batch| batch.bytes().len()).sum();
    u32::try_from(total).ok()?;
    let mut bytes = Vec::with_capacity(total);
    let mut index = Index { spans: Vec::with_capacity(batches.iter().map(Batch::len_spans).sum()), ..Index::default() };
    for batch in batches {
        append_index(&mut index, batch.index(), bytes.len() as u32);
        bytes.extend_from_slice(batch.bytes());
    }
    Some(Batch::from_parts(Bytes::from(bytes), index))
}

fn append_index(into: &mut Index, from: &Index, bytes_before: u32) {
    let (resources, scopes) = (into.resources.len() as u32, into.scopes.len() as u32);
    let (resource_bytes, scope_bytes) = (into.resource_headers.len() as u32, into.scope_headers.len() as u32);
    let shift = |range: HeaderRange, by: u32| HeaderRange { start: range.start + by, len: range.len };
    into.resources.extend(from.resources.iter().map(|range| shift(*range, resource_bytes)));
    into.scopes.extend(
        from.scopes
            .iter()
            .map(|scope| ScopeRef { resource: scope.resource + resources, header: shift(scope.header, scope_bytes) }),
    );
    into.spans.extend(from.spans.iter().map(|span| SpanRef {
        offset: span.offset + bytes_before,
        scope: span.scope + scopes,
        ..*span
    }));
    into.resource_headers.extend_from_slice(&from.resource_headers);
    into.scope_headers.extend_from_slice(&from.scope_headers);
}

/// A batch of the spans at these places, in this order. Places that do not exist are passed over.
pub fn select(batch: &Batch, places: &[usize]) -> Batch {
    let chosen = places.iter().filter(|place| **place < batch.len_spans());
    rebuild(chosen.map(|place| batch.piece(*place)))
}

/// Batches of at most `max_spans` spans each, in order.
pub fn split_by_count(batch: &Batch, max_spans: usize) -> Vec<Batch> {
    let max_spans = max_spans.max(1);
    if batch.len_spans() <= max_spans {
        return vec![batch.clone()];
    }
    (0..batch.len_spans())
        .step_by(max_spans)
        .map(|start| {
            let end = (start + max_spans).min(batch.len_spans());
            rebuild((start..end).map(|place| batch.piece(place)))
        })
        .collect()
}

/// One batch for each trace, in order of first appearance.
pub fn split_by_trace(batch: &Batch) -> Vec<Batch> {
    let mut order: Vec<Vec<usize>> = Vec::new();
    let mut places: FxHashMap<_, usize> = FxHashMap::default();
    for (i, span) in batch.spans().iter().enumerate() {
        let place = *places.entry(span.trace_id).or_insert_with(|| {
            order.push(Vec::new());
            order.len() - 1
        });
        order[place].push(i);
    }
    order.iter().map(|places| select(batch, places)).collect()
}

/// A batch of pieces of validated batches.
pub fn rebuild<'a>(pieces: impl IntoIterator<Item = Piece<'a>>) -> Batch {
    match Batch::from_trusted(Bytes::from(frame(pieces))) {
        Ok(batch) => batch,
        // Pieces come out of validated batches, so their frame is one; an empty batch keeps the process alive.
        Err(error) => {
            debug_assert!(false, "frame of validated pieces is malformed: {error}");
            Batch::from_parts(Bytes::new(), Index::default())
        }
    }
}

/// Which of `shards` a trace belongs to: stable within a process, spread by all 16 bytes.
pub fn shard_of(trace_id: &spanwise_model::TraceId, shards: usize) -> usize {
    (FxBuildHasher.hash_one(trace_id) % shards.max(1) as u64) as usize
}
