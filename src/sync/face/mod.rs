//! What Python sees of the primitives, each in a file of its own; what they share is here.

pub mod lock;
pub mod semaphore;

pub use lock::PyLock;
pub use semaphore::{PyBoundedSemaphore, PySemaphore};

use super::observe::Refused;
use super::park::{Ended, block_on};
use super::party::Party;
use crate::aio::bridge::running_loop;
use crate::os::is_main_thread;
use crate::python::above_python;
use pyo3::exceptions::{PyOverflowError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyFloat;
use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant};

/// A signal that comes just before a wait does not end it. So the first look up is early; in
/// waits that go on, such a moment is rare enough.
const FIRST_LOOK: Duration = Duration::from_millis(50);

/// `threading.TIMEOUT_MAX`, in seconds.
const TIMEOUT_MAX: f64 = 9_223_372_036.0;

impl From<Refused> for PyErr {
    fn from(_: Refused) -> Self {
        PyRuntimeError::new_err("this wait would never end")
    }
}

/// Sleeps, detached, until the future is ready; `None`: the deadline passed. `Err`: a signal
/// handler raised.
pub fn wait<F: Future<Output: Send> + Send>(
    py: Python<'_>,
    future: F,
    deadline: Option<Instant>,
) -> PyResult<Option<F::Output>> {
    let mut future = pin!(future);
    let mut looks_early = is_main_thread();
    loop {
        let look = looks_early.then(|| Instant::now() + FIRST_LOOK);
        let until = deadline.into_iter().chain(look).min();
        match py.detach(|| block_on(future.as_mut(), until)) {
            Ended::Ready(value) => return Ok(Some(value)),
            Ended::TimedOut if until == deadline => return Ok(None),
            Ended::TimedOut => looks_early = false,
            Ended::Interrupted => looks_early = is_main_thread(),
        }
        above_python(|| py.check_signals())?;
    }
}

/// The running task, if the caller is one.
pub fn current_task(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    static CURRENT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let Some(event_loop) = running_loop(py)? else { return Ok(None) };
    let task = CURRENT.import(py, "asyncio", "current_task")?.call1((event_loop,))?;
    Ok((!task.is_none()).then_some(task))
}

/// The running task; one of Rust's outside of any.
pub fn task_party(py: Python<'_>) -> PyResult<Party> {
    let task = current_task(py)?;
    Ok(task.map_or_else(Party::rust_task, |task| Party::task(task.as_ptr().addr())))
}

/// An argument that is true or false, as `bool()` takes it.
#[derive(Clone, Copy)]
pub struct Truth(pub bool);

impl FromPyObject<'_, '_> for Truth {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        object.is_truthy().map(Self)
    }
}

/// A number of seconds, neither nan nor too large to wait for. As an argument that is left out,
/// and as None where the standard library takes that: no limit.
#[derive(Clone, Copy)]
pub struct Seconds(f64);

impl FromPyObject<'_, '_> for Seconds {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        let seconds = match object.cast::<PyFloat>() {
            Ok(float) => float.value(),
            Err(_) => object.extract().map_err(|error: PyErr| {
                let kind = object.get_type();
                if error.is_instance_of::<PyOverflowError>(object.py()) {
                    PyOverflowError::new_err("timeout value is too large")
                } else {
                    PyTypeError::new_err(format!("timeout must be a number of seconds, not {kind}"))
                }
            })?,
        };
        if seconds.is_nan() {
            return Err(PyValueError::new_err("Invalid value NaN (not a number)"));
        }
        if seconds > TIMEOUT_MAX {
            return Err(PyOverflowError::new_err("timeout value is too large"));
        }
        Ok(Self(seconds))
    }
}

impl Seconds {
    /// What `Lock.acquire` takes for no limit.
    pub const FOR_EVER: Self = Self(-1.0);

    /// From now; a negative number is a moment that has passed.
    pub fn deadline(self) -> Option<Instant> {
        Instant::now().checked_add(Duration::from_secs_f64(self.0.max(0.0)))
    }
}

/// How long an `acquire` may wait.
pub enum Patience {
    None,
    Until(Option<Instant>),
}

impl Patience {
    /// The arguments of `Lock.acquire`.
    pub fn of_lock(blocking: Truth, timeout: Seconds) -> PyResult<Self> {
        let limited = timeout.0 != Seconds::FOR_EVER.0;
        match (blocking.0, limited) {
            (false, true) => {
                Err(PyValueError::new_err("can't specify a timeout for a non-blocking call"))
            }
            (false, false) => Ok(Self::None),
            (true, true) if timeout.0 < 0.0 => {
                Err(PyValueError::new_err("timeout value must be a non-negative number"))
            }
            (true, true) => Ok(Self::Until(timeout.deadline())),
            (true, false) => Ok(Self::Until(None)),
        }
    }

    /// The arguments of `Semaphore.acquire`.
    pub fn of_semaphore(blocking: Truth, timeout: Option<Seconds>) -> PyResult<Self> {
        match (blocking.0, timeout) {
            (false, Some(_)) => {
                Err(PyValueError::new_err("can't specify timeout for non-blocking acquire"))
            }
            (false, None) => Ok(Self::None),
            (true, limit) => Ok(Self::Until(limit.and_then(Seconds::deadline))),
        }
    }
}

/// What pickling one of them raises.
pub fn belongs_here(name: &str) -> PyErr {
    PyTypeError::new_err(format!(
        "cannot pickle '{name}' object: it belongs to this process; \
         plait.get_context().{name}() makes one that processes share"
    ))
}
