//! Breaks it on purpose, for development: a disk that fails, and worlds with known truth, whose services are run on
//! paper: their spans, and what insight should say of them. Nothing of the program depends on this crate.

pub mod discoveries;
pub mod disk;
pub mod otlp;
pub mod rng;
pub mod score;
pub mod workload;

pub use disk::{Fault, SimDisk, Survival};
pub use workload::{Dirt, World, WorldSpec};
