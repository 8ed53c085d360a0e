//! What pipeline stages have taken over and not yet handed on: each stage's records in one log, so that one sync
//! serves all of them, freed one by one in any order.
//!
//! A record is freed by [`Ticket::release`]. What was freed is written along with later records and, at the latest,
//! by [`Spool::maintain`]; after a crash a record may therefore come back although it was handed on, but never the
//! other way round. A ticket that is only dropped leaves its record for the next start.
//!
//! The log is trimmed from its old end. A few records that stay long do not keep the rest: when little of the oldest
//! segment is still needed, that little is written again at the new end.
//!
//! A record is: the number of freed positions (u32) and these (segment u64, offset u32 each), the length of the
//! stage's name (u16) and the name, then the payload. All numbers are little-endian.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::disk::Disk;
use crate::lock::{Lock, LockError};
use crate::wal::{AppendError, JournalError, Position, Wal, WalOptions};

#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("record at {0:?} is not a spool's")]
    Malformed(Position),
}

/// A record that its stage still needs. Cloning shares.
#[derive(Clone)]
pub struct Ticket(Arc<TicketState>);

struct TicketState {
    spool: Spool,
    id: u64,
    bytes: usize,
}

impl Ticket {
    /// Reads the payload back from the disk. Blocks.
    ///
    /// # Errors
    /// When it cannot be read, or what is read is damaged.
    pub fn read(&self) -> Result<Bytes, SpoolError> {
        let position = self.position();
        let record = self.0.spool.0.wal.read_record(position)?;
        let decoded = decode(&record).ok_or(SpoolError::Malformed(position))?;
        Ok(decoded.payload)
    }

    /// Where the record lies now. Later records are greater, but one that was carried forward is greater still.
    pub fn position(&self) -> Position {
        self.0.spool.0.state.lock().live.get(&self.0.id).map(|live| live.position).unwrap_or_default()
    }

    /// Length of the payload.
    pub fn bytes(&self) -> usize {
        self.0.bytes
    }

    /// The record is not needed any more: what it held was handed on, or counted as lost.
    pub fn release(&self) {
        self.0.spool.release(self.0.id);
    }
}

/// One log for many stages. Cloning shares; closed by [`Spool::close`] or with the last handle.
#[derive(Clone)]
pub struct Spool(Arc<Shared>);

struct Shared {
    wal: Wal,
    state: Mutex<State>,
    carry_below: f64,
    _lock: Lock,
}

#[derive(Default)]
struct State {
    next_id: u64,
    live: HashMap<u64, Live>,
    /// Records and bytes that each segment is still needed for.
    segments: BTreeMap<u64, Usage>,
    /// Freed, and not yet written down.
    freed: Vec<Position>,
    /// Where the log ended when each append under way began: what it writes lies there or later.
    under_way: BTreeMap<u64, u64>,
    end: Position,
    /// By the stage's name: the number and the payload's length of each record.
    recovered: HashMap<String, Vec<(u64, usize)>>,
}

struct Live {
    position: Position,
    bytes: u64,
}

#[derive(Default)]
struct Usage {
    records: u64,
    bytes: u64,
    /// All that was written, needed or not.
    written: u64,
}

/// What was found when a spool was opened.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct SpoolRecovery {
    /// Records that stages still have to hand on.
    pub records: u64,
    pub bytes: u64,
    pub torn_bytes: u64,
    pub quarantined: usize,
}

struct Decoded {
    freed: Vec<Position>,
    name: String,
    payload: Bytes,
}

fn encode(freed: &[Position], name: &str) -> Bytes {
    let mut out = Vec::with_capacity(6 + freed.len() * 12 + name.len());
    out.extend_from_slice(&(freed.len() as u32).to_le_bytes());
    for position in freed {
        out.extend_from_slice(&position.segment.to_le_bytes());
        out.extend_from_slice(&position.offset.to_le_bytes());
    }
    out.extend_from_slice(&(name.len() as u16).to_le_bytes());
    out.extend_from_slice(name.as_bytes());
    out.into()
}

