//! `file`: batches as lines of OTLP/JSON or as length-prefixed OTLP, in files that rotate.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use spanwise_wire::Batch;
use spanwise_wire::answer::PartialSuccess;
use spanwise_wire::inflate::{Encoding, deflate};
use spanwise_wire::json::batch_to_otlp_json;

use crate::component::{Build, BuildContext, BuildError, Factory, Kind, Stage, prepare};
use crate::config::Signal;
use crate::config::units::GoDuration;
use crate::flow::{Consumer, Payload, RawFormat, RawRequest, Refusal};
use crate::telemetry::Counter;

pub const FACTORY: Factory = Factory {
    kind: Kind::Exporter,
    name: "file",
    aliases: &[],
    stability: "alpha",
    summary: "Writes OTLP into files that rotate.",
    signals: Signal::ALL,
    schema: || schemars::schema_for!(FileConfig),
    prepare: |node, path, errors| {
        prepare::<FileConfig>(node, path, errors, FileConfig::check, |config| {
            Build::Exporter(Box::new(move |context| build(&config, &context)))
        })
    },
};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FileConfig {
    pub path: String,
    /// json: one request per line. proto: each request after its length, 4 bytes big-endian.
    pub format: Format,
    /// Add to a file that is there instead of beginning it anew. Not with `compression` or `rotation`.
    pub append: bool,
    /// Empty, or zstd: each request compressed by itself, after its length.
    pub compression: String,
    pub rotation: Option<RotationConfig>,
    /// What is written is handed to the system at least this often.
    pub flush_interval: GoDuration,
    pub create_directory: bool,
    /// In octal, for directories that are made.
    pub directory_permissions: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Json,
    Proto,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RotationConfig {
    /// Size at which a file is put aside under the time's name.
    pub max_megabytes: u64,
    /// Older ones are removed; 0 keeps them.
    pub max_days: u64,
    /// More than these are removed, oldest first; 0 keeps all.
    pub max_backups: usize,
    /// Names say UTC; local time is not supported.
    pub localtime: bool,
}

impl Default for RotationConfig {
    fn default() -> Self {
        Self { max_megabytes: 100, max_days: 0, max_backups: 100, localtime: false }
    }
}

impl Default for FileConfig {
    fn default() -> Self {
        Self {
            path: String::new(),
            format: Format::Json,
            append: false,
            compression: String::new(),
            rotation: None,
            flush_interval: GoDuration::seconds(1),
            create_directory: false,
            directory_permissions: "0755".to_owned(),
        }
    }
}

impl FileConfig {
    fn check(&self) -> Result<(), String> {
        if self.path.is_empty() {
            return Err("path must be non-empty".to_owned());
        }
        if !matches!(self.compression.as_str(), "" | "none" | "zstd") {
            return Err(format!("compression {:?} is not supported: zstd or nothing", self.compression));
        }
        if self.append && (self.is_compressed() || self.rotation.is_some()) {
            return Err("append and compression or rotation enabled at the same time is not supported".to_owned());
        }
        if self.rotation.as_ref().is_some_and(|rotation| rotation.localtime) {
            return Err("rotation.localtime is not supported: names say UTC".to_owned());
        }
        if u32::from_str_radix(&self.directory_permissions, 8).is_err() {
            return Err(format!("directory_permissions {:?} must be a valid octal", self.directory_permissions));
        }
        Ok(())
    }

    fn is_compressed(&self) -> bool {
        self.compression == "zstd"
    }
}

fn build(config: &FileConfig, context: &BuildContext) -> Result<Arc<dyn Stage>, BuildError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let path = PathBuf::from(&config.path);
    if let Some(dir) = path.parent().filter(|dir| config.create_directory && !dir.as_os_str().is_empty()) {
        let mode = u32::from_str_radix(&config.directory_permissions, 8).unwrap_or(0o755);
        let made = std::fs::DirBuilder::new().recursive(true).mode(mode).create(dir);
        made.map_err(|error| context.error(format!("cannot make {}: {error}", dir.display())))?;
    }
    let keeps = config.append || config.rotation.is_some();
    let writer = Writer::open(path, keeps, config.rotation.clone());
    let writer = writer.map_err(|error| context.error(format!("cannot write {}: {error}", config.path)))?;
    let id = context.id.to_string();
    let counter = |name, help| context.telemetry.counter(name, help, &[("exporter", &id)]);
    let exporter = Arc::new(FileExporter {
        writer: Arc::new(Mutex::new(writer)),
        format: config.format,
        is_compressed: config.is_compressed(),
        sent: counter("otelcol_exporter_sent_spans", "Spans sent."),
        failed: counter("otelcol_exporter_send_failed_spans", "Spans dropped after sending failed for good."),
    });
    let (writer, every) = (Arc::downgrade(&exporter.writer), config.flush_interval.0.max(SHORTEST_FLUSH));
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(every).await;
            let Some(writer) = writer.upgrade() else { return };
            let flushed = tokio::task::spawn_blocking(move || writer.lock().flush()).await;
            if let Ok(Err(error)) = flushed {
                tracing::error!(%error, "cannot write the file");
            }
        }
    });
    Ok(exporter)
}

