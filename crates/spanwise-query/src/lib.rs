//! Questions to the store: TraceQL search over a snapshot, under a budget.

pub mod clocks;
pub mod compare;
pub mod dependencies;
pub mod insights;
pub mod metrics;
mod pushdown;
pub mod search;
mod trace_view;
pub mod traceql;

pub use dependencies::{Call, Dependencies, dependencies};
pub use metrics::{MetricsError, MetricsRequest, MetricsResponse, metrics};
pub use search::{
    Budget, MatchedSpan, SearchError, SearchRequest, SearchResponse, ServiceCount, SpanSet, TraceSummary, search,
};
pub use traceql::{Query, QueryError};
