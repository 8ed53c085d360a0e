//! Gathered writes under `h2`, which by itself makes one system call for each frame of 16 KiB.
//!
//! `h2` writes into memory; whoever polls the connection sends what has gathered after each poll, so nothing waits
//! longer than one turn of its task. See `docs/adr/0004-grpc-framing.md`.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What gathers before it is sent all the same.
const GATHERED_BYTES: usize = 256 << 10;
/// A write of this size is worth a system call of its own and is not copied.
const DIRECT_BYTES: usize = 64 << 10;
/// An idle connection keeps no more than this.
const KEPT_BYTES: usize = 32 << 10;

/// The stream as `h2` sees it: writing gathers, flushing does nothing.
pub struct Gathering<S>(Arc<Mutex<Outgoing<S>>>);

/// Sends what has gathered: see [`Sending::drive`].
pub struct Sending<S>(Arc<Mutex<Outgoing<S>>>);

struct Outgoing<S> {
    stream: S,
    buffer: Vec<u8>,
    sent: usize,
    is_broken: bool,
}

/// Splits a stream into what `h2` gets and what sends.
pub fn gather<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> (Gathering<S>, Sending<S>) {
    let outgoing = Outgoing { stream, buffer: Vec::new(), sent: 0, is_broken: false };
    let shared = Arc::new(Mutex::new(outgoing));
    (Gathering(Arc::clone(&shared)), Sending(shared))
}

impl<S: AsyncRead + AsyncWrite + Unpin> Sending<S> {
    /// Polls what writes to the stream, and sends after each poll what it wrote.
    pub async fn drive<F: Future>(&self, writing: F) -> F::Output {
        let mut writing = std::pin::pin!(writing);
        std::future::poll_fn(|context| {
            let polled = writing.as_mut().poll(context);
            let mut outgoing = self.0.lock();
            if let Poll::Ready(Err(error)) = outgoing.send(context)
                && polled.is_pending()
            {
                tracing::debug!(%error, "cannot write to a connection");
                // It will read the failure.
                context.waker().wake_by_ref();
            }
            polled
        })
        .await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Outgoing<S> {
    fn send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.buffer.is_empty() || self.is_broken {
            return Poll::Ready(Ok(()));
        }
        while self.sent < self.buffer.len() {
            let rest = self.buffer.get(self.sent..).unwrap_or_default();
            match ready!(Pin::new(&mut self.stream).poll_write(context, rest)) {
                Ok(0) => return self.broken(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.sent += count,
                Err(error) => return self.broken(error),
            }
        }
        self.sent = 0;
        self.buffer.clear();
        if self.buffer.capacity() > GATHERED_BYTES + DIRECT_BYTES {
            self.buffer.shrink_to(KEPT_BYTES);
        }
        match ready!(Pin::new(&mut self.stream).poll_flush(context)) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(error) => self.broken(error),
        }
    }

    fn broken(&mut self, error: io::Error) -> Poll<io::Result<()>> {
        self.is_broken = true;
        Poll::Ready(Err(error))
    }

    fn check(&self) -> io::Result<()> {
        if self.is_broken { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }

    fn write(&mut self, context: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.check()?;
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        if self.buffer.len() + bytes > GATHERED_BYTES {
            ready!(self.send(context))?;
        }
        if bytes >= DIRECT_BYTES && self.buffer.is_empty() {
            return Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        }
        for part in parts {
            self.buffer.extend_from_slice(part);
        }
        Poll::Ready(Ok(bytes))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Gathering<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut outgoing = self.0.lock();
        outgoing.check()?;
        Pin::new(&mut outgoing.stream).poll_read(context, into)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Gathering<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.lock().write(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.lock().write(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.lock().check())
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut outgoing = self.0.lock();
        ready!(outgoing.send(context))?;
        Pin::new(&mut outgoing.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// Many small writes, a pipe that takes 1,000 bytes at a time: all arrives, in order, without a flush.
    #[tokio::test]
    async fn what_was_written_arrives_whole_and_in_order() {
        for (size, count) in [(10, 500), (9_000, 100), (70_000, 7), (300_000, 2)] {
            let (near, mut far) = tokio::io::duplex(1_000);
            let (mut writing, sending) = gather(near);
            let sent: Vec<u8> = (0..size * count).map(|i| (i * 7 / 5) as u8).collect();
            let pieces = sent.clone();
            let writer = tokio::spawn(async move {
                let write = async {
                    for piece in pieces.chunks(size) {
                        writing.write_all(piece).await.unwrap();
                    }
                    writing.flush().await.unwrap();
                    writing.shutdown().await.unwrap();
                };
                sending.drive(write).await;
            });
            let mut received = Vec::new();
            far.read_to_end(&mut received).await.unwrap();
            writer.await.unwrap();
            assert!(received == sent, "{size} x {count}");
        }
    }

    #[tokio::test]
    async fn a_pending_turn_sends_what_it_wrote() {
        let (near, mut far) = tokio::io::duplex(1_000);
        let (mut writing, sending) = gather(near);
        let driven = tokio::spawn(async move {
            let hang = async {
                writing.write_all(b"hello").await.unwrap();
                std::future::pending::<()>().await;
            };
            sending.drive(hang).await;
        });
        let mut received = [0; 5];
        far.read_exact(&mut received).await.unwrap();
        assert_eq!(&received, b"hello");
        driven.abort();
    }

    #[tokio::test]
    async fn a_reader_learns_that_the_peer_is_gone() {
        let (near, far) = tokio::io::duplex(10);
        drop(far);
        let (mut writing, sending) = gather(near);
        let read = async {
            writing.write_all(b"anybody there?").await.unwrap();
            tokio::task::yield_now().await;
            writing.write_all(b"?").await.map_err(|error| error.kind())
        };
        assert_eq!(sending.drive(read).await, Err(io::ErrorKind::BrokenPipe));
    }
}
