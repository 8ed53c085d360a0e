//! From the rows of a block to its file of postings.

use rustc_hash::{FxHashMap, FxHashSet};
use spanwise_wire::encode::put_varint;
use spanwise_wire::view::{self, ValueView};

use super::bits::BitWriter;
use super::{BUCKETS, INT, KEY, MAGIC, Of, Slowest, TEXT, hash, put_block, put_slowest, split_hash};
use crate::block::write::Row;
use crate::scan::{Attribute, ByKey, ScannedSpan, ScannedTrace, Scanner};

/// Of the lists of values, for each span: keys whose values are listed at the least cost go first.
pub const BUDGET_BITS: usize = 5;
/// Small blocks may spend so much.
const BUDGET_BITS_LEAST: usize = 64 << 10;
/// Traces that the cost of a key is guessed from.
const SAMPLE_TRACES: usize = 2048;
/// A value that more than one in so many traces has is not listed, but for so few traces.
const MANY: usize = 64;
const MANY_LEAST: usize = 16;
/// Nor are the failed spans of a service of which more than one in so many traces has some.
const MANY_ERRORS: usize = 16;
/// Of each service one in so many spans is among its longest, and at least so many.
const SLOWEST: usize = 128;
const SLOWEST_LEAST: usize = 64;
/// Services, and keys of resources, of one block.
const SERVICES: usize = 4096;
/// Keys of spans that are listed.
const KEYS: usize = 1024;
/// Values on one page, about.
const PAGE_VALUES: usize = 256;
/// Bits by which a value's hash is told from those of others: one in 128 that are not there is looked for in vain.
const SURE_BITS: u32 = 7;
/// Of an entry beside the bits of its trace's number, about.
const ENTRY_BITS: usize = 10;
/// Beyond this doubles lose digits of whole numbers.
const WHOLE: f64 = 9_007_199_254_740_992.0;

/// What is known of a key while the block is looked through.
#[derive(Default)]
struct KeyState {
    is_listed: bool,
    /// Hashes of values that are not worth listing.
    many: FxHashSet<u64>,
    /// Hash of the value and number of the trace.
    pairs: Vec<(u64, u32)>,
}

#[derive(Default)]
struct ServiceState {
    name: String,
    /// Duration and row.
    spans: Vec<(u64, u32)>,
    /// Traces.
    errors: Vec<u32>,
}

/// Takes a block's traces one after the other, in the order of its index.
pub struct PostingsBuilder<'a> {
    /// The first two are the name and the service.
    keys: Vec<(Of, &'a [u8], KeyState)>,
    /// The place in `keys` of each key of spans; `None` of one too many.
    numbers: ByKey<Option<usize>>,
    /// Key and hash of the values of one trace.
    values: Vec<(usize, u64)>,
    pairs: usize,
    most_pairs: usize,
    services: Vec<ServiceState>,
    by_name: FxHashMap<&'a str, usize>,
    /// The services of each resource, by where its bytes lie.
    resources: FxHashMap<(usize, usize), usize>,
    services_of: Vec<Vec<usize>>,
    resource_keys: FxHashSet<u64>,
    /// Of each trace so far.
    starts: Vec<u64>,
    rows: u32,
}

