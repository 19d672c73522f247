//! Notes the steps of asyncio's tasks. In Rust, since it is called at each: in Python a note cost
//! 3 µs, as much as many a step takes.

use super::clock;
use super::tape::{Record, Tape};
use crate::error::locked;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple, PyType};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Kinds of records, as in `plait._tracing`.
const STEP: u8 = 8;
const PAUSE: u8 = 9;
/// A task that paused for less is not asked what it waited for, in nanoseconds.
const LONG: u64 = 100_000;
/// Coroutines that await each other are followed so far.
const DEEPEST: usize = 200;

/// A task's number, and where it is.
#[derive(Clone, Copy)]
struct Known {
    number: u64,
    standing: Standing,
}

#[derive(Clone, Copy)]
enum Standing {
    /// It has not run yet, as far as is known.
    New,
    /// A step is under way since then, in this thread.
    Running {
        since: u64,
        tid: u32,
    },
    Paused {
        since: u64,
    },
}

/// What it means that a coroutine with this code is what a task waits in: the number of what to
/// call it, and the state; `None`: that depends on what it awaits. The code is kept, so that its
/// address is no other's.
type Place = (Py<PyAny>, Option<Wait>);

/// What to call a wait, by its number, and its state.
type Wait = (u64, u32);
type Leaf = (Py<PyType>, Wait);

/// One process's tasks, and the tape that their steps are noted on.
#[pyclass(frozen, name = "Steps")]
pub struct PySteps {
    tape: Arc<Tape>,
    coroutine: Py<PyType>,
    function: Py<PyType>,
    /// By their addresses; who ends is to be forgotten before its address can be another's.
    tasks: Mutex<HashMap<usize, Known>>,
    places: Mutex<HashMap<usize, Place>>,
    /// By the code of the innermost coroutine, and the type of the future that it awaits, which is
    /// kept: what Python said of such a wait.
    leaves: Mutex<HashMap<(usize, usize), Leaf>>,
}

impl PySteps {
    pub fn new(py: Python<'_>, tape: Arc<Tape>) -> PyResult<Self> {
        let kind = |name| -> PyResult<Py<PyType>> {
            Ok(py.import("types")?.getattr(name)?.cast_into::<PyType>()?.unbind())
        };
        let (coroutine, function) = (kind("CoroutineType")?, kind("FunctionType")?);
        let (tasks, places, leaves) = (Mutex::default(), Mutex::default(), Mutex::default());
        Ok(Self { tape, coroutine, function, tasks, places, leaves })
    }

    fn note(&self, kind: u8, began: u64, ended: u64, a: u64, b: u64, state: u32) {
        let tid = crate::os::seat().native.unsigned_abs();
        self.tape.note(Record { kind, began, ended, tid, state, a, b });
    }

    /// Where the task with this address was, if it is known, and is now.
    fn becomes(&self, key: usize, now: Standing) -> Option<Known> {
        let mut tasks = locked(&self.tasks);
        let known = tasks.get_mut(&key)?;
        let before = *known;
        known.standing = now;
        Some(before)
    }

    /// Notes around a step that `run` makes: little more than a call of Python.
    fn around(
        &self,
        tracing: &Bound<'_, PyAny>,
        task: &Bound<'_, PyAny>,
        run: impl FnOnce() -> PyResult<()>,
    ) -> PyResult<()> {
        let py = task.py();
        let key = task.as_ptr() as usize;
        let began = clock::now();
        let running =
            Standing::Running { since: began, tid: crate::os::seat().native.unsigned_abs() };
        let number = match self.becomes(key, running) {
            Some(Known { number, standing: Standing::Paused { since } }) => {
                if began.saturating_sub(since) > LONG {
                    self.pause(tracing, task, number, since, began)?;
                }
                number
            }
            _ => {
                let arguments = (task, began).into_pyobject(py)?;
                let number = call(tracing, intern!(py, "first_step"), &arguments)?.extract()?;
                self.becomes(key, running);
                number
            }
        };
        let result = run();
        let ended = clock::now();
        self.note(STEP, began, ended, number, 0, 0);
        // The task is still referred to here, so this is its own entry.
        self.becomes(key, Standing::Paused { since: ended });
        result
    }

