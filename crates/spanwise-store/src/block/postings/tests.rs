use std::path::Path;

use proptest::prelude::*;
use spanwise_journal::RealDisk;
use spanwise_model::{KeyValue, Resource, Span, SpanId, Status, StatusCode, TraceId, Value};
use spanwise_wire::encode::{encode_resource_header, encode_span};
use spanwise_wire::view::{self, ValueView};
use spanwise_wire::{Batch, Piece, frame};

use super::*;
use crate::block::filter::{Column, Note, Predicate, Test};
use crate::block::{self, BlockReader, Order};

/// One span, in small numbers.
#[derive(Debug, Clone)]
struct Seed {
    trace: u8,
    service: u8,
    name: u8,
    user: Option<u8>,
    code: Option<Value>,
    failed: bool,
    start: u64,
    duration: u64,
}

fn any_seed() -> impl Strategy<Value = Seed> {
    let code = prop_oneof![
        Just(None),
        (0i64..4).prop_map(|code| Some(Value::Int(code))),
        (0i64..4).prop_map(|code| Some(Value::Double(code as f64 / 2.0))),
        (0i64..4).prop_map(|code| Some(Value::Str(code.to_string()))),
    ];
    let parts = (0u8..60, 0u8..4, 0u8..9, prop::option::of(0u8..30), code, any::<bool>(), 0u64..50, 0u64..100);
    parts.prop_map(|(trace, service, name, user, code, failed, start, duration)| Seed {
        trace,
        service,
        // Some are rare.
        name: if name < 7 { 0 } else { name },
        user: user.map(|user| if user < 20 { 0 } else { user }),
        code,
        failed: failed && service < 2,
        start,
        duration,
    })
}

fn batch(seeds: &[Seed], arrays: bool) -> Batch {
    let services: Vec<Vec<u8>> = (0..4u8)
        .map(|service| {
            let name = match service {
                3 => KeyValue::new("host", "h"),
                2 if arrays => KeyValue::new("service.name", Value::Array(vec!["s0".into(), "s9".into()])),
                other => KeyValue::new("service.name", format!("s{other}")),
            };
            encode_resource_header(&Resource { attributes: vec![name], ..Resource::default() })
        })
        .collect();
    let spans: Vec<Vec<u8>> = seeds
        .iter()
        .enumerate()
        .map(|(number, seed)| {
            let mut attributes: Vec<KeyValue> =
                seed.user.map(|user| KeyValue::new("user", format!("u{user}"))).into_iter().collect();
            attributes.extend(seed.code.clone().map(|code| KeyValue::new("code", code)));
            if arrays && number == 7 {
                attributes.push(KeyValue::new("user", Value::Array(vec!["u25".into()])));
            }
            encode_span(&Span {
                trace_id: TraceId([seed.trace + 1; 16]),
                span_id: SpanId((number as u64 + 1).to_be_bytes()),
                name: format!("n{}", seed.name),
                start_unix_nano: 1000 + seed.start,
                end_unix_nano: 1000 + seed.start + seed.duration,
                status: Status {
                    code: if seed.failed { StatusCode::Error } else { StatusCode::Unset },
                    message: String::new(),
                },
                attributes,
                ..Span::default()
            })
        })
        .collect();
    let pieces = seeds.iter().zip(&spans).map(|(seed, span)| Piece {
        resource: &services[usize::from(seed.service)],
        scope: &[],
        span,
    });
    Batch::from_trusted(frame(pieces).into()).unwrap()
}

fn write(dir: &Path, batch: &Batch) {
    let built = block::build(std::slice::from_ref(batch), &block::nowhere).unwrap();
    built.files().iter().for_each(|(name, content)| std::fs::write(dir.join(name), content).unwrap());
}

fn is_text(text: &'static str) -> Test {
    let passes = move |value: ValueView<'_>| match value {
        ValueView::Array(body) => view::array_values(body).any(|value| value == ValueView::Str(text)),
        value => value == ValueView::Str(text),
    };
    Test::new(passes).only(Exactly::Text(text.into()))
}

fn is_int(wanted: i64) -> Test {
    let passes = move |value: ValueView<'_>| match value {
        ValueView::Int(value) => value == wanted,
        ValueView::Double(value) => value == wanted as f64,
        _ => false,
    };
    Test::new(passes).only(Exactly::Int(wanted))
}

