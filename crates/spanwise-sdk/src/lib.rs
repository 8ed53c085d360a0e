//! One line instruments a Rust program.
//!
//! ```no_run
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let _guard = spanwise_sdk::init()?;
//!     tracing::info_span!("work").in_scope(|| tracing::info!("this line carries the trace's id"));
//!     Ok(())
//! }
//! ```
//!
//! It stands on the official `opentelemetry` and `tracing-opentelemetry` crates: `tracing` spans, spans of the
//! OpenTelemetry API and existing instrumentation go to one place and have one context. `init` reads the `OTEL_*`
//! variables (see the repository's `docs/sdk.md` for the table), detects the resource, exports over OTLP on a thread of
//! its own, and logs to standard error with trace ids. When the guard is dropped, what is left is sent.
//!
//! Telemetry does not harm the program: nothing here blocks longer than a stated time, queues are bounded, what is lost
//! is counted ([`Guard::stats`]), and settings that cannot be used are reported and left out.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod bridge;
mod errors;
mod export;
mod guard;
mod otlp;
mod panics;
mod propagation;
mod resource;
pub mod sampling;
mod settings;
mod signals;
mod spans;
mod tls;

pub mod layers;

use opentelemetry::trace::{SpanBuilder, TraceContextExt};
use opentelemetry::{Context, global};

pub use bridge::layer;
pub use errors::{RecordError, record_error};
pub use export::Stats;
pub use guard::{Builder, Guard, InitError, Logs};
pub use propagation::{ContextPropagator, extract, formats, inject};
pub use spans::{ActiveSpan, in_span, span};

pub use spanwise_propagate as propagate;

/// Instruments this program as the environment says. Keep the guard until the program ends.
///
/// # Errors
/// When it was called before.
pub fn init() -> Result<Guard, InitError> {
    Builder::new().init()
}

/// A [`Builder`], for programs that want to say more than the environment does.
pub fn builder() -> Builder {
    Builder::new()
}

/// Starts a span of this SDK's own below `parent`, and returns the context in which it is active.
pub(crate) fn start(span: SpanBuilder, parent: &Context) -> Context {
    match guard::own_tracer() {
        Some(tracer) => parent.with_span(span.start_with_context(tracer, parent)),
        // Whatever the program set up itself.
        None => parent.with_span(span.start_with_context(&global::tracer("spanwise-sdk"), parent)),
    }
}
