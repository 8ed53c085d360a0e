//! `spanwise query`: a search, or series of numbers when the query ends in a metrics function.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use serde_json::Value as Json;
use spanwise_query::metrics::default_step_ns;
use spanwise_query::traceql::ast::Root;
use spanwise_query::{Budget, MetricsRequest, Query, SearchRequest};

use super::client::{authority, encode, request};
use super::commands::{snapshot, window};
use super::tree_text::{duration, printable};
use super::{Format, StoreArgs, WindowArgs};
use crate::api::{metrics_json, metrics_window, search_json};
use crate::time_text::{format_time, parse_duration};

pub struct QueryArgs {
    pub traceql: String,
    pub window: WindowArgs,
    pub limit: usize,
    pub step: Option<String>,
}

/// Longest that a query over a directory may take.
const MOST_TIME: Duration = Duration::from_secs(600);

pub fn query(args: &QueryArgs, format: Format, at: &StoreArgs) -> anyhow::Result<ExitCode> {
    let window = window(&args.window)?;
    let parsed = spanwise_query::traceql::parse(&args.traceql).map_err(|error| {
        let (line, column) = error.position(&args.traceql);
        let shown = args.traceql.lines().nth(line - 1).unwrap_or_default();
        let caret = " ".repeat(column - 1);
        let hint = error.hint.as_ref().map(|hint| format!("\n    {hint}")).unwrap_or_default();
        anyhow::anyhow!("{error}\n    {shown}\n    {caret}^{hint}")
    })?;
    let is_metrics = matches!(parsed.root, Root::Metrics(_));
    let answer = match (&at.addr, is_metrics) {
        (Some(addr), _) => ask(addr, args, window, is_metrics)?,
        (None, true) => metrics(parsed, args, window, at)?,
        (None, false) => search(parsed, args, window, at)?,
    };
    match (format, is_metrics) {
        (Format::Json, _) => {
            writeln!(std::io::stdout().lock(), "{answer}")?;
            Ok(ExitCode::SUCCESS)
        }
        (Format::Table, true) => print_series(&answer),
        (Format::Table, false) => print_search(&answer),
    }
}

fn ask(addr: &str, args: &QueryArgs, (from, to): (Option<u64>, Option<u64>), is_metrics: bool) -> anyhow::Result<Json> {
    let mut path = match is_metrics {
        true => format!("/api/spanwise/metrics?q={}", encode(&args.traceql)),
        false => format!("/api/spanwise/search?q={}&limit={}", encode(&args.traceql), args.limit),
    };
    for (key, time) in [("from", from), ("to", to)] {
        if let Some(time) = time {
            path.push_str(&format!("&{key}={time}"));
        }
    }
    if let Some(step) = args.step.as_ref().filter(|_| is_metrics) {
        path.push_str(&format!("&step={}", encode(step)));
    }
    let answer = request(authority(addr)?, &path, None)?;
    if answer.status != 200 {
        bail!("{addr}: {}", answer.message());
    }
    Ok(serde_json::from_slice(&answer.body)?)
}

fn search(
    query: Query,
    args: &QueryArgs,
    (from, to): (Option<u64>, Option<u64>),
    at: &StoreArgs,
) -> anyhow::Result<Json> {
    let snapshot = snapshot(at)?;
    let request = SearchRequest {
        query,
        from_unix_nano: from,
        to_unix_nano: to,
        limit: args.limit,
        spans_per_trace: 0,
        budget: Budget { time: MOST_TIME, ..Budget::default() },
    };
    let response = spanwise_query::search(&snapshot, &request)?;
    Ok(search_json(&response, snapshot.starts()))
}

fn metrics(
    query: Query,
    args: &QueryArgs,
    (from, to): (Option<u64>, Option<u64>),
    at: &StoreArgs,
) -> anyhow::Result<Json> {
    let snapshot = snapshot(at)?;
    let (start_unix_nano, end_unix_nano) = metrics_window(from, to, snapshot.starts());
    let step = match &args.step {
        None => default_step_ns(end_unix_nano.saturating_sub(start_unix_nano)),
        Some(text) => {
            let step = parse_duration(text).map_err(anyhow::Error::msg)?;
            u64::try_from(step.as_nanos()).unwrap_or(u64::MAX)
        }
    };
    let request = MetricsRequest {
        query,
        start_unix_nano,
        end_unix_nano,
        step_ns: Some(step),
        exemplars: 0,
        budget: Budget { time: MOST_TIME, ..Budget::default() },
    };
    Ok(metrics_json(&spanwise_query::metrics(&snapshot, &request)?, Some(step)))
}

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Bars of one line.
const WIDTH: usize = 60;

