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

    #[inline]
    fn add(&self, word: u64, permits: u64) -> Result<u64, TooMany> {
        let free = (word / ONE).checked_add(permits).filter(|free| *free <= self.bound);
        free.map(|free| (free * ONE) | (word & MARK)).ok_or(TooMany)
    }

    #[cold]
    fn release_in_line(&self, permits: u64) -> Result<(), TooMany> {
        let mut waiting = self.line.lock();
        self.add(self.word.load(Ordering::Relaxed), permits)?;
        let mut left = permits;
        while left > 0
            && let Some(due) = waiting.first().filter(|first| first.is_due)
        {
            self.count();
            waiting.grant(due, ());
            left -= 1;
        }
        // At a bound that another release reaches meanwhile, one of the two is an error, but
        // grants cannot be taken back: the permits that are left are lost with it.
        let added = self
            .word
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |word| self.add(word, left).ok());
        if waiting.is_empty() {
            self.unmark();
        } else {
            self.serve(&mut waiting);
        }
        added.map(drop).map_err(|_| TooMany)
    }

    /// The number of free permits.
    pub fn permits(&self) -> u64 {
        self.word.load(Ordering::Relaxed) / ONE
    }

    /// Has so many permits again, and forgets who waits.
    pub fn reset(&self, permits: u64) {
        self.line.forget();
        self.word.store(permits * ONE, Ordering::Release);
    }

    /// How often a permit was taken.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
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

    fn give_back(&self, _: Party, (): ()) {
        // Of a bounded one that was released too often meanwhile, it is one too many.
        let _ = self.release(1);
    }
}
