//! rdkafka: records that carry their span, and the spans of those who work on them.
//!
//! ```no_run
//! use rdkafka::consumer::StreamConsumer;
//! use rdkafka::producer::{FutureProducer, FutureRecord};
//! use spanwise_sdk::layers::{ProcessTraced, ProduceTraced};
//! # async fn bill(producer: FutureProducer, consumer: StreamConsumer) -> rdkafka::error::KafkaResult<()> {
//! let record = FutureRecord::to("orders").key("7").payload("tea");
//! producer.send_traced(record, std::time::Duration::from_secs(5)).await.map_err(|(error, _)| error)?;
//!
//! let message = consumer.recv().await?;
//! message.processing("billing").run(async { /* the span is active here */ }).await;
//! # Ok(())
//! # }
//! ```

use opentelemetry::KeyValue;
use opentelemetry::trace::{FutureExt, TraceContextExt};
use rdkafka::ClientContext;
use rdkafka::message::{Message, ToBytes};
use rdkafka::producer::future_producer::OwnedDeliveryResult;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::{AsyncRuntime, Timeout};
use spanwise_propagate::Extract;
use spanwise_propagate::carriers::rdkafka::KafkaHeaders;

use super::messaging::{Destination, Messaging, process, receive, send};

/// Characters of a record's key.
const MAX_KEY: usize = 256;

/// Sends records as spans of the active trace.
pub trait ProduceTraced {
    /// As `send`; the context goes along in the record's headers, and the span ends with the broker's answer.
    fn send_traced<K, P>(
        &self,
        record: FutureRecord<'_, K, P>,
        queue_timeout: impl Into<Timeout> + Send,
    ) -> impl Future<Output = OwnedDeliveryResult> + Send
    where
        K: ToBytes + Sync + ?Sized,
        P: ToBytes + Sync + ?Sized;
}

impl<C, R> ProduceTraced for FutureProducer<C, R>
where
    C: ClientContext + 'static,
    R: AsyncRuntime,
    R::Delay: Send,
{
    async fn send_traced<K, P>(
        &self,
        mut record: FutureRecord<'_, K, P>,
        queue_timeout: impl Into<Timeout> + Send,
    ) -> OwnedDeliveryResult
    where
        K: ToBytes + Sync + ?Sized,
        P: ToBytes + Sync + ?Sized,
    {
        let destination = Destination::new("kafka", record.topic);
        let destination = with_key(destination, record.key.map(ToBytes::to_bytes));
        let mut headers = record.headers.take().unwrap_or_default();
        let sending = send(&destination, &mut KafkaHeaders(&mut headers));
        record.headers = Some(headers);
        let sent = self.send(record, queue_timeout.into()).with_context(sending.context().clone()).await;
        match &sent {
            Ok(delivery) => {
                let span = sending.context().span();
                span.set_attribute(KeyValue::new("messaging.destination.partition.id", delivery.partition.to_string()));
                span.set_attribute(KeyValue::new("messaging.kafka.offset", delivery.offset));
            }
            Err((error, _)) => sending.failed(error),
        }
        sent
    }
}

/// Works on messages as spans.
pub trait ProcessTraced {
    /// The span of working on this message in a group of consumers: below the span that sent it; or, where a span of this
    /// program is active, below that one with a link to the sender's.
    fn processing(&self, group: &str) -> Messaging;
}

impl<M: Message> ProcessTraced for M {
    fn processing(&self, group: &str) -> Messaging {
        let destination = Destination::new("kafka", self.topic()).group(group).partition(self.partition());
        let destination = destination.attribute(KeyValue::new("messaging.kafka.offset", self.offset()));
        process(&with_key(destination, self.key()), &SentWith(self.headers()))
    }
}

/// The span of taking a batch of messages of one topic, with a link to the sender of each.
pub fn receiving<'a, M: Message + 'a>(
    topic: &str,
    group: &str,
    messages: impl IntoIterator<Item = &'a M>,
) -> Messaging {
    let sent: Vec<_> = messages.into_iter().map(|message| SentWith(message.headers())).collect();
    receive(&Destination::new("kafka", topic).group(group), &sent)
}

fn with_key(destination: Destination, key: Option<&[u8]>) -> Destination {
    match key.and_then(|key| std::str::from_utf8(key).ok()).filter(|key| key.len() <= MAX_KEY) {
        Some(key) => destination.attribute(KeyValue::new("messaging.kafka.message.key", key.to_owned())),
        None => destination,
    }
}

/// Headers that may not be there.
struct SentWith<'a, H>(Option<&'a H>);

impl<H: rdkafka::message::Headers> Extract for SentWith<'_, H> {
    fn entries(&self, each: &mut dyn FnMut(&str, &[u8])) {
        if let Some(headers) = self.0 {
            KafkaHeaders(headers).entries(each);
        }
    }

    fn values(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        if let Some(headers) = self.0 {
            KafkaHeaders(headers).values(name, each);
        }
    }
}
