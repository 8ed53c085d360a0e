//! Proof of the parsers: against prost, against generated and damaged bytes, and at every limit.

#![allow(clippy::unwrap_used)]

mod differential;
mod generate;
mod limits;
mod oracle;
