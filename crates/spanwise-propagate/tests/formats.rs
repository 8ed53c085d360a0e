//! Each format against what its specification and its own tracers send.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};

use spanwise_propagate::{
    Baggage, Decision, Extraction, Format, Inject, Parent, Propagator, SpanContext, SpanId, TraceId, TraceState,
};

const TRACE: &str = "80f198ee56343ba864fe8b2a57d3eff7";
const SPAN: &str = "e457b5a2e4d86bd1";

fn extract(format: Format, headers: &[(&str, &str)]) -> Extraction {
    Propagator::new([format]).extract(headers)
}

/// `trace span decision`, `trace - decision` or `decision`.
fn describe(parent: &Option<Parent>) -> String {
    match parent {
        None => "none".into(),
        Some(Parent::Span(span)) => format!("{} {} {:?}", span.trace_id, span.span_id, span.decision),
        Some(Parent::Trace { trace_id, decision }) => format!("{trace_id} - {decision:?}"),
        Some(Parent::Decision(decision)) => format!("{decision:?}"),
    }
}

#[track_caller]
fn check(format: Format, headers: &[(&str, &str)], expected: &str) {
    assert_eq!(describe(&extract(format, headers).parent), expected);
}

fn span(decision: Decision) -> SpanContext {
    SpanContext::root(TraceId::parse(TRACE).unwrap(), SpanId::parse(SPAN).unwrap(), decision, false)
}

