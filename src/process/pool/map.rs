//! `map` and `imap_unordered`: items are pulled from their iterator as results are taken, in
//! batches that grow with what is measured, and never more than a window of them.

use super::answer::Ticket;
use super::answer::Words;
use super::driver::Attended;
use super::face::Shared;
use super::message::{Head, Kind, add_item};
use super::state::{Options, Task};
use crate::error::locked;
use crate::future::{Decoded, Encoded};
use pyo3::exceptions::{PyException, PyStopIteration, PyTimeoutError};
use pyo3::prelude::*;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// What a batch should take: nanoseconds. Long against what a batch costs, short against what
/// a person notices.
const BATCH_NS: f64 = 500_000.0;
/// Items and bytes of a batch at most; a ring has room for several.
const BATCH: usize = 1024;
const BATCH_BYTES: usize = 24 * 1024;
/// Bytes of items and results that are on their way, or wait to be taken, at most.
const WINDOW_BYTES: usize = 64 << 20;

enum Slot {
    Waiting,
    /// The item could not be sent.
    Refused(PyErr),
    Cancelled,
    Answer(Encoded),
}

#[derive(Default)]
struct Results {
    /// In order: from the next one to be taken on. Unordered: as they came.
    slots: VecDeque<Slot>,
    taken: u64,
    watcher: Option<Py<PyAny>>,
}

/// What a map shares with the engine.
pub struct MapState {
    pub words: Arc<Words>,
    results: Mutex<Results>,
    is_ordered: bool,
    /// Whether the next one is there.
    is_ready: AtomicBool,
    bytes: AtomicUsize,
}

impl MapState {
    fn new(words: Arc<Words>, is_ordered: bool) -> Self {
        let (is_ready, bytes) = (AtomicBool::new(false), AtomicUsize::new(0));
        Self { words, results: Mutex::default(), is_ordered, is_ready, bytes }
    }

    /// An outcome from the engine; `None`: it was cancelled. True: somebody is to be told.
    pub fn deliver(&self, index: u64, outcome: Option<Encoded>) -> bool {
        let length = outcome.as_ref().map_or(0, Encoded::length);
        self.bytes.fetch_add(length, Ordering::Relaxed);
        self.put(index, outcome.map_or(Slot::Cancelled, Slot::Answer))
    }

    fn put(&self, index: u64, slot: Slot) -> bool {
        let mut results = locked(&self.results);
        let is_next = if self.is_ordered {
            let Some(at) = index.checked_sub(results.taken) else { return false };
            if let Some(place) = results.slots.get_mut(at as usize) {
                *place = slot;
            }
            at == 0
        } else {
            results.slots.push_back(slot);
            true
        };
        if is_next {
            self.is_ready.store(true, Ordering::Release);
        }
        is_next && results.watcher.is_some()
    }

    /// Places for further results; they come before the tasks are sent.
    fn expect(&self, count: usize) {
        if self.is_ordered {
            locked(&self.results).slots.extend((0..count).map(|_| Slot::Waiting));
        }
    }

    fn take(&self) -> Option<Slot> {
        let mut results = locked(&self.results);
        if matches!(results.slots.front(), None | Some(Slot::Waiting)) {
            return None;
        }
        let slot = results.slots.pop_front();
        results.taken += 1;
        let is_ready = !matches!(results.slots.front(), None | Some(Slot::Waiting));
        self.is_ready.store(is_ready, Ordering::Release);
        if let Some(Slot::Answer(answer)) = &slot {
            self.bytes.fetch_sub(answer.length(), Ordering::Relaxed);
        }
        slot
    }

    pub fn publish(&self, py: Python<'_>) -> PyResult<()> {
        let watcher = locked(&self.results).watcher.take();
        match watcher {
            Some(watcher) => watcher.bind(py).call0().map(drop),
            None => Ok(()),
        }
    }
}

/// Where a map's items come from, and how they go out.
struct Source {
    /// `None`: it is used up, or has failed.
    items: Option<Py<PyAny>>,
    /// What it failed with, to be raised after the results of what came before.
    failure: Option<PyErr>,
    submitted: u64,
    /// Of one batch.
    buffer: Vec<u8>,
}

/// What all of a map's tasks have in common.
pub struct Plan {
    pub function: u32,
    /// Whether the function was defined for this map alone.
    pub is_own: bool,
    pub kind: Kind,
    pub context: u32,
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
    pool: Arc<Shared>,
    pub plan: Plan,
    state: Arc<MapState>,
    source: Mutex<Source>,
    yielded: AtomicUsize,
    is_closed: AtomicBool,
    is_started: AtomicBool,
}

