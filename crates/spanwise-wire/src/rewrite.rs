//! Changing the attributes of one message: everything else keeps its bytes and its place.

use spanwise_model::{KeyValue, Value};

use crate::encode::{put_attribute, put_len_field};
use crate::view::{Fields, KeyValueView, ValueView, array_values, key_values};

/// The attribute list of a message, with changes that are not written yet.
#[derive(Debug)]
pub struct Attributes<'a> {
    list: Vec<Entry<'a>>,
    is_changed: bool,
}

#[derive(Debug)]
enum Entry<'a> {
    Same(KeyValueView<'a>),
    New(KeyValue),
}

impl Entry<'_> {
    fn key(&self) -> &str {
        match self {
            Entry::Same(view) => view.key,
            Entry::New(attribute) => &attribute.key,
        }
    }

    fn value(&self) -> Value {
        match self {
            Entry::Same(view) => to_value(view.value),
            Entry::New(attribute) => attribute.value.clone(),
        }
    }
}

/// Decodes a value.
pub fn to_value(view: ValueView<'_>) -> Value {
    match view {
        ValueView::Empty => Value::Empty,
        ValueView::Str(text) => Value::Str(text.to_owned()),
        ValueView::Bool(value) => Value::Bool(value),
        ValueView::Int(value) => Value::Int(value),
        ValueView::Double(value) => Value::Double(value),
        ValueView::Bytes(bytes) => Value::Bytes(bytes.to_vec()),
        ValueView::Array(array) => Value::Array(array_values(array).map(to_value).collect()),
        ValueView::Map(map) => {
            let entries = key_values(map, 1);
            Value::Map(
                entries.map(|entry| KeyValue { key: entry.key.to_owned(), value: to_value(entry.value) }).collect(),
            )
        }
    }
}

impl<'a> Attributes<'a> {
    /// The attributes of `message`, which are its fields `number`.
    pub fn of(message: &'a [u8], number: u32) -> Self {
        Self { list: key_values(message, number).map(Entry::Same).collect(), is_changed: false }
    }

    pub fn is_changed(&self) -> bool {
        self.is_changed
    }

    pub fn has(&self, key: &str) -> bool {
        self.list.iter().any(|entry| entry.key() == key)
    }

    /// The first value of this key.
    pub fn get(&self, key: &str) -> Option<Value> {
        self.list.iter().find(|entry| entry.key() == key).map(Entry::value)
    }

    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(Entry::key)
    }

    /// Replaces the first of this key, or adds one at the end.
    pub fn set(&mut self, key: &str, value: Value) {
        self.is_changed = true;
        let entry = Entry::New(KeyValue { key: key.to_owned(), value });
        match self.list.iter_mut().find(|entry| entry.key() == key) {
            Some(found) => *found = entry,
            None => self.list.push(entry),
        }
    }

    /// Removes all of this key.
    pub fn remove(&mut self, key: &str) {
        let before = self.list.len();
        self.list.retain(|entry| entry.key() != key);
        self.is_changed |= self.list.len() != before;
    }

    /// `message` with these attributes instead of its own: they stand where the first of them stood, or at the end.
    pub fn write(&self, message: &[u8], number: u32) -> Vec<u8> {
        let mut out = Vec::with_capacity(message.len() + 64);
        let mut is_written = false;
        for field in Fields::new(message) {
            if field.number != number {
                out.extend_from_slice(field.raw);
            } else if !is_written {
                self.put(&mut out, number);
                is_written = true;
            }
        }
        if !is_written {
            self.put(&mut out, number);
        }
        out
    }

    fn put(&self, out: &mut Vec<u8>, number: u32) {
        for entry in &self.list {
            match entry {
                Entry::Same(view) => put_len_field(out, number, view.raw),
                Entry::New(attribute) => put_attribute(out, number, &attribute.key, &attribute.value),
            }
        }
    }
}

/// A header of [`crate::Piece`] with its message rewritten by `change`; `None` when that changed nothing. A header
/// without a message gets one.
pub fn rewrite_header(header: &[u8], number: u32, change: impl FnOnce(&mut Attributes<'_>)) -> Option<Vec<u8>> {
    let message = Fields::new(header).find(|field| field.number == 1).map_or(&[][..], |field| field.value.bytes());
    let mut attributes = Attributes::of(message, number);
    change(&mut attributes);
    if !attributes.is_changed() {
        return None;
    }
    let mut out = Vec::with_capacity(header.len() + 64);
    put_len_field(&mut out, 1, &attributes.write(message, number));
    for field in Fields::new(header).filter(|field| field.number != 1) {
        out.extend_from_slice(field.raw);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::{encode_resource_header, encode_span};
    use crate::view::{resource_attributes, span_attributes, span_name};
    use spanwise_model::{Resource, Span};

    #[test]
    fn only_the_attributes_change() {
        let attributes = vec![KeyValue::new("a", "1"), KeyValue::new("b", "2"), KeyValue::new("a", "3")];
        let span = encode_span(&Span { name: "work".to_owned(), attributes, flags: 7, ..Span::default() });
        let mut attributes = Attributes::of(&span, 9);
        assert_eq!(attributes.get("a"), Some(Value::from("1")));
        attributes.set("b", Value::Int(5));
        attributes.set("c", Value::Bool(true));
        let out = attributes.write(&span, 9);
        let keys: Vec<_> = span_attributes(&out).map(|attribute| (attribute.key, to_value(attribute.value))).collect();
        let expected =
            [("a", Value::from("1")), ("b", Value::Int(5)), ("a", Value::from("3")), ("c", Value::Bool(true))];
        assert_eq!(keys, expected);
        assert_eq!(span_name(&out), "work");
        let rest = |bytes| {
            Fields::new(bytes).filter(|field| field.number != 9).map(|field| field.raw.to_vec()).collect::<Vec<_>>()
        };
        assert_eq!(rest(&out), rest(&span));
        attributes.remove("a");
        assert_eq!(attributes.keys().collect::<Vec<_>>(), ["b", "c"]);
        let mut none = Attributes::of(&span, 9);
        none.remove("zzz");
        assert!(!none.is_changed());
    }

    #[test]
    fn a_header_keeps_what_is_not_its_message() {
        let header = encode_resource_header(&Resource { schema_url: "u".to_owned(), ..Resource::default() });
        let out = rewrite_header(&header, 1, |attributes| attributes.set("k", Value::from("v"))).unwrap();
        assert_eq!(resource_attributes(&out).map(|attribute| attribute.key).collect::<Vec<_>>(), ["k"]);
        assert!(out.ends_with(&[3 << 3 | 2, 1, b'u']));
        assert!(rewrite_header(&[], 1, |attributes| attributes.set("k", Value::from("v"))).is_some());
        assert!(rewrite_header(&header, 1, |_| {}).is_none());
    }
}
