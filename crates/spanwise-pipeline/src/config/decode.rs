//! From the tree to a component's config struct, collecting every error instead of the first.

use serde::de::DeserializeOwned;
use serde_json::{Map, Number, Value as Json};

use super::error::{ConfigError, nearest};
use super::yaml::{Kind, Node, Place};

/// Reads `node` as a `T`. An error is noted under `path`, the value it concerns is taken out, and reading goes on,
/// until all errors are found. `None` when there were any.
pub fn decode<T: DeserializeOwned>(node: &Node, path: &str, errors: &mut Vec<ConfigError>) -> Option<T> {
    let mut json = if node.is_null() { Json::Object(Map::new()) } else { to_json(node) };
    let before = errors.len();
    // Each round takes out one value, so there cannot be more rounds than values.
    for _ in 0..MAX_ERRORS {
        match serde_path_to_error::deserialize::<_, T>(json.clone()) {
            Ok(config) => return (errors.len() == before).then_some(config),
            Err(error) => {
                let message = error.inner().to_string();
                let mut segments: Vec<String> = error.path().iter().map(segment_text).collect();
                segments.retain(|segment| segment != "?");
                let removed = note(node, path, &segments, &message, errors);
                if !take_out(&mut json, &removed) {
                    return None;
                }
            }
        }
    }
    None
}

const MAX_ERRORS: usize = 100;

fn segment_text(segment: &serde_path_to_error::Segment) -> String {
    use serde_path_to_error::Segment;
    match segment {
        Segment::Seq { index } => index.to_string(),
        Segment::Map { key } => key.clone(),
        Segment::Enum { variant } => variant.clone(),
        Segment::Unknown => "?".to_owned(),
    }
}

/// Notes the error; answers the path of the value to take out.
fn note(root: &Node, path: &str, segments: &[String], message: &str, errors: &mut Vec<ConfigError>) -> Vec<String> {
    let mut found = root;
    let mut key_place = None;
    for segment in segments {
        match step(found, segment) {
            Some((place, node)) => {
                key_place = Some(place);
                found = node;
            }
            None => break,
        }
    }
    let mut segments = segments.to_vec();
    let mut place = found.place;
    let mut text = message.to_owned();
    let mut hint = None;
    if let Some(rest) = message.strip_prefix("unknown field `") {
        let (name, expected) = rest.split_once('`').unwrap_or((rest, ""));
        let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
        if segments.last().map(String::as_str) != Some(name) {
            segments.push(name.to_owned());
        }
        place = find_key(root, &segments).or(key_place).unwrap_or(place);
        hint = nearest(name, known.iter().copied());
        text = "has invalid keys: unknown key".to_owned();
        if hint.is_none() && !known.is_empty() {
            text.push_str(&format!(" (known: {})", known.join(", ")));
        }
    }
    let full = segments.iter().fold(path.to_owned(), |path, segment| format!("{path}.{segment}"));
    errors.push(ConfigError { place, path: full, message: text, hint });
    segments
}

fn step<'a>(node: &'a Node, segment: &str) -> Option<(Place, &'a Node)> {
    match &node.kind {
        Kind::Scalar { .. } => None,
        Kind::List(items) => items.get(segment.parse::<usize>().ok()?).map(|node| (node.place, node)),
        Kind::Map(entries) => entries.iter().find(|(key, _)| key.text == segment).map(|(key, node)| (key.place, node)),
    }
}

fn find_key(root: &Node, segments: &[String]) -> Option<Place> {
    let mut node = root;
    let mut place = None;
    for segment in segments {
        let (key_place, next) = step(node, segment)?;
        place = Some(key_place);
        node = next;
    }
    place
}

fn take_out(json: &mut Json, path: &[String]) -> bool {
    let Some((last, parents)) = path.split_last() else { return false };
    let mut at = json;
    for segment in parents {
        let next = match at {
            Json::Object(members) => members.get_mut(segment),
            Json::Array(items) => segment.parse::<usize>().ok().and_then(|index| items.get_mut(index)),
            _ => None,
        };
        match next {
            Some(next) => at = next,
            None => return false,
        }
    }
    match at {
        Json::Object(members) => members.shift_remove(last).is_some(),
        Json::Array(items) => match last.parse::<usize>() {
            Ok(index) if index < items.len() => {
                items.remove(index);
                true
            }
            _ => false,
        },
        _ => false,
    }
}

/// YAML's core schema for plain scalars; members that are null are left out, as the collector reads them.
pub fn to_json(node: &Node) -> Json {
    match &node.kind {
        Kind::Scalar { text, plain } => scalar(text, *plain),
        Kind::List(items) => Json::Array(items.iter().map(to_json).collect()),
        Kind::Map(entries) => {
            Json::Object(entries.iter().map(|(key, node)| (key.text.clone(), to_json(node))).collect())
        }
    }
}

fn scalar(text: &str, plain: bool) -> Json {
    if !plain {
        return Json::String(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Json::Null,
        "true" | "True" | "TRUE" => return Json::Bool(true),
        "false" | "False" | "FALSE" => return Json::Bool(false),
        _ => {}
    }
    if let Ok(number) = text.parse::<i64>() {
        return Json::Number(number.into());
    }
    let looks_numeric = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'))
        && text.chars().all(|c| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E'));
    match text.parse::<f64>().ok().filter(|_| looks_numeric).and_then(Number::from_f64) {
        Some(number) => Json::Number(number),
        None => Json::String(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::yaml::parse;
    use super::*;

    #[derive(Debug, serde::Deserialize, Default)]
    #[serde(deny_unknown_fields, default)]
    struct Inner {
        timeout: u32,
        names: Vec<String>,
    }

    #[derive(Debug, serde::Deserialize, Default)]
    #[serde(deny_unknown_fields, default)]
    struct Outer {
        inner: Inner,
        flag: bool,
    }

    #[test]
    fn all_errors_are_found_at_once() {
        let node = parse("inner:\n  timeot: 3\n  names: [a, {x: 1}]\nflag: perhaps\nother: 1\n", 0).unwrap();
        let mut errors = Vec::new();
        assert!(decode::<Outer>(&node, "exporters.x", &mut errors).is_none());
        let found: Vec<_> = errors.iter().map(|e| (e.place.line, e.path.as_str(), e.hint.as_deref())).collect();
        assert_eq!(
            found,
            [
                (2, "exporters.x.inner.timeot", Some("timeout")),
                (3, "exporters.x.inner.names.1", None),
                (4, "exporters.x.flag", None),
                (5, "exporters.x.other", None),
            ]
        );
    }

    #[test]
    fn nothing_reads_as_the_defaults() {
        let mut errors = Vec::new();
        let node = parse("x:\n", 0).unwrap();
        let outer: Outer = decode(node.get("x").unwrap(), "x", &mut errors).unwrap();
        assert!(!outer.flag && outer.inner.timeout == 0 && outer.inner.names.is_empty());
    }
}
