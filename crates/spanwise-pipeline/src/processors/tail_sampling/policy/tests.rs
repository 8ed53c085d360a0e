use super::*;
use crate::graph::tests::batch_of;
use spanwise_model::{KeyValue, Span, SpanId, Status, Value};

pub(super) fn policies(yaml: &str) -> Result<Policies, String> {
    policies_of(yaml, false)
}

fn policies_of(yaml: &str, use_tracestate: bool) -> Result<Policies, String> {
    let node = crate::config::yaml::parse(yaml, 0).unwrap();
    let mut errors = Vec::new();
    let configs: super::super::config::TailSamplingConfig =
        crate::config::decode::decode(&node, "p", &mut errors).unwrap_or_else(|| panic!("{errors:?}"));
    Policies::new(&configs.policies, configs.sample_on_first_match, use_tracestate)
}

fn random(percent: u32, salt: &str) -> String {
    format!(
        "{{name: p{percent}{salt}, type: probabilistic, probabilistic: {{sampling_percentage: {percent}, hash_salt: '{salt}'}}}}"
    )
}

/// Its last 56 bits are seven eighths of their range.
const HIGH: [u8; 16] = [1, 1, 1, 1, 1, 1, 1, 1, 1, 0xe0, 1, 1, 1, 1, 1, 1];

pub(super) fn span(attributes: Vec<KeyValue>, status: i32, millis: u64) -> Span {
    let code = [spanwise_model::StatusCode::Unset, spanwise_model::StatusCode::Ok, spanwise_model::StatusCode::Error]
        [status as usize];
    Span {
        trace_id: TraceId([1; 16]),
        span_id: SpanId([2; 8]),
        start_unix_nano: 1_000_000_000,
        end_unix_nano: 1_000_000_000 + millis * 1_000_000,
        attributes,
        status: Status { code, ..Status::default() },
        ..Span::default()
    }
}

pub(super) fn decide(policies: &Policies, trace_id: [u8; 16], spans: &[Span]) -> Verdict {
    let batch = batch_of(vec![KeyValue::new("deployment.environment", "prod")], spans);
    let views: Vec<_> = batch.spans().iter().map(|span| SpanView { batch: &batch, span }).collect();
    policies.decide(&TraceView::new(TraceId(trace_id), &views), |_, _| {})
}

const SURELY: Verdict = Verdict::Sampled { probability: 1.0, threshold: Threshold::ALWAYS };

fn keeps(yaml: &str, spans: &[Span]) -> bool {
    decide(&policies(yaml).unwrap(), [1; 16], spans) == SURELY
}

#[test]
fn each_policy_keeps_what_it_names() {
    let int = |value| KeyValue { key: "http.status".to_owned(), value: Value::Int(value) };
    let text = |value: &str| KeyValue::new("route", value);
    let plain = || span(vec![int(500), text("/cart")], 0, 100);
    for (policy, expected) in [
        ("{name: a, type: always_sample}", true),
        ("{name: a, type: status_code, status_code: {status_codes: [ERROR]}}", false),
        ("{name: a, type: status_code, status_code: {status_codes: [ERROR, UNSET]}}", true),
        ("{name: a, type: latency, latency: {threshold_ms: 99}}", true),
        ("{name: a, type: latency, latency: {threshold_ms: 100}}", false),
        ("{name: a, type: latency, latency: {threshold_ms: 10, upper_threshold_ms: 99}}", false),
        ("{name: a, type: latency, latency: {threshold_ms: 10, upper_threshold_ms: 100}}", true),
        ("{name: a, type: numeric_attribute, numeric_attribute: {key: http.status, min_value: 500}}", true),
        ("{name: a, type: numeric_attribute, numeric_attribute: {key: http.status, max_value: 499}}", false),
        (
            "{name: a, type: numeric_attribute, numeric_attribute: {key: http.status, max_value: 499, invert_match: true}}",
            true,
        ),
        ("{name: a, type: string_attribute, string_attribute: {key: route, values: [/cart]}}", true),
        ("{name: a, type: string_attribute, string_attribute: {key: route, values: [/car]}}", false),
        (
            "{name: a, type: string_attribute, string_attribute: {key: route, values: ['c.r'], enabled_regex_matching: true}}",
            true,
        ),
        ("{name: a, type: string_attribute, string_attribute: {key: deployment.environment, values: [prod]}}", true),
        (
            "{name: a, type: string_attribute, string_attribute: {key: route, values: [/cart], invert_match: true}}",
            false,
        ),
        (
            "{name: a, type: and, and: {and_sub_policy: [{name: b, type: always_sample}, {name: c, type: latency, latency: {threshold_ms: 200}}]}}",
            false,
        ),
    ] {
        assert_eq!(keeps(&format!("policies: [{policy}]"), &[plain()]), expected, "{policy}");
    }
    let errors = "policies: [{name: a, type: status_code, status_code: {status_codes: [ERROR]}}]";
    assert!(keeps(errors, &[plain(), span(Vec::new(), 2, 1)]));
}

