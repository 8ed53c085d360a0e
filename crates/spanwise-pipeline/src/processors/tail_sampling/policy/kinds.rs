//! Policies that ask what a trace is: its status, duration, attributes.

use parking_lot::Mutex;
use regex::Regex;
use spanwise_wire::Batch;
use spanwise_wire::view::{KeyValueView, ValueView, resource_attributes};

use super::super::config::{LatencyConfig, NumericAttributeConfig, StatusCodeConfig, StringAttributeConfig};
use super::{Chance, Policy, SpanView, TraceView};

pub(super) struct AlwaysSample;

impl Policy for AlwaysSample {
    fn evaluate(&self, _: &TraceView<'_>) -> Chance {
        Chance::certain(true)
    }
}

/// Any span has one of the codes.
pub(super) struct StatusCode {
    wanted: [bool; 3],
}

impl StatusCode {
    pub(super) fn new(config: &StatusCodeConfig) -> Result<Self, String> {
        if config.status_codes.is_empty() {
            return Err("expected at least one status code to filter on".to_owned());
        }
        let mut wanted = [false; 3];
        for code in &config.status_codes {
            let place = ["UNSET", "OK", "ERROR"].iter().position(|name| name == code);
            let place = place.ok_or_else(|| format!("unknown status code {code:?}, supported: OK, ERROR, UNSET"))?;
            wanted[place] = true;
        }
        Ok(Self { wanted })
    }
}

impl Policy for StatusCode {
    fn evaluate(&self, trace: &TraceView<'_>) -> Chance {
        let is_wanted = |view: &SpanView<'_>| self.wanted.get(view.span.status as usize).copied().unwrap_or(false);
        Chance::certain(trace.spans.iter().any(is_wanted))
    }
}

/// From the earliest start to the latest end, in whole milliseconds: more than the threshold, and at most the upper
/// one where there is one.
pub(super) struct Latency {
    threshold_ms: u64,
    upper_threshold_ms: u64,
}

impl Latency {
    pub(super) fn new(config: &LatencyConfig) -> Result<Self, String> {
        let LatencyConfig { threshold_ms, upper_threshold_ms } = *config;
        if upper_threshold_ms != 0 && upper_threshold_ms <= threshold_ms {
            return Err("upper_threshold_ms must be greater than threshold_ms".to_owned());
        }
        Ok(Self { threshold_ms, upper_threshold_ms })
    }
}

impl Policy for Latency {
    fn evaluate(&self, trace: &TraceView<'_>) -> Chance {
        let start = trace.spans.iter().map(|view| view.span.start_unix_nano).filter(|start| *start > 0).min();
        let end = trace.spans.iter().map(|view| view.span.end_unix_nano).max();
        let millis = end.unwrap_or(0).saturating_sub(start.unwrap_or(u64::MAX)) / 1_000_000;
        let is_below = self.upper_threshold_ms == 0 || millis <= self.upper_threshold_ms;
        Chance::certain(millis > self.threshold_ms && is_below)
    }
}

/// Any span or resource has the attribute with a value that satisfies `test`; `invert` turns it into: none has.
fn any_attribute(trace: &TraceView<'_>, key: &str, test: impl Fn(ValueView<'_>) -> bool) -> bool {
    let matches = |attribute: KeyValueView<'_>| attribute.key == key && test(attribute.value);
    let mut last: Option<(*const Batch, usize)> = None;
    trace.spans.iter().any(|view| {
        let (batch, resource) = view.resource();
        let is_new = last != Some((batch, resource));
        last = Some((batch, resource));
        (is_new && resource_attributes(batch.resource_header(resource)).any(matches)) || view.attributes().any(matches)
    })
}

pub(super) struct NumericAttribute {
    key: String,
    min: i64,
    max: i64,
    invert: bool,
}

impl NumericAttribute {
    pub(super) fn new(config: &NumericAttributeConfig) -> Result<Self, String> {
        if config.key.is_empty() {
            return Err("numeric_attribute requires a \"key\"".to_owned());
        }
        let (min, max) = (config.min_value.unwrap_or(i64::MIN), config.max_value.unwrap_or(i64::MAX));
        if min > max {
            return Err("min_value must not be greater than max_value".to_owned());
        }
        Ok(Self { key: config.key.clone(), min, max, invert: config.invert_match })
    }
}

impl Policy for NumericAttribute {
    fn evaluate(&self, trace: &TraceView<'_>) -> Chance {
        let is_within = |value: ValueView<'_>| matches!(value, ValueView::Int(n) if self.min <= n && n <= self.max);
        Chance::certain(any_attribute(trace, &self.key, is_within) != self.invert)
    }
}

pub(super) struct StringAttribute {
    key: String,
    values: Values,
    invert: bool,
}

enum Values {
    Exact(Vec<String>),
    Pattern { patterns: Vec<Regex>, seen: Mutex<lru::LruCache<String, bool>> },
}

impl StringAttribute {
    pub(super) fn new(config: &StringAttributeConfig) -> Result<Self, String> {
        if config.key.is_empty() {
            return Err("string_attribute requires a \"key\"".to_owned());
        }
        let values = if config.enabled_regex_matching {
            let patterns = config.values.iter().map(|text| Regex::new(text)).collect::<Result<_, _>>();
            let size = std::num::NonZeroUsize::new(config.cache_max_size).unwrap_or(DEFAULT_CACHE);
            Values::Pattern {
                patterns: patterns.map_err(|error| error.to_string())?,
                seen: Mutex::new(lru::LruCache::new(size)),
            }
        } else {
            Values::Exact(config.values.iter().filter(|value| !value.is_empty()).cloned().collect())
        };
        Ok(Self { key: config.key.clone(), values, invert: config.invert_match })
    }

    fn matches(&self, text: &str) -> bool {
        match &self.values {
            Values::Exact(values) => values.iter().any(|value| value == text),
            Values::Pattern { patterns, seen } => {
                if let Some(known) = seen.lock().get(text) {
                    return *known;
                }
                let is_match = patterns.iter().any(|pattern| pattern.is_match(text));
                seen.lock().put(text.to_owned(), is_match);
                is_match
            }
        }
    }
}

const DEFAULT_CACHE: std::num::NonZeroUsize = std::num::NonZeroUsize::new(128).expect("not zero");

impl Policy for StringAttribute {
    fn evaluate(&self, trace: &TraceView<'_>) -> Chance {
        let is_match = |value: ValueView<'_>| matches!(value, ValueView::Str(text) if self.matches(text));
        Chance::certain(any_attribute(trace, &self.key, is_match) != self.invert)
    }
}
