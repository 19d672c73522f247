//! A queue: its items, those who wait for them, and what else there is to count.
//!
//! Algorithm: everything is under one mutex that is held for some ten instructions: no Python
//! code, no wait, nothing dropped that could run either. Threads that find what they want pay
//! one lock and one unlock. Who does not gets a seat in a `line`: getters wait for items,
//! putters for slots, joiners for there to be no unfinished task. What is woken is woken after
//! the mutex was let go of.
//!
//! An item stays in the queue until it is taken: a waiter is told to look, or has a token (one
//! of the number of items, not one of the items) held for it. So a cancelled or interrupted
//! waiter cannot lose an item, nor change the order of the others.
//!
//! Memory order: all of the state is under the mutex (in `guard`, which may be the GIL).
//!
//! **Fork.** For Python the mutex is only taken by threads that are attached to the interpreter,
//! which no other thread is while one forks; so a child never finds it locked. Those who waited
//! are threads that the child does not have: it forgets them when it first looks.

use super::guard::{Guard, Guarded};
use super::line::{Line, Seat, Wakes};
use super::state::State;
use crate::forked;
use std::collections::VecDeque;
use std::sync::PoisonError;

/// In which order items leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    First,
    Last,
    /// As `heapq` has it: see `heap`.
    Least,
}

/// Why nothing was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// A getter's.
    Empty,
    /// A putter's.
    Full,
    ShutDown,
    /// The items were handed over to Python code that looks into the queue; so does everything
    /// from now on.
    Open,
}

/// What a seat is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    Item,
    Slot,
    /// That no task is unfinished.
    Done,
}

pub struct Channel<T, W> {
    order: Order,
    state: Guard<State<T, W>>,
}

/// Wakes who is to be woken, once the mutex was let go of.
fn wake<W: Wakes>(woken: impl IntoIterator<Item = Option<W>>) {
    woken.into_iter().flatten().for_each(W::wake);
}

#[inline(always)]
fn wake_all<W: Wakes>(woken: Vec<W>) {
    if !woken.is_empty() {
        woken.into_iter().for_each(W::wake);
    }
}

impl<T, W: Wakes> Channel<T, W> {
    pub fn new(order: Order) -> Self {
        let state = State {
            items: VecDeque::new(),
            getters: Line::default(),
            putters: Line::default(),
            joiners: Line::default(),
            claimants: Line::default(),
            claimed: None,
            unfinished: 0,
            limit: 0,
            shut: false,
            open: false,
            generation: forked::generation(),
        };
        Self { order, state: Guard::new(state) }
    }

    pub fn order(&self) -> Order {
        self.order
    }

