//! A pipeline over one whole trace.
//!
//! Its stages pass on spansets. The first gets one that holds every span; a trace is in the answer when a spanset is
//! left at the end.

use std::collections::HashMap;

use super::EvalError;
use super::ast::{
    Aggregate, Arithmetic, Expr, Pipeline, Relation, Scalar, ScalarFilter, Side, Spanset, SpansetOperator, Stage,
};
use super::eval::{Truth, Value, calculate, compare_values, of_literal};
use super::print::{KIND, STATUS, duration, word};
use crate::trace_view::{Shape, TraceView};

/// Some spans of a trace, and what stages said of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Group {
    /// In order.
    pub places: Vec<usize>,
    /// As in `by(name)` or `count()`, with the value.
    pub attributes: Vec<(String, spanwise_model::Value)>,
}

/// The spansets of a trace that the pipeline leaves, none of them empty.
///
/// # Errors
/// When the query is wrong for a value it meets.
pub fn run(pipeline: &Pipeline, view: &TraceView<'_>) -> Result<Vec<Group>, EvalError> {
    let all = Group { places: (0..view.len()).collect(), attributes: Vec::new() };
    stages(pipeline, view, vec![all])
}

fn stages(pipeline: &Pipeline, view: &TraceView<'_>, input: Vec<Group>) -> Result<Vec<Group>, EvalError> {
    let mut groups = input;
    for stage in &pipeline.stages {
        groups = match stage {
            Stage::Spanset(set) => spanset(set, view, groups)?,
            Stage::Keep(filter) => keep(filter, view, groups)?,
            Stage::By(expr) => by(expr, view, groups)?,
            Stage::Select(_) => groups,
            Stage::Coalesce => {
                let places = union(groups.into_iter().flat_map(|group| group.places));
                vec![Group { places, attributes: Vec::new() }]
            }
        };
        groups.retain(|group| !group.places.is_empty());
        if groups.is_empty() {
            break;
        }
    }
    Ok(groups)
}

fn spanset(set: &Spanset, view: &TraceView<'_>, input: Vec<Group>) -> Result<Vec<Group>, EvalError> {
    match set {
        Spanset::Filter(None) => Ok(input),
        Spanset::Filter(Some(filter)) => {
            let mut output = Vec::with_capacity(input.len());
            for mut group in input {
                let mut places = Vec::new();
                for place in group.places {
                    let Some(context) = view.context(place) else { continue };
                    if filter.holds(&context)? == Truth::Yes {
                        places.push(place);
                    }
                }
                group.places = places;
                output.push(group);
            }
            output.retain(|group| !group.places.is_empty());
            Ok(output)
        }
        Spanset::Pipeline(pipeline) => stages(pipeline, view, input),
        Spanset::Operation(operator, left, right) => {
            let mut output = Vec::new();
            for group in input {
                let left = spanset(left, view, vec![group.clone()])?;
                let right = spanset(right, view, vec![group.clone()])?;
                let places = operation(*operator, left, right, view)?;
                if !places.is_empty() {
                    output.push(Group { places, ..group });
                }
            }
            Ok(output)
        }
    }
}

fn operation(
    operator: SpansetOperator,
    left: Vec<Group>,
    right: Vec<Group>,
    view: &TraceView<'_>,
) -> Result<Vec<usize>, EvalError> {
    let both = |left: Vec<Group>, right: Vec<Group>| union(left.into_iter().chain(right).flat_map(|g| g.places));
    match operator {
        SpansetOperator::And if left.is_empty() || right.is_empty() => Ok(Vec::new()),
        SpansetOperator::And | SpansetOperator::Or => Ok(both(left, right)),
        SpansetOperator::Structural(relation, side) => {
            if left.len() > 1 || right.len() > 1 {
                return Err(EvalError::ManySpansets);
            }
            let places = |groups: Vec<Group>| groups.into_iter().next().map(|group| group.places).unwrap_or_default();
            let (left, right) = (places(left), places(right));
            let related = |left: &[usize], right: &[usize], relation| -> Vec<usize> {
                let is_related = relate(view.shape(), left, relation);
                right.iter().copied().filter(|place| is_related[*place]).collect()
            };
            Ok(match side {
                Side::Right => related(&left, &right, relation),
                Side::NotRight => {
                    let found = relate(view.shape(), &left, relation);
                    right.into_iter().filter(|place| !found[*place]).collect()
                }
                Side::Both => {
                    let on_the_left = related(&right, &left, inverse(relation));
                    union(on_the_left.into_iter().chain(related(&left, &right, relation)))
                }
            })
        }
    }
}

