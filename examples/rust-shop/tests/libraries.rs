//! The SDK's layers around sqlx, redis and rdkafka. They are tested here, where these libraries are built anyway.

#![allow(clippy::unwrap_used)]

#[path = "../../../crates/spanwise-sdk/tests/collected/mod.rs"]
mod collected;

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use collected::{Collected, attribute, spans_of};
use opentelemetry::trace::{FutureExt, SpanKind, Status, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, TraceId};
use opentelemetry_sdk::trace::SpanData;
use rdkafka::ClientConfig;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{FutureProducer, FutureRecord};
use redis::AsyncCommands;
use spanwise_sdk::layers::{ProcessTraced, ProduceTraced, TraceSql, TracedRedis, kafka};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};
use sqlx::{AssertSqlSafe, Executor as _, Statement as _};

/// Runs `work` below a span of its own, and returns that trace's other spans, in order.
async fn trace<T>(work: impl Future<Output = T>) -> (T, Vec<SpanData>) {
    let kept = Collected::global();
    let tracer = kept.provider().tracer("test");
    let context = Context::new().with_span(tracer.start("test"));
    let trace_id = context.span().span_context().trace_id();
    let result = work.with_context(context.clone()).await;
    context.span().end();
    let mut spans = spans_of(&kept, trace_id).await;
    let root = spans.iter().position(|span| span.name == "test").unwrap();
    let root = spans.remove(root).span_context.span_id();
    assert!(spans.iter().all(|span| span.span_kind == SpanKind::Consumer || span.parent_span_id == root), "{spans:#?}");
    (result, spans)
}

fn names(spans: &[SpanData]) -> Vec<&str> {
    spans.iter().map(|span| &*span.name).collect()
}

async fn database() -> SqlitePool {
    let options = SqliteConnectOptions::new().in_memory(true);
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
    pool.execute("CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT UNIQUE)").await.unwrap();
    pool
}

#[tokio::test]
async fn statements_of_sqlx() {
    let pool = database().await;
    let (_, spans) = trace(async {
        let insert = sqlx::query("INSERT INTO items (name) VALUES (?), ('milk')");
        assert_eq!(insert.bind("tea").execute(pool.traced()).await.unwrap().rows_affected(), 2);
        let mut transaction = pool.begin().await.unwrap();
        let all: Vec<(i64, String)> = sqlx::query_as("SELECT id, name FROM items WHERE id < 7")
            .fetch_all(transaction.traced().namespace("shop"))
            .await
            .unwrap();
        assert_eq!(all, [(1, "tea".to_owned()), (2, "milk".to_owned())]);
        transaction.commit().await.unwrap();
        let none = sqlx::query_scalar::<_, i64>("SELECT id FROM items WHERE name = ?").bind("salt");
        assert_eq!(none.fetch_optional(pool.traced()).await.unwrap(), None);
    })
    .await;
    assert_eq!(names(&spans), ["INSERT items", "SELECT items", "SELECT items"]);
    assert!(spans.iter().all(|span| span.span_kind == SpanKind::Client && span.status == Status::Unset));
    assert_eq!(attribute(&spans[0], "db.system.name"), "sqlite");
    assert_eq!(attribute(&spans[0], "db.query.text"), "INSERT INTO items (name) VALUES (?), (?)");
    assert_eq!(attribute(&spans[1], "db.namespace"), "shop");
    assert_eq!(attribute(&spans[1], "db.response.returned_rows"), "2");
    assert!(spans[2].attributes.iter().all(|pair| pair.key.as_str() != "db.response.returned_rows"));
}

