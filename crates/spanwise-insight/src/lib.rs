//! What a trace reveals: pure functions over one decoded trace. No I/O, no clock, no panics on any tree.

pub mod analysis;
pub mod attributes;
pub mod calls;
pub mod clock;
pub mod compare;
pub mod critical_path;
pub mod facts;
pub mod hidden;
pub mod ledger;
pub mod minutes;
pub mod names;
pub mod normalize;
pub mod population;
pub mod queue;
pub mod repetition;
pub mod row;
pub mod sampling;
pub mod sketch;
pub mod thresholds;
pub mod tree;
pub mod view;
pub mod weight;

pub use critical_path::{CriticalPath, Mode, Segment};
pub use facts::{ServiceTime, SpanFacts, TraceFacts, trace_facts, trace_facts_in};
pub use tree::Tree;
