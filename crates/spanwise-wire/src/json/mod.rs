//! OTLP/JSON, both ways: <https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>.

mod read;
mod write;

pub use read::otlp_json_to_proto;
pub use write::batch_to_otlp_json;
