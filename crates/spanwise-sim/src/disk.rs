//! A disk in memory that fails when it is told to, and that forgets what was never synced.
//!
//! What a real disk promises holds here and nothing more: bytes are durable after `sync_data`, a name after `sync_dir`
//! of its directory. Operations are counted; at a chosen one the disk is full, does half or nothing, does all and
//! says that it failed, or dies.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use spanwise_journal::{Disk, DiskError, DiskFile};

/// What happens at the chosen operation. All but `Dies` happen once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// No room; nothing was done.
    IsFull,
    /// A write is done by half, anything else not at all; then an I/O error.
    Tears,
    /// It is done, and the answer is an I/O error all the same.
    Lies,
    /// This operation and all later ones fail.
    Dies,
}

impl Fault {
    pub const ALL: [Fault; 4] = [Fault::IsFull, Fault::Tears, Fault::Lies, Fault::Dies];
}

/// What is there after the machine came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survival {
    /// Only the process ended: all of it.
    Everything,
    /// Power was cut: what was synced.
    Synced,
    /// Power was cut while the disk was busy: names as they were last, of unsynced writes the first half, the last of
    /// them torn.
    Torn,
}

impl Survival {
    pub const ALL: [Survival; 3] = [Survival::Everything, Survival::Synced, Survival::Torn];
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    File(usize),
    Dir,
}

#[derive(Debug, Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Resize(u64),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Change::Write(offset, written) => {
                let (start, end) = (*offset as usize, *offset as usize + written.len());
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[start..end].copy_from_slice(written);
            }
            Change::Resize(len) => bytes.resize(*len as usize, 0),
        }
    }

    fn half(&self) -> Change {
        match self {
            Change::Write(offset, written) => Change::Write(*offset, written[..written.len() / 2].to_vec()),
            Change::Resize(len) => Change::Resize(*len),
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Inode {
    bytes: Vec<u8>,
    synced: Vec<u8>,
    unsynced: Vec<Change>,
}

impl Inode {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.bytes);
        self.unsynced.push(change);
    }

    fn survive(&self, survival: Survival) -> Inode {
        let bytes = match survival {
            Survival::Everything => self.bytes.clone(),
            Survival::Synced => self.synced.clone(),
            Survival::Torn => {
                let mut bytes = self.synced.clone();
                let kept = &self.unsynced[..self.unsynced.len().div_ceil(2)];
                if let Some((last, whole)) = kept.split_last() {
                    whole.iter().for_each(|change| change.apply(&mut bytes));
                    last.half().apply(&mut bytes);
                }
                bytes
            }
        };
        Inode { synced: bytes.clone(), bytes, unsynced: Vec::new() }
    }
}

#[derive(Debug, Default)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, Entry>,
    /// Names that a power cut leaves.
    durable: BTreeMap<PathBuf, Entry>,
    operations: u64,
    fault: Option<(u64, Fault)>,
    hit_at: Option<u64>,
    is_dead: bool,
}

/// Clones share one disk.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

type Result<T> = std::result::Result<T, DiskError>;

/// What an operation is to do.
enum Verdict {
    Do,
    DoAndFail(io::Error),
    DoHalfAndFail(io::Error),
    Fail(io::Error),
}

impl State {
    /// `takes_room`: the operation may find the disk full.
    fn judge(&mut self, takes_room: bool) -> Verdict {
        let broken = || io::Error::other("simulated fault");
        if self.is_dead {
            return Verdict::Fail(broken());
        }
        let number = self.operations;
        self.operations += 1;
        let Some((at, fault)) = self.fault.filter(|(at, _)| number >= *at && self.hit_at.is_none()) else {
            return Verdict::Do;
        };
        // A disk is full at the next operation that needs room.
        if fault == Fault::IsFull && !takes_room || fault != Fault::IsFull && number != at {
            return Verdict::Do;
        }
        self.hit_at = Some(number);
        match fault {
            Fault::IsFull => Verdict::Fail(io::Error::from(io::ErrorKind::StorageFull)),
            Fault::Tears => Verdict::DoHalfAndFail(broken()),
            Fault::Lies => Verdict::DoAndFail(broken()),
            Fault::Dies => {
                self.is_dead = true;
                Verdict::Fail(broken())
            }
        }
    }

    fn children(names: &BTreeMap<PathBuf, Entry>, dir: &Path) -> BTreeMap<PathBuf, Entry> {
        names
            .iter()
            .filter(|(path, _)| path.parent() == Some(dir))
            .map(|(path, entry)| (path.clone(), *entry))
            .collect()
    }
}