impl<'a> PostingsBuilder<'a> {
    /// For a block of so many traces and rows. Which keys are listed is told from a sample of its traces.
    pub fn new(
        traces: usize,
        rows: usize,
        mut sample: impl FnMut(usize, &mut dyn FnMut(&[Row<'a>], ScannedTrace<'_, 'a>)),
    ) -> Self {
        let listed = || KeyState { is_listed: true, ..KeyState::default() };
        let mut builder = PostingsBuilder {
            keys: vec![(Of::Name, b"", listed()), (Of::Service, SERVICE_NAME.as_bytes(), listed())],
            numbers: ByKey::default(),
            values: Vec::new(),
            pairs: 0,
            most_pairs: usize::MAX,
            services: Vec::new(),
            by_name: FxHashMap::default(),
            resources: FxHashMap::default(),
            services_of: Vec::new(),
            resource_keys: FxHashSet::default(),
            starts: Vec::with_capacity(traces),
            rows: 0,
        };
        let step = traces.div_ceil(SAMPLE_TRACES).max(1);
        for trace in (0..traces).step_by(step) {
            sample(trace, &mut |rows, scanned| builder.add_values(trace as u32, rows, scanned));
        }
        builder.choose_keys(traces.div_ceil(step), traces, rows);
        builder
    }

    /// Takes the rows of the next trace.
    pub fn take(&mut self, rows: &[Row<'a>], scanned: ScannedTrace<'_, 'a>) {
        let trace = self.starts.len() as u32;
        self.add_values(trace, rows, scanned);
        self.add_services(trace, rows);
        self.starts.push(rows.iter().map(|row| row.span.start_unix_nano).min().unwrap_or(0));
        self.rows += rows.len() as u32;
    }
}

const SERVICE_NAME: &str = "service.name";

/// The hash under which a value is found by equality with a string or a whole number; `None` when it is equal to neither.
///
/// # Errors
/// When it holds several values.
fn hash_of(value: ValueView<'_>) -> Result<Option<u64>, ()> {
    Ok(match value {
        ValueView::Str(text) => Some(hash(TEXT, text.as_bytes())),
        ValueView::Int(value) => Some(hash(INT, &value.to_le_bytes())),
        ValueView::Double(value) if value.fract() == 0.0 && value.abs() <= WHOLE => {
            Some(hash(INT, &(value as i64).to_le_bytes()))
        }
        ValueView::Array(_) => return Err(()),
        ValueView::Double(_) | ValueView::Bool(_) | ValueView::Empty | ValueView::Bytes(_) | ValueView::Map(_) => None,
    })
}

impl<'a> PostingsBuilder<'a> {
    /// The place of a span attribute's key; `None` when it is one too many.
    fn number(&mut self, attribute: &Attribute<'a>, scanner: &Scanner<'a>) -> Option<usize> {
        let keys = &mut self.keys;
        *self.numbers.of(attribute, scanner, |key| {
            if keys.len() >= KEYS {
                return None;
            }
            keys.push((Of::Span, key, KeyState { is_listed: true, ..KeyState::default() }));
            Some(keys.len() - 1)
        })
    }

    /// Notes which values the trace has.
    fn add_values(&mut self, trace: u32, rows: &[Row<'a>], scanned: ScannedTrace<'_, 'a>) {
        self.values.clear();
        let mut last_resource = None;
        for (row, span) in rows.iter().zip(scanned.spans()) {
            self.add_values_of(&span, scanned.scanner);
            let resource = self.resource(row);
            if last_resource.replace(resource) != Some(resource) {
                for service in self.services_of.get(resource).into_iter().flatten() {
                    let name = self.services.get(*service).map_or("", |service| service.name.as_str());
                    self.values.push((Of::Service as usize, hash(TEXT, name.as_bytes())));
                }
            }
        }
        self.values.sort_unstable();
        self.values.dedup();
        let values = std::mem::take(&mut self.values);
        for (number, hash) in values.iter().copied() {
            let Some((_, _, state)) = self.keys.get_mut(number) else { continue };
            if state.is_listed && !state.many.contains(&hash) {
                state.pairs.push((hash, trace));
                self.pairs += 1;
                if self.pairs > self.most_pairs {
                    self.pairs -= state.pairs.len();
                    *state = KeyState::default();
                }
            }
        }
        self.values = values;
    }

    fn add_values_of(&mut self, span: &ScannedSpan<'_, 'a>, scanner: &Scanner<'a>) {
        for attribute in span.attributes {
            let Some(number) = self.number(attribute, scanner) else { continue };
            let Some((_, _, state)) = self.keys.get_mut(number) else { continue };
            if !state.is_listed {
                continue;
            }
            match hash_of(attribute.value()) {
                Ok(Some(hash)) => self.values.push((number, hash)),
                Ok(None) => {}
                // It may be equal to each of them.
                Err(()) => {
                    self.pairs -= state.pairs.len();
                    *state = KeyState::default();
                }
            }
        }
        self.values.push((Of::Name as usize, hash(TEXT, span.name.as_bytes())));
    }

    /// The number of a row's resource.
    fn resource(&mut self, row: &Row<'a>) -> usize {
        let header: &'a [u8] = row.batch.piece(row.place).resource;
        let place = (header.as_ptr() as usize, header.len());
        if let Some(known) = self.resources.get(&place) {
            return *known;
        }
        let mut names: Vec<&'a str> = Vec::new();
        for attribute in view::resource_attributes(header) {
            if self.resource_keys.len() <= SERVICES {
                self.resource_keys.insert(hash(KEY, attribute.key.as_bytes()));
            }
            match attribute.value {
                ValueView::Str(name) if attribute.key == SERVICE_NAME => names.push(name),
                ValueView::Array(_) if attribute.key == SERVICE_NAME => {
                    // It may be equal to each of them.
                    if let Some((_, _, state)) = self.keys.get_mut(Of::Service as usize) {
                        self.pairs -= state.pairs.len();
                        *state = KeyState::default();
                    }
                    names.extend(
                        view::array_values(match attribute.value {
                            ValueView::Array(body) => body,
                            _ => &[],
                        })
                        .filter_map(|value| match value {
                            ValueView::Str(name) => Some(name),
                            _ => None,
                        }),
                    );
                }
                _ => {}
            }
        }
        if names.is_empty() {
            names.push("");
        }
        let mut services = Vec::with_capacity(1);
        for name in names {
            let next = self.services.len();
            let number = *self.by_name.entry(name).or_insert(next);
            if number == next {
                self.services.push(ServiceState { name: name.to_owned(), ..ServiceState::default() });
            }
            if !services.contains(&number) {
                services.push(number);
            }
        }
        self.services_of.push(services);
        self.resources.insert(place, self.services_of.len() - 1);
        self.services_of.len() - 1
    }

    fn add_services(&mut self, trace: u32, rows: &[Row<'a>]) {
        for (row, number) in rows.iter().zip(self.rows..) {
            let resource = self.resource(row);
            for service in self.services_of.get(resource).into_iter().flatten() {
                let Some(service) = self.services.get_mut(*service) else { continue };
                service.spans.push((row.span.duration_ns(), number));
                if row.span.status == 2 && service.errors.last() != Some(&trace) {
                    service.errors.push(trace);
                }
            }
        }
    }

    /// Which keys to list, told from a sample of the traces, whose values are then forgotten.
    fn choose_keys(&mut self, sampled: usize, traces: usize, rows: usize) {
        let most = (sampled / MANY).max(MANY_LEAST);
        let mut costs = Vec::with_capacity(self.keys.len());
        for (number, (_, _, state)) in self.keys.iter_mut().enumerate() {
            let mut pairs = std::mem::take(&mut state.pairs);
            pairs.sort_unstable();
            let mut entries = 0;
            for value in pairs.chunk_by(|a, b| a.0 == b.0) {
                match value.first() {
                    Some((hash, _)) if value.len() > most => {
                        state.many.insert(*hash);
                    }
                    _ => entries += value.len(),
                }
            }
            costs.push((entries, number));
        }
        let entry_bits = trace_bits(traces) as usize + ENTRY_BITS;
        let budget = (rows * BUDGET_BITS).max(BUDGET_BITS_LEAST) / entry_bits;
        costs.sort_unstable();
        let mut spent = 0;
        for (entries, number) in costs {
            spent += entries * traces.max(1) / sampled.max(1);
            if spent > budget
                && let Some((_, _, state)) = self.keys.get_mut(number)
            {
                *state = KeyState::default();
            }
        }
        self.pairs = 0;
        // Keys that the sample did not have come on top.
        self.most_pairs = budget + budget / 4;
    }

    /// The file.
    pub fn finish(self) -> Vec<u8> {
        let mut directory = Vec::new();
        let mut sections = Vec::new();
        let traces = self.starts.len();
        put_varint(&mut directory, traces as u64);
        put_varint(&mut directory, u64::from(self.rows));
        put_section(&mut directory, &mut sections, &starts_section(&self.starts));
        let mut resource_keys: Vec<u64> = self.resource_keys.into_iter().collect();
        resource_keys.sort_unstable();
        match resource_keys.len() > SERVICES {
            true => put_varint(&mut directory, 0),
            false => {
                put_varint(&mut directory, resource_keys.len() as u64 + 1);
                resource_keys.iter().for_each(|hash| directory.extend_from_slice(&hash.to_le_bytes()));
            }
        }
        let mut keys = Vec::new();
        let mut listed = 0;
        for (of, key, state) in self.keys.into_iter().filter(|(_, _, state)| state.is_listed) {
            if let Some(pages) = key_pages(state, traces) {
                listed += 1;
                keys.push(of as u8);
                keys.extend_from_slice(&hash(KEY, key).to_le_bytes());
                pages.put(&mut keys, &mut sections);
            }
        }
        put_varint(&mut directory, listed);
        directory.extend_from_slice(&keys);
        match self.services.len() > SERVICES {
            true => put_varint(&mut directory, 0),
            false => {
                put_varint(&mut directory, self.services.len() as u64 + 1);
                for service in self.services {
                    put_service(&mut directory, &mut sections, service, traces);
                }
            }
        }
        let mut out = Vec::with_capacity(16 + directory.len() + sections.len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&(directory.len() as u32).to_le_bytes());
        out.extend_from_slice(&crc32c::crc32c(&directory).to_le_bytes());
        out.extend_from_slice(&directory);
        out.extend_from_slice(&sections);
        out
    }
}

fn put_section(directory: &mut Vec<u8>, sections: &mut Vec<u8>, section: &[u8]) {
    put_varint(directory, section.len() as u64);
    if !section.is_empty() {
        directory.extend_from_slice(&crc32c::crc32c(section).to_le_bytes());
        sections.extend_from_slice(section);
    }
}

fn trace_bits(traces: usize) -> u32 {
    traces.saturating_sub(1).checked_ilog2().map_or(1, |bits| bits + 1)
}

/// As many traces in each bucket, as far as equal starts allow.
fn starts_section(starts: &[u64]) -> Vec<u8> {
    let mut sorted = starts.to_vec();
    sorted.sort_unstable();
    let mut latest: Vec<u64> = (1..=BUCKETS)
        .filter_map(|bucket| sorted.get((sorted.len() * bucket / BUCKETS).checked_sub(1)?))
        .copied()
        .collect();
    latest.dedup();
    let mut out = Vec::with_capacity(latest.len() * 8 + starts.len() + 2);
    put_varint(&mut out, latest.len() as u64);
    latest.iter().for_each(|start| out.extend_from_slice(&start.to_le_bytes()));
    out.extend(starts.iter().map(|start| latest.partition_point(|latest| latest < start) as u8));
    out
}

/// The pages of a key.
struct KeyPages {
    many: Vec<u64>,
    rest_bits: u32,
    pages: Vec<Vec<u8>>,
}

impl KeyPages {
    fn put(&self, directory: &mut Vec<u8>, sections: &mut Vec<u8>) {
        put_varint(directory, self.many.len() as u64);
        self.many.iter().for_each(|hash| directory.extend_from_slice(&hash.to_le_bytes()));
        put_varint(directory, u64::from(self.rest_bits));
        put_varint(directory, self.pages.len() as u64);
        self.pages.iter().for_each(|page| put_section(directory, sections, page));
    }
}

/// `None` when too many values fall on one page, which takes intent.
fn key_pages(mut state: KeyState, traces: usize) -> Option<KeyPages> {
    let most = (traces / MANY).max(MANY_LEAST);
    state.pairs.sort_unstable();
    let mut values: Vec<&[(u64, u32)]> = Vec::new();
    for value in state.pairs.chunk_by(|a, b| a.0 == b.0) {
        match value.first() {
            Some((hash, _)) if value.len() > most => {
                state.many.insert(*hash);
            }
            _ => values.push(value),
        }
    }
    let count = (values.len() / PAGE_VALUES).max(1).next_power_of_two();
    let rest_bits = (values.len().div_ceil(count).max(1).next_power_of_two().ilog2() + SURE_BITS).min(32);
    let place = |value: &[(u64, u32)]| value.first().map_or((0, 0), |(hash, _)| split_hash(*hash, count, rest_bits));
    let mut pages = vec![Vec::new(); count];
    for on_page in values.chunk_by(|a, b| place(a).0 == place(b).0) {
        let number = on_page.first().map_or(0, |value| place(value).0);
        let by_rest = || on_page.chunk_by(|a, b| place(a).1 == place(b).1);
        let distinct = by_rest().count();
        let mut writer = BitWriter::default();
        writer.put(u64::from(u16::try_from(distinct).ok()?), 16);
        let trace_bits = trace_bits(traces);
        writer.put(u64::from(trace_bits), 8);
        writer.put(u64::from(SURE_BITS), 8);
        let mut next = 0;
        for alike in by_rest() {
            let rest = alike.first().map_or(0, |value| place(value).1);
            let mut list: Vec<u32> = alike.iter().flat_map(|value| value.iter().map(|(_, trace)| *trace)).collect();
            list.sort_unstable();
            list.dedup();
            writer.put_rice(rest - next, SURE_BITS);
            writer.put_gamma(list.len() as u32);
            list.iter().for_each(|trace| writer.put(u64::from(*trace), trace_bits));
            next = rest + 1;
        }
        if let Some(page) = pages.get_mut(number) {
            *page = writer.finish();
        }
    }
    let mut many: Vec<u64> = state.many.into_iter().collect();
    many.sort_unstable();
    Some(KeyPages { many, rest_bits, pages })
}

fn put_service(directory: &mut Vec<u8>, sections: &mut Vec<u8>, mut service: ServiceState, traces: usize) {
    put_block(directory, service.name.as_bytes());
    let kept = (service.spans.len() / SLOWEST).max(SLOWEST_LEAST);
    service.spans.sort_unstable_by(|a, b| b.cmp(a));
    let others = service.spans.get(kept).map(|(duration, _)| *duration);
    service.spans.truncate(kept);
    let mut section = Vec::new();
    put_slowest(&mut section, &Slowest { spans: service.spans, others });
    put_section(directory, sections, &section);
    if service.errors.len() > (traces / MANY_ERRORS).max(MANY_LEAST) {
        directory.push(0);
        return;
    }
    directory.push(1);
    let (mut section, mut last) = (Vec::new(), 0);
    for trace in service.errors {
        put_varint(&mut section, u64::from(trace - last));
        last = trace;
    }
    put_section(directory, sections, &section);
}
