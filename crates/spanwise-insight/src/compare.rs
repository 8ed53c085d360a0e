//! Why are these different? Two sets of traces, and the attributes that tell them apart: counted by trace, tested,
//! corrected for how many were tested, and shown with their effect.

use std::collections::BTreeMap;

use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;
use spanwise_model::{Trace, TraceId, Value};

use crate::attributes::{attributes, tells_nothing};
use crate::population::draw;
use crate::population::statistics::{self, Table};
use crate::row::{Name, Names};
use crate::thresholds::{
    COMPARE_DIFFERENCE, COMPARE_Q, COMPARE_SAME, COMPARE_SEEN, COMPARE_SHOWN, COMPARE_SURE, COMPARE_VALUE_SEEN,
};
use crate::weight::adjusted_count;

/// What of a trace is compared.
struct Features {
    id: TraceId,
    is_selected: bool,
    weight: f64,
    values: Vec<(Name, Name)>,
    numbers: Vec<(Name, f64)>,
}

/// Collects traces of both sets, in any order.
pub struct Comparison {
    names: Names,
    features: Vec<Features>,
    /// Trace ids whose draw has one of these bits are left out: see [`crate::population::Population`].
    left_out: u64,
    most: usize,
}

/// Traces that are compared; beyond it, a fair share of them.
pub const MOST_COMPARED: usize = 100_000;

