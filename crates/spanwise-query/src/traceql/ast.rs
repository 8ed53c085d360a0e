//! A parsed query.

use regex::Regex;

#[derive(Debug, Clone)]
pub struct Query {
    pub root: Root,
    /// `with(name = value, …)`; names that nobody knows are ignored, as Tempo does.
    pub hints: Vec<(String, Literal)>,
}

#[derive(Debug, Clone)]
pub enum Root {
    Search(Pipeline),
    Metrics(Metrics),
}

/// Stages joined by `|`; the first is a spanset.
#[derive(Debug, Clone)]
pub struct Pipeline {
    pub stages: Vec<Stage>,
}

#[derive(Debug, Clone)]
pub enum Stage {
    Spanset(Spanset),
    /// `| count() > 2`: keeps the spansets of which it holds.
    Keep(ScalarFilter),
    /// `| by(…)`: one spanset for each value.
    By(Expr),
    /// `| select(…)`: attributes that the answer shows beside those of the conditions.
    Select(Vec<Expr>),
    /// `| coalesce()`: one spanset again.
    Coalesce,
}

#[derive(Debug, Clone)]
pub enum Spanset {
    /// `{ … }`; `None` for `{}`.
    Filter(Option<Expr>),
    Operation(SpansetOperator, Box<Spanset>, Box<Spanset>),
    /// `( … | … )`
    Pipeline(Pipeline),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpansetOperator {
    /// The trace has spans of both; the result is their union.
    And,
    Or,
    Structural(Relation, Side),
}

/// What a span of the right side is to one of the left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// `>`
    Child,
    /// `>>`
    Descendant,
    /// `<`
    Parent,
    /// `<<`
    Ancestor,
    /// `~`
    Sibling,
}

/// Which spans a structural operator answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Those of the right that are in the relation.
    Right,
    /// `!`: those of the right that are not.
    NotRight,
    /// `&`: those of both that take part.
    Both,
}

impl SpansetOperator {
    /// Structural operators as they are written.
    pub const STRUCTURAL: &'static [(&'static str, Relation, Side)] = &[
        (">", Relation::Child, Side::Right),
        (">>", Relation::Descendant, Side::Right),
        ("<", Relation::Parent, Side::Right),
        ("<<", Relation::Ancestor, Side::Right),
        ("~", Relation::Sibling, Side::Right),
        ("!>", Relation::Child, Side::NotRight),
        ("!>>", Relation::Descendant, Side::NotRight),
        ("!<", Relation::Parent, Side::NotRight),
        ("!<<", Relation::Ancestor, Side::NotRight),
        ("!~", Relation::Sibling, Side::NotRight),
        ("&>", Relation::Child, Side::Both),
        ("&>>", Relation::Descendant, Side::Both),
        ("&<", Relation::Parent, Side::Both),
        ("&<<", Relation::Ancestor, Side::Both),
        ("&~", Relation::Sibling, Side::Both),
    ];
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregate {
    Count,
    Min,
    Max,
    Avg,
    Sum,
}

impl Aggregate {
    pub const NAMES: &'static [(&'static str, Aggregate)] = &[
        ("count", Aggregate::Count),
        ("min", Aggregate::Min),
        ("max", Aggregate::Max),
        ("avg", Aggregate::Avg),
        ("sum", Aggregate::Sum),
    ];

    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, known)| *known == self).map_or("", |(name, _)| name)
    }
}

/// One value of a spanset.
#[derive(Debug, Clone)]
pub enum Scalar {
    Literal(Literal),
    /// `count()` has no operand.
    Aggregate(Aggregate, Option<Expr>),
    Arithmetic(Arithmetic, Box<Scalar>, Box<Scalar>),
}

#[derive(Debug, Clone)]
pub struct ScalarFilter {
    pub compare: Compare,
    pub left: Scalar,
    pub right: Scalar,
}

/// A query that answers series of numbers.
#[derive(Debug, Clone)]
pub enum Metrics {
    Range { pipeline: Pipeline, function: Function, by: Vec<Expr> },
    Constant(f64),
    Math(Arithmetic, Box<Metrics>, Box<Metrics>),
    Then(Box<Metrics>, SecondStage),
}

