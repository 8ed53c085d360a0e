//! Panics as exceptions of the span in which they happen.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{self, PanicHookInfo};

use opentelemetry::Context;
use opentelemetry::trace::{SpanBuilder, TraceContextExt};

use crate::errors;

/// Before the hook that is there; it runs as it did.
pub(crate) fn record() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        // A panic of ours while recording would abort the program.
        if !Context::is_current_telemetry_suppressed() {
            on_panic(info);
        }
        before(info);
    }));
}

fn on_panic(info: &PanicHookInfo<'_>) {
    let message = info.payload_as_str().unwrap_or("panicked with a value that is no text").to_owned();
    let place = info
        .location()
        .map_or_else(String::new, |place| format!("at {}:{}:{}", place.file(), place.line(), place.column()));
    let trace = Backtrace::capture();
    let trace = if trace.status() == BacktraceStatus::Captured { format!("{place}\n{trace}") } else { place };
    let is_in_span = Context::map_current(|context| {
        let span = context.span();
        errors::record(&span, "panic", message.clone(), trace.clone());
        span.span_context().is_valid()
    });
    // Outside of any span it is a trace of its own: someone should see it.
    if !is_in_span {
        let context = crate::start(SpanBuilder::from_name("panic"), &Context::new());
        errors::record(&context.span(), "panic", message, trace);
        context.span().end();
    }
}
