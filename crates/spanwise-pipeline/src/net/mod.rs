//! Sockets: listeners that survive every accept error, TLS on both sides.

mod connections;
pub mod gather;
pub mod listen;
pub mod tls;

pub use gather::gather;
pub use listen::{Listener, Stream};
pub use tls::{ClientTls, ServerTls};
