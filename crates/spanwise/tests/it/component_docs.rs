//! The reference pages say what the config structs say.

use std::collections::BTreeMap;
use std::path::Path;

use crate::harness::{spanwise, text};

fn pages(dir: &Path) -> BTreeMap<String, String> {
    let pages = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    pages
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(path).unwrap()))
        .collect()
}

#[test]
fn the_pages_in_docs_are_those_of_the_config_structs() {
    let dir = tempfile::tempdir().unwrap();
    let output = spanwise(&["components", "--docs", dir.path().to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let made = pages(dir.path());
    let checked_in = pages(Path::new("../../docs/components"));
    let stale: Vec<_> =
        made.keys().chain(checked_in.keys()).filter(|name| made.get(*name) != checked_in.get(*name)).collect();
    assert!(stale.is_empty(), "stale: run `spanwise components --docs docs/components`: {stale:?}");
    let batch = &made["processor-batch.md"];
    assert!(batch.contains("| `timeout` | duration | `\"200ms\"` |"), "{batch}");
    let schema: serde_json::Value = serde_json::from_str(&made["schema.json"]).unwrap();
    assert_eq!(schema["exporter/otlp"]["properties"]["endpoint"]["type"], "string");
}

#[test]
fn components_say_what_the_contract_names() {
    let output = spanwise(&["components", "--format", "json"]);
    let listed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let of = |name: &str, kind: &str| {
        let list = listed["components"].as_array().unwrap();
        list.iter().find(|one| one["type"] == name && one["kind"] == kind).unwrap().clone()
    };
    assert_eq!(of("otlp", "receiver")["signals"], serde_json::json!(["traces", "metrics", "logs"]));
    assert_eq!(of("tail_sampling", "processor")["signals"], serde_json::json!(["traces"]));
    assert_eq!(of("jaegerremotesampling", "extension")["stability"], "alpha");
    assert_eq!(of("otlp", "exporter")["aliases"], serde_json::json!(["otlp_grpc"]));
}