fn decode(record: &Bytes) -> Option<Decoded> {
    let mut at = 0_usize;
    let mut take = |len: usize| {
        let bytes = record.get(at..at.checked_add(len)?)?;
        at += len;
        Some(bytes)
    };
    let count = u32::from_le_bytes(take(4)?.try_into().ok()?) as usize;
    let positions = take(count.checked_mul(12)?)?;
    let freed = positions
        .chunks_exact(12)
        .map(|chunk| {
            let (segment, offset) = chunk.split_at(8);
            let segment = u64::from_le_bytes(segment.try_into().ok()?);
            Some(Position { segment, offset: u32::from_le_bytes(offset.try_into().ok()?) })
        })
        .collect::<Option<Vec<_>>>()?;
    let len = u16::from_le_bytes(take(2)?.try_into().ok()?) as usize;
    let name = std::str::from_utf8(take(len)?).ok()?.to_owned();
    Some(Decoded { freed, name, payload: record.slice(at..) })
}

/// When less than this share of the oldest segment is needed, it is carried forward.
const CARRY_BELOW: f64 = 0.5;

/// Freed positions that one record carries along.
const FREED_PER_RECORD: usize = 4096;

impl Spool {
    /// Opens the spool in `dir`, which is made if missing. What stages left behind waits in [`Spool::recovered`].
    ///
    /// # Errors
    /// When another process holds the directory, or it cannot be read or written. Damage is no error.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, options: WalOptions) -> Result<(Spool, SpoolRecovery), SpoolError> {
        disk.create_dir_all(dir).map_err(JournalError::from)?;
        let lock = Lock::take(&dir.join("lock"))?;
        let (wal, found) = Wal::open(disk, dir, options)?;
        let shared = Shared { wal, state: Mutex::default(), carry_below: CARRY_BELOW, _lock: lock };
        let spool = Spool(Arc::new(shared));
        let mut recovery = SpoolRecovery {
            torn_bytes: found.torn_bytes,
            quarantined: found.quarantined.len(),
            ..SpoolRecovery::default()
        };
        let mut needed: BTreeMap<Position, (String, usize, u64)> = BTreeMap::new();
        let mut state = State::default();
        for record in found.records {
            let bytes = record.payload.len() as u64;
            state.segments.entry(record.position.segment).or_default().written += bytes;
            state.end = state.end.max(record.position);
            let Some(decoded) = decode(&record.payload) else {
                tracing::error!(position = ?record.position, "a spool's record cannot be read and is skipped");
                continue;
            };
            for position in decoded.freed {
                needed.remove(&position);
            }
            if !decoded.name.is_empty() {
                needed.insert(record.position, (decoded.name, decoded.payload.len(), bytes));
            }
        }
        for (position, (name, len, bytes)) in needed {
            recovery.records += 1;
            recovery.bytes += len as u64;
            state.segments.entry(position.segment).or_default().records += 1;
            let id = state.add(position, bytes);
            state.recovered.entry(name).or_default().push((id, len));
        }
        *spool.0.state.lock() = state;
        Ok((spool, recovery))
    }

    /// The records that the stage of this name left behind, oldest first; the second call finds none.
    pub fn recovered(&self, name: &str) -> Vec<Ticket> {
        let found = self.0.state.lock().recovered.remove(name).unwrap_or_default();
        found.into_iter().map(|(id, len)| self.ticket(id, len)).collect()
    }

    /// Names of stages whose records nobody has asked for: they were renamed or taken out of the config.
    pub fn unclaimed(&self) -> Vec<(String, usize)> {
        let state = self.0.state.lock();
        state.recovered.iter().map(|(name, tickets)| (name.clone(), tickets.len())).collect()
    }

    /// Takes a stage's record over. When it returns `Ok`, the record is on stable storage.
    ///
    /// # Errors
    /// As [`Wal::append`].
    pub async fn put(&self, name: &str, payload: Vec<Bytes>) -> Result<Ticket, AppendError> {
        let len: usize = payload.iter().map(Bytes::len).sum();
        let (position, bytes) = self.append(name, payload).await?;
        let id = self.0.state.lock().add(position, bytes);
        Ok(self.ticket(id, len))
    }

    async fn append(&self, name: &str, payload: Vec<Bytes>) -> Result<(Position, u64), AppendError> {
        let (token, freed) = self.0.state.lock().begin();
        let under_way = UnderWay { state: &self.0.state, token };
        let mut parts = vec![encode(&freed, name)];
        parts.extend(payload);
        let bytes: usize = parts.iter().map(Bytes::len).sum();
        let appended = self.0.wal.append(parts).await;
        let mut state = self.0.state.lock();
        match &appended {
            Ok(position) => {
                state.segments.entry(position.segment).or_default().written += bytes as u64;
                state.end = state.end.max(*position);
            }
            Err(_) => state.freed.extend(freed),
        }
        // Counted as needed before the append counts as over, so that no trim comes between this and `add`.
        if let Ok(position) = &appended {
            state.segments.entry(position.segment).or_default().records += 1;
        }
        drop(state);
        drop(under_way);
        appended.map(|position| (position, bytes as u64))
    }

    fn ticket(&self, id: u64, bytes: usize) -> Ticket {
        Ticket(Arc::new(TicketState { spool: self.clone(), id, bytes }))
    }

    fn release(&self, id: u64) {
        let mut state = self.0.state.lock();
        if let Some(live) = state.live.remove(&id) {
            state.free(&live);
        }
    }

    /// Writes down what was freed, carries stragglers forward and removes what nobody needs. Called now and then.
    ///
    /// # Errors
    /// When the log cannot be written or trimmed; the next call tries again.
    pub async fn maintain(&self) -> Result<(), SpoolError> {
        self.trim()?;
        let failed = |error: AppendError| {
            let source = std::io::Error::other(error.to_string());
            SpoolError::Journal(crate::disk::DiskError::new("append", Path::new("spool"), source).into())
        };
        while !self.0.state.lock().freed.is_empty() {
            let (position, _) = self.append("", Vec::new()).await.map_err(failed)?;
            self.0.state.lock().forget(position.segment);
        }
        let stragglers = self.0.state.lock().stragglers(self.0.carry_below);
        for (id, position) in stragglers {
            let Ok(record) = self.0.wal.read_record(position) else { continue };
            let decoded = decode(&record).ok_or(SpoolError::Malformed(position))?;
            let (moved, bytes) = self.append(&decoded.name, vec![decoded.payload]).await.map_err(failed)?;
            self.0.state.lock().relocate(id, moved, bytes);
        }
        self.trim()
    }

    /// Needs no room on the disk, so that a full spool gets some.
    fn trim(&self) -> Result<(), SpoolError> {
        let first_needed = self.0.state.lock().first_needed();
        Ok(self.0.wal.trim(first_needed)?)
    }

    /// Bytes on the disk.
    pub fn bytes(&self) -> u64 {
        self.0.wal.bytes()
    }

    /// Records that stages still need.
    pub fn records(&self) -> usize {
        self.0.state.lock().live.len()
    }

    /// Writes what was put, then refuses more. Blocks.
    pub fn close(&self) {
        self.0.wal.close();
    }
}

