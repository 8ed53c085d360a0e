//! The collector: a config becomes a graph of receivers, processors and exporters through which batches flow.
//!
//! Adding a component is one file with a config struct and a factory, and one line in the registry of its folder.

pub mod arrivals;
pub mod component;
pub mod config;
pub mod exporters;
pub mod extensions;
pub mod feature_gates;
pub mod flow;
pub mod graph;
pub mod hold;
pub mod net;
pub mod processors;
pub mod receivers;
pub mod telemetry;

pub use component::{BuildContext, Registry, Spools};
pub use config::{Config, ConfigErrors, Input};
pub use feature_gates::FeatureGates;
pub use flow::{Consumer, Payload, Refusal};
pub use graph::Graph;
pub use telemetry::Telemetry;
