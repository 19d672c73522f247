//! `plait.Condition`.

use super::rlock::{enter, exit, quick_enter, quick_exit};
use super::under::{Under, let_go, not_owned};
use super::{
    Made, Patience, Seconds, Standing, belongs_here, describe, standing, task_party, truth, wait,
};
use crate::aio::awaitable::Awaitable;
use crate::aio::start::Notice;
use crate::shortcut::{Quick, shortcut};
use crate::sync::condition::Waiters;
use crate::sync::line::Acquire;
use crate::sync::lock::Lock;
use crate::sync::party::Party;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit, intern};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

/// A condition variable: `threading.Condition` and `asyncio.Condition` in one.
///
/// Threads and tasks wait in one line, and either may notify.
///
/// Args:
///     lock: what it waits under; None: a new `plait.RLock`. Any other lock will do for threads,
///         coroutines need a `plait.Lock` or `plait.RLock`.
///
/// >>> import asyncio
/// >>> from plait import Condition, Thread
/// >>> changed, stock = Condition(), []
/// >>> def produce():
/// ...     with changed:
/// ...         stock.append("apple")
/// ...         changed.notify()
/// >>> async def main():
/// ...     async with changed:
/// ...         Thread(target=produce).start()
/// ...         await changed.wait_for_async(lambda: stock)
/// ...         return stock.pop()
/// >>> asyncio.run(main())
/// 'apple'
#[pyclass(frozen, weakref, subclass, name = "Condition", module = "plait.sync")]
pub struct PyCondition {
    under: Made<Under>,
    waiters: Arc<Waiters>,
}

impl PyCondition {
    fn object<'a, 'py>(&'a self, py: Python<'py>) -> PyResult<&'a Bound<'py, PyAny>> {
        Ok(self.under.get()?.object.bind(py))
    }

    fn wait_until(&self, py: Python<'_>, timeout: Option<Seconds>) -> PyResult<bool> {
        let under = self.under.get()?;
        if !under.is_owned(py)? {
            return Err(not_owned("wait"));
        }
        let me = Party::this_thread();
        let mut notified = Acquire::new(Arc::clone(&self.waiters), me, (), timeout.is_some());
        notified.enlist();
        let saved = under.save(py)?;
        let outcome = wait(py, notified, timeout.and_then(Seconds::deadline));
        under.restore(py, saved)?;
        Ok(outcome?.transpose()?.is_some())
    }

    /// Notifies another waiter when the one that was notified takes nothing from it.
    fn deferring(
        &self,
        notice: Arc<Notice>,
        future: impl Future<Output = PyResult<Py<PyAny>>> + Send + 'static,
    ) -> Awaitable {
        let waiters = Arc::clone(&self.waiters);
        Awaitable::deferring(notice, future, move |_| waiters.notify(1))
    }
}

/// One wait of a task. However it ends, it ends with the lock held again; unless its coroutine is
/// closed while others have the lock.
async fn wait_once(
    lock: &Arc<Lock>,
    waiters: &Arc<Waiters>,
    party: Party,
    notice: &Notice,
) -> PyResult<()> {
    let owned = if lock.is_reentrant() { lock.is_held_by(party) } else { lock.is_locked() };
    if !owned {
        return Err(not_owned("wait"));
    }
    let mut notified = Acquire::new(Arc::clone(waiters), party, (), false);
    notified.enlist();
    let times = let_go(lock);
    let outcome = {
        let mut notified = pin!(notified);
        poll_fn(|context| {
            if notice.is_given() {
                return Poll::Ready(None);
            }
            notified.as_mut().poll(context).map(Some)
        })
        .await
    };
    let mut again = pin!(Acquire::new(Arc::clone(lock), party, (), false));
    let had = poll_fn(|context| match again.as_mut().poll(context) {
        Poll::Pending if notice.is_closed() => Poll::Ready(None),
        polled => polled.map(Some),
    });
    match had.await {
        Some(had) => {
            had?;
            lock.set_times(times);
        }
        // The coroutine is closed, and cannot wait: it leaves, and the lock is for others.
        None => lock.forgo(),
    }
    match outcome {
        Some(notified) => Ok(notified?),
        None => Err(Python::attach(|py| notice.error(py))),
    }
}

