//! What the lists beside a block tell of a predicate, and the steps in which a search looks through the block: the
//! traces that can come first, first.

use std::collections::VecDeque;

use spanwise_wire::view::ValueView;

use super::filter::{Column, Exactly, Predicate, Shown, Test};
use super::postings::{Listed, Of, Slowest};
use super::read::BlockReader;

const SERVICE_NAME: &str = "service.name";
/// Traces of the first step, about; each further one is [`GROWTH`] times as large.
const FIRST_STEP: usize = 32;
/// The same where it is known which are the longest: few of each block are among the longest of all.
const FIRST_LONGEST: usize = 8;
const GROWTH: usize = 4;

/// Which traces come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// By their start.
    Newest,
    /// By the longest row that is in the set.
    Longest,
}

/// Traces to look at together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// No row of this step or a later one makes its trace begin later than this, or is longer.
    pub bound: u64,
    /// By their numbers, which ascend; all of the block when `None`.
    pub traces: Option<Vec<u32>>,
    /// It goes through all of the block again, to find what is at most as long as [`Self::bound`].
    pub is_rest: bool,
}

fn intersection(left: &[u32], right: &[u32]) -> Vec<u32> {
    let (small, large) = if left.len() < right.len() { (left, right) } else { (right, left) };
    small.iter().copied().filter(|trace| large.binary_search(trace).is_ok()).collect()
}

fn union(mut left: Vec<u32>, right: Vec<u32>) -> Vec<u32> {
    left.extend(right);
    left.sort_unstable();
    left.dedup();
    left
}

/// What both must hold.
fn and(left: Listed, right: Listed) -> Listed {
    match (left, right) {
        (Listed::Traces(left), Listed::Traces(right)) => Listed::Traces(intersection(&left, &right)),
        (Listed::Traces(traces), _) | (_, Listed::Traces(traces)) => Listed::Traces(traces),
        (Listed::Many, _) | (_, Listed::Many) => Listed::Many,
        _ => Listed::Unknown,
    }
}

/// What one must hold.
fn or(left: Listed, right: Listed) -> Listed {
    match (left, right) {
        (Listed::Traces(left), Listed::Traces(right)) => Listed::Traces(union(left, right)),
        (Listed::Unknown, _) | (_, Listed::Unknown) => Listed::Unknown,
        _ => Listed::Many,
    }
}

/// Conditions that all must hold.
fn conditions(predicate: &Predicate) -> Vec<&Predicate> {
    match predicate {
        Predicate::All(parts) => parts.iter().flat_map(conditions).collect(),
        other => vec![other],
    }
}

/// Only failed spans pass.
fn is_error(test: &Test) -> bool {
    (0..=i64::from(u8::MAX)).all(|status| test.passes(ValueView::Int(status)) == (status == 2))
}

impl BlockReader {
    /// Lists are a shortcut: when one cannot be read, columns are.
    fn told<T>(&self, read: Result<T, String>) -> Option<T> {
        read.map_err(|error| tracing::error!(block = self.id, error, "postings cannot be read: columns are")).ok()
    }

    /// The traces that alone can have rows in the set.
    fn listed(&self, predicate: &Predicate) -> Listed {
        match predicate {
            Predicate::Always | Predicate::Maybe | Predicate::Shown(..) => Listed::Unknown,
            Predicate::Traces(traces) => Listed::Traces(traces.to_vec()),
            Predicate::Any(parts) => {
                parts.iter().map(|part| self.listed(part)).reduce(or).unwrap_or(Listed::Traces(Vec::new()))
            }
            Predicate::All(_) => {
                let parts = conditions(predicate);
                let service = parts.iter().find_map(|part| self.service(part));
                parts.iter().map(|part| self.listed_of(part, service)).reduce(and).unwrap_or(Listed::Unknown)
            }
            Predicate::Column(..) => self.listed_of(predicate, None),
        }
    }

    /// The numbers of the traces that alone can have rows in the set; `None` when that is not known.
    pub fn listed_traces(&self, predicate: &Predicate) -> Option<Vec<u32>> {
        match self.listed(predicate) {
            Listed::Traces(traces) => Some(traces),
            Listed::Many | Listed::Unknown => None,
        }
    }

    /// The predicate with what the block's facts tell of whole traces. Of traces that lie in other places as well, by their
    /// numbers, those may tell something else: `split`, which ascend, pass in any case.
    pub(crate) fn told_of(&self, predicate: &Predicate, split: &[u32]) -> Predicate {
        predicate.with_shown(&|shown| {
            let Some(facts) = self.facts() else { return Predicate::Maybe };
            let places = match shown {
                Shown::Shape(shape) => facts.places(&|_, own| own == shape),
                Shown::Kinds(kinds) => facts.places(&|own, _| own & kinds != 0),
            };
            match places {
                Ok(places) => Predicate::Traces(union(places, split.to_vec()).into()),
                Err(error) => {
                    tracing::error!(%error, "facts of a block are damaged: its traces are looked at one by one");
                    Predicate::Maybe
                }
            }
        })
    }

