//! `map` and `imap_unordered`: items are pulled from their iterator as results are taken, in
//! batches that grow with what is measured, and never more than a window of them.

use super::answer::Ticket;
use super::arena::BlockId;
use super::common::Shared;
use super::driver::Attended;
use super::map_results::{MapState, Slot};
use super::message::{Head, Kind, add_item};
use super::state::{Names, Options, Task};
use crate::error::locked;
use crate::future::Decoded;
use crate::python::above_python;
use crate::trace::waits::Wait;
use pyo3::exceptions::{PyException, PyStopIteration, PyTimeoutError};
use pyo3::prelude::*;
use pyo3::types::PyIterator;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

/// What a batch should take: nanoseconds. Long against what a batch costs, short against what
/// a person notices.
const BATCH_NS: f64 = 500_000.0;
/// Items and bytes of a batch at most; a ring has room for several.
const BATCH: usize = 1024;
const BATCH_BYTES: usize = 24 * 1024;
/// Bytes of items and results that are on their way, or wait to be taken, at most.
const WINDOW_BYTES: usize = 64 << 20;

/// Batches that are sent together.
const PARTS: usize = 64;
/// From then on items that come one after the other are sent one after the other.
const SLOW: Duration = Duration::from_micros(200);
/// How often it is looked whether another thread is done with feeding.
const FEEDING: Duration = Duration::from_millis(1);

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

