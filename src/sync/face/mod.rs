//! What Python sees of the primitives, each in a file of its own; what they share is here.

pub mod barrier;
pub mod condition;
pub mod event;
pub mod lock;
pub mod rlock;
pub mod rwlock;
pub mod semaphore;
mod under;

pub use barrier::PyBarrier;
pub use condition::PyCondition;
pub use event::PyEvent;
pub use lock::PyLock;
pub use rlock::PyRLock;
pub use rwlock::{PyAccess, PyRWLock};
pub use semaphore::{PyBoundedSemaphore, PySemaphore};

use super::graph;
use super::graph::places::Noting;
use super::graph::watch::{looked_up, running};
use super::line::{Acquire, Resource};
use super::observe::Refused;
use super::park::{Ended, block_on};
use super::party::Party;
use crate::aio::awaitable::Awaitable;
use crate::aio::bridge::running_loop;
use crate::aio::start::{Eager, Start, Undo, Work};
use crate::os::is_main_thread;
use pyo3::exceptions::{PyOverflowError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyDict, PyFloat};
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// A signal that comes just before a wait does not end it. So the first look up is early; in
/// waits that go on, such a moment is rare enough.
const FIRST_LOOK: Duration = Duration::from_millis(50);

/// `threading.TIMEOUT_MAX`, in seconds.
pub const TIMEOUT_MAX: f64 = 9_223_372_036.0;

impl From<Refused> for PyErr {
    fn from(refused: Refused) -> Self {
        refused.error
    }
}

/// Sleeps, detached, until the future is ready; `None`: the deadline passed. `Err`: a signal
/// handler raised.
pub fn wait<F: Future<Output: Send> + Send>(
    py: Python<'_>,
    future: F,
    deadline: Option<Instant>,
) -> PyResult<Option<F::Output>> {
    let _here = graph::face::here(py, None);
    let mut future = pin!(future);
    let mut looks_early = is_main_thread();
    loop {
        let look = looks_early.then(|| Instant::now() + FIRST_LOOK);
        let until = deadline.into_iter().chain(look).min();
        let (ended, running) = py.detach(|| {
            let ended = block_on(future.as_mut(), until);
            let woken = !matches!(ended, Ended::Ready(_));
            (ended, woken.then(|| running(Party::this_thread())))
        });
        match ended {
            Ended::Ready(value) => return Ok(Some(value)),
            Ended::TimedOut if until == deadline => return Ok(None),
            Ended::TimedOut => looks_early = false,
            Ended::Interrupted => looks_early = is_main_thread(),
        }
        py.check_signals()?;
        drop(running);
        looked_up();
    }
}

/// As `wait`, without a limit, and to the end: what a signal handler raised meanwhile comes with
/// the value.
pub fn wait_through<F: Future<Output: Send> + Send>(
    py: Python<'_>,
    future: F,
) -> (F::Output, PyResult<()>) {
    let mut future = pin!(future);
    let mut raised = Ok(());
    loop {
        match wait(py, future.as_mut(), None) {
            Ok(Some(value)) => return (value, raised),
            Ok(None) => {}
            Err(error) => raised = raised.and(Err(error)),
        }
    }
}

/// Awaiting it takes the primitive and gives `value`; `undo` gives back.
pub fn acquired<R: Resource<Got = ()> + 'static>(
    acquire: Acquire<Arc<R>>,
    value: Py<PyAny>,
    undo: impl FnOnce() + Send + Sync + 'static,
) -> Awaitable {
    let noting = Noting::begin(&acquire);
    Awaitable::new(Start::Eager(Box::new(Taking { acquire, value, undo, noting })))
}

struct Taking<R: Resource<Got = ()>, U> {
    acquire: Acquire<Arc<R>>,
    value: Py<PyAny>,
    undo: U,
    noting: Noting,
}

impl<R: Resource<Got = ()>, U: FnOnce() + Send + Sync + 'static> Eager for Taking<R, U> {
    fn at_once(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        if self.noting.is_on() {
            return None;
        }
        self.acquire.at_once().map(|()| self.value.clone_ref(py))
    }

    fn work(self: Box<Self>) -> (Work, Undo) {
        let Self { acquire, value, undo, noting } = *self;
        let undone = noting.clone();
        let work = async move {
            acquire.await?;
            noting.taken();
            Ok(value)
        };
        let undo = move |_| {
            undone.released();
            undo();
        };
        (Box::pin(work), Box::new(undo))
    }
}

pub fn truth(py: Python<'_>) -> Py<PyAny> {
    PyBool::new(py, true).to_owned().into_any().unbind()
}

/// What a class's `__init__` makes. `__new__` takes whatever a subclass's `__init__` takes, and
/// knows nothing of it; a subclass may call its base late, or never.
pub struct Made<T> {
    class: &'static str,
    value: OnceLock<T>,
}

impl<T> Made<T> {
    pub fn later(class: &'static str) -> Self {
        Self { class, value: OnceLock::new() }
    }

    #[inline]
    pub fn get(&self) -> PyResult<&T> {
        self.value.get().ok_or_else(|| self.error("was not called: a subclass has to"))
    }

    /// For the garbage collector.
    pub fn as_option(&self) -> Option<&T> {
        self.value.get()
    }

    pub fn make(&self, value: T) -> PyResult<()> {
        // Those who wait keep what they wait at, so there is no beginning anew.
        self.value.set(value).map_err(|_| self.error("was called before"))
    }

    #[cold]
    fn error(&self, what: &str) -> PyErr {
        PyRuntimeError::new_err(format!("{}.__init__() {what}", self.class))
    }
}

