//! The attributes of facts rows as bytes.

use rustc_hash::FxHashMap;
use spanwise_insight::row::Name;
use spanwise_wire::encode::put_varint;

use super::codec::Reader;

/// A key and a value.
pub type Pair = (Name, Name);

/// Attributes, in order.
pub fn put_pairs(out: &mut Vec<u8>, pairs: &[Pair]) {
    put_varint(out, pairs.len() as u64);
    let mut last = (0, 0);
    for (key, value) in pairs {
        put_varint(out, u64::from(key - last.0));
        put_varint(out, u64::from(value - if *key == last.0 { last.1 } else { 0 }));
        last = (*key, *value);
    }
}

/// What [`put_pairs`] put.
pub fn read_pairs(reader: &mut Reader<'_>, name: &dyn Fn(Name) -> Name) -> Option<Vec<Pair>> {
    let count = reader.count()?;
    let mut last = (0u32, 0u32);
    let pair = |_| {
        let (more, value) = (reader.u32()?, reader.u32()?);
        last = match more {
            0 => (last.0, last.1.checked_add(value)?),
            more => (last.0.checked_add(more)?, value),
        };
        Some((name(last.0), name(last.1)))
    };
    (0..count).map(pair).collect()
}

/// Attributes of many rows. Each key with a value is a pair. Pairs that many rows have are bits of a row, those of the same
/// rows one bit; the others have numbers and are listed.
#[derive(Default)]
pub struct Attributes {
    rows: Vec<Vec<Pair>>,
}

/// One row in so many, from which on a pair is a bit.
const COMMON: usize = 64;

/// What [`Attributes`] become.
pub struct AttributeColumns {
    /// Pairs of each bit, the most common first; then the other pairs in order.
    pub pairs: Vec<u8>,
    /// Of each eight bits a byte of each row.
    pub common: Vec<Vec<u8>>,
    /// Of each row, how many others, and their numbers, each less the one before.
    pub others: Vec<u8>,
}

/// Where a pair is.
#[derive(Clone, Copy)]
enum Place {
    Bit(usize),
    Listed(usize),
}

impl Attributes {
    pub fn add(&mut self, pairs: Vec<Pair>) {
        self.rows.push(pairs);
    }

    /// Pairs that are the bits, and the other ones in order.
    fn bits(&self) -> (Vec<Vec<Pair>>, Vec<Pair>) {
        let mut counts: FxHashMap<Pair, usize> = FxHashMap::default();
        for pair in self.rows.iter().flatten() {
            *counts.entry(*pair).or_default() += 1;
        }
        let is_common = |count: usize| count > 1 && count * COMMON >= self.rows.len();
        let mut others: Vec<Pair> =
            counts.iter().filter(|(_, count)| !is_common(**count)).map(|(pair, _)| *pair).collect();
        others.sort_unstable();
        counts.retain(|_, count| is_common(*count));
        let mut rows_of: FxHashMap<Pair, Vec<u32>> = FxHashMap::default();
        for (number, row) in (0..).zip(&self.rows) {
            for pair in row.iter().filter(|pair| counts.contains_key(pair)) {
                rows_of.entry(*pair).or_default().push(number);
            }
        }
        let mut common: Vec<(Vec<u32>, Pair)> = rows_of.into_iter().map(|(pair, rows)| (rows, pair)).collect();
        common.sort_unstable_by(|a, b| (b.0.len(), &a.0, a.1).cmp(&(a.0.len(), &b.0, b.1)));
        let same = common.chunk_by(|a, b| a.0 == b.0);
        let bits = same.map(|same| same.iter().map(|(_, pair)| *pair).collect()).collect();
        (bits, others)
    }

    pub fn columns(self) -> AttributeColumns {
        let (bits, others) = self.bits();
        let mut places: FxHashMap<Pair, Place> = FxHashMap::default();
        let mut columns = AttributeColumns { pairs: Vec::new(), common: Vec::new(), others: Vec::new() };
        columns.common.resize(bits.len().div_ceil(8), vec![0; self.rows.len()]);
        put_varint(&mut columns.pairs, bits.len() as u64);
        for (bit, same) in bits.iter().enumerate() {
            put_pairs(&mut columns.pairs, same);
            places.extend(same.iter().map(|pair| (*pair, Place::Bit(bit))));
        }
        put_pairs(&mut columns.pairs, &others);
        places.extend(others.iter().enumerate().map(|(number, pair)| (*pair, Place::Listed(number))));
        let mut listed: Vec<usize> = Vec::new();
        for (row_number, row) in self.rows.iter().enumerate() {
            listed.clear();
            for place in row.iter().filter_map(|pair| places.get(pair)) {
                match *place {
                    Place::Bit(bit) => {
                        if let Some(bits) = columns.common.get_mut(bit / 8).and_then(|bytes| bytes.get_mut(row_number))
                        {
                            *bits |= 1 << (bit % 8);
                        }
                    }
                    Place::Listed(number) => listed.push(number),
                }
            }
            listed.sort_unstable();
            put_varint(&mut columns.others, listed.len() as u64);
            let mut last = 0;
            for number in &listed {
                put_varint(&mut columns.others, (number - last) as u64);
                last = *number;
            }
        }
        columns
    }
}

