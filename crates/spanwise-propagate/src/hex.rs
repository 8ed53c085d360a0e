//! Hexadecimal digits, both ways, on the stack.

use alloc::string::String;

/// Whether upper-case digits are accepted: W3C and B3 forbid them, Jaeger, OpenTracing and Google do not.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Case {
    Lower,
    Any,
}

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
    let (fours, rest) = bytes.as_chunks::<4>();
    let Some((front, back)) = target.split_at_mut_checked(8 * fours.len()) else { return pairs(bytes, target) };
    for (digits, four) in front.as_chunks_mut::<8>().0.iter_mut().zip(fours) {
        *digits = eight_digits(*four);
    }
    pairs(rest, back);
}

fn pairs(bytes: &[u8], target: &mut [u8]) {
    for (pair, byte) in target.chunks_exact_mut(2).zip(bytes) {
        let [.., high, low] = eight_digits([0, 0, 0, *byte]);
        pair.copy_from_slice(&[high, low]);
    }
}

/// All at once: each half byte to a byte of its own, then those from ten on to letters.
fn eight_digits(bytes: [u8; 4]) -> [u8; 8] {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let mut spread = u64::from(u32::from_be_bytes(bytes));
    spread = (spread | spread << 16) & 0x0000_ffff_0000_ffff;
    spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
    spread = (spread | spread << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    let is_letter = (spread + 6 * EACH) >> 4 & EACH;
    let letters = u64::from(b'a' - b'9' - 1);
    (spread + u64::from(b'0') * EACH + letters * is_letter).to_be_bytes()
}

pub(crate) fn push(target: &mut String, bytes: &[u8]) {
    for byte in bytes {
        let [.., high, low] = eight_digits([0, 0, 0, *byte]);
        target.push(char::from(high));
        target.push(char::from(low));
    }
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
        for first in 0..=255 {
            let bytes = [first, 0x90, 0xaf, !first, first ^ 0x5a];
            let mut text = [0; 10];
            encode(&bytes, &mut text);
            assert_eq!(decode::<5>(&text, Case::Lower), Some(bytes));
            let mut short = [b'-'; 5];
            encode(&bytes, &mut short);
            assert_eq!((short.get(..4), short.get(4)), (text.get(..4), Some(&b'-')));
        }
    }
}
