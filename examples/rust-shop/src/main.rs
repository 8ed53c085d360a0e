//! The demo shop's payment service, in Rust: `PAYMENT=rust examples/shop/run.sh PORT` uses it.
//!
//! All that makes it appear in traces: `init`, one layer, `send_traced`, `traced` pools and connections, and spans around
//! its own work. With features `redis` and `kafka`, and `REDIS_URL` and `KAFKA` in the environment, it also counts
//! payments in Redis and announces them on a topic.

#[cfg(feature = "kafka")]
mod broker;
#[cfg(feature = "redis")]
mod counts;

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Context;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value as JsonValue, json};
use spanwise_sdk::RecordError;
use spanwise_sdk::layers::{SendTraced, ServerLayer, TraceSql};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// What the bank takes for a card of the old kind before we give up on it.
const BANK_TIMEOUT: Duration = Duration::from_millis(1500);
const BANK_USUAL: Duration = Duration::from_millis(10);

#[derive(Clone)]
struct Shop {
    payments: SqlitePool,
    client: reqwest::Client,
    auth: String,
    is_healthy: bool,
    #[cfg(feature = "redis")]
    counts: Option<counts::Counts>,
    #[cfg(feature = "kafka")]
    broker: Option<broker::Broker>,
}

#[derive(Debug, Deserialize)]
struct Order {
    user: String,
    total: f64,
    card: String,
}

#[derive(Debug, thiserror::Error)]
enum PayError {
    #[error("cannot ask who it is")]
    Auth(#[from] reqwest::Error),
    #[error("who are you?")]
    Unknown,
    #[error("the bank did not answer")]
    Bank(#[from] tokio::time::error::Elapsed),
    #[error("cannot note the payment")]
    Store(#[from] sqlx::Error),
    #[cfg(feature = "redis")]
    #[error("cannot count the payment")]
    Count(#[from] redis::RedisError),
    #[cfg(feature = "kafka")]
    #[error("cannot announce the payment")]
    Announce(#[from] rdkafka::error::KafkaError),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let _guard = spanwise_sdk::builder().service_name("payment").init()?;
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let shop = Shop {
        payments: open().await?,
        client: reqwest::Client::builder().timeout(Duration::from_secs(5)).build()?,
        auth: variable("AUTH_URL").context("AUTH_URL is not set: where is the auth service?")?,
        is_healthy: variable("SHOP").as_deref() == Some("healthy"),
        #[cfg(feature = "redis")]
        counts: match variable("REDIS_URL") {
            Some(url) => Some(counts::Counts::open(&url).await?),
            None => None,
        },
        #[cfg(feature = "kafka")]
        broker: variable("KAFKA").map(|brokers| broker::Broker::open(&brokers)).transpose()?,
    };
    #[cfg(feature = "kafka")]
    if let Some(broker) = &shop.broker {
        tokio::spawn(broker.follow_invoices(shop.payments.clone())?);
    }
    let port = variable("PORT").map_or(Ok(0), |port| port.parse()).context("PORT is not a port")?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    println!("http://{}/pay", listener.local_addr()?);
    let router = Router::new().route("/pay", post(pay)).layer(ServerLayer::new()).with_state(shop);
    let mut terminate = signal(SignalKind::terminate())?;
    let stopped = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    };
    axum::serve(listener, router).with_graceful_shutdown(stopped).await?;
    Ok(())
}

/// In memory: one connection, which is the database.
async fn open() -> anyhow::Result<SqlitePool> {
    let options = SqliteConnectOptions::new().in_memory(true);
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
    sqlx::query(
        "CREATE TABLE payments (id INTEGER PRIMARY KEY, customer TEXT NOT NULL, total REAL NOT NULL, invoiced INTEGER)",
    )
    .execute(&pool)
    .await?;
    Ok(pool)
}

async fn pay(State(shop): State<Shop>, headers: HeaderMap, Json(order): Json<Order>) -> (StatusCode, Json<JsonValue>) {
    match shop.pay(&headers, &order).await.recorded() {
        Ok(()) => {
            tracing::info!(user = order.user, total = order.total, "paid");
            (StatusCode::OK, Json(json!({ "paid": order.total })))
        }
        Err(error) => {
            tracing::warn!(user = order.user, "cannot take the payment: {error}");
            let status = match error {
                PayError::Unknown => StatusCode::UNAUTHORIZED,
                PayError::Bank(_) => StatusCode::GATEWAY_TIMEOUT,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            (status, Json(json!({ "error": error.to_string() })))
        }
    }
}

impl Shop {
    async fn pay(&self, headers: &HeaderMap, order: &Order) -> Result<(), PayError> {
        if !self.is_healthy {
            self.verify(headers).await?;
        }
        self.charge(order).await?;
        let insert = sqlx::query("INSERT INTO payments (customer, total) VALUES (?, ?)");
        insert.bind(&order.user).bind(order.total).execute(self.payments.traced()).await?;
        #[cfg(feature = "redis")]
        if let Some(counts) = &self.counts {
            counts.add(&order.user).await?;
        }
        #[cfg(feature = "kafka")]
        if let Some(broker) = &self.broker {
            broker.announce(order).await?;
        }
        Ok(())
    }

    async fn verify(&self, headers: &HeaderMap) -> Result<(), PayError> {
        let token = headers.get("authorization").cloned().unwrap_or(axum::http::HeaderValue::from_static(""));
        let request = self.client.get(format!("{}/verify", self.auth)).header("authorization", token);
        let answer = request.send_traced().await?.bytes().await?;
        let answer: JsonValue = serde_json::from_slice(&answer).unwrap_or_default();
        if answer["valid"] == true { Ok(()) } else { Err(PayError::Unknown) }
    }

    #[tracing::instrument(name = "charge the card", skip_all, fields(shop.card = order.card, shop.total = order.total))]
    async fn charge(&self, order: &Order) -> Result<(), PayError> {
        let is_stuck = order.card == "old" && !self.is_healthy;
        let bank = tokio::time::sleep(if is_stuck { Duration::MAX } else { BANK_USUAL });
        tokio::time::timeout(BANK_TIMEOUT, bank).await.map_err(PayError::from).recorded()
    }
}
