//! The waits of this moment, under one mutex, which only those take who are about to sleep.
//!
//! A party's waits are nested (a join inside of which a lock is waited for), and the innermost
//! counts. Removing is by key, since a guard may outlive the wait that was entered after it.

use super::search::{self, Verdict};
use super::{Needs, Waited};
use crate::error::locked;
use crate::os::{Seat, seat};
use crate::sync::party::Party;
use hashbrown::HashMap;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// What the face keeps with a wait.
#[cfg(feature = "python")]
pub type Tag = super::face::Tag;
#[cfg(not(feature = "python"))]
pub type Tag = ();

/// Who is about to wait, and where.
pub struct Entry {
    pub party: Party,
    pub waited: Arc<dyn Waited>,
    /// The event loop of a task, or the one that runs in the thread that waits; 0: none.
    pub event_loop: usize,
    /// The task in which that thread is: for a Lock it is the same party.
    pub alias: Option<Party>,
    pub tag: Tag,
}

pub struct Wait {
    pub entry: Entry,
    pub key: u64,
    pub seat: Seat,
    pub since: Instant,
    /// The wait within which this one began.
    below: Option<Box<Wait>>,
}

impl Wait {
    /// As `Waited::needs`; a Lock that one has oneself can be released by anyone.
    pub fn needs(&self) -> Needs {
        match self.entry.waited.needs() {
            Needs::One(owner)
                if self.entry.waited.kind() == "Lock"
                    && (owner == self.entry.party || Some(owner) == self.entry.alias) =>
            {
                Needs::Anyone
            }
            needs => needs,
        }
    }
}

/// What the mutex guards.
#[derive(Default)]
pub struct State {
    pub by_party: HashMap<Party, Wait>,
    /// Event loops whose thread is in `by_party`: none of their tasks can run.
    pub blocked: Vec<(usize, Party)>,
    /// How many of `by_party` are threads.
    pub threads: usize,
    /// Workers without work.
    pub idle: Vec<Seat>,
    /// Counts changes, of which waiting for locks is not one.
    pub version: u64,
}

#[derive(Default)]
pub struct Waits {
    state: Mutex<State>,
    /// How many waits there are.
    count: AtomicUsize,
    /// What idle workers have been given and have not taken yet.
    pub work: AtomicIsize,
}

impl State {
    pub fn thread_blocking(&self, event_loop: usize) -> Option<Party> {
        let found = self.blocked.iter().find(|blocked| blocked.0 == event_loop);
        found.map(|blocked| blocked.1)
    }

    fn insert(&mut self, mut wait: Wait) {
        self.version = wait.key;
        let Entry { party, event_loop, .. } = wait.entry;
        if event_loop != 0 && !party.is_task() {
            self.blocked.push((event_loop, party));
        }
        wait.below = self.by_party.remove(&party).map(Box::new);
        self.threads += usize::from(wait.below.is_none() && party.is_thread());
        self.by_party.insert(party, wait);
    }

    fn remove(&mut self, party: Party, key: u64) -> Option<Wait> {
        self.version += 1;
        let top = self.by_party.get_mut(&party)?;
        let mut removed = if top.key == key {
            self.by_party.remove(&party)?
        } else {
            let mut above = top;
            while above.below.as_ref()?.key != key {
                above = above.below.as_mut()?;
            }
            let mut removed = *above.below.take()?;
            above.below = removed.below.take();
            removed
        };
        let event_loop = removed.entry.event_loop;
        if event_loop != 0
            && let Some(at) = self.blocked.iter().position(|&found| found == (event_loop, party))
        {
            self.blocked.swap_remove(at);
        }
        if let Some(below) = removed.below.take() {
            self.by_party.insert(party, *below);
        }
        let gone = party.is_thread() && !self.by_party.contains_key(&party);
        self.threads -= usize::from(gone);
        Some(removed)
    }

    /// Whether nothing that plait knows of can go on. (Who waits for something outside of the
    /// process can.)
    pub fn stands_still(&self) -> bool {
        let goes_on = |wait: &Wait| matches!(wait.needs(), Needs::Nothing | Needs::Outside);
        !self.by_party.is_empty() && !self.by_party.values().any(goes_on)
    }
}

impl Waits {
    /// Enters a wait, and tells whether it can end.
    pub fn enter(&self, entry: Entry) -> (Guard<'_>, Verdict) {
        thread_local!(static AT_END: AtEnd = const { AtEnd });
        let _told_at_the_end = AT_END.try_with(|_| ());
        let (party, seat, since) = (entry.party, seat(), Instant::now());
        let mut state = locked(&self.state);
        let key = state.version + 1;
        state.insert(Wait { entry, key, seat, since, below: None });
        self.count.fetch_add(1, Ordering::Relaxed);
        let verdict = search::judge(&state, party);
        (Guard { waits: self, party, key }, verdict)
    }

    pub fn with<T>(&self, body: impl FnOnce(&State) -> T) -> T {
        body(&locked(&self.state))
    }

    /// One of those who wait is to see whether it is alone now.
    pub fn look_again(&self) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let woken = self.with(|state| {
            if !state.stands_still() {
                return None;
            }
            let waits = state.by_party.values();
            let last = waits.max_by_key(|wait| (!wait.entry.party.is_task(), wait.key));
            last.map(|wait| Arc::clone(&wait.entry.waited))
        });
        if let Some(waited) = woken {
            waited.summons().look();
            waited.wake();
        }
    }

    pub fn parked(&self) -> Idle<'_> {
        self.idle_at(Seat { ident: 0, ..seat() })
    }

    pub fn idle(&self) -> Idle<'_> {
        self.idle_at(seat())
    }

    fn idle_at(&self, seat: Seat) -> Idle<'_> {
        {
            let mut state = locked(&self.state);
            state.version += 1;
            state.idle.push(seat);
        }
        self.look_again();
        Idle { waits: self, seat }
    }
}

/// Tells the graph that a thread, which has waited before, ends.
struct AtEnd;

impl Drop for AtEnd {
    fn drop(&mut self) {
        // After the main thread there is only the process's end.
        if !crate::os::is_main_thread() {
            super::thread_ended();
        }
    }
}

/// The wait is over when this is dropped.
pub struct Guard<'a> {
    waits: &'a Waits,
    pub party: Party,
    pub key: u64,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let removed = locked(&self.waits.state).remove(self.party, self.key);
        if removed.is_some() {
            self.waits.count.fetch_sub(1, Ordering::Relaxed);
        }
        drop(removed); // after the mutex: the tag's objects may run Python code as they go
    }
}

/// The worker has work again when this is dropped.
pub struct Idle<'a> {
    waits: &'a Waits,
    seat: Seat,
}

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        let mut state = locked(&self.waits.state);
        state.version += 1;
        if let Some(at) = state.idle.iter().position(|seat| *seat == self.seat) {
            state.idle.swap_remove(at);
        }
    }
}
