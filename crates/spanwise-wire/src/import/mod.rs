//! Files of traces into OTLP: Jaeger JSON, Zipkin v2 JSON, OTLP/JSON and OTLP protobuf, told apart by content.

mod jaeger;
mod zipkin;

use bytes::Bytes;
use rustc_hash::FxHashMap;
use serde_json::Value as Json;
use spanwise_model::{Limits, Resource, Scope, Span, SpanId, TraceId, limits};

use crate::batch::{Batch, Parsed};
use crate::encode::{encode_resource_header, encode_scope_header, encode_span};
use crate::frame::{Piece, frame};
use crate::inflate::{Encoding, inflate};
use crate::json::otlp_json_to_proto;

/// What a record of a file became.
#[derive(Debug, Default)]
pub struct Imported {
    pub batches: Vec<Batch>,
    pub spans: u64,
    /// Spans, or whole records, that could not be read; and why, each reason once with its count.
    pub rejected: u64,
    pub reasons: Vec<(String, u64)>,
}

/// Spans of one request. Larger records are cut, so that each fits the log.
const BATCH_SPANS: usize = 8_192;

struct OwnSpan {
    resource: std::sync::Arc<Resource>,
    scope: std::sync::Arc<Scope>,
    span: Span,
}

impl Imported {
    fn reject(&mut self, reason: impl Into<String>, count: u64) {
        let reason = reason.into();
        self.rejected += count;
        match self.reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, known)) => *known += count,
            None => self.reasons.push((reason, count)),
        }
    }

    fn take(&mut self, parsed: Parsed) {
        self.spans += parsed.batch.len_spans() as u64;
        if parsed.rejected.spans > 0 {
            self.reject(parsed.rejected.message, parsed.rejected.spans);
        }
        if !parsed.batch.is_empty() {
            self.batches.extend(crate::frame::split_by_count(&parsed.batch, BATCH_SPANS));
        }
    }

    fn take_own(&mut self, spans: &[OwnSpan]) {
        for chunk in spans.chunks(BATCH_SPANS) {
            let encoded: Vec<_> = chunk
                .iter()
                .map(|own| {
                    (encode_resource_header(&own.resource), encode_scope_header(&own.scope), encode_span(&own.span))
                })
                .collect();
            let pieces = encoded.iter().map(|(resource, scope, span)| Piece { resource, scope, span });
            match Batch::parse(Bytes::from(frame(pieces)), &import_limits()) {
                Ok(parsed) => self.take(parsed),
                Err(error) => self.reject(error.to_string(), chunk.len() as u64),
            }
        }
    }
}

fn import_limits() -> Limits {
    Limits::with_message_bytes(limits::IMPORT_RECORD_BYTES)
}

/// Reads a whole file. What can be read is kept, the rest counted.
pub fn import(file: &Bytes) -> Imported {
    let mut imported = Imported::default();
    let inflated = match file.get(..4) {
        Some([0x1f, 0x8b, ..]) => inflate(Encoding::Gzip, file, limits::IMPORT_RECORD_BYTES),
        Some([0x28, 0xb5, 0x2f, 0xfd]) => inflate(Encoding::Zstd, file, limits::IMPORT_RECORD_BYTES),
        _ => Ok(file.clone()),
    };
    match inflated {
        Ok(bytes) => read(&bytes, &mut imported),
        Err(error) => imported.reject(error.to_string(), 1),
    }
    imported
}

fn read(bytes: &Bytes, imported: &mut Imported) {
    let first = bytes.iter().copied().find(|byte| !byte.is_ascii_whitespace());
    match first {
        None => imported.reject("the file is empty", 1),
        Some(b'{' | b'[') => read_json(bytes, imported),
        Some(_) => read_proto(bytes, imported),
    }
}

