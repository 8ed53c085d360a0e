//! `tracestate`: what vendors along the way add to a trace context.
//!
//! <https://www.w3.org/TR/trace-context-2/#tracestate-header>

use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;

use crate::limits::{TRACESTATE_MEMBERS, TRACESTATE_PART, TRACESTATE_READ};
use crate::text::trim_blanks;

/// A list of keys and values, cheap to copy. Always legal; every key stands once.
///
/// Held as the text that is sent: members joined by commas, without blanks or empty members. That is unambiguous, for
/// keys and values contain no comma and keys no `=`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct TraceState(Option<Arc<str>>);

/// Why a list or a member is not legal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceStateError {
    /// A key breaks the grammar or is longer than 256 characters.
    IllegalKey,
    /// A value is empty, breaks the grammar or is longer than 256 characters.
    IllegalValue,
    /// More than 32 members.
    TooManyMembers,
    /// More bytes than a legal list can have.
    TooLong,
}

impl fmt::Display for TraceStateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IllegalKey => "cannot read tracestate: illegal key",
            Self::IllegalValue => "cannot read tracestate: illegal value",
            Self::TooManyMembers => "cannot read tracestate: more than 32 members",
            Self::TooLong => "cannot read tracestate: too long",
        })
    }
}

impl core::error::Error for TraceStateError {}

impl TraceState {
    /// No members.
    pub const EMPTY: Self = Self(None);

    /// Reads one header's value. Blanks around members and empty members are accepted; of equal keys the first is kept.
    ///
    /// # Errors
    /// One illegal member makes the whole list illegal.
    pub fn parse(value: &[u8]) -> Result<Self, TraceStateError> {
        let mut builder = Builder::default();
        builder.add(value)?;
        Ok(builder.finish())
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// All members in order: the first is the last that was changed.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.as_str().split(',').filter_map(|member| member.split_once('='))
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// No members.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// As it is sent.
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or("")
    }

    /// With `key` set to `value`, at the front. Over 32 members the last one goes.
    ///
    /// # Errors
    /// When the key or the value is illegal.
    pub fn insert(&self, key: &str, value: &str) -> Result<Self, TraceStateError> {
        if !is_key(key.as_bytes()) {
            return Err(TraceStateError::IllegalKey);
        }
        if !is_value(value.as_bytes()) {
            return Err(TraceStateError::IllegalValue);
        }
        let mut text = String::with_capacity(self.as_str().len() + key.len() + value.len() + 2);
        push_member(&mut text, key, value);
        for (name, value) in self.iter().filter(|(name, _)| *name != key).take(TRACESTATE_MEMBERS - 1) {
            push_member(&mut text, name, value);
        }
        Ok(Self(Some(text.into())))
    }

    /// Without `key`.
    #[must_use]
    pub fn remove(&self, key: &str) -> Self {
        if self.get(key).is_none() {
            return self.clone();
        }
        let mut text = String::with_capacity(self.as_str().len());
        for (name, value) in self.iter().filter(|(name, _)| *name != key) {
            push_member(&mut text, name, value);
        }
        Self::from_text(text)
    }

    /// At most `bytes` long: members of more than 128 characters go first, then the last ones (§3.3.1.5).
    #[must_use]
    pub fn truncate(&self, bytes: usize) -> Self {
        if self.as_str().len() <= bytes {
            return self.clone();
        }
        let without_long = self.join(self.iter().filter(|(key, value)| key.len() + value.len() < 128));
        if without_long.len() <= bytes {
            return Self::from_text(without_long);
        }
        let mut text = String::new();
        for member in without_long.split(',') {
            let comma = usize::from(!text.is_empty());
            if text.len() + comma + member.len() > bytes {
                break;
            }
            if comma == 1 {
                text.push(',');
            }
            text.push_str(member);
        }
        Self::from_text(text)
    }

    fn join<'a>(&self, members: impl Iterator<Item = (&'a str, &'a str)>) -> String {
        let mut text = String::with_capacity(self.as_str().len());
        members.for_each(|(key, value)| push_member(&mut text, key, value));
        text
    }

    fn from_text(text: String) -> Self {
        Self((!text.is_empty()).then(|| text.into()))
    }
}

impl fmt::Display for TraceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for TraceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

fn push_member(text: &mut String, key: &str, value: &str) {
    if !text.is_empty() {
        text.push(',');
    }
    text.push_str(key);
    text.push('=');
    text.push_str(value);
}

/// Joins the headers of one request, in order, as one list (RFC 9110 §5.3).
#[derive(Default)]
pub(crate) struct Builder {
    text: String,
    members: usize,
    read: usize,
}

