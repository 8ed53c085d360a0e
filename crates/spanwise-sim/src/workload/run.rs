//! Runs programs on paper: spans, and who really waited for whom.

use std::collections::BTreeMap;
use std::sync::Arc;

use spanwise_model::{
    Event, KeyValue, Resource, Scope, Span, SpanId, SpanKind, Status, StatusCode, Trace, TraceId, TraceSpan, Value,
};

use super::World;
use super::naming;
use super::program::{Call, Convention, Count, Step, Target, Time, When};
use crate::rng::Rng;

/// Time on the true critical path by service.
pub type TruePath = BTreeMap<usize, u64>;

/// One request as it truly was.
#[derive(Debug, Clone)]
pub struct Run {
    pub trace: Trace,
    pub path: TruePath,
}

struct Outcome {
    end: u64,
    path: TruePath,
    failed: bool,
}

/// What a request is about.
pub struct Request {
    pub number: u64,
    pub size: u64,
    pub traits: Vec<(&'static str, String)>,
}

pub struct Runner<'a> {
    world: &'a World,
    rng: Rng,
    request: Request,
    trace_id: TraceId,
    trace: Trace,
    resources: BTreeMap<usize, (Arc<Resource>, Arc<Scope>)>,
    trace_state: String,
}

fn add(path: &mut TruePath, service: usize, ns: u64) {
    *path.entry(service).or_default() += ns;
}

fn merge(into: &mut TruePath, other: TruePath) {
    other.into_iter().for_each(|(service, ns)| add(into, service, ns));
}

impl<'a> Runner<'a> {
    pub fn new(world: &'a World, mut rng: Rng, request: Request, trace_state: String) -> Self {
        let mut trace_id = [0; 16];
        trace_id[..8].copy_from_slice(&rng.draw().to_be_bytes());
        trace_id[8..].copy_from_slice(&rng.draw().to_be_bytes());
        Self {
            world,
            rng,
            request,
            trace_id: TraceId(trace_id),
            trace: Trace::default(),
            resources: BTreeMap::new(),
            trace_state,
        }
    }

    /// Answers one request at an entry point.
    pub fn run(mut self, entry: usize, start: u64) -> Run {
        let operation = &self.world.operations[entry];
        let span = self.span(operation.service, None, SpanKind::Server, start);
        let id = self.rng.between(1, 99_999);
        let outcome = self.serve(entry, span, start, id);
        let traits = self.request.traits.clone();
        let number = self.request.number;
        let attributes = &mut self.trace.spans[span].span.attributes;
        attributes.extend(traits.iter().map(|(key, value)| KeyValue::new(*key, value.as_str())));
        attributes.push(KeyValue::new("enduser.id", format!("user-{}", number % 5003)));
        Run { trace: self.trace, path: outcome.path }
    }

    fn time(&mut self, time: Time) -> u64 {
        self.rng.latency(time.median_us, time.sigma)
    }

    fn span(&mut self, service: usize, parent: Option<usize>, kind: SpanKind, start: u64) -> usize {
        let world = self.world;
        let rng = &mut self.rng;
        let (resource, scope) = self
            .resources
            .entry(service)
            .or_insert_with(|| naming::resource(&world.services[service], rng.between(1, world.services[service].pods)))
            .clone();
        let kind = match world.services[service].convention {
            Convention::NamesWithoutKinds => SpanKind::Internal,
            _ => kind,
        };
        let span = Span {
            trace_id: self.trace_id,
            span_id: SpanId((self.rng.draw() | 1).to_be_bytes()),
            parent_span_id: parent.map(|place| self.trace.spans[place].span.span_id),
            kind,
            start_unix_nano: start,
            end_unix_nano: start,
            trace_state: self.trace_state.clone(),
            ..Span::default()
        };
        self.trace.spans.push(TraceSpan { resource, scope, span });
        self.trace.spans.len() - 1
    }

    fn end(&mut self, span: usize, end: u64, failed: bool) {
        let span = &mut self.trace.spans[span].span;
        span.end_unix_nano = end;
        if failed {
            span.status = Status { code: StatusCode::Error, message: "it failed".to_owned() };
            span.events.push(Event {
                time_unix_nano: end,
                name: "exception".to_owned(),
                attributes: vec![KeyValue::new("exception.type", "RuntimeError")],
                dropped_attributes_count: 0,
            });
        }
    }

