//! `file_storage`: a directory in which sending queues are kept. Its format is a journal, not the collector's bbolt:
//! a queue that the Go collector left behind is not read.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::component::{Build, BuildContext, BuildError, Factory, Kind, prepare};
use crate::config::units::GoDuration;

pub const FACTORY: Factory = Factory {
    kind: Kind::Extension,
    name: "file_storage",
    aliases: &[],
    stability: "beta",
    summary: "A directory in which sending queues are kept.",
    signals: &[],
    schema: || schemars::schema_for!(FileStorageConfig),
    prepare: |node, path, errors| {
        prepare::<FileStorageConfig>(node, path, errors, FileStorageConfig::check, |config| {
            Build::Extension(Box::new(move |context| open(&config, &context)))
        })
    },
};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FileStorageConfig {
    pub directory: String,
    /// Make the directory when it is missing.
    pub create_directory: bool,
    /// In octal, for a directory that is made.
    pub directory_permissions: String,
    /// Bytes on disk; beyond it the queues refuse. 0 means 10 GiB or half of what is free.
    pub max_size: u64,
    /// Accepted as the collector's configs set it; ours does not wait for a lock.
    pub timeout: GoDuration,
    /// Accepted: ours always syncs before it says yes.
    pub fsync: bool,
    /// Accepted: damage is put aside, and the process starts.
    pub recreate: bool,
    pub compaction: CompactionConfig,
}

/// Accepted as the collector's configs set it; ours frees space by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct CompactionConfig {
    pub on_start: bool,
    pub on_rebound: bool,
    pub directory: String,
    pub max_transaction_size: u64,
    pub cleanup_on_start: bool,
    pub rebound_needed_threshold_mib: u64,
    pub rebound_trigger_threshold_mib: u64,
    pub check_interval: GoDuration,
}

impl Default for FileStorageConfig {
    fn default() -> Self {
        Self {
            directory: "/var/lib/otelcol/file_storage".to_owned(),
            create_directory: false,
            directory_permissions: "0750".to_owned(),
            max_size: 0,
            timeout: GoDuration::seconds(1),
            fsync: false,
            recreate: false,
            compaction: CompactionConfig::default(),
        }
    }
}

impl FileStorageConfig {
    fn permissions(&self) -> Result<u32, String> {
        u32::from_str_radix(&self.directory_permissions, 8).ok().filter(|bits| *bits <= 0o777).ok_or_else(|| {
            format!("'directory_permissions' value must be a valid octal: {:?}", self.directory_permissions)
        })
    }

    fn check(&self) -> Result<(), String> {
        self.permissions().map(drop)
    }
}

fn open(config: &FileStorageConfig, context: &BuildContext) -> Result<(), BuildError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let dir = Path::new(&config.directory);
    if !dir.is_dir() && !config.create_directory {
        let message =
            format!("directory must exist: {}. You can enable the create_directory option to create it", dir.display());
        return Err(context.error(message));
    }
    let mode = config.permissions().map_err(|reason| context.error(reason))?;
    let made = std::fs::DirBuilder::new().recursive(true).mode(mode).create(dir);
    made.map_err(|error| context.error(format!("cannot make {}: {error}", dir.display())))?;
    let max_bytes = Some(config.max_size).filter(|bytes| *bytes > 0);
    let opened = context.spools.open(&context.id.to_string(), dir, max_bytes);
    opened.map(drop).map_err(|error| context.error(format!("cannot use {}: {error}", dir.display())))
}
