//! `include` and `exclude`: which spans are meant.

use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use spanwise_model::Value;
use spanwise_wire::rewrite::to_value;
use spanwise_wire::view::{KeyValueView, resource_attributes, scope_name, service_name, span_attributes, span_name};
use spanwise_wire::{Batch, Piece};

use super::actions::from_json;

/// Spans that fulfil every list that is given: one of the names, and all of the attributes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct MatchConfig {
    /// strict or regexp.
    pub match_type: String,
    pub regexp: Option<RegexpConfig>,
    pub services: Vec<String>,
    pub span_names: Vec<String>,
    pub span_kinds: Vec<String>,
    pub attributes: Vec<AttributeConfig>,
    pub resources: Vec<AttributeConfig>,
    pub libraries: Vec<LibraryConfig>,
}

/// Accepted as the collector's configs set it; ours needs no cache.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct RegexpConfig {
    pub cacheenabled: bool,
    pub cachemaxnumentries: u64,
}

/// Any value will do when none is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct AttributeConfig {
    pub key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Json>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct LibraryConfig {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

enum Text {
    Strict(String),
    Pattern(Regex),
}

impl Text {
    fn matches(&self, text: &str) -> bool {
        match self {
            Text::Strict(expected) => expected == text,
            Text::Pattern(pattern) => pattern.is_match(text),
        }
    }
}

enum Expected {
    Any,
    Value(Value),
    Text(Text),
}

struct Attribute {
    key: String,
    expected: Expected,
}

impl Attribute {
    fn is_among<'a>(&self, mut attributes: impl Iterator<Item = KeyValueView<'a>>) -> bool {
        let Some(found) = attributes.find(|attribute| attribute.key == self.key) else { return false };
        match &self.expected {
            Expected::Any => true,
            Expected::Value(expected) => to_value(found.value) == *expected,
            Expected::Text(text) => match to_value(found.value) {
                Value::Str(value) => text.matches(&value),
                Value::Bool(value) => text.matches(&value.to_string()),
                Value::Int(value) => text.matches(&value.to_string()),
                Value::Double(value) => text.matches(&value.to_string()),
                Value::Empty | Value::Bytes(_) | Value::Array(_) | Value::Map(_) => false,
            },
        }
    }
}

pub struct Match {
    services: Vec<Text>,
    span_names: Vec<Text>,
    span_kinds: Vec<Text>,
    attributes: Vec<Attribute>,
    resources: Vec<Attribute>,
    libraries: Vec<(Text, Option<Text>)>,
}

/// As the collector writes them.
const KINDS: [&str; 6] = [
    "SPAN_KIND_UNSPECIFIED",
    "SPAN_KIND_INTERNAL",
    "SPAN_KIND_SERVER",
    "SPAN_KIND_CLIENT",
    "SPAN_KIND_PRODUCER",
    "SPAN_KIND_CONSUMER",
];

impl Match {
    /// # Errors
    /// What is wrong with it.
    pub fn new(config: &MatchConfig) -> Result<Self, String> {
        let is_regexp = match config.match_type.as_str() {
            "strict" => false,
            "regexp" => true,
            "" => return Err("error creating processor: \"match_type\" must be set: strict or regexp".to_owned()),
            other => return Err(format!("unrecognized match_type {other:?}: strict or regexp")),
        };
        let text = |value: &String| match is_regexp {
            true => Regex::new(value).map(Text::Pattern).map_err(|error| error.to_string()),
            false => Ok(Text::Strict(value.clone())),
        };
        let texts = |values: &[String]| values.iter().map(text).collect::<Result<Vec<_>, _>>();
        let attributes = |configs: &[AttributeConfig]| {
            let one = |config: &AttributeConfig| {
                if config.key.is_empty() {
                    return Err("can't have empty key in the list of attributes".to_owned());
                }
                let expected = match &config.value {
                    None => Expected::Any,
                    Some(Json::String(value)) => Expected::Text(text(value)?),
                    Some(_) if is_regexp => return Err(format!("a regular expression is a string: {:?}", config.key)),
                    Some(value) => Expected::Value(from_json(value)),
                };
                Ok(Attribute { key: config.key.clone(), expected })
            };
            configs.iter().map(one).collect::<Result<Vec<_>, String>>()
        };
        if let Some(unknown) = config.span_kinds.iter().find(|kind| !is_regexp && !KINDS.contains(&kind.as_str())) {
            return Err(format!("unknown span kind {unknown:?} (known: {})", KINDS.join(", ")));
        }
        let library =
            |config: &LibraryConfig| Ok((text(&config.name)?, config.version.as_ref().map(text).transpose()?));
        let built = Self {
            services: texts(&config.services)?,
            span_names: texts(&config.span_names)?,
            span_kinds: texts(&config.span_kinds)?,
            attributes: attributes(&config.attributes)?,
            resources: attributes(&config.resources)?,
            libraries: config.libraries.iter().map(library).collect::<Result<_, String>>()?,
        };
        let is_empty = built.services.is_empty()
            && built.span_names.is_empty()
            && built.span_kinds.is_empty()
            && built.attributes.is_empty()
            && built.resources.is_empty()
            && built.libraries.is_empty();
        if is_empty {
            return Err(
                "at least one of \"services\", \"span_names\", \"span_kinds\", \"attributes\", \"libraries\" or \
                        \"resources\" must be specified"
                    .to_owned(),
            );
        }
        Ok(built)
    }

    pub fn matches(&self, batch: &Batch, number: usize) -> bool {
        let Piece { resource, scope, span } = batch.piece(number);
        let any = |texts: &[Text], value: &str| texts.is_empty() || texts.iter().any(|text| text.matches(value));
        let kind = KINDS.get(batch.spans()[number].kind as usize).copied().unwrap_or(KINDS[0]);
        let is_library = || {
            let (name, version) = scope_name(scope);
            self.libraries.is_empty()
                || self.libraries.iter().any(|(expected, expected_version)| {
                    expected.matches(name) && expected_version.as_ref().is_none_or(|expected| expected.matches(version))
                })
        };
        any(&self.services, service_name(resource).unwrap_or_default())
            && any(&self.span_names, span_name(span))
            && any(&self.span_kinds, kind)
            && is_library()
            && self.resources.iter().all(|attribute| attribute.is_among(resource_attributes(resource)))
            && self.attributes.iter().all(|attribute| attribute.is_among(span_attributes(span)))
    }
}