/// A batch in the buffer.
struct Part {
    first: u64,
    start: usize,
    end: usize,
    count: u32,
    blocks: Vec<BlockId>,
}

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
    pool: Arc<Shared>,
    pub plan: Plan,
    state: Arc<MapState>,
    source: Mutex<Source>,
    yielded: AtomicUsize,
    /// From how many taken results on the next one who takes is to look for further items.
    hungry_from: AtomicUsize,
    /// How many results there are in all; `usize::MAX`: more may come.
    total: AtomicUsize,
    is_closed: AtomicBool,
    is_started: AtomicBool,
    /// The thread that feeds, or did so last.
    feeder: Mutex<Option<ThreadId>>,
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
            hungry_from: AtomicUsize::new(0),
            total: AtomicUsize::new(usize::MAX),
            is_closed: AtomicBool::new(false),
            is_started: AtomicBool::new(false),
            feeder: Mutex::default(),
        }
    }

    /// `None`: another thread is at it, or this very thread, from inside of the user's iterator.
    /// `waits`: for another one.
    fn source(&self, py: Python<'_>, waits: bool) -> PyResult<Option<MutexGuard<'_, Source>>> {
        let me = std::thread::current().id();
        loop {
            if let Ok(source) = self.source.try_lock() {
                *locked(&self.feeder) = Some(me);
                return Ok(Some(source));
            }
            if !waits || *locked(&self.feeder) == Some(me) {
                return Ok(None);
            }
            py.detach(|| std::thread::sleep(FEEDING));
            py.check_signals()?;
        }
    }

    /// For every result, before it is taken: feeds if it is time.
    fn feed_if_hungry(&self, py: Python<'_>) -> PyResult<()> {
        if self.yielded.load(Ordering::Relaxed) < self.hungry_from.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.feed(py, false)
    }

    /// Sends items out: up to the window, or all that there are.
    pub fn feed(&self, py: Python<'_>, all: bool) -> PyResult<()> {
        let Some(mut source) = self.source(py, all)? else { return Ok(()) };
        if self.is_closed.load(Ordering::Acquire) || source.items.is_none() {
            self.hungry_from.store(usize::MAX, Ordering::Relaxed);
            return Ok(());
        }
        let (ahead, mean_ns) = self.pool.engine().appetite();
        let window = self.plan.buffersize.unwrap_or(2 * ahead);
        let on_its_way =
            |source: &Source| source.submitted as usize - self.yielded.load(Ordering::Relaxed);
        // Not for every result: when half of the window is free. The user's own is kept full.
        let slack = if self.plan.buffersize.is_some() { usize::MAX } else { window / 2 };
        let hungry_from = |source: &Source| (source.submitted as usize).saturating_sub(slack);
        self.hungry_from.store(hungry_from(&source), Ordering::Relaxed);
        if !all && self.yielded.load(Ordering::Relaxed) < hungry_from(&source) {
            return Ok(());
        }
        let batch = self.batch(mean_ns, ahead);
        let began = Instant::now();
        while source.items.is_some() {
            let mut room = usize::MAX;
            if !all {
                room = window.saturating_sub(on_its_way(&source));
                let heavy = self.state.bytes() > WINDOW_BYTES;
                // Items that are slow to come must not keep results waiting that are there.
                let is_slow = began.elapsed() > SLOW
                    && (self.state.is_ready()
                        || on_its_way(&source) >= self.pool.max_workers && !self.has_begun());
                if room == 0 {
                    self.hungry_from.store(hungry_from(&source), Ordering::Relaxed);
                    break;
                }
                if heavy && on_its_way(&source) > 0 || is_slow {
                    break;
                }
            }
            self.send(py, &mut source, batch, room)?;
        }
        Ok(())
    }

    /// Whether its tasks have a time limit.
    fn has_limit(&self) -> bool {
        self.plan.options.as_ref().is_some_and(|options| options.timeout_ns.is_some())
    }

    fn has_begun(&self) -> bool {
        self.is_started.load(Ordering::Relaxed)
    }

    /// Items in a task, if that is given. One that may be tried again has its memory in the arena
    /// to itself: what is left of a task when a worker dies keeps all that the task had. One that
    /// has a time limit shall not be hit by another one's end.
    fn chunksize(&self) -> Option<usize> {
        let options = self.plan.options.as_ref();
        let is_alone =
            options.is_some_and(|options| options.retries > 0 || options.timeout_ns.is_some());
        if is_alone { Some(1) } else { self.plan.chunksize }
    }

    fn batch(&self, mean_ns: f64, ahead: usize) -> usize {
        if let Some(size) = self.chunksize() {
            return size;
        }
        if mean_ns == 0.0 {
            return 1;
        }
        let several = ahead / (2 * self.pool.max_workers);
        ((BATCH_NS / mean_ns) as usize).min(several).clamp(1, BATCH)
    }

    /// Sends some batches of up to `batch` items, `room` items in all.
    fn send(
        &self,
        py: Python<'_>,
        source: &mut Source,
        batch: usize,
        mut room: usize,
    ) -> PyResult<()> {
        let mut buffer = std::mem::take(&mut source.buffer);
        buffer.clear();
        let mut parts: Vec<Part> = Vec::new();
        let began = Instant::now();
        let mut packed = Ok(None);
        while source.items.is_some() && room > 0 && parts.len() < PARTS {
            let count = self.plan.length.map_or(batch, |length| {
                // Towards the end smaller ones, so that the workers end together.
                let left = length.saturating_sub(source.submitted as usize);
                match self.chunksize() {
                    Some(size) => size,
                    None => batch.min(left.div_ceil(4 * self.pool.max_workers).max(1)),
                }
            });
            let (start, first) = (buffer.len(), source.submitted);
            let mut part = Part { first, start, end: start, count: 0, blocks: Vec::new() };
            packed = self.pack(py, source, &mut buffer, count.min(room), &mut part);
            part.end = buffer.len();
            room -= part.count as usize;
            source.submitted += u64::from(part.count);
            if part.count > 0 {
                parts.push(part);
            } else {
                self.pool.release(part.blocks);
            }
            if !matches!(packed, Ok(None)) || buffer.len() > BATCH_BYTES || began.elapsed() > SLOW {
                break;
            }
        }
        let count: u32 = parts.iter().map(|part| part.count).sum();
        self.state.expect(count as usize + usize::from(matches!(packed, Ok(Some(_)))));
        let sent = if parts.is_empty() { Ok(()) } else { self.submit(py, parts, &buffer) };
        source.buffer = buffer;
        if let Err(error) = sent {
            // Nothing of it will be answered.
            source.items = None;
            self.is_closed.store(true, Ordering::Release);
            self.wake(py)?;
            return Err(error);
        }
        let refused = packed.map(|refused| {
            if let Some(error) = refused {
                self.state.put(source.submitted, Slot::Refused(error));
                source.submitted += 1;
            }
        });
        if source.items.is_none() {
            self.total.store(source.submitted as usize, Ordering::Release);
            self.wake(py)?; // who waits may wait for nothing
        }
        refused
    }

    /// Puts up to `count` items into a part. `Some`: the next one cannot be sent, and why.
    fn pack(
        &self,
        py: Python<'_>,
        source: &mut Source,
        buffer: &mut Vec<u8>,
        count: usize,
        part: &mut Part,
    ) -> PyResult<Option<PyErr>> {
        while (part.count as usize) < count && buffer.len() - part.start < BATCH_BYTES {
            let Some(items) = &source.items else { break };
            let index = part.first + u64::from(part.count);
            // The user's code, which may fail, or ask this map for its next result.
            match above_python(|| items.bind(py).cast::<PyIterator>()?.clone().next().transpose()) {
                Ok(Some(item)) => {
                    let blocks = &mut part.blocks;
                    let added =
                        add_item(buffer, |out| self.pool.encode_item(&item, index, out, blocks));
                    match added {
                        Ok(()) => part.count += 1,
                        Err(error) if error.is_instance_of::<PyException>(py) => {
                            return Ok(Some(error));
                        }
                        Err(error) => return Err(error),
                    }
                }
                Ok(None) => source.items = None,
                Err(error) => {
                    source.items = None;
                    if !error.is_instance_of::<PyException>(py) {
                        return Err(error);
                    }
                    source.failure = Some(self.pool.at_item(py, error, index));
                }
            }
        }
        Ok(None)
    }

    fn submit(&self, py: Python<'_>, parts: Vec<Part>, buffer: &[u8]) -> PyResult<()> {
        let head = self.pool.head(&self.plan);
        let names = locked(&self.plan.names).clone();
        let tasks = parts.into_iter().map(|part| {
            let task = Task {
                serial: 0,
                receiver: Ticket::Map(Arc::clone(&self.state)),
                first: part.first,
                head: Head { count: part.count, ..head },
                names: names.clone(),
                items: Vec::new(),
                blocks: part.blocks,
                options: self.plan.options.clone(),
                attempts: 0,
            };
            (task, &buffer[part.start..part.end])
        });
        self.pool.submit_all(py, self.has_limit(), tasks)
    }

    fn is_used_up(&self) -> bool {
        self.yielded.load(Ordering::Acquire) == self.total.load(Ordering::Acquire)
    }

    /// Whether all of one that nobody iterates is done.
    pub fn is_over(&self) -> bool {
        self.state.is_unwanted() && self.state.dropped() == self.total.load(Ordering::Acquire)
    }

    /// Has all who wait for its results look again.
    fn wake(&self, py: Python<'_>) -> PyResult<()> {
        self.pool.pool.board.users.ring();
        above_python(|| self.state.publish(py))
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
