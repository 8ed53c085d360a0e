pub mod jaeger;
pub mod tempo_json;
pub mod trace_json;