#[tokio::test]
async fn statements_that_fail_or_are_left() {
    let pool = database().await;
    let (_, spans) = trace(async {
        for _ in 0..2 {
            let _ = sqlx::query("INSERT INTO items (name) VALUES ('tea')").execute(pool.traced()).await;
        }
        sqlx::query("SELECT a FROM nowhere").fetch_one(pool.traced()).await.unwrap_err();
        // Nobody waits for the answer.
        drop(sqlx::query("SELECT 1").fetch(pool.traced()));
        // Prepared before, and with an argument that cannot be had: both arrive as they were.
        let mut connection = pool.acquire().await.unwrap();
        let name = String::from("SELECT name FROM items WHERE id = ?");
        let prepared = connection.prepare(sqlx::SqlSafeStr::into_sql_str(AssertSqlSafe(name))).await.unwrap();
        let row = prepared.query().bind(1).fetch_one(connection.traced()).await.unwrap();
        assert_eq!(sqlx::Row::get::<String, _>(&row, 0), "tea");
    })
    .await;
    assert_eq!(names(&spans), ["INSERT items", "INSERT items", "SELECT nowhere", "SELECT", "SELECT items"]);
    let failed: Vec<_> = spans.iter().filter(|span| span.status != Status::Unset).collect();
    assert_eq!(
        names(&failed.iter().map(|span| (*span).clone()).collect::<Vec<_>>()),
        ["INSERT items", "SELECT nowhere"]
    );
    // SQLite's code of a violated UNIQUE.
    assert_eq!(attribute(failed[0], "db.response.status_code"), "2067");
    assert_eq!(attribute(failed[0], "error.type"), "2067");
    let exception = failed[1].events.iter().find(|event| event.name == "exception").unwrap();
    assert!(format!("{exception:?}").contains("no such table"), "{exception:?}");
}

/// Debian's redis-server on a free port.
struct Redis {
    server: Child,
    url: String,
}

impl Redis {
    fn start() -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let arguments = ["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string()];
        let mut server = Command::new("redis-server").args(arguments).stdout(Stdio::null()).spawn().unwrap();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(server.try_wait().unwrap().is_none(), "redis-server does not start");
            std::thread::park_timeout(Duration::from_millis(10));
        }
        Self { server, url: format!("redis://127.0.0.1:{port}/") }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[tokio::test]
async fn commands_of_redis() {
    let server = Redis::start();
    let client = redis::Client::open(server.url.as_str()).unwrap();
    let mut redis = TracedRedis::new(client.get_multiplexed_async_connection().await.unwrap());
    let (_, spans) = trace(async {
        redis.set::<_, _, ()>("user:7", "ada").await.unwrap();
        assert_eq!(redis.get::<_, String>("user:7").await.unwrap(), "ada");
        redis.incr::<_, _, i64>("user:7", 1).await.unwrap_err();
        redis::pipe().get("a").get("b").query_async::<(Option<u8>, Option<u8>)>(&mut redis).await.unwrap();
        redis::pipe().atomic().set("a", 1).ignore().incr("a", 1).query_async::<(i64,)>(&mut redis).await.unwrap();
    })
    .await;
    assert_eq!(names(&spans), ["SET", "GET", "INCRBY", "PIPELINE GET", "MULTI"]);
    assert_eq!(attribute(&spans[0], "db.query.text"), "SET ? ?");
    assert_eq!(
        (attribute(&spans[0], "db.system.name"), attribute(&spans[0], "db.namespace")),
        ("redis".into(), "0".into())
    );
    assert_eq!(attribute(&spans[3], "db.operation.batch.size"), "2");
    assert_eq!(attribute(&spans[4], "db.operation.batch.size"), "2");
    let failed: Vec<bool> = spans.iter().map(|span| span.status != Status::Unset).collect();
    assert_eq!(failed, [false, false, true, false, false]);
    assert_eq!(attribute(&spans[2], "error.type"), "ERR");
}

#[tokio::test]
async fn commands_of_redis_that_block() {
    use redis::Commands;
    let server = Redis::start();
    let client = redis::Client::open(server.url.as_str()).unwrap();
    let mut redis = TracedRedis::new(client.get_connection().unwrap());
    let (_, spans) = trace(async {
        redis.set::<_, _, ()>("k", "text").unwrap();
        redis::pipe().atomic().get("k").get("k").query::<(String, String)>(&mut redis).unwrap();
        redis::pipe().get("k").lpush("k", 1).query::<(String, i64)>(&mut redis).unwrap_err();
    })
    .await;
    assert_eq!(names(&spans), ["SET", "MULTI GET", "PIPELINE"]);
    assert_eq!(attribute(&spans[1], "db.operation.batch.size"), "2");
    assert_eq!(attribute(&spans[2], "error.type"), "WRONGTYPE");
}

fn sender(spans: &[SpanData]) -> (TraceId, &SpanData) {
    let span = spans.iter().find(|span| span.span_kind == SpanKind::Producer).unwrap();
    (span.span_context.trace_id(), span)
}

#[tokio::test]
async fn records_of_rdkafka() {
    let broker = MockCluster::new(1).unwrap();
    broker.create_topic("orders", 1, 1).unwrap();
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker.bootstrap_servers());
    let producer: FutureProducer = config.create().unwrap();
    config.set("group.id", "billing").set("auto.offset.reset", "earliest");
    let consumer: StreamConsumer = config.create().unwrap();
    consumer.subscribe(&["orders"]).unwrap();
    let wait = Duration::from_secs(10);

