//! What there is to search for: services, their operations, attribute keys and a bounded number of their values.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher as _;

use rustc_hash::{FxBuildHasher, FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};
use spanwise_wire::Batch;
use spanwise_wire::view::{self, Fields, KeyValueView, ValueView};

/// Values kept of one key in one block; beyond it a key is known to have more.
const VALUES: usize = 500;
/// Longest value that is kept; longer ones are not worth completing.
const VALUE_BYTES: usize = 256;
/// Keys, and operations of one service, kept in one block.
const KEYS: usize = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ValueKind {
    String,
    Bool,
    Int,
    Float,
}

impl ValueKind {
    pub fn name(self) -> &'static str {
        match self {
            ValueKind::String => "string",
            ValueKind::Bool => "bool",
            ValueKind::Int => "int",
            ValueKind::Float => "float",
        }
    }
}

/// Values of one key: their text and type, at most [`VALUES`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Values {
    pub values: BTreeSet<(String, ValueKind)>,
    pub more: bool,
}

/// Mergeable: the catalogue of a snapshot is that of its blocks and its head.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Catalogue {
    /// Service → operation → kinds seen (bit n for kind n) and number of spans.
    pub services: BTreeMap<String, BTreeMap<String, (u8, u64)>>,
    pub resource: BTreeMap<String, Values>,
    pub span: BTreeMap<String, Values>,
    pub spans: u64,
    /// Keys of span attributes that stand in the residual of some row of the block: too rare for a column, or of a
    /// type that has none. Unknown in format 1.
    #[serde(default)]
    pub residual: BTreeSet<String>,
    /// There are more of them.
    #[serde(default = "yes")]
    pub more_residual: bool,
    /// Hashes of attributes that were noted already: most spans bring nothing new. Two attributes of one hash would
    /// only cost a completion.
    #[serde(skip)]
    seen: FxHashSet<u64>,
}

fn yes() -> bool {
    true
}

/// Hashes kept before starting over.
const SEEN: usize = 1 << 17;

impl Catalogue {
    pub fn add(&mut self, batch: &Batch, place: usize) {
        let piece = batch.piece(place);
        let Some(span) = batch.spans().get(place) else { return };
        self.spans += 1;
        let service = view::service_name(piece.resource).unwrap_or("unknown_service");
        let name = view::span_name(piece.span);
        let operations = entry(&mut self.services, service);
        if operations.len() < KEYS || operations.contains_key(name) {
            let (kinds, count) = entry(operations, name);
            *kinds |= 1 << span.kind.min(7);
            *count += 1;
        }
        if self.is_new(piece.resource, true) {
            for attribute in view::resource_attributes(piece.resource) {
                note(&mut self.resource, &attribute);
            }
        }
        for field in Fields::new(piece.span).filter(|field| field.number == 9) {
            if self.is_new(field.raw, false) {
                note(&mut self.span, &view::key_value(field.value.bytes()));
            }
        }
    }

    pub fn add_residual(&mut self, key: &str) {
        if self.residual.contains(key) {
            return;
        }
        if self.residual.len() >= KEYS {
            self.more_residual = true;
        } else {
            self.residual.insert(key.to_owned());
        }
    }

    /// Whether an attribute of this key can stand outside of the columns.
    pub fn may_be_residual(&self, key: &str) -> bool {
        self.more_residual || self.residual.contains(key)
    }

    fn is_new(&mut self, bytes: &[u8], is_resource: bool) -> bool {
        if self.seen.len() >= SEEN {
            self.seen.clear();
        }
        self.seen.insert(FxBuildHasher.hash_one((is_resource, bytes)))
    }

    pub fn merge(&mut self, other: &Catalogue) {
        self.spans += other.spans;
        for (service, operations) in &other.services {
            let known = entry(&mut self.services, service);
            for (name, (kinds, count)) in operations {
                let operation = entry(known, name);
                operation.0 |= kinds;
                operation.1 += count;
            }
        }
        for (into, from) in [(&mut self.resource, &other.resource), (&mut self.span, &other.span)] {
            for (key, values) in from {
                let known = entry(into, key);
                known.more |= values.more;
                known.values.extend(values.values.iter().cloned());
            }
        }
    }

    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// # Errors
    /// What does not fit.
    pub fn from_json(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|error| format!("catalogue: {error}"))
    }
}

