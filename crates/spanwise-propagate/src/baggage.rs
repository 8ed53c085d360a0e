//! Baggage: names and values that travel with a trace.
//!
//! <https://www.w3.org/TR/baggage/>

use alloc::string::String;
use alloc::vec::Vec;

use crate::limits::{BAGGAGE_BYTES, BAGGAGE_MEMBERS};
use crate::percent;
use crate::text::{is_token, split_once, trim_blanks};

/// One name and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaggageEntry {
    /// A token (RFC 9110).
    pub key: String,
    /// Any text.
    pub value: String,
    /// Properties as they were sent, without the first `;`. Empty when there are none.
    pub metadata: String,
}

/// At most 64 entries and 8192 bytes, in the order of their arrival; every key stands once (the last one wins).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Baggage {
    entries: Vec<BaggageEntry>,
    bytes: usize,
}

impl Baggage {
    /// No entries.
    pub const fn new() -> Self {
        Self { entries: Vec::new(), bytes: 0 }
    }

    /// Sets a value. `false` when the key is no token, the metadata cannot be sent, or a limit would be exceeded: then
    /// nothing changes.
    pub fn insert(&mut self, key: &str, value: &str, metadata: &str) -> bool {
        if !is_token(key.as_bytes()) || !is_metadata(metadata.as_bytes()) {
            return false;
        }
        let entry = BaggageEntry { key: key.into(), value: value.into(), metadata: metadata.into() };
        let size = encoded_len(&entry);
        let at = self.entries.iter().position(|known| known.key == key);
        let before = at.and_then(|at| self.entries.get(at)).map_or(0, encoded_len);
        let bytes = self.bytes - before + size;
        if bytes > BAGGAGE_BYTES || (at.is_none() && self.entries.len() >= BAGGAGE_MEMBERS) {
            return false;
        }
        match at.and_then(|at| self.entries.get_mut(at)) {
            Some(known) => *known = entry,
            None => self.entries.push(entry),
        }
        self.bytes = bytes;
        true
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = &BaggageEntry> {
        self.entries.iter()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// No entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a `baggage` header. A broken member is left out, the others are kept; what exceeds the limits is left out.
    pub fn read_header(&mut self, header: &[u8]) {
        // Blanks count: a header of blanks is not worth reading to its end.
        let header = header.get(..2 * BAGGAGE_BYTES).unwrap_or(header);
        for member in header.split(|byte| *byte == b',').take(4 * BAGGAGE_MEMBERS) {
            self.read_member(member);
        }
    }

    fn read_member(&mut self, member: &[u8]) {
        let (pair, metadata) = split_once(member, b';').unwrap_or((member, b""));
        let Some((key, value)) = split_once(pair, b'=') else { return };
        let (key, value, metadata) = (trim_blanks(key), trim_blanks(value), trim_blanks(metadata));
        if !value.iter().all(|byte| percent::is_baggage_octet(*byte)) {
            return;
        }
        // Checked again by `insert`, as bytes that are not text.
        let (Ok(key), Ok(metadata)) = (core::str::from_utf8(key), core::str::from_utf8(metadata)) else { return };
        self.insert(key, &percent::decode(value), metadata);
    }

    /// The header's value.
    pub fn to_header(&self) -> String {
        let mut text = String::with_capacity(self.bytes);
        for entry in &self.entries {
            if !text.is_empty() {
                text.push(',');
            }
            text.push_str(&entry.key);
            text.push('=');
            percent::push_encoded(&mut text, &entry.value, percent::is_baggage_octet);
            if !entry.metadata.is_empty() {
                text.push(';');
                text.push_str(&entry.metadata);
            }
        }
        text
    }
}

/// With the comma that separates it from the next.
fn encoded_len(entry: &BaggageEntry) -> usize {
    let octets = |byte: u8| if byte != b'%' && percent::is_baggage_octet(byte) { 1 } else { 3 };
    let metadata = if entry.metadata.is_empty() { 0 } else { entry.metadata.len() + 1 };
    entry.key.len() + 1 + entry.value.bytes().map(octets).sum::<usize>() + metadata + 1
}

/// Properties are opaque here, but for what would break the header.
fn is_metadata(text: &[u8]) -> bool {
    text.iter().all(|byte| percent::is_baggage_octet(*byte) || matches!(byte, b' ' | b'\t' | b';'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[track_caller]
    fn check(input: &str, expected: &[(&str, &str, &str)]) {
        let mut baggage = Baggage::new();
        baggage.read_header(input.as_bytes());
        let found: Vec<_> = baggage.iter().map(|e| (e.key.as_str(), e.value.as_str(), e.metadata.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn headers() {
        check("", &[]);
        check("a=1", &[("a", "1", "")]);
        check("a = 1 ; p ; q=2 , b\t=\tx=y", &[("a", "1", "p ; q=2"), ("b", "x=y", "")]);
        check("a=%20%C3%A4", &[("a", " \u{e4}", "")]);
        check("a=", &[("a", "", "")]);
        check("a=1,a=2", &[("a", "2", "")]);
        check("=1,b,c=\"x\",d=\\,e\u{e4}=1,f=ok", &[("f", "ok", "")]);
        check("k%20=1", &[("k%20", "1", "")]);
    }

    #[test]
    fn limits_leave_out_whole_members() {
        let many: String = (0..100).map(|i| format!("k{i}=v,")).collect();
        let mut baggage = Baggage::new();
        baggage.read_header(many.as_bytes());
        assert_eq!(baggage.len(), 64);
        let mut baggage = Baggage::new();
        assert!(!baggage.insert("a", &"x".repeat(8192), ""));
        assert!(baggage.insert("a", &"x".repeat(8000), ""));
        assert!(!baggage.insert("b", &"x".repeat(500), ""));
        assert!(baggage.insert("a", "x", ""));
        assert!(baggage.insert("b", &"x".repeat(500), ""));
        assert!(baggage.to_header().len() <= BAGGAGE_BYTES);
    }

    #[test]
    fn what_is_written_reads_the_same() {
        let mut baggage = Baggage::new();
        baggage.insert("user", "J\u{f6}rg, 100% = ;", "p=1;q");
        baggage.insert("b", "", "");
        let mut again = Baggage::new();
        again.read_header(baggage.to_header().as_bytes());
        assert_eq!(again, baggage);
        assert!(!baggage.insert("no blank", "", ""));
        assert!(!baggage.insert("a", "", "x,y=1"));
    }
}
