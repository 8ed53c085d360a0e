//! The only place that inflates and deflates.

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    Identity,
    Gzip,
    Zstd,
    Zlib,
    Deflate,
    Snappy,
    Lz4,
}
