//! `plait.Lock`.

use super::{
    Patience, Seconds, Standing, Truth, acquired, belongs_here, standing, task_party, truth, wait,
};
use crate::aio::awaitable::Awaitable;
use crate::aio::ready::Ready;
use crate::shortcut::{Quick, shortcut};
use crate::sync::graph::order::is_recording;
use crate::sync::graph::places::{note_released, note_taken, note_wanted};
use crate::sync::line::Acquire;
use crate::sync::lock::Lock;
use crate::sync::party::Party;
use pyo3::exceptions::{PyGeneratorExit, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::sync::Arc;

/// A lock for threads and coroutines at once: `threading.Lock` and `asyncio.Lock` in one.
///
/// It may be shared by threads, tasks of several event loops and Rust tasks. As with the
/// standard library's, any of them may release it. Who has waited for 1 ms is handed the lock
/// when it becomes free; else whoever comes first takes it.
///
/// >>> import asyncio
/// >>> from plait import Lock
/// >>> lock = Lock()
/// >>> with lock:
/// ...     lock.locked()
/// True
/// >>> async def main():
/// ...     async with lock:
/// ...         return lock.acquire(blocking=False)
/// >>> asyncio.run(main())
/// False
#[pyclass(frozen, weakref, name = "Lock", module = "plait.sync")]
pub struct PyLock {
    lock: Arc<Lock>,
}

impl PyLock {
    pub(super) fn create() -> Self {
        Self { lock: Arc::new(Lock::new(false)) }
    }

    pub(super) fn engine(&self) -> &Arc<Lock> {
        &self.lock
    }

    fn take(&self, py: Python<'_>, patience: Patience) -> PyResult<bool> {
        let me = Party::this_thread();
        let taken = self.lock.try_acquire(me) || wait_for(py, &self.lock, me, patience)?;
        note_taken(py, &self.lock, me, taken);
        Ok(taken)
    }
}

/// Takes a lock that was not free just now.
#[cold]
pub(super) fn wait_for(
    py: Python<'_>,
    lock: &Arc<Lock>,
    party: Party,
    patience: Patience,
) -> PyResult<bool> {
    let Patience::Until(deadline) = patience else { return Ok(false) };
    note_wanted(py, lock, party);
    let acquire = Acquire::new(Arc::clone(lock), party, (), deadline.is_some());
    Ok(wait(py, acquire, deadline)?.transpose()?.is_some())
}

/// Awaiting it takes the lock for a task, and gives `value`.
pub(super) fn take_async(lock: &Arc<Lock>, party: Party, value: Py<PyAny>) -> Awaitable {
    let acquire = Acquire::new(Arc::clone(lock), party, (), false);
    let lock = Arc::clone(lock);
    acquired(acquire, value, move || {
        let _ = lock.release(); // it fails if somebody else released it, and that is fine
    })
}

/// Whether a coroutine leaves ``async with`` because it is closed.
pub(super) fn is_closed(exc: &Bound<'_, PyTuple>) -> bool {
    exc.get_borrowed_item(0).is_ok_and(|kind| kind.is(exc.py().get_type::<PyGeneratorExit>()))
}

#[pymethods]
impl PyLock {
    #[new]
    fn new() -> Self {
        Self::create()
    }

    /// Take the lock, waiting for it if need be.
    ///
    /// Args:
    ///     blocking: wait while another thread or task has it.
    ///     timeout: the most seconds to wait; -1: no limit. Honoured to a millisecond.
    ///
    /// Returns:
    ///     Whether it was taken.
    ///
    /// Raises:
    ///     ValueError: the timeout is negative, nan, or given with ``blocking=False``.
    ///     OverflowError: it is longer than `threading.TIMEOUT_MAX`.
    #[pyo3(signature = (blocking: "bool" = Truth(true), timeout: "float" = Seconds::FOR_EVER))]
    fn acquire(&self, py: Python<'_>, blocking: Truth, timeout: Seconds) -> PyResult<bool> {
        self.take(py, Patience::of_lock(blocking, timeout)?)
    }

    /// Take the lock in a coroutine: ``await lock.acquire_async()`` gives True.
    ///
    /// Cancelling the task leaves the line; a lock that it had been handed goes to the next.
    fn acquire_async(&self, py: Python<'_>) -> PyResult<Awaitable> {
        Ok(take_async(&self.lock, task_party(py)?, truth(py)).named("acquire_async"))
    }

    /// Let the lock go; any thread or task may.
    ///
    /// Raises:
    ///     RuntimeError: nobody has it.
    fn release(&self) -> PyResult<()> {
        note_released(&self.lock);
        self.lock.release().map_err(|_| PyRuntimeError::new_err("release unlocked lock"))
    }

    /// Whether it is taken.
    fn locked(&self) -> bool {
        self.lock.is_locked()
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        self.take(py, Patience::Until(None))
    }

    #[pyo3(signature = (_kind=None, _error=None, _traceback=None))]
    fn __exit__(
        &self,
        _kind: Option<&Bound<'_, PyAny>>,
        _error: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.release()
    }

    fn __aenter__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let me = task_party(py)?;
        if self.lock.try_acquire(me) {
            note_taken(py, &self.lock, me, true);
            return Ready::get(py);
        }
        Ok(Py::new(py, take_async(&self.lock, me, py.None()))?.into_any())
    }

    #[pyo3(signature = (*exc: "object"))]
    fn __aexit__(&self, py: Python<'_>, exc: &Bound<'_, PyTuple>) -> PyResult<Py<PyAny>> {
        if !(is_closed(exc) && self.lock.is_forgone()) {
            self.release()?;
        }
        Ready::get(py)
    }

    #[getter]
    fn _engine(&self) -> usize {
        Arc::as_ptr(&self.lock).addr()
    }

    fn _statistics(&self) -> Standing {
        standing(&*self.lock)
    }

    fn _at_fork_reinit(&self) {
        self.lock.reset();
    }

    fn __reduce__(&self) -> PyResult<Py<PyAny>> {
        Err(belongs_here("Lock"))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> String {
        let state = if slf.get().lock.is_locked() { "locked" } else { "unlocked" };
        format!("<{state} plait.Lock object at {:p}>", slf.as_ptr())
    }
}

fn quick_take(py: Python<'_>, this: &PyLock) -> Quick {
    (!is_recording() && this.lock.try_acquire(Party::this_thread())).then(|| truth(py))
}

fn quick_release(py: Python<'_>, this: &PyLock) -> Quick {
    (!is_recording() && this.lock.release_quick()).then(|| py.None())
}

/// See `crate::shortcut`.
pub fn shortcuts(py: Python<'_>) -> PyResult<()> {
    shortcut!(py, PyLock, "acquire", 0, |py, this, []| quick_take(py, this))?;
    shortcut!(py, PyLock, "release", |py, this| quick_release(py, this))?;
    shortcut!(py, PyLock, "__enter__", |py, this| quick_take(py, this))?;
    shortcut!(py, PyLock, "__exit__", 3, |py, this, [_, _, _]| quick_release(py, this))
}
