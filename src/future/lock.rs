//! The lock of a future's `_condition`: whoever lets go of it publishes an end that came
//! meanwhile, so that who completes a future never waits for those who look at it.
//!
//! The standard library's `cf.wait` and `as_completed` take that lock of all their futures; a ^C
//! between the taking and the `with` block leaves it taken for good. A worker that wanted it to
//! publish a result would hang there, and so would the exit that joins the worker.
//!
//! Memory order: the publisher hides the end, then tries the lock; the holder lets go of the
//! lock, then looks for a hidden end; with a sequentially consistent fence between the two steps
//! of each, one of them sees what the other did.

use super::core::Core;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Weak};

/// A `threading.RLock`; what is not here, it does itself.
#[pyclass(frozen, module = "plait._core")]
pub struct FutureLock {
    lock: Py<PyAny>,
    future: Weak<Core>,
}

impl FutureLock {
    pub(super) fn new(py: Python<'_>, future: &Arc<Core>) -> PyResult<Self> {
        static LOCK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let lock = LOCK.import(py, "threading", "RLock")?.call0()?.unbind();
        Ok(Self { lock, future: Arc::downgrade(future) })
    }

    /// The caller has just let go of the lock.
    fn publish(&self, py: Python<'_>) -> PyResult<()> {
        fence(Ordering::SeqCst);
        match self.future.upgrade() {
            Some(future) if future.view().is_hidden() => future.reveal_left(py),
            _ => Ok(()),
        }
    }
}

#[pymethods]
impl FutureLock {
    #[pyo3(signature = (blocking=true, timeout=-1.0))]
    fn acquire(&self, py: Python<'_>, blocking: bool, timeout: f64) -> PyResult<bool> {
        let taken = self.lock.call_method1(py, "acquire", (blocking, timeout))?;
        let taken: bool = taken.extract(py)?;
        // A ^C that has come by now is raised here, where the lock can be given back, not at the
        // caller's next bytecode, where nobody would.
        if taken && let Err(error) = py.check_signals() {
            self.release(py)?;
            return Err(error);
        }
        Ok(taken)
    }

    fn release(&self, py: Python<'_>) -> PyResult<()> {
        self.lock.call_method0(py, "release")?;
        self.publish(py)
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        self.acquire(py, true, -1.0)
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        _type: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.release(py)
    }

    /// For a `Condition` whose holder waits; an error leaves it as it was.
    fn _release_save(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let saved = self.lock.call_method0(py, "_release_save")?;
        if let Err(error) = self.publish(py) {
            self.lock.call_method1(py, "_acquire_restore", (saved,))?;
            return Err(error);
        }
        Ok(saved)
    }

    fn __getattr__(&self, py: Python<'_>, name: &str) -> PyResult<Py<PyAny>> {
        self.lock.getattr(py, name)
    }
}
