//! The columns of a block: the fixed ones, and one for each attribute key and type that is frequent enough.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use rustc_hash::FxHashMap;

use super::shred::{ColumnType, cell};
use spanwise_wire::view::Fields;

/// A key gets a column when at least this share of the block's spans has it: 1/100.
const SHARE: usize = 100;
/// Most attribute columns of one block: each costs about 2 KiB of metadata.
const MOST: usize = 256;

/// Names of attribute columns begin with this; the type stands behind a `:`.
const PREFIX: &str = "attr.";

pub const TRACE_ID: usize = 0;
pub const SPAN_ID: usize = 1;
pub const PARENT_SPAN_ID: usize = 2;
pub const START: usize = 3;
pub const DURATION: usize = 4;
pub const KIND: usize = 5;
pub const STATUS: usize = 6;
pub const FLAGS: usize = 7;
pub const NAME: usize = 8;
pub const RESOURCE: usize = 10;
pub const SCOPE: usize = 11;
pub const LAYOUT: usize = 12;
pub const RESIDUAL: usize = 13;
/// Attribute columns begin here.
pub const ATTRIBUTES: usize = 14;
/// Columns behind the attributes, since format 3: what insight says of the span.
pub const TIMES: usize = 2;
pub const SELF_NS: &str = "self_ns";
pub const CRITICAL_NS: &str = "critical_ns";
/// Behind those, since format 6: how many rows before this one the span's parent stands, if it is one of the
/// [`PARENT_ROWS`] before in the same trace. Then `parent_span_id` is null.
pub const PARENT_ROW: &str = "parent_row";
pub const PARENT_ROWS: usize = 128;
/// Behind that, for other engines: with which probability tail sampling kept the trace, null where all were. The resource
/// has it as well.
pub const KEPT_WITH: &str = "kept_with";
/// Columns behind those of times.
pub const LAST: usize = 2;

/// The attribute columns of a block, in order.
#[derive(Debug, Clone, Default)]
pub struct AttributeColumns {
    pub columns: Vec<(String, ColumnType)>,
}

impl AttributeColumns {
    /// Chooses the columns for these spans.
    pub fn choose<'a>(spans: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut counts: FxHashMap<(&[u8], ColumnType), usize> = FxHashMap::default();
        let mut total = 0usize;
        for span in spans {
            total += 1;
            for field in Fields::new(span).filter(|field| field.number == 9) {
                if let Some((key, cell)) = cell(field.value.bytes()) {
                    *counts.entry((key, cell.column_type())).or_default() += 1;
                }
            }
        }
        let least = total.div_ceil(SHARE).max(1);
        let mut frequent: Vec<_> = counts.into_iter().filter(|(_, count)| *count >= least).collect();
        frequent.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        frequent.truncate(MOST);
        let text = |key: &[u8]| std::str::from_utf8(key).ok().map(str::to_owned);
        let mut columns: Vec<_> =
            frequent.into_iter().filter_map(|((key, kind), _)| Some((text(key)?, kind))).collect();
        columns.sort();
        Self { columns }
    }

    /// Reads the columns back from a block's schema.
    pub fn of_schema(schema: &Schema) -> Self {
        let parse = |field: &Arc<Field>| {
            let (key, kind) = field.name().strip_prefix(PREFIX)?.rsplit_once(':')?;
            let kind = ColumnType::ALL.into_iter().find(|known| known.name() == kind)?;
            Some((key.to_owned(), kind))
        };
        Self { columns: schema.fields().iter().filter_map(parse).collect() }
    }

    pub fn schema(&self) -> Schema {
        let mut fields = vec![
            Field::new("trace_id", DataType::FixedSizeBinary(16), false),
            Field::new("span_id", DataType::FixedSizeBinary(8), false),
            Field::new("parent_span_id", DataType::FixedSizeBinary(8), true),
            Field::new("start_unix_nano", DataType::UInt64, false),
            Field::new("duration_ns", DataType::Int64, false),
            Field::new("kind", DataType::UInt8, false),
            Field::new("status", DataType::UInt8, false),
            Field::new("flags", DataType::UInt32, false),
            Field::new("name", DataType::Utf8, false),
            Field::new("service", DataType::Utf8, false),
            Field::new("resource", DataType::Binary, false),
            Field::new("scope", DataType::Binary, false),
            Field::new("layout", DataType::Binary, false),
            Field::new("residual", DataType::Binary, false),
        ];
        for (key, kind) in &self.columns {
            let data_type = match kind {
                ColumnType::Str => DataType::Utf8,
                ColumnType::Bool => DataType::Boolean,
                ColumnType::Int => DataType::Int64,
                ColumnType::Double => DataType::Float64,
            };
            fields.push(Field::new(format!("{PREFIX}{key}:{}", kind.name()), data_type, true));
        }
        fields.push(Field::new(SELF_NS, DataType::UInt64, true));
        fields.push(Field::new(CRITICAL_NS, DataType::UInt64, true));
        fields.push(Field::new(PARENT_ROW, DataType::UInt32, true));
        fields.push(Field::new(KEPT_WITH, DataType::Float64, true));
        Schema::new(fields)
    }
}
