//! A block of the other process's arena as Python sees it: a buffer.
#![allow(unsafe_code, reason = "the buffer protocol is a C interface")]

use super::view::Borrowed;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::c_int;

/// Memory that another process has lent; it goes back when nothing uses the buffer any more.
#[pyclass(frozen, module = "plait._core")]
pub struct Block {
    borrowed: Borrowed,
}

impl Block {
    pub fn new(borrowed: Borrowed) -> Self {
        Self { borrowed }
    }

    pub fn bytes(&self) -> &[u8] {
        self.borrowed.bytes()
    }
}

#[pymethods]
impl Block {
    /// Writable: the block is this process's to change, as an unpickled array is.
    ///
    /// # Safety
    /// `view` is what the interpreter has to be filled in.
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("no buffer to fill in"));
        }
        let borrowed = &slf.get().borrowed;
        let length = ffi::Py_ssize_t::try_from(borrowed.len())?;
        // SAFETY: the interpreter's view is ours to fill in. It keeps a reference to `slf`,
        // which keeps the mapping; the length was checked against it.
        let failed = unsafe {
            let start = borrowed.start().as_ptr().cast();
            ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start, length, 0, flags)
        };
        if failed == 0 { Ok(()) } else { Err(PyErr::fetch(slf.py())) }
    }
}
