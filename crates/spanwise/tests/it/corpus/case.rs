//! One file of the corpus: what is sent, and the answer it must get.

use std::path::Path;

use bytes::Bytes;
use spanwise_wire::inflate::{Encoding, deflate};

use super::notation::{Ids, json, proto};

/// What a body is, and so how it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A message: sent as the body of HTTP and, framed, over gRPC.
    Proto,
    /// A text: HTTP only.
    Json,
    /// All bytes of an HTTP/1.1 connection, which stays open behind them.
    HttpConnection,
    /// All bytes of an HTTP/1.1 connection, which ends behind them.
    HttpConnectionCut,
    /// All bytes of a gRPC request's stream.
    GrpcStream,
}

#[derive(Debug)]
pub struct Case {
    pub name: String,
    pub form: Form,
    /// Further headers of HTTP and gRPC.
    pub headers: Vec<(String, String)>,
    /// Expected status of HTTP (0: closed without an answer) and name of the gRPC code.
    pub http: Option<u16>,
    pub grpc: Option<String>,
    /// Spans accepted, spans rejected, texts repaired: for each time the body is sent.
    pub counts: [u64; 3],
    /// Part of the answer: body or gRPC message.
    pub says: Option<String>,
    /// JSON pointers into the stored trace and what stands there.
    pub stored: Vec<(String, serde_json::Value)>,
    pub ids: Ids,
    pub body: Vec<u8>,
}

impl Case {
    pub fn read(path: &Path, number: u64) -> Case {
        let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut trace = [0x0c; 16];
        trace[8..].copy_from_slice(&number.to_be_bytes());
        let mut case = Case {
            name: format!("{}/{}", folder(path), path.file_stem().unwrap().to_string_lossy()),
            form: Form::Proto,
            headers: Vec::new(),
            http: None,
            grpc: None,
            counts: [0; 3],
            says: None,
            stored: Vec::new(),
            ids: Ids { trace, span: [0x0d; 8] },
            body: Vec::new(),
        };
        let (head, body) = text.split_once("\nbody:").unwrap_or_else(|| panic!("{}: no body", case.name));
        let mut steps = Vec::new();
        for line in head.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
            let (key, value) = line.split_once(": ").unwrap_or_else(|| panic!("{}: {line:?}", case.name));
            match key {
                "form" => {
                    case.form = match value {
                        "proto" => Form::Proto,
                        "json" => Form::Json,
                        "http-connection" => Form::HttpConnection,
                        "http-connection-cut" => Form::HttpConnectionCut,
                        "grpc-stream" => Form::GrpcStream,
                        other => panic!("{}: form {other:?}", case.name),
                    }
                }
                "header" => {
                    let (name, value) = value.split_once(": ").expect("name: value");
                    case.headers.push((name.to_owned(), value.to_owned()));
                }
                "http" => case.http = Some(value.parse().expect("a status")),
                "grpc" => case.grpc = Some(value.to_owned()),
                "accepted" => case.counts[0] = value.parse().expect("a number"),
                "rejected" => case.counts[1] = value.parse().expect("a number"),
                "repaired" => case.counts[2] = value.parse().expect("a number"),
                "says" => case.says = Some(value.to_owned()),
                "stored" => {
                    let (pointer, value) = value.split_once(" = ").expect("pointer = JSON");
                    case.stored.push((pointer.to_owned(), serde_json::from_str(value).expect("JSON")));
                }
                "encode" => steps.extend(value.split(' ').map(str::to_owned)),
                other => panic!("{}: unknown key {other:?}", case.name),
            }
        }
        assert!(case.http.is_some() || case.grpc.is_some(), "{}: no expected answer", case.name);
        let body = body.strip_prefix('\n').unwrap_or(body);
        case.body = match case.form {
            Form::Json => json(body, case.ids),
            _ => proto(body, case.ids),
        };
        for step in &steps {
            case.body = encode(step, std::mem::take(&mut case.body));
        }
        case
    }
}

fn folder(path: &Path) -> String {
    path.parent().and_then(Path::file_name).unwrap().to_string_lossy().into_owned()
}

/// One step of `encode`: a codec, or a damage.
fn encode(step: &str, body: Vec<u8>) -> Vec<u8> {
    let argument = |name: &str| step.strip_prefix(name)?.strip_suffix(')')?.parse::<usize>().ok();
    let codec = |encoding| deflate(encoding, None, &Bytes::from(body.clone())).unwrap().to_vec();
    match step {
        "gzip" => codec(Encoding::Gzip),
        "zstd" => codec(Encoding::Zstd),
        "zlib" => codec(Encoding::Zlib),
        "snappy" => codec(Encoding::Snappy),
        "lz4" => codec(Encoding::Lz4),
        "snappy-block" => snap::raw::Encoder::new().compress_vec(&body).unwrap(),
        "deflate" => {
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
            std::io::Write::write_all(&mut encoder, &body).unwrap();
            encoder.finish().unwrap()
        }
        "utf16" => String::from_utf8(body).unwrap().encode_utf16().flat_map(u16::to_le_bytes).collect(),
        "twice" => [&body[..], &body].concat(),
        _ => {
            let mut body = body;
            if let Some(count) = argument("cut(") {
                body.truncate(body.len() - count);
            } else if let Some(from_end) = argument("flip(") {
                let at = body.len() - from_end;
                body[at] ^= 1;
            } else {
                panic!("unknown step {step:?}");
            }
            body
        }
    }
}
