//! Phases of a future, a lock, and who waits for its end: threads, by flags, and tasks, by
//! wakers. Nothing of Python.
//!
//! Algorithm: whatever changes does so in [`Cell::with`], under one mutex that is held for a
//! few instructions (no allocation by Python, no Python code, no wait). A word beside it
//! mirrors the phase and the marks, so that looking costs a load. A thread that waits puts a
//! flag into a list under the lock, unless the future has ended; whoever ends it, under the
//! same lock, takes the list and sets the flags after unlocking. So no wake-up is missed, and
//! a future that nobody waits for is ended by one lock, one store and one unlock. A task's
//! waker takes the place of a flag.
//!
//! Memory order: the word is stored with Release while the lock is held and loaded with
//! Acquire; what the load says about the content is read under the lock again.
//!
//! **The marks.** Code that knows the standard library's futures (`cf.wait`, `as_completed`)
//! takes a future's `_condition`, looks at `_state` and, if that is not done, appends a waiter
//! to `_waiters`, expecting to be told. For it, what `_state` shows may change only under that
//! condition; but an executor completes futures detached, and cannot take a Python lock. So:
//!
//! - Handing out `_condition` or `_waiters`, or adding a callback, sets WATCHED.
//! - Ending a future that is WATCHED sets HIDDEN (from those who look at `_state`: for them it
//!   is as before) and DUE (callbacks have to be called). Its end is *raw*: `result()`, `done()`
//!   and sleeping threads see it at once, they need no condition.
//! - Publishing, attached, takes the condition and clears HIDDEN while it holds it, tells the
//!   waiters and notifies; then takes the callbacks and clears DUE in one critical section.
//!
//! Setting WATCHED and ending are both under the mutex, so one comes first. If the end does,
//! nothing is hidden: the future was done before anybody had its condition, and `_state` shows
//! that to each who looks. If WATCHED does, the end sees it, and who holds the condition sees
//! no change until the publisher has got it: either the waiter was appended before that, and is
//! told, or `_state` is looked at after that, and shows the end. A callback that is added while
//! DUE stands is in the list when the publisher takes it; once it is cleared, the callback is
//! called by who adds it. Neither is lost, neither called twice.

use crate::error::locked;
use crate::os::{Flag, Woken};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Instant;

/// As in the standard library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Pending,
    Running,
    Finished,
    /// Cancelled; a worker that comes for the task will notice.
    Cancelled,
    /// Cancelled, and the waiters have been told.
    Notified,
}

impl Phase {
    pub fn is_done(self) -> bool {
        self as u32 >= Self::Finished as u32
    }
}

const PHASES: [Phase; 5] =
    [Phase::Pending, Phase::Running, Phase::Finished, Phase::Cancelled, Phase::Notified];
const PHASE: u32 = 0b111;
const WATCHED: u32 = 1 << 3;
const HIDDEN: u32 = 1 << 4;
const DUE: u32 = 1 << 5;
const DECODING: u32 = 1 << 6;
const ASSIGNED: u32 = 1 << 7;

/// The phase and the marks, as they were when it was loaded; in [`Cell::with`]: as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View(u32);

impl View {
    pub fn phase(self) -> Phase {
        PHASES[(self.0 & PHASE) as usize]
    }

    pub fn is_done(self) -> bool {
        self.phase().is_done()
    }

    pub fn is_cancelled(self) -> bool {
        self.0 & PHASE >= Phase::Cancelled as u32
    }

    /// Whether who looks at `_state` must not see yet that it is done.
    pub fn is_hidden(self) -> bool {
        self.0 & HIDDEN != 0
    }

    /// Whether it is done and its callbacks were not taken yet.
    pub fn is_due(self) -> bool {
        self.0 & DUE != 0
    }

    /// Whether a thread decodes the result just now.
    pub fn is_decoding(self) -> bool {
        self.0 & DECODING != 0
    }

    /// Whether it is not done and nobody has looked into it: then it refers to nothing.
    pub fn is_bare(self) -> bool {
        self.0 & WATCHED == 0 && !self.is_done()
    }

    /// Whether Python code assigned `_state`, `_result` or `_exception`.
    pub fn is_assigned(self) -> bool {
        self.0 & ASSIGNED != 0
    }

