//! Tokens into the conditions of a query. Precedence, lowest first: `&& ||` (one level), comparisons, `+ -`, `!`, `* / %`, `^`, minus.

use regex::RegexBuilder;
use spanwise_model::limits;

use super::QueryError;
use super::ast::{Arithmetic, Compare, Expr, Intrinsic, Literal, Query, Scope, Type};
use super::lexer::{Spanned, Token, lex};
use super::pipeline::comparison;

pub(super) struct Parser {
    pub tokens: Vec<Spanned>,
    pub at: usize,
    pub depth: usize,
    pub operators: usize,
}

/// # Errors
/// Where the text is not TraceQL, or compares what cannot be compared.
pub fn parse(text: &str) -> Result<Query, QueryError> {
    if text.len() > limits::QUERY_TEXT_BYTES {
        return Err(QueryError::new(format!("query is longer than {} bytes", limits::QUERY_TEXT_BYTES), 0, 0));
    }
    Parser { tokens: lex(text)?, at: 0, depth: 0, operators: 0 }.query()
}

pub(super) fn not_executed(what: &str, offset: usize, length: usize) -> QueryError {
    QueryError::new(format!("{what} is not executed yet"), offset, length.max(1))
}

pub(super) fn unexpected(at: &Spanned, wanted: &str) -> QueryError {
    let what = match &at.token {
        Token::End => "the query ends here".to_owned(),
        Token::Word(word) => format!("unexpected {word:?}"),
        Token::Symbol(symbol) => format!("unexpected {symbol:?}"),
        _ => "unexpected value".to_owned(),
    };
    let error = QueryError::new(format!("{what}: expected {wanted}"), at.offset, at.length.max(1));
    match &at.token {
        Token::Word(word) => {
            error.hint(format!("attributes begin with a dot or a scope: .{word} or span.{word}; text stands in quotes"))
        }
        _ => error,
    }
}

