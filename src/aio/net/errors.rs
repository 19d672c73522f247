//! The exceptions that asyncio, socket and ssl have for what goes wrong.

use super::resolve::NoAddress;
use super::tls::TlsError;
use pyo3::exceptions::{PyFileNotFoundError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyBytes;

pub fn short_error(partial: &Bound<'_, PyBytes>, expected: Option<usize>) -> PyErr {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let class = CLASS.import(partial.py(), "asyncio", "IncompleteReadError");
    made(class.and_then(|class| class.call1((partial, expected))))
}

pub fn limit_error(py: Python<'_>, message: &str, consumed: usize) -> PyErr {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let class = CLASS.import(py, "asyncio", "LimitOverrunError");
    made(class.and_then(|class| class.call1((message, consumed))))
}

pub fn tls_error(py: Python<'_>, error: &rustls::Error, message: &str) -> PyErr {
    static VERIFICATION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static OTHER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let class = if matches!(error, rustls::Error::InvalidCertificate(_)) {
        VERIFICATION.import(py, "ssl", "SSLCertVerificationError")
    } else {
        OTHER.import(py, "ssl", "SSLError")
    };
    made(class.and_then(|class| class.call1((1, message))))
}

fn made(exception: PyResult<Bound<'_, PyAny>>) -> PyErr {
    exception.map_or_else(|error| error, PyErr::from_value)
}

pub fn no_address_error(py: Python<'_>, error: &NoAddress, message: &str) -> PyErr {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let class = CLASS.import(py, "socket", "gaierror");
    made(class.and_then(|class| class.call1((error.code, message))))
}

impl From<TlsError> for PyErr {
    fn from(error: TlsError) -> Self {
        let message = error.to_string();
        match error {
            TlsError::File { missing: true, .. } => PyFileNotFoundError::new_err((2, message)),
            _ => PyValueError::new_err(message),
        }
    }
}
