//! Payments are announced on the topic `orders`; whoever writes invoices for them tells so on `invoices`.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::error::KafkaResult;
use rdkafka::message::Message as _;
use rdkafka::producer::{FutureProducer, FutureRecord};
use spanwise_sdk::RecordError;
use spanwise_sdk::layers::{ProcessTraced, ProduceTraced, TraceSql};
use sqlx::sqlite::SqlitePool;

use crate::Order;

const GROUP: &str = "payment";

#[derive(Clone)]
pub struct Broker {
    config: ClientConfig,
    producer: FutureProducer,
}

impl Broker {
    pub fn open(brokers: &str) -> KafkaResult<Self> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers).set("message.timeout.ms", "10000");
        let producer = config.create()?;
        Ok(Self { config, producer })
    }

    pub async fn announce(&self, order: &Order) -> KafkaResult<()> {
        let payload = serde_json::json!({ "user": order.user, "total": order.total }).to_string();
        let record = FutureRecord::to("orders").key(&order.user).payload(&payload);
        self.producer.send_traced(record, Duration::from_secs(5)).await.map(drop).map_err(|(error, _)| error)
    }

    /// Notes invoices as long as the program runs.
    pub fn follow_invoices(&self, payments: SqlitePool) -> KafkaResult<impl Future<Output = ()> + Send + use<>> {
        let mut config = self.config.clone();
        config.set("group.id", GROUP).set("auto.offset.reset", "earliest");
        let consumer: StreamConsumer = config.create()?;
        consumer.subscribe(&["invoices"])?;
        Ok(async move {
            loop {
                match consumer.recv().await {
                    Ok(invoice) => {
                        invoice.processing(GROUP).run(note(&payments, invoice.payload().unwrap_or_default())).await;
                    }
                    Err(error) => tracing::warn!("cannot read invoices: {error}"),
                }
            }
        })
    }
}

async fn note(payments: &SqlitePool, invoice: &[u8]) {
    let Ok(order) = serde_json::from_slice::<serde_json::Value>(invoice) else {
        return tracing::warn!("cannot read an invoice of {} bytes", invoice.len());
    };
    let update = sqlx::query("UPDATE payments SET invoiced = 1 WHERE customer = ?");
    if update.bind(order["user"].as_str()).execute(payments.traced()).await.recorded().is_ok() {
        tracing::info!("invoiced");
    }
}
