//! The object that Python awaits: a coroutine until it is started, a future afterwards.
//!
//! Like a coroutine it does nothing before it is awaited, and `asyncio.create_task` takes it.
//! Once started it has the whole interface of `asyncio.Future` that tasks, `wait_for`,
//! `shield` and `gather` use, so awaiting it twice, or by two tasks, gives its result again.
//!
//! No lock is held while a future is polled or a Python object dropped: either may run
//! Python code that comes back here.

use super::bridge::{Bridge, Callback, running_loop};
use super::gather::Group;
use super::inbox::Wakeup;
use pyo3::exceptions::asyncio::{CancelledError, InvalidStateError};
use pyo3::exceptions::{PyBaseException, PyRuntimeError, PyStopIteration};
use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use pyo3::types::PyType;
use pyo3::{PyTraverseError, PyVisit};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// A future that is polled on its loop's thread only, attached to the interpreter.
pub type Work = Pin<Box<dyn Future<Output = PyResult<Py<PyAny>>> + Send>>;

/// What starting means.
pub enum Start {
    Poll(Work),
    /// Let the loop go round once, as `asyncio.sleep(0)` does.
    Yield(Py<PyAny>),
    Gather {
        children: Vec<Py<Awaitable>>,
        return_exceptions: bool,
    },
}

/// How it ended.
pub enum Settled {
    Value(Py<PyAny>),
    Error(PyErr),
    Cancelled(Option<Py<PyAny>>),
}

enum State {
    New(Start),
    /// `None` while it is being polled.
    Waiting(Option<Work>),
    Gathering(Py<Group>),
    Done(Settled),
}

struct Home {
    event_loop: Py<PyAny>,
    bridge: Py<Bridge>,
    wakeup: Arc<Wakeup>,
}

struct Inner {
    state: State,
    home: Option<Home>,
    /// asyncio's handshake: the awaitable was yielded to the task that steps it.
    blocking: bool,
    callbacks: Vec<Callback>,
    groups: Vec<Py<Group>>,
}

#[pyclass(frozen, weakref)]
pub struct Awaitable {
    inner: Mutex<Inner>,
}

/// Who ends an awaitable: a round of the bridge goes on to the callbacks itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum By {
    Round,
    Other,
}

impl Settled {
    fn from_outcome(py: Python<'_>, outcome: PyResult<Py<PyAny>>) -> Self {
        match outcome {
            Ok(value) => Self::Value(value),
            // Raised by `__next__`, it would pass for the result.
            Err(error) if error.is_instance_of::<PyStopIteration>(py) => {
                let message = "StopIteration cannot be raised into a coroutine";
                let wrapped = PyRuntimeError::new_err(message);
                wrapped.set_cause(py, Some(error));
                Self::Error(wrapped)
            }
            Err(error) => Self::Error(error),
        }
    }

    pub fn outcome(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self {
            Self::Value(value) => Ok(value.clone_ref(py)),
            Self::Error(error) => Err(error.clone_ref(py)),
            Self::Cancelled(message) => Err(cancelled_error(py, message.as_ref())),
        }
    }
}

pub fn cancelled_error(py: Python<'_>, message: Option<&Py<PyAny>>) -> PyErr {
    match message {
        Some(message) => CancelledError::new_err((message.clone_ref(py),)),
        None => CancelledError::new_err(()),
    }
}

impl Awaitable {
    pub fn new(start: Start) -> Self {
        let (callbacks, groups) = (Vec::new(), Vec::new());
        let state = State::New(start);
        Self { inner: Mutex::new(Inner { state, home: None, blocking: false, callbacks, groups }) }
    }

    pub fn of(future: impl Future<Output = PyResult<Py<PyAny>>> + Send + 'static) -> Self {
        Self::new(Start::Poll(Box::pin(future)))
    }

    fn lock(&self, py: Python<'_>) -> MutexGuard<'_, Inner> {
        self.inner.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner)
    }

