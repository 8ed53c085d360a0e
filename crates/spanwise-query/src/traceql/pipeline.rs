//! Tokens into pipelines: spansets and their operators, stages, metrics, hints.
//!
//! Structural operators bind closer than `&&` and `||`, which share one level; all are left-associative.

use super::QueryError;
use super::ast::{
    Aggregate, Arithmetic, Compare, Expr, Function, Literal, Metrics, Pipeline, Query, Root, Scalar, ScalarFilter,
    SecondStage, Spanset, SpansetOperator, Stage, Type,
};
use super::lexer::{Spanned, Token};
use super::parser::{Parser, not_executed, unexpected};

/// Functions that end a pipeline and make series of it.
const METRICS: [&str; 9] = [
    "rate",
    "count_over_time",
    "min_over_time",
    "max_over_time",
    "avg_over_time",
    "sum_over_time",
    "quantile_over_time",
    "histogram_over_time",
    "compare",
];

/// Labels of one series, and of one whose function adds a label itself.
const MOST_LABELS: usize = 5;
const MOST_TOP: usize = 1_000;

impl Parser {
    pub fn query(&mut self) -> Result<Query, QueryError> {
        let root = self.root()?;
        let mut hints = Vec::new();
        while self.take_word("with") {
            self.hints(&mut hints)?;
        }
        match self.peek() {
            Spanned { token: Token::End, .. } => Ok(Query { root, hints }),
            next => Err(unexpected(next, "an operator and another spanset, a | and a stage, or the end of the query")),
        }
    }

    fn root(&mut self) -> Result<Root, QueryError> {
        let is_number = matches!(self.peek().token, Token::Literal(_) | Token::Symbol("-"));
        if is_number || self.group_has_metrics() {
            let metrics = self.metrics_sum()?;
            return Ok(Root::Metrics(self.second_stages(metrics)?));
        }
        let pipeline = self.pipeline()?;
        if self.is_metrics_stage() {
            return Ok(Root::Metrics(self.range(pipeline)?));
        }
        Ok(Root::Search(pipeline))
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = matches!(&self.peek().token, Token::Word(found) if found == word);
        self.at += usize::from(found);
        found
    }

    fn hints(&mut self, hints: &mut Vec<(String, Literal)>) -> Result<(), QueryError> {
        self.expect("(")?;
        loop {
            let name = self.next();
            let Token::Word(word) = &name.token else { return Err(unexpected(&name, "the name of a hint")) };
            self.expect("=")?;
            hints.push((word.clone(), self.literal("a value for the hint")?));
            if !self.take(",") {
                return self.expect(")");
            }
        }
    }

    fn literal(&mut self, wanted: &str) -> Result<Literal, QueryError> {
        let is_negative = self.take("-");
        let token = self.next();
        match (token.token.clone(), is_negative) {
            (Token::Literal(literal), false) => Ok(literal),
            (Token::Literal(Literal::Int(value)), true) => Ok(Literal::Int(value.wrapping_neg())),
            (Token::Literal(Literal::Float(value)), true) => Ok(Literal::Float(-value)),
            (Token::Literal(Literal::Duration(value)), true) => Ok(Literal::Duration(value.wrapping_neg())),
            _ => Err(unexpected(&token, wanted)),
        }
    }

    /// A number; durations count in seconds, as the values of series do.
    fn number(&mut self, wanted: &str) -> Result<f64, QueryError> {
        let start = self.peek().clone();
        match self.literal(wanted)? {
            Literal::Int(value) => Ok(value as f64),
            Literal::Float(value) => Ok(value),
            Literal::Duration(nanos) => Ok(nanos as f64 / 1e9),
            _ => Err(unexpected(&start, wanted)),
        }
    }

    fn whole_number(&mut self, wanted: &str) -> Result<i64, QueryError> {
        let start = self.peek().clone();
        match self.literal(wanted)? {
            Literal::Int(value) => Ok(value),
            _ => Err(unexpected(&start, wanted)),
        }
    }

    /// Whether a parenthesis begins here that has a metrics function somewhere inside of it.
    fn group_has_metrics(&self) -> bool {
        let mut depth = 0usize;
        let rest = self.tokens.get(self.at..).unwrap_or_default();
        for (place, spanned) in rest.iter().enumerate() {
            match &spanned.token {
                Token::Symbol("(") => depth += 1,
                Token::Symbol(")") => depth = depth.saturating_sub(1),
                Token::Symbol("|") if is_metrics_word(rest.get(place + 1)) => return true,
                _ => {}
            }
            if depth == 0 {
                return false;
            }
        }
        false
    }

