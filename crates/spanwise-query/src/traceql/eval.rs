//! Is this span in the set? Truth has three values: what only the whole trace can tell is unknown without it.

use std::borrow::Cow;
use std::cmp::Ordering;

use spanwise_insight::row::shape_text;
use spanwise_wire::view::{self, Fields, KeyValueView, ValueView};
use spanwise_wire::{Piece, SpanRef};

use super::ast::{Arithmetic, Compare, Expr, Intrinsic, Literal, Scope};
use crate::trace_view::TraceView;

/// One span, and its trace once that is known.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub piece: Piece<'a>,
    pub span: &'a SpanRef,
    /// The whole trace and the span's place in it.
    pub trace: Option<(&'a TraceView<'a>, usize)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    Yes,
    No,
    /// Only the whole trace tells.
    Unknown,
}

/// A query that cannot be evaluated: an error of the query, as in Tempo, not a span that does not match.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    #[error("cannot use ! on a value that is not a bool")]
    NotBool,
    #[error("cannot calculate with a value that is not a number")]
    NotNumber,
    #[error("integer division by zero")]
    DivisionByZero,
    #[error("structural operators need one spanset of each trace: put | coalesce() after by()")]
    ManySpansets,
}

/// A value as the language sees it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'a> {
    Nil,
    /// Needs the whole trace.
    Unknown,
    Str(Cow<'a, str>),
    Int(i64),
    Float(f64),
    Bool(bool),
    Status(u8),
    Kind(u8),
    /// All values of the attribute: an array's, or those of several events.
    Many(Vec<Value<'a>>),
    /// Kept and shown, but not searchable: maps, bytes, mixed arrays.
    Opaque,
}

impl Truth {
    fn of(value: bool) -> Self {
        if value { Truth::Yes } else { Truth::No }
    }

    fn not(self) -> Self {
        match self {
            Truth::Yes => Truth::No,
            Truth::No => Truth::Yes,
            Truth::Unknown => Truth::Unknown,
        }
    }
}

impl Expr {
    /// Whether the span satisfies this condition.
    ///
    /// # Errors
    /// When the query itself is wrong for this value, as `!` on a number.
    pub fn holds(&self, context: &Context<'_>) -> Result<Truth, EvalError> {
        match self {
            Expr::And(left, right) => match left.holds(context)? {
                Truth::No => Ok(Truth::No),
                Truth::Yes => right.holds(context),
                Truth::Unknown => Ok(if right.holds(context)? == Truth::No { Truth::No } else { Truth::Unknown }),
            },
            Expr::Or(left, right) => match left.holds(context)? {
                Truth::Yes => Ok(Truth::Yes),
                Truth::No => right.holds(context),
                Truth::Unknown => Ok(if right.holds(context)? == Truth::Yes { Truth::Yes } else { Truth::Unknown }),
            },
            Expr::Not(inner) => match (&**inner, inner.value_type()) {
                (inner @ (Expr::Attribute(..) | Expr::Literal(_)), _) => match inner.value(context)? {
                    Value::Bool(value) => Ok(Truth::of(!value)),
                    Value::Nil => Ok(Truth::No),
                    _ => Err(EvalError::NotBool),
                },
                (inner, _) => Ok(inner.holds(context)?.not()),
            },
            Expr::Compare(compare, left, right) => {
                Ok(compare_values(*compare, &left.value(context)?, &right.value(context)?))
            }
            Expr::Match { negated, operand, regex } => Ok(matches(regex, *negated, &operand.value(context)?)),
            // A span without events has none that could lack the attribute.
            Expr::Exists { negated: true, operand } if !has_place(context, operand) => Ok(Truth::No),
            Expr::Exists { negated, operand } => Ok(match operand.value(context)? {
                Value::Unknown => Truth::Unknown,
                Value::Nil => Truth::of(*negated),
                _ => Truth::of(!*negated),
            }),
            other => Ok(match other.value(context)? {
                Value::Bool(value) => Truth::of(value),
                Value::Unknown => Truth::Unknown,
                _ => Truth::No,
            }),
        }
    }

    pub(crate) fn value<'a>(&'a self, context: &Context<'a>) -> Result<Value<'a>, EvalError> {
        Ok(match self {
            Expr::Literal(literal) => of_literal(literal),
            Expr::Attribute(scope, key) => attribute(context, *scope, key),
            Expr::Intrinsic(intrinsic) => intrinsic_value(context, *intrinsic),
            Expr::Parent(inner) => {
                let Some((view, place)) = context.trace else { return Ok(Value::Unknown) };
                let parent = view.shape().parent.get(place).copied().flatten();
                match parent.and_then(|parent| view.context(parent)) {
                    Some(parent) => inner.value(&parent)?,
                    None => Value::Nil,
                }
            }
            Expr::Negate(inner) => match inner.value(context)? {
                Value::Int(value) => Value::Int(value.wrapping_neg()),
                Value::Float(value) => Value::Float(-value),
                value @ (Value::Nil | Value::Unknown) => value,
                _ => return Err(EvalError::NotNumber),
            },
            Expr::Arithmetic(operator, left, right) => {
                calculate(*operator, left.value(context)?, right.value(context)?)?
            }
            condition => match condition.holds(context)? {
                Truth::Yes => Value::Bool(true),
                Truth::No => Value::Bool(false),
                Truth::Unknown => Value::Unknown,
            },
        })
    }
}

pub(crate) fn calculate<'a>(operator: Arithmetic, left: Value<'a>, right: Value<'a>) -> Result<Value<'a>, EvalError> {
    let float = |value: &Value<'_>| match value {
        Value::Int(value) => Some(*value as f64),
        Value::Float(value) => Some(*value),
        _ => None,
    };
    match (&left, &right) {
        (Value::Unknown, _) | (_, Value::Unknown) => return Ok(Value::Unknown),
        (Value::Nil, _) | (_, Value::Nil) => return Ok(Value::Nil),
        (Value::Int(left), Value::Int(right)) => {
            return Ok(Value::Int(match operator {
                Arithmetic::Add => left.wrapping_add(*right),
                Arithmetic::Sub => left.wrapping_sub(*right),
                Arithmetic::Mul => left.wrapping_mul(*right),
                Arithmetic::Div | Arithmetic::Mod if *right == 0 => return Err(EvalError::DivisionByZero),
                Arithmetic::Div => left.wrapping_div(*right),
                Arithmetic::Mod => left.wrapping_rem(*right),
                Arithmetic::Pow => (*left as f64).powf(*right as f64) as i64,
            }));
        }
        _ => {}
    }
    let (Some(left), Some(right)) = (float(&left), float(&right)) else { return Err(EvalError::NotNumber) };
    Ok(Value::Float(match operator {
        Arithmetic::Add => left + right,
        Arithmetic::Sub => left - right,
        Arithmetic::Mul => left * right,
        Arithmetic::Div => left / right,
        Arithmetic::Mod => left % right,
        Arithmetic::Pow => left.powf(right),
    }))
}

