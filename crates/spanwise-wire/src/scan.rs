//! The one pass at the door: validates an OTLP `ExportTraceServiceRequest` and indexes its spans.
//!
//! What it accepts, prost accepts, and every indexed field equals what prost decodes, with these differences, all
//! on purpose: unknown fields are kept by whoever slices; invalid UTF-8 is counted (and repaired by the caller)
//! instead of refused; a value nested too deeply or an id of a wrong length rejects its span instead of the request.
//! Shapes: <https://github.com/open-telemetry/opentelemetry-proto/tree/v1.9.0/opentelemetry/proto/trace/v1>.

use std::cell::Cell;

use spanwise_model::{Limits, SpanId, TraceId, limits};

use crate::batch::SpanRef;

/// Why bytes are not an OTLP request. `at` is the offset of the byte that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("cannot read OTLP: the message ends inside a field at byte {at}")]
    Truncated { at: usize },
    #[error("cannot read OTLP: overlong varint at byte {at}")]
    Varint { at: usize },
    #[error("cannot read OTLP: invalid field tag at byte {at}")]
    Tag { at: usize },
    #[error("cannot read OTLP: field {field} has wire type {wire} at byte {at}")]
    WireType { field: u32, wire: u8, at: usize },
    #[error("cannot read OTLP: unmatched or too deeply nested group at byte {at}")]
    Group { at: usize },
    #[error("request has more than {limit} spans")]
    TooManySpans { limit: usize },
    #[error("request has more than {limit} resources and scopes")]
    TooManyGroups { limit: usize },
    #[error("message of {bytes} bytes is larger than the limit of {limit} bytes")]
    TooLarge { bytes: usize, limit: usize },
    #[error("cannot read OTLP/JSON: {reason} at byte {at}")]
    Json { reason: &'static str, at: usize },
}

impl Malformed {
    /// A limit was exceeded (HTTP 413) rather than the bytes being unreadable (HTTP 400).
    pub fn is_limit(&self) -> bool {
        matches!(self, Malformed::TooManySpans { .. } | Malformed::TooManyGroups { .. } | Malformed::TooLarge { .. })
    }
}

/// Where the resource and scope headers lie in [`Scanned`]'s header buffers.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct HeaderRange {
    pub start: u32,
    pub len: u32,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct ScopeRef {
    pub resource: u32,
    pub header: HeaderRange,
}

/// What one pass found.
#[derive(Debug, Default)]
pub(crate) struct Scanned {
    pub spans: Vec<SpanRef>,
    pub scopes: Vec<ScopeRef>,
    pub resources: Vec<HeaderRange>,
    pub resource_headers: Vec<u8>,
    pub scope_headers: Vec<u8>,
    /// Spans left out of `spans`, by reason.
    pub rejected: Rejections,
    pub invalid_utf8: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Rejections {
    pub trace_id: u64,
    pub span_id: u64,
    pub parent_span_id: u64,
    pub depth: u64,
}

impl Rejections {
    pub fn total(&self) -> u64 {
        self.trace_id + self.span_id + self.parent_span_id + self.depth
    }
}

type Result<T> = std::result::Result<T, Malformed>;

const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const LEN: u8 = 2;
const GROUP_START: u8 = 3;
const GROUP_END: u8 = 4;
const FIXED32: u8 = 5;
/// Field 9 of a `Span`, length-delimited.
const ATTRIBUTE_TAG: u8 = 9 << 3 | LEN;

pub(crate) fn scan(bytes: &[u8], limits: &Limits) -> Result<Scanned> {
    if bytes.len() > limits.message_bytes || u32::try_from(bytes.len()).is_err() {
        return Err(Malformed::TooLarge { bytes: bytes.len(), limit: limits.message_bytes });
    }
    // Found spans gather where there is room already, then are copied into exactly what they need: an index that
    // grew by doubling would hold twice its size for as long as its batch waits.
    let gathered = GATHERED.take();
    let mut scan = Scan { bytes, limits, too_deep: false, out: Scanned { spans: gathered, ..Scanned::default() } };
    scan.request()?;
    let mut out = scan.out;
    let exact = out.spans.as_slice().to_vec();
    let mut gathered = std::mem::replace(&mut out.spans, exact);
    if gathered.capacity() <= GATHERED_SPANS {
        gathered.clear();
        GATHERED.set(gathered);
    }
    Ok(out)
}

thread_local! {
    static GATHERED: Cell<Vec<SpanRef>> = const { Cell::new(Vec::new()) };
}

/// What a thread keeps room for: 1 MiB.
const GATHERED_SPANS: usize = 16 << 10;

struct Scan<'a> {
    bytes: &'a [u8],
    limits: &'a Limits,
    /// Set by a value nested past the limit; read and cleared by the span, scope or resource that holds it.
    too_deep: bool,
    out: Scanned,
}

