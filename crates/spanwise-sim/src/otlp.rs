//! Traces as OTLP bytes, so that a world can go through `spanwise import`.

use std::sync::Arc;

use spanwise_model::Trace;
use spanwise_wire::encode::{encode_resource_header, encode_scope_header, encode_span, put_len_field, put_message};

/// One `ExportTraceServiceRequest`.
pub fn request(trace: &Trace) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = &trace.spans[..];
    while let Some(first) = rest.first() {
        let same = |span: &&spanwise_model::TraceSpan| Arc::ptr_eq(&span.resource, &first.resource);
        let len = rest.iter().take_while(same).count();
        put_message(&mut out, 1, |of_resource| {
            of_resource.extend_from_slice(&encode_resource_header(&first.resource));
            put_message(of_resource, 2, |of_scope| {
                of_scope.extend_from_slice(&encode_scope_header(&first.scope));
                for span in &rest[..len] {
                    put_len_field(of_scope, 2, &encode_span(&span.span));
                }
            });
        });
        rest = &rest[len..];
    }
    out
}

/// Requests one after the other, each behind its length in four bytes, as the collector's file exporter writes them.
pub fn file(traces: impl IntoIterator<Item = Trace>) -> Vec<u8> {
    let mut out = Vec::new();
    for trace in traces {
        let request = request(&trace);
        out.extend_from_slice(&u32::try_from(request.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(&request);
    }
    out
}