/// A line for each series: its labels, its last, least and greatest value, and its course.
fn print_series(answer: &Json) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    let series = answer["series"].as_array().map(Vec::as_slice).unwrap_or_default();
    if series.is_empty() {
        eprintln!("no spans match");
        return Ok(ExitCode::SUCCESS);
    }
    let text = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let names: Vec<String> = series
        .iter()
        .map(|one| {
            let labels = one["labels"].as_object().into_iter().flatten();
            printable(&labels.map(|(key, value)| format!("{key}={}", text(value))).collect::<Vec<_>>().join(" "))
        })
        .collect();
    let wide = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).clamp(6, 80);
    writeln!(out, "{:<wide$}  {:>12}  {:>12}  {:>12}  COURSE", "SERIES", "LAST", "LEAST", "GREATEST")?;
    for (one, name) in series.iter().zip(names) {
        let samples = one["samples"].as_array().map(Vec::as_slice).unwrap_or_default();
        let values: Vec<f64> = samples.iter().filter_map(|sample| sample[1].as_f64()).collect();
        let (least, greatest) = values.iter().fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(*v), high.max(*v)));
        let last = values.last().copied().unwrap_or_default();
        let of = |value: f64| format!("{value:.3}");
        writeln!(out, "{name:<wide$}  {:>12}  {:>12}  {:>12}  {}", of(last), of(least), of(greatest), course(&values))?;
    }
    if answer["weighted"] == true {
        eprintln!("{}", crate::api::tempo_metrics::WEIGHTED);
    }
    if answer["complete"] == false {
        eprintln!("the answer is not complete: the budget of one query ran out");
    }
    Ok(ExitCode::SUCCESS)
}

/// The greatest value of each stretch, as bars.
fn course(values: &[f64]) -> String {
    let stretch = values.len().div_ceil(WIDTH).max(1);
    let greatest = values.iter().copied().fold(0.0f64, f64::max);
    let bar = |stretch: &[f64]| {
        let value = stretch.iter().copied().fold(0.0f64, f64::max);
        let height = if greatest > 0.0 { (value / greatest * 7.0).round() as usize } else { 0 };
        BARS.get(height).copied().unwrap_or(' ')
    };
    values.chunks(stretch).map(bar).collect()
}

fn print_search(answer: &Json) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    let traces = answer["traces"].as_array().map(Vec::as_slice).unwrap_or_default();
    if traces.is_empty() {
        eprintln!("no traces match");
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "{:<32}  {:<24}  {:>9}  {:>5}  {:>6}  ROOT", "TRACE", "START", "DURATION", "SPANS", "ERRORS")?;
    for trace in traces {
        let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
        let start = text(&trace["start_unix_nano"]).parse().map(format_time).unwrap_or_default();
        let root = match &trace["root"] {
            Json::Null => "(root not received)".to_owned(),
            root => format!("{} {}", printable(&text(&root["service"])), printable(&text(&root["operation"]))),
        };
        writeln!(
            out,
            "{:<32}  {:<24}  {:>9}  {:>5}  {:>6}  {root}",
            text(&trace["trace_id"]),
            start,
            duration(trace["duration_ns"].as_u64().unwrap_or(0)),
            trace["span_count"],
            trace["error_count"],
        )?;
    }
    if answer["complete"] == false {
        eprintln!("the answer is not complete: the time for one query ran out");
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::course;

    #[test]
    fn a_course_shows_the_heights() {
        assert_eq!(course(&[0.0, 1.0, 7.0]), "▁▂█");
        assert_eq!(course(&[0.0, 0.0]), "▁▁");
        assert_eq!(course(&[1.0; 600]).chars().count(), 60);
        assert_eq!(course(&[]), "");
    }
}
