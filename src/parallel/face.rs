//! What Python sees of the kernels; `plait.kernels` documents them.

use super::kernels;
use super::pool::{self, Cancel};
use crate::error::ParallelError;
use crate::python::run_on_pool;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyBytes, PyDict, PyMemoryView, PyString};

/// A count or size that Python may pass as any int; negative and huge ones are told apart
/// here, with the argument's name, rather than by PyO3's generic overflow message.
fn at_least(name: &'static str, value: i64, least: i64) -> Result<u64, ParallelError> {
    u64::try_from(value).ok().filter(|_| value >= least).ok_or(ParallelError::TooSmall {
        name,
        least,
        value,
    })
}

#[pyfunction]
pub fn cpu_count() -> usize {
    super::cpus::cpu_count()
}

#[pyfunction]
#[pyo3(signature = (n, workers=None))]
pub fn count_primes(py: Python<'_>, n: i64, workers: Option<i64>) -> PyResult<u64> {
    let n = at_least("n", n, 0)?;
    let pool = pool::get(workers)?;
    run_on_pool(py, &pool, |cancel| kernels::primes::count(n, cancel))
}

#[pyfunction]
#[pyo3(signature = (width, height, max_iter, workers=None))]
pub fn mandelbrot<'py>(
    py: Python<'py>,
    width: i64,
    height: i64,
    max_iter: i64,
    workers: Option<i64>,
) -> PyResult<Bound<'py, PyMemoryView>> {
    let pool = pool::get(workers)?;
    let columns = at_least("width", width, 1)? as usize;
    let rows = at_least("height", height, 1)? as usize;
    let steps = u32::try_from(at_least("max_iter", max_iter, 0)?).map_err(|_| {
        PyValueError::new_err(format!("max_iter must be below 2**32, got {max_iter}"))
    })?;
    let bytes = columns
        .checked_mul(rows)
        .and_then(|pixels| pixels.checked_mul(kernels::mandelbrot::PIXEL))
        .filter(|bytes| isize::try_from(*bytes).is_ok())
        .ok_or(ParallelError::ImageTooLarge { width, height })?;
    // Nobody else has the bytes object yet, so it may be written to with the GIL released.
    let image = PyBytes::new_with(py, bytes, |image| {
        run_on_pool(py, &pool, move |cancel: &Cancel| {
            kernels::mandelbrot::render(image, columns, rows, steps, cancel);
        })
    })?;
    let view = PyMemoryView::from(image.as_any())?;
    Ok(view.call_method1("cast", ("I", (height, width)))?.cast_into()?)
}

#[pyfunction]
#[pyo3(signature = (texts, workers=None) -> "dict[str, int]")]
pub fn word_count<'py>(
    py: Python<'py>,
    texts: &Bound<'py, PyAny>,
    workers: Option<i64>,
) -> PyResult<Bound<'py, PyDict>> {
    let pool = pool::get(workers)?;
    if texts.is_instance_of::<PyString>() {
        return Err(PyTypeError::new_err(
            "texts must be an iterable of str, got one str; pass [text]",
        ));
    }
    let mut owned: Vec<PyBackedStr> = Vec::new();
    let texts: Vec<_> = texts.try_iter()?.collect::<PyResult<_>>()?;
    for (index, text) in texts.iter().enumerate() {
        let text = text.cast::<PyString>().map_err(|_| {
            PyTypeError::new_err(format!("texts[{index}] must be str, got {}", text.get_type()))
        })?;
        owned.push(PyBackedStr::try_from(text.clone())?);
    }
    let texts: Vec<&str> = owned.iter().map(|text| &**text).collect();
    let counts = run_on_pool(py, &pool, |cancel| kernels::words::count(&texts, cancel))?;
    let result = PyDict::new(py);
    for (word, n) in counts {
        result.set_item(word, n)?;
    }
    Ok(result)
}

#[pyfunction]
#[pyo3(signature = (buffers, workers=None))]
pub fn crc32(
    py: Python<'_>,
    buffers: &Bound<'_, PyAny>,
    workers: Option<i64>,
) -> PyResult<Vec<u32>> {
    let pool = pool::get(workers)?;
    let mut owned: Vec<PyBuffer<u8>> = Vec::new();
    let items: Vec<_> = buffers.try_iter()?.collect::<PyResult<_>>()?;
    for (index, item) in items.iter().enumerate() {
        let buffer = PyBuffer::<u8>::get(item).map_err(|error| {
            PyTypeError::new_err(format!(
                "buffers[{index}] must be a contiguous buffer of bytes, got {}: {error}",
                item.get_type()
            ))
        })?;
        if !buffer.is_c_contiguous() {
            return Err(PyTypeError::new_err(format!(
                "buffers[{index}] is not contiguous; pass bytes(buffer)"
            )));
        }
        owned.push(buffer);
    }
    let slices: Vec<&[u8]> = owned.iter().map(bytes_of).collect();
    run_on_pool(py, &pool, |cancel| kernels::crc32::checksums(&slices, cancel))
}

#[allow(unsafe_code, reason = "a PyBuffer's memory has no safe view without the GIL")]
fn bytes_of(buffer: &PyBuffer<u8>) -> &[u8] {
    if buffer.len_bytes() == 0 {
        return &[];
    }
    // SAFETY: the buffer is C-contiguous (checked by the caller), `len_bytes` long, and its
    // export keeps the memory alive and unmoved while `buffer` lives. Another thread may write
    // into a bytearray meanwhile, as it may while zlib.crc32 reads one: the bytes are only
    // summed, and no value of u8 is invalid.
    unsafe { std::slice::from_raw_parts(buffer.buf_ptr().cast::<u8>(), buffer.len_bytes()) }
}
