//! `GET /api/spanwise/traces/{id}/kinds`: how long the trace's spans take against others of their kind (service,
//! operation, and kind), and an ordinary trace of the same entry point to compare with.

use std::collections::HashMap;

use axum::extract::{Path, Query, State};
use serde_json::{Value as Json, json};
use spanwise_insight::calls::call;
use spanwise_insight::trace_facts;
use spanwise_model::{SpanKind, Trace, TraceId};
use spanwise_wire::decode_trace;

use super::weighted::Durations;
use super::{Aggregate, Answer, Read, Seen, WindowParameters};
use crate::api::trace_json::tree_order;
use crate::api::{ApiError, App, parse_trace_id};

/// Spans remembered of a kind, and kinds told apart; beyond, a trace's spans have no kind.
const SPANS: usize = 20_000;
const KINDS: usize = 5_000;
/// Fewer spans of a kind say nothing.
const ENOUGH: usize = 20;
/// Shares for which durations are answered.
const SHARES: [f64; 13] = [0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.999, 1.0];

pub async fn answer(
    State(app): State<App>,
    Path(id): Path<String>,
    Query(parameters): Query<WindowParameters>,
) -> Answer {
    let id = parse_trace_id(&id)?;
    let batch = app.trace(id).await?.ok_or_else(|| ApiError::not_found(format!("no trace {id} is stored")))?;
    let window = app.window(&parameters)?;
    let kinds = Kinds::of(&decode_trace(&[batch]));
    app.aggregate(format!("kinds {id}"), window, kinds).await
}

type Kind = (String, String, SpanKind);

pub struct Kinds {
    id: Option<TraceId>,
    numbers: HashMap<Kind, usize>,
    /// Number of each span's kind, in the order in which the page has the spans.
    of_span: Vec<Option<usize>>,
    durations: Vec<Durations>,
    entry: Option<Kind>,
    duration_ns: u64,
    entries: Vec<(u64, TraceId, f64)>,
}

impl Kinds {
    pub fn of(trace: &Trace) -> Self {
        let facts = trace_facts(trace);
        let kind = |place: usize| {
            let span = &trace.spans[place];
            (span.resource.service_name().to_owned(), call(span).operation, span.span.kind)
        };
        let mut numbers: HashMap<Kind, usize> = HashMap::new();
        let of_span = tree_order(&facts)
            .into_iter()
            .map(|place| {
                let (kind, next) = (kind(place), numbers.len());
                match numbers.get(&kind) {
                    Some(number) => Some(*number),
                    None if next >= KINDS => None,
                    None => {
                        numbers.insert(kind, next);
                        Some(next)
                    }
                }
            })
            .collect();
        Self {
            id: trace.spans.first().map(|span| span.span.trace_id),
            durations: vec![Durations::default(); numbers.len()],
            numbers,
            of_span,
            entry: facts.root.map(kind),
            duration_ns: facts.duration_ns,
            entries: Vec::new(),
        }
    }
}

impl Aggregate for Kinds {
    fn add(&mut self, seen: &Seen<'_>) {
        for (place, span) in seen.trace.spans.iter().enumerate() {
            let kind = (seen.service(place).to_owned(), seen.calls[place].operation.clone(), span.span.kind);
            if let Some(durations) = self.numbers.get(&kind).and_then(|number| self.durations.get_mut(*number))
                && durations.len() < SPANS
            {
                durations.push(span.span.duration_ns(), seen.span_weight(place));
            }
            if seen.facts.root == Some(place) && self.entry.as_ref() == Some(&kind) && self.entries.len() < SPANS {
                self.entries.push((seen.facts.duration_ns, span.span.trace_id, seen.weight.count));
            }
        }
    }

    fn finish(mut self, read: &Read) -> Json {
        let kinds = self.durations.iter_mut().map(|durations| {
            let count = durations.len();
            let of = durations.sorted();
            let quantiles = SHARES.map(|share| of.at(share));
            match count {
                count if count < ENOUGH => json!({"spans": count, "need": ENOUGH}),
                count => json!({"spans": count, "quantiles_ns": quantiles}),
            }
        });
        let kinds: Vec<Json> = kinds.collect();
        self.entries.sort_unstable_by_key(|(duration, id, _)| (*duration, *id));
        let mut durations: Durations = self.entries.iter().map(|(duration, _, weight)| (*duration, *weight)).collect();
        let count = durations.len();
        let of = durations.sorted();
        let others: Vec<_> = self.entries.iter().filter(|(_, id, _)| Some(*id) != self.id).collect();
        let typical = others
            .get(others.len() / 2)
            .map(|(duration, id, _)| json!({"trace_id": id.to_string(), "duration_ns": duration}));
        json!({
            "shares": SHARES, "kinds": kinds, "of_span": self.of_span,
            "entry": {
                "traces": count, "need": ENOUGH, "p50_ns": of.at(0.5), "p95_ns": of.at(0.95),
                "percentile": (of.share_below(self.duration_ns) * 100.0).round(),
            },
            "typical": typical.filter(|_| count >= ENOUGH),
            "traces": read.traces, "complete": read.complete,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{added, shop};
    use super::*;

    #[test]
    fn a_span_stands_among_its_kind() {
        let traces: Vec<Trace> = (1..=40).map(|id| shop(id, 1, u64::from(id), false)).collect();
        let json = added(Kinds::of(&traces[39]), &traces);
        assert_eq!(json["of_span"], json!([0, 1, 2, 3, 4]));
        let quantiles = json["kinds"][0]["quantiles_ns"].as_array().unwrap();
        assert_eq!(
            (&quantiles[0], &quantiles[5], &quantiles[12]),
            (&json!(100_000_000), &json!(2_000_000_000), &json!(4_000_000_000u64))
        );
        assert_eq!(json["entry"]["percentile"], 98.0);
        assert_eq!(json["typical"]["duration_ns"], 2_000_000_000);
    }

    #[test]
    fn a_few_of_a_kind_are_not_enough() {
        let trace = shop(1, 1, 1, false);
        let json = added(Kinds::of(&trace), &[trace]);
        assert_eq!(json["kinds"][0], json!({"spans": 1, "need": ENOUGH}));
        assert_eq!(json["typical"], Json::Null);
    }
}