    /// Notes what a task has waited for since it last ran.
    fn pause(
        &self,
        tracing: &Bound<'_, PyAny>,
        task: &Bound<'_, PyAny>,
        number: u64,
        since: u64,
        until: u64,
    ) -> PyResult<()> {
        let py = task.py();
        let mut inner = task.call_method0(intern!(py, "get_coro"))?;
        let mut innermost = 0;
        for _ in 0..DEEPEST {
            if !inner.get_type().is(&self.coroutine) {
                break;
            }
            let (code, place) = self.place(tracing, &inner)?;
            if let Some((wait, state)) = place {
                self.note(PAUSE, since, until, number, wait, state);
                return Ok(());
            }
            innermost = code;
            inner = inner.getattr(intern!(py, "cr_await"))?;
        }
        let awaited = task.getattr(intern!(py, "_fut_waiter"))?.get_type();
        let key = (innermost, awaited.as_ptr() as usize);
        let known = locked(&self.leaves).get(&key).map(|leaf| leaf.1);
        if let Some((wait, state)) = known {
            self.note(PAUSE, since, until, number, wait, state);
            return Ok(());
        }
        let arguments = (task, number, since, until).into_pyobject(py)?;
        let said = call(tracing, intern!(py, "pause"), &arguments)?;
        if let Some(wait) = said.extract()? {
            locked(&self.leaves).insert(key, (awaited.unbind(), wait));
        }
        Ok(())
    }

    /// A coroutine's code, by its address, and what waiting in it means.
    fn place(
        &self,
        tracing: &Bound<'_, PyAny>,
        coroutine: &Bound<'_, PyAny>,
    ) -> PyResult<(usize, Option<Wait>)> {
        let py = coroutine.py();
        let code = coroutine.getattr(intern!(py, "cr_code"))?;
        let key = code.as_ptr() as usize;
        if let Some((_, place)) = locked(&self.places).get(&key) {
            return Ok((key, *place));
        }
        let arguments = (coroutine,).into_pyobject(py)?;
        let place = call(tracing, intern!(py, "place"), &arguments)?.extract()?;
        locked(&self.places).insert(key, (code.unbind(), place));
        Ok((key, place))
    }
}

/// Calls a function of `plait._tracing`, which the interpreter's exit may end.
fn call<'py>(
    tracing: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
    arguments: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    tracing.call_method1(name, arguments)
}

#[pymethods]
impl PySteps {
    /// This task has this number, until `forget`.
    fn know(&self, task: &Bound<'_, PyAny>, number: u64) {
        let known = Known { number, standing: Standing::New };
        locked(&self.tasks).insert(task.as_ptr() as usize, known);
    }

    /// The task at this address is no more.
    fn forget(&self, address: usize) {
        locked(&self.tasks).remove(&address);
    }

    /// When the task at this address last paused; 0: it runs, or has not run.
    fn paused(&self, address: usize) -> u64 {
        match locked(&self.tasks).get(&address).map(|known| known.standing) {
            Some(Standing::Paused { since }) => since,
            _ => 0,
        }
    }

    /// Notes the steps that are under way, as the trace ends before they do.
    fn stop(&self) {
        let ended = clock::now();
        for known in locked(&self.tasks).values() {
            if let Standing::Running { since: began, tid } = known.standing {
                let record =
                    Record { kind: STEP, began, ended, tid, state: 0, a: known.number, b: 0 };
                self.tape.note(record);
            }
        }
    }

    /// Calls `original(handle)`, and notes it if that is a step of one of `kind`, asyncio's task.
    fn run(
        &self,
        tracing: &Bound<'_, PyAny>,
        kind: &Bound<'_, PyType>,
        original: &Bound<'_, PyAny>,
        handle: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = handle.py();
        let callback = handle.getattr(intern!(py, "_callback"))?;
        let run = || original.call1((handle,)).map(drop);
        if callback.get_type().is(&self.function) {
            return run(); // to look for what it hasn't got would cost as much as the rest
        }
        match callback.getattr_opt(intern!(py, "__self__"))? {
            Some(task) if task.is_instance(kind)? => self.around(tracing, &task, run),
            _ => run(),
        }
    }

    /// Calls `callback(*args)`, which is a step of this task.
    fn step(
        &self,
        tracing: &Bound<'_, PyAny>,
        task: &Bound<'_, PyAny>,
        callback: &Bound<'_, PyAny>,
        args: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let args = args.cast::<PyTuple>()?;
        self.around(tracing, task, || callback.call1(args).map(drop))
    }
}