    fn serve(&mut self, operation: usize, span: usize, start: u64, id: u64) -> Outcome {
        let world = self.world;
        let operation = &world.operations[operation];
        let outcome = self.steps(operation.service, span, &operation.steps, start);
        naming::server(
            &world.services[operation.service],
            operation,
            id,
            outcome.failed,
            &mut self.trace.spans[span].span,
        );
        self.end(span, outcome.end, outcome.failed);
        outcome
    }

    fn steps(&mut self, service: usize, span: usize, steps: &[Step], start: u64) -> Outcome {
        let mut at = start;
        let mut path = TruePath::new();
        for step in steps {
            let outcome = self.step(service, span, step, at);
            at = outcome.end;
            merge(&mut path, outcome.path);
            if outcome.failed {
                return Outcome { end: at, path, failed: true };
            }
        }
        Outcome { end: at, path, failed: false }
    }

    fn step(&mut self, service: usize, span: usize, step: &Step, start: u64) -> Outcome {
        let nothing = Outcome { end: start, path: TruePath::new(), failed: false };
        match step {
            Step::Work(time) => self.work(service, start, *time, 1),
            Step::WorkPerItem(time) => self.work(service, start, *time, self.request.size),
            Step::Call(call) => self.call(service, span, call, start, None),
            Step::Span(name, steps) => {
                let inner = self.span(service, Some(span), SpanKind::Internal, start);
                self.trace.spans[inner].span.name.clone_from(name);
                let outcome = self.steps(service, inner, steps, start);
                self.end(inner, outcome.end, outcome.failed);
                outcome
            }
            Step::Loop(count, steps) => {
                let mut whole = nothing;
                for _ in 0..self.count(*count) {
                    let outcome = self.steps(service, span, steps, whole.end);
                    merge(&mut whole.path, outcome.path);
                    whole.end = outcome.end;
                    whole.failed = outcome.failed;
                    if outcome.failed {
                        break;
                    }
                }
                whole
            }
            Step::Parallel(count, steps) => {
                let branches: Vec<&[Step]> = (0..self.count(*count)).map(|_| &steps[..]).collect();
                self.join(service, span, &branches, start)
            }
            Step::Join(branches) => {
                let branches: Vec<&[Step]> = branches.iter().map(|branch| &branch[..]).collect();
                self.join(service, span, &branches, start)
            }
            Step::If(when, steps) => match self.holds(when) {
                true => self.steps(service, span, steps, start),
                false => nothing,
            },
            Step::Retry { call, attempts, back_off } => {
                let mut whole = nothing;
                // The same thing is asked for again.
                let id = Some(self.rng.between(1, 99_999));
                for attempt in 0..*attempts {
                    let tried = Call { is_swallowed: false, ..call.clone() };
                    let outcome = self.call(service, span, &tried, whole.end, id);
                    merge(&mut whole.path, outcome.path);
                    whole.end = outcome.end;
                    whole.failed = outcome.failed;
                    if !outcome.failed {
                        break;
                    }
                    if attempt + 1 < *attempts {
                        let wait = self.time(*back_off) << attempt.min(6);
                        add(&mut whole.path, service, wait);
                        whole.end += wait;
                    }
                }
                whole.failed &= !call.is_swallowed;
                whole
            }
            Step::Detached(steps) => {
                let delay = self.rng.latency(50.0, 0.2);
                self.steps(service, span, steps, start + delay);
                nothing
            }
        }
    }

    fn join(&mut self, service: usize, span: usize, branches: &[&[Step]], start: u64) -> Outcome {
        let mut last = Outcome { end: start, path: TruePath::new(), failed: false };
        let mut failed = false;
        for branch in branches {
            let delay = self.rng.latency(20.0, 0.3);
            let mut outcome = self.steps(service, span, branch, start + delay);
            add(&mut outcome.path, service, delay);
            failed |= outcome.failed;
            if outcome.end > last.end {
                last = outcome;
            }
        }
        last.failed = failed;
        last
    }

    fn work(&mut self, service: usize, start: u64, time: Time, times: u64) -> Outcome {
        let ns = self.time(time) * times;
        Outcome { end: start + ns, path: TruePath::from([(service, ns)]), failed: false }
    }

