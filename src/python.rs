//! What every face needs of the interpreter: waits that ^C can end, and calls that the
//! interpreter's exit can end.

use crate::os::{Flag, Woken};
use crate::parallel::pool::Cancel;
use pyo3::ffi;
use pyo3::prelude::*;
use rayon::ThreadPool;
use std::ffi::c_ulong;

/// Runs `job` on a rayon pool with the GIL released, and lets signals through: when a
/// Python signal handler raises (^C), `cancel` is set, the job is waited for, and the
/// exception goes to the caller.
pub fn run_on_pool<T: Send>(
    py: Python<'_>,
    pool: &ThreadPool,
    job: impl FnOnce(&Cancel) -> T + Send,
) -> PyResult<T> {
    let (done, cancel) = (Flag::default(), Cancel::default());
    let mut result = None;
    let mut raised = None;
    py.detach(|| {
        // in_place_scope: this thread keeps to itself and watches for signals; the scope
        // ends only when the job has, so what the job borrows outlives it.
        pool.in_place_scope(|scope| {
            scope.spawn(|_| {
                let _set_even_on_panic = SetOnDrop(&done);
                result = Some(job(&cancel));
            });
            while done.wait(None) == Woken::Interrupted {
                if let Err(error) = Python::attach(|py| py.check_signals()) {
                    cancel.set();
                    raised = Some(error);
                    break;
                }
            }
        });
    });
    match (raised, result) {
        (Some(error), _) => Err(error),
        (None, Some(value)) => Ok(value),
        (None, None) => unreachable!("the scope ends after the job, or passes its panic on"),
    }
}

struct SetOnDrop<'a>(&'a Flag);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.set();
    }
}

/// Has a thread of Python's raise this class of exception when it next runs Python code; `None`:
/// takes that back. Runs no Python code.
#[allow(unsafe_code, reason = "PyO3 has no binding for asynchronous exceptions")]
pub fn raise_in(_py: Python<'_>, thread: c_ulong, class: Option<&Py<PyAny>>) {
    let class = class.map_or(std::ptr::null_mut(), Py::as_ptr);
    // SAFETY: the caller is attached; a class or null, of which it takes its own reference. A
    // thread that does not exist is ignored.
    unsafe { ffi::PyThreadState_SetAsyncExc(thread.cast_signed(), class) };
}

/// Has this thread raise an error of this class after what must not fail now.
#[allow(unsafe_code, reason = "PyO3 has no binding for the thread's ident")]
pub fn raise_soon(py: Python<'_>, error: &PyErr) {
    // SAFETY: it needs nothing.
    let here = unsafe { ffi::PyThread_get_thread_ident() };
    raise_in(py, here, Some(error.get_type(py).as_any().as_unbound()));
}