impl Parser {
    pub fn peek(&self) -> &Spanned {
        // The last token is `End`, and nothing moves past it.
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    pub fn next(&mut self) -> Spanned {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    pub fn take(&mut self, symbol: &str) -> bool {
        let found = matches!(&self.peek().token, Token::Symbol(found) if *found == symbol);
        self.at += usize::from(found);
        found
    }

    pub fn expect(&mut self, symbol: &str) -> Result<(), QueryError> {
        if self.take(symbol) { Ok(()) } else { Err(unexpected(self.peek(), &format!("{symbol:?}"))) }
    }

    pub fn deeper(&mut self) -> Result<(), QueryError> {
        self.depth += 1;
        if self.depth > limits::QUERY_DEPTH {
            let at = self.peek();
            return Err(QueryError::new("query is nested too deeply", at.offset, at.length));
        }
        Ok(())
    }

    /// Counts the operator that stands here and passes it.
    pub fn operator(&mut self) -> Result<Spanned, QueryError> {
        let operator = self.next();
        self.operators += 1;
        if self.operators > limits::QUERY_OPERATORS {
            let message = format!("query has more than {} operators", limits::QUERY_OPERATORS);
            return Err(QueryError::new(message, operator.offset, operator.length)
                .hint("many alternatives of one attribute are shorter as a regular expression: .a =~ \"x|y|z\""));
        }
        Ok(operator)
    }

    pub fn expression(&mut self) -> Result<Expr, QueryError> {
        let mut start = self.peek().clone();
        let mut left = self.comparison()?;
        loop {
            let is_and = match &self.peek().token {
                Token::Symbol("&&") => true,
                Token::Symbol("||") => false,
                _ => return Ok(left),
            };
            self.operator()?;
            check_bool(&left, &start)?;
            start = self.peek().clone();
            let right = self.comparison()?;
            check_bool(&right, &start)?;
            left = match is_and {
                true => Expr::And(Box::new(left), Box::new(right)),
                false => Expr::Or(Box::new(left), Box::new(right)),
            };
        }
    }

    fn comparison(&mut self) -> Result<Expr, QueryError> {
        let left = self.sum()?;
        let operator = self.peek().clone();
        let Token::Symbol(symbol) = operator.token else { return Ok(left) };
        if symbol == "=~" || symbol == "!~" {
            self.at += 1;
            return self.regex(left, symbol == "!~", &operator);
        }
        let Some(compare) = comparison(symbol) else { return Ok(left) };
        self.at += 1;
        if symbol == "=" && self.take("=") {
            return Err(QueryError::new("unexpected \"==\"", operator.offset, 2).hint("equality is written ="));
        }
        let right = self.sum()?;
        compare_types(compare, left, right, &operator)
    }

    fn regex(&mut self, operand: Expr, negated: bool, operator: &Spanned) -> Result<Expr, QueryError> {
        let pattern = self.next();
        let Token::Literal(Literal::String(text)) = &pattern.token else {
            return Err(unexpected(&pattern, "a regular expression in quotes"));
        };
        if !matches!(operand.value_type(), Type::String | Type::Dynamic) {
            let message = format!("a {} cannot match a regular expression", operand.value_type().name());
            return Err(QueryError::new(message, operator.offset, operator.length));
        }
        if text.len() > limits::QUERY_REGEX_BYTES {
            let message = format!("regular expression is longer than {} bytes", limits::QUERY_REGEX_BYTES);
            return Err(QueryError::new(message, pattern.offset, pattern.length));
        }
        let regex = RegexBuilder::new(&format!("^(?:{text})$"))
            .size_limit(limits::QUERY_REGEX_PROGRAM_BYTES)
            .build()
            .map_err(|error| {
            let reason = error.to_string().lines().last().unwrap_or_default().to_owned();
            QueryError::new(format!("regular expression cannot be used: {reason}"), pattern.offset, pattern.length)
        })?;
        Ok(Expr::Match { negated, operand: Box::new(operand), regex })
    }

    fn sum(&mut self) -> Result<Expr, QueryError> {
        let mut left = self.negation()?;
        loop {
            let operator = match &self.peek().token {
                Token::Symbol("+") => Arithmetic::Add,
                Token::Symbol("-") => Arithmetic::Sub,
                _ => return Ok(left),
            };
            left = self.arithmetic(operator, left, Self::negation)?;
        }
    }

    fn negation(&mut self) -> Result<Expr, QueryError> {
        if !self.take("!") {
            return self.product();
        }
        self.deeper()?;
        let start = self.peek().clone();
        let inner = self.negation()?;
        check_bool(&inner, &start)?;
        self.depth -= 1;
        Ok(Expr::Not(Box::new(inner)))
    }

    fn product(&mut self) -> Result<Expr, QueryError> {
        let mut left = self.power()?;
        loop {
            let operator = match &self.peek().token {
                Token::Symbol("*") => Arithmetic::Mul,
                Token::Symbol("/") => Arithmetic::Div,
                Token::Symbol("%") => Arithmetic::Mod,
                _ => return Ok(left),
            };
            left = self.arithmetic(operator, left, Self::power)?;
        }
    }

    fn power(&mut self) -> Result<Expr, QueryError> {
        let base = self.unary()?;
        if !matches!(&self.peek().token, Token::Symbol("^")) {
            return Ok(base);
        }
        self.deeper()?;
        let expr = self.arithmetic(Arithmetic::Pow, base, Self::power);
        self.depth -= 1;
        expr
    }

    fn arithmetic(
        &mut self,
        operator: Arithmetic,
        left: Expr,
        operand: impl Fn(&mut Self) -> Result<Expr, QueryError>,
    ) -> Result<Expr, QueryError> {
        let token = self.operator()?;
        let right = operand(self)?;
        for side in [&left, &right] {
            if !matches!(side.value_type(), Type::Number | Type::Dynamic) {
                let message = format!("cannot calculate with a {}", side.value_type().name());
                return Err(QueryError::new(message, token.offset, token.length));
            }
        }
        Ok(Expr::Arithmetic(operator, Box::new(left), Box::new(right)))
    }

    fn unary(&mut self) -> Result<Expr, QueryError> {
        if !self.take("-") {
            return self.operand();
        }
        self.deeper()?;
        let start = self.peek().clone();
        let inner = self.unary()?;
        self.depth -= 1;
        match inner {
            Expr::Literal(Literal::Int(value)) => Ok(Expr::Literal(Literal::Int(value.wrapping_neg()))),
            Expr::Literal(Literal::Float(value)) => Ok(Expr::Literal(Literal::Float(-value))),
            Expr::Literal(Literal::Duration(value)) => Ok(Expr::Literal(Literal::Duration(-value))),
            inner if matches!(inner.value_type(), Type::Number | Type::Dynamic) => Ok(Expr::Negate(Box::new(inner))),
            inner => {
                let message = format!("cannot negate a {}", inner.value_type().name());
                Err(QueryError::new(message, start.offset, start.length))
            }
        }
    }

    pub fn operand(&mut self) -> Result<Expr, QueryError> {
        let token = self.next();
        match &token.token {
            Token::Literal(literal) => Ok(Expr::Literal(literal.clone())),
            Token::Attribute(scope, key) => Ok(Expr::Attribute(*scope, key.clone())),
            Token::Intrinsic(intrinsic) => Ok(Expr::Intrinsic(*intrinsic)),
            Token::Parent(field) => Ok(Expr::Parent(Box::new(match &**field {
                Token::Intrinsic(intrinsic) => Expr::Intrinsic(*intrinsic),
                Token::Attribute(scope, key) => Expr::Attribute(*scope, key.clone()),
                _ => return Err(unexpected(&token, "an attribute of the parent span")),
            }))),
            // The parent itself is its id: there or nil.
            Token::Word(word) if word == "parent" => Ok(Expr::Parent(Box::new(Expr::Intrinsic(Intrinsic::SpanId)))),
            Token::Symbol("(") => {
                self.deeper()?;
                let inner = self.expression()?;
                self.expect(")")?;
                self.depth -= 1;
                Ok(inner)
            }
            Token::Word(word) => {
                let error = unexpected(&token, "a value, an attribute or an intrinsic");
                let mut names = Intrinsic::NAMES.iter().flat_map(|(_, names)| names.iter());
                let close = names.find(|name| name.eq_ignore_ascii_case(word));
                Err(match close {
                    Some(name) => error.hint(format!("did you mean {name}?")),
                    None => error,
                })
            }
            _ => Err(unexpected(&token, "a value, an attribute or an intrinsic")),
        }
    }
}

fn check_bool(expr: &Expr, at: &Spanned) -> Result<(), QueryError> {
    match expr.value_type() {
        Type::Bool | Type::Dynamic => Ok(()),
        other => {
            let message = format!("expected a condition, and this is a {}", other.name());
            Err(QueryError::new(message, at.offset, at.length))
        }
    }
}

fn compare_types(compare: Compare, left: Expr, right: Expr, operator: &Spanned) -> Result<Expr, QueryError> {
    let fail = |message: String| Err(QueryError::new(message, operator.offset, operator.length));
    let (left_type, right_type) = (left.value_type(), right.value_type());
    if left_type == Type::Nil || right_type == Type::Nil {
        let operand = if left_type == Type::Nil { right } else { left };
        let is_service = matches!(&operand, Expr::Attribute(Scope::Resource, key) if key == "service.name");
        return match compare {
            Compare::Eq | Compare::NotEq if matches!(operand, Expr::Literal(Literal::Nil)) => {
                Ok(Expr::Literal(Literal::Bool(false)))
            }
            Compare::Eq if matches!(operand, Expr::Intrinsic(_)) || is_service => {
                fail("intrinsics and resource.service.name are never nil".to_owned())
            }
            Compare::Eq | Compare::NotEq => {
                Ok(Expr::Exists { negated: compare == Compare::Eq, operand: Box::new(operand) })
            }
            _ => fail("nil can only be compared with = and !=".to_owned()),
        };
    }
    let comparable = left_type == right_type
        || left_type == Type::Dynamic
        || right_type == Type::Dynamic
        || matches!((left_type, right_type), (Type::Status, Type::Number) | (Type::Number, Type::Status));
    if !comparable {
        return fail(format!("cannot compare a {} with a {}", left_type.name(), right_type.name()));
    }
    let is_ordered = !matches!(compare, Compare::Eq | Compare::NotEq);
    let unordered =
        [left_type, right_type].into_iter().find(|kind| matches!(kind, Type::Status | Type::Kind | Type::Bool));
    match unordered {
        Some(kind) if is_ordered => fail(format!("a {} has no order: only = and != compare it", kind.name())),
        _ => {
            let left = pad_id(left, &right);
            let right = pad_id(right, &left);
            Ok(Expr::Compare(compare, Box::new(left), Box::new(right)))
        }
    }
}

/// A hex id that is written short, or in capitals, means the one with zeros before it.
fn pad_id(text: Expr, beside: &Expr) -> Expr {
    let field = if let Expr::Parent(inner) = beside { inner } else { beside };
    let digits = match field {
        Expr::Intrinsic(Intrinsic::TraceId | Intrinsic::LinkTraceId) => 32,
        Expr::Intrinsic(Intrinsic::SpanId | Intrinsic::ParentId | Intrinsic::LinkSpanId) => 16,
        _ => return text,
    };
    match text {
        Expr::Literal(Literal::String(id)) if !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            Expr::Literal(Literal::String(format!("{:0>digits$}", id.to_ascii_lowercase())))
        }
        text => text,
    }
}

#[cfg(test)]
mod tests;
