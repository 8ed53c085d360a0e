//! Each limit of `limits.rs` has a test that bears its name.

use std::path::Path;

/// Limits of time and of size that a test of every run cannot wait for or hold, and what stands for it.
const WITHOUT: &[(&str, &str)] = &[
    ("TLS_HANDSHAKE", "a time: five seconds of waiting"),
    ("HTTP2_FRAME_BYTES", "a setting that peers are told; h2 refuses larger frames"),
    ("EXPORTER_DRAIN", "a time: exporters/queue.rs drains with a paused clock"),
    ("HAND_ON_AT_END", "a time: processors/batch.rs drains with a paused clock"),
    ("PEER_RETRY_AFTER_SECONDS", "a time: five minutes"),
    ("SPOOL_BYTES", "10 GiB on disk; the bound itself is tested smaller in journal/spool.rs"),
    ("SPOOL_SEGMENT_BYTES", "not a bound but a size"),
    ("SPOOL_GATHER", "a time: journal/wal.rs counts the syncs that are shared"),
];

/// Queries have theirs beside the grammar.
const SECTIONS: &[&str] = &["OTLP at the door", "OTLP/JSON", "Import", "Config", "HTTP servers"];

fn test_names(dir: &Path, names: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            test_names(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let mut lines = text.lines();
            while let Some(line) = lines.next() {
                if line.trim().starts_with("#[test]") || line.trim().starts_with("#[tokio::test") {
                    names.extend(lines.next().map(str::to_owned));
                }
            }
        }
    }
}

#[test]
fn each_limit_has_a_test_that_bears_its_name() {
    let crates = Path::new("..");
    let limits = std::fs::read_to_string(crates.join("spanwise-model/src/limits.rs")).unwrap();
    let mut names = Vec::new();
    test_names(crates, &mut names);
    // Sections of the file by the titles in its rulers.
    let sections = limits.split("\n// ---- ").filter(|section| SECTIONS.iter().any(|title| section.starts_with(title)));
    let limits: Vec<&str> = sections
        .flat_map(str::lines)
        .filter_map(|line| line.strip_prefix("pub const ")?.split_once(':'))
        .map(|(name, _)| name)
        .collect();
    assert!(limits.len() > 20, "{}", limits.len());
    let is_tested = |limit: &str| names.iter().any(|name| name.contains(&limit.to_lowercase()));
    let missing: Vec<_> =
        limits.iter().filter(|limit| !is_tested(limit) && WITHOUT.iter().all(|(name, _)| name != *limit)).collect();
    assert!(missing.is_empty(), "no test bears the name of {missing:?}");
    let needless: Vec<_> = WITHOUT.iter().filter(|(name, _)| is_tested(name) || !limits.contains(name)).collect();
    assert!(needless.is_empty(), "{needless:?}");
}
