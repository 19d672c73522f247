//! What Python sees of streams. `plait._streams` makes them, `plait.aio` documents that.

pub use super::op::Op;
pub use super::sockets::{Door, Keeper, Sockets, Visitors};

use super::errors::{no_address_error, tls_error};
use super::goal::Goal;
use super::op::Ask;
use super::pipe::Fault;
use super::resolve::{Query, resolve};
use super::settings::TlsSettings;
use super::stream::{Phase, Stream};
use crate::aio::awaitable::Awaitable;
use crate::python::above_python;
use pyo3::exceptions::{
    PyNotImplementedError, PyOSError, PyRuntimeError, PyTypeError, PyValueError,
};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyBytes, PyList, PyMemoryView, PyTuple};
use pyo3::{PyTraverseError, PyVisit};
use socket2::SockAddr;
use std::ffi::OsStr;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex, PoisonError};

/// A stream's owner: the reader, the writer, and what waits. The last of them closes it.
pub struct Handle(Arc<Stream<Py<Op>>>);

impl Handle {
    pub fn new(stream: Arc<Stream<Py<Op>>>) -> Self {
        Self(stream)
    }

    pub fn stream(&self) -> &Arc<Stream<Py<Op>>> {
        &self.0
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.forget();
    }
}

// --- addresses and errors

/// A tuple as of `getaddrinfo`, or a Unix socket's path as bytes.
pub fn parse_address(address: &Bound<'_, PyAny>) -> PyResult<SockAddr> {
    if let Ok(path) = address.cast::<PyBytes>() {
        return Ok(SockAddr::unix(OsStr::from_bytes(path.as_bytes()))?);
    }
    let parts = address.cast::<PyTuple>()?;
    let host: String = parts.get_item(0)?.extract()?;
    let (digits, _) = host.split_once('%').unwrap_or((&host, ""));
    let ip: IpAddr = digits
        .parse()
        .map_err(|_| PyValueError::new_err(format!("{host:?} is not an address in digits")))?;
    let port = parts.get_item(1)?.extract()?;
    let number = |index| parts.get_item(index).and_then(|one| one.extract::<u32>()).unwrap_or(0);
    Ok(match ip {
        IpAddr::V4(_) => SocketAddr::new(ip, port).into(),
        IpAddr::V6(ip) => SocketAddrV6::new(ip, port, number(2), number(3)).into(),
    })
}

fn show_address<'py>(py: Python<'py>, address: &SockAddr) -> PyResult<Bound<'py, PyAny>> {
    Ok(match address.as_socket() {
        Some(SocketAddr::V4(four)) => {
            (four.ip().to_string(), four.port()).into_pyobject(py)?.into_any()
        }
        Some(SocketAddr::V6(six)) => {
            let (ip, port) = (six.ip().to_string(), six.port());
            (ip, port, six.flowinfo(), six.scope_id()).into_pyobject(py)?.into_any()
        }
        None => match (address.as_pathname(), address.as_abstract_namespace()) {
            (Some(path), _) => path.as_os_str().into_pyobject(py)?.into_any(),
            (None, Some(name)) => PyBytes::new(py, &[b"\0", name].concat()).into_any(),
            (None, None) => "".into_pyobject(py)?.into_any(),
        },
    })
}

/// asyncio's exception, with the address.
pub fn fault_error(
    py: Python<'_>,
    fault: &Fault,
    peer: Option<&SockAddr>,
    connecting: bool,
) -> PyErr {
    let shown = peer.and_then(|peer| show_address(py, peer).ok()?.repr().ok());
    let shown = shown.map(|shown| shown.to_string());
    match fault {
        Fault::Os { code, text } => {
            let message = match shown {
                Some(shown) if connecting => format!("Connect call failed {shown}: {text}"),
                Some(shown) => format!("{text}: {shown}"),
                None => text.clone(),
            };
            PyOSError::new_err((*code, message))
        }
        Fault::Tls(error) => {
            let at = shown.map(|shown| format!(" (connection with {shown})")).unwrap_or_default();
            let bad = matches!(error, rustls::Error::InvalidCertificate(_));
            let what = if bad { "certificate verify failed: " } else { "" };
            tls_error(py, error, &format!("{what}{error}{at}"))
        }
    }
}

