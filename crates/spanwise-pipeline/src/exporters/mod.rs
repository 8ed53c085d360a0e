//! Exporters: one file each, and one line here.

pub mod client;
pub mod debug;
pub mod file;
pub mod nop;
pub mod otlp;
pub mod otlphttp;
pub mod queue;

use crate::component::Factory;

pub const ALL: &[Factory] = &[debug::FACTORY, file::FACTORY, nop::FACTORY, otlp::FACTORY, otlphttp::FACTORY];
