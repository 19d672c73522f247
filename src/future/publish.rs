//! What of a completion needs Python: the `_condition`, `_waiters` and callbacks of a future
//! that somebody watches. `cell` argues why nobody is missed.

use super::cell::{Phase, View};
use super::core::{Content, Core, Slot};
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::IntoPyDict;
use std::sync::atomic::{Ordering, fence};

/// What Python code sees of a future's inside; made when it first looks or asks to be told.
#[derive(Default)]
pub(super) struct Watch {
    /// The Python object of an executor's future; until its end was published.
    pub(super) me: Option<Py<PyAny>>,
    pub(super) condition: Option<Py<PyAny>>,
    /// Its lock is a `FutureLock`.
    pub(super) has_own_lock: bool,
    pub(super) waiters: Option<Py<PyAny>>,
    pub(super) callbacks: Vec<Py<PyAny>>,
    pub(super) assigned: Assigned,
}

/// What Python code assigned to a future; from then on the standard library's methods serve it.
#[derive(Default)]
pub(super) struct Assigned {
    pub(super) state: Option<Phase>,
    pub(super) result: Option<Py<PyAny>>,
    pub(super) error: Option<Py<PyAny>>,
}

/// Which of the objects of a [`Watch`].
#[derive(Clone, Copy)]
pub(super) enum Part {
    Condition,
    Waiters,
}

impl Watch {
    pub(super) fn part(&mut self, part: Part) -> &mut Option<Py<PyAny>> {
        match part {
            Part::Condition => &mut self.condition,
            Part::Waiters => &mut self.waiters,
        }
    }

    /// Whether a callback that is added now has to be called at once.
    pub(super) fn has_called_back(&self, view: View) -> bool {
        match self.assigned.state.filter(|_| view.is_assigned()) {
            Some(phase) => phase.is_done(),
            None => view.is_done() && !view.is_due(),
        }
    }
}

impl Content {
    pub(super) fn watch(&mut self) -> &mut Watch {
        self.watch.get_or_insert_default()
    }

    /// From now on `_state` shows the end. Returns who is to be told, and what was assigned
    /// before: the outcome came after that.
    fn reveal(&mut self, py: Python<'_>, view: &mut View) -> (Option<Py<PyAny>>, Assigned) {
        view.reveal();
        view.assigned(false);
        let watch = self.watch();
        let waiters = watch.waiters.as_ref().map(|waiters| waiters.clone_ref(py));
        (waiters, std::mem::take(&mut watch.assigned))
    }
}

impl Core {
    /// Tells those who watch of its end: `_condition`, waiters, callbacks. Idempotent, any
    /// attached thread, with no lock held that Python code may want.
    ///
    /// An exception of a callback is logged as the standard library does it. `Err` only for
    /// one that is no `Exception` (KeyboardInterrupt, SystemExit); all is done even then.
    pub fn publish(&self, py: Python<'_>) -> PyResult<()> {
        let me = self.cell.with(|content, view| {
            let watch = content.watch.as_ref().filter(|_| view.is_due())?;
            watch.me.as_ref().map(|me| me.clone_ref(py))
        });
        match me {
            Some(me) => self.publish_as(me.bind(py)),
            None => Ok(()), // told before
        }
    }

    /// The same, by a method of the Python object.
    pub(super) fn publish_as(&self, me: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = me.py();
        let outcome = self.reveal(me);
        let (callbacks, _me) = self.cell.with(|content, view| {
            if !view.is_due() {
                return (Vec::new(), None);
            }
            view.callbacks_taken();
            let watch = content.watch();
            // Whose end was left to the holder of the condition is needed by that.
            let me = watch.me.take_if(|_| !view.is_hidden());
            (std::mem::take(&mut watch.callbacks), me)
        });
        outcome.and(call_all(py, &callbacks, me))
    }

