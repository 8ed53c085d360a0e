//! redis: a connection whose commands are spans.
//!
//! ```no_run
//! use redis::AsyncCommands;
//! use spanwise_sdk::layers::TracedRedis;
//! # async fn seen() -> redis::RedisResult<()> {
//! let client = redis::Client::open("redis://127.0.0.1/")?;
//! let mut redis = TracedRedis::new(client.get_multiplexed_async_connection().await?);
//! let count: i64 = redis.incr("seen", 1).await?;
//! # assert!(count > 0);
//! # Ok(())
//! # }
//! ```
//!
//! Names of commands are kept, keys and values are not: `SET ? ?`.

use opentelemetry::KeyValue;
use opentelemetry::trace::{FutureExt, Status, TraceContextExt};
use redis::{Cmd, Pipeline, RedisError, RedisFuture, RedisResult, Value};

use super::database::{OpenStatement, Statement};

/// Arguments of a command that are counted in its text.
const MAX_ARGUMENTS: usize = 16;
/// Characters of a command's name.
const MAX_NAME: usize = 32;

/// A connection, of either kind, whose commands and pipelines are traced.
#[derive(Clone, Debug)]
pub struct TracedRedis<C> {
    inner: C,
    server: Option<(String, u16)>,
}

impl<C> TracedRedis<C> {
    /// Around a connection: `MultiplexedConnection`, `ConnectionManager`, `Connection`, or whatever else runs commands.
    pub fn new(connection: C) -> Self {
        Self { inner: connection, server: None }
    }

    /// Where the server listens.
    #[must_use]
    pub fn server(self, address: impl Into<String>, port: u16) -> Self {
        Self { server: Some((address.into(), port)), ..self }
    }

    /// The connection itself.
    pub fn into_inner(self) -> C {
        self.inner
    }

    fn open(&self, statement: Statement, database: i64) -> OpenStatement {
        let mut statement = statement.namespace(database.to_string());
        if let Some((address, port)) = &self.server {
            statement = statement.server(address.as_str(), *port);
        }
        OpenStatement(statement.start())
    }
}

impl<C: redis::aio::ConnectionLike + Send> redis::aio::ConnectionLike for TracedRedis<C> {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        let open = self.open(of_command(command), self.inner.get_db());
        Box::pin(async move {
            let result = self.inner.req_packed_command(command).with_context(open.0.clone()).await;
            answered(&open, result.as_ref().map(std::slice::from_ref));
            result
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        let names = pipeline.cmd_iter().map(|command| name(command).unwrap_or_default());
        let open = self.open(of_many(names, pipeline.is_transaction()), self.inner.get_db());
        Box::pin(async move {
            let result = self.inner.req_packed_commands(pipeline, offset, count).with_context(open.0.clone()).await;
            answered(&open, result.as_deref());
            result
        })
    }

    fn get_db(&self) -> i64 {
        self.inner.get_db()
    }
}

impl<C: redis::ConnectionLike> redis::ConnectionLike for TracedRedis<C> {
    fn req_packed_command(&mut self, packed: &[u8]) -> RedisResult<Value> {
        let mut names = packed_names(packed);
        let open = self.open(Statement::command("redis", &names.next().unwrap_or_default()), self.inner.get_db());
        let _active = open.0.clone().attach();
        let result = self.inner.req_packed_command(packed);
        answered(&open, result.as_ref().map(std::slice::from_ref));
        result
    }

    fn req_packed_commands(&mut self, packed: &[u8], offset: usize, count: usize) -> RedisResult<Vec<Value>> {
        // Inside of a transaction `MULTI` comes first and is no command of the program's.
        let is_transaction = packed_names(packed).next().as_deref() == Some("MULTI");
        let names = packed_names(packed).filter(|name| !is_transaction || !matches!(name.as_str(), "MULTI" | "EXEC"));
        let open = self.open(of_many(names, is_transaction), self.inner.get_db());
        let _active = open.0.clone().attach();
        let result = self.inner.req_packed_commands(packed, offset, count);
        answered(&open, result.as_deref());
        result
    }

    fn req_command(&mut self, command: &Cmd) -> RedisResult<Value> {
        let open = self.open(of_command(command), self.inner.get_db());
        let _active = open.0.clone().attach();
        let result = self.inner.req_command(command);
        answered(&open, result.as_ref().map(std::slice::from_ref));
        result
    }