    fn is_metrics_stage(&self) -> bool {
        matches!(self.peek().token, Token::Symbol("|")) && is_metrics_word(self.tokens.get(self.at + 1))
    }

    /// Up to its end, or to the `|` before a metrics function.
    fn pipeline(&mut self) -> Result<Pipeline, QueryError> {
        let mut stages = vec![Stage::Spanset(self.spanset()?)];
        while matches!(self.peek().token, Token::Symbol("|")) && !self.is_metrics_stage() {
            self.at += 1;
            stages.push(self.stage()?);
        }
        Ok(Pipeline { stages })
    }

    fn stage(&mut self) -> Result<Stage, QueryError> {
        let start = self.peek().clone();
        let aggregate = |word: &str| Aggregate::NAMES.iter().any(|(name, _)| *name == word);
        match &start.token {
            Token::Word(word) if word == "by" => {
                self.at += 1;
                self.expect("(")?;
                let expr = self.expression()?;
                self.expect(")")?;
                Ok(Stage::By(expr))
            }
            Token::Word(word) if word == "select" => {
                self.at += 1;
                Ok(Stage::Select(self.fields()?))
            }
            Token::Word(word) if word == "coalesce" => {
                self.at += 1;
                self.expect("(")?;
                self.expect(")")?;
                Ok(Stage::Coalesce)
            }
            Token::Word(word) if aggregate(word) => self.scalar_filter(),
            Token::Word(word) if word == "topk" || word == "bottomk" => {
                let message = format!("{word} ranks the series of a metrics function: it cannot follow a search");
                Err(QueryError::new(message, start.offset, start.length)
                    .hint(format!("as in {{ }} | rate() by (resource.service.name) | {word}(5)")))
            }
            Token::Literal(_) | Token::Symbol("-") => self.scalar_filter(),
            Token::Symbol("{") => Ok(Stage::Spanset(self.spanset()?)),
            Token::Symbol("(") => {
                let rest = self.tokens.get(self.at..).unwrap_or_default();
                match rest.iter().map(|spanned| &spanned.token).find(|token| **token != Token::Symbol("(")) {
                    Some(Token::Symbol("{")) => Ok(Stage::Spanset(self.spanset()?)),
                    _ => self.scalar_filter(),
                }
            }
            _ => {
                let error = unexpected(&start, "a stage of the pipeline");
                Err(error.hint(
                    "stages are spansets, count() min() max() avg() sum() with a comparison, by() select() coalesce(), \
                     and metrics such as rate()",
                ))
            }
        }
    }

    /// `(field, field, …)`
    fn fields(&mut self) -> Result<Vec<Expr>, QueryError> {
        self.expect("(")?;
        let mut fields = Vec::new();
        loop {
            fields.push(self.field()?);
            if !self.take(",") {
                self.expect(")")?;
                return Ok(fields);
            }
        }
    }

    fn field(&mut self) -> Result<Expr, QueryError> {
        let token = self.peek().clone();
        match self.operand() {
            Ok(field @ (Expr::Attribute(..) | Expr::Intrinsic(_) | Expr::Parent(_))) => Ok(field),
            Ok(_) => Err(unexpected(&token, "an attribute or an intrinsic")),
            Err(error) => Err(error),
        }
    }

    fn spanset(&mut self) -> Result<Spanset, QueryError> {
        let mut left = self.structural()?;
        loop {
            let operator = match &self.peek().token {
                Token::Symbol("&&") => SpansetOperator::And,
                Token::Symbol("||") => SpansetOperator::Or,
                _ => return Ok(left),
            };
            self.operator()?;
            left = Spanset::Operation(operator, Box::new(left), Box::new(self.structural()?));
        }
    }

    fn structural(&mut self) -> Result<Spanset, QueryError> {
        let mut left = self.spanset_operand()?;
        loop {
            let Token::Symbol(symbol) = self.peek().token else { return Ok(left) };
            let known = SpansetOperator::STRUCTURAL.iter().find(|(text, ..)| *text == symbol);
            let Some((_, relation, side)) = known else { return Ok(left) };
            self.operator()?;
            let right = self.spanset_operand()?;
            let operator = SpansetOperator::Structural(*relation, *side);
            left = Spanset::Operation(operator, Box::new(left), Box::new(right));
        }
    }

