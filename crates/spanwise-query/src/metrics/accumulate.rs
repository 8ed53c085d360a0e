//! Spans into numbers: one function, grouped by labels and intervals.

use std::collections::BTreeMap;

use rustc_hash::{FxHashMap, FxHashSet};
use spanwise_model::{TraceId, Value};

use super::series::{Set, SetSeries};
use super::{Exemplar, Grid, Label, compare, function_name};
use crate::traceql::ast::{Aggregate, Expr, Function};
use crate::traceql::eval::Value as Evaluated;
use crate::traceql::run::shown;
use crate::traceql::{Context, EvalError};

/// Numbers that one function may hold: series times intervals.
const MOST_CELLS: usize = 4 << 20;

/// A value that can be a key of a map.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    Nil,
    Bool(bool),
    Int(i64),
    Float(u64),
    Str(String),
    /// Lists, as text.
    Other(String),
}

impl Key {
    pub fn of(value: &Value) -> Key {
        match value {
            Value::Empty => Key::Nil,
            Value::Bool(value) => Key::Bool(*value),
            Value::Int(value) => Key::Int(*value),
            Value::Double(value) => Key::Float(value.to_bits()),
            Value::Str(text) => Key::Str(text.clone()),
            other => Key::Other(format!("{other:?}")),
        }
    }

    pub fn value(self) -> Value {
        match self {
            Key::Nil => Value::Empty,
            Key::Bool(value) => Value::Bool(value),
            Key::Int(value) => Value::Int(value),
            Key::Float(bits) => Value::Double(f64::from_bits(bits)),
            Key::Str(text) | Key::Other(text) => Value::Str(text),
        }
    }
}

/// What one series has counted. Vectors have a place for each interval.
#[derive(Debug, Default)]
struct Counted {
    count: Vec<f64>,
    /// Sums, with what addition lost of them, or the least or greatest value.
    value: Vec<f64>,
    lost: Vec<f64>,
    /// Interval and binary logarithm of the bucket's upper bound.
    buckets: BTreeMap<(usize, u32), f64>,
    exemplars: Vec<Exemplar>,
}

#[derive(Debug)]
pub struct Accumulator {
    intervals: usize,
    series: FxHashMap<Vec<Key>, Counted>,
    pub compared: compare::Compared,
    cells: usize,
    over_full: bool,
    exemplars: usize,
    /// Exemplars per stretch of time.
    taken: FxHashMap<usize, usize>,
    exemplified: FxHashSet<TraceId>,
}

impl Accumulator {
    pub fn new(intervals: usize, exemplars: usize) -> Self {
        Self {
            intervals,
            series: FxHashMap::default(),
            compared: compare::Compared::default(),
            cells: 0,
            over_full: false,
            exemplars,
            taken: FxHashMap::default(),
            exemplified: FxHashSet::default(),
        }
    }

    /// Something was left out because there were too many series.
    pub fn is_over_full(&self) -> bool {
        self.over_full
    }