/// One document, or one on each line.
fn read_json(bytes: &[u8], imported: &mut Imported) {
    if let Ok(document) = serde_json::from_slice::<Json>(bytes) {
        return read_document(&document, bytes, imported);
    }
    for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match serde_json::from_slice::<Json>(line) {
            Ok(document) => read_document(&document, line, imported),
            Err(error) => imported.reject(format!("line {}: not JSON: {error}", number + 1), 1),
        }
    }
}

fn read_document(document: &Json, text: &[u8], imported: &mut Imported) {
    if document.get("resourceSpans").is_some() || document.get("resource_spans").is_some() {
        let parsed = otlp_json_to_proto(text, &import_limits())
            .and_then(|proto| Batch::parse(Bytes::from(proto), &import_limits()));
        return match parsed {
            Ok(parsed) => imported.take(parsed),
            Err(error) => imported.reject(error.to_string(), 1),
        };
    }
    if let Some(traces) = document.get("data").and_then(Json::as_array) {
        return traces.iter().for_each(|trace| read_jaeger(trace, imported));
    }
    if document.get("spans").is_some() && document.get("processes").is_some() {
        return read_jaeger(document, imported);
    }
    match document {
        Json::Array(spans) => {
            let mut own = Vec::new();
            for span in flatten(spans) {
                match zipkin::span(span) {
                    Ok(span) => own.push(span),
                    Err(reason) => imported.reject(reason, 1),
                }
            }
            imported.take_own(&share(own));
        }
        _ => imported.reject("neither OTLP, Jaeger nor Zipkin JSON", 1),
    }
}

/// Zipkin's API answers a list of spans, or a list of traces.
fn flatten(spans: &[Json]) -> impl Iterator<Item = &Json> {
    spans.iter().flat_map(|span| match span {
        Json::Array(trace) => trace.iter().collect::<Vec<_>>(),
        span => vec![span],
    })
}

fn read_jaeger(trace: &Json, imported: &mut Imported) {
    let mut own = Vec::new();
    for span in jaeger::spans(trace) {
        match span {
            Ok(span) => own.push(span),
            Err(reason) => imported.reject(reason, 1),
        }
    }
    imported.take_own(&share(own));
}

/// Equal resources become one, so that their spans stand together.
fn share(mut spans: Vec<OwnSpan>) -> Vec<OwnSpan> {
    let mut known: FxHashMap<Vec<u8>, std::sync::Arc<Resource>> = FxHashMap::default();
    for own in &mut spans {
        let key = encode_resource_header(&own.resource);
        own.resource = known.entry(key).or_insert_with(|| own.resource.clone()).clone();
    }
    spans
}

fn read_proto(bytes: &Bytes, imported: &mut Imported) {
    let whole = Batch::parse(bytes.clone(), &import_limits());
    let failed = match whole {
        Ok(parsed) if !parsed.batch.is_empty() => return imported.take(parsed),
        Ok(_) => "no spans in it".to_owned(),
        Err(error) => error.to_string(),
    };
    // Length-prefixed requests: four bytes, big-endian, as the collector's file exporter writes.
    let mut rest = bytes.clone();
    let mut any = false;
    while let Some((length, _)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        if length == 0 || rest.len() < 4 + length {
            break;
        }
        match Batch::parse(rest.slice(4..4 + length), &import_limits()) {
            Ok(parsed) => imported.take(parsed),
            Err(_) if !any => break,
            Err(error) => imported.reject(error.to_string(), 1),
        }
        any = true;
        rest = rest.slice(4 + length..);
    }
    if !rest.is_empty() {
        imported.reject(if any { "the file ends inside a request".to_owned() } else { failed }, 1);
    }
}

/// Hex of up to `2 * N` digits, short ones filled up with zeros in front.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.is_empty() || text.len() > 2 * N || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let full = format!("{text:0>width$}", width = 2 * N);
    let mut out = [0; N];
    for (byte, digits) in out.iter_mut().zip(full.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(out)
}

