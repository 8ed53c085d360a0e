//! TraceQL metrics as Tempo's API answers them.

use axum::extract::{RawQuery, State};
use serde_json::{Value as Json, json};
use spanwise_model::Value;
use spanwise_query::MetricsResponse;
use spanwise_query::metrics::{Label, default_step_ns};

use super::jaeger_api::pairs;
use super::tempo_api::{Answer, Parameters, TempoError};
use super::tempo_json::any_value;
use super::{ApiError, App, now_unix_nano};
use crate::time_text::{parse_duration, parse_time};

/// What an answer says of itself when its counts are larger than what is stored.
pub const WEIGHTED: &str = "traces were sampled: each span is counted as often as it stands for others; with(weighted=false) counts what is stored";

const HOUR_NS: u64 = 3_600_000_000_000;

pub async fn query_range(State(app): State<App>, RawQuery(query): RawQuery) -> Answer {
    let parameters = Parameters(pairs(query.as_deref()));
    let (start, end) = range(&parameters)?;
    if parameters.get("instant") == Some("true") {
        let response = app.metrics(&text(&parameters)?, start, end, None, 0).await?;
        return Ok(axum::Json(answer(&response, false)));
    }
    let step = match parameters.get("step") {
        None => default_step_ns(end.saturating_sub(start)),
        Some(text) => step_ns(text).ok_or_else(|| ApiError::bad_request(format!("invalid step: {text:?}")))?,
    };
    let exemplars = parameters.number("exemplars")?.unwrap_or(100);
    let most = parameters.number("maxSeries")?.filter(|most| *most > 0);
    let exemplars = usize::try_from(exemplars).unwrap_or(usize::MAX);
    let mut response = app.metrics(&text(&parameters)?, start, end, Some(step), exemplars).await?;
    if let Some(most) = most.and_then(|most| usize::try_from(most).ok())
        && response.series.len() > most
    {
        response.series.truncate(most);
        response.complete = false;
    }
    Ok(axum::Json(answer(&response, false)))
}

pub async fn query(State(app): State<App>, RawQuery(query): RawQuery) -> Answer {
    let parameters = Parameters(pairs(query.as_deref()));
    let (start, end) = range(&parameters)?;
    let response = app.metrics(&text(&parameters)?, start, end, None, 0).await?;
    Ok(axum::Json(answer(&response, true)))
}

fn text(parameters: &Parameters) -> Result<String, TempoError> {
    let text = parameters.get("q").or_else(|| parameters.get("query"));
    Ok(text.map(str::to_owned).ok_or_else(|| ApiError::bad_request("parameter q is missing"))?)
}

/// Start and end; without them the time since `since`, an hour unless it says otherwise.
fn range(parameters: &Parameters) -> Result<(u64, u64), TempoError> {
    let time = |key: &str| -> Result<Option<u64>, ApiError> {
        let parse = |text: &str| {
            time_ns(text).ok_or_else(|| ApiError::bad_request(format!("invalid {key}: {text:?} is not a time")))
        };
        parameters.get(key).map(parse).transpose()
    };
    let since = match parameters.get("since") {
        None => HOUR_NS,
        Some(text) => {
            let since =
                parse_duration(text).map_err(|error| ApiError::bad_request(format!("invalid since: {error}")))?;
            u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
        }
    };
    let end = time("end")?.unwrap_or_else(now_unix_nano);
    let start = time("start")?.unwrap_or_else(|| end.saturating_sub(since));
    if end <= start {
        let message = format!("http parameter start must be before end. received start={start} end={end}");
        return Err(ApiError::bad_request(message).into());
    }
    Ok((start, end))
}

/// Up to ten digits are seconds, more are nanoseconds; also seconds with a fraction, and RFC 3339.
fn time_ns(text: &str) -> Option<u64> {
    if let Ok(number) = text.parse::<u64>() {
        return Some(if text.len() <= 10 { number.saturating_mul(1_000_000_000) } else { number });
    }
    match text.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() && seconds >= 0.0 => Some((seconds * 1e9) as u64),
        _ => parse_time(text).ok(),
    }
}

