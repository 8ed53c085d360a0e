//! What a trace reveals: pure functions over one decoded trace. No I/O, no clock, no panics on any tree.

pub mod critical_path;
pub mod facts;
pub mod tree;

pub use critical_path::{CriticalPath, Segment};
pub use facts::{ServiceTime, SpanFacts, TraceFacts, trace_facts};
pub use tree::Tree;
