//! One event loop's side of the engine: which awaitables wait, and which callbacks are due.
//!
//! The loop's reader callback iterates over its bridge and calls what it gets (Python calls
//! the callbacks, so no frame of Rust lies below a task's code). A round is bounded to what
//! was ready when it began, and in time: neither futures that are ready at once again nor
//! thousands that are ready together must starve the loop's other work.

use super::awaitable::{Awaitable, By};
use super::inbox::{Bell, Entry, Inbox, hold};
use super::linger::IN_A_ROW;
use super::panics::caught;
use crate::parallel::cpus::cpu_count;
use crate::python::raise_soon;
use hashbrown::HashMap;
use pyo3::call::PyCallArgs;
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::{MutexExt, PyOnceLock};
use pyo3::types::{PyString, PyTuple};
use pyo3::{PyTraverseError, PyVisit};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A done-callback and the context that it wants.
pub type Callback = (Py<PyAny>, Py<PyAny>);
/// What Python calls: a callback, its context, its arguments (a tuple).
pub type Due = (Py<PyAny>, Py<PyAny>, Py<PyAny>);
/// Made by any thread, run on the loop's, where it says what to call.
pub type Call = Box<dyn FnOnce(Python<'_>) -> PyResult<Due> + Send>;

/// A loop and its bridge.
pub type Running<'py> = (Bound<'py, PyAny>, Bound<'py, Bridge>);

/// The loop goes round after so long, even if more is ready.
const ROUND: Duration = Duration::from_millis(5);
/// A round looks at the clock each time that it has done so much.
const LOOK: usize = 32;

#[pyclass(frozen)]
pub struct Bridge {
    inbox: Arc<Inbox<Call>>,
    agenda: Mutex<Agenda>,
    last_id: AtomicU64,
    /// A task of the loop wakes others, and their futures are polled.
    steps_here: AtomicBool,
    /// How many awaits of brisk jobs were over since the loop went round.
    lingered: AtomicU32,
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
    pub fn of_running_loop(py: Python<'_>) -> PyResult<Running<'_>> {
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

    fn waiting(&self, py: Python<'_>, id: u64) -> Option<Py<Awaitable>> {
        self.agenda(py).waiting.get(&id).map(|found| found.clone_ref(py))
    }

    pub fn release(&self, py: Python<'_>, id: u64) {
        let released = self.agenda(py).waiting.remove(&id);
        drop(released); // after the lock: dropping may run Python code
    }

    /// Counts an await of a brisk job that was over without the loop's having gone round: whether
    /// it is the loop's turn now.
    pub fn is_to_go_round(&self) -> bool {
        let is_due = self.lingered.fetch_add(1, Ordering::Relaxed) >= IN_A_ROW;
        if is_due {
            self.lingered.store(0, Ordering::Relaxed);
        }
        is_due
    }

    /// Waits, detached, for the wake-up of the one future that its loop has to wait for, unless
    /// the loop has something else to do; true: it came. (Other loops than asyncio's don't tell
    /// what they have to do; it is their turn before long.)
    pub fn linger(
        &self,
        py: Python<'_>,
        event_loop: &Py<PyAny>,
        id: u64,
        wait: impl FnOnce() -> bool + Send,
    ) -> PyResult<bool> {
        if cpu_count() < 2 || self.agenda(py).waiting.len() > 1 {
            return Ok(false);
        }
        let others = event_loop.bind(py).getattr_opt(intern!(py, "_ready"))?;
        if others.is_some_and(|others| others.len().is_ok_and(|count| count > 0))
            || !self.inbox.stay()
        {
            return Ok(false);
        }
        let came = py.detach(wait);
        if came {
            self.inbox.forget(id);
        }
        match self.inbox.take() {
            None => self.inbox.toll(),
            Some(0) => {}
            Some(_) => self.inbox.ring(), // for others
        }
        Ok(came)
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

    /// Goes on with what rang this bell, if it is this loop's: polls futures that are ready, and
    /// gives who waits for them. For a callback of the loop's, which calls those.
    pub fn answer_here(&self, py: Python<'_>, bell: &Arc<dyn Bell>) -> Vec<Due> {
        let is_ours = std::ptr::addr_eq(Arc::as_ptr(&self.inbox), Arc::as_ptr(bell));
        let Some(count) = is_ours.then(|| self.inbox.take()).flatten() else {
            bell.toll();
            return Vec::new();
        };
        self.step(py, count.min(LOOK), By::Round);
        std::mem::take(&mut self.agenda(py).due).into()
    }

    /// Polls so many futures that are ready; the rest is for a round.
    fn step(&self, py: Python<'_>, count: usize, by: By) {
        for id in (0..count).map_while(|_| self.inbox.pop_ready()) {
            if let Some(awaitable) = self.waiting(py, id) {
                Awaitable::step(awaitable.bind(py), by);
            }
        }
        if !self.inbox.is_empty() {
            self.inbox.ring(); // a call, or what came meanwhile
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
    ringing(py, true, run)
}

/// The same, for a future that is polled, and which may wake itself: whom it wakes goes on after
/// what is ready already.
pub fn polling<R>(py: Python<'_>, poll: impl FnOnce() -> R) -> R {
    ringing(py, false, poll)
}

fn ringing<R>(py: Python<'_>, at_once: bool, run: impl FnOnce() -> R) -> R {
    if !runs_loops() {
        return run();
    }
    let (value, bell) = hold(run);
    if let Some(bell) = bell {
        match ring_here(py, &bell, at_once) {
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

/// Has the running loop go on with what rang the bell, if that is its own. At once: futures
/// are polled now, and who waits for them is called soon; else the loop makes a round.
///
/// It owns Python objects, so what calls Python's functions does so above a guard of its own.
#[cold]
fn ring_here(py: Python<'_>, bell: &Arc<dyn Bell>, at_once: bool) -> PyResult<bool> {
    let Some(event_loop) = running_loop(py)? else { return Ok(false) };
    let found = event_loop.getattr_opt(intern!(py, "_plait_bridge"))?;
    let Some(found) = found else { return Ok(false) };
    let bridge = found.cast::<Bridge>()?;
    let this = bridge.get();
    if !std::ptr::addr_eq(Arc::as_ptr(&this.inbox), Arc::as_ptr(bell)) {
        return Ok(false);
    }
    // In debug mode the loop times what it calls, and is to name it: a round does.
    if at_once && !this.steps_here.swap(true, Ordering::Relaxed) {
        let stepped = is_debug(&event_loop).map(|debug| {
            let count = if debug { None } else { this.inbox.take() };
            count.inspect(|&count| this.step(py, count, By::Here)).is_some()
        });
        this.steps_here.store(false, Ordering::Relaxed);
        if stepped? {
            return Ok(true);
        }
    }
    let step = function_of_bridge(py, intern!(py, "step_ready"))?;
    let none = py.None();
    call_soon(&event_loop, (&step, bridge, none.bind(py)))?;
    Ok(true)
}

pub fn is_debug(event_loop: &Bound<'_, PyAny>) -> PyResult<bool> {
    event_loop.call_method0(intern!(event_loop.py(), "get_debug"))?.is_truthy()
}

fn call_soon<'py>(event_loop: &Bound<'py, PyAny>, arguments: impl PyCallArgs<'py>) -> PyResult<()> {
    event_loop.call_method1(intern!(event_loop.py(), "call_soon"), arguments)?;
    Ok(())
}

fn function_of_bridge<'py>(
    py: Python<'py>,
    name: &Bound<'py, PyString>,
) -> PyResult<Bound<'py, PyAny>> {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let module = MODULE.get_or_try_init(py, || py.import("plait._bridge").map(Bound::unbind))?;
    module.bind(py).getattr(name)
}

/// Has the loop call back who waits for this, after what is ready already; on its own thread.
pub fn call_back_soon(awaitable: &Bound<'_, Awaitable>, event_loop: &Py<PyAny>) -> PyResult<()> {
    let py = awaitable.py();
    let call_back = function_of_bridge(py, intern!(py, "call_back"))?;
    call_soon(event_loop.bind(py), (&call_back, awaitable))
}

#[pymethods]
impl Bridge {
    #[new]
    fn new() -> PyResult<Self> {
        let inbox = Arc::new(Inbox::new().map_err(|error| crate::error::os_error(&error))?);
        Ok(Self {
            inbox,
            agenda: Mutex::default(),
            last_id: AtomicU64::new(0),
            steps_here: AtomicBool::new(false),
            lingered: AtomicU32::new(0),
        })
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
        slf.get().lingered.store(0, Ordering::Relaxed);
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
                    if let Some(awaitable) = self.waiting(py, id) {
                        Awaitable::step(awaitable.bind(py), By::Round);
                    }
                }
                Err(Entry::Call(call)) => match caught(|| call(py)).flatten() {
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