/// Everything that a format writes, sorted by name.
fn injected(format: Format, span: &SpanContext) -> String {
    let mut headers = BTreeMap::<String, String>::new();
    Propagator::new([format]).inject(span, &Baggage::new(), &mut headers);
    headers.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_format_reads_what_it_writes() {
    for format in Format::ALL.into_iter().filter(|format| *format != Format::Baggage) {
        for decision in [Decision::Deny, Decision::Accept, Decision::Debug, Decision::Defer] {
            let mut headers = HashMap::<String, String>::new();
            let propagator = Propagator::new([format]);
            propagator.inject(&span(decision), &Baggage::new(), &mut headers);
            let found = propagator.extract(&headers);
            let Some(Parent::Span(read)) = found.parent else { panic!("{format:?} {headers:?}") };
            assert_eq!(read.span_id, span(decision).span_id, "{format:?}");
            assert_eq!(read.decision.is_sampled(), decision.is_sampled(), "{format:?}");
            let expected = if format == Format::OpenTracing { &TRACE[16..] } else { TRACE };
            assert!(read.trace_id.to_string().ends_with(expected), "{format:?}");
            assert!(headers.keys().all(|name| format.fields().contains(&name.as_str())), "{format:?} {headers:?}");
        }
    }
}

#[test]
fn b3_single() {
    let with = |value: &str, expected: &str| check(Format::B3, &[("b3", value)], expected);
    with("80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1", &format!("{TRACE} {SPAN} Accept"));
    with("80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-0", &format!("{TRACE} {SPAN} Deny"));
    with("80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-d", &format!("{TRACE} {SPAN} Debug"));
    with("80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1", &format!("{TRACE} {SPAN} Defer"));
    with("80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1-05e3ac9a4f6e3b90", &format!("{TRACE} {SPAN} Accept"));
    with("64fe8b2a57d3eff7-e457b5a2e4d86bd1-1", &format!("{:0>32} {SPAN} Accept", "64fe8b2a57d3eff7"));
    with("0", "Deny");
    with("1", "Accept");
    with("d", "Debug");
    for broken in [
        "",
        "x",
        "-",
        "80f198ee56343ba864fe8b2a57d3eff7",
        "80F198EE56343BA864FE8B2A57D3EFF7-e457b5a2e4d86bd1-1",
        "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-x",
        "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-",
        "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1-05",
        "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1-05e3ac9a4f6e3b90-1",
        "00000000000000000000000000000000-e457b5a2e4d86bd1-1",
        "80f198ee56343ba864fe8b2a57d3eff7-0000000000000000-1",
        "f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1",
    ] {
        with(broken, "none");
    }
    let wrote = |decision| injected(Format::B3, &span(decision));
    assert_eq!(wrote(Decision::Accept), format!("b3: {TRACE}-{SPAN}-1"));
    assert_eq!(wrote(Decision::Debug), format!("b3: {TRACE}-{SPAN}-d"));
    assert_eq!(wrote(Decision::Defer), format!("b3: {TRACE}-{SPAN}"));
}

#[test]
fn b3_multi() {
    let (trace, id) = (("X-B3-TraceId", TRACE), ("X-B3-SpanId", SPAN));
    check(Format::B3Multi, &[trace, id, ("X-B3-Sampled", "1")], &format!("{TRACE} {SPAN} Accept"));
    check(Format::B3Multi, &[trace, id, ("X-B3-Sampled", "true")], &format!("{TRACE} {SPAN} Accept"));
    check(Format::B3Multi, &[trace, id, ("X-B3-Sampled", "0")], &format!("{TRACE} {SPAN} Deny"));
    check(Format::B3Multi, &[trace, id, ("X-B3-Flags", "1")], &format!("{TRACE} {SPAN} Debug"));
    check(Format::B3Multi, &[trace, id], &format!("{TRACE} {SPAN} Defer"));
    check(Format::B3Multi, &[("X-B3-Sampled", "0")], "Deny");
    check(Format::B3Multi, &[], "none");
    check(Format::B3Multi, &[trace], "none");
    check(Format::B3Multi, &[trace, id, ("X-B3-Sampled", "2")], "none");
    check(Format::B3Multi, &[trace, trace, id], "none");
    // The single header wins, unless it is broken; either format reads both.
    let other = ("b3", "463ac35c9f6413ad48485a3953bb6124-0020000000000001-0");
    check(Format::B3, &[trace, id, other], "463ac35c9f6413ad48485a3953bb6124 0020000000000001 Deny");
    check(Format::B3Multi, &[trace, id, ("b3", "?")], &format!("{TRACE} {SPAN} Defer"));
    let wrote = injected(Format::B3Multi, &span(Decision::Accept));
    assert_eq!(wrote, format!("x-b3-sampled: 1\nx-b3-spanid: {SPAN}\nx-b3-traceid: {TRACE}"));
    assert!(injected(Format::B3Multi, &span(Decision::Debug)).starts_with("x-b3-flags: 1\nx-b3-spanid"));
}

#[test]
fn jaeger() {
    let with = |value: &str, expected: &str| check(Format::Jaeger, &[("uber-trace-id", value)], expected);
    with(&format!("{TRACE}:{SPAN}:0:1"), &format!("{TRACE} {SPAN} Accept"));
    with(&format!("{TRACE}%3A{SPAN}%3a0%3A00"), &format!("{TRACE} {SPAN} Deny"));
    with("1f:2:3:1", "0000000000000000000000000000001f 0000000000000002 Accept");
    with(&format!("{TRACE}:{SPAN}:0:3"), &format!("{TRACE} {SPAN} Accept"));
    with(&format!("{TRACE}:{SPAN}:0:8"), &format!("{TRACE} {SPAN} Deny"));
    for broken in ["", ":::", "1:2:3", "0:1:0:1", "1:0:0:1", "1:2:x:1", "1:2:0:", "1:2:0:1:1", "1:2:0:123"] {
        with(broken, "none");
    }
    check(Format::Jaeger, &[("jaeger-debug-id", "some-ticket")], "Debug");
    assert_eq!(injected(Format::Jaeger, &span(Decision::Debug)), format!("uber-trace-id: {TRACE}:{SPAN}:0:3"));

    let found = extract(Format::Jaeger, &[("UberCtx-User", "J%C3%B6rg"), ("jaeger-baggage", "a=1, b = 2")]);
    let entries: Vec<_> = found.baggage.iter().map(|entry| format!("{}={}", entry.key, entry.value)).collect();
    assert_eq!(entries, ["User=J\u{f6}rg", "a=1", "b=2"]);
    let mut headers = BTreeMap::<String, String>::new();
    Propagator::new([Format::Jaeger]).inject_baggage(&found.baggage, &mut headers);
    assert_eq!(headers["uberctx-User"], "J%C3%B6rg");
}

#[test]
fn xray() {
    let with = |value: &str, expected: &str| check(Format::XRay, &[("X-Amzn-Trace-Id", value)], expected);
    let root = "Root=1-80f198ee-56343ba864fe8b2a57d3eff7";
    with(&format!("{root};Parent={SPAN};Sampled=1"), &format!("{TRACE} {SPAN} Accept"));
    with(&format!("Sampled=0 ; Parent={SPAN}; {root}"), &format!("{TRACE} {SPAN} Deny"));
    with(&format!("{root};Parent={SPAN};Sampled=?"), &format!("{TRACE} {SPAN} Defer"));
    with(&format!("Self=1-67891234-12456789abcdef012345678;{root};Lineage=a:1|b:0"), &format!("{TRACE} - Defer"));
    with(&format!("{root};Sampled=1;"), &format!("{TRACE} - Accept"));
    for broken in [
        "",
        "Root",
        "Root=",
        "Sampled=1",
        "Root=2-80f198ee-56343ba864fe8b2a57d3eff7",
        "Root=1-80F198EE-56343ba864fe8b2a57d3eff7",
        "Root=1-80f198ee-56343ba864fe8b2a57d3eff",
        "Root=1-00000000-000000000000000000000000",
        "Root=1-80f198ee-56343ba864fe8b2a57d3eff7;Parent=0000000000000000",
        "Root=1-80f198ee-56343ba864fe8b2a57d3eff7;Sampled=2",
        "Root=1-80f198ee-56343ba864fe8b2a57d3eff7;Root=1-80f198ee-56343ba864fe8b2a57d3eff7",
    ] {
        with(broken, "none");
    }
    let wrote = injected(Format::XRay, &span(Decision::Accept));
    assert_eq!(wrote, format!("x-amzn-trace-id: {root};Parent={SPAN};Sampled=1"));
}

#[test]
fn datadog() {
    let low = u64::from_str_radix(&TRACE[16..], 16).unwrap().to_string();
    let parent = u64::from_str_radix(SPAN, 16).unwrap().to_string();
    let (trace, id) = (("x-datadog-trace-id", low.as_str()), ("x-datadog-parent-id", parent.as_str()));
    let narrow = format!("{:0>32}", &TRACE[16..]);
    let tags = ("x-datadog-tags", "_dd.p.dm=-4,_dd.p.tid=80f198ee56343ba8,_dd.p.usr=a=b;c");
    check(Format::Datadog, &[trace, id], &format!("{narrow} {SPAN} Defer"));
    check(Format::Datadog, &[trace, id, ("x-datadog-sampling-priority", "-1")], &format!("{narrow} {SPAN} Deny"));
    check(Format::Datadog, &[trace, ("x-datadog-sampling-priority", "1")], &format!("{narrow} - Accept"));
    check(Format::Datadog, &[trace, id, ("x-datadog-tags", "_dd.p.tid=80F1")], &format!("{narrow} {SPAN} Defer"));
    check(Format::Datadog, &[id], "none");
    check(Format::Datadog, &[("x-datadog-trace-id", "0"), id], "none");
    check(Format::Datadog, &[("x-datadog-trace-id", "18446744073709551616"), id], "none");
    check(Format::Datadog, &[("x-datadog-trace-id", "+1"), id], "none");
    check(Format::Datadog, &[trace, ("x-datadog-parent-id", "x")], "none");

    let headers = [trace, id, ("x-datadog-sampling-priority", "2"), ("x-datadog-origin", "rum=1"), tags];
    let found = extract(Format::Datadog, &headers);
    let span = found.span().unwrap();
    assert_eq!(describe(&found.parent), format!("{TRACE} {SPAN} Accept"));
    assert_eq!(span.state.as_str(), "dd=s:2;o:rum~1;t.dm:-4;t.usr:a~b_c");
    // Through W3C headers and out again.
    let both = Propagator::new([Format::TraceContext]);
    let mut w3c = HashMap::<String, String>::new();
    both.inject(span, &Baggage::new(), &mut w3c);
    let hop = both.extract(&w3c);
    assert_eq!(
        injected(Format::Datadog, hop.span().unwrap()),
        format!(
            "x-datadog-origin: rum=1\nx-datadog-parent-id: {parent}\nx-datadog-sampling-priority: 2\n\
             x-datadog-tags: _dd.p.tid=80f198ee56343ba8,_dd.p.dm=-4,_dd.p.usr=a=b_c\nx-datadog-trace-id: {low}"
        )
    );
    // A later decision is not overruled by the first tracer's priority.
    let denied = SpanContext { decision: Decision::Deny, ..span.clone() };
    assert!(injected(Format::Datadog, &denied).contains("x-datadog-sampling-priority: 0"));
}

#[test]
fn datadog_tags_are_limited_both_ways() {
    let long = format!("_dd.p.tid=80f198ee56343ba8,_dd.p.x={}", "y".repeat(500));
    let headers = [("x-datadog-trace-id", "1"), ("x-datadog-parent-id", "2"), ("x-datadog-tags", long.as_str())];
    let found = extract(Format::Datadog, &headers);
    assert_eq!(found.span().unwrap().trace_id.high(), 0);
    let state = TraceState::parse(
        format!("dd={}", format!("t.{}:1;", "k".repeat(40)).repeat(5).trim_end_matches(';')).as_bytes(),
    );
    let wrote = injected(Format::Datadog, &SpanContext { state: state.unwrap(), ..span(Decision::Accept) });
    assert!(wrote.lines().all(|line| line.len() <= 512 + "x-datadog-tags: ".len()));
}

#[test]
fn opentracing() {
    let (trace, id) = (("ot-tracer-traceid", "64fe8b2a57d3eff7"), ("ot-tracer-spanid", SPAN));
    let narrow = format!("{:0>32}", "64fe8b2a57d3eff7");
    check(Format::OpenTracing, &[trace, id, ("ot-tracer-sampled", "true")], &format!("{narrow} {SPAN} Accept"));
    check(Format::OpenTracing, &[trace, id, ("ot-tracer-sampled", "false")], &format!("{narrow} {SPAN} Deny"));
    check(Format::OpenTracing, &[trace, id], &format!("{narrow} {SPAN} Defer"));
    check(Format::OpenTracing, &[("ot-tracer-traceid", TRACE), id], &format!("{TRACE} {SPAN} Defer"));
    check(Format::OpenTracing, &[trace], "none");
    check(Format::OpenTracing, &[trace, ("ot-tracer-spanid", "0")], "none");
    check(Format::OpenTracing, &[trace, id, ("ot-tracer-sampled", "maybe")], "none");
    let found = extract(Format::OpenTracing, &[trace, id, ("ot-baggage-user", "7")]);
    assert_eq!(found.baggage.get("user"), Some("7"));
    let wrote = injected(Format::OpenTracing, &span(Decision::Accept));
    assert!(wrote.ends_with("ot-tracer-traceid: 64fe8b2a57d3eff7"), "{wrote}");
}

#[test]
fn google() {
    let with = |value: &str, expected: &str| check(Format::Google, &[("X-Cloud-Trace-Context", value)], expected);
    with(&format!("{TRACE}/17;o=1"), &format!("{TRACE} 0000000000000011 Accept"));
    with(&format!("{TRACE}/17;o=0"), &format!("{TRACE} 0000000000000011 Deny"));
    with(&format!("{TRACE}/18446744073709551615"), &format!("{TRACE} ffffffffffffffff Defer"));
    with(&format!("{TRACE}/0;o=1"), &format!("{TRACE} - Accept"));
    with(TRACE, &format!("{TRACE} - Defer"));
    for broken in ["", "x", "/1", &format!("{TRACE}/"), &format!("{TRACE}/1;o="), &format!("{TRACE}/1;x=1")] {
        with(broken, "none");
    }
    let number = u64::from_str_radix(SPAN, 16).unwrap();
    assert_eq!(
        injected(Format::Google, &span(Decision::Accept)),
        format!("x-cloud-trace-context: {TRACE}/{number};o=1")
    );
}

#[test]
fn the_order_decides_and_the_rest_is_kept() {
    let other = "463ac35c9f6413ad48485a3953bb6124";
    let headers = [
        ("traceparent", format!("00-{TRACE}-{SPAN}-03")),
        ("tracestate", "congo=t61".to_string()),
        ("uber-trace-id", format!("{other}:1:0:1")),
        ("b3", format!("{TRACE}-00000000000000aa-1")),
    ];
    let found = Propagator::new([Format::B3, Format::TraceContext, Format::Jaeger]).extract(&headers[..]);
    let span = found.span().unwrap();
    assert_eq!(found.format, Some(Format::B3));
    assert_eq!(span.span_id.to_string(), "00000000000000aa");
    // The same trace: what vendors noted is kept. Another trace: a link.
    assert_eq!(span.state.get("congo"), Some("t61"));
    assert!(span.random);
    assert_eq!(found.others.len(), 1);
    assert_eq!(found.others[0].trace_id.to_string(), other);
    // A span wins over a decision alone.
    let found = Propagator::new([Format::B3, Format::Jaeger]).extract(&[("b3", "0"), ("uber-trace-id", "1:2:0:1")][..]);
    assert_eq!((found.format, found.others.len()), (Some(Format::Jaeger), 0));
}

#[test]
fn names_of_propagators() {
    let (propagator, unknown) = Propagator::from_names(" tracecontext, baggage,b3multi,,tracecontext ");
    assert_eq!(propagator.injects(), [Format::TraceContext, Format::Baggage, Format::B3Multi]);
    assert_eq!(unknown, None);
    let (propagator, unknown) = Propagator::from_names("b3,zipkin");
    assert_eq!(propagator.extracts(), [Format::B3]);
    assert_eq!(unknown.unwrap().to_string().split(':').next(), Some("cannot use propagators zipkin"));
    assert_eq!(Propagator::from_names("none").0.injects(), []);
    assert_eq!(Propagator::from_names("none,b3").0.injects(), []);
}

/// As OpenTelemetry's composite propagators have it, so that a fleet with one list agrees on the parent.
#[test]
fn of_a_list_of_names_the_last_that_is_found_wins() {
    let w3c = "00-80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-01";
    let headers = [("uber-trace-id", "1:2:0:1"), ("traceparent", w3c), ("baggage", "a=1"), ("uberctx-a", "2")];
    for (names, format, others, baggage) in [
        ("jaeger,b3,tracecontext,baggage", Format::TraceContext, 1, "a=1"),
        ("baggage,tracecontext,jaeger,b3", Format::Jaeger, 1, "a=2"),
        ("tracecontext,b3", Format::TraceContext, 0, ""),
        ("jaeger,tracecontext,jaeger", Format::Jaeger, 1, "a=2"),
    ] {
        let found = Propagator::from_names(names).0.extract(&headers[..]);
        let of = (found.format, found.others.len(), found.baggage.to_header());
        assert_eq!(of, (Some(format), others, baggage.to_string()), "{names}");
    }
}

#[test]
fn what_the_last_hop_said_does_not_stay() {
    let mut headers = HashMap::<String, String>::new();
    headers.insert("tracestate".into(), "old=1".into());
    headers.insert("baggage".into(), "old=1".into());
    headers.insert("x-b3-flags".into(), "1".into());
    let propagator = Propagator::new([Format::TraceContext, Format::Baggage, Format::B3Multi]);
    propagator.inject(&span(Decision::Accept), &Baggage::new(), &mut headers);
    assert!(["tracestate", "baggage", "x-b3-flags"].iter().all(|name| !headers.contains_key(*name)), "{headers:?}");
}

#[test]
fn several_baggage_headers_are_one() {
    let headers = [("baggage", "a=1,b=2"), ("Baggage", "c=3,b=4"), ("uberctx-a", "x"), ("uberctx-d", "5")];
    let found = Propagator::new([Format::Baggage, Format::Jaeger]).extract(&headers[..]);
    assert_eq!(found.baggage.to_header(), "a=1,b=4,c=3,d=5");
}

/// A carrier that counts.
#[derive(Default)]
struct Bytes(usize);

impl Inject for Bytes {
    fn set(&mut self, name: &'static str, value: &str) {
        self.0 += name.len() + value.len();
    }
    fn set_dynamic(&mut self, name: &str, value: &str) {
        self.0 += name.len() + value.len();
    }
    fn remove(&mut self, _: &'static str) {}
}

#[test]
fn what_is_written_is_bounded() {
    let member = |i: usize| format!("{i:0>256}={}", "v".repeat(256));
    let state = TraceState::parse((0..32).map(member).collect::<Vec<_>>().join(",").as_bytes()).unwrap();
    let mut baggage = Baggage::new();
    for i in 0..64 {
        baggage.insert(&format!("k{i}"), &"\u{e4}".repeat(100), "");
    }
    let mut written = Bytes::default();
    Propagator::new(Format::ALL).inject(&SpanContext { state, ..span(Decision::Accept) }, &baggage, &mut written);
    assert!(written.0 < 4096 + 3 * (8192 + 64 * 16) + 1024, "{}", written.0);
}
