//! Statements of databases, whatever library sends them.
//!
//! ```
//! use spanwise_sdk::layers::database::{Statement, traced};
//! # async fn send(_: &str) -> Result<u64, std::io::Error> { Ok(1) }
//! # async fn pay() -> Result<u64, std::io::Error> {
//! let sql = "UPDATE accounts SET balance = 12 WHERE id = 'x7'";
//! traced(Statement::new("postgresql", sql).namespace("shop"), send(sql)).await
//! # }
//! # assert!(pollster(pay()).is_ok());
//! # fn pollster<F: Future>(f: F) -> F::Output {
//! #     let mut f = std::pin::pin!(f);
//! #     let std::task::Poll::Ready(out) = f.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) else { panic!() };
//! #     out
//! # }
//! ```

use std::error::Error;

use opentelemetry::trace::{FutureExt, SpanBuilder, SpanKind, TraceContextExt};
use opentelemetry::{Context, KeyValue};

/// Characters of a statement that are kept.
const MAX_TEXT: usize = 4096;

/// What is sent to a database.
#[derive(Clone, Debug)]
pub struct Statement {
    name: String,
    attributes: Vec<KeyValue>,
}

impl Statement {
    /// Of a `db.system.name` (`sqlite`, `postgresql`, `mysql`, …). Literals in the text are replaced by `?`.
    pub fn new(system: &'static str, sql: &str) -> Self {
        let text = without_literals(sql);
        let summary = summary(&text);
        let mut attributes = vec![KeyValue::new("db.system.name", system)];
        if !summary.is_empty() {
            let operation = summary.split(' ').next().unwrap_or_default();
            attributes.push(KeyValue::new("db.operation.name", operation.to_owned()));
            attributes.push(KeyValue::new("db.query.summary", summary.clone()));
        }
        attributes.push(KeyValue::new("db.query.text", text));
        Self { name: if summary.is_empty() { system.to_owned() } else { summary }, attributes }
    }

    /// A command of a store that has no statements, such as `GET` of `redis`.
    pub fn command(system: &'static str, operation: &str) -> Self {
        let attributes =
            vec![KeyValue::new("db.system.name", system), KeyValue::new("db.operation.name", operation.to_owned())];
        Self { name: operation.to_owned(), attributes }
    }

    /// The text of a command, without its arguments.
    #[cfg(feature = "redis")]
    pub(crate) fn text(mut self, text: String) -> Self {
        self.attributes.push(KeyValue::new("db.query.text", text));
        self
    }

    /// How many commands go at once. One alone is no batch.
    #[cfg(feature = "redis")]
    pub(crate) fn batch(mut self, count: i64) -> Self {
        if count > 1 {
            self.attributes.push(KeyValue::new("db.operation.batch.size", count));
        }
        self
    }

    /// The database's name.
    #[must_use]
    pub fn namespace(mut self, name: impl Into<String>) -> Self {
        self.attributes.push(KeyValue::new("db.namespace", name.into()));
        self
    }

    /// Where the database listens.
    #[must_use]
    pub fn server(mut self, address: impl Into<String>, port: u16) -> Self {
        self.attributes.push(KeyValue::new("server.address", address.into()));
        self.attributes.push(KeyValue::new("server.port", i64::from(port)));
        self
    }

    pub(crate) fn start(self) -> Context {
        let span = SpanBuilder::from_name(self.name).with_kind(SpanKind::Client).with_attributes(self.attributes);
        crate::start(span, &Context::current())
    }
}

/// Sends a statement as a span of the active trace.
///
/// # Errors
/// Those of `sent`, recorded on the span.
pub async fn traced<T, E: Error>(statement: Statement, sent: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let open = OpenStatement(statement.start());
    let result = sent.with_context(open.0.clone()).await;
    if let Err(error) = &result {
        open.failed(error);
    }
    result
}

/// Ends its span also when nobody waits for the answer any more.
pub(crate) struct OpenStatement(pub(crate) Context);

impl OpenStatement {
    pub(crate) fn failed<E: Error>(&self, error: &E) {
        let causes = crate::errors::chain(error.source());
        crate::errors::record(&self.0.span(), std::any::type_name::<E>(), error.to_string(), causes);
    }