    fn count(&mut self, count: Count) -> u64 {
        match count {
            Count::Fixed(count) => count,
            Count::Between(low, high) => self.rng.between(low, high),
            Count::Size(low, high) => self.request.size.clamp(low, high),
        }
    }

    fn holds(&mut self, when: &When) -> bool {
        match when {
            When::Never => false,
            When::Always => true,
            When::Chance(probability) => self.rng.chance(*probability),
            When::Trait(key, value) => self.request.traits.iter().any(|(own, other)| own == key && other == value),
            When::Since(number) => self.request.number >= *number,
        }
    }

    fn call(&mut self, service: usize, parent: usize, call: &Call, start: u64, id: Option<u64>) -> Outcome {
        let world = self.world;
        let caller = &world.services[service];
        let wire = self.time(call.wire);
        let out = wire * self.rng.between(35, 65) / 100;
        let mut path = TruePath::new();
        let failed = self.holds(&call.fails);
        let id = id.unwrap_or_else(|| self.rng.between(1, 99_999));
        match &call.target {
            Target::Operation(operation) => {
                let client = caller.has_client_spans.then(|| self.span(service, Some(parent), SpanKind::Client, start));
                let callee = &world.operations[*operation];
                let server = self.span(callee.service, Some(client.unwrap_or(parent)), SpanKind::Server, start + out);
                let mut outcome = self.serve(*operation, server, start + out, id);
                if failed {
                    outcome.failed = true;
                    naming::server(
                        &world.services[callee.service],
                        callee,
                        id,
                        true,
                        &mut self.trace.spans[server].span,
                    );
                    self.end(server, outcome.end, true);
                }
                let end = outcome.end + (wire - out);
                merge(&mut path, outcome.path);
                add(&mut path, service, wire);
                if let Some(client) = client {
                    naming::client(
                        caller,
                        &world.services[callee.service],
                        callee,
                        id,
                        outcome.failed,
                        &mut self.trace.spans[client].span,
                    );
                    self.end(client, end, outcome.failed);
                }
                Outcome { end, path, failed: outcome.failed && !call.is_swallowed }
            }
            Target::Store { store, statement, table } => {
                let span = self.span(service, Some(parent), SpanKind::Client, start);
                let end = start + self.time(call.time) + wire;
                let own = &mut self.trace.spans[span].span;
                naming::store(caller, *store, *statement, table, id, own);
                if call.has_rows && caller.convention != Convention::NamesWithoutKinds {
                    let rows = i64::try_from(self.request.size).unwrap_or(0);
                    own.attributes
                        .push(KeyValue { key: "db.response.returned_rows".to_owned(), value: Value::Int(rows) });
                }
                self.end(span, end, failed && !call.is_expected);
                add(&mut path, service, end - start);
                Outcome { end, path, failed: failed && !call.is_expected && !call.is_swallowed }
            }
            Target::Host { host, path: route } => {
                let span = self.span(service, Some(parent), SpanKind::Client, start);
                let end = start + self.time(call.time) + wire;
                naming::host(caller, host, route, id, failed, call.is_expected, &mut self.trace.spans[span].span);
                self.end(span, end, failed);
                add(&mut path, service, end - start);
                Outcome { end, path, failed: failed && !call.is_expected && !call.is_swallowed }
            }
            Target::Queue { topic, consumer } => {
                let span = self.span(service, Some(parent), SpanKind::Producer, start);
                let end = start + self.time(call.time) + wire;
                naming::queue(caller, topic, "send", &mut self.trace.spans[span].span);
                self.end(span, end, false);
                add(&mut path, service, end - start);
                if let Some(consumer) = consumer {
                    let later = end + self.rng.latency(20_000.0, 0.6);
                    let of = &world.operations[*consumer];
                    let process = self.span(of.service, Some(span), SpanKind::Consumer, later);
                    let outcome = self.steps(of.service, process, &of.steps, later);
                    naming::queue(&world.services[of.service], topic, "process", &mut self.trace.spans[process].span);
                    self.end(process, outcome.end, outcome.failed);
                }
                Outcome { end, path, failed: false }
            }
        }
    }
}
