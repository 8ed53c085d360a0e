//! From validated OTLP bytes to OTLP/JSON as the Go collector writes it: camelCase, ids in hex, enums as numbers,
//! 64-bit integers as strings, zero fields left out.

use std::fmt::Write as _;

use base64::Engine as _;

use crate::batch::Batch;
use crate::view::{Field, FieldValue, Fields};

/// How a field shows in JSON.
#[derive(Clone, Copy)]
enum Shape {
    Text,
    /// 32 bits and enums: a JSON number.
    Number,
    /// 64 bits: a JSON string.
    Wide,
    Hex,
    Message(&'static Fieldset),
    List(&'static Fieldset),
    Texts,
    Value,
    Values,
}

type Fieldset = &'static [(u32, &'static str, Shape)];

static REQUEST: Fieldset = &[(1, "resourceSpans", Shape::List(&RESOURCE_SPANS))];
static RESOURCE_SPANS: Fieldset = &[
    (1, "resource", Shape::Message(&RESOURCE)),
    (2, "scopeSpans", Shape::List(&SCOPE_SPANS)),
    (3, "schemaUrl", Shape::Text),
];
static RESOURCE: Fieldset = &[
    (1, "attributes", Shape::List(&KEY_VALUE)),
    (2, "droppedAttributesCount", Shape::Number),
    (3, "entityRefs", Shape::List(&ENTITY_REF)),
];
static ENTITY_REF: Fieldset = &[
    (1, "schemaUrl", Shape::Text),
    (2, "type", Shape::Text),
    (3, "idKeys", Shape::Texts),
    (4, "descriptionKeys", Shape::Texts),
];
static SCOPE_SPANS: Fieldset =
    &[(1, "scope", Shape::Message(&SCOPE)), (2, "spans", Shape::List(&SPAN)), (3, "schemaUrl", Shape::Text)];
static SCOPE: Fieldset = &[
    (1, "name", Shape::Text),
    (2, "version", Shape::Text),
    (3, "attributes", Shape::List(&KEY_VALUE)),
    (4, "droppedAttributesCount", Shape::Number),
];
static SPAN: Fieldset = &[
    (1, "traceId", Shape::Hex),
    (2, "spanId", Shape::Hex),
    (3, "traceState", Shape::Text),
    (4, "parentSpanId", Shape::Hex),
    (16, "flags", Shape::Number),
    (5, "name", Shape::Text),
    (6, "kind", Shape::Number),
    (7, "startTimeUnixNano", Shape::Wide),
    (8, "endTimeUnixNano", Shape::Wide),
    (9, "attributes", Shape::List(&KEY_VALUE)),
    (10, "droppedAttributesCount", Shape::Number),
    (11, "events", Shape::List(&EVENT)),
    (12, "droppedEventsCount", Shape::Number),
    (13, "links", Shape::List(&LINK)),
    (14, "droppedLinksCount", Shape::Number),
    (15, "status", Shape::Message(&STATUS)),
];
static EVENT: Fieldset = &[
    (1, "timeUnixNano", Shape::Wide),
    (2, "name", Shape::Text),
    (3, "attributes", Shape::List(&KEY_VALUE)),
    (4, "droppedAttributesCount", Shape::Number),
];
static LINK: Fieldset = &[
    (1, "traceId", Shape::Hex),
    (2, "spanId", Shape::Hex),
    (3, "traceState", Shape::Text),
    (4, "attributes", Shape::List(&KEY_VALUE)),
    (5, "droppedAttributesCount", Shape::Number),
    (6, "flags", Shape::Number),
];
static STATUS: Fieldset = &[(2, "message", Shape::Text), (3, "code", Shape::Number)];
static KEY_VALUE: Fieldset = &[(1, "key", Shape::Text), (2, "value", Shape::Value)];
static MAP: Fieldset = &[(1, "values", Shape::List(&KEY_VALUE))];
static ARRAY: Fieldset = &[(1, "values", Shape::Values)];

/// One line, without a line break at its end.
pub fn batch_to_otlp_json(batch: &Batch) -> String {
    let mut out = String::with_capacity(batch.bytes().len() * 3);
    message(&mut out, REQUEST, batch.bytes());
    out
}

