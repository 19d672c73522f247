//! The way back from bytes and blocks to Python values.

use super::block::Block;
use super::codec::Codec;
use super::view::{Borrowed, LazyView};
use super::wire::{self, Reader};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{
    PyByteArray, PyBytes, PyDict, PyFloat, PyList, PyMemoryView, PySlice, PyString, PyTuple,
};

pyo3::import_exception!(plait.errors, SerializationError);

fn damaged() -> PyErr {
    SerializationError::new_err(
        "what another process has sent is damaged: it may have crashed while it wrote, or \
         native code in it has overwritten memory that is not its own",
    )
}

impl Codec {
    /// Reads one value from the front of `bytes`, and advances them. Each block that the value
    /// refers to is returned exactly once, at the latest when the value is gone, also when
    /// this fails.
    ///
    /// `copy`: large buffers are copies, the largest ones on write, instead of being the lent
    /// memory itself: so the value can be decoded again, elsewhere too, as it was.
    ///
    /// # Errors
    /// SerializationError: the bytes are damaged. What unpickling raises is passed on.
    pub fn decode<'py>(
        &self,
        py: Python<'py>,
        bytes: &mut &[u8],
        view: &LazyView,
        copy: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let mut rest = Reader(bytes);
        let value = Decoder { codec: self, py, view, copy }.value(&mut rest, wire::DEPTH, None);
        *bytes = rest.0;
        value
    }

    /// Steps over one value, and returns its blocks unused.
    ///
    /// # Errors
    /// SerializationError: the bytes are damaged.
    pub fn discard(&self, bytes: &mut &[u8], view: &LazyView) -> PyResult<()> {
        let mut rest = Reader(bytes);
        let whole = discard(&mut rest, wire::DEPTH, view);
        *bytes = rest.0;
        whole.ok_or_else(damaged)
    }
}

fn discard(bytes: &mut Reader<'_>, depth: u32, view: &LazyView) -> Option<()> {
    bytes.skip(depth, &mut |tag, block| {
        let Some(borrowed) = Borrowed::new(view, block) else { return };
        if tag == wire::VALUE_BLOCK {
            // A value in a block has further blocks, but none with values.
            let _ = Reader(borrowed.bytes()).skip(wire::DEPTH, &mut |_, block| {
                drop(Borrowed::new(view, block));
            });
        }
    })
}

struct Decoder<'a, 'py> {
    codec: &'a Codec,
    py: Python<'py>,
    view: &'a LazyView,
    copy: bool,
}

impl<'py> Decoder<'_, 'py> {
    /// `inside`: the block that the bytes lie in, if they do.
    fn value(
        &self,
        bytes: &mut Reader<'_>,
        depth: u32,
        inside: Option<&Bound<'py, Block>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py;
        Ok(match bytes.byte().ok_or_else(damaged)? {
            wire::NONE => py.None().into_bound(py),
            wire::FALSE => false.into_pyobject(py)?.to_owned().into_any(),
            wire::TRUE => true.into_pyobject(py)?.to_owned().into_any(),
            wire::SMALL_INT => {
                let number = bytes.byte().ok_or_else(damaged)? as i8;
                number.into_pyobject(py)?.into_any()
            }
            wire::INT => {
                let number = i64::from_le_bytes(bytes.array().ok_or_else(damaged)?);
                number.into_pyobject(py)?.into_any()
            }
            wire::FLOAT => {
                let number = f64::from_le_bytes(bytes.array().ok_or_else(damaged)?);
                PyFloat::new(py, number).into_any()
            }
            wire::STR => PyString::from_bytes(py, run(bytes)?)?.into_any(),
            wire::BYTES => PyBytes::new(py, run(bytes)?).into_any(),
            wire::STR_BLOCK => PyString::from_bytes(py, self.borrow(bytes)?.bytes())?.into_any(),
            wire::BYTES_BLOCK => PyBytes::new(py, self.borrow(bytes)?.bytes()).into_any(),
            wire::TUPLE => self.tuple(bytes, depth, inside)?,
            wire::PICKLE => self.unpickle(bytes, inside)?,
            wire::VALUE_BLOCK if inside.is_none() => {
                let block = Bound::new(py, Block::new(self.borrow(bytes)?))?;
                self.value(&mut Reader(block.get().bytes()), wire::DEPTH, Some(&block))?
            }
            _ => return Err(damaged()),
        })
    }

    fn borrow(&self, bytes: &mut Reader<'_>) -> PyResult<Borrowed> {
        let block = bytes.block().ok_or_else(damaged)?;
        Borrowed::new(self.view, block).ok_or_else(damaged)
    }

    fn tuple(
        &self,
        bytes: &mut Reader<'_>,
        depth: u32,
        inside: Option<&Bound<'py, Block>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let count = bytes.length().ok_or_else(damaged)?;
        // A member has a byte at least, so a damaged count cannot ask for much memory.
        if depth == 0 || count > bytes.0.len() {
            return Err(damaged());
        }
        let mut members = Vec::with_capacity(count);
        for done in 1..=count {
            match self.value(bytes, depth - 1, inside) {
                Ok(member) => members.push(member),
                Err(error) => {
                    // Blocks of the members behind it are returned all the same.
                    for _ in done..count {
                        if discard(bytes, depth - 1, self.view).is_none() {
                            break;
                        }
                    }
                    return Err(error);
                }
            }
        }
        Ok(PyTuple::new(self.py, members)?.into_any())
    }

    fn unpickle(
        &self,
        bytes: &mut Reader<'_>,
        inside: Option<&Bound<'py, Block>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py;
        let count = bytes.length().ok_or_else(damaged)?;
        // First of all, so that each is returned whatever happens next.
        let borrowed: Vec<_> =
            (0..count.min(bytes.0.len())).map(|_| self.borrow(bytes)).collect::<PyResult<_>>()?;
        let pickle = run(bytes)?;
        let pickle = match inside {
            None => PyBytes::new(py, pickle).into_any(),
            Some(block) => {
                let from = pickle.as_ptr() as isize - block.get().bytes().as_ptr() as isize;
                let part = PySlice::new(py, from, from + pickle.len() as isize, 1);
                PyMemoryView::from(block.as_any())?.get_item(part)?
            }
        };
        let loads = self.codec.loads.bind(py);
        if borrowed.is_empty() {
            return loads.call1((pickle,));
        }
        let buffers = PyList::empty(py);
        for mut borrowed in borrowed {
            if self.copy && !borrowed.make_private() {
                buffers.append(PyByteArray::new(py, borrowed.bytes()))?;
            } else {
                buffers.append(Bound::new(py, Block::new(borrowed))?)?;
            }
        }
        let options = PyDict::new(py);
        options.set_item(intern!(py, "buffers"), buffers)?;
        loads.call((pickle,), Some(&options))
    }
}

/// A length, and that many bytes.
fn run<'a>(bytes: &mut Reader<'a>) -> PyResult<&'a [u8]> {
    let length = bytes.length().ok_or_else(damaged)?;
    bytes.bytes(length).ok_or_else(damaged)
}
