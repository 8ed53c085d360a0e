//! From a request's body to an answer, whatever carried it: admit, inflate, validate, hand on, count.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use spanwise_model::budget::{Charge, MemoryBudget};
use spanwise_model::{Limits, limits};
use spanwise_wire::answer::{Code, PartialSuccess, RpcStatus};
use spanwise_wire::inflate::{Encoding, InflateError, inflate};
use spanwise_wire::json::otlp_json_to_proto;
use spanwise_wire::{Batch, Compressed, Malformed};

use crate::arrivals::Arrivals;
use crate::component::{BuildContext, Forwarding, Outputs};
use crate::flow::{Metadata, Payload, RawRequest, Refusal};
use crate::telemetry::Counter;

pub use crate::config::Signal;
pub use crate::flow::RawFormat as Format;

/// What is held for a message of which nothing has arrived yet, and how it grows with what does.
pub const FIRST_ROOM: usize = 16 << 10;
const ROOM_GROWTH: usize = 8;

/// A refusal before a batch existed, for both protocols.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    pub status: RpcStatus,
    /// What HTTP says where it differs from the code's own status.
    pub http: Option<u16>,
}

impl Rejection {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { status: RpcStatus { code, message: message.into(), retry_after: None }, http: None }
    }

    pub fn with_http(mut self, status: u16) -> Self {
        self.http = Some(status);
        self
    }

    fn too_large(message: String) -> Self {
        Self::new(Code::InvalidArgument, message).with_http(413)
    }

    pub fn http_status(&self) -> u16 {
        self.http.unwrap_or_else(|| self.status.code.http_status())
    }
}

impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        let Refusal { code, message, retry_after } = refusal;
        Self { status: RpcStatus { code, message, retry_after }, http: None }
    }
}

pub struct Admission {
    next: Outputs,
    memory: MemoryBudget,
    limits: Limits,
    accepted: Counter,
    refused: Counter,
    rejected: Counter,
    repaired: Counter,
    requests_refused: Counter,
    arrivals: Arrivals,
    metrics: SignalCounters,
    logs: SignalCounters,
}

/// Requests of a signal other than traces.
struct SignalCounters {
    discarded: Counter,
    forwarded: Counter,
    refused: Counter,
}