    fn spanset_operand(&mut self) -> Result<Spanset, QueryError> {
        self.deeper()?;
        let spanset = if self.take("(") {
            let mut inner = self.pipeline()?;
            if self.is_metrics_stage() {
                return Err(unexpected(self.peek(), "\")\"").hint("metrics stand alone, or are combined by + - * /"));
            }
            self.expect(")")?;
            match (inner.stages.len(), inner.stages.pop()) {
                (1, Some(Stage::Spanset(single))) => single,
                (_, last) => {
                    inner.stages.extend(last);
                    Spanset::Pipeline(inner)
                }
            }
        } else if self.take("{") {
            if self.take("}") { Spanset::Filter(None) } else { Spanset::Filter(Some(self.condition()?)) }
        } else {
            let error = unexpected(self.peek(), "\"{\"");
            return Err(match &self.peek().token {
                Token::Word(_) | Token::Attribute(..) | Token::Intrinsic(_) | Token::Parent(_) => {
                    error.hint("conditions stand in braces: { name = \"GET /\" }")
                }
                _ => error,
            });
        };
        self.depth -= 1;
        Ok(spanset)
    }

    /// What stands in braces, and the closing one.
    fn condition(&mut self) -> Result<Expr, QueryError> {
        let start = self.peek().clone();
        let filter = self.expression()?;
        self.expect("}")?;
        match filter.value_type() {
            Type::Bool | Type::Dynamic => Ok(filter),
            other => {
                let message = format!("a filter is true or false; this is a {}", other.name());
                Err(QueryError::new(message, start.offset, start.length))
            }
        }
    }

    fn scalar_filter(&mut self) -> Result<Stage, QueryError> {
        let start = self.peek().clone();
        let left = self.scalar_sum()?;
        let operator = self.next();
        let compare = match &operator.token {
            Token::Symbol(symbol) => comparison(symbol),
            _ => None,
        };
        let Some(compare) = compare else {
            if operator.token == Token::Symbol(")") {
                let length = operator.offset.saturating_sub(start.offset).max(1);
                return Err(not_executed("calculating with the aggregates of several pipelines", start.offset, length)
                    .hint("compare each pipeline's aggregate by itself: { … } | count() > 2"));
            }
            return Err(unexpected(&operator, "a comparison such as > 2"));
        };
        if operator.token == Token::Symbol("=") && self.take("=") {
            return Err(QueryError::new("unexpected \"==\"", operator.offset, 2).hint("equality is written ="));
        }
        let right = self.scalar_sum()?;
        if !has_aggregate(&left) && !has_aggregate(&right) {
            return Err(QueryError::new("neither side is an aggregate", start.offset, start.length)
                .hint("aggregates are count() min() max() avg() sum()"));
        }
        Ok(Stage::Keep(ScalarFilter { compare, left, right }))
    }

    fn scalar_sum(&mut self) -> Result<Scalar, QueryError> {
        let mut left = self.scalar_product()?;
        loop {
            let operator = match &self.peek().token {
                Token::Symbol("+") => Arithmetic::Add,
                Token::Symbol("-") => Arithmetic::Sub,
                _ => return Ok(left),
            };
            self.operator()?;
            left = Scalar::Arithmetic(operator, Box::new(left), Box::new(self.scalar_product()?));
        }
    }

    fn scalar_product(&mut self) -> Result<Scalar, QueryError> {
        let mut left = self.scalar_power()?;
        loop {
            let operator = match &self.peek().token {
                Token::Symbol("*") => Arithmetic::Mul,
                Token::Symbol("/") => Arithmetic::Div,
                Token::Symbol("%") => Arithmetic::Mod,
                _ => return Ok(left),
            };
            self.operator()?;
            left = Scalar::Arithmetic(operator, Box::new(left), Box::new(self.scalar_power()?));
        }
    }

    fn scalar_power(&mut self) -> Result<Scalar, QueryError> {
        self.deeper()?;
        let base = self.scalar_operand()?;
        let scalar = match self.take("^") {
            true => Scalar::Arithmetic(Arithmetic::Pow, Box::new(base), Box::new(self.scalar_power()?)),
            false => base,
        };
        self.depth -= 1;
        Ok(scalar)
    }

