//! The commands that end by themselves.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value as Json, json};
use spanwise_journal::{RealDisk, SystemClock};
use spanwise_pipeline::Input;
use spanwise_pipeline::component::Kind;
use spanwise_query::{Budget, SearchRequest};
use spanwise_store::{Snapshot, Store, StoreConfig};
use spanwise_wire::import::import as read_file;
use spanwise_wire::{Batch, decode_trace};

use super::client::{authority, encode, request};
use super::tree_text::{Style, duration, printable, tree_text};
use super::{Format, StoreArgs, TraceFormat, WindowArgs};
use crate::api::trace_json::{Detail, trace_json};
use crate::api::{search_json, summary_json};
use crate::time_text::{format_time, parse_duration, parse_time};

/// Exit status of `trace` when there is none.
const NOT_FOUND: u8 = 3;

pub fn validate(input: &Input) -> anyhow::Result<ExitCode> {
    if input.sources.is_empty() {
        bail!("nothing to check: give --config PATH");
    }
    let config = crate::server::load_config(input)?;
    for warning in &config.warnings {
        eprintln!("warning: {warning}");
    }
    Ok(ExitCode::SUCCESS)
}

pub fn print_config(input: &Input) -> anyhow::Result<ExitCode> {
    let config = crate::server::load_config(input)?;
    let mut out = String::new();
    yaml(&mut out, &config.to_json(), 0);
    std::io::stdout().write_all(out.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Block style; scalars as JSON, which YAML reads.
fn yaml(out: &mut String, value: &Json, indent: usize) {
    let pad = "  ".repeat(indent);
    match value {
        Json::Object(members) => {
            for (key, value) in members {
                match value {
                    Json::Object(inner) if !inner.is_empty() => {
                        out.push_str(&format!("{pad}{key}:\n"));
                        yaml(out, value, indent + 1);
                    }
                    value => out.push_str(&format!("{pad}{key}: {value}\n")),
                }
            }
        }
        value => out.push_str(&format!("{pad}{value}\n")),
    }
}

pub fn components(format: Format) -> anyhow::Result<ExitCode> {
    let registry = crate::server::registry();
    let mut out = std::io::stdout().lock();
    if format == Format::Json {
        let list: Json = registry
            .0
            .iter()
            .map(|factory| {
                json!({"kind": factory.kind.singular(), "type": factory.name, "aliases": factory.aliases,
                    "stability": factory.stability, "signals": ["traces"], "summary": factory.summary})
            })
            .collect();
        writeln!(out, "{}", json!({"components": list}))?;
        return Ok(ExitCode::SUCCESS);
    }
    for kind in Kind::ALL {
        let of_kind: Vec<_> = registry.0.iter().filter(|factory| factory.kind == kind).collect();
        if !of_kind.is_empty() {
            writeln!(out, "{}", kind.section())?;
        }
        for factory in of_kind {
            writeln!(out, "  {:<16} {:<8} {}", factory.name, factory.stability, factory.summary)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Where imported spans go.
enum Target {
    Store(Arc<Store>, tokio::runtime::Runtime),
    Server(String),
}

impl Target {
    fn open(at: &StoreArgs) -> anyhow::Result<Target> {
        if let Some(addr) = &at.addr {
            return Ok(Target::Server(authority(addr)?.to_owned()));
        }
        if let Some(holder) = Store::holder(&at.data_dir) {
            let http = holder.http.with_context(|| {
                format!("{} is held by process {}, which does not serve", at.data_dir.display(), holder.pid)
            })?;
            return Ok(Target::Server(http));
        }
        let store = Store::open(StoreConfig::new(&at.data_dir), Arc::new(RealDisk), Arc::new(SystemClock::new()))?;
        Ok(Target::Store(store, tokio::runtime::Builder::new_current_thread().enable_all().build()?))
    }

    fn put(&self, batch: Batch) -> anyhow::Result<()> {
        match self {
            Target::Store(store, runtime) => Ok(runtime.block_on(store.append(batch))?),
            Target::Server(http) => {
                let answer = request(http, "/api/spanwise/import", Some(batch.bytes().clone()))?;
                if answer.status != 200 {
                    bail!("{http} refused: {}", answer.message());
                }
                Ok(())
            }
        }
    }
}

pub fn import(files: &[PathBuf], at: &StoreArgs) -> anyhow::Result<ExitCode> {
    let target = Target::open(at)?;
    let progress = ProgressBar::new(files.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} files  {msg}") {
        progress.set_style(style);
    }
    let (mut spans, mut all_read) = (0, true);
    for file in files {
        let bytes = if file.as_os_str() == "-" {
            let mut bytes = Vec::new();
            std::io::stdin().read_to_end(&mut bytes).map(|_| bytes)
        } else {
            std::fs::read(file)
        };
        let imported = match bytes {
            Ok(bytes) => read_file(&Bytes::from(bytes)),
            Err(error) => {
                progress.suspend(|| eprintln!("error: cannot read {}: {error}", file.display()));
                all_read = false;
                continue;
            }
        };
        for (reason, count) in &imported.reasons {
            progress.suspend(|| eprintln!("{}: {count} not read: {reason}", file.display()));
        }
        all_read &= imported.spans > 0;
        spans += imported.spans;
        for batch in imported.batches {
            target.put(batch)?;
        }
        progress.set_message(format!("{spans} spans"));
        progress.inc(1);
    }
    progress.finish_and_clear();
    if let Target::Store(store, runtime) = &target {
        store.cut(runtime.handle())?;
    }
    eprintln!("{spans} spans imported");
    Ok(if all_read { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub fn snapshot(at: &StoreArgs) -> anyhow::Result<Snapshot> {
    if !at.data_dir.join("manifest").exists() {
        bail!("{} holds no traces: give --data-dir, or --addr of a running server", at.data_dir.display());
    }
    Ok(Store::read(&RealDisk, &at.data_dir)?)
}

pub fn trace(id: &str, format: TraceFormat, at: &StoreArgs) -> anyhow::Result<ExitCode> {
    let trace_id: spanwise_model::TraceId =
        id.parse().map_err(|_| anyhow::anyhow!("{id:?} is not a trace id: 1 to 32 hex digits are"))?;
    let batch = match &at.addr {
        Some(addr) => {
            let answer = request(authority(addr)?, &format!("/api/spanwise/traces/{trace_id}/otlp"), None)?;
            match answer.status {
                200 => Some(Batch::from_trusted(answer.body)?),
                404 => None,
                _ => bail!("{addr}: {}", answer.message()),
            }
        }
        None => snapshot(at)?.trace(&trace_id)?,
    };
    let Some(batch) = batch else {
        eprintln!("error: no trace {trace_id} is stored");
        return Ok(ExitCode::from(NOT_FOUND));
    };
    let mut out = std::io::stdout().lock();
    match format {
        TraceFormat::Otlp => out.write_all(batch.bytes())?,
        TraceFormat::Json => writeln!(out, "{}", trace_json(&decode_trace(&[batch]), Detail::Full))?,
        TraceFormat::Tree => out.write_all(tree_text(&decode_trace(&[batch]), Style::detect()).as_bytes())?,
    }
    Ok(ExitCode::SUCCESS)
}

pub struct QueryArgs {
    pub traceql: String,
    pub window: WindowArgs,
    pub limit: usize,
}

/// From and to, in nanoseconds since 1970.
pub fn window(args: &WindowArgs) -> anyhow::Result<(Option<u64>, Option<u64>)> {
    let time = |text: &Option<String>| text.as_deref().map(parse_time).transpose().map_err(anyhow::Error::msg);
    let (mut from, to) = (time(&args.from)?, time(&args.to)?);
    if let Some(since) = &args.since {
        let since = parse_duration(since).map_err(anyhow::Error::msg)?;
        let now = spanwise_journal::Clock::now_unix_nano(&SystemClock::new());
        from = Some(now.saturating_sub(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)));
    }
    Ok((from, to))
}

pub fn query(args: &QueryArgs, format: Format, at: &StoreArgs) -> anyhow::Result<ExitCode> {
    let (from, to) = window(&args.window)?;
    let parsed = spanwise_query::traceql::parse(&args.traceql).map_err(|error| {
        let (line, column) = error.position(&args.traceql);
        let shown = args.traceql.lines().nth(line - 1).unwrap_or_default();
        let caret = " ".repeat(column - 1);
        let hint = error.hint.as_ref().map(|hint| format!("\n    {hint}")).unwrap_or_default();
        anyhow::anyhow!("{error}\n    {shown}\n    {caret}^{hint}")
    })?;
    let answer = match &at.addr {
        Some(addr) => {
            let window =
                [("from", from), ("to", to)].into_iter().filter_map(|(key, time)| Some(format!("&{key}={}", time?)));
            let path = format!(
                "/api/spanwise/search?q={}&limit={}{}",
                encode(&args.traceql),
                args.limit,
                window.collect::<String>()
            );
            let answer = request(authority(addr)?, &path, None)?;
            if answer.status != 200 {
                bail!("{addr}: {}", answer.message());
            }
            serde_json::from_slice(&answer.body)?
        }
        None => {
            let snapshot = snapshot(at)?;
            let request = SearchRequest {
                query: parsed,
                from_unix_nano: from,
                to_unix_nano: to,
                limit: args.limit,
                spans_per_trace: 0,
                budget: Budget { time: std::time::Duration::from_secs(600), ..Budget::default() },
            };
            let response = spanwise_query::search(&snapshot, &request)?;
            debug_assert!(response.traces.iter().all(|trace| summary_json(trace).is_object()));
            search_json(&response, snapshot.starts())
        }
    };
    print_search(&answer, format)
}

fn print_search(answer: &Json, format: Format) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    if format == Format::Json {
        writeln!(out, "{answer}")?;
        return Ok(ExitCode::SUCCESS);
    }
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
