//! Generated requests, whole and damaged: the scanner, the decoder, the framer and the JSON reader agree with prost.

use std::collections::BTreeMap;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as ProstValue;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue as ProstKeyValue};
use opentelemetry_proto::tonic::trace::v1::Span as ProstSpan;
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message as _;
use spanwise_model::{Event, KeyValue, Link, Span, SpanId, SpanKind, Status, StatusCode, TraceId, Value};
use spanwise_wire::json::{batch_to_otlp_json, otlp_json_to_proto};
use spanwise_wire::{Batch, concat, decode_resource, decode_scope, decode_span, frame, split_by_count};

use crate::generate::{apply, damage, request};
use crate::oracle::{check, wide};

fn parse(bytes: Vec<u8>) -> Batch {
    Batch::parse(Bytes::from(bytes), &wide()).expect("a generated request").batch
}

fn decode(bytes: &[u8]) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest::decode(bytes).expect("a request that prost reads")
}

fn value_of(value: Option<&AnyValue>) -> Value {
    match value.and_then(|value| value.value.as_ref()) {
        None | Some(ProstValue::StringValueStrindex(_)) => Value::Empty,
        Some(ProstValue::StringValue(text)) => Value::Str(text.clone()),
        Some(ProstValue::BoolValue(value)) => Value::Bool(*value),
        Some(ProstValue::IntValue(value)) => Value::Int(*value),
        Some(ProstValue::DoubleValue(value)) => Value::Double(*value),
        Some(ProstValue::BytesValue(bytes)) => Value::Bytes(bytes.clone()),
        Some(ProstValue::ArrayValue(array)) => {
            Value::Array(array.values.iter().map(|value| value_of(Some(value))).collect())
        }
        Some(ProstValue::KvlistValue(list)) => Value::Map(attributes_of(&list.values)),
    }
}

fn attributes_of(attributes: &[ProstKeyValue]) -> Vec<KeyValue> {
    attributes
        .iter()
        .map(|attribute| KeyValue { key: attribute.key.clone(), value: value_of(attribute.value.as_ref()) })
        .collect()
}

fn span_of(span: &ProstSpan) -> Span {
    let number = |number: i32| u64::try_from(number).unwrap_or(u64::MAX);
    let status = span.status.clone().unwrap_or_default();
    Span {
        trace_id: TraceId::from_slice(&span.trace_id).unwrap_or_default(),
        span_id: SpanId::from_slice(&span.span_id).unwrap_or_default(),
        parent_span_id: SpanId::from_slice(&span.parent_span_id).filter(|id| !id.is_zero()),
        trace_state: span.trace_state.clone(),
        flags: span.flags,
        name: span.name.clone(),
        kind: SpanKind::from_wire(number(span.kind)),
        start_unix_nano: span.start_time_unix_nano,
        end_unix_nano: span.end_time_unix_nano,
        attributes: attributes_of(&span.attributes),
        dropped_attributes_count: span.dropped_attributes_count,
        events: span
            .events
            .iter()
            .map(|event| Event {
                time_unix_nano: event.time_unix_nano,
                name: event.name.clone(),
                attributes: attributes_of(&event.attributes),
                dropped_attributes_count: event.dropped_attributes_count,
            })
            .collect(),
        dropped_events_count: span.dropped_events_count,
        links: span
            .links
            .iter()
            .map(|link| Link {
                trace_id: link.trace_id.clone(),
                span_id: link.span_id.clone(),
                trace_state: link.trace_state.clone(),
                attributes: attributes_of(&link.attributes),
                dropped_attributes_count: link.dropped_attributes_count,
                flags: link.flags,
            })
            .collect(),
        dropped_links_count: span.dropped_links_count,
        status: Status { code: StatusCode::from_wire(number(status.code)), message: status.message },
    }
}

