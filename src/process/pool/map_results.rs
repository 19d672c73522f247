//! The results of a map that have come and were not taken.

use super::answer::Words;
use crate::error::locked;
use crate::future::Encoded;
use pyo3::prelude::*;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

pub(super) enum Slot {
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
    /// To be called when there is something to take, or nothing will come any more.
    watchers: Vec<Py<PyAny>>,
    /// Results that have come, of those that nobody takes.
    dropped: usize,
}

/// What a map shares with the engine.
pub struct MapState {
    pub words: Arc<Words>,
    results: Mutex<Results>,
    is_ordered: bool,
    is_ready: AtomicBool,
    bytes: AtomicUsize,
    /// Nobody takes the results: it was called for what the function does.
    is_unwanted: AtomicBool,
}

impl MapState {
    pub(super) fn new(words: Arc<Words>, is_ordered: bool) -> Self {
        let results = Mutex::default();
        let [is_ready, is_unwanted] = [false, false].map(AtomicBool::new);
        Self { words, results, is_ordered, is_ready, bytes: AtomicUsize::new(0), is_unwanted }
    }

    /// Whether the next one is there.
    pub(super) fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Acquire)
    }

    /// Bytes of results that wait to be taken.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn is_unwanted(&self) -> bool {
        self.is_unwanted.load(Ordering::Relaxed)
    }

    /// An outcome from the engine; `None`: it was cancelled. True: somebody is to be told.
    pub fn deliver(&self, index: u64, outcome: Option<Encoded>) -> bool {
        let length = outcome.as_ref().map_or(0, Encoded::length);
        self.bytes.fetch_add(length, Ordering::Relaxed);
        self.put(index, outcome.map_or(Slot::Cancelled, Slot::Answer))
    }

    pub(super) fn put(&self, index: u64, slot: Slot) -> bool {
        let mut results = locked(&self.results);
        if self.is_unwanted.load(Ordering::Relaxed) {
            results.dropped += 1;
            drop(results);
            drop(slot); // not under the lock
            return false;
        }
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
        is_next && !results.watchers.is_empty()
    }

    /// Nobody will take the results: those that are there, and those that come.
    pub(super) fn discard(&self) {
        let mut results = locked(&self.results);
        self.is_unwanted.store(true, Ordering::Relaxed);
        let slots = std::mem::take(&mut results.slots);
        results.dropped = slots.iter().filter(|slot| !matches!(slot, Slot::Waiting)).count();
        drop(results);
        drop(slots);
    }

    pub(super) fn dropped(&self) -> usize {
        locked(&self.results).dropped
    }

    /// Places for further results; they come before the tasks are sent.
    pub(super) fn expect(&self, count: usize) {
        if self.is_ordered && !self.is_unwanted.load(Ordering::Relaxed) {
            locked(&self.results).slots.extend((0..count).map(|_| Slot::Waiting));
        }
    }

    pub(super) fn take(&self) -> Option<Slot> {
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

    /// Has `watcher` called when there is something to take; false: there is, or `is_over`.
    pub(super) fn notify(&self, watcher: Py<PyAny>, is_over: impl Fn() -> bool) -> bool {
        let mut results = locked(&self.results);
        if self.is_ready() || is_over() {
            return false;
        }
        results.watchers.push(watcher);
        true
    }

    pub fn publish(&self, py: Python<'_>) -> PyResult<()> {
        let watchers = std::mem::take(&mut locked(&self.results).watchers);
        watchers.iter().try_for_each(|watcher| watcher.bind(py).call0().map(drop))
    }
}
