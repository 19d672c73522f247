//! A stream's sending end, and what is known of its connection.

use super::address::show_address;
use super::handle::{Handle, describe, with_bytes};
use super::op::{Ask, Op};
use super::settings::TlsSettings;
use super::sockets::Sockets;
use super::stream::{Phase, Stream};
use pyo3::exceptions::{PyNotImplementedError, PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyBytes;
use pyo3::{PyTraverseError, PyVisit};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, PoisonError};

/// The sending end of a connection: asyncio.StreamWriter's interface.
///
/// What can be sent at once is. It is its own ``transport``. A stream that nobody refers to any
/// more is closed.
#[pyclass(frozen, weakref)]
pub struct StreamWriter {
    handle: Arc<Handle>,
    sockets: Py<Sockets>,
    server_side: bool,
    /// A copy of the socket, for `get_extra_info("socket")`.
    copy: Mutex<Option<Py<PyAny>>>,
}

impl StreamWriter {
    pub fn new(handle: Arc<Handle>, sockets: Py<Sockets>, server_side: bool) -> Self {
        Self { handle, sockets, server_side, copy: Mutex::default() }
    }

    fn op(&self, py: Python<'_>, ask: impl FnOnce(Arc<Handle>) -> Ask) -> Op {
        Op::new(ask(Arc::clone(&self.handle)), &self.sockets, py)
    }

    fn end_copy(&self, py: Python<'_>) {
        let copy = self.copy.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(copy) = copy
            && let Err(error) = copy.call_method0(py, intern!(py, "end"))
        {
            error.write_unraisable(py, None);
        }
    }
}

#[pymethods]
impl StreamWriter {
    /// Sends bytes, at once or when the network takes them: `await drain()` waits for that.
    fn write(&self, data: Bound<'_, PyAny>) -> PyResult<()> {
        let sent =
            with_bytes(&data, |bytes| bytes.is_empty() || self.handle.stream().write(bytes))?;
        if sent {
            Ok(())
        } else {
            Err(PyRuntimeError::new_err("Cannot call write() after write_eof()"))
        }
    }

    /// The same for several pieces.
    fn writelines(&self, data: Bound<'_, PyAny>) -> PyResult<()> {
        let mut whole = Vec::new();
        for piece in data.try_iter()? {
            with_bytes(&piece?, |bytes| whole.extend_from_slice(bytes))?;
        }
        if whole.is_empty() || self.handle.stream().write(&whole) {
            return Ok(());
        }
        Err(PyRuntimeError::new_err("Cannot call writelines() after write_eof()"))
    }

    /// Sends the end of the stream, after all that was written; reads go on.
    fn write_eof(&self) -> PyResult<()> {
        if !self.can_write_eof() {
            return Err(PyNotImplementedError::new_err("TLS has no end of one direction alone"));
        }
        self.handle.stream().write_eof();
        Ok(())
    }

    fn can_write_eof(&self) -> bool {
        self.handle.stream().with_tls(|_| ()).is_none()
    }

    /// Waits while more than the limit (64 KB) is not sent.
    fn drain(&self, py: Python<'_>) -> Op {
        self.op(py, Ask::Drained)
    }

    /// Closes the stream, when all that was written is sent.
    fn close(&self, py: Python<'_>) {
        self.end_copy(py);
        self.handle.stream().close();
    }

    /// Closes the stream at once.
    fn abort(&self, py: Python<'_>) {
        self.end_copy(py);
        self.handle.stream().abort();
    }

    fn is_closing(&self) -> bool {
        matches!(self.handle.stream().phase(), Phase::Closing | Phase::Closed)
    }

    fn wait_closed(&self, py: Python<'_>) -> Op {
        self.op(py, Ask::Closed)
    }

