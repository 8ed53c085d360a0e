//! Arithmetic between series, and the stages that rank and filter them.

use std::cmp::Ordering;

use spanwise_model::Value;

use super::{Exemplar, Grid, Label, Series, calculate};
use crate::traceql::ast::{Arithmetic, Compare, Metrics, SecondStage};

#[derive(Debug, Clone)]
pub struct SetSeries {
    pub labels: Vec<Label>,
    /// One for each interval; not a number where there is none.
    pub values: Vec<f64>,
    pub exemplars: Vec<Exemplar>,
}

impl SetSeries {
    fn is_empty(&self) -> bool {
        self.values.iter().all(|value| !value.is_finite())
    }

    /// What series of two sets must agree in to be calculated with.
    fn identity(&self) -> String {
        let mut labels: Vec<String> = self
            .labels
            .iter()
            .filter(|(key, _)| key != "__name__")
            .map(|(key, value)| format!("{key}={value:?}"))
            .collect();
        labels.sort();
        labels.join(",")
    }

    fn text(&self) -> String {
        let text = |value: &Value| match value {
            Value::Str(text) => text.clone(),
            other => format!("{other:?}"),
        };
        self.labels.iter().map(|(key, value)| format!("{key}={}", text(value))).collect::<Vec<_>>().join(",")
    }
}

/// Series of one expression.
#[derive(Debug, Clone)]
pub struct Set {
    /// As `__name__` has it.
    pub name: String,
    pub series: Vec<SetSeries>,
}

impl Set {
    pub fn into_answer(self, grid: &Grid) -> Vec<Series> {
        let mut series = self.series;
        series.retain(|series| !series.is_empty());
        series.sort_by_cached_key(SetSeries::text);
        let answer = series.into_iter().map(|series| {
            let samples = series.values.iter().enumerate().filter(|(_, value)| value.is_finite());
            Series {
                samples: samples.map(|(interval, value)| (grid.edge(interval), *value)).collect(),
                labels: series.labels,
                exemplars: series.exemplars,
            }
        });
        answer.collect()
    }
}

/// `leaves` gives the sets of the query's functions, from left to right.
pub fn evaluate(query: &Metrics, leaves: &mut impl Iterator<Item = Set>, grid: &Grid) -> Set {
    evaluate_any(query, leaves, grid)
}

fn evaluate_any(query: &Metrics, leaves: &mut dyn Iterator<Item = Set>, grid: &Grid) -> Set {
    match query {
        Metrics::Range { .. } => leaves.next().unwrap_or(Set { name: String::new(), series: Vec::new() }),
        Metrics::Constant(value) => {
            let series = SetSeries { labels: Vec::new(), values: vec![*value; grid.count], exemplars: Vec::new() };
            Set { name: value.to_string(), series: vec![series] }
        }
        Metrics::Math(operator, left, right) => {
            let left = evaluate_any(left, leaves, grid);
            let right = evaluate_any(right, leaves, grid);
            math(*operator, left, right)
        }
        Metrics::Then(inner, stage) => {
            let mut set = evaluate_any(inner, leaves, grid);
            match stage {
                SecondStage::Top(count) => rank(&mut set.series, *count, grid, true),
                SecondStage::Bottom(count) => rank(&mut set.series, *count, grid, false),
                SecondStage::Keep(compare, bound) => keep(&mut set.series, *compare, *bound, grid),
            }
            set
        }
    }
}

/// Series with the same labels meet; one without labels meets every series of the other side.
fn math(operator: Arithmetic, left: Set, right: Set) -> Set {
    let name = format!("({} {operator} {})", left.name, right.name);
    let mut series = Vec::new();
    let is_scalar = |set: &Set| set.series.len() == 1 && set.series[0].identity().is_empty();
    let mut put = |labels: &SetSeries, a: &SetSeries, b: &SetSeries| {
        let values = a.values.iter().zip(&b.values).map(|(a, b)| calculate(operator, *a, *b)).collect();
        let mut shown = vec![("__name__".to_owned(), Value::Str(name.clone()))];
        shown.extend(labels.labels.iter().filter(|(key, _)| key != "__name__").cloned());
        let exemplars = a.exemplars.iter().chain(&b.exemplars).cloned().collect();
        let made = SetSeries { labels: shown, values, exemplars };
        if !made.is_empty() {
            series.push(made);
        }
    };
    if is_scalar(&right) {
        left.series.iter().for_each(|one| put(one, one, &right.series[0]));
    } else if is_scalar(&left) {
        right.series.iter().for_each(|one| put(one, &left.series[0], one));
    } else {
        let others: std::collections::HashMap<String, &SetSeries> =
            right.series.iter().map(|one| (one.identity(), one)).collect();
        for one in &left.series {
            if let Some(other) = others.get(&one.identity()) {
                put(one, one, other);
            }
        }
    }
    Set { name, series }
}

/// At each interval only the first `count` in order of value keep theirs. Of equal values the series whose labels
/// stand earlier in the alphabet is in the top, and the later one in the bottom.
fn rank(series: &mut Vec<SetSeries>, count: usize, grid: &Grid, is_top: bool) {
    series.sort_by_cached_key(SetSeries::text);
    for interval in 0..grid.count {
        let value = |place: usize| series[place].values.get(interval).copied().unwrap_or(f64::NAN);
        let mut places: Vec<usize> = (0..series.len()).filter(|place| value(*place).is_finite()).collect();
        places.sort_by(|a, b| {
            let order = value(*a).partial_cmp(&value(*b)).unwrap_or(Ordering::Equal);
            match is_top {
                true => order.reverse().then(a.cmp(b)),
                false => order.then(b.cmp(a)),
            }
        });
        for place in places.into_iter().skip(count) {
            blank(&mut series[place], interval);
        }
    }
    drop_lost(series, grid);
}

fn keep(series: &mut Vec<SetSeries>, compare: Compare, bound: f64, grid: &Grid) {
    for one in series.iter_mut() {
        for value in &mut one.values {
            let holds = match compare {
                Compare::Eq => *value == bound,
                Compare::NotEq => *value != bound,
                Compare::Less => *value < bound,
                Compare::LessEq => *value <= bound,
                Compare::Greater => *value > bound,
                Compare::GreaterEq => *value >= bound,
            };
            if !holds {
                *value = f64::NAN;
            }
        }
    }
    drop_lost(series, grid);
}

fn blank(series: &mut SetSeries, interval: usize) {
    if let Some(value) = series.values.get_mut(interval) {
        *value = f64::NAN;
    }
}

/// Series without a value go, and exemplars of intervals without one.
fn drop_lost(series: &mut Vec<SetSeries>, grid: &Grid) {
    series.retain(|one| !one.is_empty());
    for one in series {
        let values = &one.values;
        one.exemplars.retain(|exemplar| {
            grid.interval(exemplar.unix_nano).and_then(|at| values.get(at)).is_some_and(|value| value.is_finite())
        });
    }
}