/// Keeps trimming away from where an append may land, also when the append is given up half-way.
struct UnderWay<'a> {
    state: &'a Mutex<State>,
    token: u64,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.state.lock().under_way.remove(&self.token);
    }
}

impl State {
    fn begin(&mut self) -> (u64, Vec<Position>) {
        self.next_id += 1;
        self.under_way.insert(self.next_id, self.end.segment);
        let count = self.freed.len().min(FREED_PER_RECORD);
        (self.next_id, self.freed.drain(..count).collect())
    }

    /// Notes a needed record, which was already counted as one of its segment.
    fn add(&mut self, position: Position, bytes: u64) -> u64 {
        self.next_id += 1;
        let usage = self.segments.entry(position.segment).or_default();
        usage.bytes += bytes;
        self.live.insert(self.next_id, Live { position, bytes });
        self.next_id
    }

    fn free(&mut self, live: &Live) {
        if let Some(usage) = self.segments.get_mut(&live.position.segment) {
            usage.bytes = usage.bytes.saturating_sub(live.bytes);
        }
        self.forget(live.position.segment);
        self.freed.push(live.position);
    }

    fn forget(&mut self, segment: u64) {
        if let Some(usage) = self.segments.get_mut(&segment) {
            usage.records = usage.records.saturating_sub(1);
        }
    }

    /// What is still needed of the oldest segment, when that is little and the segment is not being written.
    fn stragglers(&self, carry_below: f64) -> Vec<(u64, Position)> {
        let oldest = self.segments.iter().find(|(_, usage)| usage.records > 0);
        let Some((segment, usage)) = oldest else { return Vec::new() };
        let is_full = *segment < self.end.segment;
        if !is_full || usage.bytes as f64 >= usage.written as f64 * carry_below {
            return Vec::new();
        }
        let of_segment = self.live.iter().filter(|(_, live)| live.position.segment == *segment);
        of_segment.map(|(id, live)| (*id, live.position)).collect()
    }

    fn relocate(&mut self, id: u64, moved: Position, bytes: u64) {
        match self.live.insert(id, Live { position: moved, bytes }) {
            Some(old) => {
                self.segments.entry(moved.segment).or_default().bytes += bytes;
                self.free(&old);
            }
            // Released while it was copied: the copy is not needed either.
            None => {
                self.live.remove(&id);
                self.forget(moved.segment);
                self.freed.push(moved);
            }
        }
    }

