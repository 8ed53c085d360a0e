//! Where spans stay: a write-ahead log, a head in memory that queries see at once, and blocks of Parquet.
//!
//! [`Store::append`] returns when the spans are on stable storage and visible. The head is cut into a block when it
//! is large or old: data, then index, then the manifest that names them, then the log is trimmed. A [`Snapshot`] is
//! what one query sees: it never changes while it is held.

pub mod block;
pub mod catalogue;
pub mod facts;
pub mod head;
pub mod manifest;
pub mod merge;
pub mod objects;
mod scan;
pub mod sketches;
pub mod snapshot;
pub mod store;

pub use catalogue::{Catalogue, ValueKind};
pub use objects::{ObjectDisk, ObjectUrl, ObjectsError};
pub use snapshot::Snapshot;
pub use spanwise_journal::lock::LockHolder;
pub use store::{Store, StoreConfig, StoreError, StoreStats};