impl SimDisk {
    /// An empty disk on which `root` exists.
    pub fn new(root: &Path) -> Self {
        let mut state = State::default();
        for dir in root.ancestors() {
            state.names.insert(dir.to_owned(), Entry::Dir);
        }
        state.durable = state.names.clone();
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// From now on operation `at`, counted from the first of this disk, goes wrong.
    pub fn fail_at(&self, at: u64, fault: Fault) {
        self.state.lock().fault = Some((at, fault));
    }

    pub fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// The operation that went wrong.
    pub fn hit_at(&self) -> Option<u64> {
        self.state.lock().hit_at
    }

    pub fn is_dead(&self) -> bool {
        self.state.lock().is_dead
    }

    /// As if the process had ended: whatever it still tries fails.
    pub fn die(&self) {
        self.state.lock().is_dead = true;
    }

    /// The same disk after the end of the process or of the power; it no longer fails.
    pub fn restarted(&self, survival: Survival) -> SimDisk {
        let state = self.state.lock();
        let inodes: Vec<Inode> = state.inodes.iter().map(|inode| inode.survive(survival)).collect();
        let names = match survival {
            Survival::Everything | Survival::Torn => &state.names,
            Survival::Synced => &state.durable,
        };
        let mut reachable: BTreeMap<PathBuf, Entry> = BTreeMap::new();
        // Parents come before children.
        for (path, entry) in names {
            if path.parent().is_none_or(|parent| parent.as_os_str().is_empty() || reachable.contains_key(parent)) {
                reachable.insert(path.clone(), *entry);
            }
        }
        let restarted = State { inodes, durable: reachable.clone(), names: reachable, ..State::default() };
        SimDisk { state: Arc::new(Mutex::new(restarted)) }
    }

    /// Runs `change` as the verdict says.
    fn change(
        &self,
        operation: &'static str,
        path: &Path,
        takes_room: bool,
        change: impl FnOnce(&mut State) -> io::Result<()>,
    ) -> Result<()> {
        let mut state = self.state.lock();
        let fail = |error| DiskError::new(operation, path, error);
        match state.judge(takes_room) {
            Verdict::Do => change(&mut state).map_err(fail),
            Verdict::DoAndFail(error) => change(&mut state).and(Err(error)).map_err(fail),
            Verdict::DoHalfAndFail(error) | Verdict::Fail(error) => Err(fail(error)),
        }
    }

    /// Reading changes nothing, so a lie about it is a refusal.
    fn read<T>(&self, operation: &'static str, path: &Path, read: impl FnOnce(&State) -> io::Result<T>) -> Result<T> {
        let mut state = self.state.lock();
        match state.judge(false) {
            Verdict::Do => read(&state).map_err(|error| DiskError::new(operation, path, error)),
            Verdict::DoAndFail(error) | Verdict::DoHalfAndFail(error) | Verdict::Fail(error) => {
                Err(DiskError::new(operation, path, error))
            }
        }
    }

    fn file(&self, operation: &'static str, path: &Path) -> Result<Arc<dyn DiskFile>> {
        let inode = self.read(operation, path, |state| match state.names.get(path) {
            Some(Entry::File(inode)) => Ok(*inode),
            Some(Entry::Dir) => Err(io::Error::from(io::ErrorKind::IsADirectory)),
            None => Err(io::Error::from(io::ErrorKind::NotFound)),
        })?;
        Ok(Arc::new(SimFile { disk: self.clone(), inode, path: path.to_owned() }))
    }
}

fn free_name(state: &State, path: &Path) -> io::Result<()> {
    match (state.names.get(path), path.parent().and_then(|parent| state.names.get(parent))) {
        (Some(_), _) => Err(io::Error::from(io::ErrorKind::AlreadyExists)),
        (None, Some(Entry::Dir)) => Ok(()),
        (None, _) => Err(io::Error::from(io::ErrorKind::NotFound)),
    }
}

impl Disk for SimDisk {
    fn create_new(&self, path: &Path) -> Result<Arc<dyn DiskFile>> {
        let mut made = 0;
        self.change("create", path, true, |state| {
            free_name(state, path)?;
            made = state.inodes.len();
            state.inodes.push(Inode::default());
            state.names.insert(path.to_owned(), Entry::File(made));
            Ok(())
        })?;
        Ok(Arc::new(SimFile { disk: self.clone(), inode: made, path: path.to_owned() }))
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn DiskFile>> {
        self.file("open", path)
    }

    fn open_read(&self, path: &Path) -> Result<Arc<dyn DiskFile>> {
        self.file("open", path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.change("rename", from, false, |state| {
            let entry = state.names.remove(from).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
            state.names.insert(to.to_owned(), entry);
            Ok(())
        })
    }

    fn link_new(&self, from: &Path, to: &Path) -> Result<()> {
        self.change("link", to, true, |state| {
            let entry = *state.names.get(from).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
            free_name(state, to)?;
            state.names.insert(to.to_owned(), entry);
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.change("remove", path, false, |state| match state.names.get(path) {
            Some(Entry::File(_)) => {
                state.names.remove(path);
                Ok(())
            }
            Some(Entry::Dir) => Err(io::Error::from(io::ErrorKind::IsADirectory)),
            None => Err(io::Error::from(io::ErrorKind::NotFound)),
        })
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>> {
        self.read("list", dir, |state| {
            if !state.names.contains_key(dir) {
                return Err(io::Error::from(io::ErrorKind::NotFound));
            }
            let names = State::children(&state.names, dir).into_keys();
            Ok(names.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
        })
    }

    fn create_dir_all(&self, dir: &Path) -> Result<()> {
        self.change("create directory", dir, true, |state| {
            let missing: BTreeSet<&Path> = dir.ancestors().filter(|path| !state.names.contains_key(*path)).collect();
            state.names.extend(missing.into_iter().map(|path| (path.to_owned(), Entry::Dir)));
            Ok(())
        })
    }

    fn remove_dir(&self, dir: &Path) -> Result<()> {
        self.change("remove", dir, false, |state| {
            if !State::children(&state.names, dir).is_empty() {
                return Err(io::Error::from(io::ErrorKind::DirectoryNotEmpty));
            }
            state.names.remove(dir).map(|_| ()).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
        })
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.change("sync directory", dir, false, |state| {
            let children = State::children(&state.names, dir);
            state.durable.retain(|path, _| path.parent() != Some(dir));
            state.durable.extend(children);
            Ok(())
        })
    }

    fn free_space(&self, dir: &Path) -> Result<u64> {
        self.read("measure", dir, |_| Ok(u64::MAX))
    }
}

struct SimFile {
    disk: SimDisk,
    inode: usize,
    path: PathBuf,
}

impl DiskFile for SimFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let mut state = self.disk.state.lock();
        let write = |state: &mut State, bytes: &[u8]| {
            state.inodes[self.inode].change(Change::Write(offset, bytes.to_vec()));
        };
        let error = match state.judge(true) {
            Verdict::Do => {
                write(&mut state, bytes);
                return Ok(());
            }
            Verdict::DoAndFail(error) => {
                write(&mut state, bytes);
                error
            }
            Verdict::DoHalfAndFail(error) => {
                write(&mut state, &bytes[..bytes.len() / 2]);
                error
            }
            Verdict::Fail(error) => error,
        };
        Err(DiskError::new("write", &self.path, error))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.disk.read("read", &self.path, |state| {
            let bytes = state.inodes[self.inode].bytes.get(offset as usize..).unwrap_or_default();
            let count = bytes.len().min(buffer.len());
            buffer[..count].copy_from_slice(&bytes[..count]);
            Ok(count)
        })
    }

    fn len(&self) -> Result<u64> {
        self.disk.read("measure", &self.path, |state| Ok(state.inodes[self.inode].bytes.len() as u64))
    }

    fn preallocate(&self, len: u64) -> Result<()> {
        self.disk.change("preallocate", &self.path, true, |state| {
            let inode = &mut state.inodes[self.inode];
            if (inode.bytes.len() as u64) < len {
                inode.change(Change::Resize(len));
            }
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.disk.change("truncate", &self.path, false, |state| {
            state.inodes[self.inode].change(Change::Resize(len));
            Ok(())
        })
    }

    fn sync_data(&self) -> Result<()> {
        self.disk.change("sync", &self.path, false, |state| {
            let inode = &mut state.inodes[self.inode];
            inode.synced = inode.bytes.clone();
            inode.unsynced.clear();
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use spanwise_journal::disk::read_file;

    use super::*;

    fn root() -> &'static Path {
        Path::new("/data")
    }

    #[test]
    fn only_what_was_synced_survives_a_power_cut() {
        let disk = SimDisk::new(root());
        let path = root().join("a");
        let file = disk.create_new(&path).unwrap();
        file.write_at(b"kept", 0).unwrap();
        file.sync_data().unwrap();
        let nameless = disk.restarted(Survival::Synced);
        assert!(nameless.open(&path).err().unwrap().is_missing());
        disk.sync_dir(root()).unwrap();
        file.write_at(b"lost", 4).unwrap();
        let read = |survival| read_file(&disk.restarted(survival), &path, 100).unwrap();
        assert_eq!(read(Survival::Synced), b"kept");
        assert_eq!(read(Survival::Torn), b"keptlo");
        assert_eq!(read(Survival::Everything), b"keptlost");
    }

    #[test]
    fn a_put_file_is_whole_or_missing_whatever_fails() {
        for fault in Fault::ALL {
            for at in 0.. {
                let disk = SimDisk::new(root());
                disk.fail_at(at, fault);
                let put = disk.put_new(&root().join("a"), &[b"all of it"]);
                for survival in Survival::ALL {
                    let disk = disk.restarted(survival);
                    match read_file(&disk, &root().join("a"), 100) {
                        Ok(bytes) => assert_eq!(bytes, b"all of it", "{fault:?} at {at}, {survival:?}"),
                        Err(error) => assert!(error.is_missing() && put.is_err(), "{fault:?} at {at}, {survival:?}"),
                    }
                }
                if disk.hit_at().is_none() {
                    break;
                }
            }
        }
    }
}
