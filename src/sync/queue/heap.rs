//! Putting into and getting from a queue whose items are compared.
//!
//! Comparing two items may be Python code: it may raise, wait, or use this very queue. So
//! neither is it done under the channel's mutex, nor may anything change while it is done.
//!
//! Algorithm: who wants to compare *claims* the queue, as one would lock it, for the time of
//! one put or get; others wait for the claim, in a line. The heap stays where it is. The
//! claimant reads the two items that it compares next under the mutex, compares them without
//! it, and so finds the path on which items have to move, as `heapq` does, but moves none: that
//! is done at the end, in one critical section. A comparison that raises therefore leaves the
//! queue as it was: what was put is not in it, what was to be got still is (of `heapq`, an item
//! would be lost). The comparisons, and so the order of equal items, are those of `heapq`.
//!
//! A comparison that uses the queue that it is made for would wait for itself. It is refused.

use super::channel::{Channel, Refused, State, Want, wake};
use super::line::{Seat, Wakes};

/// What the engine has to know of items.
pub trait Compare<T> {
    type Error;

    fn less(&mut self, left: &T, right: &T) -> Result<bool, Self::Error>;

    /// Another reference to it. Called under the mutex: it must run no foreign code.
    fn share(&self, item: &T) -> T;
}

/// Why an item was not put or got.
#[derive(Debug, PartialEq, Eq)]
pub enum Failed<E> {
    Refused(Refused),
    /// What the comparison raised.
    Raised(E),
}

/// What a claim needs another try for.
#[derive(Debug, PartialEq, Eq)]
pub enum Claim {
    Mine,
    /// It waits in the line.
    Waits,
    /// It is the caller's already.
    Reentered,
}

impl<T, W: Wakes> Channel<T, W> {
    /// Claims the queue for `me`, a number that says who it is, or gets in line for that.
    pub fn claim(&self, me: u64, seat: &mut Option<Seat>, wake: impl FnOnce() -> W) -> Claim {
        let mut state = self.state();
        if state.claimed == Some(me) {
            return Claim::Reentered;
        }
        let free = free_claims(&state);
        if state.claimants.look(seat, free) {
            state.claimants.leave(seat.take());
            state.claimed = Some(me);
            return Claim::Mine;
        }
        state.claimants.join(seat, wake());
        Claim::Waits
    }

    /// A wait for the claim ended otherwise.
    pub fn leave_claim(&self, seat: Option<Seat>) {
        self.next_claimant(|state| state.claimants.leave(seat));
    }

    /// Lets go of the claim.
    pub fn unclaim(&self) {
        self.next_claimant(|state| state.claimed = None);
    }

    fn next_claimant(&self, change: impl FnOnce(&mut State<T, W>)) {
        let mut state = self.state();
        change(&mut state);
        let free = free_claims(&state);
        let woken = state.claimants.next(free);
        drop(state);
        wake(woken);
    }

    /// Puts into the slot that is held; the caller has the claim. Unless it succeeds the seat is
    /// still there, and the item the caller's.
    pub fn put_least<C: Compare<T>>(
        &self,
        seat: &mut Option<Seat>,
        item: T,
        compare: &mut C,
    ) -> Result<(), (Failed<C::Error>, T)> {
        let last = self.state().items.len();
        let mut place = last;
        while place > 0 {
            let above = (place - 1) / 2;
            let Some(parent) = self.state().items.get(above).map(|item| compare.share(item)) else {
                break;
            };
            match compare.less(&item, &parent) {
                Ok(true) => place = above,
                Ok(false) => break,
                Err(error) => return Err((Failed::Raised(error), item)),
            }
        }
        let mut state = self.state();
        if let Some(refused) = state.refusal(Want::Slot) {
            return Err((Failed::Refused(refused), item));
        }
        state.putters.leave(seat.take());
        state.items.push_back(item);
        let mut from = state.items.len() - 1;
        while from > place {
            let above = (from - 1) / 2;
            state.items.swap(from, above);
            from = above;
        }
        let woken = state.was_put();
        drop(state);
        wake(woken);
        Ok(())
    }

    /// Takes the least item, one being held; the caller has the claim. Unless it succeeds the
    /// seat is still there.
    pub fn take_least<C: Compare<T>>(
        &self,
        seat: &mut Option<Seat>,
        compare: &mut C,
    ) -> Result<T, Failed<C::Error>> {
        let (path, to) = self.path(compare).map_err(Failed::Raised)?;
        let mut state = self.state();
        if let Some(refused) = state.refusal(Want::Item) {
            return Err(Failed::Refused(refused));
        }
        let Some(last) = state.items.pop_back() else {
            return Err(Failed::Refused(Refused::Empty));
        };
        state.getters.leave(seat.take());
        // The root sinks to where the last item belongs, the others on its way rise.
        for pair in path[..=to].windows(2) {
            state.items.swap(pair[0], pair[1]);
        }
        let least = match state.items.get_mut(path[to]) {
            Some(place) => std::mem::replace(place, last),
            None => last, // it was the only one
        };
        let (over, woken) = state.was_taken();
        drop(state);
        over.into_iter().for_each(W::wake);
        wake(woken);
        Ok(least)
    }

    /// Where the least items below the root are, from the root to a leaf, as if the last item
    /// were gone; and where on that path this one belongs.
    fn path<C: Compare<T>>(&self, compare: &mut C) -> Result<(Vec<usize>, usize), C::Error> {
        let mut path = vec![0];
        let (last, left) = {
            let state = self.state();
            let last = state.items.back().map(|item| compare.share(item));
            (last, state.items.len().saturating_sub(1))
        };
        let Some(last) = last else { return Ok((path, 0)) };
        let mut child = 1;
        while child < left {
            if child + 1 < left {
                let pair = {
                    let state = self.state();
                    let shared = |at: usize| state.items.get(at).map(|item| compare.share(item));
                    shared(child).zip(shared(child + 1))
                };
                if let Some((one, other)) = pair
                    && !compare.less(&one, &other)?
                {
                    child += 1;
                }
            }
            path.push(child);
            child = 2 * child + 1;
        }
        let mut to = path.len() - 1;
        while to > 0 {
            let above = self.state().items.get(path[to]).map(|item| compare.share(item));
            match above {
                Some(above) if compare.less(&last, &above)? => to -= 1,
                _ => break,
            }
        }
        Ok((path, to))
    }
}

fn free_claims<T, W: Wakes>(state: &State<T, W>) -> usize {
    usize::from(state.claimed.is_none()).saturating_sub(state.claimants.held())
}
