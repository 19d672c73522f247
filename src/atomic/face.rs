//! What Python sees of atomic values; `plait.atomic` has the documentation.

use super::{Number, twin};
use crate::error::locked;
use pyo3::exceptions::{PyOverflowError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use std::sync::Mutex;

/// A whole number that threads change without a lock.
#[pyclass(frozen, subclass)]
pub struct AtomicInt {
    number: Number,
}

impl AtomicInt {
    fn change(&self, sign: &str, by: i64, change: impl Fn(i64) -> Option<i64>) -> PyResult<i64> {
        self.number.update(change).map_err(|overflow| {
            PyOverflowError::new_err(format!(
                "{} {sign} {by} does not fit into the 64 bits of an AtomicInt; it is unchanged",
                overflow.value
            ))
        })
    }
}

#[pymethods]
impl AtomicInt {
    #[new]
    #[pyo3(signature = (value=0, /))]
    fn new(value: i64) -> Self {
        Self { number: Number::new(value) }
    }

    /// Its value.
    fn load(&self) -> i64 {
        self.number.load()
    }

    /// Sets it.
    fn store(&self, value: i64) {
        self.number.store(value);
    }

    /// Sets it; returns what it was.
    fn exchange(&self, value: i64) -> i64 {
        self.number.swap(value)
    }

    /// Sets it to `new` if it is `expected`; returns whether it was.
    fn compare_exchange(&self, expected: i64, new: i64) -> bool {
        self.number.compare_exchange(expected, new)
    }

    /// Adds; returns the sum.
    #[pyo3(signature = (n=1))]
    fn add(&self, n: i64) -> PyResult<i64> {
        Ok(self.fetch_add(n)? + n)
    }

    /// Subtracts; returns the difference.
    #[pyo3(signature = (n=1))]
    fn sub(&self, n: i64) -> PyResult<i64> {
        let before = self.change("-", n, |value| value.checked_sub(n))?;
        Ok(before - n)
    }

    /// Adds; returns what it was before.
    #[pyo3(signature = (n=1))]
    fn fetch_add(&self, n: i64) -> PyResult<i64> {
        self.change("+", n, |value| value.checked_add(n))
    }

    /// Makes it the larger of its value and `n`; returns what it was before.
    fn fetch_max(&self, n: i64) -> PyResult<i64> {
        self.change("max", n, |value| Some(value.max(n)))
    }

    /// Makes it the smaller of its value and `n`; returns what it was before.
    fn fetch_min(&self, n: i64) -> PyResult<i64> {
        self.change("min", n, |value| Some(value.min(n)))
    }

    fn __int__(&self) -> i64 {
        self.number.load()
    }

    fn __index__(&self) -> i64 {
        self.number.load()
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        Ok(format!("{}({})", slf.get_type().name()?, slf.get().number.load()))
    }
}

/// A reference that threads change without a lock of theirs.
#[pyclass(frozen, subclass)]
pub struct AtomicRef {
    value: Mutex<Py<PyAny>>,
}

#[pymethods]
impl AtomicRef {
    #[new]
    #[pyo3(signature = (value=None, /))]
    fn new(py: Python<'_>, value: Option<Py<PyAny>>) -> Self {
        Self { value: Mutex::new(value.unwrap_or_else(|| py.None())) }
    }

    /// The object that it refers to.
    fn load(&self, py: Python<'_>) -> Py<PyAny> {
        locked(&self.value).clone_ref(py)
    }

    /// Has it refer to another one.
    fn store(&self, value: Py<PyAny>) {
        drop(self.exchange(value)); // not under the lock
    }

    /// Has it refer to another one; returns the former.
    fn exchange(&self, value: Py<PyAny>) -> Py<PyAny> {
        std::mem::replace(&mut *locked(&self.value), value)
    }

    /// Has it refer to `new` if it refers to `expected`, that very object; returns whether it did.
    fn compare_exchange(&self, expected: Py<PyAny>, new: Py<PyAny>) -> bool {
        let mut new = new;
        let mut value = locked(&self.value);
        let is_expected = value.is(&expected);
        if is_expected {
            std::mem::swap(&mut *value, &mut new);
        }
        drop(value);
        is_expected // and what is let go of is dropped now, after the lock
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let value = slf.get().load(slf.py());
        Ok(format!("{}({})", slf.get_type().name()?, value.bind(slf.py()).repr()?.to_cow()?))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // The collector waits for nobody: a thread that it has stopped may hold the lock.
        match self.value.try_lock() {
            Ok(value) => visit.call(&*value),
            Err(_) => Ok(()),
        }
    }

    fn __clear__(&self) {
        let _former = Python::attach(|py| self.exchange(py.None()));
    }
}

/// What `threads` threads in Rust leave that each add one to a number, `rounds` times.
#[pyfunction]
#[pyo3(signature = (threads, rounds, in_one_step))]
pub fn add_together(
    py: Python<'_>,
    threads: usize,
    rounds: u64,
    in_one_step: bool,
) -> PyResult<u64> {
    py.detach(|| twin::add_together(threads, rounds, in_one_step))
        .ok_or_else(|| PyRuntimeError::new_err(format!("cannot start {threads} threads")))
}