    #[inline(always)]
    pub(super) fn state(&self) -> Guarded<'_, State<T, W>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.generation != forked::generation() {
            state.forget_waiters();
        }
        state
    }

    /// For garbage collection: nothing if the state is in use.
    pub fn try_visit<E>(&self, mut visit: impl FnMut(&T) -> Result<(), E>) -> Result<(), E> {
        match self.state.try_lock() {
            Ok(state) => state.items.iter().try_for_each(&mut visit),
            Err(_) => Ok(()),
        }
    }

    /// Puts, if it need not wait; not for `Order::Least`.
    #[inline(always)]
    pub fn try_put(&self, item: T) -> Result<(), (Refused, T)> {
        let mut state = self.state();
        if let Some(refused) = state.refusal(Want::Slot) {
            return Err((refused, item));
        }
        if state.free_slots() == 0 {
            return Err((Refused::Full, item));
        }
        state.items.push_back(item);
        let woken = state.was_put();
        drop(state);
        wake_all(woken);
        Ok(())
    }

    /// Gets, if it need not wait; not for `Order::Least`.
    #[inline(always)]
    pub fn try_get(&self) -> Result<T, Refused> {
        let mut state = self.state();
        if let Some(refused) = state.refusal(Want::Item) {
            return Err(refused);
        }
        if state.free_items() == 0 {
            return Err(Refused::Empty);
        }
        let item = self.remove(&mut state).ok_or(Refused::Empty)?;
        let woken = state.was_taken();
        drop(state);
        wake_all(woken);
        Ok(item)
    }

    /// Puts, if there is room and nobody to be woken; false: nothing was done. The item is made
    /// when there is a place for it.
    #[inline(always)]
    pub fn put_unnoticed(&self, item: impl FnOnce() -> T) -> bool {
        let Some(mut state) = self.quick_state() else { return false };
        let may = state.refusal(Want::Slot).is_none()
            && state.free_slots() > 0
            && state.getters.length() == 0;
        if may {
            state.items.push_back(item());
            state.unfinished += 1;
        }
        may
    }

    /// Gets, if there is an item and nobody to be woken.
    #[inline(always)]
    pub fn take_unnoticed(&self) -> Option<T> {
        let mut state = self.quick_state()?;
        let may = state.refusal(Want::Item).is_none()
            && state.free_items() > 0
            && state.getters.length() + state.putters.length() == 0;
        if may { self.remove(&mut state) } else { None }
    }

    #[inline(always)]
    fn quick_state(&self) -> Option<Guarded<'_, State<T, W>>> {
        if self.order == Order::Least {
            return None;
        }
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.generation == forked::generation()).then_some(state)
    }

    #[inline(always)]
    fn remove(&self, state: &mut State<T, W>) -> Option<T> {
        match self.order {
            Order::First => state.items.pop_front(),
            _ => state.items.pop_back(),
        }
    }

    /// Whether what is wanted is now held for the seat. A seat that is not needed any more goes
    /// to `leave`, also one that was refused.
    pub fn look(&self, want: Want, seat: &mut Option<Seat>) -> Result<bool, Refused> {
        let mut state = self.state();
        if let Some(refused) = state.refusal(want) {
            return Err(refused);
        }
        let free = state.free(want);
        let held = state.line(want).look(seat, free);
        let woken = state.next(want);
        drop(state);
        wake(woken);
        Ok(held)
    }

    /// Gets in line. False: there is something to look for.
    pub fn join(&self, want: Want, seat: &mut Option<Seat>, wake: impl FnOnce() -> W) -> bool {
        let mut state = self.state();
        // One that was told a moment ago, by another thread, would give up what it was told of.
        let told = seat.as_ref().is_some_and(Seat::was_told);
        if told || state.refusal(want).is_some() || state.free(want) > 0 {
            return false;
        }
        state.line(want).join(seat, wake());
        true
    }

    /// Gives up a seat, and what is held for it.
    pub fn leave(&self, want: Want, seat: Option<Seat>) {
        if seat.is_none() {
            return;
        }
        let mut state = self.state();
        state.line(want).leave(seat);
        let woken = state.next(want);
        drop(state);
        wake(woken);
    }

    /// Puts into the slot that is held; not for `Order::Least`. In every case the seat is given
    /// up.
    pub fn put_held(&self, seat: Option<Seat>, item: T) -> Result<(), (Refused, T)> {
        let mut state = self.state();
        state.putters.leave(seat);
        if let Some(refused) = state.refusal(Want::Slot) {
            return Err((refused, item));
        }
        state.items.push_back(item);
        let woken = state.was_put();
        drop(state);
        wake_all(woken);
        Ok(())
    }

    /// Takes the item that is held; not for `Order::Least`. In every case the seat is given up.
    pub fn take_held(&self, seat: Option<Seat>) -> Result<T, Refused> {
        let mut state = self.state();
        state.getters.leave(seat);
        if let Some(refused) = state.refusal(Want::Item) {
            return Err(refused);
        }
        // Held tokens are items that nobody else takes, so there is one.
        let item = self.remove(&mut state).ok_or(Refused::Empty)?;
        let woken = state.was_taken();
        drop(state);
        wake_all(woken);
        Ok(item)
    }

    /// False: there is no unfinished task.
    pub fn task_done(&self) -> bool {
        let mut state = self.state();
        let Some(left) = state.unfinished.checked_sub(1) else { return false };
        state.unfinished = left;
        let woken = if left == 0 { state.joiners.all() } else { Vec::new() };
        drop(state);
        wake_all(woken);
        true
    }

    /// No more puts, and no more gets once it is empty, which it is at once if `immediate`. What
    /// it held then, to be dropped by the caller.
    pub fn shut_down(&self, immediate: bool) -> VecDeque<T> {
        let mut state = self.state();
        state.shut = true;
        let mut dropped = VecDeque::new();
        if immediate {
            dropped = std::mem::take(&mut state.items);
            state.unfinished = state.unfinished.saturating_sub(dropped.len());
        }
        let mut woken = state.getters.all();
        woken.extend(state.putters.all());
        if state.unfinished == 0 {
            woken.extend(state.joiners.all());
        }
        drop(state);
        wake_all(woken);
        dropped
    }

    /// Hands the items over; from now on all else is refused. Nobody else may have the claim.
    pub fn open(&self) -> VecDeque<T> {
        let mut state = self.state();
        state.open = true;
        let mut woken = state.getters.all();
        woken.extend(state.putters.all());
        woken.extend(state.joiners.all());
        let items = std::mem::take(&mut state.items);
        drop(state);
        wake_all(woken);
        items
    }

    pub fn is_open(&self) -> bool {
        self.state().open
    }

    /// For garbage collection: takes all items, unless the state is in use.
    pub fn try_clear(&self) -> VecDeque<T> {
        match self.state.try_lock() {
            Ok(mut state) => std::mem::take(&mut state.items),
            Err(_) => VecDeque::new(),
        }
    }

    pub fn length(&self) -> usize {
        self.state().items.len()
    }

    pub fn is_full(&self) -> bool {
        let state = self.state();
        state.limit != 0 && state.items.len() >= state.limit
    }

    /// How many wait.
    pub fn waiting(&self, want: Want) -> usize {
        self.state().line(want).length()
    }

    pub fn limit(&self) -> usize {
        self.state().limit
    }

    /// 0: no limit.
    pub fn set_limit(&self, limit: usize) {
        let mut state = self.state();
        state.limit = limit;
        let woken = state.putters.all(); // there may be room for several
        drop(state);
        wake_all(woken);
    }

    pub fn unfinished(&self) -> usize {
        self.state().unfinished
    }

    pub fn set_unfinished(&self, unfinished: usize) {
        let mut state = self.state();
        state.unfinished = unfinished;
        let woken = if unfinished == 0 { state.joiners.all() } else { Vec::new() };
        drop(state);
        wake_all(woken);
    }

    pub fn is_shut(&self) -> bool {
        self.state().shut
    }

    pub fn set_shut(&self, shut: bool) {
        self.state().shut = shut;
    }
}
