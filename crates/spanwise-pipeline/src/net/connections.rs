//! The connections of one listener: a bound on their number, and at the bound the one that was quiet for longest goes.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

use super::Stream;

/// Cloning shares.
#[derive(Clone)]
pub(super) struct Connections(Arc<State>);

struct State {
    limit: usize,
    /// Counts what happens on any connection: a clock that needs no time.
    events: AtomicU64,
    open: Mutex<HashMap<u64, Arc<Progress>>>,
    closed: AtomicU64,
}

struct Progress {
    /// The last event on this connection.
    last: AtomicU64,
    close: CancellationToken,
}

/// One open connection; it is forgotten when dropped.
pub(super) struct Open {
    connections: Connections,
    id: u64,
    progress: Arc<Progress>,
}

impl Connections {
    pub fn new(limit: usize) -> Self {
        let state =
            State { limit: limit.max(1), events: AtomicU64::new(0), open: Mutex::default(), closed: AtomicU64::new(0) };
        Self(Arc::new(state))
    }

    /// Makes room for one more, and has it.
    pub fn open(&self) -> Open {
        let id = self.0.events.fetch_add(1, Ordering::Relaxed);
        let progress = Arc::new(Progress { last: AtomicU64::new(id), close: CancellationToken::new() });
        let mut open = self.0.open.lock();
        if open.len() >= self.0.limit {
            let quietest = open.iter().min_by_key(|(_, progress)| progress.last.load(Ordering::Relaxed));
            if let Some(quietest) = quietest.map(|(id, _)| *id)
                && let Some(progress) = open.remove(&quietest)
            {
                progress.close.cancel();
                let closed = self.0.closed.fetch_add(1, Ordering::Relaxed);
                if closed.is_multiple_of(1_000) {
                    tracing::warn!(
                        limit = self.0.limit,
                        closed = closed + 1,
                        "too many connections: quiet ones are closed"
                    );
                }
            }
        }
        open.insert(id, Arc::clone(&progress));
        Open { connections: self.clone(), id, progress }
    }
}

impl Open {
    /// Fires when this connection has to make room.
    pub fn closed(&self) -> CancellationToken {
        self.progress.close.clone()
    }

    /// The same stream, watched.
    pub fn watch(&self, stream: Box<dyn Stream>) -> Box<dyn Stream> {
        Box::new(Watched { stream, progress: Arc::clone(&self.progress), connections: self.connections.clone() })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.connections.0.open.lock().remove(&self.id);
    }
}

struct Watched {
    stream: Box<dyn Stream>,
    progress: Arc<Progress>,
    connections: Connections,
}

impl Watched {
    fn note(&self) {
        let event = self.connections.0.events.fetch_add(1, Ordering::Relaxed);
        self.progress.last.store(event, Ordering::Relaxed);
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.note();
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        if matches!(polled, Poll::Ready(Ok(1..))) {
            self.note();
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        if matches!(polled, Poll::Ready(Ok(1..))) {
            self.note();
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn connections_at_the_limit_and_one_past_it() {
        let connections = Connections::new(3);
        let (mut peers, mut streams, mut open) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..3 {
            let (peer, stream) = tokio::io::duplex(64);
            let one = connections.open();
            streams.push(one.watch(Box::new(stream)));
            peers.push(peer);
            open.push(one);
        }
        assert!(open.iter().all(|one| !one.closed().is_cancelled()));
        // The first one speaks, the third is spoken to: the second is the quiet one.
        peers[0].write_all(b"x").await.unwrap();
        assert_eq!(streams[0].read_u8().await.unwrap(), b'x');
        streams[2].write_all(b"y").await.unwrap();
        let more = connections.open();
        let closed: Vec<bool> = open.iter().map(|one| one.closed().is_cancelled()).collect();
        assert_eq!(closed, [false, true, false]);
        // Room that is given back is used before another has to go.
        drop(open.remove(0));
        let last = connections.open();
        assert!(!more.closed().is_cancelled() && !last.closed().is_cancelled() && !open[1].closed().is_cancelled());
        assert_eq!(connections.0.open.lock().len(), 3);
    }
}
