//! What Python sees of the sampler and the tape.

use super::clock;
use super::gil::Holder;
use super::runtime;
use super::sampler::{Interpreter, Sampler, Totals};
use super::steps_face::PySteps;
use super::tape::{self, Record, Tape};
use super::waits;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// `(kind, began, ended, tid, state, a, b)`; times in nanoseconds of `time.monotonic_ns`.
type Line = (u8, u64, u64, u32, u32, u64, u64);

/// Its process, when it began and ended, how many records were lost, and the records.
type Lines = (u64, u64, u64, u64, Vec<Line>);

/// Looks at the threads of this process, `hz` times a second, until `stop`.
#[pyclass(frozen, name = "Sampler")]
pub struct PySampler {
    sampler: Sampler,
    source: &'static str,
}

#[pymethods]
impl PySampler {
    /// Without a path it keeps totals only; with one, it notes spans there, at most `records`.
    #[new]
    #[pyo3(signature = (hz=1000.0, path=None, records=131_072))]
    fn new(py: Python<'_>, hz: f64, path: Option<PathBuf>, records: u64) -> PyResult<Self> {
        if !(1.0..=100_000.0).contains(&hz) {
            let message = format!("hz must be from 1 to 100000 looks a second, got {hz}");
            return Err(PyValueError::new_err(message));
        }
        if !(16..=1 << 26).contains(&records) {
            let message = format!("records must be from 16 to {}, got {records}", 1 << 26);
            return Err(PyValueError::new_err(message));
        }
        let has_gil = match py.import("sys")?.getattr_opt("_is_gil_enabled")? {
            Some(asked) => asked.call0()?.extract()?,
            None => true,
        };
        let gil = if has_gil { runtime::find(py)? } else { None };
        let source = match &gil {
            None if has_gil => "inferred",
            None => "none",
            Some(gil) if gil.holder() == Holder::Hidden => "inferred",
            Some(_) => "read",
        };
        let create = |path: PathBuf| Tape::create(&path, records, clock::now()).map(Arc::new);
        let tape = path.map(create).transpose().map_err(|error| {
            PyOSError::new_err((error.raw_os_error(), format!("cannot write the trace: {error}")))
        })?;
        if let Some(tape) = &tape {
            waits::note_on(Some(Arc::clone(tape)));
        }
        let sampler = Sampler::start(hz, Interpreter { has_gil, gil }, tape)?;
        Ok(Self { sampler, source })
    }

    /// Ends it; what was noted stays. A second time it does nothing.
    fn stop(&self, py: Python<'_>) {
        py.detach(|| {
            waits::note_on(None);
            self.sampler.stop();
        });
    }

    /// Looks again, after `stop`: a fork is to find one thread less.
    fn resume(&self) -> PyResult<()> {
        waits::note_on(self.sampler.tape());
        Ok(self.sampler.resume()?)
    }

    /// Notes something of the calling thread's; what it means is for who reads it.
    #[pyo3(signature = (kind, began, ended, a=0, b=0, state=0, tid=0))]
    #[expect(clippy::too_many_arguments, reason = "a record's words; called too often for a tuple")]
    fn note(&self, kind: u8, began: u64, ended: u64, a: u64, b: u64, state: u32, tid: u32) {
        let tid = if tid == 0 { crate::os::seat().native.unsigned_abs() } else { tid };
        self.sampler.note(Record { kind, began, ended, tid, state, a, b });
    }

    /// Notes what a number that records name stands for; its first 96 bytes.
    fn name(&self, number: u64, text: &str) {
        if let Some(tape) = self.sampler.tape() {
            tape.name(number, text, crate::os::seat().native.unsigned_abs());
        }
    }

    /// What notes the steps of this process's tasks; None: there is no tape.
    fn steps(&self, py: Python<'_>) -> PyResult<Option<PySteps>> {
        self.sampler.tape().map(|tape| PySteps::new(py, tape)).transpose()
    }

    /// Nanoseconds that each thread, by its native id, was in each state until now: `gil nogil
    /// wait_gil wait_lock wait_io sleep idle unknown`, and ready but without a processor.
    fn totals(&self) -> BTreeMap<i32, Totals> {
        self.sampler.totals()
    }

    /// How often it has looked, and the CPU time of that, in nanoseconds.
    #[getter]
    fn cost(&self) -> (u64, u64) {
        self.sampler.cost()
    }

    /// How it knows who holds the GIL: "read", "inferred", or "none" where there is no GIL.
    #[getter]
    fn source(&self) -> &'static str {
        self.source
    }
}

/// What a tape holds: its process, when it began and ended (0: it goes on, or was killed), how
/// many records were lost, and the records. None: it is not a tape.
#[pyfunction]
pub fn read_tape(py: Python<'_>, path: PathBuf) -> PyResult<Option<Lines>> {
    let read = py.detach(|| tape::read(&path))?;
    Ok(read.map(|read| {
        let line = |r: Record| (r.kind, r.began, r.ended, r.tid, r.state, r.a, r.b);
        let records = read.records.into_iter().map(line).collect();
        (read.pid, read.began, read.ended, read.dropped, records)
    }))
}
