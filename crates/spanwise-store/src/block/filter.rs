//! Which rows of a block may be in a set.
//!
//! A [`Predicate`] says more than the truth, never less: every row that is in the set passes, and others may.
//! `evaluate.rs` tries it on columns, `narrow.rs` on the lists beside the block.

use std::sync::Arc;

use spanwise_wire::view::ValueView;

pub use super::postings::Exactly;

/// Whether a value may be meant.
#[derive(Clone)]
pub struct Test {
    passes: Arc<dyn Fn(ValueView<'_>) -> bool + Send + Sync>,
    /// No string but this one passes, or no number.
    pub(super) only: Option<Exactly>,
    /// No smaller number passes.
    pub(super) at_least: Option<i64>,
}

impl Test {
    pub fn new(passes: impl Fn(ValueView<'_>) -> bool + Send + Sync + 'static) -> Self {
        Self { passes: Arc::new(passes), only: None, at_least: None }
    }

    /// Says that nothing but this value passes, so that what is without it need not be read.
    pub fn only(self, value: Exactly) -> Self {
        Self { only: Some(value), ..self }
    }

    /// Says that no smaller number passes.
    pub fn at_least(self, bound: i64) -> Self {
        Self { at_least: Some(bound), ..self }
    }

    pub(super) fn only_text(&self) -> Option<&str> {
        match &self.only {
            Some(Exactly::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub(super) fn passes(&self, value: ValueView<'_>) -> bool {
        (self.passes)(value)
    }
}

/// What a row must have to be in a set.
#[derive(Clone)]
pub enum Predicate {
    Always,
    /// Columns do not tell: the span itself must be looked at.
    Maybe,
    All(Vec<Predicate>),
    Any(Vec<Predicate>),
    Column(Column, Test),
    /// The whole trace shows it. What each block's facts tell of that is put in its place: see
    /// [`crate::Snapshot::told`].
    Shown(Shown),
    /// It is of one of these traces of the block, by their numbers, which ascend.
    Traces(Arc<[u32]>),
}

/// What a trace as a whole may show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// This shape.
    Shape(u64),
    /// One of these kinds of findings, by their bits: see [`crate::facts::KINDS`].
    Kinds(u8),
}

/// Where the value lies that a test is for. Numbers come as `Int`, also kinds and status codes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Column {
    Name,
    Kind,
    Status,
    DurationNs,
    /// Whether the span is a root: has no parent.
    IsRoot,
    SpanAttribute(String),
    ResourceAttribute(String),
    /// Of the span or of its resource.
    AnyAttribute(String),
}

impl Predicate {
    /// Whether a row that passes need not be looked at before its trace is.
    pub fn is_exact(&self) -> bool {
        match self {
            Predicate::Always | Predicate::Column(..) | Predicate::Traces(..) => true,
            Predicate::Maybe | Predicate::Shown(..) => false,
            Predicate::All(parts) | Predicate::Any(parts) => parts.iter().all(Predicate::is_exact),
        }
    }

    /// Whether some rows can be told apart from others.
    pub fn can_select(&self) -> bool {
        match self {
            Predicate::Always | Predicate::Maybe | Predicate::Shown(..) => false,
            Predicate::Column(..) | Predicate::Traces(..) => true,
            Predicate::All(parts) => parts.iter().any(Predicate::can_select),
            Predicate::Any(parts) => parts.iter().all(Predicate::can_select),
        }
    }

    /// Whether it asks for what only whole traces show.
    pub fn asks_what_is_shown(&self) -> bool {
        match self {
            Predicate::Shown(..) => true,
            Predicate::All(parts) | Predicate::Any(parts) => parts.iter().any(Predicate::asks_what_is_shown),
            Predicate::Always | Predicate::Maybe | Predicate::Column(..) | Predicate::Traces(..) => false,
        }
    }

    /// The same with something else in place of what whole traces show.
    pub(crate) fn with_shown(&self, put: &dyn Fn(Shown) -> Predicate) -> Predicate {
        match self {
            Predicate::Shown(shown) => put(*shown),
            Predicate::All(parts) => Predicate::All(parts.iter().map(|part| part.with_shown(put)).collect()),
            Predicate::Any(parts) => Predicate::Any(parts.iter().map(|part| part.with_shown(put)).collect()),
            other => other.clone(),
        }
    }

    /// Rough price of evaluating it, for the order.
    pub(super) fn price(&self) -> usize {
        match self {
            Predicate::Always | Predicate::Maybe | Predicate::Shown(..) | Predicate::Traces(..) => 0,
            Predicate::Column(Column::Kind | Column::Status | Column::IsRoot, _) => 1,
            Predicate::Column(Column::DurationNs | Column::Name, _) => 2,
            Predicate::Column(Column::ResourceAttribute(_), _) => 3,
            Predicate::Column(Column::SpanAttribute(_), _) => 4,
            Predicate::Column(Column::AnyAttribute(_), _) => 6,
            Predicate::All(parts) | Predicate::Any(parts) => parts.iter().map(Predicate::price).sum::<usize>() + 1,
        }
    }
}

/// A trace with rows that may be in the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Number of its first row: see [`super::BlockReader::trace_ids`].
    pub row: u32,
    /// Of its first row, which starts earliest.
    pub start_unix_nano: u64,
    /// When the last of its rows in the block ends, in the set or not.
    pub end_unix_nano: u64,
    /// The longest of its rows that may be in the set; 0 when nobody asked.
    pub longest_ns: u64,
}

/// What to note of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// Its end is unknown: the end of time.
    Start,
    /// Also what durations tell.
    All,
}

/// What [`super::BlockReader::candidates`] found.
#[derive(Debug, Default)]
pub struct Candidates {
    pub traces: Vec<Candidate>,
    /// Rows that pass, in order; of use when the predicate is not exact.
    pub rows: Vec<std::ops::Range<usize>>,
    pub inspected_rows: u64,
    pub inspected_bytes: u64,
}
