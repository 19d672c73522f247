//! Futures that the garbage collector isn't told of, as long as they can't be part of a cycle.
//!
//! A task's future refers to nothing but a type until somebody looks into it or its outcome is a
//! value that may refer to others. Most never do: they come and go with a number or a string.
//! For the collector, which comes whenever some hundred more objects were made, thousands of
//! futures that wait were a fifth of what a pool's tasks cost. So they are left out, as CPython
//! leaves out tuples and dicts of numbers, and it is told of one when
//!
//! - it ends with a value of a type that the collector knows ([`Core::track`], by `complete`);
//! - a callback, a condition or waiters are made, or something is assigned (`BaseFuture::watch`);
//! - an attribute is set, or its `__dict__` is asked for.
//!
//! A collector that doesn't know an object just doesn't find cycles through it: being told late
//! would be a leak, no more. Containers can't take one for an object that can't be in a cycle:
//! CPython looks whether the collector knows an object's type, not the object.
//!
//! The core has the address of the Python object for that, not a reference. All this is under the
//! GIL: `BaseFuture::drop` clears the address before the memory is let go of. Where there is no GIL, the
//! collector is told of all.
#![allow(unsafe_code, reason = "PyO3 has no binding for what the collector is told")]

use super::core::{Core, Outcome};
use super::object::BaseFuture;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

/// Whether threads run Python in parallel, as `sync::queue::guard` tells it.
const PARALLEL: bool = size_of::<ffi::PyObject>() > 2 * size_of::<usize>();

/// The Python object's address, or null: the collector knows the object, or there is none.
#[derive(Default)]
pub(super) struct Untracked(AtomicPtr<ffi::PyObject>);

impl Core {
    /// `future` is its new Python object, whose class adds nothing to `plait.Future`.
    pub fn untrack(&self, future: &Bound<'_, PyAny>) {
        if PARALLEL {
            return;
        }
        self.untracked.0.store(future.as_ptr(), Ordering::Relaxed);
        // SAFETY: attached; an object of a type that the collector knows.
        unsafe { ffi::PyObject_GC_UnTrack(future.as_ptr().cast()) };
    }

    /// The collector is told of its Python object, unless it knows. Attached or not.
    pub(super) fn track(&self) {
        if self.untracked.0.load(Ordering::Relaxed).is_null() {
            return;
        }
        Python::attach(|_| {
            let future = self.untracked.0.swap(null_mut(), Ordering::Relaxed);
            // SAFETY: an address that is still there is of an object whose memory was not let go
            // of: that is done under the GIL, which this thread has, after `drop`. One without
            // references is about to go, and left alone: what deallocates it has it elsewhere.
            unsafe {
                if !future.is_null()
                    && ffi::Py_REFCNT(future) > 0
                    && ffi::PyObject_GC_IsTracked(future) == 0
                {
                    ffi::PyObject_GC_Track(future.cast());
                }
            }
        });
    }

    /// It is about to end so.
    pub(super) fn track_for(&self, outcome: &Outcome) {
        if self.untracked.0.load(Ordering::Relaxed).is_null() {
            return;
        }
        let may_refer = match outcome {
            Outcome::Value(object) | Outcome::Error(object) => is_collected(object),
            Outcome::Encoded(_) => true, // nobody knows yet
            Outcome::Cancelled => false,
        };
        if may_refer {
            self.track();
        }
    }
}

/// Whether the collector knows objects of this one's type.
fn is_collected(object: &Py<PyAny>) -> bool {
    // SAFETY: there is a reference, so there is the object; a flag of its type is looked at.
    unsafe { ffi::PyType_IS_GC(ffi::Py_TYPE(object.as_ptr())) != 0 }
}

/// A tuple of these. The collector isn't told of it if none of them can be part of a cycle: it
/// would find that out itself, at its next visit.
pub fn tuple<'py>(
    py: Python<'py>,
    items: &[Borrowed<'_, 'py, PyAny>],
) -> PyResult<Bound<'py, PyTuple>> {
    let tuple = PyTuple::new(py, items)?;
    // SAFETY: attached; a tuple nobody else has seen, of what is alive.
    unsafe {
        if !items.iter().any(|item| ffi::PyType_IS_GC(ffi::Py_TYPE(item.as_ptr())) != 0) {
            ffi::PyObject_GC_UnTrack(tuple.as_ptr().cast());
        }
    }
    Ok(tuple)
}

impl BaseFuture {
    /// Sets an attribute as any object does; `None`: deletes it.
    pub(super) fn set_attribute(
        slf: &Bound<'_, Self>,
        name: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        slf.get().core.get().inspect(|core| core.track());
        let value = value.map_or(null_mut(), Bound::as_ptr);
        // SAFETY: attached; two objects, and one or null.
        let failed = unsafe { ffi::PyObject_GenericSetAttr(slf.as_ptr(), name.as_ptr(), value) };
        if failed == 0 { Ok(()) } else { Err(PyErr::fetch(slf.py())) }
    }

    /// Its `__dict__`.
    pub(super) fn attributes<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.get().core.get().inspect(|core| core.track());
        // SAFETY: attached; a new reference, or null with an exception set.
        unsafe {
            let found = ffi::PyObject_GenericGetDict(slf.as_ptr(), null_mut());
            Bound::from_owned_ptr_or_err(slf.py(), found)
        }
    }
}

impl Drop for BaseFuture {
    fn drop(&mut self) {
        if let Some(core) = self.core.get() {
            core.untracked.0.store(null_mut(), Ordering::Relaxed);
        }
    }
}
