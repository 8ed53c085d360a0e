//! Instrumentation for libraries, with the names of OpenTelemetry's semantic conventions.
//!
//! | library | what | feature |
//! |---|---|---|
//! | axum, hyper, tower services | [`ServerLayer`] | `http-layers` (default), `axum` for routes |
//! | hyper's client, tower clients | [`ClientLayer`] | `http-layers` |
//! | tonic, server and client | the same two: gRPC is recognised by its content type | `http-layers` |
//! | reqwest | [`SendTraced`] on its request builder | `reqwest` |
//! | sqlx, tokio-postgres, rusqlite, redis, … | [`database::traced`] around the call | |
//! | rdkafka, lapin, … | [`messaging`], with carriers for their headers | `rdkafka` for those of rdkafka |

#[cfg(feature = "http-layers")]
mod body;
#[cfg(feature = "http-layers")]
mod client;
pub mod database;
pub mod messaging;
#[cfg(feature = "http-layers")]
mod names;
#[cfg(feature = "reqwest")]
mod reqwest;
#[cfg(feature = "http-layers")]
mod server;

#[cfg(feature = "http-layers")]
pub use body::TracedBody;
#[cfg(feature = "http-layers")]
pub use client::{ClientFuture, ClientLayer, TracedClient};
#[cfg(feature = "reqwest")]
pub use reqwest::SendTraced;
#[cfg(feature = "http-layers")]
pub use server::{ServerFuture, ServerLayer, TracedServer};
