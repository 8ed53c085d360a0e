//! From OTLP/JSON to OTLP bytes, in one pass and without a document in between.
//!
//! Ids are hex, 64-bit numbers strings or numbers, enums numbers or names, `null` is absence, unknown members are
//! passed over. An id of a wrong length is passed on, so that its span alone is rejected.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use spanwise_model::{Limits, limits};

use crate::encode::{put_len_field, put_message, put_tag, put_varint};
use crate::scan::Malformed;

#[derive(Clone, Copy)]
enum Shape {
    Text,
    Uint32,
    Fixed32,
    Fixed64,
    Hex,
    Enum(&'static [(&'static str, u64)]),
    Message(&'static Fieldset),
    List(&'static Fieldset),
    Texts,
    Bool,
    Int64,
    Double,
    Base64,
}

type Fieldset = &'static [(&'static str, u32, Shape)];

static REQUEST: Fieldset = &[("resourceSpans", 1, Shape::List(&RESOURCE_SPANS))];
static RESOURCE_SPANS: Fieldset = &[
    ("resource", 1, Shape::Message(&RESOURCE)),
    ("scopeSpans", 2, Shape::List(&SCOPE_SPANS)),
    ("schemaUrl", 3, Shape::Text),
];
static RESOURCE: Fieldset = &[
    ("attributes", 1, Shape::List(&KEY_VALUE)),
    ("droppedAttributesCount", 2, Shape::Uint32),
    ("entityRefs", 3, Shape::List(&ENTITY_REF)),
];
static ENTITY_REF: Fieldset = &[
    ("schemaUrl", 1, Shape::Text),
    ("type", 2, Shape::Text),
    ("idKeys", 3, Shape::Texts),
    ("descriptionKeys", 4, Shape::Texts),
];
static SCOPE_SPANS: Fieldset =
    &[("scope", 1, Shape::Message(&SCOPE)), ("spans", 2, Shape::List(&SPAN)), ("schemaUrl", 3, Shape::Text)];
static SCOPE: Fieldset = &[
    ("name", 1, Shape::Text),
    ("version", 2, Shape::Text),
    ("attributes", 3, Shape::List(&KEY_VALUE)),
    ("droppedAttributesCount", 4, Shape::Uint32),
];
static SPAN: Fieldset = &[
    ("traceId", 1, Shape::Hex),
    ("spanId", 2, Shape::Hex),
    ("traceState", 3, Shape::Text),
    ("parentSpanId", 4, Shape::Hex),
    ("name", 5, Shape::Text),
    ("kind", 6, Shape::Enum(KINDS)),
    ("startTimeUnixNano", 7, Shape::Fixed64),
    ("endTimeUnixNano", 8, Shape::Fixed64),
    ("attributes", 9, Shape::List(&KEY_VALUE)),
    ("droppedAttributesCount", 10, Shape::Uint32),
    ("events", 11, Shape::List(&EVENT)),
    ("droppedEventsCount", 12, Shape::Uint32),
    ("links", 13, Shape::List(&LINK)),
    ("droppedLinksCount", 14, Shape::Uint32),
    ("status", 15, Shape::Message(&STATUS)),
    ("flags", 16, Shape::Fixed32),
];
const KINDS: &[(&str, u64)] = &[
    ("SPAN_KIND_UNSPECIFIED", 0),
    ("SPAN_KIND_INTERNAL", 1),
    ("SPAN_KIND_SERVER", 2),
    ("SPAN_KIND_CLIENT", 3),
    ("SPAN_KIND_PRODUCER", 4),
    ("SPAN_KIND_CONSUMER", 5),
];
static EVENT: Fieldset = &[
    ("timeUnixNano", 1, Shape::Fixed64),
    ("name", 2, Shape::Text),
    ("attributes", 3, Shape::List(&KEY_VALUE)),
    ("droppedAttributesCount", 4, Shape::Uint32),
];
static LINK: Fieldset = &[
    ("traceId", 1, Shape::Hex),
    ("spanId", 2, Shape::Hex),
    ("traceState", 3, Shape::Text),
    ("attributes", 4, Shape::List(&KEY_VALUE)),
    ("droppedAttributesCount", 5, Shape::Uint32),
    ("flags", 6, Shape::Fixed32),
];
static STATUS: Fieldset = &[("message", 2, Shape::Text), ("code", 3, Shape::Enum(CODES))];
const CODES: &[(&str, u64)] = &[("STATUS_CODE_UNSET", 0), ("STATUS_CODE_OK", 1), ("STATUS_CODE_ERROR", 2)];
static KEY_VALUE: Fieldset = &[("key", 1, Shape::Text), ("value", 2, Shape::Message(&ANY_VALUE))];
static ANY_VALUE: Fieldset = &[
    ("stringValue", 1, Shape::Text),
    ("boolValue", 2, Shape::Bool),
    ("intValue", 3, Shape::Int64),
    ("doubleValue", 4, Shape::Double),
    ("arrayValue", 5, Shape::Message(&ARRAY)),
    ("kvlistValue", 6, Shape::Message(&MAP)),
    ("bytesValue", 7, Shape::Base64),
];
static ARRAY: Fieldset = &[("values", 1, Shape::List(&ANY_VALUE))];
static MAP: Fieldset = &[("values", 1, Shape::List(&KEY_VALUE))];

