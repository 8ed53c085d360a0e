//! What is known of a caller's span.

use crate::{SpanId, TraceId, TraceState};

/// What the caller decided about recording this trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Decision {
    /// Nothing: the receiver decides.
    #[default]
    Defer,
    /// Not recorded.
    Deny,
    /// Recorded.
    Accept,
    /// Recorded at a user's demand: samplers should not overrule it. B3 and Jaeger can say so; the others say `Accept`.
    Debug,
}

impl Decision {
    /// Whether the trace is recorded as far as the caller is concerned.
    pub fn is_sampled(self) -> bool {
        matches!(self, Self::Accept | Self::Debug)
    }

    pub(crate) fn from_sampled(sampled: bool) -> Self {
        if sampled { Self::Accept } else { Self::Deny }
    }
}

/// A span as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpanContext {
    /// The trace's id.
    pub trace_id: TraceId,
    /// The span's id.
    pub span_id: SpanId,
    /// Whether the trace is recorded.
    pub decision: Decision,
    /// At least the right-most 56 bits of the trace id are random (Trace Context level 2): to be copied unchanged to
    /// every span of the trace.
    pub random: bool,
    /// What vendors along the way added.
    pub state: TraceState,
}

impl SpanContext {
    /// The root of a new trace.
    pub fn root(trace_id: TraceId, span_id: SpanId, decision: Decision, random: bool) -> Self {
        Self { trace_id, span_id, decision, random, state: TraceState::EMPTY }
    }

    /// A span below this one: the same trace, decision and state.
    #[must_use]
    pub fn child(&self, span_id: SpanId) -> Self {
        Self { span_id, ..self.clone() }
    }
}

/// What a request said about where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parent {
    /// The caller's span.
    Span(SpanContext),
    /// A trace without a span, as AWS load balancers send it: the receiver's span is its root.
    Trace {
        /// The trace's id.
        trace_id: TraceId,
        /// Whether it is to be recorded.
        decision: Decision,
    },
    /// No ids, only whether the new trace is to be recorded (`b3: 0`, `jaeger-debug-id`).
    Decision(Decision),
}

impl Parent {
    /// The caller's span, if there is one.
    pub fn span(&self) -> Option<&SpanContext> {
        match self {
            Self::Span(span) => Some(span),
            _ => None,
        }
    }

    /// Whether the trace is to be recorded.
    pub fn decision(&self) -> Decision {
        match self {
            Self::Span(span) => span.decision,
            Self::Trace { decision, .. } | Self::Decision(decision) => *decision,
        }
    }
}
