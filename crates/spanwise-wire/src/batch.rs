//! The unit of the data plane: a validated OTLP request, as bytes and index.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use spanwise_model::{Limits, SpanId, TraceId};

use crate::frame::{Piece, frame};
use crate::inflate::Encoding;
use crate::repair::repair;
use crate::scan::{HeaderRange, Malformed, Rejections, Scanned, ScopeRef, scan};

/// What later stages need of a span without reading its bytes again: 64 bytes a span.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpanRef {
    /// Where the body of the `Span` message begins in the request, and its length.
    pub offset: u32,
    pub len: u32,
    /// Index of the scope it stands under: see [`Batch::scope_header`].
    pub scope: u32,
    pub trace_id: TraceId,
    pub span_id: SpanId,
    /// All-zero when the span has no parent.
    pub parent_span_id: SpanId,
    pub start_unix_nano: u64,
    pub end_unix_nano: u64,
    /// 0 to 5 as [`spanwise_model::SpanKind`]; other numbers on the wire read as 0 here and stay in the bytes.
    pub kind: u8,
    /// 0 to 2 as [`spanwise_model::StatusCode`].
    pub status: u8,
}

impl SpanRef {
    /// Nanoseconds; 0 when the clock ran backwards.
    pub fn duration_ns(&self) -> u64 {
        self.end_unix_nano.saturating_sub(self.start_unix_nano)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Index {
    pub spans: Vec<SpanRef>,
    pub scopes: Vec<ScopeRef>,
    pub resources: Vec<HeaderRange>,
    pub resource_headers: Vec<u8>,
    pub scope_headers: Vec<u8>,
}

/// A request body as the sender compressed it.
#[derive(Debug, Clone)]
pub struct Compressed {
    pub encoding: Encoding,
    pub bytes: Bytes,
}

/// Validated OTLP `ExportTraceServiceRequest` bytes and their index. Cloning counts references.
#[derive(Debug, Clone)]
pub struct Batch {
    bytes: Bytes,
    index: Arc<Index>,
    compressed: Option<Compressed>,
}

/// Spans that were left out of a batch, and a sentence for `partial_success`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rejected {
    pub spans: u64,
    pub message: String,
}

/// A request after the door: what is kept of it, and what was not.
#[derive(Debug, Clone)]
pub struct Parsed {
    pub batch: Batch,
    pub rejected: Rejected,
    /// Texts whose invalid UTF-8 was replaced by U+FFFD.
    pub repaired_strings: u64,
}

impl Parsed {
    /// The batch is byte for byte what was sent.
    pub fn is_verbatim(&self) -> bool {
        self.rejected.spans == 0 && self.repaired_strings == 0
    }
}

impl Batch {
    /// Validates a request from the network. One bad span is rejected alone; invalid UTF-8 is repaired.
    ///
    /// # Errors
    /// When the bytes are not an OTLP request, or exceed `limits`.
    pub fn parse(bytes: Bytes, limits: &Limits) -> Result<Parsed, Malformed> {
        let mut bytes = bytes;
        let mut scanned = scan(&bytes, limits)?;
        let repaired_strings = scanned.invalid_utf8;
        if repaired_strings > 0 {
            bytes = Bytes::from(repair(&bytes));
            scanned = scan(&bytes, &unlimited())?;
        }
        let rejected = describe(scanned.rejected);
        let mut batch = Batch::new(bytes, scanned);
        if rejected.spans > 0 {
            batch = batch.without_rejected()?;
        }
        Ok(Parsed { batch, rejected, repaired_strings })
    }

    /// Indexes bytes that this program validated before, such as a journal's records.
    ///
    /// # Errors
    /// When the bytes are not an OTLP request after all.
    pub fn from_trusted(bytes: Bytes) -> Result<Batch, Malformed> {
        let scanned = scan(&bytes, &unlimited())?;
        Ok(Batch::new(bytes, scanned))
    }

    fn new(bytes: Bytes, scanned: Scanned) -> Batch {
        let Scanned { spans, scopes, resources, resource_headers, scope_headers, .. } = scanned;
        Batch::from_parts(bytes, Index { spans, scopes, resources, resource_headers, scope_headers })
    }

    pub(crate) fn from_parts(bytes: Bytes, index: Index) -> Batch {
        Batch { bytes, index: Arc::new(index), compressed: None }
    }

    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    /// The same batch with its bytes rebuilt from the index alone.
    fn without_rejected(&self) -> Result<Batch, Malformed> {
        Batch::from_trusted(Bytes::from(frame(self.pieces())))
    }

