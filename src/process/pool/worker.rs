//! A worker's loop: tasks from its ring, results to it. All but exceptions, output and what
//! is rare is done here; `plait._pool_worker` has the rest.

use super::arena::{Arena, BlockId};
use super::codec::{Codec, INLINE_MAX};
use super::mapping::{count_forks, generation};
use super::message::{COPY, Head, Kind, Reply, next_item};
use super::numpy;
use super::shared::{Board, Control, Meter, PAGE, WORKER_BYTES, now_ns};
use super::station::{Received, Station};
use super::view::LazyView;
use crate::context;
use crate::error::{ProcessError, locked};
use crate::trace::tasks::Work;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use pyo3::{Borrowed, ffi, intern};
use rustix::io::Errno;
use std::collections::HashMap;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

fn os_error(action: &'static str, error: Errno) -> PyErr {
    ProcessError::os(action, error).into()
}

#[allow(unsafe_code, reason = "PyO3 has no binding for the table of modules")]
fn is_imported(py: Python<'_>, name: &Bound<'_, PyString>) -> PyResult<bool> {
    // SAFETY: attached; a borrowed reference to the interpreter's dict.
    let modules = unsafe { Borrowed::from_ptr(py, ffi::PyImport_GetModuleDict()) };
    modules.cast::<PyDict>()?.contains(name)
}

#[allow(unsafe_code, reason = "Python knows descriptors by number")]
fn owned(fd: RawFd) -> OwnedFd {
    // SAFETY: the caller hands its descriptors over and does not use them again.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// How many bytes of UTF-8, so many at most, end with a character.
fn whole_characters(text: &[u8], most: usize) -> usize {
    if text.len() <= most {
        return text.len();
    }
    let is_start = |at: &usize| text[*at] & 0xC0 != 0x80;
    (most - 3..=most).rev().find(is_start).unwrap_or(most) // it is no UTF-8
}

/// A worker's end of the pool.
#[pyclass(frozen)]
pub struct PoolWorker {
    station: Station,
    codec: Codec,
    arena: Arc<Mutex<Arena>>,
    view: LazyView,
    helpers: Py<PyAny>,
    /// Of the process: a copy that a task forks must not touch the rings.
    generation: u32,
    /// Whether a task has printed a part of a line, which is held until its end.
    holds_output: AtomicBool,
}

/// A function as it was sent, until a task that was claimed needs it: unpickling it may be what
/// a worker dies of, and then some task must have been at it.
enum Function {
    Sent(Vec<u8>),
    Loaded(Py<PyAny>),
    Failed(PyErr),
}

/// What a worker was told to remember; a function that could not be unpickled is the reason.
#[derive(Default)]
struct Memory {
    functions: HashMap<u32, Function>,
    contexts: HashMap<u32, Py<PyAny>>,
    /// Whether NumPy, which a task may import at any time, has been dealt with.
    has_numpy: bool,
}

type Parts<'py> = (Bound<'py, PyAny>, Bound<'py, PyTuple>, Option<Bound<'py, PyDict>>);

#[pymethods]
impl PoolWorker {
    /// Takes over the descriptors that `add_worker` gave: the worker's file, the pool's file,
    /// the driver's bell.
    #[new]
    fn new(
        py: Python<'_>,
        key: u32,
        file: RawFd,
        board: RawFd,
        bell: RawFd,
        helpers: Py<PyAny>,
    ) -> PyResult<Self> {
        count_forks();
        let (file, board, bell) = (Arc::new(owned(file)), Arc::new(owned(board)), owned(bell));
        let map_error = |error| os_error("map the pool's memory", error);
        let station = Station::new(
            Control::new(&*file).map_err(map_error)?,
            Board::new(&*board).map_err(map_error)?,
            bell,
        );
        Ok(Self {
            station,
            codec: Codec::new(py, true)?,
            arena: Arc::new(Mutex::new(Arena::new(file, WORKER_BYTES as u64, 1)?)),
            view: LazyView::new(board, PAGE as u64, key),
            helpers,
            generation: generation(),
            holds_output: AtomicBool::new(false),
        })
    }

    /// The initializer has run.
    fn ready(&self) {
        self.station.ready();
    }

    /// The initializer has failed.
    fn broken(&self, py: Python<'_>, reason: &str) -> PyResult<()> {
        self.send(py, Reply::Broken, reason.as_bytes())?;
        self.station.announce();
        Ok(())
    }