/// Turns an `ExportTraceServiceRequest` in JSON into protobuf bytes; these still go through [`crate::Batch::parse`].
///
/// # Errors
/// When the text is no JSON, or a known member has a value of a wrong type.
pub fn otlp_json_to_proto(json: &[u8], limits: &Limits) -> Result<Vec<u8>, Malformed> {
    if json.len() > limits.message_bytes {
        return Err(Malformed::TooLarge { bytes: json.len(), limit: limits.message_bytes });
    }
    let mut reader = Reader { json, at: 0, depth: 0 };
    let mut out = Vec::with_capacity(json.len() / 2);
    reader.space();
    reader.message(REQUEST, &mut out)?;
    reader.space();
    if reader.at < json.len() {
        return Err(reader.fail("text behind the document"));
    }
    Ok(out)
}

struct Reader<'a> {
    json: &'a [u8],
    at: usize,
    depth: usize,
}

type Result_<T> = Result<T, Malformed>;

impl<'a> Reader<'a> {
    fn fail(&self, reason: &'static str) -> Malformed {
        Malformed::Json { reason, at: self.at }
    }

    fn peek(&self) -> Option<u8> {
        self.json.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8, reason: &'static str) -> Result_<()> {
        self.space();
        if self.peek() != Some(byte) {
            return Err(self.fail(reason));
        }
        self.at += 1;
        Ok(())
    }

    fn deeper(&mut self) -> Result_<()> {
        self.depth += 1;
        if self.depth > limits::JSON_DEPTH { Err(self.fail("nesting too deep")) } else { Ok(()) }
    }

    fn literal(&mut self, word: &[u8]) -> bool {
        let found = self.json.get(self.at..).is_some_and(|rest| rest.starts_with(word));
        if found {
            self.at += word.len();
        }
        found
    }

    /// `null` is absence wherever a value may stand.
    fn null(&mut self) -> bool {
        self.space();
        self.literal(b"null")
    }