impl Admission {
    pub fn new(context: &BuildContext, next: Outputs, transport: &'static str, message_bytes: usize) -> Self {
        let telemetry = &context.telemetry;
        let id = context.id.to_string();
        let labels: &[(&'static str, &str)] = &[("receiver", &id), ("transport", transport)];
        let of_signal = |signal: Signal| {
            let labels: &[(&'static str, &str)] = &[("receiver", &id), ("signal", signal.as_str())];
            let counter = |name, help| telemetry.counter(name, help, labels);
            SignalCounters {
                discarded: counter(
                    "spanwise_discarded_requests",
                    "Requests of a signal without a pipeline, accepted and discarded.",
                ),
                forwarded: counter("spanwise_forwarded_requests", "Requests of metrics and logs that were handed on."),
                refused: counter("spanwise_refused_requests", "Requests of metrics and logs that were refused."),
            }
        };
        Self {
            next,
            memory: context.memory.clone(),
            limits: Limits::with_message_bytes(message_bytes),
            accepted: telemetry.counter("otelcol_receiver_accepted_spans", "Spans pushed into the pipeline.", labels),
            refused: telemetry.counter("otelcol_receiver_refused_spans", "Spans refused by the pipeline.", labels),
            rejected: telemetry.counter("spanwise_receiver_rejected_spans", "Invalid spans, rejected alone.", labels),
            repaired: telemetry.counter("spanwise_receiver_repaired_strings", "Texts of invalid UTF-8.", labels),
            requests_refused: telemetry.counter(
                "spanwise_receiver_refused_requests",
                "Requests refused before their spans could be counted.",
                labels,
            ),
            arrivals: context.arrivals.clone(),
            metrics: of_signal(Signal::Metrics),
            logs: of_signal(Signal::Logs),
        }
    }

    pub fn message_bytes(&self) -> usize {
        self.limits.message_bytes
    }

    /// The same for a message whose length was told: refused when there is no room for all of it now, but only the first
    /// part is held. See [`Self::make_room`].
    pub fn admit_announced(&self, length: usize) -> Result<Charge, Rejection> {
        let mut charge = self.admit(length)?;
        charge.shrink_to(length.min(FIRST_ROOM));
        Ok(charge)
    }

    /// Makes the charge cover what has `arrived` of a message, and more ahead if there is room, up to what was told.
    pub fn make_room(&self, charge: &mut Charge, arrived: usize, told: usize) -> Result<(), Rejection> {
        if arrived <= charge.bytes() {
            return Ok(());
        }
        let ahead = told.min(arrived.saturating_mul(ROOM_GROWTH)).max(arrived);
        match charge.grow(ahead - charge.bytes()) || charge.grow(arrived - charge.bytes()) {
            true => Ok(()),
            false => Err(self.out_of_memory()),
        }
    }

    /// Memory for a body that is about to be read. Cheap: nothing was read yet.
    pub fn admit(&self, bytes: usize) -> Result<Charge, Rejection> {
        if bytes > self.limits.message_bytes {
            self.requests_refused.add(1);
            let limit = self.limits.message_bytes;
            return Err(Rejection::too_large(format!("message of {bytes} bytes is larger than the limit of {limit}")));
        }
        self.memory.try_charge(bytes).ok_or_else(|| self.out_of_memory())
    }

    pub fn out_of_memory(&self) -> Rejection {
        self.requests_refused.add(1);
        self.no_memory()
    }

    /// Whoever answers it counts it.
    fn no_memory(&self) -> Rejection {
        let message = format!("memory limit of {} bytes is reached: try again", self.memory.limit());
        Refusal::unavailable(message).into()
    }

    /// Takes a whole body. `Ok` is what the answer's `partial_success` says.
    pub async fn take(
        &self,
        signal: Signal,
        format: Format,
        encoding: Encoding,
        body: Bytes,
        mut charge: Charge,
        metadata: Metadata,
    ) -> Result<PartialSuccess, Rejection> {
        if signal != Signal::Traces {
            return self.take_other(signal, format, encoding, body, charge).await;
        }
        let Some(next) = self.next.traces.clone() else {
            return Err(Rejection::new(Code::Unimplemented, "no traces pipeline uses this receiver"));
        };
        let parsed = self.parse(format, encoding, body, &mut charge).inspect_err(|_| self.requests_refused.add(1))?;
        self.rejected.add(parsed.rejected.spans);
        self.repaired.add(parsed.repaired_strings);
        let partial =
            PartialSuccess { rejected_spans: parsed.rejected.spans, message: parsed.rejected.message.clone() };
        if parsed.batch.is_empty() {
            return Ok(partial);
        }
        let spans = parsed.batch.len_spans() as u64;
        let charges = vec![Arc::new(charge)];
        let payload = Payload { charges, metadata: Arc::new(metadata), ..Payload::new(parsed.batch) };
        let batch = payload.batch.clone();
        match next.consume(payload).await {
            Ok(()) => {
                self.accepted.add(spans);
                self.arrivals.note(&batch);
                Ok(partial)
            }
            Err(refusal) => {
                self.refused.add(spans);
                Err(refusal.into())
            }
        }
    }

    fn parse(
        &self,
        format: Format,
        encoding: Encoding,
        body: Bytes,
        charge: &mut Charge,
    ) -> Result<spanwise_wire::Parsed, Rejection> {
        let inflated = self.inflated(encoding, &body, charge)?;
        let malformed = |error: Malformed| match error.is_limit() {
            true => Rejection::too_large(error.to_string()),
            false => Rejection::new(Code::InvalidArgument, error.to_string()),
        };
        let proto = match format {
            Format::Proto => inflated,
            Format::Json => Bytes::from(otlp_json_to_proto(&inflated, &self.limits).map_err(malformed)?),
        };
        let mut parsed = Batch::parse(proto, &self.limits).map_err(malformed)?;
        let indexed = parsed.batch.memory_bytes();
        if charge.bytes() < indexed && !charge.grow(indexed - charge.bytes()) {
            return Err(self.no_memory());
        }
        if encoding != Encoding::Identity && format == Format::Proto && parsed.is_verbatim() {
            parsed.batch = parsed.batch.with_compressed(Compressed { encoding, bytes: body });
        }
        Ok(parsed)
    }

    /// The body as it was before the sender compressed it; its memory is charged.
    fn inflated(&self, encoding: Encoding, body: &Bytes, charge: &mut Charge) -> Result<Bytes, Rejection> {
        if encoding == Encoding::Identity {
            return Ok(body.clone());
        }
        let limit = self.limits.message_bytes;
        // What it may become is not known before it is: the worst case is held while inflating.
        let worst = limit.min(body.len().saturating_mul(limits::INFLATE_RATIO).max(1 << 16));
        let before = charge.bytes();
        if !charge.grow(worst) {
            return Err(self.no_memory());
        }
        let inflated = inflate(encoding, body, limit).map_err(|error| match error {
            InflateError::Corrupt { .. } => Rejection::new(Code::InvalidArgument, error.to_string()),
            error => Rejection::too_large(error.to_string()),
        })?;
        charge.shrink_to(before + inflated.len());
        Ok(inflated)
    }

    /// Metrics and logs pass as bytes; the answer is that of the next hops.
    async fn take_other(
        &self,
        signal: Signal,
        format: Format,
        encoding: Encoding,
        body: Bytes,
        mut charge: Charge,
    ) -> Result<PartialSuccess, Rejection> {
        let (target, counters) = match signal {
            Signal::Logs => (&self.next.logs, &self.logs),
            _ => (&self.next.metrics, &self.metrics),
        };
        let stages = match target {
            Forwarding::Refused => {
                let message = format!("no {signal} pipeline uses this receiver");
                return Err(Rejection::new(Code::Unimplemented, message));
            }
            Forwarding::Discarded => {
                counters.discarded.add(1);
                return Ok(PartialSuccess::default());
            }
            Forwarding::To(stages) => stages,
        };
        let refused = |_: &Rejection| counters.refused.add(1);
        let bytes = self.inflated(encoding, &body, &mut charge).inspect_err(refused)?;
        let request = RawRequest { signal, format, bytes, charge: Arc::new(charge) };
        let answers = stages.iter().map(|stage| stage.forward(&request));
        let mut whole = PartialSuccess::default();
        for answer in futures::future::join_all(answers).await {
            let partial = answer.map_err(Rejection::from).inspect_err(refused)?;
            if partial.rejected_spans >= whole.rejected_spans && !partial.is_empty() {
                whole = partial;
            }
        }
        counters.forwarded.add(1);
        Ok(whole)
    }
}

/// Whole seconds for `Retry-After`, at least one.
pub fn retry_seconds(delay: Duration) -> u64 {
    delay.as_secs().max(1)
}
