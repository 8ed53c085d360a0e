use super::*;
use crate::search::tests::{NOW, SECOND, batch, span, stores, stores_of};
use crate::traceql::parse;

/// Spans start at 0, 1, 2 (trace 1), 10, 11 (trace 3) and 20 s (trace 2); intervals end at 0, 10, 20, 30 s.
fn request(query: &str) -> MetricsRequest {
    MetricsRequest {
        query: parse(query).unwrap_or_else(|error| panic!("{query}: {error}")),
        start_unix_nano: NOW,
        end_unix_nano: NOW + 30 * SECOND,
        step_ns: Some(10 * SECOND),
        exemplars: 0,
        budget: Budget::default(),
    }
}

fn label(value: &Value) -> String {
    match value {
        Value::Str(text) => text.clone(),
        Value::Int(value) => value.to_string(),
        Value::Double(value) => value.to_string(),
        other => format!("{other:?}"),
    }
}

/// `labels: seconds=value …` of each series.
fn lines(response: &MetricsResponse) -> Vec<String> {
    let line = |series: &Series| {
        let labels = series.labels.iter().map(|(key, value)| format!("{key}={}", label(value)));
        let samples = series.samples.iter().map(|(time, value)| format!("{}={value}", (time - NOW) / SECOND));
        format!("{}: {}", labels.collect::<Vec<_>>().join(","), samples.collect::<Vec<_>>().join(" "))
    };
    response.series.iter().map(line).collect()
}

#[test]
fn spans_are_counted_in_their_intervals() {
    let stores = stores();
    let cases: &[(&str, &[&str])] = &[
        ("{} | count_over_time()", &["__name__=count_over_time: 0=1 10=3 20=2 30=0"]),
        ("{} | rate()", &["__name__=rate: 0=0.1 10=0.3 20=0.2 30=0"]),
        ("{ status = error } | count_over_time()", &["__name__=count_over_time: 0=0 10=1 20=0 30=0"]),
        ("{ name = \"nothing\" } | rate()", &[]),
        (
            "{} | count_over_time() by (resource.service.name)",
            &[
                "resource.service.name=cart: 0=0 10=2 20=0 30=0",
                "resource.service.name=gateway: 0=1 10=1 20=1 30=0",
                "resource.service.name=late: 0=0 10=0 20=1 30=0",
            ],
        ),
        (
            "{ resource.service.name = \"cart\" } | count_over_time() by (status, .nothing)",
            &["status=error: 0=0 10=1 20=0 30=0", "status=unset: 0=0 10=1 20=0 30=0"],
        ),
        ("{ status = error } | rate() by (.nothing)", &[".nothing=Empty: 0=0 10=0.1 20=0 30=0"]),
        ("{} | max_over_time(duration)", &["__name__=max_over_time: 0=9 10=30 20=1"]),
        ("{} | min_over_time(duration)", &["__name__=min_over_time: 0=9 10=2 20=1"]),
        ("{} | sum_over_time(duration)", &["__name__=sum_over_time: 0=9 10=36 20=2"]),
        ("{} | avg_over_time(duration)", &["__name__=avg_over_time: 0=9 10=12 20=1"]),
        ("{} | avg_over_time(span.http.status_code)", &["__name__=avg_over_time: 10=351.5"]),
        ("{} | sum_over_time(span.ratio)", &["__name__=sum_over_time: 10=0.5"]),
        // 2^33 ns = 8.589934592 s, 2^34, 2^35, 2^32, 2^31 and 2^30.
        (
            "{ resource.service.name = \"gateway\" } | histogram_over_time(duration)",
            &[
                "__bucket=1.073741824: 0=0 10=0 20=1 30=0",
                "__bucket=17.179869184: 0=1 10=0 20=0 30=0",
                "__bucket=34.359738368: 0=0 10=1 20=0 30=0",
            ],
        ),
        ("{ status = error } | quantile_over_time(span.http.status_code, 1)", &["p=1: 10=512"]),
        (
            "{ nestedSetParent < 0 } >> { status = error } | count_over_time()",
            &["__name__=count_over_time: 0=0 10=1 20=0 30=0"],
        ),
        ("{} | count() > 2 | count_over_time()", &["__name__=count_over_time: 0=1 10=2 20=0 30=0"]),
        // Stages after the function.
        (
            "{} | count_over_time() by (resource.service.name) | topk(1)",
            &["resource.service.name=cart: 10=2 30=0", "resource.service.name=gateway: 0=1 20=1"],
        ),
        (
            "{} | count_over_time() by (resource.service.name) | bottomk(1)",
            &["resource.service.name=cart: 20=0", "resource.service.name=late: 0=0 10=0 30=0"],
        ),
        ("{} | count_over_time() > 1 < 3", &["__name__=count_over_time: 20=2"]),
        ("{} | count_over_time() != 0 | topk(5)", &["__name__=count_over_time: 0=1 10=3 20=2"]),
        // Arithmetic.
        (
            "({ status = error } | count_over_time()) / ({} | count_over_time()) * 100",
            &["__name__=((count_over_time / count_over_time) * 100): 0=0 10=33.33333333333333 20=0"],
        ),
        (
            "({ status = error } | count_over_time() by (resource.service.name)) \
             / ({} | count_over_time() by (resource.service.name))",
            &["__name__=(count_over_time / count_over_time),resource.service.name=cart: 10=0.5"],
        ),
        ("2 * (({} | max_over_time(duration)) - 1.5) > 20", &["__name__=(2 * (max_over_time - 1.5)): 10=57"]),
    ];
    for (query, expected) in cases {
        for (_, snapshot) in &stores {
            let response = metrics(snapshot, &request(query)).unwrap();
            assert!(response.complete);
            assert_eq!(lines(&response), *expected, "{query}");
        }
    }
}