/// Seconds, or a duration.
fn step_ns(text: &str) -> Option<u64> {
    let nanos = match text.parse::<f64>() {
        Ok(seconds) => (seconds.is_finite() && seconds > 0.0).then_some((seconds * 1e9) as u64)?,
        Err(_) => u64::try_from(parse_duration(text).ok()?.as_nanos()).ok()?,
    };
    (nanos > 0).then_some(nanos)
}

fn answer(response: &MetricsResponse, is_instant: bool) -> Json {
    let labels = |labels: &[Label]| -> Json {
        let value = |value: &Value| match value {
            Value::Empty => json!({"stringValue": "nil"}),
            value => any_value(value),
        };
        labels.iter().map(|(key, of)| json!({"key": key, "value": value(of)})).collect()
    };
    let series = response.series.iter().map(|series| {
        let labels_json = labels(&series.labels);
        if is_instant {
            return json!({"labels": labels_json, "value": series.samples.first().map_or(0.0, |(_, value)| *value)});
        }
        let samples: Json = series
            .samples
            .iter()
            .map(|(time, value)| json!({"timestampMs": (time / 1_000_000).to_string(), "value": value}))
            .collect();
        let exemplars: Vec<Json> = series
            .exemplars
            .iter()
            .filter(|exemplar| exemplar.value.is_finite())
            .map(|exemplar| {
                let mut own = exemplar.labels.clone();
                own.push(("trace:id".to_owned(), Value::Str(exemplar.trace_id.to_string())));
                own.push(("span:id".to_owned(), Value::Str(exemplar.span_id.to_string())));
                json!({
                    "labels": labels(&own),
                    "value": exemplar.value,
                    "timestampMs": (exemplar.unix_nano / 1_000_000).to_string(),
                })
            })
            .collect();
        let mut object = json!({"labels": labels_json, "samples": samples});
        if !exemplars.is_empty() {
            object["exemplars"] = Json::Array(exemplars);
        }
        object
    });
    let mut answer = json!({
        "series": series.collect::<Json>(),
        "metrics": {
            "inspectedBytes": response.inspected_bytes.to_string(),
            "inspectedSpans": response.inspected_spans.to_string(),
            "completedJobs": 1,
            "totalJobs": 1,
        },
    });
    if !response.complete {
        answer["status"] = json!("PARTIAL");
        answer["message"] = json!("the query's budget ended before all series were complete");
    }
    if response.is_weighted && response.complete {
        answer["message"] = json!(WEIGHTED);
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_steps_are_read_as_tempo_does() {
        for (text, nanos) in [
            ("1700000000", Some(1_700_000_000_000_000_000)),
            ("1700000000000000000", Some(1_700_000_000_000_000_000)),
            ("1700000000.5", Some(1_700_000_000_500_000_000)),
            ("2023-11-14T22:13:20Z", Some(1_700_000_000_000_000_000)),
            ("soon", None),
            ("-1", None),
        ] {
            assert_eq!(time_ns(text), nanos, "{text}");
        }
        for (text, nanos) in [
            ("15", Some(15_000_000_000)),
            ("0.5", Some(500_000_000)),
            ("1m", Some(60_000_000_000)),
            ("0", None),
            ("x", None),
        ] {
            assert_eq!(step_ns(text), nanos, "{text}");
        }
    }

    #[test]
    fn a_range_has_an_end_after_its_start() {
        let of = |query| range(&Parameters(pairs(Some(query)))).ok();
        assert_eq!(of("start=10&end=20"), Some((10_000_000_000, 20_000_000_000)));
        assert_eq!(of("end=7200"), Some((3_600_000_000_000, 7_200_000_000_000)));
        assert_eq!(of("end=7200&since=30m"), Some((5_400_000_000_000, 7_200_000_000_000)));
        assert_eq!(of("start=20&end=10"), None);
    }
}
