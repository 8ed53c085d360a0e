//! The real program, over real sockets, on a real disk.

#![allow(clippy::unwrap_used)]

mod arrows;
mod bad_days;
mod collector;
mod crash;
mod harness;
mod insights;
mod query_apis;
mod run;
mod run_bad_days;
mod run_kafka;
mod run_programs;
mod sampling;
mod stored;
