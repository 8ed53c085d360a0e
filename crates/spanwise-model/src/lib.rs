//! What a trace is: ids, values, limits and memory budgets.
//!
//! This crate knows no bytes on the wire and does no I/O; everything else in Spanwise speaks in its terms.

pub mod budget;
pub mod id;
pub mod limits;
pub mod semconv;
pub mod span;
mod threshold;
pub mod value;

pub use budget::{Charge, MemoryBudget};
pub use id::{InvalidId, SpanId, TraceId};
pub use limits::Limits;
pub use span::{Event, Link, Resource, Scope, Span, SpanKind, Status, StatusCode, Trace, TraceSpan};
pub use threshold::Threshold;
pub use value::{KeyValue, Value};
