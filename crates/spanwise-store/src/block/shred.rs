//! A span's bytes into columns and back. Lossless: what comes back is the same message, byte layout aside.
//!
//! Ids, times, name, kind, status code and flags have columns of their own. An attribute whose key and type have a
//! column in this block goes there; the span's *layout* says, for each attribute in order, which column holds it (1 +
//! its number) or that it stands raw in the residual (0). Everything else is residual, as raw fields in their order.

use rustc_hash::FxHashMap;
use spanwise_wire::SpanRef;
use spanwise_wire::encode::{
    put_fixed32, put_fixed64, put_len_field, put_message, put_str, put_tag, put_uint, put_varint,
};
use spanwise_wire::view::{Field, FieldValue, Fields};

use crate::scan::{Attribute, ByKey, ScannedSpan, Scanner};

/// Types that attribute columns can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ColumnType {
    Str,
    Bool,
    Int,
    Double,
}

impl ColumnType {
    pub const ALL: [ColumnType; 4] = [ColumnType::Str, ColumnType::Bool, ColumnType::Int, ColumnType::Double];

    pub fn name(self) -> &'static str {
        match self {
            ColumnType::Str => "string",
            ColumnType::Bool => "bool",
            ColumnType::Int => "int",
            ColumnType::Double => "double",
        }
    }
}

/// A value that an attribute column can hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cell<'a> {
    Str(&'a str),
    Bool(bool),
    Int(i64),
    Double(f64),
}

impl Cell<'_> {
    pub fn column_type(&self) -> ColumnType {
        match self {
            Cell::Str(_) => ColumnType::Str,
            Cell::Bool(_) => ColumnType::Bool,
            Cell::Int(_) => ColumnType::Int,
            Cell::Double(_) => ColumnType::Double,
        }
    }
}

/// Key and cell of an attribute, when a column can hold all of it: a key, one value, nothing else.
pub fn cell(key_value_body: &[u8]) -> Option<(&[u8], Cell<'_>)> {
    let (key, value) = key_and_value(key_value_body).filter(|(key, _)| !key.is_empty())?;
    let cell = match value {
        [0x0a, ..] => match text_field(value, 1)? {
            (text, []) => Cell::Str(std::str::from_utf8(text).ok()?),
            _ => return None,
        },
        [0x10, value @ (0 | 1)] => Cell::Bool(*value == 1),
        [0x18, varint @ ..] => {
            let mut at = 0;
            let value = read_varint(varint, &mut at)?;
            (at == varint.len()).then_some(Cell::Int(value as i64))?
        }
        [0x21, bytes @ ..] => Cell::Double(f64::from_le_bytes(bytes.try_into().ok()?)),
        _ => return None,
    };
    Some((key, cell))
}

/// Key and `AnyValue` of an attribute that has the two in this order and nothing else, as everybody writes it.
fn key_and_value(key_value_body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (key, rest) = text_field(key_value_body, 1)?;
    let (value, rest) = text_field(rest, 2)?;
    rest.is_empty().then_some((key, value))
}

/// The content of the length-delimited field `number`, below 16, that the bytes begin with, and what follows it.
fn text_field(bytes: &[u8], number: u8) -> Option<(&[u8], &[u8])> {
    let rest = bytes.strip_prefix(&[number << 3 | 2])?;
    if let [len @ ..=0x7f, rest @ ..] = rest {
        return rest.split_at_checked(usize::from(*len));
    }
    let mut at = 0;
    let len = read_varint(rest, &mut at)?;
    rest.get(at..)?.split_at_checked(usize::try_from(len).ok()?)
}

/// Takes spans apart, one after the other, and keeps its buffers and what it learned for the next.
pub struct Shredder<'a> {
    lookup: FxHashMap<(&'a [u8], ColumnType), u32>,
    /// The columns of each key, by type.
    of_key: ByKey<[Option<u32>; ColumnType::ALL.len()]>,
    /// By column: the span that it was used for last, counted from 1.
    used: Vec<u64>,
    spans: u64,
    row: Shredded<'a>,
}

/// What the attributes of a span, and its fields without a column, leave for its row.
#[derive(Debug, Default, PartialEq)]
pub struct Shredded<'a> {
    /// Column number and value, each column at most once.
    pub cells: Vec<(usize, Cell<'a>)>,
    pub layout: Vec<u8>,
    pub residual: Vec<u8>,
    /// Bodies of the attributes that stand in the residual.
    pub raw_attributes: Vec<&'a [u8]>,
}

