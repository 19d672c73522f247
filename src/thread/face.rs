//! What Python sees of the crew. The loop that calls the jobs is Python's
//! (`plait._workers`): Rust hands each job out and takes its outcome, so that no frame of
//! Rust lies below Python code on a thread that interpreter exit may end.

use super::crew::{Crew, Lane, Put};
use crate::error::locked;
use crate::forked::Forked;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::{MutexExt, PyOnceLock};
use pyo3::types::PyTuple;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;

pub type Outcome = PyResult<Py<PyAny>>;

/// A call without arguments, and where its outcome goes (nowhere, for a posted one).
pub struct Task {
    call: Py<PyAny>,
    reply: Option<oneshot::Sender<Outcome>>,
}

struct Threads {
    crew: Crew<Task>,
    /// What `aio.to_thread` uses; as many workers as asyncio's default executor has.
    shared: Arc<Lane<Task>>,
    started: AtomicUsize,
}

static THREADS: Forked<Threads> = Forked::new(build, forget_after_fork);

fn build() -> Threads {
    let limit = (crate::parallel::cpus::cpu_count() + 4).min(32);
    Threads { crew: Crew::default(), shared: Lane::new(limit), started: AtomicUsize::new(0) }
}

extern "C" fn forget_after_fork() {
    THREADS.forget();
}

/// Queues a call on the shared lane; the receiver gets its outcome. Dropping the receiver
/// takes back a call that has not begun.
pub fn submit(py: Python<'_>, call: Py<PyAny>) -> PyResult<oneshot::Receiver<Outcome>> {
    let (reply, receiver) = oneshot::channel();
    put(py, &THREADS.get().shared, Task { call, reply: Some(reply) })?;
    Ok(receiver)
}

fn put(py: Python<'_>, lane: &Arc<Lane<Task>>, task: Task) -> PyResult<()> {
    let threads = THREADS.get();
    if threads.crew.put(lane, task) == Put::NeedsWorker
        && let Err(error) = start_worker(py)
    {
        let unserved = threads.crew.retract(lane);
        return unserved.map_or(Ok(()), |_| Err(error));
    }
    Ok(())
}

/// `_thread.start_new_thread` is C throughout: as a rule no Python code runs here below Rust.
fn start_worker(py: Python<'_>) -> PyResult<()> {
    static START: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static WORK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let start = START.import(py, "_thread", "start_new_thread")?;
    let work = WORK.import(py, "plait._workers", "work")?;
    let started = start.call1((work, PyTuple::empty(py)));
    if let Err(error) = &started
        && ends_with_exit(py, error).unwrap_or(false)
    {
        // It need not print a traceback before.
        py.detach(|| {
            loop {
                std::thread::park();
            }
        });
    }
    started?;
    Ok(())
}

/// Whether a new thread was refused since the interpreter exits (3.12 and newer say so), to a
/// daemon thread, which will end with it at any moment.
fn ends_with_exit(py: Python<'_>, error: &PyErr) -> PyResult<bool> {
    let exits = error.value(py).str()?.to_cow()?.contains("shutdown");
    let thread = py.import("threading")?.call_method0("current_thread")?;
    Ok(exits && thread.getattr("daemon")?.extract()?)
}

/// A queue of calls that at most `limit` threads of the crew serve at once.
#[pyclass(frozen, name = "Lane")]
pub struct PyLane {
    lane: Arc<Lane<Task>>,
}

#[pymethods]
impl PyLane {
    #[new]
    fn new(limit: usize) -> PyResult<Self> {
        if limit == 0 {
            return Err(PyValueError::new_err("limit must be at least 1, got 0"));
        }
        Ok(Self { lane: Lane::new(limit) })
    }

    /// Has a worker call `call()`. Nobody sees its result; an exception is reported as that
    /// of a thread.
    fn post(&self, py: Python<'_>, call: Py<PyAny>) -> PyResult<()> {
        put(py, &self.lane, Task { call, reply: None })
    }
}

/// One thread's view of the crew: iterating waits for its jobs.
#[pyclass(frozen)]
pub struct Worker {
    serves: Mutex<Option<Arc<Lane<Task>>>>,
    #[pyo3(get)]
    name: String,
}

#[pymethods]
impl Worker {
    #[new]
    fn new() -> Self {
        let number = THREADS.get().started.fetch_add(1, Ordering::Relaxed);
        Self { serves: Mutex::new(None), name: format!("plait-thread-{number}") }
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> Option<Job> {
        let task = py.detach(|| {
            let mut serves = locked(&self.serves);
            let crew = &THREADS.get().crew;
            std::iter::from_fn(|| crew.take(&mut serves)).find(Task::is_wanted)
        })?;
        Some(Job { task: Mutex::new(Some(task)), reply: Mutex::new(None) })
    }
}

impl Task {
    fn is_wanted(&self) -> bool {
        self.reply.as_ref().is_none_or(|reply| !reply.is_closed())
    }
}

/// A job that a worker has taken.
#[pyclass(frozen)]
pub struct Job {
    task: Mutex<Option<Task>>,
    reply: Mutex<Option<oneshot::Sender<Outcome>>>,
}

#[pymethods]
impl Job {
    /// What to call. Handed out once, so that it is Python that drops it: a finalizer may
    /// run then.
    fn take(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let task = self.task.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner).take();
        let task = task.ok_or_else(|| PyRuntimeError::new_err("this job was taken before"))?;
        *self.reply.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner) = task.reply;
        Ok(task.call)
    }

    fn succeed(&self, py: Python<'_>, value: Py<PyAny>) {
        self.answer(py, Ok(value));
    }

    /// False for a posted job, whose exception nobody else will report.
    fn fail(&self, py: Python<'_>, error: Bound<'_, PyAny>) -> bool {
        self.answer(py, Err(PyErr::from_value(error)))
    }
}

impl Job {
    fn answer(&self, py: Python<'_>, outcome: Outcome) -> bool {
        let mut reply = self.reply.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner);
        let Some(reply) = reply.take() else { return false };
        // A cancelled awaitable no longer wants it; as with asyncio, that is not an error.
        let _ = reply.send(outcome);
        true
    }
}
