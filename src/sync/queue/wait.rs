//! How threads of Python wait at a queue, and compare its items.

use super::channel::{Channel, Order, Refused, Want};
use super::heap::{Claim, Compare, Failed};
use super::line::{Seat, Wakes};
use crate::os::{Flag, LOOK_UP, Woken, is_main_thread};
use crate::python::above_python;
use pyo3::exceptions::{PyOverflowError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;
use std::time::{Duration, Instant};

/// A queue of Python objects.
pub type Items = Channel<Py<PyAny>, Wake>;

/// How one of Python's threads, or a task, is told to look again.
pub enum Wake {
    Thread(Arc<Flag>),
    Task(Waker),
}

impl Wakes for Wake {
    fn wake(self) {
        match self {
            Self::Thread(flag) => flag.set(),
            Self::Task(waker) => waker.wake(),
        }
    }

    fn is_thread(&self) -> bool {
        matches!(self, Self::Thread(_))
    }

    fn can_run(&self) -> bool {
        true
    }
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

    /// `TIMEOUT_MAX` of `threading`, in seconds, is the most that it takes.
    fn seconds(timeout: f64) -> PyResult<Self> {
        const MOST: f64 = i64::MAX as f64 / 1e9;
        if timeout.is_nan() {
            return Err(PyValueError::new_err("Invalid value NaN (not a number)"));
        }
        if timeout > MOST {
            return Err(PyOverflowError::new_err(format!(
                "timeout value is too large: {timeout} s; leave it out to wait without limit"
            )));
        }
        let wait = Duration::try_from_secs_f64(timeout).unwrap_or_default();
        Ok(Instant::now().checked_add(wait).map_or(Self::Endless, Self::Until))
    }

    fn is_over(self) -> bool {
        match self {
            Self::None => true,
            Self::Until(deadline) => deadline <= Instant::now(),
            Self::Endless => false,
        }
    }
}

/// Sleeps, detached, until the flag is set or the time is over. `Err`: a signal handler raised.
fn sleep(py: Python<'_>, flag: &Flag, patience: Patience) -> PyResult<()> {
    let deadline = match patience {
        Patience::None => return Ok(()),
        Patience::Until(deadline) => Some(deadline),
        Patience::Endless => None,
    };
    loop {
        let look_up = is_main_thread().then(|| Instant::now() + LOOK_UP);
        let until = deadline.into_iter().chain(look_up).min();
        match py.detach(|| flag.wait(until)) {
            Woken::Set => return Ok(()),
            Woken::TimedOut if until == deadline => return Ok(()),
            Woken::TimedOut | Woken::Interrupted => above_python(|| py.check_signals())?,
        }
    }
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
        let flag = Arc::new(Flag::default());
        if items.join(want, &mut place.seat, || Wake::Thread(Arc::clone(&flag))) {
            sleep(py, &flag, patience)?;
        }
    }
}

/// Gets an item. `Empty`: not in this time.
pub fn get(
    py: Python<'_>,
    items: &Items,
    block: bool,
    timeout: Option<f64>,
) -> PyResult<Result<Py<PyAny>, Refused>> {
    if items.order() != Order::Least {
        match items.try_get() {
            Err(Refused::Empty) if block => {}
            done => return Ok(done),
        }
    }
    match obtain(py, items, Want::Item, || Patience::new(block, timeout))? {
        Ok(seat) => take_held(py, items, seat),
        Err(refused) => Ok(Err(refused)),
    }
}

/// Puts an item, or gives it back with why not. `Full`: not in this time.
pub fn put(
    py: Python<'_>,
    items: &Items,
    item: Py<PyAny>,
    block: bool,
    timeout: Option<f64>,
) -> PyResult<Result<(), (Refused, Py<PyAny>)>> {
    let item = if items.order() == Order::Least {
        item
    } else {
        match items.try_put(item) {
            Err((Refused::Full, item)) if block => item,
            done => return Ok(done),
        }
    };
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
        let (me, mut seat) = (this_thread(), None);
        loop {
            let flag = Arc::new(Flag::default());
            match items.claim(me, &mut seat, || Wake::Thread(Arc::clone(&flag))) {
                Claim::Mine => return Ok(Self(items)),
                Claim::Reentered => {
                    return Err(PyRuntimeError::new_err(
                        "a comparison of this queue's items uses the queue itself, which would \
                         wait for itself",
                    ));
                }
                Claim::Waits => {
                    if let Err(error) = sleep(py, &flag, Patience::Endless) {
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

/// A number that no other thread has or had.
fn this_thread() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    thread_local! {
        static NUMBER: Cell<u64> = const { Cell::new(0) };
    }
    NUMBER.with(|number| {
        if number.get() == 0 {
            number.set(LAST.fetch_add(1, Ordering::Relaxed) + 1);
        }
        number.get()
    })
}

struct ByPython<'py>(Python<'py>);

impl Compare<Py<PyAny>> for ByPython<'_> {
    type Error = PyErr;

    fn less(&mut self, left: &Py<PyAny>, right: &Py<PyAny>) -> PyResult<bool> {
        above_python(|| left.bind(self.0).lt(right))
    }

    fn share(&self, item: &Py<PyAny>) -> Py<PyAny> {
        item.clone_ref(self.0)
    }
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
