//! Different rates for different operations.

use opentelemetry::KeyValue;
use opentelemetry::trace::SpanKind;

use super::Root;

/// The first rule that fits decides, otherwise the default.
#[derive(Debug)]
pub struct Rules {
    rules: Vec<Rule>,
    default: Root,
}

/// What the first span of a trace must be like, and what is decided then. An empty rule fits every span.
#[derive(Debug)]
pub struct Rule {
    name: Option<String>,
    kind: Option<SpanKind>,
    attributes: Vec<(String, String)>,
    then: Root,
}

impl Rules {
    /// No rules yet.
    pub fn new(default: Root) -> Self {
        Self { rules: Vec::new(), default }
    }

    /// Asked after the rules before it.
    #[must_use]
    pub fn with(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    pub(super) fn pick(&self, name: &str, kind: &SpanKind, attributes: &[KeyValue]) -> &Root {
        let rule = self.rules.iter().find(|rule| rule.fits(name, kind, attributes));
        rule.map_or(&self.default, |rule| &rule.then)
    }
}

impl Rule {
    /// Fits everything.
    pub fn new(then: Root) -> Self {
        Self { name: None, kind: None, attributes: Vec::new(), then }
    }

    /// The span's name; `*` stands for any characters.
    #[must_use]
    pub fn name(self, pattern: &str) -> Self {
        Self { name: Some(pattern.into()), ..self }
    }

    /// The span's kind.
    #[must_use]
    pub fn kind(self, kind: SpanKind) -> Self {
        Self { kind: Some(kind), ..self }
    }

    /// An attribute that the span is started with; `*` in the value stands for any characters.
    #[must_use]
    pub fn attribute(mut self, key: &str, pattern: &str) -> Self {
        self.attributes.push((key.into(), pattern.into()));
        self
    }

    fn fits(&self, name: &str, kind: &SpanKind, attributes: &[KeyValue]) -> bool {
        self.name.as_ref().is_none_or(|pattern| matches(pattern, name))
            && self.kind.as_ref().is_none_or(|wanted| wanted == kind)
            && self.attributes.iter().all(|(key, pattern)| {
                attributes.iter().any(|have| have.key.as_str() == key && matches(pattern, &have.value.as_str()))
            })
    }
}

/// The parts between stars, each as early as it fits: no backtracking.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, pattern)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let (middle, last) = pattern.rsplit_once('*').map_or((None, pattern), |(middle, last)| (Some(middle), last));
    for part in middle.into_iter().flat_map(|middle| middle.split('*')) {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampling::Threshold;

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("GET /health", "GET /health", true),
            ("GET /health", "GET /healthz", false),
            ("GET *", "GET /x", true),
            ("*", "", true),
            ("*/health*", "GET /healthz", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("a**c", "abc", true),
            ("ab*bc", "abc", false),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let share = |p: f64| Root::Probability(Threshold::from_probability(p).unwrap());
        let rules = Rules::new(share(0.5))
            .with(Rule::new(Root::AlwaysOff).name("GET /health*").kind(SpanKind::Server))
            .with(Rule::new(share(0.25)).attribute("url.path", "/admin/*"))
            .with(Rule::new(Root::AlwaysOn).name("GET *").kind(SpanKind::Client));
        let picked = |name: &str, kind, attributes: &[KeyValue]| match rules.pick(name, &kind, attributes) {
            Root::AlwaysOff => "off".to_string(),
            Root::AlwaysOn => "on".to_string(),
            Root::Probability(threshold) => threshold.to_string(),
            other => panic!("{other:?}"),
        };
        let admin = [KeyValue::new("url.path", "/admin/x")];
        assert_eq!(picked("GET /healthz", SpanKind::Server, &[]), "off");
        assert_eq!(picked("GET /healthz", SpanKind::Internal, &[]), "8");
        assert_eq!(picked("x", SpanKind::Server, &admin), "c");
        assert_eq!(picked("GET /x", SpanKind::Client, &[]), "on");
        assert_eq!(picked("GET /x", SpanKind::Server, &[]), "8");
    }
}
