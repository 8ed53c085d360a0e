//! Pages of a block's columns, inflated without a compressor of their own for every column.
//!
//! Parquet's own reader makes zstd's state for both directions for each column that it opens, which costs as much as
//! reading a page. Here a thread keeps one.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::Fields;
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, RowGroups, RowSelection};
use parquet::arrow::{ProjectionMask, parquet_to_arrow_field_levels};
use parquet::basic::Compression;
use parquet::column::page::{Page, PageIterator, PageMetadata, PageReader};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::page_index::offset_index::PageLocation;
use parquet::file::serialized_reader::SerializedPageReader;

use super::footer::Footer;
use super::read::FileChunks;

/// Largest page that is inflated: one value may be as large as a message.
const PAGE_BYTES: u64 = 256 << 20;

thread_local! {
    static INFLATE: RefCell<zstd_safe::DCtx<'static>> = RefCell::new(zstd_safe::DCtx::create());
}

fn inflate(compressed: &Bytes) -> Result<Bytes, ParquetError> {
    if compressed.is_empty() {
        return Ok(Bytes::new());
    }
    let length = zstd_safe::get_frame_content_size(compressed).ok().flatten();
    let length = length.filter(|length| *length <= PAGE_BYTES);
    let length = length.ok_or_else(|| ParquetError::General("a page does not say how long it is".to_owned()))?;
    let mut out = Vec::with_capacity(length as usize);
    let done = INFLATE.with_borrow_mut(|inflate| inflate.decompress(&mut out, compressed));
    match done {
        Ok(_) if out.len() as u64 == length => Ok(Bytes::from(out)),
        Ok(_) => Err(ParquetError::General("a page has another length than it says".to_owned())),
        Err(code) => Err(ParquetError::General(format!("a page: {}", zstd_safe::get_error_name(code)))),
    }
}

/// Pages of one column of one row group.
struct Pages {
    /// Takes what is compressed as it is.
    raw: SerializedPageReader<FileChunks>,
    is_zstd: bool,
}

/// One column of a row group; `places` are those of its pages.
pub(super) fn of_column(
    file: &Arc<FileChunks>,
    group: &RowGroupMetaData,
    column: usize,
    places: Option<Vec<PageLocation>>,
) -> Result<impl PageReader + use<>, ParquetError> {
    let missing = || ParquetError::General(format!("there is no column {column}"));
    let chunk = group.columns().get(column).ok_or_else(missing)?;
    let is_zstd = matches!(chunk.compression(), Compression::ZSTD(_));
    let rows = group.num_rows().max(0) as usize;
    let raw = match is_zstd {
        true => {
            let chunk = chunk.clone().into_builder().set_compression(Compression::UNCOMPRESSED).build()?;
            SerializedPageReader::new(Arc::clone(file), &chunk, rows, places)?
        }
        false => SerializedPageReader::new(Arc::clone(file), chunk, rows, places)?,
    };
    Ok(Pages { raw, is_zstd })
}

impl Iterator for Pages {
    type Item = Result<Page, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>, ParquetError> {
        let mut page = self.raw.get_next_page()?;
        match &mut page {
            _ if !self.is_zstd => {}
            Some(Page::DataPage { buf, .. } | Page::DictionaryPage { buf, .. }) => *buf = inflate(buf)?,
            Some(Page::DataPageV2 { buf, def_levels_byte_len, rep_levels_byte_len, is_compressed, .. }) => {
                // Levels stand before what is compressed.
                let levels = *def_levels_byte_len as usize + *rep_levels_byte_len as usize;
                if *is_compressed && levels <= buf.len() {
                    let values = inflate(&buf.slice(levels..))?;
                    *buf = Bytes::from([&buf[..levels], &values].concat());
                }
            }
            None => {}
        }
        Ok(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>, ParquetError> {
        self.raw.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<(), ParquetError> {
        self.raw.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool, ParquetError> {
        self.raw.at_record_boundary()
    }
}

/// Row groups that are read one after the other.
struct Groups {
    file: Arc<FileChunks>,
    metadata: Arc<ParquetMetaData>,
    numbers: Vec<usize>,
}

impl RowGroups for Groups {
    fn num_rows(&self) -> usize {
        self.row_groups().map(|group| group.num_rows().max(0) as usize).sum()
    }

    fn column_chunks(&self, column: usize) -> Result<Box<dyn PageIterator>, ParquetError> {
        let groups = Groups {
            file: Arc::clone(&self.file),
            metadata: Arc::clone(&self.metadata),
            numbers: self.numbers.clone(),
        };
        Ok(Box::new(Chunks { groups, column, next: 0 }))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(self.numbers.iter().filter_map(|number| self.metadata.row_groups().get(*number)))
    }

    fn metadata(&self) -> &ParquetMetaData {
        &self.metadata
    }
}

struct Chunks {
    groups: Groups,
    column: usize,
    next: usize,
}

impl Iterator for Chunks {
    type Item = Result<Box<dyn PageReader>, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        let number = *self.groups.numbers.get(self.next)?;
        self.next += 1;
        let metadata = &self.groups.metadata;
        let group = metadata.row_groups().get(number)?;
        let places = page_places(metadata, number, self.column).cloned();
        let pages = of_column(&self.groups.file, group, self.column, places);
        Some(pages.map(|pages| Box::new(pages) as Box<dyn PageReader>))
    }
}

impl PageIterator for Chunks {}

/// Where the pages of a column of a row group are, if the file tells.
pub(super) fn page_places(metadata: &ParquetMetaData, group: usize, column: usize) -> Option<&Vec<PageLocation>> {
    let places = metadata.offset_index()?.get(group)?.get(column)?.page_locations();
    Some(places).filter(|places| !places.is_empty())
}

/// These rows of these columns; the rows count from the first of the row groups, which are read in this order.
pub(super) fn read(
    file: FileChunks,
    footer: &Footer,
    fields: &Fields,
    groups: Vec<usize>,
    columns: &[usize],
    rows: &[Range<usize>],
    batch_rows: usize,
) -> Result<ParquetRecordBatchReader, ParquetError> {
    let schema = footer.plain.parquet_schema();
    let mask = ProjectionMask::roots(schema, columns.iter().copied());
    let levels = parquet_to_arrow_field_levels(schema, mask, Some(fields))?;
    let groups = Groups { file: Arc::new(file), metadata: Arc::clone(footer.plain.metadata()), numbers: groups };
    let total = groups.num_rows();
    let is_all = matches!(rows, [all] if *all == (0..total));
    let selection = (!is_all).then(|| RowSelection::from_consecutive_ranges(rows.iter().cloned(), total));
    ParquetRecordBatchReader::try_new_with_row_groups(&levels, &groups, batch_rows.max(1), selection)
}
