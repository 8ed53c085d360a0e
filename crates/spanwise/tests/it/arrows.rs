//! Crate dependencies point only downwards: see `docs/architecture.md`.

use std::process::Command;

use serde_json::Value as Json;

/// Each crate and what it may use.
const ALLOWED: [(&str, &[&str]); 13] = [
    ("spanwise-model", &[]),
    ("spanwise-wire", &["spanwise-model"]),
    ("spanwise-insight", &["spanwise-model"]),
    ("spanwise-journal", &["spanwise-model", "spanwise-wire"]),
    ("spanwise-propagate", &[]),
    ("spanwise-sdk", &["spanwise-propagate"]),
    ("rust-shop", &["spanwise-sdk"]),
    ("w3c-server", &["spanwise-sdk"]),
    ("spanwise-store", &["spanwise-model", "spanwise-wire", "spanwise-journal", "spanwise-insight"]),
    ("spanwise-query", &["spanwise-model", "spanwise-wire", "spanwise-store", "spanwise-insight"]),
    ("spanwise-pipeline", &["spanwise-model", "spanwise-wire", "spanwise-journal", "spanwise-insight"]),
    ("spanwise-sim", &["spanwise-model", "spanwise-wire", "spanwise-journal", "spanwise-insight"]),
    (
        "spanwise",
        &[
            "spanwise-model",
            "spanwise-wire",
            "spanwise-journal",
            "spanwise-insight",
            "spanwise-store",
            "spanwise-query",
            "spanwise-pipeline",
            "spanwise-propagate",
        ],
    ),
];

#[test]
fn dependencies_point_downwards() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1", "--manifest-path", "Cargo.toml"])
        .output()
        .unwrap();
    let metadata: Json = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() >= 8);
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let (_, allowed) =
            ALLOWED.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("{name} has no place"));
        for dependency in package["dependencies"].as_array().unwrap() {
            let other = dependency["name"].as_str().unwrap();
            let is_ours = other.starts_with("spanwise") && dependency["kind"].is_null();
            assert!(!is_ours || allowed.contains(&other), "{name} must not depend on {other}");
            let is_needed = dependency["kind"].is_null() && dependency["optional"] == false;
            assert!(name != "spanwise-propagate" || !is_needed, "{name} stands alone, without {other}");
            assert!(other != "parquet" && other != "arrow" || name == "spanwise-store", "{name} must not see Arrow");
        }
    }
}
