//! Contexts, of context variables.

#![allow(unsafe_code, reason = "PyO3 has no binding for contexts")]

use pyo3::ffi;
use pyo3::prelude::*;

/// A new, empty one.
pub fn new(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: attached; a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_New()) }
}

/// A copy of the current context, `None` if no variable is set in it.
pub fn variables(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    // SAFETY: attached; a new reference, or null with an exception set.
    let context = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent())? };
    Ok((context.len()? > 0).then_some(context))
}

/// Does something with `context` as the current one.
pub fn within<T>(context: &Bound<'_, PyAny>, body: impl FnOnce() -> T) -> T {
    // SAFETY: attached; for what is no context, or one that is entered already, it fails.
    let entered = unsafe { ffi::PyContext_Enter(context.as_ptr()) } == 0;
    let result = body();
    // SAFETY: as above; it is the current one, if it was entered.
    if !entered || unsafe { ffi::PyContext_Exit(context.as_ptr()) } != 0 {
        drop(PyErr::take(context.py()));
    }
    result
}