    /// About how many rows may be in the set: for choosing between conditions, never for an answer.
    pub fn estimate(&self, predicate: &Predicate) -> u64 {
        let rows = self.len_spans();
        let all = match predicate {
            Predicate::Always | Predicate::Maybe => rows,
            Predicate::Shown(..) => rows / 16,
            Predicate::Traces(traces) => traces.len() as u64 * rows / (self.len_traces() as u64).max(1),
            Predicate::All(parts) => parts.iter().map(|part| self.estimate(part)).min().unwrap_or(rows),
            Predicate::Any(parts) => parts.iter().map(|part| self.estimate(part)).fold(0, u64::saturating_add),
            Predicate::Column(column, test) => match (self.listed(predicate), column) {
                (Listed::Traces(traces), _) => traces.len() as u64 * rows / (self.len_traces() as u64).max(1),
                (_, Column::Name) if test.only_text().is_some() => {
                    let operations = self.catalogue().services.values();
                    let named = operations.filter_map(|operations| operations.get(test.only_text()?));
                    named.map(|(_, spans)| *spans).sum()
                }
                (_, Column::ResourceAttribute(key)) if key == SERVICE_NAME && test.only_text().is_some() => {
                    let service = test.only_text().and_then(|name| self.catalogue().services.get(name));
                    service.map_or(0, |operations| operations.values().map(|(_, spans)| *spans).sum())
                }
                _ if test.only.is_some() || is_error(test) => rows / 16,
                (_, Column::IsRoot) => self.len_traces() as u64,
                (_, Column::Kind | Column::DurationNs) => rows / 4,
                _ => rows / 2,
            },
        };
        all.min(rows)
    }

