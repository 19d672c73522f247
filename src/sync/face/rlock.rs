//! `plait.RLock`.

use super::lock::{is_closed, take_async, wait_for};
use super::{
    Patience, Seconds, Standing, Truth, belongs_here, current_task, standing, task_party, truth,
};
use crate::aio::awaitable::Awaitable;
use crate::aio::ready::Ready;
use crate::shortcut::{Quick, shortcut};
use crate::sync::graph::order::is_recording;
use crate::sync::graph::places::{note_released, note_taken};
use crate::sync::lock::Lock;
use crate::sync::party::Party;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::sync::Arc;

/// A lock that its owner may take again: `threading.RLock`, for coroutines too.
///
/// The owner is the thread for `acquire` and ``with``, the task for `acquire_async` and
/// ``async with``: two tasks of one loop exclude each other, as asyncio's own locks have it.
///
/// >>> import asyncio
/// >>> from plait import RLock
/// >>> lock = RLock()
/// >>> with lock, lock:
/// ...     lock.locked()
/// True
/// >>> async def main():
/// ...     async with lock:
/// ...         async with lock:
/// ...             return lock.locked()
/// >>> asyncio.run(main()), lock.locked()
/// (True, False)
#[pyclass(frozen, weakref, name = "RLock", module = "plait.sync")]
pub struct PyRLock {
    lock: Arc<Lock>,
}

/// As what the caller holds the lock: as this thread, or as the task that runs.
pub(super) fn holder(py: Python<'_>, lock: &Lock) -> PyResult<Option<Party>> {
    let Some(owner) = lock.holder() else { return Ok(None) };
    if owner == Party::this_thread() {
        return Ok(Some(owner));
    }
    if !owner.is_task() {
        return Ok(None);
    }
    let task = current_task(py)?.map(|task| Party::task(task.as_ptr().addr()));
    Ok(task.filter(|task| *task == owner))
}

/// Lets it go once.
pub(super) fn exit(py: Python<'_>, lock: &Arc<Lock>) -> PyResult<()> {
    note_released(lock);
    if lock.exit(Party::this_thread()).is_ok() {
        return Ok(());
    }
    let task = holder(py, lock)?.and_then(|task| lock.exit(task).ok());
    task.ok_or_else(|| PyRuntimeError::new_err("cannot release un-acquired lock"))
}

pub(super) fn enter(py: Python<'_>, lock: &Arc<Lock>, patience: Patience) -> PyResult<bool> {
    let me = Party::this_thread();
    let taken = lock.try_enter(me) || wait_for(py, lock, me, patience)?;
    note_taken(py, lock, me, taken);
    Ok(taken)
}

/// Awaiting it takes the lock, for the task that called this.
pub(super) fn enter_async(lock: &Arc<Lock>, party: Party, value: Py<PyAny>) -> Awaitable {
    if !lock.is_held_by(party) {
        return take_async(lock, party, value);
    }
    let (lock, undone) = (Arc::clone(lock), Arc::clone(lock));
    let again = async move {
        lock.try_enter(party);
        Ok(value)
    };
    Awaitable::with_rollback(again, move |_| {
        let _ = undone.exit(party); // it was entered when this is called
    })
}

impl PyRLock {
    pub(super) fn create() -> Self {
        Self { lock: Arc::new(Lock::new(true)) }
    }

    pub(super) fn engine(&self) -> &Arc<Lock> {
        &self.lock
    }
}

#[pymethods]
impl PyRLock {
    #[new]
    fn new() -> Self {
        Self::create()
    }

    /// Take the lock, again if this thread has it, waiting for it if need be.
    ///
    /// Args:
    ///     blocking: wait while another thread or task has it.
    ///     timeout: the most seconds to wait; -1: no limit.
    ///
    /// Returns:
    ///     Whether it was taken.
    ///
    /// Raises:
    ///     ValueError: the timeout is negative, nan, or given with ``blocking=False``.
    ///     OverflowError: it is longer than `threading.TIMEOUT_MAX`.
    #[pyo3(signature = (blocking: "bool" = Truth(true), timeout: "float" = Seconds::FOR_EVER))]
    fn acquire(&self, py: Python<'_>, blocking: Truth, timeout: Seconds) -> PyResult<bool> {
        enter(py, &self.lock, Patience::of_lock(blocking, timeout)?)
    }

    /// Take the lock for the task that calls this: ``await lock.acquire_async()`` gives True.
    fn acquire_async(&self, py: Python<'_>) -> PyResult<Awaitable> {
        Ok(enter_async(&self.lock, task_party(py)?, truth(py)).named("acquire_async"))
    }

