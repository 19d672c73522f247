//! The context variables of the thread that submits.

#![allow(unsafe_code, reason = "PyO3 has no binding for contexts")]

use pyo3::ffi;
use pyo3::prelude::*;

/// A copy of the current context, `None` if no variable is set in it.
pub fn variables(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    // SAFETY: attached; a new reference, or null with an exception set.
    let context = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent())? };
    Ok((context.len()? > 0).then_some(context))
}
