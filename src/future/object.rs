//! The Python object of a future: what its methods (`face`) are made of.

use super::cell::{Phase, View};
use super::core::{Completion, Core, Decoded, Outcome};
use super::lock::FutureLock;
use super::publish::{Part, Watch};
use pyo3::exceptions::{PyRuntimeError, PyTimeoutError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyList, PySuper, PyTuple, PyType};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// A Python object of `class`, `plait.Future` or a subclass, for an executor's new core. Its
/// `__init__` is not called: `BaseFuture` has nothing to do there.
#[allow(unsafe_code, reason = "PyO3 has no call of tp_new, which costs a third of a call")]
pub fn make(class: &Bound<'_, PyType>, core: Arc<Core>) -> PyResult<Py<PyAny>> {
    let (py, class) = (class.py(), class.as_type_ptr());
    let nothing = PyTuple::empty(py);
    // SAFETY: attached. The type is alive, and its slot, if it has one, takes the type, a tuple
    // and perhaps a dict, and returns a new reference or null with an exception set.
    let future = unsafe {
        let new = (*class).tp_new;
        let made = new.map(|new| new(class, nothing.as_ptr(), std::ptr::null_mut()));
        Bound::from_owned_ptr_or_err(py, made.unwrap_or(std::ptr::null_mut()))?
    };
    let base = future.cast::<BaseFuture>()?;
    if base.get().core.set(core).is_err() {
        return Err(PyTypeError::new_err("a Future's __new__ must not use the future"));
    }
    Ok(future.unbind())
}

/// A future: the Python half.
#[pyclass(frozen, subclass, weakref)]
pub struct BaseFuture {
    /// Set by `make`, or on first use when Python code made the object.
    pub(super) core: OnceLock<Arc<Core>>,
}

/// A name of `concurrent.futures._base`.
fn stdlib<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    static BASE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let base =
        BASE.get_or_try_init(py, || py.import("concurrent.futures._base").map(Bound::unbind))?;
    base.bind(py).getattr(name)
}

fn error_of(py: Python<'_>, name: &str, message: Option<String>) -> PyErr {
    let error = stdlib(py, name).and_then(|class| match message {
        Some(message) => class.call1((message,)),
        None => class.call0(),
    });
    error.map_or_else(|error| error, PyErr::from_value)
}

const STATES: [(&str, Phase); 5] = [
    ("PENDING", Phase::Pending),
    ("RUNNING", Phase::Running),
    ("FINISHED", Phase::Finished),
    ("CANCELLED", Phase::Cancelled),
    ("CANCELLED_AND_NOTIFIED", Phase::Notified),
];

pub(super) fn state_name(phase: Phase) -> &'static str {
    STATES[phase as usize].0
}

pub(super) fn state_of(name: &str) -> PyResult<Phase> {
    let known = STATES.iter().find(|(known, _)| *known == name);
    known
        .map(|(_, phase)| *phase)
        .ok_or_else(|| PyValueError::new_err(format!("'{name}' is no state of a future")))
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

/// A value or an exception; neither while there is none.
pub(super) type Outcomes<'py> = (Option<Bound<'py, PyAny>>, Option<Bound<'py, PyAny>>);

/// By whom its state is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// By its methods: it is done once it is.
    Raw,
    /// Through `_state` and its like: under the condition, it is done once that is published.
    Published,
}

impl Seen {
    fn hides(self, view: View) -> bool {
        self == Self::Published && view.is_hidden()
    }
}

/// What a wait came to.
pub(super) enum Waited {
    Finished,
    /// What was assigned is to be looked at, for so many seconds at most.
    Assigned(Option<f64>),
}

impl BaseFuture {
    pub fn core(&self) -> &Arc<Core> {
        self.core.get_or_init(Core::of_python)
    }

    pub(super) fn is_assigned(&self) -> bool {
        self.core().view().is_assigned()
    }