/// Reads one varint at `*at`, which must end before `end`.
#[inline(always)]
pub(crate) fn varint(bytes: &[u8], at: &mut usize, end: usize) -> Result<u64> {
    if *at < end
        && let Some(&byte) = bytes.get(*at)
        && byte < 0x80
    {
        *at += 1;
        return Ok(u64::from(byte));
    }
    varint_slow(bytes, at, end)
}

fn varint_slow(bytes: &[u8], at: &mut usize, end: usize) -> Result<u64> {
    let start = *at;
    let mut value = 0u64;
    for place in 0..10 {
        if *at >= end {
            return Err(Malformed::Truncated { at: *at });
        }
        let Some(&byte) = bytes.get(*at) else {
            return Err(Malformed::Truncated { at: *at });
        };
        *at += 1;
        // The tenth byte holds the topmost bit alone.
        if place == 9 && byte > 1 {
            return Err(Malformed::Varint { at: start });
        }
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(Malformed::Varint { at: start })
}

/// Field number and wire type. Numbers reach 2^29 - 1 and 0 is invalid.
#[inline(always)]
pub(crate) fn tag(bytes: &[u8], at: &mut usize, end: usize) -> Result<(u32, u8)> {
    // All of OTLP's fields but a span's flags (16) have a tag of one byte.
    if *at < end
        && let Some(&byte) = bytes.get(*at)
        && (0x08..0x80).contains(&byte)
        && byte & 7 <= FIXED32
    {
        *at += 1;
        return Ok((u32::from(byte >> 3), byte & 7));
    }
    tag_slow(bytes, at, end)
}

fn tag_slow(bytes: &[u8], at: &mut usize, end: usize) -> Result<(u32, u8)> {
    let start = *at;
    let key = varint(bytes, at, end)?;
    let number = u32::try_from(key).map_err(|_| Malformed::Tag { at: start })? >> 3;
    let wire = (key & 7) as u8;
    if number == 0 || wire > FIXED32 {
        return Err(Malformed::Tag { at: start });
    }
    Ok((number, wire))
}

/// Reads a length and returns the range of what it spans; `*at` moves behind it.
#[inline(always)]
pub(crate) fn length(bytes: &[u8], at: &mut usize, end: usize) -> Result<(usize, usize)> {
    let len = varint(bytes, at, end)?;
    let start = *at;
    match usize::try_from(len).ok().and_then(|len| start.checked_add(len)) {
        Some(stop) if stop <= end => {
            *at = stop;
            Ok((start, stop))
        }
        _ => Err(Malformed::Truncated { at: start }),
    }
}

#[inline(always)]
fn skip_bytes(at: &mut usize, end: usize, count: usize) -> Result<()> {
    if end - *at < count {
        return Err(Malformed::Truncated { at: *at });
    }
    *at += count;
    Ok(())
}

/// Moves behind a field of any number; `*at` is behind its tag.
pub(crate) fn skip(bytes: &[u8], number: u32, wire: u8, at: &mut usize, end: usize) -> Result<()> {
    skip_nested(bytes, number, wire, at, end, 0)
}

fn skip_nested(bytes: &[u8], number: u32, wire: u8, at: &mut usize, end: usize, depth: usize) -> Result<()> {
    match wire {
        VARINT => varint(bytes, at, end).map(drop),
        FIXED64 => skip_bytes(at, end, 8),
        LEN => length(bytes, at, end).map(drop),
        FIXED32 => skip_bytes(at, end, 4),
        GROUP_START if depth < limits::GROUP_DEPTH => loop {
            let start = *at;
            let (inner, wire) = tag(bytes, at, end)?;
            if wire == GROUP_END {
                return if inner == number { Ok(()) } else { Err(Malformed::Group { at: start }) };
            }
            skip_nested(bytes, inner, wire, at, end, depth + 1)?;
        },
        _ => Err(Malformed::Group { at: *at }),
    }
}

/// Whether `text` is UTF-8; nearly all telemetry text is ASCII and short.
#[inline]
fn is_utf8(text: &[u8]) -> bool {
    is_ascii(text) || simdutf8::basic::from_utf8(text).is_ok()
}

/// Eight bytes at a time, the end once more and overlapping rather than byte by byte.
#[inline(always)]
fn is_ascii(text: &[u8]) -> bool {
    const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
    let mut high = 0u64;
    if let Some(last) = text.last_chunk::<8>() {
        for word in text.as_chunks::<8>().0 {
            high |= u64::from_le_bytes(*word);
        }
        high |= u64::from_le_bytes(*last);
    } else if let (Some(first), Some(last)) = (text.first_chunk::<4>(), text.last_chunk::<4>()) {
        high = u64::from(u32::from_le_bytes(*first) | u32::from_le_bytes(*last));
    } else {
        for byte in text {
            high |= u64::from(*byte);
        }
    }
    high & HIGH_BITS == 0
}

/// Whether the body of a `KeyValue` is what nearly all are: a key, then a value that is a text or a number, in this
/// order, each once, below 128 bytes, ASCII. Such a one is valid; any other is looked at field by field.
#[inline(always)]
fn is_plain(body: &[u8]) -> bool {
    let [0x0a, key_len, rest @ ..] = body else { return false };
    let Some((key, [0x12, value_len, value @ ..])) = rest.split_at_checked(usize::from(*key_len)) else { return false };
    if *key_len >= 0x80 || usize::from(*value_len) != value.len() || *value_len >= 0x80 || !is_ascii(key) {
        return false;
    }
    match value {
        [0x0a, len, text @ ..] => usize::from(*len) == text.len() && is_ascii(text),
        // A bool or an integer: a varint, which is surely in range below ten bytes.
        [0x10 | 0x18, head @ .., last] => *last < 0x80 && head.len() < 9 && head.iter().all(|byte| *byte >= 0x80),
        _ => false,
    }
}

/// Reads a little-endian number whose bounds the caller has checked.
#[inline(always)]
fn fixed64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|slice| slice.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// Protobuf enums are 32 bits wide: what a varint holds above them is cut off. 0 for numbers beyond a byte.
#[inline(always)]
fn small_enum(varint: u64) -> u8 {
    u8::try_from(varint & u64::from(u32::MAX)).unwrap_or(0)
}

impl Scan<'_> {
    #[inline(always)]
    fn tag(&self, at: &mut usize, end: usize) -> Result<(u32, u8)> {
        tag(self.bytes, at, end)
    }

    #[inline(always)]
    fn expect(&self, field: u32, wire: u8, expected: u8, at: usize) -> Result<()> {
        if wire == expected { Ok(()) } else { Err(Malformed::WireType { field, wire, at }) }
    }

    #[inline(always)]
    fn uint(&self, field: u32, wire: u8, at: &mut usize, end: usize) -> Result<u64> {
        self.expect(field, wire, VARINT, *at)?;
        varint(self.bytes, at, end)
    }

    #[inline(always)]
    fn fixed64(&self, field: u32, wire: u8, at: &mut usize, end: usize) -> Result<u64> {
        self.expect(field, wire, FIXED64, *at)?;
        let start = *at;
        skip_bytes(at, end, 8)?;
        Ok(fixed64_at(self.bytes, start))
    }

    #[inline(always)]
    fn fixed32(&self, field: u32, wire: u8, at: &mut usize, end: usize) -> Result<()> {
        self.expect(field, wire, FIXED32, *at)?;
        skip_bytes(at, end, 4)
    }

    #[inline(always)]
    fn len(&self, field: u32, wire: u8, at: &mut usize, end: usize) -> Result<(usize, usize)> {
        self.expect(field, wire, LEN, *at)?;
        length(self.bytes, at, end)
    }

    #[inline(always)]
    fn string(&mut self, field: u32, wire: u8, at: &mut usize, end: usize) -> Result<()> {
        let (start, stop) = self.len(field, wire, at, end)?;
        if !self.bytes.get(start..stop).is_some_and(is_utf8) {
            self.out.invalid_utf8 += 1;
        }
        Ok(())
    }

    fn request(&mut self) -> Result<()> {
        let (mut at, end) = (0, self.bytes.len());
        while at < end {
            let (number, wire) = self.tag(&mut at, end)?;
            match number {
                1 => {
                    let (start, stop) = self.len(number, wire, &mut at, end)?;
                    self.resource_spans(start, stop)?;
                }
                _ => skip(self.bytes, number, wire, &mut at, end)?,
            }
        }
        Ok(())
    }

    fn count_group(&self) -> Result<()> {
        if self.out.resources.len() + self.out.scopes.len() >= self.limits.groups {
            return Err(Malformed::TooManyGroups { limit: self.limits.groups });
        }
        Ok(())
    }

    fn resource_spans(&mut self, mut at: usize, end: usize) -> Result<()> {
        self.count_group()?;
        let resource = self.out.resources.len() as u32;
        let header_start = self.out.resource_headers.len();
        self.out.resources.push(HeaderRange::default());
        let first_span = self.out.spans.len();
        let mut resource_too_deep = false;
        while at < end {
            let field_start = at;
            let (number, wire) = self.tag(&mut at, end)?;
            match number {
                2 => {
                    let (start, stop) = self.len(number, wire, &mut at, end)?;
                    self.scope_spans(resource, start, stop)?;
                    continue;
                }
                1 => {
                    let (start, stop) = self.len(number, wire, &mut at, end)?;
                    self.resource(start, stop)?;
                    resource_too_deep |= std::mem::take(&mut self.too_deep);
                }
                3 => self.string(number, wire, &mut at, end)?,
                _ => skip(self.bytes, number, wire, &mut at, end)?,
            }
            let bytes = self.bytes;
            self.out.resource_headers.extend_from_slice(bytes.get(field_start..at).unwrap_or_default());
        }
        let len = self.out.resource_headers.len() - header_start;
        if let Some(range) = self.out.resources.last_mut() {
            *range = HeaderRange { start: header_start as u32, len: len as u32 };
        }
        if resource_too_deep {
            self.reject_from(first_span);
        }
        Ok(())
    }

    /// Spans under a resource or scope that cannot be kept go with it.
    fn reject_from(&mut self, first_span: usize) {
        self.out.rejected.depth += (self.out.spans.len() - first_span) as u64;
        self.out.spans.truncate(first_span);
    }

    fn scope_spans(&mut self, resource: u32, mut at: usize, end: usize) -> Result<()> {
        self.count_group()?;
        let scope = self.out.scopes.len() as u32;
        let header_start = self.out.scope_headers.len();
        self.out.scopes.push(ScopeRef { resource, header: HeaderRange::default() });
        let first_span = self.out.spans.len();
        let mut scope_too_deep = false;
        while at < end {
            let field_start = at;
            let (number, wire) = self.tag(&mut at, end)?;
            match number {
                2 => {
                    let (start, stop) = self.len(number, wire, &mut at, end)?;
                    self.span(scope, start, stop)?;
                    continue;
                }
                1 => {
                    let (start, stop) = self.len(number, wire, &mut at, end)?;
                    self.scope(start, stop)?;
                    scope_too_deep |= std::mem::take(&mut self.too_deep);
                }
                3 => self.string(number, wire, &mut at, end)?,
                _ => skip(self.bytes, number, wire, &mut at, end)?,
            }
            let bytes = self.bytes;
            self.out.scope_headers.extend_from_slice(bytes.get(field_start..at).unwrap_or_default());
        }
        let len = self.out.scope_headers.len() - header_start;
        if let Some(scope) = self.out.scopes.last_mut() {
            scope.header = HeaderRange { start: header_start as u32, len: len as u32 };
        }
        if scope_too_deep {
            self.reject_from(first_span);
        }
        Ok(())
    }

    fn resource(&mut self, mut at: usize, end: usize) -> Result<()> {
        while at < end {
            let (number, wire) = self.tag(&mut at, end)?;
            match number {
                1 => self.attribute(number, wire, &mut at, end)?,
                2 => self.uint(number, wire, &mut at, end).map(drop)?,
                3 => {
                    let (start, stop) = self.len(number, wire, &mut at, end)?;
                    self.entity_ref(start, stop)?;
                }
                _ => skip(self.bytes, number, wire, &mut at, end)?,
            }
        }
        Ok(())
    }

    fn entity_ref(&mut self, mut at: usize, end: usize) -> Result<()> {
        while at < end {
            let (number, wire) = self.tag(&mut at, end)?;
            match number {
                1..=4 => self.string(number, wire, &mut at, end)?,
                _ => skip(self.bytes, number, wire, &mut at, end)?,
            }
        }
        Ok(())
    }

    fn scope(&mut self, mut at: usize, end: usize) -> Result<()> {
        while at < end {
            let (number, wire) = self.tag(&mut at, end)?;
            match number {
                1 | 2 => self.string(number, wire, &mut at, end)?,
                3 => self.attribute(number, wire, &mut at, end)?,
                4 => self.uint(number, wire, &mut at, end).map(drop)?,
                _ => skip(self.bytes, number, wire, &mut at, end)?,
            }
        }
        Ok(())
    }

    fn span(&mut self, scope: u32, start: usize, end: usize) -> Result<()> {
        if self.out.spans.len() as u64 + self.out.rejected.total() >= self.limits.spans as u64 {
            return Err(Malformed::TooManySpans { limit: self.limits.spans });
        }
        let (mut trace_id, mut span_id, mut parent) = ((0, 0), (0, 0), (0, 0));
        let mut span = SpanRef { offset: start as u32, len: (end - start) as u32, scope, ..SpanRef::default() };
        let mut at = start;
        while at < end {
            // Half of all fields are attributes, one behind the other: told by a branch that is foreseen, not by a jump.
            if self.bytes.get(at) == Some(&ATTRIBUTE_TAG) {
                at += 1;
                self.attribute(9, LEN, &mut at, end)?;
                continue;
            }
            let (number, wire) = self.tag(&mut at, end)?;
            match number {
                1 => trace_id = self.len(number, wire, &mut at, end)?,
                2 => span_id = self.len(number, wire, &mut at, end)?,
                4 => parent = self.len(number, wire, &mut at, end)?,
                3 | 5 => self.string(number, wire, &mut at, end)?,
                6 => span.kind = small_enum(self.uint(number, wire, &mut at, end)?),
                7 => span.start_unix_nano = self.fixed64(number, wire, &mut at, end)?,
                8 => span.end_unix_nano = self.fixed64(number, wire, &mut at, end)?,
                9 => self.attribute(number, wire, &mut at, end)?,
                10 | 12 | 14 => self.uint(number, wire, &mut at, end).map(drop)?,
                11 => {
                    let (start, stop) = self.len(number, wire, &mut at, end)?;
                    self.event(start, stop)?;
                }
                13 => {
                    let (start, stop) = self.len(number, wire, &mut at, end)?;
                    self.link(start, stop)?;
                }
                15 => {
                    let (start, stop) = self.len(number, wire, &mut at, end)?;
                    self.status(&mut span, start, stop)?;
                }
                16 => self.fixed32(number, wire, &mut at, end)?,
                _ => skip(self.bytes, number, wire, &mut at, end)?,
            }
        }
        if span.kind > 5 {
            span.kind = 0;
        }
        self.admit(span, trace_id, span_id, parent);
        Ok(())
    }

    /// Puts a well-formed span into the index, or counts why it cannot be kept.
    fn admit(&mut self, mut span: SpanRef, trace_id: (usize, usize), span_id: (usize, usize), parent: (usize, usize)) {
        let slice = |(start, stop): (usize, usize)| self.bytes.get(start..stop).unwrap_or_default();
        let trace_id = TraceId::from_slice(slice(trace_id)).filter(|id| !id.is_zero());
        let span_id = SpanId::from_slice(slice(span_id)).filter(|id| !id.is_zero());
        let parent = slice(parent);
        let rejected = &mut self.out.rejected;
        let Some(trace_id) = trace_id else {
            rejected.trace_id += 1;
            self.too_deep = false;
            return;
        };
        let Some(span_id) = span_id else {
            rejected.span_id += 1;
            self.too_deep = false;
            return;
        };
        if std::mem::take(&mut self.too_deep) {
            rejected.depth += 1;
            return;
        }
        span.parent_span_id = match SpanId::from_slice(parent) {
            Some(parent) => parent,
            None if parent.is_empty() => SpanId::default(),
            None => {
                rejected.parent_span_id += 1;
                return;
            }
        };
        span.trace_id = trace_id;
        span.span_id = span_id;
        self.out.spans.push(span);
    }

    fn status(&mut self, span: &mut SpanRef, mut at: usize, end: usize) -> Result<()> {
        while at < end {
            let (number, wire) = self.tag(&mut at, end)?;
            match number {
                2 => self.string(number, wire, &mut at, end)?,
                3 => {
                    let code = self.uint(number, wire, &mut at, end)?;
                    span.status = Some(small_enum(code)).filter(|code| *code <= 2).unwrap_or(0);
                }
                _ => skip(self.bytes, number, wire, &mut at, end)?,
            }
        }
        Ok(())
    }

    fn event(&mut self, mut at: usize, end: usize) -> Result<()> {
        while at < end {
            let (number, wire) = self.tag(&mut at, end)?;
            match number {
                1 => self.fixed64(number, wire, &mut at, end).map(drop)?,
                2 => self.string(number, wire, &mut at, end)?,
                3 => self.attribute(number, wire, &mut at, end)?,
                4 => self.uint(number, wire, &mut at, end).map(drop)?,
                _ => skip(self.bytes, number, wire, &mut at, end)?,
            }
        }
        Ok(())
    }

    fn link(&mut self, mut at: usize, end: usize) -> Result<()> {
        while at < end {
            let (number, wire) = self.tag(&mut at, end)?;
            match number {
                1 | 2 => self.len(number, wire, &mut at, end).map(drop)?,
                3 => self.string(number, wire, &mut at, end)?,
                4 => self.attribute(number, wire, &mut at, end)?,
                5 => self.uint(number, wire, &mut at, end).map(drop)?,
                6 => self.fixed32(number, wire, &mut at, end)?,
                _ => skip(self.bytes, number, wire, &mut at, end)?,
            }
        }
        Ok(())
    }

    #[inline]
    fn attribute(&mut self, number: u32, wire: u8, at: &mut usize, end: usize) -> Result<()> {
        let (start, stop) = self.len(number, wire, at, end)?;
        if self.bytes.get(start..stop).is_some_and(is_plain) {
            return Ok(());
        }
        self.key_value(start, stop, limits::VALUE_DEPTH)
    }

    /// `depth` levels of values may still follow.
    fn key_value(&mut self, mut at: usize, end: usize, depth: usize) -> Result<()> {
        while at < end {
            let (number, wire) = self.tag(&mut at, end)?;
            match number {
                1 => self.string(number, wire, &mut at, end)?,
                2 => {
                    let (start, stop) = self.len(number, wire, &mut at, end)?;
                    self.any_value(start, stop, depth)?;
                }
                3 => self.uint(number, wire, &mut at, end).map(drop)?,
                _ => skip(self.bytes, number, wire, &mut at, end)?,
            }
        }
        Ok(())
    }

    fn any_value(&mut self, mut at: usize, end: usize, depth: usize) -> Result<()> {
        if depth == 0 {
            self.too_deep = true;
            return Ok(());
        }
        while at < end {
            let (number, wire) = self.tag(&mut at, end)?;
            match number {
                1 => self.string(number, wire, &mut at, end)?,
                2 | 3 | 8 => self.uint(number, wire, &mut at, end).map(drop)?,
                4 => self.fixed64(number, wire, &mut at, end).map(drop)?,
                5 | 6 => {
                    let (start, stop) = self.len(number, wire, &mut at, end)?;
                    self.values(number, start, stop, depth - 1)?;
                }
                7 => self.len(number, wire, &mut at, end).map(drop)?,
                _ => skip(self.bytes, number, wire, &mut at, end)?,
            }
        }
        Ok(())
    }

    /// The body of an `ArrayValue` (`kind` 5) or a `KeyValueList` (`kind` 6).
    fn values(&mut self, kind: u32, mut at: usize, end: usize, depth: usize) -> Result<()> {
        while at < end {
            let (number, wire) = self.tag(&mut at, end)?;
            match number {
                1 => {
                    let (start, stop) = self.len(number, wire, &mut at, end)?;
                    if kind == 5 {
                        self.any_value(start, stop, depth)?;
                    } else {
                        self.key_value(start, stop, depth)?;
                    }
                }
                _ => skip(self.bytes, number, wire, &mut at, end)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: [&[u8]; 6] = [
        b"\x0a\x04user\x12\x06\x0a\x04u-17",
        b"\x0a\x00\x12\x02\x0a\x00",
        b"\x0a\x09thread.id\x12\x02\x18\x07",
        b"\x0a\x01n\x12\x0a\x18\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x0a\x03hit\x12\x02\x10\x01",
        b"\x0a\x08url.full\x12\x15\x0a\x13http://cart.shop/12",
    ];

    /// A body as the one attribute of a valid span, or scanned field by field.
    fn slow(body: &[u8]) -> Result<(u64, bool)> {
        let limits = Limits::default();
        let mut scan = Scan { bytes: body, limits: &limits, too_deep: false, out: Scanned::default() };
        scan.key_value(0, body.len(), limits::VALUE_DEPTH)?;
        Ok((scan.out.invalid_utf8, scan.too_deep))
    }

    #[test]
    fn what_is_plain_is_valid_whatever_is_changed_in_it() {
        let mut plain = 0;
        for body in PLAIN {
            for at in 0..body.len() {
                for byte in 0..=255 {
                    let mut changed = body.to_vec();
                    changed[at] = byte;
                    for end in [body.len(), at] {
                        let changed = &changed[..end];
                        if is_plain(changed) {
                            plain += 1;
                            assert_eq!(slow(changed), Ok((0, false)), "{changed:x?}");
                        }
                    }
                }
            }
        }
        assert!(plain > 5_000, "{plain}");
    }

    #[test]
    fn attributes_as_sdks_send_them_are_plain() {
        for body in PLAIN {
            assert!(is_plain(body), "{body:x?}");
        }
        let not_ascii = "\x0a\x04user\x12\x06\x0a\x04ü-1".as_bytes();
        let twice = b"\x0a\x01k\x0a\x01k\x12\x02\x18\x07";
        let eleven = b"\x0a\x01n\x12\x0b\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
        for body in [not_ascii, twice, eleven, b"", b"\x0a", b"\x0a\x01k"] {
            assert!(!is_plain(body), "{body:x?}");
        }
    }

    #[test]
    fn ascii_is_told_at_every_length() {
        for len in 0..40 {
            let text = vec![b'a'; len];
            assert!(is_ascii(&text));
            for at in 0..len {
                let mut text = text.clone();
                text[at] = 0x80;
                assert!(!is_ascii(&text), "{at} of {len}");
            }
        }
    }
}
