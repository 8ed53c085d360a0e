//! Findings as JSON: contracts §4.

use serde_json::{Value as Json, json};
use spanwise_insight::population::{Finding, Insights};

use super::aggregate::Window;
use super::aggregate::counts::Rounded;
use crate::time_text::format_time;

/// What somebody wants to see of the findings.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked<'a> {
    pub service: Option<&'a str>,
    pub kind: Option<&'a str>,
    /// Also what the page draws of each finding, beside what the contract has: its entry points by service and operation,
    /// and how many traces repeat a call how often.
    pub details: bool,
}

pub fn insights_json(insights: &Insights, window: Window, asked: Asked<'_>) -> Json {
    let Asked { service, kind, details } = asked;
    let json_of = |finding: &Finding| {
        let mut json = finding_json(finding);
        if details {
            let named = finding.entry_points.iter();
            json["entry_points"] =
                named.map(|(service, operation)| json!({"service": service, "operation": operation})).collect();
            if !finding.repeats.is_empty() {
                json["histogram"] = json!(finding.repeats);
            }
        }
        json
    };
    let is_meant = |finding: &&Finding| {
        kind.is_none_or(|kind| finding.kind == kind) && service.is_none_or(|service| concerns(finding, service))
    };
    let missing = insights.not_enough_data.iter().filter(|missing| {
        kind.is_none_or(|kind| missing.kind == kind) && service.is_none_or(|service| missing.service == service)
    });
    let window = match insights.is_rounded {
        true => Rounded::of(window, None).json(),
        false => json!({"start": format_time(window.from), "end": format_time(window.to)}),
    };
    let mut answer = json!({
        "window": window,
        "traces": insights.traces,
        "spans": insights.spans,
        "complete": insights.complete,
        "findings": insights.findings.iter().filter(is_meant).map(json_of).collect::<Json>(),
        "not_enough_data": missing.collect::<Vec<_>>(),
    });
    if !insights.complete {
        answer["looked_at"] = json!(insights.looked_at);
    }
    answer
}

pub fn finding_json(finding: &Finding) -> Json {
    let mut json = serde_json::to_value(finding).unwrap_or(Json::Null);
    json["first_seen"] = json!(format_time(finding.first_seen_unix_nano));
    json["last_seen"] = json!(format_time(finding.last_seen_unix_nano));
    if let Some(first_seen) = json["subject"]["first_seen"].as_u64() {
        json["subject"]["first_seen"] = json!(format_time(first_seen));
    }
    json
}

/// Whether a service is named in the finding, as the one that suffers, causes or answers.
fn concerns(finding: &Finding, service: &str) -> bool {
    fn names(json: &Json, service: &str) -> bool {
        match json {
            Json::Object(members) => members.iter().any(|(key, value)| {
                (matches!(key.as_str(), "service" | "host") && value == service) || names(value, service)
            }),
            Json::Array(items) => items.iter().any(|item| names(item, service)),
            _ => false,
        }
    }
    finding.service == service || names(&finding.subject, service)
}

#[cfg(test)]
mod tests {
    use spanwise_insight::population::Bin;

    use super::*;

    #[test]
    fn how_many_traces_were_looked_at_is_said_where_not_all_were() {
        let of = |complete| {
            let insights = Insights { traces: 9, looked_at: 7, complete, ..Insights::default() };
            insights_json(&insights, Window { from: 0, to: 1 }, Asked::default())
        };
        assert_eq!((&of(false)["traces"], &of(false)["looked_at"]), (&json!(9), &json!(7)));
        assert_eq!(of(true).get("looked_at"), None);
    }

    #[test]
    fn whole_minutes_are_said_where_they_are_meant() {
        let of = |is_rounded| {
            let insights = Insights { is_rounded, ..Insights::default() };
            insights_json(&insights, Window { from: 90_000_000_000, to: 100_000_000_000 }, Asked::default())
        };
        let mut window = json!({"start": "1970-01-01T00:01:30.000Z", "end": "1970-01-01T00:01:40.000Z"});
        assert_eq!(of(false)["window"], window);
        window["rounded_to_s"] = json!(60);
        window["counted_start"] = json!("1970-01-01T00:01:00.000Z");
        window["counted_end"] = json!("1970-01-01T00:02:00.000Z");
        assert_eq!(of(true)["window"], window);
    }

    #[test]
    fn details_are_told_to_whom_asks_for_them() {
        let finding = Finding {
            entry_points: vec![("gateway".to_owned(), "GET /cart".to_owned())],
            repeats: vec![Bin { from: 5, to: 6, traces: 2.0 }],
            ..Finding::default()
        };
        let insights = Insights { findings: vec![finding], ..Insights::default() };
        let of = |details| insights_json(&insights, Window { from: 0, to: 1 }, Asked { details, ..Asked::default() });
        let named = json!([{"service": "gateway", "operation": "GET /cart"}]);
        assert_eq!(of(true)["findings"][0]["entry_points"], named);
        assert_eq!(of(true)["findings"][0]["histogram"], json!([{"from": 5, "to": 6, "traces": 2.0}]));
        for key in ["entry_points", "histogram", "repeats"] {
            assert_eq!(of(false)["findings"][0].get(key), None);
        }
    }
}
