//! Carriers for what programs have at hand.
//!
//! | carrier | names | a repeated name |
//! |---|---|---|
//! | `HashMap`, `BTreeMap` of strings or bytes, slices and vectors of pairs | any case | all values, in order |
//! | [`MessageHeaders`]: Kafka records and other messages with ordered, case-sensitive headers | lower case | the last value |
//! | [`Environment`], `std::process::Command` | `traceparent` is `TRACEPARENT` | cannot be |
//! | `http::HeaderMap` (feature `http`), `tonic::metadata::MetadataMap` (feature `tonic`) | any case | all values |
//! | `rdkafka::message::{BorrowedHeaders, OwnedHeaders}` in [`KafkaHeaders`](rdkafka::KafkaHeaders) (feature `rdkafka`) | lower case | the last value |
//!
//! AMQP's header tables are maps of strings or bytes: collect the string values of `lapin`'s `FieldTable` or of an AMQP
//! 1.0 message's application properties into a `BTreeMap`, or implement [`Extract`](crate::Extract), which takes one function.

#[cfg(feature = "std")]
mod environment;
#[cfg(feature = "http")]
mod http;
mod maps;
mod messages;
#[cfg(feature = "rdkafka")]
pub mod rdkafka;
#[cfg(feature = "tonic")]
mod tonic;

#[cfg(feature = "std")]
pub use environment::{Environment, environment_name};
pub use messages::MessageHeaders;