#[test]
fn dropping_wins_over_everything() {
    let yaml = "policies:\n- {name: a, type: always_sample}\n\
                - {name: d, type: drop, drop: {drop_sub_policy: [{name: h, type: string_attribute, string_attribute: {key: route, values: [/healthz]}}]}}\n";
    let all = policies(yaml).unwrap();
    let health = span(vec![KeyValue::new("route", "/healthz")], 2, 5);
    assert_eq!(decide(&all, [1; 16], &[health]), Verdict::Dropped);
    assert_eq!(decide(&all, [1; 16], &[span(Vec::new(), 0, 5)]), SURELY);
}

#[test]
fn what_is_rare_or_new_is_kept_after_a_while_and_within_bounds() {
    let list = "policies: [{name: r, type: rare_shape, rare_shape: {max_share: 0.01, warm_up_traces: 50, traces_per_second: 3}}]";
    let all = policies(list).unwrap();
    let named = |name: &str| vec![Span { name: name.to_owned(), ..span(Vec::new(), 0, 5) }];
    let keeps = |name: &str| decide(&all, [1; 16], &named(name)) != Verdict::NotSampled;
    let with_child = |all: &Policies| {
        let child = Span {
            span_id: SpanId([3; 8]),
            parent_span_id: Some(SpanId([2; 8])),
            name: "branch".to_owned(),
            ..span(Vec::new(), 0, 4)
        };
        decide(all, [1; 16], &[named("GET /").remove(0), child]) != Verdict::NotSampled
    };
    assert!(!with_child(&all), "too early to tell");
    assert!((0..200).all(|_| !keeps("GET /")));
    assert!(with_child(&all));
    assert!(!keeps("GET /") && !keeps("POST /"), "another entry point is at its beginning");
    // The second is as rare, the third no more: three in two hundred.
    assert!(with_child(&all) && !with_child(&all));
    let new = "policies: [{name: n, type: new_dependency, new_dependency: {warm_up_traces: 20, new_for_traces: 2, traces_per_second: 0}}]";
    let all = policies(new).unwrap();
    let query = |system: &str| {
        let attributes = vec![KeyValue::new("db.system", system)];
        let own = Span {
            kind: spanwise_model::SpanKind::Client,
            span_id: SpanId([3; 8]),
            parent_span_id: Some(SpanId([2; 8])),
            ..span(attributes, 0, 4)
        };
        vec![named("GET /").remove(0), own]
    };
    let keeps = |system: &str| decide(&all, [1; 16], &query(system)) != Verdict::NotSampled;
    assert!((0..30).all(|_| !keeps("redis")));
    assert_eq!([keeps("mysql"), keeps("redis"), keeps("mysql"), keeps("mysql")], [true, false, true, false]);
}

#[test]
fn a_trace_that_shows_a_finding_is_kept() {
    let all = policies("policies: [{name: i, type: insight, insight: {kinds: [n_plus_one]}}]").unwrap();
    let query = |number: u8| Span {
        span_id: SpanId([10 + number; 8]),
        parent_span_id: Some(SpanId([2; 8])),
        kind: spanwise_model::SpanKind::Client,
        start_unix_nano: 1_000_000_000 + u64::from(number) * 10_000_000,
        end_unix_nano: 1_000_000_000 + u64::from(number) * 10_000_000 + 8_000_000,
        ..span(vec![KeyValue::new("db.system", "mysql"), KeyValue::new("db.statement", "SELECT 1")], 0, 8)
    };
    let loop_of = |count: u8| {
        let mut spans = vec![span(Vec::new(), 0, 200)];
        spans.extend((0..count).map(query));
        spans
    };
    assert_eq!(decide(&all, [1; 16], &loop_of(4)), Verdict::NotSampled);
    assert_eq!(decide(&all, [1; 16], &loop_of(12)), SURELY);
}

