//! Reads one trace after the other, span by span, from whatever holds them; what it learned of names stays with
//! [`Names`], and its memory serves again.

use spanwise_model::{Trace, TraceId};

use crate::calls::{CallView, call_view};
use crate::clock::{align, is_impossible};
use crate::critical_path::Walk;
use crate::facts::{SpanTimes, Times, root};
use crate::names::{Key, Name, Names};
use crate::repetition::{self, Repetition, critical_below, repetitions};
use crate::row;
use crate::tree::Tree;
use crate::view::{Meaning, Processes, Scalar, SpanTexts, SpanView, scalars, view};
use crate::weight::{SpanSays, TraceWeight, of_probability};

/// One trace at a time: [`Self::begin`], then [`Self::add`] for each span, then [`Self::finish`], then questions.
#[derive(Default)]
pub struct Analysis {
    pub(crate) trace_id: TraceId,
    spans: Vec<SpanView>,
    /// The same with clocks set right, where raw times cannot be true.
    moved: Vec<SpanView>,
    is_moved: bool,
    calls: Vec<CallView>,
    /// What spans say of how much they handled, and where each span's end.
    sizes: Vec<(Name, f64)>,
    size_ends: Vec<usize>,
    /// Of spans that say how they were sampled, with their places.
    sampled: Vec<(usize, SpanSays)>,
    tree: Tree,
    raw: Times,
    of_moved: Times,
    pub(crate) below: Vec<u64>,
    walk: Walk,
    pub(crate) memory: row::Memory,
    repeating: repetition::Memory,
    processes: Processes,
}

/// A trace as the rules over several of its spans read it; times are set right.
#[derive(Clone, Copy)]
pub(crate) struct Analysed<'a> {
    pub spans: &'a [SpanView],
    pub calls: &'a [CallView],
    pub tree: &'a Tree,
    pub times: &'a [SpanTimes],
    pub root: usize,
    pub start_unix_nano: u64,
    pub duration_ns: u64,
    sizes: &'a [(Name, f64)],
    size_ends: &'a [usize],
}

/// A trace as its spans have it, whatever clocks say.
pub(crate) struct Raw<'a> {
    pub spans: &'a [SpanView],
    pub calls: &'a [CallView],
    pub tree: &'a Tree,
    pub times: &'a [SpanTimes],
    pub root: Option<usize>,
    pub duration_ns: u64,
}

impl<'a> Analysed<'a> {
    /// What a span says of how much it handled.
    pub fn sizes(&self, place: usize) -> &'a [(Name, f64)] {
        let start = place.checked_sub(1).and_then(|before| self.size_ends.get(before)).copied().unwrap_or(0);
        let end = self.size_ends.get(place).copied().unwrap_or(start);
        self.sizes.get(start..end).unwrap_or_default()
    }
}

impl<'a> SpanTexts<'a> {
    /// Forgets the span before.
    pub fn begin(&mut self, kind: spanwise_model::SpanKind) {
        self.clear();
        (self.kind, self.name) = (kind, "");
        self.sizes.clear();
    }

    pub fn set_name(&mut self, name: &'a str) {
        self.name = name;
    }

    /// An attribute of which [`Names::key`] says that it is read.
    pub fn attribute(&mut self, key: Key, value: Scalar<'a>) {
        if let Some(slot) = key.slot {
            self.push(slot, value);
        }
        if let Some(size) = key.size {
            match value {
                Scalar::Int(value) => self.sizes.push((size, value as f64)),
                Scalar::Double(value) => self.sizes.push((size, value)),
                _ => {}
            }
        }
    }
}

impl Analysis {
    /// The analysis of a decoded trace.
    pub fn of(trace: &Trace, names: &mut Names) -> Self {
        let mut analysis = Self::default();
        analysis.read(trace, names);
        analysis
    }

    /// Reads a decoded trace in place of the one before.
    pub fn read(&mut self, trace: &Trace, names: &mut Names) {
        self.begin(trace.spans.first().map(|span| span.span.trace_id).unwrap_or_default());
        let mut processes = std::mem::take(&mut self.processes);
        let mut texts = SpanTexts::default();
        for span in &trace.spans {
            let process = processes.of(span, names);
            texts.begin(span.span.kind);
            texts.set_name(&span.span.name);
            texts.kept_with = span.resource.kept_with;
            for (key, value) in scalars(&span.span.attributes) {
                let key = names.key(key.as_bytes());
                if key.is_read() {
                    texts.attribute(key, value);
                }
            }
            self.add(view(span, process), &span.span.trace_state, &texts, names);
        }
        processes.forget();
        self.processes = processes;
        self.finish();
    }

