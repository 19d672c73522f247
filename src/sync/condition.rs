//! Those who wait for a condition: the half of a `Condition` that is not its lock.
//!
//! Algorithm: a waiter joins the line while it holds the lock, and is notified by a grant. One
//! that ends early after it was notified passes the notification on. `notify` looks at one word
//! when nobody waits.
//!
//! Memory order: who notifies holds the lock, as who joins did; it orders the two.

use super::line::{Line, Resource, Waiting};
use super::party::Party;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

#[derive(Default)]
pub struct Waiters {
    mark: AtomicBool,
    notified: AtomicU64,
    line: Line<(), ()>,
}

impl Waiters {
    /// Notifies the first `count` in line.
    #[inline]
    pub fn notify(&self, count: usize) {
        if self.is_waited_for() {
            self.grant(count);
        }
    }

    /// Whether there is somebody to notify.
    #[inline]
    pub fn is_waited_for(&self) -> bool {
        self.mark.load(Ordering::Acquire)
    }

    #[cold]
    fn grant(&self, count: usize) {
        let mut waiting = self.line.lock();
        for _ in 0..count {
            let Some(first) = waiting.first() else { break };
            self.notified.fetch_add(1, Ordering::Relaxed);
            waiting.grant(first, ());
        }
        if waiting.is_empty() {
            self.unmark();
        }
    }

    /// How many wait.
    pub fn count(&self) -> usize {
        self.line.lock().len()
    }

    pub fn forget(&self) {
        self.line.forget();
        self.unmark();
    }
}

impl Resource for Waiters {
    type Want = ();
    type Got = ();
    const KIND: &'static str = "Condition";

    fn line(&self) -> &Line<(), ()> {
        &self.line
    }

    fn take(&self, _: Party, (): ()) -> Option<()> {
        None
    }

    fn take_or_mark(&self, _: Party, (): ()) -> Option<()> {
        self.mark.store(true, Ordering::Release);
        None
    }

    fn unmark(&self) {
        self.mark.store(false, Ordering::Release);
    }

    fn serve(&self, _: &mut Waiting<(), ()>) {}

    fn give_back(&self, _: Party, (): ()) {
        self.notify(1);
    }

    fn acquisitions(&self) -> u64 {
        self.notified.load(Ordering::Relaxed)
    }
}
