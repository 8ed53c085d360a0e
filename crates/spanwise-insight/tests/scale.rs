//! Traces as large and as odd as anybody may send them: nothing panics, all of a trace's time is accounted for, and
//! the work (memory that is asked for, counted) grows as the trace does.

#![allow(clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use spanwise_insight::clock::{Offsets, aligned_by};
use spanwise_insight::compare::Comparison;
use spanwise_insight::population::findings_of;
use spanwise_insight::row::{Names, trace_row};
use spanwise_insight::sampling::signature;
use spanwise_insight::weight::TraceWeight;
use spanwise_insight::{Mode, Tree, trace_facts_in};
use spanwise_model::{KeyValue, Link, Resource, Span, SpanId, SpanKind, Status, StatusCode, Trace, TraceId, TraceSpan};

/// Counts what a thread asks of it.
struct Counting;

thread_local! {
    static ASKED: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

// SAFETY: everything is handed on to the system's allocator.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ASKED.try_with(|asked| {
            let (times, bytes) = asked.get();
            asked.set((times + 1, bytes + layout.size() as u64));
        });
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One span of a trace under construction, by its number.
struct Line {
    id: u64,
    parent: Option<u64>,
    service: u64,
    name: String,
    kind: SpanKind,
    start: u64,
    end: u64,
    failed: bool,
    attributes: Vec<KeyValue>,
    links: Vec<u64>,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            id: 0,
            parent: None,
            service: 0,
            name: "work".to_owned(),
            kind: SpanKind::Internal,
            start: 0,
            end: 0,
            failed: false,
            attributes: Vec::new(),
            links: Vec::new(),
        }
    }
}

const START: u64 = 1_700_000_000_000_000_000;
const ID: TraceId = TraceId([9; 16]);

fn trace(count: u64, line: impl Fn(u64) -> Line) -> Trace {
    let mut resources: Vec<Arc<Resource>> = Vec::new();
    let scope = Arc::default();
    let spans = (0..count).map(|number| {
        let Line { id, parent, service, name, kind, start, end, failed, attributes, links } = line(number);
        while resources.len() as u64 <= service {
            let of = resources.len();
            let attributes = vec![
                KeyValue::new("service.name", format!("service-{of}").as_str()),
                KeyValue::new("host.name", format!("host-{of}").as_str()),
            ];
            resources.push(Arc::new(Resource { attributes, ..Resource::default() }));
        }
        let links = links.into_iter().map(|to| Link {
            trace_id: ID.0.to_vec(),
            span_id: to.to_be_bytes().to_vec(),
            ..Link::default()
        });
        let span = Span {
            trace_id: ID,
            span_id: SpanId(id.to_be_bytes()),
            parent_span_id: parent.map(|parent| SpanId(parent.to_be_bytes())),
            name,
            kind,
            start_unix_nano: START.saturating_add(start),
            end_unix_nano: START.saturating_add(end),
            status: Status { code: if failed { StatusCode::Error } else { StatusCode::Unset }, ..Status::default() },
            attributes,
            links: links.collect(),
            ..Span::default()
        };
        TraceSpan { resource: Arc::clone(&resources[service as usize]), scope: Arc::clone(&scope), span }
    });
    Trace { spans: spans.collect() }
}

/// A root with everything else below it, one after the other.
fn star(count: u64, line: impl Fn(u64) -> Line) -> Trace {
    trace(count, |number| match number {
        0 => Line { id: 1, name: "GET /".to_owned(), kind: SpanKind::Server, end: count * 10, ..Line::default() },
        number => Line { id: number + 1, parent: Some(1), start: number * 10, end: number * 10 + 8, ..line(number) },
    })
}

fn client(name: String, peer: String) -> Line {
    let attributes = vec![KeyValue::new("http.request.method", "GET"), KeyValue::new("server.address", peer.as_str())];
    Line { name, kind: SpanKind::Client, attributes, ..Line::default() }
}

