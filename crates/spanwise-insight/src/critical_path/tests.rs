use super::*;
use crate::tree::tests::trace;
use proptest::prelude::*;
use spanwise_model::SpanId;

const MS: u64 = 1_000_000;

/// Span id (0 where no span ran), start and end in milliseconds.
type Expected<'a> = &'a [(u8, u64, u64)];

fn found(trace: &Trace, mode: Mode) -> Vec<(u8, u64, u64)> {
    let path = critical_path(trace, &Tree::of(trace), mode);
    let segment = |segment: &Segment| {
        let id = segment.span.map_or(0, |place| trace.spans[place].span.span_id.0[7]);
        (id, segment.start_unix_nano / MS, segment.end_unix_nano / MS)
    };
    path.segments.iter().map(segment).collect()
}

/// Spans as (id, parent, start, end) in milliseconds.
fn in_ms(spans: &[(u8, u8, u64, u64)], kinds: &[(u8, SpanKind)]) -> Trace {
    let spans: Vec<_> = spans.iter().map(|(id, parent, start, end)| (*id, *parent, start * MS, end * MS)).collect();
    let mut trace = trace(&spans);
    for span in &mut trace.spans {
        let kind = kinds.iter().find(|(id, _)| *id == span.span.span_id.0[7]);
        span.span.kind = kind.map_or(SpanKind::Internal, |(_, kind)| *kind);
    }
    trace
}

/// What each rule says of one trace.
struct Case {
    what: &'static str,
    spans: &'static [(u8, u8, u64, u64)],
    kinds: &'static [(u8, SpanKind)],
    spanwise: Expected<'static>,
    jaeger: Expected<'static>,
    crisp: Expected<'static>,
    elastic: Expected<'static>,
}

