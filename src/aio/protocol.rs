//! What Python calls on an awaitable: a coroutine's methods and a future's.

use super::awaitable::{Awaitable, By, Inner, State};
use super::bridge::{Callback, running_loop};
use super::gather::Group;
use super::settled::{Settled, cancelled_error};
use super::start::Start;
use pyo3::exceptions::asyncio::InvalidStateError;
use pyo3::exceptions::{PyBaseException, PyRuntimeError, PyStopIteration};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit};
use std::sync::Arc;

/// What comes of awaiting it, without a loop.
enum AtOnce {
    Done(Py<PyAny>),
    Yields(Py<PyAny>),
    Waits,
}

/// What comes of a step of `await`: the result, or what the task is to wait on.
enum Step<'py> {
    Ends(Py<PyAny>),
    Yields(Bound<'py, PyAny>),
}

impl Awaitable {
    /// Awaits what is new as far as that needs no loop.
    fn at_once(&self, py: Python<'_>) -> AtOnce {
        let mut inner = self.lock(py);
        let outcome = match &inner.state {
            // The bare yield of `sleep(0)`: done, once the task that yields goes on.
            State::New(Start::Yield(value)) => AtOnce::Yields(value.clone_ref(py)),
            State::New(Start::Eager(eager)) => {
                eager.at_once(py).map_or(AtOnce::Waits, AtOnce::Done)
            }
            _ => AtOnce::Waits,
        };
        let old = match &outcome {
            AtOnce::Waits => None,
            AtOnce::Yields(value) | AtOnce::Done(value) => {
                let done = State::Done(Settled::Value(value.clone_ref(py)));
                Some(std::mem::replace(&mut inner.state, done))
            }
        };
        drop(inner);
        drop(old);
        outcome
    }

    /// One step of `await`.
    fn advance(slf: Bound<'_, Self>) -> PyResult<Step<'_>> {
        let py = slf.py();
        match slf.get().at_once(py) {
            AtOnce::Done(value) => return Ok(Step::Ends(value)),
            AtOnce::Yields(_) => return Ok(Step::Yields(py.None().into_bound(py))),
            AtOnce::Waits => {}
        }
        let is_new = matches!(slf.get().lock(py).state, State::New(_));
        Self::begin(&slf)?;
        if is_new && Self::linger(&slf)? {
            return Ok(Step::Yields(py.None().into_bound(py))); // the loop's turn
        }
        if let Some(outcome) = slf.get().take(py) {
            return outcome.map(Step::Ends);
        }
        slf.get().lock(py).blocking = true;
        Ok(Step::Yields(slf.into_any()))
    }

    /// As a coroutine's that is closed before it was started.
    fn never_start(slf: &Bound<'_, Self>) {
        if matches!(slf.get().lock(slf.py()).state, State::New(_)) {
            Self::settle(slf, Settled::Cancelled(None), By::Other);
        }
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
        let py = slf.py();
        match Self::advance(slf)? {
            Step::Yields(what) => Ok(Some(what)),
            Step::Ends(value) if value.is_none(py) => Ok(None), // needs no exception
            Step::Ends(value) => Err(stop_iteration(py, value)),
        }
    }

    /// As a coroutine's; the value is not looked at.
    fn send<'py>(slf: Bound<'py, Self>, value: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        drop(value);
        let py = slf.py();
        match Self::advance(slf)? {
            Step::Yields(what) => Ok(what),
            Step::Ends(value) => Err(stop_iteration(py, value)),
        }
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
        // A task that was cancelled after this had settled takes nothing from it any more.
        slf.get().roll_back(py);
        Self::never_start(&slf);
        // An exception's instance comes alone or, from old callers, behind its type.
        let thrown = val.filter(|val| val.bind(py).is_instance_of::<PyBaseException>());
        Err(match (thrown, typ.cast_into::<PyType>()) {
            (Some(instance), _) => PyErr::from_value(instance.into_bound(py)),
            (None, Ok(typ)) => PyErr::from_type(typ, ()),
            (None, Err(instance)) => PyErr::from_value(instance.into_inner()),
        })
    }

    /// As a coroutine's: what is called when the coroutine that awaits it is closed.
    fn close(slf: Bound<'_, Self>) {
        Self::abandon(&slf);
        slf.get().roll_back(slf.py());
        Self::never_start(&slf);
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

    /// Ends it: the Rust future is dropped, or told to end. False if it was done.
    #[pyo3(signature = (msg=None))]
    pub fn cancel(slf: Bound<'_, Self>, msg: Option<Py<PyAny>>) -> bool {
        let py = slf.py();
        let deferred = {
            let inner = slf.get().lock(py);
            let waits = matches!(inner.state, State::Waiting(_));
            let notice = inner.notice.as_ref().filter(|_| waits).map(Arc::clone);
            let home = inner.home.as_ref();
            notice.zip(home.map(|home| (home.bridge.clone_ref(py), home.wakeup.id)))
        };
        if let Some((notice, (bridge, id))) = deferred {
            notice.give(msg);
            Self::wake(&slf, bridge.get(), id);
            return true;
        }
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
        self.lock(py).looked_at = self.is_done(py);
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

    /// What `plait._bridge.call_back` is to call, each with its context.
    fn take_callbacks(&self, py: Python<'_>) -> Vec<Callback> {
        std::mem::take(&mut self.lock(py).callbacks)
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
            State::Done(Settled::Error(error)) => visit.call(error),
            State::Gathering(group) => visit.call(group),
            _ => Ok(()),
        }
    }

    fn __clear__(&self) {
        if let Ok(mut inner) = self.inner.try_lock() {
            let empty = Inner::new(State::Done(Settled::Cancelled(None)));
            let cleared = std::mem::replace(&mut *inner, empty);
            drop(inner);
            drop(cleared);
        }
    }
}

/// As generators raise it: a value that cannot be taken for the exception's arguments comes bare,
/// from which older interpreters need not make the exception.
fn stop_iteration(py: Python<'_>, value: Py<PyAny>) -> PyErr {
    let bound = value.bind(py);
    if bound.is_none()
        || bound.is_instance_of::<PyTuple>()
        || bound.is_instance_of::<PyBaseException>()
    {
        return PyStopIteration::new_err((value,));
    }
    PyStopIteration::new_err(value)
}

fn copy_context(py: Python<'_>) -> PyResult<Py<PyAny>> {
    static COPY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    Ok(COPY.import(py, "contextvars", "copy_context")?.call0()?.unbind())
}