    /// Whether a wait is over.
    fn wakes(self) -> bool {
        (self.is_done() && !self.is_decoding()) || self.is_assigned()
    }

    fn set_phase(&mut self, phase: Phase) {
        self.0 = (self.0 & !PHASE) | phase as u32;
    }

    fn mark(&mut self, mark: u32, on: bool) {
        self.0 = if on { self.0 | mark } else { self.0 & !mark };
    }

    /// False: it is not pending.
    pub fn begin(&mut self) -> bool {
        let pending = self.phase() == Phase::Pending;
        if pending {
            self.set_phase(Phase::Running);
        }
        pending
    }

    /// Ends it; false: it has ended before.
    pub fn end(&mut self, phase: Phase) -> bool {
        let first = !self.is_done();
        if first {
            self.set_phase(phase);
            let watched = self.0 & WATCHED != 0;
            self.mark(HIDDEN | DUE, watched);
        }
        first
    }

    /// The waiters of one that was cancelled have been told.
    pub fn notified(&mut self) {
        self.set_phase(Phase::Notified);
    }

    /// From now on its end must be published; without effect on one that is done.
    pub fn watch(&mut self) {
        if !self.is_done() {
            self.mark(WATCHED, true);
        }
    }

    pub fn reveal(&mut self) {
        self.mark(HIDDEN, false);
    }

    pub fn callbacks_taken(&mut self) {
        self.mark(DUE, false);
    }

    pub fn decoding(&mut self, on: bool) {
        self.mark(DECODING, on);
    }

    pub fn assigned(&mut self, on: bool) {
        self.mark(ASSIGNED, on);
    }
}

#[derive(Debug)]
struct Guarded<T> {
    sleepers: Vec<Arc<Flag>>,
    wakers: Vec<Waker>,
    content: T,
}

/// Content behind a mutex, the phase beside it, and those who wait for the end.
#[derive(Debug)]
pub struct Cell<T> {
    word: AtomicU32,
    guarded: Mutex<Guarded<T>>,
}

impl<T> Cell<T> {
    pub fn new(content: T) -> Self {
        let guarded = Mutex::new(Guarded { sleepers: Vec::new(), wakers: Vec::new(), content });
        Self { word: AtomicU32::new(Phase::Pending as u32), guarded }
    }

    pub fn view(&self) -> View {
        View(self.word.load(Ordering::Acquire))
    }

    /// Looks at the content and the phase, and changes them. `change` must neither run Python
    /// code nor drop what may.
    pub fn with<R>(&self, change: impl FnOnce(&mut T, &mut View) -> R) -> R {
        let mut guarded = locked(&self.guarded);
        let before = View(self.word.load(Ordering::Relaxed)); // only changed under the lock
        let mut view = before;
        let result = change(&mut guarded.content, &mut view);
        let (mut sleepers, mut wakers) = (Vec::new(), Vec::new());
        if view != before {
            self.word.store(view.0, Ordering::Release);
            if view.wakes() {
                sleepers = std::mem::take(&mut guarded.sleepers);
                wakers = std::mem::take(&mut guarded.wakers);
            }
        }
        drop(guarded);
        for sleeper in sleepers {
            sleeper.set();
        }
        for waker in wakers {
            waker.wake();
        }
        result
    }

    /// A task looks whether a wait would be over; if not, it is woken when that changes.
    pub fn poll_wait(&self, waker: &Waker) -> Poll<()> {
        if self.view().wakes() {
            return Poll::Ready(());
        }
        let mut guarded = locked(&self.guarded);
        if self.view().wakes() {
            return Poll::Ready(());
        }
        if !guarded.wakers.iter().any(|known| known.will_wake(waker)) {
            guarded.wakers.push(waker.clone());
        }
        Poll::Pending
    }

    /// A task no longer waits.
    pub fn forget(&self, waker: &Waker) {
        let mut gone = Vec::new();
        let mut guarded = locked(&self.guarded);
        if let Some(place) = guarded.wakers.iter().position(|known| known.will_wake(waker)) {
            gone.push(guarded.wakers.swap_remove(place));
        }
        drop(guarded); // then the waker, which may be the last to hold its loop's inbox
    }

