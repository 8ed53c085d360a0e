//! `spanwise insights`: the findings, dearest first.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use serde_json::Value as Json;
use spanwise_query::Budget;
use spanwise_query::insights::InsightsRequest;

use super::client::{authority, encode, request};
use super::commands::{snapshot, window};
use super::tree_text::printable;
use super::{Format, StoreArgs, WindowArgs};
use crate::api::aggregate::Window;
use crate::api::insights_json::{Asked, insights_json};

pub struct InsightsArgs {
    pub window: WindowArgs,
    pub service: Option<String>,
    pub kind: Option<String>,
}

pub fn insights(args: &InsightsArgs, format: Format, at: &StoreArgs) -> anyhow::Result<ExitCode> {
    let (from, to) = window(&args.window)?;
    let answer = match &at.addr {
        Some(addr) => {
            let times = [("from", from), ("to", to)].map(|(key, time)| time.map(|time| format!("{key}={time}")));
            let filters = [("service", &args.service), ("kind", &args.kind)]
                .map(|(key, value)| value.as_ref().map(|value| format!("{key}={}", encode(value))));
            let parameters: Vec<String> = times.into_iter().chain(filters).flatten().collect();
            let path = format!("/api/spanwise/insights?{}", parameters.join("&"));
            let answer = request(authority(addr)?, &path, None)?;
            if answer.status != 200 {
                bail!("{addr}: {}", answer.message());
            }
            serde_json::from_slice(&answer.body)?
        }
        None => {
            let snapshot = snapshot(at)?;
            let budget = Budget { time: Duration::from_secs(600), ..Budget::default() };
            let request = InsightsRequest { from_unix_nano: from, to_unix_nano: to, budget };
            let found = spanwise_query::insights::insights(&snapshot, &request)?;
            let (oldest, newest) = snapshot.starts().unwrap_or((0, 0));
            let window = Window { from: from.unwrap_or(oldest), to: to.unwrap_or(newest) };
            let asked = Asked { service: args.service.as_deref(), kind: args.kind.as_deref(), ..Asked::default() };
            insights_json(&found, window, asked)
        }
    };
    let mut out = std::io::stdout().lock();
    match format {
        Format::Json => writeln!(out, "{answer}")?,
        Format::Table => print(&mut out, &answer)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn print(out: &mut dyn Write, answer: &Json) -> std::io::Result<()> {
    let list = |json: &Json| json.as_array().cloned().unwrap_or_default();
    let text = |json: &Json| printable(json.as_str().unwrap_or_default());
    for finding in list(&answer["findings"]) {
        writeln!(out, "{}  {}", text(&finding["kind"]), text(&finding["title"]))?;
        let (affected, seen) = (&finding["traces_affected"], &finding["traces_seen"]);
        let (typical, total) = (&finding["cost"]["typical_ms"], &finding["cost"]["total_ms"]);
        writeln!(
            out,
            "    {affected} of {seen} traces, {typical} ms each, {total} ms in all; id {}",
            text(&finding["id"])
        )?;
        for line in list(&finding["evidence"]) {
            writeln!(out, "    - {}", text(&line))?;
        }
        if let Some(example) = list(&finding["examples"]).first() {
            writeln!(out, "    example: spanwise trace {}", text(example))?;
        }
        writeln!(out)?;
    }
    if list(&answer["findings"]).is_empty() {
        writeln!(out, "nothing found in {} traces", answer["traces"])?;
    }
    let missing = list(&answer["not_enough_data"]);
    if !missing.is_empty() {
        let mut entries: Vec<String> = missing
            .iter()
            .map(|entry| {
                format!("{} {} ({} traces)", text(&entry["service"]), text(&entry["operation"]), entry["have"])
            })
            .collect();
        entries.sort();
        entries.dedup();
        writeln!(out, "not enough traces yet to judge everything of: {}", entries.join(", "))?;
    }
    if answer["complete"] == false {
        let (read, traces) = (&answer["looked_at"], &answer["traces"]);
        writeln!(out, "looked at {read} of {traces} traces, a fair sample: the findings stand on these")?;
    }
    let window = &answer["window"];
    if let (Some(start), Some(end)) = (window["counted_start"].as_str(), window["counted_end"].as_str()) {
        writeln!(out, "counted in whole minutes, from {} to {}", printable(start), printable(end))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn printed(answer: &Json) -> String {
        let mut out = Vec::new();
        print(&mut out, answer).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_sample_says_so_and_so_do_whole_minutes() {
        let window = json!({"start": "2026-11-26T08:00:10Z", "end": "2026-11-26T08:02:20Z"});
        let mut answer = json!({"window": window, "traces": 700, "complete": true, "findings": []});
        assert_eq!(printed(&answer), "nothing found in 700 traces\n");
        answer["complete"] = json!(false);
        answer["looked_at"] = json!(300);
        answer["window"]["counted_start"] = json!("2026-11-26T08:00:00Z");
        answer["window"]["counted_end"] = json!("2026-11-26T08:03:00Z");
        assert_eq!(
            printed(&answer),
            "nothing found in 700 traces\n\
             looked at 300 of 700 traces, a fair sample: the findings stand on these\n\
             counted in whole minutes, from 2026-11-26T08:00:00Z to 2026-11-26T08:03:00Z\n"
        );
    }
}
