//! A task of a pool of threads: a call, and the answers to what its future asks.

use super::engine::Pool;
use super::here::{Blank, Here};
use crate::context;
use crate::forked::generation;
use crate::future::{Call, Completion, Core, Limits, Outcome, Source};
use crate::sync::graph::face::before_result;
use crate::sync::party::Party;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// So many tasks may run one inside the other, each waiting for the next, before a thread that
/// waits has another thread started rather than running one more: each takes a piece of the
/// stack and of the recursion limit.
const DEPTH: usize = 24;

/// Calls it. `blank`: the thread's context for those that have none.
pub fn invoke(call: &Call, py: Python<'_>, blank: &Blank) -> PyResult<Py<PyAny>> {
    let (args, kwargs) = (call.args.bind(py), call.kwargs.as_ref().map(|held| held.bind(py)));
    let body = || call.function.bind(py).call(args, kwargs);
    let called = match &call.context {
        Some(context) => context::within(context.bind(py), body),
        None => blank.within(py, body),
    };
    called.map(Bound::unbind)
}

/// For another attempt, which may run at the same time.
fn again(call: &Call, limits: &Limits, py: Python<'_>) -> Option<Call> {
    let context = call.context.as_ref().map(|context| context::copy(context.bind(py)));
    let retries = limits.retries.checked_sub(1)?;
    Some(Call {
        function: call.function.clone_ref(py),
        args: call.args.clone_ref(py),
        kwargs: call.kwargs.as_ref().map(|kwargs| kwargs.clone_ref(py)),
        context: context.transpose().ok()?.map(Bound::unbind),
        limits: Some(Box::new(Limits { retries, ..limits.clone() })),
    })
}

impl Pool {
    /// Sleeps until it is done; a deadlock if its thread waits for this one.
    fn wait_done(
        &self,
        py: Python<'_>,
        core: &Arc<Core>,
        deadline: Option<Instant>,
    ) -> PyResult<()> {
        let (watching, running) = (Arc::clone(core), Arc::clone(core));
        let has_limits = has_limits(core); // then it may end otherwise
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
        self.generation != generation()
    }
}

/// The thread that runs the task, if one does.
fn runner(core: &Core) -> Option<Party> {
    Party::of_word(core.tokens()[0].load(Ordering::Acquire))
}

/// Notes, before it is queued, that it may end before its call has.
pub fn note_limits(core: &Core) {
    core.tokens()[1].store(1, Ordering::Relaxed);
}

fn has_limits(core: &Core) -> bool {
    core.tokens()[1].load(Ordering::Relaxed) != 0
}

/// This thread runs it.
pub fn note_runner(core: &Core) {
    core.tokens()[0].store(Party::this_thread().word(), Ordering::Release);
}

impl Source for Pool {
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
            && std::ptr::eq(&raw const *here.pool, self)
            && here.depth() < DEPTH
            && !runs_loop(py);
        if may_run && let Some(call) = core.take_call() {
            here.pool.run_inside(py, &here, call, core);
        }
        if core.is_done() {
            return Ok(());
        }
        here.pool.blocked(py, || self.wait_done(py, core, deadline))
    }

    fn withdraw(&self, core: &Arc<Core>) -> bool {
        let call = core.take_call();
        let withdrawn = call.is_some();
        if withdrawn && !self.is_lost() {
            self.has_died();
        }
        Python::attach(|_| drop(call));
        withdrawn
    }

    fn has_begun(&self, core: &Core) -> bool {
        !core.has_call()
    }

    fn stop(&self, core: &Arc<Core>) -> bool {
        !self.is_lost() && Python::attach(|py| self.stop_task(py, core))
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
    pub fn new(py: Python<'_>, pool: &Arc<Pool>, call: &Call, core: &Arc<Core>) -> Option<Self> {
        let limits = call.limits.as_ref().filter(|limits| limits.timeout.is_some())?;
        let again = again(call, limits, py);
        let (core, pool) = (Arc::clone(core), Arc::clone(pool));
        Some(Self { core, pool, limits: limits.clone(), again })
    }

    /// Its time is over: tries again, or fails. The thread goes on to the end of the call and is
    /// missing until then, so there may be one more.
    pub fn expire(self, py: Python<'_>, error: Py<PyAny>) -> PyResult<()> {
        self.pool.block(py);
        if let Some(call) = self.again
            && !self.core.is_done()
        {
            self.core.put_call(call);
            if self.pool.put(py, Arc::clone(&self.core)).is_ok() {
                return Ok(());
            }
            drop(self.core.take_call());
        }
        match self.core.complete(Outcome::Error(error)) {
            Completion::NeedsPublish => self.core.publish(py),
            Completion::Done | Completion::Late => Ok(()),
        }
    }
}
