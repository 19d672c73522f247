//! Python values into bytes and blocks, and back. Small exact types are written as they are;
//! all else is a pickle, whose large buffers go to blocks. `encode` writes, `decode` reads.
#![allow(unsafe_code, reason = "a search that has no safe binding")]

use super::arena::{Arena, BlockId};
use super::encode::{InPlace, Writer};
use crate::error::locked;
use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use std::sync::Mutex;

/// What a value adds to the message itself, at most (and a few bytes), in bytes.
pub const INLINE_MAX: usize = 8 * 1024;
/// Buffers from here on are kept out of the pickle, in bytes.
pub const BUFFER_MIN: usize = 16 * 1024;

/// The Python objects that encoding and decoding need. One a process; any thread may use it.
pub struct Codec {
    pickler: Py<PyAny>,
    pub(super) loads: Py<PyAny>,
    bytes_io: Py<PyAny>,
    by_value: Py<PyAny>,
    /// `copyreg`'s reducers and multiprocessing's own, both of which may grow.
    reducers: [Py<PyDict>; 2],
    to_sender: bool,
}

/// A result that is encoded, but may still share memory with the function that made it.
#[derive(Debug, Default)]
#[must_use = "`finish` makes it safe to send"]
pub struct Pending {
    /// Where the value begins in `out`, and its blocks in `lent`.
    start: (usize, usize),
    in_place: Vec<InPlace>,
}

impl Codec {
    /// `to_sender`: for results; what came from the parent goes back to it by name.
    pub fn new(py: Python<'_>, to_sender: bool) -> PyResult<Self> {
        let pickle = py.import("_pickle")?;
        let forking = py.import("multiprocessing.reduction")?.getattr("ForkingPickler")?;
        let copyreg = py.import("copyreg")?;
        Ok(Self {
            pickler: pickle.getattr("Pickler")?.unbind(),
            loads: pickle.getattr("loads")?.unbind(),
            bytes_io: py.import("io")?.getattr("BytesIO")?.unbind(),
            by_value: py.import("plait._byvalue")?.getattr("dumps")?.unbind(),
            reducers: [
                copyreg.getattr("dispatch_table")?.cast_into::<PyDict>()?.unbind(),
                forking.getattr("_extra_reducers")?.cast_into::<PyDict>()?.unbind(),
            ],
            to_sender,
        })
    }

    /// The same, with another function in the place of `pickle.loads`.
    pub fn with_loads(self, loads: Py<PyAny>) -> Self {
        Self { loads, ..self }
    }

    /// Appends one value to `out`, and the blocks that it refers to, which the caller then
    /// holds, to `lent`. `name` is what to call the value in an error, such as ``args``.
    ///
    /// # Errors
    /// The value cannot be pickled (SerializationError), or there is no memory for a block;
    /// then `out` and `lent` are as before, and nothing stays allocated.
    pub fn encode(
        &self,
        value: &Bound<'_, PyAny>,
        name: &str,
        out: &mut Vec<u8>,
        arena: &Mutex<Arena>,
        lent: &mut Vec<BlockId>,
    ) -> PyResult<()> {
        let start = (out.len(), lent.len());
        let mut writer = Writer { codec: self, py: value.py(), out, arena, lent, start };
        writer.write(value, name, None).inspect_err(|_| writer.undo())
    }

    /// Like `encode`, for a result: large arrays that already are in the arena are not copied.
    ///
    /// Then the caller drops whatever it has of the task, calls [`Codec::finish`] with the
    /// same `out` and `lent`, and only then sends the message.
    pub fn encode_result(
        &self,
        value: Bound<'_, PyAny>,
        name: &str,
        out: &mut Vec<u8>,
        arena: &Mutex<Arena>,
        lent: &mut Vec<BlockId>,
    ) -> PyResult<Pending> {
        let start = (out.len(), lent.len());
        let mut in_place = Vec::new();
        let mut writer = Writer { codec: self, py: value.py(), out, arena, lent, start };
        writer.write(&value, name, Some(&mut in_place)).inspect_err(|_| writer.undo())?;
        Ok(Pending { start, in_place })
    }