type Shape = (&'static str, fn(u64) -> Trace);

const SHAPES: [Shape; 16] = [
    ("calls of one kind", |count| star(count, |_| client("GET".to_owned(), "catalog".to_owned()))),
    ("calls of as many kinds and peers", |count| {
        star(count, |number| client(format!("call {}", letters(number)), format!("{}.example", letters(number))))
    }),
    ("failures of as many kinds", |count| {
        star(count, |number| Line { name: letters(number), failed: true, ..Line::default() })
    }),
    ("failures of one kind, the last of them none", |count| {
        star(count, |number| Line { failed: number % 1_000 != 0, ..client("GET".to_owned(), "catalog".to_owned()) })
    }),
    ("all at once", |count| {
        trace(count, |number| Line {
            id: number + 1,
            parent: (number > 0).then_some(1),
            end: 1_000_000 + number,
            ..client("GET".to_owned(), "catalog".to_owned())
        })
    }),
    ("a chain", |count| {
        trace(count, |number| Line {
            id: number + 1,
            parent: (number > 0).then_some(number),
            start: number,
            end: 2 * count - number,
            ..Line::default()
        })
    }),
    ("a chain of calls between as many hosts, each clock off", |count| {
        trace(count, |number| Line {
            id: number + 1,
            parent: (number > 0).then_some(number),
            service: number / 2 % 500,
            kind: if number % 2 == 0 { SpanKind::Server } else { SpanKind::Client },
            start: number + number / 2 % 500 * 1_000_000,
            end: 4 * count - number + number / 2 % 500 * 1_000_000,
            ..Line::default()
        })
    }),
    ("a binary tree", |count| {
        trace(count, |number| Line {
            id: number + 1,
            parent: (number > 0).then(|| number.div_ceil(2)),
            service: number % 7,
            start: number,
            end: number + count,
            ..Line::default()
        })
    }),
    ("one cycle", |count| {
        trace(count, |number| Line {
            id: number + 1,
            parent: Some((number + 1) % count + 1),
            end: 5,
            ..Line::default()
        })
    }),
    ("cycles of two", |count| {
        trace(count, |number| Line { id: number + 1, parent: Some((number ^ 1) + 1), start: number, ..Line::default() })
    }),
    ("one id, all of it below itself", |count| {
        trace(count, |number| Line { id: 7, parent: Some(7), start: number, end: number, ..Line::default() })
    }),
    ("two ids, one below the other", |count| {
        trace(count, |number| Line {
            id: number % 2 + 1,
            parent: (number % 2 == 1).then_some(1),
            start: number,
            end: number + 1,
            ..Line::default()
        })
    }),
    ("as many roots", |count| {
        trace(count, |number| Line { id: number + 1, start: number * 3, end: number * 3 + 2, ..Line::default() })
    }),
    ("as many orphans, that end before they start", |count| {
        trace(count, |number| Line {
            id: number + 1,
            parent: Some(u64::MAX - number),
            start: count - number,
            end: (count - number) / 2,
            ..Line::default()
        })
    }),
    ("no length, or no end", |count| {
        star(count, |_| Line::default()).also(|number, span| {
            span.end_unix_nano = if number % 2 == 0 { span.start_unix_nano } else { u64::MAX };
        })
    }),
    ("messages to as many consumers, linked twice", |count| {
        star(count, |number| match number % 2 {
            0 => Line { kind: SpanKind::Consumer, links: vec![number, number + 1], ..Line::default() },
            _ => Line {
                kind: SpanKind::Producer,
                attributes: vec![KeyValue::new("messaging.system", "kafka")],
                ..Line::default()
            },
        })
    }),
];

trait Also {
    fn also(self, change: impl Fn(usize, &mut Span)) -> Self;
}

impl Also for Trace {
    fn also(mut self, change: impl Fn(usize, &mut Span)) -> Self {
        self.spans.iter_mut().enumerate().for_each(|(number, span)| change(number, &mut span.span));
        self
    }
}

/// A number as letters: a name that no rule takes for an id.
fn letters(mut number: u64) -> String {
    let mut text = String::new();
    while number > 0 {
        text.push(char::from(b'g' + (number % 16) as u8));
        number /= 16;
    }
    text + "x"
}

/// Everything that is asked of one trace; answers how much memory was asked for, in how many times.
fn everything(trace: &Trace, name: &str) -> (u64, u64) {
    let before = ASKED.get();
    let tree = Tree::of(trace);
    let hung = tree.roots.len() + tree.parent.iter().flatten().count();
    assert_eq!(hung, trace.spans.len(), "{name}: each span is a root or below one");
    for mode in Mode::ALL {
        let facts = trace_facts_in(trace, mode);
        assert_eq!(facts.spans.len(), trace.spans.len(), "{name}");
        if mode == Mode::Spanwise {
            let sum: u64 = facts.critical_by_service.iter().map(|service| service.ns).sum();
            assert_eq!(sum, facts.duration_ns, "{name}: the path is as long as the trace");
        }
    }
    let mut names = Names::default();
    let row = trace_row(trace, &mut names);
    assert!(row.is_none_or(|row| row.spans as usize == trace.spans.len()), "{name}");
    assert!(findings_of(trace).iter().all(|finding| finding.traces_affected == 1), "{name}");
    assert!(signature(trace).is_some(), "{name}");
    let mut comparison = Comparison::default();
    comparison.add(trace, true);
    assert_eq!(comparison.finish().selection.traces, 1, "{name}");
    let mut offsets = Offsets::default();
    offsets.add(trace);
    let (aligned, _) = aligned_by(trace, &tree, &offsets);
    assert_eq!(aligned.spans.len(), trace.spans.len(), "{name}");
    assert_eq!(TraceWeight::of(trace).count, 1.0, "{name}");
    let after = ASKED.get();
    (after.0 - before.0, after.1 - before.1)
}

#[test]
fn odd_traces_of_100_000_spans_take_four_times_the_work_of_a_quarter_of_them() {
    for (name, make) in SHAPES {
        let quarter = everything(&make(25_000), name);
        let whole = everything(&make(100_000), name);
        // Tables that double may be just below or just above their next size.
        let grows = |small: u64, large: u64| large <= 6 * small.max(1) + 10_000;
        assert!(grows(quarter.0, whole.0) && grows(quarter.1, whole.1), "{name}: {quarter:?} and {whole:?}");
    }
}

#[test]
fn a_million_spans_are_analysed() {
    let make = |count: u64| {
        trace(count, |number| Line {
            id: number + 1,
            parent: (number > 0).then(|| number.div_ceil(8)),
            service: number % 40,
            name: ["GET /items/{id}", "load", "SELECT * FROM items WHERE id = ?", "render"][number as usize % 4]
                .to_owned(),
            kind: [SpanKind::Server, SpanKind::Internal, SpanKind::Client, SpanKind::Internal][number as usize % 4],
            start: number,
            end: number + count,
            failed: number % 97 == 0,
            ..Line::default()
        })
    };
    everything(&make(1_000_000), "a million");
}
