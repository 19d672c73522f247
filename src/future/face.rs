//! The base class of `plait.Future`, whose other base is `concurrent.futures.Future`.
//!
//! Methods work on the core. The standard library's private names are getters that make what
//! they show when it is first looked at. Code that assigns to `_state`, `_result` or
//! `_exception`, as CPython's own tests do, takes matters into its own hands: from then on the
//! standard library's methods serve that future, on what was assigned.

use super::cell::Phase;
use super::core::{Completion, Core, Decoded, Outcome, Slot};
use super::publish::{Assigned, Part, Watch, call, call_all};
use pyo3::exceptions::{PyRuntimeError, PyTimeoutError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// A Python object of `class`, `plait.Future` or a subclass, for an executor's new core.
#[allow(dead_code, reason = "the process pool uses it")]
pub fn make(class: &Bound<'_, PyType>, core: Arc<Core>) -> PyResult<Py<PyAny>> {
    let future = class.call0()?;
    let base = future.cast::<BaseFuture>()?;
    if base.get().core.set(core).is_err() {
        return Err(PyTypeError::new_err("a Future's __init__ must not use the future"));
    }
    Ok(future.unbind())
}

#[pyclass(frozen, subclass, weakref)]
pub struct BaseFuture {
    /// Set by `make`, or on first use when Python code made the object.
    core: OnceLock<Arc<Core>>,
}

/// A name of `concurrent.futures._base`.
fn stdlib<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    static BASE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let base =
        BASE.get_or_try_init(py, || py.import("concurrent.futures._base").map(Bound::unbind))?;
    base.bind(py).getattr(name)
}

fn error_of(py: Python<'_>, name: &str, message: Option<String>) -> PyErr {
    match stdlib(py, name).and_then(|class| match message {
        Some(message) => class.call1((message,)),
        None => class.call0(),
    }) {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}

const STATES: [(&str, Phase); 5] = [
    ("PENDING", Phase::Pending),
    ("RUNNING", Phase::Running),
    ("FINISHED", Phase::Finished),
    ("CANCELLED", Phase::Cancelled),
    ("CANCELLED_AND_NOTIFIED", Phase::Notified),
];

fn state_name(phase: Phase) -> &'static str {
    STATES[phase as usize].0
}

/// `None`: for ever, or longer than the clock can count.
fn deadline(timeout: Option<f64>) -> PyResult<Option<Instant>> {
    let Some(seconds) = timeout else { return Ok(None) };
    if seconds.is_nan() {
        return Err(PyValueError::new_err("timeout must be a number of seconds, got nan"));
    }
    let length = Duration::try_from_secs_f64(seconds.max(0.0)).ok();
    Ok(length.and_then(|length| Instant::now().checked_add(length)))
}

impl BaseFuture {
    pub fn core(&self) -> &Arc<Core> {
        self.core.get_or_init(Core::of_python)
    }

    fn is_assigned(&self) -> bool {
        self.core().view().is_assigned()
    }

