//! gRPC metadata. Binary entries (`-bin`) are no text and left alone.

use tonic::metadata::{Ascii, KeyAndValueRef, MetadataKey, MetadataMap, MetadataValue};

use crate::{Extract, Inject};

impl Extract for MetadataMap {
    fn entries(&self, each: &mut dyn FnMut(&str, &[u8])) {
        for entry in self.iter() {
            if let KeyAndValueRef::Ascii(name, value) = entry {
                each(name.as_str(), value.as_encoded_bytes());
            }
        }
    }

    fn values(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        self.get_all(name).iter().for_each(|value| each(value.as_encoded_bytes()));
    }
}

impl Inject for MetadataMap {
    fn set(&mut self, name: &'static str, value: &str) {
        if let Ok(value) = MetadataValue::try_from(value) {
            self.insert(MetadataKey::<Ascii>::from_static(name), value);
        }
    }

    fn set_dynamic(&mut self, name: &str, value: &str) {
        if let (Ok(name), Ok(value)) = (name.parse::<MetadataKey<Ascii>>(), MetadataValue::try_from(value)) {
            self.insert(name, value);
        }
    }

    fn remove(&mut self, name: &'static str) {
        MetadataMap::remove(self, name);
    }
}
