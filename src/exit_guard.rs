//! Keeps the interpreter's exit from unwinding Rust.
//!
//! Until 3.13, a thread that wants the GIL while the interpreter exits is ended by `pthread_exit`,
//! which with glibc unwinds its stack. Below Rust's frames that aborts the process: `catch_unwind`
//! takes no foreign exception, and on the way there what the frames own would be dropped without
//! the GIL. So each function of libpython that may run Python code, or wait for the GIL, is called
//! through a guard, which the unwinding meets first: the thread waits there for the process to
//! end, as threads do of themselves since 3.14. (PyO3 does the same for those that take the GIL
//! by name.)
//!
//! The guards stand in front of the functions themselves, for PyO3's calls as for ours: build.rs
//! reads this list, and has the linker lead each to its guard (`--wrap`). What a call of a
//! function's pointer runs, as `tp_alloc` and `tp_free`, it does not lead here; the pointer that
//! 3.11's calls with one argument ask for is a guard's.

use std::ffi::{c_char, c_int, c_void};

type P = *mut c_void;
type Size = isize;

/// Dropped by an unwinding only, which can be none but `pthread_exit`'s: PyO3 lets no panic pass
/// into C.
struct Hang;

impl Drop for Hang {
    fn drop(&mut self) {
        loop {
            std::thread::park();
        }
    }
}

