//! The commands that end by themselves.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value as Json;
use spanwise_insight::Mode;
use spanwise_insight::clock::{Interval, Offsets};
use spanwise_journal::{RealDisk, SystemClock};
use spanwise_pipeline::Input;
use spanwise_query::Budget;
use spanwise_query::clocks::clocks;
use spanwise_store::{ObjectDisk, Snapshot, Store, StoreConfig};
use spanwise_wire::import::import as read_file;
use spanwise_wire::kept::as_sent;
use spanwise_wire::{Batch, decode_trace};

use super::client::{authority, request};
use super::tree_text::{Style, tree_text};
use super::{StoreArgs, TraceClocks, TraceFormat, WindowArgs};
use crate::api::clocks_api::{AROUND_NS, Timed};
use crate::api::trace_json::{Detail, trace_json};
use crate::time_text::{parse_duration, parse_time};

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
        let objects = at.object_store.clone().map(ObjectDisk::s3).transpose()?.map(Arc::new);
        let config = StoreConfig { objects, ..StoreConfig::new(&at.data_dir) };
        let store = Store::open(config, Arc::new(RealDisk), Arc::new(SystemClock::new()))?;
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

/// Files in and below a directory that is given: a slip such as `import /` ends.
const MOST_FILES: usize = 100_000;

/// The files in and below a directory, by name; what is hidden is left out, and links to directories are not followed.
fn files_below(root: &Path, most: usize) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let (mut open, mut directories) = (vec![root.to_owned()], 0);
    while let Some(directory) = open.pop() {
        directories += 1;
        let entries = std::fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))?;
        for entry in entries {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            match entry.file_type()?.is_dir() {
                true => open.push(entry.path()),
                false if entry.path().is_file() => files.push(entry.path()),
                false => {}
            }
            if files.len() > most || directories + open.len() > most {
                bail!("more than {most} files or directories in and below {}: name a smaller part", root.display());
            }
        }
    }
    files.sort();
    Ok(files)
}

pub fn import(given: &[PathBuf], at: &StoreArgs) -> anyhow::Result<ExitCode> {
    let mut files = Vec::new();
    for path in given {
        if path.is_dir() { files.extend(files_below(path, MOST_FILES)?) } else { files.push(path.clone()) }
    }
    // Beside traces a directory may hold other things.
    let is_meant = |file: &PathBuf| given.contains(file);
    let target = Target::open(at)?;
    let progress = ProgressBar::new(files.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} files  {msg}") {
        progress.set_style(style);
    }
    let (mut spans, mut all_read) = (0, true);
    for file in &files {
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
        all_read &= imported.spans > 0 || !is_meant(file);
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
    all_read &= spans > 0;
    Ok(if all_read { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub fn snapshot(at: &StoreArgs) -> anyhow::Result<Snapshot> {
    if let Some(url) = at.object_store.clone() {
        return Ok(Store::read_with(&RealDisk, &at.data_dir, Some(&ObjectDisk::s3(url)?))?);
    }
    if !at.data_dir.join("manifest").exists() && !at.data_dir.join("bucket.json").exists() {
        bail!("{} holds no traces: give --data-dir, or --addr of a running server", at.data_dir.display());
    }
    Ok(Store::read(&RealDisk, &at.data_dir)?)
}

/// Offsets of hosts, told from the traces around a moment.
fn offsets(start_unix_nano: u64, at: &StoreArgs) -> anyhow::Result<Offsets> {
    let (from, to) = (start_unix_nano.saturating_sub(AROUND_NS), start_unix_nano.saturating_add(AROUND_NS));
    let Some(addr) = &at.addr else {
        return Ok(clocks(&snapshot(at)?, from, to, &Budget::default())?.offsets);
    };
    let answer = request(authority(addr)?, &format!("/api/spanwise/clocks?from={from}&to={to}"), None)?;
    if answer.status != 200 {
        bail!("{addr}: {}", answer.message());
    }
    let answer: Json = serde_json::from_slice(&answer.body)?;
    let mut offsets = Offsets::default();
    offsets.traces = answer["traces"].as_u64().unwrap_or(0);
    for pair in answer["pairs"].as_array().into_iter().flatten() {
        if let (Some(from), Some(to), Some(low), Some(high)) =
            (pair["from"].as_str(), pair["to"].as_str(), pair["low_ns"].as_i64(), pair["high_ns"].as_i64())
        {
            offsets.insert(from, to, Interval { low, high, calls: pair["calls"].as_u64().unwrap_or(0) });
        }
    }
    Ok(offsets)
}

pub fn trace(
    id: &str,
    format: TraceFormat,
    mode: Mode,
    clocks: TraceClocks,
    at: &StoreArgs,
) -> anyhow::Result<ExitCode> {
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
    if matches!(format, TraceFormat::Otlp) {
        out.write_all(as_sent(batch).bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let start = batch.spans().iter().map(|span| span.start_unix_nano).min().unwrap_or(0);
    let trace = decode_trace(&[batch]);
    let timed = match clocks {
        TraceClocks::Raw => Timed::raw(trace),
        TraceClocks::Corrected => Timed::corrected(&trace, &offsets(start, at)?),
    };
    match format {
        TraceFormat::Json => writeln!(out, "{}", trace_json(&timed, Detail::Full, mode))?,
        _ => out.write_all(tree_text(&timed.trace, mode, Style::detect()).as_bytes())?,
    }
    Ok(ExitCode::SUCCESS)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_below_a_directory_have_a_bound() {
        let root = tempfile::tempdir().unwrap();
        let below = root.path().join("a/b");
        std::fs::create_dir_all(&below).unwrap();
        std::fs::create_dir_all(root.path().join(".hidden")).unwrap();
        for file in ["a/1", "a/b/2", "a/b/.3", ".hidden/4"] {
            std::fs::write(root.path().join(file), "").unwrap();
        }
        std::os::unix::fs::symlink(root.path(), below.join("circle")).unwrap();
        let found = |most| files_below(root.path(), most);
        let expected = ["a/1", "a/b/2"].map(|file| root.path().join(file));
        // Two files, three directories.
        assert_eq!(found(3).unwrap(), expected);
        assert!(found(2).unwrap_err().to_string().contains("more than 2 files or directories"));
        std::fs::write(below.join("3"), "").unwrap();
        assert_eq!(found(3).unwrap().len(), 3);
        std::fs::write(below.join("4"), "").unwrap();
        assert!(found(3).unwrap_err().to_string().contains("name a smaller part"));
    }
}
