//! What Python sees of `Queue`, `LifoQueue` and `PriorityQueue`; `plait.sync` documents them.
//!
//! **Open queues.** The standard library's queue shows its insides: `queue`, `mutex` and three
//! conditions, and subclasses override `_init`, `_qsize`, `_put` and `_get`. Code that touches
//! any of this gets what it expects: the items are handed over to a deque or a list that is
//! really used from then on, under a mutex and conditions that are. Such a queue is *open*, and
//! served by `plait._open_queue`, at about the standard library's speed.

use super::channel::{Order, Refused, Want};
use super::now::{check_timeout, error, get_now, held, instead};
use super::seat::QueueSeat;
use super::wait::{Claimed, Items, Patience, get, obtain, put, put_held};
use crate::shortcut::shortcut;
use crate::sync::face::{Truth, belongs_here};
use pyo3::call::PyCallArgs;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit, intern};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

/// What `_traits` of a class, a number, says.
mod traits {
    /// The order of its items, as a number.
    pub const ORDER: u8 = 0b11;
    /// It overrides some of `_init`, `_qsize`, `_put`, `_get`.
    pub const OPEN: u8 = 1 << 2;
    /// It overrides `put` or `get`, which `put_nowait` and `get_nowait` then call.
    pub const PUT: u8 = 1 << 3;
    pub const GET: u8 = 1 << 4;
}

#[pyclass(frozen, subclass, weakref)]
pub struct BaseQueue {
    items: Arc<Items>,
    traits: u8,
    maxsize: AtomicI64,
    /// What an open queue is served by: a `plait._open_queue.Opened`.
    opened: OnceLock<Py<PyAny>>,
}

impl BaseQueue {
    fn is(&self, mark: u8) -> bool {
        self.traits & mark != 0
    }

    /// Opens the queue if it is not, and gives what serves it.
    fn open<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        static OPEN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = slf.py();
        if let Some(opened) = slf.get().opened.get() {
            return Ok(opened.bind(py).clone());
        }
        let open = OPEN.import(py, "plait._open_queue", "open_queue")?;
        open.call1((slf,))
    }

    /// Has the one who serves an open queue do it.
    fn served<'py>(
        slf: &Bound<'py, Self>,
        name: &Bound<'py, PyString>,
        arguments: impl PyCallArgs<'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let opened = Self::open(slf)?;
        opened.call_method1(name, arguments)
    }

    /// An attribute that only an open queue has.
    fn inside<'py>(slf: &Bound<'py, Self>, name: &Bound<'py, PyString>) -> PyResult<Py<PyAny>> {
        Ok(Self::open(slf)?.getattr(name)?.unbind())
    }

    fn limit(maxsize: i64) -> usize {
        usize::try_from(maxsize).unwrap_or(0)
    }
}

/// Of a number of any kind: `Queue(maxsize=math.inf)` is one without a limit.
fn whole(maxsize: &Bound<'_, PyAny>) -> PyResult<i64> {
    maxsize.extract::<i64>().or_else(|_| Ok(maxsize.extract::<f64>()?.ceil() as i64))
}

#[pymethods]
impl BaseQueue {
    /// Subclasses may take other arguments in their `__init__`.
    #[new]
    #[classmethod]
    #[pyo3(signature = (*_args: "object", **_kwargs: "object"))]
    fn new(
        class: &Bound<'_, PyType>,
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let traits: u8 = class.getattr(intern!(class.py(), "_traits"))?.extract()?;
        let order = match traits & traits::ORDER {
            0 => Order::First,
            1 => Order::Last,
            _ => Order::Least,
        };
        let items = Arc::new(Items::new(order));
        Ok(Self { items, traits, maxsize: AtomicI64::new(0), opened: OnceLock::new() })
    }

