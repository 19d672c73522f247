//! What Python sees of the coroutines; `plait.aio` documents them.

pub use super::awaitable::Awaitable;
pub use super::bridge::Bridge;

use super::awaitable::Start;
use super::{http, runtime};
use crate::thread::face::submit;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::collections::BTreeMap;
use std::time::Duration;

#[pyfunction]
pub fn sleep(delay: f64, result: Py<PyAny>) -> PyResult<Awaitable> {
    if delay.is_nan() {
        return Err(PyValueError::new_err("delay must be a number of seconds, got nan"));
    }
    if delay <= 0.0 {
        return Ok(Awaitable::new(Start::Yield(result)));
    }
    let duration = Duration::try_from_secs_f64(delay).unwrap_or(Duration::MAX);
    Ok(Awaitable::of(async move {
        runtime::sleep(duration)?.await;
        Ok(result)
    }))
}

#[pyfunction]
pub fn gather(
    py: Python<'_>,
    children: Vec<Py<Awaitable>>,
    return_exceptions: bool,
) -> PyResult<Awaitable> {
    super::gather::gather(py, children, return_exceptions)
}

/// `call()` on a thread of the crew.
#[pyfunction]
pub fn to_thread(call: Py<PyAny>) -> Awaitable {
    Awaitable::of(async move {
        let outcome = Python::attach(|py| submit(py, call))?;
        let lost = |_| PyRuntimeError::new_err("the thread that ran this call was ended");
        outcome.await.map_err(lost)?
    })
}

/// `timeout` is the number of seconds for the whole request; None: no limit.
#[pyfunction]
pub fn http_get(url: &str, timeout: Option<f64>) -> PyResult<Awaitable> {
    let uri = http::parse(url)?;
    Ok(Awaitable::of(async move {
        let page = runtime::spawn(http::get(runtime::client()?, uri, timeout))?.await??;
        Python::attach(|py| Ok(Py::new(py, Response::new(py, page))?.into_any()))
    }))
}

/// What a server answered.
#[pyclass(frozen, get_all)]
pub struct Response {
    status: u16,
    body: Py<PyBytes>,
    headers: BTreeMap<String, String>,
}

impl Response {
    fn new(py: Python<'_>, page: http::Page) -> Self {
        let mut headers = BTreeMap::<String, String>::new();
        for (name, value) in &page.headers {
            let value = String::from_utf8_lossy(value.as_bytes());
            let known = headers.entry(name.as_str().to_owned()).or_default();
            if !known.is_empty() {
                known.push_str(", ");
            }
            known.push_str(&value);
        }
        let body = PyBytes::new(py, &page.body).unbind();
        Self { status: page.status, body, headers }
    }
}

#[pymethods]
impl Response {
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("<Response {}, {} bytes>", self.status, self.body.bind(py).len()?))
    }
}

/// Ends plait's tokio threads, at exit.
#[pyfunction]
pub fn shut_down(py: Python<'_>) {
    py.detach(runtime::shut_down);
}
