//! A predicate tried on the columns of a block.
//!
//! Row groups are looked at one after the other; within one, the cheapest column comes first, of each further one only
//! the pages are read that still have a row in question, and none once no row is left.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray as _};
use arrow::datatypes::{Float64Type, Int64Type, UInt8Type, UInt64Type};
use parquet::basic::Encoding;
use parquet::column::page::{Page, PageReader as _};
use parquet::file::page_index::offset_index::PageLocation;
use rustc_hash::FxHashMap;
use spanwise_wire::view::{self, Fields, ValueView};

use super::BlockError;
use super::columns;
use super::filter::{Candidate, Candidates, Column, Note, Predicate, Test};
use super::footer::Footer;
use super::pages;
use super::read::BlockReader;
use super::shred::ColumnType;

/// One row group under a predicate.
struct Group<'a> {
    block: &'a BlockReader,
    footer: &'a Footer,
    number: usize,
    /// Number of its first row in the block.
    first_row: usize,
    rows: usize,
    bytes: u64,
}

/// Some rows of a column.
struct Cells {
    array: ArrayRef,
    /// Which rows of the row group they are.
    rows: Vec<Range<usize>>,
}

impl Cells {
    /// Each row of the row group that there is, and its place in the array.
    fn rows(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.rows.iter().flat_map(Range::clone).zip(0..self.array.len())
    }
}

impl BlockReader {
    /// The traces whose rows may be in the set, of all or of those with these numbers, which ascend. Ends early, with
    /// what there is by then, once `stop` says so.
    ///
    /// # Errors
    /// When the file is gone or damaged.
    pub fn candidates(
        &self,
        predicate: &Predicate,
        note: Note,
        among: Option<&[u32]>,
        stop: &dyn Fn() -> bool,
    ) -> Result<Candidates, BlockError> {
        let mut found = Candidates::default();
        let mut first_row = 0;
        let mut among = among;
        let footer = self.footer()?;
        for (number, group) in footer.metadata().row_groups().iter().enumerate() {
            let rows = group.num_rows().max(0) as usize;
            let mut group = Group { block: self, footer: &footer, number, first_row, rows, bytes: 0 };
            first_row += rows;
            let mask = match &mut among {
                None => None,
                Some(traces) => match group.rows_of(traces) {
                    None => continue,
                    mask => mask,
                },
            };
            if stop() {
                break;
            }
            found.inspected_rows += mask.as_ref().map_or(rows, |mask| mask.iter().filter(|row| **row).count()) as u64;
            let mask = match predicate.can_select() {
                true => group.evaluate(predicate, mask.as_deref())?,
                false => Some(mask.unwrap_or_else(|| vec![true; rows])),
            };
            if let Some(mask) = mask {
                group.note(&mask, note, &mut found)?;
            }
            found.inspected_bytes += group.bytes;
        }
        Ok(found)
    }
}

fn push(ranges: &mut Vec<Range<usize>>, range: Range<usize>) {
    match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    }
}

