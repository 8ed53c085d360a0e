//! Errors with everything that caused them.

use std::error::Error;

use opentelemetry::trace::{SpanRef, Status, TraceContextExt};
use opentelemetry::{Context, KeyValue};

/// Causes that are told; a longer chain is a loop.
const MAX_CHAIN: usize = 32;

/// Records an error on the active span: an `exception` event with the chain of causes, and the status `Error`.
pub fn record_error<E: Error + ?Sized>(error: &E) {
    Context::map_current(|context| {
        record(&context.span(), short_name(std::any::type_name::<E>()), error.to_string(), chain(error.source()))
    });
}

pub(crate) fn record(span: &SpanRef<'_>, kind: &str, message: String, causes: String) {
    record_as(span, kind, kind.to_owned(), message, causes);
}

/// With an `error.type` that tells more than the type's name: a code of the other side.
pub(crate) fn record_as(span: &SpanRef<'_>, kind: &str, error_type: String, message: String, causes: String) {
    if !span.is_recording() {
        return;
    }
    let mut attributes =
        vec![KeyValue::new("exception.type", kind.to_owned()), KeyValue::new("exception.message", message.clone())];
    if !causes.is_empty() {
        attributes.push(KeyValue::new("exception.stacktrace", format!("{kind}: {message}\n{causes}")));
    }
    span.add_event("exception", attributes);
    span.set_attribute(KeyValue::new("error.type", error_type));
    span.set_status(Status::error(message));
}

/// `caused by: …` a line.
pub(crate) fn chain(first: Option<&(dyn Error + 'static)>) -> String {
    let mut lines = Vec::new();
    let mut next = first;
    while let Some(cause) = next.filter(|_| lines.len() < MAX_CHAIN) {
        lines.push(format!("caused by: {cause}"));
        next = cause.source();
    }
    lines.join("\n")
}

/// A trait object has no type that would tell more.
fn short_name(name: &str) -> &str {
    name.strip_prefix("dyn ").unwrap_or(name)
}

/// Records what goes wrong on its way through `?`.
///
/// ```
/// use spanwise_sdk::RecordError;
/// fn read(text: &str) -> Result<u8, std::num::ParseIntError> {
///     text.parse().recorded()
/// }
/// # assert_eq!(read("7").unwrap(), 7);
/// ```
pub trait RecordError: Sized {
    /// Records the error, if it is one, on the active span.
    #[must_use]
    fn recorded(self) -> Self;
}

impl<T, E: Error> RecordError for Result<T, E> {
    fn recorded(self) -> Self {
        if let Err(error) = &self {
            record_error(error);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt;

    #[derive(Debug)]
    struct Failure(&'static str, Option<Box<Failure>>);

    impl fmt::Display for Failure {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Failure {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|cause| cause as _)
        }
    }

    #[test]
    fn chains() {
        let error =
            Failure("cannot pay", Some(Failure("cannot reach the bank", Some(Failure("timeout", None).into())).into()));
        assert_eq!(chain(error.source()), "caused by: cannot reach the bank\ncaused by: timeout");
        assert_eq!(chain(None), "");
        let deep = (0..100).fold(Failure("root", None), |cause, _| Failure("more", Some(cause.into())));
        assert_eq!(chain(Some(&deep)).lines().count(), MAX_CHAIN);
    }
}
