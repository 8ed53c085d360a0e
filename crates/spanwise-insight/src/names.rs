//! Texts by number, and what is known of each: names repeat in every trace, so what follows from a text is found once.

use std::hash::{BuildHasher as _, Hasher as _};

use hashbrown::HashTable;
use rustc_hash::{FxBuildHasher, FxHashMap};

use crate::normalize;
use crate::view::SLOTS;

pub type Name = u32;

/// Texts by number.
#[derive(Default)]
pub struct Names {
    numbers: HashTable<Name>,
    texts: Vec<Box<str>>,
    /// By number: the text's hash, the same in every process.
    hashes: Vec<u64>,
    /// By number: answers to [`Question`]s, two bits each.
    answers: Vec<u16>,
    joined: FxHashMap<(Joint, Name, Name), Name>,
    normal: Normal,
    keys: Keys,
    text_bytes: usize,
}

/// What may be asked of a name; the answer is looked for once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    /// An attribute of that key tells nothing.
    TellsNothing,
    /// It is an address, no name of a host.
    Nameless,
    /// A number by which something is indexed.
    AllDigits,
    /// A statement that reads a list page by page.
    Pages,
    /// One that does unless it reads a single row.
    PagesRows,
    /// An RPC's method that does.
    PagesCalls,
}

/// How two names make one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Joint {
    Space,
    Slash,
    Of,
}

/// Beside its text a name takes the text's place, its hash, its answers, its place in the table, and what allocators add.
const BYTES_EACH: usize = 48;

pub(crate) fn hash_of(text: &str) -> u64 {
    let mut hasher = FxBuildHasher.build_hasher();
    hasher.write(text.as_bytes());
    hasher.finish()
}

impl Names {
    pub fn number(&mut self, text: &str) -> Name {
        self.number_of(text, hash_of(text))
    }

    fn number_of(&mut self, text: &str, hash: u64) -> Name {
        let texts = &self.texts;
        let is_same = |number: &Name| texts.get(*number as usize).is_some_and(|known| **known == *text);
        if let Some(number) = self.numbers.find(hash, is_same) {
            return *number;
        }
        let number = self.texts.len() as Name;
        self.text_bytes += text.len();
        self.texts.push(text.into());
        self.hashes.push(hash);
        self.answers.push(0);
        let hashes = &self.hashes;
        self.numbers.insert_unique(hash, number, |number| hashes.get(*number as usize).copied().unwrap_or_default());
        number
    }

    pub fn text(&self, number: Name) -> &str {
        self.texts.get(number as usize).map_or("", |text| text)
    }

    /// About how much memory all of them take.
    pub fn bytes(&self) -> usize {
        self.text_bytes + BYTES_EACH * self.texts.len()
    }

    /// In order of their numbers.
    pub fn texts(&self) -> impl ExactSizeIterator<Item = &str> {
        self.texts.iter().map(|text| &**text)
    }

    /// The same for equal texts in every process.
    pub(crate) fn hash(&self, number: Name) -> u64 {
        self.hashes.get(number as usize).copied().unwrap_or_default()
    }

    /// Asks once for each name.
    pub(crate) fn asked(&mut self, name: Name, question: Question, answer: impl FnOnce(&str) -> bool) -> bool {
        let shift = 2 * question as u16;
        let known = self.answers.get(name as usize).map_or(0, |answers| answers >> shift & 3);
        if known & 2 != 0 {
            return known & 1 != 0;
        }
        let answer = answer(self.text(name));
        if let Some(answers) = self.answers.get_mut(name as usize) {
            *answers |= (2 | u16::from(answer)) << shift;
        }
        answer
    }

    /// Two names as one: `GET /cart`, `shop.Cart/Get`, `redis of cart`.
    pub(crate) fn joined(&mut self, joint: Joint, first: Name, second: Name) -> Name {
        if let Some(name) = self.joined.get(&(joint, first, second)) {
            return *name;
        }
        let between = match joint {
            Joint::Space => " ",
            Joint::Slash => "/",
            Joint::Of => " of ",
        };
        let text = format!("{}{between}{}", self.text(first), self.text(second));
        let name = self.number(&text);
        if self.joined.len() < MOST_JOINED {
            self.joined.insert((joint, first, second), name);
        }
        name
    }