    fn get_db(&self) -> i64 {
        self.inner.get_db()
    }

    fn supports_pipelining(&self) -> bool {
        self.inner.supports_pipelining()
    }

    fn check_connection(&mut self) -> bool {
        self.inner.check_connection()
    }

    fn is_open(&self) -> bool {
        self.inner.is_open()
    }
}

fn answered(open: &OpenStatement, result: Result<&[Value], &RedisError>) {
    let span = open.0.span();
    match result {
        Err(error) => open.failed_with(error, error.code().map(str::to_owned)),
        // One command of many may have failed.
        Ok(values) => {
            let refused = values.iter().find_map(|value| match value {
                Value::ServerError(error) => Some(error),
                _ => None,
            });
            if let Some(error) = refused {
                span.set_attribute(KeyValue::new("error.type", error.code().to_owned()));
                span.set_attribute(KeyValue::new("db.response.status_code", error.code().to_owned()));
                span.set_status(Status::error(error.details().unwrap_or_default().to_owned()));
            }
        }
    }
}

fn of_command(command: &Cmd) -> Statement {
    let arguments = command.args_iter().len().saturating_sub(1);
    let name = name(command).unwrap_or_default();
    let text = format!("{name}{}", " ?".repeat(arguments.min(MAX_ARGUMENTS)));
    Statement::command("redis", &name).text(text)
}

/// `PIPELINE GET` where all do the same, `PIPELINE` where not; `MULTI` for a transaction.
fn of_many(names: impl Iterator<Item = String>, is_transaction: bool) -> Statement {
    let mut common: Option<String> = None;
    let (mut count, mut is_mixed) = (0_i64, false);
    for name in names {
        count += 1;
        is_mixed |= common.as_ref().is_some_and(|common| *common != name);
        common.get_or_insert(name);
    }
    let batch = if is_transaction { "MULTI" } else { "PIPELINE" };
    let operation = common.filter(|_| !is_mixed).map_or_else(|| batch.to_owned(), |name| format!("{batch} {name}"));
    Statement::command("redis", &operation).batch(count)
}

fn name(command: &Cmd) -> Option<String> {
    match command.args_iter().next()? {
        redis::Arg::Simple(name) => Some(upper(name)),
        _ => None,
    }
}

fn upper(name: &[u8]) -> String {
    String::from_utf8_lossy(name).chars().take(MAX_NAME).collect::<String>().to_ascii_uppercase()
}

/// Names of commands in the wire format: `*2\r\n$3\r\nGET\r\n$1\r\nk\r\n`. Stops at what is not that.
fn packed_names(packed: &[u8]) -> impl Iterator<Item = String> {
    let mut rest = packed;
    std::iter::from_fn(move || {
        let count = header(&mut rest, b'*')?;
        let mut name = None;
        for _ in 0..count {
            let length = header(&mut rest, b'$')?;
            let value = rest.get(..length)?;
            rest = rest.get(length..)?.strip_prefix(b"\r\n")?;
            name.get_or_insert_with(|| upper(value));
        }
        name
    })
}

fn header(rest: &mut &[u8], mark: u8) -> Option<usize> {
    let line = rest.strip_prefix(&[mark])?;
    let end = line.windows(2).position(|two| two == b"\r\n")?;
    let number = std::str::from_utf8(line.get(..end)?).ok()?.parse().ok()?;
    *rest = line.get(end + 2..)?;
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_on_the_wire() {
        let mut packed = redis::cmd("get").arg("k").get_packed_command();
        packed.extend(redis::cmd("SET").arg("k").arg("a\r\n$3\r\nb").get_packed_command());
        assert_eq!(packed_names(&packed).collect::<Vec<_>>(), ["GET", "SET"]);
        for broken in [&b""[..], b"*1\r\n$9\r\nGET\r\n", b"*x\r\n", b"*1\r\n$-1\r\n", b"PING\r\n", b"*0\r\n"] {
            assert_eq!(packed_names(broken).count(), 0);
        }
        for cut in 0..packed.len() {
            assert!(packed_names(&packed[..cut]).count() < 2);
        }
    }
}
