//! The malformed corpus: every file below `tests/corpus` is one input with the answer it must get, replayed over real
//! gRPC and HTTP. See `tests/corpus/README.md` for the notation.

mod case;
mod notation;
mod replay;