    /// What the standard library's method does, on what was assigned.
    fn inherited<'py>(
        slf: &Bound<'py, Self>,
        method: &str,
        arguments: impl pyo3::call::PyCallArgs<'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let bound = stdlib(slf.py(), "Future")?.getattr(method)?;
        let bound = bound.call_method1("__get__", (slf,))?;
        bound.call1(arguments)
    }

    /// Waits. `None`: it has finished. Else: what was assigned is to be looked at, for so many
    /// seconds at most.
    fn wait(slf: &Bound<'_, Self>, timeout: Option<f64>) -> PyResult<Option<Option<f64>>> {
        let (py, core) = (slf.py(), slf.get().core());
        let mut until = None;
        if !core.is_done() {
            until = deadline(timeout)?;
            core.wait(py, until)?;
        }
        let view = core.view();
        if view.is_assigned() {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            return Ok(Some(left.map_or(timeout, |left| Some(left.as_secs_f64()))));
        }
        if view.is_cancelled() {
            return Err(error_of(py, "CancelledError", None));
        }
        if !view.is_done() {
            return Err(PyTimeoutError::new_err(()));
        }
        Ok(None)
    }

    /// What `_state` shows.
    fn shown(&self) -> Phase {
        let core = self.core();
        let (view, assigned) = core.cell.with(|content, view| {
            let watch = content.watch.as_ref().filter(|_| view.is_assigned());
            (*view, watch.and_then(|watch| watch.assigned.state))
        });
        match (assigned, view.phase()) {
            (Some(assigned), _) => assigned,
            (None, _) if view.is_hidden() => Phase::Running,
            (None, Phase::Pending) if core.is_running() => Phase::Running,
            (None, phase) => phase,
        }
    }

    /// The outcome, if it is finished and `_state` shows that.
    fn shown_outcome(&self, py: Python<'_>) -> PyResult<Option<Decoded>> {
        let view = self.core().view();
        if view.phase() != Phase::Finished || view.is_hidden() {
            return Ok(None);
        }
        self.core().outcome(py).map(Some)
    }

    fn assigned<'py>(
        &self,
        py: Python<'py>,
        which: impl FnOnce(&Assigned) -> &Option<Py<PyAny>>,
    ) -> Option<Bound<'py, PyAny>> {
        self.core().cell.with(|content, view| {
            let watch = content.watch.as_ref().filter(|_| view.is_assigned())?;
            which(&watch.assigned).as_ref().map(|found| found.bind(py).clone())
        })
    }

    /// Assigns; what was there before is dropped after the lock.
    fn assign<R>(&self, change: impl FnOnce(&mut Assigned) -> R) {
        let _old = self.core().cell.with(|content, view| {
            view.assigned(true);
            change(&mut content.watch().assigned)
        });
    }

    /// `_condition` or `_waiters`. Who has it is to be told of the end.
    fn part<'py>(slf: &Bound<'py, Self>, part: Part) -> PyResult<Bound<'py, PyAny>> {
        static CONDITION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let (py, core) = (slf.py(), slf.get().core());
        let found = core.cell.with(|content, view| {
            let watch = content.watch.as_mut().filter(|_| !view.is_hidden())?;
            watch.part(part).as_ref().map(|found| found.bind(py).clone())
        });
        if let Some(found) = found {
            return Ok(found);
        }
        let new = match part {
            Part::Condition => CONDITION.import(py, "threading", "Condition")?.call0()?,
            Part::Waiters => PyList::empty(py).into_any(),
        };
        let mut new = Some(new.unbind());
        let mut me = core.keeps.then(|| slf.clone().into_any().unbind());
        let part = core.cell.with(|content, view| {
            view.watch();
            let watch = content.watch();
            if !view.is_done() && watch.me.is_none() {
                watch.me = me.take();
            }
            let place = watch.part(part);
            if place.is_none() {
                *place = new.take();
            }
            place.as_ref().map(|part| part.bind(py).clone())
        });
        core.reveal(slf.as_any())?;
        part.ok_or_else(|| PyRuntimeError::new_err("the future was cleared"))
    }

    fn set_part(slf: &Bound<'_, Self>, part: Part, value: Py<PyAny>) -> PyResult<()> {
        Self::part(slf, part)?; // as if it had been handed out
        let _old =
            slf.get().core().cell.with(|content, _| content.watch().part(part).replace(value));
        Ok(())
    }

    /// Completes it for Python code.
    fn set(slf: &Bound<'_, Self>, outcome: Outcome) -> PyResult<()> {
        let core = slf.get().core();
        match core.complete(outcome) {
            Completion::Done => Ok(()),
            Completion::NeedsPublish => core.publish_as(slf.as_any()),
            Completion::Late => {
                let state = state_name(core.view().phase());
                let message = format!("{state}: {}", Self::__repr__(slf)?);
                Err(error_of(slf.py(), "InvalidStateError", Some(message)))
            }
        }
    }
}

