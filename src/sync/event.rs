//! A flag that can be waited for.
//!
//! Algorithm: one bit of the word is the flag, the lowest is the line's mark. Setting it grants
//! all who are in line at that moment, so that they go on even if it is cleared at once.
//!
//! Memory order: `set` is Release and looking Acquire, so what was done before `set` is seen.

use super::line::{Line, Resource, Waiting};
use super::observe::Needs;
use super::party::Party;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

const MARK: u32 = 1;
const SET: u32 = 2;

#[derive(Default)]
pub struct Event {
    word: AtomicU32,
    /// How many waits it has let pass.
    passed: AtomicU64,
    line: Line<(), ()>,
}

impl Event {
    #[inline]
    pub fn is_set(&self) -> bool {
        self.word.load(Ordering::Acquire) & SET != 0
    }

    /// As `is_set`, for a wait, which counts.
    #[inline]
    pub fn try_pass(&self) -> bool {
        let set = self.is_set();
        if set {
            self.passed.fetch_add(1, Ordering::Relaxed);
        }
        set
    }

    #[inline]
    pub fn set(&self) {
        if self.word.fetch_or(SET, Ordering::AcqRel) & MARK != 0 {
            self.grant_all();
        }
    }

    #[cold]
    fn grant_all(&self) {
        let mut waiting = self.line.lock();
        self.passed.fetch_add(waiting.len() as u64, Ordering::Relaxed);
        for waiter in waiting.all() {
            waiting.grant(waiter, ());
        }
        self.unmark();
    }

    #[inline]
    pub fn clear(&self) {
        self.word.fetch_and(!SET, Ordering::Relaxed);
    }

    /// Forgets who waits; the flag stays.
    pub fn forget_waiters(&self) {
        self.line.forget();
        self.unmark();
    }
}

impl Resource for Event {
    type Want = ();
    type Got = ();
    const KIND: &'static str = "Event";

    fn line(&self) -> &Line<(), ()> {
        &self.line
    }

    fn take(&self, _: Party, (): ()) -> Option<()> {
        self.try_pass().then_some(())
    }

    fn take_or_mark(&self, _: Party, (): ()) -> Option<()> {
        let mark = |word| (word & SET == 0).then_some(word | MARK);
        let marked = self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, mark);
        marked.is_err().then(|| {
            self.passed.fetch_add(1, Ordering::Relaxed);
        })
    }

    fn unmark(&self) {
        self.word.fetch_and(!MARK, Ordering::Relaxed);
    }

    fn serve(&self, _: &mut Waiting<(), ()>) {}

    fn needs(&self, _: Party, (): ()) -> Needs {
        if self.is_set() { Needs::Nothing } else { Needs::Anyone }
    }

    fn give_back(&self, _: Party, (): ()) {}

    fn acquisitions(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }
}