    /// Undo one `acquire` of this thread, or one `acquire_async` of this task.
    ///
    /// Raises:
    ///     RuntimeError: neither has the lock.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        exit(py, &self.lock)
    }

    /// Whether anybody holds it.
    fn locked(&self) -> bool {
        self.lock.is_locked()
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        enter(py, &self.lock, Patience::Until(None))
    }

    #[pyo3(signature = (_kind=None, _error=None, _traceback=None))]
    fn __exit__(
        &self,
        py: Python<'_>,
        _kind: Option<&Bound<'_, PyAny>>,
        _error: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        exit(py, &self.lock)
    }

    fn __aenter__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let me = task_party(py)?;
        if self.lock.try_enter(me) {
            note_taken(py, &self.lock, me, true);
            return Ready::get(py);
        }
        Ok(Py::new(py, take_async(&self.lock, me, py.None()))?.into_any())
    }

    #[pyo3(signature = (*exc: "object"))]
    fn __aexit__(&self, py: Python<'_>, exc: &Bound<'_, PyTuple>) -> PyResult<Py<PyAny>> {
        let is_closed = is_closed(exc);
        if is_closed && self.lock.is_forgone() {
            return Ready::get(py);
        }
        // A coroutine is closed by anybody, in whatever task; it is within, so its own has the lock.
        let owner = self.lock.holder().filter(|owner| is_closed && owner.is_task());
        let me = owner.map_or_else(|| task_party(py), Ok)?;
        let exited = self.lock.exit(me);
        exited.map_err(|_| PyRuntimeError::new_err("cannot release un-acquired lock"))?;
        Ready::get(py)
    }

    fn _is_owned(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(holder(py, &self.lock)?.is_some())
    }

    fn _recursion_count(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(holder(py, &self.lock)?.map_or(0, |_| self.lock.times()))
    }

    /// `(how often, by whom)`, for `_acquire_restore`.
    fn _release_save(&self, py: Python<'_>) -> PyResult<(u64, u64)> {
        let owner = holder(py, &self.lock)?
            .ok_or_else(|| PyRuntimeError::new_err("cannot release un-acquired lock"))?;
        Ok((self.lock.exit_all(), owner.word()))
    }

    fn _acquire_restore(&self, py: Python<'_>, state: (u64, u64)) -> PyResult<()> {
        let owner = Party::of_word(state.1).unwrap_or_else(Party::this_thread);
        restore(py, &self.lock, owner, state.0)
    }

    fn _at_fork_reinit(&self) {
        self.lock.reset();
    }

    #[getter]
    fn _engine(&self) -> usize {
        Arc::as_ptr(&self.lock).addr()
    }

    fn _statistics(&self) -> Standing {
        standing(&*self.lock)
    }

    fn __reduce__(&self) -> PyResult<Py<PyAny>> {
        Err(belongs_here("RLock"))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> String {
        let (address, lock) = (slf.as_ptr(), &slf.get().lock);
        match lock.holder() {
            Some(owner) => format!(
                "<locked plait.RLock object owner={} count={} at {address:p}>",
                owner.ident(),
                lock.times()
            ),
            None => format!("<unlocked plait.RLock object owner=0 count=0 at {address:p}>"),
        }
    }
}

/// Takes the lock so many times at once, come what may: what a signal handler raises meanwhile
/// is raised afterwards.
pub(super) fn restore(py: Python<'_>, lock: &Arc<Lock>, party: Party, times: u64) -> PyResult<()> {
    if !lock.try_acquire(party) {
        let acquire = crate::sync::line::Acquire::new(Arc::clone(lock), party, (), false);
        let (taken, raised) = super::wait_through(py, acquire);
        taken?;
        lock.set_times(times);
        return raised;
    }
    lock.set_times(times);
    Ok(())
}

pub(super) fn quick_enter(py: Python<'_>, lock: &Lock) -> Quick {
    (!is_recording() && lock.try_enter(Party::this_thread())).then(|| truth(py))
}

pub(super) fn quick_exit(py: Python<'_>, lock: &Lock) -> Quick {
    (!is_recording() && lock.exit_quick(Party::this_thread())).then(|| py.None())
}

/// See `crate::shortcut`.
pub fn shortcuts(py: Python<'_>) -> PyResult<()> {
    shortcut!(py, PyRLock, "acquire", 0, |py, this, []| quick_enter(py, &this.lock))?;
    shortcut!(py, PyRLock, "release", |py, this| quick_exit(py, &this.lock))?;
    shortcut!(py, PyRLock, "__enter__", |py, this| quick_enter(py, &this.lock))?;
    shortcut!(py, PyRLock, "__exit__", 3, |py, this, [_, _, _]| quick_exit(py, &this.lock))
}
