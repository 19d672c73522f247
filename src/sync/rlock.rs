//! A lock that its owner may take again: [`Lock`], with a depth beside it.
//!
//! The depth is how often the owner took it beyond the first time. Only the owner, which its word
//! names, reads and writes it, and it is 0 whenever the lock changes hands; so it needs neither
//! an order of its own nor an atomic change.

use super::lock::{Lock, NotHeld};
use super::party::Party;
use std::sync::atomic::Ordering;

impl Lock {
    /// Takes it, again perhaps; false: another party has it.
    #[inline]
    pub fn try_enter(&self, party: Party) -> bool {
        if self.is_held_by(party) {
            self.depth.store(self.depth.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            return true;
        }
        self.try_acquire(party)
    }

    /// Undoes one `try_enter`.
    #[inline]
    pub fn exit(&self, party: Party) -> Result<(), NotHeld> {
        if !self.is_held_by(party) {
            return Err(NotHeld);
        }
        match self.depth.load(Ordering::Relaxed) {
            0 => self.release(),
            depth => {
                self.depth.store(depth - 1, Ordering::Relaxed);
                Ok(())
            }
        }
    }

    /// As `exit`, if the caller has it and nobody is in line.
    #[inline]
    pub fn exit_quick(&self, party: Party) -> bool {
        if !self.is_held_by(party) {
            return false;
        }
        match self.depth.load(Ordering::Relaxed) {
            0 => self.release_quick(),
            depth => {
                self.depth.store(depth - 1, Ordering::Relaxed);
                true
            }
        }
    }

    #[inline]
    pub fn is_held_by(&self, party: Party) -> bool {
        self.word.load(Ordering::Relaxed) & !1 == party.word()
    }

    /// How often its owner, the caller, has taken it.
    pub fn times(&self) -> u64 {
        self.depth.load(Ordering::Relaxed) + 1
    }

    /// Lets it go, however often its owner, the caller, took it; how often.
    pub fn exit_all(&self) -> u64 {
        let times = self.depth.swap(0, Ordering::Relaxed) + 1;
        let _ = self.release(); // it is held: the caller does
        times
    }

    /// Its owner, the caller, has it `times` times.
    pub fn set_times(&self, times: u64) {
        self.depth.store(times.saturating_sub(1), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_owner_enters_again_and_exits() {
        let (lock, a, b) = (Lock::new(true), Party::rust_task(), Party::rust_task());
        assert!(lock.try_enter(a) && lock.try_enter(a) && !lock.try_enter(b));
        assert_eq!(lock.exit(b), Err(NotHeld));
        assert_eq!(lock.times(), 2);
        assert_eq!(lock.exit_all(), 2);
        assert!(lock.try_enter(b));
        assert_eq!(lock.exit(a), Err(NotHeld));
        assert_eq!(lock.exit(b), Ok(()));
        assert!(!lock.is_locked());
    }
}
