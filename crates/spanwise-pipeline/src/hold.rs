//! Where a stage keeps what it has said yes to: on stable storage when there is a spool, otherwise in memory alone.

use std::sync::Arc;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use spanwise_journal::{AppendError, Spool, SpoolError, Ticket};
use spanwise_wire::Batch;

use crate::component::BuildContext;
use crate::flow::{Metadata, Payload, Refusal};

/// One stage's part of a spool.
#[derive(Clone)]
pub struct Hold {
    spool: Option<Spool>,
    name: String,
}

#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error("what was kept cannot be read: {0}")]
    Malformed(&'static str),
}

impl From<AppendError> for Refusal {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::TooLarge(_) => Refusal::permanent(error.to_string()),
            error => Refusal {
                retry_after: Some(std::time::Duration::from_secs(5)),
                ..Refusal::unavailable(error.to_string())
            },
        }
    }
}

impl Hold {
    /// In memory alone.
    pub fn in_memory() -> Self {
        Self { spool: None, name: String::new() }
    }

    /// In the spool of the data directory, or in memory when there is none.
    ///
    /// # Errors
    /// When the spool cannot be opened.
    pub fn of(context: &BuildContext) -> Result<Self, String> {
        Ok(Self { spool: context.spools.get("")?, name: stage_name(context) })
    }

    /// In the spool of a storage extension.
    ///
    /// # Errors
    /// When there is no such extension.
    pub fn in_storage(context: &BuildContext, storage: &str) -> Result<Self, String> {
        let spool = context.spools.get(storage)?;
        let missing = || format!("storage client extension {storage:?} not found: list it under service::extensions");
        let spool = spool.ok_or_else(missing)?;
        Ok(Self { spool: Some(spool), name: stage_name(context) })
    }

    pub fn is_durable(&self) -> bool {
        self.spool.is_some()
    }

    /// The same spool under a name of its own.
    pub fn part(&self, part: &str) -> Self {
        Self { spool: self.spool.clone(), name: format!("{}/{part}", self.name) }
    }

    /// Puts a payload on stable storage; `None` when it is only held in memory.
    ///
    /// # Errors
    /// The refusal to answer with: nothing was kept.
    pub async fn keep(&self, payload: &Payload) -> Result<Option<Ticket>, Refusal> {
        self.keep_bytes(vec![header(payload), payload.batch.bytes().clone()]).await
    }

    /// Puts a stage's own record on stable storage.
    ///
    /// # Errors
    /// As [`Hold::keep`].
    pub async fn keep_bytes(&self, parts: Vec<Bytes>) -> Result<Option<Ticket>, Refusal> {
        match &self.spool {
            Some(spool) => Ok(Some(spool.put(&self.name, parts).await?)),
            None => Ok(None),
        }
    }

    /// What an earlier process had taken over and not handed on, oldest first.
    pub fn recovered(&self) -> Vec<Ticket> {
        self.spool.as_ref().map_or_else(Vec::new, |spool| spool.recovered(&self.name))
    }
}

fn stage_name(context: &BuildContext) -> String {
    if context.pipeline.is_empty() { context.id.to_string() } else { format!("{}/{}", context.pipeline, context.id) }
}

/// Reads back what [`Hold::keep`] kept, off the runtime's threads.
///
/// # Errors
/// When it cannot be read or is damaged.
pub async fn read(ticket: &Ticket) -> Result<Payload, HoldError> {
    let ticket = ticket.clone();
    let reading = tokio::task::spawn_blocking(move || decode(ticket.read()?));
    reading.await.unwrap_or(Err(HoldError::Malformed("reading was interrupted")))
}

/// The probability (f64), the number of headers (u16) and each header's name and value, each after its length (u32).
fn header(payload: &Payload) -> Bytes {
    let mut out = BytesMut::with_capacity(16);
    out.put_f64_le(payload.probability);
    let pairs = &payload.metadata.0;
    out.put_u16_le(u16::try_from(pairs.len()).unwrap_or(u16::MAX));
    for text in pairs.iter().take(usize::from(u16::MAX)).flat_map(|(name, value)| [name, value]) {
        out.put_u32_le(text.len() as u32);
        out.put_slice(text.as_bytes());
    }
    out.freeze()
}

fn decode(mut bytes: Bytes) -> Result<Payload, HoldError> {
    const SHORT: HoldError = HoldError::Malformed("it ends early");
    if bytes.remaining() < 10 {
        return Err(SHORT);
    }
    let probability = bytes.get_f64_le();
    let count = bytes.get_u16_le();
    let text = |bytes: &mut Bytes| {
        let len = bytes.try_get_u32_le().map_err(|_| SHORT)? as usize;
        if len > bytes.remaining() {
            return Err(SHORT);
        }
        String::from_utf8(bytes.split_to(len).to_vec()).map_err(|_| HoldError::Malformed("a header is not UTF-8"))
    };
    let mut pairs = Vec::new();
    for _ in 0..count {
        pairs.push((text(&mut bytes)?, text(&mut bytes)?));
    }
    let batch = Batch::from_trusted(bytes).map_err(|_| HoldError::Malformed("it is not OTLP"))?;
    Ok(Payload { metadata: Arc::new(Metadata(pairs)), probability, ..Payload::new(batch) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::tests::payload;

    #[test]
    fn a_payload_reads_back_as_it_was_kept() {
        let pairs = vec![("tenant".to_owned(), "a".to_owned()), ("x".to_owned(), String::new())];
        let kept = Payload { metadata: Arc::new(Metadata(pairs)), probability: 0.05, ..payload(3) };
        let bytes: Bytes = [header(&kept), kept.batch.bytes().clone()].concat().into();
        let read = decode(bytes.clone()).unwrap();
        assert_eq!((read.metadata, read.probability, read.batch.bytes()), (kept.metadata, 0.05, kept.batch.bytes()));
        for end in 0..20 {
            assert!(decode(bytes.slice(..end)).is_err(), "{end}");
        }
    }
}
