//! The object that Python awaits: a coroutine until it is started, a future afterwards.
//!
//! Like a coroutine it does nothing before it is awaited, and `asyncio.create_task` takes it.
//! Once started it has the whole interface of `asyncio.Future` that tasks, `wait_for`,
//! `shield` and `gather` use, so awaiting it twice, or by two tasks, gives its result again.
//!
//! No lock is held while a future is polled or a Python object dropped: either may run
//! Python code that comes back here.

use super::bridge::{Bridge, Call, Callback, Running, call_back_soon, polling};
use super::gather::Group;
use super::inbox::{Entry, Wakeup};
use super::linger::Brisk;
use super::panics::{caught, discard};
use super::settled::Settled;
use super::start::{Notice, Start, Undo, Work};
use super::unawaited::never_awaited;
use crate::python::raise_soon;
use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

pub(super) enum State {
    New(Start),
    /// `None` while it is being polled.
    Waiting(Option<Work>),
    Gathering(Py<Group>),
    Done(Settled),
}

pub(super) struct Home {
    pub(super) event_loop: Py<PyAny>,
    pub(super) bridge: Py<Bridge>,
    pub(super) wakeup: Arc<Wakeup<Call>>,
}

pub(super) struct Inner {
    pub(super) state: State,
    pub(super) home: Option<Home>,
    /// asyncio's handshake: the awaitable was yielded to the task that steps it.
    pub(super) blocking: bool,
    pub(super) callbacks: Vec<Callback>,
    pub(super) groups: Vec<Py<Group>>,
    /// Until the value is taken.
    pub(super) undo: Option<Undo>,
    /// `result()` gave the value; a task does that before it goes on, and may be cancelled then.
    pub(super) looked_at: bool,
    pub(super) notice: Option<Arc<Notice>>,
    /// What made it, if it is told when nobody awaits it, as of a coroutine.
    pub(super) name: Option<&'static str>,
    /// What kind of job it is, if another thread may be done with it in a moment.
    pub(super) brisk: Option<&'static Brisk>,
}

#[pyclass(frozen, weakref)]
pub struct Awaitable {
    pub(super) inner: Mutex<Inner>,
}

/// Who ends an awaitable: a round of the bridge goes on to the callbacks itself; a task of the
/// same loop has the loop call them soon.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum By {
    Round,
    Here,
    Other,
}

impl Awaitable {
    pub fn new(start: Start) -> Self {
        let state = State::New(start);
        Self { inner: Mutex::new(Inner::new(state)) }
    }

    pub fn of(future: impl Future<Output = PyResult<Py<PyAny>>> + Send + 'static) -> Self {
        Self::new(Start::Poll(Box::pin(future)))
    }

    /// A future whose value is something to be given back, such as a lock: asyncio may cancel a
    /// task after this has settled and before the task went on. Then, and when it is dropped
    /// with a value that nobody took, `undo` gets the value. It is called attached, and must not
    /// run Python code.
    pub fn with_rollback(
        future: impl Future<Output = PyResult<Py<PyAny>>> + Send + 'static,
        undo: impl FnOnce(Py<PyAny>) + Send + 'static,
    ) -> Self {
        let mut made = Self::of(future);
        made.inner.get_mut().unwrap_or_else(PoisonError::into_inner).undo = Some(Box::new(undo));
        made
    }

    /// As `with_rollback`, for a future that has something to do before it can end: when its task
    /// is cancelled it is not dropped but given notice and polled, and ends when it likes.
    pub fn deferring(
        notice: Arc<Notice>,
        future: impl Future<Output = PyResult<Py<PyAny>>> + Send + 'static,
        undo: impl FnOnce(Py<PyAny>) + Send + 'static,
    ) -> Self {
        let mut made = Self::with_rollback(future, undo);
        let inner = made.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
        inner.notice = Some(notice);
        made
    }

    /// Has Python warn, as it does of a coroutine, if this is dropped without being begun.
    pub fn named(mut self, name: &'static str) -> Self {
        self.inner.get_mut().unwrap_or_else(PoisonError::into_inner).name = Some(name);
        self
    }

