//! One trace as JSON: contracts §3. The page, `spanwise trace --format json` and scripts read this.

use super::clocks_api::{ClocksJson, Timed};
use super::insights_json::finding_json;
use base64::Engine as _;
use serde::Serialize;
use serde_json::{Map, Value as Json, json};
use spanwise_insight::calls::call;
use spanwise_insight::ledger::ledger;
use spanwise_insight::population::findings_of;
use spanwise_insight::queue::queue_hops;
use spanwise_insight::{Mode, TraceFacts, trace_facts, trace_facts_in};
use spanwise_model::{Event, KeyValue, Link, Scope, SpanKind, Trace, TraceSpan, Value};

/// How much of each span goes into the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    Full,
    /// Without resource, scope, attributes, events and links: what a waterfall needs before a span is opened.
    Structure,
}

/// Largest integer that JavaScript reads exactly.
const EXACT_INTEGER: u64 = 1 << 53;

#[derive(Serialize)]
struct TraceJson {
    trace_id: String,
    root: Option<RootJson>,
    start_unix_nano: String,
    #[serde(serialize_with = "write_unsigned")]
    duration_ns: u64,
    span_count: usize,
    error_count: usize,
    services: Vec<ServiceJson>,
    spans: Vec<Json>,
    critical_path: CriticalPathJson,
    async_path: Vec<HopJson>,
    ledger: Vec<LedgerJson>,
    findings: Vec<Json>,
    clocks: ClocksJson,
}

#[derive(Serialize)]
struct RootJson {
    service: String,
    operation: String,
}

#[derive(Serialize)]
struct ServiceJson {
    name: String,
    spans: usize,
}

#[derive(Serialize)]
struct CriticalPathJson {
    mode: &'static str,
    segments: Vec<SegmentJson>,
    by_service: Vec<ServiceTimeJson>,
}

/// From the message being sent to its being dealt with. Times from the trace's start.
#[derive(Serialize)]
struct HopJson {
    producer_span_id: String,
    consumer_span_id: String,
    #[serde(serialize_with = "write_signed")]
    start_ns: i64,
    /// From the end of sending to the start of dealing with it; negative when the clocks differ.
    #[serde(serialize_with = "write_signed")]
    queue_ns: i64,
    #[serde(serialize_with = "write_signed")]
    end_ns: i64,
}

#[derive(Serialize)]
struct LedgerJson {
    client_span_id: String,
    server_span_id: Option<String>,
    #[serde(serialize_with = "write_unsigned")]
    before_ns: u64,
    #[serde(serialize_with = "write_unsigned")]
    wire_out_ns: u64,
    #[serde(serialize_with = "write_unsigned")]
    server_ns: u64,
    #[serde(serialize_with = "write_unsigned")]
    wire_back_ns: u64,
    #[serde(serialize_with = "write_unsigned")]
    wire_total_ns: u64,
    #[serde(serialize_with = "write_unsigned")]
    after_ns: u64,
    /// How the time on the wire divides into out and back is as good as the two clocks agree.
    split_depends_on_clocks: bool,
}

#[derive(Serialize)]
struct SegmentJson {
    span_id: Option<String>,
    #[serde(serialize_with = "write_signed")]
    start_ns: i64,
    #[serde(serialize_with = "write_signed")]
    end_ns: i64,
}

#[derive(Serialize)]
struct ServiceTimeJson {
    service: String,
    #[serde(serialize_with = "write_unsigned")]
    ns: u64,
}

