//! One block: `spans.parquet`, `traces.idx`, `facts.bin`, `postings.bin`, `sketches.bin` and `catalogue.json` in a directory named by the block's id.
//!
//! Rows are spans, ordered by trace id, then start. `docs/storage.md` describes the columns for readers of other
//! engines.

mod columns;
mod evaluate;
mod facts_of;
pub mod filter;
mod footer;
mod index;
mod narrow;
mod pages;
mod postings;
mod read;
pub(crate) mod shred;
mod sketches_of;
mod write;

pub use facts_of::Sorted;
pub(crate) use facts_of::rows_of;
pub use index::TraceIndex;
pub use narrow::{Order, Step};
pub use read::BlockReader;
pub use sketches_of::sketch;
pub use write::{BuiltBlock, Elsewhere, build, build_with, nowhere};

/// Format version, in every block's Parquet metadata and in the manifest.
pub const FORMAT_VERSION: u32 = 6;

pub const SPANS_FILE: &str = "spans.parquet";
pub const INDEX_FILE: &str = "traces.idx";
pub const CATALOGUE_FILE: &str = "catalogue.json";
/// Since format 3.
pub const FACTS_FILE: &str = "facts.bin";
/// Since format 4.
pub const POSTINGS_FILE: &str = "postings.bin";
/// Since format 5.
pub const SKETCHES_FILE: &str = "sketches.bin";

#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    #[error(transparent)]
    Disk(#[from] spanwise_journal::DiskError),
    #[error("cannot read block {block}: {reason}")]
    Corrupt { block: String, reason: String },
    #[error("cannot write block: {0}")]
    Write(String),
}

impl BlockError {
    /// The block was deleted after the snapshot that named it was taken: a fresh snapshot has its successor.
    pub fn is_gone(&self) -> bool {
        matches!(self, BlockError::Disk(error) if error.is_missing())
    }
}