#[pymethods]
impl PyCondition {
    /// Subclasses may take other arguments in their `__init__`.
    #[new]
    #[pyo3(signature = (*_args: "object", **_kwargs: "object"), text_signature = "(lock=None)")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self { under: Made::later("Condition"), waiters: Arc::default() }
    }

    #[pyo3(signature = (lock=None))]
    fn __init__(&self, py: Python<'_>, lock: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        self.under.make(Under::new(py, lock)?)
    }

    /// The lock's own `acquire`.
    #[getter]
    fn acquire<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.object(py)?.getattr(intern!(py, "acquire"))
    }

    /// The lock's own `acquire_async`.
    #[getter]
    fn acquire_async<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.under.get()?.engine(py)?;
        self.object(py)?.getattr(intern!(py, "acquire_async"))
    }

    /// The lock's own `release`.
    #[getter]
    fn release<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.object(py)?.getattr(intern!(py, "release"))
    }

    /// Whether anybody has the lock.
    fn locked<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.object(py)?.call_method0(intern!(py, "locked"))
    }

    /// Let the lock go, wait to be notified, and take the lock again.
    ///
    /// However it ends, the lock is held again: an exception of a signal handler (^C) comes
    /// once it is.
    ///
    /// Args:
    ///     timeout: the most seconds to wait to be notified; None: no limit.
    ///
    /// Returns:
    ///     Whether it was notified.
    ///
    /// Raises:
    ///     RuntimeError: the caller has not taken the lock.
    ///     ValueError: the timeout is nan.
    ///     OverflowError: it is longer than `threading.TIMEOUT_MAX`.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<Seconds>) -> PyResult<bool> {
        self.wait_until(py, timeout)
    }

    /// Wait until ``predicate()`` is true.
    ///
    /// Args:
    ///     predicate: called with the lock held, at first and after each notification.
    ///     timeout: the most seconds to wait; None: no limit.
    ///
    /// Returns:
    ///     What it returned last: something false when time was up.
    ///
    /// Raises:
    ///     RuntimeError: the caller has not taken the lock.
    #[pyo3(signature = (predicate, timeout=None))]
    fn wait_for<'py>(
        &self,
        py: Python<'py>,
        predicate: Bound<'py, PyAny>,
        timeout: Option<Seconds>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let deadline = timeout.and_then(Seconds::deadline);
        loop {
            let value = predicate.call0()?;
            let left = deadline.map(Seconds::until);
            if value.is_truthy()? || left.is_some_and(Seconds::is_over) {
                return Ok(value);
            }
            self.wait_until(py, left)?;
        }
    }

    /// Wait to be notified, in a coroutine that has taken the lock; gives True.
    ///
    /// A task that is cancelled goes on once it has the lock again, so that ``async with`` can
    /// let it go; a notification that it had got goes to the next.
    fn wait_async(&self, py: Python<'_>) -> PyResult<Awaitable> {
        let (lock, waiters) = (self.under.get()?.engine(py)?, Arc::clone(&self.waiters));
        let (party, value, notice) = (task_party(py)?, truth(py), Arc::<Notice>::default());
        let given = Arc::clone(&notice);
        Ok(self
            .deferring(notice, async move {
                wait_once(&lock, &waiters, party, &given).await?;
                Ok(value)
            })
            .named("wait_async"))
    }

    /// Wait in a coroutine until ``predicate()``, a plain function, is true; gives its value.
    fn wait_for_async(&self, py: Python<'_>, predicate: Py<PyAny>) -> PyResult<Awaitable> {
        let (lock, waiters) = (self.under.get()?.engine(py)?, Arc::clone(&self.waiters));
        let (party, notice) = (task_party(py)?, Arc::<Notice>::default());
        let given = Arc::clone(&notice);
        Ok(self
            .deferring(notice, async move {
                loop {
                    let found = Python::attach(|py| {
                        let value = predicate.call0(py)?;
                        Ok::<_, PyErr>(value.is_truthy(py)?.then_some(value))
                    })?;
                    if let Some(value) = found {
                        return Ok(value);
                    }
                    wait_once(&lock, &waiters, party, &given).await?;
                    if given.is_closed() {
                        // It was notified, and tells the next as its value comes to nobody.
                        return Ok(Python::attach(|py| py.None()));
                    }
                }
            })
            .named("wait_for_async"))
    }

    /// Notify the first ``n`` who wait, threads or tasks.
    ///
    /// Raises:
    ///     RuntimeError: the caller has not taken the lock.
    #[pyo3(signature = (n=1))]
    fn notify(&self, py: Python<'_>, n: i64) -> PyResult<()> {
        if !self.under.get()?.is_owned(py)? {
            return Err(not_owned("notify"));
        }
        self.waiters.notify(usize::try_from(n).unwrap_or(0));
        Ok(())
    }

    /// Notify all who wait.
    fn notify_all(&self, py: Python<'_>) -> PyResult<()> {
        self.notify(py, i64::MAX)
    }

    /// An old name of `notify_all`.
    #[pyo3(name = "notifyAll")]
    fn notify_all_by_its_old_name(&self, py: Python<'_>) -> PyResult<()> {
        let category = py.get_type::<pyo3::exceptions::PyDeprecationWarning>();
        PyErr::warn(py, &category, c"notifyAll() is deprecated, use notify_all() instead", 1)?;
        self.notify_all(py)
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let under = self.under.get()?;
        match &under.lock {
            Some(lock) if lock.is_reentrant() => {
                enter(py, lock, Patience::Until(None))?;
                Ok(truth(py))
            }
            _ => under.object.call_method0(py, intern!(py, "__enter__")),
        }
    }

    #[pyo3(signature = (kind=None, error=None, traceback=None))]
    fn __exit__(
        &self,
        py: Python<'_>,
        kind: Option<&Bound<'_, PyAny>>,
        error: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let under = self.under.get()?;
        match &under.lock {
            Some(lock) if lock.is_reentrant() => exit(py, lock).map(|()| py.None()),
            _ => {
                let exit = intern!(py, "__exit__");
                under.object.call_method1(py, exit, (kind, error, traceback))
            }
        }
    }

    fn __aenter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.under.get()?.engine(py)?;
        self.object(py)?.call_method0(intern!(py, "__aenter__"))
    }

    #[pyo3(signature = (*exc: "object"))]
    fn __aexit__<'py>(
        &self,
        py: Python<'py>,
        exc: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.object(py)?.call_method1(intern!(py, "__aexit__"), exc)
    }

    #[getter]
    fn _lock<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.object(py)?.clone())
    }

    fn _is_owned(&self, py: Python<'_>) -> PyResult<bool> {
        self.under.get()?.is_owned(py)
    }

    /// Of its lock, as the standard library's.
    fn _release_save(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let lock = self.object(py)?;
        let own = lock.getattr_opt(intern!(py, "_release_save"))?;
        let saved =
            own.map_or_else(|| lock.call_method0(intern!(py, "release")), |own| own.call0());
        saved.map(Bound::unbind)
    }

    fn _acquire_restore(&self, py: Python<'_>, state: Py<PyAny>) -> PyResult<()> {
        let lock = self.object(py)?;
        let own = lock.getattr_opt(intern!(py, "_acquire_restore"))?;
        match own {
            Some(own) => own.call1((state,)),
            None => lock.call_method0(intern!(py, "acquire")),
        }
        .map(drop)
    }

    fn _at_fork_reinit(&self, py: Python<'_>) -> PyResult<()> {
        self.object(py)?.call_method0(intern!(py, "_at_fork_reinit"))?;
        self.waiters.forget();
        Ok(())
    }

    #[getter]
    fn _engine(&self) -> usize {
        Arc::as_ptr(&self.waiters).addr()
    }

    fn _statistics(&self) -> Standing {
        standing(&*self.waiters)
    }

    fn __reduce__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Err(belongs_here(&slf.get_type().name()?.to_cow()?))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let object = slf.get().object(slf.py())?;
        let lock = object.repr()?;
        let state = format!("{}, {} waiting", lock.to_cow()?, slf.get().waiters.count());
        describe(slf, "Condition", &state)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.under.as_option().map_or(Ok(()), |under| visit.call(&under.object))
    }
}

impl PyCondition {
    /// Its lock, if that is an RLock of plait's.
    #[inline]
    fn rlock(&self) -> Option<&Lock> {
        let lock = self.under.as_option()?.lock.as_ref()?;
        lock.is_reentrant().then_some(&**lock)
    }

    fn quick_notify(&self, py: Python<'_>) -> Quick {
        let nobody =
            self.rlock()?.is_held_by(Party::this_thread()) && !self.waiters.is_waited_for();
        nobody.then(|| py.None())
    }
}

/// See `crate::shortcut`.
pub fn shortcuts(py: Python<'_>) -> PyResult<()> {
    shortcut!(py, PyCondition, "__enter__", |py, this| quick_enter(py, this.rlock()?))?;
    shortcut!(py, PyCondition, "__exit__", 3, |py, this, [_, _, _]| {
        quick_exit(py, this.rlock()?)
    })?;
    shortcut!(py, PyCondition, "notify", 0, |py, this, []| this.quick_notify(py))?;
    shortcut!(py, PyCondition, "notify_all", |py, this| this.quick_notify(py))
}