/// The value of a key, made if missing.
fn entry<'a, V: Default>(map: &'a mut BTreeMap<String, V>, key: &str) -> &'a mut V {
    map.entry(key.to_owned()).or_default()
}

fn note(keys: &mut BTreeMap<String, Values>, attribute: &KeyValueView<'_>) {
    if keys.len() >= KEYS && !keys.contains_key(attribute.key) {
        return;
    }
    entry(keys, attribute.key).note(attribute.value);
}

impl Values {
    fn note(&mut self, value: ValueView<'_>) {
        if self.more {
            return;
        }
        let value = match value {
            ValueView::Str(text) if text.len() <= VALUE_BYTES => (text.to_owned(), ValueKind::String),
            ValueView::Bool(value) => (value.to_string(), ValueKind::Bool),
            ValueView::Int(value) => (value.to_string(), ValueKind::Int),
            ValueView::Double(value) => (value.to_string(), ValueKind::Float),
            _ => return,
        };
        if self.values.len() < VALUES || self.values.contains(&value) {
            self.values.insert(value);
        } else {
            self.more = true;
        }
    }
}

/// Makes the catalogue of a block while its rows are written: most spans bring nothing new, and what is new is told
/// apart column by column.
pub(crate) struct CatalogueBuilder<'a> {
    catalogue: Catalogue,
    operations: FxHashMap<(&'a str, &'a str), (u8, u64)>,
    columns: Vec<ColumnValues<'a>>,
}

struct ColumnValues<'a> {
    key: &'a str,
    values: Values,
    /// Hashes of those values.
    seen: FxHashSet<u64>,
}

impl<'a> CatalogueBuilder<'a> {
    /// For the attribute columns of these keys.
    pub fn new(columns: impl Iterator<Item = &'a str>) -> Self {
        let column = |key| ColumnValues { key, values: Values::default(), seen: FxHashSet::default() };
        Self {
            catalogue: Catalogue::default(),
            operations: FxHashMap::default(),
            columns: columns.map(column).collect(),
        }
    }

    pub fn add_resource(&mut self, header: &[u8]) {
        if self.catalogue.is_new(header, true) {
            for attribute in view::resource_attributes(header) {
                note(&mut self.catalogue.resource, &attribute);
            }
        }
    }

    pub fn add_span(&mut self, service: &'a str, name: &'a str, kind: u8) {
        self.catalogue.spans += 1;
        let (kinds, count) = self.operations.entry((service, name)).or_default();
        *kinds |= 1 << kind.min(7);
        *count += 1;
    }

    /// A value of the column with this number.
    pub fn add_value(&mut self, column: usize, value: ValueView<'_>) {
        let Some(column) = self.columns.get_mut(column) else { return };
        if column.values.more {
            return;
        }
        let hash = match value {
            ValueView::Str(text) => FxBuildHasher.hash_one(text),
            ValueView::Bool(value) => u64::from(value),
            ValueView::Int(value) => value as u64,
            ValueView::Double(value) => value.to_bits(),
            _ => return,
        };
        if column.seen.insert(hash) {
            column.values.note(value);
        }
    }

    /// An attribute that stands in no column.
    pub fn add_residual(&mut self, attribute: &KeyValueView<'_>) {
        if self.catalogue.is_new(attribute.raw, false) {
            self.catalogue.add_residual(attribute.key);
            note(&mut self.catalogue.span, attribute);
        }
    }

    pub fn finish(self) -> Catalogue {
        let mut catalogue = self.catalogue;
        for ((service, name), (kinds, count)) in self.operations {
            let operations = entry(&mut catalogue.services, service);
            if operations.len() < KEYS || operations.contains_key(name) {
                operations.insert(name.to_owned(), (kinds, count));
            }
        }
        for column in self.columns {
            let known = entry(&mut catalogue.span, column.key);
            known.values.extend(column.values.values);
            known.more |= column.values.more || known.values.len() > VALUES;
            while known.values.len() > VALUES {
                known.values.pop_last();
            }
        }
        catalogue
    }
}
