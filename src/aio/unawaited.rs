//! The warning of an awaitable that was made and forgotten, as Python has it for coroutines.

use pyo3::exceptions::PyRuntimeWarning;
use pyo3::intern;
use pyo3::prelude::*;
use std::ffi::CString;

/// Called while an awaitable is dropped: maybe amid an exception, which goes on afterwards.
pub fn never_awaited(name: &str) {
    Python::try_attach(|py| {
        let raised = PyErr::take(py);
        // At exit module after module is taken apart: that is not the moment to tell.
        if !is_finalizing(py)
            && let Err(error) = warn(py, name)
        {
            error.write_unraisable(py, None);
        }
        if let Some(raised) = raised {
            raised.restore(py);
        }
    });
}

fn warn(py: Python<'_>, name: &str) -> PyResult<()> {
    let text = CString::new(format!("plait awaitable '{name}' was never awaited"))?;
    PyErr::warn(py, &py.get_type::<PyRuntimeWarning>(), &text, 1)
}

fn is_finalizing(py: Python<'_>) -> bool {
    let asked = || py.import(intern!(py, "sys"))?.call_method0("is_finalizing")?.extract();
    let known: PyResult<bool> = asked();
    known.unwrap_or(true)
}
