//! Requests made, and compressed, before the clock starts; repeats get trace ids of their own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use spanwise_wire::Batch;
use spanwise_wire::inflate::{Encoding, deflate};

use super::workload::{Random, Request, Totals, Workload};

pub struct Plan {
    requests: Vec<Prepared>,
    encoding: Encoding,
    spans: u64,
    rate: Option<u64>,
    next: AtomicU64,
    pub totals: Totals,
}

struct Prepared {
    raw: Bytes,
    /// As it is sent the first time.
    body: Bytes,
    spans: u64,
    spans_before: u64,
    /// Where the trace ids begin.
    ids: Vec<u32>,
}

/// A request to send, and when.
pub struct Due {
    pub body: Bytes,
    pub spans: u64,
    pub after: Duration,
}

impl Plan {
    /// Makes `distinct` spans or a few more; `spans` in all will be handed out.
    ///
    /// # Errors
    /// When a request cannot be compressed.
    pub fn prepare(
        mut workload: Workload,
        distinct: u64,
        spans: u64,
        encoding: Encoding,
        rate: Option<u64>,
    ) -> anyhow::Result<Plan> {
        let made = workload.requests(distinct.min(spans).max(1));
        let mut requests = Vec::with_capacity(made.len());
        let mut spans_before = 0;
        for Request { bytes, spans } in made {
            let raw = Bytes::from(bytes);
            let body = deflate(encoding, None, &raw)?;
            let batch = Batch::from_trusted(raw.clone())?;
            // A span's body begins with its trace id: tag, length, 16 bytes.
            let ids = batch.spans().iter().map(|span| span.offset + 2).collect();
            requests.push(Prepared { raw, body, spans: spans as u64, spans_before, ids });
            spans_before += spans as u64;
        }
        Ok(Plan { requests, encoding, spans, rate, next: AtomicU64::new(0), totals: workload.totals })
    }

    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// The next request, until enough spans were handed out.
    pub fn next(&self) -> Option<Due> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (count, all) = (self.requests.len() as u64, self.requests.iter().map(|request| request.spans));
        let round = number / count;
        let request = self.requests.get((number % count) as usize)?;
        let spans_before = match round {
            0 => request.spans_before,
            round => round * all.sum::<u64>() + request.spans_before,
        };
        if spans_before >= self.spans {
            return None;
        }
        let body = if round == 0 { request.body.clone() } else { self.again(request, round) };
        let after =
            self.rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(spans_before as f64 / rate.max(1) as f64));
        Some(Due { body, spans: request.spans, after })
    }

    fn again(&self, request: &Prepared, round: u64) -> Bytes {
        let mut bytes = request.raw.to_vec();
        let change = Random::new(round).next().to_le_bytes();
        for at in &request.ids {
            let id = bytes.iter_mut().skip(*at as usize).take(change.len());
            id.zip(change).for_each(|(byte, change)| *byte ^= change);
        }
        let raw = Bytes::from(bytes);
        deflate(self.encoding, None, &raw).unwrap_or(raw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spanwise_wire::inflate::inflate;
    use std::collections::HashSet;

    #[test]
    fn repeats_are_the_same_spans_in_traces_of_their_own() {
        for encoding in [Encoding::Identity, Encoding::Zstd, Encoding::Gzip] {
            let workload = Workload::new(1, 1_700_000_000_000_000_000, 1_000_000);
            let plan = Plan::prepare(workload, 500, 1_400, encoding, Some(1_000)).unwrap();
            let (mut spans, mut ids, mut traces) = (0, HashSet::new(), HashSet::new());
            let mut last = Duration::ZERO;
            while let Some(due) = plan.next() {
                assert!(due.after >= last);
                last = due.after;
                let raw = inflate(encoding, &due.body, 1 << 20).unwrap();
                let batch = Batch::from_trusted(raw).unwrap();
                assert_eq!(batch.len_spans() as u64, due.spans);
                spans += due.spans;
                ids.extend(batch.spans().iter().map(|span| (span.trace_id, span.span_id)));
                traces.extend(batch.spans().iter().map(|span| span.trace_id));
            }
            assert!(spans >= 1_400);
            assert_eq!(ids.len() as u64, spans, "{encoding}");
            let per_round = plan.totals.traces;
            assert!(traces.len() as u64 > 2 * per_round && traces.len() as u64 <= 3 * per_round);
            assert!(last.as_secs_f64() > 1.0);
        }
    }
}
