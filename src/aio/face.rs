//! What Python sees of the coroutines; `plait.aio` documents them.

pub use super::awaitable::Awaitable;
pub use super::bridge::{Bridge, BridgeKeeper};

use super::linger::Brisk;
#[cfg(unix)]
use super::net::face::Sockets;
use super::net::settings::TlsSettings;
use super::start::Start;
use super::{files, http, runtime};
use crate::thread::face::submit;
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rustls::ClientConfig;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
#[cfg(not(unix))]
use std::sync::LazyLock;
use std::time::Duration;

#[pyfunction]
pub fn sleep(delay: f64, result: Py<PyAny>) -> PyResult<Awaitable> {
    if delay.is_nan() {
        return Err(PyValueError::new_err("delay must be a number of seconds, got nan"));
    }
    if delay <= 0.0 {
        return Ok(Awaitable::new(Start::Yield(result)).named("sleep"));
    }
    let duration = Duration::try_from_secs_f64(delay).unwrap_or(Duration::MAX);
    Ok(Awaitable::of(async move {
        runtime::sleep(duration)?.await;
        Ok(result)
    })
    .named("sleep"))
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
    static KIND: Brisk = Brisk::new();
    Awaitable::of(async move {
        let outcome = Python::attach(|py| submit(py, call))?;
        let lost = |_| PyRuntimeError::new_err("the thread that ran this call was ended");
        outcome.await.map_err(lost)?
    })
    .named("to_thread")
    .brisk(&KIND)
}

/// `timeout`: seconds for the whole request; `max_size`: bytes of the body. None: no limit.
#[pyfunction]
pub fn http_get(
    url: &str,
    headers: Vec<(String, String)>,
    timeout: Option<f64>,
    max_size: Option<usize>,
    follow_redirects: bool,
    tls: Bound<'_, TlsSettings>,
) -> PyResult<Awaitable> {
    let mut wish = http::Wish {
        uri: http::parse(url)?,
        headers: HeaderMap::new(),
        timeout,
        largest: max_size,
        follow: follow_redirects,
    };
    for (name, value) in headers {
        let refuse = |what: &str| {
            PyValueError::new_err(format!("{what} can't be sent as a header: {name:?}: {value:?}"))
        };
        let known = HeaderName::try_from(&name).map_err(|_| refuse("this name"))?;
        wish.headers
            .append(known, HeaderValue::try_from(&value).map_err(|_| refuse("this value"))?);
    }
    let tls = Arc::clone(&tls.get().settings.client);
    Ok(Awaitable::new(fetching(tls, wish)).named("http_get"))
}

/// By connections of the loop that it is awaited in.
#[cfg(unix)]
fn fetching(tls: Arc<ClientConfig>, wish: http::Wish) -> Start {
    Start::OnLoop(Box::new(move |event_loop| {
        let client = Sockets::of(event_loop)?.get().http_client(&tls);
        Ok(Box::pin(async move { respond(http::get(client, wish).await?) }))
    }))
}

/// By connections of the process, on tokio's threads.
#[cfg(not(unix))]
fn fetching(tls: Arc<ClientConfig>, wish: http::Wish) -> Start {
    static CLIENTS: LazyLock<http::clients::Clients> = LazyLock::new(Default::default);
    Start::Poll(Box::pin(async move {
        let client = CLIENTS.get(&tls, |tls| http::client(tls, http::connector()));
        respond(runtime::spawn(http::get(client, wish))?.await??)
    }))
}

fn respond(page: http::Page) -> PyResult<Py<PyAny>> {
    Python::attach(|py| Ok(Py::new(py, Response::new(py, page))?.into_any()))
}

/// The bytes of a file.
#[pyfunction]
pub fn read_file(path: PathBuf) -> Awaitable {
    static KIND: Brisk = Brisk::new();
    Awaitable::of(async move {
        let bytes = files::read(path.clone()).await?;
        Python::attach(|py| match bytes {
            Ok(bytes) => Ok(PyBytes::new(py, &bytes).into_any().unbind()),
            Err(error) => Err(file_error(py, &error, &path)),
        })
    })
    .named("read_file")
    .brisk(&KIND)
}

/// Makes a file of bytes, or replaces what is in it; the number of bytes.
#[pyfunction]
pub fn write_file(path: PathBuf, data: Vec<u8>) -> Awaitable {
    Awaitable::of(async move {
        let count = files::write(path.clone(), data).await?;
        Python::attach(|py| match count {
            Ok(count) => Ok(count.into_pyobject(py)?.into_any().unbind()),
            Err(error) => Err(file_error(py, &error, &path)),
        })
    })
    .named("write_file")
}

/// As `open` raises it: with the errno, its text and the path.
fn file_error(py: Python<'_>, error: &std::io::Error, path: &Path) -> PyErr {
    let Some(code) = error.raw_os_error() else {
        return PyValueError::new_err(format!("{error}: {}", path.display()));
    };
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default().to_owned();
    let Ok(path) = path.as_os_str().into_pyobject(py);
    PyOSError::new_err((code, text, path.unbind()))
}

/// What a server answered.
#[pyclass(frozen, get_all)]
pub struct Response {
    status: u16,
    body: Py<PyBytes>,
    headers: BTreeMap<String, String>,
    /// Where it came from, after redirects.
    url: String,
}

impl Response {
    fn new(py: Python<'_>, page: http::Page) -> Self {
        let mut headers = BTreeMap::<String, String>::new();
        for (name, value) in &page.headers {
            let value = text_of(value.as_bytes());
            let known = headers.entry(name.as_str().to_owned()).or_default();
            if !known.is_empty() {
                known.push_str(", ");
            }
            known.push_str(&value);
        }
        let body = PyBytes::new(py, &page.body).unbind();
        Self { status: page.status, body, headers, url: page.url }
    }
}

/// A header's value: UTF-8, or else Latin-1 as in `http.client`, which has a letter for each byte.
fn text_of(value: &[u8]) -> String {
    let latin = |_| value.iter().map(|&byte| char::from(byte)).collect();
    std::str::from_utf8(value).map_or_else(latin, str::to_owned)
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
