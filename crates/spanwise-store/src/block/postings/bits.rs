//! Numbers of few bits, one behind the other, lowest bit first.

/// Longest unary part that is read: a page never holds so long a gap.
const MOST_ONES: u32 = 1 << 16;

#[derive(Default)]
pub struct BitWriter {
    out: Vec<u8>,
    held: u64,
    bits: u32,
}

impl BitWriter {
    /// `width` is at most 32.
    pub fn put(&mut self, value: u64, width: u32) {
        self.held |= value << self.bits;
        self.bits += width;
        while self.bits >= 8 {
            self.out.push(self.held as u8);
            self.held >>= 8;
            self.bits -= 8;
        }
    }

    /// Rice code: small numbers are short.
    pub fn put_rice(&mut self, value: u64, k: u32) {
        for _ in 0..value >> k {
            self.put(1, 1);
        }
        self.put(0, 1);
        self.put(value & ((1 << k) - 1), k);
    }

    /// Elias gamma code of a number from 1 on.
    pub fn put_gamma(&mut self, value: u32) {
        let bits = value.ilog2();
        self.put((1 << bits) - 1, bits);
        self.put(0, 1);
        self.put(u64::from(value) & ((1 << bits) - 1), bits);
    }

    pub fn finish(mut self) -> Vec<u8> {
        if self.bits > 0 {
            self.out.push(self.held as u8);
        }
        self.out
    }
}

/// `None` at the end of what there is.
pub struct BitReader<'a> {
    bytes: &'a [u8],
    held: u64,
    bits: u32,
}

impl<'a> BitReader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, held: 0, bits: 0 }
    }

    /// `width` is at most 32.
    pub fn get(&mut self, width: u32) -> Option<u64> {
        while self.bits < width {
            let (byte, rest) = self.bytes.split_first()?;
            self.held |= u64::from(*byte) << self.bits;
            self.bits += 8;
            self.bytes = rest;
        }
        let value = self.held & ((1 << width) - 1);
        self.held >>= width;
        self.bits -= width;
        Some(value)
    }

    fn ones(&mut self) -> Option<u32> {
        let mut ones = 0;
        while self.get(1)? == 1 {
            ones += 1;
            if ones > MOST_ONES {
                return None;
            }
        }
        Some(ones)
    }

    pub fn get_rice(&mut self, k: u32) -> Option<u64> {
        let high = u64::from(self.ones()?);
        Some(high << k | self.get(k)?)
    }

    pub fn get_gamma(&mut self) -> Option<u32> {
        let bits = self.ones().filter(|bits| *bits < 32)?;
        Some((1 << bits | self.get(bits)?) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back(values in prop::collection::vec((0u64..1 << 32, 1u32..u32::MAX, 0u64..3000, 4u32..12), 0..200)) {
            let mut writer = BitWriter::default();
            for (plain, gamma, rice, k) in &values {
                writer.put(*plain, 32);
                writer.put_gamma(*gamma);
                writer.put_rice(*rice, *k);
            }
            let bytes = writer.finish();
            let mut reader = BitReader::new(&bytes);
            for (plain, gamma, rice, k) in &values {
                prop_assert_eq!(reader.get(32), Some(*plain));
                prop_assert_eq!(reader.get_gamma(), Some(*gamma));
                prop_assert_eq!(reader.get_rice(*k), Some(*rice));
            }
            prop_assert!(reader.get(8).is_none());
        }

        #[test]
        fn any_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut reader = BitReader::new(&bytes);
            let mut count = 0;
            while reader.get_gamma().is_some() && reader.get_rice(3).is_some() {
                count += 1;
            }
            prop_assert!(count <= bytes.len() * 8);
        }
    }
}
