//! The critical path: which span the request was waiting for, at every moment of it.
//!
//! Four rules, each described with examples in `docs/critical-path.md`. Ours is [`Mode::Spanwise`]: from the end of the
//! root backwards, time belongs to the child that ended last before the scan point, clipped to its parent, and to the
//! span itself where no child ran. Consumers, children that lie outside their parent, and children that outlive a
//! parent which does not wait for them are off the path. Its segments tile the trace's duration exactly; those of the
//! other rules need not.

mod crisp;
mod elastic;
mod jaeger;
mod spanwise;

use spanwise_model::{SpanKind, Trace};

use crate::tree::Tree;
use crate::view::{SpanView, views};

pub(crate) use spanwise::{Walk, walk};

/// By which rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    #[default]
    Spanwise,
    Jaeger,
    Crisp,
    Elastic,
}

impl Mode {
    pub const ALL: [Mode; 4] = [Mode::Spanwise, Mode::Jaeger, Mode::Crisp, Mode::Elastic];

    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Spanwise => "spanwise",
            Mode::Jaeger => "jaeger",
            Mode::Crisp => "crisp",
            Mode::Elastic => "elastic",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == text)
    }
}

/// One stretch of the path. Times are nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Place of the span in the trace; `None` where no span ran (only without a single root).
    pub span: Option<usize>,
    pub start_unix_nano: u64,
    pub end_unix_nano: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CriticalPath {
    pub start_unix_nano: u64,
    pub end_unix_nano: u64,
    /// In order of time; they touch and do not overlap.
    pub segments: Vec<Segment>,
    /// Time on the path of each span, where a rule says more of it than the segments do.
    pub own_ns: Option<Vec<u64>>,
}

/// How a child relates to the span above it, as far as waiting goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// The parent waits for it.
    Awaited,
    /// The parent went on without it: a consumer, or a child that outlives its parent.
    Async,
    /// It ran wholly before or after its parent.
    Detached,
}

pub fn relation(parent: &SpanView, child: &SpanView) -> Relation {
    if child.kind == SpanKind::Consumer {
        return Relation::Async;
    }
    if child.start_unix_nano > parent.end_unix_nano || child.end_unix_nano < parent.start_unix_nano {
        return Relation::Detached;
    }
    // Across a call the two clocks differ, so a server span may seem to outlive its client.
    let same_clock = parent.kind != SpanKind::Client;
    let overhang = child.end_unix_nano.saturating_sub(parent.end_unix_nano);
    if same_clock && overhang > tolerance_ns(child.duration_ns()) {
        return Relation::Async;
    }
    Relation::Awaited
}

/// By how much a child may outlive a parent that did wait for it: clocks are read one after the other, and formats
/// round to microseconds.
fn tolerance_ns(duration_ns: u64) -> u64 {
    (duration_ns / 100).min(1_000_000)
}

/// O(n log n), no recursion.
pub fn critical_path(trace: &Trace, tree: &Tree, mode: Mode) -> CriticalPath {
    path_of_views(trace, &views(trace).spans, tree, mode)
}

/// The span that the path begins with, and from when to when it goes.
pub(crate) fn extent(spans: &[SpanView], tree: &Tree) -> (Option<usize>, u64, u64) {
    match tree.single_root() {
        Some(root) => {
            let span = &spans[root];
            (Some(root), span.start_unix_nano, span.end_unix_nano.max(span.start_unix_nano))
        }
        None => {
            let start = spans.iter().map(|span| span.start_unix_nano).min().unwrap_or(0);
            let end = spans.iter().map(|span| span.end_unix_nano).max().unwrap_or(0);
            (None, start, end.max(start))
        }
    }
}

pub(crate) fn path_of_views(trace: &Trace, spans: &[SpanView], tree: &Tree, mode: Mode) -> CriticalPath {
    let (root, start, end) = extent(spans, tree);
    let (mut segments, own_ns) = match mode {
        Mode::Spanwise => {
            let mut segments = Vec::new();
            walk(spans, tree, (root, start, end), &mut Walk::default(), |span, from, to| {
                segments.push(Segment { span, start_unix_nano: from, end_unix_nano: to });
            });
            (segments, None)
        }
        Mode::Jaeger => (jaeger::segments(trace, tree), None),
        Mode::Elastic => (elastic::segments(trace, tree), None),
        Mode::Crisp => {
            let (segments, own_ns) = crisp::segments(trace, tree);
            (segments, Some(own_ns))
        }
    };
    segments.sort_by_key(|segment| segment.start_unix_nano);
    CriticalPath { start_unix_nano: start, end_unix_nano: end, segments, own_ns }
}

fn push(segments: &mut Vec<Segment>, span: Option<usize>, start: u64, end: u64) {
    if start < end {
        segments.push(Segment { span, start_unix_nano: start, end_unix_nano: end });
    }
}

/// The one span that rules which look at roots alone begin with.
fn first_root(tree: &Tree) -> Option<usize> {
    tree.single_root().or_else(|| tree.roots.first().copied())
}

/// Start and end as a rule sees them; `None` when it leaves the span out.
type Window = Option<(u64, u64)>;

fn own_window(trace: &Trace, place: usize) -> (u64, u64) {
    let span = &trace.spans[place].span;
    (span.start_unix_nano, span.end_unix_nano.max(span.start_unix_nano))
}

/// A child's time cut to its parent's; `None` when they have no time in common.
fn cut(child: (u64, u64), parent: (u64, u64)) -> Window {
    let is_outside = child.0 >= parent.1 || (child.0 < parent.0 && child.1 <= parent.0);
    (!is_outside).then(|| (child.0.max(parent.0), child.1.min(parent.1)))
}

#[cfg(test)]
mod tests;
