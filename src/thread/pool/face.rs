//! What Python sees of a pool of threads: the base class of `plait.ThreadPoolExecutor`, whose
//! `submit` is here because a Python one would cost half as much as all of it.

use super::engine::Pool;
use super::here::Here;
use super::queue::End;
use super::task::Started;
use crate::context;
use crate::error::locked;
use crate::future::untracked::tuple;
use crate::future::{Call, Limits};
use crate::shortcut::{AnyShortcut, Original, install_any};
use crate::sync::queue::guard::{Guard, Guarded};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};
use std::ffi::c_ulong;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The base class of `plait.ThreadPoolExecutor`; its other base is the standard library's.
#[pyclass(frozen, subclass, weakref)]
pub struct BaseThreadPool {
    pool: Guard<Option<Arc<Pool>>>,
}

type ThreadStats = (c_ulong, u64, f64, f64, f64, bool);

impl BaseThreadPool {
    fn opened(&self) -> Guarded<'_, Option<Arc<Pool>>> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pool(&self) -> PyResult<Arc<Pool>> {
        let pool = self.opened().clone();
        pool.ok_or_else(|| PyRuntimeError::new_err("ThreadPoolExecutor.__init__() was not called"))
    }
}

#[pymethods]
impl BaseThreadPool {
    /// Subclasses may take arguments in their `__init__`.
    #[new]
    #[pyo3(signature = (*_args: "object", **_kwargs: "object"))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self { pool: Guard::new(None) }
    }

    /// Begins; once more in a forked child, which has none of the threads.
    fn _open(&self, limit: usize, starter: Py<PyAny>, future: Py<PyType>) {
        let opened = Pool::new(limit, future, starter);
        let old = self.opened().replace(opened);
        // A lock of it may be held by a thread that is gone.
        std::mem::forget(old);
    }

    /// Schedules `fn(*args, **kwargs)` in a thread; its future.
    #[pyo3(signature = (r#fn, /, *args: "object", **kwargs: "object"))]
    fn submit(
        &self,
        py: Python<'_>,
        r#fn: Py<PyAny>,
        args: Py<PyTuple>,
        kwargs: Option<Py<PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        let context = context::variables(py)?.map(Bound::unbind);
        self.pool()?.submit(py, Call { function: r#fn, args, kwargs, context, limits: None })
    }

    /// The same, with limits.
    #[pyo3(signature = (
        function: "object",
        args: "tuple[object, ...]",
        kwargs: "dict[str, object] | None",
        timeout: "float | None",
        retries: "int",
        name: "str | None",
    ))]
    #[expect(clippy::too_many_arguments, reason = "Python's private caller names them")]
    fn _submit_limited(
        &self,
        py: Python<'_>,
        function: Py<PyAny>,
        args: Py<PyTuple>,
        kwargs: Option<Py<PyDict>>,
        timeout: Option<f64>,
        retries: u32,
        name: Option<String>,
    ) -> PyResult<Py<PyAny>> {
        let context = context::variables(py)?.map(Bound::unbind);
        let limits = Some(Box::new(Limits { timeout, retries, name }));
        self.pool()?.submit(py, Call { function, args, kwargs, context, limits })
    }

    /// Takes no more tasks; `cancel`: those that have not begun are cancelled.
    fn _close(&self, py: Python<'_>, cancel: bool) -> PyResult<()> {
        let pool = self.pool()?;
        pool.close(py, cancel);
        let starter = pool.forget_starter();
        drop(starter);
        Ok(())
    }

    /// Why it takes no tasks: "closed", "broken", or None.
    #[getter]
    fn _ended(&self) -> PyResult<Option<&'static str>> {
        Ok(self.pool()?.queue.ended().map(|end| match end {
            End::Closed => "closed",
            End::Broken => "broken",
        }))
    }

    /// Tasks that wait for a thread.
    #[getter]
    fn _waiting(&self) -> PyResult<usize> {
        Ok(self.pool()?.queue.len())
    }

    /// Of each thread: ident, tasks, seconds in tasks, without one, and since it began, idle.
    fn _counts(&self) -> PyResult<Vec<ThreadStats>> {
        let seconds = |nanoseconds: u64| nanoseconds as f64 / 1e9;
        let threads = self.pool()?.threads();
        Ok(threads
            .iter()
            .map(|here| {
                let counts = &here.counts;
                (
                    here.ident,
                    counts.tasks.load(Ordering::Relaxed),
                    seconds(counts.busy.load(Ordering::Relaxed)),
                    seconds(counts.waited.load(Ordering::Relaxed)),
                    counts.started.elapsed().as_secs_f64(),
                    counts.idle.load(Ordering::Relaxed),
                )
            })
            .collect())
    }

    /// Whether the calling thread is one of its own.
    fn _is_here(&self) -> PyResult<bool> {
        let pool = self.pool()?;
        Ok(Here::current().is_some_and(|here| Arc::ptr_eq(&here.pool, &pool)))
    }
}

