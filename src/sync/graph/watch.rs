//! What a wait without a time limit goes through before it sleeps, and each time that it is woken
//! for nothing.
//!
//! Cost: one allocation, the mutex of `waits.rs`, two changes of its table: some 150 ns beside a
//! sleep of several microseconds.

use super::search::{Verdict, judge};
use super::waits::{Entry, Guard, Tag};
use super::{Needs, Summons, Waited, is_enabled, waits};
use crate::os::{Woken, is_main_thread};
use crate::sync::party::Party;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[cfg(feature = "python")]
use super::face;
#[cfg(not(feature = "python"))]
use without as face;

/// Whether the main thread has looked for signals since it began to wait. One that came a moment
/// before does not wake it, and nothing else tells of it.
static LOOKED_UP: AtomicBool = AtomicBool::new(true);

/// Whether the main thread, if it waits, has no signal to see to but one that wakes it.
pub fn has_looked_up() -> bool {
    is_main_thread() || LOOKED_UP.load(Ordering::Acquire)
}

/// Called by a thread that has looked for signals in the midst of a wait, and waits on: who took
/// the main thread for one that may go on looks again.
pub fn looked_up() {
    if is_main_thread() && !LOOKED_UP.swap(true, Ordering::AcqRel) {
        waits().look_again();
    }
}

/// The wait would never end.
#[derive(Debug)]
pub struct Refused {
    #[cfg(feature = "python")]
    pub error: pyo3::PyErr,
    #[cfg(not(feature = "python"))]
    pub parties: Vec<Party>,
}

/// Held while the party waits.
pub struct Watched(Option<(Guard<'static>, Arc<dyn Waited>)>);

/// Who waits, and from where: what the face knows of the calling thread.
pub struct Place {
    pub event_loop: usize,
    pub alias: Option<Party>,
    pub tag: Tag,
}

/// Enters a wait; called by the thread that waits or that polls for the task, with no lock held,
/// when the primitive knows of the wait, so that what it is granted from now on is seen.
pub fn before_wait(
    party: Party,
    waited: impl FnOnce() -> Arc<dyn Waited>,
) -> Result<Watched, Refused> {
    if !is_enabled() || !(party.is_thread() || party.is_task()) {
        return Ok(Watched(None));
    }
    let (waited, Place { event_loop, alias, tag }) = (waited(), face::place(party));
    if party.is_thread() && is_main_thread() && waited.kind() != SIGNAL_HANDLER {
        LOOKED_UP.store(false, Ordering::Release);
    }
    let entry = Entry { party, waited: Arc::clone(&waited), event_loop, alias, tag };
    let (guard, verdict) = waits().enter(entry);
    let nothing = match verdict {
        Verdict::Runs => true,
        Verdict::Alone => !face::may_be_alone(party),
        Verdict::Never(_) | Verdict::AskFor(_) => false,
    };
    if !nothing {
        face::decide(&guard, verdict)?;
    }
    Ok(Watched(Some((guard, waited))))
}

impl Watched {
    /// For a waiter that was woken and got nothing.
    pub fn look_again(&self) -> Result<(), Refused> {
        let Some((guard, waited)) = &self.0 else { return Ok(()) };
        let summoned = waited.summons().take();
        if !summoned && !is_main_thread() {
            return Ok(());
        }
        if let Some(refused) = waited.summons().take_refusal() {
            return Err(refused);
        }
        match waits().with(|state| judge(state, guard.party)) {
            Verdict::Runs => Ok(()),
            // A thread has ended since they were counted.
            Verdict::Alone if !summoned && !face::may_be_alone(guard.party) => Ok(()),
            verdict => face::decide(guard, verdict),
        }
    }
}

/// What a sleep came to; with `running` if the thread is now to look for signals.
pub fn or_running(woken: Woken) -> (Woken, Option<Watched>) {
    let looks = woken != Woken::Set;
    (woken, looks.then(|| running(Party::this_thread())).flatten())
}

const SIGNAL_HANDLER: &str = "signal handler";

/// The party, though in a wait, runs until this is dropped: a signal handler, say. Called before
/// the thread attaches, since it may have to wait for that.
pub fn running(party: Party) -> Option<Watched> {
    struct Runs(Summons);

    impl Waited for Runs {
        fn kind(&self) -> &'static str {
            SIGNAL_HANDLER
        }

        fn needs(&self) -> Needs {
            Needs::Nothing
        }

        fn address(&self) -> usize {
            0
        }

        fn wake(&self) {}

        fn summons(&self) -> &Summons {
            &self.0
        }
    }

    before_wait(party, || Arc::new(Runs(Summons::default()))).ok()
}

/// Without Python what needs it is left undecided.
#[cfg(not(feature = "python"))]
mod without {
    use super::{Guard, Party, Place, Refused, Verdict};

    pub(super) fn place(_: Party) -> Place {
        Place { event_loop: 0, alias: None, tag: () }
    }

    pub(super) fn may_be_alone(_: Party) -> bool {
        false
    }

    pub(super) fn decide(_: &Guard<'_>, verdict: Verdict) -> Result<(), Refused> {
        match verdict {
            Verdict::Never(parties) => Err(Refused { parties }),
            _ => Ok(()),
        }
    }
}
