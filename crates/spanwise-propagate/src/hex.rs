//! Hexadecimal digits, both ways, on the stack.

use alloc::string::String;

/// Whether upper-case digits are accepted: W3C and B3 forbid them, Jaeger, OpenTracing and Google do not.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Case {
    Lower,
    Any,
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

pub(crate) fn digit(byte: u8, case: Case) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' if case == Case::Any => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// Exactly `2 * N` digits.
pub(crate) fn decode<const N: usize>(text: &[u8], case: Case) -> Option<[u8; N]> {
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = digit(*high, case)? << 4 | digit(*low, case)?;
    }
    Some(bytes)
}

/// From 1 to `2 * N` digits, padded with zeros on the left.
pub(crate) fn decode_padded<const N: usize>(text: &[u8], case: Case) -> Option<[u8; N]> {
    if text.is_empty() || text.len() > 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (position, character) in text.iter().rev().enumerate() {
        let value = digit(*character, case)?;
        let byte = bytes.iter_mut().rev().nth(position / 2)?;
        *byte |= if position % 2 == 0 { value } else { value << 4 };
    }
    Some(bytes)
}

/// Writes the digits of `bytes` to the front of `target`; what does not fit is left out.
pub(crate) fn encode(bytes: &[u8], target: &mut [u8]) {
    for (pair, byte) in target.chunks_exact_mut(2).zip(bytes) {
        if let [high, low] = pair {
            *high = character(byte >> 4);
            *low = character(byte & 15);
        }
    }
}

pub(crate) fn push(target: &mut String, bytes: &[u8]) {
    for byte in bytes {
        target.push(char::from(character(byte >> 4)));
        target.push(char::from(character(byte & 15)));
    }
}

fn character(value: u8) -> u8 {
    DIGITS.get(usize::from(value)).copied().unwrap_or(b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_both_ways() {
        assert_eq!(decode::<2>(b"0aff", Case::Lower), Some([0x0a, 0xff]));
        assert_eq!(decode::<2>(b"0aFF", Case::Lower), None);
        assert_eq!(decode::<2>(b"0aFF", Case::Any), Some([0x0a, 0xff]));
        assert_eq!(decode::<2>(b"0af", Case::Lower), None);
        assert_eq!(decode_padded::<2>(b"abc", Case::Lower), Some([0x0a, 0xbc]));
        assert_eq!(decode_padded::<2>(b"", Case::Lower), None);
        assert_eq!(decode_padded::<2>(b"12345", Case::Lower), None);
        let mut text = [0; 4];
        encode(&[0x12, 0xef], &mut text);
        assert_eq!(&text, b"12ef");
    }
}
