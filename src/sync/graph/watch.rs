//! What a wait without a time limit goes through before it sleeps, and each time that it is woken
//! for nothing.
//!
//! Cost: one allocation, the mutex of `waits.rs`, two changes of its table: some 150 ns beside a
//! sleep of several microseconds.

use super::search::{Verdict, judge};
use super::waits::{Entry, Guard, Tag};
use super::{Needs, Summons, Waited, is_enabled, waits};
use crate::os::is_main_thread;
use crate::sync::party::Party;
use std::sync::Arc;

#[cfg(feature = "python")]
use super::face;
#[cfg(not(feature = "python"))]
use without as face;

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

/// The party, though in a wait, runs until this is dropped: a signal handler, say.
pub fn running(party: Party) -> Option<Watched> {
    struct Runs(Summons);

    impl Waited for Runs {
        fn kind(&self) -> &'static str {
            "signal handler"
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
