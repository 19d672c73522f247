//! A task of a pool of threads: a call, and the answers to what its future asks.

use super::engine::{Job, Pool};
use super::here::{Blank, Here};
use crate::context;
use crate::forked::generation;
use crate::future::{Completion, Core, Outcome, Source};
use crate::python::above_python;
use crate::sync::graph::face::before_result;
use crate::sync::party::Party;
use crate::sync::queue::guard::Guard;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

/// So many tasks may run one inside the other, each waiting for the next, before a thread that
/// waits has another thread started rather than running one more: each takes a piece of the
/// stack and of the recursion limit.
const DEPTH: usize = 24;

/// What a task calls, and the context that it does so in.
pub struct Call {
    pub function: Py<PyAny>,
    pub args: Py<PyTuple>,
    pub kwargs: Option<Py<PyDict>>,
    /// `None`: no variable was set. One that is not there is one less for the garbage collector.
    pub context: Option<Py<PyAny>>,
}

impl Call {
    /// `blank`: the thread's context for those that have none.
    pub fn invoke(&self, py: Python<'_>, blank: &Blank) -> PyResult<Py<PyAny>> {
        let (args, kwargs) = (self.args.bind(py), self.kwargs.as_ref().map(|held| held.bind(py)));
        let call = || self.function.bind(py).call(args, kwargs);
        let called = match &self.context {
            Some(context) => context::within(context.bind(py), call),
            None => blank.within(py, call),
        };
        called.map(Bound::unbind)
    }

    /// For another attempt, which may run at the same time.
    fn again(&self, py: Python<'_>) -> Option<Self> {
        let context = self.context.as_ref().map(|context| context::copy(context.bind(py)));
        Some(Self {
            function: self.function.clone_ref(py),
            args: self.args.clone_ref(py),
            kwargs: self.kwargs.as_ref().map(|kwargs| kwargs.clone_ref(py)),
            context: context.transpose().ok()?.map(Bound::unbind),
        })
    }
}

/// Limits of a task, and what it is called in errors.
#[derive(Clone)]
pub struct Limits {
    pub timeout: Option<f64>,
    pub retries: u32,
    pub name: Option<String>,
}

pub struct Task {
    pub pool: Arc<Pool>,
    /// Whoever takes it runs it, or sees to it that nobody does.
    call: Guard<Option<Call>>,
    pub limits: Option<Box<Limits>>,
}

impl Task {
    pub fn new(pool: Arc<Pool>, call: Call, limits: Option<Box<Limits>>) -> Self {
        Self { pool, call: Guard::new(Some(call)), limits }
    }

    /// `None`: somebody else has it.
    pub fn claim(&self) -> Option<Call> {
        self.call.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub fn is_claimed(&self) -> bool {
        self.call.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Sleeps until it is done; a deadlock if its thread waits for this one.
    fn wait_done(
        &self,
        py: Python<'_>,
        core: &Arc<Core>,
        deadline: Option<Instant>,
    ) -> PyResult<()> {
        let (watching, running) = (Arc::clone(core), Arc::clone(core));
        let has_limits = self.limits.is_some(); // then it may end otherwise
        let _watched = match deadline {
            None => Some(before_result(
                py,
                "Future",
                move || watching.is_done(),
                move || runner(&running).filter(|_| !has_limits),
            )?),
            Some(_) => None,
        };
        core.wait_done(py, deadline).map(drop)
    }

    fn is_lost(&self) -> bool {
        self.pool.generation != generation()
    }
}

/// The thread that runs the task, if one does.
fn runner(core: &Core) -> Option<Party> {
    Party::of_word(core.tokens()[0].load(Ordering::Acquire))
}

/// This thread runs it.
pub fn note_runner(core: &Core) {
    core.tokens()[0].store(Party::this_thread().word(), Ordering::Release);
}

impl Source for Task {
    /// A thread of a pool that waits would be missing there, and if all of them wait for tasks
    /// that have not begun, for ever. So it runs the task itself; or if it may not (the time to
    /// wait is limited, it is another pool's task, an event loop runs in this thread, it is at
    /// many tasks already) its pool has one thread more while it waits.
    fn wait(&self, py: Python<'_>, core: &Arc<Core>, deadline: Option<Instant>) -> PyResult<()> {
        if self.is_lost() {
            return Err(PyRuntimeError::new_err(
                "this future is of the process that was forked: its threads are not in this one",
            ));
        }
        let Some(here) = Here::current() else { return self.wait_done(py, core, deadline) };
        let may_run = deadline.is_none()
            && Arc::ptr_eq(&here.pool, &self.pool)
            && here.depth() < DEPTH
            && !runs_loop(py);
        if may_run && let Some(call) = self.claim() {
            self.pool.run_inside(py, &here, self, call, core);
        }
        if core.is_done() {
            return Ok(());
        }
        here.pool.blocked(py, || self.wait_done(py, core, deadline))
    }

    fn withdraw(&self, _core: &Arc<Core>) -> bool {
        let call = self.claim();
        let withdrawn = call.is_some();
        if withdrawn && !self.is_lost() {
            self.pool.has_died();
        }
        Python::attach(|_| above_python(|| drop(call)));
        withdrawn
    }

    fn has_begun(&self, _core: &Core) -> bool {
        self.is_claimed()
    }

    fn stop(&self, core: &Arc<Core>) -> bool {
        !self.is_lost() && Python::attach(|py| self.pool.stop(py, core))
    }

    fn is_watched(&self, py: Python<'_>) {
        if let Some(here) = Here::current()
            && !self.is_lost()
            && here.marks_blocked()
        {
            here.pool.block(py);
        }
    }
}

/// Whether an event loop runs in this thread: a task that it ran inside could not have its own.
fn runs_loop(py: Python<'_>) -> bool {
    static RUNS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let runs = RUNS.import(py, "plait._thread_words", "runs_loop").and_then(|runs| runs.call0());
    runs.and_then(|runs| runs.extract()).unwrap_or(false)
}

/// One attempt at a task that has a time limit.
pub struct Started {
    pub core: Arc<Core>,
    pub pool: Arc<Pool>,
    pub limits: Box<Limits>,
    /// For another attempt.
    again: Option<Call>,
}

impl Started {
    pub fn new(py: Python<'_>, task: &Task, call: &Call, core: &Arc<Core>) -> Option<Self> {
        let limits = task.limits.as_ref().filter(|limits| limits.timeout.is_some())?;
        let again = if limits.retries > 0 { call.again(py) } else { None };
        let (core, pool) = (Arc::clone(core), Arc::clone(&task.pool));
        Some(Self { core, pool, limits: limits.clone(), again })
    }

    /// Its time is over: tries again, or fails. The thread goes on to the end of the call and is
    /// missing until then, so there may be one more.
    pub fn expire(self, py: Python<'_>, error: Py<PyAny>) -> PyResult<()> {
        self.pool.block(py);
        if let Some(call) = self.again
            && !self.core.is_done()
        {
            let mut limits = self.limits;
            limits.retries -= 1;
            let task = Arc::new(Task::new(Arc::clone(&self.pool), call, Some(limits)));
            let job: Job = (task, Arc::clone(&self.core));
            if self.pool.put(py, job).is_ok() {
                return Ok(());
            }
        }
        match self.core.complete(Outcome::Error(error)) {
            Completion::NeedsPublish => self.core.publish(py),
            Completion::Done | Completion::Late => Ok(()),
        }
    }
}
