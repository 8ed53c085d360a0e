//! One writer for a data directory: an advisory lock, and a note of who holds it.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Who holds a data directory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockHolder {
    pub pid: u32,
    /// Address of its HTTP API, once it listens.
    pub http: Option<String>,
}

pub struct Lock(File);

impl Lock {
    /// # Errors
    /// The holder, when there is one, or why the lock file cannot be used.
    pub fn take(path: &Path) -> Result<Lock, LockError> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path).map_err(LockError::Io)?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(LockError::Held(holder(path).unwrap_or_default())),
            Err(error) => return Err(LockError::Io(error.into())),
        }
        let lock = Lock(file);
        lock.note(&LockHolder { pid: std::process::id(), http: None }).map_err(LockError::Io)?;
        Ok(lock)
    }

    /// # Errors
    /// When the note cannot be written.
    pub fn note(&self, holder: &LockHolder) -> std::io::Result<()> {
        let mut file = &self.0;
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(&serde_json::to_vec(holder).unwrap_or_default())
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("process {} holds it: stop that one, or give another --data-dir", .0.pid)]
    Held(LockHolder),
    #[error("cannot use its lock file: {0}")]
    Io(std::io::Error),
}

/// What the lock file of a directory says. The lock may have been given up since.
pub fn holder(path: &Path) -> Option<LockHolder> {
    let mut text = String::new();
    File::open(path).ok()?.take(4096).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

/// Whether some process holds the lock now.
pub fn is_held(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockShared).is_err()
}
