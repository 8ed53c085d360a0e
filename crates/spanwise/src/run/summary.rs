//! What a run left: its traces, counted and listed, the findings they show, and how to see them again.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use spanwise_journal::Clock as _;

use super::environment::RUN_ATTRIBUTE;
use crate::cli::client::encode;
use crate::cli::tree_text::{duration, printable};

/// Agents send what they hold when their program ends; children that outlive it may take this long.
const WAIT: Duration = Duration::from_secs(3);
/// Findings over many traces take a while.
const ANSWER: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(200);
/// The slowest traces are looked at one by one: a run of a few requests is too small for population statistics.
const LOOKED_AT: usize = 20;
/// Traces that are counted one by one.
const MAX_TRACES: usize = 1000;

pub fn now() -> u64 {
    spanwise_journal::SystemClock::new().now_unix_nano()
}

/// TraceQL that finds the spans of a run.
pub fn query(run_id: &str) -> String {
    format!("{{ resource.{RUN_ATTRIBUTE} = \"{run_id}\" }}")
}

fn ask(page: &str, path: &str) -> Option<Json> {
    super::server::ask(page, path, ANSWER)
}

fn traces(page: &str, run_id: &str) -> Option<Vec<Json>> {
    let path = format!("/api/spanwise/search?q={}&limit={MAX_TRACES}", encode(&query(run_id)));
    ask(page, &path)?["traces"].as_array().cloned()
}

fn spans(traces: &[Json]) -> u64 {
    traces.iter().filter_map(|trace| trace["span_count"].as_u64()).sum()
}

/// Waits until no more spans come in, and prints to standard error.
pub fn print(page: &str, run_id: &str, started: u64, data_dir: Option<&Path>) {
    let deadline = Instant::now() + WAIT;
    let Some(mut found) = traces(page, run_id) else {
        return super::say(&format!("warning: the Spanwise at http://{page}/ does not answer any more"));
    };
    loop {
        std::thread::park_timeout(POLL);
        let next = traces(page, run_id).unwrap_or_default();
        let is_settled = !next.is_empty() && spans(&next) == spans(&found);
        found = next;
        if is_settled || Instant::now() > deadline {
            break;
        }
    }
    found.sort_by_key(|trace| std::cmp::Reverse(trace["duration_ns"].as_u64()));
    let insights = ask(page, &format!("/api/spanwise/insights?from={started}")).unwrap_or_default();
    let looked_at = found.iter().take(LOOKED_AT).filter_map(|trace| trace["trace_id"].as_str());
    let alone: Vec<Json> =
        looked_at.filter_map(|id| ask(page, &format!("/api/spanwise/traces/{id}?fields=structure"))).collect();
    let mut text = String::new();
    let _ = summary(&mut text, &found, &insights, &alone);
    let again = query(run_id).replace('\'', "'\\''");
    let _ = match data_dir {
        Some(directory) => {
            writeln!(text, "see them again: spanwise query '{again}' --data-dir {}", directory.display())
        }
        None => writeln!(text, "see them again: spanwise query '{again}' --addr http://{page}"),
    };
    for line in text.lines() {
        super::say(line);
    }
}

/// Findings about this run: of the population, where one of our traces is an example, and of single traces.
fn findings<'a>(traces: &[Json], insights: &'a Json, alone: &'a [Json]) -> Vec<&'a Json> {
    let list = |json: &'a Json| json["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
    // The window may hold traces of others: only what has an example of ours is ours to tell.
    let is_ours = |finding: &&Json| {
        let examples = finding["examples"].as_array().map(Vec::as_slice).unwrap_or_default();
        examples.iter().any(|id| traces.iter().any(|trace| trace["trace_id"] == *id))
    };
    let mut all: Vec<&Json> = list(insights).iter().filter(is_ours).collect();
    for finding in alone.iter().flat_map(list) {
        if all.iter().all(|other| other["id"] != finding["id"]) {
            all.push(finding);
        }
    }
    all
}

/// `traces`: slowest first. `alone`: some of them in full.
fn summary(out: &mut String, traces: &[Json], insights: &Json, alone: &[Json]) -> std::fmt::Result {
    if traces.is_empty() {
        return writeln!(out, "no spans came from this run");
    }
    let text = |json: &Json| printable(json.as_str().unwrap_or_default());
    let failed = traces.iter().filter(|trace| trace["error_count"].as_u64().unwrap_or(0) > 0).count();
    let more = if traces.len() == MAX_TRACES { " or more" } else { "" };
    let count = |n: u64, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    write!(out, "{}{more} in {}", count(spans(traces), "span"), count(traces.len() as u64, "trace"))?;
    match failed {
        0 => writeln!(out)?,
        failed => writeln!(out, ", {failed} with errors")?,
    }
    for trace in traces.iter().take(3) {
        let root = &trace["root"];
        let name = format!("{} {}", text(&root["service"]), text(&root["operation"]));
        let took = duration(trace["duration_ns"].as_u64().unwrap_or(0));
        writeln!(out, "  {took:>9}  {}  {}", text(&trace["trace_id"]), name.trim())?;
    }
    let findings = findings(traces, insights, alone);
    match findings.len() {
        0 => writeln!(out, "no findings")?,
        1 => writeln!(out, "1 finding:")?,
        n => writeln!(out, "{n} findings:")?,
    }
    for finding in findings.iter().take(5) {
        writeln!(out, "  {}  {}", text(&finding["kind"]), text(&finding["title"]))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn findings_of_other_runs_are_left_out() {
        let trace = |id: &str, errors: u64| {
            json!({"trace_id": id, "span_count": 3, "error_count": errors, "duration_ns": 2_000_000,
                "root": {"service": "shop", "operation": "GET /"}})
        };
        let finding = |id: &str, title: &str, example: &str| json!({"id": id, "kind": "n_plus_one", "title": title, "examples": [example]});
        let insights = json!({"findings": [finding("1", "ours", "a"), finding("2", "theirs", "z")]});
        let alone = [json!({"findings": [finding("1", "again", "a"), finding("3", "rare", "b")]})];
        let mut out = String::new();
        summary(&mut out, &[trace("a", 0), trace("b", 1)], &insights, &alone).unwrap();
        assert!(out.starts_with("6 spans in 2 traces, 1 with errors\n"), "{out}");
        assert!(out.contains("2 findings:\n  n_plus_one  ours\n  n_plus_one  rare\n"), "{out}");
        assert!(!out.contains("theirs") && !out.contains("again"), "{out}");
    }
}
