//! What of a query the store can tell from its columns. The rest is `Maybe`: the span itself is looked at.

use std::cmp::Ordering;

use spanwise_insight::row::shape_of_text;
use spanwise_model::TraceId;
use spanwise_store::Snapshot;
use spanwise_store::block::filter::{Column, Exactly, Predicate, Shown, Test};
use spanwise_store::facts::KINDS;
use spanwise_wire::view::ValueView;

use crate::traceql::ast::{Compare, Expr, Intrinsic, Literal, Pipeline, Scope, Side, Spanset, SpansetOperator, Stage};
use crate::traceql::{Truth, eval};

/// About how many spans satisfy a condition.
pub type Estimate<'e> = dyn Fn(&Expr) -> u64 + 'e;

/// The conditions of which some span of a trace must satisfy one, or the trace is in no answer; `None` among them
/// is satisfied by every span. Where either of two would do, the one that fewer spans satisfy.
pub fn necessary<'a>(pipeline: &'a Pipeline, estimate: &Estimate<'_>) -> Vec<Option<&'a Expr>> {
    let sets = pipeline.stages.iter().filter_map(|stage| match stage {
        Stage::Spanset(set) => Some(of_spanset(set, estimate)),
        _ => None,
    });
    sets.reduce(|left, right| narrower(left, right, estimate)).unwrap_or_else(|| vec![None])
}

fn of_spanset<'a>(spanset: &'a Spanset, estimate: &Estimate<'_>) -> Vec<Option<&'a Expr>> {
    match spanset {
        Spanset::Filter(filter) => vec![filter.as_ref()],
        Spanset::Pipeline(pipeline) => necessary(pipeline, estimate),
        Spanset::Operation(operator, left, right) => {
            let sides = || (of_spanset(left, estimate), of_spanset(right, estimate));
            match operator {
                SpansetOperator::Or => {
                    let (left, right) = sides();
                    left.into_iter().chain(right).collect()
                }
                // Nothing need be on the left.
                SpansetOperator::Structural(_, Side::NotRight) => of_spanset(right, estimate),
                SpansetOperator::And | SpansetOperator::Structural(..) => {
                    let (left, right) = sides();
                    narrower(left, right, estimate)
                }
            }
        }
    }
}

fn narrower<'a>(
    left: Vec<Option<&'a Expr>>,
    right: Vec<Option<&'a Expr>>,
    estimate: &Estimate<'_>,
) -> Vec<Option<&'a Expr>> {
    let narrowness = |conditions: &[Option<&Expr>]| {
        conditions.iter().map(|condition| condition.map_or(0, narrowness_of)).min().unwrap_or(0)
    };
    let spans = |conditions: &[Option<&Expr>]| {
        let each = conditions.iter().map(|condition| condition.map_or(u64::MAX, estimate));
        each.fold(0, u64::saturating_add)
    };
    match spans(&left).cmp(&spans(&right)) {
        Ordering::Less => left,
        Ordering::Greater => right,
        Ordering::Equal if narrowness(&right) > narrowness(&left) => right,
        Ordering::Equal => left,
    }
}

/// What a snapshot tells.
pub fn estimate(snapshot: &Snapshot) -> impl Fn(&Expr) -> u64 + '_ {
    |condition| snapshot.estimate(&of_expr(condition))
}

/// A guess of how few spans satisfy a condition; 0 when columns do not tell.
fn narrowness_of(expr: &Expr) -> u32 {
    match expr {
        Expr::And(left, right) => narrowness_of(left).max(narrowness_of(right)),
        Expr::Or(left, right) => narrowness_of(left).min(narrowness_of(right)),
        Expr::Compare(compare, left, right) => {
            let is_column = |expr: &Expr| !matches!(column(expr, |_| true), Predicate::Maybe);
            match compare {
                _ if matches!(of_expr(expr), Predicate::Column(Column::IsRoot, _)) => 2,
                _ if !is_column(left) && !is_column(right) => 0,
                Compare::Eq if matches!(&**left, Expr::Intrinsic(Intrinsic::Kind)) => 2,
                Compare::Eq => 4,
                Compare::NotEq => 1,
                _ => 2,
            }
        }
        Expr::Match { negated: false, .. } => 3,
        Expr::Match { .. } | Expr::Exists { .. } | Expr::Attribute(..) => 1,
        _ => 0,
    }
}

