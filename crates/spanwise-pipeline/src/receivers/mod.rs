//! Receivers: one file or folder each, and one line here.

pub mod otlp;

use crate::component::Factory;

pub const ALL: &[Factory] = &[otlp::FACTORY];