    /// Binds it to the running loop and polls it, if it is new.
    pub fn begin(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        if !matches!(slf.get().lock(py).state, State::New(_)) {
            return Ok(());
        }
        let (event_loop, bridge) = Bridge::of_running_loop(py)?;
        let (inbox, id) = (Arc::clone(bridge.get().inbox()), bridge.get().new_id());
        let wakeup = Arc::new(Wakeup { inbox, id, queued: AtomicBool::new(false) });
        let home =
            Home { event_loop: event_loop.unbind(), bridge: bridge.clone().unbind(), wakeup };
        let start = {
            let mut inner = slf.get().lock(py);
            let State::New(start) = std::mem::replace(&mut inner.state, State::Waiting(None))
            else {
                unreachable!("only its loop's thread starts an awaitable")
            };
            inner.home = Some(home);
            start
        };
        match start {
            Start::Yield(value) => {
                // Nobody yields to the loop for it, so it is done in the loop's next round.
                let ready: Work = Box::pin(std::future::ready(Ok(value)));
                slf.get().lock(py).state = State::Waiting(Some(ready));
                Self::wake(slf, bridge.get(), id);
            }
            Start::Poll(work) => {
                slf.get().lock(py).state = State::Waiting(Some(work));
                Self::poll(slf, By::Other);
                if !slf.get().is_done(py) {
                    bridge.get().keep(id, slf);
                }
            }
            Start::Gather { children, return_exceptions } => {
                let group = Group::new(slf, children, return_exceptions);
                let group = Bound::new(py, group)?;
                slf.get().lock(py).state = State::Gathering(group.clone().unbind());
                Group::begin(&group)?;
            }
        }
        Ok(())
    }

    fn poll(slf: &Bound<'_, Self>, by: By) {
        let py = slf.py();
        let (mut work, wakeup) = {
            let mut inner = slf.get().lock(py);
            let Some(wakeup) = inner.home.as_ref().map(|home| Arc::clone(&home.wakeup)) else {
                return;
            };
            let State::Waiting(work) = &mut inner.state else { return };
            let Some(work) = work.take() else { return };
            (work, wakeup)
        };
        wakeup.queued.store(false, Ordering::Release);
        let waker = Waker::from(wakeup);
        match work.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(outcome) => Self::settle(slf, Settled::from_outcome(py, outcome), by),
            Poll::Pending => {
                let mut inner = slf.get().lock(py);
                if let State::Waiting(slot @ None) = &mut inner.state {
                    *slot = Some(work);
                } // else it was cancelled while it was polled: dropping the work ends it
            }
        }
    }

    /// Ends it, unless it has ended.
    pub fn settle(slf: &Bound<'_, Self>, settled: Settled, by: By) {
        let py = slf.py();
        let (old, groups, callbacks, waited_for, home) = {
            let mut inner = slf.get().lock(py);
            if matches!(inner.state, State::Done(_)) {
                return;
            }
            let old = std::mem::replace(&mut inner.state, State::Done(settled));
            let groups = std::mem::take(&mut inner.groups);
            let waited_for = !inner.callbacks.is_empty();
            let callbacks = match by {
                By::Round => std::mem::take(&mut inner.callbacks),
                By::Other => Vec::new(),
            };
            let home = inner.home.as_ref();
            let home = home.map(|home| (home.bridge.clone_ref(py), home.wakeup.id));
            (old, groups, callbacks, waited_for, home)
        };
        drop(old); // a future that is cancelled ends here
        if let Some((bridge, id)) = home {
            let bridge = bridge.get();
            match by {
                By::Other if waited_for => Self::wake(slf, bridge, id),
                By::Other => bridge.release(py, id),
                By::Round => {
                    bridge.schedule(slf, callbacks);
                    bridge.release(py, id);
                }
            }
        }
        for group in groups {
            Group::child_done(group.bind(py), slf, by);
        }
    }

    /// Has the next round call the callbacks.
    fn wake(slf: &Bound<'_, Self>, bridge: &Bridge, id: u64) {
        bridge.keep(id, slf);
        bridge.inbox().push(id);
    }

    /// A round got its id: polls it, or goes on to its callbacks.
    pub fn step(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let finished = {
            let mut inner = slf.get().lock(py);
            let done = matches!(inner.state, State::Done(_));
            let callbacks = if done { std::mem::take(&mut inner.callbacks) } else { Vec::new() };
            let home = inner.home.as_ref().filter(|_| done);
            home.map(|home| (home.bridge.clone_ref(py), home.wakeup.id, callbacks))
        };
        match finished {
            Some((bridge, id, callbacks)) => {
                bridge.get().schedule(slf, callbacks);
                bridge.get().release(py, id);
            }
            None => Self::poll(slf, By::Round),
        }
        Ok(())
    }

    pub fn is_done(&self, py: Python<'_>) -> bool {
        matches!(self.lock(py).state, State::Done(_))
    }

    /// Tells the group when it is done; false: it is already.
    pub fn join(&self, group: &Bound<'_, Group>) -> bool {
        let member = group.clone().unbind();
        let mut inner = self.lock(group.py());
        if matches!(inner.state, State::Done(_)) {
            drop(inner);
            return false;
        }
        inner.groups.push(member);
        true
    }

    /// Its outcome, when it is done.
    pub fn settled(&self, py: Python<'_>) -> Option<PyResult<Py<PyAny>>> {
        match &self.lock(py).state {
            State::Done(settled) => Some(settled.outcome(py)),
            _ => None,
        }
    }

    /// The bare yield of `sleep(0)`: done, once the task that yields goes on.
    fn take_yield(&self, py: Python<'_>) -> bool {
        let mut inner = self.lock(py);
        match std::mem::replace(&mut inner.state, State::Waiting(None)) {
            State::New(Start::Yield(value)) => {
                inner.state = State::Done(Settled::Value(value));
                true
            }
            other => {
                inner.state = other;
                false
            }
        }
    }

    /// One step of `await`: the value as StopIteration, or itself, for the task to wait on.
    fn advance(slf: Bound<'_, Self>) -> PyResult<Option<Bound<'_, PyAny>>> {
        let py = slf.py();
        if slf.get().take_yield(py) {
            return Ok(Some(py.None().into_bound(py)));
        }
        Self::begin(&slf)?;
        if let Some(outcome) = slf.get().settled(py) {
            return Err(PyStopIteration::new_err((outcome?,)));
        }
        slf.get().lock(py).blocking = true;
        Ok(Some(slf.into_any()))
    }

    fn need_settled(&self, py: Python<'_>) -> PyResult<PyResult<Py<PyAny>>> {
        self.settled(py).ok_or_else(|| InvalidStateError::new_err("Result is not set."))
    }
}

