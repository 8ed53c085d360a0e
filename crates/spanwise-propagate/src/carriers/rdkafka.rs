//! Headers of `rdkafka`'s messages.

use rdkafka::message::{Header, Headers, OwnedHeaders};

use crate::{Extract, Inject};

/// Headers of a message: read from `&BorrowedHeaders` or `&OwnedHeaders`, written to `&mut OwnedHeaders`.
#[derive(Debug)]
pub struct KafkaHeaders<T>(pub T);

impl<H: Headers> Extract for KafkaHeaders<&H> {
    fn entries(&self, each: &mut dyn FnMut(&str, &[u8])) {
        for header in self.0.iter() {
            if let Some(value) = header.value {
                each(header.key, value);
            }
        }
    }

    fn values(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        let mut last = None;
        for header in self.0.iter() {
            if header.key == name {
                last = header.value.or(last);
            }
        }
        if let Some(value) = last {
            each(value);
        }
    }
}

impl Inject for KafkaHeaders<&mut OwnedHeaders> {
    fn set(&mut self, name: &'static str, value: &str) {
        self.set_dynamic(name, value);
    }

    fn set_dynamic(&mut self, name: &str, value: &str) {
        let headers = without(self.0, name);
        *self.0 = headers.insert(Header { key: name, value: Some(value) });
    }

    fn remove(&mut self, name: &'static str) {
        if self.0.iter().any(|header| header.key == name) {
            *self.0 = without(self.0, name);
        }
    }
}

/// librdkafka has no removal, so that the headers are copied when there is something to remove.
fn without(headers: &mut OwnedHeaders, name: &str) -> OwnedHeaders {
    if !headers.iter().any(|header| header.key == name) {
        return std::mem::take(headers);
    }
    let mut kept = OwnedHeaders::new_with_capacity(headers.count());
    for header in headers.iter().filter(|header| header.key != name) {
        kept = kept.insert(header);
    }
    kept
}