    #[pyo3(signature = (maxsize=None))]
    fn __init__(slf: &Bound<'_, Self>, maxsize: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        if let Some(maxsize) = maxsize {
            slf.get().set_maxsize(maxsize)?;
        }
        if slf.get().is(traits::OPEN) {
            Self::open(slf)?;
        }
        Ok(())
    }

    #[pyo3(signature = (item, block: "bool" = Truth(true), timeout=None))]
    fn put(
        slf: &Bound<'_, Self>,
        item: Py<PyAny>,
        block: Truth,
        timeout: Option<f64>,
    ) -> PyResult<()> {
        let (py, items) = (slf.py(), &slf.get().items);
        if timeout.is_some() && items.limit() != 0 && !items.is_shut() {
            check_timeout(block.0, timeout)?;
        }
        match put(py, items, item, block.0, timeout)? {
            Ok(()) => Ok(()),
            Err((Refused::Open, item)) => {
                Self::served(slf, intern!(py, "put"), (item, block.0, timeout)).map(drop)
            }
            Err((refused, _)) => Err(error(refused)),
        }
    }

    #[pyo3(signature = (block: "bool" = Truth(true), timeout=None))]
    fn get<'py>(
        slf: &Bound<'py, Self>,
        block: Truth,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, items) = (slf.py(), &slf.get().items);
        if timeout.is_some() && !(items.is_shut() && items.length() == 0) {
            check_timeout(block.0, timeout)?;
        }
        match get(py, items, block.0, timeout)? {
            Ok(item) => Ok(item.into_bound(py)),
            Err(Refused::Open) => Self::served(slf, intern!(py, "get"), (block.0, timeout)),
            Err(refused) => Err(error(refused)),
        }
    }

    fn put_nowait(slf: &Bound<'_, Self>, item: Py<PyAny>) -> PyResult<()> {
        if slf.get().is(traits::PUT) {
            let put = intern!(slf.py(), "put");
            return slf.call_method1(put, (item, false)).map(drop);
        }
        Self::put(slf, item, Truth(false), None)
    }

    fn get_nowait<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        if slf.get().is(traits::GET) {
            return slf.call_method1(intern!(slf.py(), "get"), (false,));
        }
        Self::get(slf, Truth(false), None)
    }

    fn qsize<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        if slf.get().items.is_open() {
            return Self::served(slf, intern!(py, "qsize"), ());
        }
        Ok(slf.get().items.length().into_pyobject(py)?.into_any())
    }

    fn empty(slf: &Bound<'_, Self>) -> PyResult<bool> {
        if slf.get().items.is_open() {
            return Self::served(slf, intern!(slf.py(), "empty"), ())?.is_truthy();
        }
        Ok(slf.get().items.length() == 0)
    }

    fn full(slf: &Bound<'_, Self>) -> PyResult<bool> {
        if slf.get().items.is_open() {
            return Self::served(slf, intern!(slf.py(), "full"), ())?.is_truthy();
        }
        Ok(slf.get().items.is_full())
    }

    fn task_done(slf: &Bound<'_, Self>) -> PyResult<()> {
        if slf.get().items.is_open() {
            return Self::served(slf, intern!(slf.py(), "task_done"), ()).map(drop);
        }
        if slf.get().items.task_done() {
            return Ok(());
        }
        Err(PyValueError::new_err("task_done() called too many times"))
    }

    fn join(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (py, items) = (slf.py(), &slf.get().items);
        match obtain(py, items, Want::Done, || Ok(Patience::Endless))? {
            Ok(seat) => items.leave(Want::Done, seat),
            Err(_) => drop(Self::served(slf, intern!(py, "join"), ())?),
        }
        Ok(())
    }

    #[pyo3(signature = (immediate: "bool" = Truth(false)))]
    fn shutdown(slf: &Bound<'_, Self>, immediate: Truth) -> PyResult<()> {
        let (py, items) = (slf.py(), &slf.get().items);
        if items.is_open() {
            return Self::served(slf, intern!(py, "shutdown"), (immediate.0,)).map(drop);
        }
        let dropped = items.shut_down(immediate.0);
        drop(dropped);
        Ok(())
    }

    /// For coroutines: puts if it can at once (None), else says what to do: with the class
    /// `QueueSeat` to wait with one, with the class `BaseQueue` that the queue is open.
    #[pyo3(signature = (item, seat=None))]
    fn _put_now<'py>(
        slf: &Bound<'py, Self>,
        item: Py<PyAny>,
        seat: Option<&QueueSeat>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (py, items) = (slf.py(), &slf.get().items);
        let refused = match held(items, Want::Slot, seat) {
            Ok(seat) => match put_held(py, items, seat, item)? {
                Ok(()) => return Ok(None),
                Err((refused, _)) => refused,
            },
            Err(refused) => refused,
        };
        instead(py, refused).map(Some)
    }

    /// For coroutines: an item, or what to do as with `_put_now`.
    #[pyo3(signature = (seat=None))]
    fn _get_now<'py>(
        slf: &Bound<'py, Self>,
        seat: Option<&QueueSeat>,
    ) -> PyResult<Bound<'py, PyAny>> {
        get_now(slf.py(), &slf.get().items, seat)
    }

    /// For coroutines: None if no task is unfinished, or what to do as with `_put_now`.
    #[pyo3(signature = (seat=None))]
    fn _done_now<'py>(
        slf: &Bound<'py, Self>,
        seat: Option<&QueueSeat>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (py, items) = (slf.py(), &slf.get().items);
        match held(items, Want::Done, seat) {
            Ok(seat) => {
                items.leave(Want::Done, seat);
                Ok(None)
            }
            Err(refused) => instead(py, refused).map(Some),
        }
    }

    /// A coroutine's place in the line for slots, for items, or for there to be nothing undone.
    fn _slot_seat(&self) -> QueueSeat {
        QueueSeat::new(&self.items, Want::Slot)
    }

    fn _item_seat(&self) -> QueueSeat {
        QueueSeat::new(&self.items, Want::Item)
    }

    fn _done_seat(&self) -> QueueSeat {
        QueueSeat::new(&self.items, Want::Done)
    }

    /// By which the wait-for graph names it.
    #[getter]
    fn _engine(&self) -> usize {
        Arc::as_ptr(&self.items).addr()
    }

    /// For tests: how many wait for an "item", a "slot" or for all to be "done".
    fn _waiting(&self, what: &str) -> usize {
        let want = match what {
            "item" => Want::Item,
            "slot" => Want::Slot,
            _ => Want::Done,
        };
        self.items.waiting(want)
    }

    /// For `open_queue`: the queue is served by this from now on. Its items so far; None: it was
    /// open before.
    fn _hand_over(slf: &Bound<'_, Self>, opened: Py<PyAny>) -> PyResult<Option<Vec<Py<PyAny>>>> {
        let (py, this) = (slf.py(), slf.get());
        // Nobody compares meanwhile.
        let claimed = Claimed::by_thread(py, &this.items)?;
        let handed = this.opened.set(opened).is_ok().then(|| this.items.open());
        drop(claimed);
        Ok(handed.map(|items| items.into_iter().collect()))
    }

    #[getter]
    fn _opened(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Ok(Self::open(slf)?.unbind())
    }

    #[getter]
    fn maxsize(&self) -> i64 {
        self.maxsize.load(Ordering::Relaxed)
    }

    #[setter]
    fn set_maxsize(&self, maxsize: &Bound<'_, PyAny>) -> PyResult<()> {
        let maxsize = whole(maxsize)?;
        self.maxsize.store(maxsize, Ordering::Relaxed);
        self.items.set_limit(Self::limit(maxsize));
        Ok(())
    }

    #[getter]
    fn unfinished_tasks(&self) -> usize {
        self.items.unfinished()
    }

    #[setter]
    fn set_unfinished_tasks(&self, unfinished: usize) {
        self.items.set_unfinished(unfinished);
    }

    #[getter]
    fn is_shutdown(&self) -> bool {
        self.items.is_shut()
    }

    #[setter]
    fn set_is_shutdown(&self, shut: bool) {
        self.items.set_shut(shut);
    }

    #[getter]
    fn mutex(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Self::inside(slf, intern!(slf.py(), "mutex"))
    }

    #[getter]
    fn not_empty(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Self::inside(slf, intern!(slf.py(), "not_empty"))
    }

    #[getter]
    fn not_full(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Self::inside(slf, intern!(slf.py(), "not_full"))
    }

    #[getter]
    fn all_tasks_done(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Self::inside(slf, intern!(slf.py(), "all_tasks_done"))
    }

    #[getter]
    fn queue(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Self::inside(slf, intern!(slf.py(), "queue"))
    }

    #[setter]
    fn set_queue(slf: &Bound<'_, Self>, queue: Py<PyAny>) -> PyResult<()> {
        Self::open(slf)?.setattr(intern!(slf.py(), "queue"), queue)
    }

    fn _init(slf: &Bound<'_, Self>, maxsize: Py<PyAny>) -> PyResult<()> {
        Self::served(slf, intern!(slf.py(), "init"), (maxsize,)).map(drop)
    }

    fn _qsize<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::served(slf, intern!(slf.py(), "length"), ())
    }

    fn _put(slf: &Bound<'_, Self>, item: Py<PyAny>) -> PyResult<()> {
        Self::served(slf, intern!(slf.py(), "push"), (item,)).map(drop)
    }

    fn _get<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::served(slf, intern!(slf.py(), "pop"), ())
    }

    #[pyo3(signature = (_protocol=None))]
    fn __reduce_ex__(&self, _protocol: Option<i32>) -> PyResult<Py<PyAny>> {
        Err(belongs_here("Queue"))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(self.opened.get())?; // which, being Python's, can be cleared
        self.items.try_visit(|item| visit.call(item))
    }

    fn __clear__(&self) {
        drop(self.items.try_clear());
    }
}

/// See `crate::shortcut`.
pub fn shortcuts(py: Python<'_>) -> PyResult<()> {
    shortcut!(py, BaseQueue, "put", 1, |py, this, [item]| {
        this.items.put_unnoticed(|| item.to_owned().unbind()).then(|| py.None())
    })?;
    shortcut!(py, BaseQueue, "get", 0, |_py, this, []| this.items.take_unnoticed())
}
