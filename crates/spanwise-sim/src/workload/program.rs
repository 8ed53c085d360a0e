//! What services do, written as small programs.

/// Time of work: median in microseconds and how far it spreads (sigma of its logarithm).
#[derive(Debug, Clone, Copy)]
pub struct Time {
    pub median_us: f64,
    pub sigma: f64,
}

pub const fn us(median_us: f64) -> Time {
    Time { median_us, sigma: 0.25 }
}

pub const fn exactly_us(median_us: f64) -> Time {
    Time { median_us, sigma: 0.003 }
}

/// How often a loop runs.
#[derive(Debug, Clone, Copy)]
pub enum Count {
    Fixed(u64),
    Between(u64, u64),
    /// As many as the request has items, between the bounds.
    Size(u64, u64),
}

/// Which system a call without a server's span goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    Postgres,
    MySql,
    MsSql,
    Oracle,
    Sqlite,
    Redis,
    Mongo,
}

impl Store {
    pub const SQL: [Store; 5] = [Store::Postgres, Store::MySql, Store::MsSql, Store::Oracle, Store::Sqlite];
}

#[derive(Debug, Clone)]
pub enum Target {
    /// An operation of another service: its place in [`super::World::operations`].
    Operation(usize),
    /// A statement on the caller's own store; `table` names it.
    Store { store: Store, statement: Statement, table: String },
    /// A host that sends no spans.
    Host { host: String, path: String },
    /// A message; who consumes it does so later.
    Queue { topic: String, consumer: Option<usize> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statement {
    ById,
    List,
    Insert,
    /// A page of a list, by offset.
    Page,
    /// A page of a list, from a key onwards.
    Keyset,
    Connect,
}

#[derive(Debug, Clone)]
pub struct Call {
    pub target: Target,
    /// For stores and hosts: how long they take.
    pub time: Time,
    /// Out and back together.
    pub wire: Time,
    pub fails: When,
    /// Status of a failure is one that the caller expects (404), so no failure at all.
    pub is_expected: bool,
    /// The caller goes on without the answer.
    pub is_swallowed: bool,
    /// Rows in the answer: as many as the request has items.
    pub has_rows: bool,
}

#[derive(Debug, Clone)]
pub enum When {
    Never,
    Always,
    Chance(f64),
    /// The request has this trait.
    Trait(&'static str, String),
    /// The request's number is at least this.
    Since(u64),
}

#[derive(Debug, Clone)]
pub enum Step {
    Work(Time),
    /// Work that takes `time` for each of the request's items.
    WorkPerItem(Time),
    Call(Call),
    /// A span of the service's own around some steps.
    Span(String, Vec<Step>),
    /// One after the other.
    Loop(Count, Vec<Step>),
    /// All at once; then waits for the last.
    Parallel(Count, Vec<Step>),
    /// Branches at once.
    Join(Vec<Vec<Step>>),
    If(When, Vec<Step>),
    /// Tries a call until it succeeds, at most so often, waiting longer each time.
    Retry {
        call: Call,
        attempts: u64,
        back_off: Time,
    },
    /// Starts something that nobody waits for.
    Detached(Vec<Step>),
}

/// What one service answers.
#[derive(Debug, Clone)]
pub struct Operation {
    pub service: usize,
    pub method: &'static str,
    /// With `{id}` where one stands.
    pub route: String,
    pub steps: Vec<Step>,
}

/// How a service names things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Convention {
    Old,
    New,
    /// Names and kinds, no attributes.
    Names,
    /// Names alone.
    NamesWithoutKinds,
}

#[derive(Debug, Clone)]
pub struct Service {
    pub name: String,
    pub convention: Convention,
    pub uses_rpc: bool,
    pub store: Store,
    /// Statements carry their values, or placeholders.
    pub has_literals: bool,
    /// Raw paths instead of routes in names and attributes.
    pub has_raw_names: bool,
    /// Sends spans of its calls to other services.
    pub has_client_spans: bool,
    pub pods: u64,
}
