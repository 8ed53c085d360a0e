//! Bytes to model and back: every byte that Spanwise did not write itself is parsed here and only here.
//!
//! An OTLP request stays the bytes it came as. [`Batch::parse`] walks it once, validates all of it and builds an
//! index; everything later slices ([`frame`], [`concat`], [`select`]). Inflating happens only in [`inflate`].

#![forbid(unsafe_code)]

pub mod answer;
pub mod batch;
pub mod decode;
pub mod encode;
pub mod frame;
pub mod import;
pub mod inflate;
pub mod json;
pub mod kept;
mod repair;
pub mod rewrite;
pub mod sampling;
mod scan;
pub mod tracestate;
pub mod view;

pub use batch::{Batch, Compressed, Parsed, Rejected, SpanRef};
pub use decode::{decode_resource, decode_scope, decode_span, decode_trace};
pub use frame::{Piece, concat, frame, rebuild, select, shard_of, split_by_count};
pub use scan::Malformed;
