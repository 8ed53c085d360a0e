//! Errors that the caller never hears of.

use std::collections::HashMap;

use spanwise_model::{StatusCode, Trace};

use crate::calls::{Call, http_status, is_expected_failure, target};
use crate::facts::TraceFacts;
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

fn is_error(trace: &Trace, place: usize) -> bool {
    trace.spans[place].span.status.code == StatusCode::Error
        && !is_expected_failure(&trace.spans[place].span.attributes)
}

/// When each call last began that succeeded: under which span, and what was asked of what.
type Successes<'a> = HashMap<(usize, &'a str, &'a str), u64>;

fn successes<'a>(trace: &'a Trace, facts: &TraceFacts, calls: &'a [Call]) -> Successes<'a> {
    let mut found = Successes::new();
    for (place, span) in trace.spans.iter().enumerate().filter(|(_, span)| span.span.status.code != StatusCode::Error) {
        if let Some(parent) = facts.tree.parent[place] {
            let last = found.entry((parent, calls[place].operation.as_str(), target(span))).or_default();
            *last = span.span.start_unix_nano.max(*last);
        }
    }
    found
}

/// A later try of the same call succeeded: what was asked for was had.
fn is_recovered(trace: &Trace, facts: &TraceFacts, calls: &[Call], known: &Successes<'_>, place: usize) -> bool {
    let Some(parent) = facts.tree.parent[place] else { return false };
    let failed = &trace.spans[place];
    let last = known.get(&(parent, calls[place].operation.as_str(), target(failed)));
    last.is_some_and(|last| *last >= failed.span.end_unix_nano)
}

/// The hidden errors of a trace; none when its root failed. Tries of one call that failed one after the other are a
/// storm of retries, not an error each; one that succeeded in the end is none.
pub fn hidden_errors(trace: &Trace, facts: &TraceFacts, calls: &[Call], groups: &[Repetition]) -> Vec<HiddenError> {
    let Some(root) = facts.root else { return Vec::new() };
    let failed_at_root = trace.spans[root].span.status.code == StatusCode::Error
        || http_status(&trace.spans[root].span.attributes).is_some_and(|code| code >= 500);
    if failed_at_root {
        return Vec::new();
    }
    let mut in_storm = vec![false; trace.spans.len()];
    let mut in_loop = vec![false; trace.spans.len()];
    for group in groups {
        let marks = if group.kind == RepetitionKind::RetryStorm { &mut in_storm } else { &mut in_loop };
        group.calls.iter().for_each(|place| marks[*place] = true);
    }
    let mut seen = vec![false; trace.spans.len()];
    let mut found: Vec<HiddenError> = Vec::new();
    let mut known: Option<Successes<'_>> = None;
    for place in 0..trace.spans.len() {
        let has_failed_child = facts.tree.children[place].iter().any(|child| is_error(trace, *child));
        if !is_error(trace, place) || has_failed_child {
            continue;
        }
        let (mut top, mut is_known) = (place, in_storm[place]);
        while let Some(parent) = facts.tree.parent[top].filter(|parent| is_error(trace, *parent)) {
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
            let known = known.get_or_insert_with(|| successes(trace, facts, calls));
            !in_loop[top] && is_recovered(trace, facts, calls, known, top)
        };
        if let Some(swallowed_by) = facts.tree.parent[top]
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
    use crate::facts::trace_facts;
    use crate::tree::tests::trace;
    use spanwise_model::{KeyValue, Status, Value};

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
        let facts = trace_facts(trace);
        let calls: Vec<Call> = trace.spans.iter().map(crate::calls::call).collect();
        let groups = crate::repetition::repetitions(trace, &facts, &calls);
        hidden_errors(trace, &facts, &calls, &groups).iter().map(|error| (error.born, error.swallowed_by)).collect()
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
