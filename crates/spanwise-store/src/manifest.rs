//! Which blocks there are. Each version is a new file, put only if its name is free; the newest readable one counts.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use spanwise_journal::disk::{Disk, read_file};
use spanwise_journal::{DiskError, Position};

/// Largest manifest: some 400,000 blocks.
const MANIFEST_BYTES: u64 = 128 << 20;
/// Older versions that stay, for readers that are just opening one.
const KEPT_VERSIONS: usize = 4;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockMeta {
    pub id: String,
    pub format: u32,
    pub spans: u64,
    pub traces: u64,
    /// Of all its files.
    pub bytes: u64,
    /// Of these, what insight adds. 0 before format 3.
    #[serde(default)]
    pub facts_bytes: u64,
    pub min_start_unix_nano: u64,
    pub max_start_unix_nano: u64,
    /// When its newest span arrived: what age and order of expiry count from.
    pub received_unix_nano: u64,
    /// How often its spans were rewritten.
    pub level: u32,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub version: u64,
    pub blocks: Vec<BlockMeta>,
    /// Who wrote this version, where several could: see `store.rs`. Empty in a data directory, which has one writer.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub writer: String,
    /// Records of the writer's log up to here lie in blocks.
    pub stored_segment: u64,
    pub stored_offset: u32,
    /// Number that the next block is named after.
    pub next_block: u64,
    /// Spans that were expired, ever.
    pub expired_spans: u64,
}

impl Manifest {
    pub fn stored(&self) -> Position {
        Position { segment: self.stored_segment, offset: self.stored_offset }
    }

    pub fn set_stored(&mut self, position: Position) {
        self.stored_segment = position.segment;
        self.stored_offset = position.offset;
    }

    /// The newest version that can be read; an empty manifest when there is none.
    ///
    /// # Errors
    /// When the directory cannot be read, or no version of several can be.
    pub fn load(disk: &dyn Disk, dir: &Path) -> Result<Manifest, DiskError> {
        let names = match disk.list(dir) {
            Ok(names) => names,
            Err(error) if error.is_missing() => return Ok(Manifest::default()),
            Err(error) => return Err(error),
        };
        let mut versions: Vec<u64> = names.iter().filter_map(|name| version_of(name)).collect();
        versions.sort_unstable();
        let mut unreadable = None;
        for version in versions.into_iter().rev() {
            let path = path_of(dir, version);
            match read_file(disk, &path, MANIFEST_BYTES) {
                Ok(bytes) => match serde_json::from_slice(&bytes) {
                    Ok(manifest) => return Ok(manifest),
                    Err(error) => {
                        tracing::error!(path = %path.display(), %error, "manifest cannot be read: trying the one before");
                        unreadable = Some(DiskError::new("read", &path, std::io::Error::other(error)));
                    }
                },
                Err(error) if error.is_missing() => {}
                Err(error) => return Err(error),
            }
        }
        unreadable.map_or(Ok(Manifest::default()), Err)
    }

    /// Puts this version; fails with `AlreadyExists` when another writer did.
    ///
    /// # Errors
    /// When it cannot be written; the version before still counts then.
    pub fn publish(&self, disk: &dyn Disk, dir: &Path) -> Result<(), DiskError> {
        let bytes =
            serde_json::to_vec(self).map_err(|error| DiskError::new("write", dir, std::io::Error::other(error)))?;
        disk.put_new(&path_of(dir, self.version), &[&bytes])?;
        if let Ok(names) = disk.list(dir) {
            let mut versions: Vec<u64> = names.iter().filter_map(|name| version_of(name)).collect();
            versions.sort_unstable();
            let old = versions.len().saturating_sub(KEPT_VERSIONS);
            for version in &versions[..old] {
                // Left for the next time if it cannot be removed now.
                let _ = disk.remove(&path_of(dir, *version));
            }
        }
        Ok(())
    }
}

fn path_of(dir: &Path, version: u64) -> PathBuf {
    dir.join(format!("{version:016x}.json"))
}

fn version_of(name: &str) -> Option<u64> {
    u64::from_str_radix(name.strip_suffix(".json").filter(|digits| digits.len() == 16)?, 16).ok()
}