    /// A text without what differs from call to call.
    pub(crate) fn normal(&mut self, rule: Rule, raw: &str) -> Name {
        self.normal_hashed(rule, raw, hash_of(raw))
    }

    /// The same for whoever has the text's hash.
    pub(crate) fn normal_hashed(&mut self, rule: Rule, raw: &str, hash: u64) -> Name {
        if matches!(rule, Rule::Sql | Rule::SqlWithDoubleQuotes) && raw.len() <= LONGEST_RAW {
            // Statements hardly ever come again with the same numbers in them.
            let mut alike = std::mem::take(&mut self.normal.alike);
            let name = match normalize::put_alike(raw, &mut alike) {
                true => self.remembered(rule, &alike, hash_of(&alike)),
                false => self.remembered(rule, raw, hash),
            };
            self.normal.alike = alike;
            return name;
        }
        self.remembered(rule, raw, hash)
    }

    fn remembered(&mut self, rule: Rule, raw: &str, hash: u64) -> Name {
        let place = self.normal.place(rule, hash);
        if let Some(slot) = self.normal.slots.get(place)
            && slot.rule == rule
            && slot.raw == raw
            && !raw.is_empty()
        {
            return slot.name;
        }
        let mut text = std::mem::take(&mut self.normal.buffer);
        text.clear();
        rule.put(raw, &mut text);
        let name = self.number(&text);
        self.normal.buffer = text;
        self.normal.keep(rule, raw, hash, name);
        name
    }

    /// What is known of an attribute's key.
    pub fn key(&mut self, key: &[u8]) -> Key {
        if let Some(known) = self.keys.guess(key) {
            return known;
        }
        let Ok(key) = std::str::from_utf8(key) else { return Key::default() };
        let hash = hash_of(key);
        let known = &self.keys.known;
        let is_same = |place: &u32| known.get(*place as usize).is_some_and(|(text, _, _)| **text == *key);
        if let Some(place) = self.keys.by_text.find(hash, is_same) {
            let place = *place;
            return self.keys.follow(place);
        }
        let slot = SLOTS.of_key(key);
        let lower = key.to_ascii_lowercase();
        let size = SIZE_WORDS.iter().any(|word| lower.contains(word)).then(|| self.number(key));
        self.keys.add(key, hash, Key { slot, size })
    }
}

const MOST_JOINED: usize = 1 << 16;

/// Numbers in attributes with such a word in their key say how much was handled.
const SIZE_WORDS: [&str; 9] = ["size", "length", "rows", "count", "bytes", "items", "total", "results", "records"];

/// What the rules want of an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Key {
    /// It means something: see [`crate::view::Slots`].
    pub(crate) slot: Option<u8>,
    /// It says how much was handled, under this name.
    pub(crate) size: Option<Name>,
}

impl Key {
    /// Whether its value matters.
    pub fn is_read(self) -> bool {
        self.slot.is_some() || self.size.is_some()
    }
}

/// Keys by text. Spans of one kind have the same keys in the same order, so the next one is guessed first.
#[derive(Default)]
struct Keys {
    by_text: HashTable<u32>,
    /// Text, what is known, and which key came after it the last time.
    known: Vec<(Box<str>, Key, u32)>,
    last: u32,
}

/// Different keys that are remembered.
const MOST_KEYS: usize = 4096;

impl Keys {
    fn guess(&mut self, key: &[u8]) -> Option<Key> {
        let (.., next) = self.known.get(self.last as usize)?;
        let next = *next;
        let (text, known, _) = self.known.get(next as usize)?;
        if text.as_bytes() != key {
            return None;
        }
        self.last = next;
        Some(*known)
    }

    fn follow(&mut self, place: u32) -> Key {
        if let Some((.., next)) = self.known.get_mut(self.last as usize) {
            *next = place;
        }
        self.last = place;
        self.known.get(place as usize).map(|(_, key, _)| *key).unwrap_or_default()
    }

