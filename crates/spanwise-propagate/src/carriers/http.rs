//! `http::HeaderMap`.

use http::header::{HeaderMap, HeaderName, HeaderValue};

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
            // Only `'static` names are not copied.
            // Full (32,768 names): then the context is left out.
            let _ = self.try_insert(HeaderName::from_static(name), value);
        }
    }

    fn set_dynamic(&mut self, name: &str, value: &str) {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            let _ = self.try_insert(name, value);
        }
    }

    fn remove(&mut self, name: &'static str) {
        HeaderMap::remove(self, name);
    }
}