    /// The service whose spans alone can pass.
    fn service<'a>(&self, predicate: &'a Predicate) -> Option<&'a str> {
        match predicate {
            Predicate::Column(Column::ResourceAttribute(key), test) if key == SERVICE_NAME => test.only_text(),
            Predicate::Column(Column::AnyAttribute(key), test)
                if key == SERVICE_NAME && !self.may_have_span_attribute(key) =>
            {
                test.only_text()
            }
            _ => None,
        }
    }

    /// One condition, on spans of this service when there is one.
    fn listed_of(&self, condition: &Predicate, service: Option<&str>) -> Listed {
        let Predicate::Column(column, test) = condition else { return self.listed(condition) };
        match (column, &test.only) {
            (Column::SpanAttribute(key), Some(value)) => self.listed_attribute(key, value),
            (Column::ResourceAttribute(key), Some(value)) => self.listed_resource(key, value),
            (Column::AnyAttribute(key), Some(value)) => {
                or(self.listed_attribute(key, value), self.listed_resource(key, value))
            }
            _ => {
                let Some(postings) = self.postings() else { return Listed::Unknown };
                let read = match (column, test) {
                    (Column::Name, Test { only: Some(value), .. }) => postings.traces_with(Of::Name, "", value),
                    (Column::Status, test) if is_error(test) => postings.errors(service),
                    (Column::DurationNs, Test { at_least: Some(least), .. }) => {
                        let least = u64::try_from(*least).unwrap_or(0);
                        postings.slowest(service).map(|slowest| self.listed_longer(slowest, least))
                    }
                    _ => Ok(Listed::Unknown),
                };
                self.told(read).unwrap_or(Listed::Unknown)
            }
        }
    }

    fn listed_longer(&self, slowest: Option<Slowest>, least: u64) -> Listed {
        let Some(slowest) = slowest.filter(|slowest| slowest.others.is_none_or(|others| others < least)) else {
            return Listed::Unknown;
        };
        let long = slowest.spans.iter().filter(|(duration, _)| *duration >= least);
        Listed::Traces(union(long.filter_map(|(_, row)| self.index().trace_of(*row)).collect(), Vec::new()))
    }

    fn may_have_span_attribute(&self, key: &str) -> bool {
        self.attributes().columns.iter().any(|(known, _)| known == key) || self.catalogue().may_be_residual(key)
    }

    fn listed_attribute(&self, key: &str, value: &Exactly) -> Listed {
        if !self.may_have_span_attribute(key) {
            return Listed::Traces(Vec::new());
        }
        let Some(postings) = self.postings() else { return Listed::Unknown };
        self.told(postings.traces_with(Of::Span, key, value)).unwrap_or(Listed::Unknown)
    }

    fn listed_resource(&self, key: &str, value: &Exactly) -> Listed {
        match (self.postings(), value) {
            (Some(postings), _) if postings.is_no_resource_key(key) => Listed::Traces(Vec::new()),
            (Some(postings), Exactly::Text(_)) if key == SERVICE_NAME => {
                self.told(postings.traces_with(Of::Service, SERVICE_NAME, value)).unwrap_or(Listed::Unknown)
            }
            _ => Listed::Unknown,
        }
    }

    /// How to look for the first traces in this order; the bounds of the steps descend.
    pub fn steps(&self, predicate: &Predicate, order: Order, max_start_unix_nano: u64) -> VecDeque<Step> {
        match order {
            Order::Newest => self.newest_steps(predicate, max_start_unix_nano),
            Order::Longest => self.longest_steps(predicate),
        }
    }

    fn newest_steps(&self, predicate: &Predicate, max_start_unix_nano: u64) -> VecDeque<Step> {
        let listed = match self.listed(predicate) {
            Listed::Traces(traces) if traces.is_empty() => return VecDeque::new(),
            Listed::Traces(traces) => Some(traces),
            Listed::Many | Listed::Unknown => None,
        };
        let starts = self.postings().and_then(|postings| self.told(postings.starts())).flatten();
        let Some(starts) = starts else {
            return VecDeque::from([Step { bound: max_start_unix_nano, traces: listed, is_rest: false }]);
        };
        let mut by_bucket: Vec<Vec<u32>> = vec![Vec::new(); starts.latest.len()];
        let mut put = |trace: u32| {
            let bucket = starts.bucket.get(trace as usize).and_then(|bucket| by_bucket.get_mut(usize::from(*bucket)));
            bucket.into_iter().for_each(|bucket| bucket.push(trace));
        };
        match &listed {
            Some(traces) => traces.iter().copied().for_each(&mut put),
            None => (0..starts.bucket.len() as u32).for_each(&mut put),
        }
        let mut steps: VecDeque<Step> = VecDeque::new();
        let mut size = FIRST_STEP;
        let mut traces: Vec<u32> = Vec::new();
        let mut bound = 0;
        for (bucket, latest) in by_bucket.into_iter().zip(&starts.latest).rev() {
            if traces.is_empty() {
                bound = *latest;
            }
            traces.extend(bucket);
            if listed.is_none() && !steps.is_empty() {
                // Of so many traces every page has some: then all of them at once.
                steps.push_back(Step { bound, traces: None, is_rest: false });
                return steps;
            }
            if traces.len() >= size {
                traces.sort_unstable();
                steps.push_back(Step { bound, traces: Some(std::mem::take(&mut traces)), is_rest: false });
                size *= GROWTH;
            }
        }
        if !traces.is_empty() {
            traces.sort_unstable();
            steps.push_back(Step { bound, traces: Some(traces), is_rest: false });
        }
        steps
    }

    fn longest_steps(&self, predicate: &Predicate) -> VecDeque<Step> {
        let everything = |bound| Step { bound, traces: None, is_rest: true };
        match self.listed(predicate) {
            Listed::Traces(traces) if traces.is_empty() => return VecDeque::new(),
            Listed::Traces(traces) if traces.len() < self.index().len_traces() / 8 => {
                return VecDeque::from([Step { bound: u64::MAX, traces: Some(traces), is_rest: false }]);
            }
            _ => {}
        }
        let service = conditions(predicate).iter().find_map(|part| self.service(part));
        let slowest = self.postings().and_then(|postings| self.told(postings.slowest(service))).flatten();
        let Some(slowest) = slowest else { return VecDeque::from([everything(u64::MAX)]) };
        // Whatever is longer than the others is listed.
        let longer = slowest.spans.iter().take_while(|(ns, _)| slowest.others.is_none_or(|others| *ns > others));
        let longer: Vec<(u64, u32)> = longer.copied().collect();
        let mut steps = VecDeque::new();
        let (mut rest, mut size) = (longer.as_slice(), FIRST_LONGEST);
        while let Some((bound, _)) = rest.first() {
            let (now, later) = rest.split_at(size.min(rest.len()));
            let traces = now.iter().filter_map(|(_, row)| self.index().trace_of(*row)).collect();
            steps.push_back(Step { bound: *bound, traces: Some(union(traces, Vec::new())), is_rest: false });
            rest = later;
            size *= GROWTH;
        }
        steps.extend(slowest.others.map(everything));
        steps
    }
}
