//! Durable bytes: the write-ahead log and what it stands on. The only crate that calls fsync.
//!
//! Files are reached through [`Disk`] and time through [`Clock`], so that a simulation can be the second
//! implementation of both.

pub mod clock;
pub mod disk;
pub mod lock;
mod segment;
pub mod spool;
pub mod wal;

pub use clock::{Clock, ManualClock, SystemClock};
pub use disk::{Disk, DiskError, DiskFile, RealDisk};
pub use spool::{Spool, SpoolError, SpoolRecovery, Ticket};
pub use wal::{AppendError, JournalError, OnSyncFailure, Position, Record, Recovery, Wal, WalOptions};
