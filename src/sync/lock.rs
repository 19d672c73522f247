//! A lock that belongs to nobody: any party may release it. Its word tells who took it.
//!
//! Algorithm: the word is 0 when free, else the owner's word; its lowest bit is the line's mark.
//! Taking and releasing are one compare-and-swap each while nobody is in line; the rest is the
//! line's (`super::line`).
//!
//! Memory order: taking is Acquire and releasing Release on the one word, so what the holder did
//! is seen by the next. A grant stores the next owner with Release, and the waiter sees it
//! through its slot. `taken` is changed by who holds the lock alone.

use super::line::{Line, Resource, Waiting};
use super::observe::Needs;
use super::party::Party;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

const MARK: u64 = 1;

pub struct Lock {
    pub(super) word: AtomicU64,
    taken: AtomicU64,
    /// How often its owner took it again: an RLock (`super::rlock`), if it can.
    pub(super) depth: AtomicU64,
    reentrant: bool,
    /// How many coroutines were closed that wait for a condition and could not have it back.
    forgone: AtomicU32,
    line: Line<(), ()>,
}

/// It was released by somebody who could not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotHeld;

impl Lock {
    pub fn new(reentrant: bool) -> Self {
        let (word, taken, depth, forgone) = Default::default();
        Self { word, taken, depth, reentrant, forgone, line: Line::default() }
    }

    pub fn is_reentrant(&self) -> bool {
        self.reentrant
    }

    #[inline]
    pub fn try_acquire(&self, party: Party) -> bool {
        if self.word.compare_exchange(0, party.word(), Ordering::Acquire, Ordering::Relaxed).is_ok()
        {
            self.count();
            return true;
        }
        self.take(party, ()).is_some()
    }

    #[inline]
    pub fn release(&self) -> Result<(), NotHeld> {
        if self.release_quick() { Ok(()) } else { self.release_in_line() }
    }

    /// Releases it if somebody has it and nobody is in line.
    #[inline]
    pub fn release_quick(&self) -> bool {
        let word = self.word.load(Ordering::Relaxed);
        word != 0
            && word & MARK == 0
            && self.word.compare_exchange(word, 0, Ordering::Release, Ordering::Relaxed).is_ok()
    }

    #[cold]
    fn release_in_line(&self) -> Result<(), NotHeld> {
        let mut waiting = self.line.lock();
        loop {
            let word = self.word.load(Ordering::Relaxed);
            if word & !MARK == 0 {
                return Err(NotHeld);
            }
            let first = waiting.first();
            let due = first.filter(|first| first.is_due);
            let mark = match waiting.len() {
                0 => 0,
                1 if due.is_some() => 0,
                _ => MARK,
            };
            let next = due.map_or(0, |due| due.party.word()) | mark;
            // Somebody else may release it too, which is an error of one of the two.
            if self.word.compare_exchange(word, next, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                match due {
                    Some(due) => {
                        self.count();
                        waiting.grant(due, ());
                    }
                    None => waiting.hint(1),
                }
                return Ok(());
            }
        }
    }

    pub fn is_locked(&self) -> bool {
        self.holder().is_some()
    }

    pub fn holder(&self) -> Option<Party> {
        Party::of_word(self.word.load(Ordering::Relaxed))
    }

    /// A coroutine that is about to leave ``async with`` has not got it back.
    pub fn forgo(&self) {
        self.forgone.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether a coroutine leaves that has not got it back, and so has nothing to release.
    pub fn is_forgone(&self) -> bool {
        let fewer = |count: u32| count.checked_sub(1);
        self.forgone.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer).is_ok()
    }

    /// Makes it free, and forgets who waits.
    pub fn reset(&self) {
        self.line.forget();
        self.depth.store(0, Ordering::Relaxed);
        self.word.store(0, Ordering::Release);
    }

    /// The caller holds the lock, so this is no race, and need not be one instruction.
    #[inline]
    fn count(&self) {
        self.taken.store(self.taken.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

impl Resource for Lock {
    type Want = ();
    type Got = ();
    const KIND: &'static str = "Lock";

    fn kind(&self) -> &'static str {
        if self.reentrant { "RLock" } else { "Lock" }
    }

    fn line(&self) -> &Line<(), ()> {
        &self.line
    }

    fn take(&self, party: Party, _: ()) -> Option<()> {
        let taken = |word| (word & !MARK == 0).then_some(word | party.word());
        self.word.fetch_update(Ordering::Acquire, Ordering::Relaxed, taken).ok()?;
        self.count();
        Some(())
    }

    fn take_or_mark(&self, party: Party, _: ()) -> Option<()> {
        let change = |word| {
            let free = word & !MARK == 0;
            Some(if free { word | party.word() } else { word | MARK })
        };
        let Ok(before) = self.word.fetch_update(Ordering::AcqRel, Ordering::Relaxed, change) else {
            unreachable!("it always changes")
        };
        (before & !MARK == 0).then(|| self.count())
    }

    fn unmark(&self) {
        self.word.fetch_and(!MARK, Ordering::Relaxed);
    }

    fn serve(&self, waiting: &mut Waiting<(), ()>) {
        if !self.is_locked() {
            waiting.hint(1);
        }
    }

    fn give_back(&self, _: Party, (): ()) {
        // It was granted, so it is held, unless somebody else released it: an error of theirs.
        let _ = self.release();
    }

    fn owner(&self) -> Option<Party> {
        self.holder()
    }

    fn needs(&self, party: Party, (): ()) -> Needs {
        match self.holder() {
            None => Needs::Nothing,
            // Granted to it, this very moment: it could enter an RLock of its own otherwise.
            Some(owner) if owner == party && self.reentrant => Needs::Nothing,
            Some(owner) => Needs::One(owner),
        }
    }

    fn acquisitions(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}
