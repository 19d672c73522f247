//! Python values into bytes and blocks. Small exact types are written as they are; all else
//! is a pickle, whose large buffers go to blocks; `decode` is the way back.
#![allow(unsafe_code, reason = "buffers and blocks are addresses, not Rust objects")]

use super::arena::{Arena, BlockId};
use super::view::BlockRef;
use super::wire;
use crate::error::{ArenaError, locked};
use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::{PyBufferError, PyException};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyString, PyTuple};
use std::sync::Mutex;

/// What a value adds to the message itself, at most (and a few bytes), in bytes.
pub const INLINE_MAX: usize = 8 * 1024;
/// Buffers from here on are kept out of the pickle, in bytes.
pub const BUFFER_MIN: usize = 16 * 1024;
/// Copies from here on let other threads run Python, in bytes.
const DETACHED: usize = 256 * 1024;
/// Longer text is not cached as UTF-8 in the string itself.
const CACHED_TEXT: usize = 1024;

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

#[derive(Debug)]
struct InPlace {
    block: BlockId,
    /// From the block's start, in bytes.
    from: usize,
    length: usize,
    reference: Place,
}

/// Where a reference to a block was written.
#[derive(Debug)]
enum Place {
    Out(usize),
    Block(BlockId, usize),
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
    fn pickle<'py>(
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
        let buffer = PyUntypedBuffer::get(buffer)?;
        if buffer.len_bytes() < BUFFER_MIN {
            return Ok(true);
        }
        if !buffer.is_c_contiguous() && !buffer.is_fortran_contiguous() {
            return Err(PyBufferError::new_err("cannot send a buffer that is not contiguous"));
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

/// One value on its way into a message.
struct Writer<'a, 'py> {
    codec: &'a Codec,
    py: Python<'py>,
    out: &'a mut Vec<u8>,
    arena: &'a Mutex<Arena>,
    lent: &'a mut Vec<BlockId>,
    /// What `out` and `lent` had before.
    start: (usize, usize),
}

impl Writer<'_, '_> {
    fn undo(&mut self) {
        self.out.truncate(self.start.0);
        let mut arena = locked(self.arena);
        self.lent.drain(self.start.1..).for_each(|block| arena.release(block));
    }

    fn write(
        &mut self,
        value: &Bound<'_, PyAny>,
        name: &str,
        in_place: Option<&mut Vec<InPlace>>,
    ) -> PyResult<()> {
        if is_simple(value, wire::DEPTH) {
            if self.simple(value)? {
                return self.spill();
            }
            self.undo(); // a member was not as simple as its type
        }
        self.pickled(value, name, in_place)
    }

    /// Writes a value of a simple type; false: it must be pickled after all.
    fn simple(&mut self, value: &Bound<'_, PyAny>) -> PyResult<bool> {
        if value.is_exact_instance_of::<PyInt>() {
            let Ok(number) = value.extract::<i64>() else { return Ok(false) };
            if let Ok(small) = i8::try_from(number) {
                self.out.extend([wire::SMALL_INT, small as u8]);
            } else {
                self.out.push(wire::INT);
                self.out.extend(number.to_le_bytes());
            }
        } else if let Ok(text) = value.cast_exact::<PyString>() {
            return self.text(text);
        } else if let Ok(number) = value.cast_exact::<PyFloat>() {
            self.out.push(wire::FLOAT);
            self.out.extend(number.value().to_le_bytes());
        } else if let Ok(bytes) = value.cast_exact::<PyBytes>() {
            self.payload(wire::BYTES, wire::BYTES_BLOCK, bytes.as_bytes())?;
        } else if value.is_none() {
            self.out.push(wire::NONE);
        } else if let Ok(members) = value.cast_exact::<PyTuple>() {
            self.out.push(wire::TUPLE);
            wire::put_length(self.out, members.len());
            for member in members.iter_borrowed() {
                if !self.simple(&member)? {
                    return Ok(false);
                }
            }
        } else if let Ok(truth) = value.cast_exact::<PyBool>() {
            self.out.push(if truth.is_true() { wire::TRUE } else { wire::FALSE });
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn text(&mut self, text: &Bound<'_, PyString>) -> PyResult<bool> {
        // Lone surrogates have no UTF-8; pickle has a way for them.
        if text.len()? <= CACHED_TEXT {
            let Ok(text) = text.to_str() else { return Ok(false) };
            self.payload(wire::STR, wire::STR_BLOCK, text.as_bytes())?;
        } else {
            let Ok(bytes) = text.encode_utf8() else { return Ok(false) };
            self.payload(wire::STR, wire::STR_BLOCK, bytes.as_bytes())?;
        }
        Ok(true)
    }

    fn payload(&mut self, inline: u8, block: u8, bytes: &[u8]) -> PyResult<()> {
        if bytes.len() <= INLINE_MAX {
            self.out.push(inline);
            wire::put_length(self.out, bytes.len());
            self.out.extend_from_slice(bytes);
        } else {
            let (_, reference) = self.copy(&[bytes])?;
            self.out.push(block);
            self.out.extend(wire::encode_ref(reference));
        }
        Ok(())
    }

    /// What has become too long for a message goes to a block of its own.
    fn spill(&mut self) -> PyResult<()> {
        if self.out.len() - self.start.0 > INLINE_MAX + 32 {
            let value = self.out.split_off(self.start.0);
            let (_, reference) = self.copy(&[&value])?;
            self.out.push(wire::VALUE_BLOCK);
            self.out.extend(wire::encode_ref(reference));
        }
        Ok(())
    }

    fn pickled(
        &mut self,
        value: &Bound<'_, PyAny>,
        name: &str,
        mut in_place: Option<&mut Vec<InPlace>>,
    ) -> PyResult<()> {
        let (pickle, buffers) = self.codec.pickle(value, name)?;
        let mut head = vec![wire::PICKLE];
        wire::put_length(&mut head, buffers.len());
        for buffer in &buffers {
            let (start, length) = (buffer.buf_ptr(), buffer.len_bytes());
            let found =
                in_place.as_ref().and_then(|known| self.find(start as usize, length, known));
            if let (Some((part, reference)), Some(known)) = (found, in_place.as_deref_mut()) {
                known.push(InPlace { reference: Place::Out(head.len()), ..part });
                head.extend(wire::encode_ref(reference));
                continue;
            }
            // SAFETY: the buffer is contiguous (see Buffers), and `buffers` keeps it exported.
            // As for any C code that copies from a buffer, it is up to the user's threads
            // not to write to it meanwhile.
            let bytes = unsafe { std::slice::from_raw_parts(start.cast::<u8>(), length) };
            let (_, reference) = self.copy(&[bytes])?;
            head.extend(wire::encode_ref(reference));
        }
        let pickle = pickle.as_bytes();
        wire::put_length(&mut head, pickle.len());
        if head.len() + pickle.len() <= INLINE_MAX + 32 {
            let before = self.out.len();
            self.out.extend_from_slice(&head);
            self.out.extend_from_slice(pickle);
            for part in in_place.into_iter().flatten() {
                if let Place::Out(place) = &mut part.reference {
                    *place += before;
                }
            }
        } else {
            let (block, reference) = self.copy(&[&head, pickle])?;
            self.out.push(wire::VALUE_BLOCK);
            self.out.extend(wire::encode_ref(reference));
            for part in in_place.into_iter().flatten() {
                if let Place::Out(place) = part.reference {
                    part.reference = Place::Block(block, place);
                }
            }
        }
        Ok(())
    }

    /// A buffer that already lies in the arena, held for us; if it is worth lending its block.
    fn find(
        &mut self,
        address: usize,
        length: usize,
        known: &[InPlace],
    ) -> Option<(InPlace, BlockRef)> {
        let mut arena = locked(self.arena);
        let block = arena.find(address)?;
        let (start, size) = arena.memory(block)?;
        // Two buffers of one block may overlap, and each must be the receiver's alone.
        if length < size / 2 || known.iter().any(|part| part.block == block) {
            return None;
        }
        let from = address - start.as_ptr() as usize;
        let reference = arena.describe(block, from as u64, length as u64)?;
        arena.hold(block);
        self.lent.push(block);
        Some((InPlace { block, from, length, reference: Place::Out(0) }, reference))
    }

    fn finish(&mut self, part: &InPlace) -> PyResult<()> {
        let memory = {
            let arena = locked(self.arena);
            if arena.holders(part.block) == 1 {
                return Ok(()); // ours: the array is gone
            }
            arena.memory(part.block)
        };
        let Some((start, _)) = memory else { return Ok(()) };
        // SAFETY: we hold the block, and `find` has checked that the part is in it.
        let bytes = unsafe {
            std::slice::from_raw_parts(start.as_ptr().add(part.from).cast_const(), part.length)
        };
        let (_, reference) = self.copy(&[bytes])?;
        let reference = wire::encode_ref(reference);
        match part.reference {
            Place::Out(place) => self.out[place..place + wire::REF].copy_from_slice(&reference),
            Place::Block(block, place) => {
                if let Some((start, _)) = locked(self.arena).memory(block) {
                    // SAFETY: `place` is where `pickled` has written a reference in its block.
                    unsafe {
                        let target = start.as_ptr().add(place);
                        target.copy_from_nonoverlapping(reference.as_ptr(), wire::REF);
                    }
                }
            }
        }
        if let Some(index) = self.lent.iter().rposition(|&block| block == part.block) {
            self.lent.swap_remove(index);
        }
        locked(self.arena).release(part.block);
        Ok(())
    }

    /// Copies bytes, one part after the other, into a new block.
    fn copy(&mut self, parts: &[&[u8]]) -> PyResult<(BlockId, BlockRef)> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let arena = self.arena;
        let work = || {
            let (block, reference, start) = {
                let mut arena = locked(arena);
                let block = arena.allocate(length as u64)?;
                let reference = arena.describe(block, 0, length as u64);
                let start = arena.memory(block).map(|(start, _)| start.as_ptr() as usize);
                (block, reference, start)
            };
            let (Some(reference), Some(mut start)) = (reference, start) else {
                unreachable!("it was allocated just now, of this length")
            };
            for part in parts {
                // SAFETY: the block is ours alone, and as long as all parts together. The
                // arena stays where it is: it is borrowed.
                unsafe {
                    std::ptr::copy_nonoverlapping(part.as_ptr(), start as *mut u8, part.len());
                }
                start += part.len();
            }
            Ok::<_, ArenaError>((block, reference))
        };
        let copied = if length < DETACHED { work() } else { self.py.detach(work) };
        let (block, reference) = copied?;
        self.lent.push(block);
        Ok((block, reference))
    }
}

fn is_simple(value: &Bound<'_, PyAny>, depth: u32) -> bool {
    if let Ok(members) = value.cast_exact::<PyTuple>() {
        return depth > 0 && members.iter_borrowed().all(|member| is_simple(&member, depth - 1));
    }
    value.is_exact_instance_of::<PyInt>()
        || value.is_exact_instance_of::<PyString>()
        || value.is_exact_instance_of::<PyFloat>()
        || value.is_exact_instance_of::<PyBytes>()
        || value.is_exact_instance_of::<PyBool>()
        || value.is_none()
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    // SAFETY: both are slices, with their lengths.
    let found = unsafe {
        libc::memmem(bytes.as_ptr().cast(), bytes.len(), word.as_ptr().cast(), word.len())
    };
    !found.is_null()
}
