//! Every number that decides what is reported, with its reason.

/// Calls of one kind under one span before they count as repeated: four happen in hand-written sequences.
pub const REPEATS: usize = 5;
/// Failing calls before they count as a storm of retries: one retry is good manners.
pub const RETRIES: usize = 3;
/// At most a fifth of the calls' time overlaps for them to count as one by one.
pub const SERIAL: f64 = 0.8;
/// Spans between a loop and its calls: a repository's method and an ORM's.
pub const WRAPPERS: usize = 2;

/// Share of the shorter one's time in which two repeated calls must take turns to be one loop.
pub const TURNS: f64 = 0.8;

/// Traces of an entry point before anything is said of it.
pub const SEEN: usize = 20;
/// Traces that have the problem: fewer are an anecdote.
pub const AFFECTED: usize = 5;
/// And their share of the entry point's traces.
pub const AFFECTED_SHARE: f64 = 0.01;
/// Share of an affected trace's critical path that a problem explains at least, in the median: less is not felt.
pub const CRITICAL_SHARE: f64 = 0.1;
/// Milliseconds of it, in the median.
pub const CRITICAL_MS: f64 = 1.0;
/// A count that is the same in so many traces, and small, is a sequence that somebody wrote out.
pub const CONSTANT_IN: usize = 20;
pub const CONSTANT_UP_TO: usize = 8;
/// Share of the traces that must have that very count.
pub const CONSTANT_SHARE: f64 = 0.85;

/// Share of the critical path from which a dependency matters to a trace.
pub const DEPENDENCY_SHARE: f64 = 0.1;
/// Share of an entry point's traces in which it must.
pub const DEPENDENCY_TRACES: f64 = 0.5;
/// Traces of an entry point without a dependency before its appearance is news.
pub const NEW_AFTER: usize = 200;
/// Calls away from the entry point's service from which on nobody there knows of it.
pub const DEEP: usize = 3;
/// Entry points and callers that share what none of them calls itself.
pub const SHARED_ENTRY_POINTS: usize = 3;
pub const SHARED_CALLERS: usize = 2;

/// A path taken by more traces than this is not rare.
pub const RARE_SHARE: f64 = 0.05;
/// How many times the entry point's median it must take.
pub const TIMES_SLOWER: f64 = 3.0;
/// Traces of an entry point before a rare path can be told from chance.
pub const RARE_SEEN: usize = 100;
/// Most of the traces with the attribute or branch are slow, or it does not explain them.
pub const RARE_PRECISION: f64 = 0.6;
/// Different numbers of one attribute beyond which they are sizes, no kinds of requests.
pub const RARE_NUMBERS: usize = 12;
/// False discoveries among the attributes tested.
pub const FALSE_DISCOVERY_RATE: f64 = 0.01;
/// Values people choose for timeouts, in milliseconds, and how near a duration must lie.
pub const TIMEOUTS_MS: [u64; 14] =
    [100, 200, 250, 300, 500, 1_000, 1_500, 2_000, 3_000, 5_000, 10_000, 15_000, 30_000, 60_000];
pub const TIMEOUT_WITHIN: f64 = 0.02;
/// How many times the entry point's median requests take at least that wait for a timeout: less nobody would notice.
pub const WAITING_TIMES_SLOWER: f64 = 1.5;
/// Share of a request that the wait takes: otherwise something else makes it slower.
pub const WAITING_SHARE: f64 = 0.5;

/// Share of the operation's time that stands outside of every call.
pub const MISATTRIBUTED_SHARE: f64 = 0.5;
/// How many times the blamed call it is.
pub const MISATTRIBUTED_TIMES: f64 = 2.0;
/// Milliseconds from which it is worth a look.
pub const MISATTRIBUTED_MS: f64 = 20.0;
/// Less of one trace is kept as nothing: whether a median reaches the other does not depend on it.
pub const MISATTRIBUTED_LEAST_MS: f64 = 10.0;
/// Share of the time on the wire that lies before the server's span for it to be a queue in front of the server.
pub const QUEUE_SHARE: f64 = 0.85;
/// Rank correlation with a size from which a part of the time grows with it, and traces it takes.
pub const GROWS: f64 = 0.5;
pub const GROWS_SEEN: usize = 20;

/// Traces from which a finding is sure.
pub const SURE: usize = 50;

/// Traces of each side before two sets are compared: below it even a true difference mostly loses against chance.
pub const COMPARE_SEEN: usize = 20;
/// From here on the true attribute ranks first nearly always (`docs/adr/0011-findings.md`).
pub const COMPARE_SURE: usize = 100;
/// Traces with a value before it is tested: rarer ones only cost power.
pub const COMPARE_VALUE_SEEN: usize = 5;
/// False discoveries among the differences shown.
pub const COMPARE_Q: f64 = 0.05;
/// Difference of shares below which nobody would act: large numbers make trifles significant.
pub const COMPARE_DIFFERENCE: f64 = 0.02;
/// Normalised mutual information from which two attributes say the same.
pub const COMPARE_SAME: f64 = 0.95;
/// Differences shown.
pub const COMPARE_SHOWN: usize = 50;
