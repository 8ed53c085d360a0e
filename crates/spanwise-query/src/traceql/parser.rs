//! Tokens into a query. Precedence, lowest first: `&& ||` (one level), comparisons, `+ -`, `!`, `* / %`, `^`, minus.

use regex::RegexBuilder;
use spanwise_model::limits;

use super::QueryError;
use super::ast::{Arithmetic, Compare, Expr, Intrinsic, Literal, Query, Scope, Spanset, Type};
use super::lexer::{Spanned, Token, lex};

struct Parser {
    tokens: Vec<Spanned>,
    at: usize,
    depth: usize,
}

/// # Errors
/// Where the text is not TraceQL, compares what cannot be compared, or asks for what is not executed yet.
pub fn parse(text: &str) -> Result<Query, QueryError> {
    if text.len() > limits::QUERY_TEXT_BYTES {
        return Err(QueryError::new(format!("query is longer than {} bytes", limits::QUERY_TEXT_BYTES), 0, 0));
    }
    let mut parser = Parser { tokens: lex(text)?, at: 0, depth: 0 };
    let spanset = parser.spanset()?;
    let next = parser.peek().clone();
    match &next.token {
        Token::End => Ok(Query { spanset }),
        Token::Symbol("|") => {
            let stage = parser.tokens.get(parser.at + 1).map_or(String::new(), |next| match &next.token {
                Token::Word(word) => format!(" ({word})"),
                _ => String::new(),
            });
            Err(not_yet(&next, &format!("pipelines{stage}")))
        }
        Token::Word(word) if word == "with" => Err(not_yet(&next, "hints (with)")),
        _ => Err(unexpected(&next, "the end of the query, or && or || and another spanset")),
    }
}

fn not_yet(at: &Spanned, what: &str) -> QueryError {
    QueryError::new(format!("{what} are not executed yet"), at.offset, at.length.max(1))
        .hint("spanset filters such as { resource.service.name = \"cart\" && duration > 1s }, joined by && and ||, are")
}

