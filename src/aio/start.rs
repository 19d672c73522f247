//! What an awaitable begins as: a future to poll, or how to come by one.

use super::awaitable::Awaitable;
use super::settled::cancelled_error;
use pyo3::prelude::*;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// A future that is polled on its loop's thread only, attached to the interpreter.
pub type Work = Pin<Box<dyn Future<Output = PyResult<Py<PyAny>>> + Send>>;

/// Gives back what came of a future, when nobody takes it: see [`Awaitable::with_rollback`].
pub type Undo = Box<dyn FnOnce(Py<PyAny>) + Send>;

/// Tells a future that its task was cancelled: see [`Awaitable::deferring`].
#[derive(Default)]
pub struct Notice {
    given: AtomicBool,
    closed: AtomicBool,
    message: Mutex<Option<Py<PyAny>>>,
}

impl Notice {
    pub fn is_given(&self) -> bool {
        self.given.load(Ordering::Acquire)
    }

    pub(super) fn give(&self, message: Option<Py<PyAny>>) {
        // The first one counts; no lock is held when the other is dropped.
        if !self.given.swap(true, Ordering::AcqRel) {
            *self.message.lock().unwrap_or_else(PoisonError::into_inner) = message;
        }
    }

    /// Whether its coroutine was closed: the future has to end when it is polled next.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.give(None);
    }

    /// What the future ends with.
    pub fn error(&self, py: Python<'_>) -> PyErr {
        let message = self.message.lock().unwrap_or_else(PoisonError::into_inner).take();
        cancelled_error(py, message.as_ref())
    }
}

/// What can mostly be had at once, such as a lock.
pub trait Eager: Send + Sync {
    /// Has it, if that needs no wait: asked by who awaits it, who gets the value in that moment,
    /// so that neither a loop nor a way back is needed. Runs no Python code.
    fn at_once(&self, py: Python<'_>) -> Option<Py<PyAny>>;

    /// Else: what waits for it, and how to give it back.
    fn work(self: Box<Self>) -> (Work, Undo);
}

/// Gets the loop.
pub type MakeWork = Box<dyn FnOnce(&Bound<'_, PyAny>) -> PyResult<Work> + Send>;

/// What starting means.
pub enum Start {
    Poll(Work),
    /// What is to be polled belongs to the loop that awaits it.
    OnLoop(MakeWork),
    Eager(Box<dyn Eager>),
    /// Let the loop go round once, as `asyncio.sleep(0)` does.
    Yield(Py<PyAny>),
    Gather {
        children: Vec<Py<Awaitable>>,
        return_exceptions: bool,
        /// How many groups are within each other here.
        depth: usize,
    },
}
