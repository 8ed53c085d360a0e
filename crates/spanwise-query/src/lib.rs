//! Questions to the store: TraceQL search over a snapshot, under a budget.

pub mod search;
pub mod traceql;
mod trace_view;

pub use search::{Budget, MatchedSpan, SearchError, SearchRequest, SearchResponse, ServiceCount, TraceSummary, search};
pub use traceql::{Query, QueryError};
