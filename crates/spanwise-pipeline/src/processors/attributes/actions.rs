//! What may be done to an attribute list, in the order of the config.

use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};
use spanwise_model::{KeyValue, Value};
use spanwise_wire::rewrite::Attributes;

use crate::flow::Metadata;

/// One action: `action` names it, and which of the other keys it takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct ActionConfig {
    pub key: String,
    /// insert, update, upsert, delete, hash, extract or convert.
    pub action: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Json>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub from_attribute: String,
    /// `metadata.<header>`, of a receiver with `include_metadata`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub from_context: String,
    /// `extract`: a regular expression with named groups. `delete` and `hash`: which keys are meant.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pattern: String,
    /// `convert`: int, double or string.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub converted_type: String,
}

enum Source {
    Constant(Value),
    Attribute(String),
    Metadata(String),
}

enum Kind {
    Insert(Source),
    Update(Source),
    Upsert(Source),
    Delete(Option<Regex>),
    Hash(Option<Regex>),
    Extract(Regex),
    Convert(Target),
}

enum Target {
    Int,
    Double,
    Text,
}

struct Action {
    key: String,
    kind: Kind,
}

pub struct Actions(Vec<Action>);

impl Actions {
    /// # Errors
    /// What is wrong with an action, and with which.
    pub fn new(configs: &[ActionConfig]) -> Result<Self, String> {
        let numbered = configs.iter().enumerate();
        let actions = numbered
            .map(|(number, config)| build(config).map_err(|message| format!("{message} at the {number}-th actions")));
        Ok(Self(actions.collect::<Result<_, _>>()?))
    }

    pub fn apply(&self, attributes: &mut Attributes<'_>, metadata: &Metadata) {
        for Action { key, kind } in &self.0 {
            match kind {
                Kind::Insert(source) if !attributes.has(key) => put(attributes, key, source, metadata),
                Kind::Update(source) if attributes.has(key) => put(attributes, key, source, metadata),
                Kind::Upsert(source) => put(attributes, key, source, metadata),
                Kind::Insert(_) | Kind::Update(_) => {}
                Kind::Delete(pattern) => {
                    for key in matching(attributes, key, pattern.as_ref()) {
                        attributes.remove(&key);
                    }
                }
                Kind::Hash(pattern) => {
                    for key in matching(attributes, key, pattern.as_ref()) {
                        if let Some(value) = attributes.get(&key) {
                            attributes.set(&key, Value::Str(hash(&value)));
                        }
                    }
                }
                Kind::Extract(pattern) => extract(attributes, key, pattern),
                Kind::Convert(target) => {
                    if let Some(converted) = attributes.get(key).and_then(|value| convert(&value, target)) {
                        attributes.set(key, converted);
                    }
                }
            }
        }
    }
}

fn put(attributes: &mut Attributes<'_>, key: &str, source: &Source, metadata: &Metadata) {
    let value = match source {
        Source::Constant(value) => Some(value.clone()),
        Source::Attribute(from) => attributes.get(from),
        Source::Metadata(header) => {
            let found = metadata.0.iter().filter(|(name, _)| name.eq_ignore_ascii_case(header));
            let values: Vec<_> = found.map(|(_, value)| value.as_str()).collect();
            (!values.is_empty()).then(|| Value::Str(values.join(";")))
        }
    };
    if let Some(value) = value {
        attributes.set(key, value);
    }
}

/// The key itself and those the pattern matches, as far as they are there.
fn matching(attributes: &Attributes<'_>, key: &str, pattern: Option<&Regex>) -> Vec<String> {
    let is_meant = |name: &&str| *name == key || pattern.is_some_and(|pattern| pattern.is_match(name));
    let mut keys: Vec<String> = attributes.keys().filter(is_meant).map(str::to_owned).collect();
    keys.sort();
    keys.dedup();
    keys
}

fn extract(attributes: &mut Attributes<'_>, key: &str, pattern: &Regex) {
    let Some(Value::Str(text)) = attributes.get(key) else { return };
    let Some(found) = pattern.captures(&text) else { return };
    for name in pattern.capture_names().flatten() {
        let value = found.name(name).map_or("", |group| group.as_str());
        attributes.set(name, Value::from(value));
    }
}

