//! `plait.Semaphore` and `plait.BoundedSemaphore`.

use super::{Patience, Seconds, Truth, belongs_here, task_party, wait};
use crate::aio::awaitable::Awaitable;
use crate::aio::ready::Ready;
use crate::sync::line::Acquire;
use crate::sync::party::Party;
use crate::sync::semaphore::{MOST, Semaphore};
use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;
use std::sync::Arc;

/// A number of permits, for threads and coroutines at once.
#[pyclass(frozen, weakref, subclass, name = "Semaphore", module = "plait.sync")]
pub struct PySemaphore {
    semaphore: Arc<Semaphore>,
}

/// A semaphore that never has more permits than at first.
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
        let acquire = Acquire::new(&*self.semaphore, me, (), deadline.is_some());
        Ok(wait(py, acquire, deadline)?.transpose()?.is_some())
    }

    fn take_async(&self, py: Python<'_>, value: Py<PyAny>) -> PyResult<Awaitable> {
        let acquire = Acquire::new(Arc::clone(&self.semaphore), task_party(py)?, (), false);
        let semaphore = Arc::clone(&self.semaphore);
        let undo = move |_| {
            let _ = semaphore.release(1); // fails only if others released too often
        };
        Ok(Awaitable::with_rollback(async move { Ok(acquire.await.map(|()| value)?) }, undo))
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
    #[pyo3(signature = (blocking: "bool" = Truth(true), timeout=None))]
    fn acquire(&self, py: Python<'_>, blocking: Truth, timeout: Option<Seconds>) -> PyResult<bool> {
        self.take(py, Patience::of_semaphore(blocking, timeout)?)
    }

    /// Take a permit in a coroutine.
    fn acquire_async(&self, py: Python<'_>) -> PyResult<Awaitable> {
        self.take_async(py, true.into_pyobject(py)?.to_owned().into_any().unbind())
    }

    /// Give back one permit, or several.
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

    #[pyo3(signature = (*_exc: "object"))]
    fn __exit__(&self, _exc: &Bound<'_, PyAny>) -> PyResult<()> {
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

    fn _at_fork_reinit(&self, value: i64) -> PyResult<()> {
        let too_few = |_| PyOverflowError::new_err("value must be >= 0");
        self.semaphore.reset(u64::try_from(value).map_err(too_few)?);
        Ok(())
    }

    fn __reduce__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Err(belongs_here(&slf.get_type().name()?.to_cow()?))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let name = slf.get_type().fully_qualified_name()?;
        let value = slf.get().semaphore.permits();
        Ok(format!("<{name} at {:p}: value={value}>", slf.as_ptr()))
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
