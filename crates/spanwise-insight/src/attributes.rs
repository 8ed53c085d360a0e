//! The attributes of a trace's spans and resources, each key and value once: what slow traces may have in common.

use rustc_hash::FxHashMap;
use spanwise_model::Trace;

use crate::names::{Name, Names, Question};
use crate::view::{Meaning, Scalar, scalars};

/// Attributes kept of one trace: beyond it a trace is no example of anything in particular.
const ATTRIBUTES: usize = 256;
/// Keys that are remembered.
const KEYS: usize = 4096;
/// Longest value that is compared.
const VALUE_BYTES: usize = 128;

/// Attributes whose values follow from the outcome or differ from machine to machine without a cause in the request.
pub(crate) fn tells_nothing(key: &str) -> bool {
    const WORDS: [&str; 14] = [
        "status_code",
        "exception.",
        "error",
        "otel.",
        "thread.",
        ".port",
        "duration",
        "traceid",
        "trace_id",
        "span_id",
        "process.pid",
        "telemetry.",
        "code.",
        "user_agent",
    ];
    WORDS.iter().any(|word| key.contains(word))
}

pub(crate) fn attributes(trace: &Trace, names: &mut Names) -> Vec<(Name, Name)> {
    AttributeSet::default().of_trace(trace, names)
}

/// What its operation says of a call already, without what differs from call to call.
fn is_operation(key: &str) -> bool {
    let meanings = [Meaning::DbQueryText, Meaning::UrlPath];
    meanings.iter().any(|meaning| meaning.keys().contains(&key))
}

/// Whom a server was called by. Where the request comes in that is a client; behind it, a machine among others, and
/// each of its spans has another.
fn is_of_client(key: &str) -> bool {
    matches!(key, "client.address" | "client.socket.address" | "http.client_ip")
}

/// What there is to do with the attributes of one key, and which came last.
#[derive(Debug, Clone, Copy, Default)]
pub struct AttributeKey {
    rule: AttributeRule,
    /// The value that came last, and in which of the traces of the set.
    last: Option<(Name, u64)>,
    /// The number that it was, if it was one.
    last_number: Option<i64>,
}

