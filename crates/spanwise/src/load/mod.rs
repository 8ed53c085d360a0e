//! The load generator: a deterministic shop of 20 services, and what sends it.

pub mod run;
pub mod workload;
