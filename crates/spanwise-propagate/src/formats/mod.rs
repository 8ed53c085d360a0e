//! One file for each format: how it is read, how it is written.

pub(crate) mod b3;
pub(crate) mod datadog;
pub(crate) mod google;
pub(crate) mod jaeger;
pub(crate) mod opentracing;
pub(crate) mod w3c;
pub(crate) mod xray;

use crate::hex;
use crate::{Baggage, Extract, Inject, Parent, SpanContext};

/// A way to write a context down. Names are those of `OTEL_PROPAGATORS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// `tracecontext`: `traceparent` and `tracestate`, level 2.
    TraceContext,
    /// `baggage`: W3C Baggage.
    Baggage,
    /// `b3`: reads both kinds of B3, the single header first; writes the single header.
    B3,
    /// `b3multi`: reads as [`B3`](Self::B3), writes several headers.
    B3Multi,
    /// `jaeger`: `uber-trace-id`, with its own baggage.
    Jaeger,
    /// `xray`: `x-amzn-trace-id`.
    XRay,
    /// `datadog`: `x-datadog-*`, with 128-bit trace ids in the tag `_dd.p.tid`.
    Datadog,
    /// `ottrace`: `ot-tracer-*`, with its own baggage.
    OpenTracing,
    /// `gcp`: `x-cloud-trace-context`.
    Google,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 9] = [
        Self::TraceContext,
        Self::Baggage,
        Self::B3,
        Self::B3Multi,
        Self::Jaeger,
        Self::XRay,
        Self::Datadog,
        Self::OpenTracing,
        Self::Google,
    ];

    /// As it stands in `OTEL_PROPAGATORS`.
    pub fn name(self) -> &'static str {
        match self {
            Self::TraceContext => "tracecontext",
            Self::Baggage => "baggage",
            Self::B3 => "b3",
            Self::B3Multi => "b3multi",
            Self::Jaeger => "jaeger",
            Self::XRay => "xray",
            Self::Datadog => "datadog",
            Self::OpenTracing => "ottrace",
            Self::Google => "gcp",
        }
    }

    /// Reverses [`name`](Self::name); `cloud_trace_context` and `google` also mean `gcp`, `xray-lambda` means `xray`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "google" | "cloud_trace_context" => Some(Self::Google),
            "xray-lambda" => Some(Self::XRay),
            _ => Self::ALL.into_iter().find(|format| format.name() == name),
        }
    }

    /// The fixed names that it writes.
    pub fn fields(self) -> &'static [&'static str] {
        match self {
            Self::TraceContext => &[w3c::TRACEPARENT, w3c::TRACESTATE],
            Self::Baggage => &[w3c::BAGGAGE],
            Self::B3 => &[b3::SINGLE],
            Self::B3Multi => &[b3::TRACE_ID, b3::SPAN_ID, b3::SAMPLED, b3::FLAGS],
            Self::Jaeger => &[jaeger::HEADER],
            Self::XRay => &[xray::HEADER],
            Self::Datadog => {
                &[datadog::TRACE_ID, datadog::PARENT_ID, datadog::PRIORITY, datadog::ORIGIN, datadog::TAGS]
            }
            Self::OpenTracing => &[opentracing::TRACE_ID, opentracing::SPAN_ID, opentracing::SAMPLED],
            Self::Google => &[google::HEADER],
        }
    }

    pub(crate) fn extract(self, carrier: &(impl Extract + ?Sized)) -> Option<Parent> {
        match self {
            Self::TraceContext => w3c::extract(carrier),
            Self::Baggage => None,
            Self::B3 | Self::B3Multi => b3::extract(carrier),
            Self::Jaeger => jaeger::extract(carrier),
            Self::XRay => xray::extract(carrier),
            Self::Datadog => datadog::extract(carrier),
            Self::OpenTracing => opentracing::extract(carrier),
            Self::Google => google::extract(carrier),
        }
    }

    pub(crate) fn extract_baggage(self, carrier: &(impl Extract + ?Sized), baggage: &mut Baggage) {
        match self {
            Self::Baggage => w3c::extract_baggage(carrier, baggage),
            Self::Jaeger => jaeger::extract_baggage(carrier, baggage),
            Self::OpenTracing => opentracing::extract_baggage(carrier, baggage),
            _ => {}
        }
    }

    pub(crate) fn inject(self, span: &SpanContext, carrier: &mut (impl Inject + ?Sized), state_bytes: usize) {
        match self {
            Self::TraceContext => w3c::inject(span, carrier, state_bytes),
            Self::Baggage => {}
            Self::B3 => b3::inject_single(span, carrier),
            Self::B3Multi => b3::inject_multi(span, carrier),
            Self::Jaeger => jaeger::inject(span, carrier),
            Self::XRay => xray::inject(span, carrier),
            Self::Datadog => datadog::inject(span, carrier),
            Self::OpenTracing => opentracing::inject(span, carrier),
            Self::Google => google::inject(span, carrier),
        }
    }

    pub(crate) fn inject_baggage(self, baggage: &Baggage, carrier: &mut (impl Inject + ?Sized)) {
        match self {
            Self::Baggage => w3c::inject_baggage(baggage, carrier),
            Self::Jaeger => jaeger::inject_baggage(baggage, carrier),
            Self::OpenTracing => opentracing::inject_baggage(baggage, carrier),
            _ => {}
        }
    }
}

/// A header's value, put together on the stack. What does not fit is left out; the formats' lengths are fixed.
pub(crate) struct Line<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Line<N> {
    pub(crate) fn new() -> Self {
        Self { bytes: [0; N], len: 0 }
    }

    pub(crate) fn text(mut self, text: &str) -> Self {
        if let Some(target) = self.bytes.get_mut(self.len..self.len + text.len()) {
            target.copy_from_slice(text.as_bytes());
            self.len += text.len();
        }
        self
    }

    pub(crate) fn hex(mut self, bytes: &[u8]) -> Self {
        if let Some(target) = self.bytes.get_mut(self.len..self.len + 2 * bytes.len()) {
            hex::encode(bytes, target);
            self.len += 2 * bytes.len();
        }
        self
    }

    pub(crate) fn decimal(self, mut number: u64) -> Self {
        let mut digits = [b'0'; 20];
        let mut from = digits.len();
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
            number /= 10;
            from -= 1;
            if number == 0 {
                break;
            }
        }
        let text = digits.get(from..).and_then(|digits| core::str::from_utf8(digits).ok());
        self.text(text.unwrap_or_default())
    }

    pub(crate) fn as_str(&self) -> &str {
        self.bytes.get(..self.len).and_then(|bytes| core::str::from_utf8(bytes).ok()).unwrap_or_default()
    }
}
