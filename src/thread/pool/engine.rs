//! A pool's threads: starting them, what they do, and their end.
//!
//! The loop is here, in Rust, because a Python one costs as much as a small task. So there are
//! frames of Rust below Python's on these threads; src/exit_guard.rs keeps CPython from
//! unwinding them at exit. The threads themselves are CPython's: they are started by `starter`.

use super::face::{Attempt, PoolThread};
use super::here::{Counts, Here};
use super::queue::{End, Next, Put, Queue};
use super::task::{Started, invoke, note_limits, note_runner};
use crate::error::locked;
use crate::forked::generation;
use crate::future::{Call, Completion, Core, Outcome, make};
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::PyType;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A task that waits in the queue.
pub type Job = Arc<Core>;

/// A thread that calls functions of C only would keep the GIL: CPython looks whether others want
/// it only between bytecodes. As `sys.getswitchinterval` has it by default.
const TURN: Duration = Duration::from_millis(5);

pub struct Pool {
    pub queue: Queue<Job>,
    pub generation: u64,
    /// The class of its futures.
    future: Py<PyType>,
    /// `starter(thread)` starts one that calls `thread.serve()`; `None` after the end.
    starter: Mutex<Option<Py<PyAny>>>,
    threads: Mutex<Vec<Arc<Here>>>,
    /// Why it is broken.
    reason: Mutex<Option<String>>,
}

