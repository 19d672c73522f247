//! Those in line at a primitive: see `line`.

use super::line::FAIR;
use super::park::Parker;
use super::party::Party;
use crate::error::locked;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::Instant;

/// Those in line; guarded by the line's mutex.
pub struct Waiting<W, G> {
    pub(super) places: BTreeMap<u64, Waiter<W, G>>,
    pub(super) threads: usize,
    /// How many ever came.
    pub(super) came: u64,
    pub(super) wakes: Vec<Waker>,
}

pub(super) struct Waiter<W, G> {
    pub(super) party: Party,
    pub(super) want: W,
    pub(super) waker: Waker,
    /// The thread that sleeps, or that runs the task's loop.
    pub(super) home: Arc<Parker>,
    pub(super) since: Instant,
    pub(super) hinted: bool,
    pub(super) slot: Arc<Slot<G>>,
}

impl<W: Copy, G> Waiter<W, G> {
    fn in_line(&self, ticket: u64) -> InLine<W> {
        // Not a task: it would own what it cannot use before its loop's thread steps it, and that
        // thread may be about to wait for just this.
        let is_due = self.party.is_thread() && self.since.elapsed() >= FAIR;
        InLine { ticket, party: self.party, want: self.want, is_due }
    }
}

impl<W, G> Waiter<W, G> {
    /// Whether it will go on when it is woken.
    fn can_run(&self) -> bool {
        self.party.is_thread() || !self.home.is_parked()
    }
}

/// Where a grant is put. Not locked by anybody once `granted` is set, so a forked child can take
/// what its parent was granted.
pub struct Slot<G> {
    pub(super) granted: AtomicBool,
    pub(super) got: Mutex<Option<G>>,
}

impl<G> Slot<G> {
    pub fn is_granted(&self) -> bool {
        self.granted.load(Ordering::Acquire)
    }

    pub(super) fn take(&self) -> Option<G> {
        if self.granted.load(Ordering::Acquire) { locked(&self.got).take() } else { None }
    }
}

impl<W, G> Default for Waiting<W, G> {
    fn default() -> Self {
        Self { places: BTreeMap::new(), threads: 0, came: 0, wakes: Vec::new() }
    }
}

/// One in line, as primitives see it.
#[derive(Debug, Clone, Copy)]
pub struct InLine<W> {
    ticket: u64,
    pub party: Party,
    pub want: W,
    /// Whether it has waited long enough to be granted what there is.
    pub is_due: bool,
}

impl<W: Copy, G> Waiting<W, G> {
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// How many ever had to wait.
    pub fn came(&self) -> u64 {
        self.came
    }

    /// The first who can run; if nobody can, the first.
    pub fn first(&self) -> Option<InLine<W>> {
        let runs = self.places.iter().find(|(_, waiter)| waiter.can_run());
        let (ticket, waiter) = runs.or_else(|| self.places.first_key_value())?;
        Some(waiter.in_line(*ticket))
    }

    /// So many, or fewer, of those who have waited long enough to be granted what there is.
    pub fn due(&self, count: usize) -> Vec<InLine<W>> {
        let runs = self.places.iter().filter(|(_, waiter)| waiter.can_run());
        let in_line = runs.map(|(ticket, waiter)| waiter.in_line(*ticket));
        in_line.take_while(|in_line| in_line.is_due).take(count).collect()
    }

    /// In their order, whoever they are.
    pub fn all(&self) -> Vec<InLine<W>> {
        let in_line = |(ticket, waiter): (&u64, &Waiter<W, G>)| waiter.in_line(*ticket);
        self.places.iter().map(in_line).collect()
    }

    /// Hands `got` to one in line, who leaves it.
    pub fn grant(&mut self, to: InLine<W>, got: G) {
        let Some(waiter) = self.remove(to.ticket) else { return };
        *locked(&waiter.slot.got) = Some(got);
        waiter.slot.granted.store(true, Ordering::Release);
        self.wakes.push(waiter.waker);
    }

    /// Has the first `count` in line try to take what is free.
    pub fn hint(&mut self, count: usize) {
        let (mut left, mut threads) = (count, 0);
        for waiter in self.places.values_mut().filter(|waiter| waiter.can_run()) {
            if left == 0 {
                break;
            }
            left -= 1;
            threads += usize::from(waiter.party.is_thread());
            wake(waiter, &mut self.wakes);
        }
        if threads == 0 && count > 0 && self.threads > 0 {
            let thread = self.places.values_mut().find(|waiter| waiter.party.is_thread());
            thread.into_iter().for_each(|waiter| wake(waiter, &mut self.wakes));
        } else if left == count && count > 0 {
            // Only tasks, and none can run: the first will once its loop's thread goes on.
            self.places.values_mut().take(count).for_each(|waiter| wake(waiter, &mut self.wakes));
        }
    }

    pub(super) fn remove(&mut self, ticket: u64) -> Option<Waiter<W, G>> {
        let waiter = self.places.remove(&ticket)?;
        self.threads -= usize::from(waiter.party.is_thread());
        Some(waiter)
    }
}

fn wake<W, G>(waiter: &mut Waiter<W, G>, wakes: &mut Vec<Waker>) {
    if !std::mem::replace(&mut waiter.hinted, true) {
        wakes.push(waiter.waker.clone());
    }
}