impl Map {
    pub fn new(pool: Arc<Shared>, plan: Plan, items: Py<PyAny>) -> Self {
        let state = Arc::new(MapState::new(Arc::clone(&pool.words), plan.is_ordered));
        let source = Source { items: Some(items), failure: None, submitted: 0, buffer: Vec::new() };
        Self {
            pool,
            plan,
            state,
            source: Mutex::new(source),
            yielded: AtomicUsize::new(0),
            is_closed: AtomicBool::new(false),
            is_started: AtomicBool::new(false),
        }
    }

    /// Sends items out: up to the window, or all that there are.
    pub fn feed(&self, py: Python<'_>, all: bool) -> PyResult<()> {
        // Another thread that iterates is at it: or this very thread, from inside of the
        // user's iterator.
        let Ok(mut source) = self.source.try_lock() else { return Ok(()) };
        if self.is_closed.load(Ordering::Acquire) {
            return Ok(());
        }
        let (ahead, mean_ns) = self.pool.engine().appetite();
        let window = self.plan.buffersize.unwrap_or(2 * ahead);
        let on_its_way =
            |source: &Source| source.submitted as usize - self.yielded.load(Ordering::Relaxed);
        // Not for every result: when half of the window is free.
        if !all && self.plan.buffersize.is_none() && on_its_way(&source) > window / 2 {
            return Ok(());
        }
        let batch = self.batch(mean_ns, ahead);
        while source.items.is_some() {
            let room = window.saturating_sub(on_its_way(&source));
            let heavy = self.state.bytes.load(Ordering::Relaxed) > WINDOW_BYTES;
            if !all && (room == 0 || heavy && on_its_way(&source) > 0) {
                break;
            }
            let left = self.plan.length.map_or(batch, |length| {
                let left = length.saturating_sub(source.submitted as usize);
                left.div_ceil(4 * self.pool.max_workers).max(1)
            });
            let count = match self.plan.chunksize {
                Some(size) => size,
                None => batch.min(left),
            };
            self.send(py, &mut source, if all { count } else { count.min(room) })?;
        }
        Ok(())
    }

    fn batch(&self, mean_ns: f64, ahead: usize) -> usize {
        if mean_ns == 0.0 || self.plan.options.as_ref().is_some_and(|o| o.timeout_ns.is_some()) {
            return 1;
        }
        let several = ahead / (2 * self.pool.max_workers);
        ((BATCH_NS / mean_ns) as usize).min(several).clamp(1, BATCH)
    }

    /// Sends one batch of up to `count` items.
    fn send(&self, py: Python<'_>, source: &mut Source, count: usize) -> PyResult<()> {
        let first = source.submitted;
        let mut blocks = Vec::new();
        let mut buffer = std::mem::take(&mut source.buffer);
        buffer.clear();
        let (mut packed, mut refused) = (0, None);
        while packed < count && buffer.len() < BATCH_BYTES {
            let Some(items) = &source.items else { break };
            // The user's code, which may fail, or ask this map for its next result.
            let item = match items.bind(py).cast::<pyo3::types::PyIterator>() {
                Ok(items) => items.clone().next(),
                Err(error) => Some(Err(error.into())),
            };
            match item {
                Some(Ok(item)) => {
                    let index = first + packed as u64;
                    let added = add_item(&mut buffer, |out| {
                        self.pool.encode_item(&item, index, out, &mut blocks)
                    });
                    match added {
                        Ok(()) => packed += 1,
                        Err(error) if error.is_instance_of::<PyException>(py) => {
                            refused = Some(error);
                            break;
                        }
                        Err(error) => {
                            source.buffer = buffer;
                            self.pool.release(blocks);
                            return Err(error);
                        }
                    }
                }
                Some(Err(error)) => {
                    source.items = None;
                    if !error.is_instance_of::<PyException>(py) {
                        self.pool.release(blocks);
                        return Err(error);
                    }
                    let index = first + packed as u64;
                    source.failure = Some(self.pool.at_item(py, error, index));
                }
                None => source.items = None,
            }
        }
        self.state.expect(packed + usize::from(refused.is_some()));
        source.submitted += packed as u64;
        let sent =
            if packed > 0 { self.submit(py, first, packed, &buffer, blocks) } else { Ok(()) };
        source.buffer = buffer;
        if let Some(error) = refused {
            self.state.put(source.submitted, Slot::Refused(error));
            source.submitted += 1;
        }
        if let Err(error) = sent {
            // Nothing of it will be answered.
            source.items = None;
            self.is_closed.store(true, Ordering::Release);
            return Err(error);
        }
        Ok(())
    }