    /// A short wait before the loop gets its thread back may be worth it.
    pub fn brisk(mut self, kind: &'static Brisk) -> Self {
        self.inner.get_mut().unwrap_or_else(PoisonError::into_inner).brisk = Some(kind);
        self
    }

    /// It is a group's: that one is told about, not each of its members.
    pub fn hand_over(&self, py: Python<'_>) {
        self.lock(py).name = None;
    }

    pub(super) fn lock(&self, py: Python<'_>) -> MutexGuard<'_, Inner> {
        self.inner.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner)
    }

    /// Binds it to the running loop and polls it, if it is new.
    pub fn begin(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        if !matches!(slf.get().lock(py).state, State::New(_)) {
            return Ok(());
        }
        let running =
            Bridge::of_running_loop(py).inspect_err(|_| slf.get().lock(py).name = None)?; // it was awaited, as it could be
        Self::begin_on(slf, &running)
    }

    /// The same, for who knows the running loop.
    pub fn begin_on(slf: &Bound<'_, Self>, running: &Running<'_>) -> PyResult<()> {
        let py = slf.py();
        let (event_loop, bridge) = running;
        let (inbox, id) = (Arc::clone(bridge.get().inbox()), bridge.get().new_id());
        let wakeup = Arc::new(Wakeup::new(inbox, id));
        let home = Home {
            event_loop: event_loop.clone().unbind(),
            bridge: bridge.clone().unbind(),
            wakeup: Arc::clone(&wakeup),
        };
        let start = {
            let mut inner = slf.get().lock(py);
            if !matches!(inner.state, State::New(_)) {
                return Ok(()); // another thread was faster: the awaitable is its loop's
            }
            let State::New(start) = std::mem::replace(&mut inner.state, State::Waiting(None))
            else {
                unreachable!("looked at above")
            };
            inner.home = Some(home);
            match start {
                Start::Eager(eager) => {
                    let (work, undo) = eager.work();
                    inner.undo = Some(undo);
                    Start::Poll(work)
                }
                start => start,
            }
        };
        let start = match start {
            Start::OnLoop(make) => match caught(|| make(event_loop)).flatten() {
                Ok(work) => Start::Poll(work),
                Err(error) => {
                    Self::settle(slf, Settled::error(py, error), By::Other);
                    return Ok(());
                }
            },
            start => start,
        };
        match start {
            Start::Yield(value) => {
                // Nobody yields to the loop for it, so it is done in the loop's next round.
                let ready: Work = Box::pin(std::future::ready(Ok(value)));
                slf.get().lock(py).state = State::Waiting(Some(ready));
                Self::wake(slf, bridge.get(), id);
            }
            Start::Eager(_) | Start::OnLoop(_) => unreachable!("it is work by now"),
            Start::Poll(work) => {
                if Self::poll_work(slf, work, wakeup, By::Other) {
                    bridge.get().keep(id, slf);
                }
            }
            Start::Gather { children, return_exceptions, depth } => {
                let group = Group::new(slf, children, return_exceptions, depth);
                let group = Bound::new(py, group)?;
                slf.get().lock(py).state = State::Gathering(group.clone().unbind());
                Group::begin(&group, running)?;
            }
        }
        Ok(())
    }

    /// Waits for a moment, if it may well be done then. True: it is done, as were several before
    /// it, and the loop has not gone round for all that time.
    pub(super) fn linger(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let py = slf.py();
        let (bridge, event_loop, wakeup, kind, is_done) = {
            let inner = slf.get().lock(py);
            let (Some(kind), Some(home)) = (inner.brisk, &inner.home) else { return Ok(false) };
            let event_loop = home.event_loop.clone_ref(py);
            let (bridge, wakeup) = (home.bridge.clone_ref(py), Arc::clone(&home.wakeup));
            (bridge, event_loop, wakeup, kind, matches!(inner.state, State::Done(_)))
        };
        let bridge = bridge.get();
        if !is_done
            && kind.is_worth_it()
            && bridge.linger(py, &event_loop, wakeup.id, || kind.wait(&wakeup.arrived))?
        {
            Self::poll(slf, By::Other);
        }
        Ok(slf.get().is_done(py) && bridge.is_to_go_round())
    }

