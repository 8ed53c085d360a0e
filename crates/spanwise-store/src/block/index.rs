//! Trace id → rows: since rows are ordered by trace id, the first row of each trace is enough.
//!
//! | bytes | |
//! |---|---|
//! | 8 | magic `SPWNTIX1` |
//! | 4 | number of traces, little-endian |
//! | 4 | number of rows |
//! | 8 each | first eight bytes of the trace ids, big-endian, in order |
//! | 4 each | first row of each trace |
//! | 4 | CRC-32C of all before |

use std::ops::Range;

use spanwise_model::TraceId;

const MAGIC: &[u8; 8] = b"SPWNTIX1";

/// In memory as on disk: 12 bytes a trace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraceIndex {
    prefixes: Vec<u64>,
    rows: Vec<u32>,
    total_rows: u32,
}

/// The first eight bytes.
pub(super) fn prefix(id: &TraceId) -> u64 {
    id.0.iter().take(8).fold(0, |prefix, byte| prefix << 8 | u64::from(*byte))
}

impl TraceIndex {
    /// `traces` in order, each with its first row.
    pub fn new(traces: impl IntoIterator<Item = (TraceId, u32)>, total_rows: u32) -> Self {
        let (prefixes, rows) = traces.into_iter().map(|(id, row)| (prefix(&id), row)).unzip();
        Self { prefixes, rows, total_rows }
    }

    /// The first eight bytes of each trace id.
    pub fn prefixes(&self) -> &[u64] {
        &self.prefixes
    }

    /// The first row of each trace.
    pub fn first_rows(&self) -> impl Iterator<Item = u32> + '_ {
        self.rows.iter().copied()
    }

    pub fn len_traces(&self) -> usize {
        self.prefixes.len()
    }

    /// Rows that may belong to the trace; several traces when their ids begin with the same eight bytes.
    pub fn rows(&self, id: &TraceId) -> Option<Range<u32>> {
        let wanted = prefix(id);
        let first = self.prefixes.partition_point(|prefix| *prefix < wanted);
        let end = self.prefixes.partition_point(|prefix| *prefix <= wanted);
        if first == end {
            return None;
        }
        Some(*self.rows.get(first)?..self.rows.get(end).copied().unwrap_or(self.total_rows))
    }

    /// The rows of a trace by its number.
    pub fn rows_of(&self, trace: u32) -> Option<Range<u32>> {
        let first = *self.rows.get(trace as usize)?;
        Some(first..self.rows.get(trace as usize + 1).copied().unwrap_or(self.total_rows))
    }

    /// The number of the trace that has the row.
    pub fn trace_of(&self, row: u32) -> Option<u32> {
        self.rows.partition_point(|first| *first <= row).checked_sub(1).map(|trace| trace as u32)
    }

    /// The numbers of the traces that may be this one.
    pub fn numbers(&self, id: &TraceId) -> Range<u32> {
        let wanted = prefix(id);
        let first = self.prefixes.partition_point(|prefix| *prefix < wanted);
        let end = self.prefixes.partition_point(|prefix| *prefix <= wanted);
        first as u32..end as u32
    }

    /// Marks the ids, which ascend, that the block may have rows of.
    pub fn mark(&self, ids: &[TraceId], marks: &mut [bool]) {
        let mut from = 0;
        for (id, mark) in ids.iter().zip(marks) {
            let wanted = prefix(id);
            // The next one is mostly near.
            let mut step = 1;
            while self.prefixes.get(from + step).is_some_and(|prefix| *prefix < wanted) {
                step *= 2;
            }
            let rest = self.prefixes.get(from..(from + step + 1).min(self.prefixes.len())).unwrap_or_default();
            from += rest.partition_point(|prefix| *prefix < wanted);
            *mark |= self.prefixes.get(from) == Some(&wanted);
        }
    }

    /// The rows of each trace that has some from `first` to before `end`.
    pub fn traces_in(&self, first: u32, end: u32) -> impl Iterator<Item = Range<u32>> + '_ {
        let from = self.rows.partition_point(|row| *row <= first).saturating_sub(1);
        let to = self.rows.partition_point(|row| *row < end);
        (from..to).map(|number| self.rows[number]..self.rows.get(number + 1).copied().unwrap_or(self.total_rows))
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(20 + self.prefixes.len() * 12);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&(self.prefixes.len() as u32).to_le_bytes());
        out.extend_from_slice(&self.total_rows.to_le_bytes());
        self.prefixes.iter().for_each(|prefix| out.extend_from_slice(&prefix.to_be_bytes()));
        self.rows.iter().for_each(|row| out.extend_from_slice(&row.to_le_bytes()));
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// # Errors
    /// What does not fit.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let (content, crc) = bytes.split_last_chunk::<4>().ok_or("index is too short")?;
        if crc32c::crc32c(content) != u32::from_le_bytes(*crc) {
            return Err("checksum of the index does not match".to_owned());
        }
        let rest = content.strip_prefix(MAGIC).ok_or("index has an unknown format")?;
        let (count, rest) = rest.split_first_chunk::<4>().ok_or("index is too short")?;
        let (total_rows, rest) = rest.split_first_chunk::<4>().ok_or("index is too short")?;
        let count = u32::from_le_bytes(*count) as usize;
        if rest.len() != count * 12 {
            return Err("index has a wrong length".to_owned());
        }
        let (prefixes, rows) = rest.split_at(count * 8);
        Ok(Self {
            prefixes: prefixes.chunks_exact(8).map(|b| b.iter().fold(0, |p, byte| p << 8 | u64::from(*byte))).collect(),
            rows: rows.chunks_exact(4).map(|b| b.iter().rev().fold(0, |r, byte| r << 8 | u32::from(*byte))).collect(),
            total_rows: u32::from_le_bytes(*total_rows),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(first: u8, last: u8) -> TraceId {
        let mut id = TraceId([first; 16]);
        id.0[15] = last;
        id
    }

    #[test]
    fn rows_are_found_and_survive_the_disk() {
        let index = TraceIndex::new([(id(1, 0), 0), (id(2, 1), 3), (id(2, 2), 7), (id(9, 0), 8)], 20);
        let index = TraceIndex::from_bytes(&index.to_bytes()).unwrap();
        assert_eq!(index.rows(&id(1, 0)), Some(0..3));
        assert_eq!(index.rows(&id(2, 2)), Some(3..8));
        assert_eq!(index.rows(&id(9, 9)), Some(8..20));
        assert_eq!(index.rows(&id(3, 0)), None);
        let ids = [id(0, 0), id(1, 0), id(2, 2), id(3, 0), id(9, 0), id(9, 1), id(10, 0)];
        let mut marks = [false; 7];
        index.mark(&ids, &mut marks);
        assert_eq!(marks, [false, true, true, false, true, true, false]);
        let many = TraceIndex::new((0..200).map(|first| (id(first, 0), u32::from(first))), 200);
        let ids: Vec<_> = (0..=255).step_by(7).map(|first| id(first, 1)).collect();
        let mut marks = vec![false; ids.len()];
        many.mark(&ids, &mut marks);
        assert!(ids.iter().zip(&marks).all(|(id, mark)| *mark == (id.0[0] < 200)));
    }

    #[test]
    fn damage_is_noticed() {
        let bytes = TraceIndex::new([(id(1, 0), 0)], 1).to_bytes();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(TraceIndex::from_bytes(&damaged).is_err(), "{at}");
        }
        assert!(TraceIndex::from_bytes(&[]).is_err());
    }
}
