//! Questions to the store: TraceQL search over a snapshot, under a budget.

pub mod insights;
mod pushdown;
pub mod search;
mod trace_view;
pub mod traceql;

pub use search::{Budget, MatchedSpan, SearchError, SearchRequest, SearchResponse, ServiceCount, TraceSummary, search};
pub use traceql::{Query, QueryError};
