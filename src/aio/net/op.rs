//! What a coroutine awaits of a stream: a coroutine itself, and the future that it waits for.
//!
//! A step asks the stream; if the answer must be waited for, the operation yields *itself* to
//! the task, which adds its callback, and the stream keeps it as its waiter. The reactor's round
//! calls the callback, the task steps this again, and only then are bytes taken: a task that is
//! cancelled in between, at any time, has taken none.

use super::address::fault_error;
use super::errors::{limit_error, short_error};
use super::goal::{Found, Goal};
use super::handle::Handle;
use super::listener::Clients;
use super::reactor::Ready;
use super::sockets::Sockets;
use super::stream::Step;
use crate::aio::bridge::Callback;
use crate::aio::settled::cancelled_error;
use pyo3::exceptions::asyncio::InvalidStateError;
use pyo3::exceptions::{
    PyBaseException, PyRuntimeError, PyStopAsyncIteration, PyStopIteration, PyValueError,
};
use pyo3::prelude::*;
use pyo3::sync::{MutexExt, PyOnceLock};
use pyo3::types::{PyBytes, PyType};
use pyo3::{PyTraverseError, PyVisit};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is asked for.
pub enum Ask {
    Read(Arc<Handle>, Goal),
    /// `async for`: the next line, or the end.
    Next(Arc<Handle>, Goal),
    Opened(Arc<Handle>),
    Shaken(Arc<Handle>),
    Drained(Arc<Handle>),
    Closed(Arc<Handle>),
    /// Until a server's connections are gone.
    Gone(Arc<Clients<Py<Op>>>),
}

enum Phase {
    New,
    Waiting,
    /// The stream has an answer; the task is to step.
    Woken,
    Cancelled(Option<Py<PyAny>>),
    Finished,
}

struct Inner {
    phase: Phase,
    /// asyncio's handshake: it was yielded to the task that steps it.
    blocking: bool,
    callbacks: Vec<Callback>,
}

/// A read, or another wait, of a stream.
#[pyclass(frozen, weakref, name = "StreamOperation")]
pub struct Op {
    ask: Ask,
    sockets: Py<Sockets>,
    inner: Mutex<Inner>,
}

impl Op {
    pub fn new(ask: Ask, sockets: &Py<Sockets>, py: Python<'_>) -> Self {
        let inner = Inner { phase: Phase::New, blocking: false, callbacks: Vec::new() };
        Self { ask, sockets: sockets.clone_ref(py), inner: Mutex::new(inner) }
    }

    fn lock(&self, py: Python<'_>) -> MutexGuard<'_, Inner> {
        self.inner.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner)
    }

    /// The reactor's round: its callbacks, which are due.
    pub fn wake(&self, py: Python<'_>) -> Vec<Callback> {
        let mut inner = self.lock(py);
        if matches!(inner.phase, Phase::Waiting) {
            inner.phase = Phase::Woken;
        }
        std::mem::take(&mut inner.callbacks)
    }

    fn attempt(slf: &Bound<'_, Self>) -> PyResult<Option<Py<PyAny>>> {
        let py = slf.py();
        let waiter = || slf.clone().unbind();
        let nothing = |()| Ok(py.None());
        let (step, handle) = match &slf.get().ask {
            Ask::Read(handle, goal) | Ask::Next(handle, goal) => {
                let make = |bytes: &[u8], found| (PyBytes::new(py, bytes), found);
                let read = handle.stream().read(goal, waiter, make);
                let next = matches!(slf.get().ask, Ask::Next(..));
                let step = match read {
                    Step::Done((bytes, found)) => Step::Done(answer(bytes, found, goal, next)),
                    Step::Wait => Step::Wait,
                    Step::Busy => Step::Busy,
                    Step::Failed(fault) => Step::Failed(fault),
                };
                (step, Some(handle))
            }
            Ask::Opened(handle) => (handle.stream().opened(waiter).map(nothing), Some(handle)),
            Ask::Shaken(handle) => (handle.stream().shaken(waiter).map(nothing), Some(handle)),
            Ask::Drained(handle) => (handle.stream().drained(waiter).map(nothing), Some(handle)),
            Ask::Closed(handle) => (handle.stream().closed(waiter).map(nothing), Some(handle)),
            Ask::Gone(clients) => (clients.gone(waiter).map(nothing), None),
        };
        match step {
            Step::Done(outcome) => outcome.map(Some),
            Step::Wait => Ok(None),
            Step::Busy => Err(PyRuntimeError::new_err(format!(
                "{}() called while another coroutine is already waiting for incoming data",
                slf.get().name()
            ))),
            Step::Failed(fault) => {
                let connecting = matches!(slf.get().ask, Ask::Opened(_));
                let peer = handle.and_then(|handle| handle.stream().peer.as_ref());
                Err(fault_error(py, &fault, peer, connecting))
            }
        }
    }