macro_rules! guarded {
    ($($(#[$since:meta])? fn $name:ident($($arg:ident: $type:ty),*) $(-> $ret:ty)?;)*) => {$(
        $(#[$since])?
        #[unsafe(export_name = concat!("__wrap_", stringify!($name)))]
        unsafe extern "C-unwind" fn $name($($arg: $type),*) $(-> $ret)? {
            unsafe extern "C-unwind" {
                #[link_name = concat!("__real_", stringify!($name))]
                fn real($($arg: $type),*) $(-> $ret)?;
            }
            let guard = Hang;
            // SAFETY: `real` is what the caller calls, with its arguments as they are: the types
            // here have the size and the registers of C's.
            let result = unsafe { real($($arg),*) };
            std::mem::forget(guard);
            result
        }

        $(#[$since])?
        const _: () = {
            unsafe extern "C" {
                #[link_name = stringify!($name)]
                fn unwrapped();
            }
            // lld finds the real one only of what is called by its own name somewhere.
            #[used]
            static NAMED: unsafe extern "C" fn() = unwrapped;
        };
    )*};
}

// Those that may run Python code, release the GIL, free an object, or make one that the garbage
// collector tracks (until 3.11 it runs then and there).
guarded! {
    fn PyBuffer_Release(view: P);
    fn PyCMethod_New(method: P, own: P, module: P, class: P) -> P;
    fn PyContext_CopyCurrent() -> P;
    fn PyContext_Copy(context: P) -> P;
    fn PyContext_New() -> P;
    fn PyContext_Enter(context: P) -> c_int;
    fn PyContext_Exit(context: P) -> c_int;
    fn PyDescr_NewMethod(class: P, method: P) -> P;
    fn PyDict_Contains(dict: P, key: P) -> c_int;
    fn PyDict_Copy(dict: P) -> P;
    fn PyDict_GetItemWithError(dict: P, key: P) -> P;
    #[cfg(Py_3_13)]
    fn PyDict_GetItemRef(dict: P, key: P, value: P) -> c_int;
    fn PyDict_New() -> P;
    fn PyDict_SetItem(dict: P, key: P, value: P) -> c_int;
    fn PyDict_Update(dict: P, other: P) -> c_int;
    fn PyErr_CheckSignals() -> c_int;
    fn PyErr_Clear();
    fn PyErr_NewExceptionWithDoc(name: *const c_char, doc: *const c_char, base: P, dict: P) -> P;
    fn PyErr_NormalizeException(class: P, value: P, traceback: P);
    fn PyErr_PrintEx(set: c_int);
    fn PyErr_Restore(class: P, value: P, traceback: P);
    fn PyErr_SetObject(class: P, value: P);
    #[cfg(Py_3_12)]
    fn PyErr_SetRaisedException(error: P);
    fn PyErr_SetString(class: P, text: *const c_char);
    fn PyErr_WarnEx(category: P, message: *const c_char, level: Size) -> c_int;
    fn PyErr_WriteUnraisable(object: P);
    fn PyEval_AcquireThread(state: P);
    fn PyException_SetCause(error: P, cause: P);
    fn PyException_SetTraceback(error: P, traceback: P) -> c_int;
    fn PyFloat_AsDouble(object: P) -> f64;
    fn PyGILState_Release(state: c_int);
    fn PyImport_Import(name: P) -> P;
    fn PyIter_Next(iterator: P) -> P;
    fn PyList_Append(list: P, item: P) -> c_int;
    fn PyList_New(length: Size) -> P;
    fn PyMemoryView_FromObject(object: P) -> P;
    fn PyNumber_Index(object: P) -> P;
    fn PyOS_AfterFork_Child();
    fn PyOS_AfterFork_Parent();
    fn PyOS_BeforeFork();
    fn PyOS_FSPath(object: P) -> P;
    fn PyObject_Call(callable: P, args: P, kwargs: P) -> P;
    fn PyObject_CallNoArgs(callable: P) -> P;
    fn PyObject_CallOneArg(callable: P, arg: P) -> P;
    fn PyObject_ClearWeakRefs(object: P);
    fn PyObject_DelItem(object: P, key: P) -> c_int;
    fn PyObject_GenericGetAttr(object: P, name: P) -> P;
    fn PyObject_GenericSetAttr(object: P, name: P, value: P) -> c_int;
    fn PyObject_GetAttr(object: P, name: P) -> P;
    fn PyObject_GetBuffer(object: P, view: P, flags: c_int) -> c_int;
    fn PyObject_GetItem(object: P, key: P) -> P;
    fn PyObject_GetIter(object: P) -> P;
    #[cfg(Py_3_13)]
    fn PyObject_GetOptionalAttr(object: P, name: P, value: P) -> c_int;
    fn PyObject_IsInstance(object: P, class: P) -> c_int;
    fn PyObject_IsTrue(object: P) -> c_int;
    fn PyObject_LengthHint(object: P, default: Size) -> Size;
    fn PyObject_Repr(object: P) -> P;
    fn PyObject_RichCompare(one: P, other: P, operation: c_int) -> P;
    fn PyObject_SetAttr(object: P, name: P, value: P) -> c_int;
    fn PyObject_SetAttrString(object: P, name: *const c_char, value: P) -> c_int;
    fn PyObject_SetItem(object: P, key: P, value: P) -> c_int;
    fn PyObject_Size(object: P) -> Size;
    fn PyObject_Str(object: P) -> P;
    fn PyObject_Vectorcall(callable: P, args: P, count: usize, names: P) -> P;
    fn PyObject_VectorcallDict(callable: P, args: P, count: usize, kwargs: P) -> P;
    fn PyObject_VectorcallMethod(name: P, args: P, count: usize, names: P) -> P;
    fn PySlice_New(start: P, stop: P, step: P) -> P;
    fn PyThreadState_Clear(state: P);
    fn PyTraceBack_Print(traceback: P, file: P) -> c_int;
    fn PyTuple_GetSlice(tuple: P, low: Size, high: Size) -> P;
    fn PyTuple_New(length: Size) -> P;
    fn PyType_FromSpec(spec: P) -> P;
    fn PyUnicode_AsEncodedString(text: P, encoding: *const c_char, errors: *const c_char) -> P;
    fn PyUnicode_DecodeFSDefaultAndSize(text: *const c_char, length: Size) -> P;
    fn PyUnicode_EncodeFSDefault(text: P) -> P;
    fn PyWeakref_NewRef(object: P, callback: P) -> P;
    fn _PyObject_MakeTpCall(state: P, callable: P, args: P, count: Size, names: P) -> P;
    fn _Py_Dealloc(object: P);
}

/// 3.11's calls with one argument ask for the callable's own entry, and jump there.
#[cfg(not(Py_3_12))]
#[unsafe(export_name = "__wrap_PyVectorcall_Function")]
extern "C-unwind" fn vectorcall_function(
    _callable: P,
) -> unsafe extern "C-unwind" fn(P, P, usize, P) -> P {
    PyObject_Vectorcall
}
