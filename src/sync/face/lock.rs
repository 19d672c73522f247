//! `plait.Lock`.

use super::{Patience, Seconds, Truth, belongs_here, task_party, wait};
use crate::aio::awaitable::Awaitable;
use crate::aio::ready::Ready;
use crate::sync::line::Acquire;
use crate::sync::lock::Lock;
use crate::sync::party::Party;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::sync::Arc;

/// A lock for threads and coroutines at once: `threading.Lock` and `asyncio.Lock` in one.
#[pyclass(frozen, weakref, name = "Lock", module = "plait.sync")]
pub struct PyLock {
    lock: Arc<Lock>,
}

impl PyLock {
    fn take(&self, py: Python<'_>, patience: Patience) -> PyResult<bool> {
        let me = Party::this_thread();
        if self.lock.try_acquire(me) {
            return Ok(true);
        }
        let Patience::Until(deadline) = patience else { return Ok(false) };
        let acquire = Acquire::new(&*self.lock, me, (), deadline.is_some());
        Ok(wait(py, acquire, deadline)?.transpose()?.is_some())
    }

    /// Awaiting it acquires, and gives `value`.
    fn take_async(&self, py: Python<'_>, value: Py<PyAny>) -> PyResult<Awaitable> {
        let acquire = Acquire::new(Arc::clone(&self.lock), task_party(py)?, (), false);
        let lock = Arc::clone(&self.lock);
        let undo = move |_| {
            let _ = lock.release(); // it fails if somebody else released it, and that is fine
        };
        Ok(Awaitable::with_rollback(async move { Ok(acquire.await.map(|()| value)?) }, undo))
    }
}

#[pymethods]
impl PyLock {
    #[new]
    fn new() -> Self {
        Self { lock: Arc::default() }
    }

    /// Take the lock, waiting for it if need be.
    #[pyo3(signature = (blocking: "bool" = Truth(true), timeout: "float" = Seconds::FOR_EVER))]
    fn acquire(&self, py: Python<'_>, blocking: Truth, timeout: Seconds) -> PyResult<bool> {
        self.take(py, Patience::of_lock(blocking, timeout)?)
    }

    /// Take the lock in a coroutine: ``await lock.acquire_async()``.
    fn acquire_async(&self, py: Python<'_>) -> PyResult<Awaitable> {
        self.take_async(py, true.into_pyobject(py)?.to_owned().into_any().unbind())
    }

    /// Let the lock go; any thread or task may.
    fn release(&self) -> PyResult<()> {
        self.lock.release().map_err(|_| PyRuntimeError::new_err("release unlocked lock"))
    }

    /// Whether it is taken.
    fn locked(&self) -> bool {
        self.lock.is_locked()
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        self.take(py, Patience::Until(None))
    }

    #[pyo3(signature = (*_exc: "object"))]
    fn __exit__(&self, _exc: &Bound<'_, PyAny>) -> PyResult<()> {
        self.release()
    }

    fn __aenter__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        if !self.lock.is_locked() && self.lock.try_acquire(task_party(py)?) {
            return Ready::get(py);
        }
        Ok(Py::new(py, self.take_async(py, py.None())?)?.into_any())
    }

    #[pyo3(signature = (*_exc: "object"))]
    fn __aexit__(&self, py: Python<'_>, _exc: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.release()?;
        Ready::get(py)
    }

    fn _at_fork_reinit(&self) {
        self.lock.reset();
    }

    fn __reduce__(&self) -> PyResult<Py<PyAny>> {
        Err(belongs_here("Lock"))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> String {
        let state = if slf.get().lock.is_locked() { "locked" } else { "unlocked" };
        format!("<{state} plait.sync.Lock object at {:p}>", slf.as_ptr())
    }
}
