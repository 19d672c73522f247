//! How an awaitable ended.

use pyo3::exceptions::asyncio::CancelledError;
use pyo3::exceptions::{PyBaseException, PyRuntimeError, PyStopIteration};
use pyo3::prelude::*;

/// How it ended.
pub enum Settled {
    Value(Py<PyAny>),
    /// As an object, which the garbage collector can visit: its traceback leads to those who
    /// waited, and they may hold the awaitable.
    Error(Py<PyBaseException>),
    Cancelled(Option<Py<PyAny>>),
}

impl Settled {
    pub(super) fn from_outcome(py: Python<'_>, outcome: PyResult<Py<PyAny>>) -> Self {
        match outcome {
            Ok(value) => Self::Value(value),
            // Raised by `__next__`, it would pass for the result.
            Err(error) if error.is_instance_of::<PyStopIteration>(py) => {
                let message = "StopIteration cannot be raised into a coroutine";
                let wrapped = PyRuntimeError::new_err(message);
                wrapped.set_cause(py, Some(error));
                Self::error(py, wrapped)
            }
            Err(error) if error.is_instance_of::<CancelledError>(py) => Self::Cancelled(
                error
                    .value(py)
                    .getattr("args")
                    .and_then(|args| args.get_item(0))
                    .ok()
                    .map(Bound::unbind),
            ),
            Err(error) => Self::error(py, error),
        }
    }

    pub fn error(py: Python<'_>, error: PyErr) -> Self {
        Self::Error(error.into_value(py))
    }

    pub fn outcome(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self {
            Self::Value(value) => Ok(value.clone_ref(py)),
            Self::Error(error) => Err(PyErr::from_value(error.bind(py).clone().into_any())),
            Self::Cancelled(message) => Err(cancelled_error(py, message.as_ref())),
        }
    }
}

pub fn cancelled_error(py: Python<'_>, message: Option<&Py<PyAny>>) -> PyErr {
    match message {
        Some(message) => CancelledError::new_err((message.clone_ref(py),)),
        None => CancelledError::new_err(()),
    }
}