/// Looks up a host's addresses: an awaitable of tuples `(family, address)`.
#[pyfunction]
pub fn resolve_host(host: Option<String>, port: u16, family: i32, flags: i32) -> Awaitable {
    Awaitable::of(async move {
        let found = resolve(Query { host, port, family, flags }).await?;
        Python::attach(|py| {
            let addresses =
                found.map_err(|error| no_address_error(py, &error, &error.to_string()))?;
            let shown = addresses.into_iter().map(|address| {
                let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
                Ok((family, show_address(py, &address.into())?))
            });
            let shown = shown.collect::<PyResult<Vec<_>>>()?;
            Ok(PyList::new(py, shown)?.into_any().unbind())
        })
    })
}

// --- the streams

/// The receiving end of a connection: asyncio.StreamReader's interface.
///
/// Bytes are read when they are asked for, so that the network holds back a sender who is
/// faster than the reader; asyncio's reads ahead. Reads that are cancelled lose nothing.
#[pyclass(frozen, weakref)]
pub struct StreamReader {
    handle: Arc<Handle>,
    sockets: Py<Sockets>,
    limit: usize,
}

impl StreamReader {
    pub fn new(handle: Arc<Handle>, sockets: Py<Sockets>, limit: usize) -> Self {
        Self { handle, sockets, limit }
    }

    fn op(&self, py: Python<'_>, goal: Goal) -> Op {
        Op::new(Ask::Read(Arc::clone(&self.handle), goal), &self.sockets, py)
    }
}

#[pymethods]
impl StreamReader {
    /// Up to n bytes, as soon as there are some; b"" at the end; n = -1: all up to the end.
    #[pyo3(signature = (n=-1))]
    fn read(&self, py: Python<'_>, n: isize) -> Op {
        self.op(py, usize::try_from(n).map_or(Goal::All, Goal::Some))
    }

    /// Exactly n bytes.
    fn readexactly(&self, py: Python<'_>, n: isize) -> PyResult<Op> {
        let n = usize::try_from(n).map_err(|_| {
            PyValueError::new_err(format!("readexactly size can not be less than zero, got {n}"))
        })?;
        Ok(self.op(py, Goal::Exactly(n)))
    }

    /// Up to and with a separator, or the first of a tuple of them.
    #[pyo3(signature = (separator=None))]
    fn readuntil(&self, py: Python<'_>, separator: Option<Bound<'_, PyAny>>) -> PyResult<Op> {
        let separators = match separator {
            None => vec![b"\n".to_vec()],
            Some(several) if several.is_instance_of::<PyTuple>() => several
                .try_iter()?
                .map(|one| with_bytes(&one?, <[u8]>::to_vec))
                .collect::<PyResult<_>>()?,
            Some(one) => vec![with_bytes(&one, <[u8]>::to_vec)?],
        };
        if separators.is_empty() {
            return Err(PyValueError::new_err("Separator should contain at least one element"));
        }
        if separators.iter().any(Vec::is_empty) {
            return Err(PyValueError::new_err("Separator should be at least one-byte string"));
        }
        Ok(self.op(py, Goal::Until { separators, limit: self.limit }))
    }

    /// Up to and with a newline, or up to the end.
    fn readline(&self, py: Python<'_>) -> Op {
        self.op(py, Goal::Line { limit: self.limit })
    }

    /// Is the end reached, and nothing left to read?
    fn at_eof(&self) -> bool {
        self.handle.0.at_eof()
    }

    fn __aiter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __anext__(&self, py: Python<'_>) -> Op {
        let goal = Goal::Line { limit: self.limit };
        Op::new(Ask::Next(Arc::clone(&self.handle), goal), &self.sockets, py)
    }

    fn __repr__(&self) -> String {
        describe("StreamReader", &self.handle)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.sockets)
    }
}

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

    fn drop_copy(&self) {
        let copy = self.copy.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(copy); // it closes itself
    }
}

