//! The write-ahead log: records are durable when [`Wal::append`] returns, and readable after any crash.
//!
//! One thread writes. While it syncs, further appends gather; the next write and the next `fdatasync` serve all of
//! them. Segments are preallocated, so a full disk shows when a segment is made and never inside a record. A failed
//! sync ends the process: what the kernel then holds of the file is unknown.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::oneshot;

use crate::disk::{Disk, DiskError, DiskFile, read_file};
use crate::segment::{self, HEADER_BYTES, RECORD_HEADER_BYTES};

/// Where a record lies. Later records are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    pub segment: u64,
    pub offset: u32,
}

#[derive(Debug, Clone)]
pub struct Record {
    pub position: Position,
    pub payload: Bytes,
}

#[derive(Debug, Clone)]
pub struct WalOptions {
    /// Size of a segment; a record that is larger gets one of its own.
    pub segment_bytes: u64,
    /// All segments together; appends beyond it are refused.
    pub max_bytes: u64,
    /// Bytes that may wait to be written; appends beyond it wait.
    pub queue_bytes: usize,
    /// Syncs begin at least so far apart while appends keep coming, so that more of them share one. A lone append
    /// after a pause does not wait, and nobody waits where that brings no others.
    pub gather: Duration,
}

impl Default for WalOptions {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, max_bytes: 2 << 30, queue_bytes: 32 << 20, gather: Duration::ZERO }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("cannot start the journal's thread: {0}")]
    Thread(std::io::Error),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    #[error("journal is full: {0}")]
    Full(String),
    #[error("cannot write to the journal: {0}")]
    Disk(String),
    #[error("journal is closed")]
    Closed,
    #[error("record of {0} bytes is too large for the journal")]
    TooLarge(usize),
}

/// What was found when the log was opened.
#[derive(Debug, Default)]
pub struct Recovery {
    pub records: Vec<Record>,
    /// Bytes cut from the end of the last segment: a write that was never acknowledged.
    pub torn_bytes: u64,
    /// Copies of segments that could not be read wholly, each with a report beside it.
    pub quarantined: Vec<PathBuf>,
}

struct Pending {
    parts: Vec<Bytes>,
    bytes: usize,
    reply: oneshot::Sender<Result<Position, AppendError>>,
}

#[derive(Default)]
struct Queue {
    pending: VecDeque<Pending>,
    bytes: usize,
    closing: bool,
    /// The writer waits for more by the clock: appends need not wake it.
    gathering: bool,
    /// Callers waiting for room.
    waiting: VecDeque<oneshot::Sender<()>>,
}

/// What is done when a sync of the log fails: the program ends itself, a simulation ends the simulated one.
pub type OnSyncFailure = Arc<dyn Fn(&DiskError) + Send + Sync>;

struct Shared {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: WalOptions,
    queue: Mutex<Queue>,
    arrived: Condvar,
    segments: Mutex<Segments>,
    on_sync_failure: OnSyncFailure,
}

/// Sizes of the files there are; the last is being written.
#[derive(Default)]
struct Segments {
    files: VecDeque<(u64, u64)>,
    next: u64,
}

impl Segments {
    fn bytes(&self) -> u64 {
        self.files.iter().map(|(_, bytes)| bytes).sum()
    }
}

/// A handle on the log; the log closes when [`Wal::close`] is called or the last handle is dropped.
pub struct Wal {
    shared: Arc<Shared>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

/// A failed sync may have thrown away pages that the next sync would call clean: nothing can be promised any more.
pub fn abort(error: &DiskError) {
    tracing::error!(%error, "cannot sync the journal: the process ends so that nothing unsynced is acknowledged");
    std::process::abort();
}

impl Wal {
    /// Opens the log in `dir`, which is made if missing, and reads all it holds.
    ///
    /// # Errors
    /// When the directory cannot be read or written. Damaged contents are no error.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, options: WalOptions) -> Result<(Wal, Recovery), JournalError> {
        Self::open_with(disk, dir, options, Arc::new(abort))
    }

