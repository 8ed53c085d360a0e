//! The spans of a block, each read once for all who look at them: its columns, its facts and its postings.

use std::ops::Range;

use rustc_hash::FxHashMap;
use spanwise_wire::Piece;
use spanwise_wire::view::{Field, FieldValue, Fields, KeyValueView, ValueView, key_value};

use crate::block::shred::{Cell, cell};

/// Different keys that are numbered.
const MOST_KEYS: usize = 1 << 16;

/// Numbers the keys of attributes, and reads spans that live for `'a`.
#[derive(Default)]
pub struct Scanner<'a> {
    numbers: FxHashMap<&'a [u8], u32>,
    /// By one more than a key's number, first for the beginning of a span: the two keys that followed the last times.
    next: Vec<[u32; 2]>,
    keys: Vec<&'a [u8]>,
}

/// An attribute of a span.
#[derive(Debug, Clone, Copy)]
pub struct Attribute<'a> {
    /// See [`Scanner::key`]. `None` of one key too many.
    pub key: Option<u32>,
    /// When it is a key, one value that a column can hold, and nothing else.
    pub cell: Option<Cell<'a>>,
    /// The whole field of the span.
    pub raw: &'a [u8],
    /// Its `KeyValue`.
    pub body: &'a [u8],
}

impl<'a> Attribute<'a> {
    pub fn value(&self) -> ValueView<'a> {
        match self.cell {
            Some(Cell::Str(text)) => ValueView::Str(text),
            Some(Cell::Bool(value)) => ValueView::Bool(value),
            Some(Cell::Int(value)) => ValueView::Int(value),
            Some(Cell::Double(value)) => ValueView::Double(value),
            None => self.whole().value,
        }
    }

    pub fn whole(&self) -> KeyValueView<'a> {
        key_value(self.body)
    }
}

/// A field of a span that is not in its index, nor an attribute, and how many attributes stand before it.
#[derive(Debug, Clone, Copy)]
pub struct Rest<'a> {
    pub behind: usize,
    pub field: Field<'a>,
}

#[derive(Debug, Clone)]
struct Found<'a> {
    piece: Piece<'a>,
    name: &'a str,
    trace_state: &'a str,
    flags: u32,
    attributes: Range<usize>,
    rest: Range<usize>,
}

/// Some spans, read; its memory serves again.
#[derive(Default)]
pub struct Scanned<'a> {
    spans: Vec<Found<'a>>,
    attributes: Vec<Attribute<'a>>,
    rest: Vec<Rest<'a>>,
}

/// One of them.
#[derive(Debug, Clone, Copy)]
pub struct ScannedSpan<'s, 'a> {
    pub piece: Piece<'a>,
    pub name: &'a str,
    pub trace_state: &'a str,
    pub flags: u32,
    pub attributes: &'s [Attribute<'a>],
    pub rest: &'s [Rest<'a>],
}

/// The spans of one trace, and who read them.
#[derive(Clone)]
pub struct ScannedTrace<'s, 'a> {
    pub scanned: &'s Scanned<'a>,
    pub places: Range<usize>,
    pub scanner: &'s Scanner<'a>,
}

impl<'s, 'a> ScannedTrace<'s, 'a> {
    pub fn spans(&self) -> impl Iterator<Item = ScannedSpan<'s, 'a>> + Clone + use<'s, 'a> {
        self.scanned.iter(self.places.clone())
    }
}

impl<'a> Scanned<'a> {
    pub fn clear(&mut self) {
        self.spans.clear();
        self.attributes.clear();
        self.rest.clear();
    }

    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// `None` beyond the last one.
    pub fn get(&self, place: usize) -> Option<ScannedSpan<'_, 'a>> {
        self.spans.get(place).map(|found| self.view(found))
    }

    /// In the order in which they were read.
    pub fn iter(&self, places: Range<usize>) -> impl Iterator<Item = ScannedSpan<'_, 'a>> + Clone {
        self.spans.get(places).unwrap_or_default().iter().map(|found| self.view(found))
    }