    /// Counts a span in an interval, as often as its weight says.
    pub fn take(
        &mut self,
        function: &Function,
        by: &[Expr],
        context: &Context<'_>,
        (interval, weight): (usize, f64),
        grid: &Grid,
    ) -> Result<(), EvalError> {
        if let Function::Compare { selection, window, .. } = function {
            return self.compared.take(selection.as_ref(), *window, context, (interval, weight), self.intervals);
        }
        let measured = match function {
            Function::Rate | Function::CountOverTime | Function::Compare { .. } => None,
            Function::OverTime(_, field) | Function::Quantile(field, _) | Function::Histogram(field) => {
                Some((field.value(context)?, field.is_duration()))
            }
        };
        let number = match measured {
            None => None,
            // Durations are counted in nanoseconds and shown in seconds.
            Some((Evaluated::Int(value), _)) => Some(value as f64),
            Some((Evaluated::Float(value), _)) if matches!(function, Function::OverTime(..)) => Some(value),
            Some(_) => return Ok(()),
        };
        if matches!(function, Function::Quantile(..) | Function::Histogram(_)) && number.is_none_or(|n| n < 2.0) {
            return Ok(());
        }
        let mut key = Vec::with_capacity(by.len());
        for field in by {
            key.push(Key::of(&shown(&field.value(context)?, field.is_duration())));
        }
        if !self.series.contains_key(&key) {
            if self.cells + self.intervals > MOST_CELLS {
                self.over_full = true;
                return Ok(());
            }
            self.cells += self.intervals;
        }
        let intervals = self.intervals;
        let counted = self.series.entry(key).or_default();
        let filled = |column: &mut Vec<f64>, with: f64| {
            if column.is_empty() {
                column.resize(intervals, with);
            }
        };
        filled(&mut counted.count, 0.0);
        let mut is_first = true;
        if let Some(count) = counted.count.get_mut(interval) {
            is_first = *count == 0.0;
            *count += weight;
        }
        match (function, number) {
            (Function::OverTime(aggregate, _), Some(number)) => {
                filled(&mut counted.value, 0.0);
                filled(&mut counted.lost, 0.0);
                let places = (counted.value.get_mut(interval), counted.lost.get_mut(interval));
                if let (Some(value), Some(lost)) = places {
                    match aggregate {
                        Aggregate::Min => *value = if is_first { number } else { value.min(number) },
                        Aggregate::Max => *value = if is_first { number } else { value.max(number) },
                        _ if is_first => *value = number * weight,
                        _ => add(value, lost, number * weight),
                    }
                }
            }
            (Function::Quantile(..) | Function::Histogram(_), Some(number)) => {
                let bucket = number.log2().ceil() as u32;
                *counted.buckets.entry((interval, bucket)).or_default() += weight;
            }
            _ => {}
        }
        if self.exemplars > 0 {
            // Two of each stretch of time at most, and one of each trace.
            let stretches = (self.exemplars / 2).max(1);
            let stretch = interval * stretches / self.intervals.max(1);
            let span = context.span;
            if self.exemplified.len() < self.exemplars
                && self.taken.get(&stretch).copied().unwrap_or(0) < 2
                && self.exemplified.insert(span.trace_id)
            {
                *self.taken.entry(stretch).or_default() += 1;
                let is_duration = measured_field(function).is_some_and(Expr::is_duration);
                let value = number.map_or(f64::NAN, |number| if is_duration { number / 1e9 } else { number });
                let mut labels = Vec::new();
                for field in by {
                    labels.push((field.to_string(), shown(&field.value(context)?, field.is_duration())));
                }
                counted.exemplars.push(Exemplar {
                    trace_id: span.trace_id,
                    span_id: span.span_id,
                    unix_nano: span.start_unix_nano.clamp(grid.low, grid.high()),
                    value,
                    labels,
                });
            }
        }
        Ok(())
    }

    pub fn into_series(self, function: &Function, by: &[Expr], grid: &Grid) -> Set {
        let name = function_name(function);
        if let Function::Compare { top, .. } = function {
            return Set { name: name.to_owned(), series: self.compared.into_series(*top) };
        }
        let unit = if measured_field(function).is_some_and(Expr::is_duration) { 1e9 } else { 1.0 };
        let mut series = Vec::new();
        for (key, counted) in self.series {
            let labels = labels(name, by, key, function);
            match function {
                Function::Quantile(_, quantiles) => {
                    for quantile in quantiles {
                        let values = quantile_values(&counted.buckets, *quantile, self.intervals, unit);
                        let mut labels = labels.clone();
                        labels.push(("p".to_owned(), Value::Double(*quantile)));
                        series.push(SetSeries { labels, values, exemplars: counted.exemplars.clone() });
                    }
                }
                Function::Histogram(_) => {
                    let mut buckets: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
                    for ((interval, bucket), count) in &counted.buckets {
                        let values = buckets.entry(*bucket).or_insert_with(|| vec![0.0; self.intervals]);
                        if let Some(value) = values.get_mut(*interval) {
                            *value = *count;
                        }
                    }
                    let mut exemplars = counted.exemplars;
                    for (bucket, values) in buckets {
                        let bound = f64::from(bucket).exp2() / unit;
                        let mut labels = labels.clone();
                        labels.push(("__bucket".to_owned(), Value::Double(bound)));
                        let (own, rest) = exemplars.into_iter().partition(|exemplar| exemplar.value <= bound);
                        exemplars = rest;
                        series.push(SetSeries { labels, values, exemplars: own });
                    }
                }
                _ => {
                    let values = (0..self.intervals).map(|interval| counted.at(function, interval, unit, grid));
                    let values: Vec<f64> = values.collect();
                    let mut exemplars = counted.exemplars;
                    for exemplar in exemplars.iter_mut().filter(|exemplar| exemplar.value.is_nan()) {
                        let interval = grid.interval(exemplar.unix_nano);
                        exemplar.value = interval.and_then(|at| values.get(at).copied()).unwrap_or(f64::NAN);
                    }
                    series.push(SetSeries { labels, values, exemplars });
                }
            }
        }
        Set { name: name.to_owned(), series }
    }
}

