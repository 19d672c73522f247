//! `plait.Event`.

use super::{
    Seconds, Standing, acquired, belongs_here, describe, standing, task_party, truth, wait,
};
use crate::aio::awaitable::Awaitable;
use crate::sync::event::Event;
use crate::sync::line::Acquire;
use crate::sync::party::Party;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple};
use std::sync::Arc;

/// A flag that threads and coroutines wait for: `threading.Event` and `asyncio.Event` in one.
///
/// >>> import asyncio
/// >>> from plait import Event, Thread
/// >>> event = Event()
/// >>> async def main():
/// ...     Thread(target=event.set).start()
/// ...     return await event.wait_async()
/// >>> asyncio.run(main()), event.wait()
/// (True, True)
#[pyclass(frozen, weakref, subclass, name = "Event", module = "plait.sync")]
pub struct PyEvent {
    event: Arc<Event>,
    /// For code that knows the standard library's inside.
    condition: PyOnceLock<Py<PyAny>>,
}

#[pymethods]
impl PyEvent {
    /// Subclasses may take arguments in their `__init__`.
    #[new]
    #[pyo3(signature = (*_args: "object", **_kwargs: "object"), text_signature = "()")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self { event: Arc::default(), condition: PyOnceLock::new() }
    }

    fn __init__(&self) {}

    /// Whether the flag is set.
    fn is_set(&self) -> bool {
        self.event.is_set()
    }

    /// Set the flag; all who wait go on.
    fn set(&self) {
        self.event.set();
    }

    /// Take the flag back.
    fn clear(&self) {
        self.event.clear();
    }

    /// Wait until the flag is set.
    ///
    /// Args:
    ///     timeout: the most seconds to wait; None: no limit; 0 or less: don't wait.
    ///
    /// Returns:
    ///     Whether it was set.
    ///
    /// Raises:
    ///     ValueError: the timeout is nan.
    ///     OverflowError: it is longer than `threading.TIMEOUT_MAX`.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<Seconds>) -> PyResult<bool> {
        if self.event.try_pass() {
            return Ok(true);
        }
        let acquire =
            Acquire::new(Arc::clone(&self.event), Party::this_thread(), (), timeout.is_some());
        let set = wait(py, acquire, timeout.and_then(Seconds::deadline))?;
        Ok(set.transpose()?.is_some())
    }

    /// Wait in a coroutine until the flag is set; gives True.
    fn wait_async(&self, py: Python<'_>) -> PyResult<Awaitable> {
        let acquire = Acquire::new(Arc::clone(&self.event), task_party(py)?, (), false);
        Ok(acquired(acquire, truth(py), || ()).named("wait_async"))
    }

    #[getter]
    fn _cond<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let made = self.condition.get_or_try_init(py, || {
            let lock = Py::new(py, super::PyLock::create())?;
            let class = py.get_type::<super::PyCondition>();
            class.call1((lock,)).map(Bound::unbind)
        })?;
        Ok(made.bind(py).clone())
    }

    fn _at_fork_reinit(&self, py: Python<'_>) -> PyResult<()> {
        self.event.forget_waiters();
        if let Some(condition) = self.condition.get(py) {
            condition.call_method0(py, "_at_fork_reinit")?;
        }
        Ok(())
    }

    #[getter]
    fn _engine(&self) -> usize {
        Arc::as_ptr(&self.event).addr()
    }

    fn _statistics(&self) -> Standing {
        standing(&*self.event)
    }

    fn __reduce__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Err(belongs_here(&slf.get_type().name()?.to_cow()?))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        describe(slf, "Event", if slf.get().event.is_set() { "set" } else { "unset" })
    }
}
