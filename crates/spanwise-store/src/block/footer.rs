//! The Parquet metadata of blocks, read when a query needs it. The most recently used stay, in bounded memory.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::datatypes::{DataType, Field, Schema};
use parking_lot::Mutex;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};

use super::read::FileChunks;

/// Of all footers that are kept: those of some two hundred million spans.
const KEPT_BYTES: usize = 96 << 20;

/// Where the pages of a block are, and what its columns are read as.
pub(super) struct Footer {
    pub plain: ArrowReaderMetadata,
    /// The same with strings and bytes as views into their pages instead of copies.
    pub views: ArrowReaderMetadata,
}

/// The footer alone: rows, row groups and columns.
pub(super) fn read_bare(file: &FileChunks) -> Result<ArrowReaderMetadata, ParquetError> {
    let metadata = ParquetMetaDataReader::new().parse_and_finish(file)?;
    ArrowReaderMetadata::try_new(Arc::new(metadata), ArrowReaderOptions::new())
}

impl Footer {
    /// With the places of all pages. What they hold at least and at most is not read: rows lie in order of their
    /// traces' ids, so that every page has a bit of everything.
    fn read(file: &FileChunks) -> Result<Self, ParquetError> {
        let metadata =
            ParquetMetaDataReader::new().with_offset_index_policy(PageIndexPolicy::Optional).parse_and_finish(file)?;
        let plain = ArrowReaderMetadata::try_new(Arc::new(metadata), ArrowReaderOptions::new())?;
        let as_view = |field: &Arc<Field>| {
            let data_type = match field.data_type() {
                DataType::Utf8 => DataType::Utf8View,
                DataType::Binary => DataType::BinaryView,
                other => other.clone(),
            };
            Field::new(field.name(), data_type, field.is_nullable())
        };
        let fields: Vec<Field> = plain.schema().fields().iter().map(as_view).collect();
        let options = ArrowReaderOptions::new().with_schema(Arc::new(Schema::new(fields)));
        let views = ArrowReaderMetadata::try_new(Arc::clone(plain.metadata()), options)?;
        Ok(Self { plain, views })
    }

    pub fn metadata(&self) -> &ParquetMetaData {
        self.plain.metadata()
    }

    fn bytes(&self) -> usize {
        // Beside the metadata, which both share, each has a schema.
        self.metadata().memory_size() + self.plain.schema().fields().size() * 2
    }
}

/// Names a reader among all of this process.
pub(super) fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

struct Kept {
    /// The most recently used last.
    footers: VecDeque<(u64, Arc<Footer>)>,
    bytes: usize,
}

static KEPT: Mutex<Kept> = Mutex::new(Kept { footers: VecDeque::new(), bytes: 0 });

/// The footer of a reader's file.
pub(super) fn of(number: u64, file: &FileChunks) -> Result<Arc<Footer>, ParquetError> {
    {
        let mut kept = KEPT.lock();
        if let Some(place) = kept.footers.iter().rposition(|(known, _)| *known == number)
            && let Some(known) = kept.footers.remove(place)
        {
            let footer = Arc::clone(&known.1);
            kept.footers.push_back(known);
            return Ok(footer);
        }
    }
    // Two that need it at once may both read it.
    let footer = Arc::new(Footer::read(file)?);
    let mut kept = KEPT.lock();
    kept.bytes += footer.bytes();
    kept.footers.push_back((number, Arc::clone(&footer)));
    while kept.bytes > KEPT_BYTES && kept.footers.len() > 1 {
        if let Some((_, oldest)) = kept.footers.pop_front() {
            kept.bytes -= oldest.bytes();
        }
    }
    Ok(footer)
}

/// The reader is gone.
pub(super) fn forget(number: u64) {
    let mut kept = KEPT.lock();
    while let Some(place) = kept.footers.iter().position(|(known, _)| *known == number) {
        if let Some((_, footer)) = kept.footers.remove(place) {
            kept.bytes -= footer.bytes();
        }
    }
}