/// The whole trace. Spans stand in tree order: parents before children, siblings by start.
pub fn trace_json(timed: &Timed, detail: Detail, mode: Mode) -> Json {
    let trace = &timed.trace;
    let mut facts = trace_facts_in(trace, mode);
    timed.flag(&mut facts);
    let facts = facts;
    let offset = |unix_nano: u64| offset_ns(&facts, unix_nano);
    let segments = facts.critical_path.segments.iter().map(|segment| SegmentJson {
        span_id: segment.span.map(|place| trace.spans[place].span.span_id.to_string()),
        start_ns: offset(segment.start_unix_nano),
        end_ns: offset(segment.end_unix_nano),
    });
    let by_service = facts.critical_by_service.iter();
    let answer = TraceJson {
        trace_id: trace.spans.first().map(|span| span.span.trace_id.to_string()).unwrap_or_default(),
        root: facts.root.map(|place| {
            let root = &trace.spans[place];
            RootJson { service: root.resource.service_name().to_owned(), operation: root.span.name.clone() }
        }),
        start_unix_nano: facts.start_unix_nano.to_string(),
        duration_ns: facts.duration_ns,
        span_count: trace.spans.len(),
        error_count: facts.error_count,
        services: facts
            .services
            .iter()
            .map(|(name, spans)| ServiceJson { name: name.clone(), spans: *spans })
            .collect(),
        spans: tree_order(&facts).into_iter().map(|place| span_json(trace, &facts, place, detail)).collect(),
        critical_path: CriticalPathJson {
            mode: mode.as_str(),
            segments: segments.collect(),
            by_service: by_service
                .map(|service| ServiceTimeJson { service: service.service.clone(), ns: service.ns })
                .collect(),
        },
        async_path: queue_hops(trace, &facts)
            .into_iter()
            .map(|hop| HopJson {
                producer_span_id: trace.spans[hop.producer].span.span_id.to_string(),
                consumer_span_id: trace.spans[hop.consumer].span.span_id.to_string(),
                start_ns: offset(hop.start_unix_nano),
                queue_ns: hop.queue_ns,
                end_ns: offset(hop.end_unix_nano),
            })
            .collect(),
        ledger: ledger_json(trace, &facts),
        findings: findings_of(trace).iter().map(finding_json).collect(),
        clocks: timed.json(&facts),
    };
    serde_json::to_value(answer).unwrap_or(Json::Null)
}

fn ledger_json(trace: &Trace, facts: &TraceFacts) -> Vec<LedgerJson> {
    let calls: Vec<_> = trace.spans.iter().map(call).collect();
    let id = |place: usize| trace.spans[place].span.span_id.to_string();
    let entries = ledger(trace, facts, &calls).into_iter().map(|entry| LedgerJson {
        client_span_id: id(entry.client),
        server_span_id: entry.server.map(id),
        before_ns: entry.before_ns,
        wire_out_ns: entry.wire_out_ns,
        server_ns: entry.server_ns,
        wire_back_ns: entry.wire_back_ns,
        wire_total_ns: entry.wire_total_ns,
        after_ns: entry.after_ns,
        split_depends_on_clocks: entry.server.is_some(),
    });
    entries.collect()
}

/// One span of the trace, in full; `None` when the trace has no such span.
pub fn one_span_json(trace: &Trace, span_id: spanwise_model::SpanId) -> Option<Json> {
    let place = trace.spans.iter().position(|span| span.span.span_id == span_id)?;
    Some(span_json(trace, &trace_facts(trace), place, Detail::Full))
}

fn offset_ns(facts: &TraceFacts, unix_nano: u64) -> i64 {
    unix_nano.wrapping_sub(facts.start_unix_nano) as i64
}

/// Places of all spans, parents before children.
pub fn tree_order(facts: &TraceFacts) -> Vec<usize> {
    let mut order = Vec::with_capacity(facts.spans.len());
    let mut open: Vec<usize> = facts.tree.roots.iter().rev().copied().collect();
    while let Some(place) = open.pop() {
        order.push(place);
        open.extend(facts.tree.children[place].iter().rev());
    }
    order
}

fn span_json(trace: &Trace, facts: &TraceFacts, place: usize, detail: Detail) -> Json {
    let TraceSpan { resource, scope, span } = &trace.spans[place];
    let own = &facts.spans[place];
    let mut json = json!({
        "span_id": span.span_id.to_string(),
        "parent_span_id": span.parent_span_id.map(|id| id.to_string()),
        "service": resource.service_name(),
        "name": span.name,
        "kind": kind_name(span.kind),
        "start_ns": exact(offset_ns(facts, span.start_unix_nano)),
        "duration_ns": exact_unsigned(span.duration_ns()),
        "self_ns": exact_unsigned(own.self_ns),
        "critical_ns": exact_unsigned(own.critical_ns),
        "status": span.status.code.as_str(),
        "status_message": span.status.message,
        "flags": own.flags,
    });
    if detail == Detail::Full
        && let Some(members) = json.as_object_mut()
    {
        members.insert("resource".to_owned(), attributes_json(&resource.attributes));
        members.insert("scope".to_owned(), scope_json(scope));
        members.insert("attributes".to_owned(), attributes_json(&span.attributes));
        members.insert("events".to_owned(), span.events.iter().map(|event| event_json(facts, event)).collect());
        members.insert("links".to_owned(), span.links.iter().map(link_json).collect());
        if !span.trace_state.is_empty() {
            members.insert("trace_state".to_owned(), json!(span.trace_state));
        }
    }
    json
}

