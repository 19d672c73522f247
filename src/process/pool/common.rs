//! What a pool's Python objects, its futures and its maps have in common: how they submit, wait
//! and say what went wrong.

use super::answer::{Ticket, Words, output};
use super::arena::{Arena, BlockId};
use super::defined::number_of;
use super::driver::{Attended, Pool};
use super::engine::{Engine, Refusal};
use super::known::KnownFunctions;
use super::map::{Map, Plan};
use super::mapping::generation;
use super::message::Head;
use super::state::{Chore, Lender, Task};
use crate::error::locked;
use crate::future::{Core, Source};
use pyo3::exceptions::{PyException, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The arena for arguments, lent to workers by their keys.
pub struct Loans(pub(super) Arc<Mutex<Arena>>);

impl Lender for Loans {
    type Block = BlockId;

    fn lend(&self, block: BlockId, borrower: u32) {
        locked(&self.0).lend(block, borrower);
    }

    fn unlend(&self, block: BlockId, borrower: u32) {
        locked(&self.0).unlend(block, borrower);
    }

    fn release(&self, block: BlockId) {
        locked(&self.0).release(block);
    }

    fn reclaim(&self, borrower: u32) {
        locked(&self.0).reclaim(borrower);
    }
}

/// What the pool's Python objects, its futures and its maps have in common.
pub struct Shared {
    pub(super) pool: Pool<Ticket, Loans>,
    pub words: Arc<Words>,
    pub max_workers: usize,
    pub(super) arena: Arc<Mutex<Arena>>,
    pub(super) board: Arc<OwnedFd>,
    pub(super) files: Mutex<HashMap<u32, Arc<OwnedFd>>>,
    pub(super) maps: Mutex<Vec<Arc<Map>>>,
    pub(super) known: Mutex<KnownFunctions>,
    pub(super) half: Py<PyWeakrefReference>,
    /// Whether there is a driver.
    pub(super) is_driven: AtomicBool,
    pub(super) numbers: AtomicU32,
    pub(super) buffer: Mutex<Vec<u8>>,
    /// A forked copy must touch nothing: its locks may be held for ever, its rings are ours.
    pub(super) generation: u32,
}

impl Shared {
    pub fn engine(&self) -> &Engine<Ticket, Loans> {
        &self.pool.engine
    }

    /// Looking things up there may ask Python to wait, so who waits for the lock is detached.
    pub(super) fn known(&self, py: Python<'_>) -> MutexGuard<'_, KnownFunctions> {
        self.known.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_ours(&self) -> bool {
        self.generation == generation()
    }

    pub(super) fn check_ours(&self) -> PyResult<()> {
        if self.is_ours() {
            return Ok(());
        }
        Err(PyRuntimeError::new_err(
            "this process was forked from the one that the executor belongs to; \
             make a new executor here",
        ))
    }

    /// Waits, doing the pool's work meanwhile.
    pub fn wait(
        &self,
        py: Python<'_>,
        is_done: &(dyn Fn() -> bool + Sync),
        deadline: Option<Instant>,
    ) -> PyResult<Attended> {
        self.check_ours()?;
        loop {
            match py.detach(|| self.pool.attend(is_done, deadline)) {
                Attended::Chores => {
                    if deadline.is_none() {
                        self.write_one(py)?;
                    }
                    self.do_chores(py)?;
                }
                Attended::Interrupted => py.check_signals()?,
                attended => return Ok(attended),
            }
        }
    }

    /// Writes one output, here and not in the writer's thread: a notebook has it in the cell that
    /// waits. One only: who waits for us shall not wait for a task that prints without end.
    fn write_one(&self, py: Python<'_>) -> PyResult<()> {
        let Some(next) = self.engine().next_output() else { return Ok(()) };
        let written = Written(self);
        let done = output(py, &self.words, next.is_stderr, &next.text);
        drop(written);
        done.or_else(|error| self.call_driver(py).and(Err(error)))
    }

    /// Runs what needs Python.
    ///
    /// # Errors
    /// What a signal's handler raised; the driver does the rest.
    pub(super) fn do_chores(&self, py: Python<'_>) -> PyResult<()> {
        self.chores(py).or_else(|error| self.call_driver(py).and(Err(error)))
    }

    fn chores(&self, py: Python<'_>) -> PyResult<()> {
        while let Some(Chore::Publish(ticket)) = self.engine().next_chore() {
            ticket.publish(py)?;
        }
        Ok(())
    }

    pub fn head(&self, plan: &Plan) -> Head {
        let options = plan.options.as_deref();
        let [function, context] = &*locked(&plan.names);
        Head {
            kind: plan.kind,
            flags: u32::from(options.is_some_and(|options| options.retries > 0)),
            function: number_of(function.as_ref()),
            context: number_of(context.as_ref()),
            count: 1,
            memory: options.and_then(|options| options.memory).unwrap_or(0),
            flow: 0,
        }
    }

    /// Encodes one item of a map.
    pub fn encode_item(
        &self,
        item: &Bound<'_, PyAny>,
        index: u64,
        out: &mut Vec<u8>,
        blocks: &mut Vec<BlockId>,
    ) -> PyResult<()> {
        let mut attempt =
            |name: &str| self.words.codec.encode(item, name, out, &self.arena, blocks);
        attempt("item").or_else(|error| {
            if !error.is_instance_of::<PyException>(item.py()) {
                return Err(error);
            }
            // Once more, under a name that costs too much where all goes well.
            attempt(&format!("items[{index}]"))
                .map_err(|error| self.at_item(item.py(), error, index))
        })
    }

    /// An exception, with a note of which item it is about.
    pub fn at_item(&self, py: Python<'_>, error: PyErr, index: u64) -> PyErr {
        let note = format!("(at item {index} of the iterable)");
        let _ = error.value(py).call_method1("add_note", (note,));
        error
    }

    pub fn release(&self, blocks: Vec<BlockId>) {
        blocks.into_iter().for_each(|block| self.engine_release(block));
    }

    fn engine_release(&self, block: BlockId) {
        locked(&self.arena).release(block);
    }

    /// Sends a task, and asks for a worker if another one would help.
    pub fn submit(
        &self,
        py: Python<'_>,
        task: Task<Ticket, BlockId>,
        items: &[u8],
    ) -> PyResult<u64> {
        let has_limit = task.options.as_ref().is_some_and(|options| options.timeout_ns.is_some());
        let submitted = self.engine().submit(task, items);
        let serial = submitted.map_err(|refusal| self.refusal(py, &refusal))?;
        if has_limit || self.engine().needed() > 0 {
            self.call_driver(py)?;
        }
        Ok(serial)
    }

    /// Sends a map's tasks.
    pub fn submit_all<'a>(
        &self,
        py: Python<'_>,
        has_limit: bool,
        tasks: impl Iterator<Item = (Task<Ticket, BlockId>, &'a [u8])>,
    ) -> PyResult<()> {
        let submitted = self.engine().submit_all(tasks);
        submitted.map_err(|refusal| self.refusal(py, &refusal))?;
        if has_limit || self.engine().needed() > 0 {
            self.call_driver(py)?;
        }
        Ok(())
    }

    /// Wakes the driver, which alone starts workers, since no signal handler runs in its
    /// thread: an exception from there, half-way, could leave a process that nobody knows.
    pub(super) fn call_driver(&self, py: Python<'_>) -> PyResult<()> {
        if !self.is_driven.load(Ordering::Acquire) {
            self.half(py)?.call_method0("begin")?;
        }
        self.pool.call_driver();
        Ok(())
    }

    /// The pool's Python half.
    pub(super) fn half<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let half = self.half.bind(py).upgrade();
        half.ok_or_else(|| self.refusal(py, &Refusal::Closed))
    }

    fn refusal(&self, py: Python<'_>, refusal: &Refusal) -> PyErr {
        let (kind, text) = match refusal {
            Refusal::Closed => ("closed", None),
            Refusal::Broken(text) => ("broken", Some(&**text)),
        };
        let made = self.words.helpers.bind(py).call_method1("refusal", (kind, text));
        made.map_or_else(|error| error, PyErr::from_value)
    }

    pub fn cancelled(&self, py: Python<'_>) -> PyErr {
        let made = self.words.helpers.bind(py).call_method1("refusal", ("cancelled", None::<u8>));
        made.map_or_else(|error| error, PyErr::from_value)
    }

    pub fn map_ended(&self, map: &Map) {
        locked(&self.maps).retain(|other| !std::ptr::eq(&raw const **other, map));
        drop(std::mem::take(&mut *locked(&map.plan.names)));
        self.engine().forget();
    }
}

/// An output that is being written, until it is, or was tried to.
struct Written<'a>(&'a Shared);

impl Drop for Written<'_> {
    fn drop(&mut self) {
        if self.0.engine().written() {
            self.0.pool.board.users.ring();
            self.0.pool.call_driver();
        }
    }
}

impl Source for Shared {
    fn wait(&self, py: Python<'_>, core: &Arc<Core>, deadline: Option<Instant>) -> PyResult<()> {
        Shared::wait(self, py, &|| core.is_done(), deadline).map(drop)
    }

    fn withdraw(&self, core: &Arc<Core>) -> bool {
        self.is_ours() && self.engine().withdraw(core.tokens()[0].load(Ordering::Acquire))
    }

    fn has_begun(&self, core: &Core) -> bool {
        self.is_ours() && self.engine().has_begun(core.tokens()[0].load(Ordering::Acquire))
    }

    fn stop(&self, core: &Arc<Core>) -> bool {
        if !self.is_ours() {
            return false;
        }
        let stopped = self.engine().stop(core.tokens()[0].load(Ordering::Acquire));
        self.pool.call_driver();
        stopped
    }
}
