//! A stream's receiving end.

use super::address::fault_error;
use super::goal::Goal;
use super::handle::{Handle, describe, with_bytes};
use super::op::{Ask, Op};
use super::sockets::Sockets;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pyo3::{PyTraverseError, PyVisit};
use std::sync::Arc;

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

    /// What reading failed with, if it did: the next read raises it.
    fn exception(&self, py: Python<'_>) -> Option<PyErr> {
        let stream = self.handle.stream();
        let fault = stream.read_fault()?;
        Some(fault_error(py, &fault, stream.peer.as_ref(), false))
    }

    /// Is the end reached, and nothing left to read?
    fn at_eof(&self) -> bool {
        self.handle.stream().at_eof()
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
