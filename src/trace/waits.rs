//! Plait's own locks tell a trace who waited for which of them, and who had it; futures and maps,
//! who waited for a result.
//!
//! Only waits come here, so a mutex may be taken; while nothing is traced, one load is all.

use crate::sync::party::Party;
#[cfg(target_os = "linux")]
use {
    super::{
        clock,
        sampler::LOCK,
        tape::{Record, Tape},
    },
    crate::forked::ForkMutex,
    std::sync::Arc,
    std::sync::atomic::{AtomicBool, Ordering},
};

#[cfg(target_os = "linux")]
static TRACED: AtomicBool = AtomicBool::new(false);
#[cfg(target_os = "linux")]
static TAPE: std::sync::LazyLock<ForkMutex<Option<Arc<Tape>>>> =
    std::sync::LazyLock::new(ForkMutex::default);

/// From now on waits are noted there; `None`: no longer.
#[cfg(target_os = "linux")]
pub fn note_on(tape: Option<Arc<Tape>>) {
    TRACED.store(tape.is_some(), Ordering::Relaxed);
    *TAPE.lock() = tape;
}

/// Notes what `make` gives, if something is traced.
#[cfg(target_os = "linux")]
#[inline]
pub(super) fn note(make: impl FnOnce(&Tape) -> Record) {
    if TRACED.load(Ordering::Relaxed)
        && let Some(tape) = &*TAPE.lock()
    {
        tape.note(make(tape));
    }
}

/// A wait that has begun; it ends when this is dropped.
pub struct Wait {
    #[cfg(target_os = "linux")]
    record: Record,
}

/// What is waited for that is no lock: what a task returns.
const RESULT: &str = "result";

impl Wait {
    /// This thread begins to wait for a task's result.
    pub fn for_result() -> Option<Self> {
        Self::begin(RESULT, 0, None, Party::this_thread())
    }

    /// `None`: nothing is traced.
    #[inline]
    pub fn begin(
        kind: &'static str,
        address: usize,
        owner: Option<Party>,
        who: Party,
    ) -> Option<Self> {
        #[cfg(target_os = "linux")]
        if TRACED.load(Ordering::Relaxed) {
            return Some(Self::noted(kind, address, owner, who));
        }
        let _ = (kind, address, owner, who);
        None
    }

    #[cfg(target_os = "linux")]
    #[cold]
    fn noted(kind: &'static str, address: usize, owner: Option<Party>, who: Party) -> Self {
        const KINDS: [&str; 10] = [
            "Lock",
            "RLock",
            "Event",
            "Condition",
            "Semaphore",
            "BoundedSemaphore",
            "Barrier",
            "RWLock",
            "Queue",
            RESULT,
        ];
        let kind = KINDS.iter().position(|name| *name == kind).map_or(0, |at| at as u32 + 1);
        let tid = if who.is_thread() { crate::os::seat().native.unsigned_abs() } else { 0 };
        let a = if tid == 0 { who.word() } else { address as u64 };
        let b = owner.map_or(0, Party::word);
        let (began, ended) = (clock::now(), 0);
        Self { record: Record { kind: LOCK, began, ended, tid, state: kind, a, b } }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        #[cfg(target_os = "linux")]
        if let Some(tape) = &*TAPE.lock() {
            tape.note(Record { ended: clock::now(), ..self.record });
        }
    }
}
