//! What a queue's mutex guards: see `channel`.

use super::channel::{Refused, Want};
use super::line::{Line, Wakes, Wakeups};
use crate::forked;
use std::collections::VecDeque;

pub(super) struct State<T, W> {
    pub(super) items: VecDeque<T>,
    pub(super) getters: Line<W>,
    pub(super) putters: Line<W>,
    pub(super) joiners: Line<W>,
    /// Those who wait for the right to compare, and who has it.
    pub(super) claimants: Line<W>,
    pub(super) claimed: Option<u64>,
    pub(super) unfinished: usize,
    /// 0: no limit.
    pub(super) limit: usize,
    pub(super) shut: bool,
    pub(super) open: bool,
    pub(super) generation: u64,
}

impl<T, W: Wakes> State<T, W> {
    /// In a forked child.
    #[cold]
    pub(super) fn forget_waiters(&mut self) {
        self.generation = forked::generation();
        let lost = (
            self.getters.forget(),
            self.putters.forget(),
            self.joiners.forget(),
            self.claimants.forget(),
        );
        self.claimed = None;
        drop(lost); // flags and wakers of the parent's threads: memory, no more
    }

    /// Items that nobody has one of held for.
    pub(super) fn free_items(&self) -> usize {
        self.items.len().saturating_sub(self.getters.held())
    }

    pub(super) fn free_slots(&self) -> usize {
        if self.limit == 0 {
            return usize::MAX;
        }
        self.limit.saturating_sub(self.items.len() + self.putters.held())
    }

    pub(super) fn free(&self, want: Want) -> usize {
        match want {
            Want::Item => self.free_items(),
            Want::Slot => self.free_slots(),
            Want::Done => usize::from(self.unfinished == 0),
        }
    }

    pub(super) fn line(&mut self, want: Want) -> &mut Line<W> {
        match want {
            Want::Item => &mut self.getters,
            Want::Slot => &mut self.putters,
            Want::Done => &mut self.joiners,
        }
    }

    /// After there may be more of it: who is to be woken.
    pub(super) fn next(&mut self, want: Want) -> Wakeups<W> {
        let free = self.free(want);
        self.line(want).next(free)
    }

    /// Why who wants it cannot have it, even if he waited.
    pub(super) fn refusal(&self, want: Want) -> Option<Refused> {
        if self.open {
            return Some(Refused::Open);
        }
        let over = match want {
            Want::Item => self.shut && self.items.is_empty(),
            Want::Slot => self.shut,
            Want::Done => false,
        };
        over.then_some(Refused::ShutDown)
    }

    /// After an item was put: who is to be woken.
    #[inline(always)]
    pub(super) fn was_put(&mut self) -> Vec<W> {
        self.unfinished += 1;
        if self.getters.length() == 0 { Vec::new() } else { self.getters_after_put() }
    }

    #[cold]
    fn getters_after_put(&mut self) -> Vec<W> {
        self.next(Want::Item).into_iter().flatten().collect()
    }

    /// After an item was taken: who is to be woken. Once the last item of a queue that was shut
    /// down is gone, no getter need wait.
    #[inline(always)]
    pub(super) fn was_taken(&mut self) -> Vec<W> {
        if self.getters.length() + self.putters.length() == 0 {
            Vec::new()
        } else {
            self.waiters_after_take()
        }
    }

    #[cold]
    fn waiters_after_take(&mut self) -> Vec<W> {
        let over = self.shut && self.items.is_empty();
        let mut woken = if over { self.getters.all() } else { Vec::new() };
        woken.extend(self.next(Want::Slot).into_iter().flatten());
        woken
    }
}
