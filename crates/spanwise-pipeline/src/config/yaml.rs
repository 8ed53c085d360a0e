//! YAML as a tree that knows where each thing stands, so that every error can point at its line.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use spanwise_model::limits;

/// Where something stands in a source. Lines and columns count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord)]
pub struct Place {
    /// Index into [`super::Sources`].
    pub source: usize,
    pub line: usize,
    pub column: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub place: Place,
    pub kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// `plain` scalars may read as numbers, booleans or null; quoted ones are always text.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    pub text: String,
    pub place: Place,
}

/// A source that is not YAML, or YAML beyond what a config needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct YamlError {
    pub place: Place,
    pub message: String,
}

impl Node {
    pub fn null(place: Place) -> Node {
        Node { place, kind: Kind::Scalar { text: String::new(), plain: true } }
    }

    pub fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    pub fn entries(&self) -> &[(Key, Node)] {
        match &self.kind {
            Kind::Map(entries) => entries,
            _ => &[],
        }
    }

    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|(known, _)| known.text == key).map(|(_, node)| node)
    }

    /// What this is called in an error message.
    pub fn describe(&self) -> &'static str {
        match &self.kind {
            Kind::Scalar { .. } if self.is_null() => "nothing",
            Kind::Scalar { .. } => "a single value",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a map",
        }
    }
}

struct Builder<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    source: usize,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

/// Parses one document; an empty source is an empty map.
///
/// # Errors
/// On anything that is not one YAML document, on duplicate keys, and beyond the limits.
pub fn parse(text: &str, source: usize) -> Result<Node, YamlError> {
    let start = Place { source, line: 1, column: 1 };
    if text.len() > limits::CONFIG_BYTES {
        let message = format!("config is larger than {} bytes", limits::CONFIG_BYTES);
        return Err(YamlError { place: start, message });
    }
    let mut builder = Builder { parser: Parser::new_from_str(text), source, anchors: HashMap::new(), nodes: 0 };
    let mut root = None;
    loop {
        let (event, span) = builder.next()?;
        match event {
            Event::StreamEnd => break,
            Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
            event if root.is_none() => root = Some(builder.node(event, span, 0)?),
            _ => {
                let message = "a config is one YAML document; this source has several".to_owned();
                return Err(YamlError { place: builder.place(span), message });
            }
        }
    }
    Ok(root.filter(|node| !node.is_null()).unwrap_or(Node { place: start, kind: Kind::Map(Vec::new()) }))
}

impl<'a> Builder<'a> {
    fn place(&self, span: Span) -> Place {
        Place { source: self.source, line: span.start.line(), column: span.start.col() + 1 }
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), YamlError> {
        match self.parser.next() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => {
                let marker = error.marker();
                let place = Place { source: self.source, line: marker.line(), column: marker.col() + 1 };
                Err(YamlError { place, message: error.info().to_owned() })
            }
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, YamlError> {
        let place = self.place(span);
        let fail = |message: &str| Err(YamlError { place, message: message.to_owned() });
        if depth > limits::CONFIG_DEPTH {
            return fail("nested too deeply");
        }
        self.nodes += 1;
        if self.nodes > limits::CONFIG_NODES {
            return fail("too many values; do aliases multiply them?");
        }
        let (kind, anchor) = match event {
            Event::Scalar(text, style, anchor, _) => {
                (Kind::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain }, anchor)
            }
            Event::SequenceStart(anchor, _) => (self.list(depth)?, anchor),
            Event::MappingStart(anchor, _) => (self.map(depth)?, anchor),
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else { return fail("unknown alias") };
                self.nodes += size(&node);
                return Ok(node);
            }
            _ => return fail("unexpected end"),
        };
        let node = Node { place, kind };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Kind, YamlError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Kind::List(items)),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Kind, YamlError> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut merged: Vec<(Key, Node)> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                merged.retain(|(key, _)| entries.iter().all(|(known, _)| known.text != key.text));
                entries.extend(merged);
                return Ok(Kind::Map(entries));
            }
            let key = self.node(event, span, depth + 1)?;
            let Kind::Scalar { text, .. } = key.kind else {
                return Err(YamlError { place: key.place, message: "a key must be a single value".to_owned() });
            };
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            if text == "<<" {
                merged.extend(value.entries().iter().cloned());
                continue;
            }
            if entries.iter().any(|(known, _)| known.text == text) {
                let message = format!("mapping key {text:?} already defined");
                return Err(YamlError { place: key.place, message });
            }
            entries.push((Key { text, place: key.place }, value));
        }
    }
}

