//! One event loop's side of the engine: which awaitables wait, and which callbacks are due.
//!
//! The loop's reader callback iterates over its bridge and calls what it gets (Python calls
//! the callbacks, so no frame of Rust lies below a task's code). A round is bounded to what
//! was ready when it began, and in time: neither futures that are ready at once again nor
//! thousands that are ready together must starve the loop's other work.

use super::awaitable::Awaitable;
use super::inbox::{Bell, Entry, Inbox, hold};
use crate::python::{above_python, raise_soon};
use hashbrown::HashMap;
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::{MutexExt, PyOnceLock};
use pyo3::types::PyTuple;
use pyo3::{PyTraverseError, PyVisit};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A done-callback and the context that it wants.
pub type Callback = (Py<PyAny>, Py<PyAny>);
/// What Python calls: a callback, its context, its arguments (a tuple).
pub type Due = (Py<PyAny>, Py<PyAny>, Py<PyAny>);
/// Made by any thread, run on the loop's, where it says what to call.
pub type Call = Box<dyn FnOnce(Python<'_>) -> PyResult<Due> + Send>;

/// The loop goes round after so long, even if more is ready.
const ROUND: Duration = Duration::from_millis(5);
/// A round looks at the clock each time that it has done so much.
const LOOK: usize = 32;

#[pyclass(frozen)]
pub struct Bridge {
    inbox: Arc<Inbox<Call>>,
    agenda: Mutex<Agenda>,
    last_id: AtomicU64,
}

#[derive(Default)]
struct Agenda {
    waiting: HashMap<u64, Py<Awaitable>>,
    due: VecDeque<Due>,
    budget: usize,
    given: usize,
    ends: Option<Instant>,
}

impl Bridge {
    /// The running loop and its bridge, made on the loop's first await.
    pub fn of_running_loop(py: Python<'_>) -> PyResult<(Bound<'_, PyAny>, Bound<'_, Self>)> {
        static ATTACH: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let event_loop = running_loop(py)?.ok_or_else(|| {
            PyRuntimeError::new_err("no running event loop; await this inside a coroutine")
        })?;
        let bridge = match event_loop.getattr_opt(intern!(py, "_plait_bridge"))? {
            Some(bridge) => bridge,
            None => ATTACH.import(py, "plait._bridge", "attach")?.call1((&event_loop,))?,
        };
        Ok((event_loop, bridge.cast_into()?))
    }

    pub fn inbox(&self) -> &Arc<Inbox<Call>> {
        &self.inbox
    }

    pub fn new_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Keeps an awaitable until it is done, so that a wake-up finds it.
    pub fn keep(&self, id: u64, awaitable: &Bound<'_, Awaitable>) {
        let kept = awaitable.clone().unbind();
        self.agenda(awaitable.py()).waiting.insert(id, kept);
    }

    pub fn release(&self, py: Python<'_>, id: u64) {
        let released = self.agenda(py).waiting.remove(&id);
        drop(released); // after the lock: dropping may run Python code
    }

    /// Has the loop's thread run this; from any thread, attached or not.
    pub fn post(inbox: &Arc<Inbox<Call>>, call: Call) {
        inbox.push(Entry::Call(call));
    }

    /// For the round that is under way.
    pub fn schedule(&self, awaitable: &Bound<'_, Awaitable>, callbacks: Vec<Callback>) {
        if callbacks.is_empty() {
            return;
        }
        let py = awaitable.py();
        let arguments = PyTuple::new(py, [awaitable]).map(|made| made.into_any().unbind());
        let Ok(arguments) = arguments else { return }; // an array has its length
        let mut agenda = self.agenda(py);
        for (callback, context) in callbacks {
            agenda.due.push_back((callback, context, arguments.clone_ref(py)));
        }
    }

    /// The next entry of the round; `Ok`: a callback that is due. `None`: the round is over.
    fn next_entry(&self, py: Python<'_>) -> Option<Result<Due, Entry<Call>>> {
        let mut agenda = self.agenda(py);
        if agenda.budget == 0 && agenda.due.is_empty() {
            return None;
        }
        agenda.given += 1;
        if agenda.given.is_multiple_of(LOOK)
            && agenda.ends.is_some_and(|ends| ends <= Instant::now())
        {
            drop(agenda);
            self.inbox.ring(); // the rest is for the next one
            return None;
        }
        if let Some(due) = agenda.due.pop_front() {
            return Some(Ok(due));
        }
        agenda.budget -= 1;
        self.inbox.pop().map(Err)
    }

    fn agenda(&self, py: Python<'_>) -> MutexGuard<'_, Agenda> {
        self.agenda.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner)
    }
}

static RUNS_LOOPS: AtomicBool = AtomicBool::new(false);

/// Whether this process ever had to do with an event loop.
pub fn runs_loops() -> bool {
    RUNS_LOOPS.load(Ordering::Relaxed)
}

pub fn running_loop(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    RUNS_LOOPS.store(true, Ordering::Relaxed);
    static GET: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let found = GET.import(py, "asyncio", "_get_running_loop")?.call0()?;
    Ok((!found.is_none()).then_some(found))
}

/// Runs this, which may wake tasks and runs no Python code. Those of the running loop are woken
/// without a system call: the loop is on this very thread, so it is not asleep.
pub fn waking<R>(py: Python<'_>, run: impl FnOnce() -> R) -> R {
    if !runs_loops() {
        return run();
    }
    let (value, bell) = hold(run);
    if let Some(bell) = bell {
        match above_python(|| ring_here(py, &bell)) {
            Ok(true) => {}
            Ok(false) => bell.toll(),
            Err(error) => {
                bell.toll();
                raise_soon(py, &error); // what a signal's handler raised; the value is not lost
            }
        }
    }
    value
}

/// Has the running loop make a round, if the bell is its own.
#[cold]
fn ring_here(py: Python<'_>, bell: &Arc<dyn Bell>) -> PyResult<bool> {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let Some(event_loop) = running_loop(py)? else { return Ok(false) };
    let Some(bridge) = event_loop.getattr_opt(intern!(py, "_plait_bridge"))? else {
        return Ok(false);
    };
    let inbox = Arc::as_ptr(&bridge.cast::<Bridge>()?.get().inbox);
    if !std::ptr::addr_eq(inbox, Arc::as_ptr(bell)) {
        return Ok(false);
    }
    let module = MODULE.get_or_try_init(py, || py.import("plait._bridge").map(Bound::unbind))?;
    let step = module.bind(py).getattr(intern!(py, "step_ready"))?;
    event_loop.call_method1(intern!(py, "call_soon"), (step, bridge, py.None()))?;
    Ok(true)
}

#[pymethods]
impl Bridge {
    #[new]
    fn new() -> PyResult<Self> {
        let inbox = Arc::new(Inbox::new().map_err(|error| crate::error::os_error(&error))?);
        Ok(Self { inbox, agenda: Mutex::default(), last_id: AtomicU64::new(0) })
    }

    /// The descriptor that the loop watches; -1 after the loop was closed.
    #[cfg(unix)]
    fn fileno(&self) -> i32 {
        self.inbox.descriptor()
    }

    /// What closes the pipe when it goes: the loop has the only reference.
    fn keeper(&self) -> BridgeKeeper {
        BridgeKeeper { inbox: Arc::clone(&self.inbox) }
    }

    /// Begins a round: takes the wake-up.
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        let ready = slf.get().inbox.answer();
        let mut agenda = slf.get().agenda(slf.py());
        agenda.budget = ready;
        agenda.ends = Some(Instant::now() + ROUND);
        drop(agenda);
        slf
    }

    /// The next `(callback, context, arguments)`; polls futures until one is due.
    fn __next__(&self, py: Python<'_>) -> Option<Due> {
        loop {
            match self.next_entry(py)? {
                Ok(due) => return Some(due),
                Err(Entry::Ready(id)) => {
                    let waits = self.agenda(py).waiting.get(&id).map(|found| found.clone_ref(py));
                    if let Some(awaitable) = waits {
                        Awaitable::step(awaitable.bind(py));
                    }
                }
                Err(Entry::Call(call)) => match above_python(|| call(py)) {
                    Ok(due) => return Some(due),
                    Err(error) => error.write_unraisable(py, None),
                },
            }
        }
    }

    /// How many awaitables are not done yet.
    fn count_waiting(&self, py: Python<'_>) -> usize {
        self.agenda(py).waiting.len()
    }

    /// Has the loop call `callback(*arguments)` in that context; from any thread. Many calls
    /// share one wake-up.
    #[pyo3(signature = (callback, context, arguments: "tuple[object, ...]"))]
    fn call(&self, callback: Py<PyAny>, context: Py<PyAny>, arguments: Py<PyAny>) {
        Self::post(&self.inbox, Box::new(move |_| Ok((callback, context, arguments))));
    }

    /// Asks for another round: this one ended early.
    fn ring(&self) {
        self.inbox.ring();
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Locked by a thread in the midst of a change: then it is in use, not garbage.
        let Ok(agenda) = self.agenda.try_lock() else { return Ok(()) };
        for awaitable in agenda.waiting.values() {
            visit.call(awaitable)?;
        }
        for (callback, context, arguments) in &agenda.due {
            visit.call(callback)?;
            visit.call(context)?;
            visit.call(arguments)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        if let Ok(mut agenda) = self.agenda.try_lock() {
            let cleared = std::mem::take(&mut *agenda);
            drop(agenda);
            drop(cleared);
        }
    }
}

/// Closes a bridge's pipe when the loop lets go of it.
#[pyclass(frozen)]
pub struct BridgeKeeper {
    inbox: Arc<Inbox<Call>>,
}

impl Drop for BridgeKeeper {
    fn drop(&mut self) {
        self.inbox.close();
    }
}