fn union(places: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut places: Vec<usize> = places.collect();
    places.sort_unstable();
    places.dedup();
    places
}

fn inverse(relation: Relation) -> Relation {
    match relation {
        Relation::Child => Relation::Parent,
        Relation::Descendant => Relation::Ancestor,
        Relation::Parent => Relation::Child,
        Relation::Ancestor => Relation::Descendant,
        Relation::Sibling => Relation::Sibling,
    }
}

/// For each span of the trace, whether it is in the relation to one of `left`. Spans that hang below no root are in
/// none. One walk over the spans, whatever the relation.
fn relate(shape: &Shape, left: &[usize], relation: Relation) -> Vec<bool> {
    let count = shape.parent.len();
    let mut is_left = vec![false; count];
    let is_connected = |place: usize| shape.nested.get(place).is_some_and(|set| set.0 != 0);
    for place in left.iter().copied().filter(|place| is_connected(*place)) {
        is_left[place] = true;
    }
    let mut related = vec![false; count];
    let parents = || shape.connected.iter().filter_map(|place| Some((*place, shape.parent[*place]?)));
    match relation {
        Relation::Child => parents().for_each(|(place, parent)| related[place] = is_left[parent]),
        Relation::Descendant => {
            parents().for_each(|(place, parent)| related[place] = is_left[parent] || related[parent])
        }
        Relation::Parent => parents().for_each(|(place, parent)| related[parent] |= is_left[place]),
        Relation::Ancestor => {
            for (place, parent) in parents().collect::<Vec<_>>().into_iter().rev() {
                related[parent] |= is_left[place] || related[place];
            }
        }
        Relation::Sibling => {
            // Roots are siblings of one another.
            let family = |place: usize| shape.parent[place].map_or(count, |parent| parent);
            let mut members = vec![0usize; count + 1];
            shape.connected.iter().filter(|place| is_left[**place]).for_each(|place| members[family(*place)] += 1);
            for place in shape.connected.iter().copied() {
                related[place] = members[family(place)] > usize::from(is_left[place]);
            }
        }
    }
    related
}

fn by(expr: &Expr, view: &TraceView<'_>, input: Vec<Group>) -> Result<Vec<Group>, EvalError> {
    let label = format!("by({expr})");
    let mut output = Vec::new();
    for group in input {
        let first = output.len();
        let mut known: HashMap<String, usize> = HashMap::new();
        for place in group.places {
            let Some(context) = view.context(place) else { continue };
            let value = shown(&expr.value(&context)?, expr.is_duration());
            let number = *known.entry(format!("{value:?}")).or_insert_with(|| {
                let mut attributes = group.attributes.clone();
                attributes.push((label.clone(), value));
                output.push(Group { places: Vec::new(), attributes });
                output.len() - 1 - first
            });
            output[first + number].places.push(place);
        }
    }
    Ok(output)
}

fn keep(filter: &ScalarFilter, view: &TraceView<'_>, input: Vec<Group>) -> Result<Vec<Group>, EvalError> {
    let mut output = Vec::new();
    for mut group in input {
        let mut named = Vec::new();
        let left = scalar(&filter.left, view, &group.places, &mut named)?;
        let right = scalar(&filter.right, view, &group.places, &mut named)?;
        if compare_values(filter.compare, &left, &right) == Truth::Yes {
            // What a stage says again replaces what was said before.
            group.attributes.retain(|(known, _)| named.iter().all(|(name, _)| name != known));
            group.attributes.append(&mut named);
            output.push(group);
        }
    }
    Ok(output)
}