fn write_signed<S: serde::Serializer>(value: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    exact(*value).serialize(serializer)
}

fn write_unsigned<S: serde::Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    exact_unsigned(*value).serialize(serializer)
}

/// OTLP's unspecified kind means internal.
fn kind_name(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Unspecified => "internal",
        other => other.as_str(),
    }
}

fn scope_json(scope: &Scope) -> Json {
    let mut json = json!({"name": scope.name, "version": scope.version});
    if !scope.attributes.is_empty() {
        json["attributes"] = attributes_json(&scope.attributes);
    }
    json
}

fn event_json(facts: &TraceFacts, event: &Event) -> Json {
    json!({
        "name": event.name,
        "time_ns": exact(offset_ns(facts, event.time_unix_nano)),
        "attributes": attributes_json(&event.attributes),
    })
}

fn link_json(link: &Link) -> Json {
    json!({
        "trace_id": hex(&link.trace_id),
        "span_id": hex(&link.span_id),
        "attributes": attributes_json(&link.attributes),
    })
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An object; of a repeated key the last value shows (the OTLP answer has all).
pub fn attributes_json(attributes: &[KeyValue]) -> Json {
    let members = attributes.iter().map(|attribute| (attribute.key.clone(), value_json(&attribute.value)));
    Json::Object(members.collect::<Map<_, _>>())
}

/// A number that JavaScript reads as it is, otherwise a string.
fn exact(value: i64) -> Json {
    if value.unsigned_abs() > EXACT_INTEGER { json!(value.to_string()) } else { json!(value) }
}

fn exact_unsigned(value: u64) -> Json {
    if value > EXACT_INTEGER { json!(value.to_string()) } else { json!(value) }
}

/// Integers beyond 2^53 and doubles that JSON has no number for are strings, bytes are base64.
pub fn value_json(value: &Value) -> Json {
    match value {
        Value::Empty => Json::Null,
        Value::Str(text) => json!(text),
        Value::Bool(value) => json!(value),
        Value::Int(value) if value.unsigned_abs() > EXACT_INTEGER => json!(value.to_string()),
        Value::Int(value) => json!(value),
        Value::Double(value) if !value.is_finite() => json!(value.to_string()),
        Value::Double(value) => json!(value),
        Value::Bytes(bytes) => json!(base64::engine::general_purpose::STANDARD.encode(bytes)),
        Value::Array(values) => values.iter().map(value_json).collect(),
        Value::Map(entries) => attributes_json(entries),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spanwise_model::{Resource, Span, SpanId, TraceId};
    use std::sync::Arc;

    fn span(id: u8, parent: Option<u8>, start: u64, end: u64) -> TraceSpan {
        let resource = Resource { attributes: vec![KeyValue::new("service.name", "shop")], ..Resource::default() };
        let span = Span {
            trace_id: TraceId([7; 16]),
            span_id: SpanId([id; 8]),
            parent_span_id: parent.map(|id| SpanId([id; 8])),
            name: format!("op {id}"),
            start_unix_nano: start,
            end_unix_nano: end,
            ..Span::default()
        };
        TraceSpan { resource: Arc::new(resource), scope: Arc::default(), span }
    }

    #[test]
    fn a_trace_tells_what_the_contract_names() {
        let trace = Trace { spans: vec![span(2, Some(1), 1_100, 1_500), span(1, None, 1_000, 2_000)] };
        let json = trace_json(&Timed::raw(trace), Detail::Full, Mode::Spanwise);
        assert_eq!(json["clocks"], json!({"corrected": false, "impossible": 0, "traces": 0, "hosts": []}));
        assert_eq!(json["root"], json!({"service": "shop", "operation": "op 1"}));
        assert_eq!(json["start_unix_nano"], "1000");
        assert_eq!((&json["duration_ns"], &json["span_count"]), (&json!(1000), &json!(2)));
        assert_eq!(json["spans"][0]["span_id"], "0101010101010101");
        assert_eq!(json["spans"][1]["start_ns"], 100);
        assert_eq!(json["spans"][0]["self_ns"], 600);
        assert_eq!(json["critical_path"]["by_service"], json!([{"service": "shop", "ns": 1000}]));
        assert_eq!(json["spans"][0]["resource"], json!({"service.name": "shop"}));
    }

    #[test]
    fn queue_hops_stand_beside_the_path_and_modes_are_named() {
        let mut trace =
            Trace { spans: vec![span(1, None, 0, 100), span(2, Some(1), 10, 20), span(3, Some(2), 50, 90)] };
        trace.spans[1].span.kind = SpanKind::Producer;
        trace.spans[2].span.kind = SpanKind::Consumer;
        let json = trace_json(&Timed::raw(trace.clone()), Detail::Full, Mode::Jaeger);
        assert_eq!(json["critical_path"]["mode"], "jaeger");
        assert_eq!(json["async_path"][0]["producer_span_id"], "0202020202020202");
        assert_eq!((&json["async_path"][0]["queue_ns"], &json["async_path"][0]["end_ns"]), (&json!(30), &json!(90)));
        assert_eq!(json["spans"][2]["flags"], json!(["async"]));
        // A span that never ended: nothing may wrap, and what JavaScript would change is text.
        trace.spans[0].span.end_unix_nano = u64::MAX;
        let json = trace_json(&Timed::raw(trace), Detail::Full, Mode::Spanwise);
        assert_eq!(json["duration_ns"], u64::MAX.to_string());
        assert_eq!(json["critical_path"]["by_service"][0]["ns"], u64::MAX.to_string());
    }

    #[test]
    fn structure_leaves_out_what_can_be_asked_for_later() {
        let trace = Trace { spans: vec![span(1, None, 0, 1)] };
        let json = trace_json(&Timed::raw(trace.clone()), Detail::Structure, Mode::Spanwise);
        for member in ["resource", "scope", "attributes", "events", "links"] {
            assert!(json["spans"][0].get(member).is_none(), "{member}");
        }
        assert!(one_span_json(&trace, SpanId([1; 8])).is_some());
        assert!(one_span_json(&trace, SpanId([2; 8])).is_none());
    }

    #[test]
    fn a_trace_set_right_says_by_how_much_each_host_was_moved() {
        let mut trace = Trace { spans: vec![span(1, None, 1_000, 2_000), span(2, Some(1), 1_500, 2_300)] };
        for (place, (host, kind)) in [("a", SpanKind::Client), ("b", SpanKind::Server)].into_iter().enumerate() {
            let attributes = vec![KeyValue::new("host.name", host)];
            trace.spans[place].resource = Arc::new(Resource { attributes, ..Resource::default() });
            trace.spans[place].span.kind = kind;
        }
        let raw = trace_json(&Timed::raw(trace.clone()), Detail::Structure, Mode::Spanwise);
        assert_eq!((&raw["clocks"]["impossible"], &raw["spans"][1]["flags"]), (&json!(1), &json!(["skew"])));
        let mut offsets = spanwise_insight::clock::Offsets::default();
        offsets.add(&trace);
        let right = trace_json(&Timed::corrected(&trace, &offsets), Detail::Structure, Mode::Spanwise);
        let host = json!({"host": "b", "offset_ns": -400, "calls": 1, "shared": true});
        assert_eq!(right["clocks"], json!({"corrected": true, "impossible": 0, "traces": 1, "hosts": [host]}));
        assert_eq!((&right["spans"][1]["start_ns"], &right["spans"][1]["flags"]), (&json!(100), &json!(["moved"])));
    }

    #[test]
    fn numbers_that_javascript_would_change_are_strings() {
        assert_eq!(value_json(&Value::Int(1 << 53)), json!(1u64 << 53));
        assert_eq!(value_json(&Value::Int((1 << 53) + 1)), json!("9007199254740993"));
        assert_eq!(value_json(&Value::Double(f64::NAN)), json!("NaN"));
        assert_eq!(value_json(&Value::Bytes(vec![0, 255])), json!("AP8="));
    }
}