    /// Forgets the trace before.
    pub fn begin(&mut self, trace_id: TraceId) {
        self.trace_id = trace_id;
        self.spans.clear();
        self.calls.clear();
        self.sizes.clear();
        self.size_ends.clear();
        self.sampled.clear();
    }

    /// A span of the trace. The order of spans is the caller's, and must not depend on when they came.
    pub fn add(&mut self, span: SpanView, trace_state: &str, texts: &SpanTexts<'_>, names: &mut Names) {
        self.calls.push(call_view(texts, names));
        self.sizes.extend_from_slice(&texts.sizes);
        self.size_ends.push(self.sizes.len());
        let by_tail = of_probability(texts.kept_with);
        let says = SpanSays::read(span.parent_id.is_none(), trace_state, texts.all(Meaning::SamplingRate));
        let says = SpanSays { by_tail, ..says };
        if says.by_state.is_some() || says.by_rate.is_some() || by_tail.is_some() {
            self.sampled.push((self.spans.len(), says));
        }
        self.spans.push(span);
    }

    /// All spans were added.
    pub fn finish(&mut self) {
        self.tree.rebuild(&self.spans);
        self.raw.fill(&self.spans, &self.tree, &mut self.walk);
        self.is_moved = is_impossible(&self.spans, &self.tree);
        if self.is_moved {
            self.moved.clone_from(&self.spans);
            align(&mut self.moved, &self.tree);
            self.of_moved.fill(&self.moved, &self.tree, &mut self.walk);
        }
    }

    /// Of each span, in the order in which they were added; by raw times.
    pub fn times(&self) -> &[SpanTimes] {
        &self.raw.spans
    }

    /// The earliest start of a span, and how many there are.
    pub fn extent(&self) -> (u64, usize) {
        (self.spans.iter().map(|span| span.start_unix_nano).min().unwrap_or(0), self.spans.len())
    }

    /// How many traces this one stands for.
    pub(crate) fn weight(&self) -> f64 {
        self.trace_weight().count
    }

    fn trace_weight(&self) -> TraceWeight {
        TraceWeight::of_spans(self.sampled.iter().map(|(_, says)| *says))
    }

    /// For how many the trace stands; and each of its spans, unless all stand for as many.
    pub(crate) fn weigh(&self, of_spans: &mut Vec<f64>) -> f64 {
        of_spans.clear();
        let weight = self.trace_weight();
        if !self.sampled.is_empty() {
            of_spans.resize(self.spans.len(), weight.of_span(None));
            for (place, says) in &self.sampled {
                of_spans[*place] = weight.of_span(says.by_state);
            }
        }
        weight.count
    }

    /// By raw times.
    pub(crate) fn raw(&self) -> Raw<'_> {
        Raw {
            spans: &self.spans,
            calls: &self.calls,
            tree: &self.tree,
            times: &self.raw.spans,
            root: root(&self.tree),
            duration_ns: self.raw.duration_ns,
        }
    }

    /// `None` without a span that could be an entry point.
    pub(crate) fn analysed(&self) -> Option<Analysed<'_>> {
        let (spans, times) = match self.is_moved {
            true => (&self.moved, &self.of_moved),
            false => (&self.spans, &self.raw),
        };
        Some(Analysed {
            spans,
            calls: &self.calls,
            tree: &self.tree,
            times: &times.spans,
            root: root(&self.tree)?,
            start_unix_nano: times.start_unix_nano,
            duration_ns: times.duration_ns,
            sizes: &self.sizes,
            size_ends: &self.size_ends,
        })
    }

    /// Fills [`Self::below`], and finds what repeats.
    pub(crate) fn repetitions(&mut self, names: &mut Names) -> Vec<Repetition> {
        let mut below = std::mem::take(&mut self.below);
        let mut repeating = std::mem::take(&mut self.repeating);
        let mut found = Vec::new();
        if let Some(trace) = self.analysed() {
            critical_below(trace.tree, trace.times, &mut below);
            found = repetitions(&trace, &below, names, &mut repeating);
        }
        (self.below, self.repeating) = (below, repeating);
        found
    }
}
