//! What a query may ask of a span that only its whole trace answers.

use std::cell::OnceCell;
use std::sync::Arc;

use spanwise_insight::population::findings_of_row;
use spanwise_insight::row::Names;
use spanwise_insight::weight::{SpanSays, TraceWeight, is_rate_key, of_probability, of_trace_state, rate_of};
use spanwise_insight::{Tree, trace_facts};
use spanwise_model::{Span, SpanKind, Trace, TraceSpan};
use spanwise_store::facts::read::row_of;
use spanwise_wire::view::{Fields, ValueView};
use spanwise_wire::{Batch, Piece, decode_trace, kept, view};

use crate::traceql::Context;

/// A whole trace; places are those of its batch.
#[derive(Debug)]
pub struct TraceView<'a> {
    pub batch: &'a Batch,
    pub start_unix_nano: u64,
    pub duration_ns: u64,
    /// Service and name of the root; `None` when no span is one.
    pub root: Option<(&'a str, &'a str)>,
    shape: OnceCell<Shape>,
    insight: OnceCell<Insight>,
    weight: OnceCell<TraceWeight>,
}

/// What insight says of it.
#[derive(Debug, Clone, Default)]
pub struct Insight {
    /// Self time and time on the critical path of each span, in nanoseconds.
    pub times: Vec<(u64, u64)>,
    pub shape: Option<u64>,
    /// Kinds of what it shows by itself.
    pub findings: Vec<&'static str>,
}

/// How the spans hang together.
#[derive(Debug, Clone, Default)]
pub struct Shape {
    pub parent: Vec<Option<usize>>,
    pub child_count: Vec<i64>,
    /// Nested-set numbers of each span: left, right, and the parent's left (-1 for a root). 0 when the span hangs
    /// below no root.
    pub nested: Vec<(i64, i64, i64)>,
    /// The places of spans that hang below a root, every parent before its children.
    pub connected: Vec<usize>,
}

impl<'a> TraceView<'a> {
    pub fn of(batch: &'a Batch) -> Self {
        let spans = batch.spans();
        let start = spans.iter().map(|span| span.start_unix_nano).min().unwrap_or(0);
        let end = spans.iter().map(|span| span.end_unix_nano).max().unwrap_or(0);
        let root = spans
            .iter()
            .enumerate()
            .filter(|(_, span)| span.parent_span_id.is_zero())
            .min_by_key(|(_, span)| (span.start_unix_nano, span.span_id))
            .map(|(place, _)| {
                let piece = batch.piece(place);
                (view::service_name(piece.resource).unwrap_or("unknown_service"), view::span_name(piece.span))
            });
        Self {
            batch,
            start_unix_nano: start,
            duration_ns: end.saturating_sub(start),
            root,
            shape: OnceCell::new(),
            insight: OnceCell::new(),
            weight: OnceCell::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.batch.len_spans()
    }

    /// The span at a place, with its trace; `None` when there is none.
    pub fn context(&'a self, place: usize) -> Option<Context<'a>> {
        let span = self.batch.spans().get(place)?;
        Some(Context { piece: self.batch.piece(place), span, trace: Some((self, place)) })
    }

    /// Made when it is first asked for.
    pub fn shape(&self) -> &Shape {
        self.shape.get_or_init(|| Shape::of(self.batch))
    }

    /// Made when it is first asked for.
    pub fn insight(&self) -> &Insight {
        self.insight.get_or_init(|| Insight::of(self.batch))
    }

    /// For how many traces this one stands, where others were sampled away; made when it is first asked for.
    pub fn weight(&self) -> &TraceWeight {
        let says = |place: usize| says(self.batch.piece(place));
        self.weight.get_or_init(|| TraceWeight::of_spans((0..self.len()).map(says)))
    }

    /// For how many spans the one at a place stands.
    pub fn span_weight(&self, place: usize) -> f64 {
        self.weight().of_span(says(self.batch.piece(place)).by_state)
    }
}

/// What a span's bytes say of its sampling.
fn says(piece: Piece<'_>) -> SpanSays {
    let by_tail = of_probability(kept::probability(piece.resource));
    let mut says = SpanSays { is_root: true, by_tail, ..SpanSays::default() };
    for field in Fields::new(piece.span) {
        match field.number {
            3 => says.by_state = of_trace_state(field.value.text()),
            4 => says.is_root = field.value.bytes().iter().all(|byte| *byte == 0),
            9 => {
                let attribute = view::key_value(field.value.bytes());
                if !is_rate_key(attribute.key) {
                    continue;
                }
                let rate = match attribute.value {
                    ValueView::Int(rate) => rate_of(rate as f64),
                    ValueView::Double(rate) => rate_of(rate),
                    ValueView::Str(rate) => rate.parse().ok().and_then(rate_of),
                    _ => None,
                };
                says.by_rate = [says.by_rate, rate].into_iter().flatten().reduce(f64::max);
            }
            _ => {}
        }
    }
    says
}

impl Insight {
    fn of(batch: &Batch) -> Self {
        let facts = trace_facts(&decode_trace(std::slice::from_ref(batch)));
        let mut names = Names::default();
        let id = batch.spans().first().map(|span| span.trace_id).unwrap_or_default();
        let row = row_of(batch, id, &mut names);
        let found = row.as_ref().map(|row| findings_of_row(&names, row)).unwrap_or_default();
        let mut findings: Vec<&'static str> = found.iter().map(|finding| finding.kind).collect();
        findings.sort_unstable();
        findings.dedup();
        let times = facts.spans.iter().map(|span| (span.self_ns, span.critical_ns)).collect();
        Self { times, shape: row.map(|row| row.shape), findings }
    }
}

impl Shape {
    fn of(batch: &Batch) -> Self {
        // Only what a tree is made of.
        let (resource, scope) = (Arc::default(), Arc::default());
        let spans = batch.spans().iter().map(|span| TraceSpan {
            resource: Arc::clone(&resource),
            scope: Arc::clone(&scope),
            span: Span {
                trace_id: span.trace_id,
                span_id: span.span_id,
                parent_span_id: (!span.parent_span_id.is_zero()).then_some(span.parent_span_id),
                start_unix_nano: span.start_unix_nano,
                end_unix_nano: span.end_unix_nano,
                kind: SpanKind::ALL.get(usize::from(span.kind)).copied().unwrap_or_default(),
                ..Span::default()
            },
        });
        let trace = Trace { spans: spans.collect() };
        let Tree { parent, children, roots, orphan, .. } = Tree::of(&trace);
        let mut shape = Shape {
            child_count: children.iter().map(|children| children.len() as i64).collect(),
            nested: vec![(0, 0, 0); parent.len()],
            connected: Vec::with_capacity(parent.len()),
            parent,
        };
        let mut counter = 0;
        for root in roots.iter().filter(|root| !orphan[**root]) {
            // Each span is entered once and left once; no recursion, however deep the trace.
            let mut open = vec![(*root, false, -1)];
            while let Some((place, is_leaving, parent_left)) = open.pop() {
                counter += 1;
                if is_leaving {
                    shape.nested[place].1 = counter;
                    continue;
                }
                shape.connected.push(place);
                shape.nested[place] = (counter, 0, parent_left);
                let left = counter;
                open.push((place, true, parent_left));
                open.extend(children[place].iter().rev().map(|child| (*child, false, left)));
            }
        }
        shape
    }
}
