//! Large arrays of a worker are made in its arena, so that a result need not be copied there.
//!
//! NumPy lets its allocator be replaced (NEP 49): `PyDataMem_SetHandler` takes a capsule with
//! four functions, for the current context (of contextvars). NumPy keeps the capsule with each
//! array, and calls the functions with or without the GIL. Where anything is not as expected,
//! arrays are made as ever.
#![allow(unsafe_code, reason = "NumPy's C interface is a table of pointers")]

use super::arena::Arena;
use super::mapping::generation;
use crate::error::locked;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::{CStr, c_char, c_uint, c_void};
use std::ops::Range;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

/// Arrays from here on are made in the arena, in bytes.
const LEAST: usize = 256 * 1024;
/// Larger arrays of zeros are left to the system, which has zeros for pages nobody touches.
const MOST_ZEROS: usize = 256 << 20;

/// Where NumPy's table of functions (`_ARRAY_API`) has the two we need, since its version 1.22
/// (feature version 15).
const FEATURE_VERSION: usize = 211;
const SET_HANDLER: usize = 304;
const FIRST_VERSION: c_uint = 15;
const CAPSULE: &CStr = c"mem_handler";

/// `PyDataMem_Handler`, version 1.
#[repr(C)]
struct Handler {
    name: [c_char; 127],
    version: u8,
    context: *mut c_void,
    malloc: extern "C" fn(*mut c_void, usize) -> *mut c_void,
    calloc: extern "C" fn(*mut c_void, usize, usize) -> *mut c_void,
    realloc: extern "C" fn(*mut c_void, *mut c_void, usize) -> *mut c_void,
    free: extern "C" fn(*mut c_void, *mut c_void, usize),
}

// SAFETY: it is never written to, and its context is not used.
unsafe impl Sync for Handler {}

static HANDLER: Handler = Handler {
    name: {
        let mut name = [0; 127];
        let text = b"plait_arena";
        let mut at = 0;
        while at < text.len() {
            name[at] = text[at] as c_char;
            at += 1;
        }
        name
    },
    version: 1,
    context: null_mut(),
    malloc,
    calloc,
    realloc,
    free,
};

struct Home {
    arena: Arc<Mutex<Arena>>,
    addresses: Range<usize>,
    generation: u32,
}

/// Set once: arrays may live until the process ends.
static HOME: OnceLock<Home> = OnceLock::new();
static ENABLED: AtomicBool = AtomicBool::new(true);

/// Has NumPy, if it is imported, make large arrays in `arena` from now on, in the current
/// context and those copied from it. False: it is not there, or cannot.
///
/// A process has one such arena: the first one stays.
pub fn install(py: Python<'_>, arena: &Arc<Mutex<Arena>>) -> bool {
    let Some(table) = table(py) else { return false };
    HOME.get_or_init(|| Home {
        arena: Arc::clone(arena),
        addresses: locked(arena).addresses(),
        generation: generation(),
    });
    // SAFETY: the table is NumPy's own and lives as long as the process; these two entries
    // have the same place and signature in all versions from FIRST_VERSION on, and the first
    // is older than that. The capsule points to a static, as `CAPSULE` demands.
    unsafe {
        let version: extern "C" fn() -> c_uint = std::mem::transmute(*table.add(FEATURE_VERSION));
        if version() < FIRST_VERSION {
            return false;
        }
        let set_handler: extern "C" fn(*mut ffi::PyObject) -> *mut ffi::PyObject =
            std::mem::transmute(*table.add(SET_HANDLER));
        let handler = (&raw const HANDLER).cast_mut().cast();
        let capsule = ffi::PyCapsule_New(handler, CAPSULE.as_ptr(), None);
        let capsule = Bound::from_owned_ptr_or_opt(py, capsule);
        let old = capsule.map(|capsule| set_handler(capsule.as_ptr()));
        let old = old.and_then(|old| Bound::from_owned_ptr_or_opt(py, old));
        if old.is_none() {
            ffi::PyErr_Clear();
        }
        old.is_some()
    }
}