    /// Waits for the end, for the deadline or for a signal.
    pub fn wait(&self, deadline: Option<Instant>) -> Woken {
        if self.view().wakes() {
            return Woken::Set;
        }
        let flag = Arc::new(Flag::default());
        {
            let mut guarded = locked(&self.guarded);
            if self.view().wakes() {
                return Woken::Set;
            }
            guarded.sleepers.push(Arc::clone(&flag));
        }
        let woken = flag.wait(deadline);
        if woken != Woken::Set {
            let mut guarded = locked(&self.guarded);
            guarded.sleepers.retain(|sleeper| !Arc::ptr_eq(sleeper, &flag));
            if self.view().wakes() {
                return Woken::Set;
            }
        }
        woken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn ends_once() {
        let cell = Cell::new(0);
        let winners = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for phase in [Phase::Finished, Phase::Cancelled, Phase::Notified] {
                let (cell, winners) = (&cell, &winners);
                scope.spawn(move || {
                    if cell.with(|_, view| view.end(phase)) {
                        winners.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(winners.into_inner(), 1);
        assert!(!cell.with(|_, view| view.begin()));
        assert!(cell.view().is_done());
    }

    #[test]
    fn begins_only_while_pending() {
        let cell = Cell::new(());
        assert!(cell.with(|(), view| view.begin()));
        assert!(!cell.with(|(), view| view.begin()));
        assert_eq!(cell.view().phase(), Phase::Running);
    }

    #[test]
    fn what_is_watched_before_the_end_is_hidden_and_due() {
        let cell = Cell::new(());
        cell.with(|(), view| view.watch());
        cell.with(|(), view| view.end(Phase::Finished));
        assert!(cell.view().is_done() && cell.view().is_hidden() && cell.view().is_due());
        cell.with(|(), view| view.reveal());
        cell.with(|(), view| view.callbacks_taken());
        assert!(!cell.view().is_hidden() && !cell.view().is_due());
    }

    #[test]
    fn what_is_watched_after_the_end_is_neither() {
        let cell = Cell::new(());
        cell.with(|(), view| view.end(Phase::Finished));
        cell.with(|(), view| view.watch());
        assert!(!cell.view().is_hidden() && !cell.view().is_due());
    }

    #[test]
    fn a_wait_ends_with_the_future_and_sees_its_content() {
        for _ in 0..200 {
            let cell = Cell::new(0);
            std::thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| {
                        while cell.wait(None) != Woken::Set {}
                        assert_eq!(cell.with(|content, _| *content), 7);
                    });
                }
                cell.with(|content, view| {
                    *content = 7;
                    view.end(Phase::Finished);
                });
            });
        }
    }

    #[test]
    fn a_wait_that_times_out_leaves_no_sleeper() {
        let cell = Cell::new(());
        while cell.wait(Some(Instant::now())) != Woken::TimedOut {}
        assert!(locked(&cell.guarded).sleepers.is_empty());
    }

    #[test]
    fn a_task_is_woken_by_the_end_unless_it_was_forgotten() {
        struct Count(AtomicUsize);
        impl std::task::Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let counts: [Arc<Count>; 2] = std::array::from_fn(|_| Arc::new(Count(AtomicUsize::new(0))));
        let [stays, goes] = counts.clone().map(Waker::from);
        let cell = Cell::new(());
        for waker in [&stays, &stays, &goes] {
            assert!(cell.poll_wait(waker).is_pending());
        }
        cell.forget(&goes);
        cell.with(|(), view| view.end(Phase::Finished));
        assert_eq!(counts.map(|count| count.0.load(Ordering::Relaxed)), [1, 0]);
        assert!(cell.poll_wait(&goes).is_ready());
    }

    #[test]
    fn a_result_that_is_being_decoded_is_waited_for() {
        let cell = Cell::new(());
        cell.with(|(), view| {
            view.end(Phase::Finished);
            view.decoding(true);
        });
        assert!(cell.view().is_done());
        assert_eq!(cell.wait(Some(Instant::now())), Woken::TimedOut);
        cell.with(|(), view| view.decoding(false));
        assert_eq!(cell.wait(None), Woken::Set);
    }
}