    fn name(&self) -> &'static str {
        match &self.ask {
            Ask::Read(_, Goal::Some(_) | Goal::All) => "read",
            Ask::Read(_, Goal::Exactly(_)) => "readexactly",
            Ask::Read(_, Goal::Until { .. }) => "readuntil",
            Ask::Read(_, Goal::Line { .. }) | Ask::Next(..) => "readline",
            Ask::Opened(_) | Ask::Shaken(_) => "open_connection",
            Ask::Drained(_) => "drain",
            Ask::Closed(_) | Ask::Gone(_) => "wait_closed",
        }
    }

    fn advance(slf: Bound<'_, Self>) -> PyResult<Option<Bound<'_, PyAny>>> {
        let py = slf.py();
        {
            let mut inner = slf.get().lock(py);
            match &inner.phase {
                Phase::New | Phase::Woken => inner.phase = Phase::Waiting,
                Phase::Waiting => {
                    return Err(PyRuntimeError::new_err(format!(
                        "{}() is being awaited already",
                        slf.get().name()
                    )));
                }
                Phase::Cancelled(message) => {
                    let error = cancelled_error(py, message.as_ref());
                    inner.phase = Phase::Finished;
                    return Err(error);
                }
                Phase::Finished => {
                    return Err(PyRuntimeError::new_err("cannot reuse already awaited coroutine"));
                }
            }
            inner.blocking = true;
        }
        let outcome = Self::attempt(&slf);
        if let Ok(None) = outcome {
            return Ok(Some(slf.into_any()));
        }
        slf.get().lock(py).phase = Phase::Finished;
        match outcome?.filter(|value| !value.is_none(py)) {
            Some(value) => Err(PyStopIteration::new_err((value,))),
            None => Ok(None), // the end of the iteration, with None as its value
        }
    }

    /// Ends it without an outcome; the stream forgets it.
    fn finish(slf: &Bound<'_, Self>, phase: Phase) -> bool {
        let old = {
            let mut inner = slf.get().lock(slf.py());
            match inner.phase {
                Phase::New | Phase::Waiting | Phase::Woken => {}
                Phase::Cancelled(_) | Phase::Finished => return false,
            }
            std::mem::replace(&mut inner.phase, phase)
        };
        if matches!(old, Phase::Waiting) {
            let is_it = |waiter: &Py<Self>| waiter.is(slf);
            let withdrawn = match &slf.get().ask {
                Ask::Read(handle, _)
                | Ask::Next(handle, _)
                | Ask::Opened(handle)
                | Ask::Shaken(handle)
                | Ask::Drained(handle)
                | Ask::Closed(handle) => handle.stream().withdraw(is_it),
                Ask::Gone(clients) => clients.withdraw(is_it),
            };
            drop(withdrawn);
        }
        true
    }
}

impl<T> Step<T> {
    fn map<U>(self, map: impl FnOnce(T) -> U) -> Step<U> {
        match self {
            Self::Done(value) => Step::Done(map(value)),
            Self::Wait => Step::Wait,
            Self::Busy => Step::Busy,
            Self::Failed(fault) => Step::Failed(fault),
        }
    }
}

fn answer(bytes: Bound<'_, PyBytes>, found: Found, goal: &Goal, next: bool) -> PyResult<Py<PyAny>> {
    let py = bytes.py();
    match found {
        Found::Take(0) if next => Err(PyStopAsyncIteration::new_err(())),
        Found::Take(_) => Ok(bytes.into_any().unbind()),
        Found::Incomplete { expected } => Err(short_error(&bytes, expected)),
        Found::Overrun { found, consumed } => {
            let message = if found {
                "Separator is found, but chunk is longer than limit"
            } else {
                "Separator is not found, and chunk exceed the limit"
            };
            match goal {
                Goal::Line { .. } => Err(PyValueError::new_err(message)),
                _ => Err(limit_error(py, message, consumed)),
            }
        }
    }
}

