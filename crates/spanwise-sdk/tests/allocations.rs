//! Passing a context on allocates the header's value, and nothing else.

#![allow(clippy::unwrap_used)]
// An allocator that counts is one that is unsafe.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use http::HeaderMap;
use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: it came from `alloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[test]
fn a_header_is_all_that_injection_allocates() {
    let (trace_id, span_id) = (TraceId::from_bytes([7; 16]), SpanId::from_bytes([8; 8]));
    let span = SpanContext::new(trace_id, span_id, TraceFlags::SAMPLED, false, TraceState::NONE);
    let context = Context::new().with_remote_span_context(span);
    let mut headers = HeaderMap::with_capacity(8);
    spanwise_sdk::inject(&context, &mut headers);
    let before = COUNT.get();
    spanwise_sdk::inject(&context, &mut headers);
    assert_eq!(COUNT.get() - before, 1);
    let expected = format!("00-{}-{}-03", "07".repeat(16), "08".repeat(8));
    assert_eq!(headers.get("traceparent").unwrap(), expected.as_str());
}