impl Builder {
    pub(crate) fn add(&mut self, header: &[u8]) -> Result<(), TraceStateError> {
        self.read = self.read.saturating_add(header.len()).saturating_add(1);
        if self.read > TRACESTATE_READ {
            return Err(TraceStateError::TooLong);
        }
        for member in header.split(|byte| *byte == b',') {
            let member = trim_blanks(member);
            if member.is_empty() {
                continue;
            }
            self.members += 1;
            if self.members > TRACESTATE_MEMBERS {
                return Err(TraceStateError::TooManyMembers);
            }
            let equals = member.iter().position(|byte| *byte == b'=').ok_or(TraceStateError::IllegalKey)?;
            let (key, value) = member.split_at_checked(equals).ok_or(TraceStateError::IllegalKey)?;
            let value = value.get(1..).unwrap_or_default();
            if !is_key(key) {
                return Err(TraceStateError::IllegalKey);
            }
            if !is_value(value) {
                return Err(TraceStateError::IllegalValue);
            }
            // Both are ASCII by now.
            let (Ok(key), Ok(value)) = (core::str::from_utf8(key), core::str::from_utf8(value)) else {
                return Err(TraceStateError::IllegalValue);
            };
            let is_known = self.text.split(',').any(|known| known.split_once('=').is_some_and(|(name, _)| name == key));
            if !is_known {
                push_member(&mut self.text, key, value);
            }
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> TraceState {
        TraceState::from_text(self.text)
    }
}

/// Level 2: a lower-case letter or a digit, then up to 255 of those and `_-*/@`.
fn is_key(key: &[u8]) -> bool {
    let Some((first, rest)) = key.split_first() else { return false };
    let is_alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    key.len() <= TRACESTATE_PART
        && is_alphanumeric(first)
        && rest.iter().all(|byte| is_alphanumeric(byte) || matches!(byte, b'_' | b'-' | b'*' | b'/' | b'@'))
}

/// 1 to 256 printable characters but `,` and `=`; the last one is not a blank.
fn is_value(value: &[u8]) -> bool {
    value.len() <= TRACESTATE_PART
        && value.last().is_some_and(|last| *last != b' ')
        && value.iter().all(|byte| matches!(byte, 0x20..=0x7e) && !matches!(byte, b',' | b'='))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::ToString;
    use alloc::vec::Vec;

    #[track_caller]
    fn check(input: &str, expected: Result<&str, TraceStateError>) {
        assert_eq!(TraceState::parse(input.as_bytes()).as_ref().map(TraceState::as_str), expected.as_ref().copied());
    }

    #[test]
    fn grammar() {
        use TraceStateError::*;
        check("", Ok(""));
        check(" , ,\t", Ok(""));
        check("foo=1,bar=2", Ok("foo=1,bar=2"));
        check("foo=1 \t , \t bar=2, \t baz=3", Ok("foo=1,bar=2,baz=3"));
        check("foo= 1", Ok("foo= 1"));
        check("0a=1", Ok("0a=1"));
        check("foo@=1,a@@b=2", Ok("foo@=1,a@@b=2"));
        check("foo=1,foo=2", Ok("foo=1"));
        check("@foo=1,bar=2", Err(IllegalKey));
        check("foo =1", Err(IllegalKey));
        check("FOO=1", Err(IllegalKey));
        check("foo.bar=1", Err(IllegalKey));
        check("foo", Err(IllegalKey));
        check("=1", Err(IllegalKey));
        check("foo=bar=baz", Err(IllegalValue));
        check("foo=,bar=3", Err(IllegalValue));
        check("foo=\u{e4}", Err(IllegalValue));
        check("foo=a\tb", Err(IllegalValue));
        check(&format!("{}=1", "z".repeat(256)), Ok(&format!("{}=1", "z".repeat(256))));
        check(&format!("{}=1", "z".repeat(257)), Err(IllegalKey));
        check(&format!("a={}", "z".repeat(257)), Err(IllegalValue));
    }

    #[test]
    fn at_most_32_members_over_all_headers() {
        let members = |n: usize| (0..n).map(|i| format!("k{i}=v")).collect::<Vec<_>>().join(",");
        assert_eq!(TraceState::parse(members(32).as_bytes()).unwrap().len(), 32);
        assert_eq!(TraceState::parse(members(33).as_bytes()), Err(TraceStateError::TooManyMembers));
        let mut builder = Builder::default();
        builder.add(members(31).as_bytes()).unwrap();
        assert_eq!(builder.add(b"x=1,y=2"), Err(TraceStateError::TooManyMembers));
    }

    #[test]
    fn the_longest_legal_list_is_read() {
        let member = |i: usize| format!("{i:0>256}={}", "v".repeat(256));
        let list = (0..32).map(member).collect::<Vec<_>>().join(", ");
        assert_eq!(TraceState::parse(list.as_bytes()).unwrap().len(), 32);
        assert_eq!(TraceState::parse(&b" ".repeat(TRACESTATE_READ)), Err(TraceStateError::TooLong));
    }

    #[test]
    fn changed_members_move_to_the_front() {
        let state = TraceState::parse(b"a=1,b=2,c=3").unwrap();
        assert_eq!(state.insert("b", "9").unwrap().as_str(), "b=9,a=1,c=3");
        assert_eq!(state.insert("d", "4").unwrap().to_string(), "d=4,a=1,b=2,c=3");
        assert_eq!(state.remove("b").as_str(), "a=1,c=3");
        assert_eq!(state.insert("D", "4"), Err(TraceStateError::IllegalKey));
        assert_eq!(state.insert("d", ""), Err(TraceStateError::IllegalValue));
        assert!(TraceState::parse(b"a=1").unwrap().remove("a").is_empty());
        let full = TraceState::parse((0..32).map(|i| format!("k{i}=v,")).collect::<String>().as_bytes()).unwrap();
        let more = full.insert("new", "1").unwrap();
        assert_eq!((more.len(), more.get("k31"), more.get("k30")), (32, None, Some("v")));
    }

    #[test]
    fn truncation_drops_long_members_first() {
        let long = "x".repeat(200);
        let state = TraceState::parse(format!("a=1,b={long},c=3,d=4").as_bytes()).unwrap();
        assert_eq!(state.truncate(300).as_str(), state.as_str());
        assert_eq!(state.truncate(100).as_str(), "a=1,c=3,d=4");
        assert_eq!(state.truncate(8).as_str(), "a=1,c=3");
        assert_eq!(state.truncate(2).as_str(), "");
    }
}
