//! `plait.RWLock`.

use super::{
    Patience, Seconds, Standing, Truth, acquired, belongs_here, current_task, describe, standing,
    task_party, truth, wait,
};
use crate::aio::awaitable::Awaitable;
use crate::aio::ready::Ready;
use crate::sync::graph::places::{note_released, note_taken, note_wanted};
use crate::sync::line::Acquire;
use crate::sync::party::Party;
use crate::sync::rwlock::{Access, RwLock};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::sync::Arc;

/// A lock for many readers or one writer; the standard library has none.
///
/// Threads and tasks wait in one line: a reader that comes after a waiting writer waits behind
/// it, so that neither readers nor writers starve. Who reads may read again at once. Who reads
/// cannot take it for writing too, nor who writes take it again: that would wait for ever.
///
/// >>> import asyncio
/// >>> from plait import RWLock
/// >>> table = RWLock()
/// >>> with table.read(), table.read():
/// ...     table.acquire_write(blocking=False)
/// False
/// >>> async def main():
/// ...     async with table.write():
/// ...         return table.acquire_read(timeout=0.001)
/// >>> asyncio.run(main())
/// False
#[pyclass(frozen, weakref, subclass, name = "RWLock", module = "plait.sync")]
pub struct PyRWLock {
    lock: Arc<RwLock>,
}

/// One way to hold an `RWLock`, for ``with`` and ``async with``.
#[pyclass(frozen, name = "RWLockAccess", module = "plait.sync")]
pub struct PyAccess {
    lock: Arc<RwLock>,
    access: Access,
}

fn take(py: Python<'_>, lock: &Arc<RwLock>, access: Access, patience: Patience) -> PyResult<bool> {
    let me = Party::this_thread();
    let taken = lock.try_acquire(me, access) || wait_for(py, lock, me, access, patience)?;
    note_taken(py, lock, me, taken);
    Ok(taken)
}

#[cold]
fn wait_for(
    py: Python<'_>,
    lock: &Arc<RwLock>,
    me: Party,
    access: Access,
    patience: Patience,
) -> PyResult<bool> {
    let Patience::Until(deadline) = patience else { return Ok(false) };
    note_wanted(py, lock, me);
    let acquire = Acquire::new(Arc::clone(lock), me, access, deadline.is_some());
    Ok(wait(py, acquire, deadline)?.transpose()?.is_some())
}

fn take_async(lock: &Arc<RwLock>, party: Party, access: Access, value: Py<PyAny>) -> Awaitable {
    let acquire = Acquire::new(Arc::clone(lock), party, access, false);
    let lock = Arc::clone(lock);
    acquired(acquire, value, move || {
        let _ = lock.release(party, access); // it was acquired when this is called
    })
}

/// Releases what this thread holds, or the task that runs.
fn release(py: Python<'_>, lock: &Arc<RwLock>, access: Access) -> PyResult<()> {
    note_released(lock);
    if lock.release(Party::this_thread(), access).is_ok() {
        return Ok(());
    }
    let task = current_task(py)?.map(|task| Party::task(task.as_ptr().addr()));
    let released = task.and_then(|task| lock.release(task, access).ok());
    released.ok_or_else(|| {
        let kind = if access == Access::Read { "reading" } else { "writing" };
        PyRuntimeError::new_err(format!(
            "cannot release an RWLock that this thread or task does not hold for {kind}"
        ))
    })
}