/// Calls a function of `plait._thread_words`.
fn words<'py>(
    py: Python<'py>,
    name: &str,
    arguments: impl pyo3::call::PyCallArgs<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    py.import("plait._thread_words")?.getattr(name)?.call1(arguments)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Pool {
    pub fn new(limit: usize, future: Py<PyType>, starter: Py<PyAny>) -> Arc<Self> {
        Arc::new(Self {
            queue: Queue::new(limit),
            generation: generation(),
            future,
            starter: Mutex::new(Some(starter)),
            threads: Mutex::default(),
            reason: Mutex::default(),
        })
    }

    /// The task's future.
    pub fn submit(self: &Arc<Self>, py: Python<'_>, call: Call) -> PyResult<Py<PyAny>> {
        let (future, job) = self.prepare(py, call)?;
        self.put(py, job)?;
        Ok(future)
    }

    /// The same, by a shortcut: PyO3 is told that this thread is attached where it must know.
    pub fn submit_quickly(self: &Arc<Self>, py: Python<'_>, call: Call) -> PyResult<Py<PyAny>> {
        let (future, job) = self.prepare(py, call)?;
        match self.queue.put(job) {
            Put::Queued => {}
            put => Python::attach(|py| self.has_put(py, put))?,
        }
        Ok(future)
    }

    /// A task, which is not queued yet.
    fn prepare(self: &Arc<Self>, py: Python<'_>, call: Call) -> PyResult<(Py<PyAny>, Job)> {
        let has_limits = call.limits.is_some();
        let core = Core::of_call(Arc::clone(self) as Arc<_>, call);
        if has_limits {
            note_limits(&core);
        }
        let future = make(self.future.bind(py), Arc::clone(&core))?;
        core.untrack(future.bind(py));
        Ok((future, core))
    }

    pub fn put(self: &Arc<Self>, py: Python<'_>, job: Job) -> PyResult<()> {
        self.has_put(py, self.queue.put(job))
    }

    fn has_put(self: &Arc<Self>, py: Python<'_>, put: Put<Job>) -> PyResult<()> {
        match put {
            Put::Queued => Ok(()),
            Put::NeedsThread => self.start(py),
            Put::Refused(end, job) => {
                drop(job);
                Err(self.refusal(py, end))
            }
        }
    }

    fn refusal(&self, py: Python<'_>, end: End) -> PyErr {
        let kind = if end == End::Broken { "broken" } else { "closed" };
        let reason = locked(&self.reason).clone();
        words(py, "refusal", (kind, reason)).map_or_else(|error| error, PyErr::from_value)
    }

    /// Starts the thread that the queue has asked for. When that fails and there is no other, what
    /// waits fails.
    fn start(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        let thread = Py::new(py, PoolThread::new(Arc::clone(self)))?;
        let starter = locked(&self.starter).as_ref().map(|starter| starter.clone_ref(py));
        let started = match starter {
            Some(starter) => starter.call1(py, (&thread,)).map(drop),
            None => Err(self.refusal(py, End::Closed)),
        };
        let Err(error) = started else { return Ok(()) };
        if !thread.get().claim() {
            return Err(error); // it runs: this came from a signal handler
        }
        let unserved = self.queue.retract();
        if unserved.is_empty() && error.is_instance_of::<PyException>(py) {
            return Ok(());
        }
        let value = error.clone_ref(py).into_value(py).into_any();
        self.fail(py, unserved, || Outcome::Error(value.clone_ref(py)));
        Err(error)
    }

    fn fail(&self, py: Python<'_>, jobs: Vec<Job>, outcome: impl Fn() -> Outcome) {
        for core in jobs {
            let Some(call) = core.take_call() else { continue };
            drop(call);
            if core.complete(outcome()) == Completion::NeedsPublish {
                self.publish(py, &core);
            }
        }
    }

    fn publish(&self, py: Python<'_>, core: &Core) {
        if let Err(error) = core.publish(py) {
            let told = words(py, "report_callback", (error.into_value(py),));
            told.map_or_else(|error| error.write_unraisable(py, None), drop);
        }
    }

    // ---- in its threads ---------------------------------------------------------------------

    /// What a thread does, until there is nothing to do for it any more.
    pub fn serve(self: &Arc<Self>, py: Python<'_>, here: &Arc<Here>) {
        locked(&self.threads).push(Arc::clone(here));
        Here::set(Some(Arc::clone(here)));
        self.serve_jobs(py, here);
        Here::set(None);
        if self.generation == generation() {
            locked(&self.threads).retain(|other| !Arc::ptr_eq(other, here));
        }
    }

    fn serve_jobs(self: &Arc<Self>, py: Python<'_>, here: &Arc<Here>) {
        let (mut announced, mut now) = (false, Instant::now());
        let mut turn = now;
        loop {
            let next = self.queue.next(announced);
            announced = false;
            match next {
                Next::Job(core, is_last) => {
                    let Some(call) = core.take_call() else { continue };
                    announced = self.run(py, here, call, &core, is_last);
                    drop(core);
                    if self.generation != generation() {
                        return; // the task has forked, and this is the child
                    }
                    let began = std::mem::replace(&mut now, Instant::now());
                    Counts::add(&here.counts.tasks, 1);
                    Counts::add(&here.counts.busy, nanoseconds(now - began));
                    if now - turn > TURN {
                        py.detach(|| {});
                        turn = Instant::now();
                    }
                }
                Next::Park => {
                    here.counts.idle.store(true, Ordering::Relaxed);
                    py.detach(|| self.queue.park());
                    here.counts.idle.store(false, Ordering::Relaxed);
                    let began = std::mem::replace(&mut now, Instant::now());
                    Counts::add(&here.counts.waited, nanoseconds(now - began));
                    turn = now;
                }
                Next::Leave => return,
            }
        }
    }

    /// Runs a task, and completes its future. Whether the thread was announced as idle, which it
    /// may be after what was the last task.
    fn run(
        self: &Arc<Self>,
        py: Python<'_>,
        here: &Here,
        call: Call,
        core: &Arc<Core>,
        is_last: bool,
    ) -> bool {
        let started = Started::new(py, self, &call, core);
        let attempt = started.and_then(|started| Attempt::watch(py, started));
        note_runner(core);
        here.begin(core);
        let outcome = invoke(&call, py, &here.blank);
        here.end(py);
        drop(call);
        if attempt.is_some_and(|attempt| !attempt.get().finish()) {
            if self.generation == generation() {
                self.queue.unblock(); // it was late, and nobody waits for it any more
            }
            return false;
        }
        let outcome = match outcome {
            Ok(value) => Outcome::Value(value),
            Err(error) => Outcome::Error(error.into_value(py).into_any()),
        };
        if self.generation != generation() {
            let _ = core.complete(outcome);
            return false;
        }
        let announced = is_last && here.depth() == 0 && self.queue.announce();
        if core.complete(outcome) == Completion::NeedsPublish {
            if announced && self.queue.retire_call() {
                let _ = self.start(py); // what waits is told
            }
            self.publish(py, core);
            return false;
        }
        announced
    }

    /// A thread of the pool that waits for a task runs it.
    pub fn run_inside(self: &Arc<Self>, py: Python<'_>, here: &Here, call: Call, core: &Arc<Core>) {
        self.has_died();
        self.run(py, here, call, core, false);
        Counts::add(&here.counts.tasks, 1);
    }

    /// A job in the queue is none any more.
    pub fn has_died(&self) {
        let dead = self.queue.died(|core| !core.has_call());
        if !dead.is_empty() {
            Python::attach(|_| drop(dead));
        }
    }

    /// A thread of the pool is blocked until `queue.unblock()`: there may be one more.
    pub fn block(self: &Arc<Self>, py: Python<'_>) {
        if self.queue.block() {
            let _ = self.start(py); // then there is one less: what waits is told if it was the last
        }
    }

    /// Does something that blocks this thread, which is one of the pool's.
    pub fn blocked<T>(self: &Arc<Self>, py: Python<'_>, body: impl FnOnce() -> T) -> T {
        struct Unblock<'a>(&'a Pool);
        impl Drop for Unblock<'_> {
            fn drop(&mut self) {
                self.0.queue.unblock();
            }
        }
        self.block(py);
        let _unblock = Unblock(self);
        body()
    }

    pub fn stop_task(&self, py: Python<'_>, core: &Arc<Core>) -> bool {
        let threads = locked(&self.threads).clone();
        threads.iter().any(|here| here.stop(py, core))
    }

    // ---- its end ----------------------------------------------------------------------------

    /// Takes no more tasks; `cancel`: those that have not begun are cancelled.
    pub fn close(&self, py: Python<'_>, cancel: bool) {
        let cancelled = self.queue.end(End::Closed, cancel);
        self.fail(py, cancelled, || Outcome::Cancelled);
    }

    /// A thread could not begin: no task will have an outcome.
    pub fn break_down(&self, py: Python<'_>, reason: String) {
        locked(&self.reason).get_or_insert(reason);
        let jobs = self.queue.end(End::Broken, true);
        self.queue.left();
        let error = self.refusal(py, End::Broken).into_value(py).into_any();
        self.fail(py, jobs, || Outcome::Error(error.clone_ref(py)));
    }

    pub fn threads(&self) -> Vec<Arc<Here>> {
        locked(&self.threads).clone()
    }

    /// Lets go of what starts threads, which may refer to whatever its user likes.
    pub fn forget_starter(&self) -> Option<Py<PyAny>> {
        locked(&self.starter).take()
    }
}
