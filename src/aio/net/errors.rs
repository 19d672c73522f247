//! The exceptions that asyncio, socket and ssl have for what goes wrong.

use super::resolve::NoAddress;
use super::tls::TlsError;
use pyo3::exceptions::{PyFileNotFoundError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyBytes;
use rustls::{CertificateError, InvalidMessage};

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

/// As the `ssl` module raises it, with what it says of its errors.
pub fn tls_error(py: Python<'_>, error: &rustls::Error, message: &str) -> PyErr {
    made(tls_exception(py, error, message))
}

fn tls_exception<'py>(
    py: Python<'py>,
    error: &rustls::Error,
    message: &str,
) -> PyResult<Bound<'py, PyAny>> {
    static VERIFICATION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static OTHER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let (made, reason) = match error {
        rustls::Error::InvalidCertificate(bad) => {
            let class = VERIFICATION.import(py, "ssl", "SSLCertVerificationError")?;
            let made = class.call1((1, message))?;
            made.setattr("verify_code", openssl_code(bad))?;
            made.setattr("verify_message", bad.to_string())?;
            (made, Some("CERTIFICATE_VERIFY_FAILED"))
        }
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            let message = format!("{message}: the other side does not speak TLS");
            let class = OTHER.import(py, "ssl", "SSLError")?;
            (class.call1((1, message))?, Some("WRONG_VERSION_NUMBER"))
        }
        _ => (OTHER.import(py, "ssl", "SSLError")?.call1((1, message))?, None),
    };
    made.setattr("library", "SSL")?;
    made.setattr("reason", reason)?;
    Ok(made)
}

/// OpenSSL's `X509_V_ERR_*`; 1: unspecified.
fn openssl_code(error: &CertificateError) -> u8 {
    match error {
        CertificateError::BadSignature => 7,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => 9,
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => 10,
        CertificateError::UnknownIssuer => 20,
        CertificateError::Revoked => 23,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => 62,
        _ => 1,
    }
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