/// The value of a spanset; `Nil` when no span has what is asked for. Each aggregate's own value goes to `named`.
fn scalar<'a>(
    of: &'a Scalar,
    view: &TraceView<'_>,
    places: &[usize],
    named: &mut Vec<(String, spanwise_model::Value)>,
) -> Result<Value<'a>, EvalError> {
    match of {
        Scalar::Literal(literal) => Ok(of_literal(literal)),
        Scalar::Arithmetic(operator, left, right) => {
            let left = scalar(left, view, places, named)?;
            let right = scalar(right, view, places, named)?;
            calculate(*operator, left, right)
        }
        Scalar::Aggregate(aggregate, operand) => {
            let value = match operand {
                None => Value::Int(places.len() as i64),
                Some(operand) => fold(*aggregate, operand, view, places)?,
            };
            let is_duration = operand.as_ref().is_some_and(Expr::is_duration);
            if value != Value::Nil {
                named.push((of.to_string(), shown(&value, is_duration)));
            }
            Ok(value)
        }
    }
}

fn fold(
    aggregate: Aggregate,
    operand: &Expr,
    view: &TraceView<'_>,
    places: &[usize],
) -> Result<Value<'static>, EvalError> {
    let mut folded = Value::Nil;
    let mut count = 0i64;
    let mut take = |value: Value<'static>| -> Result<(), EvalError> {
        count += 1;
        folded = match (&folded, aggregate) {
            (Value::Nil, _) => value,
            (known, Aggregate::Min | Aggregate::Max) => {
                let compare = match aggregate {
                    Aggregate::Min => super::ast::Compare::Less,
                    _ => super::ast::Compare::Greater,
                };
                match compare_values(compare, &value, known) {
                    Truth::Yes => value,
                    _ => known.clone(),
                }
            }
            (known, _) => calculate(Arithmetic::Add, known.clone(), value)?,
        };
        Ok(())
    };
    for place in places {
        let Some(context) = view.context(*place) else { continue };
        match operand.value(&context)? {
            Value::Int(value) => take(Value::Int(value))?,
            Value::Float(value) => take(Value::Float(value))?,
            Value::Many(values) => {
                for value in values {
                    match value {
                        Value::Int(value) => take(Value::Int(value))?,
                        Value::Float(value) => take(Value::Float(value))?,
                        _ => {}
                    }
                }
            }
            // An attribute of another type here is as good as none.
            _ => {}
        }
    }
    match (aggregate, folded) {
        (Aggregate::Avg, Value::Int(sum)) if operand.is_duration() => Ok(Value::Int(sum / count.max(1))),
        (Aggregate::Avg, Value::Int(sum)) => Ok(Value::Float(sum as f64 / count.max(1) as f64)),
        (Aggregate::Avg, Value::Float(sum)) => Ok(Value::Float(sum / count.max(1) as f64)),
        (_, folded) => Ok(folded),
    }
}

/// A value as answers show it: durations, statuses and kinds as text.
pub(crate) fn shown(value: &Value<'_>, is_duration: bool) -> spanwise_model::Value {
    use spanwise_model::Value as Shown;
    match value {
        Value::Nil | Value::Unknown | Value::Opaque => Shown::Empty,
        Value::Str(text) => Shown::Str(text.to_string()),
        Value::Int(nanos) if is_duration => Shown::Str(duration(*nanos)),
        Value::Int(value) => Shown::Int(*value),
        Value::Float(value) => Shown::Double(*value),
        Value::Bool(value) => Shown::Bool(*value),
        Value::Status(status) => Shown::Str(word(&STATUS, *status).to_owned()),
        Value::Kind(kind) => Shown::Str(word(&KIND, *kind).to_owned()),
        Value::Many(values) => match values.as_slice() {
            [single] => shown(single, is_duration),
            many => Shown::Array(many.iter().map(|value| shown(value, is_duration)).collect()),
        },
    }
}
