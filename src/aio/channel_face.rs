//! What Python sees of a channel; `plait.aio.Channel` documents it.

use super::awaitable::Awaitable;
use super::bridge::waking;
use super::channel::{Channel, Gone};
use super::start::{Eager, Start, Undo, Work};
use crate::sync::face::{Seconds, task_party, wait};
use crate::sync::party::Party;
use pyo3::exceptions::{PyStopAsyncIteration, PyTimeoutError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use std::sync::Arc;

pyo3::import_exception!(plait.errors, ChannelClosed);
pyo3::import_exception!(queue, Empty);
pyo3::import_exception!(queue, Full);

/// The base of `plait.aio.Channel`.
#[pyclass(frozen, subclass, weakref)]
pub struct BaseChannel {
    channel: Arc<Channel<Py<PyAny>>>,
    #[pyo3(get)]
    capacity: Option<u64>,
}

fn closed_for_sending() -> PyErr {
    ChannelClosed::new_err("the channel is closed: it takes no more messages")
}

impl From<Gone> for PyErr {
    fn from(gone: Gone) -> Self {
        match gone {
            Gone::Closed => ChannelClosed::new_err("the channel is closed and has no messages"),
            Gone::Refused(refused) => refused.into(),
        }
    }
}

fn deadline(timeout: Option<Seconds>) -> Option<std::time::Instant> {
    timeout.and_then(Seconds::deadline)
}

impl BaseChannel {
    fn receive(&self, py: Python<'_>, timeout: Option<Seconds>) -> PyResult<Py<PyAny>> {
        if let Some(message) = waking(py, || self.channel.try_receive())? {
            return Ok(message);
        }
        let receive = self.channel.receive(Party::this_thread(), timeout.is_some());
        let received = wait(py, receive, deadline(timeout))?;
        received
            .ok_or_else(|| PyTimeoutError::new_err("no message came in time"))?
            .map_err(Into::into)
    }

    fn receive_async(&self, closed: fn(Gone) -> PyErr) -> Awaitable {
        let receiving = Receiving { channel: Arc::clone(&self.channel), closed };
        Awaitable::new(Start::Eager(Box::new(receiving))).named("recv_async")
    }
}

/// A receive in a coroutine.
struct Receiving {
    channel: Arc<Channel<Py<PyAny>>>,
    closed: fn(Gone) -> PyErr,
}

impl Eager for Receiving {
    fn at_once(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        waking(py, || self.channel.try_receive()).ok().flatten() // a closed one is found closed by the work
    }

    fn work(self: Box<Self>) -> (Work, Undo) {
        let Self { channel, closed } = *self;
        let returns = Arc::clone(&channel);
        let party = Python::attach(task_party).unwrap_or_else(|_| Party::rust_task());
        let work = async move { channel.receive(party, false).await.map_err(closed) };
        (Box::pin(work), Box::new(move |message| returns.put_back(message)))
    }
}

#[pymethods]
impl BaseChannel {
    #[new]
    fn new(capacity: Option<i64>) -> PyResult<Self> {
        let checked = capacity.map(|capacity| u64::try_from(capacity).ok().filter(|n| *n >= 1));
        let Some(capacity) = checked.map_or(Some(None), |capacity| capacity.map(Some)) else {
            return Err(PyValueError::new_err(format!(
                "capacity must be at least 1, or None for no limit, got {}",
                capacity.unwrap_or_default()
            )));
        };
        Ok(Self { channel: Arc::new(Channel::new(capacity)), capacity })
    }

    /// Puts a message in; waits for a place, so many seconds at most.
    #[pyo3(signature = (value, timeout=None))]
    fn send(&self, py: Python<'_>, value: Py<PyAny>, timeout: Option<Seconds>) -> PyResult<()> {
        if !self.channel.try_reserve() {
            let reserve = self.channel.reserve(Party::this_thread(), timeout.is_some());
            wait(py, reserve, deadline(timeout))?
                .ok_or_else(|| PyTimeoutError::new_err("no place became free in time"))??;
        }
        self._fill(py, value)
    }

    /// Puts a message in if there is a place.
    fn try_send(&self, py: Python<'_>, value: Py<PyAny>) -> PyResult<()> {
        if self._send_at_once(py, value)? { Ok(()) } else { Err(Full::new_err(())) }
    }

    /// Waits for a place, which is to be filled.
    fn _reserve(&self, py: Python<'_>) -> PyResult<Awaitable> {
        let reserve = self.channel.reserve(task_party(py)?, false);
        let (none, channel) = (py.None(), Arc::clone(&self.channel));
        Ok(Awaitable::with_rollback(async move { Ok(reserve.await.map(|()| none)?) }, move |_| {
            channel.free();
        }))
    }

    /// Puts a message in, if there is a place: whether there was.
    fn _send_at_once(&self, py: Python<'_>, value: Py<PyAny>) -> PyResult<bool> {
        if !self.channel.try_reserve() {
            return Ok(false);
        }
        self._fill(py, value).map(|()| true)
    }

    fn _fill(&self, py: Python<'_>, value: Py<PyAny>) -> PyResult<()> {
        waking(py, || self.channel.fill(value)).map_err(|_| closed_for_sending())
    }

    /// Takes the oldest message; waits for one, so many seconds at most.
    #[pyo3(signature = (timeout=None))]
    fn recv(&self, py: Python<'_>, timeout: Option<Seconds>) -> PyResult<Py<PyAny>> {
        self.receive(py, timeout)
    }

    /// Takes the oldest message, if there is one.
    fn try_recv(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        waking(py, || self.channel.try_receive())?.ok_or_else(|| Empty::new_err(()))
    }

    /// Takes the oldest message, in a coroutine.
    fn recv_async(&self) -> Awaitable {
        self.receive_async(PyErr::from)
    }

    /// Ends it for senders, and for receivers once it is empty.
    fn close(&self, py: Python<'_>) {
        waking(py, || self.channel.close());
    }

    #[getter]
    fn closed(&self) -> bool {
        self.channel.is_closed()
    }

    fn __len__(&self) -> usize {
        self.channel.len()
    }

    /// Also when it is empty.
    fn __bool__(&self) -> bool {
        true
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        match self.receive(py, None) {
            Err(error) if error.is_instance_of::<ChannelClosed>(py) => Ok(None),
            received => received.map(Some),
        }
    }

    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __anext__(&self) -> Awaitable {
        self.receive_async(|gone| match gone {
            Gone::Closed => PyStopAsyncIteration::new_err(()),
            refused => refused.into(),
        })
    }

    fn __reduce__(&self) -> PyResult<Py<PyAny>> {
        Err(PyTypeError::new_err(
            "a Channel belongs to its process; plait.get_context().Queue() goes to others",
        ))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let (name, channel) = (slf.get_type().name()?, &slf.get().channel);
        let capacity =
            slf.get().capacity.map_or("None".to_owned(), |capacity| capacity.to_string());
        let closed = if channel.is_closed() { ", closed" } else { "" };
        Ok(format!("<{name} capacity={capacity}, {} messages{closed}>", channel.len()))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Shared with awaitables: what they keep alive is not to be collected.
        if Arc::strong_count(&self.channel) > 1 {
            return Ok(());
        }
        self.channel.try_each(|message| visit.call(message)).unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        drop(self.channel.clear());
    }
}
