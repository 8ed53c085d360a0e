//! The numbers of facts rows, in columns of what is alike: compressed each by itself, they take less room than one row
//! after the other. Of times the scale, which those of one kind share, lies apart from the digits, which are random.

use spanwise_insight::row::{RowParts, TraceRow};
use spanwise_wire::encode::put_varint;

use super::codec::{Reader, column, put_block, rounded, unrounded};

/// Significant bits of times that findings take medians of, over many traces: within 1/64.
const SOME: u32 = 6;
/// Of those that could as well be others of their size: within 1/4. The code is a byte.
const FEW: u32 = 2;
/// Of the time of the longest branch: timeouts are told by two percent. Within 1/256.
const LONGEST: u32 = 8;
/// Of a trace's duration: within 1/4096.
const DURATION: u32 = 12;

/// What a column holds.
#[derive(Clone, Copy)]
enum Column {
    /// Varints: how often calls repeat, which branch is the longest, which times are something.
    Counts,
    /// Varints: values of sizes.
    Sizes,
    /// Bytes: durations of operations without time of their own.
    Few,
    /// Bytes: scales of other durations and of branches,
    Durations,
    /// of the time that dependencies and repeated calls take of the critical path,
    Critical,
    /// and of operations' own times.
    Own,
    /// Bytes: digits of all those.
    Digits,
}

pub const COLUMNS: usize = 7;

/// Puts the numbers of rows, one after the other.
#[derive(Default)]
pub struct Numbers([Vec<u8>; COLUMNS]);

impl Numbers {
    /// Each with its length.
    pub fn columns(&self) -> impl Iterator<Item = Vec<u8>> {
        self.0.iter().map(|bytes| column(bytes))
    }

    /// Of what was put here.
    pub fn reader(&self) -> NumbersReader<'_> {
        NumbersReader(self.0.each_ref().map(|bytes| Reader(bytes)))
    }

    /// The same, one after the other.
    pub fn put_columns(&self, out: &mut Vec<u8>) {
        self.0.iter().for_each(|bytes| put_block(out, bytes));
    }

    fn column(&mut self, column: Column) -> &mut Vec<u8> {
        &mut self.0[column as usize]
    }

    fn count(&mut self, count: u64) {
        put_varint(self.column(Column::Counts), count);
    }

    /// Of at most eight bits.
    fn time(&mut self, scale: Column, ns: u64, bits: u32) {
        let (code, below) = (rounded(ns, bits), bits - 1);
        self.column(scale).push((code >> below) as u8);
        self.column(Column::Digits).push((code & ((1 << below) - 1)) as u8);
    }

    /// Times of which most are nothing: which of them are something, as bits, and those. At most [`FLAGS`].
    fn sparse(&mut self, scale: Column, times: impl Iterator<Item = u64> + Clone) {
        self.count(times.clone().zip(0..).fold(0, |flags, (ns, bit)| flags | u64::from(ns > 0) << bit));
        times.filter(|ns| *ns > 0).for_each(|ns| self.time(scale, ns, SOME));
    }

    /// Values of sizes are numbers of bytes or rows: whole, as a rule.
    fn size(&mut self, size: f64) {
        let out = self.column(Column::Sizes);
        if (0.0..9e15).contains(&size) && size.fract() == 0.0 {
            put_varint(out, (size as u64) << 1);
        } else {
            out.push(1);
            out.extend_from_slice(&size.to_le_bytes());
        }
    }

    pub fn put(&mut self, row: &TraceRow) {
        for repetition in &row.repetitions {
            self.count(repetition.count.into());
            self.time(Column::Critical, repetition.critical_ns, SOME);
        }
        row.hidden.iter().for_each(|hidden| self.time(Column::Critical, hidden.critical_ns, SOME));
        for some in row.dependencies.chunks(FLAGS) {
            self.sparse(Column::Critical, some.iter().map(|found| found.critical_ns));
        }
        for parts in &row.parts {
            let own = [parts.before_ns, parts.between_ns, parts.after_ns, parts.wire_ns, parts.wire_out_ns];
            self.sparse(Column::Own, own.into_iter());
            for ns in [parts.duration_ns, parts.blamed_ns] {
                match has_own(parts) {
                    true => self.time(Column::Durations, ns, SOME),
                    false => self.column(Column::Few).push(rounded(ns, FEW) as u8),
                }
            }
            parts.sizes.iter().for_each(|(_, size)| self.size(*size));
        }
        if let Some(longest) = row.branches.first() {
            self.count(row.branches.iter().filter(|branch| *branch < longest).count() as u64);
            self.time(Column::Durations, row.longest_ns, LONGEST);
        }
    }
}

/// Most times that one number has flags for.
const FLAGS: usize = 64;

/// An operation without time of its own only has to be among those that medians are taken of.
fn has_own(parts: &RowParts) -> bool {
    [parts.before_ns, parts.between_ns, parts.after_ns, parts.wire_ns].iter().any(|ns| *ns > 0)
}

/// Reads what [`Numbers`] put.
pub struct NumbersReader<'a>([Reader<'a>; COLUMNS]);

impl<'a> NumbersReader<'a> {
    /// Of columns with their lengths.
    pub fn new(reader: &mut Reader<'a>) -> Option<Self> {
        let mut columns = [Reader(&[]); COLUMNS];
        for column in &mut columns {
            *column = reader.block()?;
        }
        Some(Self(columns))
    }

