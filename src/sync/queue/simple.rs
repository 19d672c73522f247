//! What Python sees of `SimpleQueue`: a queue without a limit, without tasks to be done.

use super::channel::{Order, Want};
use super::now::{check_timeout, error, get_now};
use super::seat::QueueSeat;
use super::wait::{Items, Patience, get, put};
use crate::shortcut::shortcut;
use crate::sync::face::{Truth, belongs_here};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};
use std::sync::Arc;

#[pyclass(frozen, subclass, weakref)]
pub struct BaseSimpleQueue {
    items: Arc<Items>,
}

#[pymethods]
impl BaseSimpleQueue {
    /// Subclasses may take arguments in their `__init__`.
    #[new]
    #[pyo3(signature = (*_args: "object", **_kwargs: "object"))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self { items: Arc::new(Items::new(Order::First)) }
    }

    fn __init__(&self) {}

    /// There always is room: `block` and `timeout` are not looked at.
    #[pyo3(signature = (item, block: "bool | None" = None, timeout: "float | None" = None))]
    fn put(
        &self,
        py: Python<'_>,
        item: Py<PyAny>,
        block: Option<&Bound<'_, PyAny>>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let _ = (block, timeout);
        put(py, &self.items, item, false, None)?.map_err(|(refused, _)| error(refused))
    }

    #[pyo3(signature = (block: "bool" = Truth(true), timeout=None))]
    fn get(&self, py: Python<'_>, block: Truth, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        if timeout.is_some() {
            check_timeout(block.0, timeout)?;
            Patience::new(block.0, timeout)?; // as in the standard library, checked in any case
        }
        get(py, &self.items, block.0, timeout)?.map_err(error)
    }

    fn put_nowait(&self, py: Python<'_>, item: Py<PyAny>) -> PyResult<()> {
        put(py, &self.items, item, false, None)?.map_err(|(refused, _)| error(refused))
    }

    fn get_nowait(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        get(py, &self.items, false, None)?.map_err(error)
    }

    fn qsize(&self) -> usize {
        self.items.length()
    }

    fn empty(&self) -> bool {
        self.items.length() == 0
    }

    #[pyo3(signature = (seat=None))]
    fn _get_now<'py>(
        &self,
        py: Python<'py>,
        seat: Option<&QueueSeat>,
    ) -> PyResult<Bound<'py, PyAny>> {
        get_now(py, &self.items, seat)
    }

    fn _item_seat(&self) -> QueueSeat {
        QueueSeat::new(&self.items, Want::Item)
    }

    /// By which the wait-for graph names it.
    #[getter]
    fn _engine(&self) -> usize {
        Arc::as_ptr(&self.items).addr()
    }

    #[pyo3(signature = (_protocol=None))]
    fn __reduce_ex__(&self, _protocol: Option<i32>) -> PyResult<Py<PyAny>> {
        Err(belongs_here("Queue"))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.items.try_visit(|item| visit.call(item))
    }

    fn __clear__(&self) {
        drop(self.items.try_clear());
    }
}

/// See `crate::shortcut`.
pub fn shortcuts(py: Python<'_>) -> PyResult<()> {
    shortcut!(py, BaseSimpleQueue, "put", 1, |py, this, [item]| {
        this.items.put_unnoticed(|| item.to_owned().unbind()).then(|| py.None())
    })?;
    shortcut!(py, BaseSimpleQueue, "get", 0, |_py, this, []| this.items.take_unnoticed())
}