    /// Copies what the task still has a reference to: it might change it.
    ///
    /// # Errors
    /// There is no memory for the copy; then `out` and `lent` are as before the value.
    pub fn finish(
        &self,
        py: Python<'_>,
        pending: Pending,
        out: &mut Vec<u8>,
        arena: &Mutex<Arena>,
        lent: &mut Vec<BlockId>,
    ) -> PyResult<()> {
        let mut writer = Writer { codec: self, py, out, arena, lent, start: pending.start };
        let mut parts = pending.in_place.iter();
        parts.try_for_each(|part| writer.finish(part)).inspect_err(|_| writer.undo())
    }

    /// The pickle of a value, by name where that does; and its large buffers.
    pub(super) fn pickle<'py>(
        &self,
        value: &Bound<'py, PyAny>,
        name: &str,
    ) -> PyResult<(Bound<'py, PyBytes>, Vec<PyUntypedBuffer>)> {
        let py = value.py();
        let buffers = Bound::new(py, Buffers::default())?;
        let pickle = match self.plain_pickle(value, &buffers) {
            // A name in __main__ means something else, or nothing, in the other process.
            Ok(pickle) if !contains(pickle.as_bytes(), b"__main__") => pickle,
            Err(error) if !error.is_instance_of::<PyException>(py) => return Err(error),
            _ => {
                let options = PyDict::new(py);
                options.set_item(intern!(py, "name"), name)?;
                options.set_item(intern!(py, "to_sender"), self.to_sender)?;
                options.set_item(intern!(py, "buffers"), &buffers)?;
                let pickle = self.by_value.bind(py).call((value,), Some(&options))?;
                pickle.cast_into::<PyBytes>()?
            }
        };
        let kept = std::mem::take(&mut *locked(&buffers.get().kept));
        Ok((pickle, kept))
    }

    fn plain_pickle<'py>(
        &self,
        value: &Bound<'py, PyAny>,
        buffers: &Bound<'py, Buffers>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let py = value.py();
        let [copyreg, multiprocessing] = &self.reducers;
        let table = copyreg.bind(py).copy()?;
        table.update(multiprocessing.bind(py).as_mapping())?;
        let file = self.bytes_io.bind(py).call0()?;
        let pickler = self.pickler.bind(py).call1((&file, 5, true, buffers))?;
        pickler.setattr(intern!(py, "dispatch_table"), table)?;
        pickler.call_method1(intern!(py, "dump"), (value,))?;
        Ok(file.call_method0(intern!(py, "getvalue"))?.cast_into::<PyBytes>()?)
    }
}

/// Keeps what a pickle leaves out.
#[pyclass(frozen)]
#[derive(Default)]
struct Buffers {
    kept: Mutex<Vec<PyUntypedBuffer>>,
}

#[pymethods]
impl Buffers {
    /// pickle's `buffer_callback`: whether the buffer stays in the pickle.
    fn __call__(&self, buffer: &Bound<'_, PyAny>) -> PyResult<bool> {
        // PyO3 refuses one without dimensions, which is small.
        let Ok(buffer) = PyUntypedBuffer::get(buffer) else { return Ok(true) };
        // One that is not contiguous cannot be sent; the pickler says so if it is to keep it.
        let contiguous = buffer.is_c_contiguous() || buffer.is_fortran_contiguous();
        if buffer.len_bytes() < BUFFER_MIN || !contiguous {
            return Ok(true);
        }
        locked(&self.kept).push(buffer);
        Ok(false)
    }

    /// Forgets what an attempt has left out that failed.
    fn clear(&self) {
        let kept = std::mem::take(&mut *locked(&self.kept));
        drop(kept); // runs Python code: not under the lock
    }
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    // SAFETY: both are slices, with their lengths.
    let found = unsafe {
        libc::memmem(bytes.as_ptr().cast(), bytes.len(), word.as_ptr().cast(), word.len())
    };
    !found.is_null()
}
