//! What a stream's two faces have in common.

use super::op::Op;
use super::stream::{Phase, Stream};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView};
use socket2::SockAddr;
use std::sync::Arc;

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

pub fn describe(class: &str, handle: &Handle) -> String {
    let state = match handle.stream().phase() {
        Phase::Connecting => "connecting",
        Phase::Open => "open",
        Phase::Closing => "closing",
        Phase::Closed => "closed",
    };
    let peer = handle.stream().peer.as_ref().and_then(SockAddr::as_socket);
    let peer = peer.map(|peer| format!(", {peer}")).unwrap_or_default();
    format!("<plait {class}{peer}, {state}>")
}

/// `use_them` gets the bytes of any object that has some.
pub fn with_bytes<T>(data: &Bound<'_, PyAny>, use_them: impl FnOnce(&[u8]) -> T) -> PyResult<T> {
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
