//! The load generator: a deterministic shop of 20 services, what sends it, and what takes it.

mod connection;
mod plan;
pub mod run;
pub mod sink;
pub mod workload;
