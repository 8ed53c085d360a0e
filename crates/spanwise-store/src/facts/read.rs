//! From stored bytes to what insight says of a trace, without decoding more than it looks at.

use rustc_hash::FxHashMap;
use spanwise_insight::analysis::Analysis;
use spanwise_insight::attributes::{AttributeKey, AttributeSet, ResourceAttributes};
use spanwise_insight::names::{Key, Names};
use spanwise_insight::row::TraceRow;
use spanwise_insight::view::{Process, Scalar, SpanTexts, SpanView};
use spanwise_model::{SpanKind, StatusCode, TraceId};
use spanwise_wire::view::{self, ValueView};
use spanwise_wire::{Batch, Piece, SpanRef, kept};

use crate::scan::{ByKey, Scanned, ScannedSpan, Scanner};

/// Reads spans that live for `'a`, all scanned by the same scanner, with the same names; what it learned of their keys
/// and processes serves again.
#[derive(Default)]
pub struct SpanReader<'a> {
    texts: SpanTexts<'a>,
    keys: ByKey<Key>,
    attribute_keys: ByKey<AttributeKey>,
    resources: Vec<KnownResource<'a>>,
    /// By address and length, which are found without looking at the bytes.
    by_address: FxHashMap<(usize, usize), usize>,
    by_content: FxHashMap<&'a [u8], usize>,
    /// Traces whose attributes were added.
    traces: u64,
}

/// What is told from a resource once.
struct KnownResource<'a> {
    bytes: &'a [u8],
    process: Process,
    /// With which probability tail sampling kept its traces, if not all.
    kept_with: Option<f64>,
    /// Told when they are first asked for.
    attributes: Option<ResourceAttributes>,
    /// The last trace that has them.
    trace: u64,
}

impl<'a> SpanReader<'a> {
    /// Adds a span to the trace that is read.
    pub fn add(
        &mut self,
        span: &SpanRef,
        scanned: &ScannedSpan<'_, 'a>,
        scanner: &Scanner<'a>,
        analysis: &mut Analysis,
        names: &mut Names,
    ) {
        let number = self.resource(scanned.piece.resource, names);
        let known = self.resources.get(number);
        let (process, kept_with) = known.map(|known| (known.process, known.kept_with)).unwrap_or_default();
        let kind = SpanKind::from_wire(span.kind.into());
        self.texts.begin(kind);
        self.texts.set_name(scanned.name);
        self.texts.kept_with = kept_with;
        for attribute in scanned.attributes {
            let key = *self.keys.of(attribute, scanner, |key| names.key(key));
            if key.is_read() {
                self.texts.attribute(key, scalar(attribute.value()));
            }
        }
        let view = SpanView {
            span_id: u64::from_be_bytes(span.span_id.0),
            parent_id: (!span.parent_span_id.is_zero()).then(|| u64::from_be_bytes(span.parent_span_id.0)),
            start_unix_nano: span.start_unix_nano,
            end_unix_nano: span.end_unix_nano,
            kind,
            status: StatusCode::from_wire(span.status.into()),
            service: process.service,
            host: process.host,
        };
        analysis.add(view, scanned.trace_state, &self.texts, names);
    }

