//! Coroutines that wait at a queue.
//!
//! A coroutine of `plait._queues` has a `QueueSeat` while it waits: it awaits `told()`, then looks
//! itself for what it wants, as a thread would. So there is nothing that a cancelled task would
//! have to undo; what its seat stands for (a wake-up, or a token that is held) goes back when
//! the coroutine is left, or dropped.

use super::channel::Want;
use super::line::Seat;
use super::wait::{Items, Wake, watch};
use crate::aio::awaitable::Awaitable;
use crate::error::locked;
use crate::sync::face::task_party;
use crate::sync::observe::Watched;
use pyo3::prelude::*;
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

/// A coroutine's place in the line.
#[pyclass(frozen)]
pub struct QueueSeat(Arc<Inner>);

struct Inner {
    items: Arc<Items>,
    want: Want,
    /// Locked before the queue is, and never the other way round.
    seat: Mutex<Option<Seat>>,
}

impl Inner {
    /// Whether there is something to look for; else it is in line.
    fn poll(&self, context: &mut Context<'_>) -> bool {
        let mut seat = locked(&self.seat);
        seat.as_ref().is_some_and(Seat::was_told)
            || !self.items.join(self.want, &mut seat, || Wake::task(context.waker().clone()))
    }

    /// Tells the wait-for graph of the wait, or hears from it.
    fn watch(&self, watched: &mut Option<Watched>, context: &Context<'_>) -> PyResult<()> {
        if let Some(watched) = watched {
            return Ok(watched.look_again()?);
        }
        let party = Python::attach(task_party)?;
        // Not while the seat is locked: the graph has a lock of its own.
        let told = locked(&self.seat).as_ref().map(Seat::told);
        if let Some(told) = told {
            *watched = Some(watch(&self.items, told, party, context.waker().clone())?);
        }
        Ok(())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let seat = locked(&self.seat).take();
        self.items.leave(self.want, seat);
    }
}

impl QueueSeat {
    pub fn new(items: &Arc<Items>, want: Want) -> Self {
        Self(Arc::new(Inner { items: Arc::clone(items), want, seat: Mutex::default() }))
    }

    /// Works with the seat, under its lock.
    pub fn with<R>(&self, work: impl FnOnce(&mut Option<Seat>) -> R) -> R {
        work(&mut locked(&self.0.seat))
    }
}

#[pymethods]
impl QueueSeat {
    /// Await it, then look again.
    fn told(&self) -> Awaitable {
        let (inner, mut watched) = (Arc::clone(&self.0), None::<Watched>);
        Awaitable::of(poll_fn(move |context| {
            if inner.poll(context) {
                watched = None;
                return Poll::Ready(Ok(Python::attach(|py| py.None())));
            }
            match inner.watch(&mut watched, context) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            }
        }))
    }

    /// The coroutine waits no more.
    fn leave(&self) {
        let seat = self.with(Option::take);
        self.0.items.leave(self.0.want, seat);
    }
}
