//! Ordered headers with case-sensitive names that may repeat: Kafka records.

use alloc::string::String;
use alloc::vec::Vec;

use crate::{Extract, Inject};

/// Headers of a message as pairs of a name and bytes. Of a repeated name the last value counts, as Kafka's clients have
/// it (`lastHeader`); names are compared exactly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageHeaders<T>(pub T);

impl<K: AsRef<str>, V: AsRef<[u8]>> Extract for MessageHeaders<&[(K, V)]> {
    fn entries(&self, each: &mut dyn FnMut(&str, &[u8])) {
        self.0.iter().for_each(|(name, value)| each(name.as_ref(), value.as_ref()));
    }

    fn values(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        if let Some((_, value)) = self.0.iter().rev().find(|(known, _)| known.as_ref() == name) {
            each(value.as_ref());
        }
    }
}

impl Inject for MessageHeaders<&mut Vec<(String, Vec<u8>)>> {
    fn set(&mut self, name: &'static str, value: &str) {
        self.set_dynamic(name, value);
    }

    fn set_dynamic(&mut self, name: &str, value: &str) {
        self.0.retain(|(known, _)| known != name);
        self.0.push((name.into(), value.into()));
    }

    fn remove(&mut self, name: &'static str) {
        self.0.retain(|(known, _)| known != name);
    }
}