impl Group<'_> {
    /// The rows of the first of these traces, which are taken away but for one that goes on in the next row group; `None` when it
    /// has none of them.
    fn rows_of(&self, traces: &mut &[u32]) -> Option<Vec<bool>> {
        let (first, end) = (self.first_row, self.first_row + self.rows);
        let mut mask: Option<Vec<bool>> = None;
        while let Some((trace, rest)) = traces.split_first() {
            let rows = self.block.index().rows_of(*trace).unwrap_or_default();
            let (from, to) = (rows.start as usize, rows.end as usize);
            if from >= end {
                break;
            }
            if to > first {
                let mask = mask.get_or_insert_with(|| vec![false; self.rows]);
                let local = from.max(first) - first..to.min(end) - first;
                mask.get_mut(local).unwrap_or_default().fill(true);
            }
            if to > end {
                break;
            }
            *traces = rest;
        }
        mask
    }

    /// Notes the rows that pass and their traces.
    fn note(&mut self, mask: &[bool], note: Note, found: &mut Candidates) -> Result<(), BlockError> {
        let (first_row, rows) = (self.first_row, self.rows);
        let end_row = first_row + rows;
        // Traces with a row that passes, and the rows that tell their times.
        let mut traces: Vec<Range<u32>> = Vec::new();
        let mut telling = vec![false; rows];
        let mut at = 0;
        while let Some(skipped) = mask.get(at..).and_then(|rest| rest.iter().position(|passes| *passes)) {
            let from = at + skipped;
            let to = mask[from..].iter().position(|passes| !*passes).map_or(rows, |len| from + len);
            push(&mut found.rows, first_row + from..first_row + to);
            for trace in self.block.index().traces_in((first_row + from) as u32, (first_row + to) as u32) {
                let local =
                    (trace.start as usize).saturating_sub(first_row)..(trace.end as usize - first_row).min(rows);
                match note {
                    Note::Start => telling[local.start] = true,
                    Note::All => telling[local].fill(true),
                }
                if traces.last() != Some(&trace) {
                    traces.push(trace);
                }
            }
            at = to;
        }
        let starts = self.column(columns::START, Some(&telling))?;
        let start_values = starts.array.as_primitive_opt::<UInt64Type>();
        let start_values = start_values.ok_or_else(|| self.block.corrupt("start_unix_nano has another type"))?;
        let durations = match note {
            Note::Start => None,
            Note::All => Some(self.column(columns::DURATION, Some(&telling))?),
        };
        let mut start_of = vec![0u64; rows];
        starts.rows().for_each(|(row, at)| start_of[row] = start_values.value(at));
        let mut duration_of = Vec::new();
        if let Some(durations) = &durations {
            let values = durations.array.as_primitive_opt::<Int64Type>();
            let values = values.ok_or_else(|| self.block.corrupt("duration_ns has another type"))?;
            duration_of.resize(rows, 0u64);
            durations.rows().for_each(|(row, at)| duration_of[row] = values.value(at).max(0).unsigned_abs());
        }
        let duration = |row: usize| duration_of.get(row).copied().unwrap_or(0);
        for trace in traces {
            let local = (trace.start as usize).saturating_sub(first_row)..(trace.end as usize - first_row).min(rows);
            let longest_ns = local.clone().filter(|row| mask[*row]).map(duration).max().unwrap_or(0);
            let is_cut = (trace.start as usize) < first_row || trace.end as usize > end_row;
            let end_unix_nano = match note {
                Note::All if !is_cut => {
                    let ends = local.clone().map(|row| start_of[row].saturating_add(duration(row)));
                    ends.max().unwrap_or(u64::MAX)
                }
                // What lies in the other row group may end later.
                _ => u64::MAX,
            };
            match found.traces.last_mut() {
                // It began in the row group before.
                Some(last) if last.row == trace.start => last.longest_ns = last.longest_ns.max(longest_ns),
                _ => {
                    let start_unix_nano = start_of[local.start];
                    found.traces.push(Candidate { row: trace.start, start_unix_nano, end_unix_nano, longest_ns });
                }
            }
        }
        Ok(())
    }

    /// `None` when no row passes. Rows that `among` leaves out need not be looked at.
    fn evaluate(&mut self, predicate: &Predicate, among: Option<&[bool]>) -> Result<Option<Vec<bool>>, BlockError> {
        let everything = || among.map_or_else(|| vec![true; self.rows], <[bool]>::to_vec);
        match predicate {
            Predicate::Always | Predicate::Maybe | Predicate::Shown(..) | Predicate::Traces(..) => {
                Ok(Some(everything()))
            }
            Predicate::All(parts) => {
                let mut parts: Vec<&Predicate> = parts.iter().filter(|part| part.can_select()).collect();
                parts.sort_by_key(|part| part.price());
                let mut mask = everything();
                for part in parts {
                    match self.evaluate(part, Some(&mask))? {
                        Some(passing) => mask = passing,
                        None => return Ok(None),
                    }
                }
                Ok(Some(mask))
            }
            Predicate::Any(parts) => {
                let mut any: Option<Vec<bool>> = None;
                for part in parts {
                    match (self.evaluate(part, among)?, &mut any) {
                        (Some(passing), Some(any)) => any.iter_mut().zip(passing).for_each(|(any, one)| *any |= one),
                        (Some(passing), None) => any = Some(passing),
                        (None, _) => {}
                    }
                }
                Ok(any)
            }
            Predicate::Column(column, test) => {
                let mut mask = vec![false; self.rows];
                self.test(column, test, among, &mut mask)?;
                Ok(mask.contains(&true).then_some(mask))
            }
        }
    }

    /// Sets the rows whose value passes.
    fn test(
        &mut self,
        column: &Column,
        test: &Test,
        among: Option<&[bool]>,
        mask: &mut [bool],
    ) -> Result<(), BlockError> {
        let is_among = |row: usize| among.is_none_or(|among| among[row]);
        let small = |cells: &Cells, mask: &mut [bool]| {
            let Some(values) = cells.array.as_primitive_opt::<UInt8Type>() else { return };
            let passes: Vec<bool> = (0..=u8::MAX).map(|value| test.passes(ValueView::Int(i64::from(value)))).collect();
            cells.rows().for_each(|(row, at)| mask[row] |= passes[values.value(at) as usize]);
        };
        match column {
            Column::Kind => small(&self.column(columns::KIND, among)?, mask),
            Column::Status => small(&self.column(columns::STATUS, among)?, mask),
            Column::DurationNs => {
                let cells = self.column(columns::DURATION, among)?;
                let Some(values) = cells.array.as_primitive_opt::<Int64Type>() else { return Ok(()) };
                let least = test.at_least.unwrap_or(i64::MIN);
                for (row, at) in cells.rows() {
                    let value = values.value(at).max(0);
                    mask[row] |= value >= least && is_among(row) && test.passes(ValueView::Int(value));
                }
            }
            Column::IsRoot => {
                let [child, root] = [false, true].map(|is_root| test.passes(ValueView::Bool(is_root)));
                let mut has_parent = vec![false; self.rows];
                let mut known = vec![false; self.rows];
                for column in std::iter::once(columns::PARENT_SPAN_ID).chain(self.block.parent_row()) {
                    let cells = self.column(column, among)?;
                    for (row, at) in cells.rows() {
                        known[row] = true;
                        has_parent[row] |= cells.array.is_valid(at);
                    }
                }
                for (row, has_parent) in has_parent.into_iter().enumerate().filter(|(row, _)| known[*row]) {
                    mask[row] |= if has_parent { child } else { root };
                }
            }
            Column::Name => {
                if let (Some(text), None) = (test.only_text(), among)
                    && self.lacks(columns::NAME, text)?
                {
                    return Ok(());
                }
                test_strings(&self.column(columns::NAME, among)?, test, is_among, mask);
            }
            Column::SpanAttribute(key) => self.test_attribute(key, test, among, mask)?,
            Column::ResourceAttribute(key) => self.test_resource(key, test, among, mask)?,
            Column::AnyAttribute(key) => {
                self.test_attribute(key, test, among, mask)?;
                self.test_resource(key, test, among, mask)?;
            }
        }
        if let Some(among) = among {
            mask.iter_mut().zip(among).for_each(|(passes, among)| *passes &= among);
        }
        Ok(())
    }

    fn test_attribute(
        &mut self,
        key: &str,
        test: &Test,
        among: Option<&[bool]>,
        mask: &mut [bool],
    ) -> Result<(), BlockError> {
        let is_among = |row: usize| among.is_none_or(|among| among[row]);
        let block = self.block;
        let own = block.attributes().columns.iter().enumerate().filter(|(_, (name, _))| name == key);
        for (number, (_, kind)) in own {
            let place = columns::ATTRIBUTES + number;
            if self.is_all_null(place) {
                continue;
            }
            if let (ColumnType::Str, Some(text), None) = (kind, test.only_text(), among)
                && self.lacks(place, text)?
            {
                continue;
            }
            let cells = self.column(place, among)?;
            let array = &cells.array;
            let present = || cells.rows().filter(|(row, at)| array.is_valid(*at) && is_among(*row));
            match kind {
                ColumnType::Str => test_strings(&cells, test, is_among, mask),
                ColumnType::Bool => {
                    if let Some(values) = array.as_boolean_opt() {
                        present().for_each(|(row, at)| mask[row] |= test.passes(ValueView::Bool(values.value(at))));
                    }
                }
                ColumnType::Int => {
                    if let Some(values) = array.as_primitive_opt::<Int64Type>() {
                        present().for_each(|(row, at)| mask[row] |= test.passes(ValueView::Int(values.value(at))));
                    }
                }
                ColumnType::Double => {
                    if let Some(values) = array.as_primitive_opt::<Float64Type>() {
                        present().for_each(|(row, at)| mask[row] |= test.passes(ValueView::Double(values.value(at))));
                    }
                }
            }
        }
        if !block.catalogue().may_be_residual(key) {
            return Ok(());
        }
        let cells = self.column(columns::RESIDUAL, among)?;
        let Some(values) = cells.array.as_binary_view_opt() else { return Ok(()) };
        for (row, at) in cells.rows().filter(|(row, _)| is_among(*row)) {
            let attributes = Fields::new(values.value(at)).filter(|field| field.number == 9);
            let mut meant =
                attributes.map(|field| view::key_value(field.value.bytes())).filter(|found| found.key == key);
            mask[row] |= meant.any(|found| test.passes(found.value));
        }
        Ok(())
    }

    fn test_resource(
        &mut self,
        key: &str,
        test: &Test,
        among: Option<&[bool]>,
        mask: &mut [bool],
    ) -> Result<(), BlockError> {
        let cells = self.column(columns::RESOURCE, among)?;
        let passes =
            |header: &[u8]| view::resource_attributes(header).any(|found| found.key == key && test.passes(found.value));
        test_bytes(&cells, passes, |row| among.is_none_or(|among| among[row]), mask);
        Ok(())
    }

    fn is_all_null(&self, column: usize) -> bool {
        let group = self.footer.metadata().row_group(self.number);
        let nulls =
            group.columns().get(column).and_then(|column| column.statistics()).and_then(|found| found.null_count_opt());
        nulls == Some(self.rows as u64)
    }

    /// Whether the text is certain not to be in a column of strings: all its pages refer to a dictionary, and that one
    /// does not have it. Reading it costs a fraction of reading the column.
    fn lacks(&mut self, column: usize, text: &str) -> Result<bool, BlockError> {
        let group = self.footer.metadata().row_group(self.number);
        let Some(chunk) = group.columns().get(column) else { return Ok(false) };
        let has_others = chunk.page_encoding_stats_mask().is_none_or(|mask| !mask.is_only(Encoding::RLE_DICTIONARY));
        if has_others || chunk.dictionary_page_offset().is_none() {
            return Ok(false);
        }
        let file = Arc::new(self.block.file());
        let places = self.page_places(column).cloned();
        let mut pages = pages::of_column(&file, group, column, places).map_err(|error| self.block.corrupt(error))?;
        let page = pages.get_next_page().map_err(|error| self.block.corrupt(error))?;
        let Some(Page::DictionaryPage { buf, .. }) = page else { return Ok(false) };
        self.bytes += buf.len() as u64;
        // Each value is its length in four bytes, and the text.
        let mut rest: &[u8] = &buf;
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let Some((value, after)) = after.split_at_checked(u32::from_le_bytes(*length) as usize) else {
                return Ok(false);
            };
            if value == text.as_bytes() {
                return Ok(false);
            }
            rest = after;
        }
        Ok(rest.is_empty())
    }

    fn page_places(&self, column: usize) -> Option<&Vec<PageLocation>> {
        pages::page_places(self.footer.metadata(), self.number, column)
    }

    /// The pages of a column that have a row of `among`.
    fn column(&mut self, column: usize, among: Option<&[bool]>) -> Result<Cells, BlockError> {
        let mut rows: Vec<Range<usize>> = Vec::new();
        let chunk = self.footer.metadata().row_group(self.number).columns().get(column);
        match (among, self.page_places(column)) {
            (Some(among), Some(pages)) => {
                let mut bytes = 0u64;
                for (number, page) in pages.iter().enumerate() {
                    let first = usize::try_from(page.first_row_index).unwrap_or(0);
                    let next = pages.get(number + 1).and_then(|next| usize::try_from(next.first_row_index).ok());
                    let end = next.unwrap_or(self.rows);
                    if among.get(first..end).is_some_and(|among| among.contains(&true)) {
                        push(&mut rows, first..end);
                        bytes += u64::from(page.compressed_page_size.unsigned_abs());
                    }
                }
                self.bytes += bytes;
            }
            _ => {
                rows.push(0..self.rows);
                self.bytes += chunk.map_or(0, |chunk| chunk.compressed_size().unsigned_abs());
            }
        }
        let wanted: usize = rows.iter().map(ExactSizeIterator::len).sum();
        let fields = self.footer.views.schema().fields();
        let groups = vec![self.number];
        let reader = pages::read(self.block.file(), self.footer, fields, groups, &[column], &rows, wanted)
            .map_err(|error| self.block.corrupt(error))?;
        let batches = reader.collect::<Result<Vec<_>, _>>().map_err(|error| self.block.corrupt(error))?;
        let arrays: Vec<ArrayRef> = batches.iter().filter_map(|batch| batch.columns().first().cloned()).collect();
        let array = match arrays.as_slice() {
            [single] => Arc::clone(single),
            many => {
                let many: Vec<&dyn Array> = many.iter().map(AsRef::as_ref).collect();
                arrow::compute::concat(&many).map_err(|error| self.block.corrupt(error))?
            }
        };
        match array.len() == wanted {
            true => Ok(Cells { array, rows }),
            false => Err(self.block.corrupt(format!("column {column} has {} of {wanted} rows", array.len()))),
        }
    }
}

