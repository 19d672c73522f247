//! The wait-for graph: who waits for whom, and whether that can ever end.
//!
//! - `waits.rs`: the waits of this moment, and how one is entered.
//! - `search.rs`: whether a wait can end.
//! - `watch.rs`: what a wait goes through before it sleeps.
//! - `order.rs`: where locks were taken, and in which order.
//! - `face.rs`, `places.rs`: what of it needs Python: stacks, threads outside plait, event loops.
//!
//! **What is a deadlock.** Only waits without a time limit are entered. Each says of whom it
//! needs something (`Needs`): all of some parties (a lock's owner, an RWLock's readers, a thread
//! that is joined), any of some (a pool's workers), or anyone (a semaphore, an event). A party
//! that is not entered can run. One that is entered can go on when those that it needs can; what
//! then is left over stands still for ever, and that is looked for when a wait is entered, from
//! that wait on: usually one step, to an owner that runs. Anyone can go on as long as any
//! party of the process can; whether there is one, Python has to be asked (`face.rs`), and
//! that is asked only when all that plait knows of stands still.
//!
//! **Why a deadlock that is found is one.** The search holds the mutex under which waits are
//! entered and removed, so all waits that it meets are entered during all of it. A party whose
//! wait is entered is in its wait: it takes no lock (but the one that it is granted) and lets go
//! of none. So an owner that the search reads of a lock, being itself in a wait, has owned the
//! lock since before the search began, and owns it until it ends: all edges of a cycle exist at
//! one moment, though they are read one after the other. The exceptions: (1) a waiter that was
//! granted what it waits for, or woken to try again, but has not run yet: primitives note this
//! before they wake it, under their mutex or in its owner word, and it then needs `Nothing`.
//! (2) Locks, which another thread may release: a wait for a Lock that the waiter holds itself
//! needs anyone; in longer cycles that is taken for a deadlock by contract. (3) Signal handlers
//! and cancellation: the wait is removed before a handler runs, and a task that is cancelled
//! could be so at any time; time limits of tasks are looked for by the face.
//!
//! **Why none is missed.** An owner word is stored by its owner before that enters its next
//! wait, so the last party of a cycle to be entered finds all the others' words. When a thread
//! ends or parks, no wait is entered, but anyone may have become no one: then one waiter is
//! woken to look again (`thread_ended`, `idle`).
//!
//! Source: waits as a graph of AND and OR nodes, reduced from its ends, is Holt's ("Some deadlock
//! properties of computer systems", 1972).

pub mod order;
pub mod search;
pub mod waits;
pub mod watch;

#[cfg(feature = "python")]
pub mod face;
#[cfg(feature = "python")]
pub mod places;

use super::party::Party;
use crate::error::locked;
use crate::forked::Forked;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use waits::{Idle, Waits};
use watch::Refused;

/// What must happen for a wait to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Needs {
    /// Nothing any more: it was granted or woken, or is about to try and will succeed.
    Nothing,
    /// This party must act: the owner of a lock.
    One(Party),
    /// Each of these must.
    All(Vec<Party>),
    /// One of these must: whichever worker of a pool is free first.
    Any(Vec<Party>),
    /// Any party of the process may: what is waited for has no owner.
    Anyone,
    /// Something outside of the process: it ends of itself.
    Outside,
}

/// One party's wait, as its primitive sees it.
pub trait Waited: Send + Sync {
    /// The name of what is waited for, such as `"Lock"`.
    fn kind(&self) -> &'static str;

    /// Read now, under the graph's mutex: loads, or the primitive's own mutex for an instant. (So
    /// a primitive never calls the graph while it holds its mutex.)
    fn needs(&self) -> Needs;

    /// What tells the same thing from others: an address.
    fn address(&self) -> usize;

    /// Wakes the waiter, granting nothing: it looks at its summons, and waits on.
    fn wake(&self);

    fn summons(&self) -> &Summons;
}

/// What others have to tell a waiter.
#[derive(Default)]
pub struct Summons {
    look: AtomicBool,
    refused: Mutex<Option<Refused>>,
}

impl Summons {
    /// The waiter is to see whether it is alone now.
    pub fn look(&self) {
        self.look.store(true, Ordering::Release);
    }

    pub fn refuse(&self, refused: Refused) {
        *locked(&self.refused) = Some(refused);
        self.look();
    }

    /// Whether there was one; taken.
    fn take(&self) -> bool {
        self.look.load(Ordering::Relaxed) && self.look.swap(false, Ordering::Acquire)
    }

    fn take_refusal(&self) -> Option<Refused> {
        locked(&self.refused).take()
    }
}

static ENABLED: AtomicBool = AtomicBool::new(true);

static WAITS: Forked<Waits> = Forked::new(Waits::default, forget_after_fork);

extern "C" fn forget_after_fork() {
    WAITS.forget();
    crate::os::forget_seat();
}

/// This process's waits.
pub fn waits() -> &'static Waits {
    WAITS.get()
}

/// Whether deadlocks are looked for: `find_deadlocks()`.
#[inline]
pub fn is_enabled() -> bool {
    ENABLED.load(Ordering::Relaxed)
}

pub fn enable(on: bool) -> bool {
    ENABLED.swap(on, Ordering::Relaxed)
}

/// The calling thread, a worker without work, will do nothing until it is given some: it is no
/// party that might free another.
pub fn idle() -> Idle<'static> {
    waits().idle()
}

/// The calling thread has no part of Python for now; nobody but a thread that is known will give
/// it one.
pub fn parked() -> Idle<'static> {
    waits().parked()
}

/// Workers that are idle have been given so much more to do (or taken so much, below 0), which
/// they may not know yet.
pub fn work_given(more: isize) {
    waits().work.fetch_add(more, Ordering::AcqRel);
}

/// A thread of Python's has ended, or is past all of its Python code.
pub fn thread_ended() {
    waits().look_again();
}

#[cfg(test)]
mod tests;
