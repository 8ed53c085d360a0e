//! What the rules read of a span: the same whether a decoded trace or stored bytes stand behind it.

use rustc_hash::FxHashMap;
use spanwise_model::semconv::{self, Keys};
use spanwise_model::{KeyValue, SpanKind, StatusCode, Trace, TraceSpan, Value};

use crate::names::{Name, Names};

/// One span's place in time and among the others; small, and without texts. Ids are as big-endian numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanView {
    pub span_id: u64,
    pub parent_id: Option<u64>,
    pub start_unix_nano: u64,
    pub end_unix_nano: u64,
    pub kind: SpanKind,
    pub status: StatusCode,
    pub service: Name,
    /// Whose clock timed it: see [`semconv::CLOCK`]; its service where nothing names a host.
    pub host: Name,
}

impl SpanView {
    /// Nanoseconds; 0 when the clock ran backwards.
    pub fn duration_ns(&self) -> u64 {
        self.end_unix_nano.saturating_sub(self.start_unix_nano)
    }

    pub fn is_error(&self) -> bool {
        self.status == StatusCode::Error
    }
}

/// A process: what all spans of one resource share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Process {
    pub service: Name,
    pub host: Name,
}

impl Process {
    /// Reads the attributes of a resource.
    pub fn of<'a>(attributes: impl Iterator<Item = (&'a str, Scalar<'a>)>, names: &mut Names) -> Self {
        let mut service = None;
        let mut hosts = [""; semconv::CLOCK.len()];
        let mut seen = [false; semconv::CLOCK.len()];
        for (key, value) in attributes {
            let text = value.as_str();
            if key == "service.name" && service.is_none() {
                service = Some(text);
            }
            if let Some(place) = semconv::CLOCK.iter().position(|clock| *clock == key)
                && !std::mem::replace(&mut seen[place], true)
            {
                hosts[place] = text.unwrap_or_default();
            }
        }
        let service = names.number(service.flatten().unwrap_or(UNKNOWN_SERVICE));
        let host = hosts.into_iter().find(|host| !host.is_empty());
        Self { service, host: host.map_or(service, |host| names.number(host)) }
    }
}

/// What the semantic conventions call a service without a name.
const UNKNOWN_SERVICE: &str = "unknown_service";

/// The spans of a decoded trace, and the names in them.
pub(crate) struct Views {
    pub spans: Vec<SpanView>,
    pub names: Names,
}

pub(crate) fn views(trace: &Trace) -> Views {
    let mut names = Names::default();
    let mut processes = Processes::default();
    let spans = trace.spans.iter().map(|span| view(span, processes.of(span, &mut names))).collect();
    Views { spans, names }
}

/// Processes of decoded spans by the address of what they share.
#[derive(Default)]
pub(crate) struct Processes(FxHashMap<usize, Process>);

impl Processes {
    pub fn of(&mut self, span: &TraceSpan, names: &mut Names) -> Process {
        let address = std::sync::Arc::as_ptr(&span.resource) as usize;
        *self.0.entry(address).or_insert_with(|| Process::of(scalars(&span.resource.attributes), names))
    }

    /// Other things may have those addresses soon.
    pub fn forget(&mut self) {
        self.0.clear();
    }
}

pub(crate) fn view(span: &TraceSpan, process: Process) -> SpanView {
    let span = &span.span;
    SpanView {
        span_id: u64::from_be_bytes(span.span_id.0),
        parent_id: span.parent_span_id.map(|id| u64::from_be_bytes(id.0)),
        start_unix_nano: span.start_unix_nano,
        end_unix_nano: span.end_unix_nano,
        kind: span.kind,
        status: span.status.code,
        service: process.service,
        host: process.host,
    }
}

/// An attribute's value, as far as insight looks at it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scalar<'a> {
    Str(&'a str),
    Bool(bool),
    Int(i64),
    Double(f64),
    /// Bytes, a list, a map, or nothing.
    Other,
}

impl<'a> Scalar<'a> {
    pub fn as_str(self) -> Option<&'a str> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }
}

impl<'a> From<&'a Value> for Scalar<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Str(text) => Self::Str(text),
            Value::Bool(value) => Self::Bool(*value),
            Value::Int(value) => Self::Int(*value),
            Value::Double(value) => Self::Double(*value),
            _ => Self::Other,
        }
    }
}

pub(crate) fn scalars(attributes: &[KeyValue]) -> impl Iterator<Item = (&str, Scalar<'_>)> {
    attributes.iter().map(|attribute| (attribute.key.as_str(), Scalar::from(&attribute.value)))
}

/// Makes the enum, the list of all of it, and what keys each has.
macro_rules! meanings {
    ($($name:ident: $keys:expr),* $(,)?) => {
        /// What an attribute means; of each the keys stand in [`semconv`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Meaning {
            $($name),*
        }

        const MEANINGS: &[Meaning] = &[$(Meaning::$name),*];

        impl Meaning {
            pub const fn keys(self) -> Keys {
                match self {
                    $(Self::$name => $keys),*
                }
            }
        }
    };
}

