//! The pool as `plait.executors` drives it. Tasks and their bytes are handled here; worker
//! processes are started, killed and reaped by Python, when `drive` says so.

use super::answer::{Answers, Memory, Ticket, Words};
use super::arena::{Arena, BlockId};
use super::codec::Codec;
use super::common::{Loans, Shared};
use super::defined::{Defined, number_of};
use super::driver::Pool;
use super::engine::Engine;
use super::known::Watch;
use super::link::RingLink;
use super::map::{Map, Plan, PoolMap};
use super::mapping::{count_forks, generation};
use super::message::{Head, Kind, add_item};
use super::shared::{Board, Control, PAGE, WORKER_BYTES};
use super::state::{Duty, Options, Task};
use super::view::LazyView;
use crate::error::{ProcessError, locked};
use crate::future::{self, Core, Outcome, Source};
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple, PyType, PyWeakrefReference};
use rustix::io::Errno;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

fn os_error(action: &'static str, error: Errno) -> PyErr {
    ProcessError::os(action, error).into()
}

/// How tasks are to be run; see `plait.executors`.
#[pyclass(frozen)]
pub struct TaskOptions(Arc<Options>);

#[pymethods]
impl TaskOptions {
    #[new]
    #[pyo3(signature = (timeout=None, retries=0, memory=None, name=None))]
    fn new(
        timeout: Option<f64>,
        retries: u32,
        memory: Option<u64>,
        name: Option<String>,
    ) -> PyResult<Self> {
        let limit = timeout.map(Duration::try_from_secs_f64).transpose();
        let limit = limit.map_err(|error| PyValueError::new_err(format!("timeout: {error}")))?;
        let timeout_ns = limit.map(|limit| u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX));
        Ok(Self(Arc::new(Options { timeout_ns, retries, memory, name })))
    }
}

/// A function, or a set of context variables, that the workers of a pool have, until nobody has
/// this any more.
#[pyclass(frozen)]
pub struct PoolDefinition(Arc<Defined>);

#[pymethods]
impl PoolDefinition {
    #[getter]
    fn number(&self) -> u32 {
        self.0.number
    }
}

/// A pool of worker processes; see `plait.executors`.
#[pyclass(frozen)]
pub struct ProcessPool {
    shared: Arc<Shared>,
    source: Arc<dyn Source>,
    future: Py<PyType>,
}

impl ProcessPool {
    fn options(options: Option<&Bound<'_, TaskOptions>>) -> Option<Arc<Options>> {
        options.map(|options| Arc::clone(&options.get().0))
    }

    /// The function, defined; `None`: it goes along with each task.
    fn function(&self, function: &Bound<'_, PyAny>) -> PyResult<Option<Arc<Defined>>> {
        let known = self.shared.known(function.py()).find(function);
        match known {
            Some(defined) => Ok(Some(defined)),
            None => self.defined_by(function.py(), "define", function),
        }
    }

    /// The current context's variables, defined; `None`: there are none.
    fn context(&self, py: Python<'_>) -> PyResult<Option<Arc<Defined>>> {
        let current = crate::context::variables(py)?;
        current.map_or(Ok(None), |context| self.defined_by(py, "context", &context))
    }

    /// Python's half defines what the workers don't have.
    fn defined_by(
        &self,
        py: Python<'_>,
        method: &str,
        what: &Bound<'_, PyAny>,
    ) -> PyResult<Option<Arc<Defined>>> {
        let half = self.shared.half(py)?;
        let made = half.call_method1(method, (what,))?;
        let defined: Option<PyRef<'_, PoolDefinition>> = made.extract()?;
        Ok(defined.map(|defined| Arc::clone(&defined.0)))
    }

    fn encode_call(
        &self,
        function: Option<&Bound<'_, PyAny>>,
        args: &Bound<'_, PyTuple>,
        kwargs: &Bound<'_, PyAny>,
        out: &mut Vec<u8>,
        blocks: &mut Vec<BlockId>,
    ) -> PyResult<()> {
        let codec = &self.shared.words.codec;
        let arena = &self.shared.arena;
        add_item(out, |out| {
            if let Some(function) = function {
                codec.encode(function, "fn", out, arena, blocks)?;
            }
            codec.encode(args.as_any(), "args", out, arena, blocks)?;
            codec.encode(kwargs, "kwargs", out, arena, blocks)
        })
    }
}

