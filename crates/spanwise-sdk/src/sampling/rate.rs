//! At most so many traces a second.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::Verdict;

/// A bucket that fills at a steady rate and holds one second's worth (at least one trace).
#[derive(Debug)]
pub struct RateLimit {
    per_second: f64,
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    traces: f64,
    filled: Instant,
}

impl RateLimit {
    /// At most `per_second` traces a second; not a number or negative means none.
    pub fn new(per_second: f64) -> Self {
        let per_second = if per_second.is_finite() { per_second.max(0.0) } else { 0.0 };
        Self { per_second, bucket: Mutex::new(Bucket { traces: capacity(per_second), filled: Instant::now() }) }
    }

    pub(super) fn decide(&self) -> Verdict {
        if self.takes(Instant::now()) { Verdict::Keep(None) } else { Verdict::Drop }
    }

    fn takes(&self, now: Instant) -> bool {
        let Ok(mut bucket) = self.bucket.lock() else { return false };
        let elapsed = now.checked_duration_since(bucket.filled).unwrap_or(Duration::ZERO);
        bucket.traces = (bucket.traces + elapsed.as_secs_f64() * self.per_second).min(capacity(self.per_second));
        bucket.filled = bucket.filled.max(now);
        let takes = bucket.traces >= 1.0;
        if takes {
            bucket.traces -= 1.0;
        }
        takes
    }
}

/// A rate below one still lets a trace through now and then.
fn capacity(per_second: f64) -> f64 {
    if per_second == 0.0 { 0.0 } else { per_second.max(1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_s_worth_at_once_then_the_rate() {
        let limit = RateLimit::new(10.0);
        let start = Instant::now();
        let taken = |at: Duration| (0..100).filter(|_| limit.takes(start + at)).count();
        assert_eq!(taken(Duration::ZERO), 10);
        assert_eq!(taken(Duration::from_millis(100)), 1);
        assert_eq!(taken(Duration::from_secs(60)), 10);
        // Time that runs backwards gives nothing.
        assert_eq!(taken(Duration::from_secs(1)), 0);
        let slow = RateLimit::new(0.5);
        assert!(
            slow.takes(start)
                && !slow.takes(start + Duration::from_secs(1))
                && slow.takes(start + Duration::from_secs(3))
        );
        assert!(!RateLimit::new(0.0).takes(start) && !RateLimit::new(f64::NAN).takes(start));
    }
}
