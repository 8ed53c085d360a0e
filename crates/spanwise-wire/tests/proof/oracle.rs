//! What prost makes of a request, and whether the scanner makes the same of it. Fuzz targets use this file too.

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use spanwise_model::{Limits, limits};
use spanwise_wire::{Batch, Malformed, Parsed};

/// A request limit that generated inputs do not reach.
pub fn wide() -> Limits {
    Limits { message_bytes: 64 << 20, spans: 1 << 20, groups: 1 << 20 }
}

/// Parses with both and panics where they differ in more than what is different on purpose: see `scan.rs`.
pub fn check(bytes: &[u8]) {
    let ours = Batch::parse(Bytes::copy_from_slice(bytes), &wide());
    let theirs = ExportTraceServiceRequest::decode(bytes);
    match (ours, theirs) {
        (Err(_), Err(_)) => {}
        (Err(Malformed::Group { .. }), Ok(_)) if has_deep_groups(bytes) => {}
        (Err(error), Ok(_)) => panic!("prost reads what the scanner refuses: {error}"),
        (Ok(parsed), Ok(theirs)) => same(&parsed, &theirs),
        (Ok(parsed), Err(error)) => {
            let on_purpose = parsed.repaired_strings > 0 || parsed.rejected.spans > 0;
            assert!(on_purpose, "the scanner reads what prost refuses: {error}");
            // What was repaired or left without its bad spans, prost reads as well.
            let theirs = ExportTraceServiceRequest::decode(parsed.batch.bytes().clone()).expect("a repaired request");
            let expected: Vec<_> = spans(&theirs).map(|(span, _)| indexed(span)).collect();
            assert_eq!(index(&parsed.batch), expected);
        }
    }
}

fn has_deep_groups(bytes: &[u8]) -> bool {
    bytes.iter().filter(|byte| **byte & 7 == 3).count() > limits::GROUP_DEPTH
}

/// Trace id, span id, parent, start, end, kind, status.
type Indexed = (Vec<u8>, Vec<u8>, Vec<u8>, u64, u64, i32, i32);

fn index(batch: &Batch) -> Vec<Indexed> {
    let of = |span: &spanwise_wire::SpanRef| {
        let parent = if span.parent_span_id.is_zero() { Vec::new() } else { span.parent_span_id.0.to_vec() };
        let (kind, status) = (i32::from(span.kind), i32::from(span.status));
        (
            span.trace_id.0.to_vec(),
            span.span_id.0.to_vec(),
            parent,
            span.start_unix_nano,
            span.end_unix_nano,
            kind,
            status,
        )
    };
    batch.spans().iter().map(of).collect()
}

fn indexed(span: &Span) -> Indexed {
    let parent =
        if span.parent_span_id.iter().all(|byte| *byte == 0) { Vec::new() } else { span.parent_span_id.clone() };
    let known = |number: i32, last: i32| if (0..=last).contains(&number) { number } else { 0 };
    let status = span.status.as_ref().map_or(0, |status| known(status.code, 2));
    (
        span.trace_id.clone(),
        span.span_id.clone(),
        parent,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        known(span.kind, 5),
        status,
    )
}

/// Every span, and whether what stands above it is nested too deeply.
fn spans(request: &ExportTraceServiceRequest) -> impl Iterator<Item = (&Span, bool)> {
    request.resource_spans.iter().flat_map(|group| {
        let resource = group.resource.as_ref().is_some_and(|resource| is_deep(&resource.attributes));
        group.scope_spans.iter().flat_map(move |scope_spans| {
            let scope = scope_spans.scope.as_ref().is_some_and(|scope| is_deep(&scope.attributes));
            scope_spans.spans.iter().map(move |span| (span, resource || scope))
        })
    })
}

fn is_id(id: &[u8], len: usize) -> bool {
    id.len() == len && id.iter().any(|byte| *byte != 0)
}

/// Whether a span is one that is kept.
fn is_good(span: &Span) -> bool {
    let deep = is_deep(&span.attributes)
        || span.events.iter().any(|event| is_deep(&event.attributes))
        || span.links.iter().any(|link| is_deep(&link.attributes));
    let parent = span.parent_span_id.is_empty() || span.parent_span_id.len() == 8;
    is_id(&span.trace_id, 16) && is_id(&span.span_id, 8) && parent && !deep
}

fn is_deep(attributes: &[KeyValue]) -> bool {
    attributes.iter().any(|attribute| levels(attribute.value.as_ref()) > limits::VALUE_DEPTH)
}

/// Levels of values, the outermost counted.
fn levels(value: Option<&AnyValue>) -> usize {
    let below = match value {
        None => return 0,
        Some(AnyValue { value: Some(Value::ArrayValue(array)) }) => {
            array.values.iter().map(|value| levels(Some(value))).max()
        }
        Some(AnyValue { value: Some(Value::KvlistValue(list)) }) => {
            list.values.iter().map(|entry| levels(entry.value.as_ref())).max()
        }
        Some(_) => None,
    };
    1 + below.unwrap_or(0)
}

fn same(parsed: &Parsed, theirs: &ExportTraceServiceRequest) {
    assert_eq!(parsed.repaired_strings, 0, "prost read every text");
    let all = spans(theirs).count() as u64;
    let good: Vec<&Span> =
        spans(theirs).filter(|(span, above)| !above && is_good(span)).map(|(span, _)| span).collect();
    let rejected = parsed.rejected.spans;
    assert_eq!(rejected, all - good.len() as u64, "{}", parsed.rejected.message);
    assert_eq!(parsed.rejected.message.is_empty(), rejected == 0);
    // Without its bad spans a request is put together anew, which joins equal groups: the order may differ then.
    same_items(index(&parsed.batch), good.iter().map(|span| indexed(span)).collect(), rejected > 0);
    // The bytes that go on are a request of exactly the good spans, unchanged.
    let kept = ExportTraceServiceRequest::decode(parsed.batch.bytes().clone()).expect("what was kept");
    let kept = spans(&kept).map(|(span, _)| span.encode_to_vec()).collect();
    same_items(kept, good.iter().map(|span| span.encode_to_vec()).collect(), rejected > 0);
}

fn same_items<T: Ord + std::fmt::Debug>(mut left: Vec<T>, mut right: Vec<T>, in_any_order: bool) {
    if in_any_order {
        left.sort();
        right.sort();
    }
    assert_eq!(left, right);
}
