//! The real program, over real sockets, on a real disk.

#![allow(clippy::unwrap_used)]

mod arrows;
mod bad_days;
mod collector;
mod crash;
mod harness;
mod sampling;
mod stored;