/// Worked out by hand; `docs/critical-path.md` draws them.
const CASES: [Case; 11] = [
    Case {
        what: "a span alone",
        spans: &[(1, 0, 0, 100)],
        kinds: &[],
        spanwise: &[(1, 0, 100)],
        jaeger: &[(1, 0, 100)],
        crisp: &[(1, 0, 100)],
        elastic: &[(1, 0, 100)],
    },
    Case {
        what: "one after the other",
        spans: &[(1, 0, 0, 100), (2, 1, 10, 40), (3, 1, 50, 90)],
        kinds: &[],
        spanwise: &[(1, 0, 10), (2, 10, 40), (1, 40, 50), (3, 50, 90), (1, 90, 100)],
        jaeger: &[(1, 0, 10), (2, 10, 40), (1, 40, 50), (3, 50, 90), (1, 90, 100)],
        crisp: &[(1, 0, 10), (2, 10, 40), (1, 40, 50), (3, 50, 90), (1, 90, 100)],
        elastic: &[(1, 0, 10), (2, 10, 40), (1, 40, 50), (3, 50, 90), (1, 90, 100)],
    },
    Case {
        what: "siblings that touch",
        spans: &[(1, 0, 0, 100), (2, 1, 10, 50), (3, 1, 50, 90)],
        kinds: &[],
        spanwise: &[(1, 0, 10), (2, 10, 50), (3, 50, 90), (1, 90, 100)],
        jaeger: &[(1, 0, 50), (3, 50, 90), (1, 90, 100)],
        crisp: &[(1, 0, 10), (2, 10, 50), (3, 50, 90), (1, 90, 100)],
        elastic: &[(1, 0, 10), (2, 10, 50), (3, 50, 90), (1, 90, 100)],
    },
    Case {
        what: "siblings that overlap",
        spans: &[(1, 0, 0, 100), (2, 1, 10, 60), (3, 1, 30, 90)],
        kinds: &[],
        spanwise: &[(1, 0, 10), (2, 10, 30), (3, 30, 90), (1, 90, 100)],
        jaeger: &[(1, 0, 30), (3, 30, 90), (1, 90, 100)],
        crisp: &[(1, 0, 30), (3, 30, 90), (1, 90, 100)],
        elastic: &[(1, 0, 30), (3, 30, 90), (1, 90, 100)],
    },
    Case {
        what: "a child that outlives its parent",
        spans: &[(1, 0, 0, 100), (2, 1, 50, 150)],
        kinds: &[],
        spanwise: &[(1, 0, 100)],
        jaeger: &[(1, 0, 50), (2, 50, 100)],
        crisp: &[(1, 0, 50), (2, 50, 100)],
        elastic: &[(1, 0, 100)],
    },
    Case {
        what: "a server whose clock is ahead of its client's",
        spans: &[(1, 0, 0, 100), (2, 1, 10, 80), (3, 2, 20, 90)],
        kinds: &[(2, SpanKind::Client), (3, SpanKind::Server)],
        spanwise: &[(1, 0, 10), (2, 10, 20), (3, 20, 80), (1, 80, 100)],
        jaeger: &[(1, 0, 10), (2, 10, 20), (3, 20, 80), (1, 80, 100)],
        // The server keeps its place, so that it lies over what its client's caller does next.
        crisp: &[(1, 0, 10), (2, 10, 20), (3, 20, 90), (1, 80, 100)],
        elastic: &[(1, 0, 10), (2, 10, 80), (1, 80, 100)],
    },
    Case {
        what: "a child after its parent, with a child of its own",
        spans: &[(1, 0, 0, 100), (2, 1, 120, 150), (3, 2, 125, 130)],
        kinds: &[],
        spanwise: &[(1, 0, 100)],
        jaeger: &[(1, 0, 100)],
        crisp: &[(1, 0, 100)],
        elastic: &[(1, 0, 100)],
    },
    Case {
        what: "a message and who takes it",
        spans: &[(1, 0, 0, 100), (2, 1, 10, 20), (3, 2, 15, 60)],
        kinds: &[(2, SpanKind::Producer), (3, SpanKind::Consumer)],
        spanwise: &[(1, 0, 10), (2, 10, 20), (1, 20, 100)],
        jaeger: &[(1, 0, 10), (2, 10, 20), (1, 20, 100)],
        crisp: &[(1, 0, 10), (2, 10, 15), (3, 15, 20), (1, 20, 100)],
        elastic: &[(1, 0, 10), (2, 10, 20), (1, 20, 100)],
    },
    Case {
        what: "children of a child, a millisecond apart",
        spans: &[(1, 0, 0, 100), (2, 1, 20, 80), (3, 2, 30, 50), (4, 2, 51, 70)],
        kinds: &[],
        spanwise: &[(1, 0, 20), (2, 20, 30), (3, 30, 50), (2, 50, 51), (4, 51, 70), (2, 70, 80), (1, 80, 100)],
        jaeger: &[(1, 0, 20), (2, 20, 30), (3, 30, 50), (2, 50, 51), (4, 51, 70), (2, 70, 80), (1, 80, 100)],
        crisp: &[(1, 0, 20), (2, 20, 30), (3, 30, 50), (2, 50, 51), (4, 51, 70), (2, 70, 80), (1, 80, 100)],
        elastic: &[(1, 0, 20), (2, 20, 30), (3, 30, 50), (4, 51, 70), (2, 70, 80), (1, 80, 100)],
    },
    Case {
        what: "equal ends, and a span without length",
        spans: &[(1, 0, 0, 100), (2, 1, 40, 90), (3, 1, 60, 90), (4, 1, 70, 70)],
        kinds: &[],
        spanwise: &[(1, 0, 40), (2, 40, 90), (1, 90, 100)],
        jaeger: &[(1, 0, 40), (2, 40, 90), (1, 90, 100)],
        crisp: &[(1, 0, 40), (2, 40, 90), (1, 90, 100)],
        elastic: &[(1, 0, 40), (2, 40, 90), (1, 90, 100)],
    },
    Case {
        what: "a child that starts before its parent",
        spans: &[(1, 0, 10, 100), (2, 1, 0, 50)],
        kinds: &[],
        spanwise: &[(2, 10, 50), (1, 50, 100)],
        jaeger: &[(2, 10, 50), (1, 50, 100)],
        crisp: &[(2, 10, 50), (1, 50, 100)],
        elastic: &[(2, 10, 50), (1, 50, 100)],
    },
];

#[test]
fn each_rule_says_what_was_worked_out_by_hand() {
    for case in &CASES {
        let trace = in_ms(case.spans, case.kinds);
        for (mode, expected) in [
            (Mode::Spanwise, case.spanwise),
            (Mode::Jaeger, case.jaeger),
            (Mode::Crisp, case.crisp),
            (Mode::Elastic, case.elastic),
        ] {
            assert_eq!(found(&trace, mode), expected, "{}: {}", case.what, mode.as_str());
        }
    }
}

#[test]
fn crisp_takes_the_whole_time_of_children_off() {
    let trace = in_ms(CASES[5].spans, CASES[5].kinds);
    let path = critical_path(&trace, &Tree::of(&trace), Mode::Crisp);
    assert_eq!(path.own_ns, Some(vec![30 * MS, 0, 70 * MS]));
}

