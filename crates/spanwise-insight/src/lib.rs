//! What a trace reveals: pure functions over one decoded trace. No I/O, no clock, no panics on any tree.

pub mod calls;
pub mod critical_path;
pub mod facts;
pub mod hidden;
pub mod ledger;
pub mod normalize;
pub mod population;
pub mod repetition;
pub mod row;
pub mod thresholds;
pub mod tree;

pub use critical_path::{CriticalPath, Segment};
pub use facts::{ServiceTime, SpanFacts, TraceFacts, trace_facts};
pub use tree::Tree;
