//! Requests of every shape, and ways of damaging their bytes.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[a-z.]{1,12}", "\\PC{0,6}", Just("é\u{0}\u{202e}<script>".to_owned())]
}

pub fn value() -> impl Strategy<Value = AnyValue> {
    let leaf = prop_oneof![
        Just(None),
        text().prop_map(|text| Some(Value::StringValue(text))),
        any::<bool>().prop_map(|value| Some(Value::BoolValue(value))),
        any::<i64>().prop_map(|value| Some(Value::IntValue(value))),
        any::<f64>().prop_map(|value| Some(Value::DoubleValue(value))),
        vec(any::<u8>(), 0..6).prop_map(|bytes| Some(Value::BytesValue(bytes))),
    ];
    leaf.prop_map(|value| AnyValue { value }).prop_recursive(4, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3)
                .prop_map(|values| AnyValue { value: Some(Value::ArrayValue(ArrayValue { values })) }),
            vec((text(), option::of(inner)), 0..3).prop_map(|entries| {
                let values =
                    entries.into_iter().map(|(key, value)| KeyValue { key, value, ..KeyValue::default() }).collect();
                AnyValue { value: Some(Value::KvlistValue(KeyValueList { values })) }
            }),
        ]
    })
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let pair = (text(), option::weighted(0.9, value()));
    vec(pair, 0..4).prop_map(|pairs| {
        pairs.into_iter().map(|(key, value)| KeyValue { key, value, ..KeyValue::default() }).collect()
    })
}

/// Mostly right; sometimes of another length, or zero.
fn id(len: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        20 => vec(1u8..=255, len),
        1 => Just(vec![0; len]),
        1 => Just(Vec::new()),
        1 => vec(any::<u8>(), 0..20),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    (any::<u64>(), text(), attributes(), 0u32..3).prop_map(|(time_unix_nano, name, attributes, dropped)| Event {
        time_unix_nano,
        name,
        attributes,
        dropped_attributes_count: dropped,
    })
}

fn link() -> impl Strategy<Value = Link> {
    (vec(any::<u8>(), 0..17), vec(any::<u8>(), 0..9), text(), attributes(), any::<u32>()).prop_map(
        |(trace_id, span_id, trace_state, attributes, flags)| Link {
            trace_id,
            span_id,
            trace_state,
            attributes,
            dropped_attributes_count: flags % 3,
            flags,
        },
    )
}

fn span() -> impl Strategy<Value = Span> {
    let ids = (id(16), id(8), prop_oneof![3 => Just(Vec::new()), 5 => id(8)]);
    let times = (any::<u64>(), prop_oneof![Just(0), Just(u64::MAX), any::<u64>()]);
    let kind = prop_oneof![0i32..7, any::<i32>()];
    let status = option::of((text(), prop_oneof![0i32..4, any::<i32>()]));
    let rest = (text(), text(), any::<u32>(), attributes(), vec(event(), 0..2), vec(link(), 0..2));
    (ids, times, kind, status, rest).prop_map(|(ids, times, kind, status, rest)| Span {
        trace_id: ids.0,
        span_id: ids.1,
        parent_span_id: ids.2,
        start_time_unix_nano: times.0,
        end_time_unix_nano: times.1,
        kind,
        status: status.map(|(message, code)| Status { message, code }),
        name: rest.0,
        trace_state: rest.1,
        flags: rest.2,
        dropped_attributes_count: rest.2 % 3,
        dropped_events_count: rest.2 % 5,
        dropped_links_count: rest.2 % 7,
        attributes: rest.3,
        events: rest.4,
        links: rest.5,
    })
}

fn scope_spans() -> impl Strategy<Value = ScopeSpans> {
    let scope = (text(), text(), attributes(), 0u32..3).prop_map(|(name, version, attributes, dropped)| {
        InstrumentationScope { name, version, attributes, dropped_attributes_count: dropped }
    });
    (option::of(scope), vec(span(), 0..4), text()).prop_map(|(scope, spans, schema_url)| ScopeSpans {
        scope,
        spans,
        schema_url,
    })
}

pub fn request() -> impl Strategy<Value = ExportTraceServiceRequest> {
    let entity = (text(), text(), vec(text(), 0..2)).prop_map(|(schema_url, r#type, keys)| EntityRef {
        schema_url,
        r#type,
        id_keys: keys.clone(),
        description_keys: keys,
    });
    let resource = (attributes(), vec(entity, 0..2)).prop_map(|(attributes, entity_refs)| Resource {
        attributes,
        entity_refs,
        ..Resource::default()
    });
    let group = (option::of(resource), vec(scope_spans(), 0..3), text())
        .prop_map(|(resource, scope_spans, schema_url)| ResourceSpans { resource, scope_spans, schema_url });
    vec(group, 0..3).prop_map(|resource_spans| ExportTraceServiceRequest { resource_spans })
}

/// One way of damaging bytes; places are taken modulo the length.
#[derive(Debug, Clone)]
pub enum Damage {
    Flip(usize, u8),
    Set(usize, u8),
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
    Repeat(usize, usize),
    Truncate(usize),
}

pub fn damage() -> impl Strategy<Value = Damage> {
    // Tags and lengths that are likely to be read as such.
    let piece = prop_oneof![
        vec(any::<u8>(), 1..4),
        Just(vec![0x0b, 0x08, 0x01, 0x0c]),
        Just(vec![0xf8, 0x07, 0x01]),
        Just(vec![0xff; 11]),
        Just(vec![0x80, 0x80, 0x80, 0x80, 0x10]),
        Just(vec![0x00]),
    ];
    prop_oneof![
        (any::<usize>(), 0u8..8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        (any::<usize>(), piece).prop_map(|(at, piece)| Damage::Insert(at, piece)),
        (any::<usize>(), 1usize..8).prop_map(|(at, len)| Damage::Remove(at, len)),
        (any::<usize>(), 1usize..40).prop_map(|(at, len)| Damage::Repeat(at, len)),
        any::<usize>().prop_map(Damage::Truncate),
    ]
}

pub fn apply(bytes: &mut Vec<u8>, damage: &Damage) {
    let place = |at: usize| at % bytes.len().max(1);
    match damage {
        _ if bytes.is_empty() => {}
        Damage::Flip(at, bit) => {
            let at = place(*at);
            bytes[at] ^= 1 << bit;
        }
        Damage::Set(at, byte) => {
            let at = place(*at);
            bytes[at] = *byte;
        }
        Damage::Insert(at, piece) => {
            let at = place(*at);
            bytes.splice(at..at, piece.iter().copied());
        }
        Damage::Remove(at, len) => {
            let at = place(*at);
            let end = (at + len).min(bytes.len());
            bytes.drain(at..end);
        }
        Damage::Repeat(at, len) => {
            let at = place(*at);
            let piece = bytes[at..(at + len).min(bytes.len())].to_vec();
            bytes.splice(at..at, piece);
        }
        Damage::Truncate(at) => {
            let at = place(*at);
            bytes.truncate(at);
        }
    }
}
