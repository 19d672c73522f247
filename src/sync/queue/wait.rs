//! How threads of Python wait at a queue, and compare its items.

use super::channel::{Channel, Order, Refused, Want};
use super::heap::{Claim, Compare, Failed};
use super::line::{Seat, Told, Wakes};
use crate::sync::face::{TIMEOUT_MAX, wait};
use crate::sync::graph::{self, Summons, Waited};
use crate::sync::observe::{self, Needs, Watched, before_wait};
use crate::sync::park::Parker;
use crate::sync::party::Party;
use pyo3::exceptions::{PyOverflowError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyInt, PyString, PyTuple};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// A queue of Python objects.
pub type Items = Channel<Py<PyAny>, Wake>;

/// How one of Python's threads, or a task, is told to look again.
pub struct Wake {
    waker: Waker,
    /// The thread that sleeps, or that runs the task's loop.
    home: Arc<Parker>,
    is_thread: bool,
}

impl Wake {
    fn this_thread() -> Self {
        let home = Parker::here();
        Self { waker: Waker::from(Arc::clone(&home)), home, is_thread: true }
    }

    /// Of a task of the loop that the calling thread runs.
    pub fn task(waker: Waker) -> Self {
        Self { waker, home: Parker::here(), is_thread: false }
    }
}

impl Wakes for Wake {
    fn wake(self) {
        self.waker.wake();
    }

    fn is_thread(&self) -> bool {
        self.is_thread
    }

    fn can_run(&self) -> bool {
        self.is_thread || !self.home.is_parked()
    }
}

/// One who waits, as the wait-for graph sees it: a queue has no owner.
struct Waiter {
    told: Told,
    address: usize,
    waker: Waker,
    summons: Summons,
}

impl Waited for Waiter {
    fn kind(&self) -> &'static str {
        "Queue"
    }

    fn needs(&self) -> Needs {
        if self.told.is_so() { Needs::Nothing } else { Needs::Anyone }
    }

    fn address(&self) -> usize {
        self.address
    }

    fn wake(&self) {
        self.waker.wake_by_ref();
    }

    fn summons(&self) -> &Summons {
        &self.summons
    }
}

/// Tells the wait-for graph of a wait without a limit.
pub fn watch(
    items: &Items,
    told: Told,
    party: Party,
    waker: Waker,
) -> Result<Watched, observe::Refused> {
    let (address, summons) = (std::ptr::from_ref(items).addr(), Summons::default());
    before_wait(party, || Arc::new(Waiter { told, address, waker, summons }))
}

/// How long one waits.
#[derive(Clone, Copy)]
pub enum Patience {
    None,
    Until(Instant),
    Endless,
}

impl Patience {
    /// As the arguments `block` and `timeout` of queues' methods say.
    pub fn new(block: bool, timeout: Option<f64>) -> PyResult<Self> {
        match timeout {
            _ if !block => Ok(Self::None),
            None => Ok(Self::Endless),
            Some(timeout) => Self::seconds(timeout),
        }
    }

    fn seconds(timeout: f64) -> PyResult<Self> {
        if timeout.is_nan() {
            return Err(PyValueError::new_err("Invalid value NaN (not a number)"));
        }
        if timeout > TIMEOUT_MAX {
            return Err(PyOverflowError::new_err(format!(
                "timeout value is too large: {timeout} s; leave it out to wait without limit"
            )));
        }
        let wait = Duration::try_from_secs_f64(timeout).unwrap_or_default();
        Ok(Instant::now().checked_add(wait).map_or(Self::Endless, Self::Until))
    }

    /// The outer `None`: there is no time at all.
    fn deadline(self) -> Option<Option<Instant>> {
        match self {
            Self::None => None,
            Self::Until(deadline) => Some(Some(deadline)),
            Self::Endless => Some(None),
        }
    }

    fn is_over(self) -> bool {
        match self {
            Self::None => true,
            Self::Until(deadline) => deadline <= Instant::now(),
            Self::Endless => false,
        }
    }
}

