//! What one query sees: heads and blocks as they were at one moment.

use std::sync::Arc;

use spanwise_model::TraceId;
use spanwise_wire::Batch;

use crate::block::{BlockError, BlockReader};
use crate::catalogue::Catalogue;
use crate::head::Heads;
use crate::manifest::BlockMeta;
use crate::merge::merge;

/// Reads block on the disk: call from a thread that may.
#[derive(Clone)]
pub struct Snapshot {
    pub(crate) heads: Heads,
    pub(crate) blocks: Arc<Vec<(BlockMeta, Arc<BlockReader>)>>,
}

/// Spans that lie together: a block or a head.
pub enum Part<'a> {
    Head(&'a crate::head::Head),
    Block(&'a BlockReader),
}

impl Snapshot {
    /// All spans of a trace, wherever they lie, each once. `None` when there are none.
    ///
    /// # Errors
    /// When a block is damaged, or gone because the snapshot is old.
    pub fn trace(&self, id: &TraceId) -> Result<Option<Batch>, BlockError> {
        let mut parts = Vec::new();
        for (_, block) in self.blocks.iter() {
            parts.extend(block.trace(id)?);
        }
        for head in &self.heads {
            parts.extend(head.trace(id));
        }
        Ok(merge(parts))
    }

    /// Everything there is, newest first, each with its earliest and latest start of a span.
    pub fn parts(&self) -> Vec<(u64, u64, Part<'_>)> {
        let mut parts: Vec<(u64, u64, Part<'_>)> = Vec::new();
        for head in &self.heads {
            if let Some((low, high)) = head.starts() {
                parts.push((low, high, Part::Head(head)));
            }
        }
        for (meta, block) in self.blocks.iter() {
            parts.push((meta.min_start_unix_nano, meta.max_start_unix_nano, Part::Block(block)));
        }
        parts.sort_by_key(|(_, high, _)| std::cmp::Reverse(*high));
        parts
    }

    pub fn catalogue(&self) -> Catalogue {
        let mut catalogue = Catalogue::default();
        for (_, block) in self.blocks.iter() {
            catalogue.merge(block.catalogue());
        }
        for head in &self.heads {
            head.add_to(&mut catalogue);
        }
        catalogue
    }

    pub fn spans(&self) -> u64 {
        self.blocks.iter().map(|(meta, _)| meta.spans).sum::<u64>()
            + self.heads.iter().map(|head| head.spans()).sum::<u64>()
    }

    /// Earliest and latest start of any span.
    pub fn starts(&self) -> Option<(u64, u64)> {
        let parts = self.parts();
        let low = parts.iter().map(|(low, ..)| *low).min()?;
        Some((low, parts.iter().map(|(_, high, _)| *high).max()?))
    }
}
