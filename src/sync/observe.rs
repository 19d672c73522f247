//! Where the wait-for graph looks on: every wait of a thread or a task passes here, and only
//! waits do (what is had at once costs nothing).

use super::graph::{Summons, Waited};
use super::line::{GotOf, Handle, Resource, Slot, WantOf};
use super::party::Party;
use std::sync::Arc;
use std::task::Waker;

pub use super::graph::Needs;
pub use super::graph::watch::{Refused, Watched, before_wait};

/// One in line, as the graph sees it.
pub struct Watching<D: Handle> {
    pub resource: D,
    pub party: Party,
    pub want: WantOf<D>,
    pub slot: Arc<Slot<GotOf<D>>>,
    pub waker: Waker,
    pub summons: Summons,
}

impl<D: Handle> Waited for Watching<D> {
    fn kind(&self) -> &'static str {
        self.resource.kind()
    }

    fn needs(&self) -> Needs {
        let needs = self.resource.needs(self.party, self.want);
        // Looked at last: who is granted something is named as its owner a moment before.
        if self.slot.is_granted() { Needs::Nothing } else { needs }
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(&*self.resource).addr()
    }

    fn wake(&self) {
        self.waker.wake_by_ref();
    }

    fn summons(&self) -> &Summons {
        &self.summons
    }
}