    fn add(&mut self, text: &str, hash: u64, key: Key) -> Key {
        if self.known.len() >= MOST_KEYS {
            return key;
        }
        let place = self.known.len() as u32;
        self.known.push((text.into(), key, u32::MAX));
        let known = &self.known;
        self.by_text.insert_unique(hash, place, |place| {
            known.get(*place as usize).map(|(text, ..)| hash_of(text)).unwrap_or_default()
        });
        self.follow(place)
    }
}

/// How a text is made normal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Rule {
    #[default]
    Name,
    Path,
    Command,
    Sql,
    SqlWithDoubleQuotes,
    Document,
}

impl Rule {
    fn put(self, raw: &str, out: &mut String) {
        match self {
            Rule::Name => normalize::put_name(raw, out),
            Rule::Path => normalize::put_path(raw, out),
            Rule::Command => normalize::put_command(raw, out),
            Rule::Sql => normalize::put_sql(raw, false, out),
            Rule::SqlWithDoubleQuotes => normalize::put_sql(raw, true, out),
            Rule::Document => out.push_str(&normalize::document(raw)),
        }
    }
}

/// What raw texts became, the latest of those that share a slot.
#[derive(Default)]
struct Normal {
    slots: Vec<Slot>,
    /// Since it grew the last time.
    misses: usize,
    buffer: String,
    alike: String,
}

#[derive(Default, Clone)]
struct Slot {
    rule: Rule,
    name: Name,
    raw: String,
}

const FEWEST_SLOTS: usize = 16;
const MOST_SLOTS: usize = 8192;
/// Longer texts are not remembered.
const LONGEST_RAW: usize = 512;

impl Normal {
    fn place(&self, rule: Rule, hash: u64) -> usize {
        let hash = (hash ^ rule as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        hash as usize & self.slots.len().wrapping_sub(1)
    }

    fn keep(&mut self, rule: Rule, raw: &str, hash: u64, name: Name) {
        if raw.len() > LONGEST_RAW {
            return;
        }
        self.misses += 1;
        if self.misses > 2 * self.slots.len() && self.slots.len() < MOST_SLOTS {
            self.slots = vec![Slot::default(); (self.slots.len() * 4).clamp(FEWEST_SLOTS, MOST_SLOTS)];
            self.misses = 0;
        }
        let place = self.place(rule, hash);
        if let Some(slot) = self.slots.get_mut(place) {
            slot.raw.clear();
            slot.raw.push_str(raw);
            (slot.rule, slot.name) = (rule, name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_have_one_number_and_what_is_remembered_is_right() {
        let mut names = Names::default();
        let a = names.number("a");
        assert_eq!((names.number("b"), names.number("a"), names.text(a)), (a + 1, a, "a"));
        for turn in 0..3 {
            for number in 0..20_000 {
                let name = names.normal(Rule::Path, &format!("/cart/{number}/x{}", number % 7));
                assert_eq!(names.text(name), format!("/cart/{{id}}/x{}", number % 7), "{turn}");
                let name = names.normal(Rule::Name, &format!("/cart/{number}/x{}", number % 7));
                assert!(names.text(name).starts_with("/cart/{id}"));
            }
        }
        assert!(names.normal.slots.len() <= MOST_SLOTS);
        let joined = names.joined(Joint::Of, a, a);
        assert_eq!(names.joined(Joint::Of, a, a), joined);
        assert_eq!(names.text(joined), "a of a");
    }

    #[test]
    fn keys_are_known_in_any_order() {
        let mut names = Names::default();
        for turn in 0..4 {
            for place in 0..40u32 {
                let key = ["db.statement", "x", "rows.read", "http.route"][((place * (turn + 1)) % 4) as usize];
                let known = names.key(key.as_bytes());
                assert_eq!((known.slot.is_some(), known.size.is_some()), (key.contains("t"), key == "rows.read"));
            }
        }
    }
}
