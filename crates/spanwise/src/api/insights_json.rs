//! Findings as JSON: contracts §4.

use serde_json::{Value as Json, json};
use spanwise_insight::population::{Finding, Insights};

use crate::time_text::format_time;

pub fn insights_json(insights: &Insights, window: (u64, u64), service: Option<&str>, kind: Option<&str>) -> Json {
    let is_meant = |finding: &&Finding| {
        kind.is_none_or(|kind| finding.kind == kind) && service.is_none_or(|service| concerns(finding, service))
    };
    let missing = insights.not_enough_data.iter().filter(|missing| {
        kind.is_none_or(|kind| missing.kind == kind) && service.is_none_or(|service| missing.service == service)
    });
    json!({
        "window": {"start": format_time(window.0), "end": format_time(window.1)},
        "traces": insights.traces,
        "spans": insights.spans,
        "complete": insights.complete,
        "findings": insights.findings.iter().filter(is_meant).map(finding_json).collect::<Json>(),
        "not_enough_data": missing.collect::<Vec<_>>(),
    })
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
