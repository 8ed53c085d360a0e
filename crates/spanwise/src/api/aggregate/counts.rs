//! Answers from the counts of minutes, which blocks keep beside their spans: as quick over ten million spans as over a
//! thousand. The window is rounded to whole minutes, durations are within one percent, and the answer says so.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use serde_json::{Value as Json, json};
use spanwise_insight::minutes::{Bounds, Cell, Key, Kind, Minutes, OTHER, minute_of};
use spanwise_insight::names::{Name, Names};
use spanwise_insight::population::MINUTE_NS;
use spanwise_query::Budget;
use spanwise_store::Snapshot;
use spanwise_store::sketches::{Asked, window::collect};

use super::{Answer, READING, Read, Window};
use crate::api::{ApiError, App, CancelOnDrop};
use crate::time_text::format_time;

/// What stands for all that there was no room for.
pub const OTHERS: &str = "(other)";

/// A window, and what is counted for it.
#[derive(Debug, Clone, Copy)]
pub struct Rounded {
    pub asked: Window,
    /// What of the minutes that it touches can hold spans: as far as asked, as far as there are spans.
    pub counted: Window,
}

impl Rounded {
    /// `starts` are the earliest and the latest start of any span.
    pub fn of(asked: Window, starts: Option<(u64, u64)>) -> Self {
        let (oldest, newest) = starts.unwrap_or((asked.from, asked.to));
        let first = asked.from / MINUTE_NS * MINUTE_NS;
        let last = (asked.to / MINUTE_NS).saturating_add(1).saturating_mul(MINUTE_NS).saturating_sub(1);
        let counted = Window { from: first.max(asked.from.min(oldest)), to: last.min(asked.to.max(newest)) };
        Self { asked, counted }
    }

    pub fn json(&self) -> Json {
        let Window { from, to } = self.asked;
        let end = (to / MINUTE_NS).saturating_add(1).saturating_mul(MINUTE_NS);
        json!({
            "start": format_time(from), "end": format_time(to), "rounded_to_s": MINUTE_NS / 1_000_000_000,
            "counted_start": format_time(from / MINUTE_NS * MINUTE_NS), "counted_end": format_time(end),
        })
    }
}

/// The counts of a window; minutes are put together, but for parts of them.
pub struct Counts {
    pub names: Names,
    pub minutes: Minutes,
    pub window: Rounded,
    pub complete: bool,
}

impl Counts {
    pub fn text(&self, name: Name) -> &str {
        if name == OTHER { OTHERS } else { self.names.text(name) }
    }

    pub fn of(&self, kind: Kind) -> impl Iterator<Item = (&Key, &Cell)> {
        self.minutes.cells().filter(move |(key, _)| key.kind == kind)
    }

    pub fn read(&self) -> Read {
        let sum = |kind: Kind, of: &dyn Fn(&Cell) -> f64| self.of(kind).map(|(_, cell)| of(cell)).sum::<f64>();
        Read {
            traces: sum(Kind::Entry, &|cell| cell.seen as f64).max(0.0) as usize,
            adjusted: sum(Kind::Entry, &Cell::count),
            spans: sum(Kind::Service, &|cell| cell.seen as f64).max(0.0) as u64,
            complete: self.complete,
        }
    }

    /// Adds to an answer what it was made of, and how.
    pub fn put(&self, answer: &mut Json) {
        let read = self.read();
        answer["window"] = self.window.json();
        answer["traces"] = json!(read.adjusted.round() as u64);
        answer["bounded"] = json!(self.minutes.is_bounded());
        read.put(answer);
    }
}

/// Every answer needs these for its totals.
const TOTALS: [Kind; 2] = [Kind::Service, Kind::Entry];

