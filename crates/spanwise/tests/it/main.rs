//! The real program, over real sockets, on a real disk.

#![allow(clippy::unwrap_used)]

mod arrows;
mod bad_days;
mod collector;
mod component_docs;
mod corpus;
mod crash;
mod disk_full;
mod door_limits;
mod flapping;
mod grpc;
mod harness;
mod insights;
mod named_limits;
mod objects;
mod query_apis;
mod remote_sampling;
mod run;
mod run_bad_days;
mod run_brokers;
mod run_libraries;
mod run_one_trace;
mod run_programs;
mod run_sampling;
mod run_unchanged;
mod sampling;
mod signals;
mod slow;
mod stored;
mod sums;
mod weights;