    /// Sends text on to the parent's stdout or stderr.
    fn output(&self, py: Python<'_>, stderr: bool, text: &[u8]) -> PyResult<()> {
        let reply = if stderr { Reply::Stderr } else { Reply::Stdout };
        let mut rest = text;
        while !rest.is_empty() {
            let (part, after) = rest.split_at(whole_characters(rest, INLINE_MAX));
            self.send(py, reply, part)?;
            rest = after;
        }
        Ok(())
    }

    /// Has the helpers' `flush` called before a result is sent.
    fn holds_output(&self) {
        self.holds_output.store(true, Ordering::Relaxed);
    }

    /// Lets the parent know of what was sent, however little.
    fn announce(&self) {
        self.station.announce();
    }

    /// Works until it is told to leave.
    fn serve(&self, py: Python<'_>) -> PyResult<()> {
        let mut memory = Memory::default();
        let mut record = Vec::new();
        let (mut idle_since, mut has_waited) = (now_ns(), true);
        loop {
            let next = self.station.next(&mut record);
            let next = next.map_err(|_| PyRuntimeError::new_err("the pool's memory is damaged"))?;
            let Some(received) = next else {
                has_waited = true;
                match py.detach(|| self.station.wait()) {
                    Ok(()) => continue,
                    Err(Errno::INTR) => py.check_signals()?,
                    Err(error) => return Err(os_error("wait for tasks", error)),
                }
                continue;
            };
            let mut items = &record[Head::BYTES..];
            let head = received.head;
            match head.kind {
                Kind::Exit => return Ok(()),
                Kind::Function => {
                    memory.functions.insert(head.function, Function::Sent(items.to_vec()));
                }
                Kind::Forget => match memory.functions.remove(&head.function) {
                    Some(Function::Sent(bytes)) => {
                        let _ = self.codec.discard(&mut &bytes[..], &self.view);
                    }
                    other => drop(other),
                },
                Kind::ForgetContext => drop(memory.contexts.remove(&head.context)),
                Kind::Context => {
                    // Without it, if it cannot be had: its variables have their defaults then.
                    if let Ok(context) = self.context(py, &mut items) {
                        memory.contexts.insert(head.context, context);
                    }
                }
                Kind::Call | Kind::Map | Kind::StarMap => {
                    // The clock is a tenth of what a small task costs: read once for each.
                    let began = if has_waited { now_ns() } else { idle_since };
                    has_waited = false;
                    if !memory.has_numpy && is_imported(py, intern!(py, "numpy"))? {
                        memory.has_numpy = true;
                        numpy::install(py, &self.arena);
                        // Contexts that were made before: not copies of one that has it.
                        memory.contexts.values().for_each(|context| {
                            context::within(context.bind(py), || numpy::install(py, &self.arena));
                        });
                    }
                    let _traced = Work::begin(head.flow);
                    let (sent, now) = self.run(py, &received, items, &mut memory, began)?;
                    self.station.meter(Meter {
                        tasks: head.count.into(),
                        busy_ns: now.saturating_sub(began),
                        waited_ns: began.saturating_sub(idle_since),
                        pickled: sent,
                    });
                    idle_since = now;
                }
            }
            self.station.done(&received);
        }
    }
}

