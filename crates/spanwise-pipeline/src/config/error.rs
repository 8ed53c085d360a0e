//! Config errors as contracts §1 shows them: place, path, source line with a caret, and the nearest known name.

use std::fmt::Write as _;

use super::yaml::Place;

/// One thing that is wrong with a config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    pub place: Place,
    /// As in `exporters.otlp.endpoint`; empty for the source as a whole.
    pub path: String,
    pub message: String,
    /// A known name close to the one that was written.
    pub hint: Option<String>,
}

/// One text that a config was read from.
#[derive(Debug, Clone)]
pub struct Source {
    /// A path, `env:NAME`, `yaml:` or `--set`.
    pub name: String,
    pub text: String,
}

/// All errors of a config, ready to be printed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", self.render())]
pub struct ConfigErrors {
    pub errors: Vec<ConfigError>,
    pub sources: Vec<Source>,
}

impl ConfigErrors {
    fn render(&self) -> String {
        let mut out = String::new();
        for (at, error) in self.errors.iter().enumerate() {
            if at > 0 {
                out.push('\n');
            }
            self.render_one(&mut out, error);
        }
        out
    }

    fn render_one(&self, out: &mut String, error: &ConfigError) {
        let Place { source, line, column } = error.place;
        if let Some(source) = self.sources.get(source) {
            let _ = write!(out, "{}:{line}:{column}: ", source.name);
        }
        let separator = if error.path.is_empty() { "" } else { ": " };
        let _ = write!(out, "error: {}{separator}{}", error.path, error.message);
        let shown = self.sources.get(source).and_then(|source| source.text.lines().nth(line.saturating_sub(1)));
        if let Some(text) = shown {
            let before: String =
                text.chars().take(column.saturating_sub(1)).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            let _ = write!(out, "\n    {text}\n    {before}^");
        }
        if let Some(hint) = &error.hint {
            let _ = write!(out, "\n    did you mean {hint:?}?");
        }
        out.push('\n');
    }
}

/// The known name that differs in at most a third of its letters.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    known
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        .filter(|(distance, known)| *distance <= known.chars().count().max(3) / 3)
        .min()
        .map(|(_, known)| known.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_points_at_its_line() {
        let sources = vec![Source { name: "c.yaml".to_owned(), text: "a:\n  endpont: x\n".to_owned() }];
        let error = ConfigError {
            place: Place { source: 0, line: 2, column: 3 },
            path: "exporters.otlp.endpont".to_owned(),
            message: "unknown key".to_owned(),
            hint: nearest("endpont", ["endpoint", "headers"]),
        };
        let expected = "c.yaml:2:3: error: exporters.otlp.endpont: unknown key\n      endpont: x\n      ^\n    did you mean \"endpoint\"?\n";
        assert_eq!(ConfigErrors { errors: vec![error], sources }.to_string(), expected);
    }

    #[test]
    fn far_names_are_no_hint() {
        assert_eq!(nearest("foo", ["endpoint", "headers"]), None);
        assert_eq!(nearest("bacth", ["batch", "debug"]), Some("batch".to_owned()));
    }
}
