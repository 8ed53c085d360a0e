//! `spanwise components`: what a config may name, as a table, as JSON, and as the pages of `docs/components`, which are
//! made from the config structs' doc comments.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::{Value as Json, json};
use spanwise_pipeline::component::{Factory, Kind};

use super::Format;

pub fn components(format: Format, docs: Option<&Path>) -> anyhow::Result<ExitCode> {
    let factories = crate::server::registry().0;
    if let Some(dir) = docs {
        write_docs(&factories, dir)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut out = std::io::stdout().lock();
    if format == Format::Json {
        let list: Json = factories.iter().map(describe).collect();
        writeln!(out, "{}", json!({"components": list}))?;
        return Ok(ExitCode::SUCCESS);
    }
    for kind in Kind::ALL {
        let of_kind: Vec<_> = factories.iter().filter(|factory| factory.kind == kind).collect();
        if !of_kind.is_empty() {
            writeln!(out, "{}", kind.section())?;
        }
        for factory in of_kind {
            writeln!(out, "  {:<20} {:<8} {}", factory.name, factory.stability, factory.summary)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn signals(factory: &Factory) -> Vec<&'static str> {
    factory.signals.iter().map(|signal| signal.as_str()).collect()
}

fn describe(factory: &Factory) -> Json {
    json!({"kind": factory.kind.singular(), "type": factory.name, "aliases": factory.aliases,
        "stability": factory.stability, "signals": signals(factory), "summary": factory.summary})
}

/// An index, a page for each component, and the schemas of all of them.
fn write_docs(factories: &[Factory], dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let write = |name: String, text: String| {
        let path = dir.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    let mut index =
        "# Components\n\nMade by `spanwise components --docs docs/components` from the config structs; `schema.json` \
                     holds the JSON schemas.\n\n| kind | type | signals | stability | |\n|---|---|---|---|---|\n"
            .to_owned();
    let mut schemas = serde_json::Map::new();
    for kind in Kind::ALL {
        let mut of_kind: Vec<_> = factories.iter().filter(|factory| factory.kind == kind).collect();
        of_kind.sort_by_key(|factory| factory.name);
        for factory in of_kind {
            let (kind, name) = (kind.singular(), factory.name);
            let schema = (factory.schema)().to_value();
            let _ = writeln!(
                index,
                "| {kind} | [{name}]({kind}-{name}.md) | {} | {} | {} |",
                signals(factory).join(", "),
                factory.stability,
                factory.summary
            );
            write(format!("{kind}-{name}.md"), page(factory, &schema))?;
            schemas.insert(format!("{kind}/{name}"), schema);
        }
    }
    write("README.md".to_owned(), index)?;
    write("schema.json".to_owned(), format!("{:#}\n", Json::Object(schemas)))
}

fn page(factory: &Factory, schema: &Json) -> String {
    let mut out = format!("# {} `{}`\n\n{}\n", factory.kind.singular(), factory.name, factory.summary);
    let about = schema["description"].as_str().unwrap_or_default();
    if !about.is_empty() {
        let _ = write!(out, "\n{}\n", one_line(about));
    }
    let _ = write!(out, "\nStability: {}.", factory.stability);
    if !factory.signals.is_empty() {
        let _ = write!(out, " Signals: {}.", signals(factory).join(", "));
    }
    if !factory.aliases.is_empty() {
        let _ = write!(out, " Also known as `{}`.", factory.aliases.join("`, `"));
    }
    let mut rows = Rows { root: schema, above: Vec::new(), text: String::new() };
    rows.of(schema, "");
    match rows.text.as_str() {
        "" => out.push_str("\n\nIt has no settings.\n"),
        rows => {
            let _ = write!(out, "\n\n| key | type | default | |\n|---|---|---|---|\n{rows}");
        }
    }
    out
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// The rows of a page's table.
struct Rows<'a> {
    root: &'a Json,
    /// Definitions that are being written: one that holds itself is not written again.
    above: Vec<&'a str>,
    text: String,
}

impl<'a> Rows<'a> {
    fn of(&mut self, schema: &'a Json, prefix: &str) {
        let Some(properties) = schema["properties"].as_object() else { return };
        for (key, property) in properties {
            let (shape, reference, is_list) = self.resolve(property);
            let key = format!("{prefix}{key}{}", if is_list { "[]" } else { "" });
            let about = [property, shape].iter().find_map(|schema| schema["description"].as_str()).unwrap_or_default();
            let has_keys = shape["properties"].as_object().is_some_and(|inner| !inner.is_empty());
            let default = match &property["default"] {
                Json::Null => String::new(),
                _ if has_keys => String::new(),
                default => format!("`{default}`"),
            };
            let kind = type_of(shape);
            let _ = writeln!(self.text, "| `{key}` | {kind} | {} | {} |", one_line(&default), one_line(about));
            if has_keys && !reference.is_some_and(|name| self.above.contains(&name)) {
                self.above.extend(reference);
                self.of(shape, &format!("{key}."));
                self.above.truncate(self.above.len() - usize::from(reference.is_some()));
            }
        }
    }

    /// What a property is behind references, lists and `null`; the definition's name; and whether it is a list.
    fn resolve(&self, property: &'a Json) -> (&'a Json, Option<&'a str>, bool) {
        let (mut schema, mut name, mut is_list) = (property, None, false);
        // Each step goes one level down; a schema is not deeper than this.
        for _ in 0..8 {
            let choices = schema["anyOf"].as_array().or(schema["allOf"].as_array());
            if let Some(reference) = schema["$ref"].as_str() {
                let definition = reference.rsplit('/').next().unwrap_or_default();
                name = Some(definition);
                schema = &self.root["$defs"][definition];
            } else if let Some(choice) = choices.and_then(|choices| choices.iter().find(|one| one["type"] != "null")) {
                schema = choice;
            } else if schema["items"].is_object() {
                is_list = true;
                schema = &schema["items"];
            } else {
                break;
            }
        }
        (schema, name, is_list)
    }
}

fn type_of(schema: &Json) -> String {
    if schema["format"] == "duration" {
        return "duration".to_owned();
    }
    let words: Vec<String> = [&schema["enum"], &schema["oneOf"]]
        .iter()
        .filter_map(|list| list.as_array())
        .flatten()
        .flat_map(|one| match one {
            Json::String(word) => vec![word.clone()],
            one => one["enum"].as_array().unwrap_or(&vec![one["const"].clone()]).iter().map(plain).collect(),
        })
        .collect();
    if !words.is_empty() {
        return words.join(", ");
    }
    match &schema["type"] {
        Json::String(kind) if kind == "object" && schema["additionalProperties"].is_object() => "map".to_owned(),
        Json::String(kind) => kind.clone(),
        Json::Array(kinds) => {
            kinds.iter().filter_map(Json::as_str).find(|kind| *kind != "null").unwrap_or("any").to_owned()
        }
        _ => "any".to_owned(),
    }
}

fn plain(word: &Json) -> String {
    word.as_str().map_or_else(|| word.to_string(), str::to_owned)
}