fn trace_id(json: &Json) -> Result<TraceId, String> {
    let id = json.as_str().and_then(hex::<16>).map(TraceId).filter(|id| !id.is_zero());
    id.ok_or_else(|| "a span without a valid trace id".to_owned())
}

fn span_id(json: &Json) -> Result<SpanId, String> {
    let id = json.as_str().and_then(hex::<8>).map(SpanId).filter(|id| !id.is_zero());
    id.ok_or_else(|| "a span without a valid span id".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::decode_trace;

    #[test]
    fn jaeger_zipkin_and_otlp_are_told_apart() {
        let jaeger = r#"{"traceID":"1","spans":[{"traceID":"1","spanID":"2","operationName":"op","startTime":5,"duration":7,
            "references":[{"refType":"CHILD_OF","traceID":"1","spanID":"3"}],
            "tags":[{"key":"span.kind","type":"string","value":"server"},{"key":"error","type":"bool","value":true},{"key":"n","type":"int64","value":4}],
            "logs":[{"timestamp":6,"fields":[{"key":"event","type":"string","value":"boom"}]}],"processID":"p1"},{"spanID":"x"}],
            "processes":{"p1":{"serviceName":"shop","tags":[{"key":"host","type":"string","value":"h"}]}}}"#;
        let zipkin = r#"[{"traceId":"1","id":"2","parentId":"3","kind":"CLIENT","name":"get","timestamp":5,"duration":7,
            "localEndpoint":{"serviceName":"shop","ipv4":"1.2.3.4"},"tags":{"error":"x"},"annotations":[{"timestamp":6,"value":"boom"}]}]"#;
        let otlp = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},"scopeSpans":[{"spans":[{
            "traceId":"00000000000000000000000000000001","spanId":"0000000000000002","parentSpanId":"0000000000000003","name":"op","startTimeUnixNano":"5000","endTimeUnixNano":"12000","status":{"code":2}}]}]}]}"#;
        for (text, rejected) in [(jaeger.to_owned(), 1), (zipkin.to_owned(), 0), (otlp.to_owned(), 0)] {
            let imported = import(&Bytes::from(text.clone()));
            assert_eq!((imported.spans, imported.rejected), (1, rejected), "{text} {:?}", imported.reasons);
            let trace = decode_trace(&imported.batches);
            let span = &trace.spans[0];
            assert_eq!(span.resource.service_name(), "shop");
            assert_eq!((span.span.start_unix_nano, span.span.end_unix_nano), (5_000, 12_000));
            assert_eq!(span.span.parent_span_id, Some(SpanId([0, 0, 0, 0, 0, 0, 0, 3])));
            assert_eq!(span.span.status.code, spanwise_model::StatusCode::Error);
        }
        let lines = format!("{}\n\n{}\nnot json\n", otlp.replace('\n', ""), otlp.replace('\n', ""));
        let imported = import(&Bytes::from(lines));
        assert_eq!((imported.spans, imported.rejected), (2, 1));
    }

    #[test]
    fn protobuf_reads_whole_and_length_prefixed_and_compressed() {
        let otlp = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"00000000000000000000000000000001","spanId":"0000000000000002"}]}]}]}"#;
        let proto = otlp_json_to_proto(otlp.as_bytes(), &Limits::default()).unwrap();
        assert_eq!(import(&Bytes::from(proto.clone())).spans, 1);
        let mut framed = Vec::new();
        for _ in 0..3 {
            framed.extend_from_slice(&(proto.len() as u32).to_be_bytes());
            framed.extend_from_slice(&proto);
        }
        assert_eq!(import(&Bytes::from(framed.clone())).spans, 3);
        let gzipped = crate::inflate::deflate(Encoding::Gzip, None, &Bytes::from(framed)).unwrap();
        assert_eq!(import(&gzipped).spans, 3);
        let nonsense = import(&Bytes::from_static(b"hello world, this is no trace"));
        assert_eq!((nonsense.spans, nonsense.rejected), (0, 1));
    }
}