const SHORTEST_FLUSH: Duration = Duration::from_millis(10);

struct FileExporter {
    writer: Arc<Mutex<Writer>>,
    format: Format,
    is_compressed: bool,
    sent: Counter,
    failed: Counter,
}

/// One request as it stands in the file.
fn encode(batch: &Batch, format: Format, is_compressed: bool) -> Result<Vec<u8>, String> {
    let body = match format {
        Format::Json => Bytes::from(batch_to_otlp_json(batch)),
        Format::Proto => batch.bytes().clone(),
    };
    put(body, format, is_compressed)
}

/// A body with what separates it from the next.
fn put(body: Bytes, format: Format, is_compressed: bool) -> Result<Vec<u8>, String> {
    if format == Format::Json && !is_compressed {
        return Ok([&body[..], b"\n"].concat());
    }
    let body =
        if is_compressed { deflate(Encoding::Zstd, None, &body).map_err(|error| error.to_string())? } else { body };
    let length = u32::try_from(body.len()).map_err(|_| "request is larger than 4 GiB".to_owned())?;
    Ok([&length.to_be_bytes()[..], &body].concat())
}

#[async_trait]
impl Consumer for FileExporter {
    async fn consume(&self, payload: Payload) -> Result<(), Refusal> {
        let spans = payload.batch.len_spans() as u64;
        let (writer, format, is_compressed) = (Arc::clone(&self.writer), self.format, self.is_compressed);
        let write = move || {
            let bytes = encode(&payload.batch, format, is_compressed)?;
            writer.lock().write(&bytes).map_err(|error| error.to_string())
        };
        let written = tokio::task::spawn_blocking(write).await.unwrap_or_else(|error| Err(error.to_string()));
        match written {
            Ok(()) => {
                self.sent.add(spans);
                Ok(())
            }
            Err(message) => {
                self.failed.add(spans);
                Err(Refusal::unavailable(message))
            }
        }
    }
}

#[async_trait]
impl Stage for FileExporter {
    /// As it came: a line of JSON, or protobuf behind its length. The other form cannot be written.
    async fn forward(&self, request: &RawRequest) -> Result<PartialSuccess, Refusal> {
        let (writer, is_compressed) = (Arc::clone(&self.writer), self.is_compressed);
        let fits = matches!(
            (request.format, self.format),
            (RawFormat::Proto, Format::Proto) | (RawFormat::Json, Format::Json)
        );
        if !fits {
            let message =
                format!("{} are written as they come: set the format of the exporter to theirs", request.signal);
            return Err(Refusal::permanent(message));
        }
        let format = self.format;
        let bytes = match format {
            // Between JSON's tokens only: one request is one line.
            Format::Json => request.bytes.iter().copied().filter(|byte| !matches!(byte, b'\n' | b'\r')).collect(),
            Format::Proto => request.bytes.clone(),
        };
        let write = move || {
            let record = put(bytes, format, is_compressed)?;
            writer.lock().write(&record).map_err(|error| error.to_string())
        };
        let written = tokio::task::spawn_blocking(write).await.unwrap_or_else(|error| Err(error.to_string()));
        written.map(|()| PartialSuccess::default()).map_err(Refusal::unavailable)
    }

    async fn drain(&self) {
        let writer = Arc::clone(&self.writer);
        let flushed = tokio::task::spawn_blocking(move || writer.lock().flush()).await;
        if let Ok(Err(error)) = flushed {
            tracing::error!(%error, "cannot write the file to its end");
        }
    }
}

struct Writer {
    path: PathBuf,
    file: BufWriter<File>,
    size: u64,
    rotation: Option<RotationConfig>,
}

impl Writer {
    fn open(path: PathBuf, keeps: bool, rotation: Option<RotationConfig>) -> std::io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.create(true).write(true).append(keeps).truncate(!keeps).open(&path)?;
        let size = file.metadata()?.len();
        Ok(Self { path, file: BufWriter::new(file), size, rotation })
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if let Some(rotation) = &self.rotation {
            let limit = rotation.max_megabytes.max(1) << 20;
            if self.size > 0 && self.size + bytes.len() as u64 > limit {
                self.rotate(&rotation.clone())?;
            }
        }
        self.file.write_all(bytes)?;
        self.size += bytes.len() as u64;
        Ok(())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }

    /// `traces.json` becomes `traces-2026-11-24T17-03-05.123.json`, and a new one begins.
    fn rotate(&mut self, rotation: &RotationConfig) -> std::io::Result<()> {
        self.file.flush()?;
        // Later than every other, also where two come within one millisecond.
        let newest = backups(&self.path)?.last().map(|(time, _)| *time + TimeDelta::milliseconds(1));
        let now = utc_now().max(newest.unwrap_or_default());
        std::fs::rename(&self.path, backup_name(&self.path, now))?;
        *self = Self::open(std::mem::take(&mut self.path), false, self.rotation.take())?;
        remove_old(&self.path, rotation, now)
    }
}