impl<'a> Shredder<'a> {
    pub fn new(columns: &'a [(String, ColumnType)]) -> Self {
        let number =
            |(number, (key, kind)): (usize, &'a (String, ColumnType))| ((key.as_bytes(), *kind), number as u32);
        Self {
            lookup: columns.iter().enumerate().map(number).collect(),
            of_key: ByKey::default(),
            used: vec![0; columns.len()],
            spans: 0,
            row: Shredded::default(),
        }
    }

    /// The column for an attribute, if the block has one that this span does not use yet.
    fn column(&mut self, attribute: &Attribute<'a>, cell: Cell<'a>, scanner: &Scanner<'a>) -> Option<usize> {
        let lookup = &self.lookup;
        let columns =
            self.of_key.of(attribute, scanner, |key| ColumnType::ALL.map(|kind| lookup.get(&(key, kind)).copied()));
        let number = (*columns.get(cell.column_type() as usize)?)? as usize;
        let used = self.used.get_mut(number)?;
        if *used == self.spans {
            return None;
        }
        *used = self.spans;
        Some(number)
    }

    /// Takes a span apart; all spans were read by the same scanner.
    pub fn shred(&mut self, scanned: &ScannedSpan<'_, 'a>, span: &SpanRef, scanner: &Scanner<'a>) -> &Shredded<'a> {
        self.spans += 1;
        let mut row = std::mem::take(&mut self.row);
        row.cells.clear();
        row.layout.clear();
        row.residual.clear();
        row.raw_attributes.clear();
        let mut statuses = 0;
        let mut rest = scanned.rest.iter().peekable();
        for (place, attribute) in scanned.attributes.iter().enumerate() {
            while let Some(other) = rest.next_if(|other| other.behind <= place) {
                put_rest(&other.field, span, &mut statuses, &mut row.residual);
            }
            let found = attribute.cell.and_then(|cell| Some((self.column(attribute, cell, scanner)?, cell)));
            match found {
                Some((number, cell)) => {
                    put_varint(&mut row.layout, number as u64 + 1);
                    row.cells.push((number, cell));
                }
                None => {
                    put_varint(&mut row.layout, 0);
                    row.residual.extend_from_slice(attribute.raw);
                    row.raw_attributes.push(attribute.body);
                }
            }
        }
        rest.for_each(|other| put_rest(&other.field, span, &mut statuses, &mut row.residual));
        if statuses > 1 {
            // Several are one message merged: rare enough to keep them all as they are.
            put_raw_statuses(scanned.piece.span, &mut row);
        }
        self.row = row;
        &self.row
    }
}

fn put_rest(field: &Field<'_>, span: &SpanRef, statuses: &mut usize, residual: &mut Vec<u8>) {
    match (field.number, field.value) {
        // A kind that OTLP does not define stands in the residual, if it is the one that counts.
        (6, _) if span.kind != 0 => {}
        (15, FieldValue::Len(status)) => {
            *statuses += 1;
            if *statuses == 1 && !is_code_alone(status, span.status) {
                residual.extend_from_slice(field.raw);
            }
        }
        _ => residual.extend_from_slice(field.raw),
    }
}

fn is_code_alone(status: &[u8], code: u8) -> bool {
    let mut fields = Fields::new(status);
    let first = fields.next();
    code != 0
        && fields.next().is_none()
        && matches!(first, Some(field) if field.number == 3 && field.value == FieldValue::Varint(u64::from(code)))
}

fn put_raw_statuses(body: &[u8], row: &mut Shredded<'_>) {
    let kept = std::mem::take(&mut row.residual);
    for field in Fields::new(&kept).filter(|field| field.number != 15) {
        row.residual.extend_from_slice(field.raw);
    }
    for field in Fields::new(body).filter(|field| field.number == 15) {
        row.residual.extend_from_slice(field.raw);
    }
}

/// Puts a span together again. `cell` answers a column's key and this row's value.
pub fn assemble<'a>(
    span: &SpanRef,
    name: &str,
    flags: u32,
    layout: &[u8],
    residual: &[u8],
    cell: impl Fn(usize) -> Option<(&'a str, Cell<'a>)>,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(residual.len() + 256);
    put_len_field(&mut out, 1, &span.trace_id.0);
    put_len_field(&mut out, 2, &span.span_id.0);
    if !span.parent_span_id.is_zero() {
        put_len_field(&mut out, 4, &span.parent_span_id.0);
    }
    put_str(&mut out, 5, name);
    put_uint(&mut out, 6, u64::from(span.kind));
    put_fixed64(&mut out, 7, span.start_unix_nano);
    put_fixed64(&mut out, 8, span.end_unix_nano);
    let mut raw_attributes = Fields::new(residual).filter(|field| field.number == 9);
    let mut at = 0;
    while at < layout.len() {
        let Some(entry) = read_varint(layout, &mut at) else { break };
        match entry {
            0 => out.extend_from_slice(raw_attributes.next().map_or(&[][..], |field| field.raw)),
            number => {
                if let Some((key, cell)) = cell(number as usize - 1) {
                    put_cell(&mut out, key, cell);
                }
            }
        }
    }
    let mut has_status = false;
    for field in Fields::new(residual).filter(|field| field.number != 9) {
        has_status |= field.number == 15;
        out.extend_from_slice(field.raw);
    }
    if span.status != 0 && !has_status {
        put_message(&mut out, 15, |out| put_uint(out, 3, u64::from(span.status)));
    }
    put_fixed32(&mut out, 16, flags);
    out
}

/// The attribute columns that a layout refers to.
pub fn layout_columns(layout: &[u8]) -> impl Iterator<Item = usize> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || if at < layout.len() { read_varint(layout, &mut at) } else { None })
        .filter_map(|entry| usize::try_from(entry).ok()?.checked_sub(1))
}

fn read_varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return (shift < 63 || byte <= 1).then_some(value);
        }
    }
    None
}

fn put_cell(out: &mut Vec<u8>, key: &str, cell: Cell<'_>) {
    put_message(out, 9, |out| {
        put_str(out, 1, key);
        put_message(out, 2, |out| match cell {
            Cell::Str(text) => put_len_field(out, 1, text.as_bytes()),
            Cell::Bool(value) => {
                put_tag(out, 2, 0);
                put_varint(out, u64::from(value));
            }
            Cell::Int(value) => {
                put_tag(out, 3, 0);
                put_varint(out, value as u64);
            }
            Cell::Double(value) => {
                put_tag(out, 4, 1);
                out.extend_from_slice(&value.to_le_bytes());
            }
        });
    });
}