meanings! {
    Peer: semconv::PEER,
    PeerService: semconv::PEER_SERVICE,
    DbSystem: semconv::DB_SYSTEM,
    DbNamespace: semconv::DB_NAMESPACE,
    DbQueryText: semconv::DB_QUERY_TEXT,
    DbQuerySummary: semconv::DB_QUERY_SUMMARY,
    DbOperation: semconv::DB_OPERATION,
    DbCollection: semconv::DB_COLLECTION,
    HttpMethod: semconv::HTTP_METHOD,
    HttpStatus: semconv::HTTP_STATUS,
    HttpRoute: semconv::HTTP_ROUTE,
    UrlFull: semconv::URL_FULL,
    UrlPath: semconv::URL_PATH,
    UrlWithQuery: semconv::URL_WITH_QUERY,
    RpcSystem: semconv::RPC_SYSTEM,
    RpcService: semconv::RPC_SERVICE,
    RpcMethod: semconv::RPC_METHOD,
    RpcStatus: semconv::RPC_STATUS,
    MessagingSystem: semconv::MESSAGING_SYSTEM,
    MessagingDestination: semconv::MESSAGING_DESTINATION,
    MessagingOperation: semconv::MESSAGING_OPERATION,
    SamplingRate: crate::weight::RATE_KEYS,
}

/// What the rules ask of one span's name and attributes.
pub(crate) trait Attributes {
    fn name(&self) -> &str;
    fn kind(&self) -> SpanKind;
    /// The first attribute of each of the keys that a span has, in order of the keys.
    fn each(&self, meaning: Meaning, visit: &mut dyn FnMut(Scalar<'_>) -> bool);

    /// The first of the keys that is a text, unless that is empty.
    fn text(&self, meaning: Meaning) -> Option<&str>;

    /// The first of the keys, if that is a whole number or a text of one.
    fn number(&self, meaning: Meaning) -> Option<i64> {
        let mut found = None;
        self.each(meaning, &mut |value| {
            found = match value {
                Scalar::Int(number) => Some(number),
                Scalar::Str(text) => text.parse().ok(),
                _ => None,
            };
            false
        });
        found
    }
}

impl Attributes for TraceSpan {
    fn name(&self) -> &str {
        &self.span.name
    }

    fn kind(&self) -> SpanKind {
        self.span.kind
    }

    fn each(&self, meaning: Meaning, visit: &mut dyn FnMut(Scalar<'_>) -> bool) {
        for key in meaning.keys() {
            let found = self.span.attributes.iter().find(|attribute| attribute.key == *key);
            if found.is_some_and(|attribute| !visit(Scalar::from(&attribute.value))) {
                return;
            }
        }
    }

    fn text(&self, meaning: Meaning) -> Option<&str> {
        let of_key = |key: &str| self.span.attributes.iter().find(|attribute| attribute.key == key)?.value.as_str();
        meaning.keys().iter().find_map(|key| of_key(key)).filter(|text| !text.is_empty())
    }
}

/// Slots there are: as many as a mask has bits.
const MOST_SLOTS: usize = 64;
/// Keys of one meaning at most.
const MOST_KEYS: usize = 16;

/// Every key that means something to the rules has a slot.
pub(crate) struct Slots {
    keys: [&'static str; MOST_SLOTS],
    len: usize,
    /// By meaning: the slots of its keys in their order, how many there are, and all of them as a mask.
    of: [[u8; MOST_KEYS]; MEANINGS.len()],
    lens: [usize; MEANINGS.len()],
    masks: [u64; MEANINGS.len()],
}

/// Made by the compiler, which refuses more keys than there is room for.
pub(crate) static SLOTS: Slots = Slots::new();

impl Slots {
    const fn new() -> Self {
        let mut slots = Self {
            keys: [""; MOST_SLOTS],
            len: 0,
            of: [[0; MOST_KEYS]; MEANINGS.len()],
            lens: [0; MEANINGS.len()],
            masks: [0; MEANINGS.len()],
        };
        let mut meaning = 0;
        while meaning < MEANINGS.len() {
            let keys = MEANINGS[meaning].keys();
            let mut number = 0;
            while number < keys.len() {
                let mut slot = 0;
                while slot < slots.len && !is_same(slots.keys[slot], keys[number]) {
                    slot += 1;
                }
                if slot == slots.len {
                    slots.keys[slot] = keys[number];
                    slots.len += 1;
                }
                slots.of[meaning][number] = slot as u8;
                slots.masks[meaning] |= 1 << slot;
                number += 1;
            }
            slots.lens[meaning] = keys.len();
            meaning += 1;
        }
        slots
    }

    pub fn of_key(&self, key: &str) -> Option<u8> {
        self.keys.iter().take(self.len).position(|known| *known == key).map(|slot| slot as u8)
    }

    #[inline]
    fn of(&self, meaning: Meaning) -> &[u8] {
        let (of, len) = (&self.of[meaning as usize], self.lens[meaning as usize]);
        of.get(..len).unwrap_or_default()
    }

    #[inline]
    fn mask(&self, meaning: Meaning) -> u64 {
        self.masks[meaning as usize]
    }
}

const fn is_same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}

/// The name of one span and its attributes that mean something.
pub struct SpanTexts<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: SpanKind,
    /// Which slots have a value.
    present: u64,
    /// By slot, the first of its key; those of earlier spans where none is present.
    values: [Scalar<'a>; MOST_SLOTS],
    /// What came behind the first of a key.
    repeated: Vec<(u8, Scalar<'a>)>,
    /// The probability with which tail sampling kept the span's trace, if not all were.
    pub kept_with: Option<f64>,
    pub(crate) sizes: Vec<(Name, f64)>,
}

impl Default for SpanTexts<'_> {
    fn default() -> Self {
        let (kind, present, repeated, kept_with, sizes) = Default::default();
        Self { name: "", kind, present, values: [Scalar::Other; MOST_SLOTS], repeated, kept_with, sizes }
    }
}

impl<'a> SpanTexts<'a> {
    pub(crate) fn clear(&mut self) {
        self.present = 0;
        self.repeated.clear();
    }

    pub(crate) fn push(&mut self, slot: u8, value: Scalar<'a>) {
        let bit = 1 << (slot & 63);
        if self.present & bit != 0 {
            self.repeated.push((slot, value));
        } else if let Some(first) = self.values.get_mut(usize::from(slot)) {
            *first = value;
            self.present |= bit;
        }
    }

    #[inline]
    fn first(&self, slot: u8) -> Option<Scalar<'a>> {
        let is_present = self.present & 1 << (slot & 63) != 0;
        if is_present { self.values.get(usize::from(slot)).copied() } else { None }
    }

    /// All of them, also those of a key that repeats.
    pub(crate) fn all(&self, meaning: Meaning) -> impl Iterator<Item = Scalar<'a>> {
        let has_any = self.present & SLOTS.mask(meaning) != 0;
        let slots = if has_any { SLOTS.of(meaning) } else { &[] };
        let firsts = slots.iter().filter_map(|slot| self.first(*slot));
        let is_meant = move |slot: u8| has_any && SLOTS.mask(meaning) & 1 << (slot & 63) != 0;
        let repeated = self.repeated.iter().filter(move |(slot, _)| is_meant(*slot));
        firsts.chain(repeated.map(|(_, value)| *value))
    }
}

impl Attributes for SpanTexts<'_> {
    fn name(&self) -> &str {
        self.name
    }

