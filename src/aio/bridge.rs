//! One event loop's side of the engine: which awaitables wait, and which callbacks are due.
//!
//! The loop's reader callback iterates over its bridge and calls what it gets (Python calls
//! the callbacks, so no frame of Rust lies below a task's code). A round is bounded to what
//! was ready when it began: futures that are ready at once again must not starve the loop.

use super::awaitable::Awaitable;
use super::inbox::Inbox;
use hashbrown::HashMap;
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::{MutexExt, PyOnceLock};
use pyo3::{PyTraverseError, PyVisit};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A done-callback and the context that it wants.
pub type Callback = (Py<PyAny>, Py<PyAny>);
type Due = (Py<PyAny>, Py<PyAny>, Py<Awaitable>);

#[pyclass(frozen)]
pub struct Bridge {
    inbox: Arc<Inbox>,
    agenda: Mutex<Agenda>,
    last_id: AtomicU64,
}

#[derive(Default)]
struct Agenda {
    waiting: HashMap<u64, Py<Awaitable>>,
    due: VecDeque<Due>,
    budget: usize,
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

    pub fn inbox(&self) -> &Arc<Inbox> {
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

    /// For the round that is under way.
    pub fn schedule(&self, awaitable: &Bound<'_, Awaitable>, callbacks: Vec<Callback>) {
        let mut agenda = self.agenda(awaitable.py());
        for (callback, context) in callbacks {
            agenda.due.push_back((callback, context, awaitable.clone().unbind()));
        }
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

#[pymethods]
impl Bridge {
    #[new]
    fn new() -> PyResult<Self> {
        let inbox = Arc::new(Inbox::new()?);
        Ok(Self { inbox, agenda: Mutex::default(), last_id: AtomicU64::new(0) })
    }

    /// The descriptor that the loop watches.
    #[cfg(unix)]
    fn fileno(&self) -> i32 {
        use std::os::fd::AsRawFd;
        self.inbox.reader().as_raw_fd()
    }

    /// Begins a round: takes the wake-up.
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        let ready = slf.get().inbox.answer();
        slf.get().agenda(slf.py()).budget = ready;
        slf
    }

    /// The next `(callback, context, awaitable)`; polls futures until one is due.
    fn __next__(&self, py: Python<'_>) -> Option<Due> {
        loop {
            let awaitable = {
                let mut agenda = self.agenda(py);
                if let Some(due) = agenda.due.pop_front() {
                    return Some(due);
                }
                if agenda.budget == 0 {
                    return None;
                }
                agenda.budget -= 1;
                let id = self.inbox.pop()?;
                agenda.waiting.get(&id).map(|found| found.clone_ref(py))
            };
            if let Some(awaitable) = awaitable {
                Awaitable::step(awaitable.bind(py));
            }
        }
    }

    /// How many awaitables are not done yet.
    fn count_waiting(&self, py: Python<'_>) -> usize {
        self.agenda(py).waiting.len()
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
        for (callback, context, awaitable) in &agenda.due {
            visit.call(callback)?;
            visit.call(context)?;
            visit.call(awaitable)?;
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
