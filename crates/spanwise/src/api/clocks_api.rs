//! `GET /api/spanwise/clocks`: one offset for each pair of hosts, over the traces of a window; and traces with their
//! times set right by them (`?clocks=corrected` of a trace).

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::routing::get;
use serde::Serialize;
use serde_json::{Value as Json, json};
use spanwise_insight::clock::{HostOffset, Offsets, aligned_by};
use spanwise_insight::{TraceFacts, Tree};
use spanwise_model::Trace;
use spanwise_query::Budget;
use spanwise_query::clocks::{Clocks, clocks};

use super::aggregate::{Answer, WindowParameters};
use super::{ApiError, App, CancelOnDrop};

/// Longest that one question may read.
const READING: Duration = Duration::from_secs(4);
/// Before and after a trace: traces of this time tell its hosts' offsets. Clocks hardly move in it.
pub const AROUND_NS: u64 = 10 * 60 * 1_000_000_000;

pub fn routes() -> Router<App> {
    Router::new().route("/api/spanwise/clocks", get(answer))
}

async fn answer(State(app): State<App>, Query(parameters): Query<WindowParameters>) -> Answer {
    let window = app.window(&parameters)?;
    Ok(axum::Json(clocks_json(&app.clocks(window.from, window.to).await?)))
}

pub fn clocks_json(found: &Clocks) -> Json {
    let pairs = found.offsets.pairs().map(|(from, to, interval)| {
        let is_steady = interval.is_feasible();
        json!({
            "from": from, "to": to, "low_ns": interval.low, "high_ns": interval.high, "calls": interval.calls,
            "steady": is_steady, "offset_ns": is_steady.then(|| interval.correction()),
        })
    });
    json!({
        "pairs": pairs.collect::<Json>(), "traces": found.offsets.traces, "left_out": found.offsets.left_out,
        "complete": found.complete,
    })
}

impl App {
    /// Offsets of hosts, told from traces that started in a window.
    pub async fn clocks(&self, from: u64, to: u64) -> Result<Clocks, ApiError> {
        let budget = Budget { time: READING, ..Budget::default() };
        let _cancel = CancelOnDrop(Arc::clone(&budget.cancelled));
        self.blocking(move |snapshot| clocks(&snapshot, from, to, &budget).map_err(ApiError::internal)).await
    }
}

/// Whose times a trace is shown with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ClocksOf {
    /// As the hosts wrote them.
    #[default]
    Raw,
    /// One offset for each pair of hosts.
    Corrected,
}

impl ClocksOf {
    pub fn parse(text: Option<&str>) -> Result<Self, ApiError> {
        match text {
            None | Some("" | "raw") => Ok(Self::Raw),
            Some("corrected") => Ok(Self::Corrected),
            Some(other) => Err(ApiError::bad_request(format!("clocks={other:?}: raw and corrected are"))),
        }
    }
}

/// A trace with the times that are asked for, and what was done to them.
pub struct Timed {
    pub trace: Trace,
    /// Flags of each span beside those that its times have.
    moved: Vec<bool>,
    hosts: Option<(Vec<HostOffset>, u64)>,
}

#[derive(Debug, Serialize)]
pub struct ClocksJson {
    corrected: bool,
    /// Spans whose times cannot be true as they are shown.
    impossible: usize,
    /// Traces that the offsets were told from.
    traces: u64,
    hosts: Vec<HostJson>,
}

#[derive(Debug, Serialize)]
struct HostJson {
    host: String,
    /// Added to what the host wrote, for its times to be those of the root's host.
    offset_ns: i64,
    calls: u64,
    /// Many traces agree on it; otherwise it is this trace's alone.
    shared: bool,
}

impl Timed {
    pub fn raw(trace: Trace) -> Self {
        Self { moved: Vec::new(), hosts: None, trace }
    }

    pub fn corrected(trace: &Trace, offsets: &Offsets) -> Self {
        let (aligned, hosts) = aligned_by(trace, &Tree::of(trace), offsets);
        let moved = aligned.spans.iter().zip(&trace.spans);
        let moved = moved.map(|(after, before)| after.span.start_unix_nano != before.span.start_unix_nano).collect();
        Self { trace: aligned, moved, hosts: Some((hosts, offsets.traces)) }
    }

    /// Flags spans that were moved.
    pub fn flag(&self, facts: &mut TraceFacts) {
        for (span, _) in facts.spans.iter_mut().zip(&self.moved).filter(|(_, is_moved)| **is_moved) {
            span.flags.push("moved");
        }
    }

    pub fn json(&self, facts: &TraceFacts) -> ClocksJson {
        let (hosts, traces) = self.hosts.as_ref().map_or((&[][..], 0), |(hosts, traces)| (hosts, *traces));
        ClocksJson {
            corrected: self.hosts.is_some(),
            impossible: facts.spans.iter().filter(|span| span.flags.contains(&"skew")).count(),
            traces,
            hosts: hosts
                .iter()
                .map(|host| HostJson {
                    host: host.host.clone(),
                    offset_ns: host.offset_ns,
                    calls: host.calls,
                    shared: host.is_shared,
                })
                .collect(),
        }
    }
}

/// A trace of the store, with the times asked for.
pub async fn timed(app: &App, trace: Trace, clocks: ClocksOf) -> Result<Timed, ApiError> {
    if clocks == ClocksOf::Raw {
        return Ok(Timed::raw(trace));
    }
    let start = trace.spans.iter().map(|span| span.span.start_unix_nano).min().unwrap_or(0);
    let found = app.clocks(start.saturating_sub(AROUND_NS), start.saturating_add(AROUND_NS)).await?;
    Ok(Timed::corrected(&trace, &found.offsets))
}