impl Counted {
    fn at(&self, function: &Function, interval: usize, unit: f64, grid: &Grid) -> f64 {
        let get = |column: &[f64]| column.get(interval).copied().unwrap_or(f64::NAN);
        let count = get(&self.count);
        match function {
            Function::Rate => count / grid.seconds,
            Function::CountOverTime => count,
            _ if count == 0.0 => f64::NAN,
            Function::OverTime(Aggregate::Avg, _) => (get(&self.value) + get(&self.lost)) / unit / count,
            Function::OverTime(Aggregate::Sum, _) => (get(&self.value) + get(&self.lost)) / unit,
            _ => get(&self.value) / unit,
        }
    }
}

/// Adds and keeps what the sum is too coarse for (Neumaier).
fn add(sum: &mut f64, lost: &mut f64, number: f64) {
    let total = *sum + number;
    *lost += if sum.abs() >= number.abs() { (*sum - total) + number } else { (number - total) + *sum };
    *sum = total;
}

fn measured_field(function: &Function) -> Option<&Expr> {
    match function {
        Function::OverTime(_, field) | Function::Quantile(field, _) | Function::Histogram(field) => Some(field),
        Function::Rate | Function::CountOverTime | Function::Compare { .. } => None,
    }
}

/// Labels without a value are left out; where none has one, the first stays to tell the series from others.
fn labels(name: &str, by: &[Expr], key: Vec<Key>, function: &Function) -> Vec<Label> {
    if by.is_empty() {
        return match function {
            Function::Quantile(..) | Function::Histogram(_) => Vec::new(),
            _ => vec![("__name__".to_owned(), Value::Str(name.to_owned()))],
        };
    }
    let mut labels: Vec<Label> = by.iter().map(ToString::to_string).zip(key.into_iter().map(Key::value)).collect();
    if labels.iter().any(|(_, value)| *value != Value::Empty) {
        labels.retain(|(_, value)| *value != Value::Empty);
    } else {
        labels.truncate(1);
    }
    labels
}

/// From buckets that double: within one the values are taken to be spread evenly over the logarithm.
fn quantile_values(buckets: &BTreeMap<(usize, u32), f64>, quantile: f64, intervals: usize, unit: f64) -> Vec<f64> {
    let mut values = vec![f64::NAN; intervals];
    for (interval, value) in values.iter_mut().enumerate() {
        let of_interval = || buckets.range((interval, 0)..=(interval, u32::MAX));
        let total: f64 = of_interval().map(|(_, count)| count).sum();
        if total == 0.0 {
            continue;
        }
        let mut rank = (quantile * total).ceil().max(1.0).min(total);
        let last = of_interval().next_back().map(|((_, bucket), _)| *bucket);
        for ((_, bucket), count) in of_interval() {
            // Sums of weights may be a hair apart.
            if rank <= *count || Some(*bucket) == last {
                let within = (rank / *count).min(1.0);
                *value = (f64::from(*bucket) - 1.0 + within).exp2() / unit;
                break;
            }
            rank -= count;
        }
    }
    values
}