#[pymethods]
impl Awaitable {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(slf: Bound<'_, Self>) -> PyResult<Option<Bound<'_, PyAny>>> {
        Self::advance(slf)
    }

    /// As a coroutine's; the value is not looked at.
    fn send<'py>(
        slf: Bound<'py, Self>,
        value: Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        drop(value);
        Self::advance(slf)
    }

    #[pyo3(signature = (typ, val=None, tb=None))]
    fn throw(
        slf: Bound<'_, Self>,
        typ: Bound<'_, PyAny>,
        val: Option<Py<PyAny>>,
        tb: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        drop(tb); // the exception has it
        let py = slf.py();
        Self::close(slf);
        // An exception's instance comes alone or, from old callers, behind its type.
        let thrown = val.filter(|val| val.bind(py).is_instance_of::<PyBaseException>());
        Err(match (thrown, typ.cast_into::<PyType>()) {
            (Some(instance), _) => PyErr::from_value(instance.into_bound(py)),
            (None, Ok(typ)) => PyErr::from_type(typ, ()),
            (None, Err(instance)) => PyErr::from_value(instance.into_inner()),
        })
    }

    /// As a coroutine's: one that was not started never will be.
    fn close(slf: Bound<'_, Self>) {
        if matches!(slf.get().lock(slf.py()).state, State::New(_)) {
            Self::settle(&slf, Settled::Cancelled(None), By::Other);
        }
    }

    /// Starts it now, without waiting for it.
    fn start(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        Self::begin(&slf)?;
        Ok(slf)
    }

    /// None until it is started: `asyncio.isfuture` then takes it for a coroutine.
    #[getter]
    fn _asyncio_future_blocking(&self, py: Python<'_>) -> Option<bool> {
        let inner = self.lock(py);
        (!matches!(inner.state, State::New(_))).then_some(inner.blocking)
    }

    #[setter(_asyncio_future_blocking)]
    fn set_asyncio_future_blocking(&self, py: Python<'_>, blocking: bool) {
        self.lock(py).blocking = blocking;
    }

    fn get_loop(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        if let Some(home) = &self.lock(py).home {
            return Ok(home.event_loop.clone_ref(py));
        }
        let running = running_loop(py)?;
        running.map(Bound::unbind).ok_or_else(|| PyRuntimeError::new_err("no running event loop"))
    }

    fn done(&self, py: Python<'_>) -> bool {
        self.is_done(py)
    }

    fn cancelled(&self, py: Python<'_>) -> bool {
        matches!(self.lock(py).state, State::Done(Settled::Cancelled(_)))
    }

