//! Ids of traces and spans. An all-zero id is invalid everywhere, so it cannot be made.

use core::fmt;

use crate::hex::{self, Case};

/// A trace's id: 16 bytes, not all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TraceId([u8; 16]);

/// A span's id: 8 bytes, not all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpanId([u8; 8]);

macro_rules! id {
    ($name:ident, $size:literal) => {
        impl $name {
            /// `None` when all bytes are zero.
            pub fn from_bytes(bytes: [u8; $size]) -> Option<Self> {
                (bytes != [0; $size]).then_some(Self(bytes))
            }

            /// From all its lower-case hexadecimal digits.
            pub fn parse(text: &str) -> Option<Self> {
                Self::from_bytes(hex::decode(text.as_bytes(), Case::Lower)?)
            }

            /// Big-endian, as they are written.
            pub fn to_bytes(self) -> [u8; $size] {
                self.0
            }

            pub(crate) fn as_bytes(&self) -> &[u8] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

id!(TraceId, 16);
id!(SpanId, 8);

impl TraceId {
    /// The upper half: zero for ids of 64 bits.
    pub fn high(self) -> u64 {
        // The shift leaves 64 bits.
        u64::try_from(u128::from_be_bytes(self.0) >> 64).unwrap_or(0)
    }

    /// The lower half: all that systems with ids of 64 bits see.
    pub fn low(self) -> u64 {
        u64::try_from(u128::from_be_bytes(self.0) & u128::from(u64::MAX)).unwrap_or(0)
    }

    /// `None` when both halves are zero.
    pub fn from_halves(high: u64, low: u64) -> Option<Self> {
        Self::from_bytes((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
    }
}

impl SpanId {
    /// The id as the number that Datadog and Google write in decimal.
    pub fn to_u64(self) -> u64 {
        u64::from_be_bytes(self.0)
    }

    /// `None` for zero.
    pub fn from_u64(value: u64) -> Option<Self> {
        Self::from_bytes(value.to_be_bytes())
    }
}
