//! What Python sees of the watch over its loops. The thread that takes the news is CPython's own
//! (`plait._watch`): it waits here, detached, and reports from Python.

use super::bridge::Bridge;
use super::watch::{News, Rung, Watchman};
use crate::forked::Forked;
use pyo3::prelude::*;
use std::sync::Arc;
use std::time::Duration;

static WATCHMAN: Forked<Watchman> = Forked::new(Watchman::default, forget_after_fork);

extern "C" fn forget_after_fork() {
    WATCHMAN.forget();
}

/// Begins a watch over a loop, or (no bridge) one that tells when to look for loops. Gives its
/// number, and whether the caller has to start a thread that iterates over `WatchNews`.
#[pyfunction]
pub fn watch_begin(bridge: Option<Py<Bridge>>, threshold: f64) -> (u64, bool) {
    let inbox = bridge.map(|bridge| Arc::clone(bridge.get().inbox()) as Arc<dyn Rung>);
    let threshold = Duration::try_from_secs_f64(threshold).unwrap_or(Duration::MAX / 16);
    WATCHMAN.get().begin(inbox, threshold)
}

#[pyfunction]
pub fn watch_end(number: u64) {
    WATCHMAN.get().end(number);
}

/// The loop did not run: no standstill.
#[pyfunction]
pub fn watch_pause(number: u64) {
    WATCHMAN.get().pause(number);
}

/// Waits for the news of all watches, until there are none: `(number, seconds, stands)`, where
/// no number of seconds means that it is time to look for loops.
#[pyclass(frozen)]
pub struct WatchNews;

#[pymethods]
impl WatchNews {
    #[new]
    fn new() -> Self {
        Self
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> Option<(u64, Option<f64>, bool)> {
        let (number, news) = py.detach(|| WATCHMAN.get().next())?;
        Some(match news {
            News::Stands(so_far) => (number, Some(so_far.as_secs_f64()), true),
            News::GoesOn(after) => (number, Some(after.as_secs_f64()), false),
            News::Look => (number, None, false),
        })
    }
}