#[derive(Debug, Clone)]
pub enum Function {
    Rate,
    CountOverTime,
    /// `min_over_time` and its like; never `Count`.
    OverTime(Aggregate, Expr),
    Quantile(Expr, Vec<f64>),
    Histogram(Expr),
    Compare {
        selection: Option<Expr>,
        top: usize,
        window: Option<(i64, i64)>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SecondStage {
    Top(usize),
    Bottom(usize),
    Keep(Compare, f64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// `.key`: the span's, else the resource's.
    Any,
    Span,
    Resource,
    Event,
    Link,
    Instrumentation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intrinsic {
    Duration,
    Name,
    Status,
    StatusMessage,
    Kind,
    SpanId,
    ParentId,
    ChildCount,
    TraceDuration,
    TraceRootName,
    TraceRootService,
    TraceId,
    EventName,
    EventTimeSinceStart,
    LinkTraceId,
    LinkSpanId,
    InstrumentationName,
    InstrumentationVersion,
    NestedSetLeft,
    NestedSetRight,
    NestedSetParent,
    SelfTime,
    CriticalTime,
    TraceShape,
    TraceFinding,
}

/// What is known of a type before anything is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    Dynamic,
    Nil,
    String,
    Number,
    Bool,
    Status,
    Kind,
}

impl Type {
    pub fn name(self) -> &'static str {
        match self {
            Type::Dynamic => "attribute",
            Type::Nil => "nil",
            Type::String => "string",
            Type::Number => "number or duration",
            Type::Bool => "bool",
            Type::Status => "status",
            Type::Kind => "kind",
        }
    }
}

impl Intrinsic {
    /// Names, the canonical one first.
    pub const NAMES: &'static [(Intrinsic, &'static [&'static str])] = &[
        (Intrinsic::Duration, &["span:duration", "duration"]),
        (Intrinsic::Name, &["span:name", "name"]),
        (Intrinsic::Status, &["span:status", "status"]),
        (Intrinsic::StatusMessage, &["span:statusMessage", "statusMessage"]),
        (Intrinsic::Kind, &["span:kind", "kind"]),
        (Intrinsic::SpanId, &["span:id"]),
        (Intrinsic::ParentId, &["span:parentID"]),
        (Intrinsic::ChildCount, &["span:childCount", "childCount"]),
        (Intrinsic::TraceDuration, &["trace:duration", "traceDuration"]),
        (Intrinsic::TraceRootName, &["trace:rootName", "rootName"]),
        (Intrinsic::TraceRootService, &["trace:rootService", "rootServiceName"]),
        (Intrinsic::TraceId, &["trace:id"]),
        (Intrinsic::EventName, &["event:name"]),
        (Intrinsic::EventTimeSinceStart, &["event:timeSinceStart"]),
        (Intrinsic::LinkTraceId, &["link:traceID"]),
        (Intrinsic::LinkSpanId, &["link:spanID"]),
        (Intrinsic::InstrumentationName, &["instrumentation:name"]),
        (Intrinsic::InstrumentationVersion, &["instrumentation:version"]),
        (Intrinsic::NestedSetLeft, &["nestedSetLeft"]),
        (Intrinsic::NestedSetRight, &["nestedSetRight"]),
        (Intrinsic::NestedSetParent, &["nestedSetParent"]),
        (Intrinsic::SelfTime, &["span:selfTime"]),
        (Intrinsic::CriticalTime, &["span:criticalTime"]),
        (Intrinsic::TraceShape, &["trace:shape"]),
        (Intrinsic::TraceFinding, &["trace:finding"]),
    ];

    pub fn of_name(name: &str) -> Option<Intrinsic> {
        Self::NAMES.iter().find(|(_, names)| names.contains(&name)).map(|(intrinsic, _)| *intrinsic)
    }

    pub fn value_type(self) -> Type {
        match self {
            Intrinsic::Status => Type::Status,
            Intrinsic::Kind => Type::Kind,
            Intrinsic::Duration
            | Intrinsic::ChildCount
            | Intrinsic::TraceDuration
            | Intrinsic::EventTimeSinceStart
            | Intrinsic::NestedSetLeft
            | Intrinsic::NestedSetRight
            | Intrinsic::NestedSetParent
            | Intrinsic::SelfTime
            | Intrinsic::CriticalTime => Type::Number,
            _ => Type::String,
        }
    }

    /// Known only once all spans of the trace are.
    pub fn needs_trace(self) -> bool {
        matches!(
            self,
            Intrinsic::ChildCount
                | Intrinsic::TraceDuration
                | Intrinsic::TraceRootName
                | Intrinsic::TraceRootService
                | Intrinsic::NestedSetLeft
                | Intrinsic::NestedSetRight
                | Intrinsic::NestedSetParent
                | Intrinsic::SelfTime
                | Intrinsic::CriticalTime
                | Intrinsic::TraceShape
                | Intrinsic::TraceFinding
        )
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    Nil,
    String(String),
    Int(i64),
    Float(f64),
    /// Nanoseconds.
    Duration(i64),
    Bool(bool),
    Status(u8),
    Kind(u8),
}

impl Literal {
    pub fn value_type(&self) -> Type {
        match self {
            Literal::Nil => Type::Nil,
            Literal::String(_) => Type::String,
            Literal::Int(_) | Literal::Float(_) | Literal::Duration(_) => Type::Number,
            Literal::Bool(_) => Type::Bool,
            Literal::Status(_) => Type::Status,
            Literal::Kind(_) => Type::Kind,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    Eq,
    NotEq,
    Less,
    LessEq,
    Greater,
    GreaterEq,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arithmetic {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
}

#[derive(Debug, Clone)]
pub enum Expr {
    Literal(Literal),
    Attribute(Scope, String),
    Intrinsic(Intrinsic),
    /// An attribute or intrinsic of the parent span.
    Parent(Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Not(Box<Expr>),
    Negate(Box<Expr>),
    Compare(Compare, Box<Expr>, Box<Expr>),
    /// The regex is anchored at both ends.
    Match {
        negated: bool,
        operand: Box<Expr>,
        regex: Regex,
    },
    Exists {
        negated: bool,
        operand: Box<Expr>,
    },
    Arithmetic(Arithmetic, Box<Expr>, Box<Expr>),
}

impl Expr {
    pub fn value_type(&self) -> Type {
        match self {
            Expr::Literal(literal) => literal.value_type(),
            Expr::Attribute(..) => Type::Dynamic,
            Expr::Intrinsic(intrinsic) => intrinsic.value_type(),
            Expr::Parent(inner) => inner.value_type(),
            Expr::Negate(_) | Expr::Arithmetic(..) => Type::Number,
            _ => Type::Bool,
        }
    }

    /// Its numbers are nanoseconds.
    pub fn is_duration(&self) -> bool {
        match self {
            Expr::Literal(literal) => matches!(literal, Literal::Duration(_)),
            Expr::Intrinsic(intrinsic) => matches!(
                intrinsic,
                Intrinsic::Duration
                    | Intrinsic::TraceDuration
                    | Intrinsic::EventTimeSinceStart
                    | Intrinsic::SelfTime
                    | Intrinsic::CriticalTime
            ),
            Expr::Parent(inner) | Expr::Negate(inner) => inner.is_duration(),
            Expr::Arithmetic(_, left, right) => left.is_duration() || right.is_duration(),
            _ => false,
        }
    }

    /// Calls `visit` for every attribute and intrinsic.
    pub fn visit_fields<'a>(&'a self, visit: &mut dyn FnMut(&'a Expr)) {
        match self {
            Expr::Attribute(..) | Expr::Intrinsic(_) | Expr::Parent(_) => visit(self),
            Expr::Literal(_) => {}
            Expr::Not(inner) | Expr::Negate(inner) => inner.visit_fields(visit),
            Expr::Match { operand, .. } | Expr::Exists { operand, .. } => operand.visit_fields(visit),
            Expr::And(left, right)
            | Expr::Or(left, right)
            | Expr::Compare(_, left, right)
            | Expr::Arithmetic(_, left, right) => {
                left.visit_fields(visit);
                right.visit_fields(visit);
            }
        }
    }
}

impl Pipeline {
    /// The attributes and intrinsics that the answer shows of each span: those of conditions and of `select`.
    pub fn fields(&self) -> Vec<&Expr> {
        let mut fields: Vec<&Expr> = Vec::new();
        self.collect_fields(&mut |field| {
            let text = field.to_string();
            if fields.iter().all(|known| known.to_string() != text) {
                fields.push(field);
            }
        });
        fields
    }

    fn collect_fields<'a>(&'a self, visit: &mut dyn FnMut(&'a Expr)) {
        for stage in &self.stages {
            match stage {
                Stage::Spanset(spanset) => spanset.collect_fields(visit),
                Stage::By(expr) => expr.visit_fields(visit),
                Stage::Select(exprs) => exprs.iter().for_each(|expr| expr.visit_fields(visit)),
                Stage::Keep(filter) => {
                    filter.left.collect_fields(visit);
                    filter.right.collect_fields(visit);
                }
                Stage::Coalesce => {}
            }
        }
    }
}

impl Spanset {
    fn collect_fields<'a>(&'a self, visit: &mut dyn FnMut(&'a Expr)) {
        match self {
            Spanset::Filter(filter) => {
                if let Some(filter) = filter {
                    filter.visit_fields(visit);
                }
            }
            Spanset::Operation(_, left, right) => {
                left.collect_fields(visit);
                right.collect_fields(visit);
            }
            Spanset::Pipeline(pipeline) => pipeline.collect_fields(visit),
        }
    }
}

impl Scalar {
    fn collect_fields<'a>(&'a self, visit: &mut dyn FnMut(&'a Expr)) {
        match self {
            Scalar::Literal(_) => {}
            Scalar::Aggregate(_, operand) => {
                if let Some(operand) = operand {
                    operand.visit_fields(visit);
                }
            }
            Scalar::Arithmetic(_, left, right) => {
                left.collect_fields(visit);
                right.collect_fields(visit);
            }
        }
    }
}
