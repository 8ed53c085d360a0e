//! Maps and lists of pairs.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use crate::{Extract, Inject};

/// A value of a map: text or bytes.
pub trait MapValue: AsRef<[u8]> + for<'a> From<&'a str> {}

impl<T: AsRef<[u8]> + for<'a> From<&'a str>> MapValue for T {}

impl<K: AsRef<str>, V: AsRef<[u8]>> Extract for [(K, V)] {
    fn entries(&self, each: &mut dyn FnMut(&str, &[u8])) {
        self.iter().for_each(|(name, value)| each(name.as_ref(), value.as_ref()));
    }
}

impl<K: AsRef<str>, V: AsRef<[u8]>> Extract for Vec<(K, V)> {
    fn entries(&self, each: &mut dyn FnMut(&str, &[u8])) {
        self.as_slice().entries(each);
    }
}

impl<K: AsRef<str> + for<'a> From<&'a str>, V: MapValue> Inject for Vec<(K, V)> {
    fn set(&mut self, name: &'static str, value: &str) {
        self.set_dynamic(name, value);
    }

    fn set_dynamic(&mut self, name: &str, value: &str) {
        self.retain(|(known, _)| !known.as_ref().eq_ignore_ascii_case(name));
        self.push((name.into(), value.into()));
    }

    fn remove(&mut self, name: &'static str) {
        self.retain(|(known, _)| !known.as_ref().eq_ignore_ascii_case(name));
    }
}

macro_rules! map {
    ($map:ty $(, $bound:path)?) => {
        impl<V: AsRef<[u8]> $(, S: $bound)?> Extract for $map {
            fn entries(&self, each: &mut dyn FnMut(&str, &[u8])) {
                self.iter().for_each(|(name, value)| each(name, value.as_ref()));
            }
        }

        impl<V: MapValue $(, S: $bound)?> Inject for $map {
            fn set(&mut self, name: &'static str, value: &str) {
                self.set_dynamic(name, value);
            }

            fn set_dynamic(&mut self, name: &str, value: &str) {
                self.insert(name.into(), value.into());
            }

            fn remove(&mut self, name: &'static str) {
                <$map>::remove(self, name);
            }
        }
    };
}

map!(BTreeMap<String, V>);
#[cfg(feature = "std")]
map!(std::collections::HashMap<String, V, S>, core::hash::BuildHasher);
