//! Processors: one file each, and one line here.

pub mod attributes;
pub mod batch;
pub mod memory_limiter;
pub mod tail_sampling;

use crate::component::Factory;

pub const ALL: &[Factory] =
    &[attributes::ATTRIBUTES, attributes::RESOURCE, batch::FACTORY, memory_limiter::FACTORY, tail_sampling::FACTORY];