    /// What the standard library's method does, on what was assigned.
    pub(super) fn inherited<'py>(
        slf: &Bound<'py, Self>,
        method: &str,
        arguments: impl pyo3::call::PyCallArgs<'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let class = slf.py().get_type::<Self>();
        PySuper::new(&class, slf)?.getattr(method)?.call1(arguments)
    }

    /// Waits until it has finished; raises if it was cancelled or time is up.
    pub(super) fn wait(slf: &Bound<'_, Self>, timeout: Option<f64>) -> PyResult<Waited> {
        let (py, core) = (slf.py(), slf.get().core());
        let mut until = None;
        if !core.is_done() {
            until = deadline(timeout)?;
            core.wait(py, until)?;
        }
        let view = core.view();
        if view.is_assigned() {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            return Ok(Waited::Assigned(left.map_or(timeout, |left| Some(left.as_secs_f64()))));
        }
        if view.is_cancelled() {
            return Err(error_of(py, "CancelledError", None));
        }
        if !view.is_done() {
            return Err(PyTimeoutError::new_err(()));
        }
        Ok(Waited::Finished)
    }

    /// Its state, as assigned or else as it is; or as those may see it who look at `_state`.
    pub(super) fn phase(&self, seen: Seen) -> Phase {
        let core = self.core();
        // One look for all: between two it may end, and be seen before it is published.
        let (view, assigned) = core.cell.with(|content, view| {
            (*view, content.watch.as_ref().and_then(|watch| watch.assigned.state))
        });
        match (assigned, view.phase()) {
            (Some(assigned), _) => assigned,
            (None, _) if seen.hides(view) => Phase::Running,
            (None, Phase::Pending) if core.has_begun() => Phase::Running,
            (None, phase) => phase,
        }
    }

    /// The value or the exception, likewise.
    pub(super) fn outcome<'py>(&self, py: Python<'py>, seen: Seen) -> PyResult<Outcomes<'py>> {
        let core = self.core();
        let (view, assigned) = core.cell.with(|content, view| {
            let watch = content.watch.as_ref().filter(|_| view.is_assigned());
            let assigned = watch.map(|watch| {
                let [value, error] = [&watch.assigned.result, &watch.assigned.error];
                [value, error].map(|held| held.as_ref().map(|held| held.bind(py).clone()))
            });
            (*view, assigned)
        });
        if let Some([value, error]) = assigned {
            return Ok((value, error.filter(|error| !error.is_none())));
        }
        if view.phase() != Phase::Finished || seen.hides(view) {
            return Ok((None, None));
        }
        Ok(match core.outcome(py)? {
            Decoded::Value(value) => (Some(value.into_bound(py)), None),
            Decoded::Error(error) => (None, Some(error.into_bound(py))),
        })
    }

    /// Changes what Python code sees of its inside; from now on that code is told of its end.
    /// What `change` takes out, it returns: dropping may run Python code.
    pub(super) fn watch<R>(
        slf: &Bound<'_, Self>,
        change: impl FnOnce(&mut Watch, &mut View) -> R,
    ) -> R {
        let core = slf.get().core();
        core.track();
        let mut me = core.keeps.then(|| slf.clone().into_any().unbind());
        let result = core.cell.with(|content, view| {
            view.watch();
            let watch = content.watch();
            if !view.is_done() && watch.me.is_none() {
                watch.me = me.take();
            }
            change(watch, view)
        });
        drop(me); // not needed, and not under the lock
        result
    }

    /// `_condition` or `_waiters`.
    pub(super) fn part<'py>(slf: &Bound<'py, Self>, part: Part) -> PyResult<Bound<'py, PyAny>> {
        static CONDITION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let (py, core) = (slf.py(), slf.get().core());
        let found = core.cell.with(|content, view| {
            let watch = content.watch.as_mut().filter(|_| !view.is_hidden())?;
            watch.part(part).as_ref().map(|found| found.bind(py).clone())
        });
        if let Some(found) = found {
            return Ok(found);
        }
        if matches!(part, Part::Waiters)
            && let Some(source) = core.source()
        {
            source.is_watched(py);
        }
        let new = match part {
            Part::Condition => {
                let lock = FutureLock::new(py, core)?;
                CONDITION.import(py, "threading", "Condition")?.call1((lock,))?
            }
            Part::Waiters => PyList::empty(py).into_any(),
        };
        let mut new = Some(new.unbind());
        let found = Self::watch(slf, |watch, _| {
            if watch.part(part).is_none() {
                *watch.part(part) = new.take();
                watch.has_own_lock |= matches!(part, Part::Condition);
            }
            watch.part(part).as_ref().map(|part| part.bind(py).clone())
        });
        // It may be done and not published yet: who gets its condition now need not wait. But a
        // thread that holds it has looked at `_state`, and must not miss what comes of that.
        if let (Part::Condition, Some(condition)) = (part, &found)
            && core.view().is_hidden()
            && condition
                .call_method0("_is_owned")
                .is_ok_and(|owned| owned.is(PyBool::new(py, false)))
        {
            core.reveal(slf.as_any())?;
        }
        found.ok_or_else(|| PyRuntimeError::new_err("the future was cleared"))
    }

    /// Completes it for Python code.
    pub(super) fn set(slf: &Bound<'_, Self>, outcome: Outcome) -> PyResult<()> {
        let core = slf.get().core();
        match core.complete(outcome) {
            Completion::Done => Ok(()),
            Completion::NeedsPublish => core.publish_as(slf.as_any()),
            Completion::Late => {
                let state = state_name(core.view().phase());
                let message = format!("{state}: {}", slf.repr()?.to_cow()?);
                Err(error_of(slf.py(), "InvalidStateError", Some(message)))
            }
        }
    }
}
