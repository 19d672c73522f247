//! Who gets a task's outcome in the parent, and how its bytes become Python objects.

use super::codec::Codec;
use super::map_results::MapState;
use super::message::Kind;
use super::state::{Loss, Outcome, Reason, Receiver};
use super::view::LazyView;
use crate::future::{Completion, Core, Decoded, Decoder, Encoded, Outcome as Ending, SmallBytes};
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};
use std::sync::Arc;

/// The module `plait._pool_words`, which makes exceptions, and what reads and writes values.
pub struct Words {
    pub helpers: Py<PyAny>,
    pub codec: Arc<Codec>,
}

/// Reads one worker's answers.
pub struct Answers {
    pub words: Arc<Words>,
    pub view: LazyView,
}

impl Answers {
    fn value(&self, py: Python<'_>, bytes: &[u8]) -> PyResult<Py<PyAny>> {
        let value = self.words.codec.decode(py, &mut &*bytes, &self.view, false);
        value.map(Bound::unbind).map_err(|error| {
            let helpers = self.words.helpers.bind(py);
            match helpers.call_method1("undecodable", (error.value(py),)) {
                Ok(told) => PyErr::from_value(told),
                Err(_) => error,
            }
        })
    }
}

impl Decoder for Answers {
    fn decode(&self, py: Python<'_>, bytes: &[u8]) -> PyResult<Decoded> {
        self.value(py, bytes).map(Decoded::Value)
    }

    fn discard(&self, bytes: &[u8]) {
        // Damaged bytes: there is nothing that could be let go of.
        let _ = self.words.codec.discard(&mut &*bytes, &self.view);
    }
}

/// Reads a worker's answers that are exceptions: a pickle, and the traceback as text.
pub struct Failures(pub Arc<Answers>);

impl Decoder for Failures {
    fn decode(&self, py: Python<'_>, bytes: &[u8]) -> PyResult<Decoded> {
        let parts = self.0.value(py, bytes)?;
        let parts = parts.bind(py).cast::<PyTuple>()?.clone();
        let error = self.0.words.helpers.bind(py).call_method1("exception", parts)?;
        Ok(Decoded::Error(error.unbind()))
    }

    fn discard(&self, bytes: &[u8]) {
        self.0.discard(bytes);
    }
}

/// Tells why an item has no answer.
struct Lost {
    words: Arc<Words>,
    loss: Loss,
}

impl Lost {
    /// What stands for the item's arguments, as far as they are at hand: a tuple and a dict.
    /// They are not unpickled here: that may be what the worker died of.
    fn arguments<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (mut bytes, nowhere) = (&self.loss.item[..], LazyView::none());
        let described = py.import("plait._described")?.getattr("described")?;
        let codec = Codec::new(py, false)?.with_loads(described.unbind());
        let mut next = || codec.decode(py, &mut bytes, &nowhere, true);
        if self.loss.function == 0 && self.loss.kind == Kind::Call {
            next()?; // the function itself
        }
        let first = next()?;
        match self.loss.kind {
            Kind::Call => Ok((first, next()?).into_pyobject(py)?.into_any()),
            Kind::StarMap => Ok((first, py.None()).into_pyobject(py)?.into_any()),
            _ => Ok(((first,), py.None()).into_pyobject(py)?.into_any()),
        }
    }
}

impl Decoder for Lost {
    fn decode(&self, py: Python<'_>, _: &[u8]) -> PyResult<Decoded> {
        let arguments = self.arguments(py).map_or_else(|_| py.None(), Bound::unbind);
        let options = self.loss.options.as_deref();
        let name = options.and_then(|options| options.name.as_deref());
        let name = name.or(self.loss.name.as_deref());
        let (kind, number, code, text) = match &self.loss.reason {
            Reason::Died { pid, exitcode } => ("died", *pid, *exitcode, None),
            Reason::TimedOut => ("late", 0, 0, None),
            Reason::Cancelled => ("cancelled", 0, 0, None),
            Reason::Broken(text) => ("broken", 0, 0, Some(&**text)),
            Reason::NoWorker(text) => ("unstarted", 0, 0, Some(&**text)),
        };
        let seconds = options.and_then(|options| options.timeout_ns).unwrap_or(0) as f64 / 1e9;
        let memory = options.and_then(|options| options.memory);
        let error = self
            .words
            .helpers
            .bind(py)
            .call_method1("lost", (kind, name, arguments, number, code, text, seconds, memory))?;
        Ok(Decoded::Error(error.unbind()))
    }

    fn discard(&self, _: &[u8]) {}
}

/// Bytes of an outcome with what reads them.
pub fn encoded(
    outcome: Outcome<'_>,
    memory: Option<&Memory>,
    words: &Arc<Words>,
) -> Option<Encoded> {
    let (bytes, is_error, decoder): (&[u8], bool, Arc<dyn Decoder>) = match (outcome, memory) {
        (Outcome::Value(bytes), Some(memory)) => (bytes, false, memory.values.clone()),
        (Outcome::Error(bytes), Some(memory)) => (bytes, true, memory.failures.clone()),
        (Outcome::Lost(Loss { reason: Reason::Cancelled, .. }), _) => return None,
        (Outcome::Lost(loss), _) => (&[], true, Arc::new(Lost { words: Arc::clone(words), loss })),
        _ => return None,
    };
    Some(Encoded::new(SmallBytes::from(bytes), is_error, decoder))
}

/// What is needed to read a worker's answers.
#[derive(Clone)]
pub struct Memory {
    values: Arc<Answers>,
    failures: Arc<Failures>,
}

impl Memory {
    pub fn new(answers: Answers) -> Self {
        let values = Arc::new(answers);
        Self { failures: Arc::new(Failures(Arc::clone(&values))), values }
    }
}

/// Who gets a task's outcomes.
#[derive(Clone)]
pub enum Ticket {
    Future(Arc<Core>, Arc<Words>),
    Map(Arc<MapState>),
}

impl Receiver for Ticket {
    type Memory = Memory;

    fn deliver(&self, index: u64, outcome: Outcome<'_>, memory: Option<&Memory>) -> bool {
        match self {
            Self::Future(core, words) => {
                let ending = encoded(outcome, memory, words);
                let ending = ending.map_or(Ending::Cancelled, Ending::Encoded);
                core.complete(ending) == Completion::NeedsPublish
            }
            Self::Map(state) => state.deliver(index, encoded(outcome, memory, &state.words)),
        }
    }
}

impl Ticket {
    /// What `Chore::Publish` asks for.
    pub fn publish(&self, py: Python<'_>) -> PyResult<()> {
        match self {
            Self::Future(core, _) => core.publish(py),
            Self::Map(state) => state.publish(py),
        }
    }
}

/// Text that a worker printed.
///
/// # Errors
/// What a signal's handler raised meanwhile; what the stream raises is only reported.
pub fn output(py: Python<'_>, words: &Words, is_stderr: bool, text: &[u8]) -> PyResult<()> {
    let told = words.helpers.bind(py).call_method1("output", (is_stderr, PyBytes::new(py, text)));
    match told {
        Err(error) if error.is_instance_of::<PyException>(py) => {
            error.write_unraisable(py, None);
            Ok(())
        }
        other => other.map(drop),
    }
}
