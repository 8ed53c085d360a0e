//! Errors that the caller never hears of.

use spanwise_model::{StatusCode, Trace};

use crate::calls::http_status;
use crate::facts::TraceFacts;

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

/// What a client asked wrongly is no failure of the one asked.
fn is_expected(trace: &Trace, place: usize) -> bool {
    http_status(&trace.spans[place].span.attributes).is_some_and(|code| matches!(code, 400..=407 | 409..=428))
}

fn is_error(trace: &Trace, place: usize) -> bool {
    trace.spans[place].span.status.code == StatusCode::Error && !is_expected(trace, place)
}

/// The hidden errors of a trace; none when its root failed.
pub fn hidden_errors(trace: &Trace, facts: &TraceFacts) -> Vec<HiddenError> {
    let Some(root) = facts.root else { return Vec::new() };
    let failed_at_root = trace.spans[root].span.status.code == StatusCode::Error
        || http_status(&trace.spans[root].span.attributes).is_some_and(|code| code >= 500);
    if failed_at_root {
        return Vec::new();
    }
    let mut found: Vec<HiddenError> = Vec::new();
    for place in 0..trace.spans.len() {
        let has_failed_child = facts.tree.children[place].iter().any(|child| is_error(trace, *child));
        if !is_error(trace, place) || has_failed_child {
            continue;
        }
        let mut top = place;
        while let Some(parent) = facts.tree.parent[top].filter(|parent| is_error(trace, *parent)) {
            top = parent;
        }
        if let Some(swallowed_by) = facts.tree.parent[top]
            && found.iter().all(|other| other.top != top)
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
        for place in failed {
            trace.spans[*place].span.status = Status { code: StatusCode::Error, ..Status::default() };
        }
        trace
    }

    fn hidden(trace: &Trace) -> Vec<(usize, usize)> {
        hidden_errors(trace, &trace_facts(trace)).iter().map(|error| (error.born, error.swallowed_by)).collect()
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
}
