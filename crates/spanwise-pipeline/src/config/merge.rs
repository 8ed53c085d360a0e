//! Several sources make one config: maps merge key by key, everything else is replaced by the later source.

use super::yaml::{Key, Kind, Node, Place};

pub fn merge(into: &mut Node, from: Node) {
    match (&mut into.kind, from.kind) {
        (Kind::Map(entries), Kind::Map(later)) => {
            for (key, node) in later {
                match entries.iter_mut().find(|(known, _)| known.text == key.text) {
                    Some((_, known)) => merge(known, node),
                    None => entries.push((key, node)),
                }
            }
        }
        // `key:` with nothing behind it leaves a map of an earlier source as it is, as in the collector.
        (Kind::Map(_), Kind::Scalar { text, plain: true }) if text.is_empty() => {}
        (kind, from_kind) => {
            *kind = from_kind;
            into.place = from.place;
        }
    }
}

/// Sets `a.b.c` (also `a::b::c`) to `value`, making maps on the way.
pub fn set(root: &mut Node, path: &str, value: Node, place: Place) {
    let separator = if path.contains("::") { "::" } else { "." };
    let keys: Vec<&str> = path.split(separator).collect();
    let nested = keys
        .into_iter()
        .rev()
        .fold(value, |node, key| Node { place, kind: Kind::Map(vec![(Key { text: key.to_owned(), place }, node)]) });
    merge(root, nested);
}

#[cfg(test)]
mod tests {
    use super::super::yaml::parse;
    use super::*;

    #[test]
    fn maps_merge_and_the_rest_is_replaced() {
        let mut config = parse("a: {x: 1, y: [1, 2]}\nb: {}\n", 0).unwrap();
        merge(&mut config, parse("a: {y: [3]}\nb:\nc: 4\n", 1).unwrap());
        let a = config.get("a").unwrap();
        assert!(a.get("x").is_some());
        assert!(matches!(&a.get("y").unwrap().kind, Kind::List(items) if items.len() == 1));
        assert_eq!(a.get("y").unwrap().place.source, 1);
        assert!(config.get("b").unwrap().entries().is_empty() && config.get("c").is_some());
    }

    #[test]
    fn a_setting_makes_its_way() {
        let mut config = parse("", 0).unwrap();
        set(&mut config, "exporters::otlp::endpoint", parse("h:1", 1).unwrap(), Place::default());
        set(&mut config, "exporters.otlp.tls.insecure", parse("true", 1).unwrap(), Place::default());
        let otlp = config.get("exporters").and_then(|node| node.get("otlp")).unwrap();
        assert!(otlp.get("endpoint").is_some() && otlp.get("tls").unwrap().get("insecure").is_some());
    }
}
