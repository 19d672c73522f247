//! Notes the steps of asyncio's tasks. In Rust, since it is called at each: in Python a note cost
//! 3 µs, as much as many a step takes.

use super::clock;
use super::tape::{Record, Tape};
use crate::error::locked;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Kinds of records, as in `plait._tracing`.
const STEP: u8 = 8;
const PAUSE: u8 = 9;
/// A task that paused for less is not asked what it waited for, in nanoseconds.
const LONG: u64 = 100_000;
/// Coroutines that await each other are followed so far.
const DEEPEST: usize = 200;

/// A task's number, and when it last paused; 0: it has not run yet.
#[derive(Clone, Copy)]
struct Known {
    number: u64,
    paused: u64,
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

    /// Notes around a step that `run` makes.
    fn around(
        &self,
        tracing: &Bound<'_, PyAny>,
        task: &Bound<'_, PyAny>,
        run: impl FnOnce() -> PyResult<()>,
    ) -> PyResult<()> {
        let py = task.py();
        let key = task.as_ptr() as usize;
        let known = locked(&self.tasks).get(&key).copied();
        let began = clock::now();
        let number = match known {
            Some(Known { number, paused }) if paused != 0 => {
                if began.saturating_sub(paused) > LONG {
                    self.pause(tracing, task, number, paused, began)?;
                }
                number
            }
            _ => tracing.call_method1(intern!(py, "first_step"), (task, began))?.extract()?,
        };
        let result = run();
        let ended = clock::now();
        self.note(STEP, began, ended, number, 0, 0);
        // The task is still referred to here, so this is its own entry.
        if let Some(known) = locked(&self.tasks).get_mut(&key) {
            known.paused = ended;
        }
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
        let said = tracing.call_method1(intern!(py, "pause"), (task, number, since, until))?;
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
        let place = tracing.call_method1(intern!(py, "place"), (coroutine,))?.extract()?;
        locked(&self.places).insert(key, (code.unbind(), place));
        Ok((key, place))
    }
}

#[pymethods]
impl PySteps {
    /// This task has this number, until `forget`.
    fn know(&self, task: &Bound<'_, PyAny>, number: u64) {
        let known = Known { number, paused: 0 };
        locked(&self.tasks).insert(task.as_ptr() as usize, known);
    }

    /// The task at this address is no more.
    fn forget(&self, address: usize) {
        locked(&self.tasks).remove(&address);
    }

    /// When the task at this address last paused; 0: it has not run.
    fn paused(&self, address: usize) -> u64 {
        locked(&self.tasks).get(&address).map_or(0, |known| known.paused)
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