    fn kind(&self) -> SpanKind {
        self.kind
    }

    #[inline]
    fn each(&self, meaning: Meaning, visit: &mut dyn FnMut(Scalar<'_>) -> bool) {
        if self.present & SLOTS.mask(meaning) == 0 {
            return;
        }
        for slot in SLOTS.of(meaning) {
            if self.first(*slot).is_some_and(|value| !visit(value)) {
                return;
            }
        }
    }

    #[inline]
    fn text(&self, meaning: Meaning) -> Option<&str> {
        if self.present & SLOTS.mask(meaning) == 0 {
            return None;
        }
        let found = SLOTS.of(meaning).iter().find_map(|slot| self.first(*slot)?.as_str());
        found.filter(|text| !text.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_every_meaning_has_its_slot() {
        for meaning in MEANINGS {
            let slots: Vec<Option<u8>> = meaning.keys().iter().map(|key| SLOTS.of_key(key)).collect();
            assert_eq!(SLOTS.of(*meaning).iter().copied().map(Some).collect::<Vec<_>>(), slots, "{meaning:?}");
        }
        assert_eq!(SLOTS.of_key("no.such.key"), None);
    }

    #[test]
    fn the_first_of_a_key_counts_and_all_are_there() {
        let rate = SLOTS.of_key("sampling.rate").unwrap();
        let mut texts = SpanTexts::default();
        [3, 5, 4].iter().for_each(|value| texts.push(rate, Scalar::Int(*value)));
        assert_eq!(texts.number(Meaning::SamplingRate), Some(3));
        assert_eq!(texts.all(Meaning::SamplingRate).count(), 3);
        assert_eq!((texts.all(Meaning::Peer).count(), texts.text(Meaning::Peer)), (0, None));
        texts.clear();
        assert_eq!((texts.all(Meaning::SamplingRate).count(), texts.number(Meaning::SamplingRate)), (0, None));
    }
}
