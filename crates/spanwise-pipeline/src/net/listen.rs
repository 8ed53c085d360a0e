//! A bound socket and its accept loop.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use spanwise_model::limits;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connections::Connections;

/// A connection, encrypted or not.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

pub struct Listener {
    socket: TcpListener,
    tls: Option<TlsAcceptor>,
}

impl Listener {
    /// Binds `endpoint`, `host:port` with a name or an address. Port 0 takes a free one.
    ///
    /// # Errors
    /// When it cannot be bound; says so with the endpoint and what to do.
    pub fn bind(endpoint: &str, tls: Option<Arc<rustls::ServerConfig>>) -> Result<Self, String> {
        use std::net::ToSocketAddrs as _;
        // As Go: no host means all interfaces.
        let full = if endpoint.starts_with(':') { format!("0.0.0.0{endpoint}") } else { endpoint.to_owned() };
        let explain = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                format!("cannot listen on {endpoint}: the port is in use; stop what holds it or set another endpoint")
            }
            _ => format!("cannot listen on {endpoint}: {error}"),
        };
        let addresses: Vec<SocketAddr> = full.to_socket_addrs().map_err(explain)?.collect();
        // `localhost` may name both ::1 and 127.0.0.1: clients of all kinds reach the latter.
        let address = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
        let Some(address) = address else { return Err(format!("cannot listen on {endpoint}: no such host")) };
        let socket = std::net::TcpListener::bind(address).map_err(explain)?;
        socket.set_nonblocking(true).map_err(explain)?;
        let socket = TcpListener::from_std(socket).map_err(explain)?;
        Ok(Self { socket, tls: tls.map(TlsAcceptor::from) })
    }

    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Accepts until `stop`; never ends for an error. Each connection is served by its own tracked task.
    pub async fn serve<F, S>(self, stop: CancellationToken, tasks: TaskTracker, serve: S)
    where
        F: Future<Output = ()> + Send + 'static,
        S: Fn(Box<dyn Stream>) -> F + Clone + Send + 'static,
    {
        let connections = Connections::new(limits::CONNECTIONS);
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = self.socket.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
            };
            let (tls, serve, open) = (self.tls.clone(), serve.clone(), connections.open());
            tasks.spawn(async move {
                let closed = open.closed();
                let serving = async move {
                    if let Some(stream) = secure(stream, tls).await {
                        serve(open.watch(stream)).await;
                    }
                };
                tokio::select! {
                    () = serving => {}
                    () = closed.cancelled() => {}
                }
            });
        }
    }
}

async fn secure(stream: TcpStream, tls: Option<TlsAcceptor>) -> Option<Box<dyn Stream>> {
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else { return Some(Box::new(stream)) };
    match tokio::time::timeout(limits::TLS_HANDSHAKE, tls.accept(stream)).await {
        Ok(Ok(stream)) => Some(Box::new(stream)),
        Ok(Err(error)) => {
            tracing::debug!(%error, "TLS handshake failed");
            None
        }
        Err(_) => {
            tracing::debug!("TLS handshake took too long");
            None
        }
    }
}