#[test]
fn a_range_without_steps_is_one_interval() {
    for (_, snapshot) in stores() {
        let instant = MetricsRequest { step_ns: None, ..request("{} | rate()") };
        assert_eq!(lines(&metrics(&snapshot, &instant).unwrap()), ["__name__=rate: 30=0.2"]);
        let short = MetricsRequest { end_unix_nano: NOW + 2 * SECOND, ..instant };
        assert_eq!(lines(&metrics(&snapshot, &short).unwrap()), ["__name__=rate: 2=1.5"]);
    }
}

#[test]
fn compare_tells_selected_spans_from_others() {
    for (_, snapshot) in stores() {
        let instant = MetricsRequest { step_ns: None, ..request("{} | compare({ status = error }, 1)") };
        let found = lines(&metrics(&snapshot, &instant).unwrap());
        for expected in [
            "__meta_type=selection,status=error: 30=1",
            "__meta_type=selection_total,status=Empty: 30=1",
            "__meta_type=baseline,status=unset: 30=5",
            "__meta_type=baseline,resource.service.name=gateway: 30=3",
            "__meta_type=baseline_total,resource.service.name=Empty: 30=5",
            "__meta_type=selection,span.http.status_code=503: 30=1",
        ] {
            assert!(found.iter().any(|line| line == expected), "{expected} in {found:#?}");
        }
        // One value of each attribute was asked for.
        assert!(!found.iter().any(|line| line.starts_with("__meta_type=baseline,resource.service.name=cart")));
    }
}

