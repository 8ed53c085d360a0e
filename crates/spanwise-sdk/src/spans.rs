//! Spans around the program's own work, without `tracing`.

use std::borrow::Cow;
use std::error::Error;

use opentelemetry::trace::{SpanBuilder, SpanRef, Status, TraceContextExt};
use opentelemetry::{Context, ContextGuard, KeyValue, Value};

use crate::guard;

/// A span that is active on this thread until it is dropped, also on `?` and when panicking.
///
/// It cannot move to another thread: around `async` code, use `tracing`'s `#[instrument]` or `.instrument(…)`.
#[must_use = "the span ends when this is dropped"]
pub struct ActiveSpan {
    /// `None` in a trace that is not recorded.
    open: Option<Open>,
}

struct Open {
    context: Context,
    _active: ContextGuard,
}

/// Starts a span below the active one.
///
/// ```
/// fn checkout(items: &[u32]) -> u32 {
///     let span = spanwise_sdk::span("checkout.total");
///     span.set("shop.items", items.len() as i64);
///     items.iter().sum()
/// }
/// # assert_eq!(checkout(&[1, 2]), 3);
/// ```
pub fn span(name: impl Into<Cow<'static, str>>) -> ActiveSpan {
    // In a trace that is not recorded the caller's span stands for all below it.
    let is_unrecorded = guard::follows_parents()
        && Context::map_current(|current| {
            let span = current.span();
            let span = span.span_context();
            span.is_valid() && !span.is_sampled() && !span.is_remote()
        });
    if is_unrecorded {
        return ActiveSpan { open: None };
    }
    let context = Context::map_current(|current| crate::start(SpanBuilder::from_name(name), current));
    ActiveSpan { open: Some(Open { _active: context.clone().attach(), context }) }
}

/// Runs `work` in a span.
pub fn in_span<T>(name: impl Into<Cow<'static, str>>, work: impl FnOnce(&ActiveSpan) -> T) -> T {
    let span = span(name);
    work(&span)
}

impl ActiveSpan {
    /// Sets an attribute.
    pub fn set(&self, key: &'static str, value: impl Into<Value>) {
        self.with(|span| span.set_attribute(KeyValue::new(key, value)));
    }

    /// Notes that something happened now.
    pub fn event(&self, name: impl Into<Cow<'static, str>>, attributes: Vec<KeyValue>) {
        self.with(|span| span.add_event(name, attributes));
    }

    /// Records an error with its causes, and the status `Error`.
    pub fn record_error<E: Error + ?Sized>(&self, error: &E) {
        let causes = || crate::errors::chain(error.source());
        self.with(|span| crate::errors::record(span, std::any::type_name::<E>(), error.to_string(), causes()));
    }

    /// Says that it went well, whatever was recorded.
    pub fn ok(&self) {
        self.with(|span| span.set_status(Status::Ok));
    }

    fn with(&self, change: impl FnOnce(&SpanRef<'_>)) {
        if let Some(open) = &self.open {
            change(&open.context.span());
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // Others may hold the context: the span still ends here.
        self.context.span().end();
    }
}
