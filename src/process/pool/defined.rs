//! What workers were given under a number, and when it may be forgotten.
//!
//! A task names its function and its context variables by number. Between the moment that a
//! thread learns a number and the one in which its task is in the engine, another thread may
//! define the function anew; and a task that was sent may come back, and go to a worker that was
//! never given the definition. So whoever names a number keeps a [`Defined`], and the number is
//! forgotten with the last of those.

use super::message::Kind;
use crate::error::locked;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// A function, or a set of context variables, that a task may name.
#[derive(Debug)]
pub struct Defined {
    pub number: u32,
    /// What messages call it.
    pub name: Arc<str>,
    /// How workers are told to forget it.
    kind: Kind,
    forgotten: Arc<Forgotten>,
}

impl Defined {
    pub fn function(number: u32, name: &str, forgotten: &Arc<Forgotten>) -> Arc<Self> {
        Self::new(number, name, Kind::Forget, forgotten)
    }

    pub fn context(number: u32, forgotten: &Arc<Forgotten>) -> Arc<Self> {
        Self::new(number, "", Kind::ForgetContext, forgotten)
    }

    fn new(number: u32, name: &str, kind: Kind, forgotten: &Arc<Forgotten>) -> Arc<Self> {
        Arc::new(Self { number, name: name.into(), kind, forgotten: Arc::clone(forgotten) })
    }
}

impl Drop for Defined {
    fn drop(&mut self) {
        locked(&self.forgotten.numbers).push((self.kind, self.number));
        self.forgotten.any.store(true, Ordering::Release);
    }
}

/// The number in a task's head; 0: none.
pub fn number_of(defined: Option<&Arc<Defined>>) -> u32 {
    defined.map_or(0, |defined| defined.number)
}

/// Numbers that nobody names any more. The last of those who did may have the engine's lock, so
/// they are only noted.
#[derive(Debug, Default)]
pub struct Forgotten {
    numbers: Mutex<Vec<(Kind, u32)>>,
    any: AtomicBool,
}

impl Forgotten {
    /// Those that were not taken yet.
    pub fn take(&self) -> Vec<(Kind, u32)> {
        if !self.any.load(Ordering::Relaxed) || !self.any.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        std::mem::take(&mut *locked(&self.numbers))
    }
}