/// Whether new arrays may be made in the arena; it is switched off under a memory limit, which
/// counts a process's own memory.
pub fn use_arena(enabled: bool) {
    ENABLED.store(enabled, Ordering::Relaxed);
}

fn table(py: Python<'_>) -> Option<*const *const c_void> {
    let modules = py.import("sys").ok()?.getattr("modules").ok()?;
    let names = ["numpy._core._multiarray_umath", "numpy.core._multiarray_umath"];
    let module = names.iter().find_map(|name| modules.get_item(name).ok())?;
    let capsule = module.getattr("_ARRAY_API").ok()?;
    // SAFETY: the capsule is NumPy's, which gives it no name; a wrong one makes this fail.
    let table = unsafe { ffi::PyCapsule_GetPointer(capsule.as_ptr(), std::ptr::null()) };
    if table.is_null() {
        // SAFETY: we are attached; the error is of the call above.
        unsafe { ffi::PyErr_Clear() };
        return None;
    }
    Some(table.cast_const().cast())
}

/// The arena, in the process that it belongs to.
fn home() -> Option<&'static Home> {
    HOME.get().filter(|home| home.generation == generation())
}

fn is_in_arena(place: *mut c_void) -> bool {
    HOME.get().is_some_and(|home| home.addresses.contains(&(place as usize)))
}

fn in_arena(size: usize) -> Option<*mut c_void> {
    if size < LEAST || !ENABLED.load(Ordering::Relaxed) {
        return None;
    }
    let mut arena = locked(&home()?.arena);
    let block = arena.allocate(size as u64).ok()?;
    arena.memory(block).map(|(start, _)| start.as_ptr().cast())
}

extern "C" fn malloc(_: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: any size will do.
    in_arena(size).unwrap_or_else(|| unsafe { libc::malloc(size) })
}

extern "C" fn calloc(_: *mut c_void, count: usize, size: usize) -> *mut c_void {
    let total = count.checked_mul(size).filter(|&total| total <= MOST_ZEROS);
    match total.and_then(in_arena) {
        // SAFETY: the block has that many bytes, and is ours.
        Some(place) => unsafe { libc::memset(place, 0, total.unwrap_or(0)) },
        // SAFETY: any sizes will do.
        None => unsafe { libc::calloc(count, size) },
    }
}

extern "C" fn realloc(context: *mut c_void, old: *mut c_void, size: usize) -> *mut c_void {
    if !is_in_arena(old) {
        // SAFETY: what is not from the arena is null or from malloc, calloc or realloc.
        return unsafe { libc::realloc(old, size) };
    }
    let readable = readable(old);
    if home().is_some() && size <= readable {
        return old;
    }
    let new = malloc(context, size);
    if !new.is_null() {
        // SAFETY: that many bytes may be read, and at least `size` written.
        unsafe { new.cast::<u8>().copy_from_nonoverlapping(old.cast(), readable.min(size)) };
        free(context, old, readable);
    }
    new
}

/// How many bytes may be read from an address in the arena on: those of its block. In a forked
/// copy, where the books may be locked for ever, all that follow.
fn readable(place: *mut c_void) -> usize {
    let rest = HOME.get().map_or(0, |home| home.addresses.end - place as usize);
    let Some(home) = home() else { return rest };
    let arena = locked(&home.arena);
    let memory = arena.find(place as usize).and_then(|block| arena.memory(block));
    memory.map_or(rest, |(start, length)| length - (place as usize - start.as_ptr() as usize))
}

extern "C" fn free(_: *mut c_void, place: *mut c_void, _: usize) {
    if !is_in_arena(place) {
        // SAFETY: what is not from the arena is null or from malloc, calloc or realloc.
        unsafe { libc::free(place) };
    } else if let Some(home) = home() {
        let mut arena = locked(&home.arena);
        if let Some(block) = arena.find(place as usize) {
            arena.release(block);
        }
    }
}