    /// OTLP bytes, uncompressed.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub fn len_spans(&self) -> usize {
        self.index.spans.len()
    }

    pub fn is_empty(&self) -> bool {
        self.index.spans.is_empty()
    }

    pub fn spans(&self) -> &[SpanRef] {
        &self.index.spans
    }

    /// Body of the `i`-th span's message; empty when there is none.
    pub fn span_bytes(&self, i: usize) -> &[u8] {
        self.index.spans.get(i).map_or(&[], |span| self.body_of(span))
    }

    /// Body of a span of this batch.
    pub fn body_of(&self, span: &SpanRef) -> &[u8] {
        let start = span.offset as usize;
        self.bytes.get(start..start + span.len as usize).unwrap_or_default()
    }

    pub fn scope_of(&self, i: usize) -> usize {
        self.index.spans.get(i).map_or(0, |span| span.scope as usize)
    }

    pub fn resource_of(&self, i: usize) -> usize {
        self.resource_of_scope(self.scope_of(i))
    }

    pub fn resource_of_scope(&self, scope: usize) -> usize {
        self.index.scopes.get(scope).map_or(0, |scope| scope.resource as usize)
    }

    pub fn len_scopes(&self) -> usize {
        self.index.scopes.len()
    }

    pub fn len_resources(&self) -> usize {
        self.index.resources.len()
    }

    /// All fields of a `ScopeSpans` but its spans, verbatim: scope = 1, schema_url = 3, and unknown ones.
    pub fn scope_header(&self, scope: usize) -> &[u8] {
        let index = &self.index;
        index.scopes.get(scope).map_or(&[], |scope| header(&index.scope_headers, scope.header))
    }

    /// All fields of a `ResourceSpans` but its scopes, verbatim: resource = 1, schema_url = 3, and unknown ones.
    pub fn resource_header(&self, resource: usize) -> &[u8] {
        let index = &self.index;
        index.resources.get(resource).map_or(&[], |range| header(&index.resource_headers, *range))
    }

    /// A span with what it stands under.
    pub fn piece(&self, i: usize) -> Piece<'_> {
        let scope = self.scope_of(i);
        Piece {
            resource: self.resource_header(self.resource_of_scope(scope)),
            scope: self.scope_header(scope),
            span: self.span_bytes(i),
        }
    }

    pub fn pieces(&self) -> impl Iterator<Item = Piece<'_>> {
        (0..self.len_spans()).map(|i| self.piece(i))
    }

    /// The bytes as they came, when nothing changed since: an exporter with the same encoding sends these.
    pub fn compressed(&self) -> Option<&Compressed> {
        self.compressed.as_ref()
    }

    /// Remembers the bytes from which this batch was inflated. Only for a batch that [`Parsed::is_verbatim`].
    pub fn with_compressed(mut self, compressed: Compressed) -> Batch {
        self.compressed = Some(compressed);
        self
    }

    /// The same batch for a stage that holds it long and will not send it on as it came.
    pub fn without_compressed(&self) -> Batch {
        Batch { compressed: None, ..self.clone() }
    }

    /// Bytes of memory that this batch holds.
    pub fn memory_bytes(&self) -> usize {
        let index = &self.index;
        self.bytes.len()
            + index.spans.len() * size_of::<SpanRef>()
            + index.resource_headers.len()
            + index.scope_headers.len()
            + self.compressed.as_ref().map_or(0, |compressed| compressed.bytes.len())
    }
}

fn header(headers: &[u8], range: HeaderRange) -> &[u8] {
    let start = range.start as usize;
    headers.get(start..start + range.len as usize).unwrap_or_default()
}

fn unlimited() -> Limits {
    Limits { message_bytes: u32::MAX as usize, spans: usize::MAX, groups: usize::MAX }
}

fn describe(rejections: Rejections) -> Rejected {
    let reasons = [
        (rejections.trace_id, "trace_id is not 16 non-zero bytes"),
        (rejections.span_id, "span_id is not 8 non-zero bytes"),
        (rejections.parent_span_id, "parent_span_id is neither empty nor 8 bytes"),
        (rejections.depth, "attribute values are nested too deeply"),
    ];
    let spans = rejections.total();
    let mut message = String::new();
    if spans > 0 {
        let _ = write!(message, "{spans} rejected");
        for (count, reason) in reasons.into_iter().filter(|(count, _)| *count > 0) {
            let _ = write!(message, "; {count}: {reason}");
        }
    }
    Rejected { spans, message }
}
