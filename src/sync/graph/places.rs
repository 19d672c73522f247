//! The attached half of `order.rs`: which line of Python takes a lock.

use super::order::{self, Place, Thing, orders};
use crate::sync::line::{Acquire, Resource};
use crate::sync::party::Party;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use std::sync::Arc;

fn here(py: Python<'_>) -> PyResult<Place> {
    static FRAME: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let frame = FRAME.import(py, "sys", "_getframe")?.call0()?;
    let file: String = frame.getattr("f_code")?.getattr("co_filename")?.extract()?;
    Ok(Place { file: file.into(), line: frame.getattr("f_lineno")?.extract().unwrap_or(0) })
}

/// A lock was taken, here, if that is recorded.
#[inline]
pub fn note_taken<R: Resource>(py: Python<'_>, lock: &Arc<R>, party: Party, taken: bool) {
    if taken && order::is_recording() {
        note(py, lock, party);
    }
}

#[cold]
fn note<R: Resource>(py: Python<'_>, lock: &Arc<R>, party: Party) {
    if let Ok(place) = here(py) {
        orders().acquired(party, Arc::clone(lock) as Thing, lock.kind(), place);
    }
}

/// A lock is about to be waited for, here.
#[inline]
pub fn note_wanted<R: Resource>(py: Python<'_>, lock: &Arc<R>, party: Party) {
    if order::is_recording()
        && let Ok(place) = here(py)
    {
        orders().wanted(party, &(Arc::clone(lock) as Thing), lock.kind(), &place);
    }
}

/// A lock is about to be released, by this thread or a task of its.
#[inline]
pub fn note_released<R>(lock: &Arc<R>) {
    if order::is_recording() {
        orders().released(Party::this_thread(), Arc::as_ptr(lock).cast::<()>().addr());
    }
}

/// A lock that a task will have, perhaps.
#[derive(Clone)]
pub struct Noting(Option<(Party, Thing, &'static str, Place)>);

impl Noting {
    pub fn begin<R: Resource>(acquire: &Acquire<Arc<R>>) -> Self {
        let resource = acquire.resource();
        if !order::is_recording() || !resource.kind().ends_with("Lock") {
            return Self(None);
        }
        let place = Python::attach(here).ok();
        let thing = Arc::clone(resource) as Thing;
        if let Some(place) = &place {
            orders().wanted(acquire.party(), &thing, resource.kind(), place);
        }
        Self(place.map(|place| (acquire.party(), thing, resource.kind(), place)))
    }

    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    pub fn taken(self) {
        if let Some((party, thing, kind, place)) = self.0 {
            orders().acquired(party, thing, kind, place);
        }
    }

    pub fn released(self) {
        if let Some((party, thing, ..)) = self.0 {
            orders().released(party, Arc::as_ptr(&thing).cast::<()>().addr());
        }
    }
}

/// Turns it on or off; gives what it was.
#[pyfunction]
pub fn record_places(on: bool) -> bool {
    order::record(on)
}

type Taken = (&'static str, usize, String, u32);

/// Pairs of locks that were taken in both orders: for each order who did so first, and the two
/// locks with their places.
#[pyfunction]
pub fn lock_inversions() -> Vec<Vec<(u64, Taken, Taken)>> {
    let told = |pair: &order::Pair| {
        let [first, second] = [0, 1].map(|at| {
            let Place { file, line } = &pair.places[at];
            (pair.kinds[at], pair.addresses()[at], file.to_string(), *line)
        });
        (pair.party.word(), first, second)
    };
    let found = orders().inversions();
    found.iter().map(|pairs| pairs.iter().map(told).collect()).collect()
}

/// What a party holds, by its word, as far as that was recorded.
#[pyfunction]
pub fn locks_held(party: u64) -> Vec<Taken> {
    let Some(party) = Party::of_word(party) else { return Vec::new() };
    let held = orders().held_by(party);
    held.into_iter()
        .map(|(kind, at, place)| (kind, at, place.file.to_string(), place.line))
        .collect()
}