fn unexpected(at: &Spanned, wanted: &str) -> QueryError {
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
    fn peek(&self) -> &Spanned {
        // The last token is `End`, and nothing moves past it.
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn next(&mut self) -> Spanned {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn take(&mut self, symbol: &str) -> bool {
        let found = matches!(&self.peek().token, Token::Symbol(found) if *found == symbol);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, symbol: &str) -> Result<(), QueryError> {
        if self.take(symbol) { Ok(()) } else { Err(unexpected(self.peek(), &format!("{symbol:?}"))) }
    }

    fn deeper(&mut self) -> Result<(), QueryError> {
        self.depth += 1;
        if self.depth > limits::QUERY_DEPTH {
            let at = self.peek();
            return Err(QueryError::new("query is nested too deeply", at.offset, at.length));
        }
        Ok(())
    }

    fn spanset(&mut self) -> Result<Spanset, QueryError> {
        let mut left = self.spanset_operand()?;
        loop {
            if self.take("&&") {
                left = Spanset::And(Box::new(left), Box::new(self.spanset_operand()?));
            } else if self.take("||") {
                left = Spanset::Or(Box::new(left), Box::new(self.spanset_operand()?));
            } else {
                let next = self.peek();
                return match &next.token {
                    Token::Symbol(
                        symbol @ (">" | ">>" | "<" | "<<" | "~" | "!>" | "!>>" | "!<" | "!<<" | "!~" | "&>" | "&>>"
                        | "&<" | "&<<" | "&~"),
                    ) => Err(not_yet(next, &format!("structural operators ({symbol})"))),
                    _ => Ok(left),
                };
            }
        }
    }

    fn spanset_operand(&mut self) -> Result<Spanset, QueryError> {
        self.deeper()?;
        let spanset = if self.take("(") {
            let inner = self.spanset()?;
            if matches!(&self.peek().token, Token::Symbol("|")) {
                return Err(not_yet(self.peek(), "pipelines"));
            }
            self.expect(")")?;
            inner
        } else if self.take("{") {
            if self.take("}") {
                Spanset::Filter(None)
            } else {
                let start = self.peek().clone();
                let filter = self.expression()?;
                self.expect("}")?;
                if !matches!(filter.value_type(), Type::Bool | Type::Dynamic) {
                    let message = format!("a filter is true or false; this is a {}", filter.value_type().name());
                    return Err(QueryError::new(message, start.offset, start.length));
                }
                Spanset::Filter(Some(filter))
            }
        } else {
            let error = unexpected(self.peek(), "\"{\"");
            return Err(match &self.peek().token {
                Token::Word(_) | Token::Attribute(..) | Token::Intrinsic(_) => {
                    error.hint("conditions stand in braces: { name = \"GET /\" }")
                }
                _ => error,
            });
        };
        self.depth -= 1;
        Ok(spanset)
    }

    fn expression(&mut self) -> Result<Expr, QueryError> {
        let mut start = self.peek().clone();
        let mut left = self.comparison()?;
        loop {
            let is_and = self.take("&&");
            if !is_and && !self.take("||") {
                return Ok(left);
            }
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
        let compare = match symbol {
            "=" => Compare::Eq,
            "!=" => Compare::NotEq,
            "<" => Compare::Less,
            "<=" => Compare::LessEq,
            ">" => Compare::Greater,
            ">=" => Compare::GreaterEq,
            _ => return Ok(left),
        };
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
        let token = self.next();
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

    fn operand(&mut self) -> Result<Expr, QueryError> {
        let token = self.next();
        match &token.token {
            Token::Literal(literal) => Ok(Expr::Literal(literal.clone())),
            Token::Attribute(scope, key) => Ok(Expr::Attribute(*scope, key.clone())),
            Token::Intrinsic(intrinsic) => Ok(Expr::Intrinsic(*intrinsic)),
            Token::Parent => Err(not_yet(&token, "conditions on the parent span (parent.)")),
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
        _ => Ok(Expr::Compare(compare, Box::new(left), Box::new(right))),
    }
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_traceql_parses() {
        for query in [
            "{}",
            "{ }",
            "{ .a }",
            "{ name = \"GET /\" && duration > 1.5s }",
            "{ resource.service.name =~ \"cart|pay.*\" || span.http.status_code >= 500 }",
            "{ span.\"a b\".c = `raw` }",
            "{ .http/route+x[0] != nil } && { status = error }",
            "({ kind = server } || { kind = client }) && { trace:rootName = \"x\" }",
            "{ !(.x = 1) && -.y < 2 ^ 3 ^ 2 * 1 }",
            "{ 1 < 1h } // comment",
            "{ /* c */ status = 2 }",
            "{ event:name = \"exception\" && instrumentation:version != \"1\" }",
        ] {
            assert!(parse(query).is_ok(), "{query}: {:?}", parse(query).err());
        }
    }

    #[test]
    fn what_is_not_says_where_and_why() {
        for (query, offset, part) in [
            ("", 0, "expected \"{\""),
            ("name = 1", 0, "expected \"{\""),
            ("{ name = }", 9, "unexpected \"}\""),
            ("{ nmae = \"x\" }", 2, "unexpected \"nmae\""),
            ("{ name = 1 }", 7, "cannot compare a string with a number"),
            ("{ status > ok }", 9, "no order"),
            ("{ duration = nil }", 11, "never nil"),
            ("{ name =~ \"(\" }", 10, "regular expression cannot be used"),
            ("{ name = \"x }", 9, "does not end"),
            ("{ .a == 1 }", 5, "=="),
            ("{ duration }", 2, "true or false"),
            ("{} >> {}", 3, "structural operators (>>) are not executed yet"),
            ("{} | rate()", 3, "pipelines (rate) are not executed yet"),
            ("{ parent.a = 1 }", 2, "parent"),
            ("{ .a = 5 parsecs }", 9, "unexpected"),
            ("{ duration > 5parsecs }", 13, "not a number or duration"),
        ] {
            let error = parse(query).unwrap_err();
            assert!(error.message.contains(part), "{query}: {error}");
            assert_eq!(error.offset, offset, "{query}: {error}");
        }
        let deep = format!("{{ {} true {} }}", "(".repeat(1000), ")".repeat(1000));
        assert!(parse(&deep).unwrap_err().message.contains("deeply"));
    }
}
