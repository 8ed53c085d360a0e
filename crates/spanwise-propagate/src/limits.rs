//! How much is read, kept and written, and why.

/// Members of a `tracestate`, counted over all its headers (Trace Context §3.3.1.1). A list with more is discarded.
pub const TRACESTATE_MEMBERS: usize = 32;

/// Characters of a `tracestate` key, and of a value (Trace Context level 2 §3.3.1.3).
pub const TRACESTATE_PART: usize = 256;

/// Bytes of all `tracestate` headers together: the longest legal list with a blank around each comma. A longer one cannot be legal
/// but for padding, and is discarded unread.
pub const TRACESTATE_READ: usize = TRACESTATE_MEMBERS * (2 * TRACESTATE_PART + 4);

/// Bytes of the `tracestate` that is written unless the caller says otherwise. The specification asks for 512 at least;
/// this much passes the servers that accept 8 KiB of headers. Whole members are left out beyond it.
pub const TRACESTATE_WRITE: usize = 4096;

/// Members of a baggage that are read and written (Baggage §3.3.2: at least 64 must be propagated).
pub const BAGGAGE_MEMBERS: usize = 64;

/// Bytes of a baggage that are read and written (Baggage §3.3.2: at least 8192 must be propagated).
pub const BAGGAGE_BYTES: usize = 8192;

/// Bytes of any other header: the longest legal one is Datadog's tags.
pub const HEADER_BYTES: usize = 1024;

/// Characters of Datadog's `x-datadog-tags`, both ways (as its tracers have it).
pub const DATADOG_TAGS: usize = 512;

/// Formats that a propagator reads or writes: more than there are.
pub const FORMATS: usize = 16;
