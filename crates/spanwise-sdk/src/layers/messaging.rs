//! Messages through brokers, whatever library sends them.
//!
//! A message carries the span that sent it. Who works on one message continues its trace; who takes many at once has a
//! span of its own that links to each of theirs.
//!
//! ```
//! use spanwise_sdk::layers::messaging::{Destination, process, send};
//! use spanwise_sdk::propagate::carriers::MessageHeaders;
//! let orders = Destination::new("kafka", "orders");
//!
//! let mut headers = Vec::<(String, Vec<u8>)>::new();
//! let sending = send(&orders, &mut MessageHeaders(&mut headers));
//! // … hand the record with these headers to the producer, wait for its answer …
//! drop(sending);
//!
//! let work = process(&orders.group("billing"), &MessageHeaders(headers.as_slice()));
//! work.in_scope(|| { /* the span is active here */ });
//! ```

use std::error::Error;

use opentelemetry::trace::{FutureExt, Link, SpanBuilder, SpanContext, SpanKind, TraceContextExt};
use opentelemetry::{Context, KeyValue};
use spanwise_propagate::{Extract, Inject};

/// Links of one span: a larger batch is linked to its first messages, and says how many there were.
const MAX_LINKS: usize = 128;

/// A topic or queue.
#[derive(Clone, Debug)]
pub struct Destination {
    system: &'static str,
    name: String,
    attributes: Vec<KeyValue>,
}

impl Destination {
    /// Of a `messaging.system` (`kafka`, `rabbitmq`, `nats`, …).
    pub fn new(system: &'static str, name: impl Into<String>) -> Self {
        let name = name.into();
        let attributes =
            vec![KeyValue::new("messaging.system", system), KeyValue::new("messaging.destination.name", name.clone())];
        Self { system, name, attributes }
    }

    /// The consumer's group.
    #[must_use]
    pub fn group(self, name: impl Into<String>) -> Self {
        self.attribute(KeyValue::new("messaging.consumer.group.name", name.into()))
    }

    /// The partition.
    #[must_use]
    pub fn partition(self, id: impl ToString) -> Self {
        self.attribute(KeyValue::new("messaging.destination.partition.id", id.to_string()))
    }

    /// Any other attribute, such as `messaging.kafka.offset`.
    #[must_use]
    pub fn attribute(mut self, attribute: KeyValue) -> Self {
        self.attributes.push(attribute);
        self
    }

    /// What the destination belongs to.
    pub fn system(&self) -> &'static str {
        self.system
    }

    fn start(&self, operation: &'static str, kind: SpanKind, parent: &Context, links: Vec<Link>) -> Messaging {
        let mut attributes = self.attributes.clone();
        attributes.push(KeyValue::new("messaging.operation.name", operation));
        attributes.push(KeyValue::new("messaging.operation.type", operation));
        let name = format!("{operation} {}", self.name);
        let span = SpanBuilder::from_name(name).with_kind(kind).with_attributes(attributes).with_links(links);
        Messaging { context: crate::start(span, parent) }
    }
}

/// Starts the span of sending one message, and writes it to the message's headers. It ends when it is dropped: after
/// the broker has answered.
pub fn send(destination: &Destination, headers: &mut (impl Inject + ?Sized)) -> Messaging {
    let sending = destination.start("send", SpanKind::Producer, &Context::current(), Vec::new());
    crate::inject(&sending.context, headers);
    sending
}

/// Starts the span of working on one message: below the span that sent it; or, where a span of this program is active,
/// below that one with a link to the sender's.
pub fn process(destination: &Destination, headers: &(impl Extract + ?Sized)) -> Messaging {
    let current = Context::current();
    let sent = crate::extract(headers);
    let sender = sent.span().span_context().clone();
    let is_ours = current.span().span_context().is_valid();
    let (parent, links) = if is_ours { (current, links(std::iter::once(sender))) } else { (sent, Vec::new()) };
    destination.start("process", SpanKind::Consumer, &parent, links)
}

/// Starts the span of taking many messages at once, with a link to the sender of each.
pub fn receive<'a, H: Extract + ?Sized + 'a>(
    destination: &Destination,
    messages: impl IntoIterator<Item = &'a H>,
) -> Messaging {
    let mut count = 0_i64;
    let senders = messages.into_iter().map(|headers| {
        count += 1;
        let sent = crate::extract(headers);
        sent.span().span_context().clone()
    });
    // All are counted, the first ones linked.
    let senders: Vec<_> = senders.collect();
    let links = links(senders.into_iter());
    let receiving = destination.start("receive", SpanKind::Client, &Context::current(), links);
    receiving.context.span().set_attribute(KeyValue::new("messaging.batch.message_count", count));
    receiving
}

fn links(senders: impl Iterator<Item = SpanContext>) -> Vec<Link> {
    let remote = senders.filter(|sender| sender.is_valid() && sender.is_remote());
    remote.take(MAX_LINKS).map(Link::with_context).collect()
}

/// A span of messaging. It ends when this is dropped.
#[derive(Debug)]
#[must_use = "the span ends when this is dropped"]
pub struct Messaging {
    context: Context,
}

impl Messaging {
    /// The span, to be made active.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Runs `work` with the span active.
    pub fn in_scope<T>(&self, work: impl FnOnce() -> T) -> T {
        let _active = self.context.clone().attach();
        work()
    }

    /// Runs `work` with the span active, and ends it.
    pub async fn run<T>(self, work: impl Future<Output = T>) -> T {
        work.with_context(self.context.clone()).await
    }

    /// Records what went wrong.
    pub fn failed<E: Error>(&self, error: &E) {
        let causes = crate::errors::chain(error.source());
        crate::errors::record(&self.context.span(), std::any::type_name::<E>(), error.to_string(), causes);
    }
}

impl Drop for Messaging {
    fn drop(&mut self) {
        self.context.span().end();
    }
}
