//! Configs: every text is a config or a list of errors, each of which can be shown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spanwise_pipeline::config::Lookup;
use spanwise_pipeline::{Config, Input, Registry};

/// Texts do not reach this machine's files and environment.
struct Nothing;

impl Lookup for Nothing {
    fn env(&self, name: &str) -> Option<String> {
        (name == "A").then(|| "${env:A}".to_owned())
    }

    fn file(&self, path: &str) -> Result<String, String> {
        Err(format!("no file {path}"))
    }
}

fuzz_target!(|text: &str| {
    let input = Input { sources: vec![format!("yaml:{text}")], sets: Vec::new() };
    match Config::load(&input, &Registry::builtin(), &Nothing) {
        Ok(config) => drop(config.to_json()),
        Err(errors) => assert!(!errors.to_string().is_empty()),
    }
});
