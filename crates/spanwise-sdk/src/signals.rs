//! The last spans of a program that is told to end.

#[cfg(unix)]
use std::time::Duration;

use crate::export::Task;

/// A program that is told to end should not take long about it.
#[cfg(unix)]
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

#[cfg(unix)]
pub(crate) fn flush() -> Task {
    use tokio::signal::unix::{SignalKind, signal};
    Box::new(|exports| {
        // Now, not when the task first runs: a signal may come at once.
        let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
        Box::pin(async move {
            let (Ok(mut terminate), Ok(mut interrupt)) = signals else { return };
            let kind = tokio::select! {
                _ = terminate.recv() => SignalKind::terminate(),
                _ = interrupt.recv() => SignalKind::interrupt(),
            };
            // Not on this thread: it is the one that sends.
            let flushed = tokio::task::spawn_blocking(move || exports.flush(FLUSH_TIMEOUT));
            let _ = flushed.await;
            let _ = signal_hook::low_level::emulate_default_handler(kind.as_raw_value());
        })
    })
}

#[cfg(not(unix))]
pub(crate) fn flush() -> Task {
    Box::new(|_| Box::pin(std::future::pending()))
}
