//! `plait.Semaphore` and `plait.BoundedSemaphore`.

use super::{
    Made, Patience, Seconds, Standing, Truth, acquired, belongs_here, describe, standing,
    task_party, truth, wait,
};
use crate::aio::awaitable::Awaitable;
use crate::aio::ready::Ready;
use crate::shortcut::{Quick, shortcut};
use crate::sync::line::Acquire;
use crate::sync::party::Party;
use crate::sync::semaphore::{MOST, Semaphore};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
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
    semaphore: Made<Arc<Semaphore>>,
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
    fn blank() -> Self {
        Self { semaphore: Made::later("Semaphore") }
    }

    fn make(&self, value: i64, bound: Option<u64>) -> PyResult<()> {
        let permits = u64::try_from(value)
            .map_err(|_| PyValueError::new_err("semaphore initial value must be >= 0"))?;
        self.semaphore.make(Arc::new(Semaphore::new(permits, bound.unwrap_or(MOST))))
    }

    fn take(&self, py: Python<'_>, patience: Patience) -> PyResult<bool> {
        let semaphore = self.semaphore.get()?;
        if semaphore.try_acquire() {
            return Ok(true);
        }
        let Patience::Until(deadline) = patience else { return Ok(false) };
        let me = Party::this_thread();
        let acquire = Acquire::new(Arc::clone(semaphore), me, (), deadline.is_some());
        Ok(wait(py, acquire, deadline)?.transpose()?.is_some())
    }

    fn take_async(&self, py: Python<'_>, value: Py<PyAny>) -> PyResult<Awaitable> {
        let semaphore = Arc::clone(self.semaphore.get()?);
        let acquire = Acquire::new(Arc::clone(&semaphore), task_party(py)?, (), false);
        Ok(acquired(acquire, value, move || {
            let _ = semaphore.release(1); // fails only if others released too often
        }))
    }

    fn give(&self, permits: u64) -> PyResult<()> {
        self.semaphore
            .get()?
            .release(permits)
            .map_err(|_| PyValueError::new_err("Semaphore released too many times"))
    }
}

#[pymethods]
impl PySemaphore {
    /// Subclasses may take other arguments in their `__init__`.
    #[new]
    #[pyo3(signature = (*_args: "object", **_kwargs: "object"), text_signature = "(value=1)")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::blank()
    }

    #[pyo3(signature = (value=1))]
    fn __init__(&self, value: i64) -> PyResult<()> {
        self.make(value, None)
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
        Ok(self.take_async(py, truth(py))?.named("acquire_async"))
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
        if self.semaphore.get()?.try_acquire() {
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
    fn _value(&self) -> PyResult<u64> {
        Ok(self.semaphore.get()?.permits())
    }

    #[getter]
    fn _engine(&self) -> PyResult<usize> {
        Ok(Arc::as_ptr(self.semaphore.get()?).addr())
    }

    fn _statistics(&self) -> PyResult<Standing> {
        Ok(standing(&**self.semaphore.get()?))
    }

    fn __reduce__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Err(belongs_here(&slf.get_type().name()?.to_cow()?))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let semaphore = slf.get().semaphore.get()?;
        let (value, bound) = (semaphore.permits(), semaphore.bound());
        if bound == MOST {
            return describe(slf, "Semaphore", &format!("value={value}"));
        }
        describe(slf, "BoundedSemaphore", &format!("value={value}/{bound}"))
    }
}

#[pymethods]
impl PyBoundedSemaphore {
    /// Subclasses may take other arguments in their `__init__`.
    #[new]
    #[pyo3(signature = (*_args: "object", **_kwargs: "object"), text_signature = "(value=1)")]
    fn new(
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyClassInitializer<Self> {
        PyClassInitializer::from(PySemaphore::blank()).add_subclass(Self)
    }

    #[pyo3(signature = (value=1))]
    fn __init__(slf: &Bound<'_, Self>, value: i64) -> PyResult<()> {
        slf.as_super().get().make(value, Some(value.unsigned_abs()))
    }
}

fn quick_acquire(py: Python<'_>, this: &PySemaphore) -> Quick {
    this.semaphore.as_option()?.try_acquire().then(|| truth(py))
}

fn quick_release(py: Python<'_>, this: &PySemaphore) -> Quick {
    this.semaphore.as_option()?.release_quick().then(|| py.None())
}

/// See `crate::shortcut`.
pub fn shortcuts(py: Python<'_>) -> PyResult<()> {
    shortcut!(py, PySemaphore, "acquire", 0, |py, this, []| quick_acquire(py, this))?;
    shortcut!(py, PySemaphore, "release", 0, |py, this, []| quick_release(py, this))?;
    shortcut!(py, PySemaphore, "__enter__", |py, this| quick_acquire(py, this))?;
    shortcut!(py, PySemaphore, "__exit__", 3, |py, this, [_, _, _]| quick_release(py, this))
}