    fn first_needed(&mut self) -> Position {
        let needed = self.segments.iter().find(|(_, usage)| usage.records > 0).map(|(segment, _)| *segment);
        let under_way = self.under_way.values().min().copied();
        let segment = needed.into_iter().chain(under_way).min().unwrap_or(self.end.segment);
        self.segments.retain(|known, _| *known >= segment);
        // What lay in a segment that goes need not be written down as freed.
        self.freed.retain(|freed| freed.segment >= segment);
        Position { segment, offset: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    fn open(dir: &Path) -> (Spool, SpoolRecovery) {
        let options = WalOptions { segment_bytes: 4096, max_bytes: 1 << 20, ..WalOptions::default() };
        Spool::open(Arc::new(RealDisk), dir, options).unwrap()
    }

    fn payload(number: u32) -> Vec<Bytes> {
        vec![Bytes::from(number.to_le_bytes().to_vec()), Bytes::from(vec![7; 200])]
    }

    fn number(ticket: &Ticket) -> u32 {
        u32::from_le_bytes(ticket.read().unwrap()[..4].try_into().unwrap())
    }

    #[tokio::test]
    async fn what_was_not_released_comes_back_to_its_stage_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let (spool, found) = open(dir.path());
        assert_eq!(found, SpoolRecovery::default());
        let mut tickets = Vec::new();
        for i in 0..30 {
            tickets.push(spool.put(if i % 2 == 0 { "even" } else { "odd" }, payload(i)).await.unwrap());
        }
        for (i, ticket) in tickets.iter().enumerate() {
            assert_eq!(number(ticket), i as u32);
            if i % 3 == 0 {
                ticket.release();
            }
        }
        spool.maintain().await.unwrap();
        drop((tickets, spool));
        let (spool, found) = open(dir.path());
        assert_eq!((found.records, found.bytes), (20, 20 * 204));
        let numbers = |name| spool.recovered(name).iter().map(number).collect::<Vec<_>>();
        assert_eq!(numbers("even"), [2, 4, 8, 10, 14, 16, 20, 22, 26, 28]);
        assert_eq!(spool.unclaimed(), [("odd".to_owned(), 10)]);
        assert_eq!(numbers("odd"), [1, 5, 7, 11, 13, 17, 19, 23, 25, 29]);
        assert!(spool.recovered("odd").is_empty() && spool.records() == 20);
    }

    #[tokio::test]
    async fn one_that_stays_does_not_keep_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let (spool, _) = open(dir.path());
        let stays = spool.put("a", payload(77)).await.unwrap();
        for round in 0..300 {
            spool.put("a", payload(round)).await.unwrap().release();
            if round % 10 == 0 {
                spool.maintain().await.unwrap();
            }
        }
        spool.maintain().await.unwrap();
        assert!(spool.bytes() <= 4 * 4096, "{} bytes for one record", spool.bytes());
        assert_eq!(number(&stays), 77);
        drop((stays, spool));
        let (spool, found) = open(dir.path());
        assert_eq!(found.records, 1);
        assert_eq!(number(&spool.recovered("a")[0]), 77);
    }

    #[tokio::test]
    async fn a_full_spool_refuses_until_something_is_released() {
        let dir = tempfile::tempdir().unwrap();
        let options = WalOptions { segment_bytes: 4096, max_bytes: 4 * 4096, ..WalOptions::default() };
        let (spool, _) = Spool::open(Arc::new(RealDisk), dir.path(), options).unwrap();
        let mut held = Vec::new();
        let refusal = loop {
            match spool.put("a", payload(1)).await {
                Ok(ticket) => held.push(ticket),
                Err(error) => break error,
            }
        };
        assert!(matches!(refusal, AppendError::Full(_)), "{refusal}");
        for ticket in held.drain(..) {
            ticket.release();
        }
        spool.maintain().await.unwrap();
        assert!(spool.put("a", payload(2)).await.is_ok());
    }

    #[tokio::test]
    async fn two_processes_do_not_share_a_spool() {
        let dir = tempfile::tempdir().unwrap();
        let (_spool, _) = open(dir.path());
        let second = Spool::open(Arc::new(RealDisk), dir.path(), WalOptions::default());
        assert!(matches!(second.err().unwrap(), SpoolError::Lock(_)));
    }
}
