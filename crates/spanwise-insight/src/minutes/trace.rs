//! What one trace adds to the counts.

use super::{Kind, Minutes, NOBODY, NodeKind, POINT_NS, POINTS, Slot};
use crate::analysis::Analysis;
use crate::calls::{CallView, Category};
use crate::minutes::Key;
use crate::names::{Name, Names};
use crate::population::MINUTE_NS;
use crate::sketch::fixed;

/// Callee, as a cell's `b` and `c`, and caller, `a`.
type Edge = (Name, Name, u64);

/// Serves again for the next trace.
#[derive(Default)]
pub(super) struct Memory {
    /// By which edge each span's service was entered.
    entered: Vec<Edge>,
    weights: Vec<f64>,
}

/// Whether a trace is counted, or taken away again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    Add,
    TakeAway,
}

pub fn minute_of(unix_nano: u64) -> u32 {
    // Less than 2^29.
    (unix_nano / MINUTE_NS) as u32
}

impl Slot {
    /// A thing of a trace; whether it is the first one of that trace here.
    fn count(&mut self, trace: u64, weight: f64, sign: i64) -> bool {
        self.cell.seen += sign;
        self.cell.adjusted = self.cell.adjusted.wrapping_add(sign * fixed(weight));
        self.vary(trace, weight, sign)
    }

    fn vary(&mut self, trace: u64, weight: f64, sign: i64) -> bool {
        let is_first = self.trace != trace;
        if is_first {
            (self.trace, self.of_trace) = (trace, 0.0);
        }
        if weight > 1.0 {
            let before = self.of_trace;
            let after = before + weight;
            // Horvitz and Thompson's, for traces that were drawn independently, each with probability 1 / weight.
            let more = (after * after - before * before) * (1.0 - 1.0 / weight);
            self.cell.variance = self.cell.variance.wrapping_add(sign * more.round() as i64);
        }
        self.of_trace += weight;
        is_first
    }
}

/// Whom a call without an answering span went to.
fn silent(call: &CallView, names: &mut Names) -> Option<(Name, u64)> {
    let name = call.peer.or(call.system);
    match call.category {
        Category::Database => {
            Some((name.unwrap_or_else(|| names.number("database")), NodeKind::Store.code(call.system)))
        }
        Category::Messaging => Some((name?, NodeKind::Queue.code(call.system))),
        _ => Some((call.peer?, NodeKind::Host.code(call.system))),
    }
}

impl Minutes {
    /// Counts the trace that was analysed, or takes it away again; `names` are those of the analysis.
    pub fn add_trace(&mut self, analysis: &Analysis, names: &mut Names, shape: Option<u64>, sign: Sign) {
        self.trace += 1;
        let trace = self.trace;
        let mut memory = std::mem::take(&mut self.memory);
        let of_trace = analysis.weigh(&mut memory.weights);
        let raw = analysis.raw();
        let sign = if sign == Sign::Add { 1 } else { -1 };
        memory.entered.clear();
        memory.entered.resize(raw.spans.len(), (NOBODY, NOBODY, 0));
        let service_of = |place: usize| raw.spans[place].service;
        for place in raw.tree.parents_first().iter().copied() {
            let (span, call) = (&raw.spans[place], &raw.calls[place]);
            let service = span.service;
            let minute = minute_of(span.start_unix_nano);
            let weight = memory.weights.get(place).copied().unwrap_or(of_trace);
            let (parts, failed) = (sign * fixed(weight), if span.is_error() { sign * fixed(weight) } else { 0 });
            let duration_ns = span.duration_ns();
            let parent = raw.tree.parent[place];
            let key = |kind, a, b, c| Key { kind, minute, a, b, c };
            // As often as the whole trace counts, so that services add up to the traces' durations.
            let critical_ns = sign * (raw.times[place].critical_ns as f64 * of_trace).round() as i64;
            let of_service = self.slot(key(Kind::Service, service, 0, 0));
            of_service.cell.seen += sign;
            of_service.cell.adjusted = of_service.cell.adjusted.wrapping_add(parts);
            of_service.cell.critical_ns = of_service.cell.critical_ns.wrapping_add(critical_ns);
            let called = |minutes: &mut Minutes, edge: Edge| {
                let slot = minutes.slot(key(Kind::Edge, edge.0, edge.1, edge.2));
                if slot.count(trace, weight, sign) {
                    slot.cell.extra = slot.cell.extra.wrapping_add(sign * fixed(of_trace));
                }
                slot.cell.errors = slot.cell.errors.wrapping_add(failed);
                slot.cell.durations.add(duration_ns, parts);
            };
            memory.entered[place] = match parent {
                Some(parent) if service_of(parent) == service => memory.entered[parent],
                parent => {
                    of_service.vary(trace, weight, sign);
                    let point = span.start_unix_nano / POINT_NS % POINTS;
                    let of_point = &mut self.slot(key(Kind::Point, service, 0, point)).cell;
                    of_point.adjusted = of_point.adjusted.wrapping_add(parts);
                    of_point.errors = of_point.errors.wrapping_add(failed);
                    let requests = self.slot(key(Kind::Operation, service, call.operation, 0));
                    requests.count(trace, weight, sign);
                    requests.cell.errors = requests.cell.errors.wrapping_add(failed);
                    let of_root = if raw.root == Some(place) { parts } else { 0 };
                    requests.cell.extra = requests.cell.extra.wrapping_add(of_root);
                    requests.cell.durations.add(duration_ns, parts);
                    let edge = (parent.map_or(NOBODY, service_of), service, NodeKind::Service.code(None));
                    called(self, edge);
                    edge
                }
            };
            let mut charged = memory.entered[place];
            if call.is_outgoing {
                let children = &raw.tree.children[place];
                let is_inner = parent.is_some_and(|parent| {
                    raw.calls[parent].category == Category::Database && service_of(parent) == service
                });
                if let Some(child) = children.iter().copied().find(|child| service_of(*child) != service) {
                    // The wire belongs to the call.
                    charged = (service, service_of(child), NodeKind::Service.code(None));
                } else if !is_inner && let Some((name, code)) = silent(call, names) {
                    charged = (service, name, code);
                    called(self, charged);
                }
            }
            if critical_ns != 0 {
                let slot = self.slot(key(Kind::Edge, charged.0, charged.1, charged.2));
                slot.cell.critical_ns = slot.cell.critical_ns.wrapping_add(critical_ns);
            }
        }
        if let Some(root) = raw.root {
            let minute = minute_of(analysis.extent().0);
            let entry = Key { kind: Kind::Entry, minute, a: service_of(root), b: raw.calls[root].operation, c: 0 };
            let of_shape = shape.map(|shape| Key { kind: Kind::Shape, c: shape.max(1), ..entry });
            let parts = sign * fixed(of_trace);
            let failed = if raw.spans.iter().any(|span| span.is_error()) { parts } else { 0 };
            for key in [Some(entry), of_shape].into_iter().flatten() {
                let slot = self.slot(key);
                slot.count(trace, of_trace, sign);
                slot.cell.errors = slot.cell.errors.wrapping_add(failed);
                slot.cell.durations.add(raw.duration_ns, parts);
            }
        }
        self.memory = memory;
    }
}