/// `None` when the two have types that do not compare.
fn order(left: &Value<'_>, right: &Value<'_>) -> Option<Option<Ordering>> {
    Some(match (left, right) {
        (Value::Str(left), Value::Str(right)) => Some(left.as_bytes().cmp(right.as_bytes())),
        (Value::Int(left), Value::Int(right)) => Some(left.cmp(right)),
        (Value::Int(left), Value::Float(right)) => (*left as f64).partial_cmp(right),
        (Value::Float(left), Value::Int(right)) => left.partial_cmp(&(*right as f64)),
        (Value::Float(left), Value::Float(right)) => left.partial_cmp(right),
        (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
        (Value::Status(left), Value::Status(right)) | (Value::Kind(left), Value::Kind(right)) => Some(left.cmp(right)),
        (Value::Status(left), Value::Int(right)) => Some(i64::from(*left).cmp(right)),
        (Value::Int(left), Value::Status(right)) => Some(left.cmp(&i64::from(*right))),
        _ => return None,
    })
}

pub(crate) fn compare_values(compare: Compare, left: &Value<'_>, right: &Value<'_>) -> Truth {
    match (left, right) {
        (Value::Unknown, _) | (_, Value::Unknown) => return Truth::Unknown,
        // Of an array any element may be it; for `!=` none may.
        (Value::Many(values), one) | (one, Value::Many(values)) => {
            let is_left = matches!(left, Value::Many(_));
            let single = |value| if is_left { (value, one) } else { (one, value) };
            let positive = if compare == Compare::NotEq { Compare::Eq } else { compare };
            let same_type = values.iter().any(|value| order(value, one).is_some());
            let any = values.iter().any(|value| {
                let (left, right) = single(value);
                compare_values(positive, left, right) == Truth::Yes
            });
            return Truth::of(if compare == Compare::NotEq { same_type && !any } else { any });
        }
        _ => {}
    }
    let Some(order) = order(left, right) else { return Truth::No };
    Truth::of(match compare {
        Compare::Eq => order == Some(Ordering::Equal),
        Compare::NotEq => order != Some(Ordering::Equal),
        Compare::Less => order == Some(Ordering::Less),
        Compare::LessEq => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        Compare::Greater => order == Some(Ordering::Greater),
        Compare::GreaterEq => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
    })
}

/// Whether a value compares so with a literal.
pub(crate) fn compares(compare: Compare, value: &Value<'_>, literal: &Literal) -> bool {
    compare_values(compare, value, &of_literal(literal)) == Truth::Yes
}

/// The comparison that holds when the operands change places.
pub(crate) fn mirrored(compare: Compare) -> Compare {
    match compare {
        Compare::Eq | Compare::NotEq => compare,
        Compare::Less => Compare::Greater,
        Compare::LessEq => Compare::GreaterEq,
        Compare::Greater => Compare::Less,
        Compare::GreaterEq => Compare::LessEq,
    }
}

pub(crate) fn matches(regex: &regex::Regex, negated: bool, value: &Value<'_>) -> Truth {
    match value {
        Value::Unknown => Truth::Unknown,
        Value::Str(text) => Truth::of(regex.is_match(text) != negated),
        Value::Many(values) if values.iter().any(|value| matches!(value, Value::Str(_))) => {
            let any = values.iter().any(|value| matches!(value, Value::Str(text) if regex.is_match(text)));
            Truth::of(any != negated)
        }
        _ => Truth::No,
    }
}

pub(crate) fn of_literal(literal: &Literal) -> Value<'_> {
    match literal {
        Literal::Nil => Value::Nil,
        Literal::String(text) => Value::Str(Cow::Borrowed(text)),
        Literal::Int(value) | Literal::Duration(value) => Value::Int(*value),
        Literal::Float(value) => Value::Float(*value),
        Literal::Bool(value) => Value::Bool(*value),
        Literal::Status(status) => Value::Status(*status),
        Literal::Kind(kind) => Value::Kind(*kind),
    }
}

