//! Reading validated bytes without copying. On bytes that were not validated the iterators end early.

use crate::scan::{length, skip, tag, varint};

/// One field of a message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Field<'a> {
    pub number: u32,
    pub value: FieldValue<'a>,
    /// The whole field, its tag included.
    pub raw: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FieldValue<'a> {
    Varint(u64),
    Fixed64(u64),
    Len(&'a [u8]),
    Fixed32(u32),
    /// Content of an unknown group, its end tag included.
    Group(&'a [u8]),
}

/// The fields of a message, in order.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    #[inline]
    fn next(&mut self) -> Option<Field<'a>> {
        let (start, end) = (self.at, self.bytes.len());
        let rest = self.bytes.get(start..)?;
        // Most fields: a number below 16, at least 1, and fewer than 128 bytes.
        if let [tag @ 0x08..=0x7f, len @ ..=0x7f, value @ ..] = rest
            && tag & 7 == 2
            && let Some(value) = value.get(..usize::from(*len))
        {
            let raw = rest.get(..2 + value.len())?;
            self.at = start + raw.len();
            return Some(Field { number: u32::from(tag >> 3), value: FieldValue::Len(value), raw });
        }
        if rest.is_empty() {
            return None;
        }
        let mut at = start;
        let (number, wire) = tag(self.bytes, &mut at, end).ok()?;
        let value = match wire {
            0 => FieldValue::Varint(varint(self.bytes, &mut at, end).ok()?),
            1 => {
                let bytes = self.bytes.get(at..at + 8)?;
                at += 8;
                FieldValue::Fixed64(u64::from_le_bytes(bytes.try_into().ok()?))
            }
            2 => {
                let (from, to) = length(self.bytes, &mut at, end).ok()?;
                FieldValue::Len(self.bytes.get(from..to)?)
            }
            5 => {
                let bytes = self.bytes.get(at..at + 4)?;
                at += 4;
                FieldValue::Fixed32(u32::from_le_bytes(bytes.try_into().ok()?))
            }
            _ => {
                let from = at;
                skip(self.bytes, number, wire, &mut at, end).ok()?;
                FieldValue::Group(self.bytes.get(from..at)?)
            }
        };
        self.at = at;
        Some(Field { number, value, raw: self.bytes.get(start..at)? })
    }
}

impl<'a> FieldValue<'a> {
    /// Bytes of a length-delimited field; empty for every other.
    pub fn bytes(&self) -> &'a [u8] {
        match self {
            FieldValue::Len(bytes) => bytes,
            _ => &[],
        }
    }

    /// Text of a length-delimited field; empty when it is none.
    pub fn text(&self) -> &'a str {
        text(self.bytes())
    }

    pub fn uint(&self) -> u64 {
        match self {
            FieldValue::Varint(value) | FieldValue::Fixed64(value) => *value,
            FieldValue::Fixed32(value) => u64::from(*value),
            _ => 0,
        }
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// An `AnyValue`, its nested messages still bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ValueView<'a> {
    Empty,
    Str(&'a str),
    Bool(bool),
    Int(i64),
    Double(f64),
    Bytes(&'a [u8]),
    /// Body of an `ArrayValue`: see [`array_values`].
    Array(&'a [u8]),
    /// Body of a `KeyValueList`: see [`key_values`] with field 1.
    Map(&'a [u8]),
}

/// Reads the body of an `AnyValue`. Of several members the last counts, as protobuf says.
pub fn value(any_value: &[u8]) -> ValueView<'_> {
    value_after(ValueView::Empty, any_value)
}

/// A repeated `AnyValue` field merges: one without a member changes nothing. Two lists or maps do not join here, as
/// protobuf has it: the last one counts.
fn value_after<'a>(before: ValueView<'a>, any_value: &'a [u8]) -> ValueView<'a> {
    let mut value = before;
    for field in Fields::new(any_value) {
        value = match (field.number, field.value) {
            (1, FieldValue::Len(bytes)) => ValueView::Str(text(bytes)),
            (2, FieldValue::Varint(number)) => ValueView::Bool(number != 0),
            (3, FieldValue::Varint(number)) => ValueView::Int(number as i64),
            (4, FieldValue::Fixed64(bits)) => ValueView::Double(f64::from_bits(bits)),
            (5, FieldValue::Len(bytes)) => ValueView::Array(bytes),
            (6, FieldValue::Len(bytes)) => ValueView::Map(bytes),
            (7, FieldValue::Len(bytes)) => ValueView::Bytes(bytes),
            _ => value,
        };
    }
    value
}

/// One attribute; `raw` is the body of its `KeyValue` message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KeyValueView<'a> {
    pub key: &'a str,
    pub value: ValueView<'a>,
    pub raw: &'a [u8],
}

/// Reads the body of a `KeyValue`.
pub fn key_value(raw: &[u8]) -> KeyValueView<'_> {
    let mut view = KeyValueView { key: "", value: ValueView::Empty, raw };
    for field in Fields::new(raw) {
        match (field.number, field.value) {
            (1, FieldValue::Len(bytes)) => view.key = text(bytes),
            (2, FieldValue::Len(bytes)) => view.value = value_after(view.value, bytes),
            _ => {}
        }
    }
    view
}

/// The `KeyValue`s at field `number` of a message, in order.
pub fn key_values(message: &[u8], number: u32) -> impl Iterator<Item = KeyValueView<'_>> {
    Fields::new(message).filter_map(move |field| match field.value {
        FieldValue::Len(bytes) if field.number == number => Some(key_value(bytes)),
        _ => None,
    })
}

/// The elements of an `ArrayValue`'s body.
pub fn array_values(array: &[u8]) -> impl Iterator<Item = ValueView<'_>> {
    Fields::new(array).filter_map(|field| match field.value {
        FieldValue::Len(bytes) if field.number == 1 => Some(value(bytes)),
        _ => None,
    })
}

pub fn span_attributes(span: &[u8]) -> impl Iterator<Item = KeyValueView<'_>> {
    key_values(span, 9)
}

/// Attributes of the resource in a [`crate::Batch::resource_header`].
pub fn resource_attributes(header: &[u8]) -> impl Iterator<Item = KeyValueView<'_>> {
    header_message(header).flat_map(|resource| key_values(resource, 1))
}

/// Attributes of the scope in a [`crate::Batch::scope_header`].
pub fn scope_attributes(header: &[u8]) -> impl Iterator<Item = KeyValueView<'_>> {
    header_message(header).flat_map(|scope| key_values(scope, 3))
}

/// A header's field 1: normally once, but a repeated one merges.
fn header_message(header: &[u8]) -> impl Iterator<Item = &[u8]> {
    Fields::new(header).filter(|field| field.number == 1).map(|field| field.value.bytes())
}

/// `service.name` of the resource; the first when the key repeats.
pub fn service_name(resource_header: &[u8]) -> Option<&str> {
    resource_attributes(resource_header).find(|attribute| attribute.key == "service.name").and_then(|attribute| {
        match attribute.value {
            ValueView::Str(name) => Some(name),
            _ => None,
        }
    })
}

/// Name and version of the instrumentation scope.
pub fn scope_name(scope_header: &[u8]) -> (&str, &str) {
    let mut found = ("", "");
    for field in header_message(scope_header).flat_map(Fields::new) {
        match field.number {
            1 => found.0 = field.value.text(),
            2 => found.1 = field.value.text(),
            _ => {}
        }
    }
    found
}

pub fn span_name(span: &[u8]) -> &str {
    Fields::new(span).filter(|field| field.number == 5).last().map_or("", |field| field.value.text())
}
