//! sqlx: `pool.traced()` where a pool, a connection or a transaction is expected.
//!
//! ```no_run
//! use spanwise_sdk::layers::TraceSql;
//! # async fn pay(pool: sqlx::Pool<sqlx::Sqlite>) -> Result<(), sqlx::Error> {
//! sqlx::query("INSERT INTO payments (total) VALUES (?)").bind(12.5).execute(pool.traced()).await?;
//! let mut transaction = pool.begin().await?;
//! let (count,): (i64,) =
//!     sqlx::query_as("SELECT COUNT(*) FROM payments").fetch_one(transaction.traced().namespace("shop")).await?;
//! # assert!(count > 0);
//! # transaction.commit().await
//! # }
//! ```

use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};

use futures_core::Stream;
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use opentelemetry::KeyValue;
use opentelemetry::trace::{FutureExt, TraceContextExt};
use sqlx::error::BoxDynError;
use sqlx::{Database, Describe, Either, Error, Execute, Executor, SqlStr, Statement as _};

use super::database::{OpenStatement, Statement};

/// Whatever sqlx runs statements on.
pub trait TraceSql<'c>: Executor<'c> {
    /// The same, with a span for each statement.
    fn traced(self) -> TracedSql<Self> {
        TracedSql { inner: self, namespace: None, server: None }
    }
}

impl<'c, E: Executor<'c>> TraceSql<'c> for E {}

/// A pool, connection or transaction whose statements are traced.
#[derive(Clone, Debug)]
pub struct TracedSql<E> {
    inner: E,
    namespace: Option<String>,
    server: Option<(String, u16)>,
}

impl<E> TracedSql<E> {
    /// The database's name.
    #[must_use]
    pub fn namespace(self, name: impl Into<String>) -> Self {
        Self { namespace: Some(name.into()), ..self }
    }

    /// Where the database listens.
    #[must_use]
    pub fn server(self, address: impl Into<String>, port: u16) -> Self {
        Self { server: Some((address.into(), port)), ..self }
    }

    fn open<'c>(&mut self, sql: &str) -> OpenStatement
    where
        E: Executor<'c>,
    {
        let mut statement = Statement::new(system(E::Database::NAME), sql);
        if let Some(name) = self.namespace.take() {
            statement = statement.namespace(name);
        }
        if let Some((address, port)) = self.server.take() {
            statement = statement.server(address, port);
        }
        OpenStatement(statement.start())
    }
}

/// Of sqlx's names, those of the semantic conventions.
fn system(name: &'static str) -> &'static str {
    match name {
        "PostgreSQL" => "postgresql",
        "MySQL" => "mysql",
        "SQLite" => "sqlite",
        _ => "other_sql",
    }
}

/// Notes how a statement failed: databases' own codes tell more than our types.
fn failed(open: &OpenStatement, error: &Error) {
    let code = error.as_database_error().and_then(|error| error.code().map(|code| code.into_owned()));
    open.failed_with(error, code);
}

impl<'c, E: Executor<'c>> Executor<'c> for TracedSql<E> {
    type Database = E::Database;

    fn fetch_many<'e, 'q: 'e, Q>(
        mut self,
        query: Q,
    ) -> BoxStream<'e, Result<Either<<E::Database as Database>::QueryResult, <E::Database as Database>::Row>, Error>>
    where
        'c: 'e,
        Q: 'q + Execute<'q, E::Database>,
    {
        let query = Taken::new(query);
        let open = self.open(query.sql.as_str());
        let _active = open.0.clone().attach();
        Box::pin(TracedRows::<E::Database> { inner: self.inner.fetch_many(query), open: Some(open), rows: 0 })
    }

    fn fetch_optional<'e, 'q: 'e, Q>(
        mut self,
        query: Q,
    ) -> BoxFuture<'e, Result<Option<<E::Database as Database>::Row>, Error>>
    where
        'c: 'e,
        Q: 'q + Execute<'q, E::Database>,
    {
        let query = Taken::new(query);
        let open = self.open(query.sql.as_str());
        let answer = self.inner.fetch_optional(query).with_context(open.0.clone());
        Box::pin(async move {
            let result = answer.await;
            match &result {
                Ok(row) => open.rows(u64::from(row.is_some())),
                Err(error) => failed(&open, error),
            }
            result
        })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [<E::Database as Database>::TypeInfo],
    ) -> BoxFuture<'e, Result<<E::Database as Database>::Statement, Error>>
    where
        'c: 'e,
    {
        self.inner.prepare_with(sql, parameters)
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<E::Database>, Error>>
    where
        'c: 'e,
    {
        self.inner.describe(sql)
    }
}

/// A query taken apart: its text is had only by consuming it.
struct Taken<DB: Database> {
    sql: SqlStr,
    statement: Option<DB::Statement>,
    arguments: Option<Result<DB::Arguments, BoxDynError>>,
    is_persistent: bool,
}

impl<DB: Database> Taken<DB> {
    fn new<'q>(mut query: impl Execute<'q, DB>) -> Self {
        let arguments = query.take_arguments().transpose();
        let statement = query.statement().cloned();
        let is_persistent = query.persistent();
        let sql = match &statement {
            Some(statement) => statement.sql().clone(),
            None => query.sql(),
        };
        Self { sql, statement, arguments, is_persistent }
    }
}

impl<DB: Database> Execute<'_, DB> for Taken<DB> {
    fn sql(self) -> SqlStr {
        self.sql
    }

    fn statement(&self) -> Option<&DB::Statement> {
        self.statement.as_ref()
    }

    fn take_arguments(&mut self) -> Result<Option<DB::Arguments>, BoxDynError> {
        self.arguments.take().transpose()
    }

    fn persistent(&self) -> bool {
        self.is_persistent
    }
}

type Step<DB> = Either<<DB as Database>::QueryResult, <DB as Database>::Row>;

/// Rows as they come; the span ends with the last of them, or when nobody wants more.
struct TracedRows<'e, DB: Database> {
    inner: BoxStream<'e, Result<Step<DB>, Error>>,
    open: Option<OpenStatement>,
    rows: u64,
}

impl<DB: Database> Stream for TracedRows<'_, DB> {
    type Item = Result<Step<DB>, Error>;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        let active = self.open.as_ref().map(|open| open.0.clone().attach());
        let item = ready!(self.inner.as_mut().poll_next(task));
        drop(active);
        match &item {
            Some(Ok(Either::Right(_))) => self.rows += 1,
            Some(Ok(Either::Left(_))) => {}
            Some(Err(error)) => {
                if let Some(open) = &self.open {
                    failed(open, error);
                }
            }
            None => self.end(),
        }
        Poll::Ready(item)
    }
}

impl<DB: Database> TracedRows<'_, DB> {
    fn end(&mut self) {
        if let Some(open) = self.open.take() {
            open.rows(self.rows);
        }
    }
}

impl<DB: Database> Drop for TracedRows<'_, DB> {
    fn drop(&mut self) {
        self.end();
    }
}

impl OpenStatement {
    fn rows(&self, count: u64) {
        if count > 0 {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.0.span().set_attribute(KeyValue::new("db.response.returned_rows", count));
        }
    }
}
