//! The same context through every carrier.

#![allow(clippy::unwrap_used)]

use std::process::Command;

use spanwise_propagate::carriers::{Environment, MessageHeaders, environment_name};
use spanwise_propagate::{
    Baggage, Decision, Extract, Format, Inject, Propagator, SpanContext, SpanId, TraceId, TraceState,
};

fn sent() -> (SpanContext, Baggage) {
    let trace_id = TraceId::parse("80f198ee56343ba864fe8b2a57d3eff7").unwrap();
    let root = SpanContext::root(trace_id, SpanId::from_bytes([7; 8]).unwrap(), Decision::Accept, true);
    let mut baggage = Baggage::new();
    baggage.insert("user", "J\u{f6}rg", "p=1");
    (SpanContext { state: TraceState::parse(b"congo=t61,rojo=1").unwrap(), ..root }, baggage)
}

fn inject(carrier: &mut impl Inject) {
    let (span, baggage) = sent();
    Propagator::default().inject(&span, &baggage, carrier);
}

#[track_caller]
fn check(carrier: &(impl Extract + ?Sized)) {
    let found = Propagator::default().extract(carrier);
    assert_eq!((found.span(), &found.baggage), (Some(&sent().0), &sent().1));
}

#[test]
fn pairs_and_maps() {
    let mut pairs = vec![("TraceParent".to_string(), b"old".to_vec())];
    inject(&mut pairs);
    assert_eq!(pairs.len(), 3);
    check(&pairs);
    check(&pairs[..]);
    let mut map = std::collections::BTreeMap::<String, Vec<u8>>::new();
    inject(&mut map);
    check(&map);
}

#[test]
fn messages_take_the_last_of_repeated_headers_and_mind_the_case() {
    let old = ("traceparent".to_string(), b"00-11111111111111111111111111111111-1111111111111111-01".to_vec());
    let mut headers = vec![old.clone(), ("Traceparent".to_string(), b"x".to_vec())];
    inject(&mut MessageHeaders(&mut headers));
    assert_eq!(headers.iter().filter(|(name, _)| name == "traceparent").count(), 1);
    headers.insert(0, old);
    check(&MessageHeaders(headers.as_slice()));
}

#[test]
fn environment() {
    assert_eq!(environment_name("x-b3-traceid"), "X_B3_TRACEID");
    assert_eq!(environment_name("1a.b"), "_1A_B");
    let mut variables = Environment::new();
    inject(&mut variables);
    assert_eq!(variables.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["BAGGAGE", "TRACEPARENT", "TRACESTATE"]);
    check(&variables);
    let lambda = Environment::from_variables([
        (
            "_X_AMZN_TRACE_ID".into(),
            "Root=1-80f198ee-56343ba864fe8b2a57d3eff7;Parent=0707070707070707;Sampled=1".into(),
        ),
        ("traceparent".into(), "ignored".into()),
    ]);
    let found = Propagator::new([Format::TraceContext, Format::XRay]).extract(&lambda);
    assert_eq!(found.span().unwrap().span_id, sent().0.span_id);
    let mut command = Command::new("true");
    command.env("TRACESTATE", "old=1");
    inject(&mut command);
    let variable = command.get_envs().find(|(name, _)| *name == "TRACESTATE").unwrap().1.unwrap();
    assert_eq!(variable, "congo=t61,rojo=1");
}

#[cfg(feature = "http")]
#[test]
fn http_headers() {
    let mut headers = http::HeaderMap::new();
    headers.append("traceparent", http::HeaderValue::from_static("old"));
    headers.append("traceparent", http::HeaderValue::from_static("older"));
    inject(&mut headers);
    check(&headers);
    headers.insert("tracestate", http::HeaderValue::from_static("congo=t61"));
    headers.append("tracestate", http::HeaderValue::from_static("rojo=1"));
    check(&headers);
    headers.append("tracestate", http::HeaderValue::from_bytes(b"x=\xff").unwrap());
    assert!(Propagator::default().extract(&headers).span().unwrap().state.is_empty());
}

#[cfg(feature = "tonic")]
#[test]
fn grpc_metadata() {
    let mut metadata = tonic::metadata::MetadataMap::new();
    metadata.insert_bin("traceparent-bin", tonic::metadata::MetadataValue::from_bytes(b"x"));
    inject(&mut metadata);
    check(&metadata);
    Propagator::new([Format::Jaeger]).inject(&sent().0, &sent().1, &mut metadata);
    assert_eq!(metadata.get("uberctx-user").unwrap(), "J%C3%B6rg");
}

#[cfg(feature = "rdkafka")]
#[test]
fn kafka_headers() {
    use rdkafka::message::{Header, Headers, OwnedHeaders};
    use spanwise_propagate::carriers::rdkafka::KafkaHeaders;
    let mut headers = OwnedHeaders::new();
    headers = headers.insert(Header { key: "traceparent", value: Some("old") });
    headers = headers.insert(Header { key: "kept", value: None::<&str> });
    inject(&mut KafkaHeaders(&mut headers));
    assert_eq!(headers.count(), 4);
    check(&KafkaHeaders(&headers));
}