impl PoolWorker {
    fn send(&self, py: Python<'_>, reply: Reply, body: &[u8]) -> PyResult<()> {
        while !self.station.send(reply, body) {
            match py.detach(|| self.station.wait_for_room()) {
                Err(Errno::INTR) => py.check_signals()?,
                Err(error) => return Err(os_error("wait for room for a result", error)),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    fn decode<'py>(
        &self,
        py: Python<'py>,
        bytes: &mut &[u8],
        copy: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.codec.decode(py, bytes, &self.view, copy)
    }

    fn context(&self, py: Python<'_>, items: &mut &[u8]) -> PyResult<Py<PyAny>> {
        let variables = self.decode(py, items, true)?;
        Ok(self.helpers.bind(py).call_method1("context", (variables,))?.unbind())
    }

    /// Unpickles a function that is needed for the first time.
    fn load(&self, py: Python<'_>, number: u32, memory: &mut Memory) {
        if let Some(function) = memory.functions.get_mut(&number)
            && let Function::Sent(bytes) = function
        {
            // Other workers have the same blocks: what is written there stays here.
            let loaded = self.decode(py, &mut &bytes[..], true);
            *function = loaded.map_or_else(Function::Failed, |it| Function::Loaded(it.unbind()));
        }
    }

    /// Runs a task's items; how many bytes were sent, and when that was done.
    fn run(
        &self,
        py: Python<'_>,
        received: &Received,
        mut items: &[u8],
        memory: &mut Memory,
        began: u64,
    ) -> PyResult<(u64, u64)> {
        let head = &received.head;
        let (mut out, mut lent) = (Vec::new(), Vec::new());
        let (mut now, mut sent) = (began, 0);
        for number in 0..head.count {
            let Some(item) = next_item(&mut items) else {
                return Err(PyRuntimeError::new_err("the pool's memory is damaged"));
            };
            self.station.started(received, number, now);
            self.load(py, head.function, memory);
            out.clear();
            lent.clear();
            let is_error = self.answer(py, head, item, memory, &mut out, &mut lent)?;
            if !lent.is_empty() {
                locked(&self.arena).hand_over(&lent, 0);
            }
            if self.holds_output.load(Ordering::Relaxed) {
                self.holds_output.store(false, Ordering::Relaxed);
                self.helpers.bind(py).call_method0(intern!(py, "flush"))?;
            }
            let reply = if is_error { Reply::Error } else { Reply::Value };
            self.send(py, reply, &out)?;
            self.station.finished();
            sent += out.len() as u64;
            now = now_ns();
            self.station.announce_in_time(now);
        }
        Ok((sent, now))
    }

    /// Encodes an item's result; true: it is an exception.
    fn answer(
        &self,
        py: Python<'_>,
        head: &Head,
        item: &[u8],
        memory: &Memory,
        out: &mut Vec<u8>,
        lent: &mut Vec<BlockId>,
    ) -> PyResult<bool> {
        let value = self.call(py, head, item, memory);
        if self.generation != generation() {
            let error = value.as_ref().err().map(|error| error.value(py).clone());
            self.helpers.bind(py).call_method1("forked", (error,))?;
        }
        let value = value.and_then(|value| {
            let pending = self.codec.encode_result(value, "result", out, &self.arena, lent)?;
            self.codec.finish(py, pending, out, &self.arena, lent)
        });
        let Err(error) = value else { return Ok(false) };
        let error = error.into_value(py);
        let parts = self.helpers.bind(py).call_method1("failure", (error, head.memory))?;
        self.codec.encode(&parts, "exception", out, &self.arena, lent)?;
        Ok(true)
    }

    fn call<'py>(
        &self,
        py: Python<'py>,
        head: &Head,
        mut item: &[u8],
        memory: &Memory,
    ) -> PyResult<Bound<'py, PyAny>> {
        let parts = self.parts(py, head, &mut item, memory);
        while parts.is_err() && !item.is_empty() {
            // What comes after the part that failed has blocks, too.
            if self.codec.discard(&mut item, &self.view).is_err() {
                break;
            }
        }
        let (function, arguments, keywords) = parts?;
        if head.context == 0 && head.memory == 0 {
            return function.call(arguments, keywords.as_ref());
        }
        let context = memory.contexts.get(&head.context);
        let keywords = keywords.unwrap_or_else(|| PyDict::new(py));
        let call = (context, head.memory, function, arguments, keywords);
        // The arena's memory is not what a limit counts.
        numpy::use_arena(head.memory == 0);
        let value = self.helpers.bind(py).call_method1(intern!(py, "call"), call);
        numpy::use_arena(true);
        value
    }

    /// A task's function, arguments, and keyword arguments.
    fn parts<'py>(
        &self,
        py: Python<'py>,
        head: &Head,
        item: &mut &[u8],
        memory: &Memory,
    ) -> PyResult<Parts<'py>> {
        let copy = head.flags & COPY != 0;
        let mut next = || self.decode(py, item, copy);
        let function = match memory.functions.get(&head.function) {
            Some(Function::Loaded(function)) => function.bind(py).clone(),
            Some(Function::Failed(error)) => return Err(error.clone_ref(py)),
            Some(Function::Sent(_)) | None => next()?,
        };
        let first = next()?;
        Ok(match head.kind {
            Kind::Map => (function, PyTuple::new(py, [first])?, None),
            Kind::StarMap => (function, first.cast_into::<PyTuple>()?, None),
            _ => {
                let keywords = next()?.cast_into::<PyDict>().ok();
                (function, first.cast_into::<PyTuple>()?, keywords)
            }
        })
    }
}
