//! Where a map's items come from: they are pulled from their iterator as results are taken, in
//! batches that grow with what is measured, and never more than a window of them.

use super::answer::Ticket;
use super::arena::BlockId;
use super::map::Map;
use super::map_results::Slot;
use super::message::{Head, add_item};
use super::state::Task;
use crate::error::locked;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::PyIterator;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
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
pub(super) struct Source {
    /// `None`: it is used up, or has failed.
    items: Option<Py<PyAny>>,
    /// What it failed with, to be raised after the results of what came before.
    pub(super) failure: Option<PyErr>,
    submitted: u64,
    /// Of one batch.
    buffer: Vec<u8>,
}

impl Source {
    pub(super) fn new(items: Py<PyAny>) -> Self {
        Self { items: Some(items), failure: None, submitted: 0, buffer: Vec::new() }
    }
}

/// A batch in the buffer.
struct Part {
    first: u64,
    start: usize,
    end: usize,
    count: u32,
    blocks: Vec<BlockId>,
}

impl Map {
    /// `None`: another thread is at it, or this very thread, from inside of the user's iterator.
    /// `waits`: for another one.
    pub(super) fn source(
        &self,
        py: Python<'_>,
        waits: bool,
    ) -> PyResult<Option<MutexGuard<'_, Source>>> {
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
    pub(super) fn feed_if_hungry(&self, py: Python<'_>) -> PyResult<()> {
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
            let next = || items.bind(py).cast::<PyIterator>()?.clone().next().transpose();
            match next() {
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
}
