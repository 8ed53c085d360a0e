//! `${…}` in values: `${env:NAME}`, `${NAME}`, `${env:NAME:-default}`, `${file:PATH}`, `${yaml:TEXT}` and `$$` for a
//! dollar, as the collector's confmap has them. A value that is one reference alone takes the type of what it names.

use super::yaml::{Kind, Node, Place, parse};
use spanwise_model::limits;

/// Where references are looked up; a parameter so that tests need no environment.
pub trait Lookup {
    fn env(&self, name: &str) -> Option<String>;
    /// # Errors
    /// Why the file cannot be read.
    fn file(&self, path: &str) -> Result<String, String>;
}

/// The process's environment and files.
pub struct Process;

impl Lookup for Process {
    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn file(&self, path: &str) -> Result<String, String> {
        std::fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpandError {
    pub place: Place,
    pub message: String,
}

/// Replaces every reference below `node`; collects what could not be.
pub fn expand(node: &mut Node, lookup: &dyn Lookup, errors: &mut Vec<ExpandError>) {
    match &mut node.kind {
        Kind::List(items) => items.iter_mut().for_each(|item| expand(item, lookup, errors)),
        Kind::Map(entries) => entries.iter_mut().for_each(|(_, node)| expand(node, lookup, errors)),
        Kind::Scalar { text, .. } if text.contains('$') => match expand_text(text, node.place, lookup, 0) {
            Ok(Expanded::Text(text)) => node.kind = Kind::Scalar { text, plain: false },
            Ok(Expanded::Node(kind)) => node.kind = kind,
            Err(message) => errors.push(ExpandError { place: node.place, message }),
        },
        Kind::Scalar { .. } => {}
    }
}

enum Expanded {
    Text(String),
    Node(Kind),
}

fn expand_text(text: &str, place: Place, lookup: &dyn Lookup, depth: usize) -> Result<Expanded, String> {
    if depth > limits::CONFIG_EXPANSION_DEPTH {
        return Err("references refer to each other without end".to_owned());
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("$$") {
            out.push('$');
            rest = after;
        } else if let Some(inner) = rest.strip_prefix("${") {
            let end = inner.find('}').ok_or_else(|| format!("{text:?}: a reference must end with a closing brace"))?;
            let reference = &inner[..end];
            rest = &inner[end + 1..];
            let value = resolve(reference, lookup)?;
            if out.is_empty() && rest.is_empty() {
                return typed(&value, place, lookup, depth);
            }
            match expand_text(&value, place, lookup, depth + 1)? {
                Expanded::Text(value) => out.push_str(&value),
                Expanded::Node(_) => out.push_str(&value),
            }
        } else {
            out.push('$');
            rest = &rest[1..];
        }
        if out.len() > limits::CONFIG_BYTES {
            return Err("value grows without bound".to_owned());
        }
    }
    out.push_str(rest);
    Ok(Expanded::Text(out))
}

/// A reference that stands alone is read as YAML, so that numbers, lists and maps keep their type.
fn typed(value: &str, place: Place, lookup: &dyn Lookup, depth: usize) -> Result<Expanded, String> {
    if value.contains('$') {
        return expand_text(value, place, lookup, depth + 1);
    }
    match parse(value, place.source) {
        Ok(mut node) if !value.trim().is_empty() => {
            replace(&mut node, place);
            Ok(Expanded::Node(node.kind))
        }
        _ => Ok(Expanded::Text(value.to_owned())),
    }
}

fn replace(node: &mut Node, place: Place) {
    node.place = place;
    match &mut node.kind {
        Kind::Scalar { .. } => {}
        Kind::List(items) => items.iter_mut().for_each(|item| replace(item, place)),
        Kind::Map(entries) => entries.iter_mut().for_each(|(key, node)| {
            key.place = place;
            replace(node, place);
        }),
    }
}

fn resolve(reference: &str, lookup: &dyn Lookup) -> Result<String, String> {
    match reference.split_once(':') {
        Some(("env", name)) => env(name, lookup),
        Some(("file", path)) => lookup.file(path),
        Some(("yaml", text)) => Ok(text.to_owned()),
        Some((scheme @ ("http" | "https"), _)) => {
            Err(format!("scheme {scheme:?} is not supported: configs are not fetched over the network"))
        }
        _ => env(reference, lookup),
    }
}

fn env(name: &str, lookup: &dyn Lookup) -> Result<String, String> {
    let (name, default) = match name.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (name, None),
    };
    let valid =
        name.chars().enumerate().all(|(at, c)| c == '_' || c.is_ascii_alphabetic() || (at > 0 && c.is_ascii_digit()));
    if name.is_empty() || !valid {
        return Err(format!(
            "environment variable {name:?} has invalid name: must match regex ^[a-zA-Z_][a-zA-Z0-9_]*$"
        ));
    }
    match (lookup.env(name), default) {
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => {
            tracing::warn!(name, "config refers to an environment variable that is not set: it reads as empty");
            Ok(String::new())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed;

    impl Lookup for Fixed {
        fn env(&self, name: &str) -> Option<String> {
            match name {
                "PORT" => Some("4317".to_owned()),
                "HOST" => Some("localhost".to_owned()),
                "LIST" => Some("[a, b]".to_owned()),
                "LOOP" => Some("${env:LOOP}".to_owned()),
                _ => None,
            }
        }

        fn file(&self, path: &str) -> Result<String, String> {
            Err(format!("cannot read {path}"))
        }
    }

    fn check(text: &str) -> Result<Kind, String> {
        let mut node = parse(&format!("x: {text}"), 0).unwrap();
        let mut errors = Vec::new();
        expand(&mut node, &Fixed, &mut errors);
        match errors.pop() {
            Some(error) => Err(error.message),
            None => Ok(node.get("x").unwrap().kind.clone()),
        }
    }

    #[test]
    fn references_are_replaced() {
        let text = |text: &str, plain| Ok(Kind::Scalar { text: text.to_owned(), plain });
        assert_eq!(check("${env:PORT}"), text("4317", true));
        assert_eq!(check("${HOST}:${env:PORT}"), text("localhost:4317", false));
        assert_eq!(check("${env:NONE:-7}"), text("7", true));
        assert_eq!(check("a$$b"), text("a$b", false));
        assert_eq!(check("pa$word"), text("pa$word", false));
        assert!(matches!(check("${LIST}"), Ok(Kind::List(items)) if items.len() == 2));
    }

    #[test]
    fn what_cannot_be_replaced_is_an_error() {
        for (value, part) in [
            ("${env:LOOP}", "without end"),
            ("${env:1X}", "invalid name"),
            ("${file:/none}", "cannot read"),
            ("'${env:PORT'", "closing brace"),
            ("${https://x/y}", "not supported"),
        ] {
            assert!(check(value).unwrap_err().contains(part), "{value}");
        }
    }

    #[test]
    fn config_expansion_depth_at_the_limit_and_one_past_it() {
        /// `${env:V9}` names `${env:V8}` and so on, down to a value.
        struct Chain;
        impl Lookup for Chain {
            fn env(&self, name: &str) -> Option<String> {
                let number: usize = name.strip_prefix('V')?.parse().ok()?;
                Some(number.checked_sub(1).map_or("end".to_owned(), |below| format!("-${{env:V{below}}}")))
            }
            fn file(&self, path: &str) -> Result<String, String> {
                Err(path.to_owned())
            }
        }
        let of = |links: usize| {
            let mut node = parse(&format!("x: -${{env:V{links}}}"), 0).unwrap();
            let mut errors = Vec::new();
            expand(&mut node, &Chain, &mut errors);
            errors.pop().map(|error| error.message)
        };
        // The value itself stands one step below the last reference.
        assert_eq!(of(limits::CONFIG_EXPANSION_DEPTH - 1), None);
        assert!(of(limits::CONFIG_EXPANSION_DEPTH).is_some_and(|message| message.contains("without end")));
    }
}
