//! Extensions: what serves the pipelines beside them.

pub mod accepted;
pub mod file_storage;
pub mod health_check;
pub mod remote_sampling;

use crate::component::Factory;

pub const ALL: &[Factory] =
    &[accepted::PPROF, accepted::ZPAGES, file_storage::FACTORY, health_check::FACTORY, remote_sampling::FACTORY];
