//! Percent-encoding of baggage.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use crate::hex::{self, Case};

/// Octets that stand for themselves in a baggage value (Baggage §3.3.1.3), but `%`.
pub(crate) fn is_baggage_octet(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x2b | 0x2d..=0x3a | 0x3c..=0x5b | 0x5d..=0x7e)
}

pub(crate) fn push_encoded(target: &mut String, text: &str, keeps: impl Fn(u8) -> bool) {
    for byte in text.bytes() {
        if byte != b'%' && byte.is_ascii() && keeps(byte) {
            target.push(char::from(byte));
        } else {
            target.push('%');
            let mut digits = [0; 2];
            hex::encode(&[byte], &mut digits);
            digits.iter().for_each(|digit| target.push(char::from(digit.to_ascii_uppercase())));
        }
    }
}

/// A `%` without two digits stands for itself; what is not UTF-8 becomes U+FFFD.
pub(crate) fn decode(text: &[u8]) -> String {
    if !text.contains(&b'%') {
        return String::from_utf8_lossy(text).into_owned();
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%'
            && let [high, low, after @ ..] = after
            && let (Some(high), Some(low)) = (hex::digit(*high, Case::Any), hex::digit(*low, Case::Any))
        {
            bytes.push(high << 4 | low);
            rest = after;
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    match String::from_utf8_lossy(&bytes) {
        Cow::Borrowed(text) => text.into(),
        Cow::Owned(text) => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        assert_eq!(decode(b"a%20b"), "a b");
        assert_eq!(decode(b"%C3%a4%"), "\u{e4}%");
        assert_eq!(decode(b"%4%zz"), "%4%zz");
        assert_eq!(decode(b"%ff"), "\u{fffd}");
        let mut text = String::new();
        push_encoded(&mut text, "a \u{e4},%;=", is_baggage_octet);
        assert_eq!(text, "a%20%C3%A4%2C%25%3B=");
    }
}
