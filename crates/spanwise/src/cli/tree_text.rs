//! A trace as a waterfall of text, the critical path marked.

use std::fmt::Write as _;
use std::io::IsTerminal;

use spanwise_insight::{Mode, TraceFacts, trace_facts_in};
use spanwise_model::{StatusCode, Trace};

use crate::api::trace_json::tree_order;

/// Columns of the time bar.
const BAR: usize = 40;
/// Columns of names and indentation before the bar.
const LABEL: usize = 56;

/// Marks for a terminal; plain text when standard output is none, or `NO_COLOR` is set.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    pub colour: bool,
}

impl Style {
    pub fn detect() -> Self {
        Self {
            colour: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty()),
        }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

pub fn tree_text(trace: &Trace, mode: Mode, style: Style) -> String {
    let facts = trace_facts_in(trace, mode);
    let mut out = String::new();
    header(&mut out, trace, &facts, style);
    let depths = depths(&facts);
    for place in tree_order(&facts) {
        line(&mut out, trace, &facts, place, depths[place], style);
    }
    out.push('\n');
    let total = facts.duration_ns.max(1);
    let rule = if mode == Mode::Spanwise { String::new() } else { format!(" (by the rule of {})", mode.as_str()) };
    let _ = writeln!(out, "critical path by service{rule}");
    for service in &facts.critical_by_service {
        let share = service.ns as f64 * 100.0 / total as f64;
        let _ = writeln!(out, "  {:>9}  {share:>5.1} %  {}", duration(service.ns), printable(&service.service));
    }
    out
}

fn header(out: &mut String, trace: &Trace, facts: &TraceFacts, style: Style) {
    let Some(root) = facts.root.map(|place| &trace.spans[place]) else { return };
    let title = format!("{} {}", printable(root.resource.service_name()), printable(&root.span.name));
    let _ = writeln!(out, "{}", style.paint("1", &title));
    let errors = match facts.error_count {
        0 => String::new(),
        count => style.paint("31", &format!(", {count} with errors")),
    };
    let _ = writeln!(
        out,
        "trace {} · {} · {} spans{errors} · {} services · █ critical path ░ the rest\n",
        root.span.trace_id,
        duration(facts.duration_ns),
        trace.spans.len(),
        facts.services.len(),
    );
}

fn depths(facts: &TraceFacts) -> Vec<usize> {
    let mut depths = vec![0; facts.spans.len()];
    for place in tree_order(facts) {
        if let Some(parent) = facts.tree.parent[place] {
            depths[place] = depths[parent] + 1;
        }
    }
    depths
}

fn line(out: &mut String, trace: &Trace, facts: &TraceFacts, place: usize, depth: usize, style: Style) {
    let span = &trace.spans[place];
    let failed = span.span.status.code == StatusCode::Error;
    let mark = if failed { "!" } else { " " };
    let name = format!("{} {}", printable(span.resource.service_name()), printable(&span.span.name));
    let label: String = format!("{mark}{}{name}", "  ".repeat(depth.min(16))).chars().take(LABEL).collect();
    let label = format!("{label:<LABEL$}");
    let label = if failed { style.paint("31", &label) } else { label };
    let _ = write!(out, "{label} {} {:>9}", bar(trace, facts, place, style), duration(span.span.duration_ns()));
    if facts.spans[place].critical_ns > 0 {
        let _ = write!(out, "  critical {}", duration(facts.spans[place].critical_ns));
    }
    for flag in &facts.spans[place].flags {
        let _ = write!(out, " [{flag}]");
    }
    out.push('\n');
}

fn bar(trace: &Trace, facts: &TraceFacts, place: usize, style: Style) -> String {
    let total = facts.duration_ns.max(1) as f64;
    let column = |unix_nano: u64| {
        let offset = unix_nano.saturating_sub(facts.start_unix_nano) as f64;
        ((offset * BAR as f64 / total) as usize).min(BAR)
    };
    let span = &trace.spans[place].span;
    let mut cells = vec![' '; BAR];
    let start = column(span.start_unix_nano).min(BAR - 1);
    let end = column(span.end_unix_nano).clamp(start + 1, BAR);
    cells[start..end].fill('░');
    for segment in facts.critical_path.segments.iter().filter(|segment| segment.span == Some(place)) {
        let start = column(segment.start_unix_nano).min(BAR - 1);
        let end = column(segment.end_unix_nano).clamp(start + 1, BAR);
        cells[start..end].fill('█');
    }
    style.paint("36", &cells.into_iter().collect::<String>())
}

/// Three significant digits with a unit.
pub fn duration(ns: u64) -> String {
    let value = ns as f64;
    let (value, unit) = match ns {
        0..1_000 => return format!("{ns} ns"),
        1_000..1_000_000 => (value / 1e3, "µs"),
        1_000_000..1_000_000_000 => (value / 1e6, "ms"),
        1_000_000_000..60_000_000_000 => (value / 1e9, "s"),
        _ => (value / 60e9, "min"),
    };
    let digits = if value >= 99.95 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    format!("{value:.digits$} {unit}")
}

/// Text from the network may hold anything: what would move the cursor or colour the terminal is escaped.
pub fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_significant_digits() {
        for (ns, expected) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_430, "1.43 µs"),
            (84_000, "84.0 µs"),
            (840_000, "840 µs"),
            (1_430_000_000, "1.43 s"),
            (90_000_000_000, "1.50 min"),
        ] {
            assert_eq!(duration(ns), expected);
        }
    }

    #[test]
    fn terminal_escapes_are_shown_not_obeyed() {
        assert_eq!(printable("a\x1b[31mb\r\n"), "a\\u{1b}[31mb\\r\\n");
    }
}