/// Validation has bounded the depth of values, so recursion is bounded.
fn message(out: &mut String, fields: Fieldset, body: &[u8]) {
    out.push('{');
    let mut first = true;
    for (number, name, shape) in fields {
        let mut values = Fields::new(body).filter(|field| field.number == *number).peekable();
        if values.peek().is_none() {
            continue;
        }
        let start = out.len();
        if !first {
            out.push(',');
        }
        string(out, name);
        out.push(':');
        match shape {
            Shape::List(fields) => list(out, values, |out, field| message(out, fields, field.value.bytes())),
            Shape::Texts => list(out, values, |out, field| string(out, field.value.text())),
            Shape::Values => list(out, values, |out, field| value(out, field.value.bytes())),
            _ => {
                // Of a repeated singular field the last counts.
                let written = values.last().is_some_and(|field| scalar(out, *shape, &field));
                if !written {
                    out.truncate(start);
                    continue;
                }
            }
        }
        first = false;
    }
    out.push('}');
}

fn list<'a>(out: &mut String, values: impl Iterator<Item = Field<'a>>, mut write: impl FnMut(&mut String, Field<'a>)) {
    out.push('[');
    for (place, field) in values.enumerate() {
        if place > 0 {
            out.push(',');
        }
        write(out, field);
    }
    out.push(']');
}

/// `false`, and nothing written, when the value is the default.
fn scalar(out: &mut String, shape: Shape, field: &Field<'_>) -> bool {
    match shape {
        Shape::Text => {
            string(out, field.value.text());
            !field.value.bytes().is_empty()
        }
        Shape::Number => {
            let _ = write!(out, "{}", field.value.uint() as u32);
            field.value.uint() != 0
        }
        Shape::Wide => {
            let _ = write!(out, "\"{}\"", field.value.uint());
            field.value.uint() != 0
        }
        Shape::Hex => {
            out.push('"');
            for byte in field.value.bytes() {
                let _ = write!(out, "{byte:02x}");
            }
            out.push('"');
            !field.value.bytes().is_empty()
        }
        Shape::Message(fields) => {
            message(out, fields, field.value.bytes());
            true
        }
        Shape::Value => {
            value(out, field.value.bytes());
            true
        }
        Shape::List(&_) | Shape::Texts | Shape::Values => false,
    }
}

fn value(out: &mut String, body: &[u8]) {
    out.push('{');
    if let Some(field) = Fields::new(body).last() {
        let _ = match (field.number, field.value) {
            (1, value) => {
                out.push_str("\"stringValue\":");
                string(out, value.text());
                Ok(())
            }
            (2, value) => write!(out, "\"boolValue\":{}", value.uint() != 0),
            (3, value) => write!(out, "\"intValue\":\"{}\"", value.uint() as i64),
            (4, FieldValue::Fixed64(bits)) => {
                out.push_str("\"doubleValue\":");
                double(out, f64::from_bits(bits));
                Ok(())
            }
            (5, value) => {
                out.push_str("\"arrayValue\":");
                message(out, ARRAY, value.bytes());
                Ok(())
            }
            (6, value) => {
                out.push_str("\"kvlistValue\":");
                message(out, MAP, value.bytes());
                Ok(())
            }
            (7, value) => {
                let text = base64::engine::general_purpose::STANDARD.encode(value.bytes());
                write!(out, "\"bytesValue\":\"{text}\"")
            }
            _ => Ok(()),
        };
    }
    out.push('}');
}

fn double(out: &mut String, value: f64) {
    let _ = match value {
        value if value.is_nan() => write!(out, "\"NaN\""),
        f64::INFINITY => write!(out, "\"Infinity\""),
        f64::NEG_INFINITY => write!(out, "\"-Infinity\""),
        value => write!(out, "{value}"),
    };
}

fn string(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        let _ = match character {
            '"' => write!(out, "\\\""),
            '\\' => write!(out, "\\\\"),
            '\n' => write!(out, "\\n"),
            '\r' => write!(out, "\\r"),
            '\t' => write!(out, "\\t"),
            control if (control as u32) < 0x20 => write!(out, "\\u{:04x}", control as u32),
            other => {
                out.push(other);
                Ok(())
            }
        };
    }
    out.push('"');
}
