//! Every limit of Spanwise, with the reason for its value. Nothing else in the code invents a bound.
//!
//! Spanwise is lossless: no limit truncates or redacts what it accepts. A limit refuses a request, rejects one span
//! alone, or bounds what a reader may ask for.

use std::time::Duration;

// ---- OTLP at the door -------------------------------------------------------------------------------------------

/// gRPC message after decompression: grpc-go's default, which every OTLP client assumes.
pub const GRPC_MESSAGE_BYTES: usize = 4 << 20;
/// HTTP body after decompression: the collector's `confighttp` default (`max_request_body_size`).
pub const HTTP_BODY_BYTES: usize = 20 << 20;
/// A compressed body may not unfold to more than this many times its size: DEFLATE's own ceiling is 1032, a
/// telemetry batch reaches 10 to 30, and repeated identical spans a few hundred.
pub const INFLATE_RATIO: usize = 1_100;
/// Below this output size the ratio is not looked at: small all-zero bodies compress without bound in zstd.
pub const INFLATE_RATIO_FREE_BYTES: usize = 1 << 20;
/// zstd window: what RFC 8878 §3.1.1.1.2 recommends decoders to support, so that a 2 GiB window is refused.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// Spans of one request: a 20 MiB body of minimal spans (28 B) holds 750,000; an SDK sends 512, a gateway 8,192.
pub const REQUEST_SPANS: usize = 1_000_000;
/// Resources and scopes of one request, together: an empty one costs 2 bytes on the wire and 24 in the index, so
/// this bounds the index to 12 times a maximal body's useful content.
pub const REQUEST_GROUPS: usize = 250_000;
/// Nesting of attribute values. Each level costs protobuf decoders up to three messages (`AnyValue`,
/// `KeyValueList`, `KeyValue`) and prost and Go stop at 100: 30 levels below a span's attribute stay inside it.
pub const VALUE_DEPTH: usize = 30;
/// Nesting of unknown groups (wire types 3 and 4), which OTLP never uses.
pub const GROUP_DEPTH: usize = 8;

// ---- OTLP/JSON --------------------------------------------------------------------------------------------------

/// Nesting of any JSON document we read: what `VALUE_DEPTH` needs (three levels a value) and 32 above it.
pub const JSON_DEPTH: usize = 128;

// ---- Import -----------------------------------------------------------------------------------------------------

/// One line or document of an imported file, after decompression.
pub const IMPORT_RECORD_BYTES: usize = 256 << 20;

// ---- Queries ----------------------------------------------------------------------------------------------------

/// TraceQL text: Tempo's limit.
pub const QUERY_TEXT_BYTES: usize = 128 << 10;
/// Nesting of a TraceQL expression.
pub const QUERY_DEPTH: usize = 32;
/// Operators of one query: a chain of them is a tree as deep, and what walks it must not exhaust the stack.
pub const QUERY_OPERATORS: usize = 1_000;
/// Text of one regular expression in a query.
pub const QUERY_REGEX_BYTES: usize = 256;
/// Compiled size of one regular expression.
pub const QUERY_REGEX_PROGRAM_BYTES: usize = 1 << 20;
/// Traces one search may return: Tempo's `max_result_limit`.
pub const SEARCH_LIMIT: usize = 262_144;

// ---- Config -----------------------------------------------------------------------------------------------------

/// One source of a config, and one expanded value: the largest published collector configs are below 100 KiB.
pub const CONFIG_BYTES: usize = 4 << 20;
/// Nesting of a config: the deepest documented key of any collector component lies 9 levels down.
pub const CONFIG_DEPTH: usize = 64;
/// Values of a config with its aliases unfolded.
pub const CONFIG_NODES: usize = 100_000;
/// References within what a reference named.
pub const CONFIG_EXPANSION_DEPTH: usize = 10;

// ---- HTTP servers -----------------------------------------------------------------------------------------------

/// Connections of one listener: below the usual 65,536 file descriptors of a service, with room for files.
pub const CONNECTIONS: usize = 16_384;
/// A TLS handshake takes two round trips; slower peers are slow on purpose.
pub const TLS_HANDSHAKE: Duration = Duration::from_secs(5);
/// Between two pieces of a request's body. An exporter on the worst link sends something in that time.
pub const BODY_STALL: Duration = Duration::from_secs(10);
/// Requests that one HTTP/2 connection may have open: grpc-go's clients use a handful, a proxy hundreds.
pub const HTTP2_STREAMS: u32 = 256;
/// One HTTP/2 frame, of senders that ask: four times the least, beyond which the cost per frame hardly shows; it is
/// also what an unfinished frame can hold of each connection.
pub const HTTP2_FRAME_BYTES: u32 = 64 << 10;
/// Header block of a request.
pub const HTTP_HEADER_BYTES: usize = 64 << 10;
/// Bytes read of a peer's answer to an export: its status details are all we use.
pub const PEER_ANSWER_BYTES: usize = 64 << 10;
/// How long an exporter may go on sending once the process ends; what is left then is counted as dropped.
pub const EXPORTER_DRAIN: Duration = Duration::from_secs(5);
/// What all stages of the pipelines together may keep on disk, or half of what is free.
pub const SPOOL_BYTES: u64 = 10 << 30;
pub const SPOOL_SEGMENT_BYTES: u64 = 32 << 20;

/// Syncs of a spool begin so far apart while requests keep coming: one sync takes as much CPU as a thousand spans, so
/// that at 150 requests a second each eighth of them pays for all. An answer comes later by at most this, and only while
/// others keep coming; senders of telemetry wait in the background.
pub const SPOOL_GATHER: Duration = Duration::from_millis(50);
/// How long a stage that holds spans goes on handing them to one that refuses, once the process is ending.
pub const HAND_ON_AT_END: Duration = Duration::from_secs(3);
/// A client's question how to sample: a service's name.
pub const SAMPLING_QUESTION_BYTES: usize = 16 << 10;
/// Operations whose arrivals are counted for adaptive sampling, between two computations: names may hold ids.
pub const SAMPLING_OPERATIONS: usize = 10_000;
/// Longest wait a peer's retry hint can impose.
pub const PEER_RETRY_AFTER_SECONDS: u64 = 300;

/// The limits a receiver may set for itself; the rest of this file is fixed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one message after decompression.
    pub message_bytes: usize,
    /// Spans of one request.
    pub spans: usize,
    /// Resources and scopes of one request.
    pub groups: usize,
}

impl Limits {
    pub fn with_message_bytes(message_bytes: usize) -> Self {
        Self { message_bytes, spans: REQUEST_SPANS, groups: REQUEST_GROUPS }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::with_message_bytes(HTTP_BODY_BYTES)
    }
}