impl AttributeKey {
    /// Its values need not be looked at.
    pub fn is_ignored(&self) -> bool {
        self.rule == AttributeRule::Ignored
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum AttributeRule {
    /// It tells nothing.
    #[default]
    Ignored,
    /// Texts tell nothing: operations have them already.
    NoText(Name),
    /// Each parameter of the text is an attribute; of a URL those behind the question mark.
    Query {
        is_url: bool,
    },
    Kept(Name),
    /// Of the first span of a trace alone.
    KeptOfFirst(Name),
}

/// The attributes of a resource as [`AttributeSet`] keeps them.
pub struct ResourceAttributes(Box<[u64]>);

/// The attributes of one trace after the other, each key and value once. Of the same names from first to last.
#[derive(Default)]
pub struct AttributeSet {
    /// Keys and values, each pair as one number: the first half is the key.
    found: Vec<u64>,
    text: String,
    /// Those that operations tell already are left out.
    is_of_row: bool,
    is_beyond_first: bool,
    /// Traces taken.
    traces: u64,
    keys: FxHashMap<Box<str>, AttributeKey>,
}

impl AttributeSet {
    /// For a row.
    pub fn of_row() -> Self {
        Self { is_of_row: true, ..Self::default() }
    }

    /// Those of a decoded trace.
    pub fn of_trace(&mut self, trace: &Trace, names: &mut Names) -> Vec<(Name, Name)> {
        let mut last_resource = std::ptr::null();
        let began = |place: &usize| trace.spans.get(*place).map(|span| (span.span.start_unix_nano, span.span.span_id));
        let first = (0..trace.spans.len()).min_by_key(began);
        for (place, span) in trace.spans.iter().enumerate() {
            let resource = std::sync::Arc::as_ptr(&span.resource);
            let of_resource = if resource == last_resource { &[][..] } else { &span.resource.attributes[..] };
            last_resource = resource;
            self.at_span(Some(place) == first);
            scalars(&span.span.attributes).for_each(|(key, value)| self.add(key, value, names));
            self.at_span(true);
            scalars(of_resource).for_each(|(key, value)| self.add(key, value, names));
        }
        self.take()
    }

    /// What [`Self::add_known`] needs to know of a key.
    pub fn key(&self, key: &str, names: &mut Names) -> AttributeKey {
        let rule = match key {
            "url.query" => AttributeRule::Query { is_url: false },
            "url.full" | "http.url" | "http.target" => AttributeRule::Query { is_url: true },
            _ => {
                let name = names.number(key);
                match names.asked(name, Question::TellsNothing, tells_nothing) {
                    true => AttributeRule::Ignored,
                    false if self.is_of_row && is_operation(key) => AttributeRule::NoText(name),
                    false if self.is_of_row && is_of_client(key) => AttributeRule::KeptOfFirst(name),
                    false => AttributeRule::Kept(name),
                }
            }
        };
        AttributeKey { rule, last: None, last_number: None }
    }

    /// What comes next is of a span, of the first in order of start or of another.
    pub fn at_span(&mut self, is_first: bool) {
        self.is_beyond_first = !is_first;
    }

    /// An attribute of a span or of a resource.
    pub fn add(&mut self, key: &str, value: Scalar<'_>, names: &mut Names) {
        let mut keys = std::mem::take(&mut self.keys);
        match keys.get_mut(key) {
            Some(known) => self.add_known(known, value, names),
            None => {
                let mut known = self.key(key, names);
                self.add_known(&mut known, value, names);
                if keys.len() >= KEYS {
                    keys.clear();
                }
                keys.insert(key.into(), known);
            }
        }
        self.keys = keys;
    }

    /// The same for whoever keeps what is known of the key.
    pub fn add_known(&mut self, key: &mut AttributeKey, value: Scalar<'_>, names: &mut Names) {
        let rule = match key.rule {
            AttributeRule::KeptOfFirst(_) if self.is_beyond_first => return,
            AttributeRule::KeptOfFirst(name) => AttributeRule::Kept(name),
            rule => rule,
        };
        match (rule, value) {
            (AttributeRule::Query { is_url }, Scalar::Str(text)) => {
                let query = match is_url {
                    false => text,
                    true => text.split_once('?').map_or("", |(_, query)| query),
                };
                for (key, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
                    let name = names.number(&format!("url.query.{key}"));
                    if !names.asked(name, Question::TellsNothing, tells_nothing) {
                        self.put(name, &mut None, value, names);
                    }
                }
            }
            (AttributeRule::Kept(name), Scalar::Str(text)) => {
                key.last_number = None;
                self.put(name, &mut key.last, text, names);
            }
            (AttributeRule::Kept(name) | AttributeRule::NoText(name), Scalar::Bool(value)) => {
                key.last_number = None;
                self.put(name, &mut key.last, if value { "true" } else { "false" }, names);
            }
            (AttributeRule::Kept(name) | AttributeRule::NoText(name), Scalar::Int(value)) => {
                if let (Some((last, trace)), true) = (key.last, key.last_number == Some(value)) {
                    if trace != self.traces && self.has_room() {
                        key.last = Some((last, self.traces));
                        self.found.push(pair(name, last));
                    }
                    return;
                }
                use std::fmt::Write as _;
                let mut text = std::mem::take(&mut self.text);
                text.clear();
                let _ = write!(text, "{value}");
                if self.has_room() {
                    self.put(name, &mut key.last, &text, names);
                    key.last_number = Some(value);
                }
                self.text = text;
            }
            _ => {}
        }
    }

    /// What the attributes of a resource add to each trace that has it, told once.
    pub fn of_resource<'k>(
        &mut self,
        attributes: impl Iterator<Item = (&'k str, Scalar<'k>)>,
        names: &mut Names,
    ) -> ResourceAttributes {
        let found = std::mem::take(&mut self.found);
        // What the spans of the trace have already is to be among them as well.
        self.traces += 1;
        self.at_span(true);
        attributes.for_each(|(key, value)| self.add(key, value, names));
        self.traces += 1;
        ResourceAttributes(std::mem::replace(&mut self.found, found).into())
    }

    pub fn add_resource(&mut self, attributes: &ResourceAttributes) {
        if self.has_room() {
            self.found.extend_from_slice(&attributes.0);
        }
    }

    fn has_room(&self) -> bool {
        self.found.len() < 4 * ATTRIBUTES
    }

    /// A value that is the same as the last one of its key in the trace says nothing new.
    fn put(&mut self, key: Name, last: &mut Option<(Name, u64)>, value: &str, names: &mut Names) {
        if value.len() > VALUE_BYTES || !self.has_room() {
            return;
        }
        let value = match *last {
            Some((known, trace)) if names.text(known) == value => {
                if trace == self.traces {
                    return;
                }
                known
            }
            _ => names.number(value),
        };
        *last = Some((value, self.traces));
        self.found.push(pair(key, value));
    }

    /// What was added since the last time.
    pub fn take(&mut self) -> Vec<(Name, Name)> {
        self.traces += 1;
        self.found.sort_unstable();
        self.found.dedup();
        self.found.truncate(ATTRIBUTES);
        let taken = self.found.iter().map(|pair| ((pair >> 32) as Name, *pair as Name)).collect();
        self.found.clear();
        taken
    }
}

fn pair(key: Name, value: Name) -> u64 {
    u64::from(key) << 32 | u64::from(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attributes of two spans, the second of which began first.
    fn taken(mut set: AttributeSet) -> Vec<(String, String)> {
        let mut names = Names::default();
        let spans = [(false, "10.0.0.2", "u-1"), (true, "192.0.2.7", "u-1")];
        for (is_first, client, user) in spans {
            set.at_span(is_first);
            set.add("client.address", Scalar::Str(client), &mut names);
            set.add("user.id", Scalar::Str(user), &mut names);
        }
        let text = |name: Name| names.text(name).to_owned();
        set.take().into_iter().map(|(key, value)| (text(key), text(value))).collect()
    }

    #[test]
    fn a_row_keeps_who_called_the_first_span_alone() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let user = pair("user.id", "u-1");
        assert_eq!(taken(AttributeSet::of_row()), [pair("client.address", "192.0.2.7"), user.clone()]);
        let all = [pair("client.address", "10.0.0.2"), pair("client.address", "192.0.2.7"), user];
        let mut compared = taken(AttributeSet::default());
        compared.sort_unstable();
        assert_eq!(compared, all, "comparisons have all");
    }
}