    fn column(&mut self, column: Column) -> &mut Reader<'a> {
        &mut self.0[column as usize]
    }

    fn count(&mut self) -> Option<u64> {
        self.column(Column::Counts).varint()
    }

    fn byte(&mut self, column: Column) -> Option<u64> {
        let [byte] = self.column(column).array()?;
        Some(byte.into())
    }

    fn time(&mut self, scale: Column, bits: u32) -> Option<u64> {
        let (scale, digits) = (self.byte(scale)?, self.byte(Column::Digits)?);
        Some(unrounded(scale << (bits - 1) | digits, bits))
    }

    fn sparse<'t>(&mut self, scale: Column, times: impl Iterator<Item = &'t mut u64>) -> Option<()> {
        let flags = self.count()?;
        for (ns, bit) in times.zip(0..) {
            *ns = if flags >> bit & 1 == 1 { self.time(scale, SOME)? } else { 0 };
        }
        Some(())
    }

    fn size(&mut self) -> Option<f64> {
        let sizes = self.column(Column::Sizes);
        match sizes.varint()? {
            1 => Some(f64::from_le_bytes(sizes.array()?)),
            whole => Some((whole >> 1) as f64),
        }
    }

    /// The numbers of a row that has its structure already, with its branches in order of names.
    pub fn read(&mut self, row: &mut TraceRow) -> Option<()> {
        for repetition in &mut row.repetitions {
            repetition.count = u32::try_from(self.count()?).ok()?;
            repetition.critical_ns = self.time(Column::Critical, SOME)?;
        }
        for hidden in &mut row.hidden {
            hidden.critical_ns = self.time(Column::Critical, SOME)?;
        }
        for some in row.dependencies.chunks_mut(FLAGS) {
            self.sparse(Column::Critical, some.iter_mut().map(|found| &mut found.critical_ns))?;
        }
        for parts in &mut row.parts {
            let RowParts { before_ns, between_ns, after_ns, wire_ns, wire_out_ns, .. } = parts;
            self.sparse(Column::Own, [before_ns, between_ns, after_ns, wire_ns, wire_out_ns].into_iter())?;
            let has_own = has_own(parts);
            for ns in [&mut parts.duration_ns, &mut parts.blamed_ns] {
                *ns = match has_own {
                    true => self.time(Column::Durations, SOME)?,
                    false => unrounded(self.byte(Column::Few)?, FEW),
                };
            }
            for (_, size) in &mut parts.sizes {
                *size = self.size()?;
            }
        }
        if !row.branches.is_empty() {
            let longest = usize::try_from(self.count()?).ok()?;
            row.branches.get_mut(..=longest)?.rotate_right(1);
            row.branches.get_mut(1..)?.sort_unstable();
            row.longest_ns = self.time(Column::Durations, LONGEST)?;
        }
        Some(())
    }
}

/// Durations of traces, in two columns: the lower half of each code, and the rest.
#[derive(Default)]
pub struct Durations([Vec<u8>; 2]);

impl Durations {
    pub fn put(&mut self, ns: u64) {
        let code = rounded(ns, DURATION);
        self.0[0].push(code as u8);
        put_varint(&mut self.0[1], code >> 8);
    }

    /// Each with its length.
    pub fn columns(&self) -> impl Iterator<Item = Vec<u8>> {
        self.0.iter().map(|bytes| column(bytes))
    }
}

/// Reads what [`Durations`] put.
pub struct DurationsReader<'a>([Reader<'a>; 2]);

impl<'a> DurationsReader<'a> {
    pub fn new(reader: &mut Reader<'a>) -> Option<Self> {
        Some(Self([reader.block()?, reader.block()?]))
    }

    pub fn read(&mut self) -> Option<u64> {
        let [lower] = self.0[0].array()?;
        Some(unrounded(self.0[1].varint()? << 8 | u64::from(lower), DURATION))
    }
}

/// A trace's duration as it is kept.
pub fn duration(ns: u64) -> u64 {
    unrounded(rounded(ns, DURATION), DURATION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_come_back_within_a_part_of_4096() {
        let all = [0, 1, 4_095, 4_096, 4_097, 1_234_567_890, u64::MAX];
        let mut durations = Durations::default();
        all.iter().for_each(|ns| durations.put(*ns));
        let bytes: Vec<u8> = durations.columns().flatten().collect();
        let mut reader = DurationsReader::new(&mut Reader(&bytes)).unwrap();
        for ns in all {
            let kept = reader.read().unwrap();
            assert_eq!(kept, duration(ns));
            assert!(kept.abs_diff(ns) <= ns >> DURATION, "{ns} became {kept}");
        }
        assert!(reader.read().is_none());
    }

    #[test]
    fn times_and_sizes_come_back_as_near_as_they_are_kept() {
        let mut numbers = Numbers::default();
        let times = [0, 1, 31, 32, 33, 999_999_999, u64::MAX];
        for bits in [SOME, LONGEST] {
            times.iter().for_each(|ns| numbers.time(Column::Own, *ns, bits));
        }
        numbers.sparse(Column::Critical, [0, 5, 0, 1 << 40].into_iter());
        let sizes = [0.0, 1.0, 0.5, -3.0, 1e15, 8.9e15, f64::INFINITY];
        sizes.iter().for_each(|size| numbers.size(*size));
        let mut reader = numbers.reader();
        for bits in [SOME, LONGEST] {
            for ns in times {
                let kept = reader.time(Column::Own, bits).unwrap();
                assert!(kept.abs_diff(ns) <= ns >> bits, "{ns} became {kept}");
            }
        }
        let mut sparse = [1; 4];
        reader.sparse(Column::Critical, sparse.iter_mut()).unwrap();
        assert_eq!(sparse, [0, 5, 0, 1 << 40]);
        assert_eq!(sizes.map(|_| reader.size().unwrap()), sizes);
        assert!(reader.size().is_none() && reader.time(Column::Own, SOME).is_none());
    }
}
