//! Load with honest figures.

pub mod workload;
