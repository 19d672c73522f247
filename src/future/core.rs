//! What an executor works with: the shared half of a future.
//!
//! The Python object holds an `Arc<Core>`, and so does the executor while the task is not
//! done. A core refers to its Python object only from when somebody is to be told of its end
//! (callbacks, `_condition`, `_waiters`) until that was published: a future that its user drops
//! ends, whatever the executor still holds.
//!
//! Life of an executor's future:
//!
//! 1. `Core::new(Some(source))`, then [`super::object::make`] for the Python object.
//! 2. [`Core::complete`] once, by any thread, attached or not. `NeedsPublish`: call
//!    [`Core::publish`] soon, attached, with no lock held that Python code may want.
//! 3. A result that came as bytes is decoded by the first thread that asks for it.
//!
//! `Source` is let go of when the future is done, so that kept futures keep no executor.

use super::bytes::SmallBytes;
use super::call::Call;
use super::cell::{Cell, View};
use super::publish::Watch;
use super::untracked::Untracked;
use crate::os::{LOOK_UP, Woken, is_main_thread};
use crate::sync::graph::watch::{looked_up, or_running};
use crate::sync::queue::guard::{Guard, Guarded};
use crate::trace::waits::Wait;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyTraceback;
use pyo3::{PyTraverseError, PyVisit};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError};
use std::task::{Poll, Waker};
use std::thread::ThreadId;
use std::time::Instant;

pub use super::cell::Phase;

/// What completes a future.
pub enum Outcome {
    Value(Py<PyAny>),
    /// An exception object.
    Error(Py<PyAny>),
    /// Bytes, decoded when somebody asks.
    Encoded(Encoded),
    /// The task will not run, or was ended, because it was cancelled.
    Cancelled,
}

/// A result as it arrived. Decoded once, attached, by the thread that asks for it first, not by
/// the one that completes; others wait for that. The bytes are freed then.
pub struct Encoded {
    bytes: SmallBytes,
    is_error: bool,
    decoder: Arc<dyn Decoder>,
    is_decoded: bool,
}

impl Encoded {
    /// `is_error`: it is an exception, which is told to waiters without decoding.
    pub fn new(bytes: SmallBytes, is_error: bool, decoder: Arc<dyn Decoder>) -> Self {
        Self { bytes, is_error, decoder, is_decoded: false }
    }

    /// What it says; once only.
    pub fn decode(&mut self, py: Python<'_>) -> PyResult<Decoded> {
        self.is_decoded = true;
        self.decoder.decode(py, &self.bytes)
    }

    pub fn is_error(&self) -> bool {
        self.is_error
    }

    pub fn length(&self) -> usize {
        self.bytes.len()
    }
}

impl Drop for Encoded {
    fn drop(&mut self) {
        if !self.is_decoded {
            self.decoder.discard(&self.bytes);
        }
    }
}

pub trait Decoder: Send + Sync {
    /// `Err`: that decoding failed, which becomes the task's exception. It is called once: the
    /// memory that the bytes refer to may be used otherwise afterwards.
    fn decode(&self, py: Python<'_>, bytes: &[u8]) -> PyResult<Decoded>;

    /// Nobody wants it: lets go of what the bytes refer to. Attached or not.
    fn discard(&self, bytes: &[u8]);
}

/// What was encoded.
pub enum Decoded {
    Value(Py<PyAny>),
    /// The task's exception object.
    Error(Py<PyAny>),
}

/// The executor behind a future. Each method is called attached, with no lock of the future
/// held, by any thread, and not for a future that is done (which may race).
pub trait Source: Send + Sync {
    /// The calling thread waits for `core`: until it is done, the deadline, or a signal handler
    /// raised (`Err`). May do the executor's own work meanwhile. With a deadline that has
    /// passed it only looks. [`Core::wait_done`] is one that does nothing of its own.
    fn wait(&self, py: Python<'_>, core: &Arc<Core>, deadline: Option<Instant>) -> PyResult<()>;

    /// Takes back a task that has not begun. True: it will never run, and the caller completes
    /// it as cancelled.
    fn withdraw(&self, core: &Arc<Core>) -> bool;

    /// For `running()`.
    fn has_begun(&self, core: &Core) -> bool;

    /// Ends a running task, for `cancel(running=True)`. True: it is ended, or will be, and the
    /// caller completes it as cancelled; what the executor completes it with later is late.
    fn stop(&self, core: &Arc<Core>) -> bool;

    /// This thread looks at `_waiters`: as a rule it is about to wait, in `cf.wait` or
    /// `as_completed`, and not by [`Source::wait`].
    fn is_watched(&self, _py: Python<'_>) {}
}

/// What [`Core::complete`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Completion {
    /// Nothing: it was done before.
    Late,
    Done,
    /// Done, and somebody is to be told: call [`Core::publish`] soon.
    NeedsPublish,
}

pub(super) enum Slot {
    /// Not finished, or cancelled.
    Empty,
    Value(Py<PyAny>),
    Error(Raised),
    Encoded(Encoded),
    Decoding(ThreadId),
}

/// An exception object; and its traceback when it was first asked for, which it is given back
/// each time that it is raised, lest that grows by the frames of each `result()`.
pub(super) struct Raised {
    error: Py<PyAny>,
    traceback: Option<Option<Py<PyTraceback>>>,
}

impl Raised {
    pub(super) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.error)?;
        visit.call(self.traceback.as_ref().and_then(Option::as_ref))
    }
}