#[pymethods]
impl Op {
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
    fn send<'py>(slf: Bound<'py, Self>, value: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        drop(value);
        let py = slf.py();
        Self::advance(slf)?.ok_or_else(|| PyStopIteration::new_err((py.None(),)))
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

    fn close(slf: Bound<'_, Self>) {
        Self::finish(&slf, Phase::Finished);
    }

    /// None until it waits: `asyncio.isfuture` takes it for a coroutine then.
    #[getter]
    fn _asyncio_future_blocking(&self, py: Python<'_>) -> Option<bool> {
        let inner = self.lock(py);
        (!matches!(inner.phase, Phase::New)).then_some(inner.blocking)
    }

    #[setter(_asyncio_future_blocking)]
    fn set_asyncio_future_blocking(&self, py: Python<'_>, blocking: bool) {
        self.lock(py).blocking = blocking;
    }

    fn get_loop(&self, py: Python<'_>) -> Py<PyAny> {
        self.sockets.get().event_loop(py)
    }

    fn done(&self, py: Python<'_>) -> bool {
        !matches!(self.lock(py).phase, Phase::New | Phase::Waiting)
    }

    fn cancelled(&self, py: Python<'_>) -> bool {
        matches!(self.lock(py).phase, Phase::Cancelled(_))
    }

    /// False if there is an answer already.
    #[pyo3(signature = (msg=None))]
    fn cancel(slf: Bound<'_, Self>, msg: Option<Py<PyAny>>) -> bool {
        let py = slf.py();
        if slf.get().done(py) || !Self::finish(&slf, Phase::Cancelled(msg)) {
            return false;
        }
        slf.get().sockets.get().reactor().push([Ready::Waiter(slf.clone().unbind())]);
        true
    }

    /// For the task that waits: None, when it may step.
    fn result(&self, py: Python<'_>) -> PyResult<()> {
        match &self.lock(py).phase {
            Phase::New | Phase::Waiting => Err(InvalidStateError::new_err("Result is not set.")),
            Phase::Cancelled(message) => Err(cancelled_error(py, message.as_ref())),
            Phase::Woken | Phase::Finished => Ok(()),
        }
    }

    fn exception(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.result(py).map(|()| None)
    }

    fn _make_cancelled_error(&self, py: Python<'_>) -> PyErr {
        match &self.lock(py).phase {
            Phase::Cancelled(message) => cancelled_error(py, message.as_ref()),
            _ => cancelled_error(py, None),
        }
    }

    #[pyo3(signature = (r#fn, *, context=None))]
    fn add_done_callback(
        slf: Bound<'_, Self>,
        r#fn: Py<PyAny>,
        context: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        static COPY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = slf.py();
        let context = match context {
            Some(context) => context,
            None => COPY.import(py, "contextvars", "copy_context")?.call0()?.unbind(),
        };
        let late = {
            let mut inner = slf.get().lock(py);
            inner.callbacks.reserve_exact(1);
            inner.callbacks.push((r#fn, context));
            !matches!(inner.phase, Phase::New | Phase::Waiting)
        };
        if late {
            slf.get().sockets.get().reactor().push([Ready::Waiter(slf.clone().unbind())]);
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

    fn __repr__(&self, py: Python<'_>) -> String {
        let state = match self.lock(py).phase {
            Phase::New => "not started",
            Phase::Waiting => "pending",
            Phase::Woken => "ready",
            Phase::Cancelled(_) => "cancelled",
            Phase::Finished => "finished",
        };
        format!("<plait stream {}(), {state}>", self.name())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.sockets)?;
        // Locked by a thread in the midst of a change: then it is in use, not garbage.
        let Ok(inner) = self.inner.try_lock() else { return Ok(()) };
        if let Phase::Cancelled(Some(message)) = &inner.phase {
            visit.call(message)?;
        }
        for (callback, context) in &inner.callbacks {
            visit.call(callback)?;
            visit.call(context)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        if let Ok(mut inner) = self.inner.try_lock() {
            let callbacks = std::mem::take(&mut inner.callbacks);
            drop(inner);
            drop(callbacks);
        }
    }
}