    pub(super) fn poll(slf: &Bound<'_, Self>, by: By) {
        let py = slf.py();
        let (work, wakeup) = {
            let mut inner = slf.get().lock(py);
            let Some(wakeup) = inner.home.as_ref().map(|home| Arc::clone(&home.wakeup)) else {
                return;
            };
            let State::Waiting(work) = &mut inner.state else { return };
            let Some(work) = work.take() else { return };
            (work, wakeup)
        };
        wakeup.arrived.store(false, Ordering::Relaxed);
        wakeup.queued.store(false, Ordering::Release);
        Self::poll_work(slf, work, wakeup, by);
    }

    /// Polls what was taken out of it; true: it waits.
    fn poll_work(slf: &Bound<'_, Self>, mut work: Work, wakeup: Arc<Wakeup<Call>>, by: By) -> bool {
        let py = slf.py();
        let waker = Waker::from(wakeup);
        let poll = || polling(py, || work.as_mut().poll(&mut Context::from_waker(&waker)));
        let outcome = match caught(poll) {
            Ok(Poll::Ready(outcome)) => outcome,
            Ok(Poll::Pending) => {
                let mut inner = slf.get().lock(py);
                if let State::Waiting(slot @ None) = &mut inner.state {
                    *slot = Some(work);
                    return true;
                }
                drop(inner);
                discard(py, work); // it was cancelled while it was polled: this ends it
                return false;
            }
            Err(panic) => Err(panic),
        };
        Self::settle(slf, Settled::from_outcome(py, outcome), by);
        discard(py, work);
        false
    }

    /// Ends it, unless it has ended.
    pub fn settle(slf: &Bound<'_, Self>, settled: Settled, by: By) {
        let py = slf.py();
        let (old, groups) = {
            let mut inner = slf.get().lock(py);
            if matches!(inner.state, State::Done(_)) {
                let undo = inner.undo.take();
                drop(inner);
                if let (Settled::Value(value), Some(undo)) = (settled, undo) {
                    undo(value); // it was cancelled while it was polled
                }
                return;
            }
            let old = std::mem::replace(&mut inner.state, State::Done(settled));
            (old, std::mem::take(&mut inner.groups))
        };
        discard(py, old); // a future that is cancelled ends here
        Self::tell(slf, by);
        for group in groups {
            Group::child_done(group.bind(py), slf, by);
        }
    }

    /// It is done: goes on to its callbacks.
    fn tell(slf: &Bound<'_, Self>, by: By) {
        let py = slf.py();
        let (bridge, id, event_loop, callbacks, waited_for) = {
            let mut inner = slf.get().lock(py);
            let Some(home) = &inner.home else { return };
            let event_loop = (by == By::Here).then(|| home.event_loop.clone_ref(py));
            let (bridge, id) = (home.bridge.clone_ref(py), home.wakeup.id);
            let waited_for = !inner.callbacks.is_empty();
            let callbacks = match by {
                By::Round => std::mem::take(&mut inner.callbacks),
                By::Here | By::Other => Vec::new(),
            };
            (bridge, id, event_loop, callbacks, waited_for)
        };
        let bridge = bridge.get();
        match event_loop {
            None if by == By::Other && waited_for => return Self::wake(slf, bridge, id),
            None => bridge.schedule(slf, callbacks),
            Some(event_loop) if waited_for => {
                if let Err(error) = call_back_soon(slf, &event_loop) {
                    raise_soon(py, &error); // of a signal's handler, before or after it was done
                    return Self::wake(slf, bridge, id); // once too often does no harm
                }
            }
            Some(_) => {}
        }
        bridge.release(py, id);
    }

    /// Has the next round call the callbacks.
    pub(super) fn wake(slf: &Bound<'_, Self>, bridge: &Bridge, id: u64) {
        bridge.keep(id, slf);
        bridge.inbox().push(Entry::Ready(id));
    }