/// A status code that comes as a number.
pub(crate) fn status(view: ValueView<'_>) -> Value<'_> {
    match view {
        ValueView::Int(code) => Value::Status(u8::try_from(code).unwrap_or(0)),
        other => plain(other),
    }
}

/// A span kind that comes as a number.
pub(crate) fn kind(view: ValueView<'_>) -> Value<'_> {
    match view {
        ValueView::Int(kind) => Value::Kind(u8::try_from(kind).unwrap_or(0)),
        other => plain(other),
    }
}

pub(crate) fn plain(view: ValueView<'_>) -> Value<'_> {
    match view {
        ValueView::Str(text) => Value::Str(Cow::Borrowed(text)),
        ValueView::Int(value) => Value::Int(value),
        ValueView::Double(value) => Value::Float(value),
        ValueView::Bool(value) => Value::Bool(value),
        ValueView::Array(body) => {
            let values: Vec<_> = view::array_values(body).map(plain).collect();
            let is_plain =
                values.windows(2).all(|pair| std::mem::discriminant(&pair[0]) == std::mem::discriminant(&pair[1]))
                    && !matches!(values.first(), Some(Value::Many(_) | Value::Opaque));
            if is_plain { Value::Many(values) } else { Value::Opaque }
        }
        ValueView::Empty | ValueView::Bytes(_) | ValueView::Map(_) => Value::Opaque,
    }
}

fn find<'a>(mut attributes: impl Iterator<Item = KeyValueView<'a>>, key: &str) -> Option<Value<'a>> {
    attributes.find(|attribute| attribute.key == key).map(|attribute| plain(attribute.value))
}

/// Values of this key over all events (field 11, attributes 3) or links (field 13, attributes 4).
fn nested<'a>(span: &'a [u8], field: u32, attributes: u32, key: &str) -> Option<Value<'a>> {
    let bodies = Fields::new(span).filter(|found| found.number == field).map(|found| found.value.bytes());
    let values: Vec<_> = bodies
        .flat_map(|body| view::key_values(body, attributes))
        .filter(|attribute| attribute.key == key)
        .map(|attribute| plain(attribute.value))
        .collect();
    (!values.is_empty()).then_some(Value::Many(values))
}