fn predicates() -> Vec<Predicate> {
    let span = |key: &str, test| Predicate::Column(Column::SpanAttribute(key.to_owned()), test);
    let resource = |key: &str, test| Predicate::Column(Column::ResourceAttribute(key.to_owned()), test);
    let any = |key: &str, test| Predicate::Column(Column::AnyAttribute(key.to_owned()), test);
    let error = || Predicate::Column(Column::Status, Test::new(|value| value == ValueView::Int(2)));
    let longer = |least: i64| {
        let test = Test::new(move |value| matches!(value, ValueView::Int(ns) if ns >= least)).at_least(least);
        Predicate::Column(Column::DurationNs, test)
    };
    let name = |text| Predicate::Column(Column::Name, is_text(text));
    let mut simple = vec![
        Predicate::Always,
        Predicate::Maybe,
        error(),
        longer(95),
        longer(3),
        span("nothing", is_text("x")),
        span("code", is_int(1)),
        span("code", is_text("1")),
        any("user", is_text("u25")),
        any("service.name", is_text("s1")),
        any("host", is_text("h")),
        resource("host", is_text("h")),
        resource("zone", is_text("h")),
    ];
    simple.extend(["n0", "n7", "n9"].map(name));
    simple.extend(["u0", "u20", "u25", "u99"].map(|user| span("user", is_text(user))));
    simple.extend(["s0", "s1", "s2", "s7", "s9"].map(|service| resource("service.name", is_text(service))));
    let mut all = simple.clone();
    for (number, left) in simple.iter().enumerate() {
        let right = &simple[(number * 7 + 3) % simple.len()];
        all.push(Predicate::All(vec![left.clone(), right.clone()]));
        all.push(Predicate::Any(vec![left.clone(), right.clone()]));
        all.push(Predicate::All(vec![resource("service.name", is_text("s1")), left.clone()]));
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lists_leave_out_nothing_that_columns_find(seeds in prop::collection::vec(any_seed(), 1..400), arrays in any::<bool>()) {
        let dir = tempfile::tempdir().unwrap();
        let batch = batch(&seeds, arrays);
        write(dir.path(), &batch);
        let block = BlockReader::open(&RealDisk, dir.path(), "x").unwrap();
        prop_assert!(block.postings().is_some());
        let everything = |predicate: &Predicate, among: Option<&[u32]>| {
            block.candidates(predicate, Note::All, among, &|| false).unwrap()
        };
        for (number, predicate) in predicates().iter().enumerate() {
            let found = everything(predicate, None);
            if let Some(listed) = block.listed_traces(predicate) {
                prop_assert!(listed.is_sorted_by(|a, b| a < b));
                let among = everything(predicate, Some(&listed));
                prop_assert_eq!(&among.traces, &found.traces, "predicate {}", number);
                prop_assert_eq!(among.rows, found.rows.clone());
            }
            for order in [Order::Newest, Order::Longest] {
                let steps = block.steps(predicate, order, u64::MAX);
                prop_assert!(steps.iter().map(|step| step.bound).is_sorted_by(|a, b| a >= b));
                let mut missing = found.traces.clone();
                for step in &steps {
                    let longest = |trace: &crate::block::filter::Candidate| match order {
                        Order::Newest => trace.start_unix_nano,
                        Order::Longest => trace.longest_ns,
                    };
                    let late = missing.iter().find(|trace| longest(trace) > step.bound);
                    prop_assert!(late.is_none(), "predicate {number}, {order:?}: {late:?} beyond {}", step.bound);
                    let now = everything(predicate, step.traces.as_deref());
                    missing.retain(|trace| !now.traces.contains(trace));
                }
                prop_assert!(missing.is_empty(), "predicate {number}, {order:?} lacks {missing:?}");
            }
        }
    }
}

fn seeds() -> Vec<Seed> {
    let seed = |number: u64| Seed {
        trace: (number % 50) as u8,
        service: (number % 4) as u8,
        name: (number % 9) as u8,
        user: Some((number % 29) as u8),
        code: None,
        failed: number.is_multiple_of(31),
        start: number,
        duration: number * 7 % 97,
    };
    (0..300).map(seed).collect()
}

#[test]
fn lists_are_there_and_short() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &batch(&seeds(), false));
    let block = BlockReader::open(&RealDisk, dir.path(), "x").unwrap();
    let listed = |column: Column, test| block.listed_traces(&Predicate::Column(column, test));
    let user = Column::SpanAttribute("user".to_owned());
    let with_u3 =
        seeds().iter().filter(|seed| seed.user == Some(3)).map(|seed| u32::from(seed.trace)).collect::<Vec<_>>();
    let found = listed(user.clone(), is_text("u3")).unwrap();
    assert!(with_u3.iter().all(|trace| found.contains(trace)) && found.len() <= with_u3.len() + 1, "{found:?}");
    assert!(listed(user, is_text("u-unknown")).unwrap().len() <= 1);
    assert_eq!(listed(Column::Name, is_text("n1")), None, "many have it");
    assert!(listed(Column::Status, Test::new(|value| value == ValueView::Int(2))).unwrap().len() <= 10);
}

#[test]
fn damage_is_noticed_and_never_told_as_truth() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &batch(&seeds(), false));
    let path = dir.path().join(block::POSTINGS_FILE);
    let bytes = std::fs::read(&path).unwrap();
    let told = |postings: &Postings| {
        let mut told = Vec::new();
        for user in 0..29 {
            let value = Exactly::Text(format!("u{user}").as_str().into());
            told.push(postings.traces_with(Of::Span, "user", &value).map(|listed| format!("{listed:?}")));
        }
        for service in [None, Some("s0"), Some("s1"), Some("")] {
            told.push(postings.errors(service).map(|listed| format!("{listed:?}")));
            told.push(postings.slowest(service).map(|listed| format!("{listed:?}")));
        }
        told.push(postings.starts().map(|starts| format!("{starts:?}")));
        told
    };
    let open = || Postings::open(&RealDisk, &path, "x");
    let whole = told(&open().unwrap().unwrap());
    assert!(whole.iter().all(Result::is_ok));
    for at in (0..bytes.len()).step_by(3) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        std::fs::write(&path, damaged).unwrap();
        if let Ok(Some(postings)) = open() {
            let same = told(&postings).iter().zip(&whole).all(|(told, whole)| told.is_err() || told == whole);
            assert!(same, "damage at {at}");
        }
    }
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    assert!(open().is_err());
    assert!(BlockReader::open(&RealDisk, dir.path(), "x").unwrap().postings().is_none());
    std::fs::remove_file(&path).unwrap();
    assert!(open().unwrap().is_none());
    let without = BlockReader::open(&RealDisk, dir.path(), "x").unwrap();
    assert_eq!(without.listed_traces(&Predicate::Column(Column::Name, is_text("n1"))), None);
}