impl Drop for BaseThreadPool {
    /// Nobody will submit any more: the threads leave when they have done what there is.
    fn drop(&mut self) {
        let pool = self.opened().take();
        if let Some(pool) = pool {
            pool.queue.end(End::Closed, false);
        }
    }
}

/// Calls `wait()`, which blocks this thread; if it is one of a pool's, that has one thread more
/// for so long.
#[pyfunction]
pub fn blocked(py: Python<'_>, wait: Py<PyAny>) -> PyResult<Py<PyAny>> {
    let call = || wait.call0(py);
    match Here::current() {
        Some(here) => here.pool.blocked(py, call),
        None => call(),
    }
}

/// A thread that is to be started for a pool.
#[pyclass(frozen)]
pub struct PoolThread {
    pool: Arc<Pool>,
    is_claimed: AtomicBool,
}

impl PoolThread {
    pub fn new(pool: Arc<Pool>) -> Self {
        Self { pool, is_claimed: AtomicBool::new(false) }
    }

    /// By the thread when it begins, or by who gave up starting it: true for the first.
    pub fn claim(&self) -> bool {
        !self.is_claimed.swap(true, Ordering::AcqRel)
    }
}

#[pymethods]
impl PoolThread {
    /// For the thread: it begins. False: it is not wanted any more.
    fn begin(&self) -> bool {
        self.claim()
    }

    /// Runs the pool's tasks until the pool's end.
    fn serve(&self, py: Python<'_>, ident: c_ulong) {
        self.pool.serve(py, &Here::new(Arc::clone(&self.pool), ident));
    }

    /// The thread could not begin: the pool is broken.
    fn break_down(&self, py: Python<'_>, reason: String) {
        self.pool.break_down(py, reason);
    }
}

/// An attempt at a task with a time limit; see `plait._deadlines`.
#[pyclass(frozen)]
pub struct Attempt {
    /// Until it has ended, one way or the other.
    started: Mutex<Option<Started>>,
    /// When its time is over; `time.monotonic`'s seconds are counted by who watches.
    #[pyo3(get)]
    timeout: f64,
    #[pyo3(get)]
    name: Option<String>,
}

#[pymethods]
impl Attempt {
    /// Its time is over: `error` is what its future fails with, if it isn't tried again.
    fn expire(&self, py: Python<'_>, error: Py<PyAny>) -> PyResult<()> {
        let started = locked(&self.started).take();
        started.map_or(Ok(()), |started| started.expire(py, error))
    }
}

impl Attempt {
    pub fn watch(py: Python<'_>, started: Started) -> Option<Py<Self>> {
        static WATCH: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let timeout = started.limits.timeout?;
        let name = started.limits.name.clone();
        let attempt = Self { started: Mutex::new(Some(started)), timeout, name };
        let attempt = Py::new(py, attempt).ok()?;
        let watched = WATCH
            .import(py, "plait._deadlines", "watch")
            .and_then(|watch| watch.call1((&attempt,)));
        if let Err(error) = watched {
            error.write_unraisable(py, None); // no thread could be had: it has no limit then
        }
        Some(attempt)
    }

    /// The call has ended. False: it was late.
    pub fn finish(&self) -> bool {
        locked(&self.started).take().is_some()
    }
}

/// `submit(fn, *args)`; see `crate::shortcut`.
struct Submit;

impl AnyShortcut for Submit {
    type Class = BaseThreadPool;
    const NAME: &'static str = "submit";

    fn original() -> &'static Original {
        static ORIGINAL: Original = Original::unknown();
        &ORIGINAL
    }

    #[inline(always)]
    fn quick(
        py: Python<'_>,
        this: &BaseThreadPool,
        given: &[Borrowed<'_, '_, PyAny>],
    ) -> Option<PyResult<Py<PyAny>>> {
        let (function, args) = given.split_first()?;
        let pool = this.opened().clone()?;
        let context = context::variables(py).ok()?.map(Bound::unbind);
        let args = tuple(py, args).ok()?.unbind();
        let function = Bound::clone(function).unbind();
        let call = Call { function, args, kwargs: None, context, limits: None };
        Some(pool.submit_quickly(py, call))
    }
}

pub fn shortcuts(py: Python<'_>) -> PyResult<()> {
    install_any::<Submit>(py)
}