/// Sleeps, detached, until the seat was told or the time is over. `Err`: a signal handler raised,
/// or there is nobody left who could tell it.
fn sleep(
    py: Python<'_>,
    seat: Option<&Seat>,
    patience: Patience,
    watch: impl FnOnce(&Seat) -> Result<Option<Watched>, observe::Refused>,
) -> PyResult<()> {
    let (Some(seat), Some(deadline)) = (seat, patience.deadline()) else { return Ok(()) };
    let _here = graph::face::here(py, None);
    let (watched, told) = (watch(seat)?, seat.told());
    // It looks at the seat alone: the queue's state is for threads that are attached.
    let look = poll_fn(|_| {
        if told.is_so() {
            return Poll::Ready(Ok(()));
        }
        match watched.as_ref().map_or(Ok(()), Watched::look_again) {
            Ok(()) => Poll::Pending,
            Err(refused) => Poll::Ready(Err(refused)),
        }
    });
    wait(py, look, deadline)?.transpose()?;
    Ok(())
}

/// Waits until what is wanted is held for the caller. `Empty` or `Full`: the time is over.
/// `patience` is asked for when there is something to wait for.
pub fn obtain(
    py: Python<'_>,
    items: &Items,
    want: Want,
    patience: impl FnOnce() -> PyResult<Patience>,
) -> PyResult<Result<Option<Seat>, Refused>> {
    let mut place = Place { items, want, seat: None };
    let (mut unasked, mut patience) = (Some(patience), Patience::Endless);
    loop {
        match items.look(want, &mut place.seat) {
            Ok(true) => return Ok(Ok(place.seat.take())),
            Ok(false) => {}
            Err(refused) => return Ok(Err(refused)),
        }
        if let Some(ask) = unasked.take() {
            patience = ask()?;
        }
        if patience.is_over() {
            return Ok(Err(if want == Want::Slot { Refused::Full } else { Refused::Empty }));
        }
        if items.join(want, &mut place.seat, Wake::this_thread) {
            let limited = !matches!(patience, Patience::Endless);
            sleep(py, place.seat.as_ref(), patience, |seat| {
                let waker = || Waker::from(Parker::here());
                let watched = || watch(items, seat.told(), Party::this_thread(), waker());
                if limited { Ok(None) } else { watched().map(Some) }
            })?;
        }
    }
}

/// Gets an item. `Empty`: not in this time.
#[inline]
pub fn get(
    py: Python<'_>,
    items: &Items,
    block: bool,
    timeout: Option<f64>,
) -> PyResult<Result<Py<PyAny>, Refused>> {
    let quick = match items.order() {
        Order::Least => items.take_quick(&mut ByPython(py)),
        _ => items.try_get().map_err(Some),
    };
    match quick {
        Ok(item) => return Ok(Ok(item)),
        Err(Some(Refused::Empty)) if block => {}
        Err(Some(refused)) => return Ok(Err(refused)),
        Err(None) => {}
    }
    get_slowly(py, items, block, timeout)
}

#[cold]
fn get_slowly(
    py: Python<'_>,
    items: &Items,
    block: bool,
    timeout: Option<f64>,
) -> PyResult<Result<Py<PyAny>, Refused>> {
    match obtain(py, items, Want::Item, || Patience::new(block, timeout))? {
        Ok(seat) => take_held(py, items, seat),
        Err(refused) => Ok(Err(refused)),
    }
}

/// Puts an item, or gives it back with why not. `Full`: not in this time.
#[inline]
pub fn put(
    py: Python<'_>,
    items: &Items,
    item: Py<PyAny>,
    block: bool,
    timeout: Option<f64>,
) -> PyResult<Result<(), (Refused, Py<PyAny>)>> {
    let quick = match items.order() {
        Order::Least => items.put_quick(item, &mut ByPython(py)),
        _ => items.try_put(item).map_err(|(refused, item)| (Some(refused), item)),
    };
    let item = match quick {
        Ok(()) => return Ok(Ok(())),
        Err((Some(Refused::Full), item)) if block => item,
        Err((Some(refused), item)) => return Ok(Err((refused, item))),
        Err((None, item)) => item,
    };
    put_slowly(py, items, item, block, timeout)
}

#[cold]
fn put_slowly(
    py: Python<'_>,
    items: &Items,
    item: Py<PyAny>,
    block: bool,
    timeout: Option<f64>,
) -> PyResult<Result<(), (Refused, Py<PyAny>)>> {
    match obtain(py, items, Want::Slot, || Patience::new(block, timeout))? {
        Ok(seat) => put_held(py, items, seat, item),
        Err(refused) => Ok(Err((refused, item))),
    }
}

