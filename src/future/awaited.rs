//! `await` of an executor's future: its end wakes the task's loop by a waker, so that neither
//! a callback nor a thread in between has to run.

use super::object::BaseFuture;
use crate::aio::awaitable::Awaitable;
use crate::aio::settled::cancelled_error;
use pyo3::prelude::*;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// What `await future` waits for; a new one each time.
#[pyfunction]
pub fn await_future(future: Py<BaseFuture>) -> Awaitable {
    Awaitable::of(Awaited { future, waker: None })
}

struct Awaited {
    future: Py<BaseFuture>,
    /// While it waits.
    waker: Option<Waker>,
}

impl Future for Awaited {
    type Output = PyResult<Py<PyAny>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let waker = context.waker();
        if self.future.get().core().poll_wait(waker).is_pending() {
            // The same each time: an awaitable has one.
            self.waker.get_or_insert_with(|| waker.clone());
            return Poll::Pending;
        }
        self.waker = None;
        Poll::Ready(Python::attach(|py| {
            let future = self.future.bind(py);
            if future.get().core().is_cancelled() {
                return Err(cancelled_error(py, None));
            }
            // By its method: a subclass may have one of its own. Decoding may run Python code.
            future.call_method1("result", (0,)).map(Bound::unbind)
        }))
    }
}

/// The task was cancelled: so is the future, as `asyncio.wrap_future` has it.
impl Drop for Awaited {
    fn drop(&mut self) {
        let Some(waker) = self.waker.take() else { return };
        self.future.get().core().forget(&waker);
        Python::try_attach(|py| {
            let future = self.future.bind(py);
            if let Err(error) = future.call_method0("cancel") {
                error.write_unraisable(py, Some(future));
            }
        });
    }
}
