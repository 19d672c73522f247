//! `plait.Semaphore` and `plait.BoundedSemaphore`.

use super::{
    Patience, Seconds, Standing, Truth, acquired, belongs_here, describe, standing, task_party,
    truth, wait,
};
use crate::aio::awaitable::Awaitable;
use crate::aio::ready::Ready;
use crate::sync::line::Acquire;
use crate::sync::party::Party;
use crate::sync::semaphore::{MOST, Semaphore};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::sync::Arc;

/// A number of permits: `threading.Semaphore` and `asyncio.Semaphore` in one.
///
/// Args:
///     value: the number of permits at first.
///
/// Raises:
///     ValueError: it is negative.
///
/// >>> import asyncio
/// >>> from plait import Semaphore
/// >>> permits = Semaphore(2)
/// >>> with permits:
/// ...     permits.acquire(), permits.acquire(blocking=False)
/// (True, False)
/// >>> async def main():
/// ...     async with permits:
/// ...         return permits.acquire(timeout=0.001)
/// >>> asyncio.run(main())
/// False
#[pyclass(frozen, weakref, subclass, name = "Semaphore", module = "plait.sync")]
pub struct PySemaphore {
    semaphore: Arc<Semaphore>,
}

/// A semaphore that never has more permits than at first; see `Semaphore`.
///
/// >>> from plait import BoundedSemaphore
/// >>> BoundedSemaphore(1).release()
/// Traceback (most recent call last):
/// ValueError: Semaphore released too many times
#[pyclass(frozen, extends = PySemaphore, subclass, name = "BoundedSemaphore", module = "plait.sync")]
pub struct PyBoundedSemaphore;

impl PySemaphore {
    fn with_bound(value: i64, bound: Option<u64>) -> PyResult<Self> {
        let permits = u64::try_from(value)
            .map_err(|_| PyValueError::new_err("semaphore initial value must be >= 0"))?;
        let semaphore = Arc::new(Semaphore::new(permits, bound.unwrap_or(MOST)));
        Ok(Self { semaphore })
    }

    fn take(&self, py: Python<'_>, patience: Patience) -> PyResult<bool> {
        if self.semaphore.try_acquire() {
            return Ok(true);
        }
        let Patience::Until(deadline) = patience else { return Ok(false) };
        let me = Party::this_thread();
        let acquire = Acquire::new(Arc::clone(&self.semaphore), me, (), deadline.is_some());
        Ok(wait(py, acquire, deadline)?.transpose()?.is_some())
    }

    fn take_async(&self, py: Python<'_>, value: Py<PyAny>) -> PyResult<Awaitable> {
        let acquire = Acquire::new(Arc::clone(&self.semaphore), task_party(py)?, (), false);
        let semaphore = Arc::clone(&self.semaphore);
        Ok(acquired(acquire, value, move || {
            let _ = semaphore.release(1); // fails only if others released too often
        }))
    }

    fn give(&self, permits: u64) -> PyResult<()> {
        self.semaphore
            .release(permits)
            .map_err(|_| PyValueError::new_err("Semaphore released too many times"))
    }
}

#[pymethods]
impl PySemaphore {
    #[new]
    #[pyo3(signature = (value=1))]
    fn new(value: i64) -> PyResult<Self> {
        Self::with_bound(value, None)
    }

    /// Take a permit, waiting for one if need be.
    ///
    /// Args:
    ///     blocking: wait while there is none.
    ///     timeout: the most seconds to wait; None: no limit; 0 or less: don't wait.
    ///
    /// Returns:
    ///     Whether one was taken.
    ///
    /// Raises:
    ///     ValueError: the timeout is nan, or given with ``blocking=False``.
    ///     OverflowError: it is longer than `threading.TIMEOUT_MAX`.
    #[pyo3(signature = (blocking: "bool" = Truth(true), timeout=None))]
    fn acquire(&self, py: Python<'_>, blocking: Truth, timeout: Option<Seconds>) -> PyResult<bool> {
        self.take(py, Patience::of_semaphore(blocking, timeout)?)
    }

    /// Take a permit in a coroutine: ``await semaphore.acquire_async()`` gives True.
    fn acquire_async(&self, py: Python<'_>) -> PyResult<Awaitable> {
        self.take_async(py, truth(py))
    }

    /// Give back a permit, or ``n`` of them.
    ///
    /// Raises:
    ///     ValueError: ``n`` is below 1, or there would be more than a bounded one may have.
    #[pyo3(signature = (n=1))]
    fn release(&self, n: i64) -> PyResult<()> {
        if n < 1 {
            return Err(PyValueError::new_err("n must be one or more"));
        }
        self.give(n.unsigned_abs())
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
        self.give(1)
    }

    fn __aenter__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        if self.semaphore.try_acquire() {
            return Ready::get(py);
        }
        Ok(Py::new(py, self.take_async(py, py.None())?)?.into_any())
    }

    #[pyo3(signature = (*_exc: "object"))]
    fn __aexit__(&self, py: Python<'_>, _exc: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.give(1)?;
        Ready::get(py)
    }

    #[getter]
    fn _value(&self) -> u64 {
        self.semaphore.permits()
    }

    #[getter]
    fn _engine(&self) -> usize {
        Arc::as_ptr(&self.semaphore).addr()
    }

    fn _statistics(&self) -> Standing {
        standing(&*self.semaphore)
    }

    fn __reduce__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Err(belongs_here(&slf.get_type().name()?.to_cow()?))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let (value, bound) = (slf.get().semaphore.permits(), slf.get().semaphore.bound());
        if bound == MOST {
            return describe(slf, "Semaphore", &format!("value={value}"));
        }
        describe(slf, "BoundedSemaphore", &format!("value={value}/{bound}"))
    }
}

#[pymethods]
impl PyBoundedSemaphore {
    #[new]
    #[pyo3(signature = (value=1))]
    fn new(value: i64) -> PyResult<PyClassInitializer<Self>> {
        let base = PySemaphore::with_bound(value, Some(value.unsigned_abs()))?;
        Ok(PyClassInitializer::from(base).add_subclass(Self))
    }
}
