//! Methods that CPython calls without PyO3 in between.
//!
//! PyO3's entry counts how often this thread is attached, looks for objects to let go of, and
//! takes arguments apart by a table. That is a third of what taking a lock or putting an item
//! costs. So the methods that programs call most have a C function in front, which does the
//! common case and hands all else over (other arguments, waits, errors) to PyO3's method, which
//! remains what is documented and typed.
//!
//! The common case must not let go of an object of Python's, nor run Python code, nor detach:
//! PyO3 does not know here that the thread is attached.
#![allow(unsafe_code, reason = "PyO3 has no methods without its own entry")]

use pyo3::PyClass;
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::panic::PanicException;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

/// What a shortcut gives: a new reference, or `None` to hand over.
pub type Quick = Option<Py<PyAny>>;

/// A shortcut for calls of one method with exactly `COUNT` positional arguments. `shortcut!` writes
/// these.
pub trait Shortcut<const COUNT: usize> {
    type Class: PyClass<Frozen = True> + Sync;
    const NAME: &'static str;
    fn original() -> &'static Original;
    fn quick(py: Python<'_>, this: &Self::Class, given: Given<'_, '_, COUNT>) -> Quick;
}

pub type Given<'a, 'py, const COUNT: usize> = [Borrowed<'a, 'py, PyAny>; COUNT];

/// PyO3's own function.
pub struct Original(AtomicPtr<()>);

impl Original {
    pub const fn unknown() -> Self {
        Self(AtomicPtr::new(std::ptr::null_mut()))
    }
}

/// `Some`: what to return to CPython. A panic becomes an exception.
///
/// # Safety
/// Called attached, with an instance of the class and an array of `COUNT` objects.
#[inline(always)]
unsafe fn attempt<S: Shortcut<COUNT>, const COUNT: usize>(
    slf: *mut ffi::PyObject,
    given: *const *mut ffi::PyObject,
) -> Option<*mut ffi::PyObject> {
    // SAFETY: as the caller says; CPython keeps all these objects until the call has returned.
    let (py, slf, given) = unsafe {
        let py = Python::assume_attached();
        let given = std::array::from_fn(|at| Borrowed::from_ptr(py, *given.add(at)));
        (py, Borrowed::from_ptr(py, slf).cast_unchecked::<S::Class>(), given)
    };
    match catch_unwind(AssertUnwindSafe(|| S::quick(py, slf.get(), given))) {
        Ok(result) => result.map(Py::into_ptr),
        Err(_) => {
            PanicException::new_err("a shortcut panicked").restore(py);
            Some(std::ptr::null_mut())
        }
    }
}

/// In front of a method with `METH_NOARGS`.
unsafe extern "C" fn no_args<S: Shortcut<0>>(
    slf: *mut ffi::PyObject,
    none: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: a method descriptor has checked the type of `slf`. The original is of this kind:
    // `install` has looked.
    unsafe {
        if let Some(result) = attempt::<S, 0>(slf, std::ptr::null()) {
            return result;
        }
        let original = S::original().0.load(Ordering::Relaxed);
        std::mem::transmute::<*mut (), ffi::PyCFunction>(original)(slf, none)
    }
}

/// In front of a method with `METH_FASTCALL | METH_KEYWORDS`.
unsafe extern "C" fn fast<S: Shortcut<COUNT>, const COUNT: usize>(
    slf: *mut ffi::PyObject,
    given: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: as above; there are `count` arguments without a name.
    unsafe {
        if count.cast_unsigned() == COUNT
            && names.is_null()
            && let Some(result) = attempt::<S, COUNT>(slf, given)
        {
            return result;
        }
        let original = S::original().0.load(Ordering::Relaxed);
        let original = std::mem::transmute::<*mut (), ffi::PyCFunctionFastWithKeywords>(original);
        original(slf, given, count, names)
    }
}

/// For a method that takes no arguments at all.
pub fn install_no_args<S: Shortcut<0>>(py: Python<'_>) -> PyResult<()> {
    let front = ffi::PyMethodDefPointer { PyCFunction: no_args::<S> };
    install::<S, 0>(py, front, ffi::METH_NOARGS)
}

/// For any other.
pub fn install_fast<S: Shortcut<COUNT>, const COUNT: usize>(py: Python<'_>) -> PyResult<()> {
    let front = ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: fast::<S, COUNT> };
    install::<S, COUNT>(py, front, ffi::METH_FASTCALL | ffi::METH_KEYWORDS)
}

