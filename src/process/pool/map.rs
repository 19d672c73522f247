//! `map` and `imap_unordered`: what takes their results (`map_feed` has what sends the items).

use super::answer::Ticket;
use super::common::Shared;
use super::driver::Attended;
use super::map_feed::Source;
use super::map_results::{MapState, Slot};
use super::message::Kind;
use super::state::{Names, Options};
use crate::future::Decoded;
use crate::trace::waits::Wait;
use pyo3::exceptions::{PyStopIteration, PyTimeoutError};
use pyo3::prelude::*;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;
use std::time::Instant;

/// What all of a map's tasks have in common.
pub struct Plan {
    /// Until it has ended.
    pub names: Mutex<Names>,
    pub kind: Kind,
    pub options: Option<Arc<Options>>,
    pub chunksize: Option<usize>,
    pub buffersize: Option<usize>,
    pub is_ordered: bool,
    pub deadline: Option<Instant>,
    /// How many items there are, if that is known.
    pub length: Option<usize>,
}

/// A running map; its iterator and the pool (which finishes what is not iterated) have it.
pub struct Map {
    pub(super) pool: Arc<Shared>,
    pub plan: Plan,
    pub(super) state: Arc<MapState>,
    pub(super) source: Mutex<Source>,
    pub(super) yielded: AtomicUsize,
    /// From how many taken results on the next one who takes is to look for further items.
    pub(super) hungry_from: AtomicUsize,
    /// How many results there are in all; `usize::MAX`: more may come.
    pub(super) total: AtomicUsize,
    pub(super) is_closed: AtomicBool,
    pub(super) is_started: AtomicBool,
    /// The thread that feeds, or did so last.
    pub(super) feeder: Mutex<Option<ThreadId>>,
}

impl Map {
    pub fn new(pool: Arc<Shared>, plan: Plan, items: Py<PyAny>) -> Self {
        let state = Arc::new(MapState::new(Arc::clone(&pool.words), plan.is_ordered));
        Self {
            pool,
            plan,
            state,
            source: Mutex::new(Source::new(items)),
            yielded: AtomicUsize::new(0),
            hungry_from: AtomicUsize::new(0),
            total: AtomicUsize::new(usize::MAX),
            is_closed: AtomicBool::new(false),
            is_started: AtomicBool::new(false),
            feeder: Mutex::default(),
        }
    }

    fn is_used_up(&self) -> bool {
        self.yielded.load(Ordering::Acquire) == self.total.load(Ordering::Acquire)
    }

    /// Whether all of one that nobody iterates is done.
    pub fn is_over(&self) -> bool {
        self.state.is_unwanted() && self.state.dropped() == self.total.load(Ordering::Acquire)
    }

    /// Has all who wait for its results look again.
    pub(super) fn wake(&self, py: Python<'_>) -> PyResult<()> {
        self.pool.pool.board.users.ring();
        self.state.publish(py)
    }

    /// The next result, if it is there. `Err`: it is an exception.
    fn take(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let Some(slot) = self.state.take() else { return Ok(None) };
        self.yielded.fetch_add(1, Ordering::AcqRel);
        if self.is_used_up() {
            self.wake(py)?;
        }
        let error = match slot {
            Slot::Answer(mut answer) => match answer.decode(py) {
                Ok(Decoded::Value(value)) => return Ok(Some(value)),
                Ok(Decoded::Error(error)) => PyErr::from_value(error.into_bound(py)),
                Err(error) => error,
            },
            Slot::Refused(error) => error,
            Slot::Cancelled | Slot::Waiting => self.pool.cancelled(py),
        };
        if self.plan.is_ordered {
            self.close(py)?; // as the standard library's map: what comes after it is not wanted
        }
        Err(error)
    }

    /// The next result, waiting for it. `Ok(None)`: there is none.
    fn next(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.is_started.store(true, Ordering::Relaxed);
        loop {
            if self.is_closed.load(Ordering::Acquire) {
                return Ok(None);
            }
            self.feed_if_hungry(py)?;
            if let Some(value) = self.take(py)? {
                return Ok(Some(value));
            }
            self.feed(py, false)?; // rather than wait
            if self.is_used_up() {
                return self.finish(py).map_or(Ok(None), Err);
            }
            let is_ready = || {
                self.state.is_ready() || self.is_used_up() || self.is_closed.load(Ordering::Acquire)
            };
            let _traced = Wait::for_result();
            if self.pool.wait(py, &is_ready, self.plan.deadline)? == Attended::TimedOut {
                self.close(py)?;
                return Err(PyTimeoutError::new_err("the map has not ended within its timeout"));
            }
        }
    }

    /// Nothing of it is left to be done. What its iterator failed with, once.
    fn finish(&self, py: Python<'_>) -> Option<PyErr> {
        if !self.is_closed.swap(true, Ordering::AcqRel) {
            self.pool.map_ended(self);
        }
        // Who feeds is about to let go of it: there is nothing to be fed any more.
        let source = self.source(py, true);
        source.ok().flatten().and_then(|mut source| source.failure.take())
    }

    /// What has not begun will not.
    ///
    /// # Errors
    /// What was raised by those who are told that nothing will come.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.abandon();
        self.wake(py)
    }

    fn abandon(&self) {
        if !self.is_closed.swap(true, Ordering::AcqRel) {
            let state = &self.state;
            let is_mine =
                |ticket: &Ticket| matches!(ticket, Ticket::Map(map) if Arc::ptr_eq(map, state));
            self.pool.engine().abandon(is_mine);
            self.pool.map_ended(self);
        }
    }
}

/// The iterator of a `map`: results as they are asked for; it sends out further items then.
#[pyclass(frozen)]
pub struct PoolMap {
    pub map: Arc<Map>,
}

#[pymethods]
impl PoolMap {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.map.next(py)
    }

    fn __aiter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, PyAny>> {
        let module = slf.py().import("plait._async_results")?;
        module.call_method1("iterate", (slf,))
    }

    /// Without waiting: a tuple of the next result, None if it isn't there yet. Raises
    /// StopIteration at the end, or the result's exception.
    #[pyo3(signature = () -> "tuple[object] | None")]
    fn poll(&self, py: Python<'_>) -> PyResult<Option<(Py<PyAny>,)>> {
        let map = &self.map;
        map.is_started.store(true, Ordering::Relaxed);
        if map.is_closed.load(Ordering::Acquire) {
            return Err(PyStopIteration::new_err(()));
        }
        map.feed_if_hungry(py)?;
        if let Some(value) = map.take(py)? {
            return Ok(Some((value,)));
        }
        map.feed(py, false)?;
        if map.is_used_up() {
            return Err(map.finish(py).unwrap_or_else(|| PyStopIteration::new_err(())));
        }
        Ok(None)
    }

    /// Has `callback` called, by any thread, when the next result is there, or none will come;
    /// False: that is so now.
    fn notify(&self, callback: Py<PyAny>) -> bool {
        let map = &self.map;
        map.state.notify(callback, || map.is_used_up() || map.is_closed.load(Ordering::Acquire))
    }

    /// Takes back what has not begun; there are no further results.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.map.close(py)
    }
}

impl Drop for PoolMap {
    fn drop(&mut self) {
        // Begun and dropped: the rest is not wanted. Never begun: it was called for what the
        // function does, and all of it is done.
        if self.map.is_started.load(Ordering::Relaxed) || self.map.plan.length.is_none() {
            self.map.abandon();
        } else {
            self.map.state.discard();
        }
    }
}
