//! `http::HeaderMap`.

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::formats::{b3, jaeger, w3c};
use crate::{Extract, Inject};

impl Extract for HeaderMap {
    fn entries(&self, each: &mut dyn FnMut(&str, &[u8])) {
        self.iter().for_each(|(name, value)| each(name.as_str(), value.as_bytes()));
    }

    fn values(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        self.get_all(name).iter().for_each(|value| each(value.as_bytes()));
    }
}

impl Inject for HeaderMap {
    fn set(&mut self, name: &'static str, value: &str) {
        if let Ok(value) = HeaderValue::from_str(value) {
            // Full (32,768 names): then the context is left out.
            let _ = match known(name) {
                Some(name) => self.try_insert(name, value),
                // Only `'static` names are not copied.
                None => self.try_insert(HeaderName::from_static(name), value),
            };
        }
    }

    fn set_dynamic(&mut self, name: &str, value: &str) {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            let _ = self.try_insert(name, value);
        }
    }

    fn remove(&mut self, name: &'static str) {
        match known(name) {
            Some(name) => HeaderMap::remove(self, name),
            None => HeaderMap::remove(self, name),
        };
    }
}

/// The usual names, made once: `HeaderMap` would look at each of their letters again at every call.
fn known(name: &str) -> Option<&'static HeaderName> {
    static TRACEPARENT: HeaderName = HeaderName::from_static(w3c::TRACEPARENT);
    static TRACESTATE: HeaderName = HeaderName::from_static(w3c::TRACESTATE);
    static BAGGAGE: HeaderName = HeaderName::from_static(w3c::BAGGAGE);
    static B3: HeaderName = HeaderName::from_static(b3::SINGLE);
    static UBER_TRACE_ID: HeaderName = HeaderName::from_static(jaeger::HEADER);
    match name {
        w3c::TRACEPARENT => Some(&TRACEPARENT),
        w3c::TRACESTATE => Some(&TRACESTATE),
        w3c::BAGGAGE => Some(&BAGGAGE),
        b3::SINGLE => Some(&B3),
        jaeger::HEADER => Some(&UBER_TRACE_ID),
        _ => None,
    }
}
