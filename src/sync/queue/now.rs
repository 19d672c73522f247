//! What the queues' faces share: errors, and what coroutines do. They are given what can be had
//! at once, else told what to do.

use super::channel::{Refused, Want};
use super::face::BaseQueue;
use super::line::Seat;
use super::seat::QueueSeat;
use super::wait::{Items, take_held};
use pyo3::exceptions::PyValueError;
use pyo3::import_exception;
use pyo3::prelude::*;

import_exception!(queue, Empty);
import_exception!(queue, Full);
import_exception!(plait._queues, ShutDown);

pub fn check_timeout(block: bool, timeout: Option<f64>) -> PyResult<()> {
    match timeout {
        Some(timeout) if block && timeout < 0.0 => {
            Err(PyValueError::new_err("'timeout' must be a non-negative number"))
        }
        _ => Ok(()),
    }
}

pub fn error(refused: Refused) -> PyErr {
    match refused {
        Refused::Empty => Empty::new_err(()),
        Refused::Full => Full::new_err(()),
        Refused::ShutDown => ShutDown::new_err(()),
        Refused::Open => unreachable!("an open queue is served otherwise"),
    }
}

/// Holds what is wanted for a coroutine, if there is any.
pub fn held(items: &Items, want: Want, seat: Option<&QueueSeat>) -> Result<Option<Seat>, Refused> {
    let look = |seat: &mut Option<_>| match items.look(want, seat) {
        Ok(true) => Ok(seat.take()),
        Ok(false) => Err(Refused::Empty),
        Err(refused) => Err(refused),
    };
    match seat {
        Some(seat) => seat.with(look),
        None => look(&mut None),
    }
}

/// What a coroutine does instead.
pub fn instead(py: Python<'_>, refused: Refused) -> PyResult<Bound<'_, PyAny>> {
    match refused {
        Refused::Open => Ok(py.get_type::<BaseQueue>().into_any()),
        Refused::Empty | Refused::Full => Ok(py.get_type::<QueueSeat>().into_any()),
        Refused::ShutDown => Err(error(refused)),
    }
}

pub fn get_now<'py>(
    py: Python<'py>,
    items: &Items,
    seat: Option<&QueueSeat>,
) -> PyResult<Bound<'py, PyAny>> {
    let refused = match held(items, Want::Item, seat) {
        Ok(seat) => match take_held(py, items, seat)? {
            Ok(item) => return Ok(item.into_bound(py)),
            Err(refused) => refused,
        },
        Err(refused) => refused,
    };
    instead(py, refused)
}