    /// [`Self::open`] with something else than the end of the process on a failed sync; for simulation.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: WalOptions,
        on_sync_failure: OnSyncFailure,
    ) -> Result<(Wal, Recovery), JournalError> {
        disk.create_dir_all(dir)?;
        let (recovery, segments) = recover(&*disk, dir)?;
        let shared = Arc::new(Shared {
            disk,
            dir: dir.to_owned(),
            options,
            queue: Mutex::default(),
            arrived: Condvar::new(),
            segments: Mutex::new(segments),
            on_sync_failure,
        });
        let writer = Writer { shared: Arc::clone(&shared), active: None, buffer: Vec::new(), pace: Pace::default() };
        let thread = std::thread::Builder::new()
            .name("spanwise-wal".to_owned())
            .spawn(move || writer.run())
            .map_err(JournalError::Thread)?;
        Ok((Wal { shared, thread: Mutex::new(Some(thread)) }, recovery))
    }

    /// Reads what a log holds at this moment, without opening it: for another process. A segment that vanishes while
    /// being read has been consumed.
    ///
    /// # Errors
    /// When the directory cannot be listed or a segment not be read.
    pub fn read(disk: &dyn Disk, dir: &Path) -> Result<Vec<Record>, JournalError> {
        let mut records = Vec::new();
        let names = match disk.list(dir) {
            Ok(names) => names,
            Err(error) if error.is_missing() => return Ok(records),
            Err(error) => return Err(error.into()),
        };
        for sequence in names.iter().filter_map(|name| segment::sequence_of(name)) {
            match read_file(disk, &dir.join(segment::name(sequence)), u64::MAX) {
                Ok(bytes) => collect(&mut records, sequence, segment::read(&Bytes::from(bytes), sequence).records),
                Err(error) if error.is_missing() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(records)
    }

    /// Appends one record made of `parts`. When it returns `Ok`, the record is on stable storage.
    ///
    /// # Errors
    /// `Full` when the log's bound or the disk's is reached: nothing was written and a later append may succeed.
    pub async fn append(&self, parts: Vec<Bytes>) -> Result<Position, AppendError> {
        let bytes: usize = parts.iter().map(Bytes::len).sum();
        if bytes == 0 || u32::try_from(bytes + RECORD_HEADER_BYTES + HEADER_BYTES).is_err() {
            return Err(AppendError::TooLarge(bytes));
        }
        let (reply, answer) = oneshot::channel();
        let mut pending = Some(Pending { parts, bytes, reply });
        loop {
            let room = {
                let mut queue = self.shared.queue.lock();
                if queue.closing {
                    return Err(AppendError::Closed);
                }
                // One record always fits, however large, so that none waits for ever.
                if queue.bytes == 0 || queue.bytes + bytes <= self.shared.options.queue_bytes {
                    queue.bytes += bytes;
                    queue.pending.extend(pending.take());
                    if !queue.gathering {
                        self.shared.arrived.notify_one();
                    }
                    None
                } else {
                    let (freed, room) = oneshot::channel();
                    queue.waiting.push_back(freed);
                    Some(room)
                }
            };
            match room {
                Some(room) => drop(room.await),
                None => break,
            }
        }
        answer.await.unwrap_or(Err(AppendError::Closed))
    }

    /// Reads back the record at `position`. Blocks.
    ///
    /// # Errors
    /// When it cannot be read, or is damaged.
    pub fn read_record(&self, position: Position) -> Result<Bytes, JournalError> {
        let path = self.shared.dir.join(segment::name(position.segment));
        let file = self.shared.disk.open_read(&path)?;
        let at = u64::from(position.offset);
        let mut head = [0; RECORD_HEADER_BYTES];
        let damaged = || DiskError::new("read", &path, std::io::Error::other(format!("no record at byte {at}")));
        if file.read_at(&mut head, at)? < head.len() {
            return Err(damaged().into());
        }
        let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as u64;
        if at + RECORD_HEADER_BYTES as u64 + len > file.len()? {
            return Err(damaged().into());
        }
        let mut record = vec![0; RECORD_HEADER_BYTES + len as usize];
        let read = file.read_at(&mut record, at)?;
        record.truncate(read);
        segment::record_at(&Bytes::from(record), position.segment, 0).ok_or_else(|| damaged().into())
    }

    /// Removes the segments whose every record is before `position`. The caller no longer needs those.
    ///
    /// # Errors
    /// When a file cannot be removed; the others are gone all the same.
    pub fn trim(&self, position: Position) -> Result<(), JournalError> {
        let mut segments = self.shared.segments.lock();
        let mut failed = None;
        // The last segment is being written: it stays.
        while segments.files.len() > 1
            && let Some((sequence, _)) = segments.files.front().copied()
            && sequence < position.segment
        {
            match self.shared.disk.remove(&self.shared.dir.join(segment::name(sequence))) {
                Ok(()) => {}
                Err(error) if error.is_missing() => {}
                Err(error) => failed = Some(error),
            }
            segments.files.pop_front();
        }
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Bytes that the log takes on disk.
    pub fn bytes(&self) -> u64 {
        self.shared.segments.lock().bytes()
    }

    /// Writes what was appended, then refuses further appends. Blocks until the writer has ended.
    pub fn close(&self) {
        self.shared.queue.lock().closing = true;
        self.shared.arrived.notify_all();
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Wal {
    fn drop(&mut self) {
        self.close();
    }
}

fn collect(records: &mut Vec<Record>, sequence: u64, found: Vec<(u32, Bytes)>) {
    let positions = found.into_iter().map(|(offset, payload)| (Position { segment: sequence, offset }, payload));
    records.extend(positions.map(|(position, payload)| Record { position, payload }));
}

/// Reads all segments; cuts a torn tail of the last one; copies what cannot be read into `quarantine/`.
fn recover(disk: &dyn Disk, dir: &Path) -> Result<(Recovery, Segments), JournalError> {
    let mut recovery = Recovery::default();
    let mut segments = Segments::default();
    let names = disk.list(dir)?;
    let sequences: Vec<u64> = names.iter().filter_map(|name| segment::sequence_of(name)).collect();
    for sequence in &sequences {
        let path = dir.join(segment::name(*sequence));
        let bytes = Bytes::from(read_file(disk, &path, u64::MAX)?);
        let contents = segment::read(&bytes, *sequence);
        let is_last = sequences.last() == Some(sequence);
        if contents.damaged || (contents.unreadable && !is_last) {
            recovery.quarantined.push(quarantine(disk, dir, *sequence, &bytes, contents.end)?);
        } else if is_last {
            let kept = contents.end as u64;
            if contents.unreadable {
                let tail = &bytes[contents.end..];
                let used = tail.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                recovery.torn_bytes = used as u64;
            }
            // What follows the last record goes, so that this segment ends cleanly once it is not the last.
            let file = disk.open(&path)?;
            file.set_len(kept)?;
            file.sync_data()?;
        }
        collect(&mut recovery.records, *sequence, contents.records);
        segments.files.push_back((*sequence, disk.open_read(&path)?.len()?));
        segments.next = sequence + 1;
    }
    Ok((recovery, segments))
}

fn quarantine(disk: &dyn Disk, dir: &Path, sequence: u64, bytes: &[u8], end: usize) -> Result<PathBuf, JournalError> {
    let quarantine = dir.join("quarantine");
    disk.create_dir_all(&quarantine)?;
    let copy = quarantine.join(segment::name(sequence));
    let report = format!(
        "segment {}: unreadable from byte {end} of {}; every record that could be read was kept\n",
        segment::name(sequence),
        bytes.len()
    );
    for (path, contents) in [(copy.clone(), bytes), (copy.with_extension("report"), report.as_bytes())] {
        match disk.put_new(&path, &[contents]) {
            Ok(()) => {}
            // Kept by an earlier start.
            Err(error) if error.source.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error.into()),
        }
    }
    tracing::error!(segment = %copy.display(), "journal segment is damaged: a copy is in quarantine");
    Ok(copy)
}

struct Active {
    file: Arc<dyn DiskFile>,
    sequence: u64,
    at: u64,
    size: u64,
}

struct Writer {
    shared: Arc<Shared>,
    active: Option<Active>,
    buffer: Vec<u8>,
    pace: Pace,
}

/// When the next sync begins.
#[derive(Default)]
struct Pace {
    last: Option<Instant>,
    /// Commits that will not wait, and how often in a row waiting brought nothing.
    skip: u32,
    in_vain: u32,
}

impl Pace {
    /// Commits that do not wait after waiting was in vain many times.
    const MOST_SKIPPED: u32 = 64;

    /// Waits until the next sync is due. Senders that wait for their answers before they send more do not come while
    /// we wait: where nothing comes for a third of the time between syncs, the next ones are not waited for.
    fn gather(&mut self, shared: &Shared, queue: &mut MutexGuard<'_, Queue>) {
        let every = shared.options.gather;
        if every.is_zero() {
            return;
        }
        let mut now = Instant::now();
        let due = self.last.map_or(now, |last| last + every);
        if self.skip > 0 {
            self.skip -= 1;
        } else {
            while now < due && !queue.closing && queue.bytes < shared.options.queue_bytes / 2 {
                let (step, before) = (every / 3, queue.pending.len());
                let is_whole = due - now >= step;
                queue.gathering = true;
                shared.arrived.wait_for(queue, step.min(due - now));
                queue.gathering = false;
                now = Instant::now();
                if queue.pending.len() > before {
                    self.in_vain = 0;
                } else if is_whole {
                    self.in_vain += 1;
                    self.skip = (1 << self.in_vain.min(31)).min(Self::MOST_SKIPPED);
                    break;
                }
            }
        }
        self.last = Some(now);
    }
}

impl Writer {
    fn run(mut self) {
        loop {
            let gathered = {
                let mut queue = self.shared.queue.lock();
                while queue.pending.is_empty() && !queue.closing {
                    self.shared.arrived.wait(&mut queue);
                }
                if queue.pending.is_empty() {
                    return;
                }
                self.pace.gather(&self.shared, &mut queue);
                std::mem::take(&mut queue.pending)
            };
            let bytes: usize = gathered.iter().map(|pending| pending.bytes).sum();
            self.commit(gathered);
            let mut queue = self.shared.queue.lock();
            queue.bytes -= bytes;
            for freed in queue.waiting.drain(..) {
                let _ = freed.send(());
            }
        }
    }

    /// Writes and syncs all of these, segment by segment, and answers each.
    fn commit(&mut self, gathered: VecDeque<Pending>) {
        let mut answers = Vec::with_capacity(gathered.len());
        for pending in gathered {
            let needed = (pending.bytes + RECORD_HEADER_BYTES) as u64;
            if let Err(error) = self.make_room(needed, &mut answers) {
                let _ = pending.reply.send(Err(error));
                continue;
            }
            let Some(active) = &mut self.active else { continue };
            let position = Position { segment: active.sequence, offset: active.at as u32 };
            let parts: Vec<&[u8]> = pending.parts.iter().map(|part| &part[..]).collect();
            segment::put_record(&mut self.buffer, active.sequence, &parts);
            active.at += needed;
            answers.push((pending.reply, position));
        }
        self.flush(&mut answers);
    }

    /// Leaves an active segment with room for `needed` bytes.
    fn make_room(&mut self, needed: u64, answers: &mut Vec<Answer>) -> Result<(), AppendError> {
        if self.active.as_ref().is_some_and(|active| active.at + needed <= active.size) {
            return Ok(());
        }
        self.flush(answers);
        let size = self.shared.options.segment_bytes.max(needed + HEADER_BYTES as u64);
        let mut segments = self.shared.segments.lock();
        let max_bytes = self.shared.options.max_bytes;
        if segments.bytes() + size > max_bytes {
            let reason = format!("{} of {max_bytes} bytes are waiting to be stored", segments.bytes());
            return Err(AppendError::Full(reason));
        }
        let sequence = segments.next;
        // A number is used once: what a failed attempt left of its file may stand there.
        segments.next += 1;
        let file = self.create(sequence, size).map_err(|error| {
            let _ = self.shared.disk.remove(&self.shared.dir.join(segment::name(sequence)));
            if error.is_full() { AppendError::Full(error.to_string()) } else { AppendError::Disk(error.to_string()) }
        })?;
        segments.files.push_back((sequence, size));
        self.active = Some(Active { file, sequence, at: HEADER_BYTES as u64, size });
        Ok(())
    }

    fn create(&self, sequence: u64, size: u64) -> Result<Arc<dyn DiskFile>, DiskError> {
        let file = self.shared.disk.create_new(&self.shared.dir.join(segment::name(sequence)))?;
        file.preallocate(size)?;
        file.write_at(&segment::header(sequence), 0)?;
        file.sync_data()?;
        self.shared.disk.sync_dir(&self.shared.dir)?;
        Ok(file)
    }

    /// Writes the buffer to the active segment, syncs it, and answers.
    fn flush(&mut self, answers: &mut Vec<Answer>) {
        if self.buffer.is_empty() {
            return;
        }
        let Some(active) = &self.active else { return };
        let start = active.at - self.buffer.len() as u64;
        let written = active.file.write_at(&self.buffer, start);
        let outcome = match written {
            Ok(()) => active.file.sync_data().inspect_err(|error| (self.shared.on_sync_failure)(error)),
            Err(error) => Err(error),
        };
        self.buffer.clear();
        match outcome {
            Ok(()) => {
                for (reply, position) in answers.drain(..) {
                    let _ = reply.send(Ok(position));
                }
            }
            Err(error) => {
                // What the file now holds behind the last acknowledged record is unknown: never write there again.
                self.active = None;
                for (reply, _) in answers.drain(..) {
                    let _ = reply.send(Err(AppendError::Disk(error.to_string())));
                }
            }
        }
    }
}

type Answer = (oneshot::Sender<Result<Position, AppendError>>, Position);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    fn options() -> WalOptions {
        WalOptions { segment_bytes: 256, max_bytes: 4096, queue_bytes: 1024, gather: Duration::ZERO }
    }

    fn open(dir: &Path) -> (Wal, Recovery) {
        Wal::open(Arc::new(RealDisk), dir, options()).unwrap()
    }

    fn payloads(records: &[Record]) -> Vec<&[u8]> {
        records.iter().map(|record| &record.payload[..]).collect()
    }

    async fn fill(wal: &Wal, count: u8) -> Vec<Position> {
        let mut positions = Vec::new();
        for number in 1..=count {
            positions.push(wal.append(vec![Bytes::from(vec![number; 40])]).await.unwrap());
        }
        positions
    }

    #[tokio::test]
    async fn what_was_appended_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let (wal, recovery) = open(dir.path());
        assert!(recovery.records.is_empty());
        let positions = fill(&wal, 12).await;
        assert!(positions.is_sorted());
        assert_eq!(Wal::read(&RealDisk, dir.path()).unwrap().len(), 12);
        drop(wal);
        let (_wal, recovery) = open(dir.path());
        assert_eq!(recovery.records.iter().map(|record| record.position).collect::<Vec<_>>(), positions);
        assert_eq!(recovery.records[11].payload, vec![12; 40]);
        assert_eq!((recovery.torn_bytes, recovery.quarantined.len()), (0, 0));
    }

    #[tokio::test]
    async fn a_torn_tail_is_cut_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (wal, _) = open(dir.path());
        let positions = fill(&wal, 3).await;
        drop(wal);
        let path = dir.path().join(segment::name(positions[2].segment));
        let file = RealDisk.open(&path).unwrap();
        file.write_at(&[9; 5], u64::from(positions[2].offset) + 20).unwrap();
        let (wal, recovery) = open(dir.path());
        assert_eq!(payloads(&recovery.records), [vec![1; 40], vec![2; 40]]);
        assert_eq!((recovery.torn_bytes, recovery.quarantined.len()), (48, 0));
        fill(&wal, 1).await;
        drop(wal);
        assert_eq!(open(dir.path()).1.records.len(), 3);
    }

    #[tokio::test]
    async fn damage_before_readable_records_is_quarantined_and_the_rest_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (wal, _) = open(dir.path());
        let positions = fill(&wal, 3).await;
        drop(wal);
        let path = dir.path().join(segment::name(positions[1].segment));
        RealDisk.open(&path).unwrap().write_at(&[9; 5], u64::from(positions[1].offset) + 20).unwrap();
        let (_wal, recovery) = open(dir.path());
        assert_eq!(payloads(&recovery.records), [vec![1; 40], vec![3; 40]]);
        assert!(recovery.quarantined[0].exists());
    }

    #[tokio::test]
    async fn trimming_removes_segments_that_lie_wholly_before() {
        let dir = tempfile::tempdir().unwrap();
        let (wal, _) = open(dir.path());
        let positions = fill(&wal, 12).await;
        let before = wal.bytes();
        wal.trim(positions[9]).unwrap();
        assert!(wal.bytes() < before);
        drop(wal);
        let kept = open(dir.path()).1.records;
        assert_eq!(kept.last().unwrap().payload, vec![12; 40]);
        assert!(kept.iter().any(|record| record.position == positions[9]));
    }

    #[tokio::test]
    async fn a_full_log_refuses_and_recovers_when_trimmed() {
        let dir = tempfile::tempdir().unwrap();
        let (wal, _) = open(dir.path());
        let mut last = Position::default();
        let refused = loop {
            match wal.append(vec![Bytes::from(vec![1; 100])]).await {
                Ok(position) => last = position,
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, AppendError::Full(_)), "{refused}");
        wal.trim(last).unwrap();
        assert!(wal.append(vec![Bytes::from_static(b"more")]).await.is_ok());
    }

    #[tokio::test]
    async fn concurrent_appends_share_syncs_and_keep_all() {
        let dir = tempfile::tempdir().unwrap();
        let (wal, _) = Wal::open(Arc::new(RealDisk), dir.path(), WalOptions::default()).unwrap();
        let wal = Arc::new(wal);
        let tasks: Vec<_> = (0..64u8)
            .map(|number| {
                let wal = Arc::clone(&wal);
                tokio::spawn(async move { wal.append(vec![Bytes::from(vec![number; 9])]).await.unwrap() })
            })
            .collect();
        let mut positions = Vec::new();
        for task in tasks {
            positions.push(task.await.unwrap());
        }
        positions.sort();
        positions.dedup();
        assert_eq!(positions.len(), 64);
        drop(wal);
        assert_eq!(open(dir.path()).1.records.len(), 64);
    }

    /// Counts syncs.
    #[derive(Default)]
    struct CountingDisk(Arc<std::sync::atomic::AtomicU64>);
    struct CountingFile(Arc<dyn DiskFile>, Arc<std::sync::atomic::AtomicU64>);

    impl Disk for CountingDisk {
        fn create_new(&self, path: &Path) -> Result<Arc<dyn DiskFile>, DiskError> {
            let file = RealDisk.create_new(path)?;
            Ok(Arc::new(CountingFile(file, Arc::clone(&self.0))))
        }
        fn open(&self, path: &Path) -> Result<Arc<dyn DiskFile>, DiskError> {
            RealDisk.open(path)
        }
        fn open_read(&self, path: &Path) -> Result<Arc<dyn DiskFile>, DiskError> {
            RealDisk.open_read(path)
        }
        fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
            RealDisk.rename(from, to)
        }
        fn link_new(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
            RealDisk.link_new(from, to)
        }
        fn remove(&self, path: &Path) -> Result<(), DiskError> {
            RealDisk.remove(path)
        }
        fn list(&self, dir: &Path) -> Result<Vec<String>, DiskError> {
            RealDisk.list(dir)
        }
        fn create_dir_all(&self, dir: &Path) -> Result<(), DiskError> {
            RealDisk.create_dir_all(dir)
        }
        fn remove_dir(&self, dir: &Path) -> Result<(), DiskError> {
            RealDisk.remove_dir(dir)
        }
        fn sync_dir(&self, dir: &Path) -> Result<(), DiskError> {
            RealDisk.sync_dir(dir)
        }
        fn free_space(&self, dir: &Path) -> Result<u64, DiskError> {
            RealDisk.free_space(dir)
        }
    }

    impl DiskFile for CountingFile {
        fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), DiskError> {
            self.0.write_at(bytes, offset)
        }
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, DiskError> {
            self.0.read_at(buffer, offset)
        }
        fn len(&self) -> Result<u64, DiskError> {
            self.0.len()
        }
        fn preallocate(&self, len: u64) -> Result<(), DiskError> {
            self.0.preallocate(len)
        }
        fn set_len(&self, len: u64) -> Result<(), DiskError> {
            self.0.set_len(len)
        }
        fn sync_data(&self) -> Result<(), DiskError> {
            self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            self.0.sync_data()
        }
    }

    #[tokio::test]
    async fn appends_that_keep_coming_share_syncs_over_time() {
        let dir = tempfile::tempdir().unwrap();
        let disk = CountingDisk::default();
        let syncs = Arc::clone(&disk.0);
        let options = WalOptions { gather: Duration::from_secs(600), queue_bytes: 2000, ..WalOptions::default() };
        let (wal, _) = Wal::open(Arc::new(disk), dir.path(), options).unwrap();
        let wal = Arc::new(wal);
        // After a pause: at once.
        wal.append(vec![Bytes::from(vec![1; 10])]).await.unwrap();
        let before = syncs.load(std::sync::atomic::Ordering::Relaxed);
        let tasks: Vec<_> = (0..100u8)
            .map(|number| {
                let wal = Arc::clone(&wal);
                tokio::spawn(async move { wal.append(vec![Bytes::from(vec![number; 9])]).await.unwrap() })
            })
            .collect();
        // All have been taken in before the log is closed, which ends the wait.
        while wal.shared.queue.lock().pending.len() < 100 {
            tokio::task::yield_now().await;
        }
        wal.close();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(syncs.load(std::sync::atomic::Ordering::Relaxed) - before, 1);
    }

    #[tokio::test]
    async fn a_sender_that_waits_for_its_answer_is_not_waited_for_again_and_again() {
        let dir = tempfile::tempdir().unwrap();
        let options = WalOptions { gather: Duration::from_millis(30), ..WalOptions::default() };
        let (wal, _) = Wal::open(Arc::new(RealDisk), dir.path(), options).unwrap();
        let mut queue = wal.shared.queue.lock();
        let mut pace = Pace::default();
        let mut skips = Vec::new();
        for _ in 0..12 {
            // The next sync is far from due, and nobody comes.
            pace.last = Some(Instant::now() + Duration::from_secs(60));
            pace.gather(&wal.shared, &mut queue);
            skips.push(pace.skip);
        }
        assert_eq!(skips, [2, 1, 0, 4, 3, 2, 1, 0, 8, 7, 6, 5]);
        assert_eq!(pace.in_vain, 3);
        pace.in_vain = 40;
        pace.skip = 0;
        pace.last = Some(Instant::now() + Duration::from_secs(60));
        pace.gather(&wal.shared, &mut queue);
        assert_eq!(pace.skip, Pace::MOST_SKIPPED);
    }

    #[tokio::test]
    async fn a_record_larger_than_a_segment_gets_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let (wal, _) = open(dir.path());
        wal.append(vec![Bytes::from(vec![5; 1000])]).await.unwrap();
        assert_eq!(wal.append(vec![]).await, Err(AppendError::TooLarge(0)));
        drop(wal);
        assert_eq!(open(dir.path()).1.records[0].payload, vec![5; 1000]);
    }
}
