//! A thread of a pool: which tasks it is at, and ending one of them.
//!
//! A thread may be at several tasks, one inside the other: while it waits for a task that has
//! not begun, it runs that itself. An asynchronous exception goes to whatever the thread runs
//! at that moment. So it is only sent while the task that it is meant for is the innermost, under
//! the lock that a task takes to begin and to end; when that task has ended, one that was not
//! delivered is, to nobody: CPython until 3.12 never forgets that there was one that is taken back,
//! looks for it at each instruction of all threads, and hangs in one that is traced (3.11). For a
//! task further out it waits until that is the innermost again.

use super::engine::Pool;
use crate::context;
use crate::future::Core;
use crate::python::raise_in;
use crate::sync::queue::guard::{Guard, Guarded};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use std::cell::RefCell;
use std::ffi::c_ulong;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

/// All who come here are attached.
fn guarded<T>(guard: &Guard<T>) -> Guarded<'_, T> {
    guard.lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    static HERE: RefCell<Option<Arc<Here>>> = const { RefCell::new(None) };
}

pub struct Here {
    pub pool: Arc<Pool>,
    /// As `threading.get_ident` has it.
    pub ident: c_ulong,
    frames: Guard<Vec<Frame>>,
    pub counts: Counts,
    pub blank: Blank,
}

/// An empty context, which tasks use one after the other as long as it stays empty.
pub struct Blank(Guard<Option<Py<PyAny>>>);

impl Blank {
    pub fn within<T>(&self, py: Python<'_>, body: impl FnOnce() -> T) -> T {
        let kept = guarded(&self.0).take(); // a task inside of this one makes its own
        let Some(context) = kept.or_else(|| context::new(py).ok().map(Bound::unbind)) else {
            drop(PyErr::take(py)); // no memory
            return body();
        };
        let context = context.into_bound(py);
        let result = context::within(&context, body);
        if context.len().is_ok_and(|length| length == 0) {
            let _other = guarded(&self.0).replace(context.unbind());
        }
        result
    }
}

struct Frame {
    /// Its address, to be compared.
    core: usize,
    stop: Stop,
    /// Whether the pool was told that this task blocks its thread.
    blocks: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    No,
    Wanted,
    Sent,
    /// It was sent, and has come.
    Over,
}

/// What the thread has done; written by itself only, in nanoseconds.
pub struct Counts {
    pub started: Instant,
    pub tasks: AtomicU64,
    pub busy: AtomicU64,
    pub waited: AtomicU64,
    pub idle: AtomicBool,
}

impl Here {
    pub fn new(pool: Arc<Pool>, ident: c_ulong) -> Arc<Self> {
        let counts = Counts {
            started: Instant::now(),
            tasks: AtomicU64::new(0),
            busy: AtomicU64::new(0),
            waited: AtomicU64::new(0),
            idle: AtomicBool::new(false),
        };
        let frames = Guard::new(Vec::new());
        Arc::new(Self { pool, ident, frames, counts, blank: Blank(Guard::new(None)) })
    }

    /// The pool's thread that this one is, if it is one.
    pub fn current() -> Option<Arc<Self>> {
        HERE.with_borrow(Clone::clone)
    }

    /// From now on, or no longer, this thread is one of a pool's.
    pub fn set(here: Option<Arc<Self>>) {
        let _old = HERE.replace(here);
    }

    /// How many tasks it is at.
    pub fn depth(&self) -> usize {
        guarded(&self.frames).len()
    }

    pub fn begin(&self, core: &Arc<Core>) {
        let frame = Frame { core: Arc::as_ptr(core).addr(), stop: Stop::No, blocks: false };
        guarded(&self.frames).push(frame);
    }

    /// The innermost task has ended. Whether it was to be stopped.
    pub fn end(&self, py: Python<'_>) -> bool {
        let mut frames = guarded(&self.frames);
        if let Some(frame) = frames.last_mut()
            && frame.stop == Stop::Sent
        {
            frame.stop = Stop::Over;
            // The frame stays for so long: nobody sends one to a task further out meanwhile.
            drop(frames);
            self.receive(py); // it may have come, or may not
            frames = guarded(&self.frames);
        }
        let Some(frame) = frames.pop() else { return false };
        if let Some(outer) = frames.last_mut().filter(|outer| outer.stop == Stop::Wanted) {
            outer.stop = Stop::Sent;
            Python::attach(|py| self.send(stopped(py).ok().as_ref()));
        }
        drop(frames);
        if frame.blocks {
            self.pool.queue.unblock();
        }
        frame.stop != Stop::No
    }

    /// Runs a little Python code, at the beginning of which an exception comes that has not yet.
    fn receive(&self, py: Python<'_>) {
        static NOTHING: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let received = NOTHING
            .import(py, "plait._thread_words", "nothing")
            .and_then(|nothing| nothing.call0());
        let Err(error) = received else { return };
        if !stopped(py).is_ok_and(|class| error.matches(py, class).unwrap_or(false)) {
            self.send(None); // there was no memory, say
        }
    }

    /// Ends the task by an exception in its thread. False: this thread is not at it.
    pub fn stop(&self, py: Python<'_>, core: &Arc<Core>) -> bool {
        let Ok(error) = stopped(py) else { return false };
        let mut frames = guarded(&self.frames);
        let last = frames.len();
        let found =
            frames.iter_mut().enumerate().find(|(_, frame)| frame.core == Arc::as_ptr(core).addr());
        let Some((index, frame)) = found else { return false };
        if frame.stop == Stop::No {
            frame.stop = Stop::Wanted;
            if index + 1 == last {
                frame.stop = Stop::Sent;
                self.send(Some(&error));
            }
        }
        true
    }

    /// Marks the innermost task as one that blocks its thread, until it ends. True: it was not.
    pub fn marks_blocked(&self) -> bool {
        let mut frames = guarded(&self.frames);
        frames.last_mut().is_some_and(|frame| !std::mem::replace(&mut frame.blocks, true))
    }

    fn send(&self, error: Option<&Py<PyAny>>) {
        Python::attach(|py| raise_in(py, self.ident, error));
    }
}

/// The class of the exception.
fn stopped(py: Python<'_>) -> PyResult<Py<PyAny>> {
    static STOPPED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    STOPPED.import(py, "plait._thread_words", "Stopped").map(|class| class.clone().unbind())
}

impl Counts {
    pub fn add(counter: &AtomicU64, more: u64) {
        // One writer, so no read-modify-write is needed.
        counter.store(counter.load(Ordering::Relaxed) + more, Ordering::Relaxed);
    }
}