#[pymethods]
impl StreamWriter {
    /// Sends bytes, at once or when the network takes them: `await drain()` waits for that.
    fn write(&self, data: Bound<'_, PyAny>) -> PyResult<()> {
        let sent = with_bytes(&data, |bytes| bytes.is_empty() || self.handle.0.write(bytes))?;
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
        if whole.is_empty() || self.handle.0.write(&whole) {
            return Ok(());
        }
        Err(PyRuntimeError::new_err("Cannot call writelines() after write_eof()"))
    }

    /// Sends the end of the stream, after all that was written; reads go on.
    fn write_eof(&self) -> PyResult<()> {
        if !self.can_write_eof() {
            return Err(PyNotImplementedError::new_err("TLS has no end of one direction alone"));
        }
        self.handle.0.write_eof();
        Ok(())
    }

    fn can_write_eof(&self) -> bool {
        self.handle.0.with_tls(|_| ()).is_none()
    }

    /// Waits while more than the limit (64 KB) is not sent.
    fn drain(&self, py: Python<'_>) -> Op {
        self.op(py, Ask::Drained)
    }

    /// Closes the stream, when all that was written is sent.
    fn close(&self) {
        self.drop_copy();
        self.handle.0.close();
    }

    /// Closes the stream at once.
    fn abort(&self) {
        self.drop_copy();
        self.handle.0.abort();
    }

    fn is_closing(&self) -> bool {
        matches!(self.handle.0.phase(), Phase::Closing | Phase::Closed)
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
        above_python(|| upgrade.call1((slf, sslcontext, server_hostname, ssl_handshake_timeout)))
    }

    /// "peername", "sockname", "socket", "ssl_object", "cipher".
    #[pyo3(signature = (name, default=None))]
    fn get_extra_info<'py>(
        slf: Bound<'py, Self>,
        name: &str,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (py, this) = (slf.py(), slf.get());
        let stream = &this.handle.0;
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
        self.handle.0.unsent()
    }

    /// (low, high), in bytes.
    fn get_write_buffer_limits(&self) -> (usize, usize) {
        self.handle.0.limits()
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
        self.handle.0.set_limits(low, high);
        Ok(())
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
        self.handle.0.begin_tls(tls);
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
        let Some(descriptor) = self.handle.0.with_socket(AsRawFd::as_raw_fd) else {
            return Ok(None);
        };
        let copy = COPY.import(py, "plait._streams", "copy_of")?;
        let copy = above_python(|| copy.call1((descriptor,)))?;
        let kept = copy.clone().unbind();
        *self.copy.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
        Ok(Some(copy))
    }
}

fn describe(class: &str, handle: &Handle) -> String {
    let state = match handle.0.phase() {
        Phase::Connecting => "connecting",
        Phase::Open => "open",
        Phase::Closing => "closing",
        Phase::Closed => "closed",
    };
    let peer = handle.0.peer.as_ref().and_then(SockAddr::as_socket);
    let peer = peer.map(|peer| format!(", {peer}")).unwrap_or_default();
    format!("<plait {class}{peer}, {state}>")
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
        self.handle.0.with_tls(|tls| version(tls.protocol_version()))?
    }

    /// (name, version, bits)
    fn cipher(&self) -> Option<(String, &'static str, u16)> {
        cipher(&self.handle.0)
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
        Ok(self.handle.0.with_tls(first).flatten())
    }
}

/// `use_them` gets the bytes of any object that has some.
fn with_bytes<T>(data: &Bound<'_, PyAny>, use_them: impl FnOnce(&[u8]) -> T) -> PyResult<T> {
    if let Ok(bytes) = data.cast::<PyBytes>() {
        return Ok(use_them(bytes.as_bytes()));
    }
    if let Ok(array) = data.cast::<PyByteArray>() {
        return Ok(use_them(&array.to_vec()));
    }
    let view = PyMemoryView::from(data).map_err(|_| {
        let class = data.get_type().name().map(|name| name.to_string()).unwrap_or_default();
        PyTypeError::new_err(format!(
            "data argument must be a bytes, bytearray, or memoryview object, not {class:?}"
        ))
    })?;
    let copied = view.call_method0("tobytes")?;
    Ok(use_them(copied.cast::<PyBytes>()?.as_bytes()))
}
