//! An executor for the tests: no task, but futures that a Rust thread completes, detached.

use super::core::{Completion, Core, Decoded, Decoder, Encoded, Outcome, Source};
use super::object::make;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyType};
use std::sync::Arc;
use std::time::Instant;

/// The executor's side of one future.
#[pyclass(frozen)]
pub struct Rehearsal {
    core: Arc<Core>,
}

/// Answers as the methods of a Python object do.
struct Scripted(Py<PyAny>);

impl Scripted {
    fn ask(&self, question: &str) -> bool {
        Python::attach(|py| {
            let answer = self.0.call_method0(py, question);
            answer.and_then(|answer| answer.extract(py)).unwrap_or_else(|error: PyErr| {
                error.write_unraisable(py, None);
                false
            })
        })
    }
}

impl Source for Scripted {
    fn wait(&self, py: Python<'_>, core: &Arc<Core>, deadline: Option<Instant>) -> PyResult<()> {
        self.0.call_method0(py, "wait")?;
        core.wait_done(py, deadline).map(drop)
    }

    fn withdraw(&self, _core: &Arc<Core>) -> bool {
        self.ask("withdraw")
    }

    fn has_begun(&self, _core: &Core) -> bool {
        self.ask("has_begun")
    }

    fn stop(&self, _core: &Arc<Core>) -> bool {
        self.ask("stop")
    }
}

/// Decodes by a Python function of the bytes.
struct Called {
    decode: Py<PyAny>,
    is_error: bool,
}

impl Decoder for Called {
    fn decode(&self, py: Python<'_>, bytes: &[u8]) -> PyResult<Decoded> {
        let decoded = self.decode.call1(py, (PyBytes::new(py, bytes),))?;
        Ok(if self.is_error { Decoded::Error(decoded) } else { Decoded::Value(decoded) })
    }

    fn discard(&self, _: &[u8]) {}
}

#[pymethods]
impl Rehearsal {
    /// `source` has the methods `wait`, `withdraw`, `has_begun` and `stop`.
    #[new]
    #[pyo3(signature = (source=None))]
    fn new(source: Option<Py<PyAny>>) -> Self {
        let source = source.map(|source| Arc::new(Scripted(source)) as Arc<dyn Source>);
        Self { core: Core::new(source) }
    }

    /// The Python object; once.
    fn future(&self, kind: &Bound<'_, PyType>) -> PyResult<Py<PyAny>> {
        make(kind, Arc::clone(&self.core))
    }

    /// Completes it with bytes. True: it has to be published; None: it was done.
    #[pyo3(signature = (bytes, decode, is_error=false))]
    fn complete(
        &self,
        py: Python<'_>,
        bytes: &[u8],
        decode: Py<PyAny>,
        is_error: bool,
    ) -> Option<bool> {
        let decoder = Arc::new(Called { decode, is_error });
        let outcome = Outcome::Encoded(Encoded::new(bytes.into(), is_error, decoder));
        self.end(py, outcome)
    }

    /// The same, as cancelled.
    fn cancel(&self, py: Python<'_>) -> Option<bool> {
        self.end(py, Outcome::Cancelled)
    }

    fn publish(&self, py: Python<'_>) -> PyResult<()> {
        self.core.publish(py)
    }
}

impl Rehearsal {
    fn end(&self, py: Python<'_>, outcome: Outcome) -> Option<bool> {
        let completion = py.detach(|| {
            std::thread::scope(|scope| scope.spawn(|| self.core.complete(outcome)).join())
        });
        match completion {
            Ok(Completion::NeedsPublish) => Some(true),
            Ok(Completion::Done) => Some(false),
            Ok(Completion::Late) => None,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}
