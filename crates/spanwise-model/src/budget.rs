//! Memory is admitted in bytes before it is spent. A [`MemoryBudget`] is shared; a [`Charge`] gives back on drop.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Debug, Clone)]
pub struct MemoryBudget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limit: usize,
    used: AtomicUsize,
}

/// Bytes held from a budget until dropped.
#[derive(Debug)]
pub struct Charge {
    budget: MemoryBudget,
    bytes: usize,
}

impl MemoryBudget {
    pub fn new(limit_bytes: usize) -> Self {
        Self(Arc::new(Shared { limit: limit_bytes, used: AtomicUsize::new(0) }))
    }

    /// `None` when the bytes do not fit now; nothing is charged then.
    pub fn try_charge(&self, bytes: usize) -> Option<Charge> {
        self.take(bytes).then(|| Charge { budget: self.clone(), bytes })
    }

    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    pub fn limit(&self) -> usize {
        self.0.limit
    }

    fn take(&self, bytes: usize) -> bool {
        self.0
            .used
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|sum| *sum <= self.0.limit)
            })
            .is_ok()
    }
}

impl Charge {
    /// `false`, and nothing more is held, when `extra` bytes do not fit.
    pub fn grow(&mut self, extra: usize) -> bool {
        let taken = self.budget.take(extra);
        if taken {
            self.bytes += extra;
        }
        taken
    }

    /// Gives back all but `bytes`; never grows.
    pub fn shrink_to(&mut self, bytes: usize) {
        let back = self.bytes.saturating_sub(bytes);
        self.budget.0.used.fetch_sub(back, Ordering::Relaxed);
        self.bytes -= back;
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.0.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charge_is_given_back_when_dropped() {
        let budget = MemoryBudget::new(100);
        let charge = budget.try_charge(60).unwrap();
        assert!(budget.try_charge(41).is_none());
        assert_eq!(budget.used(), 60);
        drop(charge);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn growing_past_the_limit_changes_nothing() {
        let budget = MemoryBudget::new(100);
        let mut charge = budget.try_charge(60).unwrap();
        assert!(charge.grow(40));
        assert!(!charge.grow(1));
        assert_eq!((charge.bytes(), budget.used()), (100, 100));
        charge.shrink_to(10);
        assert_eq!(budget.used(), 10);
        assert!(!charge.grow(usize::MAX));
    }
}