/// The share of random ids that are kept is the probability that is reported.
#[test]
fn the_probability_is_the_share_that_is_kept() {
    let slow = "{name: l, type: latency, latency: {threshold_ms: 50}}";
    let and = |inner: &str| {
        format!("{{name: and, type: and, and: {{and_sub_policy: [{{name: y, type: always_sample}}, {inner}]}}}}")
    };
    let drop = |inner: &str| format!("{{name: d, type: drop, drop: {{drop_sub_policy: [{inner}]}}}}");
    for (list, expected) in [
        (random(20, "a"), 0.2),
        (format!("{}, {}", random(20, "a"), random(30, "a")), 0.3),
        (format!("{}, {}", random(20, "a"), random(50, "b")), 0.6),
        (format!("{}, {slow}", random(20, "a")), 0.2),
        (and(&random(40, "c")), 0.4),
        (format!("{}, {}", random(50, "a"), drop(&random(50, "b"))), 0.25),
    ] {
        let all = policies(&format!("policies: [{list}]")).unwrap();
        let mut kept = 0u32;
        for number in 0..20_000u64 {
            let mut id = [3; 16];
            id[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
            if let Verdict::Sampled { probability, .. } = decide(&all, id, &[span(Vec::new(), 0, 1)]) {
                assert!((probability - expected).abs() < 1e-9, "{list}: {probability}");
                kept += 1;
            }
        }
        let share = f64::from(kept) / 20_000.0;
        assert!((share - expected).abs() < 0.015, "{list}: {share} instead of {expected}");
    }
    let slow_one = [span(Vec::new(), 0, 100)];
    let all = policies(&format!("policies: [{}, {slow}]", random(20, "a"))).unwrap();
    assert_eq!(decide(&all, [1; 16], &slow_one), SURELY);
}

/// The threshold of the verdict on a trace whose spans have these tracestates, as `th` has it.
fn kept_with(list: &str, states: &[&str], millis: u64) -> Option<String> {
    let all = policies_of(&format!("policies: [{list}]"), true).unwrap();
    let spans: Vec<_> =
        states.iter().map(|state| Span { trace_state: (*state).to_owned(), ..span(Vec::new(), 0, millis) }).collect();
    match decide(&all, HIGH, &spans) {
        Verdict::Sampled { threshold, .. } => Some(threshold.to_string()),
        _ => None,
    }
}

#[test]
fn with_tracestates_the_draw_is_that_of_the_senders() {
    let slow = "{name: l, type: latency, latency: {threshold_ms: 50}}";
    let and = |inner: &str| {
        format!("{{name: and, type: and, and: {{and_sub_policy: [{{name: y, type: always_sample}}, {inner}]}}}}")
    };
    let low = "ot=rv:10000000000000";
    for (list, states, millis, expected) in [
        // By the id's last 56 bits: of thresholds up to 7/8 it is kept.
        (random(25, ""), &["ot=th:0"][..], 1, Some("c")),
        (random(12, ""), &["ot=th:0"], 1, None),
        // By the first draw that a span names.
        (random(95, ""), &["", "a=b", low], 1, Some("0cccccccccccd")),
        (random(90, ""), &[low, "ot=rv:f0000000000000"], 1, None),
        (random(90, ""), &["ot=rv:broken", "ot=rv:f0000000000000"], 1, Some("19999999999998")),
        (random(0, ""), &["ot=rv:ffffffffffffff"], 1, None),
        // The least strict of those that kept it, the strictest of those that must all.
        (format!("{}, {}", random(25, ""), random(50, "")), &["ot=th:0"], 1, Some("8")),
        (format!("{}, {}", random(25, ""), random(5, "")), &["ot=th:0"], 1, Some("c")),
        (and(&random(25, "")), &["ot=th:0"], 1, Some("c")),
        // What is kept for what it is, is kept always.
        (format!("{}, {slow}", random(25, "")), &["ot=th:0"], 100, Some("0")),
        (format!("{}, {slow}", random(5, "")), &["ot=th:0"], 100, Some("0")),
        // Nobody sampled before: the collector's hash draws.
        (random(100, ""), &["", "a=b", "ot=x:1"], 1, Some("0")),
    ] {
        assert_eq!(kept_with(&list, states, millis).as_deref(), expected, "{list} {states:?}");
    }
    // That hash keeps the same traces as without tracestates, and says with which threshold.
    for percent in 1..100 {
        let list = random(percent, "a");
        let without = decide(&policies(&format!("policies: [{list}]")).unwrap(), HIGH, &[span(Vec::new(), 0, 1)]);
        let with = kept_with(&list, &[""], 1);
        assert_eq!(with.is_some(), without != Verdict::NotSampled, "{percent}");
        let threshold = Threshold::of_probability(f64::from(percent) / 100.0).unwrap().to_string();
        assert!(with.is_none_or(|with| with == threshold), "{percent}");
    }
}

#[test]
fn wrong_policies_are_named() {
    for (list, expected) in [
        ("[]", "no policies provided"),
        ("[{type: always_sample}]", "policy name cannot be empty"),
        ("[{name: a, type: always_sample}, {name: a, type: always_sample}]", "duplicate policy name \"a\""),
        ("[{name: a, type: latencies}]", "unknown sampling policy type latencies"),
        ("[{name: a, type: status_code, status_code: {status_codes: [error]}}]", "unknown status code \"error\""),
        ("[{name: a, type: status_code}]", "at least one status code"),
        ("[{name: a, type: latency, latency: {threshold_ms: 5, upper_threshold_ms: 5}}]", "upper_threshold_ms"),
        (
            "[{name: a, type: string_attribute, string_attribute: {key: k, values: ['('], enabled_regex_matching: true}}]",
            "unclosed group",
        ),
        ("[{name: a, type: and}]", "and_sub_policy must name at least one policy"),
        ("[{name: a, type: insight, insight: {kinds: [slow]}}]", "unknown kind \"slow\""),
        ("[{name: a, type: rare_shape, rare_shape: {max_share: 2}}]", "max_share"),
        ("[{name: a, type: new_dependency, new_dependency: {traces_per_second: -1}}]", "traces_per_second"),
    ] {
        let error = policies(&format!("policies: {list}")).err().unwrap();
        assert!(error.contains(expected), "{expected:?} in {error:?}");
    }
}
