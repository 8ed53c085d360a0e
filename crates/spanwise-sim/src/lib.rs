//! Worlds with known truth, for development: services that are run on paper, their spans, and what insight should say
//! of them. Nothing of the program depends on this crate.

pub mod otlp;
pub mod rng;
pub mod score;
pub mod workload;

pub use workload::{Dirt, World, WorldSpec};