    fn submit(
        &self,
        py: Python<'_>,
        first: u64,
        count: usize,
        items: &[u8],
        blocks: Vec<super::arena::BlockId>,
    ) -> PyResult<()> {
        let head = Head { count: count as u32, ..self.pool.head(&self.plan) };
        let task = Task {
            serial: 0,
            receiver: Ticket::Map(Arc::clone(&self.state)),
            first,
            head,
            items: Vec::new(),
            blocks,
            options: self.plan.options.clone(),
            attempts: 0,
        };
        self.pool.submit(py, task, items).map(drop)
    }

    fn is_used_up(&self) -> bool {
        let Ok(source) = self.source.try_lock() else { return false };
        source.items.is_none() && source.submitted as usize == self.yielded.load(Ordering::Relaxed)
    }

    /// The next result, if it is there. `Err`: it is an exception.
    fn take(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let Some(slot) = self.state.take() else { return Ok(None) };
        self.yielded.fetch_add(1, Ordering::Relaxed);
        let error = match slot {
            Slot::Answer(mut answer) => match answer.decode(py)? {
                Decoded::Value(value) => return Ok(Some(value)),
                Decoded::Error(error) => PyErr::from_value(error.into_bound(py)),
            },
            Slot::Refused(error) => error,
            Slot::Cancelled | Slot::Waiting => self.pool.cancelled(py),
        };
        if self.plan.is_ordered {
            self.close(); // as the standard library's map: what comes after it is not wanted
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
            self.feed(py, false)?;
            if let Some(value) = self.take(py)? {
                return Ok(Some(value));
            }
            if self.is_used_up() {
                self.finish();
                let failure = self.source.try_lock().ok().and_then(|mut s| s.failure.take());
                return failure.map_or(Ok(None), Err);
            }
            let is_ready = || self.state.is_ready.load(Ordering::Acquire);
            if self.pool.wait(py, &is_ready, self.plan.deadline)? == Attended::TimedOut {
                self.close();
                return Err(PyTimeoutError::new_err("the map has not ended within its timeout"));
            }
        }
    }

    /// Nothing of it is left to be done.
    fn finish(&self) {
        if !self.is_closed.swap(true, Ordering::AcqRel) {
            self.pool.map_ended(self);
        }
    }

    /// What has not begun will not.
    pub fn close(&self) {
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

    /// Without waiting: a tuple of the next result, None if it isn't there yet. Raises
    /// StopIteration at the end, or the result's exception.
    #[pyo3(signature = () -> "tuple[object] | None")]
    fn poll(&self, py: Python<'_>) -> PyResult<Option<(Py<PyAny>,)>> {
        let map = &self.map;
        map.is_started.store(true, Ordering::Relaxed);
        if map.is_closed.load(Ordering::Acquire) {
            return Err(PyStopIteration::new_err(()));
        }
        map.feed(py, false)?;
        if let Some(value) = map.take(py)? {
            return Ok(Some((value,)));
        }
        if map.is_used_up() {
            map.finish();
            let failure = map.source.try_lock().ok().and_then(|mut s| s.failure.take());
            return Err(failure.unwrap_or_else(|| PyStopIteration::new_err(())));
        }
        Ok(None)
    }

    /// Has `callback` called, by any thread, when the next result is there; False: it is.
    fn notify(&self, callback: Py<PyAny>) -> bool {
        let state = &self.map.state;
        let mut results = locked(&state.results);
        if state.is_ready.load(Ordering::Acquire) {
            return false;
        }
        results.watcher = Some(callback);
        true
    }

    /// Takes back what has not begun; there are no further results.
    fn close(&self) {
        self.map.close();
    }
}

impl Drop for PoolMap {
    fn drop(&mut self) {
        // Begun and dropped: the rest is not wanted. Never begun: it was called for what the
        // function does, and all of it is done.
        if self.map.is_started.load(Ordering::Relaxed) || self.map.plan.length.is_none() {
            self.map.close();
        }
    }
}