    fn scalar_operand(&mut self) -> Result<Scalar, QueryError> {
        let token = self.peek().clone();
        match &token.token {
            Token::Literal(_) | Token::Symbol("-") => Ok(Scalar::Literal(self.literal("a number")?)),
            Token::Symbol("(") => {
                self.at += 1;
                let inner = self.scalar_sum()?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Word(word) => {
                let known = Aggregate::NAMES.iter().find(|(name, _)| name == word);
                let Some((_, aggregate)) = known else {
                    return Err(unexpected(&token, "count() min() max() avg() sum() or a number"));
                };
                self.at += 1;
                self.expect("(")?;
                let operand = match aggregate {
                    Aggregate::Count => None,
                    _ => {
                        let start = self.peek().clone();
                        let operand = self.expression()?;
                        number_type(&operand, &start)?;
                        Some(operand)
                    }
                };
                self.expect(")")?;
                Ok(Scalar::Aggregate(*aggregate, operand))
            }
            _ => Err(unexpected(&token, "count() min() max() avg() sum() or a number")),
        }
    }

    fn metrics_sum(&mut self) -> Result<Metrics, QueryError> {
        let mut left = self.metrics_product()?;
        loop {
            let operator = match &self.peek().token {
                Token::Symbol("+") => Arithmetic::Add,
                Token::Symbol("-") => Arithmetic::Sub,
                _ => return Ok(left),
            };
            self.operator()?;
            left = Metrics::Math(operator, Box::new(left), Box::new(self.metrics_product()?));
        }
    }

    fn metrics_product(&mut self) -> Result<Metrics, QueryError> {
        let mut left = self.metrics_operand()?;
        loop {
            let operator = match &self.peek().token {
                Token::Symbol("*") => Arithmetic::Mul,
                Token::Symbol("/") => Arithmetic::Div,
                _ => return Ok(left),
            };
            self.operator()?;
            left = Metrics::Math(operator, Box::new(left), Box::new(self.metrics_operand()?));
        }
    }

    fn metrics_operand(&mut self) -> Result<Metrics, QueryError> {
        if !self.take("(") {
            return Ok(Metrics::Constant(self.number("a metrics query in parentheses, or a number")?));
        }
        self.deeper()?;
        let is_number = matches!(self.peek().token, Token::Literal(_) | Token::Symbol("-"));
        let inner = if is_number || self.group_has_metrics() {
            let metrics = self.metrics_sum()?;
            self.second_stages(metrics)?
        } else {
            let pipeline = self.pipeline()?;
            if !self.is_metrics_stage() {
                return Err(unexpected(self.peek(), "| and a metrics function such as rate()"));
            }
            self.range(pipeline)?
        };
        self.expect(")")?;
        self.depth -= 1;
        Ok(inner)
    }

    /// From the `|` on.
    fn range(&mut self, pipeline: Pipeline) -> Result<Metrics, QueryError> {
        self.at += 1;
        let name = self.next();
        let Token::Word(word) = &name.token else { return Err(unexpected(&name, "a metrics function")) };
        self.expect("(")?;
        let over = |aggregate, parser: &mut Self| Ok(Function::OverTime(aggregate, parser.measured()?));
        let function = match word.as_str() {
            "rate" => Function::Rate,
            "count_over_time" => Function::CountOverTime,
            "min_over_time" => over(Aggregate::Min, self)?,
            "max_over_time" => over(Aggregate::Max, self)?,
            "avg_over_time" => over(Aggregate::Avg, self)?,
            "sum_over_time" => over(Aggregate::Sum, self)?,
            "histogram_over_time" => Function::Histogram(self.measured()?),
            "quantile_over_time" => self.quantile()?,
            _ => self.compare(&name)?,
        };
        self.expect(")")?;
        let mut by = Vec::new();
        let start = self.peek().clone();
        if !matches!(function, Function::Compare { .. }) && self.take_word("by") {
            by = self.fields()?;
        }
        let own_label = matches!(function, Function::Quantile(..) | Function::Histogram(_));
        let most = MOST_LABELS - usize::from(own_label);
        if by.len() > most {
            let message = format!("{} groups by at most {most} values", name_of(&name));
            return Err(QueryError::new(message, start.offset, start.length));
        }
        self.second_stages(Metrics::Range { pipeline, function, by })
    }

    fn measured(&mut self) -> Result<Expr, QueryError> {
        let start = self.peek().clone();
        let field = self.field()?;
        number_type(&field, &start)?;
        Ok(field)
    }

    fn quantile(&mut self) -> Result<Function, QueryError> {
        let field = self.measured()?;
        let mut quantiles = Vec::new();
        while self.take(",") {
            let start = self.peek().clone();
            let quantile = self.number("a quantile from 0 to 1")?;
            if !(0.0..=1.0).contains(&quantile) {
                return Err(QueryError::new("a quantile lies between 0 and 1", start.offset, start.length));
            }
            quantiles.push(quantile);
        }
        match quantiles.is_empty() {
            true => Err(unexpected(self.peek(), "a comma and a quantile, as in quantile_over_time(duration, 0.9)")),
            false => Ok(Function::Quantile(field, quantiles)),
        }
    }

    fn compare(&mut self, name: &Spanned) -> Result<Function, QueryError> {
        self.expect("{")?;
        let selection = if self.take("}") { None } else { Some(self.condition()?) };
        let mut top = 10;
        let mut window = None;
        if self.take(",") {
            let start = self.peek().clone();
            let number = self.whole_number("how many values of each attribute to show")?;
            top = usize::try_from(number).ok().filter(|top| (1..=MOST_TOP).contains(top)).ok_or_else(|| {
                QueryError::new(format!("compare shows 1 to {MOST_TOP} values"), start.offset, start.length)
            })?;
        }
        if self.take(",") {
            let start = self.whole_number("the start of the selection in nanoseconds")?;
            self.expect(",")?;
            let end = self.whole_number("the end of the selection in nanoseconds")?;
            if end <= start {
                return Err(QueryError::new("the selection ends before it starts", name.offset, name.length));
            }
            window = Some((start, end));
        }
        Ok(Function::Compare { selection, top, window })
    }

    fn second_stages(&mut self, mut metrics: Metrics) -> Result<Metrics, QueryError> {
        loop {
            let compare = match &self.peek().token {
                Token::Symbol(symbol) => comparison(symbol),
                _ => None,
            };
            if let Some(compare) = compare {
                self.operator()?;
                let stage = SecondStage::Keep(compare, self.number("a number")?);
                metrics = Metrics::Then(Box::new(metrics), stage);
                continue;
            }
            if !matches!(self.peek().token, Token::Symbol("|")) {
                return Ok(metrics);
            }
            self.operator()?;
            let name = self.next();
            let is_top = match &name.token {
                Token::Word(word) if word == "topk" => true,
                Token::Word(word) if word == "bottomk" => false,
                _ => return Err(unexpected(&name, "topk(n) or bottomk(n)")),
            };
            self.expect("(")?;
            let count = self.peek().clone();
            let number = self.whole_number("a number of series")?;
            let series = usize::try_from(number).ok().filter(|series| *series > 0);
            let series = series.ok_or_else(|| QueryError::new("at least one series", count.offset, count.length))?;
            self.expect(")")?;
            let stage = if is_top { SecondStage::Top(series) } else { SecondStage::Bottom(series) };
            metrics = Metrics::Then(Box::new(metrics), stage);
        }
    }
}

fn is_metrics_word(spanned: Option<&Spanned>) -> bool {
    matches!(spanned.map(|spanned| &spanned.token), Some(Token::Word(word)) if METRICS.contains(&word.as_str()))
}

fn name_of(spanned: &Spanned) -> &str {
    match &spanned.token {
        Token::Word(word) => word,
        _ => "",
    }
}

pub(super) fn comparison(symbol: &str) -> Option<Compare> {
    Some(match symbol {
        "=" => Compare::Eq,
        "!=" => Compare::NotEq,
        "<" => Compare::Less,
        "<=" => Compare::LessEq,
        ">" => Compare::Greater,
        ">=" => Compare::GreaterEq,
        _ => return None,
    })
}

fn has_aggregate(scalar: &Scalar) -> bool {
    match scalar {
        Scalar::Literal(_) => false,
        Scalar::Aggregate(..) => true,
        Scalar::Arithmetic(_, left, right) => has_aggregate(left) || has_aggregate(right),
    }
}

fn number_type(expr: &Expr, at: &Spanned) -> Result<(), QueryError> {
    match expr.value_type() {
        Type::Number | Type::Dynamic => Ok(()),
        other => {
            let message = format!("expected a number or duration, and this is a {}", other.name());
            Err(QueryError::new(message, at.offset, at.length))
        }
    }
}
