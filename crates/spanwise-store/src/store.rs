//! The single writer of a data directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use spanwise_insight::minutes::{Bounds, KINDS, Minutes};
use spanwise_insight::names::Names;
use spanwise_journal::disk::read_file;
use spanwise_journal::lock::{Lock, LockError, LockHolder, holder};
use spanwise_journal::wal::abort;
use spanwise_journal::{
    AppendError, Clock, Disk, DiskError, JournalError, OnSyncFailure, Position, Record, Wal, WalOptions,
};
use spanwise_model::TraceId;
use spanwise_wire::Batch;

use crate::block::{self, BlockError, BlockReader, FORMAT_VERSION};
use crate::head::{Head, Heads};
use crate::manifest::{BlockMeta, Manifest};
use crate::merge::merge;
use crate::objects::ObjectDisk;
use crate::sketches::{self, Asked};
use crate::snapshot::Snapshot;

#[derive(Debug, Clone)]
pub struct StoreConfig {
    pub dir: PathBuf,
    /// All blocks together; the oldest go first. `None` means no bound.
    pub max_bytes: Option<u64>,
    /// Since arrival.
    pub max_age: Option<Duration>,
    /// The head is cut into a block when it holds so many bytes,
    pub head_bytes: usize,
    /// or its oldest span is so old.
    pub head_age: Duration,
    /// Blocks are joined up to so many spans,
    pub block_spans: u64,
    /// so many at a time.
    pub join_blocks: usize,
    pub wal: WalOptions,
    /// The bucket that blocks and manifests lie in, instead of the data directory; the log stays in that.
    pub objects: Option<Arc<ObjectDisk>>,
}