    // What the program's own headers say is kept; an older context is not.
    let mut own = OwnedHeaders::new().insert(Header { key: "own", value: Some("1") });
    own = own
        .insert(Header { key: "traceparent", value: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01") });
    let record = FutureRecord::to("orders").key("7").payload("tea").headers(own);
    let (delivery, spans) = trace(producer.send_traced(record, wait)).await;
    let (trace_id, sent) = sender(&spans);
    assert_eq!((&*sent.name, attribute(sent, "messaging.system").as_str()), ("send orders", "kafka"));
    assert_eq!(attribute(sent, "messaging.kafka.message.key"), "7");
    assert_eq!(attribute(sent, "messaging.kafka.offset"), delivery.unwrap().offset.to_string());

    let first = consumer.recv().await.unwrap();
    assert_eq!((first.payload(), first.key()), (Some(&b"tea"[..]), Some(&b"7"[..])));
    first.processing("billing").run(async { assert!(Context::current().span().span_context().is_valid()) }).await;
    let spans = spans_of(&Collected::global(), trace_id).await;
    let work = spans.iter().find(|span| span.span_kind == SpanKind::Consumer).unwrap();
    assert_eq!((&*work.name, work.parent_span_id), ("process orders", sent.span_context.span_id()));
    assert_eq!(attribute(work, "messaging.destination.partition.id"), "0");

    // A batch is a trace of its own, linked to those of its messages; one without headers is none's.
    let (_, spans) = trace(producer.send_traced(FutureRecord::<(), _>::to("orders").payload("milk"), wait)).await;
    let (_, second) = sender(&spans);
    producer.send(FutureRecord::<(), _>::to("orders").payload("salt"), wait).await.unwrap();
    let batch = [first.detach(), consumer.recv().await.unwrap().detach(), consumer.recv().await.unwrap().detach()];
    let (_, spans) = trace(async { drop(kafka::receiving("orders", "billing", &batch)) }).await;
    let linked: Vec<_> = spans[0].links.iter().map(|link| link.span_context.span_id()).collect();
    assert_eq!(linked, [sent.span_context.span_id(), second.span_context.span_id()]);
    assert_eq!(attribute(&spans[0], "messaging.batch.message_count"), "3");

    // No such partition.
    let lost = FutureRecord::<(), _>::to("orders").payload("x").partition(99);
    let (result, spans) = trace(producer.send_traced(lost, wait)).await;
    assert!(result.is_err());
    assert!(matches!(sender(&spans).1.status, Status::Error { .. }), "{spans:#?}");
}