    fn view(&self, found: &Found<'a>) -> ScannedSpan<'_, 'a> {
        ScannedSpan {
            piece: found.piece,
            name: found.name,
            trace_state: found.trace_state,
            flags: found.flags,
            attributes: self.attributes.get(found.attributes.clone()).unwrap_or_default(),
            rest: self.rest.get(found.rest.clone()).unwrap_or_default(),
        }
    }
}

impl<'a> Scanner<'a> {
    /// The key with this number.
    pub fn key(&self, number: u32) -> &'a [u8] {
        self.keys.get(number as usize).copied().unwrap_or_default()
    }

    /// Keys numbered so far.
    pub fn len_keys(&self) -> usize {
        self.keys.len()
    }

    /// Reads a span into `scanned`.
    pub fn scan(&mut self, piece: Piece<'a>, scanned: &mut Scanned<'a>) {
        let (first, first_rest) = (scanned.attributes.len(), scanned.rest.len());
        let (mut name, mut trace_state, mut flags) = ("", "", 0);
        let mut before = 0;
        for field in Fields::new(piece.span) {
            match (field.number, field.value) {
                (1 | 2 | 4 | 7 | 8, _) => {}
                (9, FieldValue::Len(body)) => {
                    let (key, cell) = match cell(body) {
                        Some((key, cell)) => (key, Some(cell)),
                        None => (key_value(body).key.as_bytes(), None),
                    };
                    let key = self.number(key, before);
                    before = key.map_or(0, |number| number as usize + 1);
                    scanned.attributes.push(Attribute { key, cell, raw: field.raw, body });
                }
                (5, value) => name = value.text(),
                (16, value) => flags = value.uint() as u32,
                (number, value) => {
                    if number == 3 {
                        trace_state = value.text();
                    }
                    if number != 6 || value.uint() > 5 {
                        scanned.rest.push(Rest { behind: scanned.attributes.len() - first, field });
                    }
                }
            }
        }
        scanned.spans.push(Found {
            piece,
            name,
            trace_state,
            flags,
            attributes: first..scanned.attributes.len(),
            rest: first_rest..scanned.rest.len(),
        });
    }

    /// The key's number; `before` is one more than that of the key before it.
    #[inline]
    fn number(&mut self, key: &'a [u8], before: usize) -> Option<u32> {
        if let Some(guesses) = self.next.get(before) {
            for guess in *guesses {
                if self.keys.get(guess as usize).is_some_and(|known| *known == key) {
                    return Some(guess);
                }
            }
        }
        self.number_anew(key, before)
    }

    #[cold]
    fn number_anew(&mut self, key: &'a [u8], before: usize) -> Option<u32> {
        let number = match self.numbers.get(key) {
            Some(number) => *number,
            None if self.keys.len() < MOST_KEYS => {
                let number = self.keys.len() as u32;
                self.keys.push(key);
                self.numbers.insert(key, number);
                number
            }
            None => return None,
        };
        if self.next.len() <= self.keys.len() {
            self.next.resize(self.keys.len() + 1, [u32::MAX; 2]);
        }
        if let Some(next) = self.next.get_mut(before) {
            *next = [number, next[0]];
        }
        Some(number)
    }
}

/// What somebody notes of each key, by its number; made when it is first asked for.
pub struct ByKey<T> {
    known: Vec<Option<T>>,
    unnumbered: Option<T>,
}

impl<T> Default for ByKey<T> {
    fn default() -> Self {
        Self { known: Vec::new(), unnumbered: None }
    }
}

impl<T> ByKey<T> {
    /// `make` is given the attribute's key.
    #[inline]
    pub fn of<'a>(
        &mut self,
        attribute: &Attribute<'a>,
        scanner: &Scanner<'a>,
        make: impl FnOnce(&'a [u8]) -> T,
    ) -> &mut T {
        match attribute.key {
            Some(number) => {
                let place = number as usize;
                if self.known.len() <= place {
                    self.known.resize_with(scanner.len_keys().max(place + 1), || None);
                }
                match self.known.get_mut(place) {
                    Some(known) => known.get_or_insert_with(|| make(scanner.key(number))),
                    None => self.unnumbered.insert(make(scanner.key(number))),
                }
            }
            None => self.unnumbered.insert(make(attribute.whole().key.as_bytes())),
        }
    }
}