#[pymethods]
impl BaseFuture {
    /// Subclasses may take arguments in their `__init__`.
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self { core: OnceLock::new() }
    }

    #[expect(clippy::unused_self, reason = "a slot of the class")]
    fn __init__(&self) {}

    #[pyo3(signature = (*, running=false))]
    fn cancel(slf: &Bound<'_, Self>, running: bool) -> PyResult<bool> {
        let core = slf.get().core();
        if slf.get().is_assigned() {
            return Self::inherited(slf, "cancel", ())?.extract();
        }
        if core.is_done() {
            return Ok(core.is_cancelled());
        }
        let phase = match core.source() {
            None => core
                .cell
                .with(|_, view| (view.phase() == Phase::Pending).then_some(Phase::Cancelled)),
            Some(source) => {
                let ended = source.withdraw(core) || (running && source.stop(core));
                ended.then_some(Phase::Notified)
            }
        };
        let Some(phase) = phase else { return Ok(core.is_cancelled()) };
        if core.end(phase, Slot::Empty) == Completion::NeedsPublish {
            core.publish_as(slf.as_any())?;
        }
        Ok(core.is_cancelled())
    }

    fn cancelled(slf: &Bound<'_, Self>) -> PyResult<bool> {
        if slf.get().is_assigned() {
            return Self::inherited(slf, "cancelled", ())?.extract();
        }
        Ok(slf.get().core().is_cancelled())
    }

    fn running(slf: &Bound<'_, Self>) -> PyResult<bool> {
        if slf.get().is_assigned() {
            return Self::inherited(slf, "running", ())?.extract();
        }
        Ok(slf.get().core().is_running())
    }

    fn done(slf: &Bound<'_, Self>) -> PyResult<bool> {
        if slf.get().is_assigned() {
            return Self::inherited(slf, "done", ())?.extract();
        }
        Ok(slf.get().core().is_done())
    }

    #[pyo3(signature = (timeout=None))]
    fn result<'py>(slf: &Bound<'py, Self>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(left) = Self::wait(slf, timeout)? {
            return Self::inherited(slf, "result", (left,));
        }
        let (py, core) = (slf.py(), slf.get().core());
        match core.outcome(py)? {
            Decoded::Value(value) => Ok(value.into_bound(py)),
            Decoded::Error(error) => Err(core.raise(py, error)),
        }
    }

    #[pyo3(signature = (timeout=None))]
    fn exception<'py>(
        slf: &Bound<'py, Self>,
        timeout: Option<f64>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        if let Some(left) = Self::wait(slf, timeout)? {
            let error = Self::inherited(slf, "exception", (left,))?;
            return Ok((!error.is_none()).then_some(error));
        }
        match slf.get().core().outcome(slf.py())? {
            Decoded::Value(_) => Ok(None),
            Decoded::Error(error) => Ok(Some(error.into_bound(slf.py()))),
        }
    }

    fn add_done_callback(slf: &Bound<'_, Self>, r#fn: Py<PyAny>) -> PyResult<()> {
        let (py, core) = (slf.py(), slf.get().core());
        let mut callback = Some(r#fn);
        let mut me = core.keeps.then(|| slf.clone().into_any().unbind());
        core.cell.with(|content, view| {
            let assigned = content.watch.as_ref().filter(|_| view.is_assigned());
            let assigned = assigned.and_then(|watch| watch.assigned.state);
            let taken = match assigned {
                Some(phase) => phase as u32 >= Phase::Finished as u32,
                None => view.is_done() && !view.is_due(),
            };
            if !taken {
                view.watch();
                let watch = content.watch();
                watch.callbacks.extend(callback.take());
                if watch.me.is_none() {
                    watch.me = me.take();
                }
            }
        });
        callback.map_or(Ok(()), |callback| call(callback.bind(py), slf.as_any()))
    }

    fn set_running_or_notify_cancel(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let core = slf.get().core();
        if !slf.get().is_assigned() {
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
        }
        // Logs and raises.
        Self::inherited(slf, "set_running_or_notify_cancel", ())?.extract()
    }

    fn set_result(slf: &Bound<'_, Self>, result: Py<PyAny>) -> PyResult<()> {
        if slf.get().is_assigned() {
            return Self::inherited(slf, "set_result", (result,)).map(drop);
        }
        Self::set(slf, Outcome::Value(result))
    }

    fn set_exception(slf: &Bound<'_, Self>, exception: Py<PyAny>) -> PyResult<()> {
        if slf.get().is_assigned() {
            return Self::inherited(slf, "set_exception", (exception,)).map(drop);
        }
        let none = exception.is_none(slf.py());
        Self::set(slf, if none { Outcome::Value(exception) } else { Outcome::Error(exception) })
    }

    /// `(done, cancelled, result, exception)`, as 3.14's.
    #[expect(clippy::type_complexity, reason = "the standard library's own")]
    fn _get_snapshot<'py>(
        slf: &Bound<'py, Self>,
    ) -> PyResult<(bool, bool, Option<Bound<'py, PyAny>>, Option<Bound<'py, PyAny>>)> {
        match slf.get().shown() {
            Phase::Finished => {
                let (value, error) = (Self::_result(slf)?, Self::_exception(slf)?);
                Ok((true, false, value, error))
            }
            Phase::Cancelled | Phase::Notified => Ok((true, true, None, None)),
            Phase::Pending | Phase::Running => Ok((false, false, None, None)),
        }
    }

    fn _invoke_callbacks(slf: &Bound<'_, Self>) -> PyResult<()> {
        let callbacks = slf.get().core().cell.with(|content, _| {
            content.watch.as_mut().map(|watch| std::mem::take(&mut watch.callbacks))
        });
        call_all(slf.py(), &callbacks.unwrap_or_default(), slf.as_any())
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let class = slf.get_type();
        let name = class.name()?;
        let address = slf.as_ptr();
        let state = match slf.get().shown() {
            Phase::Pending => "pending".to_owned(),
            Phase::Running => "running".to_owned(),
            Phase::Cancelled | Phase::Notified => "cancelled".to_owned(),
            Phase::Finished => match (Self::_result(slf)?, Self::_exception(slf)?) {
                (_, Some(error)) => format!("finished raised {}", error.get_type().name()?),
                (Some(value), _) => format!("finished returned {}", value.get_type().name()?),
                (None, None) => "finished returned NoneType".to_owned(),
            },
        };
        Ok(format!("<{name} at {address:p} state={state}>"))
    }

    fn __reduce__(slf: &Bound<'_, Self>) -> PyResult<()> {
        let name = slf.get_type().name()?;
        Err(PyTypeError::new_err(format!(
            "cannot pickle '{name}' object: it belongs to this process; send its result() instead"
        )))
    }

    #[getter]
    fn _condition<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::part(slf, Part::Condition)
    }

    #[setter(_condition)]
    fn set_condition(slf: &Bound<'_, Self>, value: Py<PyAny>) -> PyResult<()> {
        Self::set_part(slf, Part::Condition, value)
    }

    #[getter]
    fn _waiters<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::part(slf, Part::Waiters)
    }

    #[setter(_waiters)]
    fn set_waiters(slf: &Bound<'_, Self>, value: Py<PyAny>) -> PyResult<()> {
        Self::set_part(slf, Part::Waiters, value)
    }

    /// A copy: assigning replaces them.
    #[getter]
    fn _done_callbacks(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        self.core().cell.with(|content, _| {
            let watch = content.watch.as_ref();
            watch.map_or_else(Vec::new, |watch| {
                watch.callbacks.iter().map(|callback| callback.clone_ref(py)).collect()
            })
        })
    }

    #[setter(_done_callbacks)]
    fn set_done_callbacks(slf: &Bound<'_, Self>, value: Vec<Py<PyAny>>) -> PyResult<()> {
        Self::part(slf, Part::Waiters)?; // from now on it is watched
        let _old = slf
            .get()
            .core()
            .cell
            .with(|content, _| std::mem::replace(&mut content.watch().callbacks, value));
        Ok(())
    }

    #[getter]
    fn _state(&self) -> &'static str {
        state_name(self.shown())
    }

    #[setter(_state)]
    fn set_state(&self, value: &str) -> PyResult<()> {
        let known = STATES.iter().find(|(name, _)| *name == value);
        let (_, phase) = known
            .ok_or_else(|| PyValueError::new_err(format!("{value:?} is no state of a future")))?;
        self.assign(|assigned| assigned.state.replace(*phase));
        Ok(())
    }

    #[getter]
    fn _result<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = slf.py();
        if let Some(assigned) = slf.get().assigned(py, |assigned| &assigned.result) {
            return Ok(Some(assigned));
        }
        Ok(match slf.get().shown_outcome(py)? {
            Some(Decoded::Value(value)) => Some(value.into_bound(py)),
            _ => None,
        })
    }

    #[setter(_result)]
    fn set_result_value(&self, value: Py<PyAny>) {
        self.assign(|assigned| assigned.result.replace(value));
    }

    #[getter]
    fn _exception<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = slf.py();
        if let Some(assigned) = slf.get().assigned(py, |assigned| &assigned.error) {
            return Ok((!assigned.is_none()).then_some(assigned));
        }
        Ok(match slf.get().shown_outcome(py)? {
            Some(Decoded::Error(error)) => Some(error.into_bound(py)),
            _ => None,
        })
    }

    #[setter(_exception)]
    fn set_exception_value(&self, value: Py<PyAny>) {
        self.assign(|assigned| assigned.error.replace(value));
    }

    /// `me` is not visited while an executor may complete the future: it holds it alive.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Some(core) = self.core.get() else { return Ok(()) };
        let alone = Arc::strong_count(core) == 1;
        core.cell.with(|content, _| {
            match &content.slot {
                Slot::Value(value) => visit.call(value)?,
                Slot::Error(raised) => raised.visit(&visit)?,
                Slot::Empty | Slot::Encoded(_) | Slot::Decoding(_) => {}
            }
            let Some(watch) = &content.watch else { return Ok(()) };
            let Watch { me, condition, waiters, callbacks, assigned } = &**watch;
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