/// Every span that makes its trace worth looking at passes.
pub fn predicate(conditions: &[Option<&Expr>]) -> Predicate {
    match conditions {
        [condition] => condition.map_or(Predicate::Always, of_expr),
        many => Predicate::Any(many.iter().map(|one| one.map_or(Predicate::Always, of_expr)).collect()),
    }
}

/// The one trace that the query can be about.
pub fn single_trace(conditions: &[Option<&Expr>]) -> Option<TraceId> {
    fn of(expr: &Expr) -> Option<TraceId> {
        match expr {
            Expr::And(left, right) => of(left).or_else(|| of(right)),
            Expr::Compare(Compare::Eq, left, right) => match (&**left, &**right) {
                (Expr::Intrinsic(Intrinsic::TraceId), Expr::Literal(Literal::String(id)))
                | (Expr::Literal(Literal::String(id)), Expr::Intrinsic(Intrinsic::TraceId)) => id.parse().ok(),
                _ => None,
            },
            _ => None,
        }
    }
    match conditions {
        [Some(condition)] => of(condition),
        _ => None,
    }
}

fn of_expr(expr: &Expr) -> Predicate {
    match expr {
        Expr::And(left, right) => Predicate::All(vec![of_expr(left), of_expr(right)]),
        Expr::Or(left, right) => Predicate::Any(vec![of_expr(left), of_expr(right)]),
        Expr::Compare(compare, left, right) => {
            let compare = *compare;
            let whole = || shown(left, right).or_else(|| shown(right, left));
            if let Some(told) = (compare == Compare::Eq).then(whole).flatten() {
                return told;
            }
            match (&**left, &**right) {
                (Expr::Intrinsic(Intrinsic::NestedSetParent), Expr::Literal(Literal::Int(bound))) => {
                    // -1 at a root; elsewhere only the trace tells, but never below 0.
                    let is_root = match compare {
                        Compare::Less => *bound == 0,
                        Compare::Eq | Compare::LessEq => *bound == -1,
                        _ => false,
                    };
                    if is_root {
                        return Predicate::Column(Column::IsRoot, Test::new(|value| value == ValueView::Bool(true)));
                    }
                    Predicate::Maybe
                }
                (operand, Expr::Literal(literal)) => {
                    bounded(column(operand, compares(compare, literal)), compare, literal)
                }
                (Expr::Literal(literal), operand) => {
                    let mirrored = eval::mirrored(compare);
                    bounded(column(operand, compares(mirrored, literal)), mirrored, literal)
                }
                _ => Predicate::Maybe,
            }
        }
        Expr::Match { negated, operand, regex } => {
            let (negated, regex) = (*negated, regex.clone());
            column(operand, move |value| eval::matches(&regex, negated, &value) == Truth::Yes)
        }
        Expr::Exists { negated: false, operand } if matches!(&**operand, Expr::Intrinsic(Intrinsic::TraceFinding)) => {
            Predicate::Shown(Shown::Kinds(u8::MAX))
        }
        Expr::Exists { negated: false, operand } => column(operand, |_| true),
        Expr::Attribute(..) => column(expr, |value| value == eval::Value::Bool(true)),
        _ => Predicate::Maybe,
    }
}

/// What the whole trace must show for an intrinsic to be equal to a literal.
fn shown(intrinsic: &Expr, literal: &Expr) -> Option<Predicate> {
    let (Expr::Intrinsic(intrinsic), Expr::Literal(Literal::String(text))) = (intrinsic, literal) else { return None };
    match intrinsic {
        Intrinsic::TraceShape => Some(Predicate::Shown(Shown::Shape(shape_of_text(text)?))),
        Intrinsic::TraceFinding => {
            let bit = KINDS.iter().position(|kind| *kind == &**text)?;
            Some(Predicate::Shown(Shown::Kinds(1 << bit)))
        }
        _ => None,
    }
}