    /// Ends it: the Rust future is dropped. False if it was done.
    #[pyo3(signature = (msg=None))]
    pub fn cancel(slf: Bound<'_, Self>, msg: Option<Py<PyAny>>) -> bool {
        let py = slf.py();
        let group = match &slf.get().lock(py).state {
            State::Done(_) => return false,
            State::Gathering(group) => Some(group.clone_ref(py)),
            _ => None,
        };
        match group {
            Some(group) => Group::cancel(group.bind(py), msg.as_ref()),
            None => {
                Self::settle(&slf, Settled::Cancelled(msg), By::Other);
                true
            }
        }
    }

    fn result(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.need_settled(py)?
    }

    fn exception(&self, py: Python<'_>) -> PyResult<Option<PyErr>> {
        let cancelled = self.cancelled(py);
        match self.need_settled(py)? {
            Err(error) if cancelled => Err(error),
            outcome => Ok(outcome.err()),
        }
    }

    fn _make_cancelled_error(&self, py: Python<'_>) -> PyErr {
        match &self.lock(py).state {
            State::Done(Settled::Cancelled(message)) => cancelled_error(py, message.as_ref()),
            _ => cancelled_error(py, None),
        }
    }

    #[pyo3(signature = (r#fn, *, context=None))]
    fn add_done_callback(
        slf: Bound<'_, Self>,
        r#fn: Py<PyAny>,
        context: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        Self::begin(&slf)?;
        let context = match context {
            Some(context) => context,
            None => copy_context(py)?,
        };
        let late = {
            let mut inner = slf.get().lock(py);
            inner.callbacks.push((r#fn, context));
            let done = matches!(inner.state, State::Done(_));
            let home = inner.home.as_ref().filter(|_| done);
            home.map(|home| (home.bridge.clone_ref(py), home.wakeup.id))
        };
        if let Some((bridge, id)) = late {
            Self::wake(&slf, bridge.get(), id);
        }
        Ok(())
    }

    /// How many were removed.
    fn remove_done_callback(&self, py: Python<'_>, r#fn: Bound<'_, PyAny>) -> PyResult<usize> {
        let callbacks = std::mem::take(&mut self.lock(py).callbacks);
        let before = callbacks.len();
        let mut kept = Vec::with_capacity(before);
        for callback in callbacks {
            if !callback.0.bind(py).eq(&r#fn)? {
                kept.push(callback);
            }
        }
        let removed = before - kept.len();
        self.lock(py).callbacks.splice(0..0, kept);
        Ok(removed)
    }

    fn __repr__(&self, py: Python<'_>) -> &'static str {
        match self.lock(py).state {
            State::New(_) => "<plait awaitable, not started>",
            State::Waiting(_) | State::Gathering(_) => "<plait awaitable, pending>",
            State::Done(Settled::Value(_)) => "<plait awaitable, finished>",
            State::Done(Settled::Error(_)) => "<plait awaitable, failed>",
            State::Done(Settled::Cancelled(_)) => "<plait awaitable, cancelled>",
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Locked by a thread in the midst of a change: then it is in use, not garbage.
        let Ok(inner) = self.inner.try_lock() else { return Ok(()) };
        if let Some(home) = &inner.home {
            visit.call(&home.event_loop)?;
            visit.call(&home.bridge)?;
        }
        for (callback, context) in &inner.callbacks {
            visit.call(callback)?;
            visit.call(context)?;
        }
        for group in &inner.groups {
            visit.call(group)?;
        }
        match &inner.state {
            State::New(Start::Gather { children, .. }) => {
                children.iter().try_for_each(|child| visit.call(child))
            }
            State::New(Start::Yield(value)) | State::Done(Settled::Value(value)) => {
                visit.call(value)
            }
            State::Gathering(group) => visit.call(group),
            _ => Ok(()),
        }
    }

    fn __clear__(&self) {
        if let Ok(mut inner) = self.inner.try_lock() {
            let state = State::Done(Settled::Cancelled(None));
            let (callbacks, groups) = (Vec::new(), Vec::new());
            let empty = Inner { state, home: None, blocking: false, callbacks, groups };
            let cleared = std::mem::replace(&mut *inner, empty);
            drop(inner);
            drop(cleared);
        }
    }
}

fn copy_context(py: Python<'_>) -> PyResult<Py<PyAny>> {
    static COPY: pyo3::sync::PyOnceLock<Py<PyAny>> = pyo3::sync::PyOnceLock::new();
    Ok(COPY.import(py, "contextvars", "copy_context")?.call0()?.unbind())
}
