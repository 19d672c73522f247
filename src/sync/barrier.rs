//! A meeting point for a fixed number of parties.
//!
//! Algorithm: the line holds who has arrived. The last to arrive does not join it: the barrier is
//! then *acting* until that party has run the action, and grants all in line their number. Who
//! comes meanwhile waits at the gate, an event that is set unless the barrier is acting. There
//! is no draining: who was granted has left, and the next round begins at once.
//!
//! Breaking it grants all in line that it is broken. The acting party notices by the round's
//! number, which each change of phase raises.
//!
//! Memory order: phase and round change under the line's mutex; outside of it they are read for
//! show only.

use super::event::Event;
use super::line::{Line, Resource, Waiting};
use super::party::Party;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

const FILLING: u8 = 0;
const ACTING: u8 = 1;
const BROKEN: u8 = 2;

pub struct Barrier {
    parties: usize,
    phase: AtomicU8,
    round: AtomicU64,
    passed: AtomicU64,
    line: Line<(), Arrival>,
    gate: Arc<Event>,
}

/// What came of arriving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// All are there; the caller was so-maniest.
    Passed(usize),
    /// The caller is the last, and has to act, then to call [`Barrier::release`].
    Last {
        index: usize,
        round: u64,
    },
    /// Somebody is acting: wait at the gate, then arrive again.
    Closed,
    Broken,
}

impl Barrier {
    pub fn new(parties: usize) -> Self {
        let gate = Arc::<Event>::default();
        gate.set();
        let (phase, round, passed) = Default::default();
        Self { parties, phase, round, passed, line: Line::default(), gate }
    }

    pub fn parties(&self) -> usize {
        self.parties
    }

    /// How many have arrived and wait.
    pub fn waiting(&self) -> usize {
        self.line.lock().len()
    }

    pub fn is_broken(&self) -> bool {
        self.phase.load(Ordering::Relaxed) == BROKEN
    }

    /// Set unless somebody is acting.
    pub fn gate(&self) -> &Arc<Event> {
        &self.gate
    }

    /// The action is done: lets all pass. False: the barrier was broken or reset meanwhile.
    pub fn release(&self, round: u64) -> bool {
        let mut waiting = self.line.lock();
        let current = self.round.load(Ordering::Relaxed) == round;
        if current {
            self.enter(FILLING);
            self.passed.fetch_add(1, Ordering::Relaxed);
            for (index, waiter) in waiting.all().into_iter().enumerate() {
                waiting.grant(waiter, Arrival::Passed(index));
            }
        }
        current
    }

    /// Breaks it, for those who wait and those who come.
    pub fn abort(&self) {
        self.expel(BROKEN);
    }

    /// Makes it as new; it is broken for those who wait.
    pub fn reset(&self) {
        self.expel(FILLING);
    }

    /// The party's time is over. True: it is in line still, and the barrier is broken by that.
    /// False: it is let go of as soon as whoever acts is done, or has been by now.
    pub fn time_out(&self, party: Party) -> bool {
        let mut waiting = self.line.lock();
        let is_filling = self.phase.load(Ordering::Relaxed) == FILLING;
        let late = is_filling && waiting.all().iter().any(|in_line| in_line.party == party);
        if late {
            self.expel_all(BROKEN, &mut waiting);
        }
        late
    }

    fn expel(&self, phase: u8) {
        self.expel_all(phase, &mut self.line.lock());
    }

    fn expel_all(&self, phase: u8, waiting: &mut Waiting<(), Arrival>) {
        self.enter(phase);
        for waiter in waiting.all() {
            waiting.grant(waiter, Arrival::Broken);
        }
    }

    fn enter(&self, phase: u8) {
        self.phase.store(phase, Ordering::Relaxed);
        self.round.fetch_add(1, Ordering::Relaxed);
        if phase == ACTING { self.gate.clear() } else { self.gate.set() }
    }
}

impl Resource for Barrier {
    type Want = ();
    type Got = Arrival;
    const KIND: &'static str = "Barrier";

    fn line(&self) -> &Line<(), Arrival> {
        &self.line
    }

    fn take(&self, _: Party, (): ()) -> Option<Arrival> {
        None
    }

    fn take_or_mark(&self, _: Party, (): ()) -> Option<Arrival> {
        None
    }

    fn join(&self, _: Party, (): (), waiting: &mut Waiting<(), Arrival>) -> Option<Arrival> {
        match self.phase.load(Ordering::Relaxed) {
            BROKEN => Some(Arrival::Broken),
            ACTING => Some(Arrival::Closed),
            _ if waiting.len() + 1 < self.parties => None,
            _ => {
                self.enter(ACTING);
                let round = self.round.load(Ordering::Relaxed);
                Some(Arrival::Last { index: self.parties - 1, round })
            }
        }
    }

    fn unmark(&self) {}

    fn serve(&self, _: &mut Waiting<(), Arrival>) {}

    /// Passing cannot be undone, nor need it be.
    fn give_back(&self, _: Party, _: Arrival) {}

    fn acquisitions(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }
}
