//! Finds where the running interpreter keeps who holds the GIL (see `gil`).
//!
//! Its layout is not part of any interface, and differs between versions and builds. What must
//! be there is known, though: while this thread holds the GIL, `_PyRuntime` has in a row the
//! switch interval in microseconds, this thread's state, and a 1. (3.11 to 3.14; asked for with
//! an interval that is changed for a moment, so that a chance likeness is not taken for it.)
#![allow(unsafe_code, reason = "the interpreter's memory is read by address")]

use super::gil::Gil;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::{c_int, c_void};
use std::ops::Range;

/// No `PyThreadState` was ever longer than this many words before its thread's number.
const STATE_WORDS: usize = 64;

/// `None`: it was not found, or there is none (a free-threaded interpreter).
pub fn find(py: Python<'_>) -> PyResult<Option<Gil>> {
    let sys = py.import("sys")?;
    let interval: f64 = sys.call_method0("getswitchinterval")?.extract()?;
    let micros = (interval * 1e6).round() as usize;
    let Some(runtime) = runtime() else { return Ok(None) };
    // SAFETY: the caller is attached.
    let state = unsafe { ffi::PyThreadState_Get() }.addr();
    let Some(tid_offset) = tid_offset(state) else { return Ok(None) };
    let found = |micros: usize| -> Vec<usize> {
        let words =
            (runtime.start..runtime.end - 3 * size_of::<usize>()).step_by(size_of::<usize>());
        let fits = |at: &usize| {
            // The last is an `int` that has a neighbour.
            word(*at) == micros && word(at + 8) == state && word(at + 16) as u32 == 1
        };
        words.filter(fits).collect()
    };
    let mut places = found(micros);
    if places.len() > 1 {
        let other = micros + 1;
        sys.call_method1("setswitchinterval", (other as f64 / 1e6,))?;
        let again = found(other);
        sys.call_method1("setswitchinterval", (interval,))?;
        places.retain(|place| again.contains(place));
    }
    let [place] = places[..] else { return Ok(None) };
    Ok(Some(Gil { runtime, last_holder: place + size_of::<usize>(), tid_offset }))
}

fn word(at: usize) -> usize {
    // SAFETY: callers name a word of `_PyRuntime` or of this thread's own state.
    unsafe { (at as *const usize).read_volatile() }
}

/// Where a thread state keeps `threading.get_native_id()`: right after `threading.get_ident()`.
fn tid_offset(state: usize) -> Option<usize> {
    let seat = crate::os::seat();
    let step = size_of::<usize>();
    let fits = |at: &usize| {
        word(state + at) as u64 == seat.ident && word(state + at + step) == seat.native as usize
    };
    (0..STATE_WORDS * step).step_by(step).find(fits).map(|at| at + step)
}

/// `_PyRuntime` and its length, as the dynamic linker knows it.
fn runtime() -> Option<Range<usize>> {
    #[repr(C)]
    struct Symbol {
        _name: u32,
        _info: u8,
        _other: u8,
        _section: u16,
        _value: u64,
        size: u64,
    }
    unsafe extern "C" {
        fn dladdr1(
            address: *const c_void,
            info: *mut libc::Dl_info,
            extra: *mut *mut Symbol,
            flags: c_int,
        ) -> c_int;
    }
    const RTLD_DL_SYMENT: c_int = 1;
    // SAFETY: dlsym gives an address or null; dladdr1 fills in what it is given, and with this
    // flag `symbol` is the symbol's entry in a table that stays.
    unsafe {
        let start = libc::dlsym(libc::RTLD_DEFAULT, c"_PyRuntime".as_ptr());
        if start.is_null() {
            return None;
        }
        let mut info = std::mem::zeroed();
        let mut symbol = std::ptr::null_mut();
        let known = dladdr1(start, &raw mut info, &raw mut symbol, RTLD_DL_SYMENT) != 0;
        if !known || symbol.is_null() || info.dli_saddr != start {
            return None;
        }
        Some(start.addr()..start.addr() + (*symbol).size as usize)
    }
}
