//! Methods that CPython calls without PyO3 in between.
//!
//! PyO3's entry counts how often this thread is attached, looks for objects to let go of, and
//! takes arguments apart by a table. That is a third of what taking a lock or putting an item
//! costs. So the methods that programs call most have a C function in front, which does the
//! common case and hands all else over (other arguments, waits, errors) to PyO3's method, which
//! remains what is documented and typed. (For a method that takes `*args`, CPython makes a tuple
//! first, of which PyO3 makes another; `any` gets the arguments where the caller has them.)
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
use pyo3::types::{PyDict, PyTuple};
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

/// A shortcut for calls of one method with positional arguments, however many. Where it lets go of
/// objects or runs Python code, it attaches for that.
pub trait AnyShortcut {
    type Class: PyClass<Frozen = True> + Sync;
    const NAME: &'static str;
    fn original() -> &'static Original;
    /// `None`: handed over.
    fn quick(
        py: Python<'_>,
        this: &Self::Class,
        given: &[Borrowed<'_, '_, PyAny>],
    ) -> Option<PyResult<Py<PyAny>>>;
}

/// In front of a method with `METH_VARARGS | METH_KEYWORDS`, for which CPython makes a tuple.
unsafe extern "C" fn any<S: AnyShortcut>(
    slf: *mut ffi::PyObject,
    given: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called attached; a method descriptor has checked the type of `slf`. There are
    // `count` arguments and then one for each name; CPython keeps all until the call has returned.
    // A `Borrowed` is a pointer.
    let (py, this, given, names) = unsafe {
        let py = Python::assume_attached();
        let names = Borrowed::from_ptr_or_opt(py, names).map(|names| names.cast_unchecked());
        let count =
            count.cast_unsigned() + names.map_or(0, |names: Borrowed<'_, '_, PyTuple>| names.len());
        let given = match count {
            0 => &[],
            count => std::slice::from_raw_parts(given.cast::<Borrowed<'_, '_, PyAny>>(), count),
        };
        (py, Borrowed::from_ptr(py, slf), given, names)
    };
    let called = catch_unwind(AssertUnwindSafe(|| {
        if names.is_none() {
            // SAFETY: as above.
            let class = unsafe { this.cast_unchecked::<S::Class>() };
            if let Some(result) = S::quick(py, class.get(), given) {
                return result;
            }
        }
        let named = given.len() - names.map_or(0, |names| names.len());
        let args = PyTuple::new(py, &given[..named])?;
        let kwargs = names
            .map(|names| {
                let kwargs = PyDict::new(py);
                let mut pairs = names.iter_borrowed().zip(&given[named..]);
                pairs.try_for_each(|(name, value)| kwargs.set_item(name, value)).map(|()| kwargs)
            })
            .transpose()?;
        let kwargs = kwargs.as_ref().map_or(std::ptr::null_mut(), Bound::as_ptr);
        let original = S::original().0.load(Ordering::Relaxed);
        // SAFETY: the original is of this kind: `install` has looked. It takes two references that
        // are kept here, and returns one, or null with an exception set.
        unsafe {
            let original = std::mem::transmute::<*mut (), ffi::PyCFunctionWithKeywords>(original);
            let result = original(this.as_ptr(), args.as_ptr(), kwargs);
            Bound::from_owned_ptr_or_err(py, result).map(Bound::unbind)
        }
    }));
    let called = called.unwrap_or_else(|_| Err(PanicException::new_err("a shortcut panicked")));
    match called {
        Ok(result) => result.into_ptr(),
        Err(error) => {
            error.restore(py);
            std::ptr::null_mut()
        }
    }
}

/// For a method that takes no arguments at all.
pub fn install_no_args<S: Shortcut<0>>(py: Python<'_>) -> PyResult<()> {
    let front = ffi::PyMethodDefPointer { PyCFunction: no_args::<S> };
    let kind = ffi::METH_NOARGS;
    install::<S::Class>(py, S::NAME, S::original(), front, kind, kind)
}

/// For any other.
pub fn install_fast<S: Shortcut<COUNT>, const COUNT: usize>(py: Python<'_>) -> PyResult<()> {
    let front = ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: fast::<S, COUNT> };
    let kind = ffi::METH_FASTCALL | ffi::METH_KEYWORDS;
    install::<S::Class>(py, S::NAME, S::original(), front, kind, kind)
}

/// For one that takes `*args` and `**kwargs`.
pub fn install_any<S: AnyShortcut>(py: Python<'_>) -> PyResult<()> {
    let front = ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: any::<S> };
    let (kind, quick) = (ffi::METH_VARARGS, ffi::METH_FASTCALL);
    let [kind, quick] = [kind, quick].map(|kind| kind | ffi::METH_KEYWORDS);
    install::<S::Class>(py, S::NAME, S::original(), front, kind, quick)
}

/// `kind`: the flags that the method has; `quick`: those that it has from now on.
fn install<C: PyClass>(
    py: Python<'_>,
    name: &str,
    original: &Original,
    front: ffi::PyMethodDefPointer,
    kind: c_int,
    quick: c_int,
) -> PyResult<()> {
    let class = py.get_type::<C>();
    let found = class.getattr("__dict__")?.get_item(name)?;
    // SAFETY: the object is read as what its type says. Its definition lives as long as the
    // class, and its function is of the kind that the flags say. The new definition is never
    // freed; the class keeps the new method.
    unsafe {
        let method = (&raw mut ffi::PyMethodDescr_Type).cast_const();
        let is_method = std::ptr::eq(ffi::Py_TYPE(found.as_ptr()), method);
        let old = is_method.then(|| *(*found.as_ptr().cast::<ffi::PyMethodDescrObject>()).d_method);
        let Some(old) = old.filter(|old| old.ml_flags == kind) else {
            return Err(PyRuntimeError::new_err(format!("{name} is not called as was thought")));
        };
        let address = old.ml_meth.PyCFunction as *mut (); // whichever: all are one pointer
        original.0.store(address, Ordering::Relaxed);
        let new = Box::leak(Box::new(ffi::PyMethodDef { ml_meth: front, ml_flags: quick, ..old }));
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
    crate::thread::pool::face::shortcuts(py)?;
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