impl From<Py<PyAny>> for Raised {
    fn from(error: Py<PyAny>) -> Self {
        Self { error, traceback: None }
    }
}

pub(super) struct Content {
    pub(super) slot: Slot,
    source: Option<Arc<dyn Source>>,
    pub(super) watch: Option<Box<Watch>>,
}

/// The half of a future that an executor shares with the Python object.
pub struct Core {
    pub(super) cell: Cell<Content>,
    tokens: [AtomicU64; 2],
    /// Whether an executor may complete it when nobody else holds its Python object.
    pub(super) keeps: bool,
    pub(super) untracked: Untracked,
    /// What its task is to call, until somebody takes that.
    call: Guard<Option<Call>>,
}

impl Core {
    /// One that an executor completes. Without a source `result()` just waits, `cancel()`
    /// works until [`Core::begin`].
    pub fn new(source: Option<Arc<dyn Source>>) -> Arc<Self> {
        Self::build(source, true, None)
    }

    /// One whose source runs `call` in this process.
    pub fn of_call(source: Arc<dyn Source>, call: Call) -> Arc<Self> {
        Self::build(Some(source), true, Some(call))
    }

    /// One that Python code made, and completes through its Python object.
    pub(super) fn of_python() -> Arc<Self> {
        Self::build(None, false, None)
    }

    fn build(source: Option<Arc<dyn Source>>, keeps: bool, call: Option<Call>) -> Arc<Self> {
        let content = Content { slot: Slot::Empty, source, watch: None };
        let tokens = [AtomicU64::new(0), AtomicU64::new(0)];
        let (untracked, call) = (Untracked::default(), Guard::new(call));
        Arc::new(Self { cell: Cell::new(content), tokens, keeps, untracked, call })
    }

    /// Whoever takes it runs it, or sees to it that nobody does. `None`: somebody else has it.
    /// Attached, as with the next two.
    pub fn take_call(&self) -> Option<Call> {
        self.call().take()
    }

    pub fn has_call(&self) -> bool {
        self.call().is_some()
    }

    /// For another attempt: that of the one before was taken.
    pub fn put_call(&self, call: Call) {
        *self.call() = Some(call);
    }

    fn call(&self) -> Guarded<'_, Option<Call>> {
        self.call.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Two words for the executor's own bookkeeping; 0 at first.
    pub fn tokens(&self) -> &[AtomicU64; 2] {
        &self.tokens
    }

    pub fn is_done(&self) -> bool {
        self.view().is_done()
    }

    pub fn is_cancelled(&self) -> bool {
        self.view().is_cancelled()
    }

    pub(super) fn view(&self) -> View {
        self.cell.view()
    }

    /// For a future without a source: its task begins. False: it was cancelled, do not run it.
    pub fn begin(&self) -> bool {
        self.cell.with(|_, view| view.begin())
    }

    /// Ends it. Any thread, attached or not; wakes who waits.
    pub fn complete(&self, outcome: Outcome) -> Completion {
        self.track_for(&outcome);
        let (phase, slot) = match outcome {
            Outcome::Value(value) => (Phase::Finished, Slot::Value(value)),
            Outcome::Error(error) => (Phase::Finished, Slot::Error(error.into())),
            Outcome::Encoded(encoded) => (Phase::Finished, Slot::Encoded(encoded)),
            Outcome::Cancelled => (Phase::Notified, Slot::Empty),
        };
        self.end_if(phase, slot, |_| true)
    }

    /// `cancel()` of a future without a source: as long as its task has not begun.
    pub(super) fn cancel_pending(&self) -> Completion {
        self.end_if(Phase::Cancelled, Slot::Empty, |view| view.phase() == Phase::Pending)
    }

    fn end_if(&self, phase: Phase, slot: Slot, may: impl FnOnce(View) -> bool) -> Completion {
        let mut slot = Some(slot);
        // What is let go of is dropped here, after the lock.
        let (completion, _source) = self.cell.with(|content, view| {
            if !may(*view) || !view.end(phase) {
                return (Completion::Late, None);
            }
            if let Some(slot) = slot.take() {
                content.slot = slot; // was empty
            }
            let due = view.is_due();
            let completion = if due { Completion::NeedsPublish } else { Completion::Done };
            (completion, content.source.take())
        });
        completion
    }

    pub(super) fn source(&self) -> Option<Arc<dyn Source>> {
        self.cell.with(|content, _| content.source.clone())
    }

    /// Whether its task has begun and is not done.
    pub(super) fn is_running(&self) -> bool {
        match self.view().phase() {
            Phase::Pending => self.has_begun(),
            phase => phase == Phase::Running,
        }
    }

    /// Whether the executor says that the task of a pending one has begun.
    pub(super) fn has_begun(&self) -> bool {
        self.source().is_some_and(|source| source.has_begun(self))
    }

