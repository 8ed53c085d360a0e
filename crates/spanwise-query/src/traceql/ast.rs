//! A parsed query.

use regex::Regex;

#[derive(Debug, Clone)]
pub struct Query {
    pub spanset: Spanset,
}

#[derive(Debug, Clone)]
pub enum Spanset {
    /// `{ … }`; `None` for `{}`.
    Filter(Option<Expr>),
    /// The trace has spans of both; the result is their union.
    And(Box<Spanset>, Box<Spanset>),
    Or(Box<Spanset>, Box<Spanset>),
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
            | Intrinsic::NestedSetParent => Type::Number,
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
            Expr::Negate(_) | Expr::Arithmetic(..) => Type::Number,
            _ => Type::Bool,
        }
    }
}