pub fn counts(snapshot: &Snapshot, asked: Window, kinds: &[Kind], budget: &Budget) -> Result<Counts, ApiError> {
    let started = Instant::now();
    let kinds: Vec<Kind> = TOTALS.iter().chain(kinds).copied().collect();
    let minutes = minute_of(asked.from)..=minute_of(asked.to);
    let wanted = Asked { kinds: &kinds, minutes, is_together: true };
    let mut counts = Counts {
        names: Names::default(),
        minutes: Minutes::new(Bounds::ANSWER),
        window: Rounded::of(asked, snapshot.starts()),
        complete: true,
    };
    let is_over = || budget.cancelled.load(Ordering::Relaxed) || started.elapsed() > budget.time;
    counts.complete =
        collect(snapshot, &wanted, &mut counts.names, &mut counts.minutes, &is_over).map_err(ApiError::internal)?;
    Ok(counts)
}

impl App {
    /// An answer over a window that may serve again; `key` names everything that it depends on beside the window.
    pub async fn answered(
        &self,
        key: String,
        window: Window,
        work: impl FnOnce(&Snapshot, &Budget) -> Result<Json, ApiError> + Send + 'static,
    ) -> Answer {
        let spans_stored = self.store.snapshot().spans();
        let key = format!("{key} {} {}", window.from, window.to);
        if let Some(json) = self.answers.find(&key, spans_stored) {
            return Ok(axum::Json(json));
        }
        let budget = Budget { time: READING, ..Budget::default() };
        let _cancel = CancelOnDrop(Arc::clone(&budget.cancelled));
        let json = self.blocking(move |snapshot| work(&snapshot, &budget)).await?;
        self.answers.keep(key, spans_stored, json.clone());
        Ok(axum::Json(json))
    }

    /// Answers from the counts of these kinds.
    pub async fn counted(
        &self,
        key: String,
        window: Window,
        kinds: &'static [Kind],
        answer: impl FnOnce(&Counts) -> Json + Send + 'static,
    ) -> Answer {
        self.answered(key, window, move |snapshot, budget| Ok(answer(&counts(snapshot, window, kinds, budget)?))).await
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use spanwise_insight::analysis::Analysis;
    use spanwise_insight::minutes::{KINDS, Sign};
    use spanwise_model::Trace;

    /// The counts of these traces.
    pub fn counted(traces: &[Trace], window: Window) -> Counts {
        let (mut names, mut minutes) = (Names::default(), Minutes::new(Bounds::ANSWER));
        for trace in traces {
            let mut analysis = Analysis::of(trace, &mut names);
            let shape = analysis.shape(&names);
            minutes.add_trace(&analysis, &mut names, shape, Sign::Add);
        }
        let mut together = Minutes::new(Bounds::ANSWER);
        for (kind, (key, cell)) in
            KINDS.into_iter().flat_map(|kind| minutes.sorted(kind).into_iter().map(move |cell| (kind, cell)))
        {
            let minute = if kind == Kind::Point { key.minute } else { 0 };
            together.merge(Key { minute, ..key }, cell);
        }
        Counts { names, minutes: together, window: Rounded::of(window, None), complete: true }
    }

    pub fn near(found: &Json, expected: f64) -> bool {
        found.as_f64().is_some_and(|found| (found - expected).abs() <= expected * 0.0101)
    }

    #[test]
    fn a_window_is_rounded_to_minutes_as_far_as_there_are_spans() {
        let minute = MINUTE_NS;
        for (asked, starts, counted) in [
            // All of what is stored.
            ((90, 200), Some((90, 200)), (90, 200)),
            // A part of it, in whole minutes.
            ((90, 200), Some((10, 500)), (60, 239)),
            // More than there is.
            ((0, 600), Some((90, 200)), (0, 600)),
            ((70, 80), None, (70, 80)),
        ] {
            let second = 1_000_000_000;
            let asked = Window { from: asked.0 * second, to: asked.1 * second };
            let starts = starts.map(|(oldest, newest)| (oldest * second, newest * second));
            let found = Rounded::of(asked, starts).counted;
            assert_eq!((found.from / second, found.to / second), counted, "{asked:?}");
        }
        let json = Rounded::of(Window { from: 3 * minute + 5, to: 4 * minute }, None).json();
        assert_eq!(json["counted_start"], format_time(3 * minute));
        assert_eq!((&json["counted_end"], &json["rounded_to_s"]), (&json!(format_time(5 * minute)), &json!(60)));
    }
}