fn size(node: &Node) -> usize {
    1 + match &node.kind {
        Kind::Scalar { .. } => 0,
        Kind::List(items) => items.iter().map(size).sum(),
        Kind::Map(entries) => entries.iter().map(|(_, node)| size(node)).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_those_of_an_editor() {
        let root = parse("a: 1\nb:\n  - x\n  - {c: 'no'}\n", 0).unwrap();
        let list = root.get("b").unwrap();
        let Kind::List(items) = &list.kind else { panic!("no list") };
        assert_eq!((items[1].entries()[0].0.place.line, items[1].entries()[0].0.place.column), (4, 6));
        assert_eq!(items[1].get("c").unwrap().kind, Kind::Scalar { text: "no".to_owned(), plain: false });
    }

    #[test]
    fn aliases_merge_and_are_bounded() {
        let root = parse("base: &b {x: 1, y: 2}\nuse:\n  <<: *b\n  y: 3\n", 0).unwrap();
        let keys: Vec<_> = root.get("use").unwrap().entries().iter().map(|(key, _)| key.text.as_str()).collect();
        assert_eq!(keys, ["y", "x"]);
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..9 {
            let below = format!("*a{}", level - 1);
            bomb += &format!("a{level}: &a{level} [{}]\n", [below.as_str(); 10].join(","));
        }
        assert!(parse(&bomb, 0).unwrap_err().message.contains("too many"));
    }

    #[test]
    fn broken_yaml_says_where() {
        assert_eq!(parse("a: [1, 2\nb: 3\n", 0).unwrap_err().place.line, 2);
        assert!(parse("a: 1\na: 2\n", 0).unwrap_err().message.contains("already defined"));
        assert!(parse("", 0).unwrap().entries().is_empty());
    }

    #[test]
    fn config_bytes_at_the_limit_and_one_past_it() {
        let of = |bytes: usize| parse(&format!("x: {}", "y".repeat(bytes - 3)), 0);
        assert!(of(limits::CONFIG_BYTES).is_ok());
        assert!(of(limits::CONFIG_BYTES + 1).unwrap_err().message.contains("larger than"));
    }

    #[test]
    fn config_depth_at_the_limit_and_one_past_it() {
        let of = |depth: usize| parse(&format!("{}x{}", "[".repeat(depth), "]".repeat(depth)), 0);
        assert!(of(limits::CONFIG_DEPTH).is_ok());
        assert_eq!(of(limits::CONFIG_DEPTH + 1).unwrap_err().message, "nested too deeply");
    }

    #[test]
    fn config_nodes_at_the_limit_and_one_past_it() {
        // The list counts too.
        let of = |values: usize| parse(&format!("[{}]", "x,".repeat(values)), 0);
        assert!(of(limits::CONFIG_NODES - 1).is_ok());
        assert!(of(limits::CONFIG_NODES).unwrap_err().message.contains("too many values"));
        // Nine aliases of nine aliases and so on: a billion values in a few lines.
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let below = format!("*a{}, ", level - 1).repeat(9);
            bomb.push_str(&format!("a{level}: &a{level} [{below}]\n"));
        }
        assert!(parse(&bomb, 0).unwrap_err().message.contains("too many values"));
    }
}