/// Answers remembered by where the bytes lie: values of a dictionary page are asked about once.
const REMEMBERED: usize = 4096;

fn test_strings(cells: &Cells, test: &Test, is_among: impl Fn(usize) -> bool, mask: &mut [bool]) {
    let Some(values) = cells.array.as_string_view_opt() else { return };
    let passes = |at: usize| test.passes(ValueView::Str(values.value(at)));
    test_views(cells, values.views(), passes, is_among, mask);
}

fn test_bytes(cells: &Cells, test: impl Fn(&[u8]) -> bool, is_among: impl Fn(usize) -> bool, mask: &mut [bool]) {
    let Some(values) = cells.array.as_binary_view_opt() else { return };
    test_views(cells, values.views(), |at| test(values.value(at)), is_among, mask);
}

/// `passes` says so of the value at a place of the array.
fn test_views(
    cells: &Cells,
    views: &[u128],
    passes: impl Fn(usize) -> bool,
    is_among: impl Fn(usize) -> bool,
    mask: &mut [bool],
) {
    let mut remembered: FxHashMap<u128, bool> = FxHashMap::default();
    let mut last = None;
    for (row, at) in cells.rows().filter(|(row, at)| is_among(*row) && cells.array.is_valid(*at)) {
        let Some(place) = views.get(at) else { continue };
        let answer = match last {
            Some((known, answer)) if known == *place => answer,
            _ => match remembered.get(place) {
                Some(answer) => *answer,
                None => {
                    let answer = passes(at);
                    if remembered.len() < REMEMBERED {
                        remembered.insert(*place, answer);
                    }
                    answer
                }
            },
        };
        last = Some((*place, answer));
        mask[row] |= answer;
    }
}