/// Whatever ends the wait, the seat is given up.
struct Place<'a> {
    items: &'a Items,
    want: Want,
    seat: Option<Seat>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.items.leave(self.want, self.seat.take());
    }
}

/// The right to compare, until it is dropped.
pub struct Claimed<'a>(&'a Items);

impl<'a> Claimed<'a> {
    /// Waits as long as it takes others to compare.
    pub fn by_thread(py: Python<'_>, items: &'a Items) -> PyResult<Self> {
        let (me, mut seat) = (Party::this_thread().word(), None);
        loop {
            match items.claim(me, &mut seat, Wake::this_thread) {
                Claim::Mine => return Ok(Self(items)),
                Claim::Reentered => {
                    return Err(PyRuntimeError::new_err(
                        "a comparison of this queue's items uses the queue itself, which would \
                         wait for itself",
                    ));
                }
                Claim::Waits => {
                    if let Err(error) = sleep(py, seat.as_ref(), Patience::Endless, |_| Ok(None)) {
                        items.leave_claim(seat);
                        return Err(error);
                    }
                }
            }
        }
    }
}

impl Drop for Claimed<'_> {
    fn drop(&mut self) {
        self.0.unclaim();
    }
}

struct ByPython<'py>(Python<'py>);

impl Compare<Py<PyAny>> for ByPython<'_> {
    type Error = PyErr;

    fn less(&mut self, left: &Py<PyAny>, right: &Py<PyAny>) -> PyResult<bool> {
        left.bind(self.0).lt(right)
    }

    fn quick(&mut self, left: &Py<PyAny>, right: &Py<PyAny>) -> Option<bool> {
        let (left, right) = (left.bind(self.0), right.bind(self.0));
        let (Ok(left), Ok(right)) = (left.cast_exact::<PyTuple>(), right.cast_exact::<PyTuple>())
        else {
            return plain(left, right).then(|| left.lt(right).ok())?;
        };
        for (one, other) in left.iter_borrowed().zip(right.iter_borrowed()) {
            if !one.is(other) {
                if !plain(&one, &other) {
                    return None;
                }
                if !one.eq(other).ok()? {
                    return one.lt(other).ok();
                }
            }
        }
        Some(left.len() < right.len())
    }

    fn share(&self, item: &Py<PyAny>) -> Py<PyAny> {
        item.clone_ref(self.0)
    }
}

/// Whether comparing the two runs no foreign code, and cannot fail.
fn plain(left: &Bound<'_, PyAny>, right: &Bound<'_, PyAny>) -> bool {
    let is_number = |item: &Bound<'_, PyAny>| {
        item.is_exact_instance_of::<PyInt>() || item.is_exact_instance_of::<PyFloat>()
    };
    let is_text = |item: &Bound<'_, PyAny>| item.is_exact_instance_of::<PyString>();
    (is_number(left) && is_number(right)) || (is_text(left) && is_text(right))
}

/// Puts into the slot that is held.
pub fn put_held(
    py: Python<'_>,
    items: &Items,
    seat: Option<Seat>,
    item: Py<PyAny>,
) -> PyResult<Result<(), (Refused, Py<PyAny>)>> {
    if items.order() != Order::Least {
        return Ok(items.put_held(seat, item));
    }
    let mut place = Place { items, want: Want::Slot, seat };
    let claimed = Claimed::by_thread(py, items)?;
    let outcome = items.put_least(&mut place.seat, item, &mut ByPython(py));
    drop(claimed);
    match outcome {
        Ok(()) => Ok(Ok(())),
        Err((Failed::Refused(refused), item)) => Ok(Err((refused, item))),
        Err((Failed::Raised(error), _)) => Err(error),
    }
}

/// Takes the item that is held.
pub fn take_held(
    py: Python<'_>,
    items: &Items,
    seat: Option<Seat>,
) -> PyResult<Result<Py<PyAny>, Refused>> {
    if items.order() != Order::Least {
        return Ok(items.take_held(seat));
    }
    let mut place = Place { items, want: Want::Item, seat };
    let claimed = Claimed::by_thread(py, items)?;
    let outcome = items.take_least(&mut place.seat, &mut ByPython(py));
    drop(claimed);
    match outcome {
        Ok(item) => Ok(Ok(item)),
        Err(Failed::Refused(refused)) => Ok(Err(refused)),
        Err(Failed::Raised(error)) => Err(error),
    }
}
