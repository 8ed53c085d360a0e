//! Trace and span ids as W3C Trace Context and OTLP define them: 16 and 8 opaque bytes, all-zero is invalid.

use std::fmt;
use std::str::FromStr;

/// A text that is not a trace or span id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not {expected} hexadecimal digits")]
pub struct InvalidId {
    text: String,
    expected: &'static str,
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub [u8; $bytes]);

        impl $name {
            pub const LEN: usize = $bytes;

            /// `None` unless `bytes` has exactly the id's length. All-zero is let through: see [`Self::is_zero`].
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }

            /// All-zero means "no id" in every protocol.
            pub fn is_zero(&self) -> bool {
                self.0 == [0; $bytes]
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                let mut text = [0; 2 * $bytes];
                for (two, byte) in text.chunks_exact_mut(2).zip(self.0) {
                    two[0] = DIGITS[usize::from(byte >> 4)];
                    two[1] = DIGITS[usize::from(byte & 15)];
                }
                f.write_str(std::str::from_utf8(&text).unwrap_or_default())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            /// Upper and lower case; a shorter text is padded with zeros on the left, as Jaeger and Tempo print ids.
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let digits = text.as_bytes();
                let invalid = || InvalidId { text: text.chars().take(64).collect(), expected: $expected };
                if digits.is_empty() || digits.len() > 2 * $bytes {
                    return Err(invalid());
                }
                let mut id = [0u8; $bytes];
                for (place, digit) in digits.iter().rev().enumerate() {
                    let value = (*digit as char).to_digit(16).ok_or_else(invalid)? as u8;
                    id[$bytes - 1 - place / 2] |= value << (4 * (place % 2));
                }
                Ok(Self(id))
            }
        }
    };
}

id_type!(
    /// 16 bytes, printed as 32 lower-case hexadecimal digits.
    TraceId, 16, "1 to 32"
);
id_type!(
    /// 8 bytes, printed as 16 lower-case hexadecimal digits.
    SpanId, 8, "1 to 16"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_print_as_they_parse() {
        let text = "0af7651916cd43dd8448eb211c80319c";
        assert_eq!(text.parse::<TraceId>().unwrap().to_string(), text);
        assert_eq!("B7AD6B7169203331".parse::<SpanId>().unwrap().to_string(), "b7ad6b7169203331");
    }

    #[test]
    fn short_ids_are_padded_on_the_left() {
        assert_eq!("abc".parse::<SpanId>().unwrap().to_string(), "0000000000000abc");
        assert_eq!("1".parse::<TraceId>().unwrap().0[15], 1);
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in ["", "xyz", "0af7651916cd43dd8448eb211c80319c0", "12 4", "é"] {
            assert!(text.parse::<TraceId>().is_err(), "{text}");
        }
        assert!(TraceId::from_slice(&[1; 15]).is_none());
        assert!(SpanId([0; 8]).is_zero());
    }
}
