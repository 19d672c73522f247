//! A number of permits.
//!
//! Algorithm: the word is the number of free permits times two; its lowest bit is the line's
//! mark. Acquiring and releasing are one compare-and-swap each while nobody is in line; the rest
//! is the line's (`super::line`). A permit that is granted is never among the free ones.
//!
//! Memory order: releasing is Release and acquiring Acquire on the one word; a chain of
//! read-modify-writes between them keeps it, so who acquires sees what all releasers did whose
//! permits it may have got.

use super::line::{Line, Resource, Waiting};
use super::observe::Needs;
use super::party::Party;
use std::sync::atomic::{AtomicU64, Ordering};

const MARK: u64 = 1;
const ONE: u64 = 2;

/// The most permits that there can be.
pub const MOST: u64 = u64::MAX >> 1;

pub struct Semaphore {
    word: AtomicU64,
    taken: AtomicU64,
    /// The number of free permits that releasing must not exceed.
    bound: u64,
    line: Line<(), ()>,
}

/// There would be more permits than its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

impl Semaphore {
    /// Both at most [`MOST`].
    pub fn new(permits: u64, bound: u64) -> Self {
        let word = AtomicU64::new(permits * ONE);
        Self { word, taken: AtomicU64::new(0), bound, line: Line::default() }
    }

    #[inline]
    pub fn try_acquire(&self) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        while word >= ONE {
            match self.word.compare_exchange_weak(
                word,
                word - ONE,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => {
                    self.count();
                    return true;
                }
                Err(now) => word = now,
            }
        }
        false
    }

    #[inline]
    pub fn release(&self, permits: u64) -> Result<(), TooMany> {
        let mut word = self.word.load(Ordering::Relaxed);
        while word & MARK == 0 {
            let next = self.add(word, permits)?;
            match self.word.compare_exchange_weak(word, next, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => return Ok(()),
                Err(now) => word = now,
            }
        }
        self.release_in_line(permits)
    }

    /// Gives back one permit if nobody is in line and it is not one too many.
    #[inline]
    pub fn release_quick(&self) -> bool {
        let word = self.word.load(Ordering::Relaxed);
        word & MARK == 0
            && self.add(word, 1).is_ok_and(|next| {
                self.word.compare_exchange(word, next, Ordering::Release, Ordering::Relaxed).is_ok()
            })
    }

    #[inline]
    fn add(&self, word: u64, permits: u64) -> Result<u64, TooMany> {
        let free = (word / ONE).checked_add(permits).filter(|free| *free <= self.bound);
        free.map(|free| (free * ONE) | (word & MARK)).ok_or(TooMany)
    }

    #[cold]
    fn release_in_line(&self, permits: u64) -> Result<(), TooMany> {
        let mut waiting = self.line.lock();
        // Whoever is due goes on with a permit of these. That is decided, with the bound, by one
        // compare-and-swap: of two releases at the bound one is refused, and has done nothing.
        let due = waiting.due(usize::try_from(permits).unwrap_or(usize::MAX));
        let left = permits - due.len() as u64;
        let next = |word| self.add(word, permits).and_then(|_| self.add(word, left)).ok();
        let added = self.word.fetch_update(Ordering::AcqRel, Ordering::Relaxed, next);
        if added.is_ok() {
            self.taken.fetch_add(due.len() as u64, Ordering::Relaxed);
            due.into_iter().for_each(|due| waiting.grant(due, ()));
        }
        if waiting.is_empty() {
            self.unmark();
        } else {
            self.serve(&mut waiting);
        }
        added.map(drop).map_err(|_| TooMany)
    }

    /// The number of free permits that releasing must not exceed.
    pub fn bound(&self) -> u64 {
        self.bound
    }

    /// The number of free permits.
    pub fn permits(&self) -> u64 {
        self.word.load(Ordering::Relaxed) / ONE
    }

    #[inline]
    fn count(&self) {
        self.taken.fetch_add(1, Ordering::Relaxed);
    }
}

impl Resource for Semaphore {
    type Want = ();
    type Got = ();
    const KIND: &'static str = "Semaphore";

    fn line(&self) -> &Line<(), ()> {
        &self.line
    }

    fn take(&self, _: Party, _: ()) -> Option<()> {
        self.try_acquire().then_some(())
    }

    fn take_or_mark(&self, _: Party, _: ()) -> Option<()> {
        let change = |word| Some(if word >= ONE { word - ONE } else { word | MARK });
        let Ok(before) = self.word.fetch_update(Ordering::AcqRel, Ordering::Relaxed, change) else {
            unreachable!("it always changes")
        };
        (before >= ONE).then(|| self.count())
    }

    fn unmark(&self) {
        self.word.fetch_and(!MARK, Ordering::Relaxed);
    }

    fn serve(&self, waiting: &mut Waiting<(), ()>) {
        let free = usize::try_from(self.permits()).unwrap_or(usize::MAX);
        waiting.hint(free);
    }

    fn needs(&self, _: Party, (): ()) -> Needs {
        if self.permits() > 0 { Needs::Nothing } else { Needs::Anyone }
    }

    fn give_back(&self, _: Party, (): ()) {
        // Of a bounded one that was released too often meanwhile, it is one too many.
        let _ = self.release(1);
    }

    fn acquisitions(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::line::{Acquire, FAIR};
    use crate::sync::park::block_on;
    use std::pin::pin;
    use std::sync::Arc;

    #[test]
    fn of_two_releases_at_the_bound_one_is_refused() {
        for _ in 0..200 {
            let semaphore = Arc::new(Semaphore::new(1, 1));
            assert!(semaphore.try_acquire());
            let other = Arc::clone(&semaphore);
            let there = std::thread::spawn(move || other.release(1).is_ok());
            let here = semaphore.release(1).is_ok();
            assert_ne!(here, there.join().unwrap());
            assert_eq!(semaphore.permits(), 1);
        }
    }

    #[test]
    fn a_release_that_is_refused_grants_nothing() {
        let semaphore = Arc::new(Semaphore::new(0, 1));
        let other = Arc::clone(&semaphore);
        let waiter = std::thread::spawn(move || {
            let mut acquire = pin!(Acquire::new(other, Party::this_thread(), (), true));
            block_on(acquire.as_mut(), None);
        });
        while semaphore.line.lock().is_empty() {
            std::thread::yield_now();
        }
        std::thread::sleep(FAIR); // now it is due
        assert_eq!(semaphore.release(2), Err(TooMany));
        assert_eq!((semaphore.line.lock().len(), semaphore.permits()), (1, 0));
        assert_eq!(semaphore.release(1), Ok(()));
        waiter.join().unwrap();
        assert_eq!(semaphore.acquisitions(), 1);
    }
}