    /// Calls `member` with each key; it must consume the value.
    fn object(&mut self, mut member: impl FnMut(&mut Self, &str) -> Result_<()>) -> Result_<()> {
        self.deeper()?;
        self.expect(b'{', "expected an object")?;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            self.depth -= 1;
            return Ok(());
        }
        loop {
            self.space();
            let key = self.string()?;
            self.expect(b':', "expected ':'")?;
            self.space();
            member(self, &key)?;
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return Err(self.fail("expected ',' or '}'")),
            }
        }
        self.at += 1;
        self.depth -= 1;
        Ok(())
    }

    fn array(&mut self, mut element: impl FnMut(&mut Self) -> Result_<()>) -> Result_<()> {
        self.deeper()?;
        self.expect(b'[', "expected an array")?;
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            self.depth -= 1;
            return Ok(());
        }
        loop {
            self.space();
            element(self)?;
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return Err(self.fail("expected ',' or ']'")),
            }
        }
        self.at += 1;
        self.depth -= 1;
        Ok(())
    }

    fn message(&mut self, fields: Fieldset, out: &mut Vec<u8>) -> Result_<()> {
        self.object(|reader, key| match fields.iter().find(|(name, ..)| *name == key) {
            Some((_, number, shape)) => reader.field(*number, *shape, out),
            None => reader.skip(),
        })
    }

    fn field(&mut self, number: u32, shape: Shape, out: &mut Vec<u8>) -> Result_<()> {
        if self.null() {
            return Ok(());
        }
        match shape {
            Shape::Message(fields) => {
                let mut outcome = Ok(());
                put_message(out, number, |out| outcome = self.message(fields, out));
                return outcome;
            }
            Shape::List(fields) => {
                return self.array(|reader| {
                    if reader.null() {
                        return Ok(());
                    }
                    let mut outcome = Ok(());
                    put_message(out, number, |out| outcome = reader.message(fields, out));
                    outcome
                });
            }
            Shape::Texts => {
                return self.array(|reader| {
                    put_len_field(out, number, &reader.text()?);
                    Ok(())
                });
            }
            Shape::Text => put_len_field(out, number, &self.text()?),
            Shape::Hex => put_len_field(out, number, &self.hex()?),
            Shape::Base64 => put_len_field(out, number, &self.base64()?),
            Shape::Bool => {
                let value = match (self.literal(b"true"), self.literal(b"false")) {
                    (true, _) => 1,
                    (_, true) => 0,
                    _ => return Err(self.fail("expected true or false")),
                };
                put_tag(out, number, 0);
                put_varint(out, value);
            }
            Shape::Uint32 => {
                let value = self.integer()?;
                let value = u32::try_from(value).map_err(|_| self.fail("number does not fit 32 bits"))?;
                put_tag(out, number, 0);
                put_varint(out, u64::from(value));
            }
            Shape::Fixed32 => {
                let value = self.integer()?;
                let value = u32::try_from(value).map_err(|_| self.fail("number does not fit 32 bits"))?;
                put_tag(out, number, 5);
                out.extend_from_slice(&value.to_le_bytes());
            }
            Shape::Fixed64 => {
                let value = self.integer()?;
                let value = u64::try_from(value).map_err(|_| self.fail("number does not fit 64 bits"))?;
                put_tag(out, number, 1);
                out.extend_from_slice(&value.to_le_bytes());
            }
            Shape::Int64 => {
                let value = self.integer()?;
                let value = i64::try_from(value).map_err(|_| self.fail("number does not fit 64 bits"))?;
                put_tag(out, number, 0);
                put_varint(out, value as u64);
            }
            Shape::Double => {
                let value = self.double()?;
                put_tag(out, number, 1);
                out.extend_from_slice(&value.to_le_bytes());
            }
            Shape::Enum(names) => {
                let value = if self.peek() == Some(b'"') {
                    let name = self.string()?;
                    let known = names.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
                    known.or_else(|| name.parse().ok()).ok_or_else(|| self.fail("unknown enum name"))?
                } else {
                    let value = self.integer()?;
                    u64::try_from(value).map_err(|_| self.fail("negative enum number"))?
                };
                put_tag(out, number, 0);
                put_varint(out, value);
            }
        }
        Ok(())
    }

    /// A number's text, whether it stands in quotes or not.
    fn number_text(&mut self) -> Result_<String> {
        if self.peek() == Some(b'"') {
            return self.string();
        }
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')) {
            self.at += 1;
        }
        let text = self.json.get(start..self.at).unwrap_or_default();
        if text.is_empty() {
            return Err(self.fail("expected a number"));
        }
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    fn integer(&mut self) -> Result_<i128> {
        let text = self.number_text()?;
        if let Ok(value) = text.parse::<i128>() {
            return Ok(value);
        }
        // Exponents and trailing zeros are legal as long as the value is whole.
        match text.parse::<f64>() {
            Ok(value) if value.fract() == 0.0 && value.abs() < 1.9e19 => Ok(value as i128),
            _ => Err(self.fail("expected an integer")),
        }
    }

    fn double(&mut self) -> Result_<f64> {
        match self.number_text()?.as_str() {
            "NaN" => Ok(f64::NAN),
            "Infinity" => Ok(f64::INFINITY),
            "-Infinity" => Ok(f64::NEG_INFINITY),
            text => text.parse().map_err(|_| self.fail("expected a number")),
        }
    }

    fn hex(&mut self) -> Result_<Vec<u8>> {
        let text = self.string()?;
        let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
        let pairs = text.as_bytes().chunks(2);
        let bytes: Option<Vec<u8>> = pairs
            .map(|pair| match pair {
                [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
                _ => None,
            })
            .collect();
        bytes.ok_or_else(|| self.fail("expected hexadecimal digits"))
    }

    fn base64(&mut self) -> Result_<Vec<u8>> {
        let text = self.string()?;
        [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD]
            .iter()
            .find_map(|engine| engine.decode(&text).ok())
            .ok_or_else(|| self.fail("expected base64"))
    }

    /// A string that is no text of OTLP's: a key, a number, an id.
    fn string(&mut self) -> Result_<String> {
        let text = self.text()?;
        Ok(String::from_utf8(text).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    /// A string's bytes. Invalid UTF-8 is passed on, so that [`crate::Batch::parse`] repairs and counts it.
    fn text(&mut self) -> Result_<Vec<u8>> {
        self.expect(b'"', "expected a string")?;
        let mut out: Vec<u8> = Vec::new();
        loop {
            let start = self.at;
            while self.peek().is_some_and(|byte| byte != b'"' && byte != b'\\' && byte >= 0x20) {
                self.at += 1;
            }
            out.extend_from_slice(self.json.get(start..self.at).unwrap_or_default());
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    self.at += 1;
                    self.escape(&mut out)?;
                }
                Some(_) => return Err(self.fail("control character in a string")),
                None => return Err(self.fail("the text ends inside a string")),
            }
        }
        self.at += 1;
        Ok(out)
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Result_<()> {
        let byte = self.peek().ok_or_else(|| self.fail("the text ends inside a string"))?;
        self.at += 1;
        let plain = match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let character = self.unicode_escape()?;
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err(self.fail("unknown escape")),
        };
        out.push(plain);
        Ok(())
    }

    /// Behind `\u`: one code unit or a pair. A lone surrogate becomes U+FFFD.
    fn unicode_escape(&mut self) -> Result_<char> {
        let high = self.code_unit()?;
        if !(0xd800..0xdc00).contains(&high) {
            return Ok(char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        let rest = self.at;
        if self.literal(b"\\u") {
            let low = self.code_unit()?;
            if (0xdc00..0xe000).contains(&low) {
                let scalar = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                return Ok(char::from_u32(scalar).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = rest;
        }
        Ok(char::REPLACEMENT_CHARACTER)
    }

    fn code_unit(&mut self) -> Result_<u32> {
        let digits = self.json.get(self.at..self.at + 4).ok_or_else(|| self.fail("truncated escape"))?;
        let mut unit = 0;
        for digit in digits {
            let value = char::from(*digit).to_digit(16).ok_or_else(|| self.fail("expected a hexadecimal digit"))?;
            unit = unit << 4 | value;
        }
        self.at += 4;
        Ok(unit)
    }

    /// Passes over any value.
    fn skip(&mut self) -> Result_<()> {
        self.space();
        match self.peek() {
            Some(b'{') => self.object(|reader, _| reader.skip()),
            Some(b'[') => self.array(Self::skip),
            Some(b'"') => self.string().map(drop),
            Some(b't') if self.literal(b"true") => Ok(()),
            Some(b'f') if self.literal(b"false") => Ok(()),
            Some(b'n') if self.literal(b"null") => Ok(()),
            Some(b'-' | b'0'..=b'9') => {
                let text = self.number_text()?;
                text.parse::<f64>().map(drop).map_err(|_| self.fail("expected a number"))
            }
            _ => Err(self.fail("expected a value")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Batch;
    use crate::decode::{decode_span, decode_trace};
    use crate::json::batch_to_otlp_json;
    use spanwise_model::Value;

    const SAMPLE: &str = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},
        "scopeSpans":[{"scope":{"name":"lib","version":"1"},"spans":[{"traceId":"5B8EFFF798038103D269B633813FC60C",
        "spanId":"eee19b7ec3c1b174","parentSpanId":"","name":"caf\u00e9 \ud83d\ude00","kind":"SPAN_KIND_SERVER",
        "startTimeUnixNano":"1544712660000000000","endTimeUnixNano":1544712661000000000,"newField":{"a":[1,null]},
        "attributes":[{"key":"n","value":{"intValue":"9007199254740993"}},{"key":"d","value":{"doubleValue":"NaN"}},
        {"key":"a","value":{"arrayValue":{"values":[{"boolValue":true},{"bytesValue":"AP8="}]}}}],
        "events":[{"timeUnixNano":"5","name":"e"}],"status":{"code":2,"message":"m"},"flags":257}]}]}]}"#;

    fn parse(json: &str) -> Result<Batch, Malformed> {
        let limits = Limits::default();
        Batch::parse(otlp_json_to_proto(json.as_bytes(), &limits)?.into(), &limits).map(|parsed| parsed.batch)
    }

    #[test]
    fn the_forms_that_the_specification_allows_are_read() {
        let batch = parse(SAMPLE).unwrap();
        let trace = decode_trace(&[batch]);
        let span = &trace.spans[0].span;
        assert_eq!(span.trace_id.to_string(), "5b8efff798038103d269b633813fc60c");
        assert_eq!((span.name.as_str(), span.kind as u8, span.flags), ("café 😀", 2, 257));
        assert_eq!(span.end_unix_nano, 1_544_712_661_000_000_000);
        assert_eq!(span.attributes[0].value, Value::Int(9_007_199_254_740_993));
        assert_eq!(span.attributes[2].value, Value::Array(vec![Value::Bool(true), Value::Bytes(vec![0, 255])]));
        assert_eq!(trace.spans[0].resource.service_name(), "shop");
    }

    #[test]
    fn what_is_written_is_read_again() {
        let first = batch_to_otlp_json(&parse(SAMPLE).unwrap());
        assert!(first.contains(r#""traceId":"5b8efff798038103d269b633813fc60c""#), "{first}");
        assert!(first.contains(r#""intValue":"9007199254740993""#) && first.contains(r#""kind":2"#), "{first}");
        let again = parse(&first).unwrap();
        assert_eq!(batch_to_otlp_json(&again), first);
        assert_eq!(decode_span(again.span_bytes(0)).events[0].name, "e");
    }

    #[test]
    fn what_is_no_otlp_json_is_refused_with_its_place() {
        for json in [
            "",
            "[]",
            "{",
            "{\"a\":1",
            "{\"a\":tru}",
            "{} x",
            "\u{feff}{}",
            "// c\n{}",
            "{'a':1}",
            "{\"resourceSpans\":{}}",
            "{\"resourceSpans\":[1]}",
            "{\"a\":\"\\x\"}",
            "{\"a\":\"\\u12\"}",
            "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{\"traceId\":\"xyz\"}]}]}]}",
            "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{\"startTimeUnixNano\":\"-1\"}]}]}]}",
        ] {
            let refused = parse(json).map(|batch| batch.len_spans());
            assert!(matches!(refused, Err(Malformed::Json { .. })), "{json}: {refused:?}");
        }
    }

    #[test]
    fn json_depth_at_the_limit_and_one_past_it() {
        let nested = |depth: usize| format!("{{\"x\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(&nested(limits::JSON_DEPTH - 1)).is_ok());
        assert!(parse(&nested(limits::JSON_DEPTH)).is_err());
    }

    #[test]
    fn a_lone_surrogate_becomes_the_replacement_character() {
        let json = r#"{"resourceSpans":[{"schemaUrl":"\ud800x"}]}"#;
        let bytes = otlp_json_to_proto(json.as_bytes(), &Limits::default()).unwrap();
        assert!(String::from_utf8_lossy(&bytes).contains("\u{fffd}x"));
    }

    #[test]
    fn an_id_of_a_wrong_length_rejects_its_span_alone() {
        let json = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"aabb","spanId":"eee19b7ec3c1b174"},
            {"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174"}]}]}]}"#;
        let limits = Limits::default();
        let proto = otlp_json_to_proto(json.as_bytes(), &limits).unwrap();
        let parsed = Batch::parse(proto.into(), &limits).unwrap();
        assert_eq!((parsed.batch.len_spans(), parsed.rejected.spans), (1, 1));
    }
}