/// SHA-256 as lower-case hexadecimal, of the bytes that the collector hashes for each type.
fn hash(value: &Value) -> String {
    let bytes = match value {
        Value::Str(text) => text.as_bytes().to_vec(),
        Value::Bool(value) => vec![u8::from(*value)],
        Value::Int(value) => value.to_le_bytes().to_vec(),
        Value::Double(value) => value.to_bits().to_le_bytes().to_vec(),
        Value::Empty | Value::Bytes(_) | Value::Array(_) | Value::Map(_) => Vec::new(),
    };
    if bytes.is_empty() {
        return String::new();
    }
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `None` when the value stays as it is.
fn convert(value: &Value, target: &Target) -> Option<Value> {
    Some(match (target, value) {
        (Target::Int, Value::Double(value)) => Value::Int(*value as i64),
        (Target::Int, Value::Bool(value)) => Value::Int(i64::from(*value)),
        (Target::Int, Value::Str(text)) => Value::Int(text.parse().ok()?),
        (Target::Double, Value::Int(value)) => Value::Double(*value as f64),
        (Target::Double, Value::Bool(value)) => Value::Double(f64::from(u8::from(*value))),
        (Target::Double, Value::Str(text)) => Value::Double(text.parse().ok()?),
        (Target::Text, Value::Int(value)) => Value::Str(value.to_string()),
        (Target::Text, Value::Double(value)) => Value::Str(value.to_string()),
        (Target::Text, Value::Bool(value)) => Value::Str(value.to_string()),
        _ => return None,
    })
}

fn build(config: &ActionConfig) -> Result<Action, String> {
    let action = config.action.to_lowercase();
    let takes_pattern = matches!(action.as_str(), "delete" | "hash");
    if config.key.is_empty() && (!takes_pattern || config.pattern.is_empty()) {
        return Err(match takes_pattern {
            true => "missing required field (at least one of \"key\" and \"pattern\" have to be used)".to_owned(),
            false => "missing required field \"key\"".to_owned(),
        });
    }
    let refuse = |field: &str, is_set: bool| match is_set {
        true => Err(format!("action {action:?} does not use the {field:?} field: it must not be specified")),
        false => Ok(()),
    };
    let sources = [config.value.is_some(), !config.from_attribute.is_empty(), !config.from_context.is_empty()];
    let has_source = sources.contains(&true);
    if !matches!(action.as_str(), "insert" | "update" | "upsert") {
        refuse("value", config.value.is_some())?;
        refuse("from_attribute", !config.from_attribute.is_empty())?;
        refuse("from_context", !config.from_context.is_empty())?;
    }
    if !takes_pattern && action != "extract" {
        refuse("pattern", !config.pattern.is_empty())?;
    }
    if action != "convert" {
        refuse("converted_type", !config.converted_type.is_empty())?;
    }
    let pattern = || {
        Regex::new(&config.pattern)
            .map_err(|error| format!("field \"pattern\" has invalid pattern {:?}: {error}", config.pattern))
    };
    let optional_pattern = || if config.pattern.is_empty() { Ok(None) } else { pattern().map(Some) };
    let source = || {
        if !has_source {
            return Err(
                "either field \"value\", \"from_attribute\" or \"from_context\" setting must be specified".to_owned()
            );
        }
        if sources.iter().filter(|is_set| **is_set).count() > 1 {
            return Err("multiple value sources are set".to_owned());
        }
        match &config.value {
            Some(value) => Ok(Source::Constant(from_json(value))),
            None if !config.from_attribute.is_empty() => Ok(Source::Attribute(config.from_attribute.clone())),
            None => match config.from_context.as_str() {
                context if context.starts_with("auth.") || context == "client.address" => {
                    Err(format!("from_context {context:?} is not supported: only metadata.<header> is"))
                }
                context => Ok(Source::Metadata(context.strip_prefix("metadata.").unwrap_or(context).to_owned())),
            },
        }
    };
    let kind = match action.as_str() {
        "insert" => Kind::Insert(source()?),
        "update" => Kind::Update(source()?),
        "upsert" => Kind::Upsert(source()?),
        "delete" => Kind::Delete(optional_pattern()?),
        "hash" => Kind::Hash(optional_pattern()?),
        "extract" if config.pattern.is_empty() => return Err("missing required field \"pattern\"".to_owned()),
        "extract" => {
            let pattern = pattern()?;
            let mut names = pattern.capture_names().skip(1).peekable();
            if names.peek().is_none() {
                return Err("field \"pattern\" contains no named matcher groups".to_owned());
            }
            if names.any(|name| name.is_none()) {
                return Err("field \"pattern\" contains at least one unnamed matcher group".to_owned());
            }
            Kind::Extract(pattern)
        }
        "convert" => Kind::Convert(match config.converted_type.as_str() {
            "int" => Target::Int,
            "double" => Target::Double,
            "string" => Target::Text,
            "" => return Err("missing required field \"converted_type\"".to_owned()),
            other => return Err(format!("invalid value {other:?} in field \"converted_type\": int, double or string")),
        }),
        other => {
            return Err(format!(
                "unsupported action {other:?} (known: insert, update, upsert, delete, hash, extract, convert)"
            ));
        }
    };
    Ok(Action { key: config.key.clone(), kind })
}

pub fn from_json(json: &Json) -> Value {
    match json {
        Json::Null => Value::Empty,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match number.as_i64() {
            Some(value) => Value::Int(value),
            None => Value::Double(number.as_f64().unwrap_or_default()),
        },
        Json::String(text) => Value::Str(text.clone()),
        Json::Array(items) => Value::Array(items.iter().map(from_json).collect()),
        Json::Object(members) => {
            let entries = members.iter().map(|(key, value)| KeyValue { key: key.clone(), value: from_json(value) });
            Value::Map(entries.collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spanwise_wire::encode::put_attributes;

    fn actions(yaml: &str) -> Result<Actions, String> {
        let node = crate::config::yaml::parse(yaml, 0).unwrap();
        let json = crate::config::decode::to_json(&node);
        let configs: Vec<ActionConfig> = serde_json::from_value(json).unwrap();
        Actions::new(&configs)
    }

    fn after(yaml: &str) -> Vec<(String, Value)> {
        let mut message = Vec::new();
        let before = [
            KeyValue::new("user", "alice"),
            KeyValue { key: "code".to_owned(), value: Value::Int(200) },
            KeyValue::new("url", "/cart/7?x=1"),
            KeyValue::new("num", "12"),
        ];
        put_attributes(&mut message, 9, &before);
        let mut attributes = Attributes::of(&message, 9);
        let metadata =
            Metadata(vec![("X-Tenant".to_owned(), "t1".to_owned()), ("x-tenant".to_owned(), "t2".to_owned())]);
        actions(yaml).unwrap().apply(&mut attributes, &metadata);
        let written = attributes.write(&message, 9);
        let all = spanwise_wire::view::span_attributes(&written);
        all.map(|a| (a.key.to_owned(), spanwise_wire::rewrite::to_value(a.value))).collect()
    }

    fn value(yaml: &str, key: &str) -> Option<Value> {
        after(yaml).into_iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    #[test]
    fn each_action_does_what_the_collectors_does() {
        for (yaml, key, expected) in [
            ("[{key: env, value: prod, action: insert}]", "env", Some(Value::from("prod"))),
            ("[{key: user, value: bob, action: insert}]", "user", Some(Value::from("alice"))),
            ("[{key: user, value: bob, action: update}]", "user", Some(Value::from("bob"))),
            ("[{key: none, value: bob, action: update}]", "none", None),
            ("[{key: user, value: 5, action: UPSERT}]", "user", Some(Value::Int(5))),
            ("[{key: copy, from_attribute: code, action: upsert}]", "copy", Some(Value::Int(200))),
            ("[{key: copy, from_attribute: missing, action: upsert}]", "copy", None),
            ("[{key: t, from_context: metadata.x-tenant, action: insert}]", "t", Some(Value::from("t1;t2"))),
            ("[{key: user, action: delete}]", "user", None),
            ("[{pattern: '^u', action: delete}]", "url", None),
            (
                "[{key: user, action: hash}]",
                "user",
                Some(Value::from("2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db186d6e90")),
            ),
            ("[{key: url, pattern: '^/(?P<area>[a-z]+)/(?P<id>\\d+)', action: extract}]", "id", Some(Value::from("7"))),
            ("[{key: num, converted_type: int, action: convert}]", "num", Some(Value::Int(12))),
            ("[{key: user, converted_type: int, action: convert}]", "user", Some(Value::from("alice"))),
            ("[{key: code, converted_type: double, action: convert}]", "code", Some(Value::Double(200.0))),
            ("[{key: code, converted_type: string, action: convert}]", "code", Some(Value::from("200"))),
        ] {
            assert_eq!(value(yaml, key), expected, "{yaml}");
        }
    }

    #[test]
    fn wrong_actions_are_named() {
        for (yaml, expected) in [
            ("[{action: insert, value: 1}]", "missing required field \"key\" at the 0-th"),
            ("[{key: a, action: insert}]", "setting must be specified"),
            ("[{key: a, action: insert, value: 1, from_attribute: b}]", "multiple value sources"),
            ("[{key: a, action: delete, value: 1}]", "does not use the \"value\" field"),
            ("[{key: a, action: upsert, value: 1, pattern: x}]", "does not use the \"pattern\" field"),
            ("[{key: a, action: extract, pattern: 'x(y)'}]", "unnamed matcher group"),
            ("[{key: a, action: extract, pattern: 'x'}]", "no named matcher groups"),
            ("[{key: a, action: convert, converted_type: bool}]", "invalid value \"bool\""),
            ("[{key: a, action: del}]", "unsupported action \"del\""),
            ("[{key: a, action: hash, pattern: '('}]", "invalid pattern"),
        ] {
            let error = actions(yaml).err().unwrap();
            assert!(error.contains(expected), "{expected:?} in {error:?}");
        }
    }
}
