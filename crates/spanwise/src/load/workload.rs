//! A deterministic shop: 20 services of two instances each, about 12 spans a trace, spread over the requests of
//! their processes as SDK batchers send them. The same seed gives the same bytes.

use spanwise_model::{KeyValue, Resource, Scope, Span, SpanId, SpanKind, Status, StatusCode, TraceId};
use spanwise_wire::encode::{encode_resource_header, encode_scope_header, encode_span};
use spanwise_wire::{Piece, frame};

/// Spans that an SDK's batcher sends at most in one request.
const REQUEST_SPANS: usize = 512;
/// A process that has waited while the whole shop made this many spans sends what it has.
const PATIENCE_SPANS: usize = 24 * 512;
const USERS: u64 = 20_000;
const INSTANCES: usize = 2;

/// Services in calling order; what each calls and in which way.
const SERVICES: [(&str, Call); 20] = [
    ("gateway", Call::Http(&[1, 2, 3])),
    ("auth", Call::Redis),
    ("cart", Call::Http(&[4, 5, 1])),
    ("checkout", Call::Http(&[6, 7, 8, 9])),
    ("catalog", Call::Sql),
    ("pricing", Call::Redis),
    ("payment", Call::Http(&[10, 11])),
    ("shipping", Call::Sql),
    ("inventory", Call::Sql),
    ("orders", Call::Sql),
    ("fraud", Call::Redis),
    ("ledger", Call::Sql),
    ("search", Call::Http(&[4, 13])),
    ("recommend", Call::Redis),
    ("reviews", Call::Sql),
    ("profile", Call::Http(&[1, 14])),
    ("email", Call::Redis),
    ("notify", Call::Http(&[16])),
    ("media", Call::Redis),
    ("admin", Call::Http(&[9, 8, 15])),
];
/// Where requests enter, by how often.
const ENTRIES: [usize; 8] = [0, 0, 0, 0, 12, 15, 17, 19];
const ROUTES: [&str; 6] = ["/cart", "/checkout", "/products/{id}", "/orders/{id}", "/search", "/profile/{id}"];
const TABLES: [&str; 5] = ["items", "orders", "payments", "stock", "reviews"];

#[derive(Clone, Copy)]
enum Call {
    Http(&'static [usize]),
    Sql,
    Redis,
}

/// SplitMix64: small, fast, and the same everywhere.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// One OTLP request as a process of the shop would send it.
#[derive(Debug, Clone)]
pub struct Request {
    pub bytes: Vec<u8>,
    pub spans: usize,
}

/// What was generated, for checking answers against.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub spans: u64,
    pub traces: u64,
    pub error_traces: u64,
    pub slow_traces: u64,
}

struct Process {
    resource: Vec<u8>,
    scope: Vec<u8>,
    spans: Vec<Vec<u8>>,
    waiting_since: usize,
}

/// Generates requests until `spans` spans are made.
pub struct Workload {
    random: Random,
    processes: Vec<Process>,
    /// Unix nanoseconds at which the next trace starts.
    now: u64,
    /// Time between two traces' starts.
    gap_ns: u64,
    pub totals: Totals,
}

struct Trace {
    id: TraceId,
    user: String,
    failed: bool,
    slow: bool,
}

impl Workload {
    /// `start_unix_nano`: when the first trace starts; `gap_ns`: how long until the next.
    pub fn new(seed: u64, start_unix_nano: u64, gap_ns: u64) -> Self {
        let mut random = Random::new(seed);
        let processes = (0..SERVICES.len() * INSTANCES).map(|place| process(&mut random, place)).collect();
        Self { random, processes, now: start_unix_nano, gap_ns, totals: Totals::default() }
    }

    /// Requests with at least `spans` spans in all; every trace among them is whole.
    pub fn requests(&mut self, spans: u64) -> Vec<Request> {
        let target = self.totals.spans + spans;
        let mut requests = Vec::new();
        while self.totals.spans < target {
            self.trace();
            self.flush(&mut requests, false);
        }
        self.flush(&mut requests, true);
        requests
    }

