//! `gather` of awaitables: children tell their group that they are done, with no task and
//! no callback for each. Semantics are `asyncio.gather`'s.

use super::awaitable::{Awaitable, By};
use super::bridge::Running;
use super::settled::{Settled, cancelled_error};
use super::start::Start;
use pyo3::exceptions::{PyRecursionError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::PyList;
use pyo3::{PyTraverseError, PyVisit};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A class of its own, not an `Arc`, so that the garbage collector sees through it.
#[pyclass(frozen)]
pub struct Group {
    top: Py<Awaitable>,
    children: Vec<Py<Awaitable>>,
    left: AtomicUsize,
    cancelled: AtomicBool,
    return_exceptions: bool,
    pub(super) depth: usize,
}

/// Groups within groups are begun, ended and dropped by recursion; a thread's stack has room for
/// some thousands.
const DEEPEST: usize = 500;

/// Awaitables that are to be gathered when this one is begun.
pub fn gather(
    py: Python<'_>,
    children: Vec<Py<Awaitable>>,
    return_exceptions: bool,
) -> PyResult<Awaitable> {
    for child in &children {
        child.get().hand_over(py);
    }
    let depth = 1 + children.iter().map(|child| child.get().depth(py)).max().unwrap_or(0);
    if depth > DEEPEST {
        let message = format!("gather() within gather() more than {DEEPEST} times");
        return Err(PyRecursionError::new_err(message));
    }
    Ok(Awaitable::new(Start::Gather { children, return_exceptions, depth }).named("gather"))
}

impl Group {
    pub fn new(
        top: &Bound<'_, Awaitable>,
        children: Vec<Py<Awaitable>>,
        return_exceptions: bool,
        depth: usize,
    ) -> Self {
        Self {
            depth,
            top: top.clone().unbind(),
            left: AtomicUsize::new(children.len()),
            children,
            cancelled: AtomicBool::new(false),
            return_exceptions,
        }
    }

    /// Starts the children, in order. One that waits on another loop ends the group: it could
    /// not tell this one's thread that it is done.
    pub fn begin(slf: &Bound<'_, Self>, running: &Running<'_>) -> PyResult<()> {
        let (py, group) = (slf.py(), slf.get());
        let top = group.top.bind(py);
        if group.children.iter().any(|child| child.get().waits_elsewhere(py, top.get())) {
            let error = PyRuntimeError::new_err(
                "gather() got an awaitable that was started on a different event loop",
            );
            Awaitable::settle(top, Settled::error(py, error), By::Other);
            return Ok(());
        }
        for child in &group.children {
            let child = child.bind(py);
            Awaitable::begin_on(child, running)?;
            if !child.get().join(slf) {
                Self::child_done(slf, child, By::Other);
            }
        }
        if group.children.is_empty() {
            group.finish(py, By::Other);
        }
        Ok(())
    }

    pub fn child_done(slf: &Bound<'_, Self>, child: &Bound<'_, Awaitable>, by: By) {
        let (py, group) = (slf.py(), slf.get());
        if !group.return_exceptions
            && let Some(Err(error)) = child.get().settled(py)
        {
            Awaitable::settle(group.top.bind(py), Settled::error(py, error), by);
        }
        if group.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            group.finish(py, by);
        }
    }

    /// Cancels what is not done; the group ends when its children have.
    pub fn cancel(slf: &Bound<'_, Self>, message: Option<&Py<PyAny>>) -> bool {
        let (py, group) = (slf.py(), slf.get());
        // Before the children: the last of them ends the group.
        group.cancelled.store(true, Ordering::Release);
        let mut any = false;
        for child in &group.children {
            let message = message.map(|message| message.clone_ref(py));
            any |= Awaitable::cancel(child.bind(py).clone(), message);
        }
        if !any {
            group.cancelled.store(false, Ordering::Release);
        }
        any
    }

    fn finish(&self, py: Python<'_>, by: By) {
        let top = self.top.bind(py);
        if top.get().is_done(py) {
            return;
        }
        let settled = if self.cancelled.load(Ordering::Acquire) {
            Settled::error(py, cancelled_error(py, None))
        } else {
            self.results(py).map_or_else(|error| Settled::error(py, error), Settled::Value)
        };
        Awaitable::settle(top, settled, by);
    }

    fn results(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let results = PyList::empty(py);
        for child in &self.children {
            match child.get().take(py) {
                Some(Ok(value)) => results.append(value)?,
                Some(Err(error)) => results.append(error.into_value(py))?,
                None => unreachable!("every child is done"),
            }
        }
        Ok(results.into_any().unbind())
    }
}

#[pymethods]
impl Group {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.top)?;
        self.children.iter().try_for_each(|child| visit.call(child))
    }
}