#[pymethods]
impl PyRWLock {
    /// Subclasses may take arguments in their `__init__`.
    #[new]
    #[pyo3(signature = (*_args: "object", **_kwargs: "object"), text_signature = "()")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self { lock: Arc::default() }
    }

    fn __init__(&self) {}

    /// Take it for reading, beside other readers.
    ///
    /// Args:
    ///     blocking: wait while a writer has it or waits for it.
    ///     timeout: the most seconds to wait; -1: no limit.
    ///
    /// Returns:
    ///     Whether it was taken.
    ///
    /// Raises:
    ///     ValueError: the timeout is negative, nan, or given with ``blocking=False``.
    ///     OverflowError: it is longer than `threading.TIMEOUT_MAX`.
    #[pyo3(signature = (blocking: "bool" = Truth(true), timeout: "float" = Seconds::FOR_EVER))]
    fn acquire_read(&self, py: Python<'_>, blocking: Truth, timeout: Seconds) -> PyResult<bool> {
        take(py, &self.lock, Access::Read, Patience::of_lock(blocking, timeout)?)
    }

    /// Take it for writing, alone.
    ///
    /// Args:
    ///     blocking: wait while anybody has it.
    ///     timeout: the most seconds to wait; -1: no limit.
    ///
    /// Returns:
    ///     Whether it was taken.
    ///
    /// Raises:
    ///     ValueError: the timeout is negative, nan, or given with ``blocking=False``.
    ///     OverflowError: it is longer than `threading.TIMEOUT_MAX`.
    #[pyo3(signature = (blocking: "bool" = Truth(true), timeout: "float" = Seconds::FOR_EVER))]
    fn acquire_write(&self, py: Python<'_>, blocking: Truth, timeout: Seconds) -> PyResult<bool> {
        take(py, &self.lock, Access::Write, Patience::of_lock(blocking, timeout)?)
    }

    /// Take it for reading, for the task that calls this; gives True.
    fn acquire_read_async(&self, py: Python<'_>) -> PyResult<Awaitable> {
        let take = take_async(&self.lock, task_party(py)?, Access::Read, truth(py));
        Ok(take.named("acquire_read_async"))
    }

    /// Take it for writing, for the task that calls this; gives True.
    fn acquire_write_async(&self, py: Python<'_>) -> PyResult<Awaitable> {
        let take = take_async(&self.lock, task_party(py)?, Access::Write, truth(py));
        Ok(take.named("acquire_write_async"))
    }

    /// Undo one `acquire_read` of this thread or task.
    ///
    /// Raises:
    ///     RuntimeError: neither reads.
    fn release_read(&self, py: Python<'_>) -> PyResult<()> {
        release(py, &self.lock, Access::Read)
    }

    /// Undo `acquire_write`.
    ///
    /// Raises:
    ///     RuntimeError: neither this thread nor this task writes.
    fn release_write(&self, py: Python<'_>) -> PyResult<()> {
        release(py, &self.lock, Access::Write)
    }

    /// ``with rw.read():`` or ``async with rw.read():``
    fn read(&self) -> PyAccess {
        PyAccess { lock: Arc::clone(&self.lock), access: Access::Read }
    }

    /// ``with rw.write():`` or ``async with rw.write():``
    fn write(&self) -> PyAccess {
        PyAccess { lock: Arc::clone(&self.lock), access: Access::Write }
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
        Err(belongs_here("RWLock"))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        use crate::sync::line::Resource;
        let lock = &slf.get().lock;
        let state = match (lock.owner(), lock.reading()) {
            (Some(_), _) => "writing".to_owned(),
            (None, 0) => "unlocked".to_owned(),
            (None, readers) => format!("readers={readers}"),
        };
        describe(slf, "RWLock", &state)
    }
}

#[pymethods]
impl PyAccess {
    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        take(py, &self.lock, self.access, Patience::Until(None))
    }

    #[pyo3(signature = (_kind=None, _error=None, _traceback=None))]
    fn __exit__(
        &self,
        py: Python<'_>,
        _kind: Option<&Bound<'_, PyAny>>,
        _error: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        release(py, &self.lock, self.access)
    }

    fn __aenter__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let me = task_party(py)?;
        if self.lock.try_acquire(me, self.access) {
            note_taken(py, &self.lock, me, true);
            return Ready::get(py);
        }
        Ok(Py::new(py, take_async(&self.lock, me, self.access, py.None()))?.into_any())
    }

    #[pyo3(signature = (*_exc: "object"))]
    fn __aexit__(&self, py: Python<'_>, _exc: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let me = task_party(py)?;
        if self.lock.release(me, self.access).is_err() {
            release(py, &self.lock, self.access)?;
        }
        Ready::get(py)
    }
}
