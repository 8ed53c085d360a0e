//! Files as a parameter: what the journal and the store ask of a disk, and the real one.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A disk operation that failed, and on what.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}: {source}", path.display())]
pub struct DiskError {
    pub operation: &'static str,
    pub path: PathBuf,
    pub source: io::Error,
}

impl DiskError {
    pub fn new(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self { operation, path: path.to_owned(), source }
    }

    /// No room: waiting or freeing space helps, nothing is broken.
    pub fn is_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }

    pub fn is_missing(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }

    /// The name is taken.
    pub fn is_taken(&self) -> bool {
        self.source.kind() == io::ErrorKind::AlreadyExists
    }
}

type Result<T> = std::result::Result<T, DiskError>;

/// Blocking file operations. Nothing is durable before `sync_data`, no name before `sync_dir` of its directory.
pub trait Disk: Send + Sync + 'static {
    /// Fails when the file exists.
    fn create_new(&self, path: &Path) -> Result<Arc<dyn DiskFile>>;
    fn open(&self, path: &Path) -> Result<Arc<dyn DiskFile>>;
    fn open_read(&self, path: &Path) -> Result<Arc<dyn DiskFile>>;
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;
    /// Gives `from` the name `to` as well; fails with `AlreadyExists` when `to` exists.
    fn link_new(&self, from: &Path, to: &Path) -> Result<()>;
    /// Puts a whole new file. A reader sees all of it or nothing.
    ///
    /// # Errors
    /// `AlreadyExists` when `path` exists; any other leaves no file of that name.
    fn put_new(&self, path: &Path, parts: &[&[u8]]) -> Result<()> {
        put_aside_and_name(self, path, parts)
    }
    fn remove(&self, path: &Path) -> Result<()>;
    /// Names of the files in a directory, in order.
    fn list(&self, dir: &Path) -> Result<Vec<String>>;
    fn create_dir_all(&self, dir: &Path) -> Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, dir: &Path) -> Result<()>;
    fn sync_dir(&self, dir: &Path) -> Result<()>;
    /// Bytes that can still be written.
    fn free_space(&self, dir: &Path) -> Result<u64>;
}

pub trait DiskFile: Send + Sync {
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()>;
    /// Reads until `buffer` is full or the file ends; returns the bytes read.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize>;
    fn len(&self) -> Result<u64>;
    fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Reserves space up to `len` and makes the file that long, so that no later write within fails for room.
    fn preallocate(&self, len: u64) -> Result<()>;
    fn set_len(&self, len: u64) -> Result<()>;
    fn sync_data(&self) -> Result<()>;
}

/// Reads a whole file of at most `limit` bytes.
///
/// # Errors
/// When it cannot be read or is larger.
pub fn read_file(disk: &dyn Disk, path: &Path, limit: u64) -> Result<Vec<u8>> {
    let file = disk.open_read(path)?;
    let len = file.len()?;
    if len > limit {
        let error = io::Error::new(io::ErrorKind::FileTooLarge, format!("{len} bytes, more than {limit}"));
        return Err(DiskError::new("read", path, error));
    }
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Written aside, synced, then named.
fn put_aside_and_name<D: Disk + ?Sized>(disk: &D, path: &Path, parts: &[&[u8]]) -> Result<()> {
    let aside = path.with_extension("writing");
    let dir = path.parent().unwrap_or(Path::new("."));
    if let Err(error) = disk.remove(&aside)
        && !error.is_missing()
    {
        return Err(error);
    }
    let written = write_and_sync(disk, &aside, parts);
    let named = written.and_then(|()| disk.link_new(&aside, path));
    let _ = disk.remove(&aside);
    named?;
    disk.sync_dir(dir)
}

fn write_and_sync<D: Disk + ?Sized>(disk: &D, path: &Path, parts: &[&[u8]]) -> Result<()> {
    let file = disk.create_new(path)?;
    let mut offset = 0;
    for part in parts {
        file.write_at(part, offset)?;
        offset += part.len() as u64;
    }
    file.sync_data()
}

/// The machine's file system. Symbolic links are not followed at the last step of a path.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

struct RealFile {
    file: File,
    path: PathBuf,
}

/// `O_NOFOLLOW`, as Linux defines it on the architectures we run on.
fn no_follow() -> i32 {
    i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0)
}

impl RealDisk {
    fn open_with(&self, operation: &'static str, path: &Path, options: &mut OpenOptions) -> Result<Arc<dyn DiskFile>> {
        let file =
            options.custom_flags(no_follow()).open(path).map_err(|error| DiskError::new(operation, path, error))?;
        Ok(Arc::new(RealFile { file, path: path.to_owned() }))
    }
}

impl Disk for RealDisk {
    fn create_new(&self, path: &Path) -> Result<Arc<dyn DiskFile>> {
        self.open_with("create", path, OpenOptions::new().read(true).write(true).create_new(true).mode(0o600))
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn DiskFile>> {
        self.open_with("open", path, OpenOptions::new().read(true).write(true))
    }

    fn open_read(&self, path: &Path) -> Result<Arc<dyn DiskFile>> {
        self.open_with("open", path, OpenOptions::new().read(true))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        std::fs::rename(from, to).map_err(|error| DiskError::new("rename", from, error))
    }

    fn link_new(&self, from: &Path, to: &Path) -> Result<()> {
        std::fs::hard_link(from, to).map_err(|error| DiskError::new("link", to, error))
    }

    fn remove(&self, path: &Path) -> Result<()> {
        std::fs::remove_file(path).map_err(|error| DiskError::new("remove", path, error))
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>> {
        let fail = |error| DiskError::new("list", dir, error);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            if let Ok(name) = entry.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn create_dir_all(&self, dir: &Path) -> Result<()> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|error| DiskError::new("create directory", dir, error))
    }

    fn remove_dir(&self, dir: &Path) -> Result<()> {
        std::fs::remove_dir(dir).map_err(|error| DiskError::new("remove", dir, error))
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| DiskError::new("sync directory", dir, error))
    }

    fn free_space(&self, dir: &Path) -> Result<u64> {
        let stat = rustix::fs::statvfs(dir).map_err(|error| DiskError::new("measure", dir, error.into()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

impl RealFile {
    fn fail(&self, operation: &'static str) -> impl FnOnce(io::Error) -> DiskError + '_ {
        move |error| DiskError::new(operation, &self.path, error)
    }
}

impl DiskFile for RealFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file.write_all_at(bytes, offset).map_err(self.fail("write"))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let mut read = 0;
        while read < buffer.len() {
            match self.file.read_at(&mut buffer[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(count) => read += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(DiskError::new("read", &self.path, error)),
            }
        }
        Ok(read)
    }

    fn len(&self) -> Result<u64> {
        self.file.metadata().map(|metadata| metadata.len()).map_err(self.fail("measure"))
    }

    fn preallocate(&self, len: u64) -> Result<()> {
        match rustix::fs::fallocate(&self.file, rustix::fs::FallocateFlags::empty(), 0, len) {
            Ok(()) => Ok(()),
            // A file system without fallocate gets the length alone; running out of room then shows at the write.
            Err(rustix::io::Errno::OPNOTSUPP) => self.set_len(len),
            Err(error) => Err(DiskError::new("preallocate", &self.path, error.into())),
        }
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.file.set_len(len).map_err(self.fail("truncate"))
    }

    fn sync_data(&self) -> Result<()> {
        self.file.sync_data().map_err(self.fail("sync"))
    }
}