#[test]
fn exemplars_show_spans_behind_the_numbers() {
    for (_, snapshot) in stores() {
        let request =
            MetricsRequest { exemplars: 10, ..request("{} | max_over_time(duration) by (resource.service.name)") };
        let response = metrics(&snapshot, &request).unwrap();
        let exemplars: Vec<_> = response.series.iter().flat_map(|series| &series.exemplars).collect();
        // One of each trace.
        assert_eq!(exemplars.len(), 3);
        let slow = exemplars.iter().find(|exemplar| exemplar.trace_id == TraceId([3; 16])).unwrap();
        assert!([1.0, 30.0].contains(&slow.value), "{slow:?}");
        assert_eq!(slow.labels.len(), 1);
        let counted =
            MetricsRequest { exemplars: 0, ..crate::metrics::tests::request("{} | rate() with(exemplars=1)") };
        let response = metrics(&snapshot, &counted).unwrap();
        assert_eq!(response.series[0].exemplars.len(), 1);
        assert!([0.1, 0.2, 0.3].contains(&response.series[0].exemplars[0].value));
    }
}

#[test]
fn what_cannot_be_answered_says_so() {
    let (_, snapshot) = &stores()[0];
    assert!(matches!(metrics(snapshot, &request("{}")), Err(MetricsError::IsSearch)));
    let fine = MetricsRequest { step_ns: Some(1), ..request("{} | rate()") };
    assert!(metrics(snapshot, &fine).unwrap_err().to_string().contains("longer step"));
    let backwards = MetricsRequest { end_unix_nano: NOW, ..request("{} | rate()") };
    assert!(matches!(metrics(snapshot, &backwards), Err(MetricsError::Range(_))));
    let cancelled = request("{} | rate()");
    cancelled.budget.cancelled.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(!metrics(snapshot, &cancelled).unwrap().complete);
}

#[test]
fn steps_are_round() {
    for (seconds, step) in [(10, 0.05), (60, 0.25), (300, 1.0), (3_600, 15.0), (86_400, 300.0), (604_800, 2_400.0)] {
        assert_eq!(default_step_ns(seconds * SECOND) as f64 / 1e9, step, "{seconds}");
    }
}

/// Three traces that stand for four each, and one that stands for itself.
fn sampled() -> Vec<Batch> {
    let kept = |trace: u8, start: u64, duration: u64, state: &str| spanwise_model::Span {
        trace_state: state.to_owned(),
        ..span(trace, trace, 0, "GET /", start, duration)
    };
    // The child says nothing of its sampling, and is counted as its trace.
    let child = span(1, 9, 1, "load", 2, 1);
    let spans =
        [kept(1, 1, 2, "ot=th:c"), child, kept(2, 2, 2, "ot=th:c"), kept(3, 3, 4, "ot=th:c"), kept(4, 4, 9, "")];
    vec![batch("gateway", &spans)]
}

#[test]
fn spans_count_as_often_as_they_stand_for_others() {
    for (_dir, snapshot) in stores_of(sampled) {
        let cases = [
            (
                "{} | count_over_time() by (name)",
                &["name=GET /: 0=0 10=13 20=0 30=0", "name=load: 0=0 10=4 20=0 30=0"][..],
            ),
            ("{ name = \"GET /\" } | rate()", &["__name__=rate: 0=0 10=1.3 20=0 30=0"]),
            ("{ name = \"GET /\" } | sum_over_time(duration)", &["__name__=sum_over_time: 10=41"]),
            ("{ name = \"GET /\" } | max_over_time(duration)", &["__name__=max_over_time: 10=9"]),
            ("{ name = \"GET /\" } | rate() with(weighted=false)", &["__name__=rate: 0=0 10=0.4 20=0 30=0"]),
        ];
        for (query, expected) in cases {
            let response = metrics(&snapshot, &request(query)).unwrap();
            assert_eq!(lines(&response), expected, "{query}");
            assert_eq!(response.is_weighted, !query.contains("weighted=false"), "{query}");
        }
        // Twelve thirteenths took up to 4 s.
        let response =
            metrics(&snapshot, &request("{ name = \"GET /\" } | quantile_over_time(duration, 0.9)")).unwrap();
        let (_, p90) = response.series[0].samples[0];
        assert!((4.0..=8.6).contains(&p90), "{p90}");
    }
    for (_dir, snapshot) in stores() {
        assert!(!metrics(&snapshot, &request("{} | rate()")).unwrap().is_weighted);
    }
}