/// Whether there is something that the attribute could stand on.
fn has_place(context: &Context<'_>, operand: &Expr) -> bool {
    let field = match operand {
        Expr::Attribute(Scope::Event, _) => 11,
        Expr::Attribute(Scope::Link, _) => 13,
        _ => return true,
    };
    Fields::new(context.piece.span).any(|found| found.number == field)
}

fn attribute<'a>(context: &Context<'a>, scope: Scope, key: &str) -> Value<'a> {
    let Piece { resource, scope: scope_header, span } = context.piece;
    let span_value = || find(view::span_attributes(span), key);
    let resource_value = || find(view::resource_attributes(resource), key);
    let found = match scope {
        Scope::Span => span_value(),
        Scope::Resource => resource_value(),
        Scope::Any => span_value().or_else(resource_value),
        Scope::Event => nested(span, 11, 3, key),
        Scope::Link => nested(span, 13, 4, key),
        Scope::Instrumentation => {
            let messages = Fields::new(scope_header).filter(|field| field.number == 1).map(|field| field.value.bytes());
            find(messages.flat_map(|message| view::key_values(message, 3)), key)
        }
    };
    found.unwrap_or(Value::Nil)
}

fn intrinsic_value<'a>(context: &Context<'a>, intrinsic: Intrinsic) -> Value<'a> {
    let Context { piece, span, trace } = context;
    let owned = |text: String| Value::Str(Cow::Owned(text));
    let of_trace = |read: &dyn Fn(&'a TraceView<'a>, usize) -> Value<'a>| match trace {
        Some((view, place)) => read(view, *place),
        None => Value::Unknown,
    };
    let nanos = |nanos: u64| Value::Int(i64::try_from(nanos).unwrap_or(i64::MAX));
    let nested_set = |pick: fn(&(i64, i64, i64)) -> i64| {
        of_trace(&move |view, place| view.shape().nested.get(place).map_or(Value::Nil, |set| Value::Int(pick(set))))
    };
    let each = |field: u32, read: &dyn Fn(&'a [u8]) -> Option<Value<'a>>| -> Value<'a> {
        let bodies = Fields::new(piece.span).filter(|found| found.number == field);
        let values: Vec<_> = bodies.filter_map(|found| read(found.value.bytes())).collect();
        if values.is_empty() { Value::Nil } else { Value::Many(values) }
    };
    let hex = |bytes: &[u8]| owned(bytes.iter().map(|byte| format!("{byte:02x}")).collect());
    match intrinsic {
        Intrinsic::Duration => nanos(span.duration_ns()),
        Intrinsic::Name => Value::Str(Cow::Borrowed(view::span_name(piece.span))),
        Intrinsic::Status => Value::Status(span.status),
        Intrinsic::StatusMessage => {
            let statuses = Fields::new(piece.span).filter(|field| field.number == 15);
            let texts = statuses.flat_map(|field| Fields::new(field.value.bytes())).filter(|field| field.number == 2);
            Value::Str(Cow::Borrowed(texts.last().map_or("", |field| field.value.text())))
        }
        Intrinsic::Kind => Value::Kind(span.kind),
        Intrinsic::SpanId => owned(span.span_id.to_string()),
        Intrinsic::ParentId if span.parent_span_id.is_zero() => Value::Str(Cow::Borrowed("")),
        Intrinsic::ParentId => owned(span.parent_span_id.to_string()),
        Intrinsic::TraceId => owned(span.trace_id.to_string()),
        Intrinsic::ChildCount => {
            of_trace(&|view, place| view.shape().child_count.get(place).map_or(Value::Nil, |count| Value::Int(*count)))
        }
        Intrinsic::TraceDuration => of_trace(&move |view, _| nanos(view.duration_ns)),
        Intrinsic::TraceRootName => {
            of_trace(&|view, _| view.root.map_or(Value::Nil, |(_, name)| Value::Str(Cow::Borrowed(name))))
        }
        Intrinsic::TraceRootService => {
            of_trace(&|view, _| view.root.map_or(Value::Nil, |(service, _)| Value::Str(Cow::Borrowed(service))))
        }
        Intrinsic::NestedSetLeft => nested_set(|set| set.0),
        Intrinsic::NestedSetRight => nested_set(|set| set.1),
        Intrinsic::NestedSetParent => nested_set(|set| set.2),
        Intrinsic::SelfTime => {
            of_trace(&move |view, place| view.insight().times.get(place).map_or(Value::Nil, |times| nanos(times.0)))
        }
        Intrinsic::CriticalTime => {
            of_trace(&move |view, place| view.insight().times.get(place).map_or(Value::Nil, |times| nanos(times.1)))
        }
        Intrinsic::TraceShape => {
            of_trace(&|view, _| view.insight().shape.map_or(Value::Nil, |shape| owned(shape_text(shape))))
        }
        Intrinsic::TraceFinding => of_trace(&|view, _| {
            let kinds = view.insight().findings.iter().map(|kind| Value::Str(Cow::Borrowed(*kind)));
            match view.insight().findings.is_empty() {
                true => Value::Nil,
                false => Value::Many(kinds.collect()),
            }
        }),
        Intrinsic::EventName => each(11, &|body| {
            let name = Fields::new(body).filter(|field| field.number == 2).last();
            Some(Value::Str(Cow::Borrowed(name.map_or("", |field| field.value.text()))))
        }),
        Intrinsic::EventTimeSinceStart => {
            let start = span.start_unix_nano;
            each(11, &move |body| {
                let time = Fields::new(body).filter(|field| field.number == 1).last()?.value.uint();
                Some(Value::Int(time.wrapping_sub(start) as i64))
            })
        }
        Intrinsic::LinkTraceId => each(13, &|body| Some(hex(Fields::new(body).find(|f| f.number == 1)?.value.bytes()))),
        Intrinsic::LinkSpanId => each(13, &|body| Some(hex(Fields::new(body).find(|f| f.number == 2)?.value.bytes()))),
        Intrinsic::InstrumentationName => Value::Str(Cow::Borrowed(view::scope_name(piece.scope).0)),
        Intrinsic::InstrumentationVersion => Value::Str(Cow::Borrowed(view::scope_name(piece.scope).1)),
    }
}