    /// Its id was in the inbox: polls it, or goes on to its callbacks.
    pub fn step(slf: &Bound<'_, Self>, by: By) {
        if slf.get().is_done(slf.py()) {
            Self::tell(slf, by);
        } else {
            Self::poll(slf, by);
        }
    }

    pub fn is_done(&self, py: Python<'_>) -> bool {
        matches!(self.lock(py).state, State::Done(_))
    }

    /// Tells the group when it is done; false: it is already.
    pub fn join(&self, group: &Bound<'_, Group>) -> bool {
        let member = group.clone().unbind();
        let mut inner = self.lock(group.py());
        if matches!(inner.state, State::Done(_)) {
            drop(inner);
            return false;
        }
        inner.groups.push(member);
        true
    }

    /// Whether it waits on another loop than the other one, which was started.
    pub fn waits_elsewhere(&self, py: Python<'_>, other: &Self) -> bool {
        let there = other.lock(py).home.as_ref().map(|home| home.event_loop.clone_ref(py));
        let inner = self.lock(py);
        match (&inner.state, &inner.home, there) {
            (State::Done(_), _, _) => false,
            (_, Some(home), Some(there)) => !home.event_loop.is(&there),
            _ => false,
        }
    }

    /// Its outcome, when it is done, for who takes it: it is not to be given back then.
    pub fn take(&self, py: Python<'_>) -> Option<PyResult<Py<PyAny>>> {
        let outcome = self.settled(py)?;
        let undo = self.lock(py).undo.take();
        drop(undo);
        Some(outcome)
    }

    /// The coroutine that waits for it is closed: it ends now, so that nothing is had for nobody;
    /// unless others wait for it too, or it is nothing to be given back.
    pub(super) fn abandon(slf: &Bound<'_, Self>) {
        let notice = {
            let inner = slf.get().lock(slf.py());
            let waits = matches!(inner.state, State::Waiting(Some(_)));
            let is_shared = inner.callbacks.len() > 1 || !inner.groups.is_empty();
            if !waits || is_shared || inner.undo.is_none() {
                return;
            }
            inner.notice.as_ref().map(Arc::clone)
        };
        match notice {
            Some(notice) => {
                notice.close();
                Self::poll(slf, By::Other);
            }
            None => Self::settle(slf, Settled::Cancelled(None), By::Other),
        }
    }

    /// Gives its value back, if it has one that nobody took.
    pub(super) fn roll_back(&self, py: Python<'_>) {
        let given_back = {
            let mut inner = self.lock(py);
            match &inner.state {
                State::Done(Settled::Value(value)) => {
                    let value = value.clone_ref(py);
                    inner.undo.take().map(|undo| (undo, value))
                }
                _ => None,
            }
        };
        if let Some((undo, value)) = given_back {
            undo(value);
        }
    }

    /// How many groups are within each other in it.
    pub fn depth(&self, py: Python<'_>) -> usize {
        match &self.lock(py).state {
            State::New(Start::Gather { depth, .. }) => *depth,
            State::Gathering(group) => group.get().depth,
            _ => 0,
        }
    }

    /// Its outcome, when it is done.
    pub fn settled(&self, py: Python<'_>) -> Option<PyResult<Py<PyAny>>> {
        match &self.lock(py).state {
            State::Done(settled) => Some(settled.outcome(py)),
            _ => None,
        }
    }
}

impl Inner {
    pub(super) fn new(state: State) -> Self {
        Self {
            state,
            home: None,
            blocking: false,
            callbacks: Vec::new(),
            groups: Vec::new(),
            undo: None,
            looked_at: false,
            notice: None,
            name: None,
            brisk: None,
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let (State::New(_), Some(name)) = (&self.state, self.name) {
            never_awaited(name);
        }
        if let Some(undo) = self.undo.take().filter(|_| !self.looked_at) {
            let state = std::mem::replace(&mut self.state, State::Done(Settled::Cancelled(None)));
            if let State::Done(Settled::Value(value)) = state {
                undo(value);
            }
        }
    }
}
