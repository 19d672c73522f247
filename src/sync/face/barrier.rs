//! `plait.Barrier`.

use super::{Made, Seconds, Standing, belongs_here, describe, standing, task_party, wait};
use crate::aio::awaitable::Awaitable;
use crate::sync::barrier::{Arrival, Barrier};
use crate::sync::line::Acquire;
use crate::sync::party::Party;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};
use std::pin::pin;
use std::sync::Arc;

/// A meeting point of a fixed number of threads and tasks: `threading.Barrier` for both.
///
/// Unlike the standard library's, the barrier is ready for the next round at once: nobody waits
/// for those who have passed to be on their way.
///
/// Args:
///     parties: how many have to meet.
///     action: called by the last to come, before the others go on.
///     timeout: seconds, for calls of `wait` that give none.
///
/// Raises:
///     ValueError: ``parties`` is below 1.
///
/// >>> from plait import Barrier, Thread
/// >>> barrier = Barrier(2, action=lambda: print("met"))
/// >>> Thread(target=barrier.wait).start(); _ = barrier.wait()
/// met
#[pyclass(frozen, weakref, subclass, name = "Barrier", module = "plait.sync")]
pub struct PyBarrier {
    made: Made<Meeting>,
}

struct Meeting {
    barrier: Arc<Barrier>,
    action: Option<Py<PyAny>>,
    timeout: Option<Seconds>,
}

fn broken() -> PyErr {
    Python::attach(|py| {
        static BROKEN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let class = BROKEN.import(py, "threading", "BrokenBarrierError");
        class.and_then(Bound::call0).map_or_else(|error| error, PyErr::from_value)
    })
}

/// Arrives, acts if it is the last to, and passes; as the so-maniest.
async fn meet(
    barrier: Arc<Barrier>,
    action: Option<Py<PyAny>>,
    party: Party,
    timed: bool,
) -> PyResult<usize> {
    loop {
        match Acquire::new(Arc::clone(&barrier), party, (), timed).await? {
            Arrival::Passed(index) => return Ok(index),
            Arrival::Broken => return Err(broken()),
            Arrival::Closed => {
                Acquire::new(Arc::clone(barrier.gate()), party, (), timed).await?;
            }
            Arrival::Last { index, round } => {
                if let Some(action) = &action
                    && let Err(error) = Python::attach(|py| action.call0(py).map(drop))
                {
                    barrier.abort();
                    return Err(error);
                }
                return if barrier.release(round) { Ok(index) } else { Err(broken()) };
            }
        }
    }
}

impl Meeting {
    fn future(
        &self,
        py: Python<'_>,
        party: Party,
        timed: bool,
    ) -> impl Future<Output = PyResult<usize>> + Send + use<> {
        let action = self.action.as_ref().map(|action| action.clone_ref(py));
        meet(Arc::clone(&self.barrier), action, party, timed)
    }
}

#[pymethods]
impl PyBarrier {
    /// Subclasses may take other arguments in their `__init__`.
    #[new]
    #[pyo3(
        signature = (*_args: "object", **_kwargs: "object"),
        text_signature = "(parties, action=None, timeout=None)"
    )]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self { made: Made::later("Barrier") }
    }

    #[pyo3(signature = (parties, action=None, timeout=None))]
    fn __init__(
        &self,
        parties: i64,
        action: Option<Py<PyAny>>,
        timeout: Option<Seconds>,
    ) -> PyResult<()> {
        let parties = usize::try_from(parties).ok().filter(|parties| *parties > 0);
        let parties = parties.ok_or_else(|| PyValueError::new_err("parties must be > 0"))?;
        self.made.make(Meeting { barrier: Arc::new(Barrier::new(parties)), action, timeout })
    }

    /// Wait until all are there.
    ///
    /// Args:
    ///     timeout: the most seconds to wait; None: the barrier's own. When they are over, the
    ///         barrier is broken.
    ///
    /// Returns:
    ///     As the how-many-th the caller came, from 0.
    ///
    /// Raises:
    ///     threading.BrokenBarrierError: it was broken or reset, or time was up.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<Seconds>) -> PyResult<usize> {
        let made = self.made.get()?;
        let timeout = timeout.or(made.timeout);
        let (me, deadline) = (Party::this_thread(), timeout.and_then(Seconds::deadline));
        let mut meeting = pin!(made.future(py, me, timeout.is_some()));
        loop {
            if let Some(passed) = wait(py, meeting.as_mut(), deadline)? {
                return passed;
            }
            if made.barrier.time_out(me) {
                return Err(broken());
            }
            // All were there in time; it is the action that takes long.
            let gate = Arc::clone(made.barrier.gate());
            wait(py, Acquire::new(gate, me, (), true), None)?.transpose()?;
        }
    }

    /// Wait in a coroutine until all are there; gives as the how-many-th it came.
    ///
    /// A task that is cancelled is no longer there; the barrier stays whole.
    fn wait_async(&self, py: Python<'_>) -> PyResult<Awaitable> {
        let meeting = self.made.get()?.future(py, task_party(py)?, false);
        Ok(Awaitable::of(async move {
            let index = meeting.await?;
            Python::attach(|py| Ok(index.into_pyobject(py)?.into_any().unbind()))
        })
        .named("wait_async"))
    }

    /// Make it as new; who waits gets `threading.BrokenBarrierError`.
    fn reset(&self) -> PyResult<()> {
        self.made.get()?.barrier.reset();
        Ok(())
    }

    /// Break it: who waits, and who comes, gets `threading.BrokenBarrierError`.
    fn abort(&self) -> PyResult<()> {
        self.made.get()?.barrier.abort();
        Ok(())
    }

    /// How many have to meet.
    #[getter]
    fn parties(&self) -> PyResult<usize> {
        Ok(self.made.get()?.barrier.parties())
    }

    /// How many are waiting.
    #[getter]
    fn n_waiting(&self) -> PyResult<usize> {
        Ok(self.made.get()?.barrier.waiting())
    }

    /// Whether it is broken.
    #[getter]
    fn broken(&self) -> PyResult<bool> {
        Ok(self.made.get()?.barrier.is_broken())
    }

    #[getter]
    fn _engine(&self) -> PyResult<usize> {
        Ok(Arc::as_ptr(&self.made.get()?.barrier).addr())
    }

    fn _statistics(&self) -> PyResult<Standing> {
        Ok(standing(&*self.made.get()?.barrier))
    }

    fn __reduce__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Err(belongs_here(&slf.get_type().name()?.to_cow()?))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let barrier = &slf.get().made.get()?.barrier;
        if barrier.is_broken() {
            return describe(slf, "Barrier", "broken");
        }
        let state = format!("waiters={}/{}", barrier.waiting(), barrier.parties());
        describe(slf, "Barrier", &state)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.made.as_option().map_or(Ok(()), |made| visit.call(&made.action))
    }
}