    fn trace(&mut self) {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.random.next().to_be_bytes());
        id[8..].copy_from_slice(&self.random.next().to_be_bytes());
        let trace = Trace {
            id: TraceId(id),
            user: format!("u-{:05}", self.random.below(USERS)),
            failed: self.random.chance(2),
            slow: self.random.chance(1),
        };
        self.totals.traces += 1;
        self.totals.error_traces += u64::from(trace.failed);
        self.totals.slow_traces += u64::from(trace.slow);
        self.now += self.gap_ns;
        let entry = self.random.pick(&ENTRIES);
        let start = self.now;
        let mut budget = 6 + self.random.below(13) as usize;
        self.server(&trace, entry, None, start, 0, &mut budget);
    }

    /// A server span and what it calls; returns when it ended.
    fn server(
        &mut self,
        trace: &Trace,
        service: usize,
        parent: Option<SpanId>,
        start: u64,
        depth: usize,
        budget: &mut usize,
    ) -> u64 {
        *budget = budget.saturating_sub(1);
        let instance = service * INSTANCES + self.random.below(INSTANCES as u64) as usize;
        let id = self.span_id();
        let mut at = start + 20_000 + self.random.below(400_000);
        match SERVICES[service].1 {
            Call::Http(callees) => {
                for callee in callees {
                    if *budget == 0 || depth > 4 {
                        break;
                    }
                    at = self.client(trace, instance, id, *callee, at, depth, budget);
                    at += self.random.below(200_000);
                }
            }
            Call::Sql => at = self.statement(trace, instance, id, at, budget),
            Call::Redis => at = self.command(trace, instance, id, at, budget),
        }
        if trace.slow && parent.is_none() {
            at += 1_000_000_000 + self.random.below(2_000_000_000);
        }
        let end = at + self.random.below(300_000);
        let route = self.random.pick(&ROUTES);
        let number = self.random.below(1_000_000);
        let failed = trace.failed && parent.is_none();
        let attributes = vec![
            KeyValue::new("http.request.method", "GET"),
            KeyValue::new("http.route", route),
            KeyValue::new("url.path", route.replace("{id}", &number.to_string())),
            KeyValue::new("http.response.status_code", if failed { 500 } else { 200_i64 }),
            KeyValue::new("server.address", format!("{}.shop.svc", SERVICES[service].0)),
            KeyValue::new("client.address", format!("10.{}.{}.{}", number % 4, number % 199, number % 251)),
            KeyValue::new("user_agent.original", "shop-client/2.11 (linux; x86_64)"),
            KeyValue::new("user.id", trace.user.as_str()),
            KeyValue::new("network.protocol.version", "1.1"),
            KeyValue::new("thread.id", (number % 32) as i64),
        ];
        let name = format!("GET {route}");
        let span = Span { parent_span_id: parent, name, kind: SpanKind::Server, attributes, ..Span::default() };
        self.put(trace, instance, id, span, start, end, failed);
        end
    }

    #[allow(clippy::too_many_arguments)]
    fn client(
        &mut self,
        trace: &Trace,
        instance: usize,
        parent: SpanId,
        callee: usize,
        start: u64,
        depth: usize,
        budget: &mut usize,
    ) -> u64 {
        *budget = budget.saturating_sub(1);
        let id = self.span_id();
        let wire = 50_000 + self.random.below(300_000);
        let end = self.server(trace, callee, Some(id), start + wire, depth + 1, budget) + wire;
        let number = self.random.below(1_000_000);
        let host = format!("{}.shop.svc", SERVICES[callee].0);
        let attributes = vec![
            KeyValue::new("http.request.method", "GET"),
            KeyValue::new("url.full", format!("http://{host}:8080/v1/{}/{number}", SERVICES[callee].0)),
            KeyValue::new("http.response.status_code", 200_i64),
            KeyValue::new("server.address", host),
            KeyValue::new("server.port", 8080_i64),
            KeyValue::new("network.protocol.version", "1.1"),
            KeyValue::new("network.peer.address", format!("10.8.{}.{}", callee, number % 251)),
            KeyValue::new("peer.service", SERVICES[callee].0),
            KeyValue::new("http.request.resend_count", 0_i64),
            KeyValue::new("thread.id", (number % 32) as i64),
        ];
        let span = Span {
            parent_span_id: Some(parent),
            name: "GET".to_owned(),
            kind: SpanKind::Client,
            attributes,
            ..Span::default()
        };
        self.put(trace, instance, id, span, start, end, false);
        end
    }

    fn statement(&mut self, trace: &Trace, instance: usize, parent: SpanId, start: u64, budget: &mut usize) -> u64 {
        *budget = budget.saturating_sub(1);
        let (id, number) = (self.span_id(), self.random.below(10_000_000));
        let end = start + 200_000 + self.random.below(3_000_000);
        let table = self.random.pick(&TABLES);
        let text = format!("SELECT id, name, price, updated_at FROM {table} WHERE id = {number} AND deleted = 0");
        let attributes = vec![
            KeyValue::new("db.system.name", "postgresql"),
            KeyValue::new("db.namespace", "shop"),
            KeyValue::new("db.operation.name", "SELECT"),
            KeyValue::new("db.collection.name", table),
            KeyValue::new("db.query.text", text),
            KeyValue::new("server.address", "pg-main.shop.svc"),
            KeyValue::new("server.port", 5432_i64),
            KeyValue::new("db.response.returned_rows", (number % 40) as i64),
            KeyValue::new("thread.name", format!("pool-2-thread-{}", number % 16)),
            KeyValue::new("thread.id", (number % 32) as i64),
        ];
        let span = Span {
            parent_span_id: Some(parent),
            name: format!("SELECT {table}"),
            kind: SpanKind::Client,
            attributes,
            ..Span::default()
        };
        self.put(trace, instance, id, span, start, end, false);
        end
    }

    fn command(&mut self, trace: &Trace, instance: usize, parent: SpanId, start: u64, budget: &mut usize) -> u64 {
        *budget = budget.saturating_sub(1);
        let id = self.span_id();
        let end = start + 60_000 + self.random.below(400_000);
        let number = self.random.below(16);
        let attributes = vec![
            KeyValue::new("db.system.name", "redis"),
            KeyValue::new("db.operation.name", "GET"),
            KeyValue::new("db.query.text", format!("GET session:{}", trace.user)),
            KeyValue::new("server.address", "redis.shop.svc"),
            KeyValue::new("server.port", 6379_i64),
            KeyValue::new("network.peer.address", "10.8.0.6"),
            KeyValue::new("db.namespace", "0"),
            KeyValue::new("cache.hit", number > 2),
            KeyValue::new("thread.name", format!("redis-{number}")),
            KeyValue::new("thread.id", number as i64),
        ];
        let span = Span {
            parent_span_id: Some(parent),
            name: "GET".to_owned(),
            kind: SpanKind::Client,
            attributes,
            ..Span::default()
        };
        self.put(trace, instance, id, span, start, end, false);
        end
    }

    fn span_id(&mut self) -> SpanId {
        SpanId(self.random.next().max(1).to_be_bytes())
    }

    #[allow(clippy::too_many_arguments)]
    fn put(&mut self, trace: &Trace, instance: usize, id: SpanId, span: Span, start: u64, end: u64, failed: bool) {
        let status = if failed {
            Status { code: StatusCode::Error, message: "upstream connect error".to_owned() }
        } else {
            Status::default()
        };
        let span = Span {
            trace_id: trace.id,
            span_id: id,
            flags: 0x101,
            start_unix_nano: start,
            end_unix_nano: end,
            status,
            ..span
        };
        self.totals.spans += 1;
        let made = self.totals.spans as usize;
        let process = &mut self.processes[instance];
        if process.spans.is_empty() {
            process.waiting_since = made;
        }
        process.spans.push(encode_span(&span));
    }

    fn flush(&mut self, requests: &mut Vec<Request>, all: bool) {
        let made = self.totals.spans as usize;
        for process in &mut self.processes {
            let due = process.spans.len() >= REQUEST_SPANS || made - process.waiting_since >= PATIENCE_SPANS || all;
            while due && !process.spans.is_empty() {
                let rest = process.spans.split_off(process.spans.len().min(REQUEST_SPANS));
                let spans = std::mem::replace(&mut process.spans, rest);
                let pieces =
                    spans.iter().map(|span| Piece { resource: &process.resource, scope: &process.scope, span });
                requests.push(Request { bytes: frame(pieces), spans: spans.len() });
                process.waiting_since = made;
            }
        }
    }
}

