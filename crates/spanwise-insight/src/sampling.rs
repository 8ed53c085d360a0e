//! What tail sampling may ask of insight: what a trace shows by itself, and how rare it is among those seen before.

use std::collections::BTreeMap;

use spanwise_model::Trace;

use crate::repetition::RepetitionKind;
use crate::row::{Names, ROW_VERSION, trace_row};

/// What is compared of a trace: hashes, the same in every process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    pub entry: u64,
    pub shape: u64,
    /// Services, hosts and stores that it depends on, each once.
    pub dependencies: Vec<u64>,
    /// Findings of this trace alone: `n_plus_one`, `fan_out`, `retry_storm`, `hidden_error`.
    pub kinds: Vec<&'static str>,
}

pub const KINDS: [&str; 4] = ["n_plus_one", "fan_out", "retry_storm", "hidden_error"];

/// `None` when the trace has no span that could be an entry point.
pub fn signature(trace: &Trace) -> Option<Signature> {
    let mut names = Names::default();
    let row = trace_row(trace, &mut names)?;
    let mut kinds: Vec<&'static str> = row
        .repetitions
        .iter()
        .map(|repetition| match repetition.kind {
            RepetitionKind::NPlusOne => "n_plus_one",
            RepetitionKind::FanOut => "fan_out",
            RepetitionKind::RetryStorm => "retry_storm",
        })
        .chain(row.hidden.iter().map(|_| "hidden_error"))
        .collect();
    kinds.sort_unstable();
    kinds.dedup();
    let mut dependencies: Vec<u64> = row
        .dependencies
        .iter()
        .map(|part| hash(&[names.text(part.dependency.name), &format!("{:?}", part.dependency.kind)]))
        .collect();
    dependencies.sort_unstable();
    dependencies.dedup();
    let entry = hash(&[names.text(row.entry.service), names.text(row.entry.operation)]);
    Some(Signature { entry, shape: row.shape, dependencies, kinds })
}

/// FNV-1a over the texts, each closed by a zero.
fn hash(texts: &[&str]) -> u64 {
    let bytes = texts.iter().flat_map(|text| text.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Entry points that are remembered; beyond it the one seen least is forgotten.
const ENTRIES: usize = 1_000;
/// Shapes, and dependencies, of each.
const EACH: usize = 256;

/// Counts of what was seen, bounded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    entries: BTreeMap<u64, Entry>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Entry {
    traces: u64,
    shapes: BTreeMap<u64, u64>,
    /// Traces with it, and the entry point's traces before the first of them.
    dependencies: BTreeMap<u64, (u64, u64)>,
}

/// What had been seen before a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Before {
    /// Traces of its entry point.
    pub traces: u64,
    /// Those of its shape.
    pub shape: u64,
    /// Of the dependency seen least: traces with it, and the entry point's traces before it first appeared.
    pub dependency: Option<(u64, u64)>,
}

impl Seen {
    /// Counts a trace, and tells what was seen before it.
    pub fn note(&mut self, signature: &Signature) -> Before {
        if !self.entries.contains_key(&signature.entry) && self.entries.len() >= ENTRIES {
            let least = self.entries.iter().min_by_key(|(key, entry)| (entry.traces, **key)).map(|(key, _)| *key);
            least.and_then(|key| self.entries.remove(&key));
        }
        let entry = self.entries.entry(signature.entry).or_default();
        let traces = entry.traces;
        entry.traces += 1;
        make_room(&mut entry.shapes, signature.shape, |count| *count);
        let count = entry.shapes.entry(signature.shape).or_default();
        let shape = *count;
        *count += 1;
        let mut least: Option<(u64, u64)> = None;
        for dependency in &signature.dependencies {
            make_room(&mut entry.dependencies, *dependency, |(count, _)| *count);
            let (count, first) = entry.dependencies.entry(*dependency).or_insert((0, traces));
            least = Some(least.map_or((*count, *first), |least| least.min((*count, *first))));
            *count += 1;
        }
        Before { traces, shape, dependency: least }
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = ROW_VERSION.to_le_bytes().to_vec();
        let mut put = |number: u64| out.extend_from_slice(&number.to_le_bytes());
        for (key, entry) in &self.entries {
            put(*key);
            put(entry.traces);
            put(entry.shapes.len() as u64);
            entry.shapes.iter().for_each(|(shape, count)| [*shape, *count].into_iter().for_each(&mut put));
            put(entry.dependencies.len() as u64);
            for (dependency, (count, first)) in &entry.dependencies {
                [*dependency, *count, *first].into_iter().for_each(&mut put);
            }
        }
        out
    }

