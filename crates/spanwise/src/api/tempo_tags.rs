//! What there is to search for, as Tempo's API lists it: names of tags and their values.

use axum::extract::{Path, RawQuery, State};
use serde_json::{Value as Json, json};
use spanwise_query::traceql::ast::Intrinsic;
use spanwise_store::Catalogue;
use spanwise_store::catalogue::Values;

use super::jaeger_api::pairs;
use super::tempo_api::{Answer, Parameters, TempoError};
use super::{ApiError, App};

pub async fn tags_v1(State(app): State<App>, RawQuery(query): RawQuery) -> Answer {
    let parameters = Parameters(pairs(query.as_deref()));
    parameters.window()?;
    let wanted = scope(&parameters)?;
    let catalogue = app.catalogue().await?;
    let mut names: Vec<String> = scopes(&catalogue, wanted)
        .into_iter()
        .filter(|(name, _)| *name != "intrinsic" || wanted == *name)
        .flat_map(|(_, tags)| tags)
        .collect();
    names.sort();
    names.dedup();
    names.truncate(limit(&parameters)?);
    Ok(axum::Json(json!({"tagNames": names, "metrics": {"inspectedBytes": "0"}})))
}

pub async fn tags_v2(State(app): State<App>, RawQuery(query): RawQuery) -> Answer {
    let parameters = Parameters(pairs(query.as_deref()));
    parameters.window()?;
    let (wanted, limit) = (scope(&parameters)?, limit(&parameters)?);
    let catalogue = app.catalogue().await?;
    let scopes: Json = scopes(&catalogue, wanted)
        .into_iter()
        .map(|(name, mut tags)| {
            tags.truncate(limit);
            json!({"name": name, "tags": tags})
        })
        .collect();
    Ok(axum::Json(json!({"scopes": scopes, "metrics": {"inspectedBytes": "0"}})))
}

const SCOPES: [&str; 7] = ["none", "resource", "span", "intrinsic", "event", "link", "instrumentation"];

fn scope(parameters: &Parameters) -> Result<&str, TempoError> {
    let scope = parameters.get("scope").unwrap_or("none");
    match SCOPES.contains(&scope) {
        true => Ok(scope),
        false => Err(ApiError::bad_request(format!("invalid scope: {scope}")).into()),
    }
}

/// How many names or values of each list are wanted; `0` and none mean all.
fn limit(parameters: &Parameters) -> Result<usize, TempoError> {
    Ok(match parameters.number("limit")? {
        None | Some(0) => usize::MAX,
        Some(limit) => usize::try_from(limit).unwrap_or(usize::MAX),
    })
}

/// Scopes that have names, with them.
fn scopes(catalogue: &Catalogue, wanted: &str) -> Vec<(&'static str, Vec<String>)> {
    let intrinsics = Intrinsic::NAMES
        .iter()
        .flat_map(|(_, names)| names.iter().copied())
        .filter(|name| !name.starts_with("nestedSet"))
        .map(str::to_owned);
    let mut intrinsics: Vec<String> = intrinsics.collect();
    intrinsics.sort();
    [
        ("resource", catalogue.resource.keys().cloned().collect()),
        ("span", catalogue.span.keys().cloned().collect()),
        ("intrinsic", intrinsics),
    ]
    .into_iter()
    .filter(|(name, _)| wanted == "none" || wanted == *name)
    .collect()
}

/// Values of a tag, each with its type as v2 names it.
async fn values(app: &App, rest: &str) -> Result<Vec<(String, &'static str)>, TempoError> {
    let tag = rest.strip_suffix("/values").ok_or_else(|| ApiError::not_found("404 page not found"))?;
    let tag = tag.strip_prefix('.').unwrap_or(tag).replace('"', "");
    let keywords = |words: &[&str]| Ok(words.iter().map(|word| ((*word).to_owned(), "keyword")).collect());
    let catalogue = app.catalogue().await?;
    let text = |names: Vec<String>| Ok(names.into_iter().map(|name| (name, "string")).collect());
    match tag.as_str() {
        "status" | "span:status" => return keywords(&["ok", "error", "unset"]),
        "kind" | "span:kind" => {
            return keywords(&["client", "consumer", "internal", "producer", "server", "unspecified"]);
        }
        "name" | "span:name" | "rootName" | "trace:rootName" => {
            let mut names: Vec<String> = catalogue.services.values().flat_map(|names| names.keys().cloned()).collect();
            names.sort();
            names.dedup();
            return text(names);
        }
        "rootServiceName" | "trace:rootService" | "service.name" | "resource.service.name" => {
            return text(catalogue.services.keys().cloned().collect());
        }
        _ => {}
    }
    let (span, resource) = match (tag.strip_prefix("span."), tag.strip_prefix("resource.")) {
        (Some(key), _) => (catalogue.span.get(key), None),
        (_, Some(key)) => (None, catalogue.resource.get(key)),
        _ => (catalogue.span.get(&tag), catalogue.resource.get(&tag)),
    };
    let of =
        |values: &Values| values.values.iter().map(|(value, kind)| (value.clone(), kind.name())).collect::<Vec<_>>();
    Ok(span.into_iter().chain(resource).flat_map(of).collect())
}

pub async fn values_v1(State(app): State<App>, Path(rest): Path<String>, RawQuery(query): RawQuery) -> Answer {
    let parameters = Parameters(pairs(query.as_deref()));
    parameters.window()?;
    let mut values: Vec<String> = values(&app, &rest).await?.into_iter().map(|(value, _)| value).collect();
    values.truncate(limit(&parameters)?);
    Ok(axum::Json(json!({"tagValues": values, "metrics": {"inspectedBytes": "0"}})))
}

pub async fn values_v2(State(app): State<App>, Path(rest): Path<String>, RawQuery(query): RawQuery) -> Answer {
    let parameters = Parameters(pairs(query.as_deref()));
    parameters.window()?;
    let values = values(&app, &rest).await?.into_iter().take(limit(&parameters)?);
    let values = values.map(|(value, kind)| json!({"type": kind, "value": value}));
    Ok(axum::Json(json!({"tagValues": values.collect::<Json>(), "metrics": {"inspectedBytes": "0"}})))
}