fn compares(compare: Compare, literal: &Literal) -> impl Fn(eval::Value<'_>) -> bool + Send + Sync + 'static {
    let literal = literal.clone();
    move |value| eval::compares(compare, &value, &literal)
}

/// Doubles have all whole numbers up to here.
const WHOLE: i64 = 1 << 53;

/// What a comparison with a literal leaves is told to whoever looks for it.
fn bounded(predicate: Predicate, compare: Compare, literal: &Literal) -> Predicate {
    let Predicate::Column(column, test) = predicate else { return predicate };
    let test = match (compare, literal) {
        (Compare::Eq, Literal::String(text)) => test.only(Exactly::Text(text.as_str().into())),
        (Compare::Eq, Literal::Int(value) | Literal::Duration(value)) if (-WHOLE..=WHOLE).contains(value) => {
            test.only(Exactly::Int(*value)).at_least(*value)
        }
        (Compare::Greater | Compare::GreaterEq, Literal::Int(value) | Literal::Duration(value)) => {
            test.at_least(*value)
        }
        (Compare::Greater | Compare::GreaterEq, Literal::Float(value)) if *value >= 0.0 && *value < WHOLE as f64 => {
            test.at_least(*value as i64)
        }
        _ => test,
    };
    Predicate::Column(column, test)
}

/// A test of what stands in one column; a span without a value does not pass.
fn column(operand: &Expr, test: impl Fn(eval::Value<'_>) -> bool + Send + Sync + 'static) -> Predicate {
    let (column, read): (Column, for<'a> fn(ValueView<'a>) -> eval::Value<'a>) = match operand {
        Expr::Attribute(Scope::Span, key) => (Column::SpanAttribute(key.clone()), eval::plain),
        Expr::Attribute(Scope::Resource, key) => (Column::ResourceAttribute(key.clone()), eval::plain),
        Expr::Attribute(Scope::Any, key) => (Column::AnyAttribute(key.clone()), eval::plain),
        Expr::Intrinsic(Intrinsic::Name) => (Column::Name, eval::plain),
        Expr::Intrinsic(Intrinsic::Duration) => (Column::DurationNs, eval::plain),
        Expr::Intrinsic(Intrinsic::Status) => (Column::Status, eval::status),
        Expr::Intrinsic(Intrinsic::Kind) => (Column::Kind, eval::kind),
        _ => return Predicate::Maybe,
    };
    Predicate::Column(column, Test::new(move |value| test(read(value))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traceql::{ast::Root, parse};

    #[test]
    fn the_side_that_fewer_spans_satisfy_is_looked_for() {
        let chosen = |query: &str, estimate: &Estimate<'_>| {
            let Root::Search(pipeline) = parse(query).unwrap().root else { panic!("{query} is no search") };
            let literal = |one: &Option<&Expr>| match one {
                Some(Expr::Compare(_, _, right)) => format!("{right:?}"),
                other => format!("{other:?}"),
            };
            let conditions = necessary(&pipeline, estimate);
            conditions.iter().map(literal).collect::<Vec<_>>().join(" ")
        };
        let rare = |text: &'static str| {
            move |condition: &Expr| match condition {
                Expr::Compare(_, _, right) if matches!(&**right, Expr::Literal(Literal::String(name)) if name == text) => {
                    3
                }
                _ => 900,
            }
        };
        let both = "{ name = \"a\" } >> { name = \"b\" }";
        assert!(chosen(both, &rare("a")).contains("\"a\""));
        assert!(chosen(both, &rare("b")).contains("\"b\""));
        assert!(chosen("{ name = \"a\" } !>> { name = \"b\" }", &rare("a")).contains("\"b\""), "nothing need be left");
        assert!(chosen("{ name = \"a\" } && { }", &rare("b")).contains("\"a\""));
        assert!(
            chosen("{ kind = server } > { name = \"b\" }", &|_| 7).contains("\"b\""),
            "a guess where all are alike"
        );
        let either = chosen("({ name = \"a\" } || { name = \"c\" }) >> { name = \"b\" }", &rare("b"));
        assert!(either.contains("\"b\"") && !either.contains("\"c\""));
    }
}
