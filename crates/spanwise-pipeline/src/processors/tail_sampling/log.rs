//! Decisions on stable storage: what was decided before a crash is not decided again.
//!
//! A record is a list of: trace id, probability (f64 little-endian; -1 for not sampled, -2 for dropped, -3 before the
//! probability and the threshold (u64) of a trace that was kept with one), and for a kept trace the places of the batches its spans came in, which were handed on: their number (u16) and each as
//! segment (u64) and offset (u32).

use std::collections::VecDeque;

use bytes::{Buf, BufMut as _, Bytes, BytesMut};
use spanwise_journal::{Position, Ticket};
use spanwise_model::{Threshold, TraceId};

use super::policy::Verdict;
use crate::hold::Hold;

/// In place of a probability.
const WITH_THRESHOLD: f64 = -3.0;

pub struct DecisionLog {
    hold: Hold,
    pending: BytesMut,
    pending_count: usize,
    records: Records,
    count: usize,
    /// Decisions worth remembering.
    capacity: usize,
}

/// What a kept trace's earlier decision covered.
#[derive(Debug, Clone, PartialEq)]
pub struct Logged {
    pub trace_id: TraceId,
    pub verdict: Verdict,
    pub delivered: Vec<Position>,
}

/// Records and how many decisions each holds, oldest first.
pub type Records = VecDeque<(Ticket, usize)>;

/// What an earlier process decided, oldest first, and the records it stands in.
pub fn recover(hold: &Hold) -> (Records, Vec<Logged>) {
    let (mut records, mut found) = (Records::new(), Vec::new());
    for ticket in hold.recovered() {
        match ticket.read() {
            Ok(bytes) => {
                let before = found.len();
                decode(bytes, &mut found);
                records.push_back((ticket, found.len() - before));
            }
            Err(error) => tracing::error!(%error, "decisions of an earlier run cannot be read"),
        }
    }
    (records, found)
}

impl DecisionLog {
    /// Remembers at least `capacity` decisions.
    pub fn new(hold: Hold, capacity: usize, records: Records) -> Self {
        let count = records.iter().map(|(_, count)| count).sum();
        Self { hold, pending: BytesMut::new(), pending_count: 0, records, count, capacity }
    }

    /// Notes a decision; [`DecisionLog::write`] makes it last.
    pub fn note<'a>(&mut self, trace_id: TraceId, verdict: Verdict, kept: impl Iterator<Item = &'a Ticket>) {
        if !self.hold.is_durable() {
            return;
        }
        self.pending_count += 1;
        self.pending.put_slice(&trace_id.0);
        match verdict {
            Verdict::Sampled { probability, threshold } => {
                let mut places: Vec<Position> = kept.map(Ticket::position).collect();
                places.dedup();
                places.truncate(usize::from(u16::MAX));
                if threshold > Threshold::ALWAYS {
                    self.pending.put_f64_le(WITH_THRESHOLD);
                }
                self.pending.put_f64_le(probability);
                if threshold > Threshold::ALWAYS {
                    self.pending.put_u64_le(threshold.bits());
                }
                self.pending.put_u16_le(places.len() as u16);
                for place in places {
                    self.pending.put_u64_le(place.segment);
                    self.pending.put_u32_le(place.offset);
                }
            }
            Verdict::NotSampled => self.pending.put_f64_le(-1.0),
            Verdict::Dropped => self.pending.put_f64_le(-2.0),
        }
    }

    /// Writes what was noted, and gives up what is too old to matter.
    pub async fn write(&mut self) {
        if self.pending_count == 0 {
            return;
        }
        let (bytes, count) = (self.pending.split().freeze(), std::mem::take(&mut self.pending_count));
        match self.hold.keep_bytes(vec![bytes]).await {
            Ok(Some(ticket)) => {
                self.records.push_back((ticket, count));
                self.count += count;
            }
            Ok(None) => {}
            Err(refusal) => {
                tracing::warn!(%refusal, "decisions are not journaled: after a crash they would be made again");
            }
        }
        while let Some((ticket, count)) = self.records.front()
            && self.count - count >= self.capacity
        {
            ticket.release();
            self.count -= count;
            self.records.pop_front();
        }
    }
}

fn decode(mut bytes: Bytes, found: &mut Vec<Logged>) {
    while bytes.remaining() >= 24 {
        let mut trace_id = [0; 16];
        bytes.copy_to_slice(&mut trace_id);
        let mut probability = bytes.get_f64_le();
        let mut threshold = Threshold::ALWAYS;
        if probability == WITH_THRESHOLD {
            let (Ok(kept), Ok(bits)) = (bytes.try_get_f64_le(), bytes.try_get_u64_le()) else { return };
            (probability, threshold) = (kept, Threshold::of_bits(bits));
        }
        let mut delivered = Vec::new();
        let verdict = if probability >= 0.0 {
            let count = bytes.try_get_u16_le().unwrap_or(0);
            for _ in 0..count {
                let (Ok(segment), Ok(offset)) = (bytes.try_get_u64_le(), bytes.try_get_u32_le()) else { return };
                delivered.push(Position { segment, offset });
            }
            Verdict::Sampled { probability, threshold }
        } else if probability < -1.5 {
            Verdict::Dropped
        } else {
            Verdict::NotSampled
        };
        found.push(Logged { trace_id: TraceId(trace_id), verdict, delivered });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn decisions_come_back_and_old_ones_are_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let context = crate::graph::tests::context("tail_sampling");
        context.spools.open("", dir.path(), None).unwrap();
        let mut log = DecisionLog::new(Hold::of(&context).unwrap(), 3, Records::new());
        let kept = Verdict::Sampled { probability: 0.25, threshold: Threshold::of_bits(3 << 54) };
        let plain = Verdict::Sampled { probability: 0.5, threshold: Threshold::ALWAYS };
        let verdicts = [Verdict::NotSampled, kept, plain, Verdict::Dropped];
        for (number, verdict) in verdicts.into_iter().enumerate() {
            log.note(TraceId([number as u8 + 1; 16]), verdict, std::iter::empty());
            log.write().await;
        }
        context.spools.get("").unwrap().unwrap().maintain().await.unwrap();
        drop((log, context));
        let context = crate::graph::tests::context("tail_sampling");
        // The first spool's lock went with its last handle.
        context.spools.open("", dir.path(), None).unwrap();
        let (records, found) = recover(&Hold::of(&context).unwrap());
        let found: Vec<_> = found.into_iter().map(|logged| (logged.trace_id.0[0], logged.verdict)).collect();
        assert_eq!(found, [(2, kept), (3, plain), (4, Verdict::Dropped)]);
        assert_eq!(records.len(), 3);
    }
}
