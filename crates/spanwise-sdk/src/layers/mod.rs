//! Instrumentation for libraries, with the names of OpenTelemetry's semantic conventions.
//!
//! | library | what | feature |
//! |---|---|---|
//! | axum, hyper, tower services | [`ServerLayer`] | `http-layers` (default), `axum` for routes |
//! | hyper's client, tower clients | [`ClientLayer`] | `http-layers` |
//! | tonic, server and client | the same two: gRPC is recognised by its content type | `http-layers` |
//! | reqwest | [`SendTraced`] on its request builder | `reqwest` |
//! | sqlx | [`TraceSql`]: `.execute(pool.traced())` | `sqlx` |
//! | redis | [`TracedRedis`] around a connection | `redis` |
//! | tokio-postgres, rusqlite, … | [`database::traced`] around the call | |
//! | rdkafka | [`ProduceTraced`] on its producer, [`ProcessTraced`] on messages, [`kafka::receiving`] for batches | `rdkafka` |
//! | lapin, … | [`messaging`], over any carrier of headers | |

#[cfg(feature = "http-layers")]
mod body;
#[cfg(feature = "http-layers")]
mod client;
pub mod database;
#[cfg(feature = "rdkafka")]
pub mod kafka;
pub mod messaging;
#[cfg(feature = "http-layers")]
mod names;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "reqwest")]
mod reqwest;
#[cfg(feature = "http-layers")]
mod server;
#[cfg(feature = "sqlx")]
mod sqlx;

#[cfg(feature = "http-layers")]
pub use body::TracedBody;
#[cfg(feature = "http-layers")]
pub use client::{ClientFuture, ClientLayer, TracedClient};
#[cfg(feature = "rdkafka")]
pub use kafka::{ProcessTraced, ProduceTraced};
#[cfg(feature = "redis")]
pub use redis::TracedRedis;
#[cfg(feature = "reqwest")]
pub use reqwest::SendTraced;
#[cfg(feature = "http-layers")]
pub use server::{ServerFuture, ServerLayer, TracedServer};
#[cfg(feature = "sqlx")]
pub use sqlx::{TraceSql, TracedSql};
