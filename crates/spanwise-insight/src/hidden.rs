//! Errors that the caller never hears of.

use rustc_hash::FxHashMap;

use crate::analysis::Analysed;
use crate::names::Name;
use crate::repetition::{Repetition, RepetitionKind};

/// An error below a request that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HiddenError {
    /// The deepest span that failed.
    pub born: usize,
    /// The nearest span above that did not.
    pub swallowed_by: usize,
    /// The topmost failed span in between: what it cost lies below it.
    pub top: usize,
}

fn is_error(trace: &Analysed<'_>, place: usize) -> bool {
    trace.spans[place].is_error() && !trace.calls[place].is_expected_failure
}

/// When each call last began that succeeded: under which span, and what was asked of what.
type Successes = FxHashMap<(usize, Name, u64), u64>;

fn successes(trace: &Analysed<'_>) -> Successes {
    let mut found = Successes::default();
    for (place, span) in trace.spans.iter().enumerate().filter(|(_, span)| !span.is_error()) {
        if let Some(parent) = trace.tree.parent[place] {
            let call = &trace.calls[place];
            let last = found.entry((parent, call.operation, call.target)).or_default();
            *last = span.start_unix_nano.max(*last);
        }
    }
    found
}

/// A later try of the same call succeeded: what was asked for was had.
fn is_recovered(trace: &Analysed<'_>, known: &Successes, place: usize) -> bool {
    let Some(parent) = trace.tree.parent[place] else { return false };
    let call = &trace.calls[place];
    let last = known.get(&(parent, call.operation, call.target));
    last.is_some_and(|last| *last >= trace.spans[place].end_unix_nano)
}

/// The hidden errors of a trace; none when its root failed. Tries of one call that failed one after the other are a
/// storm of retries, not an error each; one that succeeded in the end is none.
pub(crate) fn hidden_errors(trace: &Analysed<'_>, groups: &[Repetition]) -> Vec<HiddenError> {
    let count = trace.spans.len();
    let has_failed = trace.spans.iter().any(|span| span.is_error());
    if !has_failed || trace.spans[trace.root].is_error() || trace.calls[trace.root].is_server_failure {
        return Vec::new();
    }
    let mut in_storm = vec![false; count];
    let mut in_loop = vec![false; count];
    for group in groups {
        let marks = if group.kind == RepetitionKind::RetryStorm { &mut in_storm } else { &mut in_loop };
        group.calls.iter().for_each(|place| marks[*place] = true);
    }
    let mut seen = vec![false; count];
    let mut found: Vec<HiddenError> = Vec::new();
    let mut known: Option<Successes> = None;
    for place in 0..count {
        if !is_error(trace, place) || trace.tree.children[place].iter().any(|child| is_error(trace, *child)) {
            continue;
        }
        let (mut top, mut is_known) = (place, in_storm[place]);
        while let Some(parent) = trace.tree.parent[top].filter(|parent| is_error(trace, *parent)) {
            // Another error came this way: both end at the same place.
            if seen[top] {
                break;
            }
            seen[top] = true;
            top = parent;
            is_known |= in_storm[top];
        }
        if seen[top] || is_known {
            continue;
        }
        seen[top] = true;
        let mut is_recovered = || {
            let known = known.get_or_insert_with(|| successes(trace));
            !in_loop[top] && is_recovered(trace, known, top)
        };
        if let Some(swallowed_by) = trace.tree.parent[top]
            && !is_recovered()
        {
            found.push(HiddenError { born: place, swallowed_by, top });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::Analysis;
    use crate::names::Names;
    use crate::tree::tests::trace;
    use spanwise_model::{KeyValue, Status, StatusCode, Trace, Value};

    fn with_errors(failed: &[usize]) -> Trace {
        let mut trace = trace(&[(1, 0, 0, 100), (2, 1, 10, 40), (3, 2, 15, 35), (4, 1, 50, 60)]);
        for span in &mut trace.spans {
            span.span.name = format!("step {}", ["a", "b", "c", "d"][usize::from(span.span.span_id.0[7] - 1)]);
        }
        for place in failed {
            trace.spans[*place].span.status = Status { code: StatusCode::Error, ..Status::default() };
        }
        trace
    }

    fn hidden(trace: &Trace) -> Vec<(usize, usize)> {
        let mut names = Names::default();
        let mut analysis = Analysis::of(trace, &mut names);
        let groups = analysis.repetitions(&mut names);
        let hidden = hidden_errors(&analysis.analysed().unwrap(), &groups);
        hidden.iter().map(|error| (error.born, error.swallowed_by)).collect()
    }

    #[test]
    fn an_error_that_the_root_does_not_show_is_hidden() {
        assert_eq!(hidden(&with_errors(&[1, 2])), [(2, 0)]);
        assert_eq!(hidden(&with_errors(&[2])), [(2, 1)]);
        assert_eq!(hidden(&with_errors(&[0, 1, 2])), []);
        let mut not_found = with_errors(&[3]);
        not_found.spans[3].span.attributes =
            vec![KeyValue { key: "http.status_code".to_owned(), value: Value::Int(404) }];
        assert_eq!(hidden(&not_found), []);
    }

    #[test]
    fn a_try_that_succeeds_in_the_end_hides_nothing() {
        let mut trace = trace(&[(1, 0, 0, 100), (2, 1, 10, 20), (3, 1, 30, 40), (4, 1, 50, 60)]);
        for span in &mut trace.spans[1..] {
            span.span.kind = spanwise_model::SpanKind::Client;
            span.span.name = "ask".to_owned();
        }
        trace.spans[1].span.status.code = StatusCode::Error;
        assert_eq!(hidden(&trace), []);
        // All tries failed: that is a storm of retries.
        for span in &mut trace.spans[1..] {
            span.span.status.code = StatusCode::Error;
        }
        assert_eq!(hidden(&trace), []);
        // Something else succeeded: that is no comfort.
        trace.spans[2].span.name = "other".to_owned();
        trace.spans[2].span.status.code = StatusCode::Unset;
        trace.spans[3].span.name = "third".to_owned();
        trace.spans[3].span.status.code = StatusCode::Unset;
        assert_eq!(hidden(&trace), [(1, 0)]);
    }
}
