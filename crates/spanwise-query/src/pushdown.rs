//! What of a query the store can tell from its columns. The rest is `Maybe`: the span itself is looked at.

use std::sync::Arc;

use spanwise_store::block::filter::{Column, Predicate, Test};
use spanwise_wire::view::ValueView;

use crate::traceql::ast::{Expr, Intrinsic, Scope, Spanset};
use crate::traceql::{Truth, eval};

/// Every span that makes its trace worth looking at passes.
pub fn predicate(spanset: &Spanset) -> Predicate {
    match spanset {
        Spanset::Filter(None) => Predicate::Always,
        Spanset::Filter(Some(filter)) => of_expr(filter),
        // Also for `&&` one side suffices to look closer.
        Spanset::And(left, right) | Spanset::Or(left, right) => Predicate::Any(vec![predicate(left), predicate(right)]),
    }
}

fn of_expr(expr: &Expr) -> Predicate {
    match expr {
        Expr::And(left, right) => Predicate::All(vec![of_expr(left), of_expr(right)]),
        Expr::Or(left, right) => Predicate::Any(vec![of_expr(left), of_expr(right)]),
        Expr::Compare(compare, left, right) => {
            let compare = *compare;
            match (&**left, &**right) {
                (operand, Expr::Literal(literal)) => {
                    let literal = literal.clone();
                    column(operand, move |value| eval::compares(compare, &value, &literal))
                }
                (Expr::Literal(literal), operand) => {
                    let (literal, compare) = (literal.clone(), eval::mirrored(compare));
                    column(operand, move |value| eval::compares(compare, &value, &literal))
                }
                _ => Predicate::Maybe,
            }
        }
        Expr::Match { negated, operand, regex } => {
            let (negated, regex) = (*negated, regex.clone());
            column(operand, move |value| eval::matches(&regex, negated, &value) == Truth::Yes)
        }
        Expr::Exists { negated: false, operand } => column(operand, |_| true),
        Expr::Attribute(..) => column(expr, |value| value == eval::Value::Bool(true)),
        _ => Predicate::Maybe,
    }
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
    let test: Test = Arc::new(move |value| test(read(value)));
    Predicate::Column(column, test)
}
