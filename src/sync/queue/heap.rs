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
//!
//! Numbers, strings and tuples of them, which is what most such queues hold, compare without
//! running foreign code: if nobody has the claim, and for as long as each comparison is such a
//! one, all is done in one critical section.

use super::channel::{Channel, Refused, Want};
use super::line::{Seat, Wakes};
use super::state::State;

/// What the engine has to know of items.
pub trait Compare<T> {
    type Error;

    fn less(&mut self, left: &T, right: &T) -> Result<bool, Self::Error>;

    /// The same if it needs no foreign code. Called under the mutex.
    fn quick(&mut self, left: &T, right: &T) -> Option<bool>;

    /// Another reference to it. Called under the mutex: it must run no foreign code.
    fn share(&self, item: &T) -> T;
}

/// Where on its way up from the end an item belongs that is `less` than what is at some places.
fn rise<E>(length: usize, mut less: impl FnMut(usize) -> Result<bool, E>) -> Result<usize, E> {
    let mut place = length;
    while place > 0 && less((place - 1) / 2)? {
        place = (place - 1) / 2;
    }
    Ok(place)
}

/// The places below the root down to a leaf, always the lesser of two, as if the last item were
/// gone; and how far down that path this one belongs.
fn sink<E>(
    length: usize,
    mut less: impl FnMut(usize, usize) -> Result<bool, E>,
) -> Result<(Vec<usize>, usize), E> {
    let (mut path, mut child, last) = (vec![0], 1, length.saturating_sub(1));
    while child < last {
        if child + 1 < last && !less(child, child + 1)? {
            child += 1;
        }
        path.push(child);
        child = 2 * child + 1;
    }
    let mut to = path.len() - 1;
    while to > 0 && less(last, path[to])? {
        to -= 1;
    }
    Ok((path, to))
}

impl<T, W: Wakes> State<T, W> {
    /// Puts an item where `rise` found that it belongs.
    fn insert(&mut self, item: T, place: usize) {
        self.items.push_back(item);
        let mut from = self.items.len() - 1;
        while from > place {
            let above = (from - 1) / 2;
            self.items.swap(from, above);
            from = above;
        }
    }

    /// Takes the root; `sink` found where the last item then belongs.
    fn remove_root(&mut self, path: &[usize], to: usize) -> Option<T> {
        let last = self.items.pop_back()?;
        // The root sinks to that place, what is on its way rises.
        for pair in path[..=to].windows(2) {
            self.items.swap(pair[0], pair[1]);
        }
        Some(match self.items.get_mut(path[to]) {
            Some(root) => std::mem::replace(root, last),
            None => last, // it was the only one
        })
    }
}

/// A comparison needs foreign code.
struct Undecided;

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
        woken.into_iter().flatten().for_each(W::wake);
    }

    /// Puts, if it need not wait for anybody, nor run foreign code: `None`.
    pub fn put_quick<C: Compare<T>>(
        &self,
        item: T,
        compare: &mut C,
    ) -> Result<(), (Option<Refused>, T)> {
        let mut state = self.state();
        if let Some(refused) = state.refusal(Want::Slot) {
            return Err((Some(refused), item));
        }
        if state.free(Want::Slot) == 0 {
            return Err((Some(Refused::Full), item));
        }
        let items = &state.items;
        let place = rise(items.len(), |at| compare.quick(&item, &items[at]).ok_or(Undecided));
        let (Ok(place), None) = (place, state.claimed) else { return Err((None, item)) };
        state.insert(item, place);
        let woken = state.was_put();
        drop(state);
        woken.into_iter().for_each(W::wake);
        Ok(())
    }

    /// Takes the least item, if it need not wait for anybody, nor run foreign code: `None`.
    pub fn take_quick<C: Compare<T>>(&self, compare: &mut C) -> Result<T, Option<Refused>> {
        let mut state = self.state();
        if let Some(refused) = state.refusal(Want::Item) {
            return Err(Some(refused));
        }
        if state.free_items() == 0 {
            return Err(Some(Refused::Empty));
        }
        let items = &state.items;
        let less =
            |one: usize, other: usize| compare.quick(&items[one], &items[other]).ok_or(Undecided);
        let (Ok((path, to)), None) = (sink(items.len(), less), state.claimed) else {
            return Err(None);
        };
        let least = state.remove_root(&path, to).ok_or(None)?;
        let woken = state.was_taken();
        drop(state);
        woken.into_iter().for_each(W::wake);
        Ok(least)
    }

    /// Puts into the slot that is held; the caller has the claim. Unless it succeeds the seat is
    /// still there, and the item the caller's.
    pub fn put_least<C: Compare<T>>(
        &self,
        seat: &mut Option<Seat>,
        item: T,
        compare: &mut C,
    ) -> Result<(), (Failed<C::Error>, T)> {
        let length = self.state().items.len();
        let place = rise(length, |at| {
            let above = self.state().items.get(at).map(|above| compare.share(above));
            above.map_or(Ok(false), |above| compare.less(&item, &above))
        });
        let place = match place {
            Ok(place) => place,
            Err(error) => return Err((Failed::Raised(error), item)),
        };
        let mut state = self.state();
        if let Some(refused) = state.refusal(Want::Slot) {
            return Err((Failed::Refused(refused), item));
        }
        state.putters.leave(seat.take());
        state.insert(item, place);
        let woken = state.was_put();
        drop(state);
        woken.into_iter().for_each(W::wake);
        Ok(())
    }

    /// Takes the least item, one being held; the caller has the claim. Unless it succeeds the
    /// seat is still there.
    pub fn take_least<C: Compare<T>>(
        &self,
        seat: &mut Option<Seat>,
        compare: &mut C,
    ) -> Result<T, Failed<C::Error>> {
        let length = self.state().items.len();
        let path = sink(length, |one, other| {
            let pair = {
                let state = self.state();
                let shared = |at: usize| state.items.get(at).map(|item| compare.share(item));
                shared(one).zip(shared(other))
            };
            pair.map_or(Ok(true), |(one, other)| compare.less(&one, &other))
        });
        let (path, to) = path.map_err(Failed::Raised)?;
        let mut state = self.state();
        if let Some(refused) = state.refusal(Want::Item) {
            return Err(Failed::Refused(refused)); // it was emptied meanwhile
        }
        let Some(least) = state.remove_root(&path, to) else {
            return Err(Failed::Refused(Refused::Empty));
        };
        state.getters.leave(seat.take());
        let woken = state.was_taken();
        drop(state);
        woken.into_iter().for_each(W::wake);
        Ok(least)
    }
}

fn free_claims<T, W: Wakes>(state: &State<T, W>) -> usize {
    usize::from(state.claimed.is_none()).saturating_sub(state.claimants.held())
}