    /// Sleeps, detached, until it is done (true) or the deadline has passed. `Err`: a signal
    /// handler raised. True as well when Python code took it over by assigning its `_state`:
    /// do not wait again then.
    pub fn wait_done(&self, py: Python<'_>, deadline: Option<Instant>) -> PyResult<bool> {
        loop {
            let look_up = is_main_thread().then(|| Instant::now() + LOOK_UP);
            let until = deadline.into_iter().chain(look_up).min();
            match py.detach(|| or_running(self.cell.wait(until))) {
                (Woken::Set, _) => return Ok(true),
                (Woken::TimedOut, _) if until == deadline => return Ok(false),
                (Woken::TimedOut | Woken::Interrupted, running) => {
                    py.check_signals()?;
                    drop(running);
                    looked_up();
                }
            }
        }
    }

    /// As `wait_done`, for a task.
    pub(super) fn poll_wait(&self, waker: &Waker) -> Poll<()> {
        self.cell.poll_wait(waker)
    }

    /// That task no longer waits.
    pub(super) fn forget(&self, waker: &Waker) {
        self.cell.forget(waker);
    }

    /// As `wait_done`, by way of the source.
    pub(super) fn wait(
        self: &Arc<Self>,
        py: Python<'_>,
        deadline: Option<Instant>,
    ) -> PyResult<()> {
        if self.is_done() || self.view().is_assigned() {
            return Ok(());
        }
        let _traced = Wait::for_result();
        match self.source() {
            Some(source) => source.wait(py, self, deadline),
            None => self.wait_done(py, deadline).map(drop),
        }
    }

    /// The outcome of one that has finished, decoded. `Err`: a signal handler raised.
    pub(super) fn outcome(&self, py: Python<'_>) -> PyResult<Decoded> {
        enum Found {
            Ready(Decoded),
            Encoded(Encoded),
            Elsewhere,
        }
        let me = std::thread::current().id();
        loop {
            let found = self.cell.with(|content, view| match &content.slot {
                Slot::Value(value) => Ok(Found::Ready(Decoded::Value(value.clone_ref(py)))),
                Slot::Error(raised) => Ok(Found::Ready(Decoded::Error(raised.error.clone_ref(py)))),
                Slot::Decoding(owner) if *owner == me => {
                    Err("its result is being decoded by this very thread")
                }
                Slot::Decoding(_) => Ok(Found::Elsewhere),
                Slot::Empty => Err("its result was cleared by the garbage collector"),
                Slot::Encoded(_) => {
                    view.decoding(true);
                    match std::mem::replace(&mut content.slot, Slot::Decoding(me)) {
                        Slot::Encoded(encoded) => Ok(Found::Encoded(encoded)),
                        _ => unreachable!("matched above"),
                    }
                }
            });
            match found.map_err(PyRuntimeError::new_err)? {
                Found::Ready(decoded) => return Ok(decoded),
                Found::Encoded(encoded) => self.decode(py, encoded),
                Found::Elsewhere => drop(self.wait_done(py, None)?),
            }
        }
    }

    /// The value of one that has succeeded and needs nothing else to be looked at.
    pub(super) fn value(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        if !self.is_done() {
            return None;
        }
        self.cell.with(|content, view| match &content.slot {
            Slot::Value(value) if !view.is_assigned() => Some(value.clone_ref(py)),
            _ => None,
        })
    }

    /// The exception of one that has failed, to be raised with the traceback it came with.
    pub(super) fn raise(&self, py: Python<'_>, error: Py<PyAny>) -> PyErr {
        let now = PyErr::from_value(error.clone_ref(py).into_bound(py));
        let came_with = now.traceback(py).map(Bound::unbind);
        let (came_with, _unused) = self.cell.with(|content, _| match &mut content.slot {
            Slot::Error(raised) => match &raised.traceback {
                Some(first) => (first.as_ref().map(|first| first.clone_ref(py)), came_with),
                None => {
                    raised.traceback = Some(came_with.as_ref().map(|first| first.clone_ref(py)));
                    (came_with, None)
                }
            },
            _ => (came_with, None),
        });
        now.set_traceback(py, came_with.map(|traceback| traceback.into_bound(py)));
        now
    }

    fn decode(&self, py: Python<'_>, mut encoded: Encoded) {
        let mut attempt = Attempt { core: self, slot: Slot::Empty };
        attempt.slot = match encoded.decode(py) {
            Ok(Decoded::Value(value)) => Slot::Value(value),
            Ok(Decoded::Error(error)) => Slot::Error(error.into()),
            Err(error) => Slot::Error(error.into_value(py).into_any().into()),
        };
    }
}

/// Whatever happens to a decoding thread, the others do not wait for ever: the slot gets what
/// is here in the end.
struct Attempt<'a> {
    core: &'a Core,
    slot: Slot,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let slot = std::mem::replace(&mut self.slot, Slot::Empty);
        // The old slot, a thread's id, is nothing that could run Python code.
        self.core.cell.with(|content, view| {
            content.slot = slot;
            view.decoding(false);
        });
    }
}