fn process(random: &mut Random, place: usize) -> Process {
    let (service, instance) = (SERVICES[place / INSTANCES].0, place % INSTANCES);
    let resource = Resource {
        attributes: vec![
            KeyValue::new("service.name", service),
            KeyValue::new("service.version", format!("1.{}.0", place % 7)),
            KeyValue::new("service.instance.id", format!("{service}-{:08x}-{instance}", random.next() as u32)),
            KeyValue::new("deployment.environment.name", "production"),
            KeyValue::new("telemetry.sdk.language", "java"),
            KeyValue::new("host.name", format!("node-{:02}", place % 9)),
        ],
        ..Resource::default()
    };
    let scope = Scope { name: "io.opentelemetry.shop".to_owned(), version: "2.23.0".to_owned(), ..Scope::default() };
    Process {
        resource: encode_resource_header(&resource),
        scope: encode_scope_header(&scope),
        spans: Vec::new(),
        waiting_since: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spanwise_model::Limits;
    use spanwise_wire::Batch;
    use std::collections::HashSet;

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let bytes = |seed| -> Vec<_> {
            let requests = Workload::new(seed, 1_700_000_000_000_000_000, 1_000_000).requests(2_000);
            requests.into_iter().map(|request| request.bytes).collect()
        };
        assert_eq!(bytes(1), bytes(1));
        assert_ne!(bytes(1), bytes(2));
    }

    #[test]
    fn the_load_has_the_shape_that_the_benchmarks_name() {
        let mut workload = Workload::new(7, 1_700_000_000_000_000_000, 1_000_000);
        let requests = workload.requests(50_000);
        let bytes: usize = requests.iter().map(|request| request.bytes.len()).sum();
        let (mut spans, mut traces) = (0u64, HashSet::new());
        for request in requests {
            let parsed = Batch::parse(request.bytes.into(), &Limits::default()).unwrap();
            assert_eq!(parsed.rejected.spans, 0);
            assert_eq!(parsed.batch.len_spans(), request.spans);
            spans += request.spans as u64;
            traces.extend(parsed.batch.spans().iter().map(|span| span.trace_id));
        }
        let totals = workload.totals;
        assert_eq!((spans, traces.len() as u64), (totals.spans, totals.traces));
        let per_trace = totals.spans as f64 / totals.traces as f64;
        assert!((8.0..16.0).contains(&per_trace), "{per_trace} spans a trace");
        let per_span = bytes as f64 / spans as f64;
        assert!((380.0..480.0).contains(&per_span), "{per_span} B a span");
        assert!(totals.error_traces * 100 / totals.traces <= 3 && totals.slow_traces > 0);
    }
}