const TIME_FORMAT: &str = "%Y-%m-%dT%H-%M-%S%.3f";

fn stem_and_extension(path: &Path) -> (String, String) {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    match name.rfind('.') {
        Some(dot) => (format!("{}-", &name[..dot]), name[dot..].to_owned()),
        None => (format!("{name}-"), String::new()),
    }
}

fn utc_now() -> DateTime<Utc> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    DateTime::from_timestamp(since.as_secs() as i64, since.subsec_nanos()).unwrap_or_default()
}

fn backup_name(path: &Path, at: DateTime<Utc>) -> PathBuf {
    let (stem, extension) = stem_and_extension(path);
    path.with_file_name(format!("{stem}{}{extension}", at.format(TIME_FORMAT)))
}

/// Files put aside before, oldest first.
fn backups(path: &Path) -> std::io::Result<Vec<(DateTime<Utc>, PathBuf)>> {
    let (stem, extension) = stem_and_extension(path);
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut backups = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let time = name.strip_prefix(&stem).and_then(|rest| rest.strip_suffix(&extension));
        if let Some(time) = time.and_then(|time| chrono::NaiveDateTime::parse_from_str(time, TIME_FORMAT).ok()) {
            backups.push((time.and_utc(), dir.join(name)));
        }
    }
    backups.sort();
    Ok(backups)
}

/// Removes backups beyond the number and the age that the config allows.
fn remove_old(path: &Path, rotation: &RotationConfig, now: DateTime<Utc>) -> std::io::Result<()> {
    let backups = backups(path)?;
    let oldest = now - TimeDelta::days(i64::try_from(rotation.max_days).unwrap_or(i64::MAX).min(36_500));
    let surplus = if rotation.max_backups > 0 { backups.len().saturating_sub(rotation.max_backups) } else { 0 };
    for (number, (time, file)) in backups.iter().enumerate() {
        if number < surplus || (rotation.max_days > 0 && *time < oldest) {
            std::fs::remove_file(file)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::tests::{context, payload};

    fn start(dir: &Path, yaml: &str) -> Arc<dyn Stage> {
        let node = crate::config::yaml::parse(yaml, 0).unwrap();
        let mut errors = Vec::new();
        let config: Option<FileConfig> = crate::config::decode::decode(&node, "p", &mut errors);
        let mut config = config.unwrap_or_else(|| panic!("{errors:?}"));
        config.path = dir.join("sub/traces.json").to_string_lossy().into_owned();
        config.check().unwrap();
        build(&config, &context("file")).unwrap_or_else(|error| panic!("{error}"))
    }

    #[tokio::test]
    async fn each_request_is_a_line_that_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("sub/traces.json");
        for (yaml, expected) in [("{create_directory: true}", 2), ("{append: true}", 4), ("{append: false}", 2)] {
            let exporter = start(dir.path(), yaml);
            exporter.consume(payload(2)).await.unwrap();
            exporter.consume(payload(3)).await.unwrap();
            exporter.drain().await;
            let text = std::fs::read_to_string(&file).unwrap();
            assert_eq!(text.lines().count(), expected, "{yaml}");
            let line: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
            assert_eq!(line["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().len(), 3);
        }
    }

    #[tokio::test]
    async fn binary_requests_stand_behind_their_length() {
        let dir = tempfile::tempdir().unwrap();
        let exporter = start(dir.path(), "{format: proto, create_directory: true}");
        let sent = payload(4);
        exporter.consume(sent.clone()).await.unwrap();
        exporter.drain().await;
        let bytes = std::fs::read(dir.path().join("sub/traces.json")).unwrap();
        assert_eq!(bytes[..4], (sent.batch.bytes().len() as u32).to_be_bytes());
        assert_eq!(&bytes[4..], &sent.batch.bytes()[..]);
    }

    #[test]
    fn files_rotate_and_old_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.json");
        let rotation = RotationConfig { max_megabytes: 1, max_backups: 2, ..RotationConfig::default() };
        let mut writer = Writer::open(path.clone(), true, Some(rotation)).unwrap();
        for round in 0..6u8 {
            writer.write(&vec![round; 700 << 10]).unwrap();
        }
        writer.flush().unwrap();
        let mut names: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names.len(), 3, "{names:?}");
        assert!(names[0].starts_with("t-20") && names[2] == "t.json", "{names:?}");
        assert_eq!(std::fs::read(&path).unwrap()[0], 5);
        assert_eq!(std::fs::read(dir.path().join(&names[1])).unwrap()[0], 4);
    }

    #[test]
    fn settings_that_exclude_each_other_are_errors() {
        for config in [
            FileConfig::default(),
            FileConfig {
                path: "x".to_owned(),
                append: true,
                rotation: Some(RotationConfig::default()),
                ..FileConfig::default()
            },
            FileConfig { path: "x".to_owned(), compression: "gzip".to_owned(), ..FileConfig::default() },
        ] {
            assert!(config.check().is_err(), "{config:?}");
        }
    }
}