#[pymethods]
impl ProcessPool {
    /// `half`: what of the pool is Python, see `plait._pool`. It has this one, so this one
    /// refers to it weakly.
    #[new]
    fn new(
        py: Python<'_>,
        future: Py<PyType>,
        max_workers: u32,
        max_tasks: Option<u64>,
        half: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        count_forks();
        let helpers = py.import("plait._pool_words")?.into_any().unbind();
        let board = Board::create().map_err(|error| os_error("make a file in memory", error))?;
        let board = Arc::new(board);
        let arena = Arc::new(Mutex::new(Arena::new(Arc::clone(&board), PAGE as u64, max_workers)?));
        let engine = Engine::new(Loans(Arc::clone(&arena)), max_workers as usize, max_tasks);
        let pool = Board::new(&*board).and_then(|board| Pool::new(engine, board));
        let codec = Arc::new(Codec::new(py, false)?);
        let shared = Arc::new(Shared {
            pool: pool.map_err(|error| os_error("make a pool's shared memory", error))?,
            words: Arc::new(Words { helpers, codec }),
            max_workers: max_workers as usize,
            arena,
            board,
            files: Mutex::default(),
            maps: Mutex::default(),
            known: Mutex::default(),
            half: PyWeakrefReference::new(half)?.unbind(),
            is_driven: AtomicBool::new(false),
            numbers: AtomicU32::new(0),
            buffer: Mutex::default(),
            generation: generation(),
        });
        Ok(Self { source: Arc::clone(&shared) as _, shared, future })
    }