#[test]
fn what_nobody_waits_for_is_off_the_path() {
    let path = |spans: &[(u8, u8, u64, u64)]| found(&in_ms(spans, &[]), Mode::Spanwise);
    assert_eq!(path(&[(1, 0, 0, 100), (2, 1, 50, 150)]), [(1, 0, 100)]);
    assert_eq!(path(&[(1, 0, 0, 100), (2, 1, 120, 150)]), [(1, 0, 100)]);
    // Clocks are read one after the other: a trifle is no sign that nobody waited.
    let mut trifle = in_ms(&[(1, 0, 0, 1000), (2, 1, 500, 1000)], &[]);
    trifle.spans[1].span.end_unix_nano += 3_000;
    assert_eq!(found(&trifle, Mode::Spanwise), [(1, 0, 500), (2, 500, 1000)]);
}

#[test]
fn without_a_single_root_all_time_is_covered() {
    let two = in_ms(&[(1, 0, 0, 40), (2, 0, 60, 100)], &[]);
    assert_eq!(found(&two, Mode::Spanwise), [(1, 0, 40), (0, 40, 60), (2, 60, 100)]);
    assert_eq!(found(&two, Mode::Jaeger), [(1, 0, 40), (2, 60, 100)]);
    for mode in Mode::ALL {
        assert_eq!(found(&in_ms(&[(1, 0, 10, 5)], &[]), mode), []);
        assert_eq!(found(&Trace::default(), mode), []);
        assert_eq!(Mode::parse(mode.as_str()), Some(mode));
    }
}

/// `count` spans that copy the first, numbered from 1.
fn many(count: u64, place: impl Fn(u64) -> (Option<u64>, u64, u64)) -> Trace {
    let template = trace(&[(1, 0, 0, 0)]).spans[0].clone();
    let spans = (0..count).map(|number| {
        let mut span = template.clone();
        let (parent, start, end) = place(number);
        span.span.span_id = SpanId((number + 1).to_be_bytes());
        span.span.parent_span_id = parent.map(|parent| SpanId((parent + 1).to_be_bytes()));
        (span.span.start_unix_nano, span.span.end_unix_nano) = (start, end);
        span
    });
    Trace { spans: spans.collect() }
}

#[test]
fn deep_chains_and_wide_loops_take_no_stack_and_no_square() {
    const COUNT: u64 = 100_000;
    let chain = many(COUNT, |number| (number.checked_sub(1), number, 4 * COUNT - number));
    let wide = many(COUNT, |number| match number {
        0 => (None, 0, 4 * COUNT),
        _ => (Some(0), 4 * number - 3, 4 * number - 1),
    });
    for trace in [chain, wide] {
        let tree = Tree::of(&trace);
        for mode in Mode::ALL {
            let path = critical_path(&trace, &tree, mode);
            let sum: u64 = path.segments.iter().map(|segment| segment.end_unix_nano - segment.start_unix_nano).sum();
            assert!(sum <= 4 * COUNT && sum > COUNT, "{}: {sum}", mode.as_str());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn segments_tile_the_duration(spans in proptest::collection::vec((1u8..20, 0u8..20, 0u64..100, 0u64..100), 0..30)) {
        let trace = trace(&spans);
        let tree = Tree::of(&trace);
        let path = critical_path(&trace, &tree, Mode::Spanwise);
        let mut at = path.start_unix_nano;
        for segment in &path.segments {
            prop_assert_eq!(segment.start_unix_nano, at);
            prop_assert!(segment.end_unix_nano > at);
            at = segment.end_unix_nano;
        }
        prop_assert_eq!(at, path.end_unix_nano.max(path.start_unix_nano));
        for mode in Mode::ALL {
            let facts = crate::facts::trace_facts_in(&trace, mode);
            let sum: u64 = facts.spans.iter().map(|span| span.critical_ns).sum();
            let by_service: u64 = facts.critical_by_service.iter().map(|service| service.ns).sum();
            if mode == Mode::Spanwise {
                prop_assert_eq!(by_service, facts.duration_ns);
            }
            if mode != Mode::Crisp {
                prop_assert!(sum <= by_service);
            }
        }
    }

    /// Jaeger's and Elastic's sections never overlap within one root.
    #[test]
    fn the_sections_of_one_root_do_not_overlap(spans in proptest::collection::vec((2u8..20, 1u8..20, 0u64..100, 0u64..100), 0..30)) {
        let mut spans = spans;
        spans.insert(0, (1, 0, 0, 100));
        let trace = trace(&spans);
        let tree = Tree::of(&trace);
        if tree.roots.len() == 1 {
            for mode in [Mode::Jaeger, Mode::Elastic] {
                let path = critical_path(&trace, &tree, mode);
                for pair in path.segments.windows(2) {
                    prop_assert!(pair[0].end_unix_nano <= pair[1].start_unix_nano, "{} {:?}", mode.as_str(), path.segments);
                }
            }
        }
    }
}