    /// Goes over to TLS: a coroutine.
    #[pyo3(signature = (sslcontext, *, server_hostname=None, ssl_handshake_timeout=None, ssl_shutdown_timeout=None))]
    fn start_tls<'py>(
        slf: Bound<'py, Self>,
        sslcontext: Bound<'py, PyAny>,
        server_hostname: Option<String>,
        ssl_handshake_timeout: Option<f64>,
        ssl_shutdown_timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        static UPGRADE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let _ = ssl_shutdown_timeout; // nothing is waited for then
        let upgrade = UPGRADE.import(slf.py(), "plait._streams", "upgrade")?;
        upgrade.call1((slf, sslcontext, server_hostname, ssl_handshake_timeout))
    }

    /// "peername", "sockname", "socket", "ssl_object", "cipher".
    #[pyo3(signature = (name, default=None))]
    fn get_extra_info<'py>(
        slf: Bound<'py, Self>,
        name: &str,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (py, this) = (slf.py(), slf.get());
        let stream = &this.handle.stream();
        let found = match name {
            "peername" => stream.peer.as_ref().map(|peer| show_address(py, peer)).transpose()?,
            "sockname" => stream.local.as_ref().map(|local| show_address(py, local)).transpose()?,
            "socket" => this.socket(py)?,
            "ssl_object" if !this.can_write_eof() => {
                let connection = TlsConnection { handle: Arc::clone(&this.handle) };
                Some(Bound::new(py, connection)?.into_any())
            }
            "cipher" => cipher(stream).into_pyobject(py).map(Some)?.filter(|one| !one.is_none()),
            _ => None,
        };
        Ok(found.or(default))
    }

    #[getter]
    fn transport(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn get_write_buffer_size(&self) -> usize {
        self.handle.stream().unsent()
    }

    /// (low, high), in bytes.
    fn get_write_buffer_limits(&self) -> (usize, usize) {
        self.handle.stream().limits()
    }

    #[pyo3(signature = (high=None, low=None))]
    fn set_write_buffer_limits(&self, high: Option<usize>, low: Option<usize>) -> PyResult<()> {
        let high = high.unwrap_or_else(|| low.map_or(64 * 1024, |low| low * 4));
        let low = low.unwrap_or(high / 4);
        if low > high {
            return Err(PyValueError::new_err(format!(
                "high ({high}) must be at least low ({low}), and low at least 0"
            )));
        }
        self.handle.stream().set_limits(low, high);
        Ok(())
    }

    /// For `plait._streams`: the caller's own socket, which closes with this.
    fn _keep(&self, copy: Py<PyAny>) {
        *self.copy.lock().unwrap_or_else(PoisonError::into_inner) = Some(copy);
    }

    /// For `plait._streams`: is it connected?
    fn _opened(&self, py: Python<'_>) -> Op {
        self.op(py, Ask::Opened)
    }

    /// For `plait._streams`: begins TLS and waits for its handshake.
    fn _shake(
        &self,
        py: Python<'_>,
        settings: Bound<'_, TlsSettings>,
        server_hostname: Option<&str>,
    ) -> PyResult<Op> {
        let settings = &settings.get().settings;
        let tls = match server_hostname {
            Some(host) => settings.connect(host)?,
            None => settings.accept().ok_or_else(|| {
                PyValueError::new_err("a server needs TLS(certfile=…, keyfile=…)")
            })??,
        };
        self.handle.stream().begin_tls(tls);
        Ok(self.op(py, Ask::Shaken))
    }

    #[getter]
    fn _server_side(&self) -> bool {
        self.server_side
    }

    fn __repr__(&self) -> String {
        describe("StreamWriter", &self.handle)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.sockets)
    }
}

impl StreamWriter {
    fn socket<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        static COPY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        if let Some(copy) = &*self.copy.lock().unwrap_or_else(PoisonError::into_inner) {
            return Ok(Some(copy.bind(py).clone()));
        }
        let Some(descriptor) = self.handle.stream().with_socket(AsRawFd::as_raw_fd) else {
            return Ok(None);
        };
        let copy = COPY.import(py, "plait._streams", "copy_of")?;
        let copy = copy.call1((descriptor,))?;
        let kept = copy.clone().unbind();
        *self.copy.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
        Ok(Some(copy))
    }
}

fn cipher(stream: &Stream<Py<Op>>) -> Option<(String, &'static str, u16)> {
    stream.with_tls(|tls| {
        let suite = tls.negotiated_cipher_suite()?;
        let name = format!("{:?}", suite.suite());
        let bits = if name.contains("128") { 128 } else { 256 };
        Some((name.replace("TLS13_", "TLS_"), version(tls.protocol_version())?, bits))
    })?
}

fn version(version: Option<rustls::ProtocolVersion>) -> Option<&'static str> {
    match version? {
        rustls::ProtocolVersion::TLSv1_2 => Some("TLSv1.2"),
        rustls::ProtocolVersion::TLSv1_3 => Some("TLSv1.3"),
        _ => None,
    }
}

/// What is known of a connection's TLS: the part of `ssl.SSLObject` that tells about it.
#[pyclass(frozen)]
pub struct TlsConnection {
    handle: Arc<Handle>,
}

#[pymethods]
impl TlsConnection {
    fn version(&self) -> Option<&'static str> {
        self.handle.stream().with_tls(|tls| version(tls.protocol_version()))?
    }

    /// The protocol that both sides agreed on, of those that `TLS(alpn=…)` names.
    fn selected_alpn_protocol(&self) -> Option<String> {
        let chosen = |tls: &rustls::Connection| {
            tls.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned())
        };
        self.handle.stream().with_tls(chosen)?
    }

    /// (name, version, bits)
    fn cipher(&self) -> Option<(String, &'static str, u16)> {
        cipher(self.handle.stream())
    }

    /// The other side's certificate in DER; only with `binary_form=True`.
    #[pyo3(signature = (binary_form=false))]
    fn getpeercert<'py>(
        &self,
        py: Python<'py>,
        binary_form: bool,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        if !binary_form {
            return Err(PyNotImplementedError::new_err(
                "certificates are given in DER only: getpeercert(binary_form=True)",
            ));
        }
        let first = |tls: &rustls::Connection| {
            tls.peer_certificates()?.first().map(|one| PyBytes::new(py, one))
        };
        Ok(self.handle.stream().with_tls(first).flatten())
    }
}