    /// Makes `_state` show its end, under the condition if somebody has that. If another thread
    /// holds it, this is left to that thread, which does it as it lets go.
    pub(super) fn reveal(&self, me: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = me.py();
        let (condition, has_own_lock, waiters, _assigned) = self.cell.with(|content, view| {
            if !view.is_hidden() {
                return Default::default();
            }
            let watch = content.watch();
            let Some(condition) = &watch.condition else {
                let (waiters, assigned) = content.reveal(py, view);
                return (None, false, waiters, Some(assigned));
            };
            watch.me.get_or_insert_with(|| me.clone().unbind());
            (Some(condition.clone_ref(py)), watch.has_own_lock, None, None)
        });
        let Some(condition) = condition else {
            return waiters.map_or(Ok(()), |waiters| self.tell(waiters.bind(py), me));
        };
        let condition = condition.bind(py);
        let interrupted = if has_own_lock {
            fence(Ordering::SeqCst); // `lock` says why
            match take(condition, false)? {
                (true, interrupted) => interrupted,
                (false, interrupted) => return interrupted,
            }
        } else {
            take(condition, true)?.1
        };
        let told = self.reveal_held(me, condition);
        let released = condition.call_method0("release").map(drop);
        interrupted.and(told).and(released)
    }

    /// What [`Self::reveal`] has left to the thread that calls this.
    pub(super) fn reveal_left(&self, py: Python<'_>) -> PyResult<()> {
        let me = self.cell.with(|content, _| {
            let watch = content.watch.as_ref()?;
            watch.me.as_ref().map(|me| me.clone_ref(py))
        });
        let Some(me) = me else { return Ok(()) }; // its publisher has not come to it yet
        let outcome = self.reveal(me.bind(py));
        // Nothing of it is left to anybody: it no longer keeps itself.
        let _me = self.cell.with(|content, view| {
            let is_over = !view.is_hidden() && !view.is_due();
            content.watch.as_mut().filter(|_| is_over)?.me.take()
        });
        outcome
    }

    fn reveal_held(&self, me: &Bound<'_, PyAny>, condition: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = me.py();
        let (waiters, _assigned) = self.cell.with(|content, view| {
            if view.is_hidden() { content.reveal(py, view) } else { Default::default() }
        });
        let told = waiters.map_or(Ok(()), |waiters| self.tell(waiters.bind(py), me));
        told.and(condition.call_method0("notify_all").map(drop))
    }

    /// Tells waiters of `cf.wait` and `as_completed`; the caller holds the condition.
    pub(super) fn tell(&self, waiters: &Bound<'_, PyAny>, me: &Bound<'_, PyAny>) -> PyResult<()> {
        let method = self.cell.with(|content, view| match (view.phase(), &content.slot) {
            (Phase::Notified, _) => Some("add_cancelled"),
            (Phase::Finished, Slot::Error(_)) => Some("add_exception"),
            (Phase::Finished, Slot::Encoded(encoded)) if encoded.is_error() => {
                Some("add_exception")
            }
            (Phase::Finished, _) => Some("add_result"),
            _ => None, // of a cancelled one they are told when the worker has noticed
        });
        if let Some(method) = method {
            for waiter in waiters.try_iter()? {
                waiter?.call_method1(method, (me,))?;
            }
        }
        Ok(())
    }
}

/// Acquires a condition. Also a ^C that came meanwhile, to be raised once all are told.
fn take(condition: &Bound<'_, PyAny>, blocking: bool) -> PyResult<(bool, PyResult<()>)> {
    let mut interrupted = Ok(());
    loop {
        match condition.call_method1("acquire", (blocking,)).and_then(|taken| taken.extract()) {
            Ok(taken) => return Ok((taken, interrupted)),
            Err(error) if error.is_instance_of::<PyException>(condition.py()) => return Err(error),
            Err(error) => interrupted = Err(error),
        }
    }
}

/// Calls each callback; exceptions are logged, others than `Exception`s are raised in the end.
pub(super) fn call_all(
    py: Python<'_>,
    callbacks: &[Py<PyAny>],
    me: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let mut outcome = Ok(());
    for callback in callbacks {
        let called = call(callback.bind(py), me);
        outcome = outcome.and(called);
    }
    outcome
}

/// Calls one.
pub(super) fn call(callback: &Bound<'_, PyAny>, me: &Bound<'_, PyAny>) -> PyResult<()> {
    static LOGGER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = me.py();
    let Err(error) = callback.call1((me,)) else { return Ok(()) };
    if !error.is_instance_of::<PyException>(py) {
        return Err(error);
    }
    let logger = LOGGER.import(py, "concurrent.futures._base", "LOGGER")?;
    let keywords = [("exc_info", error.into_value(py))];
    let keywords = keywords.into_py_dict(py)?;
    let arguments = ("exception calling callback for %r", me);
    logger.call_method("error", arguments, Some(&keywords)).map(drop)
}
