//! The executor's half of a future, for executors that are written in Python.

use super::core::{Completion, Core, Decoded, Decoder, Encoded, Outcome, Source};
use super::object::make;
use pyo3::prelude::*;
use pyo3::types::PyType;
use std::sync::Arc;
use std::time::Instant;

/// The executor's half of a future; see `plait._pipe_pool`.
#[pyclass(frozen)]
pub struct Promise {
    core: Arc<Core>,
}

/// Answers as the methods of a Python object do.
struct Asked(Py<PyAny>);

impl Asked {
    fn ask(&self, question: &str) -> bool {
        Python::attach(|py| {
            let answer = self.0.call_method0(py, question);
            answer.and_then(|answer| answer.extract(py)).unwrap_or_else(|error: PyErr| {
                error.write_unraisable(py, Some(self.0.bind(py)));
                false
            })
        })
    }
}

impl Source for Asked {
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

/// Decodes by a Python function.
struct Called {
    decode: Py<PyAny>,
    is_error: bool,
}

impl Decoder for Called {
    fn decode(&self, py: Python<'_>, _: &[u8]) -> PyResult<Decoded> {
        let decoded = self.decode.call0(py)?;
        Ok(if self.is_error { Decoded::Error(decoded) } else { Decoded::Value(decoded) })
    }

    fn discard(&self, _: &[u8]) {}
}

#[pymethods]
impl Promise {
    /// `source` has methods without arguments: `wait`, before a thread waits for it, may raise;
    /// `withdraw`, `has_begun` and `stop` return a bool and are as those of the trait `Source`.
    #[new]
    #[pyo3(signature = (source=None))]
    fn new(source: Option<Py<PyAny>>) -> Self {
        let source = source.map(|source| Arc::new(Asked(source)) as Arc<dyn Source>);
        Self { core: Core::new(source) }
    }

    /// The future, of class `kind`; once.
    fn future(&self, kind: &Bound<'_, PyType>) -> PyResult<Py<PyAny>> {
        make(kind, Arc::clone(&self.core))
    }

    /// Ends it with the value, or the exception, that `decode()` returns when somebody asks for
    /// it: called once, what it raises is the task's exception. False: it was done before.
    #[pyo3(signature = (decode: "object", is_error=false))]
    fn complete(&self, py: Python<'_>, decode: Py<PyAny>, is_error: bool) -> PyResult<bool> {
        let decoder = Arc::new(Called { decode, is_error });
        self.end(py, Outcome::Encoded(Encoded::new((&[][..]).into(), is_error, decoder)))
    }

    /// Ends it as cancelled. False: it was done before.
    fn cancel(&self, py: Python<'_>) -> PyResult<bool> {
        self.end(py, Outcome::Cancelled)
    }
}

impl Promise {
    fn end(&self, py: Python<'_>, outcome: Outcome) -> PyResult<bool> {
        Ok(match self.core.complete(outcome) {
            Completion::Late => false,
            Completion::Done => true,
            Completion::NeedsPublish => self.core.publish(py).map(|()| true)?,
        })
    }
}