    /// Reads [`Seen::to_bytes`]; `None` when it was written by another version, or is damaged.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_at_checked(4)?;
        if version != ROW_VERSION.to_le_bytes() || rest.len() % 8 != 0 {
            return None;
        }
        let mut numbers = rest.chunks_exact(8).filter_map(|chunk| chunk.try_into().ok().map(u64::from_le_bytes));
        let mut seen = Self::default();
        while let Some(key) = numbers.next() {
            let mut entry = Entry { traces: numbers.next()?, ..Entry::default() };
            for _ in 0..numbers.next().filter(|count| *count <= EACH as u64)? {
                entry.shapes.insert(numbers.next()?, numbers.next()?);
            }
            for _ in 0..numbers.next().filter(|count| *count <= EACH as u64)? {
                entry.dependencies.insert(numbers.next()?, (numbers.next()?, numbers.next()?));
            }
            seen.entries.insert(key, entry);
        }
        Some(seen)
    }
}

/// Where there is no room for a new key, the one counted least goes.
fn make_room<T>(counts: &mut BTreeMap<u64, T>, key: u64, count: impl Fn(&T) -> u64) {
    if counts.len() >= EACH && !counts.contains_key(&key) {
        let least = counts.iter().min_by_key(|(key, value)| (count(value), **key)).map(|(key, _)| *key);
        least.and_then(|key| counts.remove(&key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::trace;
    use spanwise_model::{KeyValue, SpanKind};

    fn signed(entry: u64, shape: u64, dependencies: &[u64]) -> Signature {
        Signature { entry, shape, dependencies: dependencies.to_vec(), kinds: Vec::new() }
    }

    #[test]
    fn rare_and_new_are_told_from_usual_and_survive_being_written() {
        let mut seen = Seen::default();
        for _ in 0..300 {
            seen.note(&signed(1, 10, &[7]));
        }
        let mut again = Seen::from_bytes(&seen.to_bytes()).unwrap();
        assert_eq!(again, seen);
        let before = again.note(&signed(1, 11, &[7, 8]));
        assert_eq!(before, Before { traces: 300, shape: 0, dependency: Some((0, 300)) });
        let before = again.note(&signed(1, 10, &[7]));
        assert_eq!(before, Before { traces: 301, shape: 300, dependency: Some((301, 0)) });
        assert_eq!(Seen::from_bytes(&[1, 2]), None);
        assert_eq!(Seen::from_bytes(&seen.to_bytes()[..20]), None);
    }

    #[test]
    fn memory_is_bounded_and_what_is_frequent_stays() {
        let mut seen = Seen::default();
        for number in 0..5_000u64 {
            seen.note(&signed(1, 1, &[1]));
            seen.note(&signed(number, number, &[number]));
        }
        assert!(seen.entries.len() <= ENTRIES);
        assert!(seen.entries.values().all(|entry| entry.shapes.len() <= EACH && entry.dependencies.len() <= EACH));
        assert_eq!(seen.note(&signed(1, 1, &[1])).shape, 5_001);
    }

    #[test]
    fn a_signature_names_what_the_trace_shows() {
        let mut spans = vec![(1, 0, 0, 200)];
        spans.extend((0..6).map(|n| (10 + n, 1, 10 + u64::from(n) * 10, 18 + u64::from(n) * 10)));
        let mut trace = trace(&spans);
        for span in &mut trace.spans[1..] {
            span.span.kind = SpanKind::Client;
            span.span.attributes =
                vec![KeyValue::new("db.system", "sqlite"), KeyValue::new("db.statement", "SELECT 1")];
        }
        let signature = signature(&trace).unwrap();
        assert_eq!(signature.kinds, ["n_plus_one"]);
        assert_eq!(signature.dependencies.len(), 1);
    }
}