    /// Submits a call; its future.
    #[pyo3(signature = (
        function: "object",
        args: "tuple[object, ...]",
        kwargs: "dict[str, object]",
        options=None,
    ) -> "object")]
    fn submit(
        &self,
        py: Python<'_>,
        function: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwargs: &Bound<'_, PyDict>,
        options: Option<&Bound<'_, TaskOptions>>,
    ) -> PyResult<Py<PyAny>> {
        self.shared.check_ours()?;
        let core = Core::new(Some(Arc::clone(&self.source)));
        let future = future::make(self.future.bind(py), Arc::clone(&core))?;
        // Not a lock but a buffer that is there again and again; a second thread makes its own.
        let mut spare = self.shared.buffer.try_lock().ok().map(|mut b| std::mem::take(&mut *b));
        let mut items = spare.take().unwrap_or_default();
        items.clear();
        let mut blocks = Vec::new();
        let encoded = self.function(function).and_then(|defined| {
            let inline = defined.is_none().then_some(function);
            let none = py.None().into_bound(py);
            let kwargs = if kwargs.is_empty() { &none } else { kwargs.as_any() };
            self.encode_call(inline, args, kwargs, &mut items, &mut blocks)?;
            Ok([defined, self.context(py)?])
        });
        let names = match encoded {
            Ok(names) => names,
            Err(error) => {
                self.shared.release(blocks);
                if !error.is_instance_of::<PyException>(py) {
                    return Err(error);
                }
                // As in the standard library, the future tells, and the pool grows all the same.
                self.shared.engine().grow();
                self.shared.call_driver(py)?;
                let _ = core.complete(Outcome::Error(error.into_value(py).into_any()));
                return Ok(future);
            }
        };
        let options = Self::options(options);
        let head = Head {
            kind: Kind::Call,
            flags: u32::from(options.as_ref().is_some_and(|options| options.retries > 0)),
            function: number_of(names[0].as_ref()),
            context: number_of(names[1].as_ref()),
            count: 1,
            memory: options.as_ref().and_then(|options| options.memory).unwrap_or(0),
            flow: 0,
        };
        let task = Task {
            serial: 0,
            receiver: Ticket::Future(Arc::clone(&core), Arc::clone(&self.shared.words)),
            first: 0,
            head,
            names,
            items: Vec::new(),
            blocks,
            options,
            attempts: 0,
        };
        let serial = self.shared.submit(py, task, &items)?;
        core.tokens()[0].store(serial, Ordering::Release);
        if let Ok(mut buffer) = self.shared.buffer.try_lock() {
            *buffer = items;
        }
        Ok(future)
    }

    /// A map over an iterator of arguments, or of tuples of them (`star`).
    #[pyo3(signature = (function, items, *, star, ordered, options=None, timeout=None, chunksize=None, buffersize=None, length=None))]
    #[allow(clippy::too_many_arguments, reason = "they have names, in Python")]
    fn map(
        &self,
        py: Python<'_>,
        function: &Bound<'_, PyAny>,
        items: Py<PyAny>,
        star: bool,
        ordered: bool,
        options: Option<&Bound<'_, TaskOptions>>,
        timeout: Option<f64>,
        chunksize: Option<usize>,
        buffersize: Option<usize>,
        length: Option<usize>,
    ) -> PyResult<PoolMap> {
        self.shared.check_ours()?;
        let defined = match self.function(function)? {
            None => self.defined_by(py, "define_own", function)?,
            known => known,
        };
        let deadline = timeout.and_then(|seconds| {
            let limit = Duration::try_from_secs_f64(seconds.max(0.0)).ok()?;
            Instant::now().checked_add(limit)
        });
        let plan = Plan {
            names: Mutex::new([defined, self.context(py)?]),
            kind: if star { Kind::StarMap } else { Kind::Map },
            options: Self::options(options),
            chunksize,
            buffersize,
            is_ordered: ordered,
            deadline,
            length,
        };
        let map = Arc::new(Map::new(Arc::clone(&self.shared), plan, items));
        let over: Vec<_> = {
            let mut maps = locked(&self.shared.maps);
            let over = maps.extract_if(.., |map| map.is_over()).collect();
            maps.push(Arc::clone(&map));
            over
        };
        over.iter().for_each(|over| self.shared.map_ended(over));
        let iterator = PoolMap { map };
        iterator.map.feed(py, false)?;
        Ok(iterator)
    }

    /// Sends out all that is left of maps that were never iterated.
    fn finish_maps(&self, py: Python<'_>) -> PyResult<()> {
        let maps: Vec<_> = locked(&self.shared.maps).clone();
        for map in maps.iter().filter(|map| map.plan.length.is_some()) {
            map.feed(py, true)?;
        }
        // They refer to the pool, which refers to them only until here.
        let fed = std::mem::take(&mut *locked(&self.shared.maps));
        drop(fed);
        Ok(())
    }

    /// Gives a function to the workers. `keep`: until it is defined anew.
    #[pyo3(signature = (function, name, watch, keep))]
    fn define(
        &self,
        py: Python<'_>,
        function: &Bound<'_, PyAny>,
        name: &str,
        watch: Option<Py<Watch>>,
        keep: bool,
    ) -> PyResult<PoolDefinition> {
        let (mut items, mut blocks) = (Vec::new(), Vec::new());
        let codec = &self.shared.words.codec;
        codec.encode(function, "fn", &mut items, &self.shared.arena, &mut blocks)?;
        let number = self.shared.numbers.fetch_add(1, Ordering::Relaxed) + 1;
        let engine = self.shared.engine();
        py.detach(|| engine.define_function(number, items, blocks));
        let defined = Defined::function(number, name, engine.forgotten());
        if keep {
            let old = self.shared.known(py).insert(function, &defined, watch);
            drop(old); // after the lock: it may run Python code
        }
        Ok(PoolDefinition(defined))
    }

    /// Gives a set of context variables to the workers.
    fn define_context(&self, variables: &Bound<'_, PyAny>) -> PyResult<PoolDefinition> {
        let (mut items, mut blocks) = (Vec::new(), Vec::new());
        let codec = &self.shared.words.codec;
        { codec.encode(variables, "context", &mut items, &self.shared.arena, &mut blocks) }?;
        let number = self.shared.numbers.fetch_add(1, Ordering::Relaxed) + 1;
        let engine = self.shared.engine();
        variables.py().detach(|| engine.define_context(number, items, blocks));
        Ok(PoolDefinition(Defined::context(number, engine.forgotten())))
    }

    /// Makes room for a worker: its key, and the descriptors that it needs (its own file, the
    /// pool's, the driver's bell), which stay the pool's.
    fn add_worker(&self) -> PyResult<(u32, RawFd, RawFd, RawFd)> {
        self.shared.check_ours()?;
        let file = Control::create().map_err(|error| os_error("make a file in memory", error))?;
        let control =
            Control::new(&file).map_err(|error| os_error("map a worker's memory", error))?;
        let file = Arc::new(file);
        let key = {
            let mut files = locked(&self.shared.files);
            let key = (0..).find(|key| !files.contains_key(key)).unwrap_or(0);
            files.insert(key, Arc::clone(&file));
            key
        };
        let view = LazyView::new(Arc::clone(&file), WORKER_BYTES as u64, 0);
        let memory = Memory::new(Answers { words: Arc::clone(&self.shared.words), view });
        self.shared.engine().add_worker(key, Box::new(RingLink::new(control)), memory);
        let fds = (file.as_raw_fd(), self.shared.board.as_raw_fd());
        Ok((key, fds.0, fds.1, self.shared.pool.bell.as_raw_fd()))
    }

    /// A worker's process has started.
    #[allow(unsafe_code, reason = "Python knows descriptors by number")]
    fn watch(&self, key: u32, pid: i32, sentinel: RawFd) -> PyResult<()> {
        // SAFETY: the sentinel of a process object that the caller holds.
        let sentinel = unsafe { BorrowedFd::borrow_raw(sentinel) };
        let sentinel = rustix::io::fcntl_dupfd_cloexec(sentinel, 0)
            .map_err(|error| os_error("watch a worker", error))?;
        self.shared.pool.watch(key, pid, sentinel);
        Ok(())
    }

    /// A worker's process has ended and was reaped, or did not start.
    fn ended(&self, py: Python<'_>, key: u32, exitcode: i32) {
        py.detach(|| self.shared.pool.ended(key, exitcode));
        locked(&self.shared.files).remove(&key);
    }

    /// Becomes the driver; False: there is one.
    fn claim(&self) -> bool {
        !self.shared.is_driven.swap(true, Ordering::AcqRel)
    }

    /// The driver: waits for something to do, does what is Rust's, and returns what is
    /// Python's: ("start", 0), ("kill", key), ("bury", key), ("write", 0). None: the pool is
    /// finished.
    fn drive(&self, py: Python<'_>) -> PyResult<Option<Vec<(&'static str, u32)>>> {
        let goes_on = py.detach(|| self.shared.pool.drive());
        self.shared.do_chores(py)?;
        if !goes_on {
            return Ok(None);
        }
        let mut duties = Vec::new();
        while let Some(duty) = self.shared.engine().next_duty() {
            duties.push(match duty {
                Duty::Start => ("start", 0),
                Duty::Kill(key) => ("kill", key),
                Duty::Bury(key) => ("bury", key),
                Duty::Write => ("write", 0),
            });
            if duty == Duty::Start {
                break; // it is told again until that many have been added
            }
        }
        Ok(Some(duties))
    }

    /// For who does as ("write", 0) says: whether it is for stderr, and the text. None: all is
    /// written. Another call follows when it is, to `written`.
    fn next_output<'py>(&self, py: Python<'py>) -> Option<(bool, Bound<'py, PyBytes>)> {
        let output = self.shared.engine().next_output_called();
        if output.is_none() {
            self.shared.pool.call_driver(); // it may have waited for that
        }
        output.map(|output| (output.is_stderr, PyBytes::new(py, &output.text)))
    }

    /// What `next_output` returned is written, or was tried to.
    fn written(&self) {
        self.shared.engine().written();
        self.shared.pool.board.users.ring();
        self.shared.pool.call_driver();
    }

    /// Takes no more tasks; workers leave when all is done, which is left to the driver.
    #[pyo3(signature = (cancel=false))]
    fn close(&self, py: Python<'_>, cancel: bool) {
        if !self.shared.is_ours() {
            return;
        }
        py.detach(|| {
            if cancel {
                self.shared.engine().abandon_rest();
            }
            self.shared.engine().close();
            self.shared.pool.call_driver();
        });
        let maps = std::mem::take(&mut *locked(&self.shared.maps));
        drop(maps); // after the lock: what iterates may run Python code
    }

    /// Ends all tasks and workers, now.
    fn abort(&self, py: Python<'_>) {
        if !self.shared.is_ours() {
            return;
        }
        py.detach(|| {
            self.shared.engine().abort();
            self.shared.pool.call_driver();
        });
    }

    /// The pool can't go on.
    fn break_down(&self, py: Python<'_>, reason: &str) {
        py.detach(|| self.shared.engine().break_down(reason));
        self.shared.pool.call_driver();
    }

    /// Why the pool can't go on, if so.
    #[getter]
    fn broken(&self) -> Option<String> {
        self.shared.engine().broken()
    }

    /// No worker can be started.
    fn cannot_start(&self, py: Python<'_>, reason: &str) {
        py.detach(|| self.shared.engine().cannot_start(reason));
    }

    /// Workers that are to be started, or are being started.
    #[getter]
    fn needed(&self) -> usize {
        self.shared.engine().starting()
    }

    /// Whether there is a driver.
    #[getter]
    fn is_driven(&self) -> bool {
        self.shared.is_driven.load(Ordering::Acquire)
    }

    /// Tasks without an outcome.
    #[getter]
    fn outstanding(&self) -> usize {
        self.shared.engine().outstanding()
    }

    /// Whether this process made it, rather than being a forked copy.
    fn is_ours(&self) -> bool {
        self.shared.is_ours()
    }

    /// Of each worker: key, pid, idle, started (ns), tasks, busy, waited (ns), pickled bytes.
    #[allow(clippy::type_complexity, reason = "one use, documented above")]
    fn workers(&self) -> Vec<(u32, i32, bool, u64, u64, u64, u64, u64)> {
        let line = |(key, pid, idle, started, meter): (_, _, _, _, super::shared::Meter)| {
            (key, pid, idle, started, meter.tasks, meter.busy_ns, meter.waited_ns, meter.pickled)
        };
        self.shared.engine().workers().into_iter().map(line).collect()
    }
}
