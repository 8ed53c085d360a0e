//! Environment variables: how a program tells its children.
//!
//! <https://opentelemetry.io/docs/specs/otel/context/env-carriers/>

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::Command;
use std::string::String;

use crate::{Extract, Inject};

/// A copy of a process's environment, to be read from; or variables for a child, to be written to. The own environment
/// is never changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// No variables.
    pub fn new() -> Self {
        Self::default()
    }

    /// What this process was started with, as far as it is text. Lambda's `_X_AMZN_TRACE_ID` counts as
    /// `X_AMZN_TRACE_ID`.
    pub fn of_this_process() -> Self {
        Self::from_variables(std::env::vars_os())
    }

    /// From pairs; what is not text, or not upper case, is left out.
    pub fn from_variables(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut kept = BTreeMap::new();
        for (name, value) in variables {
            if let (Ok(name), Ok(value)) = (name.into_string(), value.into_string())
                && !name.bytes().any(|byte| byte.is_ascii_lowercase())
            {
                kept.insert(name, value);
            }
        }
        if let Some(value) = kept.get("_X_AMZN_TRACE_ID").cloned() {
            kept.entry("X_AMZN_TRACE_ID".into()).or_insert(value);
        }
        Self(kept)
    }

    /// All variables.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// The variable that stands for a header: upper case, other characters than letters and digits as `_`, and not a digit
/// in front.
pub fn environment_name(header: &str) -> String {
    let mut name = String::with_capacity(header.len() + 1);
    if header.starts_with(|first: char| first.is_ascii_digit()) {
        name.push('_');
    }
    name.extend(header.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }));
    name
}

impl Extract for Environment {
    fn entries(&self, each: &mut dyn FnMut(&str, &[u8])) {
        self.iter().for_each(|(name, value)| each(name, value.as_bytes()));
    }

    fn values(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        if let Some(value) = self.0.get(&environment_name(name)) {
            each(value.as_bytes());
        }
    }
}

impl Inject for Environment {
    fn set(&mut self, name: &'static str, value: &str) {
        self.set_dynamic(name, value);
    }

    fn set_dynamic(&mut self, name: &str, value: &str) {
        self.0.insert(environment_name(name), value.into());
    }

    fn remove(&mut self, name: &'static str) {
        self.0.remove(&environment_name(name));
    }
}

/// Sets the child's variables.
impl Inject for Command {
    fn set(&mut self, name: &'static str, value: &str) {
        self.set_dynamic(name, value);
    }

    fn set_dynamic(&mut self, name: &str, value: &str) {
        self.env(environment_name(name), value);
    }

    fn remove(&mut self, name: &'static str) {
        self.env_remove(environment_name(name));
    }
}
