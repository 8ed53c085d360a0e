//! `compare({…})`: for every attribute, how its values are spread over the selected spans and over the others.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;
use spanwise_model::Value;
use spanwise_wire::view::{self, ValueView};

use super::accumulate::Key;
use super::series::SetSeries;
use crate::traceql::ast::{Expr, Intrinsic, Scope};
use crate::traceql::eval::{Truth, plain};
use crate::traceql::run::shown;
use crate::traceql::{Context, EvalError};

/// Distinct values of one attribute; an attribute with more says so instead of its values.
const MOST_VALUES: usize = 1_000;
/// Attributes that are looked at.
const MOST_ATTRIBUTES: usize = 1_000;
/// Numbers that are kept: values times intervals.
const MOST_CELLS: usize = 4 << 20;

#[derive(Debug, Default)]
struct Attribute {
    /// Spans that have it, in each interval.
    total: Vec<f64>,
    values: FxHashMap<Key, Vec<f64>>,
    too_many: bool,
}

/// Attributes of the spans that are selected, and of the others.
#[derive(Debug, Default)]
pub struct Compared {
    selection: BTreeMap<String, Attribute>,
    baseline: BTreeMap<String, Attribute>,
    cells: usize,
}

impl Compared {
    pub fn take(
        &mut self,
        selection: Option<&Expr>,
        window: Option<(i64, i64)>,
        context: &Context<'_>,
        (interval, weight): (usize, f64),
        intervals: usize,
    ) -> Result<(), EvalError> {
        let start = i64::try_from(context.span.start_unix_nano).unwrap_or(i64::MAX);
        let in_window = window.is_none_or(|(from, to)| (from..to).contains(&start));
        let is_selected = in_window
            && match selection {
                Some(selection) => selection.holds(context)? == Truth::Yes,
                None => true,
            };
        let side = if is_selected { &mut self.selection } else { &mut self.baseline };
        let cells = &mut self.cells;
        let mut note = |name: String, value: Value| note(side, cells, name, &value, (interval, intervals, weight));
        for intrinsic in [
            Intrinsic::Name,
            Intrinsic::Status,
            Intrinsic::StatusMessage,
            Intrinsic::Kind,
            Intrinsic::TraceRootName,
            Intrinsic::TraceRootService,
        ] {
            let field = Expr::Intrinsic(intrinsic);
            let value = shown(&field.value(context)?, false);
            let is_text = |text: &str| value == Value::Str(text.to_owned());
            if value != Value::Empty && !is_text("") {
                note(intrinsic.to_string(), value);
            }
        }
        for (scope, attributes) in [
            (Scope::Resource, view::resource_attributes(context.piece.resource).collect::<Vec<_>>()),
            (Scope::Span, view::span_attributes(context.piece.span).collect()),
        ] {
            for attribute in attributes {
                if let ValueView::Str(_) | ValueView::Bool(_) | ValueView::Int(_) | ValueView::Double(_) =
                    attribute.value
                {
                    let name = Expr::Attribute(scope, attribute.key.to_owned()).to_string();
                    note(name, shown(&plain(attribute.value), false));
                }
            }
        }
        Ok(())
    }

    pub fn into_series(self, top: usize) -> Vec<SetSeries> {
        let mut series = Vec::new();
        for (side, attributes) in [("selection", self.selection), ("baseline", self.baseline)] {
            for (name, attribute) in attributes {
                let mut put = |kind: String, value: Value, values: Vec<f64>, error: bool| {
                    let mut labels = vec![("__meta_type".to_owned(), Value::Str(kind)), (name.clone(), value)];
                    if error {
                        labels.push(("__meta_error".to_owned(), Value::Str("__too_many_values__".to_owned())));
                    }
                    series.push(SetSeries { labels, values, exemplars: Vec::new() });
                };
                let mut values: Vec<(Key, Vec<f64>)> = attribute.values.into_iter().collect();
                let sum = |values: &[f64]| values.iter().sum::<f64>();
                values.sort_by(|a, b| sum(&b.1).total_cmp(&sum(&a.1)).then_with(|| a.0.cmp(&b.0)));
                if attribute.too_many {
                    put(side.to_owned(), Value::Empty, attribute.total.clone(), true);
                }
                for (value, counts) in values.into_iter().take(top) {
                    put(side.to_owned(), value.value(), counts, false);
                }
                put(format!("{side}_total"), Value::Empty, attribute.total, false);
            }
        }
        series
    }
}

fn note(
    side: &mut BTreeMap<String, Attribute>,
    cells: &mut usize,
    name: String,
    value: &Value,
    (interval, intervals, weight): (usize, usize, f64),
) {
    if side.len() >= MOST_ATTRIBUTES && !side.contains_key(&name) {
        return;
    }
    let attribute = side.entry(name).or_default();
    let add = |counts: &mut Vec<f64>| {
        counts.resize(intervals, 0.0);
        if let Some(count) = counts.get_mut(interval) {
            *count += weight;
        }
    };
    add(&mut attribute.total);
    let key = Key::of(value);
    if !attribute.values.contains_key(&key) {
        if attribute.values.len() >= MOST_VALUES || *cells + intervals > MOST_CELLS {
            attribute.too_many = true;
            return;
        }
        *cells += intervals;
    }
    add(attribute.values.entry(key).or_default());
}