/// `<plait.Event at 0x…: …>`, for a subclass with its own name.
pub fn describe(object: &Bound<'_, PyAny>, name: &str, state: &str) -> PyResult<String> {
    let class = object.get_type();
    let (module, own) = (class.module()?, class.qualname()?);
    let (module, own) = (module.to_cow()?, own.to_cow()?);
    let module = if module == "plait.sync" && own == name { "plait" } else { &*module };
    Ok(format!("<{module}.{own} at {:p}: {state}>", object.as_ptr()))
}

/// `(waiters, owner's ident, acquisitions, contended)`.
pub type Standing = (usize, Option<u64>, u64, u64);

pub fn standing(resource: &impl Resource) -> Standing {
    let now = resource.statistics();
    (now.waiters, now.owner.map(Party::ident), now.acquisitions, now.contended)
}

/// The running task, if the caller is one.
pub fn current_task(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    static CURRENT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static TASKS: PyOnceLock<Option<Py<PyDict>>> = PyOnceLock::new();
    let Some(event_loop) = running_loop(py)? else { return Ok(None) };
    // Before 3.12 `current_task` is written in Python: a look into this dict.
    let tasks = TASKS.get_or_try_init(py, || {
        if py.version_info() >= (3, 12) {
            return Ok::<_, PyErr>(None);
        }
        let tasks = py.import("asyncio.tasks")?.getattr("_current_tasks")?;
        Ok(tasks.cast_into::<PyDict>().ok().map(Bound::unbind))
    })?;
    if let Some(tasks) = tasks {
        return tasks.bind(py).get_item(event_loop);
    }
    let task = CURRENT.import(py, "asyncio", "current_task")?.call1((event_loop,))?;
    Ok((!task.is_none()).then_some(task))
}

/// The running task; one of Rust's outside of any.
pub fn task_party(py: Python<'_>) -> PyResult<Party> {
    let task = current_task(py)?;
    Ok(task.map_or_else(Party::rust_task, |task| Party::task(task.as_ptr().addr())))
}

/// An argument that is true or false, as `bool()` takes it.
#[derive(Clone, Copy)]
pub struct Truth(pub bool);

impl FromPyObject<'_, '_> for Truth {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        object.is_truthy().map(Self)
    }
}

/// A number of seconds, neither nan nor too large to wait for. As an argument that is left out,
/// and as None where the standard library takes that: no limit.
#[derive(Clone, Copy)]
pub struct Seconds(f64);

impl FromPyObject<'_, '_> for Seconds {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        let seconds = match object.cast::<PyFloat>() {
            Ok(float) => float.value(),
            Err(_) => object.extract().map_err(|error: PyErr| {
                let kind = object.get_type();
                let kind = kind.name().map_or_else(|_| String::new(), |name| name.to_string());
                if error.is_instance_of::<PyOverflowError>(object.py()) {
                    PyOverflowError::new_err("timeout value is too large")
                } else {
                    PyTypeError::new_err(format!("timeout must be a number of seconds, not {kind}"))
                }
            })?,
        };
        if seconds.is_nan() {
            return Err(PyValueError::new_err("Invalid value NaN (not a number)"));
        }
        if seconds > TIMEOUT_MAX {
            return Err(PyOverflowError::new_err("timeout value is too large"));
        }
        Ok(Self(seconds))
    }
}

impl Seconds {
    /// What `Lock.acquire` takes for no limit.
    pub const FOR_EVER: Self = Self(-1.0);

    /// What is left until then; never less than nothing.
    pub fn until(deadline: Instant) -> Self {
        Self(deadline.saturating_duration_since(Instant::now()).as_secs_f64())
    }

    pub fn is_over(self) -> bool {
        self.0 <= 0.0
    }

    /// From now; a negative number is a moment that has passed.
    pub fn deadline(self) -> Option<Instant> {
        Instant::now().checked_add(Duration::from_secs_f64(self.0.max(0.0)))
    }
}

/// How long an `acquire` may wait.
pub enum Patience {
    None,
    Until(Option<Instant>),
}

impl Patience {
    /// The arguments of `Lock.acquire`.
    pub fn of_lock(blocking: Truth, timeout: Seconds) -> PyResult<Self> {
        let limited = timeout.0 != Seconds::FOR_EVER.0;
        match (blocking.0, limited) {
            (false, true) => {
                Err(PyValueError::new_err("can't specify a timeout for a non-blocking call"))
            }
            (false, false) => Ok(Self::None),
            (true, true) if timeout.0 < 0.0 => {
                Err(PyValueError::new_err("timeout value must be a non-negative number"))
            }
            (true, true) => Ok(Self::Until(timeout.deadline())),
            (true, false) => Ok(Self::Until(None)),
        }
    }

    /// The arguments of `Semaphore.acquire`.
    pub fn of_semaphore(blocking: Truth, timeout: Option<Seconds>) -> PyResult<Self> {
        match (blocking.0, timeout) {
            (false, Some(_)) => {
                Err(PyValueError::new_err("can't specify timeout for non-blocking acquire"))
            }
            (false, None) => Ok(Self::None),
            (true, limit) => Ok(Self::Until(limit.and_then(Seconds::deadline))),
        }
    }
}

/// What pickling one of them raises.
pub fn belongs_here(name: &str) -> PyErr {
    PyTypeError::new_err(format!(
        "cannot pickle '{name}' object: it belongs to this process; \
         plait.get_context().{name}() makes one that processes share"
    ))
}
