//! TraceQL as Tempo defines it: <https://grafana.com/docs/tempo/latest/traceql/>.
//!
//! A query is a pipeline of spansets and stages, which [`run`] executes over one whole trace at a time, and may end in
//! a function that makes series of numbers of it: see [`crate::metrics`].

pub mod ast;
pub(crate) mod eval;
mod lexer;
mod parser;
mod pipeline;
pub(crate) mod print;
pub(crate) mod run;

pub use ast::Query;
pub use eval::{Context, EvalError, Truth};
pub use parser::parse;

/// What is wrong with a query, and where: offsets count bytes of the query's text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct QueryError {
    pub message: String,
    pub offset: usize,
    pub length: usize,
    pub hint: Option<String>,
}

impl QueryError {
    pub(crate) fn new(message: impl Into<String>, offset: usize, length: usize) -> Self {
        Self { message: message.into(), offset, length, hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Line and column of the offset, both from 1.
    pub fn position(&self, text: &str) -> (usize, usize) {
        let before = text.get(..self.offset).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        (line, column)
    }
}
