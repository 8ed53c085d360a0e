//! Several formats at once: read in an order of preference, written together.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::limits::{FORMATS, TRACESTATE_WRITE};
use crate::{Baggage, Extract, Format, Inject, Parent, SpanContext};

/// Reads and writes contexts. Cheap to keep, free of global state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Propagator {
    extract: Vec<Format>,
    inject: Vec<Format>,
    state_bytes: usize,
}

/// What a carrier held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extraction {
    /// Who called, by the first format that says so. A span wins over a trace without a span, and that over a decision
    /// alone, wherever they stand in the order.
    pub parent: Option<Parent>,
    /// The format of `parent`.
    pub format: Option<Format>,
    /// Spans of other formats that belong to other traces: worth a link.
    pub others: Vec<SpanContext>,
    /// Baggage of all formats together; of equal keys the first format's wins.
    pub baggage: Baggage,
}

impl Extraction {
    /// The caller's span, if there is one.
    pub fn span(&self) -> Option<&SpanContext> {
        self.parent.as_ref().and_then(Parent::span)
    }
}

/// Names in a list of formats that mean nothing here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownFormats(pub Vec<String>);

impl fmt::Display for UnknownFormats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot use propagators {}: known are ", self.0.join(", "))?;
        Format::ALL.iter().try_for_each(|format| write!(f, "{}, ", format.name()))?;
        f.write_str("none")
    }
}

impl core::error::Error for UnknownFormats {}

impl Default for Propagator {
    /// W3C Trace Context and Baggage.
    fn default() -> Self {
        Self::new([Format::TraceContext, Format::Baggage])
    }
}

impl Propagator {
    /// Reads in the order of `formats`, and writes all of them.
    pub fn new(formats: impl IntoIterator<Item = Format>) -> Self {
        let formats = distinct(formats);
        Self { extract: formats.clone(), inject: formats, state_bytes: TRACESTATE_WRITE }
    }

    /// Writes other formats than it reads.
    #[must_use]
    pub fn inject_with(self, formats: impl IntoIterator<Item = Format>) -> Self {
        Self { inject: distinct(formats), ..self }
    }

    /// Writes at most so many bytes of `tracestate` (the specification asks for 512 at least).
    #[must_use]
    pub fn tracestate_bytes(self, bytes: usize) -> Self {
        Self { state_bytes: bytes, ..self }
    }

    /// From a list as `OTEL_PROPAGATORS` has it: as with OpenTelemetry's composite propagators the last format that finds
    /// a parent wins, so that the programs of a fleet with the same list agree. (The order of preference is thus the
    /// list's from its end.) `none`, alone or among others, means no format at all.
    ///
    /// # Errors
    /// Names that are not known; the propagator of those that are comes with them.
    pub fn from_names(names: &str) -> (Self, Option<UnknownFormats>) {
        let names = || names.split(',').map(str::trim).filter(|name| !name.is_empty());
        if names().any(|name| name == "none") {
            return (Self::new([]), None);
        }
        let unknown = names().filter(|name| Format::from_name(name).is_none()).take(FORMATS);
        let unknown: Vec<_> = unknown.map(String::from).collect();
        let formats: Vec<_> = names().filter_map(Format::from_name).collect();
        let propagator = Self::new(formats.iter().rev().copied()).inject_with(formats);
        (propagator, (!unknown.is_empty()).then_some(UnknownFormats(unknown)))
    }

    /// The formats that are read, in order of preference.
    pub fn extracts(&self) -> &[Format] {
        &self.extract
    }

    /// The formats that are written.
    pub fn injects(&self) -> &[Format] {
        &self.inject
    }

    /// The fixed names that are written.
    pub fn fields(&self) -> impl Iterator<Item = &'static str> {
        self.inject.iter().flat_map(|format| format.fields()).copied()
    }

    /// Reads a carrier. Nothing that it holds makes this fail: what is not legal is as if it were not there.
    pub fn extract(&self, carrier: &(impl Extract + ?Sized)) -> Extraction {
        let mut found = Extraction::default();
        for format in &self.extract {
            if let Some(parent) = format.extract(carrier) {
                found.add(*format, parent);
            }
            if found.baggage.is_empty() {
                format.extract_baggage(carrier, &mut found.baggage);
            } else {
                let mut more = Baggage::new();
                format.extract_baggage(carrier, &mut more);
                let is_new = |key: &str| found.baggage.get(key).is_none();
                let new: Vec<_> = more.iter().filter(|entry| is_new(&entry.key)).cloned().collect();
                for entry in new {
                    found.baggage.insert(&entry.key, &entry.value, &entry.metadata);
                }
            }
        }
        found
    }

    /// Writes a span's context and baggage, and removes what the formats would leave of an older one.
    pub fn inject(&self, span: &SpanContext, baggage: &Baggage, carrier: &mut (impl Inject + ?Sized)) {
        for format in &self.inject {
            format.inject(span, carrier, self.state_bytes);
            format.inject_baggage(baggage, carrier);
        }
    }

    /// Writes baggage alone, where there is no span.
    pub fn inject_baggage(&self, baggage: &Baggage, carrier: &mut (impl Inject + ?Sized)) {
        self.inject.iter().for_each(|format| format.inject_baggage(baggage, carrier));
    }
}

impl Extraction {
    fn add(&mut self, format: Format, parent: Parent) {
        match (&mut self.parent, parent) {
            (Some(Parent::Span(first)), Parent::Span(other)) => {
                if first.trace_id != other.trace_id {
                    self.others.push(other);
                } else if first.state.is_empty() {
                    // The same trace: only W3C headers have what vendors noted.
                    first.state = other.state;
                    first.random |= other.random;
                }
            }
            (known, parent) if known.as_ref().is_none_or(|known| rank(known) < rank(&parent)) => {
                *known = Some(parent);
                self.format = Some(format);
            }
            _ => {}
        }
    }
}

fn rank(parent: &Parent) -> u8 {
    match parent {
        Parent::Decision(_) => 0,
        Parent::Trace { .. } => 1,
        Parent::Span(_) => 2,
    }
}

fn distinct(formats: impl IntoIterator<Item = Format>) -> Vec<Format> {
    let mut kept = Vec::new();
    for format in formats {
        if !kept.contains(&format) && kept.len() < FORMATS {
            kept.push(format);
        }
    }
    kept
}
