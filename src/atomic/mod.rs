//! Values that threads share without a lock of the user's: `plait.atomic`.
//!
//! Memory order: all operations on a number are sequentially consistent: all threads agree on
//! one order of all operations on all numbers, and what a thread wrote before one is seen by
//! whoever sees its effect. That is what a reader of Python code assumes anyway, and what it
//! costs is nothing beside a call. A reference is behind a mutex held for a few instructions,
//! which gives the same for each reference by itself.
//!
//! Numbers are 64 bits wide; an operation whose result does not fit fails, and changes nothing.

use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

#[cfg(feature = "python")]
pub mod face;
pub mod twin;

#[derive(Default)]
pub struct Number(AtomicI64);

/// The result does not fit into 64 bits.
#[derive(Debug, PartialEq, Eq)]
pub struct Overflow {
    pub value: i64,
}

impl Number {
    pub fn new(value: i64) -> Self {
        Self(AtomicI64::new(value))
    }

    pub fn load(&self) -> i64 {
        self.0.load(SeqCst)
    }

    pub fn store(&self, value: i64) {
        self.0.store(value, SeqCst);
    }

    pub fn swap(&self, value: i64) -> i64 {
        self.0.swap(value, SeqCst)
    }

    /// Whether it was `expected`, and is `new` now.
    pub fn compare_exchange(&self, expected: i64, new: i64) -> bool {
        self.0.compare_exchange(expected, new, SeqCst, SeqCst).is_ok()
    }

    /// Gives back what it was.
    pub fn update(&self, change: impl Fn(i64) -> Option<i64>) -> Result<i64, Overflow> {
        self.0.fetch_update(SeqCst, SeqCst, change).map_err(|value| Overflow { value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_update_is_lost() {
        let number = Number::default();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        number.update(|value| value.checked_add(3)).unwrap();
                        number.update(|value| value.checked_sub(2)).unwrap();
                    }
                });
            }
        });
        assert_eq!(number.load(), 8000);
    }

    #[test]
    fn what_does_not_fit_changes_nothing() {
        let number = Number::new(i64::MAX);
        assert_eq!(number.update(|value| value.checked_add(1)), Err(Overflow { value: i64::MAX }));
        assert_eq!(number.load(), i64::MAX);
        assert!(!number.compare_exchange(0, 1));
        assert!(number.compare_exchange(i64::MAX, 5));
        assert_eq!(number.swap(6), 5);
    }
}
