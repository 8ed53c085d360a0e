//! `POST /api/spanwise/compare`: why are these traces different from those?

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::Value;
use spanwise_query::compare::{CompareRequest, Selection, compare};
use spanwise_query::{Budget, SearchError, traceql};

use super::{ApiError, App, CancelOnDrop};
use crate::time_text::parse_time;

pub fn routes() -> Router<App> {
    Router::new().route("/api/spanwise/compare", post(answer))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    selection: SetBody,
    /// Every trace, when left out.
    #[serde(default)]
    baseline: SetBody,
}

/// All conditions hold: a TraceQL selection, a box of a heatmap, or both.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct SetBody {
    q: Option<String>,
    from: Option<String>,
    to: Option<String>,
    min_ms: Option<f64>,
    max_ms: Option<f64>,
}

impl SetBody {
    fn selection(&self) -> Result<Selection, ApiError> {
        let time = |text: &Option<String>| {
            text.as_deref().map(|text| parse_time(text).map_err(ApiError::bad_request)).transpose()
        };
        let ns = |ms: Option<f64>| match ms {
            Some(ms) if !(ms >= 0.0 && ms.is_finite()) => {
                Err(ApiError::bad_request(format!("{ms} is no duration in milliseconds")))
            }
            // To the nearest nanosecond; beyond what a trace can last, a float becomes the largest number.
            ms => Ok(ms.map(|ms| (ms * 1e6).round() as u64)),
        };
        let text = self.q.as_deref().filter(|text| !text.trim().is_empty());
        let query = text.map(|text| traceql::parse(text).map_err(|error| ApiError::query(text, &error))).transpose()?;
        Ok(Selection {
            query,
            from_unix_nano: time(&self.from)?,
            to_unix_nano: time(&self.to)?,
            min_duration_ns: ns(self.min_ms)?,
            max_duration_ns: ns(self.max_ms)?,
        })
    }
}

async fn answer(State(app): State<App>, Json(body): Json<Value>) -> Result<Json<Value>, ApiError> {
    let body: Body = serde_json::from_value(body).map_err(|error| ApiError::bad_request(error.to_string()))?;
    let budget = Budget::default();
    let _cancel = CancelOnDrop(std::sync::Arc::clone(&budget.cancelled));
    let request =
        CompareRequest { selection: body.selection.selection()?, baseline: body.baseline.selection()?, budget };
    let compared = app
        .blocking(move |snapshot| {
            compare(&snapshot, &request).map_err(|error| match error {
                SearchError::Store(error) => ApiError::internal(error),
                error => ApiError::bad_request(error.to_string()),
            })
        })
        .await?;
    serde_json::to_value(compared).map(Json).map_err(ApiError::internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_are_read_to_the_nanosecond() {
        for ns in [0, 1, 999_999, 2_050_000_001, 97_599_999, 555_123_457, 45_678_901_234_566u64] {
            let body = SetBody { min_ms: Some(ns as f64 / 1e6), max_ms: Some(ns as f64 / 1e6), ..SetBody::default() };
            let Ok(selection) = body.selection() else { panic!("{ns}") };
            assert_eq!((selection.min_duration_ns, selection.max_duration_ns), (Some(ns), Some(ns)));
        }
        for wrong in [-1.0, f64::NAN, f64::INFINITY] {
            assert!(SetBody { min_ms: Some(wrong), ..SetBody::default() }.selection().is_err(), "{wrong}");
        }
    }
}