    /// With the database's own code, where it gave one.
    #[cfg(any(feature = "sqlx", feature = "redis"))]
    pub(crate) fn failed_with<E: Error>(&self, error: &E, code: Option<String>) {
        let Some(code) = code else { return self.failed(error) };
        let span = self.0.span();
        span.set_attribute(KeyValue::new("db.response.status_code", code.clone()));
        let causes = crate::errors::chain(error.source());
        crate::errors::record_as(&span, std::any::type_name::<E>(), code, error.to_string(), causes);
    }
}

impl Drop for OpenStatement {
    fn drop(&mut self) {
        self.0.span().end();
    }
}

/// Strings and numbers become `?`: they are data, and not everybody's business. Names in double quotes or backticks stay.
fn without_literals(sql: &str) -> String {
    let mut text = String::with_capacity(sql.len().min(MAX_TEXT));
    let mut characters = sql.chars().peekable();
    let mut is_in_name = false;
    while let Some(character) = characters.next() {
        if text.len() >= MAX_TEXT {
            break;
        }
        match character {
            '\'' => {
                // A doubled quote is part of the text: two strings in a row give the same mark.
                while characters.next().is_some_and(|next| next != '\'') {}
                if !text.ends_with('?') {
                    text.push('?');
                }
                is_in_name = false;
            }
            '0'..='9' if !is_in_name => {
                while characters.next_if(|next| next.is_ascii_alphanumeric() || *next == '.').is_some() {}
                text.push('?');
            }
            _ => {
                is_in_name = character.is_alphanumeric() || matches!(character, '_' | '$' | '?' | ':' | '@');
                text.push(if character.is_whitespace() { ' ' } else { character });
            }
        }
    }
    text
}

/// `SELECT items`: the operation and the tables, few enough to be a name.
fn summary(sql: &str) -> String {
    let mut words =
        sql.split(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | ',' | ';')).filter(|word| !word.is_empty());
    let Some(operation) =
        words.next().map(str::to_ascii_uppercase).filter(|word| word.bytes().all(|b| b.is_ascii_alphabetic()))
    else {
        return String::new();
    };
    let mut summary = operation;
    let mut is_table_next = summary == "UPDATE";
    for word in words {
        if is_table_next && !matches!(word.to_ascii_uppercase().as_str(), "ONLY" | "IF" | "NOT" | "EXISTS" | "SELECT") {
            if summary.len() + word.len() > 100 {
                break;
            }
            summary.push(' ');
            summary.push_str(word.trim_matches(['"', '`', '[', ']']));
            is_table_next = false;
        }
        is_table_next |= matches!(word.to_ascii_uppercase().as_str(), "FROM" | "JOIN" | "INTO" | "TABLE");
    }
    summary
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements() {
        for (sql, text, name) in [
            ("SELECT * FROM items WHERE id = 7", "SELECT * FROM items WHERE id = ?", "SELECT items"),
            (
                "select a1 from \"Items\" where n='it''s' and x=-1.5e3",
                "select a1 from \"Items\" where n=? and x=-?",
                "SELECT Items",
            ),
            ("INSERT INTO t2(a) VALUES ($1, ?, 'x')", "INSERT INTO t2(a) VALUES ($1, ?, ?)", "INSERT t2"),
            ("UPDATE accounts SET b=12", "UPDATE accounts SET b=?", "UPDATE accounts"),
            ("SELECT * FROM a JOIN b ON a.x=b.x", "SELECT * FROM a JOIN b ON a.x=b.x", "SELECT a b"),
            ("CREATE TABLE IF NOT EXISTS t (id INTEGER)", "CREATE TABLE IF NOT EXISTS t (id INTEGER)", "CREATE t"),
            ("'unclosed", "?", ""),
            ("", "", ""),
        ] {
            assert_eq!(without_literals(sql), text);
            assert_eq!(summary(&without_literals(sql)), name, "{sql}");
        }
        assert!(without_literals(&"\u{e4}".repeat(10_000)).len() <= MAX_TEXT + 4);
    }
}