impl StoreConfig {
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            max_bytes: None,
            max_age: None,
            head_bytes: 128 << 20,
            head_age: Duration::from_secs(300),
            block_spans: 500_000,
            join_blocks: 8,
            wal: WalOptions::default(),
            objects: None,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot use {}: {} holds it; stop that process, or give another --data-dir", dir.display(), describe(holder))]
    Held { dir: PathBuf, holder: LockHolder },
    #[error("cannot use {}: {reason}", dir.display())]
    Directory { dir: PathBuf, reason: String },
    #[error("another Spanwise writes to {url} (writer {writer}): stop it, or give one of the two another prefix")]
    OtherWriter { url: String, writer: String },
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Block(#[from] BlockError),
}

fn describe(holder: &LockHolder) -> String {
    match &holder.http {
        Some(address) => format!("process {} (serving on http://{address})", holder.pid),
        None => format!("process {}", holder.pid),
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreStats {
    pub blocks: usize,
    pub block_bytes: u64,
    /// Of these, what insight adds.
    pub facts_bytes: u64,
    pub block_spans: u64,
    pub head_spans: u64,
    pub head_bytes: usize,
    pub wal_bytes: u64,
    pub appended_spans: u64,
    pub expired_spans: u64,
    pub written_bytes: u64,
}

/// Where blocks and manifests lie.
#[derive(Clone)]
struct Place {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

impl Place {
    fn blocks(&self) -> PathBuf {
        self.dir.join("blocks")
    }

    fn manifests(&self) -> PathBuf {
        self.dir.join("manifest")
    }
}

/// In a data directory whose blocks lie in a bucket: which one, and the name under which this directory's log is known
/// there. A manifest of another writer says nothing of this log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Bucket {
    url: String,
    writer: String,
}

const BUCKET_FILE: &str = "bucket.json";

impl Bucket {
    fn load(disk: &dyn Disk, dir: &Path) -> Result<Option<Bucket>, StoreError> {
        let path = dir.join(BUCKET_FILE);
        let bytes = match read_file(disk, &path, 1 << 16) {
            Ok(bytes) => bytes,
            Err(error) if error.is_missing() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let unreadable = |error| DiskError::new("read", &path, std::io::Error::other(error));
        Ok(Some(serde_json::from_slice(&bytes).map_err(unreadable)?))
    }

    /// The one of this directory, which must be the one that is asked for; made at the first use.
    fn of(disk: &dyn Disk, dir: &Path, objects: Option<&Arc<ObjectDisk>>) -> Result<Option<Bucket>, StoreError> {
        let unusable = |reason: String| StoreError::Directory { dir: dir.to_owned(), reason };
        let known = Self::load(disk, dir)?;
        match (objects.map(|objects| objects.url().to_string()), known) {
            (None, None) => Ok(None),
            (None, Some(known)) => {
                Err(unusable(format!("its blocks are in {}: start with --object-store {}", known.url, known.url)))
            }
            (Some(url), Some(known)) if known.url == url => Ok(Some(known)),
            (Some(url), Some(known)) => {
                Err(unusable(format!("its blocks are in {}, not in {url}: give another --data-dir", known.url)))
            }
            (Some(url), None) => {
                if !disk.list(&dir.join("manifest")).unwrap_or_default().is_empty() {
                    let reason = "it has blocks of its own: start without --object-store, or give another --data-dir";
                    return Err(unusable(reason.to_owned()));
                }
                let mut id = [0; 8];
                getrandom::fill(&mut id).map_err(|error| unusable(format!("no random numbers: {error}")))?;
                let bucket = Bucket { url, writer: format!("{:016x}", u64::from_le_bytes(id)) };
                let bytes = serde_json::to_vec(&bucket).map_err(|error| unusable(error.to_string()))?;
                disk.put_new(&dir.join(BUCKET_FILE), &[&bytes])?;
                Ok(Some(bucket))
            }
        }
    }
}

struct State {
    heads: Heads,
    blocks: Arc<Vec<(BlockMeta, Arc<BlockReader>)>>,
}

pub struct Store {
    config: StoreConfig,
    place: Place,
    /// Of this directory's log, where blocks lie in a bucket; otherwise empty.
    writer: String,
    clock: Arc<dyn Clock>,
    wal: Wal,
    lock: Lock,
    state: RwLock<State>,
    /// Held shared while a batch goes into the log and then into the head; alone while the head is cut.
    cutting: tokio::sync::RwLock<()>,
    /// The manifest that was published last. Held while blocks are made, joined and expired.
    manifest: Mutex<Manifest>,
    /// Directories of blocks that no manifest names any more, and since when.
    doomed: Mutex<Vec<(PathBuf, Duration)>>,
    appended: AtomicU64,
    written: AtomicU64,
    expired: AtomicU64,
}

/// Files of dropped blocks stay this long for readers that still use them.
const DOOMED_FOR: Duration = Duration::from_secs(600);

/// First byte of a log record; the arrival time and OTLP follow.
const RECORD_VERSION: u8 = 1;

fn record(batch: &Batch, now_unix_nano: u64) -> Vec<Bytes> {
    let mut head = vec![RECORD_VERSION];
    head.extend_from_slice(&now_unix_nano.to_le_bytes());
    vec![Bytes::from(head), batch.bytes().clone()]
}

fn read_record(record: &Record) -> Option<(u64, Batch)> {
    let (version, rest) = record.payload.split_first()?;
    let (time, _) = rest.split_first_chunk::<8>()?;
    let batch = (*version == RECORD_VERSION).then(|| Batch::from_trusted(record.payload.slice(9..)).ok())??;
    Some((u64::from_le_bytes(*time), batch))
}

fn fill(head: &Head, records: &[Record], stored: Position, has_stored: bool) {
    for record in records.iter().filter(|record| !has_stored || record.position > stored) {
        match read_record(record) {
            Some((time, batch)) => head.insert(batch, record.position, time),
            None => tracing::error!(position = ?record.position, "a record of the log cannot be read as spans"),
        }
    }
}

fn open_blocks(
    disk: &dyn Disk,
    dir: &Path,
    manifest: &Manifest,
) -> Result<Vec<(BlockMeta, Arc<BlockReader>)>, BlockError> {
    let mut blocks = Vec::new();
    for meta in &manifest.blocks {
        match BlockReader::open(disk, &dir.join("blocks").join(&meta.id), &meta.id) {
            Ok(block) => blocks.push((meta.clone(), Arc::new(block))),
            Err(error @ BlockError::Corrupt { .. }) => {
                tracing::error!(%error, spans = meta.spans, "a block is damaged: it is left where it is and not read");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(blocks)
}

fn place(disk: &Arc<dyn Disk>, dir: &Path, objects: Option<&Arc<ObjectDisk>>) -> Place {
    match objects {
        Some(objects) => {
            let disk: Arc<dyn Disk> = Arc::<ObjectDisk>::clone(objects);
            Place { disk, dir: PathBuf::from(&objects.url().prefix) }
        }
        None => Place { disk: Arc::clone(disk), dir: dir.to_owned() },
    }
}

impl Store {
    /// Opens a data directory for writing, and makes it if it is missing.
    ///
    /// # Errors
    /// When another process holds it, or it cannot be read or written. Damage is reported and no error.
    pub fn open(config: StoreConfig, disk: Arc<dyn Disk>, clock: Arc<dyn Clock>) -> Result<Arc<Store>, StoreError> {
        Self::open_with(config, disk, clock, Arc::new(abort))
    }

    /// [`Self::open`] with something else than the end of the process on a failed sync of the log; for simulation.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(
        config: StoreConfig,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        on_sync_failure: OnSyncFailure,
    ) -> Result<Arc<Store>, StoreError> {
        let dir = config.dir.clone();
        let unusable = |reason: String| StoreError::Directory { dir: dir.clone(), reason };
        let is_local = config.objects.is_none();
        for part in ["wal", "blocks", "manifest"].into_iter().filter(|part| is_local || *part == "wal") {
            disk.create_dir_all(&dir.join(part)).map_err(|error| unusable(error.to_string()))?;
        }
        // Else a power failure could take the directory of the log with all that was acknowledged in it.
        disk.sync_dir(&dir).map_err(|error| unusable(error.to_string()))?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            match disk.sync_dir(parent) {
                // It need not be ours to read; then the directory was made before.
                Err(error) if error.source.kind() != std::io::ErrorKind::PermissionDenied => {
                    return Err(unusable(error.to_string()));
                }
                _ => {}
            }
        }
        let lock = Lock::take(&dir.join("lock")).map_err(|error| match error {
            LockError::Held(holder) => StoreError::Held { dir: dir.clone(), holder },
            LockError::Io(error) => unusable(format!("cannot lock it: {error}")),
        })?;
        let writer = Bucket::of(&*disk, &dir, config.objects.as_ref())?.map(|bucket| bucket.writer).unwrap_or_default();
        let place = place(&disk, &dir, config.objects.as_ref());
        let mut manifest = Manifest::load(&*place.disk, &place.manifests())?;
        let blocks = open_blocks(&*place.disk, &place.dir, &manifest)?;
        let is_ours = manifest.version > 0 && manifest.writer == writer;
        if !is_ours {
            if manifest.version > 0 {
                tracing::info!(
                    blocks = manifest.blocks.len(),
                    writer = manifest.writer,
                    "taking over from another writer"
                );
            }
            manifest.writer.clone_from(&writer);
            manifest.set_stored(Position::default());
        }
        let (wal, recovery) = Wal::open_with(Arc::clone(&disk), &dir.join("wal"), config.wal.clone(), on_sync_failure)?;
        let head = Arc::new(Head::default());
        fill(&head, &recovery.records, manifest.stored(), is_ours);
        if head.spans() > 0 || recovery.torn_bytes > 0 {
            tracing::info!(spans = head.spans(), torn_bytes = recovery.torn_bytes, "log was read");
        }
        let store = Store {
            state: RwLock::new(State { heads: vec![head], blocks: Arc::new(blocks) }),
            place,
            writer,
            clock,
            wal,
            lock,
            cutting: tokio::sync::RwLock::new(()),
            manifest: Mutex::new(manifest),
            doomed: Mutex::default(),
            appended: AtomicU64::new(0),
            written: AtomicU64::new(0),
            expired: AtomicU64::new(0),
            config,
        };
        store.doom_unknown()?;
        Ok(Arc::new(store))
    }

    /// What a data directory holds now, without its lock: also while another process writes to it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(disk: &dyn Disk, dir: &Path) -> Result<Snapshot, StoreError> {
        Self::read_with(disk, dir, None)
    }

    /// [`Self::read`] of a directory whose blocks lie in a bucket. The directory need not exist: then only the blocks
    /// are read.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_with(disk: &dyn Disk, dir: &Path, objects: Option<&ObjectDisk>) -> Result<Snapshot, StoreError> {
        let (place, place_dir): (&dyn Disk, _) = match objects {
            Some(objects) => (objects, Path::new(&objects.url().prefix)),
            None => (disk, dir),
        };
        let bucket = Bucket::load(disk, dir)?;
        if let (None, Some(Bucket { url, .. })) = (objects, &bucket) {
            let reason = format!("its blocks are in {url}: give --object-store {url}");
            return Err(StoreError::Directory { dir: dir.to_owned(), reason });
        }
        let writer = bucket.map(|bucket| bucket.writer).unwrap_or_default();
        let mut last = None;
        // A block may be dropped between reading the manifest and opening it: start again from the next manifest.
        for _ in 0..8 {
            let manifest = Manifest::load(place, &place_dir.join("manifest"))?;
            let records = Wal::read(disk, &dir.join("wal"))?;
            let again = Manifest::load(place, &place_dir.join("manifest"))?;
            if again.version != manifest.version {
                continue;
            }
            match open_blocks(place, place_dir, &manifest) {
                Ok(blocks) => {
                    let head = Arc::new(Head::default());
                    fill(&head, &records, manifest.stored(), manifest.version > 0 && manifest.writer == writer);
                    return Ok(Snapshot { heads: vec![head], blocks: Arc::new(blocks) });
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.map_or_else(
            || StoreError::Directory {
                dir: dir.to_owned(),
                reason: "it changes faster than it can be read".to_owned(),
            },
            StoreError::Block,
        ))
    }

    /// Who holds a directory, if somebody does.
    pub fn holder(dir: &Path) -> Option<LockHolder> {
        let path = dir.join("lock");
        if spanwise_journal::lock::is_held(&path) { holder(&path) } else { None }
    }

    /// Notes where this process can be reached, for `import` and for whoever finds the directory in use.
    ///
    /// # Errors
    /// When the lock file cannot be written.
    pub fn note_address(&self, http: &str) -> std::io::Result<()> {
        self.lock.note(&LockHolder { pid: std::process::id(), http: Some(http.to_owned()) })
    }

    /// Returns when the spans are on stable storage and every snapshot from now on has them.
    ///
    /// # Errors
    /// `Full` when the disk or the log's bound is reached: nothing was kept, trying again may succeed.
    pub async fn append(&self, batch: Batch) -> Result<(), AppendError> {
        let spans = batch.len_spans() as u64;
        if spans == 0 {
            return Ok(());
        }
        let _appending = self.cutting.read().await;
        let now = self.clock.now_unix_nano();
        let position = self.wal.append(record(&batch, now)).await?;
        let head = self.state.read().heads.last().cloned();
        if let Some(head) = head {
            head.insert(batch, position, now);
        }
        self.appended.fetch_add(spans, Ordering::Relaxed);
        Ok(())
    }

    pub fn snapshot(&self) -> Snapshot {
        let state = self.state.read();
        Snapshot { heads: state.heads.clone(), blocks: Arc::clone(&state.blocks) }
    }

    /// One round of background work: cuts a full head, joins small blocks, drops old ones. Blocks on the disk.
    ///
    /// # Errors
    /// When the disk refuses; nothing is lost, and the next round tries again.
    pub fn maintain(&self, runtime: &tokio::runtime::Handle) -> Result<(), StoreError> {
        // On a full disk nothing but dropping old blocks makes room: no step waits for the one before to succeed.
        let cut = if self.is_cut_due() { self.cut(runtime) } else { Ok(()) };
        let joined = self.join_all_small_blocks();
        let expired = self.expire();
        let sketched = self.sketch_old_block();
        self.remove_doomed();
        cut.and(joined).and(expired).and(sketched.map(|_| ()))
    }

    fn join_all_small_blocks(&self) -> Result<(), StoreError> {
        while self.join_small_blocks()? {}
        Ok(())
    }

    fn is_cut_due(&self) -> bool {
        let state = self.state.read();
        // A head that could not be stored the last time is stored first.
        if state.heads.len() > 1 {
            return true;
        }
        let Some(head) = state.heads.last() else { return false };
        let age = self.config.head_age.as_nanos() as u64;
        let is_old =
            head.oldest_unix_nano().is_some_and(|oldest| self.clock.now_unix_nano().saturating_sub(oldest) >= age);
        head.bytes() >= self.config.head_bytes || is_old || self.wal.bytes() * 2 > self.config.wal.max_bytes
    }

    /// Makes a block of everything appended so far and trims the log. Blocks on the disk.
    ///
    /// # Errors
    /// When the disk refuses; the spans stay in the log and visible.
    pub fn cut(&self, runtime: &tokio::runtime::Handle) -> Result<(), StoreError> {
        {
            let _alone = runtime.block_on(self.cutting.write());
            let mut state = self.state.write();
            if state.heads.last().is_some_and(|head| head.spans() > 0) {
                state.heads.push(Arc::new(Head::default()));
            }
        }
        loop {
            let oldest = {
                let state = self.state.read();
                if state.heads.len() < 2 {
                    return Ok(());
                }
                Arc::clone(&state.heads[0])
            };
            self.store_head(&oldest)?;
        }
    }

    fn store_head(&self, head: &Arc<Head>) -> Result<(), StoreError> {
        // Held from here on: what else there is of a trace must not change until its row is published.
        let mut manifest = self.manifest.lock();
        let built = block::build(&head.batches(), &self.elsewhere(|_| false))?;
        let mut next = manifest.clone();
        let block = self.put_block(&mut next, &built, head.newest_unix_nano(), 0)?;
        next.blocks.push(block.0.clone());
        if let Some(position) = head.last() {
            next.set_stored(position);
        }
        self.publish(&mut manifest, next)?;
        {
            let mut state = self.state.write();
            state.heads.remove(0);
            let mut blocks = (*state.blocks).clone();
            blocks.push(block);
            state.blocks = Arc::new(blocks);
        }
        if let Some(position) = head.last() {
            self.wal.trim(position)?;
        }
        Ok(())
    }

    /// Finds what other blocks have of a trace, but for those that are replaced.
    fn elsewhere(
        &self,
        is_replaced: impl Fn(&str) -> bool,
    ) -> impl Fn(&TraceId) -> Result<Vec<(String, Batch)>, BlockError> {
        let blocks = Arc::clone(&self.state.read().blocks);
        let blocks: Vec<_> =
            blocks.iter().filter(|(meta, _)| !is_replaced(&meta.id)).map(|(_, block)| Arc::clone(block)).collect();
        move |id| {
            let mut found = Vec::new();
            for block in &blocks {
                found.extend(block.trace(id)?.map(|batch| (block.id.clone(), batch)));
            }
            Ok(found)
        }
    }

    fn put_block(
        &self,
        manifest: &mut Manifest,
        built: &block::BuiltBlock,
        received_unix_nano: u64,
        level: u32,
    ) -> Result<(BlockMeta, Arc<BlockReader>), StoreError> {
        let Place { disk, .. } = &self.place;
        let blocks = self.place.blocks();
        // A block that was written but never named by a manifest leaves its number taken.
        let taken = disk.list(&blocks)?;
        let id = loop {
            let id = format!("{:012x}", manifest.next_block);
            manifest.next_block += 1;
            if !taken.contains(&id) {
                break id;
            }
        };
        let dir = blocks.join(&id);
        disk.create_dir_all(&dir)?;
        let mut bytes = 0;
        for (name, content) in built.files() {
            disk.put_new(&dir.join(name), &[content])?;
            bytes += content.len() as u64;
        }
        disk.sync_dir(&blocks)?;
        self.written.fetch_add(bytes, Ordering::Relaxed);
        let reader = BlockReader::open(&**disk, &dir, &id)?;
        let meta = BlockMeta {
            id,
            format: FORMAT_VERSION,
            spans: built.spans,
            traces: built.traces,
            bytes,
            facts_bytes: built.facts_bytes,
            min_start_unix_nano: built.min_start_unix_nano,
            max_start_unix_nano: built.max_start_unix_nano,
            received_unix_nano,
            level,
        };
        Ok((meta, Arc::new(reader)))
    }

    fn publish(&self, current: &mut Manifest, mut next: Manifest) -> Result<(), StoreError> {
        next.version = current.version + 1;
        let manifests = self.place.manifests();
        while let Err(error) = next.publish(&*self.place.disk, &manifests) {
            if !error.is_taken() {
                return Err(error.into());
            }
            if let Some(objects) = &self.config.objects {
                let there = Manifest::load(&*self.place.disk, &manifests)?;
                if there.writer != self.writer {
                    return Err(StoreError::OtherWriter { url: objects.url().to_string(), writer: there.writer });
                }
            }
            // An attempt of ours that failed after its name was given: this directory has one writer. Blocks that
            // it named are unknown to this version, and go at the next start.
            next.version += 1;
        }
        *current = next;
        Ok(())
    }

    /// Joins the smallest blocks that lie next to each other in time. `false` when there was nothing to do.
    fn join_small_blocks(&self) -> Result<bool, StoreError> {
        let mut manifest = self.manifest.lock();
        // A damaged block is not open, and never joined.
        let open = Arc::clone(&self.state.read().blocks);
        let mut readers = Vec::new();
        let mut spans = 0;
        for (meta, reader) in open.iter().filter(|(meta, _)| meta.spans < self.config.block_spans / 2) {
            if readers.len() < self.config.join_blocks && spans + meta.spans <= self.config.block_spans {
                spans += meta.spans;
                readers.push((meta.clone(), Arc::clone(reader)));
            }
        }
        if readers.len() < self.config.join_blocks.max(2) {
            return Ok(false);
        }
        let chosen: Vec<BlockMeta> = readers.iter().map(|(meta, _)| meta.clone()).collect();
        let is_chosen = |id: &str| chosen.iter().any(|block| block.id == id);
        let mut batches = Vec::new();
        for (_, reader) in &readers {
            for batch in reader.scan()? {
                batches.push(batch?);
            }
        }
        let sketches = self.joined_sketches(&readers)?;
        let built = block::build_with(&batches, &self.elsewhere(is_chosen), Some(sketches))?;
        drop(batches);
        let mut next = manifest.clone();
        let received = chosen.iter().map(|block| block.received_unix_nano).max().unwrap_or(0);
        let level = chosen.iter().map(|block| block.level).max().unwrap_or(0) + 1;
        let block = self.put_block(&mut next, &built, received, level)?;
        next.blocks.retain(|block| !is_chosen(&block.id));
        next.blocks.push(block.0.clone());
        self.publish(&mut manifest, next)?;
        self.replace_blocks(is_chosen, Some(block));
        Ok(true)
    }

    /// The sum of what blocks count. Of those without sketches, what the other ones without do not count.
    fn joined_sketches(&self, blocks: &[(BlockMeta, Arc<BlockReader>)]) -> Result<Vec<u8>, BlockError> {
        let (mut names, mut minutes) = (Names::default(), Minutes::new(Bounds::BLOCK));
        let asked = Asked { kinds: &KINDS, minutes: 0..=u32::MAX, is_together: false };
        let mut without = Vec::new();
        for (_, block) in blocks {
            match block.sketches().map(|sketches| sketches.add_to(&asked, &mut names, &mut minutes)) {
                Some(Ok(())) => {}
                Some(Err(error)) if !matches!(error, BlockError::Corrupt { .. }) => return Err(error),
                _ => without.push(Arc::clone(block)),
            }
        }
        if !without.is_empty() {
            let is_other = |block: &BlockReader| {
                block.sketches().is_none() && without.iter().all(|counted| counted.id != block.id)
            };
            let others: Vec<Arc<BlockReader>> = self
                .state
                .read()
                .blocks
                .iter()
                .map(|(_, block)| Arc::clone(block))
                .filter(|block| is_other(block))
                .collect();
            let mut batches = Vec::new();
            for block in &without {
                for batch in block.scan()? {
                    batches.push(batch?);
                }
            }
            let elsewhere = |id: &TraceId| {
                let parts = others.iter().filter_map(|block| block.trace(id).transpose());
                Ok(merge(parts.collect::<Result<Vec<Batch>, BlockError>>()?))
            };
            block::sketch(&batches, &elsewhere, &mut names, &mut minutes, &|| false)?;
        }
        sketches::to_bytes(&minutes, &names)
    }

    /// Makes the sketches of a block that has none: one a round. `false` when all have.
    pub(crate) fn sketch_old_block(&self) -> Result<bool, StoreError> {
        // Blocks must not be joined or dropped meanwhile.
        let _manifest = self.manifest.lock();
        let old = self.state.read().blocks.iter().find(|(_, block)| block.sketches().is_none()).cloned();
        let Some((meta, block)) = old else { return Ok(false) };
        let sketches = self.joined_sketches(&[(meta, Arc::clone(&block))])?;
        let Place { disk, .. } = &self.place;
        let dir = self.place.blocks().join(&block.id);
        let path = dir.join(block::SKETCHES_FILE);
        match disk.remove(&path) {
            Err(error) if !error.is_missing() => return Err(error.into()),
            _ => {}
        }
        disk.put_new(&path, &[&sketches])?;
        self.written.fetch_add(sketches.len() as u64, Ordering::Relaxed);
        let reader = Arc::new(BlockReader::open(&**disk, &dir, &block.id)?);
        let mut state = self.state.write();
        let replaced = state.blocks.iter().map(|(meta, other)| match other.id == reader.id {
            true => (meta.clone(), Arc::clone(&reader)),
            false => (meta.clone(), Arc::clone(other)),
        });
        state.blocks = Arc::new(replaced.collect());
        Ok(true)
    }

    fn replace_blocks(&self, is_dropped: impl Fn(&str) -> bool, added: Option<(BlockMeta, Arc<BlockReader>)>) {
        let mut state = self.state.write();
        let mut doomed = self.doomed.lock();
        let mut blocks = Vec::new();
        for block in state.blocks.iter() {
            if is_dropped(&block.0.id) {
                doomed.push((self.place.blocks().join(&block.0.id), self.clock.monotonic()));
            } else {
                blocks.push(block.clone());
            }
        }
        blocks.extend(added);
        state.blocks = Arc::new(blocks);
    }

    /// Drops blocks beyond the bounds of the config, oldest arrival first.
    fn expire(&self) -> Result<(), StoreError> {
        let mut manifest = self.manifest.lock();
        let mut blocks = manifest.blocks.clone();
        blocks.sort_by_key(|block| block.received_unix_nano);
        let mut total: u64 = blocks.iter().map(|block| block.bytes).sum();
        let now = self.clock.now_unix_nano();
        let mut dropped = Vec::new();
        for block in &blocks {
            let age = Duration::from_nanos(now.saturating_sub(block.received_unix_nano));
            let too_old = self.config.max_age.is_some_and(|max_age| age > max_age);
            if !too_old && self.config.max_bytes.is_none_or(|max_bytes| total <= max_bytes) {
                break;
            }
            total -= block.bytes;
            dropped.push(block.clone());
        }
        if dropped.is_empty() {
            return Ok(());
        }
        let spans: u64 = dropped.iter().map(|block| block.spans).sum();
        let is_dropped = |id: &str| dropped.iter().any(|block| block.id == id);
        let mut next = manifest.clone();
        next.blocks.retain(|block| !is_dropped(&block.id));
        next.expired_spans += spans;
        self.publish(&mut manifest, next)?;
        self.expired.fetch_add(spans, Ordering::Relaxed);
        tracing::info!(blocks = dropped.len(), spans, "old blocks were dropped to stay within the store's bounds");
        self.replace_blocks(is_dropped, None);
        Ok(())
    }

    /// Directories that no manifest names are left from a crash, or from before it: they go after a while too.
    fn doom_unknown(&self) -> Result<(), StoreError> {
        let manifest = self.manifest.lock();
        let blocks = self.place.blocks();
        for name in self.place.disk.list(&blocks)? {
            if manifest.blocks.iter().all(|block| block.id != name) {
                self.doomed.lock().push((blocks.join(name), self.clock.monotonic()));
            }
        }
        Ok(())
    }

    fn remove_doomed(&self) {
        let now = self.clock.monotonic();
        self.doomed.lock().retain(|(dir, since)| {
            if now.saturating_sub(*since) < DOOMED_FOR {
                return true;
            }
            let disk = &self.place.disk;
            for name in disk.list(dir).unwrap_or_default() {
                let _ = disk.remove(&dir.join(name));
            }
            disk.remove_dir(dir).is_err_and(|error| !error.is_missing())
        });
    }

    pub fn stats(&self) -> StoreStats {
        let state = self.state.read();
        StoreStats {
            blocks: state.blocks.len(),
            block_bytes: state.blocks.iter().map(|(meta, _)| meta.bytes).sum(),
            facts_bytes: state.blocks.iter().map(|(meta, _)| meta.facts_bytes).sum(),
            block_spans: state.blocks.iter().map(|(meta, _)| meta.spans).sum(),
            head_spans: state.heads.iter().map(|head| head.spans()).sum(),
            head_bytes: state.heads.iter().map(|head| head.bytes()).sum(),
            wal_bytes: self.wal.bytes(),
            appended_spans: self.appended.load(Ordering::Relaxed),
            expired_spans: self.expired.load(Ordering::Relaxed),
            written_bytes: self.written.load(Ordering::Relaxed),
        }
    }

    /// Refuses further appends; what was appended stays in the log for the next start.
    pub fn close(&self) {
        self.wal.close();
    }
}

#[cfg(test)]
mod tests;