fn install<S: Shortcut<COUNT>, const COUNT: usize>(
    py: Python<'_>,
    front: ffi::PyMethodDefPointer,
    flags: c_int,
) -> PyResult<()> {
    let class = py.get_type::<S::Class>();
    let name = S::NAME;
    let found = class.getattr("__dict__")?.get_item(name)?;
    // SAFETY: the object is read as what its type says. Its definition lives as long as the
    // class, and its function is of the kind that the flags say. The new definition is never
    // freed; the class keeps the new method.
    unsafe {
        let kind = (&raw mut ffi::PyMethodDescr_Type).cast_const();
        let is_method = std::ptr::eq(ffi::Py_TYPE(found.as_ptr()), kind);
        let old = is_method.then(|| *(*found.as_ptr().cast::<ffi::PyMethodDescrObject>()).d_method);
        let Some(old) = old.filter(|old| old.ml_flags == flags) else {
            return Err(PyRuntimeError::new_err(format!("{name} is not called as was thought")));
        };
        let address = if flags == ffi::METH_NOARGS {
            old.ml_meth.PyCFunction as *mut ()
        } else {
            old.ml_meth.PyCFunctionFastWithKeywords as *mut ()
        };
        S::original().0.store(address, Ordering::Relaxed);
        let new = Box::leak(Box::new(ffi::PyMethodDef { ml_meth: front, ..old }));
        let method = ffi::PyDescr_NewMethod(class.as_type_ptr(), new);
        class.setattr(name, Bound::from_owned_ptr_or_err(py, method)?)
    }
}

/// Puts the shortcuts in front, once; the modules that offer the classes call it.
#[pyfunction]
pub fn install_shortcuts(py: Python<'_>) -> PyResult<()> {
    static DONE: AtomicBool = AtomicBool::new(false);
    if DONE.swap(true, Ordering::Relaxed) {
        return Ok(()); // or a front would be taken for an original
    }
    crate::sync::face::lock::shortcuts(py)?;
    crate::sync::face::rlock::shortcuts(py)?;
    crate::sync::face::condition::shortcuts(py)?;
    crate::sync::face::semaphore::shortcuts(py)?;
    crate::sync::queue::face::shortcuts(py)?;
    crate::sync::queue::simple::shortcuts(py)?;
    crate::future::face::shortcuts(py)
}

/// `shortcut!(py, Class, "name", |py, this| …)` for a method that takes no arguments;
/// `shortcut!(py, Class, "name", 1, |py, this, [item]| …)` for calls with exactly so many
/// positional arguments.
macro_rules! shortcut {
    ($py:expr, $class:ty, $name:literal, |$token:pat_param, $this:pat_param| $quick:expr) => {{
        $crate::shortcut::shortcut!(@ $class, $name, 0, $token, $this, [], $quick);
        $crate::shortcut::install_no_args::<Here>($py)
    }};
    ($py:expr, $class:ty, $name:literal, $count:literal,
        |$token:pat_param, $this:pat_param, $given:pat_param| $quick:expr) => {{
        $crate::shortcut::shortcut!(@ $class, $name, $count, $token, $this, $given, $quick);
        $crate::shortcut::install_fast::<Here, $count>($py)
    }};
    (@ $class:ty, $name:literal, $count:literal,
        $token:pat_param, $this:pat_param, $given:pat_param, $quick:expr) => {
        struct Here;
        impl $crate::shortcut::Shortcut<$count> for Here {
            type Class = $class;
            const NAME: &'static str = $name;

            fn original() -> &'static $crate::shortcut::Original {
                static ORIGINAL: $crate::shortcut::Original = $crate::shortcut::Original::unknown();
                &ORIGINAL
            }

            #[inline(always)]
            fn quick(
                $token: pyo3::Python<'_>,
                $this: &$class,
                $given: $crate::shortcut::Given<'_, '_, $count>,
            ) -> $crate::shortcut::Quick {
                $quick
            }
        }
    };
}
pub(crate) use shortcut;
