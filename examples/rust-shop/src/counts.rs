//! How often each customer has paid, in Redis.

use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands, RedisResult};
use spanwise_sdk::layers::TracedRedis;

#[derive(Clone)]
pub struct Counts(TracedRedis<MultiplexedConnection>);

impl Counts {
    pub async fn open(url: &str) -> RedisResult<Self> {
        let connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
        Ok(Self(TracedRedis::new(connection)))
    }

    pub async fn add(&self, user: &str) -> RedisResult<u64> {
        self.0.clone().incr(format!("payments:{user}"), 1).await
    }
}