/// Reads [`AttributeColumns`].
pub struct AttributesReader<'a> {
    bits: Vec<Vec<Pair>>,
    pairs: Vec<Pair>,
    common: Vec<Reader<'a>>,
    others: Reader<'a>,
    /// Bits of the row that is read.
    set: Vec<u8>,
}

/// The places of the bits that are 1.
fn ones(bytes: &[u8]) -> impl Iterator<Item = usize> {
    bytes.iter().zip((0..).step_by(8)).flat_map(|(byte, first)| {
        let mut rest = *byte;
        std::iter::from_fn(move || {
            let bit = first + rest.trailing_zeros() as usize;
            (rest != 0).then(|| {
                rest &= rest - 1;
                bit
            })
        })
    })
}

impl<'a> AttributesReader<'a> {
    pub fn new(reader: &mut Reader<'a>, name: &dyn Fn(Name) -> Name) -> Option<Self> {
        let (mut pairs, others) = (reader.block()?, reader.block()?);
        let count = pairs.count()?;
        let bits: Vec<Vec<Pair>> = (0..count).map(|_| read_pairs(&mut pairs, name)).collect::<Option<_>>()?;
        let common = (0..count.div_ceil(8)).map(|_| reader.block()).collect::<Option<_>>()?;
        Some(Self { bits, pairs: read_pairs(&mut pairs, name)?, common, others, set: Vec::new() })
    }

    /// Those of the next row; nothing when they are not wanted, and then only read over.
    pub fn next(&mut self, is_wanted: bool) -> Option<Vec<Pair>> {
        let count = self.others.count()?;
        self.set.clear();
        for bytes in &mut self.common {
            let [byte] = bytes.array()?;
            self.set.push(byte);
        }
        let mut attributes = Vec::new();
        if is_wanted {
            let bits = || ones(&self.set).filter_map(|bit| self.bits.get(bit));
            attributes.reserve_exact(count + bits().map(Vec::len).sum::<usize>());
            bits().for_each(|same| attributes.extend_from_slice(same));
        }
        let mut number = 0usize;
        for _ in 0..count {
            number = number.checked_add(self.others.usize()?)?;
            if is_wanted {
                attributes.push(*self.pairs.get(number)?);
            }
        }
        Some(attributes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns_of(rows: &[Vec<Pair>]) -> AttributeColumns {
        let mut attributes = Attributes::default();
        rows.iter().for_each(|row| attributes.add(row.clone()));
        attributes.columns()
    }

    fn bytes(columns: &AttributeColumns) -> Vec<u8> {
        let parts = [&columns.pairs, &columns.others].into_iter().chain(&columns.common);
        parts.flat_map(|bytes| super::super::codec::column(bytes)).collect()
    }

    #[test]
    fn rows_get_back_the_attributes_that_they_had() {
        // Every row has the first pair, every second one the next two, some one of many; and each one of its own.
        let row = |number: u32| {
            let mut row = vec![(1, 1)];
            row.extend(number.is_multiple_of(2).then_some([(1, 2), (3, 9)]).into_iter().flatten());
            row.extend((4..24).filter(|key| (number * 7).is_multiple_of(*key)).map(|key| (key, number % 3)));
            row.push((u32::MAX, number));
            row
        };
        for count in [0, 1, 2, 63, 64, 65, 200] {
            let rows: Vec<Vec<Pair>> = (0..count).map(row).collect();
            let columns = columns_of(&rows);
            let bytes = bytes(&columns);
            let mut reader = Reader(&bytes);
            let mut reader = AttributesReader::new(&mut reader, &|name| name).unwrap();
            for (number, row) in rows.iter().enumerate() {
                let is_wanted = number % 3 != 1;
                let mut read = reader.next(is_wanted).unwrap();
                read.sort_unstable();
                assert_eq!(read, if is_wanted { row.clone() } else { Vec::new() }, "{number} of {count}");
            }
            assert!(reader.next(true).is_none());
        }
    }

    #[test]
    fn pairs_of_the_same_rows_are_one_bit() {
        let rows: Vec<Vec<Pair>> = (0..16).map(|number| (0..20).map(|key| (key, number % 2)).collect()).collect();
        assert_eq!(columns_of(&rows).common.len(), 1, "two bits for forty pairs");
        assert!(columns_of(&rows).others.iter().all(|count| *count == 0));
    }

    #[test]
    fn damage_is_no_panic() {
        let rows: Vec<Vec<Pair>> = (0..40).map(|number| vec![(1, number % 2), (2, number)]).collect();
        let whole = bytes(&columns_of(&rows));
        for (place, flip) in (0..whole.len()).flat_map(|place| [1u8, 0x80, 0xff].map(|flip| (place, flip))) {
            let mut damaged = whole.clone();
            damaged[place] ^= flip;
            for bytes in [&damaged[..], &whole[..place]] {
                let mut reader = Reader(bytes);
                let Some(mut reader) = AttributesReader::new(&mut reader, &|name| name) else { continue };
                while reader.next(true).is_some_and(|row| row.len() <= whole.len()) {}
            }
        }
    }
}
