//! A run on a cached thread: a thread state of its own, from the first to the last moment.
//!
//! `threading.local` values, the context, trace functions and pending asynchronous exceptions are
//! all in CPython's thread state. So each run gets a new one, as a new thread would, and it is
//! cleared and deleted at the run's end.
//!
//! Interpreter exit. A daemon thread's run may begin or go on while the interpreter goes away:
//!
//! - The thread state is made by the thread itself, because CPython binds it to the thread that
//!   makes it. The interpreter must be there then: `CLOSED` is set, under a lock, by an atexit
//!   function; a thread that comes later waits for the process to end.
//! - Made, but not attached: CPython's attaching notices that the interpreter exits without
//!   looking into the thread state, which may be gone.
//! - Attached: wherever the thread wants the GIL again it is ended, until 3.13 by `pthread_exit`,
//!   which src/exit_guard.rs keeps from unwinding anything: the thread stays where it is.
#![allow(unsafe_code, reason = "PyO3 has no binding for thread states")]

use crate::forked::Forked;
use pyo3::ffi;
use pyo3::prelude::*;
use std::sync::{PoisonError, RwLock};

static CLOSED: Forked<RwLock<bool>> = Forked::new(|| RwLock::new(false), forget);

extern "C" fn forget() {
    CLOSED.forget();
}

/// From now on no run begins.
pub fn close() {
    *CLOSED.get().write().unwrap_or_else(PoisonError::into_inner) = true;
}

pub fn is_closed() -> bool {
    *CLOSED.get().read().unwrap_or_else(PoisonError::into_inner)
}

/// A call that a thread will make: `function(argument)`.
pub struct Call {
    function: *mut ffi::PyObject,
    argument: *mut ffi::PyObject,
    interpreter: *mut ffi::PyInterpreterState,
}

// SAFETY: the pointers are references that the call owns, and are used attached only; the
// interpreter outlives it, see above.
unsafe impl Send for Call {}

impl Call {
    pub fn new(function: Bound<'_, PyAny>, argument: Bound<'_, PyAny>) -> Self {
        // SAFETY: attached.
        let interpreter = unsafe { ffi::PyInterpreterState_Get() };
        Self { function: function.into_ptr(), argument: argument.into_ptr(), interpreter }
    }

    /// Makes the call, on a thread that has no thread state.
    pub fn make(self) {
        let closed = CLOSED.get().read().unwrap_or_else(PoisonError::into_inner);
        if *closed {
            drop(closed);
            loop {
                std::thread::park();
            }
        }
        // SAFETY: the interpreter is alive, and will be until `closed` is released; needs
        // no GIL.
        let state = unsafe { ffi::PyThreadState_New(self.interpreter) };
        drop(closed);
        if state.is_null() {
            return; // no memory; its starter is told that it has ended
        }
        // SAFETY: this thread has made the state and has no other. It is attached from here
        // on, so the references can be used and given up; then it is cleared, and deleted
        // by the thread that it is current in.
        unsafe {
            ffi::PyEval_AcquireThread(state);
            let result = ffi::PyObject_CallOneArg(self.function, self.argument);
            if result.is_null() {
                ffi::PyErr_WriteUnraisable(self.function);
            }
            ffi::Py_XDECREF(result);
            ffi::Py_DECREF(self.argument);
            ffi::Py_DECREF(self.function);
            ffi::PyThreadState_Clear(state);
            ffi::PyThreadState_DeleteCurrent();
        }
    }
}