impl Default for Comparison {
    fn default() -> Self {
        Self::with_bound(MOST_COMPARED)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compared {
    pub selection: SetSize,
    pub baseline: SetSize,
    /// False when there were more traces than are compared: those that are compared are a fair sample.
    pub complete: bool,
    /// Attributes and values that were tested.
    pub tested: usize,
    pub differences: Vec<Difference>,
    pub not_enough_data: Option<Need>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SetSize {
    pub traces: usize,
    /// All that these stand for, where they were sampled.
    pub adjusted: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Need {
    pub have: usize,
    pub need: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// `value`: the selection has this value more often; `absent`: it lacks the attribute more often; `number`: its
    /// numbers are larger or smaller.
    #[serde(rename = "type")]
    pub what: &'static str,
    pub key: String,
    pub value: Option<String>,
    pub selection: Share,
    pub baseline: Share,
    /// Share in the selection less share in the baseline; for numbers the probability that one of the selection is
    /// larger than one of the baseline, less one half, times two.
    pub difference: f64,
    /// 95 % interval of the difference, where it is one of shares.
    pub interval: Option<[f64; 2]>,
    /// How many times as often; absent when the baseline never has it.
    pub lift: Option<f64>,
    pub p_value: f64,
    /// Share of false discoveries among this and everything that ranks before it.
    pub q_value: f64,
    /// Attributes that divide the traces in the same way.
    pub same: Vec<Pair>,
    /// The difference that ranks first explains this one: among traces alike in that, this one is gone.
    pub explained_by: Option<Pair>,
    pub confidence: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Share {
    /// Traces that have it (or, for `absent`, lack it; for `number`, have the attribute).
    pub traces: usize,
    pub of: usize,
    /// By adjusted counts.
    pub share: f64,
    /// Of numbers.
    pub median: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pair {
    pub key: String,
    pub value: Option<String>,
}

impl Comparison {
    pub fn with_bound(most: usize) -> Self {
        Self { names: Names::default(), features: Vec::new(), left_out: 0, most: most.max(1) }
    }

    pub fn add(&mut self, trace: &Trace, is_selected: bool) {
        let Some(id) = trace.spans.first().map(|span| span.span.trace_id) else { return };
        if draw(&id) & self.left_out != 0 {
            return;
        }
        let (values, numbers) = (attributes(trace, &mut self.names), numbers(trace, &mut self.names));
        self.features.push(Features { id, is_selected, weight: adjusted_count(trace), values, numbers });
        while self.features.len() > self.most {
            self.left_out = self.left_out << 1 | 1;
            let left_out = self.left_out;
            self.features.retain(|features| draw(&features.id) & left_out == 0);
        }
    }

    pub fn finish(mut self) -> Compared {
        self.features.sort_by_key(|features| features.id);
        let size = |is_selected: bool| {
            let of = || self.features.iter().filter(|features| features.is_selected == is_selected);
            SetSize { traces: of().count(), adjusted: of().map(|features| features.weight).sum() }
        };
        let (selection, baseline) = (size(true), size(false));
        let mut compared = Compared {
            selection,
            baseline,
            complete: self.left_out == 0,
            tested: 0,
            differences: Vec::new(),
            not_enough_data: None,
        };
        let have = selection.traces.min(baseline.traces);
        if have < COMPARE_SEEN {
            compared.not_enough_data = Some(Need { have, need: COMPARE_SEEN });
            return compared;
        }
        let candidates = self.candidates();
        compared.tested = candidates.len();
        compared.differences = self.rank(candidates, [selection.traces, baseline.traces]);
        compared
    }

    /// Everything that is tested, in an order that does not depend on the traces' order.
    fn candidates(&self) -> Vec<Candidate> {
        let mut of_value: FxHashMap<(Name, Name), Vec<u32>> = FxHashMap::default();
        let mut of_key: FxHashMap<Name, Vec<u32>> = FxHashMap::default();
        let mut distinct: FxHashMap<Name, FxHashSet<Name>> = FxHashMap::default();
        for (number, features) in self.features.iter().enumerate() {
            for (key, value) in &features.values {
                of_value.entry((*key, *value)).or_default().push(number as u32);
                distinct.entry(*key).or_default().insert(*value);
                let of_key = of_key.entry(*key).or_default();
                if of_key.last() != Some(&(number as u32)) {
                    of_key.push(number as u32);
                }
            }
        }
        let numeric = self.numeric();
        let is_id = |key: Name| {
            let (values, traces) = (distinct.get(&key).map_or(0, FxHashSet::len), of_key.get(&key).map_or(0, Vec::len));
            let is_unique = values > 20 && values as f64 > 0.9 * traces as f64;
            is_unique || (values > 20 && is_id_by_name(self.names.text(key)))
        };
        let all = self.features.len();
        let enough = |members: usize| members >= COMPARE_VALUE_SEEN && members < all;
        let mut found = Vec::new();
        for ((key, value), members) in of_value {
            if enough(members.len()) && !is_id(key) && !numeric.contains_key(&key) {
                found.push(Candidate::members(key, Some(value), members, self));
            }
        }
        for (key, members) in &of_key {
            let absent: Vec<u32> = {
                let with: FxHashSet<u32> = members.iter().copied().collect();
                (0..all as u32).filter(|number| !with.contains(number)).collect()
            };
            if enough(absent.len()) && members.len() >= COMPARE_VALUE_SEEN {
                // Presence is a value of its own where the values themselves are too many to tell anything.
                if is_id(*key) || numeric.contains_key(key) {
                    let mut present = Candidate::members(*key, None, members.clone(), self);
                    present.what = "value";
                    found.push(present);
                }
                found.push(Candidate::members(*key, None, absent, self));
            }
        }
        for (key, [first, second]) in numeric {
            if first.len() >= COMPARE_VALUE_SEEN && second.len() >= COMPARE_VALUE_SEEN {
                found.push(Candidate::numbers(key, first, second));
            }
        }
        let text = |candidate: &Candidate| {
            let value = candidate.value.map(|value| self.names.text(value));
            (self.names.text(candidate.key), value, candidate.what)
        };
        found.sort_by(|a, b| text(a).cmp(&text(b)));
        found
    }

    /// Numbers of the selection and of the baseline by key, of keys with too many values to be categories.
    fn numeric(&self) -> BTreeMap<Name, [Vec<f64>; 2]> {
        let mut by_key: BTreeMap<Name, [Vec<f64>; 2]> = BTreeMap::new();
        for features in &self.features {
            for (key, value) in &features.numbers {
                by_key.entry(*key).or_default()[usize::from(!features.is_selected)].push(*value);
            }
        }
        by_key.retain(|_, [first, second]| {
            let mut values: Vec<u64> = first.iter().chain(second.iter()).map(|value| value.to_bits()).collect();
            values.sort_unstable();
            values.dedup();
            values.len() > 12
        });
        by_key
    }

    fn rank(&self, mut candidates: Vec<Candidate>, of: [usize; 2]) -> Vec<Difference> {
        let ln_p: Vec<f64> = candidates.iter().map(|candidate| candidate.ln_p).collect();
        for (candidate, ln_q) in candidates.iter_mut().zip(statistics::ln_q_values(&ln_p)) {
            candidate.ln_q = ln_q;
        }
        candidates.retain(|candidate| candidate.ln_q <= COMPARE_Q.ln() && candidate.effect >= COMPARE_DIFFERENCE);
        // The likelihood ratio ranks; of equals the shorter key.
        candidates.sort_by(|a, b| {
            let length = |candidate: &Candidate| self.names.text(candidate.key).len();
            a.ln_p.total_cmp(&b.ln_p).then_with(|| length(a).cmp(&length(b)))
        });
        candidates.truncate(4 * COMPARE_SHOWN);
        let mut heads: Vec<(Candidate, Vec<Pair>)> = Vec::new();
        for candidate in candidates {
            let pair = self.pair(&candidate);
            let like = heads.iter().position(|(head, _)| head.divides_as(&candidate, self.features.len()));
            match like {
                Some(place) => heads[place].1.push(pair),
                None if heads.len() < COMPARE_SHOWN => heads.push((candidate, vec![])),
                None => {}
            }
        }
        let first = heads.first().map(|(head, _)| (head.members.clone(), self.pair(head)));
        let explain = |place: usize, candidate: &Candidate| match &first {
            Some((members, pair)) if place > 0 && !members.is_empty() && !candidate.members.is_empty() => {
                let strata = self.strata(members, &candidate.members);
                (statistics::ln_p_stratified(&strata) > 0.05f64.ln()).then(|| pair.clone())
            }
            _ => None,
        };
        let shown = heads
            .iter()
            .enumerate()
            .map(|(place, (candidate, same))| self.difference(candidate, same.clone(), explain(place, candidate), of));
        shown.collect()
    }

    fn pair(&self, candidate: &Candidate) -> Pair {
        let value = candidate.value.map(|value| self.names.text(value).to_owned());
        Pair { key: self.names.text(candidate.key).to_owned(), value }
    }

    /// What `members` are among those in `by` and among the others.
    fn strata(&self, by: &[u32], members: &[u32]) -> [Table; 2] {
        let mut strata = [Table { with: [0; 2], of: [0; 2] }; 2];
        let (by, members): (FxHashSet<u32>, FxHashSet<u32>) =
            (by.iter().copied().collect(), members.iter().copied().collect());
        for (number, features) in self.features.iter().enumerate() {
            let stratum = &mut strata[usize::from(by.contains(&(number as u32)))];
            let sample = usize::from(!features.is_selected);
            stratum.of[sample] += 1;
            stratum.with[sample] += usize::from(members.contains(&(number as u32)));
        }
        strata
    }

    fn difference(
        &self,
        candidate: &Candidate,
        same: Vec<Pair>,
        explained_by: Option<Pair>,
        of: [usize; 2],
    ) -> Difference {
        let round = crate::population::round;
        let shares = [true, false].map(|is_selected| {
            let total: f64 =
                self.features.iter().filter(|f| f.is_selected == is_selected).map(|features| features.weight).sum();
            let members = candidate.members.iter().filter_map(|number| self.features.get(*number as usize));
            let with: f64 = members.filter(|f| f.is_selected == is_selected).map(|features| features.weight).sum();
            round(with / total.max(f64::MIN_POSITIVE))
        });
        let (difference, interval) = match &candidate.numbers {
            Some(numbers) => (2.0 * numbers.larger - 1.0, None),
            None => {
                let (difference, interval) = candidate.table(of).difference();
                (difference, Some(interval.map(round)))
            }
        };
        let share = |sample: usize| Share {
            traces: candidate.with[sample],
            of: of[sample],
            share: match &candidate.numbers {
                Some(_) => round(candidate.with[sample] as f64 / of[sample].max(1) as f64),
                None => shares[sample],
            },
            median: candidate.numbers.as_ref().map(|numbers| numbers.medians[sample]),
        };
        let rates = [0, 1].map(|sample| candidate.with[sample] as f64 / of[sample].max(1) as f64);
        let Pair { key, value } = self.pair(candidate);
        Difference {
            what: candidate.what,
            key,
            value,
            selection: share(0),
            baseline: share(1),
            difference: round(difference),
            interval,
            lift: (candidate.numbers.is_none() && rates[1] > 0.0).then(|| round(rates[0] / rates[1])),
            p_value: candidate.ln_p.exp(),
            q_value: candidate.ln_q.exp(),
            same,
            explained_by,
            confidence: if of[0].min(of[1]) >= COMPARE_SURE { "high" } else { "medium" },
        }
    }
}

struct Candidate {
    what: &'static str,
    key: Name,
    value: Option<Name>,
    /// Numbers of the traces that have it, ascending; none for numbers.
    members: Vec<u32>,
    with: [usize; 2],
    effect: f64,
    numbers: Option<Numbers>,
    ln_p: f64,
    ln_q: f64,
}

struct Numbers {
    larger: f64,
    medians: [f64; 2],
}

impl Candidate {
    fn members(key: Name, value: Option<Name>, members: Vec<u32>, all: &Comparison) -> Self {
        let of = |is_selected: bool| all.features.iter().filter(|f| f.is_selected == is_selected).count();
        let is_selected = |number: &&u32| all.features.get(**number as usize).is_some_and(|f| f.is_selected);
        let selected = members.iter().filter(is_selected).count();
        let table = Table { with: [selected, members.len() - selected], of: [of(true), of(false)] };
        let (difference, _) = table.difference();
        // What the selection has less of, something else says better that it has more of.
        let effect = difference;
        let what = if value.is_some() { "value" } else { "absent" };
        let ln_p = table.ln_p();
        Self { what, key, value, members, with: table.with, effect, numbers: None, ln_p, ln_q: 0.0 }
    }

    fn numbers(key: Name, first: Vec<f64>, second: Vec<f64>) -> Self {
        let (ln_p, larger) = statistics::ln_p_of_ranks(&first, &second);
        let with = [first.len(), second.len()];
        let numbers = Numbers { larger, medians: [statistics::median(first), statistics::median(second)] };
        let effect = (2.0 * larger - 1.0).abs();
        let numbers = Some(numbers);
        Self { what: "number", key, value: None, members: Vec::new(), with, effect, numbers, ln_p, ln_q: 0.0 }
    }

    fn table(&self, of: [usize; 2]) -> Table {
        Table { with: self.with, of }
    }

    /// Whether both have nearly the same traces: normalised mutual information.
    fn divides_as(&self, other: &Self, all: usize) -> bool {
        if self.members.is_empty() || other.members.is_empty() {
            return false;
        }
        let mine: FxHashSet<u32> = self.members.iter().copied().collect();
        let both = other.members.iter().filter(|number| mine.contains(number)).count() as f64;
        let (a, b, n) = (self.members.len() as f64, other.members.len() as f64, all as f64);
        let cells = [both, a - both, b - both, n - a - b + both];
        let entropy = |counts: &[f64]| -> f64 {
            counts.iter().filter(|count| **count > 0.0).map(|count| -count / n * (count / n).ln()).sum()
        };
        let (of_a, of_b) = (entropy(&[a, n - a]), entropy(&[b, n - b]));
        let mutual = of_a + of_b - entropy(&cells);
        // Complements divide alike as well, but do not say the same.
        both > 0.0 && mutual / (of_a * of_b).sqrt().max(f64::MIN_POSITIVE) > COMPARE_SAME
    }
}

/// Whether a name says that the values are ids: those of users or orders differ by themselves.
fn is_id_by_name(key: &str) -> bool {
    let last = key.rsplit(['.', '_', '-']).next().unwrap_or(key);
    let lower = last.to_ascii_lowercase();
    ["id", "ids", "uuid", "guid", "token", "key"].contains(&lower.as_str())
        || last.ends_with("Id")
        || last.ends_with("ID")
}

/// The largest number of each attribute of any span.
fn numbers(trace: &Trace, names: &mut Names) -> Vec<(Name, f64)> {
    let mut found: BTreeMap<&str, f64> = BTreeMap::new();
    for span in &trace.spans {
        for attribute in span.span.attributes.iter().chain(&span.resource.attributes) {
            let value = match attribute.value {
                Value::Int(value) => value as f64,
                Value::Double(value) if value.is_finite() => value,
                _ => continue,
            };
            if !tells_nothing(&attribute.key) {
                let own = found.entry(&attribute.key).or_insert(value);
                *own = own.max(value);
            }
        }
    }
    found.into_iter().map(|(key, value)| (names.number(key), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::trace;
    use spanwise_model::KeyValue;

    /// A trace with these attributes; ids that are as good as drawn.
    fn with(number: u64, pairs: &[(&str, &str)]) -> Trace {
        let mut trace = trace(&[(1, 0, 0, 100)]);
        let id = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        trace.spans[0].span.trace_id.0[..8].copy_from_slice(&id.to_be_bytes());
        trace.spans[0].span.attributes = pairs.iter().map(|(key, value)| KeyValue::new(*key, *value)).collect();
        trace
    }

    fn compare(traces: impl IntoIterator<Item = (Trace, bool)>) -> Compared {
        let mut comparison = Comparison::default();
        traces.into_iter().for_each(|(trace, is_selected)| comparison.add(&trace, is_selected));
        comparison.finish()
    }

    fn hash(number: u64) -> u64 {
        (number ^ number >> 7).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33
    }

    #[test]
    fn the_value_that_the_slow_ones_have_ranks_first_with_all_that_goes_with_it() {
        let mut traces: Vec<(Trace, bool)> = Vec::new();
        for number in 0..2_000u64 {
            let is_slow = number % 10 == 0;
            let is_new = if is_slow { hash(number) % 10 < 8 } else { hash(number) % 10 < 1 };
            let version = if is_new { "2" } else { "1" };
            let user = format!("u{number}");
            let zone = ["a", "b", "c"][(hash(number * 3 + 1) % 3) as usize];
            let mut pairs = vec![("version", version), ("image", if is_new { "shop:2" } else { "shop:1" })];
            pairs.extend([("user.id", user.as_str()), ("zone", zone)]);
            if !is_slow || hash(number + 17).is_multiple_of(4) {
                pairs.push(("cache", "hit"));
            }
            traces.push((with(number, &pairs), is_slow));
        }
        let found = compare(traces.clone());
        assert_eq!((found.selection.traces, found.baseline.traces, found.complete), (200, 1_800, true));
        let keys: Vec<_> = found.differences.iter().map(|d| (d.what, d.key.as_str(), d.value.as_deref())).collect();
        assert_eq!(keys, [("absent", "cache", None), ("value", "image", Some("shop:2"))], "{found:?}");
        let version = &found.differences[1];
        assert_eq!(version.same, [Pair { key: "version".to_owned(), value: Some("2".to_owned()) }]);
        assert!(version.difference > 0.6 && version.q_value < 1e-10 && version.explained_by.is_none(), "{version:?}");
        let interval = version.interval.unwrap();
        assert!(interval[0] < version.difference && version.difference < interval[1]);
        let backwards = compare(traces.into_iter().rev());
        assert_eq!(found, backwards);
    }

    #[test]
    fn chance_is_not_a_difference_and_few_traces_are_said_to_be_few() {
        let random = |number: u64| {
            let pairs: Vec<(String, String)> =
                (0..40).map(|key| (format!("key{key}"), format!("v{}", hash(number * 41 + key) % (2 + key)))).collect();
            let pairs: Vec<(&str, &str)> = pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            with(number, &pairs)
        };
        let found = compare((0..1_000).map(|number| (random(number), hash(number + 99_991).is_multiple_of(5))));
        assert!(found.tested > 200 && found.differences.is_empty(), "{:?}", found.differences);
        let few = compare((0..100).map(|number| (random(number), number < 10)));
        assert_eq!(few.not_enough_data, Some(Need { have: 10, need: COMPARE_SEEN }));
    }

    #[test]
    fn numbers_are_compared_as_numbers_and_what_follows_from_the_first_says_so() {
        let found = compare((0..1_000u64).map(|number| {
            let is_slow = number % 5 == 0;
            let size = hash(number) % 50 + if is_slow { 60 } else { 0 };
            let big = if is_slow { "yes" } else { "no" };
            // Depends on `big` alone.
            let echo = if (hash(number + 7) % 10 < 7) == is_slow { "loud" } else { "soft" };
            let mut trace = with(number, &[("big", big), ("echo", echo)]);
            let size = Value::Int(size as i64);
            trace.spans[0].span.attributes.push(KeyValue { key: "cart.size".to_owned(), value: size });
            (trace, is_slow)
        }));
        let of = |key: &str| found.differences.iter().find(|d| d.key == key).unwrap();
        assert_eq!(found.differences[0].key, "big");
        let size = of("cart.size");
        assert_eq!(size.what, "number");
        assert!(size.difference > 0.99 && size.selection.median > size.baseline.median);
        assert_eq!(of("echo").explained_by.as_ref().map(|pair| pair.key.as_str()), Some("big"));
    }
}
