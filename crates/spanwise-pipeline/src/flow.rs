//! What flows: a batch with the memory it was admitted under, and the answer it gets.
//!
//! [`Consumer::consume`] returning `Ok` is the *held* stage of an acknowledgement: the stage that returned it has
//! taken the spans over and the caller is free. A stage that only passes on returns what the next one returned, so
//! that a receiver's `Ok` means what the first holding stage promises: for the store, that the spans are synced.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use spanwise_model::budget::Charge;
use spanwise_model::limits;
use spanwise_wire::Batch;
use spanwise_wire::answer::Code;
use tokio_util::sync::CancellationToken;

use crate::config::Signal;

/// A batch on its way. Cloning counts references; memory is given back when the last clone is gone.
#[derive(Debug, Clone)]
pub struct Payload {
    pub batch: Batch,
    /// Held for as long as any part of the batch is.
    pub charges: Vec<Arc<Charge>>,
    pub metadata: Arc<Metadata>,
    /// The probability with which tail sampling kept each of these traces: above 0, at most 1.
    pub probability: f64,
}

/// A request of another signal than traces, as it came: its content is not looked at.
#[derive(Debug, Clone)]
pub struct RawRequest {
    pub signal: Signal,
    pub format: RawFormat,
    /// Uncompressed.
    pub bytes: Bytes,
    /// What it was admitted under.
    pub charge: Arc<Charge>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RawFormat {
    Proto,
    Json,
}

/// Headers of the request that brought a batch, as far as the config asks for them (`metadata_keys`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Metadata(pub Vec<(String, String)>);

impl Payload {
    pub fn new(batch: Batch) -> Self {
        Self { batch, charges: Vec::new(), metadata: Arc::default(), probability: 1.0 }
    }

    /// The same admission and origin with other spans.
    pub fn with_batch(&self, batch: Batch) -> Self {
        let (charges, metadata) = (self.charges.clone(), Arc::clone(&self.metadata));
        Self { batch, charges, metadata, probability: self.probability }
    }
}

/// Why a batch was not taken. The caller still has it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub code: Code,
    pub message: String,
    /// When trying again may help.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// Try again: memory, a queue or the disk is full, or the process is ending.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self { code: Code::Unavailable, message: message.into(), retry_after: Some(Duration::from_secs(1)) }
    }

    /// Trying again gives the same.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self { code: Code::InvalidArgument, message: message.into(), retry_after: None }
    }

    /// OTLP's list of answers after which a client tries again.
    pub fn is_retryable(&self) -> bool {
        match self.code {
            Code::ResourceExhausted => self.retry_after.is_some(),
            code => matches!(
                code,
                Code::Cancelled
                    | Code::DeadlineExceeded
                    | Code::Aborted
                    | Code::OutOfRange
                    | Code::Unavailable
                    | Code::DataLoss
            ),
        }
    }
}

/// A stage of the graph, seen from the one before it.
#[async_trait]
pub trait Consumer: Send + Sync {
    /// Takes the batch over, or refuses all of it.
    async fn consume(&self, payload: Payload) -> Result<(), Refusal>;
}

/// Pauses between tries of [`hand_on`]; each is twice the one before, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Hands on what its caller was already told is taken: tries again while the next stage is only unavailable, and
/// gives up when it refuses for good, or when the process ends and [`limits::HAND_ON_AT_END`] is over.
///
/// # Errors
/// The last refusal; the spans are lost then, and the caller counts them.
pub async fn hand_on(next: &dyn Consumer, payload: Payload, stop: &CancellationToken) -> Result<(), Refusal> {
    let mut pause = FIRST_PAUSE;
    let mut patience = limits::HAND_ON_AT_END;
    loop {
        let refusal = match next.consume(payload.clone()).await {
            Ok(()) => return Ok(()),
            Err(refusal) if !refusal.is_retryable() || patience.is_zero() => return Err(refusal),
            Err(refusal) => refusal,
        };
        tracing::warn!(%refusal, "the next stage does not take a batch; trying again");
        if stop.is_cancelled() {
            tokio::time::sleep(pause.min(patience)).await;
            patience = patience.saturating_sub(pause);
        } else {
            let _ = tokio::time::timeout(pause, stop.cancelled()).await;
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Hands each batch to several stages. Refused when any of them refuses; those that took it keep it.
pub struct FanOut(pub Vec<Arc<dyn Consumer>>);

#[async_trait]
impl Consumer for FanOut {
    async fn consume(&self, payload: Payload) -> Result<(), Refusal> {
        let answers = self.0.iter().map(|consumer| consumer.consume(payload.clone()));
        futures::future::join_all(answers).await.into_iter().collect()
    }
}
