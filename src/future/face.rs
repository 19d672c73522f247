//! The methods of `plait.Future`'s base class; its other base is `concurrent.futures.Future`.
//!
//! They work on the core. The standard library's private names are getters that make what they
//! show when it is first looked at. Code that assigns to `_state`, `_result` or `_exception`,
//! as CPython's own tests do, takes matters into its own hands: from then on the standard
//! library's methods serve that future, on what was assigned.

use super::cell::Phase;
use super::core::{Completion, Decoded, Outcome, Slot};
use super::object::{Seen, Waited, state_name, state_of};
use super::publish::{Part, Watch, call, call_all};
use crate::shortcut::shortcut;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};
use std::sync::{Arc, OnceLock};

pub use super::object::BaseFuture;

type Snapshot<'py> = (bool, bool, Option<Bound<'py, PyAny>>, Option<Bound<'py, PyAny>>);

#[pymethods]
impl BaseFuture {
    /// Subclasses may take arguments in their `__init__`.
    #[new]
    #[pyo3(signature = (*_args: "object", **_kwargs: "object"))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self { core: OnceLock::new() }
    }

    fn __init__(&self) {}

    /// Cancels the task if it has not begun; with `running=True` ends one that has, where the
    /// executor can. False: it runs, or is done.
    #[pyo3(signature = (*, running=false))]
    fn cancel(slf: &Bound<'_, Self>, running: bool) -> PyResult<bool> {
        let core = slf.get().core();
        if slf.get().is_assigned() {
            return Self::inherited(slf, "cancel", ())?.extract();
        }
        if core.is_done() {
            return Ok(core.is_cancelled());
        }
        let completion = match core.source() {
            None => core.cancel_pending(),
            Some(source) if source.withdraw(core) || (running && source.stop(core)) => {
                core.complete(Outcome::Cancelled)
            }
            Some(_) => Completion::Late,
        };
        if completion == Completion::NeedsPublish {
            core.publish_as(slf.as_any())?;
        }
        Ok(core.is_cancelled())
    }

    /// Whether it was cancelled.
    fn cancelled(slf: &Bound<'_, Self>) -> PyResult<bool> {
        if slf.get().is_assigned() {
            return Self::inherited(slf, "cancelled", ())?.extract();
        }
        Ok(slf.get().core().is_cancelled())
    }

    /// Whether its task has begun and is not done.
    fn running(slf: &Bound<'_, Self>) -> PyResult<bool> {
        if slf.get().is_assigned() {
            return Self::inherited(slf, "running", ())?.extract();
        }
        Ok(slf.get().core().is_running())
    }

    /// Whether it was cancelled or its task has ended.
    fn done(slf: &Bound<'_, Self>) -> PyResult<bool> {
        if slf.get().is_assigned() {
            return Self::inherited(slf, "done", ())?.extract();
        }
        Ok(slf.get().core().is_done())
    }

    /// The task's value, waited for `timeout` seconds at most; raises what the task raised.
    #[pyo3(signature = (timeout=None))]
    fn result<'py>(slf: &Bound<'py, Self>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        if let Waited::Assigned(left) = Self::wait(slf, timeout)? {
            return Self::inherited(slf, "result", (left,));
        }
        let (py, core) = (slf.py(), slf.get().core());
        match core.outcome(py)? {
            Decoded::Value(value) => Ok(value.into_bound(py)),
            Decoded::Error(error) => Err(core.raise(py, error)),
        }
    }

    /// What the task raised, or None; waited for `timeout` seconds at most.
    #[pyo3(signature = (timeout=None))]
    fn exception<'py>(
        slf: &Bound<'py, Self>,
        timeout: Option<f64>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        if let Waited::Assigned(left) = Self::wait(slf, timeout)? {
            let error = Self::inherited(slf, "exception", (left,))?;
            return Ok(Some(error).filter(|error| !error.is_none()));
        }
        Ok(slf.get().outcome(slf.py(), Seen::Raw)?.1)
    }

    /// Has `fn(future)` called when it is done, by the thread that completes it; at once if it
    /// is done. Exceptions that it raises are logged.
    fn add_done_callback(slf: &Bound<'_, Self>, r#fn: Py<PyAny>) -> PyResult<()> {
        let mut callback = Some(r#fn);
        Self::watch(slf, |watch, view| {
            if !watch.has_called_back(*view) {
                watch.callbacks.extend(callback.take());
            }
        });
        callback.map_or(Ok(()), |callback| call(callback.bind(slf.py()), slf.as_any()))
    }

    /// For executors: the task begins (True), or was cancelled and must not run (False).
    fn set_running_or_notify_cancel(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let core = slf.get().core();
        if slf.get().is_assigned() {
            return Self::inherited(slf, "set_running_or_notify_cancel", ())?.extract();
        }
        if core.begin() {
            return Ok(true);
        }
        if core.view().phase() == Phase::Cancelled {
            let condition = Self::part(slf, Part::Condition)?;
            let waiters = Self::part(slf, Part::Waiters)?;
            condition.call_method0("acquire")?;
            core.cell.with(|_, view| view.notified());
            let told = core.tell(&waiters, slf.as_any());
            condition.call_method0("release")?;
            return told.map(|()| false);
        }
        // It logs and raises.
        Self::inherited(slf, "set_running_or_notify_cancel", ())?.extract()
    }

    /// For executors: the task's value.
    fn set_result(slf: &Bound<'_, Self>, result: Py<PyAny>) -> PyResult<()> {
        if slf.get().is_assigned() {
            return Self::inherited(slf, "set_result", (result,)).map(drop);
        }
        Self::set(slf, Outcome::Value(result))
    }

    /// For executors: what the task raised.
    fn set_exception(slf: &Bound<'_, Self>, exception: Py<PyAny>) -> PyResult<()> {
        if slf.get().is_assigned() {
            return Self::inherited(slf, "set_exception", (exception,)).map(drop);
        }
        let none = exception.is_none(slf.py());
        Self::set(slf, if none { Outcome::Value(exception) } else { Outcome::Error(exception) })
    }

    /// `(done, cancelled, result, exception)`, for newer asyncio.
    fn _get_snapshot<'py>(slf: &Bound<'py, Self>) -> PyResult<Snapshot<'py>> {
        Ok(match slf.get().phase(Seen::Raw) {
            Phase::Finished => {
                let (value, error) = slf.get().outcome(slf.py(), Seen::Raw)?;
                (true, false, value, error)
            }
            Phase::Cancelled | Phase::Notified => (true, true, None, None),
            Phase::Pending | Phase::Running => (false, false, None, None),
        })
    }

    fn _invoke_callbacks(slf: &Bound<'_, Self>) -> PyResult<()> {
        let callbacks = Self::watch(slf, |watch, _| std::mem::take(&mut watch.callbacks));
        call_all(slf.py(), &callbacks, slf.as_any())
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let state = match slf.get().phase(Seen::Raw) {
            Phase::Pending => "pending".to_owned(),
            Phase::Running => "running".to_owned(),
            Phase::Cancelled | Phase::Notified => "cancelled".to_owned(),
            Phase::Finished => match slf.get().outcome(slf.py(), Seen::Raw)? {
                (_, Some(error)) => format!("finished raised {}", error.get_type().name()?),
                (Some(value), _) => format!("finished returned {}", value.get_type().name()?),
                (None, None) => "finished returned NoneType".to_owned(),
            },
        };
        Ok(format!("<{} at {:p} state={state}>", slf.get_type().name()?, slf.as_ptr()))
    }

    fn __reduce__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        let name = slf.get_type().name()?;
        Err(PyTypeError::new_err(format!(
            "cannot pickle '{name}' object: it belongs to this process; send its result() instead"
        )))
    }

    fn __setattr__(
        slf: &Bound<'_, Self>,
        name: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        Self::set_attribute(slf, name, Some(value))
    }

    fn __delattr__(slf: &Bound<'_, Self>, name: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::set_attribute(slf, name, None)
    }

    /// Its `__dict__`, which could take it into a cycle: see `untracked`.
    fn _attributes<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::attributes(slf)
    }

    #[getter]
    fn _condition<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::part(slf, Part::Condition)
    }

    #[setter(_condition)]
    fn assign_condition(slf: &Bound<'_, Self>, value: Py<PyAny>) {
        let _old = Self::watch(slf, |watch, _| {
            watch.has_own_lock = false;
            watch.condition.replace(value)
        });
    }

    #[getter]
    fn _waiters<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::part(slf, Part::Waiters)
    }

    #[setter(_waiters)]
    fn assign_waiters(slf: &Bound<'_, Self>, value: Py<PyAny>) {
        let _old = Self::watch(slf, |watch, _| watch.waiters.replace(value));
    }

    /// A copy: to change them, assign.
    #[getter]
    fn _done_callbacks<'py>(slf: &Bound<'py, Self>) -> Vec<Bound<'py, PyAny>> {
        slf.get().core().cell.with(|content, _| {
            let callbacks = content.watch.as_ref().map(|watch| watch.callbacks.iter());
            callbacks.into_iter().flatten().map(|held| held.bind(slf.py()).clone()).collect()
        })
    }

    #[setter(_done_callbacks)]
    fn assign_done_callbacks(slf: &Bound<'_, Self>, value: Vec<Py<PyAny>>) {
        let _old = Self::watch(slf, |watch, _| std::mem::replace(&mut watch.callbacks, value));
    }

    #[getter]
    fn _state(&self) -> &'static str {
        state_name(self.phase(Seen::Published))
    }

    #[setter(_state)]
    fn assign_state(slf: &Bound<'_, Self>, value: &str) -> PyResult<()> {
        let phase = state_of(value)?;
        Self::watch(slf, |watch, view| {
            view.assigned(true);
            watch.assigned.state = Some(phase);
        });
        Ok(())
    }

    #[getter]
    fn _result<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(slf.get().outcome(slf.py(), Seen::Published)?.0)
    }

    #[setter(_result)]
    fn assign_result(slf: &Bound<'_, Self>, value: Py<PyAny>) {
        let _old = Self::watch(slf, |watch, view| {
            view.assigned(true);
            watch.assigned.result.replace(value)
        });
    }

    #[getter]
    fn _exception<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(slf.get().outcome(slf.py(), Seen::Published)?.1)
    }

    #[setter(_exception)]
    fn assign_exception(slf: &Bound<'_, Self>, value: Py<PyAny>) {
        let _old = Self::watch(slf, |watch, view| {
            view.assigned(true);
            watch.assigned.error.replace(value)
        });
    }

    /// `me` is left out while an executor may complete the future: it keeps it alive. No
    /// executor can come back once its last reference is gone.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Some(core) = self.core.get() else { return Ok(()) };
        if core.view().is_bare() {
            return Ok(()); // the collector comes often while many are made
        }
        let alone = Arc::strong_count(core) == 1;
        core.cell.with(|content, _| {
            match &content.slot {
                Slot::Value(value) => visit.call(value)?,
                Slot::Error(raised) => raised.visit(&visit)?,
                Slot::Empty | Slot::Encoded(_) | Slot::Decoding(_) => {}
            }
            let Some(watch) = &content.watch else { return Ok(()) };
            let Watch { me, condition, waiters, callbacks, assigned, has_own_lock: _ } = &**watch;
            if alone {
                visit.call(me)?;
            }
            for held in [condition, waiters, &assigned.result, &assigned.error] {
                visit.call(held)?;
            }
            callbacks.iter().try_for_each(|callback| visit.call(callback))
        })
    }

    fn __clear__(&self) {
        let Some(core) = self.core.get() else { return };
        let _dropped_after_the_lock = core.cell.with(|content, _| {
            let slot = match content.slot {
                Slot::Value(_) | Slot::Error(_) => {
                    std::mem::replace(&mut content.slot, Slot::Empty)
                }
                _ => Slot::Empty,
            };
            (slot, content.watch.take())
        });
    }
}

/// See `crate::shortcut`.
pub fn shortcuts(py: Python<'_>) -> PyResult<()> {
    shortcut!(py, BaseFuture, "result", 0, |py, this, []| this.core.get()?.value(py))
}