/// What stands above a span, and the span, each as prost writes it, and how often they occur.
fn contents<'a>(requests: impl IntoIterator<Item = &'a ExportTraceServiceRequest>) -> BTreeMap<Vec<Vec<u8>>, usize> {
    let mut found = BTreeMap::new();
    for group in requests.into_iter().flat_map(|request| &request.resource_spans) {
        let resource = group.resource.as_ref().map(|resource| resource.encode_to_vec()).unwrap_or_default();
        for scope_spans in &group.scope_spans {
            let scope = scope_spans.scope.as_ref().map(|scope| scope.encode_to_vec()).unwrap_or_default();
            for span in &scope_spans.spans {
                let key = vec![
                    resource.clone(),
                    group.schema_url.clone().into_bytes(),
                    scope.clone(),
                    scope_spans.schema_url.clone().into_bytes(),
                    span.encode_to_vec(),
                ];
                *found.entry(key).or_default() += 1;
            }
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) })]

    #[test]
    fn whole_requests_read_as_prost_reads_them(request in request()) {
        check(&request.encode_to_vec());
    }

    #[test]
    fn damaged_requests_read_as_prost_reads_them(request in request(), damages in vec(vec(damage(), 1..4), 10)) {
        let whole = request.encode_to_vec();
        for damages in &damages {
            let mut bytes = whole.clone();
            damages.iter().for_each(|damage| apply(&mut bytes, damage));
            check(&bytes);
        }
    }

    #[test]
    fn noise_reads_as_prost_reads_it(noise in vec(vec(any::<u8>(), 0..40), 20)) {
        noise.iter().for_each(|bytes| check(bytes));
    }

    #[test]
    fn every_decoded_field_is_prosts(request in request()) {
        let batch = parse(request.encode_to_vec());
        let kept = decode(batch.bytes());
        let mut place = 0;
        for group in &kept.resource_spans {
            for scope_spans in &group.scope_spans {
                for span in &scope_spans.spans {
                    prop_assert_eq!(decode_span(batch.span_bytes(place)), span_of(span));
                    let resource = decode_resource(batch.resource_header(batch.resource_of(place)));
                    let expected = group.resource.clone().unwrap_or_default();
                    prop_assert_eq!(resource.attributes, attributes_of(&expected.attributes));
                    prop_assert_eq!(&resource.schema_url, &group.schema_url);
                    let scope = decode_scope(batch.scope_header(batch.scope_of(place)));
                    let expected = scope_spans.scope.clone().unwrap_or_default();
                    prop_assert_eq!((scope.name, scope.version), (expected.name, expected.version));
                    prop_assert_eq!(scope.attributes, attributes_of(&expected.attributes));
                    prop_assert_eq!(&scope.schema_url, &scope_spans.schema_url);
                    place += 1;
                }
            }
        }
        prop_assert_eq!(place, batch.len_spans());
    }

    #[test]
    fn slicing_and_joining_lose_nothing(first in request(), second in request(), size in 1usize..5) {
        let batches = [parse(first.encode_to_vec()), parse(second.encode_to_vec())];
        let kept = batches.each_ref().map(|batch| decode(batch.bytes()));
        let expected = contents(&kept);
        let joined = concat(&batches).expect("below 4 GiB");
        prop_assert_eq!(&contents([&decode(joined.bytes())]), &expected);
        let reframed = decode(&frame(joined.pieces()));
        prop_assert_eq!(&contents([&reframed]), &expected);
        let parts = split_by_count(&joined, size);
        prop_assert!(parts.iter().all(|part| part.len_spans() <= size));
        let parts: Vec<_> = parts.iter().map(|part| decode(part.bytes())).collect();
        prop_assert_eq!(&contents(&parts), &expected);
        let by_trace: Vec<_> =
            spanwise_wire::frame::split_by_trace(&joined).iter().map(|part| decode(part.bytes())).collect();
        prop_assert_eq!(&contents(&by_trace), &expected);
    }

    #[test]
    fn json_and_back_is_the_same_request(request in request()) {
        let batch = parse(request.encode_to_vec());
        let json = batch_to_otlp_json(&batch);
        let again = parse(otlp_json_to_proto(json.as_bytes(), &wide()).expect("what we wrote"));
        let spans = |batch: &Batch| (0..batch.len_spans()).map(|at| decode_span(batch.span_bytes(at))).collect::<Vec<_>>();
        prop_assert_eq!(spans(&again), spans(&batch));
    }

    #[test]
    fn damaged_json_is_read_or_refused(request in request(), damages in vec(damage(), 1..4)) {
        let mut json = batch_to_otlp_json(&parse(request.encode_to_vec())).into_bytes();
        damages.iter().for_each(|damage| apply(&mut json, damage));
        if let Ok(proto) = otlp_json_to_proto(&json, &wide()) {
            check(&proto);
        }
    }
}
