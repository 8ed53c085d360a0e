//! Trace context in headers, messages and environment variables.
//!
//! Every program that takes part in a trace has to read who called it and to tell those that it calls. This crate does
//! that for the formats in use: W3C Trace Context (level 2) and Baggage, B3 (single and multi), Jaeger, AWS X-Ray,
//! Datadog, OpenTracing (`ot-tracer-*`) and Google. It knows no tracing library and starts no thread.
//!
//! ```
//! use spanwise_propagate::{Format, Parent, Propagator, SpanId};
//! # use std::collections::HashMap;
//! let propagator = Propagator::new([Format::TraceContext, Format::B3, Format::Baggage]).inject_with([Format::TraceContext, Format::Baggage]);
//!
//! let mut incoming = HashMap::new();
//! incoming.insert("b3".to_string(), "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1".to_string());
//! let found = propagator.extract(&incoming);
//! let Some(Parent::Span(parent)) = &found.parent else { panic!("a parent was sent") };
//!
//! let child = parent.child(SpanId::from_bytes([7; 8]).ok_or("zero")?);
//! let mut outgoing = HashMap::<String, String>::new();
//! propagator.inject(&child, &found.baggage, &mut outgoing);
//! assert_eq!(outgoing["traceparent"], "00-80f198ee56343ba864fe8b2a57d3eff7-0707070707070707-01");
//! # Ok::<(), &str>(())
//! ```
//!
//! # What is promised
//!
//! - **Strict**: what a specification forbids is not accepted. A broken context never breaks a request: it is as if
//!   none had been sent, and the caller starts a new trace.
//! - **Never panics**, on any bytes, in any header.
//! - **Bounded**: what is read, kept and written has the limits of [`limits`], whatever arrives.
//! - **No allocation** to read or write `traceparent` beyond what the carrier itself needs.
//!
//! # Features
//!
//! `std` (default), `http`, `tonic` and `rdkafka` add carriers; without `std` the crate needs only `alloc`.

#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::panic, clippy::expect_used)]

extern crate alloc;

mod baggage;
mod carrier;
pub mod carriers;
mod context;
mod formats;
mod hex;
mod ids;
pub mod limits;
mod percent;
mod propagator;
mod text;
mod trace_state;

pub use baggage::{Baggage, BaggageEntry};
pub use carrier::{Extract, Inject};
pub use context::{Decision, Parent, SpanContext};
pub use formats::Format;
pub use formats::w3c::{format_traceparent, parse_traceparent};
pub use ids::{SpanId, TraceId};
pub use propagator::{Extraction, Propagator, UnknownFormats};
pub use trace_state::{TraceState, TraceStateError};