    /// Adds the attributes of a trace's spans, which come in the trace's order.
    pub fn add_attributes<'s>(
        &mut self,
        spans: impl Iterator<Item = ScannedSpan<'s, 'a>>,
        scanner: &Scanner<'a>,
        set: &mut AttributeSet,
        names: &mut Names,
    ) where
        'a: 's,
    {
        self.traces += 1;
        for (place, span) in spans.enumerate() {
            set.at_span(place == 0);
            for attribute in span.attributes {
                let make = |key| set.key(std::str::from_utf8(key).unwrap_or_default(), names);
                let key = self.attribute_keys.of(attribute, scanner, make);
                if !key.is_ignored() {
                    set.add_known(key, scalar(attribute.value()), names);
                }
            }
            let number = self.resource(span.piece.resource, names);
            if let Some(known) = self.resources.get_mut(number)
                && known.trace != self.traces
            {
                known.trace = self.traces;
                let of_resource = known.attributes.get_or_insert_with(|| {
                    let attributes = view::resource_attributes(known.bytes);
                    set.of_resource(attributes.map(|attribute| (attribute.key, scalar(attribute.value))), names)
                });
                set.add_resource(of_resource);
            }
        }
    }

    /// The facts row of the trace that was added and finished, with the attributes of its spans.
    pub fn row<'s>(
        &mut self,
        spans: impl Iterator<Item = ScannedSpan<'s, 'a>>,
        scanner: &Scanner<'a>,
        analysis: &mut Analysis,
        set: &mut AttributeSet,
        names: &mut Names,
    ) -> Option<TraceRow>
    where
        'a: 's,
    {
        let outline = analysis.outline(names)?;
        let mut row = analysis.row(outline, names)?;
        self.add_attributes(spans, scanner, set, names);
        row.attributes = set.take();
        Some(row)
    }

    /// The number of a resource.
    fn resource(&mut self, bytes: &'a [u8], names: &mut Names) -> usize {
        let address = (bytes.as_ptr() as usize, bytes.len());
        if let Some(number) = self.by_address.get(&address) {
            return *number;
        }
        let resources = &mut self.resources;
        let number = *self.by_content.entry(bytes).or_insert_with(|| {
            let attributes = view::resource_attributes(bytes);
            let process = Process::of(attributes.map(|attribute| (attribute.key, scalar(attribute.value))), names);
            let kept_with = kept::probability(bytes);
            resources.push(KnownResource { bytes, process, kept_with, attributes: None, trace: 0 });
            resources.len() - 1
        });
        self.by_address.insert(address, number);
        number
    }
}

fn scalar(value: ValueView<'_>) -> Scalar<'_> {
    match value {
        ValueView::Str(text) => Scalar::Str(text),
        ValueView::Bool(value) => Scalar::Bool(value),
        ValueView::Int(value) => Scalar::Int(value),
        ValueView::Double(value) => Scalar::Double(value),
        _ => Scalar::Other,
    }
}

/// In which order the spans of a trace are read: it must not show in which order they came.
pub fn order(a: (&SpanRef, Piece<'_>), b: (&SpanRef, Piece<'_>)) -> std::cmp::Ordering {
    let key = |span: &SpanRef| (span.start_unix_nano, span.span_id, span.kind, span.end_unix_nano);
    key(a.0)
        .cmp(&key(b.0))
        .then_with(|| view::span_name(a.1.span).cmp(view::span_name(b.1.span)))
        .then_with(|| view::service_name(a.1.resource).cmp(&view::service_name(b.1.resource)))
}

/// The row of a whole trace.
pub fn row_of(batch: &Batch, id: TraceId, names: &mut Names) -> Option<TraceRow> {
    let mut places: Vec<usize> = (0..batch.len_spans()).collect();
    let of = |place: usize| batch.spans().get(place).map(|span| (span, batch.piece(place)));
    places.sort_by(|a, b| match (of(*a), of(*b)) {
        (Some(a), Some(b)) => order(a, b),
        _ => std::cmp::Ordering::Equal,
    });
    let (mut scanner, mut scanned) = (Scanner::default(), Scanned::default());
    let (mut reader, mut analysis) = (SpanReader::default(), Analysis::default());
    analysis.begin(id);
    for (span, piece) in places.iter().filter_map(|place| of(*place)) {
        scanner.scan(piece, &mut scanned);
        if let Some(last) = scanned.get(scanned.len() - 1) {
            reader.add(span, &last, &scanner, &mut analysis, names);
        }
    }
    analysis.finish();
    reader.row(scanned.iter(0..scanned.len()), &scanner, &mut analysis, &mut AttributeSet::of_row(), names)
}
